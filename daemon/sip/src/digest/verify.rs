//! The server's side: what an Authorization or Proxy-Authorization holds, and whether whoever wrote it knows the
//! password. It does not know which nonces are good.

use super::answer::{Login, between_quotes, covered_hash, qop_name, user_hash};
use super::challenge::Qop;
use super::{Algorithm, param};
use crate::grammar;
use crate::message::Method;

/// Digest credentials as a request carries them (RFC 7616 section 3.4). `auth` alone is read: it is all that our
/// challenges offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) user: String,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    /// The Request-URI that the digest covers.
    pub(crate) uri: String,
    /// How often the client has used the nonce.
    pub(crate) count: u32,
    algorithm: Algorithm,
    cnonce: String,
    response: String,
}

impl Presented {
    /// `None` when it is no digest with `qop=auth`, or cannot be read.
    pub(crate) fn read(credentials: &str) -> Option<Self> {
        let (scheme, params) = credentials.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let params = grammar::split_commas(params);
        let text = |name| param(&params, name).ok().flatten();
        if !text("qop")?.eq_ignore_ascii_case("auth") {
            return None;
        }
        let count = text("nc").filter(|count| count.len() == 8)?;
        Some(Self {
            user: text("username")?,
            realm: text("realm")?,
            nonce: text("nonce")?,
            uri: text("uri")?,
            count: u32::from_str_radix(&count, 16).ok()?,
            algorithm: text("algorithm").map_or(Some(Algorithm::Md5), |name| Algorithm::named(&name))?,
            cnonce: text("cnonce")?,
            response: text("response")?,
        })
    }

    /// Whoever wrote this knows the password whose hash `known` is, and the digest covers this method and [`Self::uri`].
    pub(crate) fn is_right(&self, known: &UserHash, method: &Method) -> bool {
        let algorithm = Algorithm::Sha256;
        if self.algorithm != algorithm {
            return false;
        }
        let [nonce, uri, cnonce] = [&self.nonce, &self.uri, &self.cnonce].map(|text| between_quotes(text));
        let a2 = covered_hash(algorithm, Qop::Auth, &format!("{method}:{uri}"), &[]);
        let (a1, count) = (&known.0, self.count);
        let qop = qop_name(Qop::Auth).unwrap_or_default();
        let expected = algorithm.hash(format!("{a1}:{nonce}:{count:08x}:{cnonce}:{qop}:{a2}"));
        equal(expected.as_bytes(), self.response.to_ascii_lowercase().as_bytes())
    }
}

/// H(A1) with SHA-256 (RFC 7616 section 3.4.2): all that a server need know of a password. It opens its own realm and
/// no other; it shows itself as `…`.
#[derive(Clone, PartialEq, Eq)]
pub struct UserHash(String);

impl UserHash {
    /// The hash of a login in a realm.
    pub fn of(realm: &str, login: Login<'_>) -> Self {
        Self(user_hash(Algorithm::Sha256, realm, login))
    }

    /// As it was kept: 64 hexadecimal digits, in lower case.
    pub fn from_kept(text: &str) -> Option<Self> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        (text.len() == 64 && text.chars().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// What is to be kept.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for UserHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Compares in a time that does not tell where the first difference is.
pub(crate) fn equal(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Challenge, Covered, Exchange, Secret, authorization};

    const METHOD: &Method = &Method::Register;

    fn presented(user: &str, password: &str, algorithm: Algorithm) -> Presented {
        let challenge = Challenge {
            realm: "a \"realm\"".to_owned(),
            nonce: "n1".to_owned(),
            opaque: None,
            algorithm,
            qop: Qop::Auth,
            stale: false,
            userhash: false,
        };
        let password = Secret::new(password);
        let login = Login { user, password: &password };
        let covered = Covered { method: METHOD, uri: "sip:meet.example.org", body: &[] };
        let exchange = Exchange { nonce_count: 17, cnonce: "c", first_nonce: "n1" };
        Presented::read(&authorization(&challenge, login, covered, exchange)).unwrap()
    }

    fn known() -> UserHash {
        let password = Secret::new("secret");
        UserHash::of("a \"realm\"", Login { user: "bob", password: &password })
    }

    #[test]
    fn who_knows_the_password_is_right_and_nobody_else() {
        let right = presented("bob", "secret", Algorithm::Sha256);
        assert_eq!((right.count, right.uri.as_str()), (17, "sip:meet.example.org"));
        assert!(right.is_right(&known(), METHOD));
        assert!(!right.is_right(&known(), &Method::Invite));
        assert!(!Presented { count: 18, ..right.clone() }.is_right(&known(), METHOD));
        assert!(!Presented { uri: "sip:other".to_owned(), ..right }.is_right(&known(), METHOD));
        assert!(!presented("bob", "guess", Algorithm::Sha256).is_right(&known(), METHOD));
        assert!(!presented("eve", "secret", Algorithm::Sha256).is_right(&known(), METHOD));
    }

    #[test]
    fn a_weaker_algorithm_proves_nothing() {
        assert!(!presented("bob", "secret", Algorithm::Md5).is_right(&known(), METHOD));
    }

    #[test]
    fn what_is_no_digest_with_auth_is_not_read() {
        let whole = "Digest username=a, realm=b, nonce=c, uri=\"sip:d\", nc=00000001, cnonce=e, qop=auth, \
                     algorithm=SHA-256, response=f";
        assert!(Presented::read(whole).is_some());
        for (from, to) in [
            ("Digest", "Basic"),
            ("qop=auth", "qop=auth-int"),
            ("qop=auth, ", ""),
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=0000000g"),
            ("username=a, ", ""),
            ("nonce=c", "nonce=c, nonce=d"),
            ("SHA-256", "SHA-512"),
        ] {
            assert_eq!(Presented::read(&whole.replace(from, to)), None, "{to}");
        }
    }

    #[test]
    fn a_kept_hash_is_64_hexadecimal_digits() {
        assert_eq!(UserHash::from_kept(known().expose()), Some(known()));
        for bad in ["", "0", &"G".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(UserHash::from_kept(bad), None, "{bad}");
        }
    }
}
