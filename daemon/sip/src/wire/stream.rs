//! Messages taken off a stream one by one (RFC 3261 sections 7.5 and 18.3), with hard limits: what arrives on a
//! connection is framed here, and read as a datagram is.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

use super::head::{Fields, Head};
use super::{Fault, MAX_MESSAGE, MAX_START_LINE, reply, write};
use crate::headers::name;
use crate::message::{Message, StatusCode};
use crate::way_back;

/// Longest head of a message on a stream, in bytes: start line, header fields and the empty line.
pub const MAX_HEAD: usize = 32_768;
/// What an empty reader may keep of its memory, in bytes.
const KEPT: usize = 4_096;

/// What stands next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, to be read as [`super::read_datagram`] reads one.
    Message(Vec<u8>),
    /// The second of two line ends: the far end asks for a sign of life, and is answered with CR LF
    /// (RFC 5626 section 3.5.1).
    Ping,
    /// One line end between messages: the answer to a ping of ours (RFC 5626 section 4.4.1), or the first half of the
    /// far end's.
    Pong,
}

/// Why nothing more can be read from a stream: where a message ends is not known, so that the connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct StreamError {
    /// One sentence for the log.
    pub what: String,
    /// What to write before the connection is closed, where a request could be read that far that it can be answered:
    /// 400, or 513 where it is too large.
    pub reply: Option<Vec<u8>>,
}

/// Cuts one connection's stream into messages. It holds at most [`MAX_MESSAGE`] bytes beyond what was pushed last.
///
/// After each [`StreamReader::push`], call [`StreamReader::next`] until it has nothing.
#[derive(Debug)]
pub struct StreamReader {
    peer: SocketAddr,
    buffer: Vec<u8>,
    /// Where in `buffer` the rest begins that was not taken yet.
    begin: usize,
    stage: Stage,
}

/// What is being waited for; lengths count from `begin`.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// A message, or line ends. `odd`: their number since the last message.
    Between { odd: bool },
    /// The end of the start line, which is not among the first `seen` bytes.
    StartLine { seen: usize },
    /// The empty line, which is not among the first `seen` bytes.
    Fields { seen: usize },
    /// All of a message of this length.
    Body { length: usize },
    /// Nothing any more.
    Failed,
}

impl StreamReader {
    /// A reader for the connection from or to `peer`.
    pub fn new(peer: SocketAddr) -> Self {
        Self { peer, buffer: Vec::new(), begin: 0, stage: Stage::Between { odd: false } }
    }

