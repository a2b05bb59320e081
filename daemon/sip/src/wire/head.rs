//! The head of a message: its lines taken apart, unfolded and decoded, and the header fields that every message has.
//! A fault in one field does not keep the others from being read, for a request may have to be answered.

use std::borrow::Cow;

use super::{Fault, MAX_FIELD, MAX_FIELDS, MAX_START_LINE, MAX_VIAS};
use crate::grammar::{self, Scanner};
use crate::headers::{CSeq, HeaderError, Headers, Via, long_name, name};
use crate::message::{Method, StatusCode};
use crate::uri::{NameAddr, UriError};

/// Header fields that a message type of ours holds as typed values; [`Headers`] holds the others.
const CARRIED: [&str; 6] = [name::VIA, name::FROM, name::TO, name::CALL_ID, name::CSEQ, name::CONTENT_LENGTH];

/// Is this header field held as a typed value by requests (or by responses)?
pub(super) fn is_carried(field: &str, in_request: bool) -> bool {
    CARRIED.iter().any(|carried| carried.eq_ignore_ascii_case(field))
        || (in_request && field.eq_ignore_ascii_case(name::MAX_FORWARDS))
}

/// Start line and header fields.
pub(super) enum Head<'a> {
    /// `start` is what follows the method and its space.
    Request { method: Method, start: String, fields: Fields<'a> },
    /// `start` is the status line.
    Response { start: String, fields: Fields<'a> },
}

impl<'a> Head<'a> {
    /// The head, and the bytes behind its empty line; `None` when there are only line ends, which may come before a
    /// message (RFC 3261 section 7.5) or as keep-alive.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Fault> {
        let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        let mut lines = Lines { rest: bytes.get(begin..).unwrap_or_default() };
        let Some((start, _)) = lines.next() else { return Ok(None) };
        if start.len() > MAX_START_LINE {
            return Err(Fault::bad("the start line is too long"));
        }
        if start.contains(&b'\r') {
            return Err(Fault::bad("the start line holds a lone CR"));
        }
        let start = decode(Cow::Borrowed(start));
        if begins_version(&start) {
            let fields = Fields::read(&mut lines);
            return Ok(Some((Head::Response { start: start.into_owned(), fields }, lines.rest)));
        }
        // A line is a request's when its first word is a method and its last a version, however wrong the rest is.
        let (method, start) = start.split_once(' ').unwrap_or((&start, ""));
        match Method::new(method) {
            Some(method) if begins_version(last_word(start)) => {
                let fields = Fields::read(&mut lines);
                Ok(Some((Head::Request { method, start: start.to_owned(), fields }, lines.rest)))
            }
            _ => Err(Fault::bad("this is no SIP message")),
        }
    }
}

fn begins_version(text: &str) -> bool {
    text.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("SIP/"))
}

/// The last word of a start line, whatever the white space around it.
pub(super) fn last_word(line: &str) -> &str {
    let line = line.trim_matches(grammar::is_white);
    line.rsplit(grammar::is_white).next().unwrap_or_default()
}

/// Takes lines off, each ended by CR LF or, as some peers do it, by LF alone; a line without an end is the last.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next line without its end, and whether it had one.
    fn next(&mut self) -> Option<(&'a [u8], bool)> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return Some((std::mem::take(&mut self.rest), false));
        };
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Some((line.strip_suffix(b"\r").unwrap_or(line), true))
    }

    /// The next line if it continues the one before it (RFC 3261 section 7.3.1), without its leading white space.
    fn continuation(&mut self) -> Option<&'a [u8]> {
        if !self.rest.first().is_some_and(|byte| is_white(*byte)) {
            return None;
        }
        self.next().map(|(line, _)| trim(line))
    }
}

/// The header fields of a message.
pub(super) struct Fields<'a> {
    fields: Vec<Field<'a>>,
    /// The first thing that is wrong with the fields as such.
    fault: Option<Fault>,
    /// There are more than are kept.
    cut: bool,
}

struct Field<'a> {
    /// Long name.
    name: &'a str,
    value: Cow<'a, str>,
}

