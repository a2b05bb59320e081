//! Bytes to messages and back (RFC 3261 section 7): hard limits, unfolding, compact forms, strict Content-Length.
//!
//! A message is read in three steps, so that a stream can be framed by the first two: `head` splits start line,
//! header fields and what follows; Content-Length says how much of that is the body; the rest here makes a
//! [`Message`] of the parts. `reply` makes the answer to a request that is none.

mod head;
mod reply;
pub mod stream;
mod write;

pub use crate::grammar::{MAX_LIST, MAX_PARAMS};
pub use crate::uri::MAX_URI;
pub use write::write;

use crate::grammar;
use crate::headers::name;
use crate::message::{Message, Method, Request, Response, StatusCode};
use crate::uri::{Uri, UriError};
use head::{Fields, Head};

/// Largest message read, in bytes.
pub const MAX_MESSAGE: usize = 65_535;
/// Longest start line read, in bytes.
pub const MAX_START_LINE: usize = 8_192;
/// Most header fields of one message.
pub const MAX_FIELDS: usize = 256;
/// Longest header field read, in bytes, with its name and all its folded lines.
pub const MAX_FIELD: usize = 16_384;
/// Most Via values of one message: as many hops as the usual Max-Forwards allows, and ours.
pub const MAX_VIAS: usize = 71;

/// Max-Forwards of a request that has none (RFC 3261 section 16.6 step 3).
const DEFAULT_MAX_FORWARDS: u8 = 70;

/// Why bytes are no SIP message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what}")]
pub struct ReadError {
    /// One sentence for the log.
    pub what: String,
    /// What to answer where the bytes were a request that can be answered: 400, 505 (version), 414 (Request-URI too
    /// long) or 513 (a limit of this module). It has no To tag yet.
    pub reply: Option<Box<Response>>,
}

/// What is wrong with a message, and the status that says so where it is a request.
#[derive(Clone, Debug)]
struct Fault {
    status: StatusCode,
    /// The header field at fault.
    field: Option<&'static str>,
    why: &'static str,
}

impl Fault {
    fn new(status: StatusCode, why: &'static str) -> Self {
        Self { status, field: None, why }
    }

