//! Digest answers of one identity: which challenges it answers, and with which counts (RFC 3261 section 22).

use std::fmt::Write as _;

use crate::digest::{self, Challenge};
use crate::endpoint::Credentials;
use crate::headers::name;
use crate::message::{Method, Request, Response};
use crate::random::Random;

/// Most answers of one kind on the way to one response: more only serve a server that calls each nonce stale.
const MAX_ROUNDS: u8 = 3;
/// Challenges remembered for one identity.
const MAX_KNOWN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 401, WWW-Authenticate, Authorization.
    User,
    /// 407, Proxy-Authenticate, Proxy-Authorization.
    Proxy,
}

impl Kind {
    fn challenge(self) -> &'static str {
        match self {
            Self::User => name::WWW_AUTHENTICATE,
            Self::Proxy => name::PROXY_AUTHENTICATE,
        }
    }
    fn credentials(self) -> &'static str {
        match self {
            Self::User => name::AUTHORIZATION,
            Self::Proxy => name::PROXY_AUTHORIZATION,
        }
    }
}

/// How often one request's challenges were answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounds {
    user: u8,
    proxy: u8,
}

impl Rounds {
    fn of(&mut self, kind: Kind) -> &mut u8 {
        match kind {
            Kind::User => &mut self.user,
            Kind::Proxy => &mut self.proxy,
        }
    }
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There are no credentials, they were refused, or the challenge cannot be read.
    Credentials,
    /// The challenge is not for this identity's realm, or not from its servers.
    ForeignRealm,
}

struct Known {
    kind: Kind,
    challenge: Challenge,
    /// Requests made with this nonce.
    count: u32,
}

/// One identity's credentials and the nonces that it may use again.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    /// The realm for which a registration succeeded: from then on the only one (where none is configured), so that
    /// no callee behind the proxy gets an answer to a realm of its own making.
    proven: Option<String>,
    known: Vec<Known>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, proven: None, known: Vec::new() }
    }

    fn is_ours(&self, realm: &str) -> bool {
        let configured = self.credentials.as_ref().and_then(|credentials| credentials.realm.as_deref());
        configured.or(self.proven.as_deref()).is_none_or(|ours| ours == realm)
    }

    /// Learns the challenges of a 401 or 407 that came from the identity's own server, if they are to be answered.
    ///
    /// # Errors
    /// Says why not; nothing is to be sent then.
    pub(crate) fn learn(&mut self, response: &Response, mut rounds: Rounds) -> Result<Rounds, Denied> {
        if self.credentials.is_none() {
            return Err(Denied::Credentials);
        }
        let mut chosen = Vec::new();
        for kind in [Kind::User, Kind::Proxy] {
            let offered =
                digest::challenges(&response.headers, kind.challenge()).map_err(|_| Denied::Credentials)?;
            if offered.is_empty() {
                continue;
            }
            // Strongest first (RFC 8760 section 2.4 lets the client prefer).
            let ours = offered.into_iter().find(|challenge| self.is_ours(&challenge.realm));
            let challenge = ours.ok_or(Denied::ForeignRealm)?;
            let answered = rounds.of(kind);
            if *answered >= MAX_ROUNDS || (*answered > 0 && !challenge.stale) {
                return Err(Denied::Credentials);
            }
            *answered += 1;
            chosen.push((kind, challenge));
        }
        if chosen.is_empty() {
            return Err(Denied::Credentials);
        }
        for (kind, challenge) in chosen {
            self.known.retain(|known| (known.kind, &known.challenge.realm) != (kind, &challenge.realm));
            if self.known.len() >= MAX_KNOWN {
                self.known.remove(0);
            }
            self.known.push(Known { kind, challenge, count: 0 });
        }
        Ok(rounds)
    }

    /// Puts credentials into a request to the identity's own server: what answers its own challenge, and what saves
    /// a round trip.
    ///
    /// A proxy takes its own credentials out before it sends a request on, but leaves those for a user agent in: a
    /// callee must not get what was made for the registrar.
    pub(crate) fn authorize(&mut self, random: &mut Random, request: &mut Request, rounds: Rounds) {
        let Some(credentials) = &self.credentials else { return };
        let mut uri = String::new();
        let _ = write!(uri, "{}", request.uri);
        let to_user = request.method == Method::Register || rounds.user > 0;
        for known in self.known.iter_mut().filter(|known| known.kind == Kind::Proxy || to_user) {
            known.count = known.count.saturating_add(1);
            let value = digest::authorization(
                &known.challenge,
                &credentials.user,
                &credentials.password,
                &request.method,
                &uri,
                known.count,
                &random.token(16),
            );
            request.headers.push(known.kind.credentials(), value);
        }
    }

    /// A REGISTER succeeded: the realm it was made for is the identity's own.
    pub(crate) fn registered(&mut self) {
        let of = |kind| self.known.iter().find(move |known| known.kind == kind);
        if let Some(known) = of(Kind::User).or_else(|| of(Kind::Proxy)) {
            self.proven = Some(known.challenge.realm.clone());
        }
    }
}
