//! Keys and values as TOML and D-Bus both can give them, read one by one into types; what is wrong with them is
//! collected as [`Fault`]s. It knows no key by name.

use std::ops::RangeInclusive;

/// What is wrong with one key, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// With its section, `sip.listen`; empty when the fault is in the text as a whole.
    pub key: String,
    /// A sentence that ends with the remedy.
    pub message: String,
    /// Byte offset in the text, where there is a text.
    pub at: Option<usize>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Byte offset in the text, where there is a text.
    pub at: Option<usize>,
}

/// A value of one of the types that both sources have.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
    /// A truth value.
    Flag(bool),
    /// An array.
    List(Vec<Placed<Value>>),
    /// A table (TOML only).
    Table(Vec<Entry>),
    /// Anything else: its type in words.
    Other(String),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as written.
    pub key: Placed<String>,
    /// Its value.
    pub value: Placed<Value>,
}

impl Entry {
    /// An entry that stands in no text.
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self { key: Placed { value: key.into(), at: None }, value: Placed { value, at: None } }
    }
}

/// Where the entries come from: decides how types are named in faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TOML file.
    Toml,
    /// An `a{sv}`.
    Bus,
}

/// The entries of one section, taken out one after the other. Whatever was not asked for is unknown.
#[derive(Debug)]
pub struct Fields<'f> {
    section: String,
    source: Source,
    at: Option<usize>,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
    faults: &'f mut Vec<Fault>,
    faults_before: usize,
}

impl<'f> Fields<'f> {
    /// `section` names the entries in faults (empty: at the top); `at` is where it begins.
    pub fn new(
        section: impl Into<String>,
        source: Source,
        at: Option<usize>,
        entries: Vec<Entry>,
        faults: &'f mut Vec<Fault>,
    ) -> Self {
        let faults_before = faults.len();
        Self { section: section.into(), source, at, entries, known: Vec::new(), faults, faults_before }
    }

    /// Whether a key is there; it is not taken.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.value == key)
    }

    /// A string that `read` makes something of; `read` answers with a sentence when it cannot.
    pub fn parse<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.parse_lines(key, |text| plain(text).and_then(|()| read(text)))
    }

    /// The same of a string that may have many lines.
    pub fn parse_lines<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match value.value {
            Value::Text(text) => match read(&text) {
                Ok(read) => Some(read),
                Err(message) => {
                    self.fault(key, value.at, message);
                    None
                }
            },
            other => self.wrong_type(key, value.at, Kind::Text, &other),
        }
    }

    /// A string that is not empty.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.parse(key, |text| match text.trim() {
            "" => Err("is empty: leave the key out or give it a value".to_owned()),
            _ => Ok(text.to_owned()),
        })
    }

    /// A list of strings, each of which `read` makes something of. Given more than once, an element is a fault.
    pub fn parse_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let elements = match value.value {
            Value::List(elements) => elements,
            other => return self.wrong_type(key, value.at, Kind::List, &other),
        };
        let mut list = Vec::new();
        let mut whole = true;
        for element in elements {
            let at = element.at.or(value.at);
            match element.value {
                Value::Text(text) => match plain(&text).and_then(|()| read(&text)) {
                    Ok(item) if list.contains(&item) => {
                        whole = false;
                        self.fault(key, at, format!("names '{text}' twice: remove one"));
                    }
                    Ok(item) => list.push(item),
                    Err(message) => {
                        whole = false;
                        self.fault(key, at, message);
                    }
                },
                other => {
                    whole = false;
                    self.wrong_type::<()>(key, at, Kind::List, &other);
                }
            }
        }
        whole.then_some(list)
    }

    /// A string, or a list of strings, each of which `read` makes something of.
    pub fn parse_one_or_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        match self.entries.iter().find(|entry| entry.key.value == key).map(|entry| &entry.value.value) {
            Some(Value::List(_)) => self.parse_list(key, read),
            _ => self.parse(key, read).map(|one| vec![one]),
        }
    }

    /// An integer within `range`.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(key)?;
        match value.value {
            Value::Number(number) => match u32::try_from(number).ok().filter(|n| range.contains(n)) {
                Some(number) => Some(number),
                None => {
                    let (least, most) = (range.start(), range.end());
                    self.fault(key, value.at, format!("is {number}: write a number from {least} to {most}"));
                    None
                }
            },
            other => self.wrong_type(key, value.at, Kind::Number, &other),
        }
    }

    /// A truth value.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        match value.value {
            Value::Flag(flag) => Some(flag),
            other => self.wrong_type(key, value.at, Kind::Flag, &other),
        }
    }

    /// A section below this one: where it begins and what it holds.
    pub fn table(&mut self, key: &'static str) -> Option<Placed<Vec<Entry>>> {
        let value = self.take(key)?;
        match value.value {
            Value::Table(entries) => Some(Placed { value: entries, at: value.at }),
            _ => {
                self.fault(
                    key,
                    value.at,
                    format!("is a section: write [{key}] and its keys on the lines below"),
                );
                None
            }
        }
    }

    /// Sections below this one that can be there any number of times.
    pub fn tables(&mut self, key: &'static str) -> Vec<Placed<Vec<Entry>>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let remedy =
            || format!("is a section that can be there many times: write [[{key}]] above the keys of each");
        let Value::List(elements) = value.value else {
            self.fault(key, value.at, remedy());
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in elements {
            match element.value {
                Value::Table(entries) => tables.push(Placed { value: entries, at: element.at }),
                _ => self.fault(key, element.at, remedy()),
            }
        }
        tables
    }

    /// Notes that `key` is wrong in the light of the others; `message` is a sentence that goes on after the key.
    pub fn reject(&mut self, key: &str, message: impl Into<String>) {
        self.fault(key, self.at, message.into());
    }

    /// Ends the reading: what has not been asked for is unknown. Answers whether there was no fault at all.
    pub fn finish(self) -> bool {
        let Self { section, known, entries, faults, faults_before, .. } = self;
        for entry in entries {
            let key = &entry.key.value;
            let message = match closest(key, &known) {
                Some(near) => format!("is not a key here: did you mean '{near}'?"),
                None => format!("is not a key here: the keys are {}", known.join(", ")),
            };
            faults.push(Fault { key: path(&section, key), message, at: entry.key.at });
        }
        faults.len() == faults_before
    }

    fn take(&mut self, key: &'static str) -> Option<Placed<Value>> {
        self.known.push(key);
        let index = self.entries.iter().position(|entry| entry.key.value == key)?;
        Some(self.entries.remove(index).value)
    }

    fn fault(&mut self, key: &str, at: Option<usize>, message: String) {
        self.faults.push(Fault { key: path(&self.section, key), message, at: at.or(self.at) });
    }

    fn wrong_type<T>(&mut self, key: &str, at: Option<usize>, wanted: Kind, got: &Value) -> Option<T> {
        // The value itself stays out of the message: it may be a password.
        let message = match self.source {
            Source::Toml => format!("must be {}, not {}", wanted.in_toml(), got.kind()),
            Source::Bus => format!("must be {}, not {}", wanted.on_bus(), got.kind()),
        };
        self.fault(key, at, message);
        None
    }
}