    fn bad(why: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    fn in_field(field: &'static str, why: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, field: Some(field), why }
    }

    fn sentence(&self) -> String {
        match self.field {
            Some(field) => format!("{field}: {}", self.why),
            None => self.why.to_owned(),
        }
    }
}

/// How many bytes longer than what cannot be read its reply may be: bytes that are no UTF-8 grow when they are repeated,
/// and whoever forges a source address must not send somebody more by us than he has sent himself.
const MOST_ADDED: usize = 500;

/// Reads one datagram. `Ok(None)` is a keep-alive (only CR LF, or empty).
///
/// # Errors
/// Whatever is no message. The limits are constants of this module.
pub fn read_datagram(bytes: &[u8]) -> Result<Option<Message>, ReadError> {
    let unanswered = |fault: Fault| ReadError { what: fault.sentence(), reply: None };
    if bytes.len() > MAX_MESSAGE {
        return Err(unanswered(Fault::bad("the message is too long")));
    }
    let Some((head, rest)) = Head::read(bytes).map_err(unanswered)? else { return Ok(None) };
    match head {
        Head::Response { start, fields } => {
            read_response(&start, &fields, rest).map(|r| Some(Message::Response(r))).map_err(unanswered)
        }
        Head::Request { method, start, fields } => {
            match read_request(method.clone(), &start, &fields, rest) {
                Ok(request) => Ok(Some(Message::Request(request))),
                Err(fault) => {
                    let reply = reply::to(&method, &fields, &fault);
                    let written = |reply: &Response| write(&Message::Response(reply.clone())).len();
                    let reply = reply.filter(|reply| written(reply) <= bytes.len() + MOST_ADDED);
                    Err(ReadError { what: fault.sentence(), reply: reply.map(Box::new) })
                }
            }
        }
    }
}

/// `start` is the request line behind its method and space.
fn read_request(method: Method, start: &str, fields: &Fields<'_>, rest: &[u8]) -> Result<Request, Fault> {
    let version = head::last_word(start);
    read_version(version)?;
    fields.check()?;
    let uri = match start.split_once(' ') {
        Some((uri, behind)) if behind == version => read_request_uri(uri)?,
        // RFC 3261 section 7.1: single spaces, none at the end of the line.
        _ => return Err(Fault::bad("the white space of the request line is wrong")),
    };
    let via = fields.vias()?;
    let from = fields.address(name::FROM)?;
    let to = fields.address(name::TO)?;
    let call_id = fields.call_id()?;
    let cseq = fields.cseq()?;
    if cseq.method != method {
        return Err(Fault::in_field(name::CSEQ, "its method is not the request's"));
    }
    let max_forwards = match fields.single(name::MAX_FORWARDS)? {
        None => DEFAULT_MAX_FORWARDS,
        Some(value) => grammar::number(value, u32::from(u8::MAX))
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(Fault::in_field(name::MAX_FORWARDS, "it is no number from 0 to 255"))?,
    };
    let body = fields.body(rest)?.to_vec();
    let headers = fields.others(true);
    Ok(Request { method, uri, via, from, to, call_id, cseq: cseq.seq, max_forwards, headers, body })
}

/// `SIP/2.0`, in whatever case (RFC 3261 section 7.1).
fn read_version(version: &str) -> Result<(), Fault> {
    if version.eq_ignore_ascii_case("SIP/2.0") {
        return Ok(());
    }
    let numbers = version.split_once('/').and_then(|(_, numbers)| numbers.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match numbers {
        Some((major, minor)) if is_number(major) && is_number(minor) => {
            Err(Fault::new(StatusCode::VERSION_NOT_SUPPORTED, "this is not SIP/2.0"))
        }
        _ => Err(Fault::bad("the SIP version is malformed")),
    }
}

fn read_request_uri(uri: &str) -> Result<Uri, Fault> {
    if uri.len() > MAX_URI {
        return Err(Fault::new(StatusCode::REQUEST_URI_TOO_LONG, "the Request-URI is too long"));
    }
    let uri: Uri = uri.parse().map_err(|UriError(why)| Fault::in_field("Request-URI", why))?;
    // RFC 3261 section 19.1.1: they would become header fields of ours.
    match &uri {
        Uri::Sip(sip) if sip.headers.is_some() => Err(Fault::bad("the Request-URI has headers")),
        _ => Ok(uri),
    }
}

/// The whole status line: `SIP-Version SP Status-Code SP Reason-Phrase`.
fn read_response(start: &str, fields: &Fields<'_>, rest: &[u8]) -> Result<Response, Fault> {
    let (version, rest_of_line) = start.split_once(' ').unwrap_or((start, ""));
    read_version(version)?;
    // Some peers leave out the space with the reason phrase.
    let (code, reason) = rest_of_line.split_once(' ').unwrap_or((rest_of_line, ""));
    let status = Some(code)
        .filter(|code| code.len() == 3)
        .and_then(|code| grammar::number(code, 699))
        .and_then(|code| u16::try_from(code).ok())
        .and_then(StatusCode::new)
        .ok_or(Fault::bad("the status code is no number from 100 to 699"))?;
    fields.check()?;
    Ok(Response {
        status,
        reason: reason.trim_matches(grammar::is_white).to_owned(),
        via: fields.vias()?,
        from: fields.address(name::FROM)?,
        to: fields.address(name::TO)?,
        call_id: fields.call_id()?,
        cseq: fields.cseq()?,
        body: fields.body(rest)?.to_vec(),
        headers: fields.others(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:bob@example.org SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
        From: <sip:alice@example.org>;tag=1\r\n\
        To: <sip:bob@example.org>\r\n\
        Call-ID: c1\r\n\
        CSeq: 7 OPTIONS\r\n\
        Max-Forwards: 70\r\n";

    const RINGING: &str = "SIP/2.0 180 Ringing\r\n\
        v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1,SIP/2.0/TCP b\r\n\
        f: <sip:a@example.org>;tag=1\r\n\
        t: <sip:b@example.org>;tag=2\r\n\
        i: c1\r\n\
        CSeq: 7 INVITE\r\n";

    /// `head` with more lines, its empty line and `body`.
    fn read(head: &str, more: &str, body: &str) -> Result<Option<Message>, ReadError> {
        read_datagram(format!("{head}{more}\r\n{body}").as_bytes())
    }

    fn request(head: &str, more: &str, body: &str) -> Request {
        match read(head, more, body) {
            Ok(Some(Message::Request(request))) => request,
            other => panic!("{other:?}"),
        }
    }

    fn response(bytes: &[u8]) -> Response {
        match read_datagram(bytes) {
            Ok(Some(Message::Response(response))) => response,
            other => panic!("{other:?}"),
        }
    }

    /// The status and reason of the reply to what cannot be read.
    fn refused(head: &str, more: &str, body: &str) -> (u16, String) {
        let reply = read(head, more, body).expect_err(more).reply.expect("a reply");
        (reply.status.get(), reply.reason)
    }

    #[test]
    fn line_ends_alone_are_a_keep_alive() {
        for bytes in [&b""[..], b"\r\n", b"\r\n\r\n", b"\n"] {
            assert_eq!(read_datagram(bytes), Ok(None));
        }
        for bytes in
            [&b"\0\0\0\0"[..], b"\x80\x60rtp", b"hello world\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b" \r\n"]
        {
            assert_eq!(read_datagram(bytes).unwrap_err().reply, None);
        }
    }

    #[test]
    fn line_ends_may_come_first_and_lack_their_cr() {
        let crlf = read(OPTIONS, "", "");
        assert!(matches!(crlf, Ok(Some(Message::Request(_)))));
        assert_eq!(read_datagram(format!("\r\n\r\n{OPTIONS}\r\n").as_bytes()), crlf);
        assert_eq!(read_datagram(format!("{OPTIONS}\r\n").replace('\r', "").as_bytes()), crlf);
    }

    #[test]
    fn a_lone_cr_is_refused() {
        assert_eq!(
            refused(OPTIONS, "Subject: a\rVia: b\r\n", ""),
            (400, "a header field holds a lone CR".to_owned())
        );
        assert!(read_datagram(b"SIP/2.0 200 OK\rVia: x\r\n\r\n").is_err());
    }

    #[test]
    fn compact_forms_lists_and_folds_are_read() {
        let folded = RINGING.replace("K1,SIP", "K1\r\n\t , \r\n SIP");
        for head in [RINGING.to_owned(), folded] {
            let ringing =
                response(format!("{head}k: 100rel,\r\n  timer\r\nx: 90\r\nl: 1\r\n\r\nab").as_bytes());
            assert_eq!(ringing.via.len(), 2);
            assert_eq!(ringing.to.tag(), Some("2"));
            assert_eq!(ringing.headers.tokens("Supported"), ["100rel", "timer"]);
            assert_eq!(ringing.headers.get("Session-Expires"), Some("90"));
            assert_eq!(ringing.body, b"a");
            assert_eq!(ringing.headers.iter().count(), 2, "typed values are not among the others");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_latin_1_and_nul_is_no_text() {
        let mut bytes = RINGING.replace("Ringing", "caf\u{1}").into_bytes();
        let place = bytes.iter().position(|byte| *byte == 1).unwrap();
        bytes[place] = 0xe9;
        bytes.extend_from_slice(b"Subject: \xfcber\0\r\nOrganization: \xc3\xbc\r\n\r\n");
        let read = response(&bytes);
        assert_eq!(read.reason, "café");
        assert_eq!(read.headers.get("Subject"), Some("über\u{fffd}"));
        assert_eq!(read.headers.get("Organization"), Some("ü"));
        assert_eq!(
            read_datagram(&write(&Message::Response(read.clone()))),
            Ok(Some(Message::Response(read)))
        );
    }

    #[test]
    fn methods_of_other_case_are_other_methods() {
        let head = OPTIONS.replace("OPTIONS", "options");
        assert_eq!(request(&head, "", "").method, Method::Other("options".into()));
        assert_eq!(request(&OPTIONS.replace("SIP/2.0\r", "sip/2.0\r"), "", "").method, Method::Options);
    }

    #[test]
    fn content_length_rules_the_body() {
        assert_eq!(request(OPTIONS, "", "body").body, b"body");
        assert_eq!(request(OPTIONS, "Content-Length : 2\r\n", "body").body, b"bo");
        assert_eq!(request(OPTIONS, "L:\r\n \r\n 004\r\n", "body").body, b"body");
        for bad in ["5", "-1", "+4", "4 4", "4,4", "0x4", "", "18446744073709551620", "4294967300"] {
            let (status, reason) = refused(OPTIONS, &format!("Content-Length: {bad}\r\n"), "body");
            assert!(status == 400 && reason.starts_with("Content-Length: "), "{bad}: {reason}");
        }
        assert_eq!(refused(OPTIONS, "l: 4\r\nContent-Length: 4\r\n", "body").0, 400);
        assert!(read_datagram(format!("{RINGING}l: 5\r\n\r\nbody").as_bytes()).unwrap_err().reply.is_none());
    }

    #[test]
    fn what_every_request_needs_must_be_there_once() {
        for field in ["From", "To", "Call-ID", "CSeq"] {
            let line = OPTIONS.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
            let (status, reason) = refused(&OPTIONS.replace(&format!("{line}\r\n"), ""), "", "");
            assert_eq!((status, reason), (400, format!("{field}: it is missing")));
            let (status, reason) = refused(OPTIONS, &format!("{line}\r\n"), "");
            assert_eq!((status, reason), (400, format!("{field}: it stands more than once")));
        }
        let without_via = OPTIONS.replace("Via", "X-Via");
        assert_eq!(read(&without_via, "", "").unwrap_err().reply, None);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (from, to) in [
            ("CSeq: 7", "CSeq: 2147483648"),
            ("CSeq: 7", "CSeq: -1"),
            ("CSeq: 7 OPTIONS", "CSeq: 7 INVITE"),
            ("CSeq: 7 OPTIONS", "CSeq: 7 options"),
            ("Max-Forwards: 70", "Max-Forwards: 256"),
            ("Max-Forwards: 70", "Max-Forwards: "),
            ("Call-ID: c1", "Call-ID: c 1"),
            ("Call-ID: c1", "Call-ID: "),
            ("Call-ID: c1", "Call-ID: é"),
            ("To: <sip:bob@example.org>", "To: <sip:bob@example.org"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1,"),
            ("SIP/2.0\r", "SIP/2.0 \r"),
            ("SIP/2.0\r", "SIP/two\r"),
            ("OPTIONS sip", "OPTIONS\tsip"),
            ("From: ", "From "),
            ("From: ", " From: "),
            ("\r\nVia", "\r\n Via"),
            ("From: ", "Fr om: "),
        ] {
            let head = OPTIONS.replacen(from, to, 1);
            assert_ne!(head, OPTIONS);
            let error = read(&head, "", "").expect_err(to);
            let unanswerable = to.contains('\t') || to.contains("Via");
            assert_eq!(error.reply.map(|reply| reply.status.get()), (!unanswerable).then_some(400), "{to}");
        }
        assert_eq!(
            refused(&OPTIONS.replace("SIP/2.0\r", "SIP/3.0\r"), "", ""),
            (505, "Version Not Supported".into())
        );
        for bad in ["99", "700", "1800", "+20", "", "20x", "2 0"] {
            assert!(read_datagram(format!("{RINGING}\r\n").replace("180", bad).as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ack_is_never_answered() {
        let head = OPTIONS.replace("OPTIONS", "ACK").replace("CSeq: 7", "CSeq: x");
        assert_eq!(read(&head, "", "").unwrap_err().reply, None);
        assert!(read(&OPTIONS.replace("CSeq: 7", "CSeq: x"), "", "").unwrap_err().reply.is_some());
    }

    #[test]
    fn a_head_without_its_empty_line_is_cut() {
        let error = read_datagram(OPTIONS.as_bytes()).unwrap_err();
        assert_eq!(error.what, "no empty line ends the header fields");
        assert_eq!(error.reply.unwrap().call_id, "c1");
    }

    #[test]
    fn limits_hold() {
        let user = "u".repeat(MAX_URI);
        assert_eq!(refused(&OPTIONS.replacen("bob", &user, 1), "", "").0, 414);
        let line = "u".repeat(MAX_START_LINE);
        assert_eq!(read(&OPTIONS.replacen("bob", &line, 1), "", "").unwrap_err().reply, None);
        assert_eq!(refused(OPTIONS, &"X: 1\r\n".repeat(MAX_FIELDS), "").0, 513);
        let long = "x".repeat(MAX_FIELD - "Xx: ".len());
        assert_eq!(
            request(OPTIONS, &format!("Xx: {long}\r\n"), "").headers.get("Xx").map(str::len),
            Some(long.len())
        );
        assert_eq!(refused(OPTIONS, &format!("Xx: {long}y\r\n"), "").0, 513);
        assert_eq!(refused(OPTIONS, &format!("X: 1\r\n{}", " 1\r\n".repeat(MAX_FIELD / 2)), "").0, 513);
        let via = "v: SIP/2.0/UDP a\r\n";
        assert_eq!(request(OPTIONS, &via.repeat(MAX_VIAS - 1), "").via.len(), MAX_VIAS);
        assert_eq!(refused(OPTIONS, &via.repeat(MAX_VIAS), ""), (400, "Via: too many values".to_owned()));
        assert!(read(OPTIONS, "", &"b".repeat(MAX_MESSAGE)).is_err());
    }

    #[test]
    fn messages_are_written_in_one_order() {
        let mut options = request(OPTIONS, "Accept: application/sdp\r\n", "body");
        // What a message holds as typed values cannot be said twice.
        options.headers.push("v", "SIP/2.0/UDP evil");
        options.headers.push("Content-Length", "0");
        let written = String::from_utf8(write(&Message::Request(options.clone()))).unwrap();
        assert_eq!(written, format!("{OPTIONS}Accept: application/sdp\r\nContent-Length: 4\r\n\r\nbody"));
        let mut ok = options.response(StatusCode::OK);
        ok.reason.push_str("\r\nVia: x");
        let written = String::from_utf8(write(&Message::Response(ok))).unwrap();
        assert!(
            written.starts_with("SIP/2.0 200 OK  Via: x\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;"),
            "{written}"
        );
        assert!(written.ends_with("CSeq: 7 OPTIONS\r\nContent-Length: 0\r\n\r\n"), "{written}");
    }

    #[test]
    fn a_request_uri_loses_its_headers() {
        let mut options = request(OPTIONS, "", "");
        options.uri = "sip:bob@example.org?Route=%3Csip:x%3E".parse().unwrap();
        assert!(write(&Message::Request(options)).starts_with(b"OPTIONS sip:bob@example.org SIP/2.0\r\n"));
    }

    #[test]
    fn what_cannot_be_read_is_not_answered_with_much_more() {
        // Bytes that are no UTF-8 are repeated as Latin-1 in UTF-8: two for one.
        let answered = |count: usize| {
            let (head, tail) = OPTIONS.split_once(";tag=1").unwrap();
            let mut bytes = format!("{head};tag=1;x=\"").into_bytes();
            bytes.extend(std::iter::repeat_n(0xe9, count));
            bytes.extend(format!("\"{}\r\n", tail.replace("CSeq: 7", "CSeq: x")).bytes());
            read_datagram(&bytes).unwrap_err().reply.is_some()
        };
        assert!(answered(100));
        assert!(!answered(1000));
    }
}
