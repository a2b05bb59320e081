//! Properties of header fields that are read when somebody asks: what is written as the grammar has it reads back equal,
//! and no text makes a reader panic.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use voipd_sip::caller::Caller;
use voipd_sip::digest::{self, Algorithm, Challenge, Covered, Exchange, Info, Login, Proof, Qop, Secret};
use voipd_sip::headers::{Headers, name};
use voipd_sip::reason::{Protocol, Reason, Reasons};
use voipd_sip::uri::{Host, SipUri};
use voipd_sip::{Method, NameAddr, Uri};

/// Any text but what cannot stand in one line.
const TEXT: &str = r#"[^\r\n\x00]{0,20}"#;

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn challenge() -> impl Strategy<Value = Challenge> {
    let algorithm = proptest::sample::select(Algorithm::ALL.to_vec());
    let qop = proptest::sample::select(vec![Qop::None, Qop::Auth, Qop::AuthInt]);
    (TEXT, TEXT, option::of(TEXT), algorithm, qop, any::<bool>(), any::<bool>())
        .prop_filter("a session needs qop", |(_, _, _, algorithm, qop, _, _)| {
            *qop != Qop::None || !algorithm.name().ends_with("-sess")
        })
        .prop_map(|(realm, nonce, opaque, algorithm, qop, stale, userhash)| Challenge {
            realm,
            nonce,
            opaque,
            algorithm,
            qop,
            stale,
            userhash,
        })
}

/// As a server writes it; `order` shuffles the parameters.
fn write(challenge: &Challenge, order: usize) -> String {
    let mut params =
        vec![format!("realm={}", quoted(&challenge.realm)), format!("nonce = {}", quoted(&challenge.nonce))];
    params.push(format!("algorithm={}", challenge.algorithm.name()));
    params.extend(challenge.opaque.as_deref().map(|opaque| format!("opaque={}", quoted(opaque))));
    match challenge.qop {
        Qop::None => {}
        Qop::Auth => params.push("qop=\"auth-int,auth\"".to_owned()),
        Qop::AuthInt => params.push("qop=auth-int".to_owned()),
    }
    params.push(format!("stale={}", challenge.stale));
    params.push(format!("userhash={}", challenge.userhash));
    let places = params.len();
    params.rotate_left(order % places);
    format!("Digest {}", params.join(" , "))
}

fn reason(protocol: Protocol) -> impl Strategy<Value = Reason> {
    let causes = if protocol == Protocol::Sip { 100..700_u16 } else { 1..128_u16 };
    (option::of(causes), TEXT).prop_map(move |(cause, text)| Reason { protocol, cause, text })
}

