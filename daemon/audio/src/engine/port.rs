//! Ports of the mixer as the tick sees them: slots, sets of slots, and the sound each gives in this tick.

use std::sync::Arc;

use crate::engine::device::Device;
use crate::engine::program::Program;
use crate::engine::stream::Stream;
use crate::plan::PortId;
use crate::resample::Resampler;
use crate::sums::is_silent;
use crate::tone::{Generator, Tone};
use crate::{BUS_RATE, MAX_FRAME};

/// Ports that an engine can have at most: what a [`PortSet`] holds.
pub(crate) const MAX_PORTS: usize = 1024;

/// Samples of one tick at `rate`.
pub(crate) const fn frame_len(rate: u32) -> usize {
    (rate / 100) as usize
}

/// A set of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortSet([u64; MAX_PORTS / 64]);

impl PortSet {
    pub(crate) const EMPTY: PortSet = PortSet([0; MAX_PORTS / 64]);

    pub(crate) fn insert(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    pub(crate) fn contains(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Equal sets have equal ones; unequal ones nearly always unequal ones.
    pub(crate) fn hash(&self) -> u64 {
        let step = |hash: u64, word: &u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0.iter().fold(0, step)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes in all that `other` has.
    pub(crate) fn add(&mut self, other: PortSet) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// Slots in rising order.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(place, mut word)| {
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                Some(place * 64 + bit)
            })
        })
    }
}

/// One port: what it is, what it hears. It lies in memory in this order: what every tick touches is together.
#[repr(C)]
pub(crate) struct Port<S> {
    pub(crate) kind: Kind<S>,
    pub(crate) id: PortId,
    pub(crate) muted: bool,
    pub(crate) tone: Option<Box<PlayedTone>>,
    /// Slots whose sound this port hears.
    pub(crate) sources: PortSet,
}

/// What a port is.
pub(crate) enum Kind<S> {
    Stream(Box<Stream<S>>),
    Device(Box<Device>),
    Program(Box<Program>),
}

impl<S> Port<S> {
    /// Rate at which this port hears, in hertz; `None` where nothing can be heard now.
    pub(crate) fn sink_rate(&self) -> Option<u32> {
        match &self.kind {
            Kind::Stream(stream) => stream.sink_rate(),
            Kind::Device(device) => device.sink_rate(),
            // It hears a stream, not what is connected to it.
            Kind::Program(_) => None,
        }
    }

    /// Whether a peer is heard by it.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Stream(_))
    }

    /// Whether nothing of this port leaves the engine in the tick that comes, and nothing that is not marked with its time
    /// comes into it.
    pub(crate) fn can_wait(&self) -> bool {
        match &self.kind {
            Kind::Stream(stream) => !stream.is_due(),
            Kind::Device(device) => device.is_silent(),
            Kind::Program(_) => false,
        }
    }

    /// Whether it has an encoder that may try more or less.
    pub(crate) fn encodes_by_effort(&self) -> bool {
        matches!(&self.kind, Kind::Stream(stream) if stream.encodes_by_effort())
    }

    /// What brings this port's sound to other rates.
    pub(crate) fn converters(&mut self) -> &mut Converters {
        match &mut self.kind {
            Kind::Stream(stream) => &mut stream.converters,
            Kind::Device(device) => &mut device.converters,
            Kind::Program(program) => &mut program.converters,
        }
    }
}

/// A tone, or sound in its place, on its way into what a port hears.
pub(crate) struct PlayedTone {
    sound: PlayedSound,
    over: bool,
}

#[allow(clippy::large_enum_variant, reason = "PlayedTone lies in a box of its own")]
enum PlayedSound {
    Tone { tone: Tone, rate: u32, generator: Generator },
    Clip { clip: Arc<Clip>, position: usize },
}

/// Sound in the place of a tone, again and again: the same at each of the engine's rates.
pub struct Clip {
    /// By the place of the rate in [`RATES`].
    sound: [Box<[f32]>; RATES.len()],
}

impl Clip {
    /// Control thread. `samples` at 48 kHz, mono.
    #[must_use]
    pub fn new(samples: &[f32]) -> Self {
        let sound = RATES.map(|rate| {
            if rate == BUS_RATE {
                return samples.into();
            }
            let mut made = vec![0.0; samples.len() * rate as usize / BUS_RATE as usize];
            Resampler::new(BUS_RATE, rate, frame_len(rate)).process(samples, &mut made);
            made.into_boxed_slice()
        });
        Clip { sound }
    }

    /// At another rate than before it goes on where it was, give or take.
    fn mix_into(&self, position: &mut usize, frame: &mut [f32], rate: u32) {
        let sound =
            place(rate).and_then(|place| self.sound.get(place)).map(AsRef::as_ref).unwrap_or_default();
        for sample in frame {
            *position = if *position < sound.len() { *position } else { 0 };
            *sample += sound.get(*position).copied().unwrap_or_default();
            *position += 1;
        }
    }
}

