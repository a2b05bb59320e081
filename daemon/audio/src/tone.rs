//! Tones: ring, DTMF, test tones and the signals of telephone networks, synthesised without allocation. It does not know
//! who hears them.

pub mod national;

/// Most beats of a tone.
pub const MOST_BEATS: usize = 8;

/// A part of a tone: sound or silence for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beat {
    /// Hertz; 0.0 for none.
    pub frequencies: [f32; 2],
    /// Hertz by which their amplitude swings between nothing and all; 0.0: it does not.
    pub modulation: f32,
    /// Milliseconds; 0: the beat is left out, [`Beat::FOREVER`]: it does not end.
    pub ms: u32,
}

impl Beat {
    /// The length of what does not end.
    pub const FOREVER: u32 = u32::MAX;
    /// A beat that is none.
    pub const NONE: Beat = Beat::silence(0);

    /// One frequency.
    pub const fn tone(hertz: f32, ms: u32) -> Self {
        Beat { frequencies: [hertz, 0.0], modulation: 0.0, ms }
    }

    /// Two frequencies.
    pub const fn pair(first: f32, second: f32, ms: u32) -> Self {
        Beat { frequencies: [first, second], modulation: 0.0, ms }
    }

    /// One frequency whose amplitude swings.
    pub const fn modulated(hertz: f32, modulation: f32, ms: u32) -> Self {
        Beat { frequencies: [hertz, 0.0], modulation, ms }
    }

    /// None.
    pub const fn silence(ms: u32) -> Self {
        Beat { frequencies: [0.0; 2], modulation: 0.0, ms }
    }
}

/// What a tone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Somebody calls.
    Ring,
    /// Number, please.
    Dial,
    /// It rings at the other end.
    Ringback,
    /// The one called is busy.
    Busy,
    /// The network is.
    Congestion,
    /// Somebody else calls.
    CallWaiting,
    /// The number leads nowhere: an announcement would say why.
    Information,
    /// Nothing of that.
    Other,
}

/// Beats one after the other, again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// What it tells.
    pub signal: Signal,
    /// Those of no length are left out.
    pub beats: [Beat; MOST_BEATS],
    /// Peak of each frequency, 0.0 to 1.0.
    pub amplitude: f32,
    /// Total length in milliseconds; `None`: until stopped.
    pub length_ms: Option<u32>,
}

impl Tone {
    /// Ring for an inbound call, two beats.
    pub const RING: Tone = Tone {
        amplitude: 0.3,
        ..Tone::of(
            Signal::Ring,
            &[
                Beat::pair(440.0, 480.0, 400),
                Beat::silence(200),
                Beat::pair(440.0, 480.0, 400),
                Beat::silence(2000),
            ],
        )
    };

    /// The first [`MOST_BEATS`] of these beats, until stopped.
    pub const fn of(signal: Signal, beats: &[Beat]) -> Tone {
        let mut tone = Tone { signal, beats: [Beat::NONE; MOST_BEATS], amplitude: 0.2, length_ms: None };
        let mut place = 0;
        while place < beats.len() && place < MOST_BEATS {
            tone.beats[place] = beats[place];
            place += 1;
        }
        tone
    }

    /// A steady test tone.
    pub const fn test(frequency: f32, length_ms: u32) -> Tone {
        let steady = Tone::of(Signal::Other, &[Beat::tone(frequency, Beat::FOREVER)]);
        Tone { amplitude: 0.3, length_ms: Some(length_ms), ..steady }
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
        let steady = Tone::of(Signal::Other, &[Beat::pair(row, column, Beat::FOREVER)]);
        Some(Tone { length_ms: Some(length_ms), ..steady })
    }
}

/// Length of a rising or falling edge in milliseconds.
const RAMP_MS: u32 = 5;

/// A tone being played, at one sample rate.
pub struct Generator {
    spans: [Span; MOST_BEATS],
    /// Which span, and the place in it.
    span: usize,
    position: u64,
    /// Samples still to come; `None`: until stopped.
    remaining: Option<u64>,
    ramp: f32,
}

/// A beat in samples.
struct Span {
    oscillators: [Oscillator; 2],
    /// `None`: the amplitude does not swing.
    modulator: Option<Oscillator>,
    sounds: bool,
    /// `u64::MAX`: never ends.
    length: u64,
}

impl Generator {
    /// `rate` in hertz. A frequency that the rate cannot carry is left out.
    pub fn new(tone: Tone, rate: u32) -> Self {
        let samples = |ms: u32| u64::from(ms) * u64::from(rate) / 1000;
        let spans = tone.beats.map(|beat| Span {
            oscillators: beat.frequencies.map(|frequency| Oscillator::new(frequency, tone.amplitude, rate)),
            modulator: (beat.modulation > 0.0).then(|| Oscillator::new(beat.modulation, 0.5, rate)),
            sounds: beat.frequencies.iter().any(|frequency| *frequency > 0.0),
            length: if beat.ms == Beat::FOREVER { u64::MAX } else { samples(beat.ms) },
        });
        let mut generator = Generator {
            spans,
            span: 0,
            position: 0,
            remaining: tone.length_ms.map(samples),
            ramp: samples(RAMP_MS).max(1) as f32,
        };
        if generator.spans.iter().all(|span| span.length == 0) {
            generator.remaining = Some(0);
        }
        generator
    }

    /// Adds the next samples of the tone to `samples`; `false` when it has ended. No clicks: edges are ramped over 5 ms.
    /// Real-time thread.
    pub fn mix_into(&mut self, samples: &mut [f32]) -> bool {
        let mut rest = samples;
        while !rest.is_empty() && self.remaining != Some(0) {
            let Some(span) = self.spans.get_mut(self.span) else { return false };
            let left = span.length.saturating_sub(self.position).min(self.remaining.unwrap_or(u64::MAX));
            let length = left.min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(length as usize);
            if span.sounds {
                span.sound(now, self.position, left, self.ramp);
            }
            rest = later;
            self.position += length;
            self.remaining = self.remaining.map(|remaining| remaining - length);
            if self.position >= span.length {
                (self.span, self.position) = ((self.span + 1) % MOST_BEATS, 0);
            }
        }
        self.remaining != Some(0)
    }
}

impl Span {
    /// Adds sound; `position` samples of it have sounded, `left` are to come until it stops.
    fn sound(&mut self, samples: &mut [f32], position: u64, left: u64, ramp: f32) {
        let [first, second] = &mut self.oscillators;
        for (index, sample) in samples.iter_mut().enumerate() {
            let (since, until) = (position + index as u64, left - index as u64);
            let swing = self.modulator.as_mut().map_or(1.0, |modulator| 0.5 + modulator.next());
            let envelope = swing * (since.min(until) as f32 / ramp).min(1.0);
            *sample += envelope * (first.next() + second.next());
        }
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
