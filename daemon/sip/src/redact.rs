//! Redaction: a SIP message as others may see it, without what proves who somebody is, opens a medium or was said in
//! confidence. It is no parser: what it does not understand it blots out.
//!
//! Values in the head become [`BLOT`]; in bodies each byte becomes `*`, so that `Content-Length` stays true.

/// What stands where a secret stood in the head.
pub const BLOT: &str = "***";

/// Parameters of credentials, challenges and Authentication-Info (RFC 7616) that are no secrets.
const PUBLIC: [&str; 9] =
    ["username", "realm", "algorithm", "uri", "nc", "qop", "stale", "domain", "userhash"];
/// Parts of names of header fields whose content is a secret throughout.
const SECRET_NAMES: [&str; 5] = ["password", "secret", "token", "cookie", "key"];
/// Parameters whose values are secrets wherever they stand: push tokens (RFC 8599), and header fields within URIs.
const SECRET_PARAMS: [&str; 4] = ["pn-prid", "password", "proxy-authorization", "authorization"];
/// Beginnings of lines of SDP that hold keys, without white space: RFC 4568, RFC 8839, RFC 4567, RFC 8866 section 5.12.
const SECRET_LINES: [&str; 4] = ["a=crypto:", "a=ice-pwd:", "a=key-mgmt:", "k="];
/// Most nested multiparts; what lies deeper is blotted out.
const DEEPEST: usize = 2;

/// The message without secrets: digest responses and nonces, passwords in URIs, push tokens, keys in SDP, and bodies
/// other than SDP, its fragments, `message/sipfrag` and multiparts of these. Never fails: the less a message resembles SIP,
/// the less is left of it.
pub fn redact(message: &[u8]) -> Vec<u8> {
    let begin = message.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(message.len());
    let (blank, message) = message.split_at_checked(begin).unwrap_or((message, b""));
    let (head, body) = split_head(message);
    let mut out = blank.to_vec();
    redact_head(head, &mut out);
    let method = head.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    if method.eq_ignore_ascii_case(b"MESSAGE") {
        blot_bytes(body, &mut out);
    } else {
        redact_body(head, body, 0, &mut out);
    }
    out
}

/// The head with its empty line, and what follows.
fn split_head(message: &[u8]) -> (&[u8], &[u8]) {
    let mut end = 0;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
    }
    message.split_at_checked(end).unwrap_or((message, b""))
}

/// Lines with the lines that continue them (RFC 3261 section 7.3.1), their ends included.
fn fields(head: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if !matches!(line.first(), Some(b' ' | b'\t')) && end > begin {
            fields.push(head.get(begin..end).unwrap_or_default());
            begin = end;
        }
        end += line.len();
    }
    fields.push(head.get(begin..end).unwrap_or_default());
    fields
}

fn redact_head(head: &[u8], out: &mut Vec<u8>) {
    for (index, field) in fields(head).into_iter().enumerate() {
        let content = trim_end(field);
        let ending = field.get(content.len()..).unwrap_or_default();
        if index == 0 && is_start_line(content) {
            redact_value(content, out);
        } else if !content.is_empty() {
            redact_field(content, out);
        }
        out.extend_from_slice(ending);
    }
}

/// A request or status line, and in one line.
fn is_start_line(line: &[u8]) -> bool {
    let upper = line.to_ascii_uppercase();
    let one_line = !line.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    one_line && (upper.starts_with(b"SIP/2.0 ") || upper.ends_with(b" SIP/2.0"))
}

fn redact_field(field: &[u8], out: &mut Vec<u8>) {
    let colon = field.iter().position(|byte| *byte == b':');
    let Some((raw_name, value)) = colon.and_then(|at| field.split_at_checked(at + 1)) else {
        return out.extend_from_slice(BLOT.as_bytes());
    };
    let name = lower(raw_name.strip_suffix(b":").unwrap_or(raw_name).trim_ascii());
    let is_token = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/<=>@[]{}".contains(&byte));
    if !is_token {
        return out.extend_from_slice(BLOT.as_bytes());
    }
    out.extend_from_slice(raw_name);
    let text = value.trim_ascii_start();
    out.extend_from_slice(value.get(..value.len() - text.len()).unwrap_or_default());
    // A carriage return of its own ends a line for some: what follows would be another field.
    let torn =
        text.iter().zip(text.iter().skip(1).chain(b" ")).any(|(one, next)| *one == b'\r' && *next != b'\n');
    if torn || SECRET_NAMES.iter().any(|part| name.contains(part)) {
        out.extend_from_slice(BLOT.as_bytes());
    } else if name.contains("auth") {
        redact_credentials(text, out);
    } else if matches!(name.as_str(), "call-id" | "i") {
        out.extend_from_slice(text);
    } else {
        redact_value(text, out);
    }
}

