//! Targets: what a person types to place a call, turned into a URI.

use std::net::IpAddr;

use voipd_sip::Uri;
use voipd_sip::uri::{Host, SipUri};

use crate::dialplan::tel::{Context, Telephone, number_of_user};
use crate::dialplan::{Blocked, DialPlan, Dialled, Number, NumberUri};
use crate::view::printable;

/// Why a target cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not to be read as an address.
    #[error(
        "'{}' is no address: write sip:user@host, user@host, a number, or a host or address such as sip:192.0.2.7",
        printable(.0)
    )]
    Malformed(String),
    /// Not to be read as a telephone number.
    #[error("'{}' is no telephone number: write it as in tel:+49301234567", printable(.0))]
    MalformedNumber(String),
    /// A bare name or number, and no server to look it up.
    #[error("'{0}' needs an account with a server: add one, or write the whole address as sip:user@host")]
    NeedsDomain(String),
    /// A URI of another kind.
    #[error("'{0}:' addresses cannot be called, only sip:, sips: and tel: ones")]
    Scheme(String),
    /// The account's settings do not allow it.
    #[error(
        "'{number}' is not called: the account blocks numbers that begin with {prefix} (its setting 'blocked')"
    )]
    Blocked {
        /// As it was dialled.
        number: String,
        /// The setting.
        prefix: String,
    },
}

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    /// No limit may stand in the way.
    pub(crate) emergency: bool,
}

/// The account that names and numbers belong to.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) address: &'a SipUri,
    pub(crate) plan: &'a DialPlan,
}

/// Reads a target. `home` is that of the account that calls, where it has a server.
///
/// What is not a URI is read as the first of these that it can be: an IP address; a number; `user@host`; a host, which
/// has a port or a dot; a name at the account's own server.
pub(crate) fn parse(text: &str, home: Option<Home<'_>>) -> Result<Target, TargetError> {
    let text = text.trim();
    let malformed = || TargetError::Malformed(text.to_owned());
    let needs_domain = || TargetError::NeedsDomain(text.to_owned());
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Target::at(SipUri::new(None, Host::Ip(ip), None)));
    }
    if let Some(number) = Number::read(text) {
        return home.ok_or_else(needs_domain)?.number(&number, None);
    }
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ' || c == '<' || c == '>') {
        return Err(malformed());
    }
    if has_scheme(text) {
        return match text.parse::<Uri>() {
            Ok(Uri::Sip(uri)) => checked(uri, home),
            Ok(Uri::Other { scheme, rest }) if scheme == "tel" => {
                let telephone = Telephone::read(&rest);
                let telephone = telephone.ok_or_else(|| TargetError::MalformedNumber(text.to_owned()))?;
                home.ok_or_else(needs_domain)?.number(&telephone.number, Some(&telephone))
            }
            Ok(Uri::Other { scheme, .. }) => Err(TargetError::Scheme(scheme)),
            Err(_) => Err(malformed()),
        };
    }
    if text.contains('@') || text.starts_with('[') || has_port(text) || is_host_name(text) {
        return match format!("sip:{text}").parse::<Uri>() {
            Ok(Uri::Sip(uri)) => checked(uri, home),
            _ => Err(malformed()),
        };
    }
    // Only the user part is read: whose it is stands in the account's address.
    match (format!("sip:{text}@home.invalid").parse::<Uri>(), home) {
        (_, None) => Err(needs_domain()),
        (Ok(Uri::Sip(uri)), Some(home)) => {
            Ok(Target::at(SipUri { host: home.address.host.clone(), port: home.address.port, ..uri }))
        }
        _ => Err(malformed()),
    }
}

impl Target {
    fn at(uri: SipUri) -> Self {
        Self { uri: Uri::Sip(uri), emergency: false }
    }
}

/// A whole address is called as it is; but a number at the account's own server is a number in whatever way it is
/// written, so that no block is walked around.
fn checked(uri: SipUri, home: Option<Home<'_>>) -> Result<Target, TargetError> {
    let own = home.filter(|home| home.is_domain_of(&uri));
    let number = uri.user.as_deref().and_then(number_of_user);
    let emergency = match (own, &number) {
        (Some(home), Some(number)) => home.plan.check(number).map_err(|prefix| blocked(number, prefix))?,
        _ => false,
    };
    Ok(Target { uri: Uri::Sip(uri), emergency })
}

fn blocked(number: &Number, Blocked(prefix): Blocked) -> TargetError {
    TargetError::Blocked { number: number.as_str().to_owned(), prefix }
}

