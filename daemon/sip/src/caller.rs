//! Who calls and by which way the call came, beyond From: asserted identity (RFC 3325), privacy (RFC 3323), Diversion
//! (RFC 5806) and History-Info (RFC 7044). It says what stands there, not whom to believe.

use crate::grammar::{self, MAX_LIST, Scanner};
use crate::headers::{Headers, name};
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// The longest way that is told.
const MAX_DIVERSIONS: usize = 16;
/// The From of a caller that wants to stay unknown (RFC 3323 section 4.1.1.3).
const ANONYMOUS_HOST: &str = "anonymous.invalid";
const ANONYMOUS_USER: &str = "anonymous";

/// What a request says of its caller beside From. All of it can be made up by whoever sent the request: the asserted
/// identity is to be believed from one's own servers alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// P-Asserted-Identity, at most one SIP and one tel URI; empty where the caller asks for privacy, whoever passed
    /// it on all the same.
    pub asserted: Vec<NameAddr>,
    /// The caller wants to stay unknown.
    pub anonymous: bool,
    /// Whom the call was meant for before, the latest first.
    pub diversions: Vec<Diversion>,
}

/// A callee that the call was diverted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diversion {
    /// Whom the call was for.
    pub from: Uri,
    /// A word of RFC 5806 such as `user-busy`, `no-answer` or `unconditional`; `unknown` where none is given.
    pub reason: String,
}

impl Caller {
    /// Reads what there is; a field that cannot be read is as good as absent.
    pub fn of(from: &NameAddr, headers: &Headers) -> Self {
        let wants = |what: &str| {
            let fields = headers.get_all(name::PRIVACY).flat_map(|field| field.split([';', ',']));
            fields
                .map(|value| value.trim_matches(grammar::is_white))
                .any(|value| value.eq_ignore_ascii_case(what))
        };
        let withheld = wants("id");
        let anonymous = withheld || wants("user") || wants("header") || is_anonymous(&from.uri);
        let asserted = if withheld { Vec::new() } else { asserted(headers) };
        let mut diversions = diversion(headers);
        if diversions.is_empty() {
            diversions = history(headers);
        }
        Self { asserted, anonymous, diversions }
    }
}

/// The From of a request whose sender wants to stay unknown (RFC 3323 section 4.1.1.3), without tag.
pub(crate) fn anonymous() -> NameAddr {
    let uri = SipUri::new(Some(ANONYMOUS_USER), Host::Name(ANONYMOUS_HOST.to_owned()), None);
    NameAddr { display_name: Some("Anonymous".to_owned()), ..NameAddr::new(Uri::Sip(uri)) }
}

fn is_anonymous(uri: &Uri) -> bool {
    match uri {
        Uri::Sip(uri) => {
            let by_host = matches!(&uri.host, Host::Name(host) if host.eq_ignore_ascii_case(ANONYMOUS_HOST));
            by_host || uri.user.as_deref().is_some_and(|user| user.eq_ignore_ascii_case(ANONYMOUS_USER))
        }
        Uri::Other { .. } => false,
    }
}

/// RFC 3325 section 9.1: one value, or a sip/sips one and a tel one.
fn asserted(headers: &Headers) -> Vec<NameAddr> {
    let mut identities: Vec<NameAddr> = Vec::new();
    for identity in addresses(headers, name::P_ASSERTED_IDENTITY) {
        let kind = |identity: &NameAddr| matches!(identity.uri, Uri::Sip(_));
        if !identities.iter().any(|known| kind(known) == kind(&identity)) {
            identities.push(identity);
        }
    }
    identities
}

fn diversion(headers: &Headers) -> Vec<Diversion> {
    let told = addresses(headers, name::DIVERSION).into_iter().filter(|address| {
        // RFC 5806 section 4: what is not to be shown.
        address.params.value("privacy").is_none_or(|privacy| privacy.eq_ignore_ascii_case("off"))
    });
    let read = |address: NameAddr| Diversion {
        reason: word(address.params.value("reason").unwrap_or_default()),
        from: address.uri,
    };
    told.map(read).take(MAX_DIVERSIONS).collect()
}