/// Authorization, WWW-Authenticate, Authentication-Info and their kin (RFC 7616): a list of parameters, the first behind
/// a scheme. What is no parameter with a value is blotted out to the end.
fn redact_credentials(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    let mut first = true;
    while !rest.is_empty() {
        let Some((words, behind)) = split_at_byte(rest, b'=') else {
            // Basic, Bearer and whatever else is no list of parameters.
            return blot_behind_scheme(rest, first, out);
        };
        let words_text = lower(words);
        let all: Vec<&str> = words_text.split_ascii_whitespace().collect();
        let (scheme, name) = match all.as_slice() {
            [name] if !first || is_param(name) => (None, *name),
            [scheme, name] if is_param(scheme) && is_param(name) => (Some(*scheme), *name),
            _ => return blot_behind_scheme(rest, first, out),
        };
        if scheme.is_some_and(|scheme| scheme != "digest") {
            return blot_behind_scheme(rest, true, out);
        }
        let (text, after) = split_param_value(behind);
        if !is_param(name) || !matches!(after.trim_ascii_start().first(), None | Some(b',')) {
            return blot_behind_scheme(rest, first, out);
        }
        out.extend_from_slice(words);
        out.push(b'=');
        if PUBLIC.contains(&name) {
            redact_value(text, out);
        } else {
            out.extend_from_slice(BLOT.as_bytes());
        }
        let next =
            after.iter().position(|byte| *byte != b',' && !byte.is_ascii_whitespace()).unwrap_or(after.len());
        let (gap, following) = after.split_at_checked(next).unwrap_or((after, b""));
        out.extend_from_slice(gap);
        (rest, first) = (following, false);
    }
}

/// Keeps the name of the scheme, where one can stand.
fn blot_behind_scheme(value: &[u8], scheme_first: bool, out: &mut Vec<u8>) {
    let known = ["basic", "bearer", "digest"];
    if let (true, Some((scheme, _))) = (scheme_first, split_at_byte(value, b' '))
        && known.contains(&lower(scheme).as_str())
    {
        out.extend_from_slice(scheme);
        out.push(b' ');
    }
    out.extend_from_slice(BLOT.as_bytes());
}

fn is_param(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The value behind `=` with the white space before it, and what follows it.
fn split_param_value(text: &[u8]) -> (&[u8], &[u8]) {
    let begin = text.len() - text.trim_ascii_start().len();
    let value = text.get(begin..).unwrap_or_default();
    let length = match value.first() {
        Some(b'"') => quoted_length(value),
        _ => value.iter().position(|byte| is_delimiter(*byte)).unwrap_or(value.len()),
    };
    text.split_at_checked(begin + length).unwrap_or((text, b""))
}

/// How long the quoted string is that begins here; one that does not end goes on to the end.
fn quoted_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b';' | b'<' | b'>' | b'"' | b'&' | b'?')
}

/// A start line or a value that holds no credentials of its own: without passwords of URIs and secret parameters.
fn redact_value(value: &[u8], out: &mut Vec<u8>) {
    let value = without_passwords(value);
    let small = value.to_ascii_lowercase();
    let mut at = 0;
    while at < value.len() {
        let rest = small.get(at..).unwrap_or_default();
        let raw = value.get(at..).unwrap_or_default();
        let name = SECRET_PARAMS.iter().find(|name| rest.starts_with(name.as_bytes()));
        let behind = name.and_then(|name| {
            let behind = raw.get(name.len()..)?;
            let gap = behind.len() - behind.trim_ascii_start().len();
            behind.get(gap..)?.strip_prefix(b"=")
        });
        match behind {
            Some(behind) => {
                let (_, after) = split_param_value(behind);
                out.extend_from_slice(raw.get(..raw.len() - behind.len()).unwrap_or_default());
                out.extend_from_slice(BLOT.as_bytes());
                at = value.len() - after.len();
            }
            None => {
                out.extend(raw.first());
                at += 1;
            }
        }
    }
}

