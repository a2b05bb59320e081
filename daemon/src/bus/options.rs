//! Options of methods, `a{sv}`: each key has one type, and a key that nobody asked for is an error.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use voipd_agent::ConferenceId;
use voipd_dbus::{Error, names};
use voipd_media::Codec;
use zbus::{OwnedVariant, Variant};

use super::outcome::{Failure, invalid};
use crate::api::ports::RecordFormat;
use crate::api::{AccountChoice, CallSound};
use crate::config::account::codec;
use crate::config::fields::{Entry, Placed, Value, closest};

/// An `a{sv}` as it is received.
pub(super) type Received = HashMap<String, OwnedVariant>;

/// Options that are taken out one after the other.
pub(super) struct Options {
    given: Received,
    known: Vec<&'static str>,
}

impl Options {
    pub(super) fn new(given: Received) -> Self {
        Self { given, known: Vec::new() }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Variant::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(key, "a boolean (b)", &other)),
        }
    }

    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<u32>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Variant::U32(number)) => Ok(Some(number)),
            Some(other) => Err(wrong_type(key, "a number (u)", &other)),
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Variant::Str(text)) => Ok(Some(text.as_str().to_owned())),
            Some(other) => Err(wrong_type(key, "a text (s)", &other)),
        }
    }

    /// Names of codecs, at least one.
    pub(super) fn codecs(&mut self, key: &'static str) -> Result<Option<Vec<Codec>>, Failure> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let Ok(names) = Vec::<String>::try_from(value.clone()) else {
            return Err(wrong_type(key, "texts (as)", &value));
        };
        let codecs: Result<Vec<Codec>, String> = names.iter().map(|name| codec(name)).collect();
        match codecs {
            Ok(codecs) if codecs.is_empty() => {
                Err(invalid(format!("the option '{key}' is empty: name at least one codec, or leave it out")))
            }
            Ok(codecs) => Ok(Some(codecs)),
            Err(fault) => Err(invalid(format!("the option '{key}' {fault}"))),
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>, Failure> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        let found = all.iter().copied().find(|one| name(*one) == word);
        found.map(Some).ok_or_else(|| {
            let words: Vec<&str> = all.iter().map(|one| name(*one)).collect();
            let shown: String = word.chars().take(64).collect();
            invalid(format!(
                "the option '{key}' cannot be '{}': it is one of {}",
                shown.escape_debug(),
                words.join(", ")
            ))
        })
    }

    /// `play`, `record`, `record-format`, `mix`, `programs` and `conference`.
    pub(super) fn sound(&mut self) -> Result<CallSound, Failure> {
        Ok(CallSound {
            play: self.file("play")?,
            record: self.file("record")?,
            record_format: self
                .choice("record-format", &RecordFormat::ALL, RecordFormat::name)?
                .unwrap_or_default(),
            mix: self.flag("mix")?.unwrap_or(false),
            programs: self.flag("programs")?.unwrap_or(false),
            conference: self.conference("conference")?,
        })
    }

    fn conference(&mut self, key: &'static str) -> Result<Option<ConferenceId>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Variant::ObjectPath(path)) => match names::conference_number(path.as_str()) {
                Some(number) => Ok(Some(ConferenceId(number))),
                None => Err(Box::new(Error::NoSuchConference(format!(
                    "{path} is no conference: the property Conferences of /org/voipd lists them"
                )))),
            },
            Some(other) => Err(wrong_type(key, "a conference's path (o)", &other)),
        }
    }

    pub(super) fn account(&mut self, key: &'static str) -> Result<Option<AccountChoice>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Variant::Str(name)) => Ok(Some(AccountChoice::Name(name.as_str().to_owned()))),
            Some(Variant::ObjectPath(path)) => match names::account_number(path.as_str()) {
                Some(number) => Ok(Some(AccountChoice::Id(voipd_agent::AccountId(number)))),
                None => Err(Box::new(Error::NoSuchAccount(format!(
                    "{path} is no account: the property Accounts of /org/voipd lists them"
                )))),
            },
            Some(other) => Err(wrong_type(key, "an account's name (s) or path (o)", &other)),
        }
    }

    /// Ends the reading: what was not asked for is unknown.
    pub(super) fn finish(self) -> Result<(), Failure> {
        // The least, so that the same options always give the same error.
        let Some(key) = self.given.keys().min() else { return Ok(()) };
        let shown: String = key.chars().take(64).collect();
        Err(invalid(match closest(key, &self.known) {
            Some(near) => format!("there is no option '{shown}': did you mean '{near}'?"),
            None => format!("there is no option '{shown}': the options are {}", self.known.join(", ")),
        }))
    }

    pub(super) fn file(&mut self, key: &'static str) -> Result<Option<OwnedFd>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Variant::Fd(file)) => match OwnedFd::try_from(file) {
                Ok(file) => Ok(Some(file)),
                Err(error) => Err(invalid(format!("the file of the option '{key}' cannot be used: {error}"))),
            },
            Some(other) => Err(wrong_type(key, "an open file (h)", &other)),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Variant<'static>> {
        self.known.push(key);
        self.given.remove(key).map(Variant::from)
    }
}

fn wrong_type(key: &str, wanted: &str, got: &Variant<'_>) -> Failure {
    invalid(format!("the option '{key}' must be {wanted}, not a value of type '{}'", got.value_signature()))
}

/// An `a{sv}` as entries that the configuration reads, in the order of their keys.
pub(super) fn entries(given: Received) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        given.into_iter().map(|(key, value)| Entry::new(key, plain(Variant::from(value)))).collect();
    entries.sort_by(|a, b| a.key.value.cmp(&b.key.value));
    entries
}

fn plain(value: Variant<'static>) -> Value {
    match value {
        Variant::Str(text) => Value::Text(text.as_str().to_owned()),
        Variant::U32(number) => Value::Number(number.into()),
        Variant::Bool(flag) => Value::Flag(flag),
        Variant::Array(array) if array.signature().to_string() == "as" => Value::List(
            array
                .iter()
                .filter_map(|element| match element {
                    Variant::Str(text) => Some(Value::Text(text.as_str().to_owned())),
                    _ => None,
                })
                .map(|value| Placed { value, at: None })
                .collect(),
        ),
        other => Value::Other(format!("a value of type '{}'", other.value_signature())),
    }
}
