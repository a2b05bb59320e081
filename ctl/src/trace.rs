//! `voipctl trace`: the SIP messages that go in and out, as the daemon shows them: without credentials and keys.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::SignalKind;
use voipd_dbus::TraceOptions;

use crate::cli::TraceArgs;
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::interrupts::Interrupts;
use crate::objects::Fit;
use crate::output::Output;
use crate::pcap::Capture;
use crate::text::{clean, instant, now_micros, visible};

/// What the daemon tells.
#[derive(Deserialize)]
#[serde(untagged)]
enum Record {
    Lost { lost: u64 },
    Message(Message),
}

/// A message that was sent or received.
#[derive(Deserialize)]
pub(crate) struct Message {
    /// Unix microseconds.
    pub(crate) time: u64,
    pub(crate) direction: Direction,
    transport: String,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    call: Option<u32>,
    encoding: String,
    text: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    In,
    Out,
}

pub(crate) async fn run(daemon: &Daemon, out: Output, args: TraceArgs) -> Result<(), Failure> {
    if args.brief && out.json {
        return Err(Failure::usage("--brief and --json exclude each other: say one of them."));
    }
    let mut interrupts = Interrupts::take(&[SignalKind::interrupt()])?;
    let mut capture = args.pcap.as_deref().map(Capture::create).transpose()?;
    let call = match &args.call {
        Some(name) => Some(daemon.snapshot().await?.call(Some(name), Fit::Any)?.id()),
        None => None,
    };
    let pipe = daemon.manager().await?.trace(&TraceOptions { call }).await?;
    let mut lines = BufReader::new(stream(pipe.into()).map_err(unreadable)?).lines();
    let bus = daemon.bus.name();
    match out.json {
        true => out.record(&json!({"event": "started", "bus": bus}))?,
        false => out.line(&format!("{} tracing voipd on the {bus} bus", instant(now_micros())))?,
    }
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.map_err(unreadable)?.ok_or_else(Failure::gone)?,
            () = interrupts.next() => return Ok(()),
            failure = out.reader_left() => return Err(failure),
        };
        let value: Value = serde_json::from_str(&line).map_err(|error| unreadable(error.into()))?;
        if out.json {
            out.record(&value)?;
        }
        let record = Record::deserialize(value).map_err(|error| unreadable(error.into()))?;
        if let (Record::Message(message), Some(capture)) = (&record, &mut capture) {
            capture.add(message)?;
        }
        match (record, out.json) {
            (_, true) => {}
            (Record::Lost { lost }, false) => {
                out.line(&format!("{lost} messages are missing: this reader was too slow"))?
            }
            (Record::Message(message), false) if args.brief => out.line(&message.brief())?,
            (Record::Message(message), false) => out.lines(&message.lines())?,
        }
    }
}

fn stream(pipe: OwnedFd) -> std::io::Result<UnixStream> {
    let socket = Socket::from(pipe);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::failed(format!("the trace cannot be read: {error}. Are voipctl and voipd of the same version?"))
}

impl Message {
    /// The message's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.encoding.as_str() {
            // Each character is one byte.
            "latin-1" => self.text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect(),
            _ => self.text.clone().into_bytes(),
        }
    }

    /// When, whence, whither.
    fn way(&self) -> String {
        let arrow = if self.direction == Direction::In { "<-" } else { "->" };
        let call = self.call.map(|call| format!(" call {call}")).unwrap_or_default();
        let Self { local, remote, transport, .. } = self;
        format!("{} {local} {arrow} {remote} {transport}{call}", instant(self.time))
    }

    fn brief(&self) -> String {
        let start = self.text.lines().find(|line| !line.is_empty()).unwrap_or("(nothing)");
        format!("{}: {}", self.way(), visible(start))
    }

    fn lines(&self) -> Vec<String> {
        let text = self.text.trim_end_matches(['\r', '\n']);
        let body = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let body = body.map(|line| format!("    {}", visible(line)).trim_end().to_owned());
        let way = clean(&self.way());
        std::iter::once(way).chain(body).chain([String::new()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        serde_json::from_value(serde_json::json!({
            "time": 951_782_400_000_000u64, "direction": "in", "transport": "UDP", "local": "192.0.2.1:5060",
            "remote": "[2001:db8::1]:5070", "call": 3, "encoding": "utf-8", "text": text
        }))
        .unwrap()
    }

    #[test]
    fn a_message_stands_indented_below_its_way() {
        let way = "2000-02-29T00:00:00.000Z 192.0.2.1:5060 <- [2001:db8::1]:5070 UDP call 3";
        let message = message("SIP/2.0 200 OK\r\nCSeq: 1\r\n\r\nv=0\r\n");
        assert_eq!(message.lines(), [way, "    SIP/2.0 200 OK", "    CSeq: 1", "", "    v=0", ""]);
        assert_eq!(message.brief(), format!("{way}: SIP/2.0 200 OK"));
    }

    #[test]
    fn a_stranger_cannot_drive_the_terminal() {
        let message = message("\r\nOPTIONS \u{1b}[2J\rX\u{9b}1\u{202e}\t\0\u{7f}\r\n");
        let shown = "OPTIONS ␛[2J␍X\u{fffd}1\u{fffd}␉␀␡";
        assert_eq!(message.lines()[2], format!("    {shown}"));
        assert!(message.brief().ends_with(&format!(": {shown}")));
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let mut message = message("é");
        assert_eq!(message.bytes(), "é".as_bytes());
        message.encoding = "latin-1".into();
        assert_eq!(message.bytes(), [0xe9]);
        assert!(matches!(serde_json::from_str(r#"{"lost":3}"#), Ok(Record::Lost { lost: 3 })));
    }
}
