//! How much later than the fastest packets come, and how long it pays to wait for them: a forgetting histogram of relative
//! delay. It knows arrival and transit times in nanoseconds, not packets.

use super::MS;
use super::peaks::Peaks;

/// Width of a bucket: 2 ms.
const BUCKET: i64 = 2 * MS;
/// The last bucket, from about one second on, takes all above it.
const BUCKETS: usize = 512;
/// Share of packets that shall be in time at the least.
const QUANTILE: f32 = 0.97;
/// Delay that is paid, in nanoseconds, to have all packets in time instead of none: one per cent of late packets weighs as
/// much as 100 ms. The E-model (ITU-T G.107 with G.113's figures for G.711 and concealment: 3.8 points for the one, 0.024
/// for each millisecond of the other) would pay 150; but then the packets of one stall, each a packet time later than the
/// one behind it, would be waited for as long as they are remembered.
const WORTH: f32 = 100.0 * 100e6;
/// From here on, in nanoseconds, delay weighs more: by so much again. The E-model has that point at 177 ms from mouth to
/// ear, of which the rest of the way takes 70.
const NOTICED: f32 = 105e6;
const STEEPER: f32 = 4.6;
/// What a packet counts less than the one after it: the last 670 packets, 13 s of 20 ms, have most of the say.
const FORGET: f32 = 0.9985;
/// So many packets are enough to guess from, and too few to know: from 0.2 s to 3 s of 20 ms.
const YOUNG: std::ops::Range<u64> = 10..150;
/// The fastest packet and the slowest are looked for in so many spans of so many nanoseconds: what has not come for six
/// seconds is waited for no longer.
const SPANS: usize = 12;
const SPAN: i64 = 500 * MS;
/// When the fastest packet becomes slower at once by this much, the route has changed.
const ROUTE_CHANGE: i64 = 10 * MS;

/// Relative delays of the packets of one stream.
pub(super) struct RelativeDelay {
    /// Weights; a new packet's weight grows by 1 / FORGET instead of all others shrinking.
    histogram: Box<[f32; BUCKETS]>,
    weight: f32,
    total: f32,
    /// Packets seen.
    count: u64,
    /// Least and greatest transit time in each of the last spans; the first is filling.
    fastest: [i64; SPANS],
    slowest: [i64; SPANS],
    span_start: i64,
    /// The least of `fastest`; 0 before the first packet.
    base: i64,
    /// What the histogram alone would wait for.
    usual: i64,
    peaks: Peaks,
    target: i64,
    /// The wait below which packets are late, or soon will be.
    enough: i64,
    /// The same, of what is expected beyond what was seen.
    safe: i64,
}

