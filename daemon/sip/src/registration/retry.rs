//! When a binding is refreshed, and when it is tried again (RFC 5626 section 4.5): often at first where nobody answers,
//! since a network that was away comes back; rarely where somebody has answered and said no, or another binding stands.

use std::time::{Duration, Instant};

use crate::endpoint::{RegistrationFailure as Failure, TransportError};
use crate::headers::name;
use crate::message::Response;
use crate::random::Random;

/// First wait after a failure where another binding stands, doubled with each further one.
const BASE_NOT_ALL: Duration = Duration::from_secs(90);
/// Longest wait where another binding stands.
const MAX_NOT_ALL: Duration = Duration::from_secs(1800);
/// First wait after a refusal, doubled with each further one (RFC 5626 section 4.5, all flows failed).
const REFUSED_BASE: Duration = Duration::from_secs(30);
/// First wait where nobody answers. RFC 5626 has 30 s for this too; a telephone should be back sooner.
const SILENT_BASE: Duration = Duration::from_secs(2);
/// Longest wait in an outage that is younger than [`YOUNG`]: with the five seconds that a resolver may take, everything
/// is registered again within 15 s of the network's return.
const SILENT_MAX: Duration = Duration::from_secs(8);
/// An outage that may be over any moment: a router that restarts, a tunnel, a lift.
const YOUNG: Duration = Duration::from_secs(90);
/// After that, the wait grows with the outage: this part of it.
const SHARE: u32 = 3;
/// Longest wait of our own choosing. RFC 5626 proposes half an hour; a telephone should be back sooner.
const LONGEST: Duration = Duration::from_secs(300);
/// A network that changes again and again is not followed with requests more often than this.
const BETWEEN_CHANGES: Duration = Duration::from_secs(2);
/// After a change of the network: whoever else has lost the same network comes back at the same time.
const AFTER_CHANGE: Duration = Duration::from_millis(300);

/// Longest wait before a lost flow is made again, where it had lasted: thousands of clients may have lost theirs to the
/// same restart.
const RECONNECT: Duration = Duration::from_secs(2);
/// A flow that was lost sooner than this did not last: the next one is waited for as after a failure.
const LASTING: Duration = Duration::from_secs(60);
/// Longest wait that a Retry-After can impose.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// A registrar that names a time means at least that time: at most so much is added, for others whom it has told the same.
const AFTER_NAMED: Duration = Duration::from_secs(2);

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody has answered: asking again soon would change nothing.
    Refused,
    /// Nobody has.
    Silent,
}

/// What stands beside the binding that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    None,
    Some,
}

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// The first of those failures.
    since: Option<Instant>,
    /// When the network's change last made us try, or will.
    hurried: Option<Instant>,
}

impl Backoff {
    /// All is well.
    pub(super) fn reset(&mut self) {
        (self.failures, self.since) = (0, None);
    }

    /// Nothing has failed since the last [`reset`](Self::reset).
    pub(super) fn is_reset(&self) -> bool {
        self.failures == 0
    }

    /// One failure more: how long to wait. From half of a wait to all of it is drawn, so that clients that have lost the
    /// same server do not come back together (RFC 5626 section 4.5).
    pub(super) fn fail(&mut self, now: Instant, random: &mut Random, kind: Kind, others: Others) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        let outage = now.saturating_duration_since(since);
        let most = match (others, kind) {
            (Others::Some, _) => BASE_NOT_ALL.saturating_mul(1 << self.failures.min(8)).min(MAX_NOT_ALL),
            (Others::None, Kind::Refused) => {
                REFUSED_BASE.saturating_mul(1 << self.failures.min(8)).min(LONGEST)
            }
            (Others::None, Kind::Silent) => {
                let wait = SILENT_BASE.saturating_mul(1 << (self.failures - 1).min(8));
                wait.min(if outage < YOUNG { SILENT_MAX } else { outage / SHARE }).min(LONGEST)
            }
        };
        random.between(most / 2, most)
    }

    /// The network has changed: what failed may work now. How long to wait before it is tried.
    pub(super) fn hurry(&mut self, now: Instant, random: &mut Random) -> Duration {
        self.reset();
        let at = match self.hurried {
            // That try is still to come, and will find the network of then.
            Some(at) if at > now => at,
            last => {
                let earliest = last.map_or(now, |at| (at + BETWEEN_CHANGES).max(now));
                earliest + random.between(Duration::ZERO, AFTER_CHANGE)
            }
        };
        self.hurried = Some(at);
        at.saturating_duration_since(now)
    }
}

/// How the flows of a binding have fared, and when the binding is to be made again.
#[derive(Default)]
pub(super) struct Retries {
    backoff: Backoff,
    /// Since when the binding's flow has lasted.
    bound_since: Option<Instant>,
}

impl Retries {
    /// The binding was made or refreshed; `is_other`: on another flow than before.
    pub(super) fn bound(&mut self, now: Instant, is_other: bool) {
        if is_other || self.bound_since.is_none() {
            self.bound_since = Some(now);
        }
    }

    /// Behind a flow that has lasted, failures are counted from the first again; answers whether it has.
    pub(super) fn stands(&mut self, now: Instant) -> bool {
        let lasted = self.bound_since.is_some_and(|since| now.saturating_duration_since(since) >= LASTING);
        if lasted {
            self.backoff.reset();
        }
        lasted
    }

    /// The flow is none any more; answers whether it had lasted.
    pub(super) fn ended(&mut self, now: Instant) -> bool {
        let lasted = self.stands(now);
        self.bound_since = None;
        lasted
    }