/// The text with `user:***@` for `user:password@`, whatever stands before it.
fn without_passwords(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = split_at_byte(rest, b'@') {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'>' | b'"');
        let begin = before.iter().rposition(ends).map_or(0, |at| at + 1);
        let (other, part) = before.split_at_checked(begin).unwrap_or((before, b""));
        let user = user_at(part);
        let (scheme, user) = part.split_at_checked(user).unwrap_or((part, b""));
        out.extend_from_slice(other);
        out.extend_from_slice(scheme);
        match split_at_byte(user, b':') {
            Some((user, _)) => {
                out.extend_from_slice(user);
                out.extend_from_slice(b":");
                out.extend_from_slice(BLOT.as_bytes());
            }
            None => out.extend_from_slice(user),
        }
        out.push(b'@');
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// Where the user part begins, behind the first scheme.
fn user_at(part: &[u8]) -> usize {
    let small = part.to_ascii_lowercase();
    let ends =
        |scheme: &[u8]| small.windows(scheme.len()).position(|at| at == scheme).map(|at| at + scheme.len());
    ends(b"sip:").into_iter().chain(ends(b"sips:")).min().unwrap_or(0)
}

/// A body, by the Content-Type of its head; what has none, or several, or an unknown one is blotted out.
fn redact_body(head: &[u8], body: &[u8], depth: usize, out: &mut Vec<u8>) {
    let mut types = fields(head).into_iter().filter_map(content_type);
    let (Some(value), None) = (types.next(), types.next()) else { return blot_bytes(body, out) };
    let media = lower(value.split(|byte| *byte == b';').next().unwrap_or_default());
    let media: String = media.split_ascii_whitespace().collect();
    match (media.as_str(), boundary(value)) {
        ("application/sdp" | "application/trickle-ice-sdpfrag", _) => redact_sdp(body, out),
        ("message/sipfrag", _) => {
            let (head, rest) = split_head(body);
            redact_head(head, out);
            blot_bytes(rest, out);
        }
        (multipart, Some(boundary)) if multipart.starts_with("multipart/") && depth < DEEPEST => {
            redact_parts(body, &boundary, depth + 1, out);
        }
        _ => blot_bytes(body, out),
    }
}

fn content_type(field: &[u8]) -> Option<&[u8]> {
    let (name, value) = split_at_byte(field, b':')?;
    matches!(lower(name.trim_ascii()).as_str(), "content-type" | "c").then(|| value.trim_ascii())
}

/// The line that stands before each part (RFC 2046 section 5.1.1).
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let small = content_type.to_ascii_lowercase();
    let at = small.windows(9).position(|at| at == b"boundary=")?;
    let (value, _) = split_param_value(content_type.get(at + 9..)?);
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    (!value.is_empty()).then(|| [b"--", value].concat())
}

fn redact_parts(body: &[u8], boundary: &[u8], depth: usize, out: &mut Vec<u8>) {
    // What stands before the first part is nobody's.
    let mut part: Option<Vec<u8>> = None;
    let finish = |part: Option<Vec<u8>>, other: &mut Vec<u8>, out: &mut Vec<u8>| {
        blot_bytes(other, out);
        other.clear();
        if let Some(part) = part {
            let (head, body) = split_head(&part);
            redact_head(head, out);
            redact_body(head, body, depth, out);
        }
    };
    let mut other = Vec::new();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let content = trim_end(line);
        let closing = content.strip_suffix(b"--") == Some(boundary);
        if content == boundary || closing {
            finish(part.take(), &mut other, out);
            out.extend_from_slice(line);
            part = (!closing).then(Vec::new);
        } else {
            part.as_mut().unwrap_or(&mut other).extend_from_slice(line);
        }
    }
    finish(part, &mut other, out);
}

/// SDP (RFC 8866): lines of another form are blotted out, and what a carriage return of its own would make a line.
fn redact_sdp(body: &[u8], out: &mut Vec<u8>) {
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let content = trim_end(line);
        let squeezed = lower(content).split_ascii_whitespace().collect::<String>();
        let is_line = matches!(content, [kind, b'=', ..] if kind.is_ascii_lowercase()) || content.is_empty();
        let shown = if !is_line
            || content.contains(&b'\r')
            || squeezed.contains("inline:") && !squeezed.starts_with("a=crypto:")
        {
            0
        } else if SECRET_LINES.iter().any(|secret| squeezed.starts_with(secret)) {
            public_length(content)
        } else {
            content.len()
        };
        out.extend_from_slice(content.get(..shown).unwrap_or_default());
        blot_bytes(line.get(shown..).unwrap_or_default(), out);
    }
}

/// How much of a line with a key can be shown: its name, and of `a=crypto` its tag and its suite.
fn public_length(line: &[u8]) -> usize {
    let name = line.iter().position(|byte| *byte == b':').map_or(2, |at| at + 1);
    let Some(rest) = line.strip_prefix(b"a=crypto:") else {
        return if line.starts_with(b"k=") { 2 } else { name };
    };
    let mut words = rest.split(|byte| *byte == b' ');
    let tag = words.next().filter(|tag| tag.len() <= 9 && tag.iter().all(u8::is_ascii_digit));
    let known = |suite: &&[u8]| {
        let families: [&[u8]; 3] = [b"AES_", b"F8_", b"AEAD_"];
        families.iter().any(|family| suite.starts_with(family))
            && suite.len() <= 32
            && suite.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
    };
    match (tag, words.next().filter(known)) {
        (Some(tag), Some(suite)) => (name + tag.len() + 1 + suite.len() + 1).min(line.len()),
        _ => name,
    }
}

/// As many stars as there are bytes; ends of lines stay.
fn blot_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { *byte } else { b'*' }));
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What stands before the first such byte, and what behind it.
fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn lower(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_ascii_lowercase()
}
