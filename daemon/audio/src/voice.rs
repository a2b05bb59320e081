//! Voice processing: the loudspeaker's echo, noise and an uneven level taken out of what a microphone hears. It knows
//! blocks of 10 ms and nothing of threads, rings or devices. It allocates, so it never runs in the tick.

mod canceller;
mod echo_path;

use sonora::config::{
    AdaptiveDigital, GainController2, MaxProcessingRate, NoiseSuppression, NoiseSuppressionLevel, Pipeline,
};
use sonora::{AudioProcessing, Config, StreamConfig};

use crate::MAX_FRAME;
use canceller::Canceller;

/// What is done to a microphone's sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// The echo of the loudspeaker is cancelled.
    pub echo: bool,
    /// Steady noise is suppressed.
    pub noise: bool,
    /// Quiet voices are raised and loud ones limited.
    pub gain: bool,
}

impl Stages {
    /// Nothing: the sound passes as it is.
    pub const NONE: Stages = Stages { echo: false, noise: false, gain: false };

    /// Whether anything is done.
    #[must_use]
    pub fn any(self) -> bool {
        self != Stages::NONE
    }

    pub(crate) fn to_bits(self) -> u8 {
        u8::from(self.echo) | u8::from(self.noise) << 1 | u8::from(self.gain) << 2
    }

    pub(crate) fn from_bits(bits: u8) -> Self {
        Stages { echo: bits & 1 != 0, noise: bits & 2 != 0, gain: bits & 4 != 0 }
    }
}

/// 10 ms of a microphone, and what the loudspeaker played before them.
pub struct Block {
    /// Rises by one from block to block.
    pub number: u64,
    /// What is to be done to it.
    pub stages: Stages,
    /// Of the microphone's samples, in hertz: 8000, 16000 or 48000.
    pub rate: u32,
    /// Of the loudspeaker's samples; 0 without any.
    pub reference_rate: u32,
    /// `rate / 100` samples; processed in place.
    pub microphone: [f32; MAX_FRAME],
    /// `reference_rate / 100` samples.
    pub reference: [f32; MAX_FRAME],
}

/// What the echo canceller has found out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EchoFigures {
    /// From the loudspeaker's sound to its echo in the microphone's, in milliseconds; `None` as long as none is found.
    pub delay_ms: Option<u32>,
    /// How much quieter the canceller makes the echo, by its own estimate, in dB.
    pub enhancement_db: Option<f32>,
}

/// Processes the blocks of one microphone, in order. Each stage stands alone, so that switching one leaves the others
/// what they have learnt; one that is off costs nothing and adds no delay.
#[derive(Default)]
pub struct VoiceProcessor {
    /// Rates of microphone and loudspeaker that the stages were made for.
    rates: (u32, u32),
    echo: Option<Stage<Canceller>>,
    noise: Option<Stage<AudioProcessing>>,
    gain: Option<Stage<AudioProcessing>>,
}

impl VoiceProcessor {
    /// Knows no room yet.
    #[must_use]
    pub fn new() -> Self {
        VoiceProcessor::default()
    }

    /// Processes a block in place.
    pub fn process(&mut self, block: &mut Block) {
        let Block { stages, rate, reference_rate, .. } = *block;
        if rate != self.rates.0 {
            *self = VoiceProcessor { rates: (rate, reference_rate), ..VoiceProcessor::default() };
        }
        let has_reference = reference_rate != 0;
        if has_reference && reference_rate != self.rates.1 {
            (self.rates.1, self.echo) = (reference_rate, None);
        }
        let (Some(microphone), Some(reference)) =
            (block.microphone.get_mut(..samples(rate)), block.reference.get(..samples(reference_rate)))
        else {
            return;
        };
        let rates = self.rates;
        if stages.echo && has_reference {
            let canceller = self.echo.get_or_insert_with(|| Stage::new(Canceller::new(rates)));
            canceller.processing.listen(reference);
        }
        Stage::pass(&mut self.echo, stages.echo && has_reference, || Canceller::new(rates), microphone);
        Stage::pass(&mut self.noise, stages.noise, || suppressor(rate), microphone);
        Stage::pass(&mut self.gain, stages.gain, || leveller(rate), microphone);
    }

