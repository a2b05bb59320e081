//! How much later than the fastest packets come: a forgetting histogram of relative delay. It knows arrival and transit
//! times in nanoseconds, not packets.

/// Width of a bucket: 2 ms.
const BUCKET: i64 = 2_000_000;
/// The last bucket, from about one second on, takes all above it.
const BUCKETS: usize = 512;
/// Share of packets that shall be in time. The rest costs 10 ms of concealment each, not a packet.
const QUANTILE: f32 = 0.97;
/// What a packet counts less than the one after it: the last 670 packets, 13 s of 20 ms, have most of the say.
const FORGET: f32 = 0.9985;
/// The fastest packet is looked for in so many spans of so many nanoseconds.
const SPANS: usize = 8;
const SPAN: i64 = 500_000_000;

/// Relative delays of the packets of one stream.
pub(super) struct RelativeDelay {
    /// Weights; a new packet's weight grows by 1 / FORGET instead of all others shrinking.
    histogram: Box<[f32; BUCKETS]>,
    weight: f32,
    total: f32,
    /// Least transit time in each of the last spans; the first is filling.
    fastest: [i64; SPANS],
    span_start: i64,
    quantile: i64,
}

impl RelativeDelay {
    pub(super) fn new() -> Self {
        RelativeDelay {
            histogram: Box::new([0.0; BUCKETS]),
            weight: 1.0,
            total: 0.0,
            fastest: [i64::MAX; SPANS],
            span_start: 0,
            quantile: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.histogram.fill(0.0);
        self.weight = 1.0;
        self.total = 0.0;
        self.fastest = [i64::MAX; SPANS];
        self.quantile = 0;
    }

    /// Takes note of a packet that arrived at `at` after `transit` (of unknown origin, both in nanoseconds).
    pub(super) fn observe(&mut self, at: i64, transit: i64) {
        if self.total == 0.0 {
            self.span_start = at;
        } else if at - self.span_start >= SPAN {
            // Only spans with packets count: after a pause the base is still known.
            self.fastest.rotate_right(1);
            self.fastest[0] = i64::MAX;
            self.span_start = at;
        }
        self.fastest[0] = self.fastest[0].min(transit);

        let late = transit - self.base();
        let bucket = (late / BUCKET).clamp(0, BUCKETS as i64 - 1) as usize;
        self.weight /= FORGET;
        self.histogram[bucket] += self.weight;
        self.total += self.weight;
        if self.weight > 1e6 {
            self.histogram.iter_mut().for_each(|weight| *weight /= self.weight);
            // Summed anew: rounding does not pile up.
            self.total = self.histogram.iter().sum();
            self.weight = 1.0;
        }
        self.quantile = self.find_quantile();
    }

    /// Transit time of the fastest packet of the last seconds; 0 before the first.
    pub(super) fn base(&self) -> i64 {
        let fastest = self.fastest.iter().copied().min().unwrap_or(i64::MAX);
        if fastest == i64::MAX { 0 } else { fastest }
    }

    /// Relative delay that most packets do not exceed, in nanoseconds.
    pub(super) fn quantile(&self) -> i64 {
        self.quantile
    }

    fn find_quantile(&self) -> i64 {
        let wanted = self.total * QUANTILE;
        let mut below = 0.0;
        let bucket = self.histogram.iter().position(|weight| {
            below += weight;
            below >= wanted
        });
        (bucket.unwrap_or(BUCKETS - 1) as i64 + 1) * BUCKET
    }
}
