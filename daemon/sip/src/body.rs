//! What a message's body means to a session (RFC 3261 section 8.2.3, RFC 5621): finds the session description in it,
//! alone or among other parts, and says when a body that must be understood is not.

use crate::core::SDP;
use crate::grammar::Scanner;
use crate::headers::{Headers, name};
use crate::message::StatusCode;
use crate::multipart::{self, Part};
use crate::uri::Params;

/// How deep parts may lie in parts.
const MAX_DEPTH: usize = 3;
/// Most parts of one body, all depths together.
const MAX_PARTS: usize = 32;

/// Why a body is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// 400 for one that is broken, 415 for one that would have to be understood.
    pub(crate) status: StatusCode,
    /// One sentence without the body's content.
    pub(crate) why: &'static str,
}

const UNKNOWN: Refusal = Refusal {
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    why: "a body that must be understood is no session description",
};

fn broken(why: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, why }
}

/// The session description of a message; `None` where it has none, and nothing else that must be understood.
///
/// Parts of multipart/mixed stand side by side: one is the description, and each of the others must be optional
/// (RFC 5621 section 4). Of multipart/alternative the last one that is understood counts (RFC 2046 section 5.1.4).
/// Other kinds of multipart are read as mixed ones (RFC 2046 section 5.1.7).
///
/// # Errors
/// A body that must be understood and is not, several descriptions, or a body that is broken.
pub(crate) fn session_description<'a>(
    headers: &Headers,
    body: &'a [u8],
) -> Result<Option<&'a [u8]>, Refusal> {
    find(headers, body, Unknown::Refused)
}

/// The session description of a message that can be refused no more: a response, an ACK, a request that is taken already.
/// Whatever else it holds is passed over; a call that is answered is worth more than what stands beside its description.
pub(crate) fn any_description<'a>(headers: &Headers, body: &'a [u8]) -> Option<&'a [u8]> {
    find(headers, body, Unknown::PassedOver).ok().flatten()
}

fn find<'a>(headers: &Headers, body: &'a [u8], unknown: Unknown) -> Result<Option<&'a [u8]>, Refusal> {
    if body.is_empty() {
        return Ok(None);
    }
    read(headers, body, MAX_DEPTH, &mut Reading { unknown, count: 0 })
}

/// What becomes of a part that must be understood and is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    PassedOver,
}

/// A body that is being read.
struct Reading {
    unknown: Unknown,
    /// Parts so far, all depths together.
    count: usize,
}

impl Reading {
    /// A part may be passed over that has these fields.
    fn passes_over(&self, headers: &Headers) -> bool {
        self.unknown == Unknown::PassedOver || is_optional(headers)
    }
}

/// `depth` bounds the recursion: each level is one less.
fn read<'a>(
    headers: &Headers,
    body: &'a [u8],
    depth: usize,
    reading: &mut Reading,
) -> Result<Option<&'a [u8]>, Refusal> {
    let found = understand(headers, body, depth, reading);
    match found {
        Err(refusal) if refusal.status == UNKNOWN.status && reading.passes_over(headers) => Ok(None),
        found => found,
    }
}

fn understand<'a>(
    headers: &Headers,
    body: &'a [u8],
    depth: usize,
    reading: &mut Reading,
) -> Result<Option<&'a [u8]>, Refusal> {
    if is_encoded(headers) || !is_for_the_session(headers) {
        return Err(UNKNOWN);
    }
    if !multipart::is_multipart(headers) {
        // Without a Content-Type it is what INVITE and its responses carry.
        let is_sdp = headers.get(name::CONTENT_TYPE).is_none()
            || headers.content_type().is_some_and(|content_type| content_type == SDP);
        return if is_sdp { Ok(Some(body)) } else { Err(UNKNOWN) };
    }
    let depth = depth.checked_sub(1).ok_or(broken("parts lie in parts too deep"))?;
    let content_type = headers.get(name::CONTENT_TYPE).unwrap_or_default();
    let parts = multipart::read(content_type, body).map_err(|error| broken(error.0))?;
    reading.count += parts.len();
    if reading.count > MAX_PARTS {
        return Err(broken("it has too many parts"));
    }
    match headers.content_type().as_deref() {
        Some("multipart/alternative") => best(&parts, depth, reading),
        Some(_) => only(&parts, depth, reading),
        None => Err(broken("its Content-Type is malformed")),
    }
}

