//! The echo canceller of one microphone, around sonora's AEC3: bands, blocks, and a way past the suppressor where there is
//! no echo. It knows blocks of 10 ms; whether there is an echo is found out by `EchoPath`.

use sonora::high_pass_filter::HighPassFilter;
use sonora::three_band_filter_bank::{NUM_BANDS, SPLIT_BAND_SIZE, ThreeBandFilterBank};
use sonora_aec3::block::Block;
use sonora_aec3::block_processor::BlockProcessor;
use sonora_aec3::common::BLOCK_SIZE;
use sonora_aec3::config::EchoCanceller3Config;

use super::EchoFigures;
use super::echo_path::EchoPath;
use crate::resample::Resampler;
use crate::{BUS_RATE, MAX_FRAME};

/// Of the band in which the echo is modelled, in hertz; telephone speech is brought to it.
const BAND_RATE: u32 = 16_000;
/// The library's samples are those of 16 bit integers.
const FULL_SCALE: f32 = 32_768.0;
/// Samples of each band that the output is ahead by, so that whole blocks always give a whole frame: frames and blocks
/// have 32 samples as their greatest common divisor.
const LEAD: usize = BLOCK_SIZE - 32;
/// How much of the way between cancelled and untouched sound is gone in one block: 40 ms for all of it.
const FADE: f32 = 0.1;

type Bands = [[f32; SPLIT_BAND_SIZE]; NUM_BANDS];

/// Takes a loudspeaker's echo out of what a microphone hears.
pub(super) struct Canceller {
    microphone: Splitter,
    back: Option<Resampler>,
    reference: Splitter,
    high_pass: HighPassFilter,
    blocks: BlockProcessor,
    path: EchoPath,
    /// Samples of frames that are no whole block yet.
    heard: Queue,
    played: Queue,
    done: Queue,
    /// The block before, as it came from the microphone: the suppressor is one block behind.
    before: Block,
    /// How much of the untouched sound is heard, 0 to 1.
    untouched: f32,
    saturated: bool,
}

impl Canceller {
    /// `rates` of microphone and loudspeaker, in hertz.
    pub(super) fn new((microphone, reference): (u32, u32)) -> Self {
        let (rate, bands) = if microphone == BUS_RATE { (BUS_RATE, NUM_BANDS) } else { (BAND_RATE, 1) };
        let mut done = Queue::new(bands);
        done.push(&[[0.0; SPLIT_BAND_SIZE]; NUM_BANDS], LEAD);
        Canceller {
            microphone: Splitter::new(microphone, rate),
            back: (microphone != rate).then(|| Resampler::new(rate, microphone, frame(microphone))),
            reference: Splitter::new(reference, rate),
            high_pass: HighPassFilter::new(BAND_RATE as i32, 1),
            blocks: BlockProcessor::new(&EchoCanceller3Config::default(), rate as usize, 1, 1),
            path: EchoPath::default(),
            heard: Queue::new(bands),
            played: Queue::new(bands),
            done,
            before: Block::new(bands, 1),
            untouched: 0.0,
            saturated: false,
        }
    }

    /// What the loudspeaker played in this tick.
    pub(super) fn listen(&mut self, reference: &[f32]) {
        let bands = self.reference.split(reference);
        self.played.push(&bands, SPLIT_BAND_SIZE);
        let mut block = Block::new(self.played.bands(), 1);
        while self.played.take_block(&mut block) {
            self.path.hear_reference(block.view(0, 0));
            self.blocks.buffer_render(&block);
        }
    }

    /// Processes 10 ms of the microphone: from `heard` to `cleaned`, of equal length.
    pub(super) fn process(&mut self, heard: &[f32], cleaned: &mut [f32]) {
        self.saturated = heard.iter().any(|sample| sample.abs() >= 0.999);
        let mut bands = self.microphone.split(heard);
        let mut lowest = [bands[0].to_vec()];
        self.high_pass.process_channels(&mut lowest);
        bands[0].copy_from_slice(&lowest[0]);
        self.heard.push(&bands, SPLIT_BAND_SIZE);
        let mut block = Block::new(self.heard.bands(), 1);
        let mut linear = Block::new(1, 1);
        while self.heard.take_block(&mut block) {
            let mut output = block.clone();
            self.blocks.process_capture(false, self.saturated, Some(&mut linear), &mut output);
            self.path.hear(block.view(0, 0), linear.view(0, 0));
            self.lead_past(&mut output);
            std::mem::swap(&mut self.before, &mut block);
            self.done.push_block(&output);
        }
        let bands = self.done.take_frame();
        self.microphone.join(&bands, self.back.as_mut(), cleaned);
    }

