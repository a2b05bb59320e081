//! G.726 at 32 kbit/s: adaptive differential PCM, four bits a sample, in the integer arithmetic of ITU-T G.726 (its block
//! names stand at the functions), from and to linear samples. Two codes an octet, in one of two packings (RFC 3551 section
//! 4.5.4).

use super::pcm::{from_i16, to_i16};

pub(super) const SAMPLES_PER_OCTET: usize = 2;

/// Upper edges of the first seven intervals of the normalised difference (table 2).
const EDGES: [i32; 7] = [-124, 80, 178, 246, 300, 349, 400];
/// What each magnitude of the code stands for, as a logarithm (table 2).
const LEVELS: [i32; 8] = [-2048, 4, 135, 213, 273, 323, 373, 425];
/// By which each magnitude drives the scale factor (FUNCTW) and the speed of its adaptation (FUNCTF).
const SCALE_DRIVE: [i32; 8] = [-12, 18, 41, 64, 112, 198, 355, 1122];
const SPEED_DRIVE: [i32; 8] = [0, 0, 0, 1, 1, 1, 3, 7];

/// The order of two codes in an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// The earlier in the lower half: `G726-32` (RFC 3551 section 4.5.4).
    Rtp,
    /// The earlier in the upper half: `AAL2-G726-32` (ITU-T I.366.2 annex E).
    Aal2,
}

impl Packing {
    fn octet(self, [earlier, later]: [u8; 2]) -> u8 {
        match self {
            Packing::Rtp => earlier | later << 4,
            Packing::Aal2 => earlier << 4 | later,
        }
    }

    /// The earlier one first.
    fn codes(self, octet: u8) -> [u8; 2] {
        match self {
            Packing::Rtp => [octet & 0x0f, octet >> 4],
            Packing::Aal2 => [octet >> 4, octet & 0x0f],
        }
    }
}

pub(super) struct Encoder {
    state: State,
    packing: Packing,
}

impl Encoder {
    pub(super) fn new(packing: Packing) -> Self {
        Encoder { state: State::new(), packing }
    }

    /// `payload` is half as long as `samples`.
    pub(super) fn encode(&mut self, samples: &[f32], payload: &mut [u8]) {
        for (octet, pair) in payload.iter_mut().zip(samples.chunks_exact(SAMPLES_PER_OCTET)) {
            let &[earlier, later] = pair else { continue };
            let codes = [self.code(to_i16(earlier)), self.code(to_i16(later))];
            *octet = self.packing.octet(codes);
        }
    }

    fn code(&mut self, sample: i16) -> u8 {
        let estimate = self.state.estimate();
        // The coder works on 14 bits.
        let code = quantise(i32::from(sample >> 2) - estimate.signal, estimate.scale);
        self.state.adapt(code, estimate);
        code
    }
}

#[derive(Clone)]
pub(super) struct Decoder {
    state: State,
    packing: Packing,
}

impl Decoder {
    pub(super) fn new(packing: Packing) -> Self {
        Decoder { state: State::new(), packing }
    }

    /// The stream begins anew.
    pub(super) fn reset(&mut self) {
        self.state = State::new();
    }

    /// `samples` is twice as long as `payload`.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) {
        for (octet, pair) in payload.iter().zip(samples.chunks_exact_mut(SAMPLES_PER_OCTET)) {
            for (sample, code) in pair.iter_mut().zip(self.packing.codes(*octet)) {
                *sample = from_i16(self.state.sample(code));
            }
        }
    }
}

/// A signed number as the predictor keeps it (FLOATA, FLOATB): sign, exponent, and six bits of mantissa.
#[derive(Clone, Copy)]
struct Float {
    negative: bool,
    exponent: u32,
    mantissa: i32,
}

impl Float {
    const ZERO: Float = Float { negative: false, exponent: 0, mantissa: 32 };

    /// `magnitude`: at most 15 bits.
    fn new(negative: bool, magnitude: i32) -> Self {
        let exponent = bits(magnitude);
        let mantissa = if magnitude == 0 { 32 } else { (magnitude << 6) >> exponent };
        Float { negative, exponent, mantissa }
    }

