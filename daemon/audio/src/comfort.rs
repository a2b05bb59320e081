//! Comfort noise (RFC 3389): what a pause sounds like, as a few octets, and the noise that these tell of. It knows samples
//! and payloads; when somebody is silent is decided by the sender, when there is a pause by the receiver.

/// Reflection coefficients that we send, and most that are heeded.
pub const ORDER: usize = 10;
/// Octets of the longest description that is written.
pub const LONGEST: usize = 1 + ORDER;
/// Share of a new frame in what is known of the noise.
const FORGETTING: f32 = 0.1;
/// Of the noise's level, for each sample: changes take about 10 ms at 8 kHz.
const SETTLING: f32 = 1.0 / 80.0;
/// White noise that is added to what is analysed, so that pure tones do not make a filter that rings.
const WHITENING: f32 = 1.001;
/// Largest magnitude of a coefficient: that of the largest code (RFC 3389 section 3.2).
const LARGEST: f32 = 127.0 * STEP;
/// Distance of two codes.
const STEP: f32 = 258.0 / 32_768.0;

/// Level and colour of a noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Description {
    /// In -dBov, 0 to 127; 127 is silence.
    pub level: u8,
    /// Reflection coefficients of the filter that gives white noise its colour, each between -1 and 1; those that are not
    /// told are 0.
    pub reflection: [f32; ORDER],
}

impl Description {
    /// Of a payload; `None` if it is empty.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (&level, coded) = payload.split_first()?;
        let mut reflection = [0.0; ORDER];
        for (coefficient, code) in reflection.iter_mut().zip(coded) {
            *coefficient = ((f32::from(*code) - 127.0) * STEP).clamp(-LARGEST, LARGEST);
        }
        // The first bit is to be zero, and to be passed over.
        Some(Description { level: level & 0x7f, reflection })
    }

    /// Writes it with `order` coefficients and answers how many octets that took; 0 where there is no room.
    pub fn write(&self, order: usize, payload: &mut [u8]) -> usize {
        let order = order.min(ORDER);
        let Some((level, coded)) = payload.get_mut(..=order).and_then(<[u8]>::split_first_mut) else {
            return 0;
        };
        *level = self.level.min(127);
        for (code, coefficient) in coded.iter_mut().zip(self.reflection) {
            *code = (coefficient / STEP + 127.0).round().clamp(0.0, 254.0) as u8;
        }
        1 + order
    }
}

/// Learns a noise from its sound.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// Mean products of samples so far apart, smoothed.
    correlation: [f32; ORDER + 1],
    begun: bool,
}

impl Analysis {
    /// Takes sound without talk in it.
    pub fn frame(&mut self, samples: &[f32]) {
        let mut correlation = [0.0; ORDER + 1];
        for (lag, sum) in correlation.iter_mut().enumerate() {
            let later = samples.iter().skip(lag);
            *sum = samples.iter().zip(later).map(|(a, b)| a * b).sum::<f32>() / samples.len().max(1) as f32;
        }
        if !correlation.iter().all(|value| value.is_finite()) {
            return;
        }
        let share = if std::mem::replace(&mut self.begun, true) { FORGETTING } else { 1.0 };
        for (known, new) in self.correlation.iter_mut().zip(correlation) {
            *known += (new - *known) * share;
        }
    }

    /// What is known; silence where nothing is.
    pub fn description(&self) -> Description {
        let power = self.correlation.first().copied().unwrap_or_default();
        let level = (-10.0 * power.max(1e-13).log10()).round().clamp(0.0, 127.0) as u8;
        Description { level, reflection: self.reflection() }
    }

    /// Levinson's recursion.
    fn reflection(&self) -> [f32; ORDER] {
        let mut reflection = [0.0_f32; ORDER];
        let mut predictor = [0.0_f32; ORDER];
        let mut error = self.correlation.first().copied().unwrap_or_default() * WHITENING;
        for order in 0..ORDER {
            if error <= 1e-13 {
                break;
            }
            let at = |lag: usize| self.correlation.get(lag).copied().unwrap_or_default();
            let known: f32 =
                predictor.iter().take(order).enumerate().map(|(place, a)| a * at(order - place)).sum();
            let coefficient = (-(at(order + 1) + known) / error).clamp(-LARGEST, LARGEST);
            let before = predictor;
            for (place, a) in predictor.iter_mut().take(order).enumerate() {
                *a += coefficient * before.get(order - 1 - place).copied().unwrap_or_default();
            }
            for table in [&mut predictor, &mut reflection] {
                if let Some(place) = table.get_mut(order) {
                    *place = coefficient;
                }
            }
            error *= 1.0 - coefficient * coefficient;
        }
        reflection
    }
}

/// Makes the noise that a description tells of.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u32,
    /// The sine and cosine of what each of the filter's stages turns by.
    stages: [(f32, f32); ORDER],
    /// The filter's memory: what went backwards through each of them.
    backwards: [f32; ORDER],
    /// Level of the white noise: as it is to be, and as it is.
    wanted: f32,
    amplitude: f32,
}

impl Default for Generator {
    fn default() -> Self {
        Generator {
            seed: 0x2545_f491,
            stages: [(0.0, 1.0); ORDER],
            backwards: [0.0; ORDER],
            wanted: 0.0,
            amplitude: 0.0,
        }
    }
}

impl Generator {
    /// From now on it sounds like this.
    pub fn describe(&mut self, description: Description) {
        for (stage, k) in self.stages.iter_mut().zip(description.reflection) {
            *stage = (k, (1.0 - k * k).max(0.0).sqrt());
        }
        let power =
            if description.level >= 127 { 0.0 } else { 10_f32.powf(-f32::from(description.level) / 10.0) };
        // Evenly distributed noise between -1 and 1 has a power of a third.
        self.wanted = (power * 3.0).sqrt();
    }