impl PlayedTone {
    pub(crate) fn new(tone: Tone, rate: u32) -> Self {
        PlayedTone {
            sound: PlayedSound::Tone { tone, rate, generator: Generator::new(tone, rate) },
            over: false,
        }
    }

    pub(crate) fn clip(clip: Arc<Clip>) -> Self {
        PlayedTone { sound: PlayedSound::Clip { clip, position: 0 }, over: false }
    }

    /// Adds 10 ms to `frame`, which is at `rate`; `false` when the tone has ended.
    pub(crate) fn mix_into(&mut self, frame: &mut [f32], rate: u32) -> bool {
        self.over = match &mut self.sound {
            PlayedSound::Tone { tone, rate: before, generator } => {
                if rate != *before {
                    // The port's codec has changed: the tone begins again at the new rate.
                    (*before, *generator) = (rate, Generator::new(*tone, rate));
                }
                !generator.mix_into(frame)
            }
            PlayedSound::Clip { clip, position } => {
                clip.mix_into(position, frame, rate);
                false
            }
        };
        !self.over
    }

    /// It has ended; it stays where it is until the control side takes it away.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

/// The rates at which ports give and hear sound, in hertz.
pub(crate) const RATES: [u32; 3] = [8_000, 16_000, BUS_RATE];

/// Place of a rate in [`RATES`].
fn place(rate: u32) -> Option<usize> {
    RATES.iter().position(|known| *known == rate)
}

/// What brings a port's sound from the rates that it may have to the others.
#[derive(Default)]
pub(crate) struct Converters {
    /// By the places of both rates.
    between: [[Option<Resampler>; RATES.len()]; RATES.len()],
}

impl Converters {
    /// Control thread. Makes what sound at `from` hertz needs and `self` has not.
    pub(crate) fn equip(&mut self, from: u32) {
        let Some(row) = place(from).and_then(|place| self.between.get_mut(place)) else { return };
        for (converter, to) in row.iter_mut().zip(RATES).filter(|(_, to)| *to != from) {
            converter.get_or_insert_with(|| Resampler::new(from, to, frame_len(to)));
        }
    }

    /// Takes over what `new` has.
    pub(crate) fn replace(&mut self, new: &mut Converters) {
        for (held, new) in self.between.iter_mut().flatten().zip(new.between.iter_mut().flatten()) {
            if new.is_some() {
                std::mem::swap(held, new);
            }
        }
    }

    fn between(&mut self, from: u32, to: u32) -> Option<&mut Resampler> {
        self.between.get_mut(place(from)?)?.get_mut(place(to)?)?.as_mut()
    }
}

/// The sound that a port gives in this tick.
#[repr(C)]
pub(crate) struct SourceFrame {
    /// Hertz, one of [`RATES`]; 0: it gives none.
    pub(crate) rate: u32,
    /// Ticks for which it has been digital silence; nobody needs to add that up.
    quiet: u32,
    before: Before,
    /// By the place of the rate: the last sample, where there was sound at it in this tick.
    ends: [Option<f32>; RATES.len()],
    /// By the place of the rate; those that are not the port's own only where somebody wants them.
    sound: [[f32; MAX_FRAME]; RATES.len()],
}

/// What a port's sound was in the tick before, so that another rate begins where it ended.
#[derive(Clone, Copy)]
struct Before {
    /// Hertz; 0: none yet.
    rate: u32,
    sounding: bool,
    ends: [Option<f32>; RATES.len()],
    /// The port's own rate is another one than in the tick before.
    changed: bool,
}

impl SourceFrame {
    pub(crate) const SILENT: SourceFrame = SourceFrame {
        rate: 0,
        quiet: 0,
        sound: [[0.0; MAX_FRAME]; RATES.len()],
        before: Before { rate: 0, sounding: false, ends: [None; RATES.len()], changed: false },
        ends: [None; RATES.len()],
    };

    /// Sets the rate and gives the place for 10 ms at it.
    pub(crate) fn begin(&mut self, rate: u32) -> &mut [f32] {
        self.rate = rate;
        let sound = place(rate).and_then(|place| self.sound.get_mut(place));
        sound.and_then(|sound| sound.get_mut(..frame_len(rate))).unwrap_or_default()
    }

    /// Finds out whether there is sound in it; called when it has been filled.
    pub(crate) fn listen(&mut self) {
        self.before.sounding = self.ends.iter().any(Option::is_some);
        self.before.ends = std::mem::take(&mut self.ends);
        self.before.changed = self.rate != 0 && self.before.rate != 0 && self.rate != self.before.rate;
        if self.rate != 0 {
            self.before.rate = self.rate;
        }
        let silent = is_silent(self.own());
        self.quiet = if silent { self.quiet.saturating_add(1) } else { 0 };
        if let Some(own) = place(self.rate) {
            self.finish(own);
        }
    }

