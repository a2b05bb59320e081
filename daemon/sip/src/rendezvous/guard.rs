//! Challenges and the nonces in them (RFC 7616 section 3.3): which were ours, how old they are, and how often each was
//! used. It keeps no memory of strangers.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::digest::{Algorithm, Presented, equal};
use crate::grammar;
use crate::random::Random;

/// How long a nonce is good.
const LIFE: Duration = Duration::from_secs(600);
/// How many nonces of a device are remembered with their counts.
const REMEMBERED: usize = 16;

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// It was ours, and is too old or was used with this count before: the credentials may be right.
    Stale,
    /// It is none of ours.
    Foreign,
}

/// The nonces that a device has used.
#[derive(Default)]
struct Used {
    /// With the highest count seen.
    recent: VecDeque<(String, u32)>,
    /// All nonces issued up to this time, in milliseconds, may have been used.
    forgotten: Option<u64>,
}

pub(super) struct Guard {
    secret: String,
    start: Instant,
    used: BTreeMap<String, Used>,
}

impl Guard {
    pub(super) fn new(random: &mut Random, now: Instant) -> Self {
        Self { secret: random.token(32), start: now, used: BTreeMap::new() }
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// A keyed hash. Hashing twice keeps anyone from appending to what was hashed.
    pub(super) fn seal(&self, text: &str) -> String {
        let inner = Algorithm::Sha256.hash(format!("{}:{text}", self.secret));
        Algorithm::Sha256.hash(format!("{}:{inner}", self.secret))
    }

    /// The value of WWW-Authenticate or Proxy-Authenticate.
    pub(super) fn challenge(&self, random: &mut Random, now: Instant, realm: &str, stale: bool) -> String {
        let body = format!("{:x}-{}", self.age(now), random.token(12));
        let seal = self.seal(&body);
        let realm = grammar::quoted(realm);
        let stale = if stale { ", stale=true" } else { "" };
        format!("Digest realm={realm}, nonce=\"{body}-{seal}\", algorithm=SHA-256, qop=\"auth\"{stale}")
    }

    /// When a nonce of ours was issued, in milliseconds.
    fn issued(&self, nonce: &str) -> Option<u64> {
        let (body, seal) = nonce.rsplit_once('-')?;
        let (age, _) = body.split_once('-')?;
        equal(self.seal(body).as_bytes(), seal.as_bytes()).then_some(())?;
        u64::from_str_radix(age, 16).ok()
    }

    /// What the nonce is worth, whoever uses it.
    pub(super) fn look(&self, now: Instant, presented: &Presented) -> Freshness {
        match self.issued(&presented.nonce) {
            None => Freshness::Foreign,
            Some(issued) if u128::from(self.age(now).saturating_sub(issued)) > LIFE.as_millis() => {
                Freshness::Stale
            }
            Some(_) => Freshness::Fresh,
        }
    }

    /// Takes note that a device, which has proved itself, uses a nonce; `false` where it has done so before with this
    /// count, or may have.
    pub(super) fn spend(&mut self, presented: &Presented) -> bool {
        let issued = self.issued(&presented.nonce).unwrap_or(0);
        let used = self.used.entry(presented.user.clone()).or_default();
        if let Some((_, count)) = used.recent.iter_mut().find(|(nonce, _)| *nonce == presented.nonce) {
            let is_new = presented.count > *count;
            *count = presented.count.max(*count);
            return is_new;
        }
        if used.forgotten.is_some_and(|forgotten| issued <= forgotten) {
            return false;
        }
        used.recent.push_back((presented.nonce.clone(), presented.count));
        if used.recent.len() > REMEMBERED
            && let Some((oldest, _)) = used.recent.pop_front()
        {
            let issued = self.issued(&oldest);
            if let Some(used) = self.used.get_mut(&presented.user) {
                used.forgotten = used.forgotten.max(issued);
            }
        }
        true
    }

    /// Forgets the devices of a member.
    pub(super) fn forget(&mut self, member: &str) {
        self.used.retain(|user, _| user.rsplit_once('.').is_none_or(|(name, _)| name != member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::challenges;
    use crate::headers::{Headers, name};

    fn nonce(guard: &Guard, random: &mut Random, now: Instant) -> String {
        let mut headers = Headers::default();
        headers.push(name::WWW_AUTHENTICATE, guard.challenge(random, now, "r", false));
        let offer = challenges(&headers, name::WWW_AUTHENTICATE).unwrap();
        let [challenge] = offer.challenges.as_slice() else { panic!("{offer:?}") };
        assert_eq!((challenge.algorithm, challenge.realm.as_str()), (Algorithm::Sha256, "r"));
        challenge.nonce.clone()
    }

    fn uses(nonce: &str, count: u32) -> Presented {
        let text = format!(
            "Digest username=bob.x, realm=r, nonce=\"{nonce}\", uri=\"sip:m\", nc={count:08x}, cnonce=c, \
             qop=auth, algorithm=SHA-256, response=0"
        );
        Presented::read(&text).unwrap()
    }

    #[test]
    fn a_nonce_is_good_for_ten_minutes() {
        let (mut random, start) = (Random::new([1; 32]), Instant::now());
        let guard = Guard::new(&mut random, start);
        let nonce = nonce(&guard, &mut random, start);
        assert_eq!(guard.look(start + LIFE, &uses(&nonce, 1)), Freshness::Fresh);
        assert_eq!(guard.look(start + LIFE + Duration::from_secs(1), &uses(&nonce, 1)), Freshness::Stale);
    }

    #[test]
    fn a_nonce_that_was_not_issued_here_is_foreign() {
        let (mut random, start) = (Random::new([1; 32]), Instant::now());
        let (guard, other) = (Guard::new(&mut random, start), Guard::new(&mut random, start));
        let issued = nonce(&guard, &mut random, start);
        assert_eq!(other.look(start, &uses(&issued, 1)), Freshness::Foreign);
        let older = issued.replacen("0-", "1-", 1);
        for forged in ["", "-", "--", "0-x", &older] {
            assert_eq!(guard.look(start, &uses(forged, 1)), Freshness::Foreign, "{forged}");
        }
    }

    #[test]
    fn a_count_is_taken_once() {
        let (mut random, start) = (Random::new([1; 32]), Instant::now());
        let mut guard = Guard::new(&mut random, start);
        let first = nonce(&guard, &mut random, start);
        assert!(guard.spend(&uses(&first, 1)));
        assert!(!guard.spend(&uses(&first, 1)));
        assert!(guard.spend(&uses(&first, 3)));
        assert!(!guard.spend(&uses(&first, 2)));
    }

    #[test]
    fn memory_is_bounded_and_forgets_nothing_that_can_be_replayed() {
        let (mut random, start) = (Random::new([1; 32]), Instant::now());
        let mut guard = Guard::new(&mut random, start);
        let at = |n: u64| start + Duration::from_millis(n);
        let nonces: Vec<_> = (0..40).map(|n| nonce(&guard, &mut random, at(n))).collect();
        assert!(nonces.iter().all(|nonce| guard.spend(&uses(nonce, 1))));
        assert!(guard.used.values().all(|used| used.recent.len() <= REMEMBERED));
        assert!(!nonces.iter().any(|nonce| guard.spend(&uses(nonce, 1))));
        guard.forget("bob");
        assert!(guard.used.is_empty());
    }
}
