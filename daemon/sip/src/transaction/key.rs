//! What tells transactions apart (RFC 3261 sections 17.1.3, 17.2.3 and 8.2.2.2).

use crate::headers::Via;
use crate::message::{Method, Request};

const MAGIC_COOKIE: &str = "z9hG4bK";

/// Branch and CSeq method; for sent-by see [`is_sent_by_us`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientKey {
    branch: String,
    method: String,
}

impl ClientKey {
    pub(super) fn of(via: &[Via], method: &Method) -> Self {
        let (branch, _) = top(via);
        Self { branch, method: method.as_str().to_owned() }
    }
}

/// A response is for us (RFC 3261 section 18.1.2). A SIP ALG that has written the public address into our Via does not
/// always write ours back; then the server has found what stood there to be where the request came from, and has said
/// so (RFC 3581 section 4).
pub(super) fn is_sent_by_us(ours: &[Via], theirs: &[Via]) -> bool {
    let (_, sent_by) = top(theirs);
    let translated = || {
        let params = &theirs.first()?.params;
        let (host, port) = &sent_by;
        let same_host = params.value("received").is_none_or(|received| received.eq_ignore_ascii_case(host));
        Some(same_host && params.value("rport")?.parse() == Ok(*port))
    };
    top(ours).1 == sent_by || translated() == Some(true)
}

/// A Via's host in lower case, and its port.
type SentBy = (String, u16);

fn top(via: &[Via]) -> (String, SentBy) {
    let Some(via) = via.first() else { return Default::default() };
    let host = match &via.host {
        crate::uri::Host::Name(name) => name.to_ascii_lowercase(),
        crate::uri::Host::Ip(ip) => ip.to_string(),
    };
    (via.branch().unwrap_or_default().to_owned(), (host, via.port.unwrap_or(crate::dialog::SIP_PORT)))
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerKey {
    Branch {
        branch: String,
        sent_by: SentBy,
        method: String,
    },
    /// A branch without the magic cookie is no key by itself. The To tag is left out, so that one key finds the
    /// INVITE and the ACK of its final response.
    Rfc2543 {
        branch: String,
        sent_by: SentBy,
        method: String,
        uri: String,
        call_id: String,
        from_tag: String,
        cseq: u32,
    },
}

impl ServerKey {
    /// `method` is INVITE for the ACK and the CANCEL that look for one.
    pub(super) fn of(request: &Request, method: &Method) -> Self {
        let (branch, sent_by) = top(&request.via);
        let method = method.as_str().to_owned();
        if branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE) {
            return Self::Branch { branch, sent_by, method };
        }
        Self::Rfc2543 {
            branch,
            sent_by,
            method,
            uri: request.uri.to_string(),
            call_id: request.call_id.clone(),
            from_tag: request.from.tag().unwrap_or_default().to_owned(),
            cseq: request.cseq,
        }
    }
}

/// From tag, Call-ID and CSeq.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeKey {
    call_id: String,
    from_tag: String,
    cseq: u32,
    method: String,
}

impl MergeKey {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            call_id: request.call_id.clone(),
            from_tag: request.from.tag().unwrap_or_default().to_owned(),
            cseq: request.cseq,
            method: request.method.as_str().to_owned(),
        }
    }
}