    /// Mixes the untouched sound into the suppressor's `output` as far as there is no echo.
    fn lead_past(&mut self, output: &mut Block) {
        let target = if self.path.exists() { 0.0 } else { 1.0 };
        let step = (target - self.untouched).clamp(-FADE, FADE);
        for band in 0..output.num_bands() {
            let untouched = self.before.view(band, 0);
            for (place, (to, from)) in output.view_mut(band, 0).iter_mut().zip(untouched).enumerate() {
                let share = self.untouched + step * place as f32 / BLOCK_SIZE as f32;
                *to += (from - *to) * share;
            }
        }
        self.untouched += step;
    }

    /// What has been found out so far.
    pub(super) fn figures(&self) -> EchoFigures {
        if !self.path.exists() {
            return EchoFigures::default();
        }
        let found = self.blocks.get_metrics();
        EchoFigures {
            delay_ms: u32::try_from(found.delay_ms).ok(),
            enhancement_db: Some(found.echo_return_loss_enhancement as f32),
        }
    }
}

/// Samples of 10 ms.
const fn frame(rate: u32) -> usize {
    (rate / 100) as usize
}

/// From sound at some rate to bands of 16 kHz, and back.
struct Splitter {
    convert: Option<Resampler>,
    bank: Option<ThreeBandFilterBank>,
}

impl Splitter {
    /// From `from` hertz to all bands of `rate`.
    fn new(from: u32, rate: u32) -> Self {
        Splitter {
            convert: (from != rate).then(|| Resampler::new(from, rate, frame(rate))),
            bank: (rate == BUS_RATE).then(ThreeBandFilterBank::new),
        }
    }

    fn split(&mut self, sound: &[f32]) -> Bands {
        let mut whole = [0.0; MAX_FRAME];
        let len = if self.bank.is_some() { MAX_FRAME } else { SPLIT_BAND_SIZE };
        if let Some(whole) = whole.get_mut(..len) {
            match &mut self.convert {
                Some(convert) => convert.process(sound, whole),
                None => whole.iter_mut().zip(sound).for_each(|(to, from)| *to = *from),
            }
        }
        whole.iter_mut().for_each(|sample| *sample *= FULL_SCALE);
        let mut bands = [[0.0; SPLIT_BAND_SIZE]; NUM_BANDS];
        match &mut self.bank {
            Some(bank) => bank.analysis(&whole, &mut bands),
            None => bands[0].iter_mut().zip(whole).for_each(|(to, from)| *to = from),
        }
        bands
    }

    fn join(&mut self, bands: &Bands, back: Option<&mut Resampler>, sound: &mut [f32]) {
        let mut whole = [0.0; MAX_FRAME];
        match &mut self.bank {
            Some(bank) => bank.synthesis(bands, &mut whole),
            None => whole.iter_mut().zip(bands[0]).for_each(|(to, from)| *to = from),
        }
        whole.iter_mut().for_each(|sample| *sample = (*sample / FULL_SCALE).clamp(-1.0, 1.0));
        match back {
            Some(back) => back.process(whole.get(..SPLIT_BAND_SIZE).unwrap_or_default(), sound),
            None => sound.iter_mut().zip(whole).for_each(|(to, from)| *to = from),
        }
    }
}

/// Samples on their way between frames and blocks, the bands apart.
struct Queue {
    bands: Vec<Vec<f32>>,
}

impl Queue {
    fn new(bands: usize) -> Self {
        Queue { bands: vec![Vec::with_capacity(2 * SPLIT_BAND_SIZE); bands] }
    }

    fn bands(&self) -> usize {
        self.bands.len()
    }

    /// The first `count` samples of each band.
    fn push(&mut self, bands: &Bands, count: usize) {
        for (queue, band) in self.bands.iter_mut().zip(bands) {
            queue.extend(band.iter().take(count));
        }
    }

    fn push_block(&mut self, block: &Block) {
        for (band, queue) in self.bands.iter_mut().enumerate() {
            queue.extend_from_slice(block.view(band, 0));
        }
    }

    /// Fills `block`, if there is enough for it.
    fn take_block(&mut self, block: &mut Block) -> bool {
        let enough = self.bands.iter().all(|queue| queue.len() >= BLOCK_SIZE);
        if enough {
            for (band, queue) in self.bands.iter_mut().enumerate() {
                for (to, from) in block.view_mut(band, 0).iter_mut().zip(queue.drain(..BLOCK_SIZE)) {
                    *to = from;
                }
            }
        }
        enough
    }

    /// A frame; the lead makes sure that there is one.
    fn take_frame(&mut self) -> Bands {
        let mut bands = [[0.0; SPLIT_BAND_SIZE]; NUM_BANDS];
        for (band, queue) in bands.iter_mut().zip(&mut self.bands) {
            let there = queue.len().min(SPLIT_BAND_SIZE);
            for (to, from) in band.iter_mut().zip(queue.drain(..there)) {
                *to = from;
            }
        }
        bands
    }
}
