//! Tones: right frequencies, right times, no clicks.

use crate::support::{energy, fit_sine, rms};
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Beat, Generator, Signal, Tone};

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
    let national =
        [Signal::Busy, Signal::CallWaiting, Signal::Ringback].map(|s| Country::RECOMMENDED.tone(s));
    for tone in national.into_iter().chain([Tone::RING]) {
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
    let never = Tone::of(Signal::Other, &[Beat::tone(440.0, 0)]);
    assert!(!quiet(never));
    assert!(!quiet(Tone::of(Signal::Other, &[])));
    assert!(quiet(Tone::of(Signal::Other, &[Beat::silence(100)])));
    assert!(quiet(Tone::of(Signal::Other, &[Beat::pair(5000.0, f32::NAN, Beat::FOREVER)])));
    assert!(!quiet(Tone::test(440.0, 0)));
}

/// What is heard in each 10 ms of a tone: none of the frequencies, or these.
fn heard(samples: &[f32], rate: u32, frequencies: &[f32]) -> Vec<Vec<f32>> {
    // Frequencies 40 Hz apart are told from each other, and edges are where half of the window sounds.
    let window = rate as usize / 10;
    let beginnings = (0..samples.len().saturating_sub(window)).step_by(rate as usize / 100);
    beginnings
        .map(|begin| {
            let piece = &samples[begin..begin + window];
            let loud = |hertz: &&f32| goertzel(piece, **hertz, rate) > 0.1;
            frequencies.iter().filter(loud).copied().collect()
        })
        .collect()
}

/// Amplitude of one frequency (Goertzel's algorithm).
fn goertzel(samples: &[f32], hertz: f32, rate: u32) -> f32 {
    let turn = std::f32::consts::TAU * hertz / rate as f32;
    let (mut before, mut now) = (0.0_f32, 0.0_f32);
    for sample in samples {
        (before, now) = (now, sample + 2.0 * turn.cos() * now - before);
    }
    let power = before * before + now * now - 2.0 * turn.cos() * before * now;
    2.0 * power.max(0.0).sqrt() / samples.len() as f32
}

const SIGNALS: [Signal; 6] = [
    Signal::Dial,
    Signal::Ringback,
    Signal::Busy,
    Signal::Congestion,
    Signal::CallWaiting,
    Signal::Information,
];

#[test]
fn every_country_sounds_as_its_table_says() {
    const RATE: u32 = 8000;
    for country in Country::all() {
        for signal in SIGNALS {
            let tone = country.tone(signal);
            let (samples, running) = render(tone, RATE, 12_000);
            assert!(running, "{} {signal:?}", country.iso);
            let beats = tone.beats.iter().filter(|beat| beat.ms > 0);
            let mut begin = 0_usize;
            for beat in beats.cycle().take(20) {
                let end = begin.saturating_add(beat.ms as usize).min(12_000);
                // Its middle: edges are ramped.
                let inside = &samples[(begin + 6) * 8..(end - 6).max(begin + 6) * 8];
                let what = format!("{} {signal:?} from {begin} to {end} ms", country.iso);
                let sounds: Vec<f32> = beat.frequencies.into_iter().filter(|hertz| *hertz > 0.0).collect();
                if sounds.is_empty() {
                    assert!(energy(inside) == 0.0, "{what}");
                } else if inside.len() >= 160 * 8 {
                    for hertz in &sounds {
                        let level = goertzel(inside, *hertz, RATE);
                        let whole = if beat.modulation > 0.0 { tone.amplitude / 2.0 } else { tone.amplitude };
                        assert!((level / whole - 1.0).abs() < 0.2, "{what}: {hertz} Hz at {level}");
                        if beat.modulation > 0.0 {
                            let side = goertzel(inside, hertz + beat.modulation, RATE);
                            assert!((side / tone.amplitude - 0.25).abs() < 0.05, "{what}: {side}");
                        }
                    }
                    let elsewhere = goertzel(inside, 2300.0, RATE);
                    assert!(elsewhere < 0.01, "{what}: {elsewhere}");
                } else {
                    assert!(rms(inside) > 0.02, "{what}");
                }
                begin = end;
                if begin >= 11_980 {
                    break;
                }
            }
        }
    }
}

#[test]
fn some_signals_that_people_know() {
    let cadence = |letters: &str, signal, frequencies: &[f32]| {
        let (samples, _) = render(Country::by_letters(letters).unwrap().tone(signal), 8000, 7000);
        let heard = heard(&samples, 8000, frequencies);
        let runs = heard.chunk_by(|a, b| a == b).map(|run| (run[0].clone(), run.len() * 10));
        runs.filter(|(_, ms)| *ms > 40).collect::<Vec<_>>()
    };
    let near = |runs: &[(Vec<f32>, usize)], expected: &[(&[f32], usize)]| {
        for ((sounds, ms), (wanted, length)) in runs.iter().zip(expected) {
            assert_eq!(sounds, wanted, "{runs:?}");
            assert!(ms.abs_diff(*length) <= 60, "{runs:?}");
        }
        assert!(runs.len() >= expected.len(), "{runs:?}");
    };
    near(
        &cadence("us", Signal::Ringback, &[440.0, 480.0, 620.0])[..2],
        &[(&[440.0, 480.0], 2000), (&[], 4000)],
    );
    near(&cadence("us", Signal::Busy, &[350.0, 480.0, 620.0])[..2], &[(&[480.0, 620.0], 500), (&[], 500)]);
    near(
        &cadence("uk", Signal::Ringback, &[400.0, 450.0])[..4],
        &[(&[400.0, 450.0], 400), (&[], 200), (&[400.0, 450.0], 400), (&[], 2000)],
    );
    near(&cadence("DE", Signal::Busy, &[425.0])[..2], &[(&[425.0], 480), (&[], 480)]);
    near(
        &cadence("fr", Signal::Information, &[950.0, 1400.0, 1800.0])[..4],
        &[(&[950.0], 330), (&[1400.0], 330), (&[1800.0], 330), (&[], 1000)],
    );
}

#[test]
fn countries_are_found_by_letters_and_by_code() {
    assert_eq!(Country::by_letters("UK").map(|country| country.code), Some("44"));
    assert_eq!(Country::by_code("1").map(|country| country.iso), Some("us"));
    assert!(Country::by_letters("").is_none() && Country::by_letters("xx").is_none());
    assert!(Country::by_code("").is_none() && Country::by_code("999").is_none());
    let letters: Vec<&str> = Country::all().iter().map(|country| country.iso).collect();
    assert!(letters.is_sorted() && letters.len() >= 40, "{letters:?}");
    assert!(letters.windows(2).all(|pair| pair[0] != pair[1]), "{letters:?}");
}
