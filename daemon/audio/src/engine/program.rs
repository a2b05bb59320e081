//! One program port: what somebody besides the sound card says to a stream's peer, and hears of the stream. It knows
//! rings and samples, not who is at their other ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::MAX_FRAME;
use crate::engine::device::inner_rate;
use crate::engine::mixer;
use crate::engine::port::{Converters, PortSet, SourceFrame, frame_len};
use crate::resample::Resampler;

/// Ticks without sound after which a source counts as silent: by then no filter remembers its last sample.
const FADE_TICKS: u32 = 10;

/// The tick's ends of a program port: rings of `f32` at `rate`.
pub struct ProgramPort {
    /// What is said to the peer, mono. Each tick takes 10 ms; where less is there, silence is heard.
    pub source: Option<rtrb::Consumer<f32>>,
    /// What is heard of the stream, 10 ms each tick; what finds no room is dropped.
    pub listener: Option<Listener>,
    /// Hertz, of both rings; 8000 to 48000.
    pub rate: u32,
}

/// Where what is heard goes.
pub struct Listener {
    /// Which side, and so how many channels.
    pub side: Side,
    /// Whole frames: one sample of each channel.
    pub ring: rtrb::Producer<f32>,
    /// Frames for which there was no room.
    pub dropped: Arc<AtomicU64>,
}

/// Which side of a stream is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the peer says.
    Far,
    /// What the peer is told.
    Near,
    /// The sum of both.
    Both,
    /// Near on the left, far on the right.
    Stereo,
}

impl Side {
    /// Samples in a frame.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Side::Stereo => 2,
            Side::Far | Side::Near | Side::Both => 1,
        }
    }

    const fn hears_near(self) -> bool {
        !matches!(self, Side::Far)
    }

    const fn hears_far(self) -> bool {
        !matches!(self, Side::Near)
    }
}

/// One program port.
pub(crate) struct Program {
    /// Slot of the stream that is listened to; `None` when it has closed.
    pub(crate) stream: Option<usize>,
    /// Rate inside the engine in hertz.
    rate: u32,
    source: Option<Source>,
    ear: Option<Ear>,
    pub(crate) converters: Converters,
}

impl Program {
    /// Control thread.
    pub(crate) fn new(port: ProgramPort, stream: usize) -> Self {
        let ProgramPort { source, listener, rate } = port;
        let inner = inner_rate(rate);
        let mut converters = Converters::default();
        if source.is_some() {
            converters.equip(inner);
        }
        Program {
            stream: Some(stream),
            rate: inner,
            source: source.map(|ring| Source::new(ring, rate)),
            ear: listener.map(|listener| Ear::new(listener, rate)),
            converters,
        }
    }

    /// Gives what was said for this tick.
    pub(crate) fn fill(&mut self, muted: bool, frame: &mut SourceFrame) {
        let Some(source) = &mut self.source else {
            frame.rate = 0;
            return;
        };
        let sounds = source.take(frame.begin(self.rate));
        if muted {
            frame.begin(self.rate).fill(0.0);
        }
        if !sounds {
            frame.rate = 0;
        }
    }

    /// What must be there at which rate for [`Program::listen`]. `told`: what the stream's peer is told.
    pub(crate) fn hears(&self, told: PortSet) -> Option<(u32, PortSet)> {
        let (ear, stream) = (self.ear.as_ref()?, self.stream?);
        let mut heard = if ear.side.hears_near() { told } else { PortSet::EMPTY };
        if ear.side.hears_far() {
            heard.insert(stream);
        }
        Some((self.rate, heard))
    }

    /// Hands over 10 ms of the stream.
    pub(crate) fn listen(&mut self, frames: &[SourceFrame], told: PortSet) {
        let Some(ear) = &mut self.ear else { return };
        let (mut near, mut far) = ([0.0; MAX_FRAME], [0.0; MAX_FRAME]);
        let length = frame_len(self.rate);
        let near = near.get_mut(..length).unwrap_or_default();
        let far = far.get_mut(..length).unwrap_or_default();
        if let Some(stream) = self.stream {
            if ear.side.hears_near() {
                mixer::mix(frames, told, self.rate, near);
            }
            if ear.side.hears_far() {
                let mut spoken = PortSet::EMPTY;
                spoken.insert(stream);
                mixer::mix(frames, spoken, self.rate, far);
            }
        }
        ear.hear(near, far);
    }
}

/// What is said.
struct Source {
    ring: rtrb::Consumer<f32>,
    converter: Option<Resampler>,
    input: Box<[f32]>,
    /// What was there at the last tick, and was too little for it.
    short: usize,
    silent_ticks: u32,
}

