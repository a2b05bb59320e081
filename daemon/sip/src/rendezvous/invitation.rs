//! Invitations as text: all that a friend's telephone needs to know of a meeting point, and a secret that opens it once.
//!
//! The secret never travels. Who joins draws letters of his own, the salt, and makes his password of both; the salt
//! stands in the user name of his digests. The meeting point, which knows the invitation's key, can make the same
//! password once: it keeps that password's hash, and forgets the key. So a copy of a used invitation opens nothing.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Algorithm, Login, Secret, UserHash};
use crate::endpoint::Transport;
use crate::uri::{Host, SipUri, Uri, UriError};

/// What an invitation's text begins with.
const SCHEME: &str = "voipd-friend:";
/// Longest invitation read, in bytes.
const LONGEST: usize = 512;
/// Longest name of a member, in bytes.
pub(super) const LONGEST_NAME: usize = 32;

/// An invitation as it is handed to a friend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationText {
    /// The name that the friend will have.
    pub member: String,
    /// The meeting point: its host as its members' addresses have it.
    pub host: Host,
    /// The port in those addresses, where there is one.
    pub port: Option<u16>,
    /// The port that it listens on for `transport`, where it is not the transport's own.
    pub server_port: Option<u16>,
    /// How it is reached.
    pub transport: Transport,
    /// What opens the door.
    pub secret: Secret,
    /// SHA-256 of the meeting point's certificate, where no authority vouches for it.
    pub pin: Option<[u8; 32]>,
    /// Unix seconds from which on it opens nothing.
    pub expires: u64,
}

/// Why a text is no invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no invitation ({0}): copy the whole line that `voipctl friends invite` has printed")]
pub struct InvitationError(&'static str);

impl InvitationText {
    /// The address that the friend will have.
    pub fn address(&self) -> SipUri {
        SipUri::new(Some(&self.member), self.host.clone(), self.port)
    }

    /// Where the friend's telephone registers.
    pub fn registrar(&self) -> SipUri {
        let mut registrar = SipUri::new(None, self.host.clone(), self.server_port.or(self.port));
        registrar.params.set("transport", Some(&self.transport.name().to_ascii_lowercase()));
        registrar
    }

    /// User name and password of a device that has drawn `salt`.
    pub fn login(&self, salt: &str) -> (String, Secret) {
        (format!("{}.{salt}", self.member), InvitationKey::of(&self.secret).password(salt))
    }
}

/// What a meeting point knows of an invitation: who has it can join, but cannot write the invitation's text. Shows itself
/// as `…`.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationKey(String);

impl InvitationKey {
    /// The key of a secret.
    pub fn of(secret: &Secret) -> Self {
        Self(Algorithm::Sha256.hash(format!("voipd invitation:{}", secret.expose())))
    }

    /// As it was kept.
    pub fn from_kept(text: &str) -> Option<Self> {
        UserHash::from_kept(text).map(|_| Self(text.to_owned()))
    }

    /// What is to be kept.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn password(&self, salt: &str) -> Secret {
        Secret::new(Algorithm::Sha256.hash(format!("voipd friend:{}:{salt}", self.0)))
    }

    /// What the password of a device is known by.
    pub(super) fn hash(&self, realm: &str, user: &str, salt: &str) -> UserHash {
        UserHash::of(realm, Login { user, password: &self.password(salt) })
    }
}

impl fmt::Debug for InvitationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A name that is the same in every spelling that SIP allows.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits)
}

/// The text with its secret: for whoever has asked for it.
impl fmt::Display for InvitationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address().to_string();
        let address = address.strip_prefix("sip:").unwrap_or_default();
        let transport = self.transport.name().to_ascii_lowercase();
        write!(f, "{SCHEME}{address};by={transport}")?;
        if let Some(port) = self.server_port {
            write!(f, ";at={port}")?;
        }
        if let Some(pin) = self.pin {
            f.write_str(";pin=")?;
            pin.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        write!(f, ";until={};key={}", self.expires, self.secret.expose())
    }
}

