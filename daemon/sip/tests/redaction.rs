//! What others may see of a message: no secret survives, however it is written, and the rest stays readable.

use proptest::collection::vec;
use proptest::prelude::*;
use voipd_sip::redact::redact;

/// Stands for everything that must not be seen; it looks like nothing else.
const SECRET: &str = "Q7xSeCrEt9vZ";

fn redacted(message: &str) -> String {
    String::from_utf8(redact(message.as_bytes())).unwrap()
}

fn register(field: &str) -> String {
    format!("REGISTER sip:example.org SIP/2.0\r\nCall-ID: a:1@b\r\n{field}\r\nContent-Length: 0\r\n\r\n")
}

fn with_body(method: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} sip:b@c SIP/2.0\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_digest_keeps_what_is_no_secret() {
    let field = "Authorization: Digest username=\"alice\", realm=\"a, b\", nonce=\"n1\", uri=\"sip:x\", \
                 response=\"0123\", algorithm=SHA-256, cnonce=\"c1\", opaque=\"o\", qop=auth, nc=00000001";
    let shown = "Authorization: Digest username=\"alice\", realm=\"a, b\", nonce=***, uri=\"sip:x\", \
                 response=***, algorithm=SHA-256, cnonce=***, opaque=***, qop=auth, nc=00000001";
    assert_eq!(redacted(&register(field)), register(shown));
}

#[test]
fn challenges_and_proofs_lose_their_nonces() {
    for (field, shown) in [
        (
            "WWW-Authenticate: Digest realm=\"r\",nonce=\"n\",stale=TRUE, Digest realm=\"s\", nonce=\"m\"",
            "WWW-Authenticate: Digest realm=\"r\",nonce=***,stale=TRUE, Digest realm=\"s\", nonce=***",
        ),
        (
            "Authentication-Info: nextnonce=\"n\", qop=auth, rspauth=\"p\"",
            "Authentication-Info: nextnonce=***, qop=auth, rspauth=***",
        ),
        ("Proxy-Authorization: Basic YWxpY2U6c2VjcmV0", "Proxy-Authorization: Basic ***"),
        ("authorization : Bearer abc=", "authorization : Bearer ***"),
        (
            "Contact: <sip:a:pw@b;pn-prid=tok;pn-provider=x>;expires=3",
            "Contact: <sip:a:***@b;pn-prid=***;pn-provider=x>;expires=3",
        ),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("no colon at all", "***"),
    ] {
        assert_eq!(redacted(&register(field)), register(shown));
    }
}

#[test]
fn session_descriptions_stay_readable_but_for_their_keys() {
    let body = "v=0\r\nk=clear:topsecret\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abcd|2^20\r\na=ice-ufrag:uf\r\n\
                a=ice-pwd:pw\r\nno line\r\n";
    let shown = "v=0\r\nk=***************\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 ****************\r\na=ice-ufrag:uf\r\n\
                 a=ice-pwd:**\r\n*******\r\n";
    assert_eq!(
        redacted(&with_body("INVITE", "Application/SDP", body)),
        with_body("INVITE", "Application/SDP", shown)
    );
}

#[test]
fn trickled_candidates_are_shown_without_their_password() {
    let body = |password| {
        format!(
            "m=audio 9 RTP/AVP 0\r\na=ice-pwd:{password}\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n"
        )
    };
    let kind = "application/trickle-ice-sdpfrag";
    assert_eq!(redacted(&with_body("INFO", kind, &body("pw"))), with_body("INFO", kind, &body("**")));
}

#[test]
fn what_was_said_in_confidence_keeps_only_its_length() {
    for (method, content_type) in [
        ("MESSAGE", "text/plain"),
        ("message", "application/sdp"),
        ("INFO", "application/dtmf-relay"),
        ("INFO", "application/dtmf"),
        ("INVITE", "multipart/mixed"),
    ] {
        assert_eq!(
            redacted(&with_body(method, content_type, "v=5\r\nö")),
            with_body(method, content_type, "***\r\n**")
        );
    }
}

#[test]
fn parts_of_a_multipart_are_taken_by_their_type() {
    let body = |plain, key| {
        format!(
            "--b\r\nContent-Type: text/plain\r\n\r\n{plain}\r\n--b\r\nContent-Type: application/sdp\r\n\r\n\
             v=0\r\na=ice-pwd:{key}\r\n--b--\r\n"
        )
    };
    let content_type = "multipart/mixed; boundary=\"b\"";
    assert_eq!(
        redacted(&with_body("INVITE", content_type, &body("hello", "pw"))),
        with_body("INVITE", content_type, &body("*****", "**"))
    );
}

#[test]
fn a_message_without_secrets_is_left_as_it_is() {
    let message = "\r\nSIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1\r\n\
                   From: \"A: b\" <sip:alice@a.example>;tag=1\r\nTo: Bob\r\n <sip:bob@b.example>\r\n\
                   i: 1:2@[::1]\r\nCSeq: 1 INVITE\r\nX-Other: 1\r\n\r\n";
    assert_eq!(redacted(message), message);
}

