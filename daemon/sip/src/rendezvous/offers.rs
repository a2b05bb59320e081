//! Relays that friends on public addresses offer each other: what a friend says of his own, what has come of looking at
//! it, and the logins that open it. Nothing is believed: an offer counts where it names the address that its REGISTER
//! came from, and once somebody has been relayed there.
//!
//! No secret travels for it. Meeting point and friend both know the hash of his password, and make of it, and of letters
//! that he draws, the key by which one gives logins and the other knows them again ([`RelayKey`]).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::bindings::BindingId;
use super::directory::RelayLogin;
use super::words::Event;
use super::{Rendezvous, invitation};
use crate::digest::{Algorithm, Presented, Secret, UserHash};
use crate::endpoint::Flow;
use crate::headers::name;
use crate::message::Request;

/// Header field of REGISTER by which a friend offers a relay.
pub(crate) const OFFER: &str = "Voipd-Relay";
/// Letters of a salt.
const LONGEST_SALT: usize = 64;
/// How long a login to a friend's relay is good at least, in seconds, and at most twice as long: whoever is removed at
/// the meeting point is known to the friend's relay until then.
const LOGIN: u64 = 3600;
/// How old the last look at a relay may be.
const FRESH: Duration = Duration::from_secs(600);
/// How soon a relay that did not work is looked at again.
const AGAIN: Duration = Duration::from_secs(120);
/// Most offers at once.
const MAX_OFFERS: usize = 256;
/// Longest reason told, in bytes.
const LONGEST_REASON: usize = 160;

/// A relay as its friend offers it: TURN over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayOffer {
    /// Where it is reached, and where it relays.
    pub address: SocketAddr,
    /// Letters and digits that the friend has drawn; others void all logins.
    pub salt: String,
}

impl fmt::Display for RelayOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn:{};salt={}", self.address, self.salt)
    }
}

/// A text that offers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this offers no relay")]
pub struct OfferError;

impl FromStr for RelayOffer {
    type Err = OfferError;
    fn from_str(text: &str) -> Result<Self, OfferError> {
        let (address, salt) =
            text.trim().strip_prefix("turn:").ok_or(OfferError)?.split_once(";salt=").ok_or(OfferError)?;
        let is_salt =
            (1..=LONGEST_SALT).contains(&salt.len()) && salt.chars().all(|c| c.is_ascii_alphanumeric());
        let address: SocketAddr = address.parse().map_err(|_| OfferError)?;
        let nowhere = address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast();
        if !is_salt || nowhere {
            return Err(OfferError);
        }
        Ok(Self { address, salt: salt.to_owned() })
    }
}

/// What a meeting point gives logins with, and a friend's relay knows them again: neither tells the other anything that
/// opens more. Shows itself as `…`.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayKey(String);

impl RelayKey {
    /// The key of a device whose password has this hash, for a salt that it has drawn.
    pub fn of(hash: &UserHash, salt: &str) -> Self {
        Self(Algorithm::Sha256.hash(format!("voipd relay:{}:{salt}", hash.expose())))
    }

    /// The password of a login's user name.
    pub fn password(&self, user: &str) -> Secret {
        // Hashing twice keeps anyone from appending to what was hashed.
        let inner = Algorithm::Sha256.hash(format!("{}:{user}", self.0));
        Secret::new(Algorithm::Sha256.hash(format!("{}:{inner}", self.0)))
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What has come of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferState {
    /// It is being looked at.
    Checking,
    /// Contacts are told of it.
    Lent,
    /// It is not what it says; why, for people to read.
    Refused(String),
}

impl fmt::Display for OfferState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checking => f.write_str("checking"),
            Self::Lent => f.write_str("lent"),
            Self::Refused(why) => write!(f, "refused {why}"),
        }
    }
}

impl OfferState {
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "checking" => Some(Self::Checking),
            "lent" => Some(Self::Lent),
            _ => text.strip_prefix("refused ").map(Self::refused),
        }
    }

    fn refused(why: &str) -> Self {
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let end = (0..=LONGEST_REASON.min(why.len())).rev().find(|end| why.is_char_boundary(*end));
        Self::Refused(why.get(..end.unwrap_or(0)).unwrap_or_default().to_owned())
    }
}

