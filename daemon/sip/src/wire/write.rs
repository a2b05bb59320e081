//! Messages to bytes. Every part is made safe where it is written: whatever a value holds, it stays in its place.

use std::fmt::Write as _;

use super::head::is_carried;
use crate::grammar;
use crate::headers::{CSeq, Headers, Via, name};
use crate::message::{Message, Method};
use crate::uri::{NameAddr, Uri};

/// Writes a message with its Content-Length. No value can bring CR or LF onto the wire outside of folding and body.
///
/// Header fields that the message holds as typed values, Content-Length among them, are not taken from its `headers`;
/// an empty Call-ID is left out, and so are the headers of a Request-URI (RFC 3261 section 19.1.1).
pub fn write(message: &Message) -> Vec<u8> {
    let mut out = String::with_capacity(1024);
    // Writing into a String cannot fail.
    let body = match message {
        Message::Request(request) => {
            let method = token(&request.method);
            let _ = write!(out, "{method} {} SIP/2.0\r\n", request_uri(&request.uri));
            let cseq = CSeq { seq: request.cseq, method: request.method.clone() };
            write_common(&request.via, &request.from, &request.to, &request.call_id, &cseq, &mut out);
            field(name::MAX_FORWARDS, &request.max_forwards.to_string(), &mut out);
            write_headers(&request.headers, true, &mut out);
            &request.body
        }
        Message::Response(response) => {
            let reason = grammar::one_line(&response.reason);
            let _ = write!(out, "SIP/2.0 {} {reason}\r\n", response.status);
            write_common(
                &response.via,
                &response.from,
                &response.to,
                &response.call_id,
                &response.cseq,
                &mut out,
            );
            write_headers(&response.headers, false, &mut out);
            &response.body
        }
    };
    field(name::CONTENT_LENGTH, &body.len().to_string(), &mut out);
    out.push_str("\r\n");
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn write_common(via: &[Via], from: &NameAddr, to: &NameAddr, call_id: &str, cseq: &CSeq, out: &mut String) {
    for via in via {
        field(name::VIA, &via.to_string(), out);
    }
    field(name::FROM, &from.to_string(), out);
    field(name::TO, &to.to_string(), out);
    let call_id = call_id.replace(|c: char| !c.is_ascii_graphic(), "");
    if !call_id.is_empty() {
        field(name::CALL_ID, &call_id, out);
    }
    field(name::CSEQ, &format!("{} {}", cseq.seq, token(&cseq.method)), out);
}

fn write_headers(headers: &Headers, in_request: bool, out: &mut String) {
    for (name, value) in headers.iter().filter(|(name, _)| !is_carried(name, in_request)) {
        field(name, value, out);
    }
}

fn field(name: &str, value: &str, out: &mut String) {
    out.push_str(name);
    out.push_str(": ");
    out.push_str(value);
    out.push_str("\r\n");
}

/// A method's name without what is no token.
fn token(method: &Method) -> String {
    method.as_str().replace(|c| !grammar::is_token_char(c), "")
}

fn request_uri(uri: &Uri) -> String {
    match uri {
        Uri::Sip(sip) if sip.headers.is_some() => {
            Uri::Sip(crate::uri::SipUri { headers: None, ..sip.clone() }).to_string()
        }
        uri => uri.to_string(),
    }
}