/// The entries that the call left again: those that a later one stands in for (`mp`), and those that carry the Reason
/// why the request went on.
fn history(headers: &Headers) -> Vec<Diversion> {
    let entries = addresses(headers, name::HISTORY_INFO);
    let mut diversions = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let index = entry.params.value("index");
        let mapped = |later: &&NameAddr| index.is_some() && later.params.value("mp") == index;
        let successor = entries.iter().skip(place + 1).find(mapped);
        let Uri::Sip(uri) = &entry.uri else { continue };
        let cause = embedded(uri, name::REASON).as_deref().and_then(cause);
        let hidden =
            embedded(uri, name::PRIVACY).is_some_and(|privacy| !privacy.eq_ignore_ascii_case("none"));
        if hidden || (successor.is_none() && cause.is_none_or(|cause| cause < 300)) {
            continue;
        }
        // RFC 4458: the address that the call went to says why.
        let told = successor.and_then(|address| match &address.uri {
            Uri::Sip(uri) => uri.params.value("cause").and_then(|cause| grammar::number(cause, 699)),
            Uri::Other { .. } => None,
        });
        let from = Uri::Sip(SipUri { headers: None, ..uri.clone() });
        diversions.push(Diversion { from, reason: word_of_cause(told.or(cause)).to_owned() });
    }
    // They stand in the order in which they happened.
    diversions.reverse();
    diversions.truncate(MAX_DIVERSIONS);
    diversions
}

/// A header of a URI, unescaped.
fn embedded(uri: &SipUri, wanted: &str) -> Option<String> {
    let headers = uri.headers.as_deref()?.split('&').filter_map(|header| header.split_once('='));
    let (_, value) = headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            byte => byte,
        };
        plain.push(byte);
    }
    String::from_utf8(plain).ok()
}

/// The cause of an embedded SIP Reason.
fn cause(reason: &str) -> Option<u32> {
    let mut parts = reason.split(';').map(str::trim);
    if !parts.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case("SIP")) {
        return None;
    }
    parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("cause").then(|| grammar::number(value.trim(), 699)).flatten()
    })
}

/// RFC 4458 section 2, in the words of RFC 5806.
fn word_of_cause(cause: Option<u32>) -> &'static str {
    match cause {
        Some(302) => "unconditional",
        Some(408) => "no-answer",
        Some(480 | 487) => "deflection",
        Some(486 | 600) => "user-busy",
        Some(503) => "unavailable",
        _ => "unknown",
    }
}

fn word(reason: &str) -> String {
    match grammar::is_token(reason) {
        true => reason.to_ascii_lowercase(),
        false => "unknown".to_owned(),
    }
}

