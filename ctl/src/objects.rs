//! Accounts and calls as they were at one instant, and how a person names one of them.

use std::time::Duration;

use serde_json::{Value, json};
use voipd_dbus::{AccountState, CallState, Dict, names};
use zbus::fdo::ManagedObjects;
use zbus::{ObjectPath, Variant};

use crate::exit::Failure;
use crate::output::dict_to_json;
use crate::text::now_micros;

/// An object's path and properties.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    pub(crate) path: String,
    pub(crate) properties: Dict,
}

impl Object {
    /// A text, or the text of a path; empty when it is not there.
    pub(crate) fn text(&self, key: &str) -> &str {
        match self.properties.get(key).map(|value| &**value) {
            Some(Variant::Str(text)) => text.as_str(),
            Some(Variant::ObjectPath(path)) => path.as_str(),
            _ => "",
        }
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.properties.get(key).map(|value| &**value), Some(Variant::Bool(true)))
    }

    /// A whole number; 0 when it is not there.
    pub(crate) fn number(&self, key: &str) -> u64 {
        match self.properties.get(key).map(|value| &**value) {
            Some(Variant::U16(n)) => u64::from(*n),
            Some(Variant::U32(n)) => u64::from(*n),
            Some(Variant::U64(n)) => *n,
            _ => 0,
        }
    }

    /// The texts of a list, with commas.
    pub(crate) fn list(&self, key: &str) -> String {
        match self.properties.get(key).map(|value| &**value) {
            Some(Variant::Array(array)) => {
                let texts = array.inner().iter().filter_map(|value| match value {
                    Variant::Str(text) => Some(text.as_str()),
                    _ => None,
                });
                texts.collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        }
    }

    /// The paths of a list.
    pub(crate) fn paths(&self, key: &str) -> Vec<String> {
        match self.properties.get(key).map(|value| &**value) {
            Some(Variant::Array(array)) => {
                let paths = array.inner().iter().filter_map(|value| match value {
                    Variant::ObjectPath(path) => Some(path.to_string()),
                    _ => None,
                });
                paths.collect()
            }
            _ => Vec::new(),
        }
    }

    /// The number that the path ends in.
    pub(crate) fn id(&self) -> u32 {
        names::call_number(&self.path)
            .or_else(|| names::account_number(&self.path))
            .or_else(|| names::conference_number(&self.path))
            .unwrap_or(0)
    }

    /// State of a call; `None` for one that this version does not know.
    pub(crate) fn call_state(&self) -> Option<CallState> {
        CallState::from_word(self.text("State"))
    }

    /// State of an account; `None` for one that this version does not know.
    pub(crate) fn account_state(&self) -> Option<AccountState> {
        AccountState::from_word(self.text("State"))
    }

    /// How long a call lasts or lasted since it was answered.
    pub(crate) fn talk_time(&self) -> Duration {
        let (answered, ended) = (self.number("AnsweredAt"), self.number("EndedAt"));
        if answered == 0 {
            return Duration::ZERO;
        }
        let until = if ended == 0 { now_micros() } else { ended };
        Duration::from_micros(until.saturating_sub(answered))
    }

    /// Display name and URI of a call's peer.
    pub(crate) fn peer(&self) -> String {
        match (self.text("PeerName"), self.text("Peer")) {
            ("", uri) => uri.to_owned(),
            (name, uri) => format!("{name} <{uri}>"),
        }
    }

    /// Display name and URI of a call's peer in the words of the account's own server.
    pub(crate) fn asserted(&self) -> Option<String> {
        match (self.text("AssertedName"), self.text("AssertedIdentity")) {
            (_, "") => None,
            ("", uri) => Some(uri.to_owned()),
            (name, uri) => Some(format!("{name} <{uri}>")),
        }
    }

    /// Path, number and properties for programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = dict_to_json(&self.properties);
        object.insert("path".into(), json!(self.path));
        object.insert("number".into(), json!(self.id()));
        object.into()
    }
}

/// All accounts and calls at one instant, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) accounts: Vec<Object>,
    pub(crate) calls: Vec<Object>,
    pub(crate) conferences: Vec<Object>,
}

