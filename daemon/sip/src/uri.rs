//! URIs and name-addr as SIP writes them (RFC 3261 sections 19.1 and 20.10); escapes are kept as they came.

mod escape;
mod name_addr;

pub use name_addr::NameAddr;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::grammar::{self, MAX_PARAMS, Scanner, Why};
use escape::{
    escape, is_escaped, is_headers_char, is_host_char, is_other_char, is_param_name_char,
    is_param_value_char, is_password_char, is_scheme_char, is_user_char, normal,
};

/// Longest URI read, in bytes.
pub const MAX_URI: usize = 4096;

/// A URI: `sip:`/`sips:` in its parts, any other scheme kept whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uri {
    /// `sip:` and `sips:`.
    Sip(SipUri),
    /// `tel:` and every other scheme: the scheme in lower case and the rest as it came.
    Other {
        /// The scheme in lower case, without its colon.
        scheme: String,
        /// What follows the colon.
        rest: String,
    },
}

/// A `sip:` or `sips:` URI. Use [`SipUri::equivalent`] for the comparison of RFC 3261 section 19.1.4;
/// `==` compares what is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    /// User part with its escapes as they came, without password.
    pub user: Option<String>,
    /// What stands between the user's colon and `@`, with its escapes as they came.
    pub password: Option<String>,
    /// Host name or address.
    pub host: Host,
    /// Port, where one is written.
    pub port: Option<u16>,
    /// URI parameters, with their escapes as they came.
    pub params: Params,
    /// The headers part after `?`, as it came, without the question mark.
    pub headers: Option<String>,
}

/// A host: a name or an address literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A host name as it was written.
    Name(String),
    /// An address literal; IPv6 is written in brackets.
    Ip(IpAddr),
}

/// `;name=value` parameters in their order; names compare without case. Values of header parameters are held
/// unquoted, and are written quoted where they must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// The value of the first parameter of that name: `Some(None)` when it stands without a value.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_deref())
    }

    /// The value of the first parameter of that name, if it has one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).flatten()
    }

    /// Sets the parameter of that name in its place, or appends it.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(str::to_owned);
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.push(name.to_owned(), value),
        }
    }

    /// Removes every parameter of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, name: String, value: Option<String>) {
        self.0.push((name, value));
    }
}

/// Why a text is no URI or name-addr.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UriError(pub &'static str);

fn read_uri(text: &str) -> Result<Uri, Why> {
    if text.len() > MAX_URI {
        return Err("a URI is too long");
    }
    let (scheme, rest) = text.split_once(':').ok_or("a URI has no scheme")?;
    let mut letters = scheme.chars();
    if !letters.next().is_some_and(|c| c.is_ascii_alphabetic()) || !letters.all(is_scheme_char) {
        return Err("the scheme of a URI is malformed");
    }
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "sip" => read_sip_uri(rest, false).map(Uri::Sip),
        "sips" => read_sip_uri(rest, true).map(Uri::Sip),
        _ if rest.is_empty() => Err("a URI ends behind its scheme"),
        _ if !rest.chars().all(is_other_char) => Err("a URI holds a character that must be escaped"),
        _ => Ok(Uri::Other { scheme, rest: rest.to_owned() }),
    }
}