    /// FMULT: the product with a predictor's coefficient, in units of half a step.
    fn times(self, coefficient: i32) -> i32 {
        let coefficient = coefficient >> 2;
        let magnitude = coefficient.abs() & 0x1fff;
        let Float { exponent, mantissa, .. } = Float::new(false, magnitude);
        let exponent = self.exponent + exponent;
        let mantissa = (self.mantissa * mantissa + 48) >> 4;
        let product = if exponent <= 26 {
            (mantissa << 7) >> (26 - exponent)
        } else {
            ((mantissa << 7) << (exponent - 26)) & 0x7fff
        };
        if self.negative == (coefficient < 0) { product } else { -product }
    }
}

/// How many bits a magnitude has.
fn bits(magnitude: i32) -> u32 {
    i32::BITS - magnitude.leading_zeros()
}

/// What is expected of the next sample.
#[derive(Clone, Copy)]
struct Estimate {
    /// SE and SEZ: by both predictors, and by that with the zeros alone.
    signal: i32,
    zeros: i32,
    /// Y: the quantiser's scale factor.
    scale: i32,
}

/// What coder and decoder share.
#[derive(Clone)]
struct State {
    /// YU and YL: the fast and the slow scale factor.
    fast_scale: i32,
    slow_scale: i32,
    /// DMS, DML: short and long mean of what drives the speed, and AP: the speed.
    short_mean: i32,
    long_mean: i32,
    speed: i32,
    /// A1, A2 and B1 to B6: the predictors' coefficients in 2.14 fixed point.
    poles: [i32; 2],
    zeros: [i32; 6],
    /// The last differences and the last reconstructed samples, newest first.
    differences: [Float; 6],
    reconstructed: [Float; 2],
    /// Signs of the last partial reconstructions, newest first.
    negative: [bool; 2],
    /// TD: a narrow-band signal, such as a modem's tones.
    tone: bool,
}

impl State {
    fn new() -> Self {
        State {
            fast_scale: 544,
            slow_scale: 34_816,
            short_mean: 0,
            long_mean: 0,
            speed: 0,
            poles: [0; 2],
            zeros: [0; 6],
            differences: [Float::ZERO; 6],
            reconstructed: [Float::ZERO; 2],
            negative: [false; 2],
            tone: false,
        }
    }

    fn estimate(&self) -> Estimate {
        let zeros: i32 = self.differences.iter().zip(self.zeros).map(|(past, b)| past.times(b)).sum();
        let poles: i32 = self.reconstructed.iter().zip(self.poles).map(|(past, a)| past.times(a)).sum();
        // ACCUM wraps at 16 bits.
        let zeros_sum = i32::from(zeros as i16);
        let sum = i32::from((zeros + poles) as i16);
        Estimate { signal: sum >> 1, zeros: zeros_sum >> 1, scale: self.scale() }
    }

    /// MIX: fast and slow scale factor by the speed of adaptation (LIMA).
    fn scale(&self) -> i32 {
        let weight = if self.speed >= 256 { 64 } else { self.speed >> 2 };
        let slow = self.slow_scale >> 6;
        // Division cuts towards zero, as the Recommendation's product of magnitudes does.
        slow + (self.fast_scale - slow) * weight / 64
    }

    /// Takes a code in and answers the sample that it stands for.
    fn adapt(&mut self, code: u8, estimate: Estimate) -> i32 {
        let Estimate { signal, zeros, scale } = estimate;
        let negative = code & 8 != 0;
        let magnitude_code = usize::from(if negative { !code } else { code } & 7);
        let at = |table: [i32; 8]| table.get(magnitude_code).copied().unwrap_or_default();
        let magnitude = exponential(at(LEVELS) + (scale >> 2));
        let difference = if negative { -magnitude } else { magnitude };
        let reconstructed = i32::from((signal + difference) as i16);
        let partial = difference + zeros;
        let transition = self.transition(magnitude);

        self.adapt_scale(scale, at(SCALE_DRIVE));
        let signs = [partial < 0, self.negative[0], self.negative[1]];
        self.adapt_poles(signs, partial == 0);
        self.adapt_zeros(negative, magnitude);
        // TONE, before TRIGB forgets the coefficients.
        self.tone = self.poles[1] < -11_776;
        self.adapt_speed(scale, at(SPEED_DRIVE));
        if transition {
            (self.poles, self.zeros) = ([0; 2], [0; 6]);
            (self.tone, self.speed) = (false, 256);
        }

        self.differences.rotate_right(1);
        self.differences[0] = Float::new(negative, magnitude);
        self.reconstructed[1] = self.reconstructed[0];
        self.reconstructed[0] = Float::new(reconstructed < 0, reconstructed.abs() & 0x7fff);
        self.negative = [signs[0], signs[1]];
        reconstructed
    }

