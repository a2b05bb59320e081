//! Header fields: an ordered list by long name, and the typed values of those that the stack reads.

use std::fmt;
use std::str::FromStr;

use crate::grammar::{self, MAX_LIST, Scanner, Why};
use crate::message::Method;
use crate::uri::{Host, NameAddr, Params, read_port};

/// Long names of the header fields the stack uses; look-ups compare without case.
pub mod name {
    /// RFC 3261 section 20.1.
    pub const ACCEPT: &str = "Accept";
    /// RFC 3261 section 20.5.
    pub const ALLOW: &str = "Allow";
    /// RFC 3261 section 20.6, RFC 7615.
    pub const AUTHENTICATION_INFO: &str = "Authentication-Info";
    /// RFC 3261 section 20.7.
    pub const AUTHORIZATION: &str = "Authorization";
    /// RFC 3261 section 20.8.
    pub const CALL_ID: &str = "Call-ID";
    /// RFC 3261 section 20.10.
    pub const CONTACT: &str = "Contact";
    /// RFC 3261 section 20.11.
    pub const CONTENT_DISPOSITION: &str = "Content-Disposition";
    /// RFC 3261 section 20.12.
    pub const CONTENT_ENCODING: &str = "Content-Encoding";
    /// RFC 3261 section 20.14.
    pub const CONTENT_LENGTH: &str = "Content-Length";
    /// RFC 3261 section 20.15.
    pub const CONTENT_TYPE: &str = "Content-Type";
    /// RFC 3261 section 20.16.
    pub const CSEQ: &str = "CSeq";
    /// RFC 5806.
    pub const DIVERSION: &str = "Diversion";
    /// RFC 3261 section 20.19.
    pub const EXPIRES: &str = "Expires";
    /// RFC 3261 section 20.20.
    pub const FROM: &str = "From";
    /// RFC 6809.
    pub const FEATURE_CAPS: &str = "Feature-Caps";
    /// RFC 7044.
    pub const HISTORY_INFO: &str = "History-Info";
    /// RFC 6086.
    pub const INFO_PACKAGE: &str = "Info-Package";
    /// RFC 3261 section 20.22.
    pub const MAX_FORWARDS: &str = "Max-Forwards";
    /// RFC 3261 section 20.23.
    pub const MIN_EXPIRES: &str = "Min-Expires";
    /// RFC 7315 section 4.1.
    pub const P_ASSOCIATED_URI: &str = "P-Associated-URI";
    /// RFC 4028 section 5.
    pub const MIN_SE: &str = "Min-SE";
    /// RFC 3325.
    pub const P_ASSERTED_IDENTITY: &str = "P-Asserted-Identity";
    /// RFC 3325.
    pub const P_PREFERRED_IDENTITY: &str = "P-Preferred-Identity";
    /// RFC 3327.
    pub const PATH: &str = "Path";
    /// RFC 3323.
    pub const PRIVACY: &str = "Privacy";
    /// RFC 3261 section 20.27.
    pub const PROXY_AUTHENTICATE: &str = "Proxy-Authenticate";
    /// RFC 7615.
    pub const PROXY_AUTHENTICATION_INFO: &str = "Proxy-Authentication-Info";
    /// RFC 3261 section 20.28.
    pub const PROXY_AUTHORIZATION: &str = "Proxy-Authorization";
    /// RFC 3261 section 20.29.
    pub const PROXY_REQUIRE: &str = "Proxy-Require";
    /// RFC 3262 section 7.2.
    pub const RACK: &str = "RAck";
    /// RFC 3326.
    pub const REASON: &str = "Reason";
    /// RFC 3261 section 20.30.
    pub const RECORD_ROUTE: &str = "Record-Route";
    /// RFC 6086.
    pub const RECV_INFO: &str = "Recv-Info";
    /// RFC 3261 section 20.32.
    pub const REQUIRE: &str = "Require";
    /// RFC 3261 section 20.33.
    pub const RETRY_AFTER: &str = "Retry-After";
    /// RFC 3261 section 20.34.
    pub const ROUTE: &str = "Route";
    /// RFC 3262 section 7.1.
    pub const RSEQ: &str = "RSeq";
    /// RFC 3261 section 20.35.
    pub const SERVER: &str = "Server";
    /// RFC 3608.
    pub const SERVICE_ROUTE: &str = "Service-Route";
    /// RFC 4028 section 4.
    pub const SESSION_EXPIRES: &str = "Session-Expires";
    /// RFC 3261 section 20.37.
    pub const SUPPORTED: &str = "Supported";
    /// RFC 3261 section 20.39.
    pub const TO: &str = "To";
    /// RFC 3261 section 20.40.
    pub const UNSUPPORTED: &str = "Unsupported";
    /// RFC 3261 section 20.41.
    pub const USER_AGENT: &str = "User-Agent";
    /// RFC 3261 section 20.42.
    pub const VIA: &str = "Via";
    /// RFC 3261 section 20.43.
    pub const WARNING: &str = "Warning";
    /// RFC 3261 section 20.44.
    pub const WWW_AUTHENTICATE: &str = "WWW-Authenticate";
}

