//! Which characters may stand in which part of a URI, and the escapes for the others (RFC 3261 sections 19.1.2 and
//! 25.1).

use std::fmt::Write as _;

pub(super) fn is_scheme_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-.".contains(c)
}

/// Characters of a host name; the underscore is not RFC 3261's, but in use.
pub(super) fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._".contains(c)
}

fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.!~*'()".contains(c)
}

/// `#` is not RFC 3261's, but what phones send for service codes.
pub(super) fn is_user_char(c: char) -> bool {
    is_unreserved(c) || "&=+$,;?/#".contains(c)
}

pub(super) fn is_password_char(c: char) -> bool {
    is_unreserved(c) || "&=+$,".contains(c)
}

pub(super) fn is_param_name_char(c: char) -> bool {
    is_unreserved(c) || "[]/:&+$".contains(c)
}

/// `=` is not RFC 3261's, but ends Base64 cookies.
pub(super) fn is_param_value_char(c: char) -> bool {
    is_param_name_char(c) || c == '='
}

pub(super) fn is_headers_char(c: char) -> bool {
    is_unreserved(c) || "[]/?:+$=&".contains(c)
}

/// What schemes that we do not read in parts may hold: no white space, and nothing that ends a name-addr.
pub(super) fn is_other_char(c: char) -> bool {
    c.is_ascii_graphic() && !"<>\"".contains(c)
}

/// Are there only allowed characters and complete escapes in `text`?
pub(super) fn is_escaped(text: &str, allowed: fn(char) -> bool) -> bool {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let fine = if c == '%' { next_escape(&mut rest).is_some() } else { allowed(c) };
        if !fine {
            return false;
        }
    }
    true
}

/// `text` with everything escaped that may not stand there; complete escapes are kept.
pub(super) fn escape(text: &str, allowed: fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let keep = if c == '%' { next_escape(&mut rest.clone()).is_some() } else { allowed(c) };
        if keep {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                push_escape(byte, &mut out);
            }
        }
    }
    out
}

fn push_escape(byte: u8, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

/// The byte that two hexadecimal digits stand for.
fn next_escape(rest: &mut std::str::Chars<'_>) -> Option<u8> {
    let high = rest.next()?.to_digit(16)?;
    let low = rest.next()?.to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// One spelling for all that RFC 3261 section 19.1.4 calls equal: an escape of a character that is not reserved
/// equals the character itself.
pub(super) fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, next_escape(&mut rest.clone())) {
            ('%', Some(byte)) => {
                rest.next();
                rest.next();
                if byte.is_ascii_graphic() && !b"%;/?:@&=+$,".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    push_escape(byte, &mut out);
                }
            }
            _ => out.push(c),
        }
    }
    out
}
