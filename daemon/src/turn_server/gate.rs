//! Who may use the relay, how much of it, and for what: logins, limits and addresses. It reads no clock and has no socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use turn_server_proto::types::attribute::XorPeerAddress;
use turn_server_proto::types::stun::attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress};
use turn_server_proto::types::stun::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageIntegrityCredentials, MessageWrite,
    MessageWriteExt, MessageWriteVec,
};
use turn_server_proto::types::stun::prelude::{Attribute, AttributeFromRaw, AttributeStaticType};
use voipd_sip::digest::Secret;
use voipd_sip::rendezvous::RelayKey;

/// How long what was begun with a login goes on when that is over, in seconds: the longest call.
const GOES_ON: u64 = 12 * 3600;
/// Most logins that are remembered.
const MAX_LOGINS: usize = 8192;

/// So much a second for long, and so much at once.
pub(super) struct Bucket {
    rate: f64,
    most: f64,
    left: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant, rate: f64, most: f64) -> Self {
        Self { rate, most, left: most, filled: now }
    }

    /// `false`: that would be too much, and nothing was taken.
    pub(super) fn take(&mut self, now: Instant, amount: f64) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * self.rate).min(self.most);
        self.filled = now;
        let fits = self.left >= amount;
        if fits {
            self.left -= amount;
        }
        fits
    }
}

/// The logins that meeting points have given.
pub(super) struct Logins {
    realm: String,
    /// By user name, `EXPIRY:FRIEND` of the own meeting point, and `EXPIRY:FRIEND@POINT` of others.
    known: BTreeMap<String, Secret>,
    /// What other meeting points make passwords with, by their names.
    keys: BTreeMap<String, RelayKey>,
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody has proved anything: no login, one that is unknown, or another password.
    Unproved,
    /// The login was good.
    Over,
}

impl Logins {
    pub(super) fn new(realm: String) -> Self {
        Self { realm, known: BTreeMap::new(), keys: BTreeMap::new() }
    }

    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    pub(super) fn grant(&mut self, user: String, password: Secret) {
        self.known.insert(user, password);
    }

    /// Takes logins of another meeting point, of this key alone.
    pub(super) fn trust(&mut self, point: String, key: RelayKey) {
        if self.keys.get(&point) != Some(&key) {
            self.distrust(&point);
            self.keys.insert(point, key);
        }
    }

    pub(super) fn distrust(&mut self, point: &str) {
        self.keys.remove(point);
        self.known.retain(|user, _| point_of(user) != Some(point));
    }

    /// The password of a login that has just been proved for the first time; it is known from now on.
    pub(super) fn learn(&mut self, user: &str) -> Option<Secret> {
        if self.known.contains_key(user) || self.known.len() >= MAX_LOGINS {
            return None;
        }
        let password = self.password(user)?;
        self.known.insert(user.to_owned(), password.clone());
        Some(password)
    }

    fn password(&self, user: &str) -> Option<Secret> {
        let made = || Some(self.keys.get(point_of(user)?)?.password(user));
        self.known.get(user).cloned().or_else(made)
    }

    pub(super) fn revoke(&mut self, friend: &str) {
        self.known.retain(|user, _| friend_of(user) != friend);
    }

    /// Forgets logins that are over; `unix` is the time in seconds.
    pub(super) fn forget_expired(&mut self, unix: u64) {
        self.known.retain(|user, _| !is_over(user, unix.saturating_sub(GOES_ON)));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.known.iter().map(|(user, password)| (user.as_str(), password))
    }

    /// Which user has sent a request, proved by its MESSAGE-INTEGRITY. One whose login is over begins nothing; what
    /// began before goes on, so that no call ends for it, and not for ever.
    pub(super) fn prove(&self, request: &Message<'_>, begins: bool, unix: u64) -> Result<String, Refused> {
        let user = request.attribute::<Username>().map_err(|_| Refused::Unproved)?;
        let user = user.username();
        let password = self.password(user).ok_or(Refused::Unproved)?;
        let credentials = LongTermCredentials::new(user.to_owned(), password.expose().to_owned());
        let credentials = MessageIntegrityCredentials::from(credentials.to_key(self.realm.clone()));
        request.validate_integrity(&credentials).map_err(|_| Refused::Unproved)?;
        if is_over(user, if begins { unix } else { unix.saturating_sub(GOES_ON) }) {
            return Err(Refused::Over);
        }
        Ok(user.to_owned())
    }

