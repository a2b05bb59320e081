//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760): challenges read, credentials made, a server's own
//! proof checked; and, for who is a server himself, credentials checked. It does not know to whom credentials may go.

mod answer;
mod challenge;
mod info;
mod verify;

use std::fmt::{self, Write as _};

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

use crate::grammar::{self, Scanner, Why};

pub use answer::{Covered, Exchange, Login, authorization, realm_of};
pub use challenge::{Challenge, Offer, Qop, challenges};
pub use info::{Info, Proof};
pub use verify::UserHash;
pub(crate) use verify::{Presented, equal};

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

/// What digests are made with (RFC 8760 section 2.1), from weak to strong. With `-sess`, the password enters a hash
/// once for each challenge, and only that hash is used from then on (RFC 7616 section 3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// `MD5`, also where a challenge names none.
    Md5,
    /// `MD5-sess`.
    Md5Sess,
    /// `SHA-256`.
    Sha256,
    /// `SHA-256-sess`.
    Sha256Sess,
    /// `SHA-512-256`: SHA-512 with 256 bits, whose first state is its own (FIPS 180-4 section 5.3.6.2).
    Sha512_256,
    /// `SHA-512-256-sess`.
    Sha512_256Sess,
}

impl Algorithm {
    /// All of them, from weak to strong.
    pub const ALL: [Self; 6] =
        [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess, Self::Sha512_256, Self::Sha512_256Sess];

    /// As header fields have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
            Self::Sha512_256 => "SHA-512-256",
            Self::Sha512_256Sess => "SHA-512-256-sess",
        }
    }

    /// MD5 in either form: a password with it is found in hours by whoever has heard one answer.
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Md5 | Self::Md5Sess)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess | Self::Sha512_256Sess)
    }

    /// The hash in hexadecimal digits.
    pub(crate) fn hash(self, bytes: impl AsRef<[u8]>) -> String {
        match self {
            Self::Md5 | Self::Md5Sess => hex(&Md5::digest(bytes)),
            Self::Sha256 | Self::Sha256Sess => hex(&Sha256::digest(bytes)),
            Self::Sha512_256 | Self::Sha512_256Sess => hex(&Sha512_256::digest(bytes)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
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
            return Err("a parameter is malformed");
        }
        if found.replace(value).is_some() {
            return Err("a parameter is there twice");
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret:#?}"), "… …");
    }

    /// FIPS 180-4's example for SHA-512/256, and what RFC 1321 and FIPS 180-4 have for the others.
    #[test]
    fn the_hashes_are_those_of_their_standards() {
        let hashes = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256].map(|a| a.hash("abc"));
        assert_eq!(
            hashes,
            [
                "900150983cd24fb0d6963f7d28e17f72",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
            ]
        );
    }

    #[test]
    fn names_are_read_in_any_case_and_strength_orders() {
        assert_eq!(Algorithm::named("sha-512-256-SESS"), Some(Algorithm::Sha512_256Sess));
        assert_eq!(Algorithm::named("SHA-512"), None);
        assert!(Algorithm::ALL.is_sorted());
        let weak: Vec<_> = Algorithm::ALL.into_iter().filter(|a| a.is_weak()).map(Algorithm::name).collect();
        assert_eq!(weak, ["MD5", "MD5-sess"]);
    }
}
