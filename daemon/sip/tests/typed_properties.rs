//! Properties of header fields that are read when somebody asks: what is written as the grammar has it reads back equal,
//! and no text makes a reader panic.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use voipd_sip::Method;
use voipd_sip::digest::{self, Algorithm, Challenge, Covered, Exchange, Info, Login, Proof, Qop, Secret};
use voipd_sip::headers::{Headers, name};

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
}
