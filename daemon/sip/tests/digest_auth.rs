//! Digests, number for number: the examples of RFC 7616, RFC 2617 and RFC 2069, every algorithm of RFC 8760 with both
//! qop, and the server's own proof.

use voipd_sip::digest::{
    self, Algorithm, Challenge, Covered, Exchange, Info, Login, Proof, Qop, Secret, authorization,
};
use voipd_sip::headers::Headers;
use voipd_sip::message::Method;

const WWW: &str = "WWW-Authenticate";
/// RFC 7616 section 3.9.1.
const REALM: &str = "realm=\"http-auth@example.org\"";
const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
const OPAQUE: &str = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS";
const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

fn read(field: &str) -> Challenge {
    let mut headers = Headers::default();
    headers.push(WWW, field);
    digest::challenges(&headers, WWW).unwrap().challenges.remove(0)
}

fn mufasas(algorithm: &str, qop: &str) -> Challenge {
    read(&format!(
        "Digest {REALM}, qop=\"{qop}\", algorithm={algorithm}, nonce=\"{NONCE}\", opaque=\"{OPAQUE}\""
    ))
}

/// The answer to a challenge for GET of `uri`.
fn get(
    challenge: &Challenge,
    (user, password): (&str, &str),
    uri: &str,
    cnonce: &str,
    body: &[u8],
) -> String {
    let password = Secret::new(password);
    let method = Method::new("GET").unwrap();
    let login = Login { user, password: &password };
    let covered = Covered { method: &method, uri, body };
    let exchange = Exchange { nonce_count: 1, cnonce, first_nonce: &challenge.nonce };
    authorization(challenge, login, covered, exchange)
}

const MUFASA: (&str, &str) = ("Mufasa", "Circle of Life");

#[track_caller]
fn has(value: &str, parameter: &str) {
    assert!(value.contains(parameter), "{parameter} is not in {value}");
}

#[test]
fn the_examples_of_rfc_7616_section_3_9_1_come_out() {
    for (algorithm, response) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let value = get(&mufasas(algorithm, "auth, auth-int"), MUFASA, "/dir/index.html", CNONCE, b"");
        has(&value, &format!("response=\"{response}\""));
        has(&value, &format!("opaque=\"{OPAQUE}\""));
        has(&value, &format!("qop=auth, nc=00000001, cnonce=\"{CNONCE}\""));
        has(&value, &format!("algorithm={algorithm}"));
    }
}

