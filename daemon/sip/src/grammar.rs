//! The lexical rules that all header fields share (RFC 3261 section 25.1): tokens, quoted strings, white space,
//! parameters and lists. It does not know what any header field means.

use crate::uri::Params;

/// Most parameters that one URI or one header field value may carry.
pub const MAX_PARAMS: usize = 64;
/// Most values that the fields of one name may carry together, where they form one list (Contact, Route…).
pub const MAX_LIST: usize = 64;

/// Why a text is not what it should be: one sentence without the text itself.
pub(crate) type Why = &'static str;

pub(crate) fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c)
}

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

/// SP and HTAB. Other white space (U+0085 and U+00A0, which Latin-1 can bring) is text.
pub(crate) fn is_white(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// What a parameter value may consist of without quotes: a token or a host (RFC 3261 gen-value), and `/ = & $`,
/// which peers put unquoted into tags and branches.
fn is_bare_value_char(c: char) -> bool {
    is_token_char(c) || "[]:/=&$".contains(c)
}

pub(crate) fn is_bare_value(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_bare_value_char)
}

/// An unsigned decimal number: only digits, any number of leading zeros, at most `max`.
pub(crate) fn number(text: &str, max: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0_u32;
    for c in text.chars() {
        value = value.checked_mul(10)?.checked_add(c.to_digit(10)?)?;
    }
    (value <= max).then_some(value)
}

/// Text that is safe inside one line: CR, LF and NUL become spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\r' | '\n' | '\0') { ' ' } else { c }).collect()
}

/// A quoted-string (RFC 3261 section 25.1) that reads back as `text`, but for CR, LF and NUL, which become spaces.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    escape_quoted(text, &mut out);
    out.push('"');
    out
}

/// The inside of a quoted-string for `text`.
pub(crate) fn escape_quoted(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\r' | '\n' | '\0' => out.push(' '),
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push(c),
            c if c.is_ascii_control() => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
}

/// Appends `;name=value` for each header parameter. What is no token in a name is left out.
pub(crate) fn write_header_params(params: &Params, out: &mut String) {
    for (name, value) in params.iter() {
        let name: String = name.chars().filter(|c| is_token_char(*c)).collect();
        if name.is_empty() {
            continue;
        }
        out.push(';');
        out.push_str(&name);
        if let Some(value) = value {
            out.push('=');
            if is_bare_value(value) {
                out.push_str(value);
            } else {
                out.push_str(&quoted(value));
            }
        }
    }
}

/// Walks over the value of a header field.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    /// Nothing but white space is left.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.chars().all(is_white)
    }

    pub(crate) fn eat(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(crate) fn skip_white(&mut self) {
        self.rest = self.rest.trim_start_matches(is_white);
    }

    /// Eats `separator` with the white space around it (SLASH, SEMI, EQUAL, COMMA, COLON of the grammar). White space
    /// before it is gone also when it is not there.
    pub(crate) fn eat_separator(&mut self, separator: char) -> bool {
        self.skip_white();
        let found = self.eat(separator);
        if found {
            self.skip_white();
        }
        found
    }

    pub(crate) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    pub(crate) fn token(&mut self) -> Option<&'a str> {
        Some(self.take_while(is_token_char)).filter(|token| !token.is_empty())
    }

    /// A quoted-string that begins here, unquoted and unescaped.
    pub(crate) fn quoted_string(&mut self) -> Result<String, Why> {
        if !self.eat('"') {
            return Err("a quoted string is missing");
        }
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => text.push(chars.next().ok_or("a quoted string ends in a backslash")?),
                Some(c) => text.push(c),
                None => return Err("a quoted string is not closed"),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    /// `;name=value` as often as it comes. On an error `params` keeps what was read before it.
    pub(crate) fn header_params(&mut self, params: &mut Params) -> Result<(), Why> {
        while self.eat_separator(';') {
            if params.len() == MAX_PARAMS {
                return Err("too many parameters");
            }
            let name = self.token().ok_or("a parameter has no name")?;
            let value = if self.eat_separator('=') { self.param_value(name)? } else { None };
            params.push(name.to_owned(), value);
        }
        Ok(())
    }

    /// The value of the parameter `name`, unquoted. The grammar knows no empty value without quotes, but some phones
    /// write `rport=` where RFC 3581 means `rport`.
    fn param_value(&mut self, name: &str) -> Result<Option<String>, Why> {
        if self.peek() == Some('"') {
            return self.quoted_string().map(Some);
        }
        match self.take_while(is_bare_value_char) {
            "" if name.eq_ignore_ascii_case("rport") => Ok(None),
            "" => Err("a parameter has no value after its equals sign"),
            value => Ok(Some(value.to_owned())),
        }
    }

    /// Reads the rest as a comma list, at most `max` items together with those in `items` already.
    pub(crate) fn list<T>(
        mut self,
        items: &mut Vec<T>,
        max: usize,
        read: impl Fn(&mut Self) -> Result<T, Why>,
    ) -> Result<(), Why> {
        loop {
            self.skip_white();
            if items.len() >= max {
                return Err("too many values");
            }
            items.push(read(&mut self)?);
            if !self.eat_separator(',') {
                break;
            }
        }
        if self.is_done() { Ok(()) } else { Err("something unreadable follows a value") }
    }
}