impl Snapshot {
    pub(crate) fn new(objects: ManagedObjects) -> Self {
        let mut snapshot = Self::default();
        for (path, interfaces) in objects {
            for (interface, properties) in interfaces {
                let object = Object { path: path.to_string(), properties };
                match interface.as_str() {
                    names::ACCOUNT => snapshot.accounts.push(object),
                    names::CALL => snapshot.calls.push(object),
                    names::CONFERENCE => snapshot.conferences.push(object),
                    _ => {}
                }
            }
        }
        snapshot.accounts.sort_by_key(Object::id);
        snapshot.calls.sort_by_key(Object::id);
        snapshot.conferences.sort_by_key(Object::id);
        snapshot
    }

    /// The account with this name or path.
    pub(crate) fn account(&self, name: &str) -> Result<&Object, Failure> {
        let found = self.accounts.iter().find(|a| a.text("Name") == name || a.path == name);
        found.ok_or_else(|| {
            Failure::failed(format!(
                "there is no account '{name}'. 'voipctl account list' shows those that are there."
            ))
        })
    }

    /// Name of the account with this path.
    pub(crate) fn account_name(&self, path: &str) -> &str {
        self.accounts.iter().find(|a| a.path == path).map_or("", |a| a.text("Name"))
    }

    /// The conference that is named, else the only one.
    pub(crate) fn conference(&self, named: Option<&ConferenceName>) -> Result<&Object, Failure> {
        match (named, self.conferences.as_slice()) {
            (Some(name), all) => all.iter().find(|one| one.id() == name.0).ok_or_else(|| {
                Failure::failed(format!(
                    "there is no conference {}. 'voipctl conference' shows the conferences.",
                    name.0
                ))
            }),
            (None, [one]) => Ok(one),
            (None, []) => {
                Err(Failure::failed("there is no conference. 'voipctl conference open' opens one."))
            }
            (None, many) => {
                let numbers: Vec<String> = many.iter().map(|one| one.id().to_string()).collect();
                Err(Failure::usage(format!(
                    "there are several conferences: name one of them: {}.",
                    numbers.join(", ")
                )))
            }
        }
    }

    /// The call that is named, else the only one that fits.
    pub(crate) fn call(&self, named: Option<&CallName>, fit: Fit) -> Result<&Object, Failure> {
        if let Some(name) = named {
            let found = self.calls.iter().find(|call| call.path == name.path());
            return found.ok_or_else(|| no_such_call(name));
        }
        let fitting: Vec<&Object> = self.calls.iter().filter(|call| fit.matches(call)).collect();
        match fitting.as_slice() {
            [one] => Ok(one),
            [] => Err(Failure::failed(format!(
                "there is no call {}. 'voipctl calls' shows the calls.",
                fit.words().0
            ))),
            many => {
                let list = many.iter().map(|call| {
                    format!("\n  {}  {}  {}", call.id(), call.text("State"), crate::text::clean(&call.peer()))
                });
                let list: String = list.collect();
                Err(Failure::usage(format!(
                    "there are several calls {}: name one of them.{list}",
                    fit.words().1
                )))
            }
        }
    }
}

fn no_such_call(name: &CallName) -> Failure {
    Failure::failed(format!("there is no call {}. 'voipctl calls' shows the calls.", name.label()))
}

/// Which calls a command can mean when it is told none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Incoming,
    Unended,
    Holdable,
    OnHold,
    Sounding,
    Answered,
    InConference,
    Any,
}

impl Fit {
    fn matches(self, call: &Object) -> bool {
        let state = call.call_state();
        match self {
            Self::Incoming => state == Some(CallState::Incoming),
            Self::Unended => state != Some(CallState::Ended),
            Self::Holdable => Self::Answered.matches(call) && !call.flag("LocalHold"),
            Self::OnHold => state != Some(CallState::Ended) && call.flag("LocalHold"),
            Self::Sounding => matches!(state, Some(CallState::Early | CallState::Active)),
            Self::Answered => matches!(state, Some(CallState::Active | CallState::Held)),
            Self::InConference => !matches!(call.text("Conference"), "" | "/"),
            Self::Any => true,
        }
    }

    /// What follows "there is no call", and "there are several calls".
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Incoming => ("that rings here", "that ring here"),
            Self::Unended => ("that goes on", "that go on"),
            Self::Holdable => ("that can be held", "that can be held"),
            Self::OnHold => ("on hold", "on hold"),
            Self::Sounding => ("that can take digits", "that can take digits"),
            Self::Answered => ("whose codec can be chosen", "whose codec can be chosen"),
            Self::InConference => ("that is in a conference", "that are in a conference"),
            Self::Any => ("to show", "to show"),
        }
    }
}

