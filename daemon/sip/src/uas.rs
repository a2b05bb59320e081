//! The user agent server's general behaviour (RFC 3261 section 8.2): what is refused before any session sees it.

use crate::core::{ALLOW, Core, SDP};
use crate::grammar::MAX_LIST;
use crate::headers::name;
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
    if !matches!(&request.uri, Uri::Sip(uri) if !uri.secure) {
        return Some(core.response(request, StatusCode::UNSUPPORTED_URI_SCHEME));
    }
    let supported = core.supported();
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
    if matches!(request.method, Method::Invite | Method::Prack | Method::Update) && !is_readable(request) {
        let mut response = core.response(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        response.headers.push("Accept", SDP);
        response.headers.push("Accept-Encoding", "identity");
        return Some(response);
    }
    None
}

/// The body is SDP, or may be passed over (RFC 3261 section 8.2.3).
fn is_readable(request: &Request) -> bool {
    if request.body.is_empty() {
        return true;
    }
    let optional = request.headers.get("Content-Disposition").is_some_and(|disposition| {
        let mut parameters = disposition.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
        parameters.any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("handling") && value.trim().eq_ignore_ascii_case("optional")
        })
    });
    let encoded = request
        .headers
        .tokens("Content-Encoding")
        .iter()
        .any(|coding| !coding.eq_ignore_ascii_case("identity"));
    let is_sdp = request.headers.content_type().is_none_or(|content_type| content_type == SDP);
    optional || (is_sdp && !encoded)
}

/// What we can do (RFC 3261 section 11.2).
pub(crate) fn options(core: &mut Core, request: &Request) -> Response {
    let mut response = core.response(request, StatusCode::OK);
    response.headers.push(name::ALLOW, ALLOW);
    response.headers.push("Accept", SDP);
    response.headers.push("Accept-Encoding", "identity");
    response.headers.push("Accept-Language", "en");
    response.headers.push(name::SUPPORTED, core.supported());
    response
}