    /// Begins anew: the first noise comes at once, not slowly.
    pub fn restart(&mut self, description: Description) {
        self.backwards = [0.0; ORDER];
        self.describe(description);
        self.amplitude = self.wanted;
    }

    /// The next samples.
    pub fn fill(&mut self, samples: &mut [f32]) {
        for sample in samples {
            self.amplitude += (self.wanted - self.amplitude) * SETTLING;
            let white = self.amplitude * self.white();
            // A peer may well describe noise that is louder than loud.
            *sample = self.filtered(white).clamp(-1.0, 1.0);
        }
    }

    /// Evenly distributed between -1 and 1.
    fn white(&mut self) -> f32 {
        // Marsaglia's xorshift: no ear tells it from chance.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        self.seed as i32 as f32 / 2_147_483_648.0
    }

    /// An all-pole lattice in its normalised form: what comes out is as loud as what goes in, and nothing rings up when the
    /// coefficients change under way.
    fn filtered(&mut self, input: f32) -> f32 {
        let mut forwards = input;
        let mut above = None;
        for (stage, (sine, cosine)) in self.stages.iter().enumerate().rev() {
            let Some(backwards) = self.backwards.get(stage).copied() else { break };
            let back = sine * forwards + cosine * backwards;
            forwards = cosine * forwards - sine * backwards;
            // What this stage sends back is what the one above remembers.
            if let Some(place) = above.and_then(|above: usize| self.backwards.get_mut(above)) {
                *place = back;
            }
            above = Some(stage);
        }
        if let Some(place) = self.backwards.first_mut() {
            *place = forwards;
        }
        forwards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise with a pole: dark for a positive one, bright for a negative one.
    fn noise(pole: f32, amplitude: f32, count: usize) -> Vec<f32> {
        let mut white = Generator::default();
        let mut last = 0.0;
        let next = |_| {
            last = pole * last + amplitude * white.white();
            last
        };
        (0..count).map(next).collect()
    }

    fn learnt(samples: &[f32]) -> Description {
        let mut analysis = Analysis::default();
        samples.chunks_exact(80).for_each(|frame| analysis.frame(frame));
        analysis.description()
    }

    fn level(samples: &[f32]) -> f32 {
        10.0 * (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).log10()
    }

    #[test]
    fn noise_that_is_learnt_told_and_made_is_as_loud_and_of_the_same_colour() {
        for pole in [0.0, 0.9, -0.7] {
            for amplitude in [0.1, 0.001] {
                let heard = noise(pole, amplitude, 16_000);
                let mut payload = [0; LONGEST];
                assert_eq!(learnt(&heard).write(ORDER, &mut payload), LONGEST);
                let mut generator = Generator::default();
                generator.restart(Description::read(&payload).unwrap());
                let mut made = vec![0.0; 16_000];
                generator.fill(&mut made);
                let apart = level(&made) - level(&heard);
                assert!(apart.abs() < 1.5, "{pole} {amplitude}: {apart} dB apart");
                let (heard, made) = (learnt(&heard).reflection[0], learnt(&made).reflection[0]);
                assert!((heard - made).abs() < 0.1, "{pole}: {heard} and {made}");
                assert!((heard + pole).abs() < 0.15, "{pole}: {heard}");
            }
        }
    }

    #[test]
    fn a_level_alone_is_white_noise_of_that_level() {
        let mut generator = Generator::default();
        generator.restart(Description::read(&[60]).unwrap());
        let mut made = [0.0; 8000];
        generator.fill(&mut made);
        assert!((level(&made) + 60.0).abs() < 0.5, "{}", level(&made));
        assert!(learnt(&made).reflection[0].abs() < 0.1);
    }

    #[test]
    fn silence_is_told_as_silence_and_made_as_silence() {
        assert_eq!(learnt(&[0.0; 800]).level, 127);
        assert_eq!(learnt(&[]).level, 127);
        let mut generator = Generator::default();
        generator.restart(Description::read(&[127, 254, 0, 254]).unwrap());
        let mut made = [1.0; 800];
        generator.fill(&mut made);
        assert_eq!(made, [0.0; 800]);
    }

    #[test]
    fn codes_are_those_of_rfc_3389() {
        let description = Description::read(&[0x80 | 40, 127, 254, 0, 255]).unwrap();
        assert_eq!(description.level, 40);
        assert_eq!(description.reflection[..3], [0.0, LARGEST, -LARGEST]);
        assert_eq!(description.reflection[3], LARGEST);
        let mut payload = [9; 5];
        assert_eq!(description.write(3, &mut payload), 4);
        assert_eq!(payload, [40, 127, 254, 0, 9]);
        assert_eq!(description.write(3, &mut [0; 3]), 0);
        assert_eq!(Description::read(&[]), None);
    }

    #[test]
    fn any_description_makes_noise_within_full_scale() {
        let mut generator = Generator::default();
        let (mut payload, mut made) = ([0_u8; 40], [0.0; 800]);
        for round in 0..2000_u32 {
            for (place, octet) in payload.iter_mut().enumerate() {
                *octet = (round.wrapping_mul(2_654_435_761) >> (place % 24)) as u8;
            }
            generator.describe(Description::read(&payload[..1 + round as usize % 39]).unwrap());
            generator.fill(&mut made);
            assert!(made.iter().all(|sample| sample.abs() <= 1.0), "{payload:?}");
        }
    }

    #[test]
    fn what_is_no_number_does_not_stay() {
        let mut analysis = Analysis::default();
        analysis.frame(&[f32::NAN; 80]);
        analysis.frame(&[0.01; 80]);
        assert_eq!(analysis.description().level, 40);
    }
}
