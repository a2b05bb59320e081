//! Tones: ring, ringback, busy, DTMF and test tones, synthesised without allocation. It does not know who hears them.

/// Up to two frequencies with a cadence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Hertz; 0.0 for none.
    pub frequencies: [f32; 2],
    /// Peak of each frequency, 0.0 to 1.0.
    pub amplitude: f32,
    /// On and off times in milliseconds, repeated; an off time of 0 ends a steady tone's pair.
    pub cadence_ms: [(u32, u32); 2],
    /// Total length in milliseconds; `None`: until stopped.
    pub length_ms: Option<u32>,
}

impl Tone {
    /// Ringback, 425 Hz, 1 s on, 4 s off (the commonest in ITU-T E.180 Supplement 2).
    pub const RINGBACK: Tone = Tone {
        frequencies: [425.0, 0.0],
        amplitude: 0.2,
        cadence_ms: [(1000, 4000), (0, 0)],
        length_ms: None,
    };
    /// Busy, 425 Hz, 0.5 s on, 0.5 s off.
    pub const BUSY: Tone = Tone {
        frequencies: [425.0, 0.0],
        amplitude: 0.2,
        cadence_ms: [(500, 500), (0, 0)],
        length_ms: Some(3000),
    };
    /// Ring for an inbound call, two beats.
    pub const RING: Tone = Tone {
        frequencies: [440.0, 480.0],
        amplitude: 0.3,
        cadence_ms: [(400, 200), (400, 2000)],
        length_ms: None,
    };
    /// Call waiting: a short beep every few seconds.
    pub const CALL_WAITING: Tone = Tone {
        frequencies: [425.0, 0.0],
        amplitude: 0.1,
        cadence_ms: [(200, 200), (200, 4000)],
        length_ms: None,
    };
    /// A steady test tone.
    pub const fn test(frequency: f32, length_ms: u32) -> Tone {
        Tone {
            frequencies: [frequency, 0.0],
            amplitude: 0.3,
            cadence_ms: [(1, 0), (0, 0)],
            length_ms: Some(length_ms),
        }
    }

    /// The two frequencies of a DTMF key (ITU-T Q.23), `0`–`9 * # A`–`D`; `None` for any other character.
    pub const fn dtmf(digit: char, length_ms: u32) -> Option<Tone> {
        let (row, column) = match digit {
            '1' => (697.0, 1209.0),
            '2' => (697.0, 1336.0),
            '3' => (697.0, 1477.0),
            'A' | 'a' => (697.0, 1633.0),
            '4' => (770.0, 1209.0),
            '5' => (770.0, 1336.0),
            '6' => (770.0, 1477.0),
            'B' | 'b' => (770.0, 1633.0),
            '7' => (852.0, 1209.0),
            '8' => (852.0, 1336.0),
            '9' => (852.0, 1477.0),
            'C' | 'c' => (852.0, 1633.0),
            '*' => (941.0, 1209.0),
            '0' => (941.0, 1336.0),
            '#' => (941.0, 1477.0),
            'D' | 'd' => (941.0, 1633.0),
            _ => return None,
        };
        Some(Tone {
            frequencies: [row, column],
            amplitude: 0.2,
            cadence_ms: [(1, 0), (0, 0)],
            length_ms: Some(length_ms),
        })
    }
}

/// Length of a rising or falling edge in milliseconds.
const RAMP_MS: u32 = 5;

/// A tone being played, at one sample rate.
pub struct Generator {
    oscillators: [Oscillator; 2],
    /// The cadence in samples; empty spans last for no time.
    spans: [Span; 2],
    /// Which span, and the place in it.
    span: usize,
    position: u64,
    /// Samples still to come; `None`: until stopped.
    remaining: Option<u64>,
    ramp: f32,
}

/// Sound, then silence.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// `u64::MAX`: never ends.
    on: u64,
    off: u64,
}

impl Generator {
    /// `rate` in hertz. A frequency that the rate cannot carry is left out.
    pub fn new(tone: Tone, rate: u32) -> Self {
        let samples = |ms: u32| u64::from(ms) * u64::from(rate) / 1000;
        let spans = tone.cadence_ms.map(|(on, off)| match (on, off) {
            (0, off) => Span { on: 0, off: samples(off) },
            (_, 0) => Span { on: u64::MAX, off: 0 },
            (on, off) => Span { on: samples(on), off: samples(off) },
        });
        Generator {
            oscillators: tone.frequencies.map(|frequency| Oscillator::new(frequency, tone.amplitude, rate)),
            spans,
            span: 0,
            position: 0,
            remaining: tone.length_ms.map(samples),
            ramp: samples(RAMP_MS).max(1) as f32,
        }
    }

    /// Adds the next samples of the tone to `samples`; `false` when it has ended. No clicks: edges are ramped over 5 ms.
    /// Real-time thread.
    pub fn mix_into(&mut self, samples: &mut [f32]) -> bool {
        let mut rest = samples;
        while !rest.is_empty() && self.remaining != Some(0) {
            let span = self.spans[self.span];
            let sounding = self.position < span.on;
            let until = if sounding { span.on } else { span.on.saturating_add(span.off) };
            let left = until.saturating_sub(self.position).min(self.remaining.unwrap_or(u64::MAX));
            let length = left.min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(length as usize);
            if sounding {
                self.sound(now, left);
            }
            rest = later;
            self.position += length;
            self.remaining = self.remaining.map(|remaining| remaining - length);
            if self.position >= span.on.saturating_add(span.off) && !self.next_span() {
                self.remaining = Some(0);
            }
        }
        self.remaining != Some(0)
    }

    /// Adds sound; `left` samples are to come until it stops.
    fn sound(&mut self, samples: &mut [f32], left: u64) {
        for (index, sample) in samples.iter_mut().enumerate() {
            let (since, until) = (self.position + index as u64, left - index as u64);
            let envelope = (since.min(until) as f32 / self.ramp).min(1.0);
            let [first, second] = &mut self.oscillators;
            *sample += envelope * (first.next() + second.next());
        }
    }

    /// On to the next span that lasts; `false` if there is none.
    fn next_span(&mut self) -> bool {
        self.position = 0;
        for _ in 0..self.spans.len() {
            self.span = (self.span + 1) % self.spans.len();
            let Span { on, off } = self.spans[self.span];
            if on > 0 || off > 0 {
                return true;
            }
        }
        false
    }
}

/// A sine by rotation of a unit vector: no table, no `sin` for each sample. In double precision its length and its pitch
/// stay right for days.
struct Oscillator {
    amplitude: f32,
    sine: f64,
    cosine: f64,
    step_sine: f64,
    step_cosine: f64,
}

impl Oscillator {
    fn new(frequency: f32, amplitude: f32, rate: u32) -> Self {
        let carried = frequency > 0.0 && f64::from(frequency) * 2.0 < f64::from(rate);
        let (amplitude, frequency) = if carried { (amplitude, f64::from(frequency)) } else { (0.0, 0.0) };
        let (step_sine, step_cosine) = (std::f64::consts::TAU * frequency / f64::from(rate.max(1))).sin_cos();
        Oscillator { amplitude, sine: 0.0, cosine: 1.0, step_sine, step_cosine }
    }

    fn next(&mut self) -> f32 {
        let sine = self.sine * self.step_cosine + self.cosine * self.step_sine;
        self.cosine = self.cosine * self.step_cosine - self.sine * self.step_sine;
        self.sine = sine;
        self.amplitude * sine as f32
    }
}