/// The long name of a header field: a compact form expanded (RFC 3261 section 7.3.3 and the registry of RFC 3968),
/// every other name as it is.
pub(crate) fn long_name(name: &str) -> &str {
    let mut letters = name.chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else { return name };
    match letter.to_ascii_lowercase() {
        'a' => "Accept-Contact",
        'b' => "Referred-By",
        'c' => name::CONTENT_TYPE,
        'd' => "Request-Disposition",
        'e' => name::CONTENT_ENCODING,
        'f' => name::FROM,
        'i' => name::CALL_ID,
        'j' => "Reject-Contact",
        'k' => name::SUPPORTED,
        'l' => name::CONTENT_LENGTH,
        'm' => name::CONTACT,
        'n' => "Identity-Info",
        'o' => "Event",
        'r' => "Refer-To",
        's' => "Subject",
        't' => name::TO,
        'u' => "Allow-Events",
        'v' => name::VIA,
        'x' => name::SESSION_EXPIRES,
        'y' => "Identity",
        _ => name,
    }
}

/// Header fields in their order, under their long names (compact forms are expanded when read).
/// A value never holds CR, LF or NUL, nor white space at its ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    fields: Vec<(String, String)>,
}

/// A header field that is there but cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header field {name} cannot be read: {why}")]
pub struct HeaderError {
    /// The field's long name.
    pub name: &'static str,
    /// One sentence without the field's content.
    pub why: &'static str,
}

impl Headers {
    /// The first value under that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All fields of that name, in order, each as it came (lists not split).
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Appends a field. CR, LF and NUL in the value become spaces; a compact name is expanded, and what is no token
    /// in a name is left out (nothing is appended when nothing is left of it).
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        let name = long_name(name).replace(|c| !grammar::is_token_char(c), "");
        if !name.is_empty() {
            let value = grammar::one_line(&value.into()).trim_matches(grammar::is_white).to_owned();
            self.fields.push((name, value));
        }
    }

    /// Removes every field of that name.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Keeps the fields of that name whose values are wanted, and all others.
    pub(crate) fn retain(&mut self, name: &str, mut wanted: impl FnMut(&str) -> bool) {
        self.fields.retain(|(n, value)| !n.eq_ignore_ascii_case(name) || wanted(value));
    }

    /// Puts a field before all others of its name.
    pub(crate) fn put_first(&mut self, name: &str, value: impl Into<String>) {
        let before = self.fields.len();
        self.push(name, value);
        if self.fields.len() > before {
            self.fields.rotate_right(1);
        }
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All Contact values, comma lists split; `*` is an error here.
    ///
    /// # Errors
    /// A value that is no name-addr, or more than [`MAX_LIST`] of them.
    pub fn contacts(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.addresses(name::CONTACT)
    }

    /// Route or Record-Route values, comma lists split, in order.
    ///
    /// # Errors
    /// A value that is no name-addr, or more than [`MAX_LIST`] of them.
    pub fn route_set(&self, name: &'static str) -> Result<Vec<NameAddr>, HeaderError> {
        self.addresses(name)
    }

    fn addresses(&self, name: &'static str) -> Result<Vec<NameAddr>, HeaderError> {
        let mut addresses = Vec::new();
        for value in self.get_all(name) {
            Scanner::new(value)
                .list(&mut addresses, MAX_LIST, NameAddr::read)
                .map_err(|why| HeaderError { name, why })?;
        }
        Ok(addresses)
    }

    /// A header field that holds one unsigned number in seconds or units (Expires, Min-Expires, Retry-After with its
    /// comment and parameters skipped): `None` when absent.
    ///
    /// # Errors
    /// A value that does not begin with a number below 2^32.
    pub fn number(&self, name: &'static str) -> Result<Option<u32>, HeaderError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let mut scanner = Scanner::new(value);
        let digits = scanner.take_while(|c| c.is_ascii_digit());
        let ended = matches!(scanner.peek(), None | Some(' ' | '\t' | '(' | ';'));
        match grammar::number(digits, u32::MAX) {
            Some(number) if ended => Ok(Some(number)),
            _ => Err(HeaderError { name, why: "it is no number from 0 to 4294967295" }),
        }
    }

    /// Tokens of a comma list over all fields of that name (Allow, Supported, Require).
    pub fn tokens(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.flat_map(|(_, value)| grammar::split_commas(value)).collect()
    }

    /// Media type of the body in lower case without parameters, `application/sdp`; `None` also when the field is
    /// malformed.
    pub fn content_type(&self) -> Option<String> {
        let value = self.get(name::CONTENT_TYPE)?;
        let (media, _) = value.split_once(';').unwrap_or((value, ""));
        let (kind, subtype) = media.split_once('/')?;
        let (kind, subtype) = (kind.trim_matches(grammar::is_white), subtype.trim_matches(grammar::is_white));
        (grammar::is_token(kind) && grammar::is_token(subtype))
            .then(|| format!("{kind}/{subtype}").to_ascii_lowercase())
    }
}

