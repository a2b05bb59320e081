//! What a meeting point tells a friend with each 2xx to REGISTER: who of his contacts is there. A text of lines, so that
//! nothing else is needed to read it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use super::invitation::is_name;
use super::offers::{FriendRelay, OfferState, read_friend_relay};
use super::words::Event;
use super::{Rendezvous, SECRET_LENGTH};
use crate::digest::Secret;

/// Content type of a [`Directory`].
pub const DIRECTORY: &str = "application/vnd.voipd.friends";
/// Longest text read, in bytes.
pub(crate) const LONGEST: usize = 8192;
/// Most relays that are read.
const MAX_RELAYS: usize = 8;
/// How long a login to the relays is good at least, in seconds, and at most twice as long.
const LOGIN: u64 = 6 * 3600;
/// Most contacts of a member. Of more, the first are told.
const MAX_CONTACTS: usize = 100;

/// The contacts of a friend at his meeting point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Another one each time.
    pub serial: u64,
    /// Names, and whether they are registered from somewhere.
    pub contacts: Vec<(String, bool)>,
    /// URIs of relays (RFC 7065) that this friend may use.
    pub relays: Vec<String>,
    /// What opens them, for a while.
    pub login: Option<RelayLogin>,
    /// Relays of contacts.
    pub friend_relays: Vec<FriendRelay>,
    /// What has come of the relay that this friend offers.
    pub offer: Option<OfferState>,
}

/// A login that ends by itself: the user name begins with the Unix seconds at which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLogin {
    /// `EXPIRY:NAME`.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {}\r\n", self.serial)?;
        for (name, online) in &self.contacts {
            write!(f, "contact {name} {}\r\n", if *online { "online" } else { "offline" })?;
        }
        for relay in &self.relays {
            write!(f, "relay {relay}\r\n")?;
        }
        if let Some(RelayLogin { user, password }) = &self.login {
            write!(f, "login {user} {}\r\n", password.expose())?;
        }
        for FriendRelay { friend, relay, login: RelayLogin { user, password } } in &self.friend_relays {
            write!(f, "friend-relay {friend} {relay} {user} {}\r\n", password.expose())?;
        }
        if let Some(state) = &self.offer {
            write!(f, "offer {state}\r\n")?;
        }
        Ok(())
    }
}

/// A text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no list of friends")]
pub struct DirectoryError;

/// Lines of other kinds are passed over: a later version may say more.
impl FromStr for Directory {
    type Err = DirectoryError;
    fn from_str(text: &str) -> Result<Self, DirectoryError> {
        let mut lines = text.get(..LONGEST.min(text.len())).ok_or(DirectoryError)?.lines();
        let serial = lines.next().and_then(|line| line.strip_prefix("serial ")?.parse().ok());
        let contact = |line: &str| {
            let (name, presence) = line.strip_prefix("contact ")?.split_once(' ')?;
            let online = match presence {
                "online" => true,
                "offline" => false,
                _ => return None,
            };
            is_name(name).then(|| (name.to_owned(), online))
        };
        let serial = serial.ok_or(DirectoryError)?;
        let mut directory = Self { serial, ..Self::default() };
        for line in lines {
            if let Some(contact) = contact(line).filter(|_| directory.contacts.len() < MAX_CONTACTS) {
                directory.contacts.push(contact);
            } else if let Some(relay) =
                line.strip_prefix("relay ").filter(|_| directory.relays.len() < MAX_RELAYS)
            {
                directory.relays.push(relay.to_owned());
            } else if let Some((user, password)) =
                line.strip_prefix("login ").and_then(|login| login.split_once(' '))
            {
                directory.login = Some(RelayLogin { user: user.to_owned(), password: Secret::new(password) });
            } else if let Some(relay) = line
                .strip_prefix("friend-relay ")
                .filter(|_| directory.friend_relays.len() < MAX_RELAYS)
                .and_then(read_friend_relay)
            {
                directory.friend_relays.push(relay);
            } else if let Some(state) = line.strip_prefix("offer ").and_then(OfferState::read) {
                directory.offer = Some(state);
            }
        }
        Ok(directory)
    }
}

/// Who has talked to whom. Both know each other then: one has called, and the other has answered.
#[derive(Default)]
pub(super) struct Contacts {
    pairs: BTreeSet<(String, String)>,
}

