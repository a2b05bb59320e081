//! The answer to a request that cannot be read: whatever can still be read of it is copied.

use super::head::{Fields, is_call_id};
use super::{Fault, MAX_VIAS};
use crate::grammar::{self, Scanner};
use crate::headers::{CSeq, Headers, Via, name};
use crate::message::{Method, Response, StatusCode};
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// A response that says `fault`; `None` when it has no way back, or the request is an ACK, which is never answered
/// (RFC 3261 section 17).
///
/// The way back is the topmost Via. The peer finds its transaction by that and the method in CSeq (section 17.1.3),
/// so everything else may be missing from the request: it then names nobody (section 8.1.1.3's `anonymous.invalid`),
/// CSeq counts 0, and Call-ID is left out.
pub(super) fn to(method: &Method, fields: &Fields<'_>, fault: &Fault) -> Option<Response> {
    if *method == Method::Ack {
        return None;
    }
    let via = readable_vias(fields);
    if via.is_empty() {
        return None;
    }
    let first = |name| fields.all(name).next();
    let cseq = first(name::CSEQ).and_then(|value| value.parse().ok());
    // RFC 3261 section 21.4.1: the reason phrase of a 400 says what is wrong.
    let reason = match fault.status {
        StatusCode::BAD_REQUEST => fault.sentence(),
        status => status.reason().to_owned(),
    };
    Some(Response {
        status: fault.status,
        reason,
        via,
        from: readable_address(first(name::FROM).unwrap_or_default()),
        to: readable_address(first(name::TO).unwrap_or_default()),
        call_id: first(name::CALL_ID).filter(|value| is_call_id(value)).unwrap_or_default().to_owned(),
        cseq: cseq.unwrap_or(CSeq { seq: 0, method: method.clone() }),
        headers: Headers::default(),
        body: Vec::new(),
    })
}

/// The Via values from the topmost down to the first that cannot be read, of that what can.
fn readable_vias(fields: &Fields<'_>) -> Vec<Via> {
    let mut vias = Vec::new();
    for value in fields.all(name::VIA) {
        let mut scanner = Scanner::new(value);
        loop {
            let Ok((via, fault)) = Via::read_partly(&mut scanner) else { return vias };
            vias.push(via);
            if fault.is_some() || vias.len() == MAX_VIAS {
                return vias;
            }
            if !scanner.eat_separator(',') {
                break;
            }
        }
    }
    vias
}

/// The address, or of one that cannot be read the URI in the last angle brackets and the tag.
fn readable_address(text: &str) -> NameAddr {
    if let Ok(address) = text.parse() {
        return address;
    }
    let (before, behind) = text.rsplit_once('>').unwrap_or(("", text));
    let uri = before.rsplit_once('<').and_then(|(_, uri)| uri.trim_matches(grammar::is_white).parse().ok());
    let mut address = NameAddr::new(uri.unwrap_or_else(nobody));
    let tag = behind.split(';').filter_map(|param| param.split_once('=')).find_map(|(name, value)| {
        let (name, value) = (name.trim_matches(grammar::is_white), value.trim_matches(grammar::is_white));
        (name.eq_ignore_ascii_case("tag") && grammar::is_token(value)).then_some(value)
    });
    if let Some(tag) = tag {
        address.params.set("tag", Some(tag));
    }
    address
}

fn nobody() -> Uri {
    Uri::Sip(SipUri::new(Some("anonymous"), Host::Name("anonymous.invalid".to_owned()), None))
}
