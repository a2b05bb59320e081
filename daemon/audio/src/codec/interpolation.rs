//! Fills a gap from both sides, where the packet behind it is there in time. It knows samples only.
//!
//! What lies before the gap is carried on, what lies behind it is carried back, period by period, and one fades over into
//! the other. That has the right spectrum and the wrong joins. So a linear predictor that reaches back further than a
//! pitch period is fitted to the surroundings and this first guess, and the gap is filled with what surprises that predictor
//! least, given both sides (least squares; Janssen, Veldhuis and Vries, 1986). The predictor's residue is smallest where
//! phases meet, so nothing has to be aligned by hand.
//!
//! Fitting needs correlations alone, and both systems of equations are symmetric Toeplitz: Levinson's recursion solves them
//! in the square of their size.

use super::concealment::pitch_of;
use crate::sums::dot;

/// The highest rate at which gaps are filled so: the work grows with the square of the rate, and a gap at 48 kHz would take
/// milliseconds of the tick.
const MAX_RATE: u32 = 16_000;
/// Most samples of what follows that are looked at, at any rate.
pub(super) const MAX_LOOKED_AT: usize = Lengths::at(MAX_RATE).max_following;
/// Longest gap in samples that is filled, at any rate.
pub(super) const LONGEST: usize = Lengths::at(MAX_RATE).max_gap;

/// Longest gap that is filled so, in steps of 10 ms: over longer ones repetition with a fade is as good.
const MAX_GAP: usize = 3;
/// How much of what follows is looked at, in steps of 10 ms.
const MAX_FOLLOWING: usize = 2;
/// What white noise is added to the correlations, so that the predictor stays sane.
const NOISE: f64 = 1e-4;
/// Correlation of nothing at all.
const FLOOR: f64 = 1e-7;
/// Share by which the diagonal of the second system is raised, against rounding.
const RIDGE: f64 = 1e-6;

/// Lengths in samples at one rate.
#[derive(Clone, Copy)]
struct Lengths {
    max_gap: usize,
    max_following: usize,
    /// What is looked at before the gap when the predictor is fitted: 20 ms.
    context: usize,
    /// How far back the predictor reaches: 12.5 ms.
    order: usize,
    /// Pitch periods looked for: 2.5 to 15 ms, by the likeness of 7.5 ms.
    min_pitch: usize,
    max_pitch: usize,
    compared: usize,
}

impl Lengths {
    const fn at(rate: u32) -> Self {
        let step = rate as usize / 100;
        Lengths {
            max_gap: MAX_GAP * step,
            max_following: MAX_FOLLOWING * step,
            context: 2 * step,
            order: step * 5 / 4,
            min_pitch: step / 4,
            max_pitch: step * 3 / 2,
            compared: step * 3 / 4,
        }
    }
}

/// Room for the work on one gap.
pub(super) struct Interpolation {
    lengths: Lengths,
    /// Context, gap and what follows; then the same under a window.
    span: Box<[f32]>,
    windowed: Box<[f32]>,
    /// What follows, backwards.
    reversed: Box<[f32]>,
    /// Correlations, of the sound and of the predictor.
    correlations: Box<[f64]>,
    /// 1 and the predictor's coefficients, negative.
    predictor: Box<[f64]>,
    /// The right side of the gap's equations, and their solution.
    wanted: Box<[f64]>,
    solution: Box<[f64]>,
    /// What is left of the sound behind the predictor.
    residue: Box<[f64]>,
    scratch: Box<[f64]>,
}

