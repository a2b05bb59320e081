//! Judges recordings: is this the sound that was sent, how late, and is any of it missing? It knows nothing of calls.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot go on panics")]

use std::f64::consts::PI;
use std::fmt;
use std::path::Path;

/// Length of the pieces in which a recording is compared: one packet.
const PIECE_MS: usize = 20;
/// How far sound may wander from one piece to the next before it counts as a jump, in milliseconds.
const WANDER_MS: f64 = 0.5;
/// The least that time-stretching leaves out or puts in: a piece that is so far away, and alike, is there.
const STRETCH_MS: f64 = 3.0;
/// How far away a piece is looked for that is not where it should be, in milliseconds.
const SEARCH_MS: usize = 120;
/// How much sound after a doubtful piece is asked where it is, in milliseconds, and how alike it has to be. Time-stretching
/// moves sound again before long: then less of it has to do, which has to be the more alike.
const FOLLOWS: [(usize, f64); 2] = [(240, 0.8), (60, 0.97)];

/// One channel of sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// Samples from -1 to 1.
    pub samples: Vec<f64>,
}

impl Sound {
    /// Reads the first channel of a WAV file.
    pub fn load(path: &Path) -> Self {
        Self::channel(path, 0)
    }

    /// Reads one channel of a WAV file of 16-bit integers or 32-bit floats.
    pub fn channel(path: &Path, channel: usize) -> Self {
        let mut reader =
            hound::WavReader::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let spec = reader.spec();
        let all: Vec<f64> = match spec.sample_format {
            hound::SampleFormat::Int => {
                let full = f64::from(1_u32 << (spec.bits_per_sample - 1));
                reader.samples::<i32>().map_while(Result::ok).map(|sample| f64::from(sample) / full).collect()
            }
            hound::SampleFormat::Float => {
                reader.samples::<f32>().map_while(Result::ok).map(f64::from).collect()
            }
        };
        let samples = all.into_iter().skip(channel).step_by(usize::from(spec.channels)).collect();
        Self { rate: spec.sample_rate, samples }
    }