/// The last alternative that is understood.
fn best<'a>(parts: &[Part<'a>], depth: usize, reading: &mut Reading) -> Result<Option<&'a [u8]>, Refusal> {
    for part in parts.iter().rev() {
        match read(&part.headers, part.body, depth, reading) {
            Ok(Some(description)) => return Ok(Some(description)),
            Ok(None) => {}
            Err(refusal) if refusal.status == UNKNOWN.status => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(UNKNOWN)
}

/// The only description among parts of which each must be understood, or is optional.
fn only<'a>(parts: &[Part<'a>], depth: usize, reading: &mut Reading) -> Result<Option<&'a [u8]>, Refusal> {
    let mut only = None;
    for part in parts {
        // RFC 2045 section 5.2: a part without a Content-Type is plain text, not a description.
        let described = part.headers.get(name::CONTENT_TYPE).is_some();
        let found = match described {
            true => read(&part.headers, part.body, depth, reading)?,
            false if reading.passes_over(&part.headers) => None,
            false => return Err(UNKNOWN),
        };
        if found.is_some() && only.replace(found).is_some() {
            return Err(broken("it holds several session descriptions"));
        }
    }
    Ok(only.flatten())
}

/// Content-Encoding other than `identity`: none is known here (RFC 3261 section 20.12).
fn is_encoded(headers: &Headers) -> bool {
    headers.tokens(name::CONTENT_ENCODING).iter().any(|coding| !coding.eq_ignore_ascii_case("identity"))
}

/// The disposition is `session`, which it also is where none is written (RFC 3261 section 20.11). That of a whole of
/// parts says nothing about them.
fn is_for_the_session(headers: &Headers) -> bool {
    let Some((kind, _)) = disposition(headers) else { return true };
    multipart::is_multipart(headers) || kind.eq_ignore_ascii_case("session")
}

/// `handling=optional` (RFC 3204, RFC 3261 section 20.11): what is not understood may be passed over.
fn is_optional(headers: &Headers) -> bool {
    disposition(headers).is_some_and(|(_, params)| {
        params.value("handling").is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
    })
}