/// White space as it may stand around separators, folded lines too.
fn gap() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", " ", "\t", "  ", "\r\n ", "\n\t"])
}

/// The word in some mixture of cases.
fn any_case(word: &'static str) -> impl Strategy<Value = String> {
    vec(any::<bool>(), word.len()).prop_map(move |upper| {
        let letter =
            |(c, upper): (char, bool)| if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        word.chars().zip(upper).map(letter).collect()
    })
}

fn among(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_flat_map(any_case)
}

prop_compose! {
    fn credentials()(
        name in among(&[
            "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate",
            "authentication-info", "proxy-authentication-info",
        ]),
        scheme in among(&["digest", "basic", "bearer", "unheard-of"]),
        param in among(&["response", "nonce", "cnonce", "nextnonce", "rspauth", "opaque", "unheard-of"]),
        before in vec(prop::sample::select(vec!["realm=\"r\\\"\"", "nc=1", "uri=\"sip:a\"", "=", "\"", "x y", "qop"]), 0..3),
        gaps in (gap(), gap(), gap(), gap()),
        quote in prop::sample::select(vec!["\"", "", "'"]),
    ) -> String {
        let (a, b, c, d) = gaps;
        let before: String = before.iter().map(|text| format!("{text},{a}")).collect();
        format!("{name}{}:{b}{scheme} {before}{param}{c}={d}{quote}{SECRET}{quote}", a.trim_matches(['\r', '\n']))
    }
}

fn addresses() -> impl Strategy<Value = String> {
    let name =
        among(&["to", "f", "contact", "m", "route", "p-asserted-identity", "refer-to", "r", "x-unheard-of"]);
    let scheme = among(&["sip", "sips"]);
    (name, gap(), scheme, any_case("pn-prid"), gap(), any::<bool>()).prop_map(
        |(name, gap, scheme, prid, white, password)| match password {
            true => format!("{name}:{gap}<{scheme}:alice:{SECRET}@host>"),
            false => format!("{name}:{gap}<{scheme}:alice@host>;{prid}{white}={white}\"{SECRET}\""),
        },
    )
}

fn key_lines() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:",
        "a=crypto:1 inline:",
        "A=CRYPTO:1 AES_CM_128_HMAC_SHA1_80 inline:",
        " a = crypto : ",
        "a= crypto:",
        "a=Crypto:1 ",
        "a=crypto:1 AES_CM ",
        "a=x\ra=crypto:1 ",
        "s= inline:",
        "a=ice-pwd:",
        "a=ICE-PWD: ",
        "a=ice-pwd :",
        "a=key-mgmt:mikey ",
        "k=base64:",
        "k =prompt:",
        "K=clear:",
        "Authorization: Digest response=",
    ])
    .prop_map(|line| format!("v=0\r\n{line}{SECRET}\r\nt=0 0\r\n"))
}

proptest! {
    #[test]
    fn no_credential_survives(field in credentials()) {
        let shown = redacted(&register(&field));
        prop_assert!(!shown.contains(SECRET), "{field}\n{shown}");
        prop_assert!(shown.contains("Content-Length: 0"), "{shown}");
    }

    #[test]
    fn no_password_or_push_token_survives(field in addresses()) {
        let shown = redacted(&register(&field));
        prop_assert!(!shown.contains(SECRET), "{field}\n{shown}");
    }

    #[test]
    fn no_key_survives_in_a_session_description(
        lines in key_lines(), name in prop::sample::select(vec!["Content-Type", "c", "CONTENT-TYPE ", "C"]), gap in gap(),
    ) {
        let message = format!("INVITE sip:b@c SIP/2.0\r\n{name}:{gap}application/sdp\r\n\r\n{lines}");
        let shown = redacted(&message);
        prop_assert!(!shown.contains(SECRET), "{message}\n{shown}");
        prop_assert!(shown.contains("v=0\r\n") && shown.contains("t=0 0\r\n"), "{shown}");
    }

    #[test]
    fn a_torn_message_is_redacted_like_a_whole_one(field in credentials(), cut in 0usize..200, lost in 0usize..6) {
        // Whatever is missing before the secret, its name is not.
        let message = register(&field);
        let name = message.to_ascii_lowercase().find("auth").unwrap();
        let begin = message[..name].rfind('\n').unwrap() + 1;
        let cut = cut.min(begin);
        let torn = format!("{}{}", &message[cut..begin], &message[begin..message.len() - lost]);
        let shown = redacted(&torn);
        prop_assert!(!shown.contains(SECRET), "{torn}\n{shown}");
    }

    #[test]
    fn any_bytes_are_taken(bytes in vec(any::<u8>(), 0..300), head in credentials()) {
        redact(&bytes);
        let mut message = register(&head).into_bytes();
        message.extend(bytes);
        let shown = redact(&message);
        prop_assert!(!String::from_utf8_lossy(&shown).contains(SECRET));
    }

    #[test]
    fn what_was_redacted_stays_as_it_is(field in credentials(), lines in key_lines()) {
        let once = redact(with_body("INVITE", &format!("application/sdp\r\n{field}"), &lines).as_bytes());
        prop_assert_eq!(redact(&once), once);
    }
}