/// A Via value (RFC 3261 section 20.42, rport: RFC 3581).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// Upper case as registered: `UDP`, `TCP`, `TLS`…
    pub transport: String,
    /// The host of sent-by.
    pub host: Host,
    /// The port of sent-by, where one is written.
    pub port: Option<u16>,
    /// branch, received, rport, ttl, maddr and others.
    pub params: Params,
}

impl Via {
    /// The branch parameter, which names the transaction.
    pub fn branch(&self) -> Option<&str> {
        self.params.value("branch")
    }

    /// Reads one value of a list, up to its comma or the end.
    pub(crate) fn read(scanner: &mut Scanner<'_>) -> Result<Self, Why> {
        let (via, fault) = Self::read_partly(scanner)?;
        fault.map_or(Ok(via), Err)
    }

    /// Reads one value of a list as far as it can be read: an error only when sent-by cannot, else the value with
    /// the parameters before the first fault, and that fault.
    pub(crate) fn read_partly(scanner: &mut Scanner<'_>) -> Result<(Self, Option<Why>), Why> {
        scanner.skip_white();
        let protocol = scanner.token().ok_or("it names no protocol")?;
        let slash = scanner.eat_separator('/');
        let version = scanner.token().unwrap_or_default();
        if !slash || !scanner.eat_separator('/') {
            return Err("its protocol is malformed");
        }
        let transport = scanner.token().ok_or("it names no transport")?.to_ascii_uppercase();
        scanner.skip_white();
        let host = Host::read(scanner)?;
        let port = if scanner.eat_separator(':') { Some(read_port(scanner)?) } else { None };
        let mut via = Self { transport, host, port, params: Params::default() };
        let params = scanner.header_params(&mut via.params);
        let fault = if !protocol.eq_ignore_ascii_case("SIP") || version != "2.0" {
            Some("its protocol is not SIP/2.0")
        } else {
            params.err()
        };
        Ok((via, fault))
    }
}

