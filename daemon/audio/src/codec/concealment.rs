//! Concealment for waveform codecs: repeats the last pitch periods, fades, and joins on to what comes next, in the manner
//! of ITU-T G.711 Appendix I but without its 3.75 ms of delay. It knows samples only.
//!
//! Appendix I delays all sound by a quarter of the longest pitch period, so that it can still blend the last good samples
//! into the first made-up ones. Here the first made-up samples instead carry the step between the two and let it run
//! out over the same quarter period.

use super::interpolation::Interpolation;
use crate::sums::dot;

/// Most pitch periods repeated in a row.
const MAX_PERIODS: usize = 3;

/// Lengths in samples at one rate.
#[derive(Clone, Copy)]
struct Lengths {
    /// Shortest and longest pitch period searched: 2.5 to 15 ms, 400 down to 66 Hz.
    min_pitch: usize,
    max_pitch: usize,
    /// What is compared in the search: 10 ms. Longer, the voice's glide blurs the likeness; Appendix I takes 20.
    correlated: usize,
    /// What has been heard: three longest periods and the quarter that overlaps.
    history: usize,
    /// 10 ms, the step in which concealment changes.
    step: usize,
    /// Made-up sound is whole for 10 ms and gone after 60.
    fade_start: usize,
    fade_end: usize,
    /// More pitch periods are repeated only after so long a gap; until then the last one is the best guess.
    widen_after: usize,
    /// Shortest and longest blend with what comes after.
    min_blend: usize,
    max_blend: usize,
    /// By which the blend grows for each step of a gap that has lasted longer than `widen_after`: 4 ms.
    drift: usize,
}

impl Lengths {
    const fn at(rate: u32) -> Self {
        let step = rate as usize / 100;
        let max_pitch = step * 3 / 2;
        Lengths {
            min_pitch: step / 4,
            max_pitch,
            correlated: step,
            history: max_pitch * MAX_PERIODS + max_pitch / 4,
            step,
            fade_start: step,
            fade_end: 6 * step,
            widen_after: 2 * step,
            min_blend: step / 5,
            max_blend: step,
            drift: step * 2 / 5,
        }
    }

    /// Loudness after so many made-up samples.
    fn gain(self, concealed: usize) -> f32 {
        if concealed < self.fade_start {
            1.0
        } else {
            self.fade_end.saturating_sub(concealed) as f32 / (self.fade_end - self.fade_start) as f32
        }
    }
}

/// The highest rate that concealment is made for.
const MAX_RATE: u32 = 48_000;
const MAX: Lengths = Lengths::at(MAX_RATE);

/// The state of one decoder's concealment.
pub(super) struct Concealment {
    lengths: Lengths,
    /// The last sound given out, oldest first.
    history: Box<[f32]>,
    /// The history as it was when the gap began.
    heard: Box<[f32]>,
    /// The same, with its end blended for repetition; the last `pitch * periods` samples are the cycle.
    cycle: Box<[f32]>,
    pitch: usize,
    periods: usize,
    /// Next sample of the cycle, counted from its start.
    position: usize,
    /// Step at the start of concealment, running out.
    offset: f32,
    /// Samples made up since the last good one; 0 while all is well.
    concealed: usize,
    interpolation: Interpolation,
}

impl Concealment {
    /// Control thread: allocates. `rate`: of the samples, at most 48 kHz.
    pub(super) fn new(rate: u32) -> Self {
        let lengths = Lengths::at(rate.min(MAX_RATE));
        let silence = || vec![0.0; lengths.history].into_boxed_slice();
        Concealment {
            lengths,
            history: silence(),
            heard: silence(),
            cycle: silence(),
            pitch: lengths.min_pitch,
            periods: 1,
            position: 0,
            offset: 0.0,
            concealed: 0,
            interpolation: Interpolation::new(rate),
        }
    }

    pub(super) fn reset(&mut self) {
        for sound in [&mut self.history, &mut self.heard, &mut self.cycle] {
            sound.fill(0.0);
        }
        (self.pitch, self.periods, self.position) = (self.lengths.min_pitch, 1, 0);
        (self.offset, self.concealed) = (0.0, 0);
    }

    /// Takes note of decoded samples; the first ones after a gap are blended with what was being made up.
    pub(super) fn good(&mut self, samples: &mut [f32]) {
        if self.concealed > 0 {
            self.blend(samples);
            self.concealed = 0;
        }
        self.remember(samples);
    }

    /// Makes up samples.
    pub(super) fn conceal(&mut self, samples: &mut [f32]) {
        for step in samples.chunks_mut(self.lengths.step) {
            self.conceal_step(step);
            self.remember(step);
        }
    }

    /// What was heard and made up last, oldest first.
    pub(super) fn history(&self) -> &[f32] {
        &self.history
    }

    /// What would be made up next, without any consequence.
    pub(super) fn foresee(&self, samples: &mut [f32]) {
        self.interpolation.carry_on(&self.history, samples);
    }

    /// Most samples of what follows a gap that [`Concealment::interpolate`] looks at.
    pub(super) fn looked_at(&self) -> usize {
        self.interpolation.looked_at()
    }

    /// What [`Concealment::interpolate`] costs for so many samples, in multiplications.
    pub(super) fn interpolation_work(&self, samples: usize) -> u64 {
        self.interpolation.work(samples)
    }

    /// Makes up samples between what was heard and `following`, which needs no blending then; `false`, and nothing
    /// touched, where they are too many.
    pub(super) fn interpolate(&mut self, following: &[f32], samples: &mut [f32]) -> bool {
        let filled = self.interpolation.fill(&self.history, following, samples);
        if filled {
            self.concealed = 0;
            self.remember(samples);
        }
        filled
    }

