//! Credentials: the answer to a challenge, as Authorization and Proxy-Authorization carry it.

use std::fmt::Write as _;

use super::challenge::{Challenge, Qop};
use super::{Algorithm, Secret, param};
use crate::grammar;
use crate::message::Method;

/// Who proves what he knows.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The user name.
    pub user: &'a str,
    /// The password.
    pub password: &'a Secret,
}

/// What of a request a digest covers.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The Request-URI as it is written.
    pub uri: &'a str,
    /// The body, for `auth-int`.
    pub body: &'a [u8],
}

/// What the client adds.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Counts the requests made with this nonce from 1.
    pub nonce_count: u32,
    /// The client's nonce. With `-sess`, the same as long as `first_nonce` is.
    pub cnonce: &'a str,
    /// The nonce of the challenge that began the session, where nextnonce has changed it since. Only `-sess` uses it.
    pub first_nonce: &'a str,
}

/// What answers a challenge: the value of an Authorization or Proxy-Authorization header field.
pub fn authorization(
    challenge: &Challenge,
    login: Login<'_>,
    covered: Covered<'_>,
    exchange: Exchange<'_>,
) -> String {
    let algorithm = challenge.algorithm;
    let a1 = secret_hash(algorithm, &challenge.realm, login, exchange);
    let [user, realm, nonce, uri, cnonce] =
        [login.user, &challenge.realm, &challenge.nonce, covered.uri, exchange.cnonce].map(between_quotes);
    let start = format!("{}:{uri}", covered.method);
    let a2 = covered_hash(algorithm, challenge.qop, &start, covered.body);
    let count = exchange.nonce_count;
    let response = algorithm.hash(match qop_name(challenge.qop) {
        Some(qop) => format!("{a1}:{nonce}:{count:08x}:{cnonce}:{qop}:{a2}"),
        None => format!("{a1}:{nonce}:{a2}"),
    });
    let user = match challenge.userhash {
        true => algorithm.hash(format!("{user}:{realm}")),
        false => user,
    };
    let mut value = format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm={}",
        algorithm.name()
    );
    if let Some(opaque) = &challenge.opaque {
        value.push_str(", opaque=");
        value.push_str(&grammar::quoted(opaque));
    }
    if let Some(qop) = qop_name(challenge.qop) {
        // Writing into a String cannot fail.
        let _ = write!(value, ", qop={qop}, nc={count:08x}, cnonce=\"{cnonce}\"");
    }
    if challenge.userhash {
        value.push_str(", userhash=true");
    }
    value
}

/// The realm that credentials are for; `None` when they are no digest or cannot be read.
pub fn realm_of(credentials: &str) -> Option<String> {
    Sent::read(credentials).map(|sent| sent.realm)
}

/// The parts of credentials that a server's proof depends on.
pub(super) struct Sent {
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) uri: String,
    pub(super) cnonce: String,
    pub(super) nonce_count: String,
    pub(super) qop: Qop,
}

impl Sent {
    pub(super) fn read(credentials: &str) -> Option<Self> {
        let (scheme, params) = credentials.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let params = grammar::split_commas(params);
        let text = |name| param(&params, name).ok().flatten();
        let qop = match text("qop") {
            None => Qop::None,
            Some(qop) if qop.eq_ignore_ascii_case("auth-int") => Qop::AuthInt,
            Some(_) => Qop::Auth,
        };
        Some(Self {
            realm: text("realm")?,
            nonce: text("nonce")?,
            uri: text("uri")?,
            cnonce: text("cnonce").unwrap_or_default(),
            nonce_count: text("nc").unwrap_or_default(),
            qop,
        })
    }
}

/// H(A1) of RFC 7616 section 3.4.2.
pub(super) fn secret_hash(
    algorithm: Algorithm,
    realm: &str,
    login: Login<'_>,
    exchange: Exchange<'_>,
) -> String {
    let hash = user_hash(algorithm, realm, login);
    let [nonce, cnonce] = [exchange.first_nonce, exchange.cnonce].map(between_quotes);
    match algorithm.is_session() {
        true => algorithm.hash(format!("{hash}:{nonce}:{cnonce}")),
        false => hash,
    }
}

/// What of H(A1) depends on neither nonce.
pub(super) fn user_hash(algorithm: Algorithm, realm: &str, login: Login<'_>) -> String {
    let [user, realm] = [login.user, realm].map(between_quotes);
    algorithm.hash(format!("{user}:{realm}:{}", login.password.expose()))
}

/// H(A2) of RFC 7616 sections 3.4.3 and 3.5; `start` is all of A2 but the body's hash.
pub(super) fn covered_hash(algorithm: Algorithm, qop: Qop, start: &str, body: &[u8]) -> String {
    algorithm.hash(match qop {
        Qop::AuthInt => format!("{start}:{}", algorithm.hash(body)),
        Qop::None | Qop::Auth => start.to_owned(),
    })
}

pub(super) fn qop_name(qop: Qop) -> Option<&'static str> {
    match qop {
        Qop::None => None,
        Qop::Auth => Some("auth"),
        Qop::AuthInt => Some("auth-int"),
    }
}

/// RFC 7616 section 3.4.2 hashes what stands between the quotes on the wire (`unq`), with its escapes.
pub(super) fn between_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    grammar::escape_quoted(text, &mut out);
    out
}
