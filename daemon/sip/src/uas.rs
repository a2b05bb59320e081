//! The user agent server's general behaviour (RFC 3261 section 8.2): what is refused before any session sees it.

use crate::body;
use crate::core::{ACCEPT, ALLOW, Core, SDP};
use crate::grammar::MAX_LIST;
use crate::headers::{Headers, name};
use crate::message::{Method, Request, Response, StatusCode};
use crate::uri::Uri;

/// The response to a request that we do not take part in, in or outside of a dialog (RFC 3261 sections 8.2.1 to 8.2.3).
pub(crate) fn refusal(core: &mut Core, request: &Request) -> Option<Response> {
    let status = match &request.method {
        Method::Invite | Method::Ack | Method::Bye | Method::Cancel | Method::Options | Method::Info => None,
        Method::Prack | Method::Update => None,
        // There is no subscription of ours that it could belong to (RFC 6665 section 4.1.3).
        Method::Notify => {
            return Some(core.response(request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST));
        }
        Method::Other(_) => Some(StatusCode::NOT_IMPLEMENTED),
        _ => Some(StatusCode::METHOD_NOT_ALLOWED),
    };
    if let Some(status) = status {
        let mut response = core.response(request, status);
        response.headers.push(name::ALLOW, ALLOW);
        return Some(response);
    }
    if !matches!(&request.uri, Uri::Sip(_)) {
        return Some(core.response(request, StatusCode::UNSUPPORTED_URI_SCHEME));
    }
    // Whoever requires it may as well offer everything at once: it is known, whether or not it is made use of.
    let supported = core.supported(true);
    let is_supported = |tag: &str| supported.split(", ").any(|known| known.eq_ignore_ascii_case(tag));
    let mut unsupported = request.headers.tokens(name::REQUIRE);
    unsupported.retain(|tag| !is_supported(tag));
    // The commas that we write are longer: the answer would grow with a list that nobody has a use for.
    unsupported.truncate(MAX_LIST);
    if !unsupported.is_empty() {
        let unsupported = unsupported.join(", ");
        let mut response = core.response(request, StatusCode::BAD_EXTENSION);
        response.headers.push(name::UNSUPPORTED, unsupported);
        return Some(response);
    }
    if matches!(request.method, Method::Invite | Method::Prack | Method::Update) {
        return body_refusal(core, request).or_else(|| {
            let acceptable = accepts_sdp(&request.headers);
            (!acceptable).then(|| core.response(request, StatusCode::NOT_ACCEPTABLE))
        });
    }
    None
}

/// A body that must be understood and is not, or one that is broken (RFC 3261 section 8.2.3).
fn body_refusal(core: &mut Core, request: &Request) -> Option<Response> {
    let refusal = body::session_description(&request.headers, &request.body).err()?;
    let mut response = core.response(request, refusal.status);
    if refusal.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers.push(name::ACCEPT, ACCEPT);
        response.headers.push("Accept-Encoding", "identity");
    } else {
        response.reason = refusal.why.to_owned();
    }
    Some(response)
}

/// Whether the peer takes a session description in our answer. An empty Accept takes nothing, an absent one takes it
/// (RFC 3261 section 20.1).
fn accepts_sdp(headers: &Headers) -> bool {
    let ranges = headers.tokens(name::ACCEPT);
    headers.get(name::ACCEPT).is_none()
        || ranges.iter().any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().replace([' ', '\t'], "").to_ascii_lowercase();
            let refused = parts.any(|part| {
                part.split_once('=').is_some_and(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0)
                })
            });
            matches!(media.as_str(), "*/*" | "application/*" | SDP) && !refused
        })
}

/// What we can do (RFC 3261 section 11.2).
pub(crate) fn options(core: &mut Core, request: &Request, trickle: bool) -> Response {
    let mut response = core.response(request, StatusCode::OK);
    response.headers.push(name::ALLOW, ALLOW);
    response.headers.push(name::ACCEPT, ACCEPT);
    response.headers.push("Accept-Encoding", "identity");
    response.headers.push("Accept-Language", "en");
    response.headers.push(name::SUPPORTED, core.supported(trickle));
    response
}
