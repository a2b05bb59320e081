//! Voice activity of one sound: whether somebody talks, by its energy above a noise floor that is tracked. It knows
//! frames of samples; what is done about talk and silence (events, comfort noise, the active speaker) is decided by
//! whoever asks. The only detector there is: all of these share it.

/// Rate at which energy is judged, in hertz: what makes speech out lies below half of it.
const BAND: u32 = 8_000;
/// Corner of the high-pass that keeps hum and rumble out, in hertz.
const CORNER: f32 = 200.0;
/// Above the noise floor, in dB: where talk begins, and below which it has ended.
const BEGINS: f32 = 6.0;
const ENDS: f32 = 3.0;
/// Frames in a row that must be above [`BEGINS`]: a click is no talk.
const ONSET: u8 = 3;
/// Faint talk begins, too, when the mean of the last frames stays so far above the floor, in dB, for so many frames:
/// twice as long as one click raises that mean.
const FAINT: f32 = 3.5;
const FAINT_ONSET: u8 = 8;
/// Frames whose mean is taken.
const RECENT: usize = 4;
/// The floor is the least energy in so many pieces of so many frames: 3.2 s, longer than anybody speaks without a gap
/// between syllables.
const PIECES: usize = 8;
const PIECE: u8 = 40;
/// What the least of many energies lies below their mean, in dB.
const BIAS: f32 = 1.5;
/// The floor is never taken for lower, in dBov: on a digital line without any noise, crumbs are no talk.
const LOWEST_FLOOR: f32 = -66.0;
/// Level of digital silence, in dBov.
const SILENCE: f32 = -127.0;

/// What a detector thinks of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activity {
    /// This frame alone stands out of the noise.
    pub sounding: bool,
    /// Somebody talks: for 30 ms something has stood out of the noise, and since then no pause was longer than the
    /// hangover.
    pub talking: bool,
    /// Level of the frame in the speech band, in dBov.
    pub level: f32,
    /// Level of the noise in it, in dBov.
    pub noise: f32,
}

/// A detector for one sound. It allocates nothing.
#[derive(Clone, Debug)]
pub struct ActivityDetector {
    /// Samples that are averaged to one at [`BAND`].
    step: usize,
    /// Frames.
    hangover: u32,
    high_pass: [HighPass; 2],
    /// Mean squares of the last frames; their mean is judged against the floor, which is the least of such means.
    recent: [f32; RECENT],
    next: usize,
    /// Least mean in each of the last pieces.
    least: [f32; PIECES],
    piece: usize,
    frames_in_piece: u8,
    started: bool,
    onset: u8,
    faint_onset: u8,
    /// Frames since something last sounded; `None` in silence.
    quiet: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct HighPass {
    input: f32,
    output: f32,
}

impl HighPass {
    fn next(&mut self, input: f32, pole: f32) -> f32 {
        self.output = pole * (self.output + input - self.input);
        self.input = input;
        self.output
    }
}

impl ActivityDetector {
    /// For sound at `rate` hertz. `hangover_ms`: pauses up to so long belong to the talk; 200 keeps words together, 600
    /// sentences.
    pub fn new(rate: u32, hangover_ms: u32) -> Self {
        ActivityDetector {
            step: (rate / BAND).max(1) as usize,
            hangover: hangover_ms / 10,
            high_pass: [HighPass::default(); 2],
            recent: [0.0; RECENT],
            next: 0,
            least: [f32::MAX; PIECES],
            piece: 0,
            frames_in_piece: 0,
            started: false,
            onset: 0,
            faint_onset: 0,
            quiet: None,
        }
    }

    /// Takes the next 10 ms.
    pub fn frame(&mut self, samples: &[f32]) -> Activity {
        let energy = self.energy(samples);
        let mean = self.track(energy);
        self.judge(decibels(energy), decibels(mean))
    }

    /// Takes 10 ms in which nothing is heard, as of who is muted or held: talk ends as it does in silence, but nothing is
    /// learned of the noise, which is still there when sound comes back.
    pub fn pause(&mut self) -> Activity {
        self.judge(SILENCE, SILENCE)
    }

    /// `level`: of a frame; `mean`: of the last few, both in dBov.
    fn judge(&mut self, level: f32, mean: f32) -> Activity {
        let noise = self.noise();
        let sounding = level > noise + BEGINS;
        let above = mean - noise;
        self.onset = if sounding { self.onset.saturating_add(1) } else { 0 };
        self.faint_onset = if above > FAINT { self.faint_onset.saturating_add(1) } else { 0 };
        self.quiet = match self.quiet {
            None if self.onset >= ONSET || self.faint_onset >= FAINT_ONSET => Some(0),
            None => None,
            Some(_) if above > ENDS => Some(0),
            Some(quiet) if quiet >= self.hangover => None,
            Some(quiet) => Some(quiet + 1),
        };
        Activity { sounding, talking: self.quiet.is_some(), level, noise }
    }

    /// Whether somebody talks, by the last frame.
    pub fn is_talking(&self) -> bool {
        self.quiet.is_some()
    }

    /// Level of the noise in dBov.
    fn noise(&self) -> f32 {
        let least = self.least.iter().copied().fold(f32::MAX, f32::min);
        (decibels(least) + BIAS).max(LOWEST_FLOOR)
    }

    /// Mean square in the speech band.
    fn energy(&mut self, samples: &[f32]) -> f32 {
        const POLE: f32 = 1.0 - std::f32::consts::TAU * CORNER / BAND as f32;
        let [first, second] = &mut self.high_pass;
        let (mut sum, mut count) = (0.0, 0);
        for group in samples.chunks_exact(self.step) {
            let mean = group.iter().sum::<f32>() / self.step as f32;
            let sample = second.next(first.next(mean, POLE), POLE);
            sum += sample * sample;
            count += 1;
        }
        if sum.is_finite() {
            return sum / count.max(1) as f32;
        }
        // No number has come in: it must not stay in the filters.
        self.high_pass = [HighPass::default(); 2];
        0.0
    }

    /// Takes a frame into the floor; answers the mean of the last few.
    fn track(&mut self, energy: f32) -> f32 {
        if !std::mem::replace(&mut self.started, true) {
            self.recent = [energy; RECENT];
        }
        if let Some(place) = self.recent.get_mut(self.next) {
            *place = energy;
        }
        self.next = (self.next + 1) % RECENT;
        let mean = self.recent.iter().sum::<f32>() / RECENT as f32;
        if self.frames_in_piece == PIECE {
            self.frames_in_piece = 0;
            self.piece = (self.piece + 1) % PIECES;
            if let Some(least) = self.least.get_mut(self.piece) {
                *least = f32::MAX;
            }
        }
        self.frames_in_piece += 1;
        if let Some(least) = self.least.get_mut(self.piece) {
            *least = least.min(mean);
        }
        mean
    }
}

fn decibels(mean_square: f32) -> f32 {
    (10.0 * mean_square.log10()).clamp(SILENCE, 0.0)
}
