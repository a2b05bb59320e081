//! Rate conversion measured with sines, and drift control in virtual time.

use crate::support::{Random, fit_sine, rms, sine};
use voipd_audio::resample::{DriftControl, Resampler};

const RATES: [u32; 4] = [8000, 16_000, 44_100, 48_000];

/// Converts in frames of 10 ms of output.
fn convert(resampler: &mut Resampler, input: &[f32], to: u32) -> Vec<f32> {
    let frame = to as usize / 100;
    let (mut output, mut taken) = (Vec::new(), 0);
    loop {
        let needed = resampler.input_needed(frame);
        if taken + needed > input.len() {
            return output;
        }
        let start = output.len();
        output.resize(start + frame, 0.0);
        resampler.process(&input[taken..taken + needed], &mut output[start..]);
        taken += needed;
    }
}

fn gain_at(from: u32, to: u32, frequency: f64, drift: f32) -> (f64, f64) {
    let mut resampler = Resampler::new(from, to, to as usize / 100);
    resampler.set_drift_ppm(drift);
    let output = convert(&mut resampler, &sine(frequency, 0.5, from, from as usize * 2), to);
    let heard = frequency * (1.0 + f64::from(drift) * 1e-6);
    let (amplitude, residue) = fit_sine(&output[to as usize / 2..to as usize * 3 / 2], heard, to);
    (20.0 * (amplitude / 0.5).log10(), 20.0 * (residue / (amplitude / 2_f64.sqrt())).log10())
}

#[test]
fn what_both_rates_carry_passes_flat_and_clean() {
    for (from, to) in RATES.iter().flat_map(|from| RATES.map(|to| (*from, to))) {
        let band = f64::from(from.min(to)) / 2.0;
        for drift in [0.0, 137.0, -500.0] {
            for part in [0.025, 0.25, 0.5, 0.75, 0.85] {
                let (gain, distortion) = gain_at(from, to, band * part, drift);
                assert!(gain.abs() < 0.1, "{from} to {to}, {part} of the band, {drift} ppm: {gain:.3} dB");
                assert!(
                    distortion < -60.0,
                    "{from} to {to}, {part} of the band, {drift} ppm: {distortion:.1} dB"
                );
            }
        }
    }
}

#[test]
fn what_the_lower_rate_cannot_carry_is_stopped() {
    for (from, to) in [(48_000, 8000), (48_000, 16_000), (16_000, 8000), (44_100, 8000), (44_100, 16_000)] {
        let band = f64::from(to) / 2.0;
        let mut frequency = band * 1.15;
        while frequency < f64::from(from) / 2.0 {
            let mut resampler = Resampler::new(from, to, 480);
            let output = convert(&mut resampler, &sine(frequency, 0.5, from, from as usize), to);
            let level = 20.0 * (rms(&output[to as usize / 4..]) / (0.5 / 2_f64.sqrt())).log10();
            assert!(level < -60.0, "{from} to {to} at {frequency} Hz: {level:.1} dB");
            frequency += band * 0.0873;
        }
    }
}

#[test]
fn the_delay_is_what_it_says_and_short() {
    for (from, to) in RATES.iter().flat_map(|from| RATES.map(|to| (*from, to))) {
        let mut resampler = Resampler::new(from, to, 480);
        // The middle of a smooth bump finds itself again `delay` later.
        let width = f64::from(from.min(to)) / 8.0;
        let bump = |index: usize| (-((index as f64 / f64::from(from) - 0.1) * width).powi(2)).exp() as f32;
        let input: Vec<f32> = (0..from as usize / 2).map(bump).collect();
        let output = convert(&mut resampler, &input, to);
        let weigh = |samples: &[f32]| {
            let total: f64 = samples.iter().map(|sample| f64::from(*sample)).sum();
            samples.iter().enumerate().map(|(index, sample)| index as f64 * f64::from(*sample)).sum::<f64>()
                / total
        };
        let delay = weigh(&output) - 0.1 * f64::from(to);
        assert!(
            (delay - resampler.delay() as f64).abs() <= 1.0,
            "{from} to {to}: {delay}, {}",
            resampler.delay()
        );
        assert!(delay <= 0.002 * f64::from(to), "{from} to {to}: {delay} samples");
    }
}

#[test]
fn the_input_asked_for_is_the_ratio_and_pieces_do_not_matter() {
    let input = sine(440.0, 0.5, 44_100, 44_100 * 4);
    let mut whole = Resampler::new(44_100, 48_000, 480);
    let mut pieces = Resampler::new(44_100, 48_000, 480);
    let (mut from_whole, mut from_pieces) = (vec![0.0; 144_000], vec![0.0; 144_000]);
    let needed = whole.input_needed(144_000);
    assert!(needed.abs_diff(132_300) <= 1, "{needed}");
    whole.process(&input[..needed], &mut from_whole);
    let (mut random, mut taken, mut given) = (Random::new(1), 0, 0);
    while given < 144_000 {
        let length = (random.next() as usize % 1000).min(144_000 - given);
        let needed = pieces.input_needed(length);
        pieces.process(&input[taken..taken + needed], &mut from_pieces[given..given + length]);
        (taken, given) = (taken + needed, given + length);
    }
    assert_eq!(taken, needed);
    assert!(from_whole == from_pieces);
}