    /// Bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        if matches!(self.stage, Stage::Failed) {
            return;
        }
        self.buffer.drain(..self.begin);
        self.begin = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// All that came was taken, and nothing came right behind it: a lone line end was no half of a ping, so that the next
    /// one is not the other half. (Pings are written in one piece; two answers come with a while between them.)
    pub fn pause(&mut self) {
        if let Stage::Between { odd } = &mut self.stage {
            *odd = false;
        }
    }

    /// Part of a message came, and the rest is missing: a peer that leaves it so for long is to be hung up on.
    pub fn is_half_sent(&self) -> bool {
        self.begin < self.buffer.len()
    }

    /// What stands next, if all of it came. Behind an error there is nothing any more.
    ///
    /// # Errors
    /// Where the next message ends cannot be known, or it is too large: the connection is of no more use.
    #[allow(clippy::should_implement_trait)] // an iterator that has ended goes on for nobody
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        let next = self.advance();
        if next.is_err() {
            self.stage = Stage::Failed;
            self.buffer.clear();
            self.begin = 0;
        }
        if self.begin == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
            self.begin = 0;
        }
        next
    }

    fn advance(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            let rest = self.buffer.get(self.begin..).unwrap_or_default();
            match self.stage {
                Stage::Failed => return Ok(None),
                Stage::Between { odd } => match rest {
                    [b'\n', ..] => {
                        self.begin += 1;
                        self.stage = Stage::Between { odd: !odd };
                        return Ok(Some(if odd { Frame::Ping } else { Frame::Pong }));
                    }
                    // Of CR LF; by itself it is passed over, as before a message in a datagram.
                    [b'\r', ..] => self.begin += 1,
                    [_, ..] => self.stage = Stage::StartLine { seen: 0 },
                    [] => return Ok(None),
                },
                Stage::StartLine { seen } => {
                    let end = rest.iter().skip(seen).position(|byte| *byte == b'\n').map(|at| seen + at);
                    if end.unwrap_or(rest.len()) > MAX_START_LINE + 1 {
                        return Err(unanswered(&Fault::bad("the start line is too long")));
                    }
                    let Some(end) = end else {
                        self.stage = Stage::StartLine { seen: rest.len() };
                        return Ok(None);
                    };
                    // What is no SIP is seen by its first line.
                    Head::read(rest.get(..=end).unwrap_or_default()).map_err(|fault| unanswered(&fault))?;
                    self.stage = Stage::Fields { seen: end };
                }
                Stage::Fields { seen } => {
                    let end = end_of_head(rest, seen);
                    match end {
                        Ok(length) if length <= MAX_HEAD => {
                            let length = length + self.body_length(rest.get(..length).unwrap_or_default())?;
                            self.stage = Stage::Body { length };
                        }
                        Err(seen) if rest.len() <= MAX_HEAD => {
                            self.stage = Stage::Fields { seen };
                            return Ok(None);
                        }
                        _ => {
                            let head = rest.get(..MAX_HEAD).unwrap_or_default();
                            let fault =
                                Fault::new(StatusCode::MESSAGE_TOO_LARGE, "the header fields are too long");
                            return Err(self.refuse(head, &fault));
                        }
                    }
                }
                Stage::Body { length } => {
                    let Some(message) = rest.get(..length) else { return Ok(None) };
                    let message = message.to_vec();
                    self.begin += length;
                    self.stage = Stage::Between { odd: false };
                    return Ok(Some(Frame::Message(message)));
                }
            }
        }
    }

    /// What Content-Length says of the message with this head. On a stream it must be there (RFC 3261 section 20.14).
    fn body_length(&self, head: &[u8]) -> Result<usize, StreamError> {
        let length = match Head::read(head) {
            Ok(Some((Head::Request { fields, .. } | Head::Response { fields, .. }, _))) => {
                content_length(&fields)
            }
            Ok(None) => Ok(0),
            Err(fault) => Err(fault),
        };
        match length {
            Ok(length) if head.len() + length <= MAX_MESSAGE => Ok(length),
            Ok(_) => {
                let fault = Fault {
                    status: StatusCode::MESSAGE_TOO_LARGE,
                    ..Fault::in_field(name::CONTENT_LENGTH, "the body is too long")
                };
                Err(self.refuse(head, &fault))
            }
            Err(fault) => Err(self.refuse(head, &fault)),
        }
    }

    /// An error with the answer that the request with this head deserves.
    fn refuse(&self, head: &[u8], fault: &Fault) -> StreamError {
        let response = match Head::read(head) {
            Ok(Some((Head::Request { method, fields, .. }, _))) => reply::to(&method, &fields, fault),
            _ => None,
        };
        let reply = response.map(|mut response| {
            way_back::stamp(&mut response.via, self.peer);
            if response.to.tag().is_none() {
                // Of the request, as RFC 3261 section 8.2.7 proposes where no state is kept: it names no dialog.
                let tag: String =
                    Sha256::digest(head).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                response.to.params.set("tag", Some(&tag));
            }
            write(&Message::Response(response))
        });
        StreamError { what: fault.sentence(), reply }
    }
}

fn unanswered(fault: &Fault) -> StreamError {
    StreamError { what: fault.sentence(), reply: None }
}

fn content_length(fields: &Fields<'_>) -> Result<usize, Fault> {
    // Beyond the limit of fields a second Content-Length could hide.
    if fields.are_cut() {
        return Err(Fault::new(StatusCode::MESSAGE_TOO_LARGE, "there are too many header fields"));
    }
    fields.content_length()?.ok_or(Fault::in_field(name::CONTENT_LENGTH, "a stream needs it"))
}

/// The length of the head, of which the first `seen` bytes hold no end; an error with what is seen now.
fn end_of_head(bytes: &[u8], seen: usize) -> Result<usize, usize> {
    let mut at = seen;
    loop {
        let Some(line_end) = bytes.iter().skip(at).position(|byte| *byte == b'\n').map(|found| at + found)
        else {
            return Err(bytes.len());
        };
        match bytes.get(line_end + 1..).unwrap_or_default() {
            [b'\n', ..] => return Ok(line_end + 2),
            [b'\r', b'\n', ..] => return Ok(line_end + 3),
            [] | [b'\r'] => return Err(line_end),
            _ => at = line_end + 1,
        }
    }
}
