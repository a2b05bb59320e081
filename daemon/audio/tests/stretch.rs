//! Time-stretching: what is left out or put in cannot be heard, and what cannot be hidden is not done.

use crate::support::{Random, fit_sine, rms, sine, speech};
use voipd_audio::stretch::Cut;

const RATES: [u32; 3] = [8_000, 16_000, 48_000];

/// Plays `sound` in pieces of 20 ms; at every `each`th the next 30 ms are stretched. Answers what is heard, and where it was
/// stretched by how much (in samples).
fn play(
    sound: &[f32],
    rate: u32,
    each: usize,
    likeness: f32,
    shorter: bool,
) -> (Vec<f32>, Vec<(usize, i64)>) {
    let (piece, history) = (rate as usize / 50, rate as usize / 50);
    let mut samples = sound[..2 * piece].to_vec();
    let (mut read, mut place, mut changes) = (2 * piece, piece, Vec::new());
    for number in 0.. {
        let wanted = place + 3 * piece / 2;
        if wanted > samples.len() {
            let Some(more) = sound.get(read..read + wanted - samples.len()) else { break };
            samples.extend(more);
            read += more.len();
        }
        if number % each == 0 {
            let (first, end) = (place - history, samples.len());
            samples.resize(end + piece, 0.0);
            let mut cut = Cut { samples: &mut samples[first..], end: end - first, place: history, rate };
            let by = match shorter {
                true => -(cut.shorten(piece, likeness) as i64),
                false => cut.lengthen(piece, likeness) as i64,
            };
            samples.truncate((end as i64 + by) as usize);
            if by != 0 {
                changes.push((place, by));
            }
        }
        place += piece;
    }
    (samples, changes)
}

/// How much of a tone is not that tone, at its worst in windows of 10 ms, relative to it.
fn worst_residue(heard: &[f32], frequencies: &[f64], rate: u32) -> f64 {
    let windows = heard.chunks_exact(rate as usize / 100);
    windows
        .map(|window| {
            let mut rest = window.to_vec();
            // Two tones: each is taken out in turn until nothing changes.
            for _ in 0..20 {
                for frequency in frequencies {
                    let (cosine, sine) = projection(&rest, *frequency, rate);
                    let step = std::f64::consts::TAU * frequency / f64::from(rate);
                    for (index, sample) in rest.iter_mut().enumerate() {
                        let (s, c) = (step * index as f64).sin_cos();
                        *sample -= (cosine * c + sine * s) as f32;
                    }
                }
            }
            rms(&rest) / rms(window)
        })
        .fold(0.0, f64::max)
}

fn projection(samples: &[f32], frequency: f64, rate: u32) -> (f64, f64) {
    let step = std::f64::consts::TAU * frequency / f64::from(rate);
    let (mut ss, mut sc, mut cc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let (s, c) = (step * index as f64).sin_cos();
        (ss, sc, cc) = (ss + s * s, sc + s * c, cc + c * c);
        (xs, xc) = (xs + f64::from(*sample) * s, xc + f64::from(*sample) * c);
    }
    let determinant = ss * cc - sc * sc;
    ((xc * ss - xs * sc) / determinant, (xs * cc - xc * sc) / determinant)
}

#[test]
fn a_tone_stays_a_tone_at_every_rate() {
    for rate in RATES {
        for frequency in [100.0, 250.0, 440.0, 1000.0, 1633.0] {
            let tone = sine(frequency, 0.5, rate, rate as usize);
            for shorter in [true, false] {
                let (heard, changes) = play(&tone, rate, 5, 0.9, shorter);
                assert!(changes.len() >= 7, "{rate} Hz, {frequency} Hz: {} times", changes.len());
                let residue = worst_residue(&heard, &[frequency], rate);
                // Noise that far below the tone is masked by it: -26 dB.
                assert!(residue < 0.05, "{rate} Hz, {frequency} Hz, shorter: {shorter}: {residue}");
                // And the pitch is the same: the tone fills all of a long window.
                let (amplitude, _) = fit_sine(&heard[..rate as usize / 20], frequency, rate);
                assert!((amplitude - 0.5).abs() < 0.02);
            }
        }
    }
}

#[test]
fn two_tones_of_a_key_stay_together() {
    for rate in RATES {
        let (low, high) = (sine(697.0, 0.3, rate, rate as usize), sine(1336.0, 0.3, rate, rate as usize));
        let both: Vec<f32> = low.iter().zip(&high).map(|(a, b)| a + b).collect();
        for shorter in [true, false] {
            let (heard, changes) = play(&both, rate, 5, 0.9, shorter);
            assert!(!changes.is_empty());
            let residue = worst_residue(&heard, &[697.0, 1336.0], rate);
            assert!(residue < 0.15, "{rate} Hz, shorter: {shorter}: {residue}");
        }
    }
}

#[test]
fn speech_goes_on_unchanged_beside_the_cuts_and_does_not_jump_at_them() {
    for rate in RATES {
        let words = speech(rate, 4.0, 21);
        let jump =
            |samples: &[f32]| samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        for shorter in [true, false] {
            let (heard, changes) = play(&words, rate, 4, 0.85, shorter);
            assert!(changes.len() > 10, "{rate} Hz: {} times", changes.len());
            // Between two cuts every sample is one of the speech, moved by what the cuts before have changed.
            let longest = rate as usize * 15 / 1000;
            let mut moved = 0;
            for pair in changes.windows(2) {
                moved += pair[0].1;
                let (from, to) = (pair[0].0 + 2 * longest, pair[1].0);
                for place in (from..to).step_by(7) {
                    assert_eq!(heard[place], words[(place as i64 - moved) as usize]);
                }
            }
            assert!(jump(&heard) <= 1.1 * jump(&words), "{} against {}", jump(&heard), jump(&words));
        }
    }
}

#[test]
fn what_is_like_nothing_is_left_alone() {
    let mut random = Random::new(5);
    for rate in RATES {
        let noise: Vec<f32> = (0..rate).map(|_| random.unit() as f32 - 0.5).collect();
        for shorter in [true, false] {
            let (heard, changes) = play(&noise, rate, 1, 0.8, shorter);
            assert!(changes.is_empty());
            assert_eq!(heard, noise[..heard.len()]);
            // Where anything will do, something is found.
            assert!(!play(&noise, rate, 1, 0.0, shorter).1.is_empty());
        }
    }
}

#[test]
fn no_more_is_left_out_than_was_asked_for() {
    let tone = sine(200.0, 0.5, 8_000, 400);
    for most in 0..160 {
        let mut samples = tone.clone();
        let gone = Cut { samples: &mut samples, end: 400, place: 160, rate: 8_000 }.shorten(most, 0.0);
        assert!(gone <= most && gone <= 120);
        assert_eq!(gone == 0, most < 20);
    }
}

#[test]
fn too_little_sound_is_no_harm() {
    for end in 0..300 {
        for place in 0..=end {
            let mut samples = vec![0.1; end + 40];
            let mut cut = Cut { samples: &mut samples, end, place, rate: 8_000 };
            let gone = cut.shorten(120, 0.0);
            assert!(gone <= end - place);
            let mut samples = vec![0.1; end + 40];
            assert!(Cut { samples: &mut samples, end, place, rate: 8_000 }.lengthen(120, 0.0) <= 40);
        }
    }
}