    fn conceal_step(&mut self, samples: &mut [f32]) {
        if self.concealed >= self.lengths.fade_end {
            samples.fill(0.0);
            return;
        }
        if self.concealed == 0 {
            self.start();
        } else if self.concealed >= self.lengths.widen_after && self.periods < MAX_PERIODS {
            self.widen(samples);
            return;
        }
        self.continue_cycle(samples);
    }

    /// Finds the pitch and sets the cycle up.
    fn start(&mut self) {
        self.pitch = pitch(&self.history, self.lengths);
        self.heard.copy_from_slice(&self.history);
        self.cycle.copy_from_slice(&self.history);
        self.periods = 1;
        self.position = 0;
        self.close_cycle();
        let newest = self.history.len() - 1;
        let last = self.history[newest];
        // The sample one period ago led up to the cycle's first one as `last` would lead to the next.
        self.offset = last - self.history[newest - self.pitch];
    }

    /// Blends the cycle's last quarter period with what stands before its start, so that its end leads into its start.
    fn close_cycle(&mut self) {
        let length = self.pitch * self.periods;
        let overlap = self.pitch / 4;
        let (end, before) = (self.cycle.len() - overlap, self.cycle.len() - length - overlap);
        self.cycle[end..].copy_from_slice(&self.heard[end..]);
        cross_fade_out(&mut self.cycle[end..], &self.heard[before..before + overlap]);
    }

    /// One more period in the cycle, so that long gaps do not turn into a steady note; the old cycle fades over into it.
    fn widen(&mut self, samples: &mut [f32]) {
        let overlap = (self.pitch / 4).min(samples.len());
        let mut tail = [0.0; MAX.max_pitch / 4];
        let tail = &mut tail[..overlap];
        let resume = (self.position, self.concealed);
        self.continue_cycle(tail);
        (self.position, self.concealed) = resume;

        self.periods += 1;
        self.close_cycle();
        // The same place within a period, so that the pitch pulses stay where they are due.
        self.position %= self.pitch;
        self.continue_cycle(samples);
        cross_fade_in(tail, samples);
    }

    /// The next samples of the cycle, faded by how long the gap has lasted.
    fn continue_cycle(&mut self, samples: &mut [f32]) {
        let length = self.pitch * self.periods;
        let overlap = self.pitch / 4;
        let first = self.cycle.len() - length;
        for sample in samples {
            let settle = 1.0 - self.concealed as f32 / overlap as f32;
            let offset = self.offset * settle.max(0.0);
            *sample = (self.cycle[first + self.position] + offset) * self.lengths.gain(self.concealed);
            self.concealed += 1;
            self.position += 1;
            if self.position == length {
                self.position = 0;
            }
        }
    }

    /// Blends made-up sound out of the first good samples: over a quarter period, and 4 ms more for each 10 ms of gap
    /// beyond 20, when the two have drifted apart.
    fn blend(&mut self, samples: &mut [f32]) {
        let Lengths { widen_after, step, drift, min_blend, max_blend, fade_end, .. } = self.lengths;
        let drifted = self.concealed.saturating_sub(widen_after).div_ceil(step) * drift;
        let length = (self.pitch / 4 + drifted).clamp(min_blend, max_blend).min(samples.len());
        let mut made_up = [0.0; MAX.max_blend];
        let made_up = &mut made_up[..length];
        if self.concealed < fade_end {
            self.continue_cycle(made_up);
        }
        cross_fade_in(made_up, samples);
    }

    fn remember(&mut self, samples: &[f32]) {
        let kept = samples.len().min(self.history.len());
        self.history.copy_within(kept.., 0);
        let from = self.history.len() - kept;
        self.history[from..].copy_from_slice(&samples[samples.len() - kept..]);
    }
}

/// `into` starts as `from` and ends as itself.
fn cross_fade_in(from: &[f32], into: &mut [f32]) {
    let step = 1.0 / (from.len() + 1) as f32;
    for (index, (into, from)) in into.iter_mut().zip(from).enumerate() {
        let weight = (index + 1) as f32 * step;
        *into = weight * *into + (1.0 - weight) * from;
    }
}

/// `samples` start as themselves and end as `into`.
fn cross_fade_out(samples: &mut [f32], into: &[f32]) {
    let step = 1.0 / (into.len() + 1) as f32;
    for (index, (sample, into)) in samples.iter_mut().zip(into).enumerate() {
        let weight = (index + 1) as f32 * step;
        *sample = (1.0 - weight) * *sample + weight * into;
    }
}

/// The lag at which the last 10 ms are most like what came before.
fn pitch(history: &[f32], lengths: Lengths) -> usize {
    pitch_of(history, lengths.min_pitch, lengths.max_pitch, lengths.correlated)
}

/// The lag from `min` to `max` at which the last `correlated` samples are most like what came before, by normalised
/// correlation. There are at least `max + correlated` samples.
pub(super) fn pitch_of(history: &[f32], min: usize, max: usize, correlated: usize) -> usize {
    let (end, start) = (history.len(), history.len() - correlated);
    let recent = &history[start..];
    let lagged = |lag: usize| &history[start - lag..end - lag];
    let mut energy = dot(lagged(min), lagged(min));
    let mut best = (min, f32::MIN);
    for lag in min..=max {
        if lag > min {
            // The window moved one sample back.
            let (entered, left) = (history[start - lag], history[end - lag]);
            energy += entered * entered - left * left;
        }
        // The floor keeps near-silence from winning by division.
        let likeness = dot(recent, lagged(lag)) / energy.max(1e-6).sqrt();
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    best.0
}