impl<'a> Fields<'a> {
    /// Reads fields up to the empty line.
    fn read(lines: &mut Lines<'a>) -> Self {
        let mut fields = Self { fields: Vec::new(), fault: None, cut: false };
        loop {
            match lines.next() {
                None => {
                    fields.note(Fault::bad("no empty line ends the header fields"));
                    break;
                }
                Some((b"", true)) => break,
                Some((line, _)) => match read_field(line, lines) {
                    Ok(_) if fields.fields.len() == MAX_FIELDS => {
                        fields.cut = true;
                        fields.note(Fault::new(
                            StatusCode::MESSAGE_TOO_LARGE,
                            "there are too many header fields",
                        ));
                    }
                    Ok(field) => fields.fields.push(field),
                    Err(fault) => fields.note(fault),
                },
            }
        }
        fields
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Are all lines fields, within the limits?
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// There are more fields than are kept.
    pub(super) fn are_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.as_ref())
    }

    /// The value of a field that may stand but once.
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Fault::in_field(name, "it stands more than once")),
        }
    }

    fn required(&self, name: &'static str) -> Result<&str, Fault> {
        self.single(name)?.ok_or(Fault::in_field(name, "it is missing"))
    }

    pub(super) fn vias(&self) -> Result<Vec<Via>, Fault> {
        let mut vias = Vec::new();
        for value in self.all(name::VIA) {
            Scanner::new(value)
                .list(&mut vias, MAX_VIAS, Via::read)
                .map_err(|why| Fault::in_field(name::VIA, why))?;
        }
        if vias.is_empty() { Err(Fault::in_field(name::VIA, "it is missing")) } else { Ok(vias) }
    }

    pub(super) fn address(&self, name: &'static str) -> Result<NameAddr, Fault> {
        self.required(name)?.parse().map_err(|UriError(why)| Fault::in_field(name, why))
    }

    pub(super) fn call_id(&self) -> Result<String, Fault> {
        let value = self.required(name::CALL_ID)?;
        if is_call_id(value) {
            Ok(value.to_owned())
        } else {
            Err(Fault::in_field(name::CALL_ID, "it is no word of visible ASCII characters"))
        }
    }

    pub(super) fn cseq(&self) -> Result<CSeq, Fault> {
        self.required(name::CSEQ)?.parse().map_err(|HeaderError { name, why }| Fault::in_field(name, why))
    }

    /// What of `rest` is the body: all of it where Content-Length is missing, as it may be in a datagram; bytes
    /// behind the body are ignored (RFC 3261 section 18.3).
    pub(super) fn body<'b>(&self, rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        // Of two kinds, nobody knows which is meant, whether there is a length beside them or not.
        self.single(name::CONTENT_TYPE)?;
        match self.content_length()? {
            None => Ok(rest),
            Some(length) if self.is_rewritten(length, rest)? => Ok(rest),
            Some(length) => {
                rest.get(..length).ok_or(Fault::in_field(name::CONTENT_LENGTH, "the body is shorter"))
            }
        }
    }

    /// A router's SIP ALG has written other addresses into a session description and left its length as it was: by what
    /// Content-Length says it would end in mid-line, or behind its end, and as it came it ends as it should. On a stream,
    /// where the length alone tells what comes next, both are always the same.
    fn is_rewritten(&self, length: usize, rest: &[u8]) -> Result<bool, Fault> {
        let described = self.single(name::CONTENT_TYPE)?.is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default();
            kind.trim_matches(grammar::is_white).eq_ignore_ascii_case("application/sdp")
        });
        // A whole one, with the media whose place it was about.
        let whole = rest.windows(3).any(|window| window == b"\nm=");
        let ends_in_mid_line = rest.get(..length).is_none_or(|body| !body.ends_with(b"\n"));
        Ok(described
            && length > 0
            && length.abs_diff(rest.len()) <= MAX_SLIP
            && whole
            && ends_in_mid_line
            && rest.ends_with(b"\n"))
    }

    /// What Content-Length says, in bytes.
    pub(super) fn content_length(&self) -> Result<Option<usize>, Fault> {
        let Some(value) = self.single(name::CONTENT_LENGTH)? else { return Ok(None) };
        let length = grammar::number(value, u32::MAX).and_then(|length| usize::try_from(length).ok());
        length.map(Some).ok_or(Fault::in_field(name::CONTENT_LENGTH, "it is no length"))
    }

    /// The fields that are not held as typed values.
    pub(super) fn others(&self, in_request: bool) -> Headers {
        let mut headers = Headers::default();
        for field in self.fields.iter().filter(|field| !is_carried(field.name, in_request)) {
            headers.push(field.name, field.value.as_ref());
        }
        headers
    }
}

/// By how much a session description may differ from its Content-Length: three addresses and ports, of one digit each
/// in place of the longest.
const MAX_SLIP: usize = 64;

/// One visible word: RFC 3261's callid without its rule about `@`.
pub(super) fn is_call_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

/// One field, from its first line and those that continue it.
fn read_field<'a>(line: &'a [u8], lines: &mut Lines<'a>) -> Result<Field<'a>, Fault> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = colon.and_then(|colon| line.split_at_checked(colon)).unwrap_or((line, b""));
    let mut value = Cow::Borrowed(trim(value.get(1..).unwrap_or_default()));
    let mut length = line.len();
    while let Some(more) = lines.continuation() {
        length += more.len() + 1;
        if length <= MAX_FIELD && !more.is_empty() {
            if !value.is_empty() {
                value.to_mut().push(b' ');
            }
            value.to_mut().extend_from_slice(more);
        }
    }
    if length > MAX_FIELD {
        return Err(Fault::new(StatusCode::MESSAGE_TOO_LARGE, "a header field is too long"));
    }
    // White space before the colon is HCOLON's; at the beginning of the first field it is a fold of the start line.
    let name = trim_end(name);
    match std::str::from_utf8(name) {
        Ok(name) if colon.is_some() && grammar::is_token(name) => {
            if value.contains(&b'\r') {
                return Err(Fault::bad("a header field holds a lone CR"));
            }
            Ok(Field { name: long_name(name), value: decode(value) })
        }
        _ => Err(Fault::bad("a line is no header field")),
    }
}

/// UTF-8, else Latin-1. NUL, which only an escape in a quoted string may hold, becomes U+FFFD: no text of a message
/// can end a C string.
fn decode(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    let text = match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| latin1(bytes)),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|e| latin1(e.as_bytes())),
    };
    let text = text.unwrap_or_else(Cow::Owned);
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn is_white(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes {
        if !is_white(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = trim_end(bytes);
    while let [first, rest @ ..] = bytes {
        if !is_white(*first) {
            break;
        }
        bytes = rest;
    }
    bytes
}