impl Interpolation {
    /// Control thread: allocates. `rate`: of the samples in hertz; above 16 kHz nothing is looked at and nothing filled.
    pub(super) fn new(rate: u32) -> Self {
        let lengths = Lengths::at(if rate > MAX_RATE { 0 } else { rate });
        let Lengths { max_gap, max_following, context, order, .. } = lengths;
        let longest = context + max_gap + max_following;
        let sound = |length: usize| vec![0.0_f32; length].into_boxed_slice();
        let work = |length: usize| vec![0.0_f64; length].into_boxed_slice();
        let largest = max_gap.max(order + 1);
        Interpolation {
            lengths,
            span: sound(longest),
            windowed: sound(longest),
            reversed: sound(max_following),
            correlations: work(largest),
            predictor: work(order + 1),
            wanted: work(max_gap),
            solution: work(max_gap),
            residue: work(max_gap + order),
            scratch: work(largest),
        }
    }

    /// Most samples of what follows that are looked at.
    pub(super) fn looked_at(&self) -> usize {
        self.lengths.max_following
    }

    /// Carries `history` on, period by period.
    pub(super) fn carry_on(&self, history: &[f32], samples: &mut [f32]) {
        let Lengths { min_pitch, max_pitch, compared, .. } = self.lengths;
        let cycle = Cycle::at_end_of(history, min_pitch, max_pitch, compared);
        for (index, sample) in samples.iter_mut().enumerate() {
            *sample = cycle.sample(index);
        }
    }

    /// Multiplications that [`Interpolation::fill`] needs for a gap of so many samples, where enough follows; 0 where it
    /// fills none of that length.
    pub(super) fn work(&self, gap: usize) -> u64 {
        let Lengths { max_gap, max_following, context, order, min_pitch, max_pitch, compared } = self.lengths;
        if !(1..=max_gap).contains(&gap) {
            return 0;
        }
        let pitch = 2 * (max_pitch - min_pitch) * compared;
        let fit = (context + gap + max_following) * order + order * order;
        let solve = 2 * gap * order + order * order / 2 + 3 * gap * gap / 2;
        (pitch + fit + solve) as u64
    }

    /// Fills `gap` between `history` and `following`; `false`, and nothing touched, where the gap is too long or there is
    /// too little around it.
    pub(super) fn fill(&mut self, history: &[f32], following: &[f32], gap: &mut [f32]) -> bool {
        let Lengths { max_gap, max_following, context, order, min_pitch, compared, .. } = self.lengths;
        let following = &following[..following.len().min(max_following)];
        let order = order.min(following.len());
        let fits = (1..=max_gap).contains(&gap.len()) && history.len() >= context.max(order);
        if !fits || order < min_pitch + compared / 2 {
            return false;
        }
        self.guess(history, following, gap);
        self.fit(history, following, gap, order);
        self.solve(history, following, gap, order);
        true
    }

    /// Both sides carried on by their pitch periods, one fading over into the other.
    fn guess(&mut self, history: &[f32], following: &[f32], gap: &mut [f32]) {
        let Lengths { min_pitch, max_pitch, compared, .. } = self.lengths;
        let reversed = &mut self.reversed[..following.len()];
        for (to, from) in reversed.iter_mut().zip(following.iter().rev()) {
            *to = *from;
        }
        let before = Cycle::at_end_of(history, min_pitch, max_pitch, compared);
        // As long a period as leaves enough of what follows to compare it with.
        let compared = compared.min(reversed.len() / 2);
        let longest = (reversed.len() - compared).min(max_pitch);
        let behind = Cycle::at_end_of(reversed, min_pitch, longest, compared);
        let (length, step) = (gap.len(), 1.0 / (gap.len() + 1) as f32);
        for (index, sample) in gap.iter_mut().enumerate() {
            let weight = (index + 1) as f32 * step;
            *sample = (1.0 - weight) * before.sample(index) + weight * behind.sample(length - 1 - index);
        }
    }

