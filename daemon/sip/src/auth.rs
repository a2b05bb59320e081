//! Digest answers of one identity: which challenges it answers, and with which counts (RFC 3261 section 22).

use std::fmt::Write as _;

use crate::digest::{self, Algorithm, Challenge, Covered, Exchange, Info, Login, Proof};
use crate::endpoint::Credentials;
use crate::headers::name;
use crate::message::{Method, Request, Response};
use crate::random::Random;

/// Most answers to one realm on the way to one response: more only serve a server that calls each nonce stale.
const MAX_ROUNDS: u8 = 3;
/// Challenges remembered for one identity, and so the realms that one request can answer.
const MAX_KNOWN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 401, WWW-Authenticate, Authorization.
    User,
    /// 407, Proxy-Authenticate, Proxy-Authorization.
    Proxy,
}

impl Kind {
    const ALL: [Self; 2] = [Self::User, Self::Proxy];

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
    fn info(self) -> &'static str {
        match self {
            Self::User => name::AUTHENTICATION_INFO,
            Self::Proxy => name::PROXY_AUTHENTICATION_INFO,
        }
    }
}

/// How often one request's challenges were answered, for each realm: proxies in a row challenge one after the other,
/// and each is to be answered once (RFC 3261 section 22.3).
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<Round>);

#[derive(Clone, Debug)]
struct Round {
    kind: Kind,
    realm: String,
    times: u8,
}

impl Rounds {
    /// Counts an answer.
    ///
    /// # Errors
    /// The last answer for this realm was refused, and not for the age of its nonce alone.
    fn count(&mut self, kind: Kind, challenge: &Challenge) -> Result<(), Denied> {
        let realms = self.0.len();
        let of_realm = |round: &&mut Round| round.kind == kind && round.realm == challenge.realm;
        match self.0.iter_mut().find(of_realm) {
            Some(round) if challenge.stale && round.times < MAX_ROUNDS => round.times += 1,
            None if realms < MAX_KNOWN => {
                self.0.push(Round { kind, realm: challenge.realm.clone(), times: 1 });
            }
            Some(_) | None => return Err(Denied::Credentials),
        }
        Ok(())
    }

    fn have_answered(&self, known: &Known) -> bool {
        self.0.iter().any(|round| known.is_of(round.kind, &round.realm))
    }
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There are no credentials, they were refused, or the challenge cannot be read.
    Credentials,
    /// The challenge is not for this identity's realm, or not from its servers.
    ForeignRealm,
    /// The server has nothing better than MD5, and the identity may not use it.
    WeakDigest,
    /// The server knows only schemes or algorithms that this stack does not have.
    UnknownDigest,
}

struct Known {
    kind: Kind,
    challenge: Challenge,
    /// Requests made with this nonce.
    count: u32,
    /// Nonce of the challenge, and our nonce of its first answer: what an algorithm with `-sess` makes its hash of.
    first_nonce: String,
    first_cnonce: Option<String>,
}

impl Known {
    fn is_of(&self, kind: Kind, realm: &str) -> bool {
        self.kind == kind && self.challenge.realm == realm
    }
}