impl RelativeDelay {
    pub(super) fn new() -> Self {
        RelativeDelay {
            histogram: Box::new([0.0; BUCKETS]),
            weight: 1.0,
            total: 0.0,
            count: 0,
            fastest: [i64::MAX; SPANS],
            slowest: [i64::MIN; SPANS],
            span_start: 0,
            base: 0,
            usual: 0,
            peaks: Peaks::new(),
            target: 0,
            enough: 0,
            safe: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.histogram.fill(0.0);
        self.weight = 1.0;
        self.total = 0.0;
        self.count = 0;
        self.fastest = [i64::MAX; SPANS];
        self.slowest = [i64::MIN; SPANS];
        self.base = 0;
        self.peaks = Peaks::new();
        (self.usual, self.target, self.enough, self.safe) = (0, 0, 0, 0);
    }

    /// Takes note of a packet that arrived at `at` after `transit` (of unknown origin, both in nanoseconds).
    pub(super) fn observe(&mut self, at: i64, transit: i64) {
        if self.total == 0.0 {
            self.span_start = at;
            self.base = transit;
        } else if at - self.span_start >= SPAN {
            // Only spans with packets count: after a pause the base is still known.
            self.fastest.rotate_right(1);
            self.slowest.rotate_right(1);
            (self.fastest[0], self.slowest[0]) = (i64::MAX, i64::MIN);
            self.span_start = at;
        }
        self.fastest[0] = self.fastest[0].min(transit);
        self.slowest[0] = self.slowest[0].max(transit);
        let base = self.fastest.iter().copied().min().unwrap_or(transit);
        if base - self.base >= ROUTE_CHANGE {
            self.shift(((base - self.base) / BUCKET) as usize);
        }
        self.base = base;

        let late = transit - base;
        self.peaks.observe(at, late, self.usual);
        let bucket = (late / BUCKET).clamp(0, BUCKETS as i64 - 1) as usize;
        self.weight /= FORGET;
        self.histogram[bucket] += self.weight;
        self.total += self.weight;
        self.count += 1;
        if self.weight > 1e6 {
            self.histogram.iter_mut().for_each(|weight| *weight /= self.weight);
            // Summed anew: rounding does not pile up.
            self.total = self.histogram.iter().sum();
            self.weight = 1.0;
        }
        let worst = self.slowest.iter().copied().max().unwrap_or(transit) - base;
        // Somewhat more than the worst: as many packets to come may have one that is worse.
        let longest = (worst * 5 / 4 / BUCKET + 1) * BUCKET;
        let (best, guess, held) =
            (self.best_wait().min(longest), self.guess().min(worst * 7 / 5), self.peaks.held(at));
        self.usual = best.max(guess);
        self.target = self.usual.max(held);
        self.enough = (best - (best - BUCKET) / 8).min(worst + BUCKET / 10);
        let expected = guess.max(held);
        self.safe = self.enough.max(expected - expected / 8);
    }

    /// Transit time of the fastest packet of the last seconds; 0 before the first.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// By how much the fastest packet of the last 0.5 to 1 s was slower than that of the last six, in nanoseconds: what is
    /// held beyond a shorter wait is no surplus, and leaving it out only tears holes. It takes a queue on the way that has
    /// grown at once, or timestamps that have gone astray.
    pub(super) fn risen(&self) -> i64 {
        let recent = self.fastest.iter().take(2).copied().min().filter(|fastest| *fastest != i64::MAX);
        recent.map_or(0, |fastest| ((fastest - self.base).max(0) / BUCKET + 1) * BUCKET)
    }

    /// How long after the fastest packets' arrival it pays to wait, in nanoseconds.
    pub(super) fn target(&self) -> i64 {
        self.target
    }

    /// While few packets have come, the worst of them says little of what is to come; how the others are spread says more.
    /// What is waited for then is where most distributions of delay have their end, seen from their 0.5 and 0.9 quantiles.
    fn guess(&self) -> i64 {
        if !YOUNG.contains(&self.count) {
            return 0;
        }
        let (mut below, mut median) = (0.0, None);
        for (bucket, weight) in self.histogram.iter().enumerate() {
            below += weight;
            if median.is_none() && below >= 0.5 * self.total {
                median = Some(bucket);
            }
            if below >= 0.9 * self.total {
                let spread = bucket - median.unwrap_or(bucket);
                return (bucket + spread * 6 / 5) as i64 * BUCKET;
            }
        }
        0
    }

    /// The wait below which it has to grow, in nanoseconds: less than [`RelativeDelay::target`], so that not every change of
    /// it is followed, and no more than the slowest of the last packets needed.
    pub(super) fn enough(&self) -> i64 {
        self.enough
    }

    /// The same with what is expected beyond what was seen: it need not grow so far at once.
    pub(super) fn safe(&self) -> i64 {
        self.safe
    }

    /// What was seen relative to a base that is past is now relative to one `buckets` later.
    fn shift(&mut self, buckets: usize) {
        let buckets = buckets.min(BUCKETS - 1);
        let gone: f32 = self.histogram.iter().take(buckets).sum();
        self.histogram.copy_within(buckets.., 0);
        self.histogram[BUCKETS - buckets..].fill(0.0);
        self.histogram[0] += gone;
    }

    /// The wait that costs least, delay and late packets together, among those that let [`QUANTILE`] be in time.
    fn best_wait(&self) -> i64 {
        let mut later = self.total;
        let mut best = (BUCKETS as i64 * BUCKET, f32::MAX);
        for (bucket, weight) in self.histogram.iter().enumerate() {
            later -= weight;
            let wait = (bucket as i64 + 1) * BUCKET;
            let share = (later / self.total).max(0.0);
            if share > 1.0 - QUANTILE {
                continue;
            }
            let price = wait as f32 + STEEPER * (wait as f32 - NOTICED).max(0.0);
            if price > best.1 {
                break;
            }
            let cost = price + WORTH * share;
            if cost < best.1 {
                best = (wait, cost);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many packets, each after its relative delay in milliseconds; answers the time of the last.
    fn feed(delay: &mut RelativeDelay, from: i64, count: i64, late: impl Fn(i64) -> i64) -> i64 {
        for number in from..from + count {
            let sent = number * 20 * MS;
            let transit = 7 * MS + late(number) * MS;
            delay.observe(sent + transit, transit);
        }
        from + count
    }

    #[test]
    fn an_even_wire_is_not_waited_for() {
        let mut delay = RelativeDelay::new();
        feed(&mut delay, 0, 1000, |_| 0);
        assert_eq!((delay.base(), delay.target()), (7 * MS, BUCKET));
    }

    #[test]
    fn rare_lateness_is_waited_for_where_it_is_cheap_alone() {
        let mut delay = RelativeDelay::new();
        // Two of three hundred: 55 ms are worth it, 62 are not.
        feed(&mut delay, 0, 3000, |number| if number % 150 == 7 { 55 } else { 0 });
        assert_eq!(delay.target(), 56 * MS);
        let mut delay = RelativeDelay::new();
        feed(&mut delay, 0, 3000, |number| if number % 150 == 7 { 62 } else { 0 });
        assert_eq!(delay.target(), BUCKET);
    }

    #[test]
    fn what_has_ended_is_forgotten_in_six_seconds() {
        let mut delay = RelativeDelay::new();
        let at = feed(&mut delay, 0, 1000, |number| number % 8 * 20);
        assert!(delay.target() >= 140 * MS, "{}", delay.target());
        feed(&mut delay, at, 330, |_| 0);
        assert_eq!(delay.target(), BUCKET);
    }

    #[test]
    fn stalls_that_come_again_are_prepared_for() {
        let mut delay = RelativeDelay::new();
        // Every four seconds 100 ms in which nothing comes: 2.5 % of the packets.
        let stall = |number: i64| (5 - number % 200).max(0) * 20;
        let at = feed(&mut delay, 0, 1100, stall);
        assert!((90 * MS..=102 * MS).contains(&delay.target()), "{}", delay.target());
        feed(&mut delay, at, 500, |_| 0);
        assert_eq!(delay.target(), BUCKET);
    }

    #[test]
    fn what_begins_anew_is_guessed_from_as_few_packets_as_what_is_new() {
        let jitter = |number: i64| number % 8 * 6;
        let (mut cleared, mut fresh) = (RelativeDelay::new(), RelativeDelay::new());
        let at = feed(&mut cleared, 0, 1000, jitter);
        cleared.clear();
        for delay in [&mut cleared, &mut fresh] {
            feed(delay, at, 20, jitter);
        }
        assert!(fresh.guess() > fresh.best_wait());
        assert_eq!(
            (cleared.target(), cleared.enough(), cleared.safe()),
            (fresh.target(), fresh.enough(), fresh.safe())
        );
    }

    #[test]
    fn a_slower_route_is_a_new_base_and_no_jitter() {
        let mut delay = RelativeDelay::new();
        let at = feed(&mut delay, 0, 1000, |_| 0);
        let at = feed(&mut delay, at, 270, |_| 70);
        assert!(delay.target() >= 70 * MS);
        feed(&mut delay, at, 40, |_| 70);
        assert_eq!((delay.base(), delay.target()), (77 * MS, BUCKET));
    }
}
