//! Tones: right frequencies, right times, no clicks.

use crate::support::{energy, fit_sine, rms};
use voipd_audio::tone::{Generator, Tone};

/// Renders in 10 ms frames; stops with the frame in which the tone ends.
fn render(tone: Tone, rate: u32, ms: usize) -> (Vec<f32>, bool) {
    let mut generator = Generator::new(tone, rate);
    let mut samples = vec![0.0; ms * rate as usize / 1000];
    let running = samples.chunks_mut(rate as usize / 100).all(|frame| generator.mix_into(frame));
    (samples, running)
}

#[test]
fn a_test_tone_is_a_pure_sine_and_ends_in_time() {
    for rate in [8000, 16_000, 44_100, 48_000] {
        let (samples, running) = render(Tone::test(1000.0, 60_000), rate, 61_000);
        assert!(!running);
        let second = rate as usize;
        for start in [1, 30, 58] {
            let (amplitude, residue) = fit_sine(&samples[start * second..(start + 1) * second], 1000.0, rate);
            assert!((amplitude - 0.3).abs() < 1e-3, "{amplitude}");
            // -100 dB.
            assert!(residue < 0.3 * 1e-5, "{residue}");
        }
        assert!(energy(&samples[60 * second..]) == 0.0);
        assert!(rms(&samples[60 * second - second / 20..60 * second]) > 0.1);
    }
}

#[test]
fn cadences_sound_and_pause_as_long_as_they_say() {
    let (samples, running) = render(Tone::RING, 8000, 6000);
    assert!(running);
    let on = |ms: usize| rms(&samples[ms * 8..(ms + 10) * 8]) > 0.01;
    let heard: Vec<(usize, bool)> = (0..600).map(|tick| (tick * 10, on(tick * 10))).collect();
    for (ms, heard) in heard {
        let place = ms % 3000;
        assert_eq!(heard, place < 400 || (600..1000).contains(&place), "{ms} ms");
    }
}

#[test]
fn edges_do_not_click() {
    for tone in [Tone::BUSY, Tone::RING, Tone::CALL_WAITING, Tone::RINGBACK] {
        let (samples, _) = render(tone, 48_000, 9000);
        // A full sine of 480 Hz moves by 0.3 * 2π * 480 / 48000 between samples; two of them by twice as much.
        let steepest =
            samples.windows(2).fold(0.0_f32, |steepest, pair| steepest.max((pair[1] - pair[0]).abs()));
        assert!(steepest < 0.04, "{steepest}");
    }
}

#[test]
fn a_tone_is_added_to_what_is_there() {
    let mut generator = Generator::new(Tone::test(440.0, 100), 8000);
    let mut samples = [0.5; 80];
    assert!(generator.mix_into(&mut samples));
    let mean = samples.iter().sum::<f32>() / 80.0;
    assert!((mean - 0.5).abs() < 0.1 && samples[40] != 0.5);
}

#[test]
fn dtmf_keys_have_their_two_frequencies() {
    let (samples, running) = render(Tone::dtmf('8', 200).unwrap(), 8000, 300);
    assert!(!running);
    let middle = &samples[80..1520];
    let (low, _) = fit_sine(middle, 852.0, 8000);
    let (high, _) = fit_sine(middle, 1336.0, 8000);
    assert!((low - 0.2).abs() < 0.01 && (high - 0.2).abs() < 0.01, "{low} {high}");
    assert_eq!("0123456789*#ABCD".chars().filter_map(|key| Tone::dtmf(key, 100)).count(), 16);
    assert_eq!(Tone::dtmf('x', 100), None);
}

#[test]
fn senseless_tones_end_or_stay_silent() {
    let quiet = |tone: Tone| {
        let (samples, running) = render(tone, 8000, 1000);
        assert!(energy(&samples) == 0.0, "{tone:?}");
        running
    };
    let never =
        Tone { frequencies: [440.0, 0.0], amplitude: 0.3, cadence_ms: [(0, 0), (0, 0)], length_ms: None };
    assert!(!quiet(never));
    assert!(quiet(Tone { cadence_ms: [(0, 100), (0, 0)], ..never }));
    assert!(quiet(Tone { frequencies: [5000.0, f32::NAN], cadence_ms: [(1, 0), (0, 0)], ..never }));
    assert!(!quiet(Tone::test(440.0, 0)));
}
