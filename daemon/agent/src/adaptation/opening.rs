//! How much is dared while nobody has said yet what arrives. It knows when reports came, not what they say.
//!
//! Without a report a link of 20 kbit/s would take the 48 kbit/s of an undisturbed Opus call into a queue that grows by
//! 1.4 s each second. Peers that report at once (voipd does) end this within a packet time or two; those that report every
//! five seconds let it be found out by a try, right before they report.

use std::time::{Duration, Instant};

/// A report that comes within this time of the first packet is from a peer that reports soon whenever it matters.
const PROMPT: Duration = Duration::from_millis(1100);
/// The same of two reports that follow each other.
const QUICK: Duration = Duration::from_secs(2);
/// How long a peer that has reported at once is waited for to say that all is well.
const DOUBT: Duration = Duration::from_secs(4);
/// How long all is sent without a report.
const GRACE: Duration = Duration::from_millis(400);
/// The same where the peer reports at once: its next report, which comes the sooner the more waits on the way, is worth more
/// than to begin every call with less than it could have.
const PROMPT_GRACE: Duration = Duration::from_millis(800);
/// Who has not reported for so long never does, or never again: nothing will be known of the network, and nothing is held
/// back.
pub(super) const PATIENCE: Duration = Duration::from_secs(16);
/// Bits per second that are sent in the meantime, packet headers included: on 20 kbit/s a second of queue in five.
const CAREFUL: f64 = 24_000.0;
/// What the first good report of a slow peer allows, compared with what was sent before, until a try of all has been called
/// good.
const CLIMB: f64 = 1.2;
/// A try begins so long before the report is expected, and ends as long after it: what it does to a link is known before it
/// has done much.
const TRY: Duration = Duration::from_millis(800);
/// How much of it the report must have seen.
const SEEN: Duration = Duration::from_millis(400);
/// Times between reports that can be.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(8);

/// Where the beginning has got to.
#[derive(Debug, Default)]
pub(super) enum Opening {
    /// Nothing was sent yet.
    #[default]
    Silent,
    /// No report has come since the first packet.
    Unheard {
        /// When that was.
        since: Instant,
    },
    /// The peer reports at once; one report tells how long the way is, and two what waits on it.
    HeardOnce {
        /// When the first packet was sent, and when the report came.
        since: Instant,
        at: Instant,
    },
    /// The peer reports, and seldom.
    Climbing {
        last: Instant,
        /// Time between the last two reports.
        apart: Duration,
        /// Bits per second that are sent between tries.
        level: f64,
        /// The last report was fair at the least.
        fair_before: bool,
    },
    /// What is sent follows reports alone.
    Over,
}

impl Opening {
    /// The stream sends.
    pub(super) fn sends(&mut self, now: Instant) {
        match self {
            Opening::Silent => *self = Opening::Unheard { since: now },
            Opening::Unheard { since: last } | Opening::Climbing { last, .. }
                if now.saturating_duration_since(*last) >= PATIENCE =>
            {
                *self = Opening::Over;
            }
            Opening::HeardOnce { at, .. } if now.saturating_duration_since(*at) >= DOUBT => {
                *self = Opening::Over;
            }
            _ => {}
        }
    }

    /// A report has come; `fair` where it shows no queue, `good` where it leaves no doubt that there is none.
    pub(super) fn report(&mut self, now: Instant, fair: bool, good: bool) {
        match self {
            Opening::Unheard { since } if now.saturating_duration_since(*since) <= PROMPT => {
                *self = Opening::HeardOnce { since: *since, at: now };
            }
            Opening::HeardOnce { .. } if !fair => {}
            Opening::Unheard { since } => {
                let apart = now.saturating_duration_since(*since).clamp(SHORTEST, LONGEST);
                let level = if good { CAREFUL * CLIMB } else { CAREFUL };
                *self = Opening::Climbing { last: now, apart, level, fair_before: fair };
            }
            Opening::Climbing { last, apart, level, fair_before }
                if now.saturating_duration_since(*last) > QUICK =>
            {
                // Who reports more seldom than was expected tells of a try that has ended: it was made all the same.
                let tried = now >= *last + apart.saturating_sub(TRY) + SEEN;
                // Jitter leaves some doubt about each report; two are enough.
                let good = good || fair && *fair_before;
                *fair_before = fair && !good;
                *apart = now.saturating_duration_since(*last).clamp(SHORTEST, LONGEST);
                *last = now;
                if tried && good {
                    *self = Opening::Over;
                }
            }
            _ => *self = Opening::Over,
        }
    }

    /// The network has shown what it carries.
    pub(super) fn end(&mut self) {
        *self = Opening::Over;
    }

    /// Whether nobody has said what arrives, and what is sent is held back therefore.
    pub(super) fn is_unsure(&self, now: Instant) -> bool {
        matches!(self, Opening::Unheard { since } if now.saturating_duration_since(*since) > PROMPT)
    }

    /// Whether reports, and what comes from the peer, are worth a look many times a second.
    pub(super) fn is_young(&self) -> bool {
        matches!(self, Opening::Silent | Opening::Unheard { .. } | Opening::HeardOnce { .. })
    }

    /// Most bits per second that are dared, packet headers included.
    pub(super) fn most(&self, now: Instant) -> f64 {
        match self {
            Opening::Unheard { since } if now.saturating_duration_since(*since) >= GRACE => CAREFUL,
            Opening::HeardOnce { since, .. } if now.saturating_duration_since(*since) >= PROMPT_GRACE => {
                CAREFUL
            }
            Opening::Climbing { last, apart, level, .. } => {
                let due = *last + *apart;
                if now + TRY >= due && now <= due + TRY { f64::INFINITY } else { *level }
            }
            _ => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_that_stop_or_come_seldom_hold_nothing_back_for_the_rest_of_the_call() {
        for reports in [&[5][..], &[5, 8], &[10, 20, 30, 40, 50, 60]] {
            let (start, mut opening) = (Instant::now(), Opening::default());
            for second in 0..=60 {
                let now = start + Duration::from_secs(second);
                opening.sends(now);
                if reports.contains(&second) {
                    opening.report(now, true, true);
                }
                let climbs = matches!(opening, Opening::Climbing { .. });
                assert!(second != reports[0] || climbs, "{reports:?}");
            }
            assert!(matches!(opening, Opening::Over), "{reports:?}: {opening:?}");
        }
    }
}