/// The types that keys can have.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    List,
}

impl Kind {
    fn in_toml(self) -> &'static str {
        match self {
            Self::Text => "a string in quotes",
            Self::Number => "a whole number without quotes",
            Self::Flag => "true or false without quotes",
            Self::List => "a list of strings, [\"…\", \"…\"]",
        }
    }
    fn on_bus(self) -> &'static str {
        match self {
            Self::Text => "a string (s)",
            Self::Number => "an unsigned 32-bit integer (u)",
            Self::Flag => "a boolean (b)",
            Self::List => "an array of strings (as)",
        }
    }
}

impl Value {
    fn kind(&self) -> &str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Flag(_) => "a truth value",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

fn path(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// No value needs a line break, and none may smuggle one into a message, a log or a file name.
fn plain(text: &str) -> Result<(), String> {
    match text.chars().any(char::is_control) {
        true => Err("holds a line break or another control character: remove it".to_owned()),
        false => Ok(()),
    }
}

/// The known word that `word` is most likely a slip of.
pub fn closest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    // A hostile key of a megabyte is not worth comparing.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('_', "-");
    // Two letters that change places count as two slips.
    let allowed = (word.chars().count() / 2).clamp(1, 3);
    known
        .iter()
        .map(|known| (distance(&word, known), *known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance: insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *above;
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["address", "auth-user", "password", "ptime", "name"];
        assert_eq!(closest("adress", &known), Some("address"));
        assert_eq!(closest("auth_user", &known), Some("auth-user"));
        assert_eq!(closest("Passwort", &known), Some("password"));
        assert_eq!(closest("colour", &known), None);
        assert_eq!(closest(&"a".repeat(100_000), &known), None);
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "abc")), (3, 3, 0));
    }

    #[test]
    fn each_fault_is_collected_and_names_its_key() {
        let mut faults = Vec::new();
        let entries = vec![
            Entry::new("expires", Value::Text("600".into())),
            Entry::new("enabled", Value::Number(1)),
            Entry::new("name", Value::Text("a\nb".into())),
            Entry::new("nmae", Value::Text("x".into())),
        ];
        let mut fields = Fields::new("account", Source::Bus, None, entries, &mut faults);
        assert_eq!(fields.number("expires", 1..=9), None);
        assert_eq!(fields.flag("enabled"), None);
        assert_eq!(fields.text("name"), None);
        assert!(!fields.finish());
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["account.expires", "account.enabled", "account.name", "account.nmae"]);
        assert_eq!(faults[0].message, "must be an unsigned 32-bit integer (u), not a string");
        assert_eq!(faults[3].message, "is not a key here: did you mean 'name'?");
    }
}