fn identity(user: &str, display_name: Option<String>) -> NameAddr {
    let uri = Uri::Sip(SipUri::new(Some(user), Host::Name("example.org".to_owned()), None));
    NameAddr { display_name, ..NameAddr::new(uri) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// In one field or in several: the strongest first, and else in their order.
    #[test]
    fn written_challenges_read_back(
        mut offered in vec(challenge(), 1..5), order in any::<usize>(), one_field in any::<bool>(),
    ) {
        let texts: Vec<String> = offered.iter().map(|challenge| write(challenge, order)).collect();
        let mut headers = Headers::default();
        if one_field {
            headers.push(name::WWW_AUTHENTICATE, texts.join(", "));
        } else {
            texts.into_iter().for_each(|text| headers.push(name::WWW_AUTHENTICATE, text));
        }
        let read = digest::challenges(&headers, name::WWW_AUTHENTICATE).unwrap();
        offered.sort_by_key(|challenge| std::cmp::Reverse(challenge.algorithm));
        prop_assert_eq!(read.challenges, offered);
        prop_assert!(!read.others);
    }

    /// Credentials name what the challenge named, and stay in their line.
    #[test]
    fn written_credentials_read_back(
        challenge in challenge(), user in TEXT, uri in "sip:[a-z]{1,8}", count in 1..u32::MAX,
    ) {
        let password = Secret::new("p");
        let login = Login { user: &user, password: &password };
        let covered = Covered { method: &Method::Register, uri: &uri, body: b"" };
        let exchange = Exchange { nonce_count: count, cnonce: "c", first_nonce: &challenge.nonce };
        let value = digest::authorization(&challenge, login, covered, exchange);
        prop_assert!(!value.contains(['\r', '\n', '\0']));
        prop_assert_eq!(digest::realm_of(&value), Some(challenge.realm.clone()));
        // What a server that does not know the password takes for a proof.
        let info = Info::read("rspauth=\"00\", qop=auth, cnonce=\"c\"");
        prop_assert_eq!(info.check(challenge.algorithm, login, &challenge.nonce, &value, b""), Proof::Wrong);
    }

    #[test]
    fn written_authentication_info_reads_back(
        nonce in "[^\\r\\n\\x00]{1,20}", before in "(qop=auth, )?", after in "(, nc=00000001)?",
    ) {
        let info = Info::read(&format!("{before}nextnonce={}{after}", quoted(&nonce)));
        prop_assert_eq!(info.next_nonce, Some(nonce));
    }

    #[test]
    fn any_authentication_info_is_read_or_absent(
        text in "(nextnonce=|rspauth=|\"|\\\\|,|a|=| |qop=auth){0,12}",
    ) {
        let info = Info::read(&text);
        prop_assert!(info.next_nonce.is_none_or(|nonce| !nonce.is_empty()));
    }

    /// In one field or in two, among those of other protocols.
    #[test]
    fn written_reasons_read_back(
        sip in option::of(reason(Protocol::Sip)), q850 in option::of(reason(Protocol::Q850)), one_field in any::<bool>(),
    ) {
        let mut texts: Vec<String> = [&sip, &q850].into_iter().flatten().map(ToString::to_string).collect();
        texts.insert(0, "X;cause=1;text=\"SIP;cause=600, SIP\"".to_owned());
        let mut headers = Headers::default();
        if one_field {
            headers.push(name::REASON, texts.join(","));
        } else {
            texts.into_iter().for_each(|text| headers.push(name::REASON, text));
        }
        prop_assert_eq!(Reasons::of(&headers), Reasons { sip, q850 });
    }

    #[test]
    fn any_reason_is_read_or_absent(text in "(SIP|Q.850|;|cause=|text=|\"|\\\\|,|=|7|99| ){0,16}") {
        let mut headers = Headers::default();
        headers.push(name::REASON, text);
        let reasons = Reasons::of(&headers);
        prop_assert!(reasons.sip.is_none_or(|reason| reason.cause.is_none_or(|cause| (100..700).contains(&cause))));
    }

    /// The asserted identity is the one that was written, whatever the names around it say.
    #[test]
    fn a_written_identity_reads_back(
        user in "[a-z]{1,8}", display_name in option::of(r#"[^\r\n\x00]{1,20}"#), tel in option::of("[0-9]{1,12}"),
    ) {
        let asserted = identity(&user, display_name);
        let mut headers = Headers::default();
        let number = tel.map(|tel| format!("<tel:+{tel}>"));
        let second = number.as_ref().map(|number| format!(", {number}")).unwrap_or_default();
        headers.push(name::P_ASSERTED_IDENTITY, format!("{asserted}{second}"));
        let caller = Caller::of(&identity("from", None), &headers);
        let expected: Vec<NameAddr> =
            [Some(asserted), number.map(|number| number.parse().unwrap())].into_iter().flatten().collect();
        prop_assert_eq!(caller.asserted, expected);
        prop_assert!(!caller.anonymous);
        headers.push(name::PRIVACY, "none;id");
        prop_assert_eq!(Caller::of(&identity("from", None), &headers).asserted, vec![]);
    }

    #[test]
    fn any_way_of_a_call_is_told_or_not(
        text in "(<|>|sip:a@b|\\?|Reason=SIP|%3B|cause%3D|486|;index=1|;mp=1|;reason=|no-answer|\"|\\\\|,|;| ){0,16}",
    ) {
        let mut headers = Headers::default();
        for field in [name::DIVERSION, name::HISTORY_INFO, name::P_ASSERTED_IDENTITY, name::PRIVACY] {
            headers.push(field, text.as_str());
        }
        let caller = Caller::of(&identity("from", None), &headers);
        prop_assert!(caller.asserted.len() <= 2 && caller.diversions.len() <= 16);
    }
}