#[test]
fn a_bent_ratio_takes_that_much_more_input_for_ever() {
    for ppm in [-2000.0, -37.5, 0.0, 300.0, 5000.0_f32] {
        let mut resampler = Resampler::new(48_000, 48_000, 480);
        resampler.set_drift_ppm(ppm);
        let mut output = [0.0; 480];
        let mut taken = 0;
        for _ in 0..100_000 {
            let needed = resampler.input_needed(480);
            resampler.process(&[0.1; 500][..needed], &mut output);
            taken += needed;
        }
        let got = (taken as f64 / 48e6 - 1.0) * 1e6;
        assert!((got - f64::from(ppm.clamp(-2000.0, 2000.0))).abs() < 0.1, "{ppm}: {got}");
        assert!((output[479] - 0.1).abs() < 1e-5);
    }
}

#[test]
fn too_little_input_is_filled_with_silence_and_no_drift_is_a_number() {
    let mut resampler = Resampler::new(8000, 48_000, 480);
    let mut output = [1.0; 480];
    resampler.set_drift_ppm(f32::NAN);
    for _ in 0..10 {
        resampler.process(&[], &mut output);
    }
    assert!(output.iter().all(|sample| *sample == 0.0));
    assert_eq!(resampler.input_needed(480), 80);
}

/// What ten minutes of a drifting device did to its ring.
#[derive(Debug)]
struct Kept {
    /// Filling after each read, from the third minute on.
    least: usize,
    most: usize,
    learnt_ppm: f64,
    strongest_ppm: f32,
}

/// A device that delivers whole periods on a clock of its own into a ring that holds `start` samples, and a tick that
/// reads 10 ms of it, corrected.
fn ten_minutes(ppm: f64, period: usize, target: usize, start: usize, wander: bool) -> Kept {
    let mut control = DriftControl::new(48_000, target);
    let (mut filling, mut due, mut owed) = (start, 0.0_f64, 0.0_f64);
    let mut kept = Kept { least: usize::MAX, most: 0, learnt_ppm: 0.0, strongest_ppm: 0.0 };
    let mut random = Random::new(7);
    for tick in 0..60_000 {
        let late = if wander { 2e-3 * random.unit() } else { 0.0 };
        while due <= f64::from(tick) * 0.01 + late {
            filling += period;
            due += period as f64 / (48_000.0 * (1.0 + ppm * 1e-6));
        }
        let correction = control.update(filling);
        owed += 480.0 * (1.0 + f64::from(correction) * 1e-6);
        let needed = owed as usize;
        owed -= needed as f64;
        assert!(needed <= filling, "{ppm} ppm, periods of {period}: a slip at tick {tick}");
        filling -= needed;
        if tick > 12_000 {
            (kept.least, kept.most) = (kept.least.min(filling), kept.most.max(filling));
            kept.strongest_ppm = kept.strongest_ppm.max(correction.abs());
        }
    }
    kept.learnt_ppm = f64::from(control.drift_ppm());
    kept
}

#[test]
fn ten_minutes_of_drift_keep_the_ring_around_its_target_without_a_slip() {
    // Periods of whole ticks draw a slow sawtooth of one period on the filling, which no look at the filling alone can
    // tell from drift; all others average out.
    for (period, wander, doubt) in
        [(480, true, 80.0), (256, false, 20.0), (1024, true, 20.0), (1200, false, 40.0)]
    {
        for ppm in [-300.0, -20.0, 0.0, 100.0, 300.0] {
            let target = period.max(480) * 2;
            let kept = ten_minutes(ppm, period, target, target, wander);
            println!("{period} at {ppm} ppm: {kept:?}");
            let swing = period.max(480) + 480;
            assert!(
                kept.least + swing >= target && kept.most <= target + swing,
                "{period}, {ppm} ppm: {kept:?}"
            );
            assert!((kept.learnt_ppm - ppm).abs() < doubt, "{period}, {ppm} ppm: {kept:?}");
            assert!(kept.strongest_ppm <= 500.0);
        }
    }
}

#[test]
fn a_ring_that_starts_wrong_finds_its_target() {
    for start in [600, 3000] {
        let kept = ten_minutes(50.0, 256, 960, start, false);
        assert!(kept.least >= 300 && kept.most <= 700, "{kept:?}");
        assert!((kept.learnt_ppm - 50.0).abs() < 20.0, "{kept:?}");
    }
}
