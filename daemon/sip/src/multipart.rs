//! Bodies of several parts (RFC 2046 section 5.1, RFC 5621): cuts one open into its parts. What the parts mean is not
//! known here, and a part that is of several parts itself is not cut open.

use crate::grammar::{self, Scanner};
use crate::headers::{Headers, name};
use crate::uri::Params;

/// Most parts of one body.
pub const MAX_PARTS: usize = 16;
/// Most header fields of one part.
pub const MAX_FIELDS: usize = 16;
/// Longest header field of one part in bytes, unfolded.
pub const MAX_FIELD: usize = 1024;
/// Longest boundary in bytes (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// One part of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<'a> {
    /// Its header fields, under their long names.
    pub headers: Headers,
    /// Its content, without the line end before the boundary.
    pub body: &'a [u8],
}

/// Why a body cannot be cut open: one sentence without its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MultipartError(pub &'static str);

/// Cuts a body open at the boundary that its Content-Type names. What stands before the first boundary and behind the
/// last is passed over. Lines may end in LF alone; a body without the closing boundary ends with its last byte, as some
/// gateways write it.
///
/// # Errors
/// The Content-Type names no boundary that could stand in a body, the body does not hold it, a part's header fields
/// cannot be read, or a limit is passed.
pub fn read<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, MultipartError> {
    let boundary = boundary(content_type)?;
    let mut parts = Vec::new();
    // Where the content of the part that is being read begins.
    let mut begun: Option<usize> = None;
    let mut at = 0;
    while at < body.len() {
        let rest = body.get(at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length).unwrap_or_default();
        let delimiter = Delimiter::of(line, &boundary);
        if delimiter.is_some()
            && let Some(start) = begun.take()
        {
            parts.push(part(without_line_end(body.get(start..at).unwrap_or_default()))?);
        }
        at += length;
        match delimiter {
            Some(Delimiter::Next) if parts.len() == MAX_PARTS => {
                return Err(MultipartError("it has too many parts"));
            }
            Some(Delimiter::Next) => begun = Some(at),
            Some(Delimiter::Last) => break,
            None => {}
        }
    }
    if let Some(start) = begun {
        parts.push(part(body.get(start..).unwrap_or_default())?);
    }
    if parts.is_empty() { Err(MultipartError("its boundary does not occur in it")) } else { Ok(parts) }
}

/// A line between parts.
enum Delimiter {
    Next,
    Last,
}

impl Delimiter {
    fn of(line: &[u8], boundary: &str) -> Option<Self> {
        let rest = line.strip_prefix(b"--")?.strip_prefix(boundary.as_bytes())?;
        let (delimiter, rest) = match rest.strip_prefix(b"--") {
            Some(rest) => (Self::Last, rest),
            None => (Self::Next, rest),
        };
        // Transport padding may follow, and nothing else: a longer boundary is another one.
        rest.iter().all(|byte| byte.is_ascii_whitespace()).then_some(delimiter)
    }
}

/// The boundary parameter.
fn boundary(content_type: &str) -> Result<String, MultipartError> {
    let mut scanner = Scanner::new(content_type);
    scanner.take_while(|c| c != ';');
    let mut params = Params::default();
    scanner.header_params(&mut params).map_err(MultipartError)?;
    let boundary = params.value("boundary").ok_or(MultipartError("its Content-Type names no boundary"))?;
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    if boundary.is_empty()
        || boundary.len() > MAX_BOUNDARY
        || boundary.ends_with(' ')
        || !boundary.chars().all(may_stand)
    {
        return Err(MultipartError("its boundary is malformed"));
    }
    Ok(boundary.to_owned())
}

/// Header fields, an empty line, content. A part may have no header fields at all: it then begins with the empty line.
fn part(bytes: &[u8]) -> Result<Part<'_>, MultipartError> {
    let mut headers = Headers::default();
    let mut field: Option<String> = None;
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let (line, behind) = rest.split_at(length);
        rest = behind;
        let line = without_line_end(line);
        if line.is_empty() {
            break;
        }
        // Header fields of parts are ASCII (RFC 2046 section 5.1); what is not is kept as Latin-1.
        let text: String = line.iter().map(|byte| char::from(*byte)).collect();
        match (text.starts_with(grammar::is_white), &mut field) {
            (true, Some(field)) => field.push_str(&text),
            (true, None) => return Err(MultipartError("a part begins with a folded line")),
            (false, field) => {
                take(&mut headers, field.replace(text))?;
            }
        }
        if field.as_ref().is_some_and(|field| field.len() > MAX_FIELD) {
            return Err(MultipartError("a header field of a part is too long"));
        }
    }
    take(&mut headers, field)?;
    Ok(Part { headers, body: rest })
}