impl Source {
    fn new(ring: rtrb::Consumer<f32>, rate: u32) -> Self {
        let inner = inner_rate(rate);
        let converter = (rate != inner).then(|| Resampler::new(rate, inner, frame_len(inner)));
        let input = vec![0.0; 2 * frame_len(rate.max(inner)) + 64].into_boxed_slice();
        Source { ring, converter, input, short: 0, silent_ticks: FADE_TICKS }
    }

    /// Fills `out`; `false` when there has been silence for a while.
    fn take(&mut self, out: &mut [f32]) -> bool {
        let filling = self.ring.slots();
        let needed = match &self.converter {
            Some(converter) => converter.input_needed(out.len()).min(self.input.len()),
            None => out.len(),
        };
        // What is too short for a tick waits for the rest, but not for ever.
        let waits = filling < needed && filling != self.short;
        self.short = if filling < needed { filling } else { 0 };
        let held = if waits { 0 } else { filling.min(needed) };
        if held == 0 {
            self.silent_ticks = self.silent_ticks.saturating_add(1);
        } else {
            (self.silent_ticks, self.short) = (0, if held == filling { 0 } else { self.short });
        }
        match &mut self.converter {
            Some(converter) => {
                let input = self.input.get_mut(..held).unwrap_or_default();
                let _ = self.ring.pop_partial_slice(input);
                converter.process(input, out);
            }
            None => {
                out.fill(0.0);
                let _ = self.ring.pop_partial_slice(out.get_mut(..held).unwrap_or_default());
            }
        }
        self.silent_ticks < FADE_TICKS
    }
}

/// What is heard, on its way out.
struct Ear {
    side: Side,
    ring: rtrb::Producer<f32>,
    dropped: Arc<AtomicU64>,
    left: Outlet,
    right: Outlet,
    /// Frames of two channels.
    pairs: Box<[f32]>,
}

impl Ear {
    fn new(Listener { side, ring, dropped }: Listener, rate: u32) -> Self {
        let (left, right) = (Outlet::new(rate), Outlet::new(rate));
        let pairs = match side {
            Side::Stereo => vec![0.0; 2 * left.most()].into_boxed_slice(),
            Side::Far | Side::Near | Side::Both => Box::default(),
        };
        Ear { side, ring, dropped, left, right, pairs }
    }

    fn hear(&mut self, near: &mut [f32], far: &[f32]) {
        let frames = match self.side {
            Side::Far => self.left.convert(far),
            Side::Near => self.left.convert(near),
            Side::Both => {
                for (sum, far) in near.iter_mut().zip(far) {
                    *sum += far;
                }
                mixer::limit(near);
                self.left.convert(near)
            }
            Side::Stereo => {
                let (left, right) = (self.left.convert(near), self.right.convert(far));
                let count = left.len().min(right.len());
                for (pair, (left, right)) in self.pairs.chunks_exact_mut(2).zip(left.iter().zip(right)) {
                    pair.copy_from_slice(&[*left, *right]);
                }
                self.pairs.get(..2 * count).unwrap_or_default()
            }
        };
        if self.ring.push_entire_slice(frames).is_err() {
            let count = frames.len() / self.side.channels();
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// One channel's way from the engine's rate to the program's.
struct Outlet {
    converter: Option<Resampler>,
    /// Sound that the converter has not taken yet.
    queue: Box<[f32]>,
    queued: usize,
    output: Box<[f32]>,
}

impl Outlet {
    fn new(rate: u32) -> Self {
        let inner = inner_rate(rate);
        let most = frame_len(rate.max(inner)) + 2;
        Outlet {
            converter: (rate != inner).then(|| Resampler::new(inner, rate, most)),
            queue: vec![0.0; 4 * frame_len(inner)].into_boxed_slice(),
            queued: 0,
            output: vec![0.0; most].into_boxed_slice(),
        }
    }

    /// Most samples that one tick gives.
    fn most(&self) -> usize {
        self.output.len()
    }

    /// 10 ms at the program's rate, give or take a sample.
    fn convert(&mut self, samples: &[f32]) -> &[f32] {
        let Some(converter) = &mut self.converter else {
            let output = self.output.get_mut(..samples.len()).unwrap_or_default();
            output.copy_from_slice(samples.get(..output.len()).unwrap_or_default());
            return output;
        };
        for (to, from) in self.queue.iter_mut().skip(self.queued).zip(samples) {
            *to = *from;
        }
        self.queued = (self.queued + samples.len()).min(self.queue.len());
        // As much as the queue allows; what is left waits for the next tick.
        let mut count = self.output.len();
        while count > 0 && converter.input_needed(count) > self.queued {
            count -= 1;
        }
        let needed = converter.input_needed(count).min(self.queued);
        let output = self.output.get_mut(..count).unwrap_or_default();
        converter.process(self.queue.get(..needed).unwrap_or_default(), output);
        self.queue.copy_within(needed..self.queued, 0);
        self.queued -= needed;
        output
    }
}