/// The addresses of all fields of that name, each field up to what cannot be read.
fn addresses(headers: &Headers, name: &str) -> Vec<NameAddr> {
    let mut addresses = Vec::new();
    for field in headers.get_all(name) {
        _ = Scanner::new(field).list(&mut addresses, MAX_LIST, NameAddr::read);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(from: &str, fields: &[(&str, &str)]) -> Caller {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, *value));
        Caller::of(&from.parse().unwrap(), &headers)
    }

    fn uris(addresses: &[NameAddr]) -> Vec<String> {
        addresses.iter().map(|address| address.uri.to_string()).collect()
    }

    fn diversions(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let found = caller("<sip:a@b>", fields).diversions.into_iter();
        found.map(|diversion| (diversion.from.to_string(), diversion.reason)).collect()
    }

    #[test]
    fn one_asserted_identity_of_each_kind_is_read() {
        let fields = [
            ("P-Asserted-Identity", "\"Cullen, J\" <sip:fluffy@cisco.com>, tel:+14085264000"),
            ("P-Asserted-Identity", "<sips:other@cisco.com>, <tel:+1>"),
        ];
        let caller = caller("<sip:a@b>", &fields);
        assert_eq!(uris(&caller.asserted), ["sip:fluffy@cisco.com", "tel:+14085264000"]);
        assert_eq!(caller.asserted[0].display_name.as_deref(), Some("Cullen, J"));
        assert!(!caller.anonymous);
    }

    #[test]
    fn a_caller_is_anonymous_by_from_or_by_privacy() {
        for from in [
            "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
            "<sip:x@Anonymous.Invalid>",
            "sip:Anonymous@b",
        ] {
            assert!(caller(from, &[]).anonymous, "{from}");
        }
        for privacy in ["id", "user;critical", "none , Header"] {
            assert!(caller("<sip:a@b>", &[("Privacy", privacy)]).anonymous, "{privacy}");
        }
        for privacy in ["none", "session", "identity", ""] {
            assert!(!caller("<sip:a@b>", &[("Privacy", privacy)]).anonymous, "{privacy}");
        }
    }

    #[test]
    fn an_identity_that_is_to_be_withheld_is_not_told() {
        let fields = [("P-Asserted-Identity", "<sip:fluffy@cisco.com>"), ("Privacy", "user; id")];
        let caller = caller("<sip:anonymous@anonymous.invalid>", &fields);
        assert_eq!((caller.asserted.len(), caller.anonymous), (0, true));
    }

    #[test]
    fn diversions_are_told_latest_first() {
        let fields = [
            ("Diversion", "<sip:b@x>;reason=User-Busy;counter=1, \"C\" <tel:+49301>;reason=\"odd one\""),
            ("Diversion", "<sip:hidden@x>;reason=away;privacy=full, <sip:d@x>;privacy=off"),
        ];
        let expected = [("sip:b@x", "user-busy"), ("tel:+49301", "unknown"), ("sip:d@x", "unknown")];
        assert_eq!(diversions(&fields), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(diversions(&[("Diversion", "<sip:b@x>, nonsense")]).len(), 1);
    }

    #[test]
    fn history_tells_whom_the_call_left_and_why() {
        let fields = [(
            "History-Info",
            "<sip:bob@x?Reason=SIP%3Bcause%3D302>;index=1, <sip:office@x;cause=486>;index=1.1;mp=1, \
             <sip:home@x;cause=408>;index=1.2;mp=1.1, <sip:home@192.0.2.4>;index=1.2.1;rc=1.2",
        )];
        let expected = [("sip:office@x;cause=486", "no-answer"), ("sip:bob@x", "user-busy")];
        assert_eq!(diversions(&fields), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let hidden = [(
            "History-Info",
            "<sip:bob@x?Privacy=history&Reason=SIP%3Bcause%3D302>;index=1, <sip:c@x>;index=1.1",
        )];
        assert_eq!(diversions(&hidden), []);
        let retargeted =
            [("History-Info", "<sip:bob@x?reason=SIP%3bcause%3d480%3btext%3d%22away%22>;index=1")];
        assert_eq!(diversions(&retargeted), [("sip:bob@x".to_owned(), "deflection".to_owned())]);
    }

    #[test]
    fn diversion_stands_before_history_and_nonsense_is_nothing() {
        let fields =
            [("History-Info", "<sip:bob@x?Reason=SIP%3Bcause%3D302>;index=1"), ("Diversion", "<sip:c@x>")];
        assert_eq!(diversions(&fields).len(), 1);
        for nonsense in
            ["<sip:bob@x?Reason=%>", "<sip:bob@x?Reason=SIP%3Bcause%3D99999999>", "<", "", "<tel:+1>;mp=1"]
        {
            assert_eq!(diversions(&[("History-Info", nonsense)]), [], "{nonsense}");
        }
        let many = vec!["<sip:b@x>"; 60].join(",");
        assert_eq!(diversions(&[("Diversion", &many)]).len(), MAX_DIVERSIONS);
    }
}
