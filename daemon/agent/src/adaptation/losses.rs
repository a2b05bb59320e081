//! How many packets get lost, and whether by our own doing: a link that is too slow and has no room for a queue loses
//! less when less is sent; a bad one does not.

use std::time::{Duration, Instant};

/// Share of a report in the level while it rises, and while it falls.
const RISING: f64 = 0.6;
const FALLING: f64 = 0.25;
/// Losses from here on may be the link's.
const SUSPICIOUS: f64 = 0.08;
/// How long a trial with less takes: two reports at the usual pace.
const TRIAL: Duration = Duration::from_secs(11);
/// A report of a slow peer that comes within this time speaks of what was before a trial as well.
const LAST_OF_BEFORE: Duration = Duration::from_secs(6);
/// How long losses are taken for random afterwards, unless they grow by so much: few packets of a report make them
/// uncertain.
const ACQUITTAL: Duration = Duration::from_secs(120);
const WORSE: f64 = 2.0;

#[derive(Debug, Default)]
pub(super) struct Losses {
    /// 0 to 1, smoothed.
    level: f64,
    known: bool,
    trial: Trial,
}

#[derive(Clone, Copy, Debug, Default)]
enum Trial {
    #[default]
    None,
    /// Less is sent than `rate`, at which so much was lost.
    Running { since: Instant, lost: f64, rate: f64, seen: f64, reports: u32 },
    /// Sending less has not helped.
    Acquitted { until: Instant, lost: f64 },
}

impl Losses {
    /// 0 to 1.
    pub(super) fn level(&self) -> f64 {
        self.level
    }

    pub(super) fn report(&mut self, now: Instant, lost: f64, queue: bool) {
        let share = if lost > self.level { RISING } else { FALLING };
        self.level += (lost - self.level) * share;
        if queue {
            // The queue tells more.
            self.trial = Trial::None;
        }
        match &mut self.trial {
            Trial::Running { since, seen, reports, .. } if now > *since => {
                *seen += lost;
                *reports += 1;
            }
            _ => {}
        }
        self.known = true;
    }

    /// Whether less is to be sent, to see whether the losses go away; `rate` is what is sent now.
    pub(super) fn suspects_link(&mut self, now: Instant, rate: f64) -> bool {
        let suspicious = match self.trial {
            Trial::None => self.level > SUSPICIOUS,
            Trial::Running { .. } => false,
            Trial::Acquitted { until, lost } => {
                self.level > SUSPICIOUS && (now >= until || self.level > WORSE * lost)
            }
        };
        if suspicious {
            self.trial(now, rate);
        }
        suspicious
    }

    /// Less than `rate` is sent from now on, to see whether the losses go away. The next report still speaks of what was
    /// lost before.
    pub(super) fn suspect(&mut self, now: Instant, rate: f64) {
        self.trial(now + LAST_OF_BEFORE, rate);
    }

    fn trial(&mut self, now: Instant, rate: f64) {
        self.trial = Trial::Running { since: now, lost: self.level, rate, seen: 0.0, reports: 0 };
    }

    /// Answers the rate from before the trial where that has shown that the losses are not ours.
    pub(super) fn exonerates_link(&mut self, now: Instant) -> Option<f64> {
        let Trial::Running { since, lost, rate, seen, reports } = self.trial else { return None };
        if reports < 2 || now.saturating_duration_since(since) < TRIAL {
            return None;
        }
        let mean = seen / f64::from(reports);
        if mean < lost / 2.0 {
            self.trial = Trial::None;
            return None;
        }
        self.trial = Trial::Acquitted { until: now + ACQUITTAL, lost: mean.max(lost) };
        Some(rate)
    }
}
