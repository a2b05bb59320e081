//! Traces: what goes over the SIP transports, redacted, for whoever asks. Nothing is kept until somebody does, and the
//! driver never waits for a reader.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use voipd_agent::Agent;
use voipd_agent::view::CallId;
use voipd_sip::Message;
use voipd_sip::endpoint::Flow;
use voipd_sip::redact::redact;
use voipd_sip::wire::read_datagram;

/// Most traces at once.
const MOST: usize = 8;
/// Bytes of records that wait for one reader, besides what the kernel keeps.
const LONGEST_QUEUE: usize = 1 << 20;
/// Call-IDs that are remembered: what ends a call is sent when nothing else is left of it.
const REMEMBERED: usize = 256;

/// Whether a message was received or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// Why a trace cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    #[error("there are {0} traces already: end one of them")]
    TooMany(usize),
    #[error("the system gives no socket for the trace: {0}")]
    System(#[from] io::Error),
}

/// Everybody who traces.
#[derive(Default)]
pub(super) struct Traces {
    readers: Vec<Reader>,
    known: VecDeque<(String, CallId)>,
}

struct Reader {
    /// `None`: all calls, and what belongs to none.
    call: Option<CallId>,
    records: mpsc::UnboundedSender<String>,
    waiting: Arc<AtomicUsize>,
    lost: u64,
}

impl Traces {
    /// Begins a trace; it ends when the other end of the answer is closed.
    pub(super) fn begin(&mut self, call: Option<CallId>) -> Result<OwnedFd, TraceError> {
        self.readers.retain(|reader| !reader.records.is_closed());
        if self.readers.len() >= MOST {
            return Err(TraceError::TooMany(MOST));
        }
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let (records, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write(stream, queue, Arc::clone(&waiting)));
        self.readers.push(Reader { call, records, waiting, lost: 0 });
        Ok(theirs.into())
    }

    /// The call that a message belongs to; `None` also while nobody traces.
    pub(super) fn call(&mut self, agent: &Agent, message: &[u8]) -> Option<CallId> {
        if self.readers.is_empty() {
            return None;
        }
        let call_id = match read_datagram(message).ok()?? {
            Message::Request(request) => request.call_id,
            Message::Response(response) => response.call_id,
        };
        if let Some((_, call)) = self.known.iter().find(|(known, _)| *known == call_id) {
            return Some(*call);
        }
        let call = agent.call_of(&call_id)?;
        if self.known.len() >= REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back((call_id, call));
        Some(call)
    }

    /// Tells everybody whom it concerns of a message. `time`: Unix microseconds.
    pub(super) fn record(
        &mut self,
        time: u64,
        direction: Direction,
        flow: &Flow,
        call: Option<CallId>,
        message: &[u8],
    ) {
        self.readers.retain(|reader| !reader.records.is_closed());
        if self.readers.is_empty() {
            self.known.clear();
        }
        let mut concerned = self.readers.iter_mut().filter(|r| r.call.is_none() || r.call == call).peekable();
        if concerned.peek().is_none() {
            return;
        }
        let (encoding, text) = text(redact(message));
        let direction = if direction == Direction::In { "in" } else { "out" };
        let record = json!({
            "time": time,
            "direction": direction,
            "transport": flow.transport.name(),
            "local": flow.local.to_string(),
            "remote": flow.remote.to_string(),
            "call": call.map(|call| call.0),
            "encoding": encoding,
            "text": text,
        });
        let line = format!("{record}\n");
        concerned.for_each(|reader| reader.send(&line));
    }
}

impl Reader {
    fn send(&mut self, line: &str) {
        // A record that is longer than the queue finds room when nothing waits.
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > 0 && waiting + line.len() > LONGEST_QUEUE {
            self.lost += 1;
            return;
        }
        let told = match std::mem::take(&mut self.lost) {
            0 => line.to_owned(),
            lost => format!("{}\n{line}", json!({ "lost": lost })),
        };
        self.waiting.fetch_add(told.len(), Ordering::Relaxed);
        // A reader that has left is dropped with the next message.
        let _ = self.records.send(told);
    }
}

/// Text as JSON can carry it, and how its bytes are got back.
fn text(bytes: Vec<u8>) -> (&'static str, String) {
    match String::from_utf8(bytes) {
        Ok(text) => ("utf-8", text),
        Err(error) => ("latin-1", error.as_bytes().iter().copied().map(char::from).collect()),
    }
}

