//! Speech-like sound, and how to find it again.

use super::Seeded;

/// Voiced sound with a wandering pitch, formant-like overtones, syllables and pauses between them: unlike itself at any
/// lag, which a correlation needs.
pub fn speech(rate: u32, seconds: f32, seed: u64) -> Vec<f32> {
    let mut random = Seeded(seed);
    let samples = (rate as f32 * seconds) as usize;
    let mut sound = Vec::with_capacity(samples);
    let mut phases = [0.0_f32; 12];
    let (mut pitch, mut weights, mut level, mut goal) = (120.0_f32, [0.0_f32; 12], 0.0_f32, 0.0_f32);
    let syllable = (rate as usize) * 17 / 100;
    for n in 0..samples {
        if n % syllable == 0 {
            pitch = 90.0 + (random.draw() % 120) as f32;
            weights = std::array::from_fn(|_| (random.draw() % 100) as f32 / 100.0);
            goal = if random.chance(85) { 0.4 } else { 0.0 };
        }
        pitch += ((random.draw() % 200) as f32 - 99.5) / 400.0;
        level += (goal - level) * 40.0 / rate as f32;
        let mut sample = 0.0;
        for (overtone, (phase, weight)) in phases.iter_mut().zip(weights).enumerate() {
            *phase = (*phase + pitch * (overtone + 1) as f32 / rate as f32).fract();
            sample += weight / (1.0 + overtone as f32 / 3.0) * (*phase * std::f32::consts::TAU).sin();
        }
        sound.push(sample * level / 3.0);
    }
    sound
}

/// Best normalised correlation of `part` within `heard`, and where it is (in samples).
pub fn find(part: &[f32], heard: &[f32], max_lag: usize) -> (f32, usize) {
    let energy: f32 = part.iter().map(|sample| sample * sample).sum();
    let mut best = (-1.0, 0);
    for lag in 0..max_lag.min(heard.len().saturating_sub(part.len())) {
        let window = &heard[lag..lag + part.len()];
        let product: f32 = part.iter().zip(window).map(|(a, b)| a * b).sum();
        let other: f32 = window.iter().map(|sample| sample * sample).sum();
        let correlation = product / (energy * other).sqrt().max(1e-9);
        if correlation > best.0 {
            best = (correlation, lag);
        }
    }
    best
}

/// Asserts that `heard` holds all of `sent`, delayed by one and the same time, and answers that delay in samples.
pub fn assert_same(sent: &[f32], heard: &[f32], rate: u32, least: f32) -> usize {
    let second = rate as usize;
    let part = &sent[second / 2..second];
    let (_, at) = find(part, &heard[second / 2..], second / 2);
    for (n, window) in sent.chunks_exact(second / 2).enumerate() {
        let start = n * second / 2 + at;
        let Some(same) = heard.get(start..start + window.len()) else { break };
        if rms(window) < 0.01 {
            continue;
        }
        let (correlation, _) = find(window, &[same, &[0.0]].concat(), 1);
        assert!(correlation > least, "half second {n}: correlation {correlation} at a delay of {at} samples");
    }
    at
}

pub fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// How strong `frequency` is in `samples`: amplitude of that sine.
pub fn amplitude(samples: &[f32], frequency: f32, rate: u32) -> f32 {
    let step = std::f32::consts::TAU * frequency / rate as f32;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = step * n as f32;
        real += sample * angle.cos();
        imaginary += sample * angle.sin();
    }
    2.0 * (real * real + imaginary * imaginary).sqrt() / samples.len() as f32
}
