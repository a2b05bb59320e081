//! Challenges: what WWW-Authenticate and Proxy-Authenticate ask for.

use super::{Algorithm, param};
use crate::grammar::{self, Scanner, Why};
use crate::headers::{HeaderError, Headers};

/// Most challenges looked at in one response.
const MAX_CHALLENGES: usize = 32;

/// What a digest covers (RFC 7616 section 3.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// No qop was offered: the form of RFC 2069, without a count or a nonce of the client.
    None,
    /// `auth`: method and Request-URI.
    Auth,
    /// `auth-int`: the body, too.
    AuthInt,
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
    /// What to make the digest with.
    pub algorithm: Algorithm,
    /// What to cover. `auth` where it is offered, since the middle boxes that rewrite bodies would break `auth-int`.
    pub qop: Qop,
    /// Only the nonce was too old: the credentials themselves may be right.
    pub stale: bool,
    /// The server knows users by the hash of their names (RFC 7616 section 3.4.4).
    pub userhash: bool,
}

/// What a response asks for under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Digest challenges that can be answered, strongest algorithm first.
    pub challenges: Vec<Challenge>,
    /// There were whole challenges of other schemes or algorithms.
    pub others: bool,
}

/// All challenges under `name`: those that this stack can answer, and whether there were others. RFC 8760 section 2.4
/// leaves the choice among them to local policy: a server that lists MD5 first must not weaken ours.
///
/// # Errors
/// A Digest challenge is malformed, and there is no other that can be answered.
pub fn challenges(headers: &Headers, name: &'static str) -> Result<Offer, HeaderError> {
    let mut offer = Offer::default();
    let mut fault = None;
    for value in headers.get_all(name) {
        for (scheme, params) in split(value) {
            if !scheme.eq_ignore_ascii_case("Digest") {
                offer.others = true;
                continue;
            }
            match read(&params) {
                Ok(Some(challenge)) if offer.challenges.len() < MAX_CHALLENGES => {
                    offer.challenges.push(challenge);
                }
                Ok(_) => offer.others = true,
                Err(why) => fault = Some(HeaderError { name, why }),
            }
        }
    }
    offer.challenges.sort_by_key(|challenge| std::cmp::Reverse(challenge.algorithm));
    match fault {
        Some(fault) if offer.challenges.is_empty() => Err(fault),
        _ => Ok(offer),
    }
}

/// The challenges of one field: scheme and texts `name=value`. Commas part both challenges and their parameters: what
/// does not begin with `name =` begins a new challenge.
fn split(value: &str) -> Vec<(&str, Vec<&str>)> {
    let mut challenges: Vec<(&str, Vec<&str>)> = Vec::new();
    for part in grammar::split_commas(value) {
        let mut scanner = Scanner::new(part);
        let word = scanner.token().unwrap_or_default();
        scanner.skip_white();
        let mut param = part;
        if scanner.peek() != Some('=') {
            challenges.push((word, Vec::new()));
            param = scanner.rest();
        }
        if let (Some((_, params)), false) = (challenges.last_mut(), param.is_empty()) {
            params.push(param);
        }
    }
    challenges
}