fn take(headers: &mut Headers, field: Option<String>) -> Result<(), MultipartError> {
    let Some(field) = field else { return Ok(()) };
    let (name, value) =
        field.split_once(':').ok_or(MultipartError("a header field of a part has no colon"))?;
    let name = name.trim_end_matches(grammar::is_white);
    if !grammar::is_token(name) {
        return Err(MultipartError("the name of a part's header field is malformed"));
    }
    if headers.iter().count() == MAX_FIELDS {
        return Err(MultipartError("a part has too many header fields"));
    }
    headers.push(name, value);
    Ok(())
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Whether a message's or a part's body is of several parts.
pub(crate) fn is_multipart(headers: &Headers) -> bool {
    headers.get(name::CONTENT_TYPE).is_some_and(|value| {
        value.trim_start().get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(content_type: &str, body: &str) -> Result<Vec<String>, &'static str> {
        let text = |part: Part<'_>| String::from_utf8(part.body.to_vec()).unwrap();
        read(content_type, body.as_bytes())
            .map(|parts| parts.into_iter().map(text).collect())
            .map_err(|e| e.0)
    }

    #[test]
    fn parts_stand_between_boundaries_and_the_rest_is_passed_over() {
        let body = "preamble\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b1  \r\n\r\nplain\r\n--b1--\r\nepilogue";
        assert_eq!(bodies("multipart/mixed;boundary=b1", body), Ok(vec!["v=0\r\n".into(), "plain".into()]));
        let parts = read("multipart/mixed; boundary=\"b1\"", body.as_bytes()).unwrap();
        assert_eq!(parts[0].headers.content_type().as_deref(), Some("application/sdp"));
        assert_eq!(parts[1].headers, Headers::default());
    }

    #[test]
    fn bare_line_feeds_and_a_missing_end_are_understood() {
        assert_eq!(
            bodies("multipart/mixed;boundary=b", "--b\nA: 1\n\nx\n--b\n\ny\n"),
            Ok(vec!["x".into(), "y\n".into()])
        );
        assert_eq!(bodies("multipart/mixed;boundary=b", "--b\r\n"), Ok(vec!["".into()]));
    }

    #[test]
    fn a_boundary_that_only_begins_alike_is_content() {
        let body = "--b\r\n\r\n--bb\r\n--b -\r\n --b\r\n--b--\r\n";
        assert_eq!(bodies("multipart/mixed;boundary=b", body), Ok(vec!["--bb\r\n--b -\r\n --b".into()]));
    }

    #[test]
    fn fields_are_unfolded_and_compact_forms_expanded() {
        let body = "--b\r\nc: application/sdp;\r\n charset=x\r\nContent-Disposition : session\r\n\r\n--b--";
        let parts = read("multipart/mixed;boundary=b", body.as_bytes()).unwrap();
        assert_eq!(parts[0].headers.get("Content-Type"), Some("application/sdp; charset=x"));
        assert_eq!(parts[0].headers.get("Content-Disposition"), Some("session"));
    }

    #[test]
    fn what_cannot_be_cut_open_is_an_error() {
        let long = "x".repeat(71);
        for (content_type, body) in [
            ("multipart/mixed", "--b\r\n\r\n--b--"),
            ("multipart/mixed;boundary=", "--\r\n\r\n----"),
            ("multipart/mixed;boundary=\"\"", "--\r\n\r\n----"),
            ("multipart/mixed;boundary=\"b \"", "--b \r\n\r\n--b --"),
            ("multipart/mixed;boundary=\"b\u{e9}\"", "--b\r\n\r\n--b--"),
            (&format!("multipart/mixed;boundary={long}"), &format!("--{long}\r\n\r\n--{long}--")),
            ("multipart/mixed;boundary=b", ""),
            ("multipart/mixed;boundary=b", "v=0\r\n"),
            ("multipart/mixed;boundary=b", "--b--"),
            ("multipart/mixed;boundary=b", "--b\r\n folded\r\n\r\n--b--"),
            ("multipart/mixed;boundary=b", "--b\r\nno colon\r\n\r\n--b--"),
            ("multipart/mixed;boundary=b", "--b\r\nA B: 1\r\n\r\n--b--"),
            ("multipart/mixed;boundary=b", &format!("--b\r\nA: {}\r\n\r\n--b--", "x".repeat(MAX_FIELD))),
            ("multipart/mixed;boundary=b", &format!("--b\r\n{}\r\n--b--", "A: 1\r\n".repeat(MAX_FIELDS + 1))),
            ("multipart/mixed;boundary=b", &format!("{}--b--", "--b\r\n\r\n".repeat(MAX_PARTS + 1))),
        ] {
            assert!(read(content_type, body.as_bytes()).is_err(), "{content_type} {body}");
        }
        assert_eq!(
            bodies("multipart/mixed;boundary=b", &format!("{}--b--", "--b\r\n\r\n".repeat(MAX_PARTS)))
                .map(|parts| parts.len()),
            Ok(MAX_PARTS)
        );
    }
}
