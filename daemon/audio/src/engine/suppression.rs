//! Silence suppression of a stream that is sent: when nobody talks, now and then a description of the noise (RFC 3389) and
//! nothing between. It knows sound and payloads, no packets.

use crate::activity::ActivityDetector;
use crate::comfort::{Analysis, Description, ORDER};
use crate::engine::port::frame_len;
use crate::plan::Codec;

/// Pauses up to so long belong to the talk, in milliseconds.
const HANGOVER_MS: u32 = 200;
/// A description is repeated so often at most where the noise changes, and so often in any case, in milliseconds.
const SOONEST_MS: u32 = 200;
const LATEST_MS: u32 = 1000;
/// By which the level must have changed, in dB.
const CHANGE: u8 = 3;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Somebody talks: it is encoded and sent.
    Talk,
    /// A description of so many octets goes out in its place.
    Describe(usize),
    /// Nothing does.
    Silence,
}

/// Decides packet by packet.
pub(crate) struct Suppressor {
    codec: Codec,
    detector: ActivityDetector,
    analysis: Analysis,
    /// The level that was told last in this pause, and how long ago in milliseconds.
    told: Option<(u8, u32)>,
}

impl Suppressor {
    pub(crate) fn new(codec: Codec) -> Self {
        Suppressor {
            codec,
            detector: ActivityDetector::new(codec.sample_rate(), HANGOVER_MS),
            analysis: Analysis::default(),
            told: None,
        }
    }

    /// Takes a packet's samples. `room`: where a description is written.
    pub(crate) fn packet(&mut self, samples: &[f32], codec: Codec, room: &mut [u8]) -> Turn {
        if codec != self.codec {
            *self = Suppressor::new(codec);
        }
        let mut talking = false;
        let mut passed = 0;
        for frame in samples.chunks_exact(frame_len(codec.sample_rate()).max(1)) {
            let activity = self.detector.frame(frame);
            // What may be a word's beginning is sent: only the frames after it tell.
            talking |= activity.talking || activity.sounding;
            if !activity.sounding {
                self.analysis.frame(frame);
            }
            passed += 10;
        }
        if talking {
            self.told = None;
            return Turn::Talk;
        }
        let description = self.analysis.description();
        if let Some((level, since)) = &mut self.told {
            *since += passed;
            let changed = level.abs_diff(description.level) >= CHANGE;
            if *since < SOONEST_MS || (*since < LATEST_MS && !changed) {
                return Turn::Silence;
            }
        }
        self.describe(description, room)
    }

    /// The next packet of silence tells of the noise again.
    pub(crate) fn forget(&mut self) {
        self.told = None;
    }

    fn describe(&mut self, description: Description, room: &mut [u8]) -> Turn {
        // A colour belongs to the band below half the clock rate, and G.722's clock is not that of its sound.
        let order = if self.codec.clock_rate() == self.codec.sample_rate() { ORDER } else { 0 };
        match description.write(order, room) {
            0 => Turn::Silence,
            octets => {
                self.told = Some((description.level, 0));
                Turn::Describe(octets)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of 20 ms at 8 kHz.
    fn noise(seed: &mut u32, amplitude: f32) -> Vec<f32> {
        let next = || {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((*seed >> 8) as f32 / 8_388_608.0 - 1.0) * amplitude
        };
        std::iter::repeat_with(next).take(160).collect()
    }

    fn turns(suppressor: &mut Suppressor, seed: &mut u32, amplitude: f32, packets: usize) -> Vec<Turn> {
        let mut room = [0; 100];
        (0..packets).map(|_| suppressor.packet(&noise(seed, amplitude), Codec::Pcmu, &mut room)).collect()
    }

    #[test]
    fn a_pause_is_told_once_and_then_every_second() {
        let (mut suppressor, mut seed) = (Suppressor::new(Codec::Pcmu), 1);
        turns(&mut suppressor, &mut seed, 0.001, 50);
        assert!(turns(&mut suppressor, &mut seed, 0.2, 20).iter().skip(3).all(|turn| *turn == Turn::Talk));
        let pause = turns(&mut suppressor, &mut seed, 0.001, 250);
        let talk = pause.iter().take_while(|turn| **turn == Turn::Talk).count();
        assert!((10..=16).contains(&talk), "hangover of {talk} packets");
        let told = pause.iter().filter(|turn| **turn == Turn::Describe(1 + ORDER)).count();
        assert!((4..=6).contains(&told), "{told} descriptions in five seconds");
        assert_eq!(pause.get(talk), Some(&Turn::Describe(1 + ORDER)));
        let begins = turns(&mut suppressor, &mut seed, 0.2, 5);
        assert!(begins.iter().all(|turn| *turn == Turn::Talk), "{begins:?}");
    }

    #[test]
    fn another_codec_is_measured_anew_and_g722_tells_the_level_alone() {
        let mut suppressor = Suppressor::new(Codec::Pcmu);
        let mut room = [0; 100];
        let turn = suppressor.packet(&[0.0; 320], Codec::G722, &mut room);
        assert_eq!((turn, room[0]), (Turn::Describe(1), 127));
        assert_eq!(suppressor.packet(&[0.0; 320], Codec::G722, &mut room), Turn::Silence);
        assert_eq!(suppressor.packet(&[0.0; 320], Codec::G722, &mut []), Turn::Silence);
    }

    #[test]
    fn a_description_is_repeated_when_it_was_forgotten() {
        let (mut suppressor, mut seed) = (Suppressor::new(Codec::Pcmu), 1);
        turns(&mut suppressor, &mut seed, 0.001, 60);
        assert_eq!(turns(&mut suppressor, &mut seed, 0.001, 1), [Turn::Silence]);
        suppressor.forget();
        assert_eq!(turns(&mut suppressor, &mut seed, 0.001, 1), [Turn::Describe(1 + ORDER)]);
    }
}