impl Contacts {
    /// `false` where they were contacts already, are the same, or one has too many.
    pub(super) fn add(&mut self, one: &str, other: &str) -> bool {
        let is_full = |name| self.of(name).count() >= MAX_CONTACTS;
        if one == other || self.pairs.contains(&(one.to_owned(), other.to_owned())) {
            return false;
        }
        if is_full(one) || is_full(other) {
            return false;
        }
        self.pairs.insert((one.to_owned(), other.to_owned()));
        self.pairs.insert((other.to_owned(), one.to_owned()));
        true
    }

    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = &String> {
        let from = (name.to_owned(), String::new());
        let name = name.to_owned();
        self.pairs.range(from..).take_while(move |(one, _)| *one == name).map(|(_, other)| other)
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.pairs.retain(|(one, other)| one != name && other != name);
    }
}

impl Rendezvous {
    /// Takes a pair of contacts that was kept ([`Event::Met`]).
    pub fn add_contacts(&mut self, one: &str, other: &str) {
        self.contacts.add(one, other);
    }

    /// Two members talk to each other.
    pub(super) fn met(&mut self, one: &str, other: &str) {
        if self.contacts.add(one, other) {
            self.event(Event::Met { one: one.to_owned(), other: other.to_owned() });
        }
    }

    /// What a member may know of others: nothing of who has never talked to him.
    pub(super) fn directory(&mut self, now: Instant, member: &str) -> Directory {
        self.last_directory += 1;
        let contacts = self.contacts.of(member).map(|name| (name.clone(), self.is_online(now, name)));
        let contacts = contacts.collect();
        let login = if self.relays.is_empty() { None } else { Some(self.relay_login(now, member)) };
        let mut friend_relays = self.relays_of_contacts(now, member);
        friend_relays.truncate(MAX_RELAYS);
        let offer = self.offer_of(now, member).map(|(_, state)| state);
        let relays = self.relays.clone();
        Directory { serial: self.last_directory, contacts, relays, login, friend_relays, offer }
    }

    /// The relays that members may use: URIs (RFC 7065). Whoever runs them learns of logins by [`Event::Granted`].
    pub fn set_relays(&mut self, relays: Vec<String>) {
        self.relays = relays;
    }

    /// The same for some hours, so that relays have few to remember; never that of a member who was removed.
    fn relay_login(&mut self, now: Instant, member: &str) -> RelayLogin {
        let expiry = (self.unix(now) / LOGIN + 2) * LOGIN;
        let user = format!("{expiry}:{member}");
        if let Some(login) = self.granted.get(member).filter(|login| login.user == user) {
            return login.clone();
        }
        let login = RelayLogin { user, password: Secret::new(self.random.token(SECRET_LENGTH)) };
        self.granted.insert(member.to_owned(), login.clone());
        self.event(Event::Granted(login.clone()));
        login
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_new_is_passed_over() {
        let contacts = vec![("anna".to_owned(), true), ("bob".to_owned(), false)];
        let login = RelayLogin { user: "9:bob".to_owned(), password: Secret::new("secret") };
        let relays = vec!["turn:192.0.2.1:3478".to_owned()];
        let friend_relays = vec![FriendRelay {
            friend: "anna".to_owned(),
            relay: "turn:192.0.2.7:3478".to_owned(),
            login: RelayLogin { user: "9:bob@meet".to_owned(), password: Secret::new("other") },
        }];
        let offer = Some(OfferState::Lent);
        let login = Some(login);
        let directory = Directory { serial: 7, contacts, relays, login, friend_relays, offer };
        assert_eq!(directory.to_string().parse(), Ok(directory.clone()));
        let unread =
            "something new\r\ncontact Eve online\r\ncontact x away\r\nfriend-relay x y z\r\noffer good\r\n";
        let more = format!("{directory}{unread}");
        assert_eq!(more.parse(), Ok(directory));
        for bad in ["", "contact bob online", "serial x", "{}"] {
            assert_eq!(bad.parse::<Directory>(), Err(DirectoryError), "{bad}");
        }
    }

    #[test]
    fn contacts_are_mutual_bounded_and_forgotten_with_either() {
        let mut contacts = Contacts::default();
        assert!(contacts.add("a", "b") && !contacts.add("b", "a") && !contacts.add("a", "a"));
        assert!(contacts.of("b").eq(["a"]));
        assert!(contacts.of("").next().is_none());
        for n in 0..200 {
            contacts.add("a", &format!("n{n}"));
        }
        assert_eq!(contacts.of("a").count(), MAX_CONTACTS);
        contacts.forget("b");
        assert!(contacts.of("b").next().is_none() && !contacts.of("a").any(|name| name == "b"));
    }
}