/// A friend's relay, and what opens it for another friend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FriendRelay {
    /// Who lends it.
    pub friend: String,
    /// Where it is (RFC 7065).
    pub relay: String,
    /// For a while.
    pub login: RelayLogin,
}

struct Offered {
    offer: RelayOffer,
    key: RelayKey,
    /// By which registration it was made, and is withdrawn.
    binding: BindingId,
    state: OfferState,
    looked: Instant,
}

/// The relays of all friends, one each.
#[derive(Default)]
pub(super) struct Offers {
    map: BTreeMap<String, Offered>,
}

impl Offers {
    pub(super) fn remove(&mut self, member: &str) {
        self.map.remove(member);
    }
}

impl Rendezvous {
    /// What the REGISTER of a member, which has made a binding on this flow, says of a relay.
    pub(super) fn take_offer(&mut self, now: Instant, flow: Flow, request: &Request, member: &str) {
        let Some(binding) = self.bindings.on_flow(now, member, flow) else { return };
        let offer = request.headers.get(OFFER).and_then(|text| text.parse::<RelayOffer>().ok());
        let Some((offer, key)) = offer.and_then(|offer| {
            let key = RelayKey::of(self.hash_of_sender(request)?, &offer.salt);
            Some((offer, key))
        }) else {
            // A device takes back what it has offered; others of the same friend have no say in it.
            if self.offers.map.get(member).is_some_and(|offered| offered.binding == binding) {
                self.offers.remove(member);
            }
            return;
        };
        let seen_from = flow.remote.ip();
        if let Some(known) = self.offers.map.get_mut(member)
            && known.offer == offer
            && known.binding == binding
            && known.key == key
            && (same_address(offer.address.ip(), seen_from) || matches!(known.state, OfferState::Refused(_)))
        {
            let good_for = match known.state {
                OfferState::Lent | OfferState::Checking => FRESH,
                OfferState::Refused(_) => AGAIN,
            };
            if now.saturating_duration_since(known.looked) < good_for {
                return;
            }
        } else if !self.offers.map.contains_key(member) && self.offers.map.len() >= MAX_OFFERS {
            return;
        }
        let state = match same_address(offer.address.ip(), seen_from) {
            // What worked a moment ago is lent on while it is looked at again.
            true => match self.offers.map.get(member) {
                Some(known) if known.offer == offer && known.state == OfferState::Lent => OfferState::Lent,
                _ => OfferState::Checking,
            },
            false => OfferState::refused(&format!("registered from {seen_from}: there is a NAT between")),
        };
        if same_address(offer.address.ip(), seen_from) {
            let login = self.friends_login(now, &key, member);
            self.event(Event::Offered { member: member.to_owned(), address: offer.address, login });
        }
        self.offers.map.insert(member.to_owned(), Offered { offer, key, binding, state, looked: now });
    }

    /// What has come of looking at a relay that was offered ([`Event::Offered`]): somebody was relayed there, or not; why,
    /// for people to read.
    pub fn relay_checked(&mut self, member: &str, address: SocketAddr, result: Result<(), String>) {
        let Some(offered) = self.offers.map.get_mut(member) else { return };
        // One that was offered in its place since is looked at by itself.
        if offered.offer.address == address && !matches!(offered.state, OfferState::Refused(_)) {
            offered.state = result.map_or_else(|why| OfferState::refused(&why), |()| OfferState::Lent);
        }
    }

    /// The relay that a member offers, as long as the registration stands by which it was offered.
    pub fn offer_of(&self, now: Instant, member: &str) -> Option<(SocketAddr, OfferState)> {
        let offered = self.offers.map.get(member)?;
        self.bindings.flow(now, member, offered.binding)?;
        Some((offered.offer.address, offered.state.clone()))
    }

    /// The relays of a member's contacts.
    pub(super) fn relays_of_contacts(&self, now: Instant, member: &str) -> Vec<FriendRelay> {
        let lent = |friend: &String| {
            let (address, _) = self.offer_of(now, friend).filter(|(_, state)| *state == OfferState::Lent)?;
            let key = &self.offers.map.get(friend)?.key;
            let login = self.friends_login(now, key, member);
            Some(FriendRelay { friend: friend.clone(), relay: format!("turn:{address}"), login })
        };
        self.contacts.of(member).filter_map(lent).collect()
    }

