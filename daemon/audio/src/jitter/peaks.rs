//! Stalls that come again and again: too rare for the histogram of delays, too regular to be run into each time. It knows
//! relative delays, not packets.

use super::MS;

/// A packet later than usual by this much belongs to a peak.
const HEIGHT: i64 = 60 * MS;
/// Packets of one peak are closer together than this.
const APART: i64 = 500 * MS;
/// Peaks further apart than this have nothing to do with each other.
const PERIOD: i64 = 10_000 * MS;

/// The last two peaks.
pub(super) struct Peaks {
    last: Option<Peak>,
    before: Option<Peak>,
}

#[derive(Clone, Copy)]
struct Peak {
    /// When its last packet came.
    at: i64,
    /// Relative delay of its slowest packet.
    height: i64,
}

impl Peaks {
    pub(super) const fn new() -> Self {
        Peaks { last: None, before: None }
    }

    /// Takes note of a packet that came at `at`, `late` after the fastest; `usual` is the lateness that the histogram would
    /// wait for.
    pub(super) fn observe(&mut self, at: i64, late: i64, usual: i64) {
        if late <= usual + HEIGHT {
            return;
        }
        match &mut self.last {
            Some(last) if at - last.at < APART => *last = Peak { at, height: last.height.max(late) },
            last => self.before = last.replace(Peak { at, height: late }),
        }
    }

    /// The lateness to be prepared for at `now`: where two peaks were no more than ten seconds apart, what the lower of them
    /// would have taken, for twice as long as they were apart.
    pub(super) fn held(&self, now: i64) -> i64 {
        let (Some(last), Some(before)) = (self.last, self.before) else { return 0 };
        let apart = last.at - before.at;
        if apart <= PERIOD && now - last.at <= 2 * apart { last.height.min(before.height) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peak_is_nothing_and_the_second_is_held_for_a_while() {
        let mut peaks = Peaks::new();
        peaks.observe(1_000 * MS, 150 * MS, 2 * MS);
        peaks.observe(1_001 * MS, 130 * MS, 2 * MS);
        assert_eq!(peaks.held(1_001 * MS), 0);
        peaks.observe(4_000 * MS, 120 * MS, 2 * MS);
        assert_eq!(peaks.held(4_000 * MS), 120 * MS);
        peaks.observe(5_000 * MS, 0, 2 * MS);
        assert_eq!(peaks.held(9_900 * MS), 120 * MS);
        assert_eq!(peaks.held(10_100 * MS), 0);
    }
}