/// One identity's credentials and the nonces that it may use again.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    /// The realms for which the first registration succeeded: from then on the only ones (where none are configured),
    /// so that no callee behind the proxy gets an answer to a realm of its own making.
    proven: Vec<String>,
    known: Vec<Known>,
    /// The weakest algorithm in use, as it was told last.
    told: Option<Algorithm>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, proven: Vec::new(), known: Vec::new(), told: None }
    }

    fn is_ours(&self, credentials: &Credentials, realm: &str) -> bool {
        let ours = if credentials.realms.is_empty() { &self.proven } else { &credentials.realms };
        ours.is_empty() || ours.iter().any(|ours| ours == realm)
    }

    /// Learns the challenges of a 401 or 407 that came from the identity's own server, if they are to be answered: for
    /// each realm the strongest that may be used.
    ///
    /// # Errors
    /// Says why not; nothing is to be sent then.
    pub(crate) fn learn(&mut self, response: &Response, mut rounds: Rounds) -> Result<Rounds, Denied> {
        let chosen = self.choose(response)?;
        for (kind, challenge) in &chosen {
            rounds.count(*kind, challenge)?;
        }
        for (kind, challenge) in chosen {
            self.known.retain(|known| !known.is_of(kind, &challenge.realm));
            if self.known.len() >= MAX_KNOWN {
                self.known.remove(0);
            }
            let first_nonce = challenge.nonce.clone();
            self.known.push(Known { kind, challenge, count: 0, first_nonce, first_cnonce: None });
        }
        Ok(rounds)
    }

    fn choose(&self, response: &Response) -> Result<Vec<(Kind, Challenge)>, Denied> {
        let credentials = self.credentials.as_ref().ok_or(Denied::Credentials)?;
        let mut chosen: Vec<(Kind, Challenge)> = Vec::new();
        let mut weak: Vec<(Kind, String)> = Vec::new();
        let mut denied = Denied::Credentials;
        for kind in Kind::ALL {
            let offer =
                digest::challenges(&response.headers, kind.challenge()).map_err(|_| Denied::Credentials)?;
            if offer.others && offer.challenges.is_empty() {
                denied = Denied::UnknownDigest;
            }
            for challenge in offer.challenges {
                if chosen.iter().any(|(k, c)| (*k, &c.realm) == (kind, &challenge.realm)) {
                    // The strongest of this realm is taken already.
                } else if !self.is_ours(credentials, &challenge.realm) {
                    denied = Denied::ForeignRealm;
                } else if challenge.algorithm.is_weak() && !credentials.allow_md5 {
                    weak.push((kind, challenge.realm));
                } else {
                    chosen.push((kind, challenge));
                }
            }
        }
        // What is not answered in full is refused again.
        if !weak.is_empty() {
            return Err(Denied::WeakDigest);
        }
        if chosen.is_empty() { Err(denied) } else { Ok(chosen) }
    }

    /// Puts credentials into a request to the identity's own server: what answers its own challenges, and what saves
    /// a round trip.
    ///
    /// A proxy takes its own credentials out before it sends a request on, but leaves those for a user agent in: a
    /// callee must not get what was made for the registrar.
    pub(crate) fn authorize(&mut self, random: &mut Random, request: &mut Request, rounds: &Rounds) {
        let Some(credentials) = &self.credentials else { return };
        let login = Login { user: &credentials.user, password: &credentials.password };
        let mut uri = String::new();
        let _ = write!(uri, "{}", request.uri);
        for known in &mut self.known {
            let wanted = match known.kind {
                Kind::Proxy => true,
                Kind::User => request.method == Method::Register || rounds.have_answered(known),
            };
            if !wanted {
                continue;
            }
            known.count = known.count.saturating_add(1);
            let fresh = random.token(16);
            let cnonce = known.first_cnonce.get_or_insert(fresh);
            let exchange = Exchange { nonce_count: known.count, cnonce, first_nonce: &known.first_nonce };
            let covered = Covered { method: &request.method, uri: &uri, body: &request.body };
            let value = digest::authorization(&known.challenge, login, covered, exchange);
            request.headers.push(known.kind.credentials(), value);
        }
    }

    /// Takes what the server of a 2xx says about itself and about the next nonce (RFC 7616 section 3.5).
    pub(crate) fn confirm(&mut self, request: &Request, response: &Response) -> Proof {
        let Some(credentials) = &self.credentials else { return Proof::Missing };
        let login = Login { user: &credentials.user, password: &credentials.password };
        let mut result = Proof::Missing;
        for kind in Kind::ALL {
            let Some(info) = response.headers.get(kind.info()).map(Info::read) else { continue };
            let sent: Vec<&str> = request.headers.get_all(kind.credentials()).collect();
            let mut proof = Proof::Missing;
            for credentials in &sent {
                let realm = digest::realm_of(credentials);
                let is_sent =
                    |known: &&mut Known| realm.as_deref().is_some_and(|realm| known.is_of(kind, realm));
                let Some(known) = self.known.iter_mut().find(is_sent) else { continue };
                let algorithm = known.challenge.algorithm;
                let this = info.check(algorithm, login, &known.first_nonce, credentials, &response.body);
                // Without a proof, a nonce among several realms could be anyone's.
                let is_theirs = this == Proof::Right || (this == Proof::Missing && sent.len() == 1);
                // Some servers name the nonce that they have: it is no new one, and its count goes on.
                if let (true, Some(nonce)) = (is_theirs, &info.next_nonce)
                    && known.challenge.nonce != *nonce
                {
                    known.challenge.nonce.clone_from(nonce);
                    known.count = 0;
                }
                if proof != Proof::Right {
                    proof = this;
                }
            }
            if proof != Proof::Missing && result != Proof::Wrong {
                result = proof;
            }
        }
        result
    }

    /// A REGISTER succeeded: the realms it was made for are the identity's own.
    pub(crate) fn registered(&mut self, request: &Request) {
        let credentials = Kind::ALL.iter().flat_map(|kind| request.headers.get_all(kind.credentials()));
        for realm in credentials.filter_map(digest::realm_of) {
            if !self.proven.contains(&realm) {
                self.proven.push(realm);
            }
        }
    }

    /// The weakest algorithm in use, when it is another than the last time.
    pub(crate) fn news(&mut self) -> Option<Algorithm> {
        let weakest = self.known.iter().map(|known| known.challenge.algorithm).min();
        (weakest != self.told).then(|| self.told = weakest).and(weakest)
    }
}
