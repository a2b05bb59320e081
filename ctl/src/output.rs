//! Standard output: lines for people or JSON for programs. A reader that goes away ends the command, not with a panic.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};
use voipd_dbus::Dict;
use zbus::Variant;

use crate::exit::{Exit, Failure};
use crate::text::clean;

/// Where a command writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Programs read it.
    pub(crate) json: bool,
    /// Standard output is for sound: what people read goes to standard error.
    aside: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, aside: false }
    }

    /// The same on standard error.
    pub(crate) const fn aside(self) -> Self {
        Self { aside: true, ..self }
    }

    /// A line for people, made harmless.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.write(&format!("{}\n", clean(text)))
    }

    /// Several lines for people.
    pub(crate) fn lines(self, lines: &[String]) -> Result<(), Failure> {
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// Takes the place of the line that the cursor stands in.
    pub(crate) fn redraw(self, text: &str) -> Result<(), Failure> {
        self.write(&format!("\r\x1b[K{}", clean(text)))
    }

    /// A document for programs.
    pub(crate) fn document(self, value: &Value) -> Result<(), Failure> {
        self.write(&format!("{value:#}\n"))
    }

    /// A document in one line, for programs that read a stream of them.
    pub(crate) fn record(self, value: &Value) -> Result<(), Failure> {
        self.write(&format!("{value}\n"))
    }

    /// Does a person watch?
    pub(crate) fn is_terminal(self) -> bool {
        !self.json && !self.aside && io::stdout().is_terminal()
    }

    /// Ends when nobody reads the output any more, which a command that has nothing to write would not notice.
    pub(crate) async fn reader_left(self) -> Failure {
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            look.tick().await;
            let stdout = io::stdout();
            // An error and a hang-up are told without being asked for.
            let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
            let told = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
            let gone = PollFlags::ERR | PollFlags::HUP;
            if told.is_ok() && watched.iter().any(|fd| fd.revents().intersects(gone)) {
                return Failure::silent(Exit::BrokenPipe);
            }
        }
    }

    /// Columns of the terminal.
    pub(crate) fn width(self) -> usize {
        rustix::termios::tcgetwinsize(io::stdout())
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|w| *w > 20)
            .unwrap_or(80)
    }

    fn write(self, text: &str) -> Result<(), Failure> {
        if self.aside {
            // Nobody may be left to read it; the sound goes on.
            let _ = io::stderr().lock().write_all(text.as_bytes());
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::BrokenPipe),
            _ => Failure::failed(format!("cannot write to standard output: {error}")),
        })
    }
}

/// A value of the bus as JSON.
pub(crate) fn to_json(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(n) => json!(n),
        Variant::Bool(b) => json!(b),
        Variant::I16(n) => json!(n),
        Variant::U16(n) => json!(n),
        Variant::I32(n) => json!(n),
        Variant::U32(n) => json!(n),
        Variant::I64(n) => json!(n),
        Variant::U64(n) => json!(n),
        Variant::F64(n) => json!(n),
        Variant::Str(s) => json!(s.as_str()),
        Variant::Signature(s) => json!(s.to_string()),
        Variant::ObjectPath(p) => json!(p.as_str()),
        Variant::Variant(inner) => to_json(inner),
        Variant::Array(array) => array.inner().iter().map(to_json).collect(),
        Variant::Dict(dict) => {
            let key = |key: &Variant<'_>| match to_json(key) {
                Value::String(text) => snake_case(&text),
                other => other.to_string(),
            };
            dict.iter().map(|(k, v)| (key(k), to_json(v))).collect::<Map<_, _>>().into()
        }
        Variant::Structure(fields) => fields.fields().iter().map(to_json).collect(),
        // A descriptor means nothing to a reader of text.
        Variant::Fd(_) => Value::Null,
    }
}

/// Named values as a JSON object with keys in snake case, in the order of the alphabet.
pub(crate) fn dict_to_json(dict: &Dict) -> Map<String, Value> {
    dict.iter().map(|(key, value)| (snake_case(key), to_json(value))).collect()
}

/// `PacketsSent` and `ticks-late` as programs like them: `packets_sent`, `ticks_late`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn values_of_the_bus_become_json() {
        let counters: HashMap<String, u64> = [("ticks-late".to_owned(), 3)].into();
        let dict: Dict = [
            ("SipStatus".to_owned(), Variant::from(486u16)),
            ("Codecs".to_owned(), Variant::from(vec!["opus", "PCMU"])),
            ("LevelIn".to_owned(), Variant::from(-40.5)),
            ("Counters".to_owned(), Variant::from(counters)),
            ("Peer".to_owned(), Variant::from("sip:\u{1b}bob\"@example.org")),
        ]
        .into_iter()
        .map(|(key, value)| (key, value.try_into().unwrap()))
        .collect();
        assert_eq!(
            Value::from(dict_to_json(&dict)),
            json!({
                "sip_status": 486, "codecs": ["opus", "PCMU"], "level_in": -40.5,
                "counters": {"ticks_late": 3}, "peer": "sip:\u{1b}bob\"@example.org"
            })
        );
    }

    #[test]
    fn names_become_snake_case() {
        for (name, snake) in [("RoundTripMs", "round_trip_ms"), ("available", "available"), ("a-b", "a_b")] {
            assert_eq!(snake_case(name), snake);
        }
    }
}
