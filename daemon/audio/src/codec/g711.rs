//! G.711: the two companding laws, sample by sample, bit-exact to the reference of ITU-T G.191. Stateless.
//!
//! Both laws work on one's complement magnitudes (a negative sample is inverted, not negated); a coder that negates is
//! off by one step at every boundary of the negative half.

use super::pcm::{FULL_SCALE, to_i16};

/// Which companding law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// µ-law, PCMU.
    Mu,
    /// A-law, PCMA.
    A,
}

static MU_LAW: [f32; 256] = expansion(Law::Mu);
static A_LAW: [f32; 256] = expansion(Law::A);

impl Law {
    /// `payload` is as long as `samples`.
    pub(super) fn encode(self, samples: &[f32], payload: &mut [u8]) {
        let pairs = samples.iter().zip(payload);
        match self {
            Law::Mu => pairs.for_each(|(sample, code)| *code = compress_mu(to_i16(*sample))),
            Law::A => pairs.for_each(|(sample, code)| *code = compress_a(to_i16(*sample))),
        }
    }

    /// `samples` is as long as `payload`.
    pub(super) fn decode(self, payload: &[u8], samples: &mut [f32]) {
        let table = match self {
            Law::Mu => &MU_LAW,
            Law::A => &A_LAW,
        };
        for (sample, code) in samples.iter_mut().zip(payload) {
            *sample = table[usize::from(*code)];
        }
    }
}

/// The µ-law code of one sample, for sound that is stored or piped so.
#[must_use]
pub fn ulaw_code(sample: f32) -> u8 {
    compress_mu(to_i16(sample))
}

/// The sample that a µ-law code stands for.
#[must_use]
pub fn ulaw_sample(code: u8) -> f32 {
    MU_LAW[usize::from(code)]
}

/// Exponent and first four bits of the mantissa of a positive number that an `f32` holds exactly: the place of its leading
/// one, and the four bits behind that. A float says so for several samples at once; counting zeros does not.
fn leading_bits(number: i32) -> i32 {
    ((number as f32).to_bits() >> 19) as i32
}

/// Seven segments above a linear foot of 33 half steps, on 14 bits.
fn compress_mu(sample: i16) -> u8 {
    let sign = (sample >> 15) as u8 & 0x80;
    // One's complement magnitude, 13 bits; the bias of 33 puts the leading one of every segment at its own bit.
    let magnitude = (i32::from(sample ^ (sample >> 15)) >> 2) + 33;
    // From bit 5 on, segments count from 0.
    let code = leading_bits(magnitude.min(0x1fff)) - ((127 + 5) << 4);
    !(sign | code as u8)
}

/// Eight segments, the first two alike, on 13 bits; even bits inverted.
fn compress_a(sample: i16) -> u8 {
    let sign = !(sample >> 15) as u8 & 0x80;
    let magnitude = i32::from(sample ^ (sample >> 15)) >> 4;
    // From bit 4 on, segments count from 1; below, steps are as wide as in the first.
    let above = leading_bits(magnitude.max(0x10)) - ((127 + 3) << 4);
    let code = if magnitude < 0x10 { magnitude } else { above };
    (sign | code as u8) ^ 0x55
}

const fn expand_mu(code: u8) -> i16 {
    let code = !code;
    let segment = (code >> 4) & 0x07;
    let magnitude = ((((code & 0x0f) as i16) << 1 | 0x21) << segment) - 33;
    if code & 0x80 == 0 { magnitude << 2 } else { -(magnitude << 2) }
}

const fn expand_a(code: u8) -> i16 {
    let code = code ^ 0x55;
    let segment = (code >> 4) & 0x07;
    let half_steps = ((code & 0x0f) as i16) << 1 | 1;
    let magnitude = if segment == 0 { half_steps } else { (half_steps | 0x20) << (segment - 1) };
    if code & 0x80 == 0 { -(magnitude << 3) } else { magnitude << 3 }
}

const fn expansion(law: Law) -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        let sample = match law {
            Law::Mu => expand_mu(code as u8),
            Law::A => expand_a(code as u8),
        };
        table[code] = sample as f32 / FULL_SCALE;
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision and output values of G.711's tables 1a and 2a, built from their text: each segment doubles the step;
    /// a value is coded as the interval that it lies in. Returns (lower edge, output) of the positive intervals, 16 bit.
    fn intervals(law: Law) -> Vec<(i32, i32)> {
        let mut table = Vec::new();
        match law {
            Law::Mu => {
                // On 14 bits: the first interval is one wide, then 15 of 2, then 16 of 4, 8, ... 256.
                table.push((0, 0));
                let mut edge = 1;
                for segment in 0..8 {
                    let width = 2 << segment;
                    for _ in 0..if segment == 0 { 15 } else { 16 } {
                        table.push((edge * 4, (edge + width / 2) * 4));
                        edge += width;
                    }
                }
            }
            Law::A => {
                // On 13 bits with the sign, 12 without: 32 intervals of 2 (here in halves: 1), then 16 of 2, 4, ... 64.
                let mut edge = 0;
                for segment in 0..8 {
                    let width = if segment < 2 { 1 } else { 1 << (segment - 1) };
                    for _ in 0..16 {
                        table.push((edge * 16, edge * 16 + width * 8));
                        edge += width;
                    }
                }
            }
        }
        table
    }

    /// The code whose interval holds `sample`, by search. Negative intervals mirror the positive ones about -1/2.
    fn reference_code(law: Law, table: &[(i32, i32)], sample: i16) -> u8 {
        let negative = sample < 0;
        let magnitude = if negative { -1 - i32::from(sample) } else { i32::from(sample) };
        let index = table.iter().rposition(|(edge, _)| *edge <= magnitude).unwrap() as u8;
        match (law, negative) {
            (Law::Mu, false) => 0xff - index,
            (Law::Mu, true) => 0x7f - index,
            (Law::A, false) => (0x80 + index) ^ 0x55,
            (Law::A, true) => index ^ 0x55,
        }
    }

    #[test]
    fn every_sample_gets_the_code_of_its_interval() {
        for (law, compress) in [(Law::Mu, compress_mu as fn(i16) -> u8), (Law::A, compress_a)] {
            let table = intervals(law);
            assert_eq!(table.len(), 128);
            for sample in i16::MIN..=i16::MAX {
                let (got, wanted) = (compress(sample), reference_code(law, &table, sample));
                assert_eq!(got, wanted, "{law:?} {sample}");
            }
        }
    }

    #[test]
    fn every_code_gives_the_middle_of_its_interval() {
        for law in [Law::Mu, Law::A] {
            let table = intervals(law);
            for index in 0..=127_u8 {
                let output = table[usize::from(index)].1 as f32 / FULL_SCALE;
                let (positive, negative) = match law {
                    Law::Mu => (0xff - index, 0x7f - index),
                    Law::A => ((0x80 + index) ^ 0x55, index ^ 0x55),
                };
                let mut samples = [0.0; 2];
                law.decode(&[positive, negative], &mut samples);
                assert_eq!(samples, [output, -output], "{law:?} {index}");
            }
        }
    }

    #[test]
    fn out_of_range_clips_and_nan_is_silence() {
        assert_eq!(to_i16(2.0), i16::MAX);
        assert_eq!(to_i16(-2.0), i16::MIN);
        assert_eq!(to_i16(f32::INFINITY), i16::MAX);
        assert_eq!(to_i16(f32::NAN), 0);
        assert_eq!(to_i16(0.5 / FULL_SCALE), 1);
        assert_eq!(to_i16(-0.49 / FULL_SCALE), 0);
    }
}