/// Content-Disposition as far as it can be read.
fn disposition(headers: &Headers) -> Option<(&str, Params)> {
    let mut scanner = Scanner::new(headers.get(name::CONTENT_DISPOSITION)?);
    scanner.skip_white();
    let kind = scanner.token()?;
    let mut params = Params::default();
    // What comes behind a fault is as good as absent: the body must then be understood.
    _ = scanner.header_params(&mut params);
    Some((kind, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(fields: &[(&str, &str)], body: &str) -> Result<Option<String>, u16> {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, *value));
        session_description(&headers, body.as_bytes())
            .map(|found| found.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
            .map_err(|refusal| refusal.status.get())
    }

    fn mixed(body: &str) -> Result<Option<String>, u16> {
        find(&[("Content-Type", "multipart/mixed;boundary=b")], body)
    }

    const SDP_PART: &str = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n";
    const OPTIONAL: &str =
        "--b\r\nContent-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\nx\r\n";
    const REQUIRED: &str =
        "--b\r\nContent-Type: application/isup\r\nContent-Disposition: signal\r\n\r\nx\r\n";

    #[test]
    fn a_body_alone_is_a_description_or_refused_or_optional() {
        assert_eq!(find(&[], ""), Ok(None));
        assert_eq!(find(&[], "v=0"), Ok(Some("v=0".into())));
        assert_eq!(find(&[("c", "Application/SDP; charset=utf-8")], "v=0"), Ok(Some("v=0".into())));
        assert_eq!(find(&[("c", "text/plain")], "hello"), Err(415));
        assert_eq!(find(&[("c", "sdp")], "v=0"), Err(415));
        let optional = ("Content-Disposition", "render ; handling = \"Optional\"");
        assert_eq!(find(&[("c", "text/plain"), optional], "hello"), Ok(None));
        assert_eq!(
            find(&[("c", "application/sdp"), ("Content-Disposition", "early-session")], "v=0"),
            Err(415)
        );
        assert_eq!(find(&[("c", "application/sdp"), ("e", "gzip")], "v=0"), Err(415));
        assert_eq!(find(&[("c", "application/sdp"), ("e", "identity")], "v=0"), Ok(Some("v=0".into())));
    }

    #[test]
    fn the_description_is_found_among_optional_parts_in_any_order() {
        for body in [format!("{SDP_PART}{OPTIONAL}--b--"), format!("{OPTIONAL}{SDP_PART}--b--")] {
            assert_eq!(mixed(&body), Ok(Some("v=0".into())), "{body}");
        }
        assert_eq!(mixed(&format!("{OPTIONAL}--b--")), Ok(None));
        assert_eq!(mixed(&format!("{SDP_PART}{REQUIRED}--b--")), Err(415));
        assert_eq!(mixed(&format!("{SDP_PART}{SDP_PART}--b--")), Err(400));
        assert_eq!(mixed(&format!("{SDP_PART}--b\r\n\r\nplain text\r\n--b--")), Err(415));
    }

    #[test]
    fn what_can_be_refused_no_more_is_searched_for_a_description_alone() {
        let search = |body: &str| {
            let mut headers = Headers::default();
            headers.push("Content-Type", "multipart/mixed;boundary=b");
            any_description(&headers, body.as_bytes()).map(<[u8]>::to_vec)
        };
        const PLAIN: &str = "--b\r\n\r\nplain text\r\n";
        const EARLY: &str =
            "--b\r\nContent-Type: application/sdp\r\nContent-Disposition: early-session\r\n\r\nv=1\r\n";
        for beside in [REQUIRED, OPTIONAL, PLAIN, EARLY] {
            for body in [format!("{SDP_PART}{beside}--b--"), format!("{beside}{SDP_PART}--b--")] {
                assert_eq!(search(&body).as_deref(), Some(&b"v=0"[..]), "{body}");
            }
            assert_eq!(search(&format!("{beside}--b--")), None);
        }
        assert_eq!(search(&format!("{SDP_PART}{SDP_PART}--b--")), None, "which of them?");
        assert_eq!(search("v=0"), None);
    }

    #[test]
    fn the_last_alternative_that_is_understood_counts() {
        let alternative = [("c", "multipart/alternative;boundary=b")];
        let other = "--b\r\nContent-Type: application/sdp\r\n\r\nv=1\r\n";
        assert_eq!(find(&alternative, &format!("{SDP_PART}{REQUIRED}--b--")), Ok(Some("v=0".into())));
        assert_eq!(find(&alternative, &format!("{SDP_PART}{other}--b--")), Ok(Some("v=1".into())));
        assert_eq!(find(&alternative, &format!("{REQUIRED}--b--")), Err(415));
    }

    #[test]
    fn parts_in_parts_are_read_up_to_a_depth() {
        let mut body = "v=0".to_owned();
        let mut fields = "Content-Type: application/sdp".to_owned();
        let mut found = Vec::new();
        for depth in 1..=4 {
            body = format!("--b{depth}\r\n{fields}\r\n\r\n{body}\r\n--b{depth}--\r\n");
            let value = format!("multipart/mixed;boundary=b{depth}");
            found.push(find(&[("Content-Type", &value)], &body));
            fields = format!("Content-Type: {value}");
        }
        let inside = Ok(Some("v=0".to_owned()));
        assert_eq!(found, [inside.clone(), inside.clone(), inside, Err(400)]);
    }

    #[test]
    fn a_body_that_cannot_be_cut_open_is_broken_even_where_it_is_optional() {
        assert_eq!(mixed("v=0"), Err(400));
        assert_eq!(find(&[("c", "multipart/mixed")], &format!("{SDP_PART}--b--")), Err(400));
        let optional = ("Content-Disposition", "session;handling=optional");
        assert_eq!(find(&[("c", "multipart/mixed;boundary=c"), optional], SDP_PART), Err(400));
    }
}
