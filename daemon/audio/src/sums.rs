//! Sums over samples, in steps that fill vector registers: a float's sums are not the compiler's to reorder.

const LANES: usize = 8;

/// Sum of the products of two sounds of the same length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Sum of the squares of samples.
pub(crate) fn squares(samples: &[f32]) -> f32 {
    dot(samples, samples)
}

/// Mean of the squares of samples; 0 where there are none.
pub(crate) fn mean_square(samples: &[f32]) -> f32 {
    squares(samples) / samples.len().max(1) as f32
}

/// Whether there is digital silence and nothing else.
pub(crate) fn is_silent(samples: &[f32]) -> bool {
    // All but the sign of a zero are zeros.
    let bits = |piece: &[f32]| piece.iter().fold(0, |bits, sample| bits | sample.to_bits() << 1);
    samples.chunks(2 * LANES).all(|piece| bits(piece) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_counts_once() {
        for length in 0..40 {
            let samples: Vec<f32> = (1..=length).map(|n| n as f32).collect();
            let expected: f32 = samples.iter().map(|sample| sample * sample).sum();
            assert_eq!(squares(&samples), expected);
            assert_eq!(dot(&samples, &vec![1.0; length]), samples.iter().sum());
        }
        assert_eq!(mean_square(&[]), 0.0);
        assert_eq!(mean_square(&[3.0, -3.0, 3.0]), 9.0);
    }

    #[test]
    fn one_sample_breaks_a_silence() {
        let mut samples = [0.0, -0.0].repeat(20);
        assert!(is_silent(&samples) && is_silent(&[]));
        for place in 0..samples.len() {
            for sound in [f32::MIN_POSITIVE / 2.0, -1.0, f32::NAN] {
                let silence = std::mem::replace(&mut samples[place], sound);
                assert!(!is_silent(&samples), "{sound} at {place}");
                samples[place] = silence;
            }
        }
    }
}