impl FromStr for InvitationText {
    type Err = InvitationError;
    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let wrong = InvitationError;
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(wrong("it is too long"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(wrong("it does not begin with voipd-friend:"))?;
        let uri = format!("sip:{rest}").parse().map_err(|UriError(why)| wrong(why))?;
        let Uri::Sip(uri) = uri else { return Err(wrong("it holds no address")) };
        let member = uri.user.filter(|name| is_name(name)).ok_or(wrong("it names no friend"))?;
        let value = |name| uri.params.value(name);
        let transports = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let transport = transports
            .into_iter()
            .find(|known| value("by").is_some_and(|by| known.name().eq_ignore_ascii_case(by)))
            .ok_or(wrong("it names no transport"))?;
        let server_port = match value("at") {
            None => None,
            Some(port) => {
                Some(port.parse().ok().filter(|port| *port != 0).ok_or(wrong("its port is malformed"))?)
            }
        };
        let pin = match value("pin") {
            None => None,
            Some(pin) => Some(read_pin(pin).ok_or(wrong("its fingerprint is malformed"))?),
        };
        let expires =
            value("until").and_then(|until| until.parse().ok()).ok_or(wrong("its end is missing"))?;
        let secret = value("key").filter(|key| key.len() >= 20).ok_or(wrong("its end is missing"))?;
        let secret = Secret::new(secret);
        Ok(Self { member, host: uri.host, port: uri.port, server_port, transport, secret, pin, expires })
    }
}

fn read_pin(text: &str) -> Option<[u8; 32]> {
    UserHash::from_kept(text)?;
    let mut pin = [0; 32];
    for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> InvitationText {
        InvitationText {
            member: "bob".to_owned(),
            host: "meet.example.org".parse().unwrap(),
            port: None,
            server_port: Some(5071),
            transport: Transport::Tls,
            secret: Secret::new("abcdefghijklmnopqrstuvwxyz"),
            pin: Some(std::array::from_fn(|at| at as u8)),
            expires: 1_800_000_000,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let whole = invitation();
        let text = whole.to_string();
        assert!(text.starts_with("voipd-friend:bob@meet.example.org;by=tls;at=5071;pin=000102"), "{text}");
        assert_eq!(text.parse(), Ok(whole.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(whole.clone()));
        let plain = InvitationText {
            host: "[2001:db8::1]".parse().unwrap(),
            port: Some(5080),
            server_port: None,
            transport: Transport::Udp,
            pin: None,
            ..whole
        };
        assert_eq!(plain.to_string().parse(), Ok(plain.clone()));
        assert_eq!(plain.registrar().to_string(), "sip:[2001:db8::1]:5080;transport=udp");
        assert_eq!(plain.address().to_string(), "sip:bob@[2001:db8::1]:5080");
    }

    #[test]
    fn a_cut_or_changed_invitation_is_none() {
        let text = invitation().to_string();
        for cut in 0..text.len() {
            let read = text.get(..cut).unwrap().parse::<InvitationText>();
            // The last letters of the secret alone can be missing unseen: the meeting point sees it.
            assert!(read.is_err() || cut >= text.len() - 6, "{cut}: {read:?}");
        }
        for (from, to) in [
            ("voipd-friend:", "sip:"),
            ("bob@", "Bob@"),
            ("bob@", ""),
            ("by=tls", "by=sctp"),
            ("at=5071", "at=0"),
            ("pin=00", "pin=0g"),
            ("until=1", "until=x"),
            (";key=", ";"),
        ] {
            assert!(text.replace(from, to).parse::<InvitationText>().is_err(), "{to}");
        }
        assert!("x".repeat(LONGEST + 1).parse::<InvitationText>().is_err());
    }

    #[test]
    fn both_ends_make_the_same_password_of_salt_and_secret() {
        let invitation = invitation();
        let (user, password) = invitation.login("salt");
        assert_eq!(user, "bob.salt");
        let key = InvitationKey::of(&invitation.secret);
        let known = key.hash("meet.example.org", &user, "salt");
        assert_eq!(known, UserHash::of("meet.example.org", Login { user: &user, password: &password }));
        assert_ne!(known, key.hash("meet.example.org", &user, "pepper"));
    }

    #[test]
    fn nothing_shows_a_secret_by_accident() {
        let invitation = invitation();
        let shown = format!("{invitation:?} {:?}", InvitationKey::of(&invitation.secret));
        assert!(!shown.contains(invitation.secret.expose()), "{shown}");
        assert!(!shown.contains(InvitationKey::of(&invitation.secret).expose()), "{shown}");
    }
}