    /// The predictor that fits context, guess and what follows.
    fn fit(&mut self, history: &[f32], following: &[f32], gap: &[f32], order: usize) {
        let context = &history[history.len() - self.lengths.context..];
        let length = context.len() + gap.len() + following.len();
        let span = &mut self.span[..length];
        for (to, from) in span.iter_mut().zip(context.iter().chain(gap).chain(following)) {
            *to = *from;
        }
        let windowed = &mut self.windowed[..length];
        // sin², a Hann window, by the rotation of a phasor.
        let (sine, cosine) = (std::f32::consts::PI / (length + 1) as f32).sin_cos();
        let (mut s, mut c) = (sine, cosine);
        for (to, from) in windowed.iter_mut().zip(span.iter()) {
            *to = from * s * s;
            (s, c) = (s * cosine + c * sine, c * cosine - s * sine);
        }
        let correlations = &mut self.correlations[..=order];
        for (lag, correlation) in correlations.iter_mut().enumerate() {
            *correlation = f64::from(dot(&windowed[lag..], &windowed[..length - lag]));
        }
        correlations[0] = correlations[0] * (1.0 + NOISE) + FLOOR;
        fit_predictor(correlations, &mut self.predictor[..=order], &mut self.scratch[..=order]);
    }

    /// The gap that leaves the predictor the least residue.
    fn solve(&mut self, history: &[f32], following: &[f32], gap: &mut [f32], order: usize) {
        let (length, predictor) = (gap.len(), &self.predictor[..=order]);
        // The residue with silence in the gap.
        let residue = &mut self.residue[..length + order];
        for (place, left) in residue.iter_mut().enumerate() {
            let sample = |lag: usize| -> f64 {
                match place.checked_sub(lag) {
                    None => f64::from(history[history.len() + place - lag]),
                    Some(at) if at < length => 0.0,
                    Some(at) => f64::from(following[at - length]),
                }
            };
            // Only lags that lead out of the gap count.
            let behind = (place + 1).saturating_sub(length).min(order + 1);
            let before = (place + 1).max(behind).min(order + 1);
            let lags = (0..behind).chain(before..=order);
            *left = lags.map(|lag| predictor[lag] * sample(lag)).sum();
        }
        let wanted = &mut self.wanted[..length];
        for (place, wanted) in wanted.iter_mut().enumerate() {
            *wanted = -dot_f64(predictor, &residue[place..=place + order]);
        }
        let correlations = &mut self.correlations[..length];
        for (lag, correlation) in correlations.iter_mut().enumerate() {
            *correlation = match lag <= order {
                true => dot_f64(&predictor[lag..], &predictor[..=order - lag]),
                false => 0.0,
            };
        }
        correlations[0] = correlations[0] * (1.0 + RIDGE) + FLOOR;
        let solution = &mut self.solution[..length];
        solve_toeplitz(correlations, wanted, solution, &mut self.scratch[..length]);
        // Never louder than what is around it.
        let sides = history[history.len() - self.lengths.context..].iter().chain(following);
        let loudest = sides.fold(0.0_f32, |most, sample| most.max(sample.abs()));
        for (sample, solved) in gap.iter_mut().zip(solution.iter()) {
            let solved = *solved as f32;
            if solved.is_finite() {
                *sample = solved.clamp(-loudest, loudest);
            }
        }
    }
}

/// The last pitch period of some sound, to be repeated.
struct Cycle<'a> {
    sound: &'a [f32],
    period: usize,
    /// Over so many samples the period's end is blended into what stands before its start.
    overlap: usize,
}

impl<'a> Cycle<'a> {
    fn at_end_of(sound: &'a [f32], min: usize, max: usize, compared: usize) -> Self {
        let period = pitch_of(sound, min, max, compared);
        Cycle { sound, period, overlap: (period / 4).min(sound.len() - period) }
    }

    /// Sample `index` behind the end of the sound.
    fn sample(&self, index: usize) -> f32 {
        let at = index % self.period;
        let place = self.sound.len() - self.period + at;
        let overlapped = (at + self.overlap).saturating_sub(self.period - 1);
        let weight = overlapped as f32 / (self.overlap + 1) as f32;
        match overlapped {
            0 => self.sound[place],
            _ => (1.0 - weight) * self.sound[place] + weight * self.sound[place - self.period],
        }
    }
}

