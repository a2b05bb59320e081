//! What the tests of this package share: a seeded random source and measures of sound.
#![allow(dead_code)] // Each test file uses its own part.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0.0 to 1.0.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

pub(crate) fn sine(frequency: f64, amplitude: f64, rate: u32, count: usize) -> Vec<f32> {
    let step = std::f64::consts::TAU * frequency / f64::from(rate);
    (0..count).map(|index| (amplitude * (step * index as f64).sin()) as f32).collect()
}

pub(crate) fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum()
}

pub(crate) fn rms(samples: &[f32]) -> f64 {
    (energy(samples) / samples.len().max(1) as f64).sqrt()
}

/// Signal to noise in dB, `heard` against `sent`.
pub(crate) fn snr(sent: &[f32], heard: &[f32]) -> f64 {
    let noise: f64 = sent.iter().zip(heard).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (energy(sent) / noise.max(1e-30)).log10()
}

/// What is left when the best-fitting sine of `frequency` is taken out: (amplitude of the sine, residue's rms).
pub(crate) fn fit_sine(samples: &[f32], frequency: f64, rate: u32) -> (f64, f64) {
    let step = std::f64::consts::TAU * frequency / f64::from(rate);
    let (mut ss, mut sc, mut cc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let (s, c) = (step * index as f64).sin_cos();
        (ss, sc, cc) = (ss + s * s, sc + s * c, cc + c * c);
        (xs, xc) = (xs + f64::from(*sample) * s, xc + f64::from(*sample) * c);
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / determinant, (xc * ss - xs * sc) / determinant);
    let residue: f64 = samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let (s, c) = (step * index as f64).sin_cos();
            (f64::from(*sample) - a * s - b * c).powi(2)
        })
        .sum();
    (a.hypot(b), (residue / samples.len() as f64).sqrt())
}

/// Something like speech: gliding voice through changing vowels, hiss and pauses between, peak 0.5.
pub(crate) fn speech(rate: u32, seconds: f64, seed: u64) -> Vec<f32> {
    const VOWELS: [[f64; 3]; 5] = [
        [730.0, 1090.0, 2440.0],
        [270.0, 2290.0, 3010.0],
        [570.0, 840.0, 2410.0],
        [530.0, 1840.0, 2480.0],
        [300.0, 870.0, 2240.0],
    ];
    let mut random = Random::new(seed);
    let rate = f64::from(rate);
    let count = (seconds * rate) as usize;
    let mut samples = Vec::with_capacity(count);
    while samples.len() < count {
        let kind = random.unit();
        let length = ((0.1 + 0.2 * random.unit()) * rate) as usize;
        if kind < 0.12 {
            samples.extend(std::iter::repeat_n(0.0, length));
            continue;
        }
        let voiced = kind < 0.85;
        let vowel = VOWELS[(random.next() % 5) as usize];
        let formants = if voiced { vowel } else { [2500.0, 3200.0, 3600.0] };
        let (from, to) = (90.0 + 130.0 * random.unit(), 90.0 + 130.0 * random.unit());
        let mut state = [[0.0_f64; 2]; 3];
        let mut phase = 0.0;
        for index in 0..length {
            let place = index as f64 / length as f64;
            phase += (from + (to - from) * place) / rate;
            let noise = random.unit() - 0.5;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase -= pulse;
            let mut value = if voiced { pulse + 0.01 * noise } else { 0.1 * noise };
            for (formant, state) in formants.iter().zip(&mut state) {
                let radius = (-std::f64::consts::PI * 90.0 / rate).exp();
                let cosine = 2.0 * radius * (std::f64::consts::TAU * formant / rate).cos();
                let next = (1.0 - radius) * 4.0 * value + cosine * state[0] - radius * radius * state[1];
                *state = [next, state[0]];
                value = next;
            }
            let edge = (index.min(length - index) as f64 / (0.02 * rate)).min(1.0);
            samples.push((value * edge) as f32);
        }
    }
    samples.truncate(count);
    let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    samples.iter_mut().for_each(|sample| *sample *= 0.5 / peak);
    samples
}

/// Segmental SNR in dB: the mean over 20 ms segments that are not silent, each held to -10..=35.
pub(crate) fn segmental_snr(sent: &[f32], heard: &[f32], rate: u32) -> f64 {
    let length = rate as usize / 50;
    let segments: Vec<f64> = sent
        .chunks_exact(length)
        .zip(heard.chunks_exact(length))
        .filter(|(sent, _)| rms(sent) > 1e-3)
        .map(|(sent, heard)| snr(sent, heard).clamp(-10.0, 35.0))
        .collect();
    segments.iter().sum::<f64>() / segments.len().max(1) as f64
}

/// Mean distance in dB between the short-time spectra of two sounds, where the first is not silent: what an ear hears of
/// a concealed gap, whatever its phases.
pub(crate) fn spectral_distance(sent: &[f32], heard: &[f32], rate: u32) -> f64 {
    let length = rate as usize / 50;
    let bands = |samples: &[f32]| -> Vec<f64> {
        (1..18)
            .map(|band| {
                let step = std::f64::consts::TAU * (200.0 * f64::from(band)) / f64::from(rate);
                let (mut real, mut imaginary) = (0.0, 0.0);
                for (index, sample) in samples.iter().enumerate() {
                    let window = (std::f64::consts::PI * (index as f64 + 0.5) / length as f64).sin().powi(2);
                    let (s, c) = (step * index as f64).sin_cos();
                    real += window * f64::from(*sample) * c;
                    imaginary += window * f64::from(*sample) * s;
                }
                20.0 * (real.hypot(imaginary) / length as f64).max(1e-5).log10()
            })
            .collect()
    };
    let (mut sum, mut count) = (0.0, 0);
    for (sent, heard) in sent.chunks_exact(length).zip(heard.chunks_exact(length)) {
        if rms(sent) > 1e-2 {
            sum += bands(sent).iter().zip(bands(heard)).map(|(a, b)| (a - b).abs()).sum::<f64>() / 17.0;
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}
