//! The resampler's filter: a Kaiser-windowed sinc, cut into phases. Made once for each pair of rates and shared, since
//! thirty calls convert between the same two; and kept for a while, since making it takes longer than answering a call.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Reach of the sinc to each side, in samples of the lower rate: 1.75 ms at 8 kHz. The transition is 30 % of the lower
/// rate's band wide, centred at its end: at 8 kHz, flat to 3.4 kHz and stopped from 4.6 kHz on.
const REACH: f64 = 14.0;
/// Kaiser's shape for side lobes 65 dB down.
const BETA: f64 = 6.3;
/// Least phases for each sample of the lower rate. Between phases the filter is interpolated linearly; what that adds
/// lies below the side lobes.
const MIN_PHASES: f64 = 240.0;
/// More phases than this are not made for the sake of an odd ratio: its steps then fall between phases.
const MAX_PHASES: u32 = 1024;
/// Windows are whole vector registers long.
const LANES: usize = 8;

/// Coefficients between one pair of rates.
pub(super) struct Filter {
    from: u32,
    to: u32,
    taps: usize,
    phases: usize,
    /// From one output sample to the next, unbent, in 32.32 bits of a phase.
    step: u64,
    delay: usize,
    /// One row of `taps` for each phase, and one more: the first phase, a sample later.
    rows: Box<[f32]>,
}

/// Filters kept, besides those in use: more than two devices and three codecs need. Those of usual rates take 40 kB each.
const KEPT: usize = 16;

/// The filters made last, the one asked for last in front. Locked by the control thread only.
static MADE: Mutex<VecDeque<Arc<Filter>>> = Mutex::new(VecDeque::new());

impl Filter {
    /// The filter between two rates, made if it is not there yet. Control thread.
    pub(super) fn shared(from: u32, to: u32) -> Arc<Filter> {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().position(|filter| (filter.from, filter.to) == (from, to));
        let kept = known.and_then(|place| made.remove(place));
        let filter = kept.unwrap_or_else(|| Arc::new(Filter::new(from, to)));
        made.push_front(filter.clone());
        made.truncate(KEPT);
        filter
    }

    fn new(from: u32, to: u32) -> Self {
        let cutoff = (f64::from(to) / f64::from(from)).min(1.0);
        let least = (MIN_PHASES * cutoff).ceil() as u32;
        let up = to / gcd(from, to);
        // A multiple of `up`: unbent ratios meet phases exactly and need no interpolation.
        let phases = if up > MAX_PHASES { least } else { least.div_ceil(up) * up };
        let step = (u128::from(phases) << 32) * u128::from(from) / u128::from(to);
        let (phases, step) = (phases as usize, step as u64);
        let reach = REACH / cutoff;
        let taps = ((2.0 * reach).ceil() as usize + 1).next_multiple_of(LANES);
        // The sinc's middle, in samples from the window's start at phase 0; as late in the window as it fits, for the
        // least delay.
        let middle = taps as f64 - 1.0 - reach.ceil();

        let mut rows = vec![0.0; taps * (phases + 1)].into_boxed_slice();
        for (phase, row) in rows.chunks_exact_mut(taps).enumerate() {
            let centre = middle + phase as f64 / phases as f64;
            let exact = |tap: usize| {
                let distance = tap as f64 - centre;
                cutoff * sinc(distance * cutoff) * kaiser(distance / reach)
            };
            let mut sum = 0.0;
            for (tap, coefficient) in row.iter_mut().enumerate() {
                let exact = exact(tap);
                sum += exact;
                *coefficient = exact as f32;
            }
            // Every phase passes a constant as it is.
            for coefficient in row.iter_mut() {
                *coefficient = (f64::from(*coefficient) / sum) as f32;
            }
        }
        let delay = (reach.ceil() * f64::from(to) / f64::from(from)).round() as usize;
        Filter { from, to, taps, phases, step, delay, rows }
    }

    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// One input sample, in 32.32 bits of a phase.
    pub(super) fn unit(&self) -> u64 {
        (self.phases as u64) << 32
    }

    /// From one output sample to the next, unbent, in the same unit.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// In output samples.
    pub(super) fn delay(&self) -> usize {
        self.delay
    }

    /// One output sample from a window of `taps` input samples, at `phase` (less than a [`Filter::unit`]).
    pub(super) fn apply(&self, window: &[f32], phase: u64) -> f32 {
        let (whole, fraction) = ((phase >> 32) as usize, phase as u32);
        let rows = &self.rows[whole * self.taps..(whole + 2) * self.taps];
        let (this, next) = rows.split_at(self.taps);
        let here = dot(window, this);
        if fraction == 0 {
            return here;
        }
        here + (dot(window, next) - here) * (fraction as f32 / 4_294_967_296.0)
    }
}

/// Sum of products; both are whole multiples of [`LANES`] long.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Sums side by side, which the compiler keeps in vector registers. Added up in order: pairwise, it would sort the
    // lanes for those additions and use half of each register.
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

fn sinc(x: f64) -> f64 {
    let x = std::f64::consts::PI * x;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

/// Kaiser's window over -1..=1.
fn kaiser(x: f64) -> f64 {
    if x.abs() >= 1.0 { 0.0 } else { bessel_i0(BETA * (1.0 - x * x).sqrt()) / bessel_i0(BETA) }
}

/// Modified Bessel function of the first kind, order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..60 {
        term *= quarter / f64::from(k * k);
        sum += term;
        if term < sum * f64::EPSILON {
            break;
        }
    }
    sum
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