    /// The flow is lost: how long to wait before another is made.
    pub(super) fn cut_off(&mut self, now: Instant, random: &mut Random, others: Others) -> Duration {
        let lasted = self.ended(now);
        let first = self.backoff.is_reset();
        // It takes flows, and does not keep them: that is an answer too. But the first one may have met a restart.
        let refused = (!lasted).then(|| self.backoff.fail(now, random, Kind::Refused, others));
        match refused {
            Some(wait) if !first => wait,
            _ => random.between(Duration::ZERO, RECONNECT),
        }
    }

    /// The binding could not be made: how long to wait, where the registrar has named a time or none.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        random: &mut Random,
        reason: Failure,
        others: Others,
        named: Option<Duration>,
    ) -> Duration {
        self.ended(now);
        let own = self.backoff.fail(now, random, kind(reason), others);
        named.map_or(own, |named| named + random.between(Duration::ZERO, AFTER_NAMED))
    }

    /// The network has changed: how long to wait before anything is tried.
    pub(super) fn hurry(&mut self, now: Instant, random: &mut Random) -> Duration {
        self.backoff.hurry(now, random)
    }

    /// What failed before says nothing of where we are now.
    pub(super) fn moved(&mut self) {
        self.backoff.reset();
    }
}

/// The time that a registrar names (RFC 3261 section 20.33), as far as it is believed.
pub(super) fn named_time(response: &Response) -> Option<Duration> {
    let seconds = response.headers.number(name::RETRY_AFTER).ok().flatten()?;
    Some(Duration::from_secs(seconds.into()).min(RETRY_AFTER_MAX))
}

/// Whether somebody has answered.
fn kind(reason: Failure) -> Kind {
    match reason {
        Failure::Timeout | Failure::Unresolvable | Failure::NoNetwork => Kind::Silent,
        Failure::Unreachable(
            TransportError::Certificate(_) | TransportError::ClientCertificate | TransportError::Handshake,
        ) => Kind::Refused,
        Failure::Unreachable(_) => Kind::Silent,
        Failure::Credentials
        | Failure::ForeignRealm
        | Failure::WeakDigest
        | Failure::UnknownDigest
        | Failure::ServerProof
        | Failure::Rejected => Kind::Refused,
    }
}

/// Early enough that a lost request can still be repeated to its end, where the time is long enough for that.
pub(super) fn refresh_after(expires: u32) -> Duration {
    let whole = Duration::from_secs(expires.into());
    match expires {
        120.. => (whole * 9 / 10).min(whole - Duration::from_secs(60)),
        _ => (whole / 2).max(Duration::from_secs(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_met_often_at_first_and_ever_more_rarely() {
        let start = Instant::now();
        let mut random = Random::new([7; 32]);
        let mut backoff = Backoff::default();
        let (mut now, mut waits) = (start, Vec::new());
        while now < start + Duration::from_secs(7200) {
            let wait = backoff.fail(now, &mut random, Kind::Silent, Others::None);
            waits.push((now - start, wait));
            now += wait;
        }
        assert!(waits[0].1 <= Duration::from_secs(2) && waits[1].1 <= Duration::from_secs(4));
        let young = waits.iter().filter(|(at, _)| *at < YOUNG);
        assert!(young.clone().all(|(_, wait)| *wait <= SILENT_MAX));
        assert!(young.count() <= 25, "no storm: {waits:?}");
        let old = waits.iter().filter(|(at, _)| *at > Duration::from_secs(1000));
        assert!(old.clone().all(|(_, wait)| (150..=300).contains(&wait.as_secs())), "{waits:?}");
        backoff.reset();
        assert!(backoff.fail(now, &mut random, Kind::Silent, Others::None) <= SILENT_BASE);
    }

    #[test]
    fn a_thousand_clients_of_one_dead_server_do_not_come_in_the_same_second() {
        let now = Instant::now();
        // All failed at the same moment, and again, and again.
        let mut seconds = [0; 400];
        for client in 0..1000_u32 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&client.to_le_bytes());
            let (mut random, mut backoff, mut at) = (Random::new(seed), Backoff::default(), Duration::ZERO);
            for _ in 0..8 {
                at += backoff.fail(now + at, &mut random, Kind::Silent, Others::None);
            }
            seconds[at.as_secs() as usize] += 1;
        }
        let most = seconds.iter().max().unwrap();
        assert!(*most < 150, "{most} of 1000 in one second");
    }

    #[test]
    fn a_network_that_flaps_is_not_followed_with_a_request_each_time() {
        let start = Instant::now();
        let mut random = Random::new([3; 32]);
        let mut backoff = Backoff::default();
        assert!(backoff.hurry(start, &mut random) <= AFTER_CHANGE, "at once");
        let second = backoff.hurry(start + Duration::from_millis(500), &mut random);
        assert!(second >= Duration::from_secs(1), "{second:?}");
        let third = backoff.hurry(start + Duration::from_millis(600), &mut random);
        assert_eq!(third, second - Duration::from_millis(100), "and it is not put off for ever");
        let later = backoff.hurry(start + Duration::from_secs(60), &mut random);
        assert!(later <= AFTER_CHANGE, "{later:?}");
    }

    #[test]
    fn refresh_comes_before_expiry_with_time_to_spare() {
        let seconds = |expires| refresh_after(expires).as_secs();
        assert_eq!((seconds(1), seconds(10)), (1, 5));
        assert_eq!((seconds(60), seconds(120), seconds(600), seconds(3600)), (30, 60, 540, 3240));
    }
}