    /// Notes where the sound at a rate ends, and lets it begin where it ended before the port's own rate has changed.
    fn finish(&mut self, place: usize) {
        let len = RATES.get(place).map_or(0, |rate| frame_len(*rate));
        let Some(sound) = self.sound.get_mut(place).and_then(|sound| sound.get_mut(..len)) else { return };
        if self.before.changed
            && let Some(end) = self.before.ends.get(place).copied().flatten()
        {
            lead_from(end, sound);
        }
        let end = sound.last().copied().filter(|_| self.quiet < 2);
        if let Some(place) = self.ends.get_mut(place) {
            *place = end;
        }
    }

    /// Whether it adds to what others hear. For a tick after its sound, what converters hold of it still does.
    pub(crate) fn is_sounding(&self) -> bool {
        self.rate != 0 && self.quiet < 2
    }

    /// 10 ms at the port's own rate.
    pub(crate) fn own(&self) -> &[f32] {
        self.at(self.rate)
    }

    /// 10 ms at `rate`; right only after [`SourceFrame::convert`] in this tick where that is not the port's own.
    pub(crate) fn at(&self, rate: u32) -> &[f32] {
        let sound = place(rate).and_then(|place| self.sound.get(place));
        sound.and_then(|sound| sound.get(..frame_len(rate))).unwrap_or_default()
    }

    /// Makes the same sound at the rate `to`.
    pub(crate) fn convert(&mut self, to: u32, converters: &mut Converters) {
        let Some(converter) = converters.between(self.rate, to) else { return };
        let (Some(own), Some(other)) = (place(self.rate), place(to)) else { return };
        let heard_before = self.before.ends.get(other).is_some_and(Option::is_some);
        let fresh = self.before.changed || !heard_before;
        if let Ok([own, other]) = self.sound.get_disjoint_mut([own, other]) {
            let own = own.get(..frame_len(self.rate)).unwrap_or_default();
            if fresh {
                // What it holds is from another time. Behind silence, silence was before; in the midst of sound, what comes.
                let sounding = self.before.sounding;
                converter.forget(own.first().copied().filter(|_| sounding).unwrap_or_default());
            }
            converter.process(own, other.get_mut(..frame_len(to)).unwrap_or_default());
        }
        self.finish(other);
    }
}

/// Takes the step out of the beginning of `sound`, which follows a sample of the value `end`.
fn lead_from(end: f32, sound: &mut [f32]) {
    let step = end - sound.first().copied().unwrap_or_default();
    let length = sound.len() / 2;
    let share = 1.0 / length.max(1) as f32;
    for (place, sample) in sound.iter_mut().take(length).enumerate() {
        *sample += step * (1.0 - place as f32 * share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard at 48 kHz of a tone of 300 Hz whose rate changes every 50 ms.
    fn tone_at(rates: &[u32]) -> Vec<f32> {
        let (mut frame, mut converters, mut heard) = (SourceFrame::SILENT, Converters::default(), Vec::new());
        RATES.iter().for_each(|rate| converters.equip(*rate));
        let mut time = 0.0;
        for rate in rates {
            for _ in 0..5 {
                for sample in frame.begin(*rate) {
                    *sample = 0.3 * (std::f32::consts::TAU * 300.0 * time).cos();
                    time += 1.0 / *rate as f32;
                }
                frame.listen();
                for other in RATES.into_iter().filter(|other| other != rate) {
                    frame.convert(other, &mut converters);
                }
                heard.extend_from_slice(frame.at(BUS_RATE));
            }
        }
        heard
    }

    #[test]
    fn a_change_of_the_rate_makes_no_step() {
        let natural = 0.3 * std::f32::consts::TAU * 300.0 / BUS_RATE as f32;
        for rates in [[48_000, 8_000, 48_000, 8_000], [16_000, 48_000, 8_000, 16_000]] {
            let heard = tone_at(&rates);
            let steps = heard.get(480..).unwrap_or_default().windows(2).map(|pair| (pair[1] - pair[0]).abs());
            let largest = steps.fold(0.0, f32::max);
            assert!(largest < 3.0 * natural, "{rates:?}: {largest} against {natural}");
        }
    }

    #[test]
    fn a_set_gives_its_slots_in_order() {
        let mut set = PortSet::EMPTY;
        for slot in [1023, 0, 64, 63, 5, MAX_PORTS] {
            set.insert(slot);
        }
        set.remove(5);
        assert!(set.contains(63) && !set.contains(5) && !set.contains(MAX_PORTS));
        assert_eq!(set.len(), 4);
        assert_ne!(set.hash(), PortSet::EMPTY.hash());
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 1023]);
        assert!(!set.is_empty());
        assert!(PortSet::EMPTY.is_empty());
    }
}