    /// Writes it as 16-bit WAV.
    pub fn save(&self, path: &Path) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for sample in &self.samples {
            #[allow(clippy::cast_possible_truncation, reason = "clamped to the range")]
            writer.write_sample((sample * 32767.0).clamp(-32768.0, 32767.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
    }

    /// A tone.
    pub fn tone(rate: u32, hertz: f64, seconds: f64, amplitude: f64) -> Self {
        let step = 2.0 * PI * hertz / f64::from(rate);
        let length = (seconds * f64::from(rate)) as usize;
        Self { rate, samples: (0..length).map(|n| amplitude * (step * n as f64).sin()).collect() }
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// The part between two times in seconds, as far as there is sound.
    pub fn between(&self, from: f64, to: f64) -> Self {
        let at = |time: f64| ((time * f64::from(self.rate)) as usize).min(self.samples.len());
        Self { rate: self.rate, samples: self.samples[at(from)..at(to).max(at(from))].to_vec() }
    }

    /// Root mean square in decibels below full scale; -120 for silence.
    pub fn level(&self) -> f64 {
        decibels(self.samples.iter().map(|s| s * s).sum::<f64>() / self.samples.len().max(1) as f64)
    }

    /// Level of what lies above the telephone band, from 4 kHz on, in decibels below full scale.
    pub fn upper_level(&self) -> f64 {
        let lower = self.resampled(8000).resampled(self.rate);
        let upper = self.samples.iter().zip(&lower.samples).map(|(whole, lower)| whole - lower);
        Self { rate: self.rate, samples: upper.collect() }.level()
    }

    /// The strongest frequency in hertz.
    pub fn strongest_frequency(&self) -> f64 {
        let size = self.samples.len().max(2).next_power_of_two();
        // A Hann window keeps the ends from smearing over the spectrum.
        let length = self.samples.len().max(1) as f64;
        let hann = |(n, s): (usize, &f64)| (s * 0.5 * (1.0 - (2.0 * PI * n as f64 / length).cos()), 0.0);
        let mut bins: Vec<(f64, f64)> = self.samples.iter().enumerate().map(hann).collect();
        bins.resize(size, (0.0, 0.0));
        transform(&mut bins, false);
        let power = |bin: &(f64, f64)| bin.0 * bin.0 + bin.1 * bin.1;
        let strongest =
            (1..size / 2).max_by(|a, b| power(&bins[*a]).total_cmp(&power(&bins[*b]))).unwrap_or_default();
        strongest as f64 * f64::from(self.rate) / size as f64
    }

    /// The same sound at another rate, by a windowed sinc.
    pub fn resampled(&self, rate: u32) -> Self {
        if rate == self.rate {
            return self.clone();
        }
        let ratio = f64::from(rate) / f64::from(self.rate);
        // When the rate falls, what lies above half of the new rate is cut off.
        let cutoff = ratio.min(1.0) * 0.95;
        let reach = (24.0 / cutoff).ceil() as usize;
        // New samples lie at few different places between two old ones: each place has its weights.
        let divisor = greatest_common_divisor(rate as usize, self.rate as usize);
        let (places, step) = (rate as usize / divisor, self.rate as usize / divisor);
        let weight = |place: usize, index: usize| {
            let distance = place as f64 / places as f64 + reach as f64 - index as f64;
            let window = 0.5 * (1.0 + (PI * distance / (reach + 1) as f64).cos());
            cutoff * sinc(cutoff * distance) * window
        };
        let weights: Vec<Vec<f64>> =
            (0..places).map(|place| (0..=2 * reach).map(|index| weight(place, index)).collect()).collect();
        let silence = || std::iter::repeat_n(0.0, reach);
        let padded: Vec<f64> = silence().chain(self.samples.iter().copied()).chain(silence()).collect();
        let length = (self.samples.len() as f64 * ratio) as usize;
        let samples = (0..length).map(|n| {
            let (first, weights) = (n * step / places, &weights[n * step % places]);
            padded[first..].iter().zip(weights).map(|(sample, weight)| sample * weight).sum()
        });
        Self { rate, samples: samples.collect() }
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

fn decibels(power: f64) -> f64 {
    10.0 * power.max(1e-12).log10()
}

/// Fast Fourier transform in place; the length is a power of two. The inverse is not scaled.
fn transform(bins: &mut [(f64, f64)], inverse: bool) {
    let length = bins.len();
    let bits = length.trailing_zeros();
    if bits == 0 {
        return;
    }
    for index in 0..length {
        let mirrored = index.reverse_bits() >> (usize::BITS - bits);
        if mirrored > index {
            bins.swap(index, mirrored);
        }
    }
    let mut half = 1;
    while half < length {
        let angle = if inverse { PI } else { -PI } / half as f64;
        let turns: Vec<(f64, f64)> =
            (0..half).map(|k| (angle * k as f64).sin_cos()).map(|(sin, cos)| (cos, sin)).collect();
        for start in (0..length).step_by(2 * half) {
            for (k, turn) in turns.iter().enumerate() {
                let (a, b) = (bins[start + k], bins[start + k + half]);
                let b = (b.0 * turn.0 - b.1 * turn.1, b.0 * turn.1 + b.1 * turn.0);
                bins[start + k] = (a.0 + b.0, a.1 + b.1);
                bins[start + k + half] = (a.0 - b.0, a.1 - b.1);
            }
        }
        half *= 2;
    }
}

/// Where `needle` fits best into `hay`: the index in `hay` of its first sample, which can lie outside.
fn best_lag(needle: &[f64], hay: &[f64]) -> isize {
    let size = (needle.len() + hay.len()).next_power_of_two();
    let complex = |sound: &[f64]| {
        let mut bins: Vec<(f64, f64)> = sound.iter().map(|s| (*s, 0.0)).collect();
        bins.resize(size, (0.0, 0.0));
        transform(&mut bins, false);
        bins
    };
    let (needle_bins, hay_bins) = (complex(needle), complex(hay));
    let mut product: Vec<(f64, f64)> = needle_bins
        .iter()
        .zip(&hay_bins)
        .map(|(n, h)| (h.0 * n.0 + h.1 * n.1, h.1 * n.0 - h.0 * n.1))
        .collect();
    transform(&mut product, true);
    let best = (0..size).max_by(|a, b| product[*a].0.total_cmp(&product[*b].0)).unwrap_or_default();
    // The transform is circular: the upper part stands for lags below zero.
    if best < hay.len() { best as isize } else { best as isize - size as isize }
}

/// Normalised correlation of `piece` with the part of `hay` that begins at `at`; 0 where that lies outside.
fn correlation(piece: &[f64], hay: &[f64], at: isize) -> f64 {
    let Some(part) = usize::try_from(at).ok().and_then(|at| hay.get(at..at + piece.len())) else {
        return 0.0;
    };
    let (mut product, mut one, mut other) = (0.0, 0.0, 0.0);
    for (a, b) in piece.iter().zip(part) {
        product += a * b;
        one += a * a;
        other += b * b;
    }
    if one * other > 0.0 { product / (one * other).sqrt() } else { 0.0 }
}

/// A part of the reference, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// Where it begins in the reference.
    pub at_ms: usize,
    /// How long it is.
    pub length_ms: usize,
}

/// From here on the recording runs this much later (or earlier, below zero).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jump {
    /// Where in the reference.
    pub at_ms: usize,
    /// Milliseconds later.
    pub by_ms: f64,
}

/// What the judge found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Where in the recording the reference begins.
    pub lag_ms: f64,
    /// Normalised correlation over the whole reference, along changes of the lag: 1 is the same sound.
    pub correlation: f64,
    /// How much louder the recording is there, in decibels.
    pub gain_db: f64,
    /// Parts of the reference that are not in the recording, or not recognisable.
    pub gaps: Vec<Gap>,
    /// Where the lag changes.
    pub jumps: Vec<Jump>,
}

/// How well single packets can be recognised after the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Keeps the wave's form: G.711.
    Waveform,
    /// Keeps it up to 7 kHz: G.722.
    Wideband,
    /// Keeps what is heard: Opus.
    Perceptual,
}

/// Looks for the reference in the recording, in the part of the sound whose wave the codec keeps.
pub fn compare(reference: &Sound, recording: &Sound, codec: Codec) -> Verdict {
    // Many times what the sound needs: a recording begins between two samples, and at 16 kHz a third of a sample
    // already costs a hundredth of the correlation.
    let rate = if codec == Codec::Perceptual { 16_000 } else { 32_000 };
    // Length of a piece, least correlation, and how much quieter than the loudest a piece may be to count.
    let (piece_ms, present, quiet_db) = match codec {
        Codec::Waveform | Codec::Wideband => (PIECE_MS, 0.7, 26.0),
        Codec::Perceptual => (2 * PIECE_MS, 0.5, 15.0),
    };
    let prepare = |sound: &Sound| match codec {
        Codec::Waveform => sound.resampled(8000).resampled(rate),
        Codec::Wideband => sound.resampled(16_000).resampled(rate),
        // The upper part of a voice is coded as noise of the right loudness; below 1 kHz the wave is there.
        Codec::Perceptual => sound.resampled(2000).resampled(rate),
    };
    let (reference, recording) = (prepare(reference), prepare(recording));
    let per_ms = rate as usize / 1000;
    let length = piece_ms * per_ms;
    let ms = |samples: isize| samples as f64 / per_ms as f64;
    let (needle, hay) = (&reference.samples, &recording.samples);
    let level = |samples: &[f64]| Sound { rate, samples: samples.to_vec() }.level();
    let near = |piece: &[f64], at: isize, reach: isize| {
        (-reach..=reach)
            .map(|shift| (correlation(piece, hay, at + shift), shift))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or_default()
    };
    let wander = (WANDER_MS * per_ms as f64) as isize;
    let loudest = needle.chunks_exact(length).map(level).fold(f64::NEG_INFINITY, f64::max);

    let mut lag = best_lag(needle, hay);
    let mut verdict =
        Verdict { lag_ms: ms(lag), correlation: 0.0, gain_db: 0.0, gaps: Vec::new(), jumps: Vec::new() };
    // The recording along the reference, so that one change of delay does not spoil the figures of the whole. What was
    // sent before or after the recording ran is silence: the whole has to be there.
    let mut aligned = Vec::with_capacity(needle.len());
    for (index, piece) in needle.chunks(length).enumerate() {
        let start = index * length;
        if piece.len() == length && level(piece) > loudest - quiet_db {
            let (found, shift) = near(piece, start as isize + lag, wander);
            if found > 0.9 {
                // Clocks of two sound cards drift apart: that is no jump.
                lag += shift.signum();
            } else {
                // One piece of a vowel looks alike at many places: what follows tells whether the sound goes on where
                // it was expected or elsewhere (then the delay has jumped).
                let next = start + length;
                let follow = |length_ms: usize, reach_ms: usize| {
                    let follows = &needle[next..needle.len().min(next + length_ms * per_ms)];
                    let expected = next as isize + lag;
                    let (here, _) = near(follows, expected, wander);
                    let (elsewhere, shift) = near(follows, expected, (reach_ms * per_ms) as isize);
                    (here, elsewhere, shift)
                };
                let moved = if found < present {
                    let stretch = (STRETCH_MS * per_ms as f64) as isize;
                    let (alike, shift) = near(piece, start as isize + lag, stretch);
                    let moved = FOLLOWS.into_iter().find_map(|(length_ms, least)| {
                        let (here, elsewhere, shift) = follow(length_ms, SEARCH_MS);
                        (elsewhere >= least && elsewhere > here).then_some(shift)
                    });
                    moved.or((alike > 0.95).then_some(shift))
                } else {
                    // Off by one period of the voice, all of a vowel is still half alike.
                    let (here, elsewhere, shift) = follow(FOLLOWS[0].0, PIECE_MS);
                    (elsewhere >= 0.9 && elsewhere > here + 0.1).then_some(shift)
                };
                let at_ms = start / per_ms;
                match moved {
                    Some(shift) => {
                        lag += shift;
                        verdict.jumps.push(Jump { at_ms, by_ms: ms(shift) });
                    }
                    None if found < present => verdict.misses(at_ms, piece_ms),
                    None => {}
                }
            }
        }
        let heard = |n: usize| usize::try_from((start + n) as isize + lag).ok().and_then(|at| hay.get(at));
        aligned.extend((0..piece.len()).map(|n| heard(n).copied().unwrap_or(0.0)));
    }
    verdict.correlation = correlation(needle, &aligned, 0);
    verdict.gain_db = level(&aligned) - level(needle);
    verdict
}

impl Verdict {
    /// Milliseconds of the reference that are missing.
    pub fn missing_ms(&self) -> usize {
        self.gaps.iter().map(|gap| gap.length_ms).sum()
    }