    /// 403 to who is known (RFC 8656 section 9.2): that peer is not reached from here.
    pub(super) fn forbidden(&self, request: &Message<'_>, user: &str) -> Option<Vec<u8>> {
        let password = self.password(user)?;
        let credentials = LongTermCredentials::new(user.to_owned(), password.expose().to_owned());
        let credentials = MessageIntegrityCredentials::from(credentials.to_key(self.realm.clone()));
        let mut answer = Message::builder_error(request, MessageWriteVec::with_capacity(128));
        answer.add_attribute(&ErrorCode::builder(ErrorCode::FORBIDDEN).build().ok()?).ok()?;
        answer.add_message_integrity(&credentials, IntegrityAlgorithm::Sha1).ok()?;
        answer.add_fingerprint().ok()?;
        Some(answer.finish())
    }

    /// 401 with what is asked for (RFC 8489 section 9.2.4). Nothing of it is remembered: the nonce that counts comes
    /// with the answer to who has proved a login.
    pub(super) fn challenge(&self, request: &Message<'_>, nonce: &str) -> Option<Vec<u8>> {
        let mut answer = Message::builder_error(request, MessageWriteVec::with_capacity(256));
        answer.add_attribute(&ErrorCode::builder(ErrorCode::UNAUTHORIZED).build().ok()?).ok()?;
        answer.add_attribute(&Realm::new(&self.realm).ok()?).ok()?;
        answer.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
        answer.add_fingerprint().ok()?;
        Some(answer.finish())
    }
}

/// The answer to a Binding request (RFC 8489 section 6.3.1).
pub(super) fn seen_from(request: &Message<'_>, client: SocketAddr) -> Option<Vec<u8>> {
    let mut answer = Message::builder_success(request, MessageWriteVec::with_capacity(64));
    answer.add_attribute(&XorMappedAddress::new(client, request.transaction_id())).ok()?;
    answer.add_fingerprint().ok()?;
    Some(answer.finish())
}

/// The peers that a request names.
pub(super) fn peers(request: &Message<'_>) -> Vec<SocketAddr> {
    let named = request.iter_attributes().filter(|(_, raw)| raw.get_type() == XorPeerAddress::TYPE);
    let read = named.filter_map(|(_, raw)| XorPeerAddress::from_raw(raw).ok());
    read.map(|peer| peer.addr(request.transaction_id())).collect()
}

/// Whose a user name is.
pub(super) fn friend_of(user: &str) -> &str {
    user.split_once(':').map_or(user, |(_, friend)| friend)
}

/// Which other meeting point has given it.
pub(super) fn point_of(user: &str) -> Option<&str> {
    user.rsplit_once('@').map(|(_, point)| point)
}

/// The time in a user name has passed, or there is none.
fn is_over(user: &str, unix: u64) -> bool {
    let expiry = user.split_once(':').and_then(|(expiry, _)| expiry.parse::<u64>().ok());
    expiry.is_none_or(|expiry| expiry <= unix)
}