/// `None` for a challenge that is whole but not for us to answer.
fn read(params: &[&str]) -> Result<Option<Challenge>, Why> {
    let realm = param(params, "realm")?.ok_or("a challenge has no realm")?;
    let nonce = param(params, "nonce")?.ok_or("a challenge has no nonce")?;
    let algorithm = match param(params, "algorithm")? {
        None => Some(Algorithm::Md5),
        Some(name) => Algorithm::named(&name),
    };
    let qop = param(params, "qop")?.unwrap_or_default();
    let offered = grammar::split_commas(&qop);
    let offers = |wanted: &str| offered.iter().any(|qop| qop.eq_ignore_ascii_case(wanted));
    let qop = match () {
        () if offers("auth") => Some(Qop::Auth),
        () if offers("auth-int") => Some(Qop::AuthInt),
        // A session's hash holds the client's nonce, which must not be sent without qop (RFC 2617 section 3.2.2).
        () if offered.is_empty() && algorithm.is_none_or(|algorithm| !algorithm.is_session()) => {
            Some(Qop::None)
        }
        () => None,
    };
    let opaque = param(params, "opaque")?;
    let is_true = |name| -> Result<bool, Why> {
        Ok(param(params, name)?.is_some_and(|value| value.eq_ignore_ascii_case("true")))
    };
    let (stale, userhash) = (is_true("stale")?, is_true("userhash")?);
    let (Some(algorithm), Some(qop)) = (algorithm, qop) else { return Ok(None) };
    Ok(Some(Challenge { realm, nonce, opaque, algorithm, qop, stale, userhash }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::name::WWW_AUTHENTICATE;

    fn offer(fields: &[&str]) -> Result<Offer, HeaderError> {
        let mut headers = Headers::default();
        for field in fields {
            headers.push(WWW_AUTHENTICATE, *field);
        }
        challenges(&headers, WWW_AUTHENTICATE)
    }

    #[test]
    fn several_challenges_stand_in_one_field_or_in_several() {
        let found = offer(&[
            "Basic realm=\"a, b\", Digest realm=\"r1\", nonce=\"n,1\" ,x=y, algorithm=\"md5\", Negotiate abc==",
            "NTLM",
            "digest nonce=n2,realm=\"r \\\"2\\\"\",stale=TRUE,qop=\"auth-int,auth\",algorithm=sha-256",
        ])
        .unwrap();
        let seen: Vec<_> = found
            .challenges
            .iter()
            .map(|c| (c.realm.as_str(), c.nonce.as_str(), c.qop, c.stale, c.userhash))
            .collect();
        let expected = [("r \"2\"", "n2", Qop::Auth, true, false), ("r1", "n,1", Qop::None, false, false)];
        assert_eq!(seen, expected);
        assert!(found.others);
    }

    #[test]
    fn the_strongest_algorithm_comes_first() {
        let fields = ["MD5", "SHA-512-256", "MD5-sess", "SHA-256", "SHA-1"]
            .map(|name| format!("Digest realm=a, nonce=b, qop=auth, algorithm={name}"));
        let found = offer(&fields.each_ref().map(String::as_str)).unwrap();
        let names: Vec<_> = found.challenges.iter().map(|c| c.algorithm.name()).collect();
        assert_eq!(names, ["SHA-512-256", "SHA-256", "MD5-sess", "MD5"]);
        assert!(found.others, "SHA-1");
    }

    #[test]
    fn auth_int_is_taken_where_nothing_else_is_offered() {
        let qop = |text: &str| {
            let field = format!("Digest realm=a, nonce=b, qop={text}");
            offer(&[&field]).unwrap().challenges.first().map(|c| c.qop)
        };
        assert_eq!(qop("\"auth-int\""), Some(Qop::AuthInt));
        assert_eq!(qop("AUTH-INT"), Some(Qop::AuthInt));
        assert_eq!(qop("\"auth-int, auth\""), Some(Qop::Auth));
        assert_eq!(qop("\"auth-conf\""), None);
        assert_eq!(qop("\"\""), Some(Qop::None));
    }

    #[test]
    fn what_cannot_be_answered_is_passed_over() {
        for field in [
            "Digest realm=a, nonce=b, algorithm=SHA-512",
            "Digest realm=a, nonce=b, algorithm=MD5-sess",
            "Digest realm=a, nonce=b, qop=\"token\"",
            "Bearer realm=a, authz_server=\"https://login.example.org\"",
            "NoOneKnowsThisScheme opaque-data=here",
        ] {
            assert_eq!(offer(&[field]), Ok(Offer { challenges: vec![], others: true }), "{field}");
        }
        assert_eq!(offer(&[]), Ok(Offer::default()));
        assert_eq!(offer(&[""]), Ok(Offer::default()));
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
            assert!(offer(&[field]).is_err(), "{field}");
            let found = offer(&[field, "Digest realm=x, nonce=y"]);
            assert_eq!(found.map(|found| found.challenges.len()), Ok(1), "{field}");
        }
    }
}