/// Splits at commas outside of quoted strings; white space around the parts and empty parts are left out.
pub(crate) fn split_commas(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    let pieces = text.split(|c| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    });
    for piece in pieces {
        let piece = piece.trim_matches(is_white);
        if !piece.is_empty() {
            parts.push(piece);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_are_read_with_their_escapes() {
        let mut scanner = Scanner::new(r#""J Rosenberg \\\"" <rest"#);
        assert_eq!(scanner.quoted_string(), Ok(r#"J Rosenberg \""#.to_owned()));
        assert_eq!(scanner.rest(), " <rest");
    }

    #[test]
    fn a_quoted_string_must_be_closed() {
        assert!(Scanner::new(r#""open"#).quoted_string().is_err());
        assert!(Scanner::new(r#""the backslash hides the quote\""#).quoted_string().is_err());
        assert!(Scanner::new(r#""trailing\"#).quoted_string().is_err());
    }

    #[test]
    fn quoting_hides_no_line_break() {
        assert_eq!(quoted("a\r\nVia: b\0\"\\\u{7}"), "\"a  Via: b \\\"\\\\\\\u{7}\"");
    }

    #[test]
    fn numbers_are_digits_within_their_range() {
        assert_eq!(number("0068", 255), Some(68));
        assert_eq!(number("255", 255), Some(255));
        for bad in ["", "256", "-1", "+1", " 1", "1 ", "0x1", "4294967297", "٣"] {
            assert_eq!(number(bad, 255), None, "{bad:?}");
        }
    }

    #[test]
    fn commas_inside_of_quotes_do_not_split() {
        assert_eq!(split_commas(r#" a , "b, \", c" ,, d"#), ["a", r#""b, \", c""#, "d"]);
        assert!(split_commas(" , ").is_empty());
    }

    #[test]
    fn parameters_know_white_space_quotes_and_hosts() {
        let mut params = Params::default();
        let read =
            Scanner::new("; tag  = abc;x=\"a;b\" ;received=[2001:db8::9]; lr").header_params(&mut params);
        assert_eq!(read, Ok(()));
        assert_eq!(params.value("TAG"), Some("abc"));
        assert_eq!(params.value("x"), Some("a;b"));
        assert_eq!(params.value("received"), Some("[2001:db8::9]"));
        assert_eq!(params.get("lr"), Some(None));
        for bad in [";", ";;a", ";a=", ";=b", ";a=\"b"] {
            assert!(Scanner::new(bad).header_params(&mut Params::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_counted() {
        let many = ";a".repeat(MAX_PARAMS + 1);
        assert_eq!(Scanner::new(&many).header_params(&mut Params::default()), Err("too many parameters"));
    }
}
