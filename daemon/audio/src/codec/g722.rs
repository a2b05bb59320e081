//! G.722 at 64 kbit/s: two bands of ADPCM behind a quadrature mirror filter, bit-exact to ITU-T G.722 (section 6, mode 1).
//! It knows samples and codes, no packets.
//!
//! Arithmetic is that of the Recommendation: 16-bit words that saturate, products of 32 bits shifted right.

mod band;

use band::Band;

/// Full scale of the 16-bit samples that the codec works on.
const FULL_SCALE: f32 = 32_768.0;
/// Delay line of the mirror filters, in samples of 16 kHz.
const TAPS: usize = 24;
/// Half of the mirror filter's symmetric impulse response, times 8192.
const MIRROR: [i32; TAPS / 2] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Samples of 16 kHz that one octet stands for.
pub(super) const SAMPLES_PER_OCTET: usize = 2;

/// Both bands' predictors and step sizes: what encoder and decoder keep alike.
#[derive(Clone)]
struct Bands {
    low: Band,
    high: Band,
}

impl Bands {
    const fn new() -> Self {
        Bands { low: Band::low(), high: Band::high() }
    }

    /// The octet for one sample of each band.
    fn encode(&mut self, low: i32, high: i32) -> u8 {
        let low = self.low.encode_low(low);
        let high = self.high.encode_high(high);
        (high << 6) | low
    }

    /// One sample of each band out of an octet.
    fn decode(&mut self, octet: u8) -> (i32, i32) {
        (self.low.decode_low(octet & 0x3F), self.high.decode_high(octet >> 6))
    }
}

/// The last samples of one side of the mirror filters, oldest first.
#[derive(Clone)]
struct DelayLine([i32; TAPS]);

impl DelayLine {
    const fn new() -> Self {
        DelayLine([0; TAPS])
    }

    fn push(&mut self, first: i32, second: i32) {
        self.0.copy_within(2.., 0);
        self.0[TAPS - 2] = first;
        self.0[TAPS - 1] = second;
    }

    /// The filter's two halves over the even and the odd places.
    fn halves(&self) -> (i32, i32) {
        let even = self.0.iter().step_by(2).zip(MIRROR).map(|(x, h)| x * h).sum();
        let odd = self.0.iter().skip(1).step_by(2).zip(MIRROR.iter().rev()).map(|(x, h)| x * h).sum();
        (even, odd)
    }
}

/// The sending side.
pub(super) struct Encoder {
    bands: Bands,
    analysis: DelayLine,
}

impl Encoder {
    pub(super) const fn new() -> Self {
        Encoder { bands: Bands::new(), analysis: DelayLine::new() }
    }

    /// `payload` has one octet for two of `samples`; an odd sample at the end is left out.
    pub(super) fn encode(&mut self, samples: &[f32], payload: &mut [u8]) {
        for (pair, octet) in samples.chunks_exact(SAMPLES_PER_OCTET).zip(payload) {
            self.analysis.push(to_i32(pair[0]), to_i32(pair[1]));
            let (even, odd) = self.analysis.halves();
            *octet = self.bands.encode((odd + even) >> 14, (odd - even) >> 14);
        }
    }
}

/// The receiving side.
#[derive(Clone)]
pub(super) struct Decoder {
    bands: Bands,
    synthesis: DelayLine,
    /// The sending side of sound that was made up; `None` while all is well.
    tracking: Option<Tracking>,
}

/// Codes what is made up in a gap, so that predictors and step sizes are at its end about where the far encoder's are.
#[derive(Clone)]
struct Tracking {
    analysis: DelayLine,
    /// Pairs of samples whose codes have been decoded.
    known: usize,
}

/// Pairs of samples by which both mirror filters delay sound: codes of a pair are known only when so many more are.
const FILTERS_DELAY: usize = TAPS / 2 - 1;
/// Samples before made-up ones that [`Decoder::track`] looks at.
pub(super) const BEFORE: usize = TAPS;
/// Samples behind made-up ones that [`Decoder::resume`] needs.
pub(super) const TRACKED_BEYOND: usize = FILTERS_DELAY * SAMPLES_PER_OCTET;

impl Decoder {
    pub(super) const fn new() -> Self {
        Decoder { bands: Bands::new(), synthesis: DelayLine::new(), tracking: None }
    }

    /// `samples` has two places for each octet of `payload`.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) {
        self.tracking = None;
        for (octet, pair) in payload.iter().zip(samples.chunks_exact_mut(SAMPLES_PER_OCTET)) {
            let (low, high) = self.bands.decode(*octet);
            self.synthesis.push(low + high, low - high);
            let (even, odd) = self.synthesis.halves();
            pair[0] = saturate(odd >> 11) as f32 / FULL_SCALE;
            pair[1] = saturate(even >> 11) as f32 / FULL_SCALE;
        }
    }

    /// Takes note of samples that were made up behind `history` and those noted before.
    pub(super) fn track(&mut self, history: &[f32], samples: &[f32]) {
        let Decoder { bands, synthesis, tracking } = self;
        let tracking = tracking.get_or_insert_with(|| {
            let mut analysis = DelayLine::new();
            let last = history.get(history.len().saturating_sub(TAPS)..).unwrap_or_default();
            last.chunks_exact(SAMPLES_PER_OCTET)
                .for_each(|pair| analysis.push(to_i32(pair[0]), to_i32(pair[1])));
            Tracking { analysis, known: FILTERS_DELAY }
        });
        for pair in samples.chunks_exact(SAMPLES_PER_OCTET) {
            tracking.analysis.push(to_i32(pair[0]), to_i32(pair[1]));
            if tracking.known > 0 {
                tracking.known -= 1;
                continue;
            }
            let (even, odd) = tracking.analysis.halves();
            let (low, high) = ((odd + even) >> 14, (odd - even) >> 14);
            bands.encode(low, high);
            synthesis.push(low + high, low - high);
        }
    }

    /// The gap is over, and is followed by about these [`TRACKED_BEYOND`] samples.
    pub(super) fn resume(&mut self, history: &[f32], following: &[f32]) {
        self.track(history, following);
        self.tracking = None;
    }

    /// Whether a gap has been tracked and not been resumed from.
    pub(super) fn is_tracking(&self) -> bool {
        self.tracking.is_some()
    }
}