/// An address that anyone in the internet reaches. All others could be this machine's own neighbours.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || a == 0
                || a >= 240
                || (a, b, c) == (192, 88, 99)
                // RFC 6598, RFC 6890, RFC 2544.
                || (a == 100 && (64..128).contains(&b))
                || (a, b, c) == (192, 0, 0)
                || (a == 198 && (18..20).contains(&b)))
        }
        // Global unicast but for those that hold an IPv4 address (RFC 3056, RFC 4380).
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            (0x2000..0x4000).contains(&first) && first != 0x2002 && (first, second) != (0x2001, 0)
        }
    }
}
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use turn_server_proto::types::message::ALLOCATE;
    use turn_server_proto::types::stun::message::MessageType;

    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in ["8.8.8.8", "203.0.113.7", "172.32.0.1", "100.128.0.1", "2001:db8::1", "2a00::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        let others = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 \
                      255.255.255.255 198.18.0.1 192.88.99.1 ::1 :: fe80::1 fd00::1 ff02::1 ::ffff:10.0.0.1 \
                      ::ffff:127.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1 2001:0:1::";
        for other in others.split_whitespace() {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_bucket_gives_its_rate_for_long_and_more_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 10.0, 100.0);
        assert!(bucket.take(start, 100.0) && !bucket.take(start, 1.0));
        let later = start + Duration::from_secs(3);
        assert!(bucket.take(later, 30.0) && !bucket.take(later, 1.0));
        let much_later = start + Duration::from_secs(3600);
        assert!(!bucket.take(much_later, 101.0) && bucket.take(much_later, 100.0));
    }

    #[test]
    fn logins_of_another_meeting_point_are_known_by_its_key_until_it_is_distrusted() {
        let key = |password| {
            let login = voipd_sip::digest::Login { user: "me.x", password: &Secret::new(password) };
            RelayKey::of(&voipd_sip::digest::UserHash::of("there", login), "salt")
        };
        let mut logins = Logins::new("here".to_owned());
        logins.trust("there".to_owned(), key("one"));
        let prove = |logins: &Logins, user: &str, password: &str| {
            logins.prove(&Message::from_bytes(&request(user, password)).unwrap(), true, 999)
        };
        let (user, password) = ("1000:bob@there", key("one").password("1000:bob@there"));
        assert_eq!(prove(&logins, user, password.expose()), Ok(user.to_owned()));
        assert_eq!(logins.learn(user), Some(password.clone()));
        assert_eq!(logins.learn(user), None);
        assert_eq!(prove(&logins, user, password.expose()), Ok(user.to_owned()));
        // Neither for another, nor for later, nor from elsewhere, nor by another key.
        for other in ["1000:eve@there", "2000:bob@there", "1000:bob@elsewhere", "1000:bob", "bob@there"] {
            assert_eq!(prove(&logins, other, password.expose()), Err(Refused::Unproved), "{other}");
        }
        let over = "999:bob@there";
        assert_eq!(prove(&logins, over, key("one").password(over).expose()), Err(Refused::Over));
        logins.trust("there".to_owned(), key("two"));
        assert_eq!(prove(&logins, user, password.expose()), Err(Refused::Unproved));
        assert!(prove(&logins, user, key("two").password(user).expose()).is_ok());
        logins.distrust("there");
        assert_eq!(prove(&logins, user, key("two").password(user).expose()), Err(Refused::Unproved));
    }

    /// An Allocate request that is signed with these.
    fn request(user: &str, password: &str) -> Vec<u8> {
        let kind = MessageType::from_class_method(
            turn_server_proto::types::stun::message::MessageClass::Request,
            ALLOCATE,
        );
        let mut request = Message::builder(kind, 7.into(), MessageWriteVec::new());
        request.add_attribute(&Username::new(user).unwrap()).unwrap();
        let credentials = LongTermCredentials::new(user.to_owned(), password.to_owned());
        let credentials = MessageIntegrityCredentials::from(credentials.to_key("here".to_owned()));
        request.add_message_integrity(&credentials, IntegrityAlgorithm::Sha1).unwrap();
        request.finish()
    }

    #[test]
    fn a_login_opens_until_it_is_over_and_what_began_goes_on() {
        let mut logins = Logins::new("here".to_owned());
        logins.grant("1000:bob".to_owned(), Secret::new("secret"));
        let prove = |logins: &Logins, bytes: &[u8], begins, unix| {
            logins.prove(&Message::from_bytes(bytes).unwrap(), begins, unix)
        };
        let good = request("1000:bob", "secret");
        assert_eq!(prove(&logins, &good, true, 999), Ok("1000:bob".to_owned()));
        assert_eq!(prove(&logins, &good, true, 1000), Err(Refused::Over));
        for later in [1000, 1000 + GOES_ON - 1] {
            assert_eq!(prove(&logins, &good, false, later), Ok("1000:bob".to_owned()));
        }
        assert_eq!(prove(&logins, &good, false, 1000 + GOES_ON), Err(Refused::Over));
        // Neither another password nor a later end.
        for (user, password) in [("1000:bob", "other"), ("2000:bob", "secret"), ("bob", "secret")] {
            assert_eq!(prove(&logins, &request(user, password), true, 0), Err(Refused::Unproved), "{user}");
        }
        logins.forget_expired(999 + GOES_ON);
        assert!(prove(&logins, &good, true, 999).is_ok());
        logins.revoke("bob");
        assert_eq!(prove(&logins, &good, true, 999), Err(Refused::Unproved));
    }
}
