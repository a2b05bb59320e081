//! Ports of the mixer as the tick sees them: slots, sets of slots, and the sound each gives in this tick.

use crate::engine::device::Device;
use crate::engine::stream::Stream;
use crate::plan::PortId;
use crate::resample::Resampler;
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

/// One port: what it hears, what it is.
pub(crate) struct Port<S> {
    pub(crate) id: PortId,
    /// Slots whose sound this port hears.
    pub(crate) sources: PortSet,
    pub(crate) muted: bool,
    pub(crate) tone: Option<Box<PlayedTone>>,
    pub(crate) kind: Kind<S>,
}

/// What a port is.
pub(crate) enum Kind<S> {
    Stream(Box<Stream<S>>),
    Device(Box<Device>),
}

impl<S> Port<S> {
    /// Rate at which this port hears, in hertz; `None` where nothing can be heard now.
    pub(crate) fn sink_rate(&self) -> Option<u32> {
        match &self.kind {
            Kind::Stream(stream) => stream.sink_rate(),
            Kind::Device(device) => device.sink_rate(),
        }
    }

    /// What brings this port's sound to the other rate.
    pub(crate) fn converters(&mut self) -> &mut Converters {
        match &mut self.kind {
            Kind::Stream(stream) => &mut stream.converters,
            Kind::Device(device) => &mut device.converters,
        }
    }
}

/// A tone on its way into what a port hears.
pub(crate) struct PlayedTone {
    tone: Tone,
    rate: u32,
    generator: Generator,
    over: bool,
}

impl PlayedTone {
    pub(crate) fn new(tone: Tone, rate: u32) -> Self {
        PlayedTone { tone, rate, generator: Generator::new(tone, rate), over: false }
    }

    /// Adds 10 ms to `frame`, which is at `rate`; `false` when the tone has ended.
    pub(crate) fn mix_into(&mut self, frame: &mut [f32], rate: u32) -> bool {
        if rate != self.rate {
            // The port's codec has changed: the tone begins again at the new rate.
            *self = PlayedTone::new(self.tone, rate);
        }
        self.over = !self.generator.mix_into(frame);
        !self.over
    }

    /// It has ended; it stays where it is until the control side takes it away.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

/// The rates at which ports hear.
pub(crate) const RATES: [u32; 2] = [8_000, BUS_RATE];

/// What brings a port's sound from the one rate to the other.
#[derive(Default)]
pub(crate) struct Converters {
    /// From 8 kHz to 48 kHz.
    pub(crate) lift: Option<Resampler>,
    /// From 48 kHz to 8 kHz.
    pub(crate) lower: Option<Resampler>,
}

impl Converters {
    /// Control thread. Makes what sound at `rate` needs and `self` has not.
    pub(crate) fn equip(&mut self, rate: u32) {
        if rate == BUS_RATE {
            self.lower.get_or_insert_with(|| Resampler::new(BUS_RATE, 8_000, frame_len(8_000)));
        } else {
            self.lift.get_or_insert_with(|| Resampler::new(rate, BUS_RATE, MAX_FRAME));
        }
    }

    /// Takes over what `new` has.
    pub(crate) fn replace(&mut self, new: &mut Converters) {
        for (held, new) in [(&mut self.lift, &mut new.lift), (&mut self.lower, &mut new.lower)] {
            if new.is_some() {
                std::mem::swap(held, new);
            }
        }
    }
}

/// The sound that a port gives in this tick.
pub(crate) struct SourceFrame {
    /// Hertz, one of [`RATES`]; 0: it gives none.
    pub(crate) rate: u32,
    own: [f32; MAX_FRAME],
    /// The same at the other rate, where somebody wants it so.
    converted: [f32; MAX_FRAME],
}

impl SourceFrame {
    pub(crate) const SILENT: SourceFrame =
        SourceFrame { rate: 0, own: [0.0; MAX_FRAME], converted: [0.0; MAX_FRAME] };

    /// Sets the rate and gives the place for 10 ms at it.
    pub(crate) fn begin(&mut self, rate: u32) -> &mut [f32] {
        self.rate = rate;
        self.own.get_mut(..frame_len(rate)).unwrap_or_default()
    }

    /// 10 ms at the port's own rate.
    pub(crate) fn own(&self) -> &[f32] {
        self.own.get(..frame_len(self.rate)).unwrap_or_default()
    }

    /// 10 ms at `rate`; right only after [`SourceFrame::convert`] in this tick where that is not the port's own.
    pub(crate) fn at(&self, rate: u32) -> &[f32] {
        let samples = if rate == self.rate { &self.own } else { &self.converted };
        samples.get(..frame_len(rate)).unwrap_or_default()
    }

    /// Makes the same sound at the other rate.
    pub(crate) fn convert(&mut self, converters: &mut Converters) {
        let (converter, rate) = match self.rate {
            0 => return,
            BUS_RATE => (&mut converters.lower, 8_000),
            _ => (&mut converters.lift, BUS_RATE),
        };
        if let Some(converter) = converter {
            let own = self.own.get(..frame_len(self.rate)).unwrap_or_default();
            converter.process(own, self.converted.get_mut(..frame_len(rate)).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_its_slots_in_order() {
        let mut set = PortSet::EMPTY;
        for slot in [1023, 0, 64, 63, 5, MAX_PORTS] {
            set.insert(slot);
        }
        set.remove(5);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 1023]);
        assert!(!set.is_empty());
        assert!(PortSet::EMPTY.is_empty());
    }
}