/// Nearest 16-bit sample; what is out of range is clipped, what is no number is silence.
fn to_i32(sample: f32) -> i32 {
    let scaled = sample * FULL_SCALE;
    // The cast truncates, saturates, and makes 0 of NaN.
    saturate((scaled + 0.5_f32.copysign(scaled)) as i32)
}

/// To the range of a 16-bit word.
const fn saturate(value: i32) -> i32 {
    if value > 32_767 {
        32_767
    } else if value < -32_768 {
        -32_768
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A linear congruential generator's upper 16 bits, as samples.
    fn noise(seed: u32) -> impl Iterator<Item = i16> {
        let step = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(step(&seed), step).map(|x| ((x >> 16) as i32 - 32_768) as i16)
    }

    fn encoded(samples: &[i16]) -> Vec<u8> {
        let samples: Vec<f32> = samples.iter().map(|sample| f32::from(*sample) / FULL_SCALE).collect();
        let mut payload = vec![0; samples.len() / SAMPLES_PER_OCTET];
        Encoder::new().encode(&samples, &mut payload);
        payload
    }

    fn decoded(payload: &[u8]) -> Vec<i16> {
        let mut samples = vec![0.0; payload.len() * SAMPLES_PER_OCTET];
        Decoder::new().decode(payload, &mut samples);
        samples.into_iter().map(|sample| (sample * FULL_SCALE) as i16).collect()
    }

    /// FNV-1a, 64 bits.
    fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
        let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, fold)
    }

    fn digest_of(samples: &[i16]) -> u64 {
        digest(samples.iter().flat_map(|sample| sample.to_le_bytes()))
    }

    // The digests were taken of the same input in another implementation that is exact to the bit where nothing clips
    // (libspandsp 0.0.6; there, samples beyond full scale wrap, which the Recommendation limits).

    #[test]
    fn codes_and_samples_are_those_of_the_recommendation() {
        let loud: Vec<i16> = noise(1).take(16_000).map(|sample| sample >> 2).collect();
        let quiet: Vec<i16> = noise(1).take(16_000).map(|sample| sample >> 5).collect();
        let levels = noise(7).take(48_000).enumerate();
        let varied: Vec<i16> = levels.map(|(n, sample)| sample >> ((n / 1000) % 12) >> 2).collect();
        let square: Vec<i16> = (0..16_000).map(|n| if n / 40 % 2 == 1 { 8191 } else { -8192 }).collect();
        for (name, samples, codes, heard) in [
            ("loud", loud, 0x69f3_3784_9407_a4f7, 0x9f4f_5d4f_5c2d_2470),
            ("quiet", quiet, 0x2c74_c105_7ad4_aaa0, 0x9d2e_cfce_ba60_1064),
            ("of varied level", varied, 0x3b01_f659_870b_f15a, 0xb616_c85a_bd4f_948b),
            ("a square wave", square, 0x2495_82ce_d84a_70c4, 0x4f7c_1ea9_2d94_8b51),
        ] {
            let payload = encoded(&samples);
            assert_eq!(digest(payload.iter().copied()), codes, "codes, {name}");
            assert_eq!(digest_of(&decoded(&payload)), heard, "samples, {name}");
        }
    }

    #[test]
    fn every_code_in_any_order_is_decoded_as_the_recommendation_says() {
        let codes = |seed| noise(seed).take(50).map(|sample| (sample >> 8) as u8).collect::<Vec<u8>>();
        let samples: Vec<i16> = (1..=64).flat_map(|seed| decoded(&codes(seed))).collect();
        assert_eq!(digest_of(&samples), 0x1e09_9938_c786_646c);
    }

    #[test]
    fn the_loudest_sound_is_limited_and_does_not_wrap() {
        let square: Vec<i16> =
            (0..16_000).map(|n| if n / 40 % 2 == 1 { i16::MAX } else { i16::MIN }).collect();
        let payload = encoded(&square);
        assert_eq!(digest(payload.iter().copied()), 0x6edf_ef8f_be88_d5c4);
        // Past the filters' delay and the first periods, each half wave has its own sign.
        for (n, heard) in decoded(&payload).into_iter().enumerate().skip(1000) {
            let within = (n - 22) % 40;
            if (8..32).contains(&within) {
                assert_eq!(heard > 0, (n - 22) / 40 % 2 == 1, "sample {n}: {heard}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_silence_and_what_is_too_loud_is_clipped() {
        let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 7.0, -7.0, f32::MIN_POSITIVE];
        let tame = [0.0, 32_767.0 / FULL_SCALE, -1.0, 32_767.0 / FULL_SCALE, -1.0, 0.0];
        let (mut one, mut other) = ([0; 3], [0; 3]);
        Encoder::new().encode(&wild, &mut one);
        Encoder::new().encode(&tame, &mut other);
        assert_eq!(one, other);
    }
}