impl Home<'_> {
    fn is_domain_of(&self, uri: &SipUri) -> bool {
        match (&self.address.host, &uri.host) {
            (Host::Name(own), Host::Name(other)) => own.eq_ignore_ascii_case(other),
            (own, other) => own == other,
        }
    }

    /// A number by way of the dial plan; `telephone` is the `tel:` URI that it came in.
    fn number(&self, number: &Number, telephone: Option<&Telephone>) -> Result<Target, TargetError> {
        let foreign = telephone.and_then(|telephone| telephone.context.as_ref()).filter(|c| !self.knows(c));
        let dialled = match foreign {
            // It means something only there: the server must make of it what it can (RFC 3966 section 5.1.5).
            Some(_) => self
                .plan
                .check(number)
                .map(|emergency| Dialled { number: number.as_str().to_owned(), emergency }),
            None => self.plan.dial(number),
        };
        let Dialled { number, emergency } = dialled.map_err(|prefix| blocked(number, prefix))?;
        let params = telephone.map(|telephone| telephone.params(foreign.is_some())).unwrap_or_default();
        Ok(Target { uri: self.uri_of(&number, &params), emergency })
    }

    /// Local numbers of this context are those that are dialled here.
    fn knows(&self, context: &Context) -> bool {
        match (context, &self.address.host) {
            (Context::Digits(digits), _) => self.plan.is_here(digits),
            (Context::Domain(domain), Host::Name(own)) => own.eq_ignore_ascii_case(domain),
            (Context::Domain(_), Host::Ip(_)) => false,
        }
    }

    fn uri_of(&self, number: &str, params: &str) -> Uri {
        if self.plan.uri == NumberUri::Tel
            && let Some(rest) = self.telephone(number, params)
        {
            return Uri::Other { scheme: "tel".to_owned(), rest };
        }
        // RFC 3261 section 25.1: a user part holds no bare `#`.
        let user = format!("{number}{params}").replace('#', "%23");
        let mut uri = SipUri::new(Some(&user), self.address.host.clone(), self.address.port);
        // RFC 3261 section 19.1.1: without this, the parameters of a number are but letters of a name.
        if self.plan.uri == NumberUri::Phone || !params.is_empty() {
            uri.params.set("user", Some("phone"));
        }
        Uri::Sip(uri)
    }
}

