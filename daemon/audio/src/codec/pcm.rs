//! 16-bit samples, which is what all codecs but Opus code, and the L16 payload that is nothing else.

/// Full scale of 16-bit samples.
pub(super) const FULL_SCALE: f32 = 32_768.0;

/// Nearest 16-bit sample; what is out of range is clipped, what is no number is silence.
pub(super) fn to_i16(sample: f32) -> i16 {
    let scaled = sample * FULL_SCALE;
    // The cast truncates, saturates, and makes 0 of NaN.
    let rounded = (scaled + 0.5_f32.copysign(scaled)) as i32;
    rounded.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

pub(super) fn from_i16(sample: i16) -> f32 {
    f32::from(sample) / FULL_SCALE
}

/// L16 (RFC 3551 section 4.5.11): two octets for each sample, the more significant one first.
pub(super) fn encode_l16(samples: &[f32], payload: &mut [u8]) {
    for (octets, sample) in payload.chunks_exact_mut(2).zip(samples) {
        octets.copy_from_slice(&to_i16(*sample).to_be_bytes());
    }
}

/// The reverse; an odd octet at the end is passed over.
pub(super) fn decode_l16(payload: &[u8], samples: &mut [f32]) {
    for (sample, octets) in samples.iter_mut().zip(payload.chunks_exact(2)) {
        if let &[high, low] = octets {
            *sample = from_i16(i16::from_be_bytes([high, low]));
        }
    }
}
