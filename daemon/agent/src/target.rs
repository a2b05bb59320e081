//! Targets: what a person types to place a call, turned into a URI.

use std::net::IpAddr;

use voipd_sip::Uri;
use voipd_sip::uri::{Host, SipUri};

use crate::view::printable;

/// Why a target cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not to be read as an address.
    #[error(
        "'{}' is no SIP address: write sip:user@host, user@host, or a host or address such as sip:192.0.2.7",
        printable(.0)
    )]
    Malformed(String),
    /// A bare name or number, and no server to look it up.
    #[error("'{0}' needs an account with a server: add one, or write the whole address as sip:user@host")]
    NeedsDomain(String),
    /// A URI of another kind.
    #[error("'{0}:' addresses cannot be called, only sip: and sips: ones")]
    Scheme(String),
}

/// Reads a target. `home` is the address of the account that a bare name or number belongs to.
pub(crate) fn parse(text: &str, home: Option<&SipUri>) -> Result<SipUri, TargetError> {
    let text = text.trim();
    let malformed = || TargetError::Malformed(text.to_owned());
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ' || c == '<' || c == '>') {
        return Err(malformed());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SipUri::new(None, Host::Ip(ip), None));
    }
    if has_scheme(text) {
        return match text.parse::<Uri>() {
            Ok(Uri::Sip(uri)) => Ok(uri),
            Ok(Uri::Other { scheme, .. }) => Err(TargetError::Scheme(scheme)),
            Err(_) => Err(malformed()),
        };
    }
    let is_address = text.contains('@') || text.starts_with('[') || has_port(text);
    let whole = match home {
        _ if is_address => format!("sip:{text}"),
        // Only the user part is read: whose it is stands in the account's address.
        Some(_) => format!("sip:{text}@home.invalid"),
        None => return Err(TargetError::NeedsDomain(text.to_owned())),
    };
    match (whole.parse::<Uri>(), home) {
        (Ok(Uri::Sip(uri)), Some(home)) if !is_address => {
            Ok(SipUri { host: home.host.clone(), port: home.port, ..uri })
        }
        (Ok(Uri::Sip(uri)), _) => Ok(uri),
        _ => Err(malformed()),
    }
}

/// `sip:`, `tel:` and the like; but not `host:5060` nor an IPv6 address.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && !rest.chars().all(|c| c.is_ascii_digit())
            || ["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// `192.0.2.7:5080`, `host:5080`.
fn has_port(text: &str) -> bool {
    text.split_once(':').is_some_and(|(_, port)| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        let home = SipUri::new(None, Host::Name("example.org".to_owned()), None);
        parse(text, Some(&home)).map_or_else(|e| e.to_string(), |uri| Uri::Sip(uri).to_string())
    }

    #[test]
    fn what_people_type_becomes_a_uri() {
        assert_eq!(parsed("sip:alice@example.net"), "sip:alice@example.net");
        assert_eq!(parsed("alice@example.net"), "sip:alice@example.net");
        assert_eq!(parsed("alice"), "sip:alice@example.org");
        assert_eq!(parsed("+4930123"), "sip:+4930123@example.org");
        assert_eq!(parsed("192.0.2.7"), "sip:192.0.2.7");
        assert_eq!(parsed("192.0.2.7:5080"), "sip:192.0.2.7:5080");
        assert_eq!(parsed("door.local:5080"), "sip:door.local:5080");
        assert_eq!(parsed("2001:db8::1"), "sip:[2001:db8::1]");
        assert_eq!(parsed("sip:user@[2001:db8::1]"), "sip:user@[2001:db8::1]");
        assert_eq!(parsed("SIP:user@[2001:db8::1]:5080"), "sip:user@[2001:db8::1]:5080");
    }

    #[test]
    fn a_bare_name_is_one_of_the_accounts_server_with_its_port() {
        let home =
            SipUri::new(Some("alice"), Host::Ip(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])), Some(5080));
        let uri = parse("bob", Some(&home)).unwrap();
        assert_eq!(Uri::Sip(uri).to_string(), "sip:bob@[2001:db8::1]:5080");
        let uri = parse("bob@example.net", Some(&home)).unwrap();
        assert_eq!(Uri::Sip(uri).to_string(), "sip:bob@example.net");
    }

    #[test]
    fn what_is_no_target_says_what_to_write() {
        assert!(parsed("").contains("write sip:user@host"));
        assert!(parsed("alice bob").contains("write sip:user@host"));
        assert!(parsed("alice\r\nX: y").contains("write sip:user@host"));
        assert!(parsed("tel:+4930123").contains("only sip:"));
        assert!(parse("alice", None).unwrap_err().to_string().contains("needs an account"));
    }
}