/// With the values of its erratum 4897: those of the RFC are of an earlier SHA-512/256.
#[test]
fn the_example_of_rfc_7616_section_3_9_2_comes_out() {
    let challenge = read(
        "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, \
         nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", \
         opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", charset=UTF-8, userhash=true",
    );
    let login = ("J\u{e4}s\u{f8}n Doe", "Secret, or not?");
    let value = get(&challenge, login, "/doe.json", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", b"");
    has(&value, "username=\"793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b\"");
    has(&value, "response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"");
    has(&value, "userhash=true");

    // A server that does not know users by their hashes gets the name, as UTF-8.
    let challenge = Challenge { userhash: false, ..challenge };
    let value = get(&challenge, login, "/doe.json", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", b"");
    has(&value, "username=\"J\u{e4}s\u{f8}n Doe\"");
    has(&value, "response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"");
    assert!(!value.contains("userhash"), "{value}");
}

/// RFC 2617 section 3.5, and the same without qop (RFC 2069 section 2.4, as its erratum corrects it).
#[test]
fn the_examples_of_rfc_2617_and_2069_come_out() {
    let field = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
    let answer =
        |field: &str, password| get(&read(field), ("Mufasa", password), "/dir/index.html", "0a4f113b", b"");
    has(
        &answer(&format!("{field}, qop=auth"), "Circle Of Life"),
        "response=\"6629fae49393a05397450978507c4ef1\"",
    );
    let old = answer(field, "CircleOfLife");
    has(&old, "response=\"1949323746fe6a43ef61f9606e7febea\"");
    assert!(!old.contains("cnonce") && !old.contains("qop") && !old.contains("nc="), "{old}");
}

/// The inputs of RFC 7616 section 3.9.1 with a body of five bytes; the digests were made with OpenSSL's hashes.
#[test]
fn every_algorithm_of_rfc_8760_answers_with_both_qop() {
    let table = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec", "d1b8e2ac3f6782372de4bf3d8735b406"),
        ("MD5-sess", "e783283f46242139c486a698fec7211d", "4321e8772738f242cc32334079264d8c"),
        (
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            "385d2de062660ced11876f42d9497c69cacf5caaf3d951dd424aee9f7157d563",
        ),
        (
            "SHA-256-sess",
            "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7",
            "cade7e5b751d9c3c2f066a95f2405c5509ad0171cf93f117e98b7f0ebb212e57",
        ),
        (
            "SHA-512-256",
            "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0",
            "5e69357dfa951887c95e88aae45b1f7f834aeba94f85648b86d532e82afdb589",
        ),
        (
            "SHA-512-256-sess",
            "3f2a34f923c38b0fb26dce2fdfc2ce326c23cecf86fbb1444f3e51fbbc2cb92e",
            "1ba4333021256e8b4eebe5c8d20ba53b167f1dac1f6d8c916a08c17ef99eae9a",
        ),
    ];
    assert_eq!(table.map(|(name, ..)| name), Algorithm::ALL.map(Algorithm::name));
    for (algorithm, auth, auth_int) in table {
        for (qop, response) in [("auth", auth), ("auth-int", auth_int)] {
            let value = get(&mufasas(algorithm, qop), MUFASA, "/dir/index.html", CNONCE, b"v=0\r\n");
            has(&value, &format!("response=\"{response}\""));
            has(&value, &format!("algorithm={algorithm}, "));
            has(&value, &format!("qop={qop}, "));
        }
    }
}

/// RFC 7616 section 3.4.2: the session's hash stays what the first nonces made it.
#[test]
fn a_session_goes_on_with_its_first_nonce() {
    let challenge = mufasas("SHA-256-sess", "auth");
    let password = Secret::new(MUFASA.1);
    let method = Method::new("GET").unwrap();
    let answer = |first_nonce: &str| {
        let next = Challenge { nonce: "next".to_owned(), ..challenge.clone() };
        let login = Login { user: MUFASA.0, password: &password };
        let covered = Covered { method: &method, uri: "/", body: b"" };
        authorization(&next, login, covered, Exchange { nonce_count: 1, cnonce: CNONCE, first_nonce })
    };
    assert_ne!(answer(NONCE), answer("next"));
    has(&answer(NONCE), "nonce=\"next\"");
}

#[test]
fn a_server_proves_that_it_knows_the_password() {
    let password = Secret::new(MUFASA.1);
    let login = Login { user: MUFASA.0, password: &password };
    for (algorithm, qop, proof) in [
        (Algorithm::Md5, "auth", "9b712497bc9f91499fbcca1dfc5f09a5"),
        (Algorithm::Sha256, "auth-int", "321792e3b6d15d49cb353cdc72f9cb50758a6673121eaeac0d7c912dae40bc19"),
        (Algorithm::Sha256Sess, "auth", "d4ad609d150eafce2281da5c3179878fdb37e6a16021272f4bed1a082f5c2324"),
    ] {
        let sent = get(&mufasas(algorithm.name(), qop), MUFASA, "/dir/index.html", CNONCE, b"");
        let check = |info: &str, body: &[u8]| Info::read(info).check(algorithm, login, NONCE, &sent, body);
        let info = format!("qop={qop}, rspauth=\"{proof}\", cnonce=\"{CNONCE}\", nc=00000001");
        assert_eq!(check(&info, b"hello"), Proof::Right, "{algorithm:?}");
        assert_eq!(check(&info.to_uppercase().replace("RSPAUTH", "rspauth"), b"hello"), Proof::Right);
        assert_eq!(check("rspauth=\"00\"", b"hello"), Proof::Wrong);
        assert_eq!(check("nextnonce=\"n\"", b"hello"), Proof::Missing);
        let other_body = check(&info, b"hullo");
        assert_eq!(other_body, if qop == "auth" { Proof::Right } else { Proof::Wrong });
    }
}

#[test]
fn quoted_strings_are_hashed_as_they_are_written() {
    // Whoever writes the realm with an escape hashes it so (RFC 7616 section 3.4.2, `unq`).
    let challenge = read("Digest realm=\"a \\\"b\\\" \\\\c\", nonce=\"n\", qop=auth");
    assert_eq!(challenge.realm, "a \"b\" \\c");
    let value = get(&challenge, ("al\"ice", "pass\"word"), "sip:x", "c", b"");
    has(&value, "username=\"al\\\"ice\", realm=\"a \\\"b\\\" \\\\c\"");
    // MD5(MD5('al\"ice:a \"b\" \\c:pass"word'):n:00000001:c:auth:MD5('GET:sip:x')), with the backslashes as they stand.
    has(&value, "response=\"c17db9278ab3d4476ae29df47258cede\"");
}

#[test]
fn credentials_cannot_leave_their_quotes() {
    let challenge = read("Digest realm=\"a\\\"b\", nonce=n, opaque=\"\"");
    let value = get(&challenge, ("u\", x=\"\r\n", "p"), "sip:a", "c", b"");
    assert!(
        value.starts_with("Digest username=\"u\\\", x=\\\"  \", realm=\"a\\\"b\", nonce=\"n\""),
        "{value}"
    );
    has(&value, "opaque=\"\"");
    assert_eq!(challenge.qop, Qop::None);
    assert_eq!(digest::realm_of(&value).as_deref(), Some("a\"b"));
    assert_eq!(digest::realm_of("Basic YTpi"), None);
}