    /// TRANS: a narrow-band signal has changed abruptly.
    fn transition(&self, magnitude: i32) -> bool {
        let whole = self.slow_scale >> 15;
        let fraction = (self.slow_scale >> 10) & 31;
        let threshold = if whole > 9 { 31 << 10 } else { (32 + fraction) << whole };
        self.tone && magnitude > (threshold + (threshold >> 1)) >> 1
    }

    /// FILTD, LIMB, FILTE.
    fn adapt_scale(&mut self, scale: i32, drive: i32) {
        self.fast_scale = (scale + (((drive << 5) - scale) >> 5)).clamp(544, 5120);
        self.slow_scale += self.fast_scale + ((-self.slow_scale) >> 6);
    }

    /// UPA2, LIMC, UPA1, LIMD. `signs`: of the partial reconstructions, the newest first.
    fn adapt_poles(&mut self, signs: [bool; 3], nothing: bool) {
        let [a1, a2] = self.poles;
        let [now, before, long_before] = signs;
        let limited = a1.clamp(-8191, 8191) << 2;
        let (gain1, gain2) = if nothing {
            (0, 0)
        } else {
            let along = if now == before { -limited } else { limited };
            let step = if now == long_before { 16_384 } else { -16_384 };
            (if now == before { 192 } else { -192 }, (step + along) >> 7)
        };
        let a2 = (a2 + gain2 - (a2 >> 7)).clamp(-12_288, 12_288);
        let limit = 15_360 - a2;
        self.poles = [(a1 + gain1 - (a1 >> 8)).clamp(-limit, limit), a2];
    }

    /// UPB.
    fn adapt_zeros(&mut self, negative: bool, magnitude: i32) {
        for (coefficient, past) in self.zeros.iter_mut().zip(&self.differences) {
            let gain = match magnitude {
                0 => 0,
                _ if negative == past.negative => 128,
                _ => -128,
            };
            *coefficient = i32::from((*coefficient + gain - (*coefficient >> 8)) as i16);
        }
    }

    /// FILTA, FILTB, SUBTC, FILTC.
    fn adapt_speed(&mut self, scale: i32, drive: i32) {
        self.short_mean += ((drive << 9) - self.short_mean) >> 5;
        self.long_mean += ((drive << 11) - self.long_mean) >> 7;
        let apart = ((self.short_mean << 2) - self.long_mean).abs();
        let fast = scale < 1536 || self.tone || apart >= self.long_mean >> 3;
        self.speed += ((i32::from(fast) << 9) - self.speed) >> 4;
    }
}

impl State {
    /// What a code stands for, as a sample of 16 bits.
    fn sample(&mut self, code: u8) -> i16 {
        let estimate = self.estimate();
        let reconstructed = self.adapt(code, estimate);
        (reconstructed << 2).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    }
}

/// LOG, SUBTB, QUAN: the code of a difference at this scale factor.
fn quantise(difference: i32, scale: i32) -> u8 {
    let magnitude = difference.abs() & 0x7fff;
    let exponent = bits(magnitude >> 1);
    let mantissa = ((magnitude << 7) >> exponent) & 0x7f;
    let normalised = ((exponent as i32) << 7) + mantissa - (scale >> 2);
    let code = EDGES.iter().filter(|edge| normalised >= **edge).count() as u8;
    // All zeros is not sent.
    if difference < 0 || code == 0 { 15 - code } else { code }
}