impl Home<'_> {
    /// The number behind `tel:`. One that is not international means something at the account's server alone, and says so
    /// by the server's name (RFC 3966 section 5.1.5); `None` where it has none.
    fn telephone(&self, number: &str, params: &str) -> Option<String> {
        let is_whole = number.starts_with('+') || params.to_ascii_lowercase().contains(";phone-context=");
        match &self.address.host {
            _ if is_whole => Some(format!("{number}{params}")),
            Host::Name(name) => Some(format!("{number}{params};phone-context={name}")),
            Host::Ip(_) => None,
        }
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

/// `door.local`, `pbx.example.org`, `door.`: a name with a dot is a host's.
fn is_host_name(text: &str) -> bool {
    text.contains('.') && matches!(text.parse(), Ok(Host::Name(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> SipUri {
        SipUri::new(None, Host::Name("example.org".to_owned()), None)
    }

    fn with(plan: &DialPlan, text: &str) -> String {
        let address = home();
        let target = parse(text, Some(Home { address: &address, plan }));
        target.map_or_else(|error| error.to_string(), |target| target.uri.to_string())
    }

    fn parsed(text: &str) -> String {
        with(&DialPlan::default(), text)
    }

    fn germany() -> DialPlan {
        DialPlan { country: Some("49".to_owned()), blocked: vec!["0900".to_owned()], ..DialPlan::default() }
    }

    #[test]
    fn what_people_type_becomes_a_uri() {
        assert_eq!(parsed("sip:alice@example.net"), "sip:alice@example.net");
        assert_eq!(parsed("alice@example.net"), "sip:alice@example.net");
        assert_eq!(parsed("alice"), "sip:alice@example.org");
        assert_eq!(parsed("+4930123"), "sip:+4930123@example.org");
        assert_eq!(parsed("192.0.2.7"), "sip:192.0.2.7");
        assert_eq!(parsed("192.0.2.7:5080"), "sip:192.0.2.7:5080");
        assert_eq!(parsed("2001:db8::1"), "sip:[2001:db8::1]");
        assert_eq!(parsed("sip:user@[2001:db8::1]"), "sip:user@[2001:db8::1]");
        assert_eq!(parsed("SIP:user@[2001:db8::1]:5080"), "sip:user@[2001:db8::1]:5080");
    }

    #[test]
    fn a_name_with_a_dot_or_a_port_is_a_host() {
        assert_eq!(parsed("door.local"), "sip:door.local");
        assert_eq!(parsed("door.local:5080"), "sip:door.local:5080");
        assert_eq!(parsed("door:5080"), "sip:door:5080");
        assert_eq!(parsed("door."), "sip:door.");
        assert_eq!(parsed("john.doe@example.org"), "sip:john.doe@example.org");
        assert_eq!(parsed("door"), "sip:door@example.org");
        assert_eq!(parse("door.local", None).unwrap().uri.to_string(), "sip:door.local");
    }

    #[test]
    fn a_bare_name_is_one_of_the_accounts_server_with_its_port() {
        let address =
            SipUri::new(Some("alice"), Host::Ip(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])), Some(5080));
        let plan = DialPlan::default();
        let home = Home { address: &address, plan: &plan };
        assert_eq!(parse("bob", Some(home)).unwrap().uri.to_string(), "sip:bob@[2001:db8::1]:5080");
        assert_eq!(parse("030 1", Some(home)).unwrap().uri.to_string(), "sip:0301@[2001:db8::1]:5080");
        assert_eq!(parse("bob@example.net", Some(home)).unwrap().uri.to_string(), "sip:bob@example.net");
    }

    #[test]
    fn numbers_go_by_the_dial_plan_of_the_account() {
        assert_eq!(parsed("030 1234-567"), "sip:0301234567@example.org");
        assert_eq!(parsed("*21#"), "sip:*21%23@example.org");
        assert_eq!(with(&germany(), "030 1234567"), "sip:+49301234567@example.org");
        assert_eq!(with(&germany(), "tel:030-1234567"), "sip:+49301234567@example.org");
        assert_eq!(with(&germany(), "20"), "sip:20@example.org");
    }

    #[test]
    fn the_kind_of_uri_for_numbers_can_be_chosen() {
        let phone = DialPlan { uri: NumberUri::Phone, ..germany() };
        assert_eq!(with(&phone, "030 123"), "sip:+4930123@example.org;user=phone");
        assert_eq!(with(&phone, "alice"), "sip:alice@example.org");
        let tel = DialPlan { uri: NumberUri::Tel, ..germany() };
        assert_eq!(with(&tel, "030 123"), "tel:+4930123");
        assert_eq!(with(&tel, "tel:+1-201-555-0123;ext=5"), "tel:+12015550123;ext=5");
        assert_eq!(with(&tel, "20"), "tel:20;phone-context=example.org");
        assert_eq!(with(&tel, "tel:030123;phone-context=+33"), "tel:030123;phone-context=+33");
        assert_eq!(with(&tel, "alice"), "sip:alice@example.org");
        // A local number of a server without a name.
        let address = SipUri::new(Some("alice"), Host::Ip(IpAddr::from([192, 0, 2, 1])), None);
        let target = parse("20", Some(Home { address: &address, plan: &tel })).unwrap();
        assert_eq!(target.uri.to_string(), "sip:20@192.0.2.1");
    }

    #[test]
    fn rfc_3261_19_1_6_tel_uris_become_users_with_their_parameters() {
        assert_eq!(parsed("tel:+1-201-555-0123"), "sip:+12015550123@example.org");
        assert_eq!(parsed("tel:+49.30.123;ext=5-5"), "sip:+4930123;ext=55@example.org;user=phone");
        assert_eq!(
            parsed("tel:863-1234;phone-context=+1-914-555"),
            "sip:8631234;phone-context=+1914555@example.org;user=phone"
        );
        assert_eq!(parsed("tel:7042;phone-context=Example.ORG"), "sip:7042@example.org");
        assert_eq!(
            parsed("tel:7042;phone-context=example.com"),
            "sip:7042;phone-context=example.com@example.org;user=phone"
        );
        assert_eq!(with(&germany(), "tel:030123;phone-context=+49"), "sip:+4930123@example.org");
        assert_eq!(
            with(&germany(), "tel:030123;phone-context=+33"),
            "sip:030123;phone-context=+33@example.org;user=phone"
        );
    }

    #[test]
    fn blocked_numbers_are_refused_in_whatever_way_they_are_written() {
        for text in [
            "0900 1",
            "+49 900 1",
            "tel:+49-900-1",
            "tel:0900-1;phone-context=+33",
            "sip:09001@example.org",
            "sip:%30900-1@EXAMPLE.org;user=phone",
            "09001@example.org",
            "sip:+499001;ext=1@example.org:5060",
        ] {
            assert!(with(&germany(), text).contains("blocks numbers that begin with 0900"), "{text}");
        }
        assert_eq!(with(&germany(), "sip:09001@example.net"), "sip:09001@example.net");
    }

    #[test]
    fn emergency_numbers_are_told_from_others() {
        let address = home();
        let plan = DialPlan { blocked: ["1", "0", "+", "9"].map(str::to_owned).to_vec(), ..germany() };
        let is =
            |text| parse(text, Some(Home { address: &address, plan: &plan })).map(|target| target.emergency);
        for text in ["112", "1-1-2", "tel:112", "tel:110;phone-context=+49", "sip:112@example.org", "911"] {
            assert_eq!(is(text), Ok(true), "{text}");
        }
        for text in ["20", "alice", "sip:112@example.net"] {
            assert_eq!(is(text), Ok(false), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_says_what_to_write() {
        assert!(parsed("").contains("write sip:user@host"));
        assert!(parsed("alice bob").contains("write sip:user@host"));
        assert!(parsed("alice\r\nX: y").contains("write sip:user@host"));
        assert!(parsed("tel:alice").contains("write it as in tel:"));
        assert!(parsed("mailto:alice@example.org").contains("only sip:, sips: and tel:"));
        for text in ["alice", "030123", "tel:+4930123"] {
            assert!(parse(text, None).unwrap_err().to_string().contains("needs an account"), "{text}");
        }
    }
}