/// A call as a person names it: its number or its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallName(u32);

impl CallName {
    pub(crate) fn path(&self) -> String {
        names::call_path(self.0)
    }

    fn label(&self) -> u32 {
        self.0
    }
}

impl std::str::FromStr for CallName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match names::call_number(text) {
            Some(number) => Some(number),
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        number
            .map(Self)
            .ok_or_else(|| format!("a call is a number such as 3, or a path such as {}3", names::CALL_PREFIX))
    }
}

/// A conference as a person names it: its number or its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConferenceName(u32);

impl ConferenceName {
    pub(crate) fn path(&self) -> String {
        names::conference_path(self.0)
    }
}

impl std::str::FromStr for ConferenceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match names::conference_number(text) {
            Some(number) => Some(number),
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        number.map(Self).ok_or_else(|| {
            format!("a conference is a number such as 1, or a path such as {}1", names::CONFERENCE_PREFIX)
        })
    }
}

/// A path that came from the daemon, for a method's argument.
pub(crate) fn object_path(path: &str) -> Result<ObjectPath<'_>, Failure> {
    ObjectPath::try_from(path).map_err(|_| Failure::failed(format!("'{path}' is no object path")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A call with texts and flags for properties.
    pub(crate) fn call(id: u32, texts: &[(&str, &str)], flags: &[&str]) -> Object {
        let texts = texts.iter().map(|(key, value)| ((*key).to_owned(), Variant::from(*value)));
        let flags = flags.iter().map(|key| ((*key).to_owned(), Variant::from(true)));
        let properties = texts.chain(flags).map(|(key, value)| (key, value.try_into().unwrap())).collect();
        Object { path: names::call_path(id), properties }
    }

    /// A list of paths as a property.
    pub(crate) fn paths(paths: &[String]) -> zbus::OwnedVariant {
        let paths: Vec<ObjectPath<'_>> =
            paths.iter().map(|path| ObjectPath::try_from(path.as_str()).unwrap()).collect();
        Variant::from(paths).try_into().unwrap()
    }

    fn snapshot() -> Snapshot {
        let calls = vec![
            call(1, &[("State", "ended")], &[]),
            call(2, &[("State", "held"), ("Peer", "sip:a@example.org")], &["LocalHold"]),
            call(4, &[("State", "active"), ("Peer", "sip:b@example.org"), ("PeerName", "B\u{1b}")], &[]),
            call(5, &[("State", "a-state-of-tomorrow")], &[]),
        ];
        Snapshot { calls, ..Snapshot::default() }
    }

    #[test]
    fn the_only_fitting_call_needs_no_name() {
        let snapshot = snapshot();
        assert_eq!(snapshot.call(None, Fit::OnHold).unwrap().id(), 2);
        assert_eq!(snapshot.call(None, Fit::Holdable).unwrap().id(), 4);
        assert_eq!(snapshot.call(None, Fit::Sounding).unwrap().id(), 4);
        let held = Snapshot { calls: vec![snapshot.calls[1].clone()], ..Snapshot::default() };
        assert_eq!(held.call(None, Fit::Answered).unwrap().id(), 2);
        assert!(held.call(None, Fit::Sounding).is_err());
        assert_eq!(snapshot.call(Some(&CallName(1)), Fit::Holdable).unwrap().id(), 1);
    }

    #[test]
    fn without_a_fitting_call_the_error_says_so_and_with_several_it_lists_them() {
        let none = snapshot().call(None, Fit::Incoming).unwrap_err().sentence.unwrap();
        assert!(none.starts_with("there is no call that rings here."), "{none}");
        let many = snapshot().call(None, Fit::Unended).unwrap_err();
        assert_eq!(many.exit, crate::exit::Exit::Usage);
        let list = many.sentence.unwrap();
        assert!(
            list.contains("\n  2  held  sip:a@example.org\n  4  active  B\u{fffd} <sip:b@example.org>"),
            "{list}"
        );
        assert!(!list.contains("\n  1  "), "{list}");
    }

    #[test]
    fn a_call_is_named_by_number_or_path() {
        assert_eq!("7".parse(), Ok(CallName(7)));
        assert_eq!("/org/voipd/call/7".parse(), Ok(CallName(7)));
        for wrong in ["", "-7", "+7", "seven", "/org/voipd/account/7", "4294967296", "7 "] {
            assert!(wrong.parse::<CallName>().is_err(), "{wrong}");
        }
    }
}