/// Writes records until the reader leaves.
async fn write(
    mut stream: UnixStream,
    mut queue: mpsc::UnboundedReceiver<String>,
    waiting: Arc<AtomicUsize>,
) {
    let (mut read, mut write) = stream.split();
    let left = async {
        let mut ignored = [0; 64];
        while matches!(read.read(&mut ignored).await, Ok(1..)) {}
    };
    let written = async {
        while let Some(record) = queue.recv().await {
            if write.write_all(record.as_bytes()).await.is_err() {
                return;
            }
            waiting.fetch_sub(record.len(), Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = left => {}
        () = written => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::time::Duration;
    use voipd_sip::endpoint::{TlsRequirement, Transport};

    fn flow() -> Flow {
        let (local, remote) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5070".parse().unwrap());
        Flow { transport: Transport::Udp, local, remote, tls: TlsRequirement::default() }
    }

    fn record(traces: &mut Traces, call: Option<CallId>, message: &[u8]) {
        traces.record(1, Direction::In, &flow(), call, message);
    }

    fn reader(traces: &mut Traces, call: Option<CallId>) -> BufReader<Socket> {
        let socket = Socket::from(traces.begin(call).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        BufReader::new(socket)
    }

    async fn next(reader: BufReader<Socket>) -> (BufReader<Socket>, serde_json::Value) {
        let read = tokio::task::spawn_blocking(move || {
            let (mut reader, mut line) = (reader, String::new());
            reader.read_line(&mut line).unwrap();
            (reader, serde_json::from_str(&line).unwrap())
        });
        read.await.unwrap()
    }

    #[tokio::test]
    async fn a_reader_of_one_call_hears_of_no_other() {
        let mut traces = Traces::default();
        let (one, all) = (reader(&mut traces, Some(CallId(2))), reader(&mut traces, None));
        record(&mut traces, Some(CallId(1)), b"OPTIONS sip:a SIP/2.0\r\n\r\n");
        record(&mut traces, Some(CallId(2)), b"OPTIONS sip:b SIP/2.0\r\nX-\xe9: 1\r\n\r\n\xe9");
        let (_, told) = next(one).await;
        assert_eq!(
            told,
            json!({
                "time": 1, "direction": "in", "transport": "UDP", "local": "192.0.2.1:5060",
                "remote": "192.0.2.2:5070", "call": 2, "encoding": "utf-8",
                "text": "OPTIONS sip:b SIP/2.0\r\n***\r\n\r\n*"
            })
        );
        assert_eq!(next(all).await.1["call"], 1);
    }

    #[tokio::test]
    async fn bytes_that_are_no_utf_8_can_be_got_back() {
        let mut traces = Traces::default();
        let reader = reader(&mut traces, None);
        record(&mut traces, None, b"OPTIONS sip:b SIP/2.0\r\nSubject: \xe9\r\n\r\n");
        let (_, told) = next(reader).await;
        assert_eq!(
            (&told["encoding"], &told["text"]),
            (&json!("latin-1"), &json!("OPTIONS sip:b SIP/2.0\r\nSubject: é\r\n\r\n"))
        );
    }

    #[tokio::test]
    async fn a_slow_reader_loses_records_and_is_told_how_many() {
        const SENT: u64 = 4000;
        let mut traces = Traces::default();
        let mut reader = reader(&mut traces, None);
        let message = format!("OPTIONS sip:a SIP/2.0\r\nSubject: {}\r\n\r\n", "x".repeat(1000));
        for _ in 0..SENT {
            record(&mut traces, None, message.as_bytes());
        }
        let queued = traces.readers[0].waiting.load(Ordering::Relaxed);
        assert!(queued <= LONGEST_QUEUE, "{queued}");
        let (mut shown, mut lost) = (0, 0);
        while lost == 0 {
            let told;
            (reader, told) = next(reader).await;
            match told["lost"].as_u64() {
                Some(number) => lost = number,
                None => shown += 1,
            }
            // Room was made: the next record carries the number.
            record(&mut traces, None, message.as_bytes());
        }
        assert!(
            shown > 0 && lost > SENT / 2 && lost <= SENT + shown,
            "{lost} of {SENT} are lost, {shown} shown"
        );
    }

    #[tokio::test]
    async fn readers_that_leave_make_room_for_others() {
        let mut traces = Traces::default();
        let readers: Vec<_> = (0..MOST).map(|_| reader(&mut traces, None)).collect();
        assert!(matches!(traces.begin(None), Err(TraceError::TooMany(MOST))));
        drop(readers);
        let free = async {
            while traces.begin(None).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_reader_writes_changes_nothing() {
        use std::io::Write;
        let mut traces = Traces::default();
        let mut reader = reader(&mut traces, None);
        reader.get_mut().write_all(&[0; 1000]).unwrap();
        record(&mut traces, None, b"OPTIONS sip:b SIP/2.0\r\n\r\n");
        assert_eq!(next(reader).await.1["time"], 1);
        drop(traces);
    }
}
