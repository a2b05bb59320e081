//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760): challenges read, credentials made. It does not
//! know to whom credentials may go.

use std::fmt::{self, Write as _};

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::grammar::{self, Scanner, Why};
use crate::headers::{HeaderError, Headers};
use crate::message::Method;

/// Most challenges looked at in one response.
const MAX_CHALLENGES: usize = 16;

/// A password or other secret: shows itself as `…` in every format.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A hash that digests are made with, from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// `MD5`, also where a challenge names none.
    Md5,
    /// `SHA-256` (RFC 8760).
    Sha256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hex(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// One challenge of WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The realm, unquoted and unescaped.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// What the server wants back unchanged.
    pub opaque: Option<String>,
    /// The hash to use.
    pub algorithm: Algorithm,
    /// qop=auth offered (RFC 2069 style without).
    pub qop_auth: bool,
    /// Only the nonce was too old: the credentials themselves may be right.
    pub stale: bool,
}

/// All challenges under `name` that this stack can answer (Digest, known algorithm), strongest algorithm first;
/// those of unknown schemes or algorithms are passed over.
///
/// # Errors
/// A Digest challenge is malformed, and there is no other that can be answered.
pub fn challenges(headers: &Headers, name: &'static str) -> Result<Vec<Challenge>, HeaderError> {
    let mut found = Vec::new();
    let mut fault = None;
    for value in headers.get_all(name) {
        for params in digest_params(value) {
            match read_challenge(&params) {
                Ok(Some(challenge)) if found.len() < MAX_CHALLENGES => found.push(challenge),
                Ok(_) => {}
                Err(why) => fault = Some(HeaderError { name, why }),
            }
        }
    }
    // RFC 8760 section 2.4 leaves the choice to local policy: a server that lists MD5 first must not weaken ours.
    found.sort_by_key(|challenge| std::cmp::Reverse(challenge.algorithm));
    match fault {
        Some(fault) if found.is_empty() => Err(fault),
        _ => Ok(found),
    }
}

/// The texts `name=value` of each Digest challenge in one field. Commas part both challenges and their parameters:
/// what does not begin with `name =` begins a new challenge.
fn digest_params(value: &str) -> Vec<Vec<&str>> {
    let mut challenges: Vec<Vec<&str>> = Vec::new();
    let mut in_digest = false;
    for part in grammar::split_commas(value) {
        let mut scanner = Scanner::new(part);
        let word = scanner.token().unwrap_or_default();
        scanner.skip_white();
        let mut param = part;
        if scanner.peek() != Some('=') {
            in_digest = word.eq_ignore_ascii_case("Digest");
            if in_digest {
                challenges.push(Vec::new());
            }
            param = scanner.rest();
        }
        if let (true, Some(params), false) = (in_digest, challenges.last_mut(), param.is_empty()) {
            params.push(param);
        }
    }
    challenges
}

/// `None` for a challenge that is whole but not for us to answer.
fn read_challenge(params: &[&str]) -> Result<Option<Challenge>, Why> {
    let realm = param(params, "realm")?.ok_or("a challenge has no realm")?;
    let nonce = param(params, "nonce")?.ok_or("a challenge has no nonce")?;
    let algorithm = match param(params, "algorithm")? {
        None => Algorithm::Md5,
        Some(name) if name.eq_ignore_ascii_case("MD5") => Algorithm::Md5,
        Some(name) if name.eq_ignore_ascii_case("SHA-256") => Algorithm::Sha256,
        Some(_) => return Ok(None),
    };
    let qop = param(params, "qop")?.unwrap_or_default();
    let offered = grammar::split_commas(&qop);
    let qop_auth = offered.iter().any(|qop| qop.eq_ignore_ascii_case("auth"));
    if !qop_auth && !offered.is_empty() {
        return Ok(None);
    }
    let opaque = param(params, "opaque")?;
    let stale = param(params, "stale")?.is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
    Ok(Some(Challenge { realm, nonce, opaque, algorithm, qop_auth, stale }))
}

/// The value of the parameter of that name, quoted or not. Twice the same parameter is a fault: two readers could
/// see two realms.
fn param(params: &[&str], wanted: &str) -> Result<Option<String>, Why> {
    let mut found = None;
    for text in params {
        let mut scanner = Scanner::new(text);
        if !scanner.token().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
            || !scanner.eat_separator('=')
        {
            continue;
        }
        let value = if scanner.peek() == Some('"') {
            scanner.quoted_string()?
        } else {
            scanner.take_while(|c| !grammar::is_white(c) && c != '"').to_owned()
        };
        if !scanner.is_done() {
            return Err("a parameter of a challenge is malformed");
        }
        if found.replace(value).is_some() {
            return Err("a challenge has a parameter twice");
        }
    }
    Ok(found)
}

/// What answers a challenge: the value of an Authorization or Proxy-Authorization header field.
///
/// `nonce_count` counts the requests made with this nonce from 1; `cnonce` is drawn by the caller. `uri` is the
/// Request-URI as it is written.
pub fn authorization(
    challenge: &Challenge,
    user: &str,
    password: &Secret,
    method: &Method,
    uri: &str,
    nonce_count: u32,
    cnonce: &str,
) -> String {
    // RFC 7616 section 3.4.2 hashes what stands between the quotes on the wire (`unq`), with its escapes.
    let [user, realm, nonce, uri, cnonce] =
        [user, challenge.realm.as_str(), challenge.nonce.as_str(), uri, cnonce].map(between_quotes);
    let algorithm = challenge.algorithm;
    let a1 = algorithm.hex(&format!("{user}:{realm}:{}", password.expose()));
    let a2 = algorithm.hex(&format!("{method}:{uri}"));
    let response = algorithm.hex(&if challenge.qop_auth {
        format!("{a1}:{nonce}:{nonce_count:08x}:{cnonce}:auth:{a2}")
    } else {
        format!("{a1}:{nonce}:{a2}")
    });
    let mut value = format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm={}",
        algorithm.name()
    );
    if let Some(opaque) = &challenge.opaque {
        value.push_str(", opaque=");
        value.push_str(&grammar::quoted(opaque));
    }
    if challenge.qop_auth {
        // Writing into a String cannot fail.
        let _ = write!(value, ", qop=auth, nc={nonce_count:08x}, cnonce=\"{cnonce}\"");
    }
    value
}