/// Levinson and Durbin: the predictor (1 first) of the smallest residue for these correlations.
fn fit_predictor(correlations: &[f64], predictor: &mut [f64], scratch: &mut [f64]) {
    predictor.fill(0.0);
    predictor[0] = 1.0;
    let mut error = correlations[0];
    for order in 1..predictor.len() {
        let sum: f64 =
            predictor[..order].iter().zip(correlations[1..=order].iter().rev()).map(|(a, r)| a * r).sum();
        let reflection = -sum / error;
        scratch[..=order].copy_from_slice(&predictor[..=order]);
        for (a, before) in predictor[1..=order].iter_mut().zip(scratch[..order].iter().rev()) {
            *a += reflection * before;
        }
        error *= 1.0 - reflection * reflection;
        if error <= 0.0 {
            // Rounding has the last word: what is there so far predicts well enough.
            return;
        }
    }
}

/// Levinson: solves the symmetric Toeplitz system whose first row is `row`. `scratch` is as long as `row`.
fn solve_toeplitz(row: &[f64], wanted: &[f64], solution: &mut [f64], forward: &mut [f64]) {
    solution.fill(0.0);
    forward.fill(0.0);
    // `forward`: the predictor of so many samples; backwards it predicts the other way.
    forward[0] = 1.0;
    let mut error = row[0];
    solution[0] = wanted[0] / error;
    for size in 1..row.len() {
        let rest = &row[1..=size];
        let sum: f64 = forward[..size].iter().zip(rest.iter().rev()).map(|(a, r)| a * r).sum();
        let reflection = -sum / error;
        // Both ends at once: each needs the other's former value.
        for low in 0..=size / 2 {
            let high = size - low;
            let (a, b) = (forward[low], forward[high]);
            forward[low] = a + reflection * b;
            if low != high {
                forward[high] = b + reflection * a;
            }
        }
        error *= 1.0 - reflection * reflection;
        if error <= 0.0 {
            return;
        }
        let sum: f64 = solution[..size].iter().zip(rest.iter().rev()).map(|(x, r)| x * r).sum();
        let gain = (wanted[size] - sum) / error;
        for (x, a) in solution[..=size].iter_mut().zip(forward[..=size].iter().rev()) {
            *x += gain * a;
        }
    }
}

fn dot_f64(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0_f64; 4];
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let tail: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for index in 0..4 {
            sums[index] += a[index] * b[index];
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levinson_solves_what_it_is_given() {
        let row: Vec<f64> = (0..40).map(|lag| 0.9_f64.powi(lag) * f64::from(lag).cos()).collect();
        let truth: Vec<f64> = (0..40).map(|n| f64::from(n * n % 17) - 8.0).collect();
        let wanted: Vec<f64> =
            (0..40_usize).map(|i| (0..40_usize).map(|j| row[i.abs_diff(j)] * truth[j]).sum()).collect();
        let (mut solution, mut scratch) = ([0.0; 40], [0.0; 40]);
        solve_toeplitz(&row, &wanted, &mut solution, &mut scratch);
        for (found, truth) in solution.iter().zip(truth) {
            assert!((found - truth).abs() < 1e-9, "{found}, {truth}");
        }
    }

    #[test]
    fn the_predictor_of_an_autoregressive_process_is_its_own() {
        // Correlations of x[n] = 1.5 x[n-1] - 0.7 x[n-2] + e[n] obey the same recursion (Yule and Walker).
        let mut r = vec![1.0, 1.5 / 1.7];
        for n in 2..10 {
            r.push(1.5 * r[n - 1] - 0.7 * r[n - 2]);
        }
        let (mut predictor, mut scratch) = ([0.0; 10], [0.0; 10]);
        fit_predictor(&r, &mut predictor, &mut scratch);
        for (index, a) in predictor.iter().enumerate() {
            let expected = [1.0, -1.5, 0.7].get(index).copied().unwrap_or(0.0);
            assert!((a - expected).abs() < 1e-9, "{predictor:?}");
        }
    }
}