impl FromStr for Via {
    type Err = HeaderError;
    fn from_str(s: &str) -> Result<Self, HeaderError> {
        let mut scanner = Scanner::new(s);
        let via = Self::read(&mut scanner).map_err(|why| HeaderError { name: name::VIA, why })?;
        if scanner.is_done() {
            Ok(via)
        } else {
            Err(HeaderError { name: name::VIA, why: "something follows it" })
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.transport.replace(|c| !grammar::is_token_char(c), "");
        write!(f, "SIP/2.0/{transport} {}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        let mut params = String::new();
        grammar::write_header_params(&self.params, &mut params);
        f.write_str(&params)
    }
}

/// A CSeq value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// The sequence number, below 2^31 (RFC 3261 section 8.1.1.5).
    pub seq: u32,
    /// The method.
    pub method: Method,
}

impl FromStr for CSeq {
    type Err = HeaderError;
    fn from_str(s: &str) -> Result<Self, HeaderError> {
        let fault = |why| HeaderError { name: name::CSEQ, why };
        let mut scanner = Scanner::new(s);
        scanner.skip_white();
        let digits = scanner.take_while(|c| c.is_ascii_digit());
        let seq = grammar::number(digits, (1 << 31) - 1).ok_or(fault("its number is not below 2^31"))?;
        if !scanner.peek().is_some_and(grammar::is_white) {
            return Err(fault("no white space follows its number"));
        }
        let method = scanner.rest().trim_matches(grammar::is_white);
        Ok(Self { seq, method: Method::new(method).ok_or(fault("its method is no token"))? })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seq, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, *value);
        }
        headers
    }

    #[test]
    fn names_compare_without_case_and_compact_forms_are_expanded() {
        let headers = headers(&[("m", "<sip:a@b>"), ("CONTACT", "<sip:c@d>"), ("K", "100rel"), ("z", "1")]);
        assert_eq!(headers.get("contact"), Some("<sip:a@b>"));
        assert_eq!(headers.get_all("Contact").count(), 2);
        assert_eq!(headers.get("Supported"), Some("100rel"));
        assert_eq!(headers.get("Z"), Some("1"));
    }

    #[test]
    fn pushed_fields_stay_in_their_line() {
        let headers = headers(&[("X-A\r\nVia", " a\r\nVia: b\0 "), ("é", "gone")]);
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("X-AVia", "a  Via: b")]);
    }

    #[test]
    fn lists_of_addresses_respect_quotes_and_brackets() {
        let headers = headers(&[
            ("Contact", r#""a, <sip:x@y>" <sip:a,b@c>;q=0.5 , sip:d@e;expires=3"#),
            ("Contact", "<sip:f@[::1]:5080;lr>"),
        ]);
        let contacts = headers.contacts().unwrap();
        let uris: Vec<_> = contacts.iter().map(|c| c.uri.to_string()).collect();
        assert_eq!(uris, ["sip:a,b@c", "sip:d@e", "sip:f@[::1]:5080;lr"]);
        assert_eq!(contacts.get(1).and_then(|c| c.params.value("expires")), Some("3"));
    }

    #[test]
    fn a_contact_list_is_refused_as_a_whole() {
        for bad in ["*", "<sip:a@b>,", "<sip:a@b>;;", "", "sip:a@b?Route=c", "<sip:a@b> <sip:c@d>"] {
            assert!(headers(&[("Contact", bad)]).contacts().is_err(), "{bad}");
        }
        let many = vec!["<sip:a@b>"; MAX_LIST + 1].join(",");
        assert!(headers(&[("Route", &many)]).route_set(name::ROUTE).is_err());
        assert_eq!(headers(&[]).contacts(), Ok(vec![]));
    }

    #[test]
    fn numbers_skip_comments_and_parameters() {
        let read = |value| headers(&[("Retry-After", value)]).number(name::RETRY_AFTER);
        assert_eq!(read("120 (I'm in a meeting)"), Ok(Some(120)));
        assert_eq!(read("18000;duration=3600"), Ok(Some(18000)));
        assert_eq!(read("4294967295"), Ok(Some(u32::MAX)));
        for bad in ["", "-1", "4294967296", "12a", "949302838503028349304023988"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(headers(&[]).number(name::EXPIRES), Ok(None));
    }

    #[test]
    fn tokens_come_from_all_fields() {
        let headers = headers(&[("Allow", "INVITE, ACK,,BYE "), ("allow", "INFO")]);
        assert_eq!(headers.tokens("Allow"), ["INVITE", "ACK", "BYE", "INFO"]);
    }

    #[test]
    fn content_types_lose_case_and_parameters() {
        let read = |value| headers(&[("c", value)]).content_type();
        assert_eq!(read("Application / SDP ;charset=x").as_deref(), Some("application/sdp"));
        assert_eq!(read("sdp"), None);
        assert_eq!(read("a b/c"), None);
    }

    #[test]
    fn via_values_know_white_space_ipv6_and_empty_rport() {
        let via: Via =
            "SIP / 2.0 / udp first.example.com : 4000 ;ttl=16 ;rport;branch=z9hG4bKa7c6".parse().unwrap();
        assert_eq!(
            (via.transport.as_str(), via.port, via.branch()),
            ("UDP", Some(4000), Some("z9hG4bKa7c6"))
        );
        assert_eq!(via.params.get("rport"), Some(None));
        assert_eq!(via.to_string(), "SIP/2.0/UDP first.example.com:4000;ttl=16;rport;branch=z9hG4bKa7c6");
        let v6 = "SIP/2.0/UDP [2001:db8::9:1]:5061;received=2001:db8::9:255;branch=z9hG4bKas3-111";
        assert_eq!(v6.parse::<Via>().unwrap().to_string(), v6);
        let empty: Via = "SIP/2.0/UDP a;rport=;branch=z9hG4bK1".parse().unwrap();
        assert_eq!((empty.params.get("rport"), empty.branch()), (Some(None), Some("z9hG4bK1")));
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 UDP a",
            "SIP/3.0/UDP a",
            "HTTP/2.0/UDP a",
            "SIP/2.0/UDP a:",
            "SIP/2.0/UDP a;;",
            "SIP/2.0/UDP ::1",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a:99999",
            "SIP/2.0/UDP a;branch=",
        ] {
            assert!(bad.parse::<Via>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cseq_numbers_end_below_2_31() {
        let cseq: CSeq = "0009   INVITE".parse().unwrap();
        assert_eq!(cseq, CSeq { seq: 9, method: Method::Invite });
        assert_eq!("2147483647 ACK".parse::<CSeq>().unwrap().to_string(), "2147483647 ACK");
        for bad in ["2147483648 ACK", "ACK", "1", "1 ", "1ACK", "-1 ACK", "1 A CK", "36893488147419103232 A"]
        {
            assert!(bad.parse::<CSeq>().is_err(), "{bad}");
        }
    }
}
