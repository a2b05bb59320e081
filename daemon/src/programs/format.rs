//! Samples as bytes, and back: 16-bit integers, floating point, µ-law.

use voipd_audio::codec::{ulaw_code, ulaw_sample};

use crate::api::ports::SampleFormat;

/// Appends samples as bytes.
pub(super) fn encode(format: SampleFormat, samples: impl Iterator<Item = f32>, bytes: &mut Vec<u8>) {
    match format {
        SampleFormat::S16le => samples.for_each(|sample| bytes.extend(integer(sample).to_le_bytes())),
        SampleFormat::F32le => samples.for_each(|sample| bytes.extend(sample.to_le_bytes())),
        SampleFormat::Ulaw => bytes.extend(samples.map(ulaw_code)),
    }
}

/// One sample of [`SampleFormat::bytes`]; what is no number or beyond full scale is brought within it.
pub(super) fn decode(format: SampleFormat, bytes: &[u8]) -> f32 {
    match (format, bytes) {
        (SampleFormat::S16le, [low, high]) => f32::from(i16::from_le_bytes([*low, *high])) / 32_768.0,
        (SampleFormat::F32le, [a, b, c, d]) => {
            let value = f32::from_le_bytes([*a, *b, *c, *d]);
            if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 }
        }
        (SampleFormat::Ulaw, [byte]) => ulaw_sample(*byte),
        // Whole samples alone are decoded.
        _ => 0.0,
    }
}

fn integer(sample: f32) -> i16 {
    // `as` saturates, and makes zero of what is no number.
    (sample * 32_768.0).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_as_exactly_as_the_format_allows() {
        let samples: Vec<f32> = (-20..=20).map(|step| step as f32 / 20.0).collect();
        for (format, error) in
            [(SampleFormat::S16le, 4e-5), (SampleFormat::F32le, 0.0), (SampleFormat::Ulaw, 0.032)]
        {
            let mut bytes = Vec::new();
            encode(format, samples.iter().copied(), &mut bytes);
            assert_eq!(bytes.len(), samples.len() * format.bytes());
            for (sample, bytes) in samples.iter().zip(bytes.chunks(format.bytes())) {
                let back = decode(format, bytes);
                assert!((back - sample).abs() <= error, "{format:?}: {back} of {sample}");
            }
        }
    }

    #[test]
    fn what_is_no_sound_is_made_harmless() {
        for (value, sample) in [(f32::NAN, 0.0), (f32::INFINITY, 0.0), (9.0, 1.0), (-9.0, -1.0)] {
            assert_eq!(decode(SampleFormat::F32le, &value.to_le_bytes()), sample);
        }
        let mut bytes = Vec::new();
        encode(SampleFormat::S16le, [2.0, -2.0, f32::NAN].into_iter(), &mut bytes);
        assert_eq!(bytes, [0xff, 0x7f, 0, 0x80, 0, 0]);
        assert_eq!(decode(SampleFormat::S16le, &[1]), 0.0);
    }
}