fn read_sip_uri(text: &str, secure: bool) -> Result<SipUri, Why> {
    // An unescaped `@` can stand nowhere but behind the user part, which in turn may hold `;` and `?`.
    let (userinfo, rest) = match text.split_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, text),
    };
    let (user, password) = match userinfo.map(|u| u.split_once(':').map_or((u, None), |(u, p)| (u, Some(p))))
    {
        None => (None, None),
        Some((user, password)) => {
            if user.is_empty() || !is_escaped(user, is_user_char) {
                return Err("the user part of a URI is malformed");
            }
            if !password.is_none_or(|p| is_escaped(p, is_password_char)) {
                return Err("the password of a URI is malformed");
            }
            (Some(user.to_owned()), password.map(str::to_owned))
        }
    };
    let (rest, headers) = match rest.split_once('?') {
        Some((rest, headers)) => (rest, Some(headers)),
        None => (rest, None),
    };
    if headers.is_some_and(|h| h.is_empty() || !is_escaped(h, is_headers_char)) {
        return Err("the headers of a URI are malformed");
    }
    let mut parts = rest.split(';');
    let (host, port) = read_host_port(parts.next().unwrap_or_default())?;
    let mut params = Params::default();
    for part in parts {
        if params.len() == MAX_PARAMS {
            return Err("a URI has too many parameters");
        }
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (part, None),
        };
        if name.is_empty()
            || !is_escaped(name, is_param_name_char)
            || value.is_some_and(|v| v.is_empty() || !is_escaped(v, is_param_value_char))
        {
            return Err("a parameter of a URI is malformed");
        }
        params.push(name.to_owned(), value.map(str::to_owned));
    }
    Ok(SipUri { secure, user, password, host, port, params, headers: headers.map(str::to_owned) })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port` without white space.
fn read_host_port(text: &str) -> Result<(Host, Option<u16>), Why> {
    let mut scanner = Scanner::new(text);
    let host = Host::read(&mut scanner)?;
    let port = if scanner.eat(':') { Some(read_port(&mut scanner)?) } else { None };
    if scanner.rest().is_empty() { Ok((host, port)) } else { Err("a host or port is malformed") }
}

/// A port from 1 to 65535.
pub(crate) fn read_port(scanner: &mut Scanner<'_>) -> Result<u16, Why> {
    grammar::number(scanner.take_while(|c| c.is_ascii_digit()), u32::from(u16::MAX))
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .ok_or("a port is malformed")
}

/// An IPv6 address, also with the third colon that RFC 3261's grammar lets stand before an IPv4 address in it
/// (RFC 5118 section 4.10).
fn read_ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| {
        let (before, v4) = text.split_once(":::")?;
        let v4: Ipv4Addr = v4.parse().ok()?;
        format!("{before}::{v4}").parse().ok()
    })
}

impl Host {
    /// Reads a host as URIs and Via write it, IPv6 in brackets.
    pub(crate) fn read(scanner: &mut Scanner<'_>) -> Result<Self, Why> {
        if scanner.eat('[') {
            let text = scanner.take_while(|c| c != ']');
            let address = read_ipv6(text).ok_or("an IPv6 address is malformed")?;
            return if scanner.eat(']') {
                Ok(Self::Ip(address.into()))
            } else {
                Err("a bracket is not closed")
            };
        }
        let text = scanner.take_while(is_host_char);
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || text.len() > 255 || name.split('.').any(str::is_empty) {
            return Err("a host name is malformed");
        }
        // RFC 3261's toplabel begins with a letter, but containers are named 5f3a2b. Only what some resolvers take
        // for an address is neither name nor address: 1.2.3, 300.1.1.1, 127.0x1.
        let top = name.rsplit('.').next().unwrap_or_default();
        if top.chars().all(|c| c.is_ascii_digit()) || top.starts_with("0x") || top.starts_with("0X") {
            return Err("a host is neither a name nor an address");
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl FromStr for Uri {
    type Err = UriError;
    fn from_str(s: &str) -> Result<Self, UriError> {
        read_uri(s).map_err(UriError)
    }
}

/// Reads a host name or an address, IPv6 with or without brackets.
impl FromStr for Host {
    type Err = UriError;
    fn from_str(s: &str) -> Result<Self, UriError> {
        if let Ok(address) = s.parse() {
            return Ok(Self::Ip(address));
        }
        let mut scanner = Scanner::new(s);
        let host = Self::read(&mut scanner).map_err(UriError)?;
        if scanner.rest().is_empty() { Ok(host) } else { Err(UriError("a host name is malformed")) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&name.replace(|c| !is_host_char(c), "")),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Other { scheme, rest } => {
                let scheme = scheme.replace(|c| !is_scheme_char(c), "");
                write!(f, "{scheme}:")?;
                for c in rest.chars() {
                    if is_other_char(c) {
                        f.write_char(c)?;
                    } else {
                        f.write_str(&escape(c.encode_utf8(&mut [0; 4]), is_other_char))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// What may not stand in a part is escaped, so that no part can end its URI.
impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            f.write_str(&escape(user, is_user_char))?;
            if let Some(password) = &self.password {
                write!(f, ":{}", escape(password, is_password_char))?;
            }
            f.write_char('@')?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        for (name, value) in self.params.iter().filter(|(name, _)| !name.is_empty()) {
            write!(f, ";{}", escape(name, is_param_name_char))?;
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                write!(f, "={}", escape(value, is_param_value_char))?;
            }
        }
        match &self.headers {
            Some(headers) if !headers.is_empty() => write!(f, "?{}", escape(headers, is_headers_char)),
            _ => Ok(()),
        }
    }
}

impl SipUri {
    /// A `sip:` URI. What may not stand in a user part is escaped; escapes in `user` are kept.
    pub fn new(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        Self {
            secure: false,
            user: user.filter(|user| !user.is_empty()).map(|user| escape(user, is_user_char)),
            password: None,
            host,
            port,
            params: Params::default(),
            headers: None,
        }
    }

    /// The comparison of RFC 3261 section 19.1.4.
    pub fn equivalent(&self, other: &SipUri) -> bool {
        let same =
            |a: &Option<String>, b: &Option<String>| a.as_deref().map(normal) == b.as_deref().map(normal);
        let same_host = match (&self.host, &other.host) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        };
        self.secure == other.secure
            && same(&self.user, &other.user)
            && same(&self.password, &other.password)
            && same_host
            && self.port == other.port
            && params_agree(&self.params, &other.params)
            && params_agree(&other.params, &self.params)
            && normal_headers(self.headers.as_deref()) == normal_headers(other.headers.as_deref())
    }

    /// Is this a loose router (`;lr`, RFC 3261 section 16.12)?
    pub fn is_loose_router(&self) -> bool {
        self.params.iter().any(|(name, _)| normal(name).eq_ignore_ascii_case("lr"))
    }
}

/// Does nothing in `ours` speak against `theirs`? Parameters on one side only count where they say where a request
/// goes or what it is; a default written out does not equal one left out. Of a name that stands twice the first counts.
fn params_agree(ours: &Params, theirs: &Params) -> bool {
    const DECISIVE: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
    fn first<'a>(params: &'a Params, name: &str) -> Option<(&'a str, Option<&'a str>)> {
        params.iter().find(|(other, _)| normal(other).eq_ignore_ascii_case(name))
    }
    ours.iter().all(|(name, _)| {
        let name = normal(name);
        let value = first(ours, &name).and_then(|(_, value)| value);
        match first(theirs, &name) {
            None => !DECISIVE.iter().any(|decisive| name.eq_ignore_ascii_case(decisive)),
            Some((_, other)) => match (value, other) {
                (Some(a), Some(b)) => normal(a).eq_ignore_ascii_case(&normal(b)),
                (a, b) => a == b,
            },
        }
    })
}

/// The headers of a URI with names in lower case, in one order.
fn normal_headers(headers: Option<&str>) -> Vec<(String, String)> {
    let mut list: Vec<_> = headers
        .into_iter()
        .flat_map(|headers| headers.split('&'))
        .map(|header| {
            let (name, value) = header.split_once('=').unwrap_or((header, ""));
            (normal(name).to_ascii_lowercase(), normal(value))
        })
        .collect();
    list.sort();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip(text: &str) -> SipUri {
        match text.parse() {
            Ok(Uri::Sip(uri)) => uri,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_part_of_a_sip_uri_is_read_and_written() {
        let text = "sips:alice;day=tue%40:pa$s@[2001:db8::1]:5061;transport=tcp;lr?Subject=a%20b&x=";
        let uri = sip(text);
        assert!(uri.secure && uri.is_loose_router());
        assert_eq!(uri.user.as_deref(), Some("alice;day=tue%40"));
        assert_eq!(uri.password.as_deref(), Some("pa$s"));
        assert_eq!(uri.host, Host::Ip("2001:db8::1".parse().unwrap()));
        assert_eq!(uri.port, Some(5061));
        assert_eq!(uri.params.value("Transport"), Some("tcp"));
        assert_eq!(uri.headers.as_deref(), Some("Subject=a%20b&x="));
        assert_eq!(uri.to_string(), text);
    }

    #[test]
    fn ipv6_references_stand_with_and_without_a_port() {
        assert_eq!(sip("sip:[::1]").port, None);
        assert_eq!(sip("sip:[::1]:5080").port, Some(5080));
        for bad in
            ["sip:::1", "sip:[::1", "sip:[::1]x", "sip:[::1]:", "sip:[1.2.3.4]", "sip:[fe80::1%25eth0]"]
        {
            assert!(bad.parse::<Uri>().is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_sip_uris_are_refused() {
        for bad in [
            "",
            "sip:",
            "sip:@host",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a@b:",
            "sip:a@b;",
            "sip:a@b;;lr",
            "sip:a@b; lr",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:a@b?",
            "sip:a@300.1.1.1",
            "sip:a@1.2.3",
            "sip:a@b..c",
            "sip:a@.",
            "sip:a@b;x=",
            "<sip:a@b>",
            "1sip:a",
            "nocolon",
            "sip:é@b",
            "sip:a@b\r\nVia: x",
        ] {
            assert!(bad.parse::<Uri>().is_err(), "{bad}");
        }
        assert!(format!("sip:{}@b", "a".repeat(MAX_URI)).parse::<Uri>().is_err());
        assert!(format!("sip:b{}", ";a".repeat(MAX_PARAMS + 1)).parse::<Uri>().is_err());
    }

    #[test]
    fn other_schemes_are_kept_whole() {
        let uri: Uri = "TEL:+1-201-555-0123;ext=1".parse().unwrap();
        assert_eq!(uri, Uri::Other { scheme: "tel".into(), rest: "+1-201-555-0123;ext=1".into() });
        assert_eq!(uri.to_string(), "tel:+1-201-555-0123;ext=1");
        assert!("tel:".parse::<Uri>().is_err());
    }

    #[test]
    fn equivalence_follows_the_examples_of_rfc_3261_section_19_1_4() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(sip(a).equivalent(&sip(b)) && sip(b).equivalent(&sip(a)), "{a} {b}");
        }
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a%2Cb@c", "sip:a,b@c"),
            ("sip:a%253B@c", "sip:a%3B@c"),
            ("sip:a@c", "sips:a@c"),
        ] {
            assert!(!sip(a).equivalent(&sip(b)) && !sip(b).equivalent(&sip(a)), "{a} {b}");
        }
    }

    #[test]
    fn hosts_are_read_bare_too() {
        assert_eq!("::1".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("[::1]".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("5f3a2b".parse(), Ok(Host::Name("5f3a2b".into())));
        assert_eq!("pbx_1.example.".parse(), Ok(Host::Name("pbx_1.example.".into())));
        for bad in ["a b", "", "1.2.3", "3232235777", "127.0x1", "a..b", "[1.2.3.4]"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