    /// Offers whose registration is no more.
    pub(super) fn forget_offers(&mut self, now: Instant) {
        let gone: Vec<String> =
            self.offers.map.keys().filter(|member| self.offer_of(now, member).is_none()).cloned().collect();
        for member in gone {
            // A lost connection is made anew in a moment, and a refusal is still to be told.
            let stays = self.offers.map.get(&member).is_some_and(|offered| now < offered.looked + AGAIN);
            if !stays {
                self.offers.remove(&member);
            }
        }
    }

    /// Whose it is stands in it, with the meeting point's name, since the relay may serve several.
    fn friends_login(&self, now: Instant, key: &RelayKey, member: &str) -> RelayLogin {
        let expiry = (self.unix(now) / LOGIN + 2) * LOGIN;
        let user = format!("{expiry}:{member}@{}", self.realm());
        let password = key.password(&user);
        RelayLogin { user, password }
    }

    /// The hash of the password by which a request, which was proved, was signed.
    fn hash_of_sender(&self, request: &Request) -> Option<&UserHash> {
        let realm = self.realm();
        let presented = request.headers.get_all(name::AUTHORIZATION).filter_map(Presented::read);
        let presented = presented.into_iter().find(|presented| presented.realm == realm)?;
        self.members.hash(&presented.user)
    }
}

fn same_address(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical()
}

/// A line of a directory: `NAME URI USER PASSWORD`.
pub(super) fn read_friend_relay(text: &str) -> Option<FriendRelay> {
    let mut words = text.split(' ');
    let (friend, relay) = (words.next().filter(|name| invitation::is_name(name))?, words.next()?);
    let (user, password) = (words.next()?, words.next()?);
    let login = RelayLogin { user: user.to_owned(), password: Secret::new(password) };
    words.next().is_none().then(|| FriendRelay { friend: friend.to_owned(), relay: relay.to_owned(), login })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Login;

    #[test]
    fn an_offer_is_an_address_and_a_salt() {
        for text in ["turn:203.0.113.7:3478;salt=abc", "turn:[2001:db8::1]:443;salt=x9"] {
            assert_eq!(text.parse::<RelayOffer>().unwrap().to_string(), text);
        }
        let long = format!("turn:203.0.113.7:1;salt={}", "x".repeat(65));
        for bad in [
            "",
            "turn:",
            "turn:203.0.113.7;salt=a",
            "turn:203.0.113.7:0;salt=a",
            "turn:0.0.0.0:1;salt=a",
            "turn:224.0.0.1:1;salt=a",
            "turn:relay.example.org:1;salt=a",
            "turn:203.0.113.7:1;salt=",
            "turn:203.0.113.7:1;salt=a b",
            &long,
        ] {
            assert_eq!(bad.parse::<RelayOffer>(), Err(OfferError), "{bad}");
        }
    }

    #[test]
    fn a_key_gives_each_user_another_password_and_hangs_on_password_and_salt() {
        let hash = |password| UserHash::of("here", Login { user: "bob.x", password: &Secret::new(password) });
        let key = RelayKey::of(&hash("one"), "salt");
        let words = [
            key.password("1:anna"),
            key.password("2:anna"),
            RelayKey::of(&hash("one"), "other").password("1:anna"),
            RelayKey::of(&hash("two"), "salt").password("1:anna"),
        ];
        for (place, one) in words.iter().enumerate() {
            assert!(words.iter().skip(place + 1).all(|other| one != other), "{place}");
        }
        assert_eq!(key.password("1:anna"), RelayKey::of(&hash("one"), "salt").password("1:anna"));
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let long = format!("a\r\nb{}", "ß".repeat(200));
        let OfferState::Refused(why) = OfferState::refused(&long) else { panic!() };
        assert!(why.len() <= LONGEST_REASON && why.starts_with("a  bß"), "{why}");
        for state in [OfferState::Checking, OfferState::Lent, OfferState::refused("no answer")] {
            assert_eq!(OfferState::read(&state.to_string()), Some(state));
        }
        assert_eq!(OfferState::read("good"), None);
    }
}