    fn misses(&mut self, at_ms: usize, length_ms: usize) {
        match self.gaps.last_mut() {
            Some(gap) if gap.at_ms + gap.length_ms == at_ms => gap.length_ms += length_ms,
            _ => self.gaps.push(Gap { at_ms, length_ms }),
        }
    }

    /// Panics unless the whole reference is in the recording, without gap or jump.
    #[track_caller]
    pub fn assert_whole(&self, what: &str, correlation: f64) -> &Self {
        println!("{what}: {self}");
        let whole = self.gaps.is_empty() && self.jumps.is_empty() && self.correlation >= correlation;
        assert!(whole, "{what}: not the whole sound that was sent: {self}");
        self
    }

    /// Panics unless all of the reference is in the recording. The delay may change by a packet at most, now and then:
    /// on a real machine packets do not leave by the clock, and the jitter buffer follows by stretching the sound.
    #[track_caller]
    pub fn assert_heard(&self, what: &str, correlation: f64) -> &Self {
        println!("{what}: {self}");
        let far = self.jumps.iter().filter(|jump| jump.by_ms.abs() > STRETCH_MS).count();
        let steady = far <= 4 && self.jumps.iter().all(|jump| jump.by_ms.abs() < 21.0);
        let heard = self.gaps.is_empty() && steady && self.correlation >= correlation;
        assert!(heard, "{what}: not the sound that was sent: {self}");
        self
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lag_ms, correlation, gain_db, gaps, jumps } = self;
        write!(f, "correlation {correlation:.3}, lag {lag_ms:.1} ms, gain {gain_db:+.1} dB, ")?;
        write!(f, "{} ms missing in {} gaps, {} jumps", self.missing_ms(), gaps.len(), jumps.len())?;
        for Gap { at_ms, length_ms } in gaps {
            write!(f, "; {length_ms} ms missing at {at_ms} ms")?;
        }
        for Jump { at_ms, by_ms } in jumps {
            write!(f, "; {by_ms:+.1} ms later from {at_ms} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something like speech: bursts of a gliding buzz with noise, and pauses.
    fn babble(rate: u32) -> Sound {
        let mut noise = 1_u32;
        let mut phase = 0.0;
        let samples = (0..3 * rate as usize).map(|n| {
            let time = n as f64 / f64::from(rate);
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = f64::from(noise >> 16) / 32768.0 - 1.0;
            phase += 2.0 * PI * (140.0 + 60.0 * (time * 2.3).sin()) / f64::from(rate);
            let voice = phase.sin() + 0.5 * (3.0 * phase).sin() + 0.3 * (7.0 * phase).sin();
            let syllable = (time * 3.0 * PI).sin().max(0.0);
            syllable * (0.2 * voice + 0.02 * hiss)
        });
        Sound { rate, samples: samples.collect() }
    }

    fn after_silence(sound: &Sound, samples: usize) -> Sound {
        let silence = std::iter::repeat_n(0.0, samples);
        Sound { rate: sound.rate, samples: silence.chain(sound.samples.iter().copied()).collect() }
    }

    #[test]
    fn the_same_sound_later_and_quieter_is_whole() {
        let sent = babble(8000);
        let mut heard = after_silence(&sent, 1234);
        heard.samples.iter_mut().for_each(|s| *s *= 0.5);
        let verdict = compare(&sent, &heard, Codec::Waveform);
        verdict.assert_whole("quieter", 0.999);
        assert!((verdict.lag_ms - 1234.0 / 8.0).abs() < 0.1, "{verdict}");
        assert!((verdict.gain_db + 6.02).abs() < 0.1, "{verdict}");
    }

    #[test]
    fn the_upper_band_is_told_from_the_lower() {
        assert!((Sound::tone(16_000, 6000.0, 1.0, 0.5).upper_level() + 9.03).abs() < 0.2);
        assert!(Sound::tone(16_000, 1000.0, 1.0, 0.5).upper_level() < -45.0);
        let sent = babble(48_000);
        compare(&sent, &sent.resampled(16_000), Codec::Wideband).assert_whole("wideband", 0.99);
    }

    #[test]
    fn rates_are_brought_together() {
        let sent = babble(48_000);
        let heard = after_silence(&sent.resampled(16_000), 1600);
        let verdict = compare(&sent, &heard, Codec::Waveform);
        verdict.assert_whole("resampled", 0.99);
        assert!((verdict.lag_ms - 100.0).abs() < 0.3, "{verdict}");
    }

    #[test]
    fn one_packet_replaced_by_silence_is_a_gap() {
        let sent = babble(8000);
        let mut heard = after_silence(&sent, 400);
        // Within a syllable: 0.16 s is its middle.
        heard.samples[400 + 1280..400 + 1440].fill(0.0);
        let verdict = compare(&sent, &heard, Codec::Waveform);
        assert_eq!(verdict.gaps, [Gap { at_ms: 160, length_ms: 20 }], "{verdict}");
        assert!(verdict.jumps.is_empty() && verdict.correlation > 0.9, "{verdict}");
    }

    #[test]
    fn one_packet_cut_out_is_a_jump() {
        let sent = babble(8000);
        let mut heard = after_silence(&sent, 400);
        heard.samples.drain(400 + 12_800..400 + 12_960);
        let verdict = compare(&sent, &heard, Codec::Waveform);
        assert_eq!(verdict.jumps.len(), 1, "{verdict:?}");
        assert!((verdict.jumps[0].by_ms.abs() - 20.0).abs() < 0.2, "{verdict:?}");
    }

    #[test]
    fn sound_that_is_stretched_twice_in_a_syllable_is_there() {
        let sent = babble(8000);
        let mut heard = after_silence(&sent, 400);
        // 5 ms each, 120 ms apart.
        for at in [13_800, 12_840] {
            heard.samples.drain(400 + at..400 + at + 40);
        }
        let verdict = compare(&sent, &heard, Codec::Waveform);
        // One more where the best place for the whole is not that of its beginning.
        assert!((2..=3).contains(&verdict.jumps.len()), "{verdict}");
        verdict.assert_heard("stretched", 0.97);
    }

    #[test]
    fn a_vowel_that_lost_one_period_is_followed_to_its_new_place() {
        // A voice of 100 Hz that says something new every 300 ms.
        let voice = |n: usize| {
            let t = n as f64 / 8000.0;
            let accent = 0.3 + 0.7 * ((n / 2400 * 37 % 11) as f64 / 11.0);
            (1..8)
                .map(|k| (2.0 * PI * 100.0 * f64::from(k) * t + f64::from(k * k)).sin() / f64::from(k))
                .sum::<f64>()
                * 0.2
                * accent
                * (1.0 + 0.5 * (2.0 * PI * 3.1 * t).sin())
        };
        let sent = Sound { rate: 8000, samples: (0..24_000).map(voice).collect() };
        let mut heard = sent.clone();
        heard.samples.drain(8000..8072);
        let verdict = compare(&sent, &heard, Codec::Perceptual);
        assert!(verdict.correlation > 0.97, "{verdict}");
    }

    #[test]
    fn another_sound_and_silence_are_not_taken_for_it() {
        let sent = babble(8000);
        let other = Sound::tone(8000, 440.0, 3.0, 0.3);
        assert!(compare(&sent, &other, Codec::Waveform).correlation < 0.3);
        let silence = Sound { rate: 8000, samples: vec![0.0; 24_000] };
        let verdict = compare(&sent, &silence, Codec::Waveform);
        assert_eq!(verdict.correlation, 0.0);
        assert!(verdict.missing_ms() > 1000, "{verdict}");
    }

    #[test]
    fn a_tail_that_was_not_recorded_is_missing() {
        let sent = babble(8000);
        let heard = sent.between(0.0, 2.0);
        assert!(compare(&sent, &heard, Codec::Waveform).missing_ms() >= 400);
    }

    #[test]
    fn a_tones_level_and_frequency_are_measured() {
        let tone = Sound::tone(16_000, 1000.0, 1.0, 0.5);
        assert!((tone.level() + 9.03).abs() < 0.05);
        assert!((tone.strongest_frequency() - 1000.0).abs() < 2.0);
    }
}