    /// What the echo canceller has found out so far.
    #[must_use]
    pub fn echo_figures(&self) -> EchoFigures {
        self.echo.as_ref().map_or_else(EchoFigures::default, |stage| stage.processing.figures())
    }
}

/// Blocks until a new stage is heard: filters give silence as long as they are being filled.
const FILLING: u32 = 3;

/// What a stage does with 10 ms.
trait Processing {
    /// From `heard` to `processed`, of equal length.
    fn process(&mut self, heard: &[f32], processed: &mut [f32]);
}

impl Processing for AudioProcessing {
    fn process(&mut self, heard: &[f32], processed: &mut [f32]) {
        // It refuses rates alone, and then the sound passes as it is.
        let _ = self.process_capture_f32(&[heard], &mut [processed]);
    }
}

impl Processing for Canceller {
    fn process(&mut self, heard: &[f32], processed: &mut [f32]) {
        self.process(heard, processed);
    }
}

/// One thing that is done.
struct Stage<P> {
    processing: P,
    /// Blocks that it has had.
    age: u32,
}

impl<P: Processing> Stage<P> {
    fn new(processing: P) -> Self {
        Stage { processing, age: 0 }
    }

    /// Processes `samples` by the stage, if it is wanted. A new one is faded in, one that is no longer wanted out.
    fn pass(stage: &mut Option<Stage<P>>, wanted: bool, make: impl FnOnce() -> P, samples: &mut [f32]) {
        if !wanted && stage.is_none() {
            return;
        }
        let Stage { processing, age } = stage.get_or_insert_with(|| Stage::new(make()));
        let mut before = [0.0; MAX_FRAME];
        let Some(before) = before.get_mut(..samples.len()) else { return };
        before.copy_from_slice(samples);
        processing.process(before, samples);
        let was_heard = *age > FILLING;
        let heard = wanted && *age >= FILLING;
        *age = age.saturating_add(1);
        match (was_heard, heard) {
            (true, true) => {}
            (false, false) => samples.copy_from_slice(before),
            (false, true) => cross_fade(before, samples),
            (true, false) => {
                let mut after = [0.0; MAX_FRAME];
                if let Some(after) = after.get_mut(..samples.len()) {
                    after.copy_from_slice(samples);
                    samples.copy_from_slice(before);
                    cross_fade(after, samples);
                }
            }
        }
        if !wanted {
            *stage = None;
        }
    }
}

/// Leads from one sound to another within them: `to` becomes what is heard.
pub(crate) fn cross_fade(from: &[f32], to: &mut [f32]) {
    let step = 1.0 / to.len().max(1) as f32;
    for (place, (to, from)) in to.iter_mut().zip(from).enumerate() {
        *to = from + (*to - from) * (place as f32 * step);
    }
}

/// Of 10 ms.
const fn samples(rate: u32) -> usize {
    (rate / 100) as usize
}

/// Full band: the library's own 32 kHz would take the top off Opus.
fn processing(rates: (u32, u32), config: Config) -> AudioProcessing {
    let pipeline =
        Pipeline { maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz, ..Pipeline::default() };
    AudioProcessing::builder()
        .config(Config { pipeline, ..config })
        .capture_config(StreamConfig::new(rates.0, 1))
        .render_config(StreamConfig::new(rates.1, 1))
        .build()
}

fn suppressor(rate: u32) -> AudioProcessing {
    let suppression = NoiseSuppression { level: NoiseSuppressionLevel::High, ..NoiseSuppression::default() };
    processing((rate, rate), Config { noise_suppression: Some(suppression), ..Config::default() })
}

fn leveller(rate: u32) -> AudioProcessing {
    // The library's 15 dB at the beginning and 50 dB at most make a voice of a quiet room's noise.
    let adaptive = AdaptiveDigital { initial_gain_db: 6.0, max_gain_db: 30.0, ..AdaptiveDigital::default() };
    let control = GainController2 { adaptive_digital: Some(adaptive), ..GainController2::default() };
    processing((rate, rate), Config { gain_controller2: Some(control), ..Config::default() })
}
