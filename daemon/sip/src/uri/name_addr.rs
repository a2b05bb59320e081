//! name-addr and addr-spec as header fields hold them (RFC 3261 sections 20 and 25.1): which part is the display name,
//! which the URI, and to which of them a parameter belongs.

use std::fmt;
use std::str::FromStr;

use super::{Params, Uri, UriError, read_uri};
use crate::grammar::{self, Scanner, Why};

/// A display name, a URI and header parameters (From, To, Contact, Route, Record-Route…).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameAddr {
    /// Unquoted and unescaped.
    pub display_name: Option<String>,
    /// The URI, in angle brackets when written.
    pub uri: Uri,
    /// Header parameters: those behind the angle brackets.
    pub params: Params,
}

impl NameAddr {
    /// A URI without display name and parameters.
    pub fn new(uri: Uri) -> Self {
        Self { display_name: None, uri, params: Params::default() }
    }

    /// The tag of a From or To.
    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag")
    }

    /// The same with that tag.
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params.set("tag", Some(tag));
        self
    }

    /// Reads one value of a list, up to its comma or the end.
    ///
    /// Without angle brackets every parameter belongs to the header field, and the URI may hold neither comma,
    /// semicolon nor question mark (RFC 3261 section 20).
    pub(crate) fn read(scanner: &mut Scanner<'_>) -> Result<Self, Why> {
        scanner.skip_white();
        let (display_name, uri) = if scanner.peek() == Some('"') {
            let name = scanner.quoted_string()?;
            scanner.skip_white();
            (name, bracketed_uri(scanner)?)
        } else {
            let text =
                scanner.take_while(|c| !matches!(c, '<' | '"' | ';' | ',')).trim_matches(grammar::is_white);
            if scanner.peek() == Some('<') {
                if !text.chars().all(is_bare_display_char) {
                    return Err("a display name must be quoted");
                }
                (text.to_owned(), bracketed_uri(scanner)?)
            } else if text.contains('?') {
                return Err("a URI with headers must stand in angle brackets");
            } else {
                (String::new(), read_uri(text)?)
            }
        };
        let mut params = Params::default();
        scanner.header_params(&mut params)?;
        Ok(Self { display_name: Some(display_name).filter(|name| !name.is_empty()), uri, params })
    }
}

/// What a display name may consist of without quotes: tokens and white space, and, as peers do it, `( ) / &` and
/// characters beyond ASCII. Nothing that could be taken for a URI or a list.
fn is_bare_display_char(c: char) -> bool {
    grammar::is_token_char(c) || grammar::is_white(c) || !c.is_ascii() || "()/&".contains(c)
}

/// `<URI>` without white space inside of the brackets.
fn bracketed_uri(scanner: &mut Scanner<'_>) -> Result<Uri, Why> {
    if !scanner.eat('<') {
        return Err("a display name is followed by no URI in angle brackets");
    }
    let text = scanner.take_while(|c| c != '>');
    if !scanner.eat('>') {
        return Err("an angle bracket is not closed");
    }
    read_uri(text)
}

impl FromStr for NameAddr {
    type Err = UriError;
    fn from_str(s: &str) -> Result<Self, UriError> {
        let mut scanner = Scanner::new(s);
        let address = Self::read(&mut scanner).map_err(UriError)?;
        if scanner.is_done() { Ok(address) } else { Err(UriError("something unreadable follows an address")) }
    }
}

/// Always with angle brackets, so that no parameter changes its owner.
impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.display_name.as_deref().filter(|name| !name.is_empty()) {
            write!(f, "{} ", grammar::quoted(name))?;
        }
        let mut params = String::new();
        grammar::write_header_params(&self.params, &mut params);
        write!(f, "<{}>{params}", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::{Host, SipUri};

    fn address(text: &str) -> NameAddr {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_display_name_never_gives_the_address() {
        let spoof = address(r#""Mallory <sip:ceo@bank.example>" <sip:mallory@evil.example>"#);
        assert_eq!(spoof.uri.to_string(), "sip:mallory@evil.example");
        let escaped = address(r#""M \" <sip:ceo@bank.example> \\" <sip:mallory@evil.example>;tag=1"#);
        assert_eq!(escaped.uri.to_string(), "sip:mallory@evil.example");
        assert_eq!(escaped.display_name.as_deref(), Some(r#"M " <sip:ceo@bank.example> \"#));
        for bad in [
            r#""Mallory <sip:ceo@bank.example> <sip:mallory@evil.example>"#,
            r#""Mallory\" <sip:ceo@bank.example>"#,
            "sip:ceo@bank.example <sip:mallory@evil.example>",
            "<sip:ceo@bank.example> <sip:mallory@evil.example>",
            "Bell, Alexander <sip:a@b>",
            "\"x\" sip:a@b",
            "< sip:a@b >",
            "<sip:a@b",
            "sip:a@b?Route=c",
            "",
        ] {
            assert!(bad.parse::<NameAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_brackets_parameters_belong_to_the_header_field() {
        let bare = address("sip:a@b;tag=1 ; transport = tcp");
        assert_eq!(bare.tag(), Some("1"));
        assert_eq!(bare.uri.to_string(), "sip:a@b");
        let bracketed = address("<sip:a@b;transport=tcp>;tag=1");
        assert_eq!(bracketed.uri.to_string(), "sip:a@b;transport=tcp");
        assert_eq!(bracketed.params.len(), 1);
        assert_eq!(address("caller<sip:a@b>").display_name.as_deref(), Some("caller"));
        assert_eq!(address("Jürgen M. <sip:a@b>").display_name.as_deref(), Some("Jürgen M."));
        assert_eq!(address("\"\" <sip:a@b>").display_name, None);
    }

    #[test]
    fn what_is_put_into_an_address_cannot_leave_it() {
        let mut evil =
            NameAddr::new(Uri::Sip(SipUri::new(Some("a@x>\r\nB: c"), Host::Name("h\r\n>;x".into()), None)));
        evil.display_name = Some("x\" <sip:y@z>\r\nVia: q".into());
        evil.params.set("tag", Some("1\r\nFoo: \"bar\\"));
        evil.params.set("na\r\nme", None);
        let written = evil.to_string();
        assert!(!written.contains(['\r', '\n']), "{written}");
        let read = address(&written);
        assert_eq!(read.display_name.as_deref(), Some("x\" <sip:y@z>  Via: q"));
        assert_eq!(read.uri.to_string(), "sip:a%40x%3E%0D%0AB%3A%20c@hx");
        assert_eq!(read.params.get("name"), Some(None));
    }
}
