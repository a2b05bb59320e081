//! Rate conversion: fixed ratios between ports, and a slowly steered one that corrects the drift of a device clock.
//! It knows samples and ratios; it does not know rings or devices.

mod drift;
mod filter;

use std::sync::Arc;

pub use drift::DriftControl;
use filter::Filter;

/// Furthest that a ratio can be bent, in parts per million.
pub const MAX_DRIFT_PPM: f32 = 2000.0;

/// Longest piece that is made in one go.
const LONGEST_PIECE: usize = 1 << 16;

/// A converter between two rates whose ratio can be bent by a few hundred parts per million while it runs.
///
/// Pull side first: [`Resampler::input_needed`] tells how many input samples the next call takes to give
/// `output` samples.
pub struct Resampler {
    filter: Arc<Filter>,
    max_output: usize,
    /// Input not yet done with, then room for what a call brings.
    buffer: Box<[f32]>,
    held: usize,
    position: Position,
    /// Whole input samples that the step moves on by, and the rest as a phase.
    step: Position,
}

/// A place in the input: a sample, and a phase of the filter between it and the next (32.32 bits, less than all phases).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    sample: usize,
    phase: u64,
}

impl Resampler {
    /// Control thread: allocates. Rates in hertz; `max_output`: most samples asked for in one call (longer calls work,
    /// in pieces).
    pub fn new(from: u32, to: u32, max_output: usize) -> Self {
        let filter = Filter::shared(from.max(1), to.max(1));
        let max_output = max_output.clamp(1, LONGEST_PIECE);
        let start = Position { sample: 0, phase: 0 };
        let furthest =
            start.advanced(bent(filter.step(), MAX_DRIFT_PPM, filter.unit()), max_output, filter.unit());
        // From the first window's start to the last one's end, and what a call before left behind.
        let room = furthest.sample + 2 * filter.taps() + 2;
        Resampler {
            max_output,
            buffer: vec![0.0; room].into_boxed_slice(),
            // Silence up to the sample before the first: the first output sample waits for one input sample only.
            held: filter.taps() - 1,
            position: start,
            step: bent(filter.step(), 0.0, filter.unit()),
            filter,
        }
    }

    /// How many input samples [`Resampler::process`] will take to make `output` samples.
    pub fn input_needed(&self, output: usize) -> usize {
        // A piece takes as much as lets its last window be full, so only the last piece counts.
        if output == 0 {
            return 0;
        }
        let last = self.position.advanced(self.step, output - 1, self.filter.unit());
        (last.sample + self.filter.taps()).saturating_sub(self.held)
    }

    /// Real-time thread. `input.len()` must be what `input_needed(output.len())` said; a shorter one is filled up with
    /// silence.
    pub fn process(&mut self, input: &[f32], output: &mut [f32]) {
        let mut input = input;
        for piece in output.chunks_mut(self.max_output) {
            let needed = self.input_needed(piece.len());
            let (now, later) = input.split_at(needed.min(input.len()));
            input = later;
            self.process_piece(now, needed, piece);
        }
    }

    fn process_piece(&mut self, input: &[f32], needed: usize, output: &mut [f32]) {
        let end = self.held + needed;
        let (there, missing) = self.buffer[self.held..end].split_at_mut(input.len());
        there.copy_from_slice(input);
        missing.fill(0.0);

        let (taps, unit) = (self.filter.taps(), self.filter.unit());
        for sample in output {
            let Position { sample: start, phase } = self.position;
            *sample = self.filter.apply(&self.buffer[start..start + taps], phase);
            self.position.step(self.step, unit);
        }
        // The next window may begin behind what is here; then its start waits.
        let done = self.position.sample.min(end);
        self.buffer.copy_within(done..end, 0);
        self.held = end - done;
        self.position.sample -= done;
    }

    /// Forgets what came before, as if it had been `value` all along. Real-time thread.
    pub fn forget(&mut self, value: f32) {
        self.buffer.iter_mut().take(self.held).for_each(|sample| *sample = value);
    }

    /// Bends the ratio: positive consumes input faster. Clamped to ±[`MAX_DRIFT_PPM`]; what is no number is 0.
    pub fn set_drift_ppm(&mut self, ppm: f32) {
        self.step = bent(self.filter.step(), ppm, self.filter.unit());
    }

    /// Delay in output samples.
    pub fn delay(&self) -> usize {
        self.filter.delay()
    }
}

impl Position {
    fn step(&mut self, step: Position, unit: u64) {
        self.sample += step.sample;
        self.phase += step.phase;
        if self.phase >= unit {
            self.phase -= unit;
            self.sample += 1;
        }
    }

    /// After so many steps.
    fn advanced(self, step: Position, count: usize, unit: u64) -> Position {
        let phase = u128::from(step.phase) * count as u128 + u128::from(self.phase);
        let (whole, phase) = (phase / u128::from(unit), phase % u128::from(unit));
        Position { sample: self.sample + step.sample * count + whole as usize, phase: phase as u64 }
    }
}

/// The step, bent.
fn bent(step: u64, ppm: f32, unit: u64) -> Position {
    let ppm = if ppm.is_nan() { 0.0 } else { ppm.clamp(-MAX_DRIFT_PPM, MAX_DRIFT_PPM) };
    let step = (step as f64 * (1.0 + f64::from(ppm) * 1e-6)) as u64;
    Position { sample: (step / unit) as usize, phase: step % unit }
}
