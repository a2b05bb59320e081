//! When the next report is due (RFC 3550 sections 6.2 and 6.3); not what it says.

use std::time::{Duration, Instant};

/// The smallest interval before it is randomised; half of it before the first packet (RFC 3550 section 6.2).
///
/// The interval that the bandwidth calls for is never longer here: two participants with some 120 octets each, on 5 % of
/// the slowest stream that we send (about 22 kbit/s with its headers), need less than two seconds. So the minimum always
/// rules, and timer reconsideration (section 6.3.3), which is for growing groups, has nothing to do.
const MINIMUM: Duration = Duration::from_secs(5);

/// e − 3/2: makes up for the shift of the mean that reconsideration causes (RFC 3550 section 6.3.1). Peers that
/// reconsider send at this pace, so we do.
const COMPENSATION: f64 = std::f64::consts::E - 1.5;

/// RTCP's share of the bandwidth of a session (RFC 3550 section 6.2), and those who share it.
const SHARE: f64 = 0.05;
const PARTICIPANTS: f64 = 2.0;
/// Hurried reports are never closer than this, whatever the bandwidth.
const CLOSEST: Duration = Duration::from_millis(250);

/// Due times at randomised intervals.
#[derive(Debug)]
pub(super) struct Schedule {
    random: SplitMix,
    last: Option<Instant>,
    due: Instant,
}

impl Schedule {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let due = now + randomised(MINIMUM / 2, &mut random);
        Schedule { random, last: None, due }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Lets the next report of `octets` go as soon as RTCP's share of `bandwidth`, in bits per second, has room for it: the
    /// first at once, which RFC 3550 section 6.2 allows between two. Nothing is drawn for these, as in RFC 4585 section
    /// 3.5.1, whose dithering is for groups.
    pub(super) fn hurry(&mut self, now: Instant, octets: usize, bandwidth: f64) {
        let seconds = octets as f64 * 8.0 * PARTICIPANTS / (SHARE * bandwidth.max(1.0));
        let interval = Duration::from_secs_f64(seconds.min(MINIMUM.as_secs_f64())).max(CLOSEST);
        let earliest = self.last.map_or(now, |last| now.max(last + interval));
        self.due = self.due.min(earliest);
    }

    /// Whether the time has come; then the next one is drawn.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let come = now >= self.due;
        if come {
            self.last = Some(now);
            self.due = now + randomised(MINIMUM, &mut self.random);
        }
        come
    }
}

/// Between 0.5 and 1.5 times `interval`, compensated.
fn randomised(interval: Duration, random: &mut SplitMix) -> Duration {
    interval.mul_f64((0.5 + random.fraction()) / COMPENSATION)
}

/// SplitMix64: spreads the reports of many calls; nothing secret hangs on it.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 53 bits are as many as an f64 holds.
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_keep_to_the_bounds_and_their_mean() {
        let start = Instant::now();
        let (mut shortest, mut longest, mut sum) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
        let mut schedule = Schedule::new(start, 7);
        let mut last = schedule.due();
        const COUNT: u32 = 10_000;
        for _ in 0..COUNT {
            assert!(!schedule.take(last - Duration::from_nanos(1)));
            assert!(schedule.take(last));
            let interval = schedule.due() - last;
            (shortest, longest, sum) = (shortest.min(interval), longest.max(interval), sum + interval);
            last = schedule.due();
        }
        let expected = |factor: f64| MINIMUM.as_secs_f64() * factor / COMPENSATION;
        assert!((shortest.as_secs_f64() - expected(0.5)).abs() < 0.01, "{shortest:?}");
        assert!((longest.as_secs_f64() - expected(1.5)).abs() < 0.01, "{longest:?}");
        assert!(((sum / COUNT).as_secs_f64() - expected(1.0)).abs() < 0.05);
    }

    #[test]
    fn the_first_report_comes_after_half_the_time() {
        let start = Instant::now();
        for seed in 0..100 {
            let first = Schedule::new(start, seed).due() - start;
            let bounds = 2.5 * 0.5 / COMPENSATION..2.5 * 1.5 / COMPENSATION;
            assert!(bounds.contains(&first.as_secs_f64()), "{first:?}");
        }
    }

    #[test]
    fn hurried_reports_keep_to_their_share_of_the_bandwidth() {
        const OCTETS: usize = 150;
        for bandwidth in [20_000.0, 96_000.0, 1e9] {
            let start = Instant::now();
            let mut schedule = Schedule::new(start, 7);
            schedule.hurry(start, OCTETS, bandwidth);
            assert_eq!(schedule.due(), start);
            let mut sent = 0;
            for step in 0..6000 {
                let now = start + Duration::from_millis(10 * step);
                schedule.hurry(now, OCTETS, bandwidth);
                sent += usize::from(schedule.take(now));
            }
            let bits = ((sent - 1) * OCTETS * 8) as f64;
            assert!(bits <= 60.0 * bandwidth * SHARE / PARTICIPANTS * 1.01, "{bandwidth}: {sent}");
            let most = 60.0 / CLOSEST.as_secs_f64();
            let fits = 60.0 * bandwidth * SHARE / PARTICIPANTS / (8 * OCTETS) as f64;
            assert!(sent as f64 >= 0.9 * most.min(fits), "{bandwidth}: {sent}");
        }
    }

    #[test]
    fn who_has_hurried_returns_to_the_usual_pace() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 7);
        schedule.hurry(start, 150, 96_000.0);
        assert!(schedule.take(start));
        let next = (schedule.due() - start).as_secs_f64();
        assert!((5.0 * 0.5 / COMPENSATION..5.0 * 1.5 / COMPENSATION).contains(&next), "{next}");
        schedule.hurry(start, 150, 100.0);
        assert!((schedule.due() - start).as_secs_f64() <= next);
    }

    #[test]
    fn seeds_spread_the_reports() {
        let start = Instant::now();
        assert_ne!(Schedule::new(start, 1).due(), Schedule::new(start, 2).due());
        assert_eq!(Schedule::new(start, 1).due(), Schedule::new(start, 1).due());
    }
}
