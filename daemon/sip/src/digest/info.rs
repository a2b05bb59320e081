//! Authentication-Info (RFC 3261 section 20.6, RFC 7615): the nonce to go on with, and the server's own proof that it
//! knows the password.

use super::answer::{Exchange, Login, Sent, between_quotes, covered_hash, qop_name, secret_hash};
use super::{Algorithm, param};
use crate::grammar;

/// One Authentication-Info or Proxy-Authentication-Info.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The nonce that the next request is to use.
    pub next_nonce: Option<String>,
    proof: Option<String>,
}

/// What a server's proof is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// There is none.
    Missing,
    /// The server knows the password, too.
    Right,
    /// Whoever answered does not know the password.
    Wrong,
}

impl Info {
    /// Reads a header field's value; what cannot be read counts as absent.
    pub fn read(value: &str) -> Self {
        let params = grammar::split_commas(value);
        let text = |name| param(&params, name).ok().flatten();
        Self { next_nonce: text("nextnonce").filter(|nonce| !nonce.is_empty()), proof: text("rspauth") }
    }

    /// Checks `rspauth` against the credentials that the request carried (RFC 7616 section 3.5). `body` is that of the
    /// response; `first_nonce` as in [`Exchange`].
    pub fn check(
        &self,
        algorithm: Algorithm,
        login: Login<'_>,
        first_nonce: &str,
        credentials: &str,
        body: &[u8],
    ) -> Proof {
        let Some(proof) = &self.proof else { return Proof::Missing };
        let Some(sent) = Sent::read(credentials) else { return Proof::Wrong };
        let exchange = Exchange { nonce_count: 0, cnonce: &sent.cnonce, first_nonce };
        let a1 = secret_hash(algorithm, &sent.realm, login, exchange);
        let [nonce, uri, cnonce] = [&sent.nonce, &sent.uri, &sent.cnonce].map(|text| between_quotes(text));
        let a2 = covered_hash(algorithm, sent.qop, &format!(":{uri}"), body);
        let expected = algorithm.hash(match qop_name(sent.qop) {
            Some(qop) => format!("{a1}:{nonce}:{}:{cnonce}:{qop}:{a2}", sent.nonce_count),
            None => format!("{a1}:{nonce}:{a2}"),
        });
        if expected.eq_ignore_ascii_case(proof) { Proof::Right } else { Proof::Wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextnonce_and_rspauth_are_read_and_nonsense_is_none() {
        let info = Info::read("nextnonce=\"a,\\\"b\", qop=auth, rspauth=\"00\", nc=00000001, cnonce=\"c\"");
        assert_eq!((info.next_nonce.as_deref(), info.proof.as_deref()), (Some("a,\"b"), Some("00")));
        for nonsense in ["", "nextnonce", "nextnonce=\"", "nextnonce=\"\"", "nextnonce=a, nextnonce=b", ",,="]
        {
            assert_eq!(Info::read(nonsense), Info::default(), "{nonsense}");
        }
    }
}
