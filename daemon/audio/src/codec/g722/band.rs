//! One band's adaptive quantizer and predictor (ITU-T G.722 section 6.2): tables and blocks under the Recommendation's
//! names. It knows codes of one band; the bands meet elsewhere.

use super::saturate;

/// Decision levels of the low band's 60-level quantizer, from the second on; the first is 0.
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
    1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Output of the low band's quantizer with 60 levels, by code.
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192, -10_232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032,
    -1688, -1360, -1040, -728, 24_808, 21_904, 19_008, 16_704, 14_984, 13_512, 12_280, 11_192, 10_232, 9360,
    8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040,
    728, 432, 136, -432, -136,
];
/// Output of the low band's quantizer with 15 levels, by code: what the predictor works on.
const QM4: [i32; 16] =
    [0, -20_456, -12_896, -8968, -6288, -4240, -2584, -1200, 20_456, 12_896, 8968, 6288, 4240, 2584, 1200, 0];
/// Output of the high band's quantizer, by code.
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
/// Multipliers of the low band's logarithmic step size, by code with 15 levels.
const WL: [i32; 16] = [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// Multipliers of the high band's, by code.
const WH: [i32; 4] = [798, -214, 798, -214];
/// Decision level of the high band's quantizer.
const Q2: i32 = 564;
/// Powers of two in steps of a 32nd, times 2048.
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
/// Largest logarithmic step size of each band.
const NB_MAX_LOW: i32 = 18_432;
const NB_MAX_HIGH: i32 = 22_528;

/// One band.
#[derive(Clone)]
pub(super) struct Band {
    /// Logarithm of the step size.
    nb: i32,
    /// Step size.
    det: i32,
    /// What the predictor expects next.
    s: i32,
    /// The part of that from the zeroes.
    sz: i32,
    /// Coefficients of the two poles, and of the six zeroes.
    a: [i32; 2],
    b: [i32; 6],
    /// The last two reconstructed samples, partly reconstructed samples and six quantized differences, newest first.
    r: [i32; 2],
    p: [i32; 2],
    d: [i32; 6],
}

impl Band {
    const fn new(det: i32) -> Self {
        Band { nb: 0, det, s: 0, sz: 0, a: [0; 2], b: [0; 6], r: [0; 2], p: [0; 2], d: [0; 6] }
    }

    pub(super) const fn low() -> Self {
        Band::new(32)
    }

    pub(super) const fn high() -> Self {
        Band::new(8)
    }

    /// Six bits for one sample of the low band.
    pub(super) fn encode_low(&mut self, x: i32) -> u8 {
        let e = saturate(x - self.s);
        let magnitude = if e >= 0 { e } else { -(e + 1) };
        let step = Q6.iter().take_while(|level| magnitude >= (**level * self.det) >> 12).count() as u8;
        // Positive codes fall from 61, negative ones from 63 over a gap to 31.
        let code = match (e >= 0, step) {
            (true, step) => 61 - step,
            (false, step @ 0..=1) => 63 - step,
            (false, step) => 33 - step,
        };
        self.adapt_low(code);
        code
    }

    /// One sample of the low band out of six bits.
    pub(super) fn decode_low(&mut self, code: u8) -> i32 {
        let level = QM6[usize::from(code & 0x3F)];
        let sample = limit(self.s + ((self.det * level) >> 15));
        self.adapt_low(code);
        sample
    }

    /// Two bits for one sample of the high band.
    pub(super) fn encode_high(&mut self, x: i32) -> u8 {
        let e = saturate(x - self.s);
        let magnitude = if e >= 0 { e } else { -(e + 1) };
        let outer = magnitude >= (Q2 * self.det) >> 12;
        let code = match (e >= 0, outer) {
            (true, false) => 3,
            (true, true) => 2,
            (false, false) => 1,
            (false, true) => 0,
        };
        self.adapt_high(code);
        code
    }

    /// One sample of the high band out of two bits.
    pub(super) fn decode_high(&mut self, code: u8) -> i32 {
        let level = QM2[usize::from(code & 3)];
        let sample = limit(self.s + ((self.det * level) >> 15));
        self.adapt_high(code);
        sample
    }

    /// The low band is predicted from its four upper bits alone, which every mode of the decoder has.
    fn adapt_low(&mut self, code: u8) {
        let code = usize::from(code >> 2) & 0x0F;
        let d = (self.det * QM4[code]) >> 15;
        self.scale(WL[code], NB_MAX_LOW, 8);
        self.predict(d);
    }

    fn adapt_high(&mut self, code: u8) {
        let code = usize::from(code & 3);
        let d = (self.det * QM2[code]) >> 15;
        self.scale(WH[code], NB_MAX_HIGH, 10);
        self.predict(d);
    }

    /// Blocks LOGSCL, SCALEL and their like of the high band.
    fn scale(&mut self, multiplier: i32, most: i32, shift: i32) {
        self.nb = (((self.nb * 127) >> 7) + multiplier).clamp(0, most);
        let mantissa = ILB[((self.nb >> 6) & 31) as usize];
        let down = shift - (self.nb >> 11);
        self.det = (if down < 0 { mantissa << -down } else { mantissa >> down }) << 2;
    }

    /// Block 4: adapts the predictor to the quantized difference `d`, and predicts.
    fn predict(&mut self, d: i32) {
        let alike = |one: i32, other: i32| (one < 0) == (other < 0);
        // RECONS, PARREC.
        let r = saturate(self.s + d);
        let p = saturate(self.sz + d);

        // UPPOL2, UPPOL1.
        let [a1, a2] = self.a;
        let [p1, p2] = self.p;
        let crossed = saturate(a1 << 2);
        let crossed = if alike(p, p1) { -crossed } else { crossed }.min(32_767);
        let nudge = if alike(p, p2) { 128 } else { -128 };
        let a2 = ((crossed >> 7) + nudge + ((a2 * 32_512) >> 15)).clamp(-12_288, 12_288);
        let nudge = if alike(p, p1) { 192 } else { -192 };
        let most = saturate(15_360 - a2);
        let a1 = saturate(nudge + ((a1 * 32_640) >> 15)).clamp(-most, most);

        // UPZERO.
        let nudge = if d == 0 { 0 } else { 128 };
        for (b, before) in self.b.iter_mut().zip(self.d) {
            let signed = if alike(d, before) { nudge } else { -nudge };
            *b = saturate(signed + ((*b * 32_640) >> 15));
        }

        // DELAYA.
        self.a = [a1, a2];
        self.p = [p, p1];
        self.r = [r, self.r[0]];
        self.d.copy_within(..5, 1);
        self.d[0] = d;

        // FILTEP, FILTEZ, PREDIC.
        let doubled = |value: i32| saturate(value + value);
        let pole = |a: i32, r: i32| (a * doubled(r)) >> 15;
        let sp = saturate(pole(a1, self.r[0]) + pole(a2, self.r[1]));
        let zeroes = self.b.iter().zip(self.d).rev();
        self.sz = zeroes.fold(0, |sum, (b, d)| saturate(sum + ((b * doubled(d)) >> 15)));
        self.s = saturate(sp + self.sz);
    }
}

/// Block LIMIT: to the range of a band's 15-bit samples.
fn limit(sample: i32) -> i32 {
    sample.clamp(-16_384, 16_383)
}