/// ANTILOG.
fn exponential(logarithm: i32) -> i32 {
    if logarithm < 0 {
        return 0;
    }
    let (exponent, mantissa) = ((logarithm >> 7) & 15, logarithm & 0x7f);
    ((128 + mantissa) << 7) >> (14 - exponent).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pcm::FULL_SCALE;

    fn encoded(samples: &[i16]) -> Vec<u8> {
        let samples: Vec<f32> = samples.iter().map(|sample| f32::from(*sample) / FULL_SCALE).collect();
        let mut payload = vec![0; samples.len() / SAMPLES_PER_OCTET];
        Encoder::new(Packing::Rtp).encode(&samples, &mut payload);
        payload
    }

    fn decoded(payload: &[u8]) -> Vec<i16> {
        let mut samples = vec![0.0; payload.len() * SAMPLES_PER_OCTET];
        Decoder::new(Packing::Rtp).decode(payload, &mut samples);
        samples.into_iter().map(to_i16).collect()
    }

    /// A linear congruential generator's upper 16 bits, as samples.
    fn noise(seed: u32) -> impl Iterator<Item = i16> {
        let step = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(step(&seed), step).map(|x| ((x >> 16) as i32 - 32_768) as i16)
    }

    /// FNV-1a, 64 bits.
    fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
        let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, fold)
    }

    fn digest_of(samples: &[i16]) -> u64 {
        digest(samples.iter().flat_map(|sample| sample.to_le_bytes()))
    }

    // The digests were taken of the same input in another implementation, one that passes the ITU's test sequences
    // (libspandsp 0.0.6, packed to the right; where samples pass full scale, which it does not limit, there is none).

    #[test]
    fn codes_and_samples_are_those_of_the_recommendation() {
        let loud: Vec<i16> = noise(1).take(16_000).map(|sample| sample >> 2).collect();
        let quiet: Vec<i16> = noise(1).take(16_000).map(|sample| sample >> 7).collect();
        let levels = noise(7).take(48_000).enumerate();
        let varied: Vec<i16> = levels.map(|(n, sample)| sample >> ((n / 1000) % 12) >> 2).collect();
        let square: Vec<i16> = (0..16_000).map(|n| if n / 20 % 2 == 1 { 8191 } else { -8192 }).collect();
        // Tones that change abruptly, as a modem's do.
        let turn = |n: i32| if n / 400 % 2 == 1 { n % 8 < 4 } else { n % 4 < 2 };
        let tones: Vec<i16> = (0..16_000).map(|n| if turn(n) { 6000 } else { -6000 }).collect();
        for (name, samples, codes, heard) in [
            ("loud", loud, 0x4639_7524_b1d6_75b4, 0x59df_aa6f_1b33_1055),
            ("quiet", quiet, 0xaef9_5e31_c316_f159, 0x2a92_59a7_86a5_f956),
            ("of varied level", varied, 0xea1c_8ae3_5586_1b27, 0xe397_ca1a_f23f_46b4),
            ("a square wave", square, 0x38c1_bb4a_f1f1_dc29, 0x9f3d_f0b4_52aa_290d),
            ("tones", tones, 0x3866_819f_c835_a33b, 0x70bd_e769_53ec_06c9),
        ] {
            let payload = encoded(&samples);
            assert_eq!(digest(payload.iter().copied()), codes, "codes, {name}");
            assert_eq!(digest_of(&decoded(&payload)), heard, "samples, {name}");
        }
    }

    #[test]
    fn codes_in_any_order_are_decoded_as_the_recommendation_says() {
        // The smaller half of the codes: nothing passes full scale.
        let small = |code: u8| if code & 8 != 0 { code | 4 } else { code & 3 };
        let octet = |sample: i16| {
            let octet = (sample >> 8) as u8;
            small(octet & 0x0f) | small(octet >> 4) << 4
        };
        let codes = |seed| noise(seed).take(400).map(octet).collect::<Vec<u8>>();
        let samples: Vec<i16> = (1..=64).flat_map(|seed| decoded(&codes(seed))).collect();
        assert_eq!(digest_of(&samples), 0x8833_8061_7bce_29b8);
    }

    #[test]
    fn what_is_no_number_is_silence_and_what_is_too_loud_is_clipped() {
        let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 7.0, -7.0, f32::MIN_POSITIVE];
        let tame = [0.0, 32_767.0 / FULL_SCALE, -1.0, 32_767.0 / FULL_SCALE, -1.0, 0.0];
        let (mut one, mut other) = ([0; 3], [0; 3]);
        Encoder::new(Packing::Rtp).encode(&wild, &mut one);
        Encoder::new(Packing::Rtp).encode(&tame, &mut other);
        assert_eq!(one, other);
    }
}
