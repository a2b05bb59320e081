//! Concealment for waveform codecs at 8 kHz: repeats the last pitch periods, fades, and joins on to what comes next, in
//! the manner of ITU-T G.711 Appendix I but without its 3.75 ms of delay. It knows samples only.
//!
//! Appendix I delays all sound by a quarter of the longest pitch period, so that it can still blend the last good samples
//! into the first made-up ones. Here the first made-up samples instead carry the step between the two and let it run
//! out over the same quarter period.

/// Shortest and longest pitch period searched, in samples: 2.5 to 15 ms, 400 down to 66 Hz.
const MIN_PITCH: usize = 20;
const MAX_PITCH: usize = 120;
/// Samples compared in the search: 10 ms. Longer, the voice's glide blurs the likeness; Appendix I takes 20.
const CORRELATED: usize = 80;
/// Most pitch periods repeated in a row.
const MAX_PERIODS: usize = 3;
/// What has been heard: three longest periods and the quarter that overlaps.
const HISTORY: usize = MAX_PITCH * MAX_PERIODS + MAX_PITCH / 4;
/// Samples of 10 ms, the step in which concealment changes.
const STEP: usize = 80;
/// Made-up sound is whole for 10 ms and gone after 60.
const FADE_START: usize = STEP;
const FADE_END: usize = 6 * STEP;
/// More pitch periods are repeated only after so long a gap; until then the last one is the best guess.
const WIDEN_AFTER: usize = 2 * STEP;
/// Shortest and longest blend with what comes after, in samples.
const MIN_BLEND: usize = 16;
const MAX_BLEND: usize = STEP;

/// The state of one decoder's concealment.
pub(super) struct Concealment {
    /// The last sound given out, oldest first.
    history: [f32; HISTORY],
    /// The history as it was when the gap began.
    heard: [f32; HISTORY],
    /// The same, with its end blended for repetition; the last `pitch * periods` samples are the cycle.
    cycle: [f32; HISTORY],
    pitch: usize,
    periods: usize,
    /// Next sample of the cycle, counted from its start.
    position: usize,
    /// Step at the start of concealment, running out.
    offset: f32,
    /// Samples made up since the last good one; 0 while all is well.
    concealed: usize,
}

impl Concealment {
    pub(super) fn new() -> Self {
        Concealment {
            history: [0.0; HISTORY],
            heard: [0.0; HISTORY],
            cycle: [0.0; HISTORY],
            pitch: MIN_PITCH,
            periods: 1,
            position: 0,
            offset: 0.0,
            concealed: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Concealment::new();
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
        for step in samples.chunks_mut(STEP) {
            self.conceal_step(step);
            self.remember(step);
        }
    }

    fn conceal_step(&mut self, samples: &mut [f32]) {
        if self.concealed >= FADE_END {
            samples.fill(0.0);
            return;
        }
        if self.concealed == 0 {
            self.start();
        } else if self.concealed >= WIDEN_AFTER && self.periods < MAX_PERIODS {
            self.widen(samples);
            return;
        }
        self.continue_cycle(samples);
    }

    /// Finds the pitch and sets the cycle up.
    fn start(&mut self) {
        self.pitch = pitch(&self.history);
        self.heard = self.history;
        self.cycle = self.history;
        self.periods = 1;
        self.position = 0;
        self.close_cycle();
        let last = self.history[HISTORY - 1];
        // The sample one period ago led up to the cycle's first one as `last` would lead to the next.
        self.offset = last - self.history[HISTORY - 1 - self.pitch];
    }

    /// Blends the cycle's last quarter period with what stands before its start, so that its end leads into its start.
    fn close_cycle(&mut self) {
        let length = self.pitch * self.periods;
        let overlap = self.pitch / 4;
        let (end, before) = (HISTORY - overlap, HISTORY - length - overlap);
        self.cycle[end..].copy_from_slice(&self.heard[end..]);
        cross_fade_out(&mut self.cycle[end..], &self.heard[before..before + overlap]);
    }

    /// One more period in the cycle, so that long gaps do not turn into a steady note; the old cycle fades over into it.
    fn widen(&mut self, samples: &mut [f32]) {
        let overlap = (self.pitch / 4).min(samples.len());
        let mut tail = [0.0; MAX_PITCH / 4];
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
        for sample in samples {
            let settle = 1.0 - self.concealed as f32 / overlap as f32;
            let offset = self.offset * settle.max(0.0);
            *sample = (self.cycle[HISTORY - length + self.position] + offset) * gain(self.concealed);
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
        let drifted = self.concealed.saturating_sub(WIDEN_AFTER).div_ceil(STEP) * 32;
        let length = (self.pitch / 4 + drifted).clamp(MIN_BLEND, MAX_BLEND).min(samples.len());
        let mut made_up = [0.0; MAX_BLEND];
        let made_up = &mut made_up[..length];
        if self.concealed < FADE_END {
            self.continue_cycle(made_up);
        }
        cross_fade_in(made_up, samples);
    }

    fn remember(&mut self, samples: &[f32]) {
        let kept = samples.len().min(HISTORY);
        self.history.copy_within(kept.., 0);
        self.history[HISTORY - kept..].copy_from_slice(&samples[samples.len() - kept..]);
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

/// Loudness after so many made-up samples.
fn gain(concealed: usize) -> f32 {
    if concealed < FADE_START {
        1.0
    } else {
        FADE_END.saturating_sub(concealed) as f32 / (FADE_END - FADE_START) as f32
    }
}

/// The lag at which the last 20 ms are most like what came before, by normalised correlation.
fn pitch(history: &[f32; HISTORY]) -> usize {
    let recent = &history[HISTORY - CORRELATED..];
    let lagged = |lag: usize| &history[HISTORY - CORRELATED - lag..HISTORY - lag];
    let mut energy = dot(lagged(MIN_PITCH), lagged(MIN_PITCH));
    let mut best = (MIN_PITCH, f32::MIN);
    for lag in MIN_PITCH..=MAX_PITCH {
        if lag > MIN_PITCH {
            // The window moved one sample back.
            let (entered, left) = (history[HISTORY - CORRELATED - lag], history[HISTORY - lag]);
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

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side, for the compiler to keep in vector registers.
    let mut sums = [0.0_f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for index in 0..8 {
            sums[index] += a[index] * b[index];
        }
    }
    sums.iter().sum::<f32>() + tail
}