fn between_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    grammar::escape_quoted(text, &mut out);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::name::WWW_AUTHENTICATE;

    fn read(fields: &[&str]) -> Result<Vec<Challenge>, HeaderError> {
        let mut headers = Headers::default();
        for field in fields {
            headers.push(WWW_AUTHENTICATE, *field);
        }
        challenges(&headers, WWW_AUTHENTICATE)
    }

    fn get() -> Method {
        Method::new("GET").unwrap()
    }

    /// RFC 7616 section 3.9.1.
    #[test]
    fn the_vectors_of_rfc_7616_come_out() {
        let field = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=ALGO, \
                     nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                     opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let challenges = read(&[&field.replace("ALGO", "MD5"), &field.replace("ALGO", "SHA-256")]).unwrap();
        let algorithms: Vec<_> = challenges.iter().map(|c| c.algorithm).collect();
        assert_eq!(algorithms, [Algorithm::Sha256, Algorithm::Md5], "strongest first");
        let responses = [
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            "8ca523f5e9506fed4657c9700eebdbec",
        ];
        for (challenge, response) in challenges.iter().zip(responses) {
            let value = authorization(
                challenge,
                "Mufasa",
                &Secret::new("Circle of Life"),
                &get(),
                "/dir/index.html",
                1,
                "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            );
            assert!(value.contains(&format!("response=\"{response}\"")), "{value}");
            assert!(value.contains("opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""), "{value}");
            assert!(value.contains("qop=auth, nc=00000001, cnonce=\"f2/wE4q74"), "{value}");
        }
    }

    /// RFC 2617 section 3.5, and the same without qop (RFC 2069).
    #[test]
    fn the_vectors_of_rfc_2617_and_2069_come_out() {
        let field = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let answer = |field: &str, password| {
            let challenge = read(&[field]).unwrap().remove(0);
            authorization(
                &challenge,
                "Mufasa",
                &Secret::new(password),
                &get(),
                "/dir/index.html",
                1,
                "0a4f113b",
            )
        };
        let value = answer(&format!("{field}, qop=auth"), "Circle Of Life");
        assert!(value.contains("response=\"6629fae49393a05397450978507c4ef1\""), "{value}");
        // The response of RFC 2069 section 2.4 as its erratum corrects it.
        let value = answer(field, "CircleOfLife");
        assert!(value.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{value}");
        assert!(!value.contains("cnonce") && !value.contains("qop"), "{value}");
    }

    #[test]
    fn several_challenges_stand_in_one_field_or_in_several() {
        let found = read(&[
            "Basic realm=\"a, b\", Digest realm=\"r1\", nonce=\"n,1\" ,x=y, algorithm=\"md5\", Negotiate abc==",
            "NTLM",
            "digest nonce=n2,realm=\"r \\\"2\\\"\",stale=TRUE,qop=\"auth-int,auth\",algorithm=sha-256",
        ])
        .unwrap();
        let seen: Vec<_> =
            found.iter().map(|c| (c.realm.as_str(), c.nonce.as_str(), c.qop_auth, c.stale)).collect();
        assert_eq!(seen, [("r \"2\"", "n2", true, true), ("r1", "n,1", false, false)]);
    }

    #[test]
    fn what_cannot_be_answered_is_passed_over() {
        for field in [
            "Digest realm=a, nonce=b, algorithm=SHA-512-256",
            "Digest realm=a, nonce=b, algorithm=MD5-sess",
            "Digest realm=a, nonce=b, qop=\"auth-int\"",
            "NoOneKnowsThisScheme opaque-data=here",
            "",
        ] {
            assert_eq!(read(&[field]), Ok(vec![]), "{field}");
        }
        assert_eq!(read(&[]), Ok(vec![]));
    }

    #[test]
    fn malformed_challenges_are_errors_unless_another_can_be_answered() {
        for field in [
            "Digest",
            "Digest realm=a",
            "Digest nonce=b",
            "Digest realm=\"a, nonce=b",
            "Digest realm=\"a\" nonce=\"b\"",
            "Digest realm=a, realm=b, nonce=c",
        ] {
            assert!(read(&[field]).is_err(), "{field}");
            assert_eq!(read(&[field, "Digest realm=x, nonce=y"]).map(|found| found.len()), Ok(1), "{field}");
        }
    }

    #[test]
    fn credentials_cannot_leave_their_quotes() {
        let challenge = read(&["Digest realm=\"a\\\"b\", nonce=n, opaque=\"\""]).unwrap().remove(0);
        let value =
            authorization(&challenge, "u\", x=\"\r\n", &Secret::new("p"), &Method::Invite, "sip:a", 1, "c");
        assert!(
            value.starts_with("Digest username=\"u\\\", x=\\\"  \", realm=\"a\\\"b\", nonce=\"n\""),
            "{value}"
        );
        assert!(value.contains("opaque=\"\""), "{value}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret:#?}"), "… …");
    }
}
