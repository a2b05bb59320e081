//! Who speaks: recorded and synthesised voices out of Debian's packages, as pieces of eight seconds at 16 kHz. It knows
//! files and synthesisers; it does not know what becomes of the sound.

use std::path::{Path, PathBuf};
use std::process::Command;

use voipd_audio::codec::Decoder;
use voipd_audio::{Codec, resample::Resampler};

use crate::wav;

/// Rate of the corpus in hertz.
pub const RATE: u32 = 16_000;
/// Length of a piece in samples: eight seconds.
pub const PIECE: usize = 8 * RATE as usize;
/// Pieces of each voice.
pub const PIECES: usize = 3;
/// What is spoken before the first piece, in seconds, and not scored: long enough for the adaptation to have had its
/// reports.
pub const WARM_UP: usize = 30;
/// Root mean square of each voice: 26 dB below full scale (ITU-T P.830's level of speech).
const LEVEL: f32 = 0.0501;

/// A voice and where it comes from.
pub struct Voice {
    /// As the table calls it.
    pub name: &'static str,
    source: Source,
}

enum Source {
    /// A recording in G.722 of packages `asterisk-core-sounds-*-g722` (CC BY-SA 3.0, the Russian ones CC BY 3.0): the
    /// longest text that each of them reads.
    Recorded(&'static str),
    /// A voice of flite (free licence of Carnegie Mellon University).
    Flite(&'static str),
    /// A voice of espeak-ng.
    Espeak(&'static str),
}

/// All voices: four recorded, four synthesised; four of women, four of men.
pub const VOICES: [Voice; 8] = [
    Voice { name: "Allison, English, recorded", source: Source::Recorded("en_US_f_Allison") },
    Voice { name: "June, French, recorded", source: Source::Recorded("fr_CA_f_June") },
    Voice { name: "Carlo, Italian, recorded", source: Source::Recorded("it_IT_m_Carlo") },
    Voice { name: "ivrvoice.ru, Russian, recorded", source: Source::Recorded("ru_RU_f_IvrvoiceRU") },
    Voice { name: "slt, American, flite", source: Source::Flite("slt") },
    Voice { name: "rms, American, flite", source: Source::Flite("rms") },
    Voice { name: "awb, Scottish, flite", source: Source::Flite("awb") },
    Voice { name: "m3, British, espeak-ng", source: Source::Espeak("en-gb+m3") },
];

/// What the synthesisers say: the first of the Harvard sentences (IEEE, 1969) and others like them.
const WORDS: &str = "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. \
    It's easy to tell the depth of a well. These days a chicken leg is a rare dish. Rice is often served in round \
    bowls. The juice of lemons makes fine punch. The box was thrown beside the parked truck. The hogs were fed \
    chopped corn and garbage. Four hours of steady work faced us. A large size in stockings is hard to sell. \
    The boy was there when the sun rose. A rod is used to catch pink salmon. The source of the huge river is the \
    clear spring. Kick the ball straight and follow through. Help the woman get back to her feet.";

impl Voice {
    /// [`PIECES`] pieces in a row. `directory`: where files are made.
    pub fn speech(&self, directory: &Path) -> Vec<f32> {
        let sound = match self.source {
            Source::Recorded(name) => recorded(name),
            Source::Flite(name) => synthesised(directory, name, |file| {
                let mut command = Command::new("flite");
                command.args(["-voice", name, "-t", WORDS, "-o"]).arg(file);
                command
            }),
            Source::Espeak(name) => synthesised(directory, name, |file| {
                let mut command = Command::new("espeak-ng");
                command.args(["-v", name, "-s", "150", "-w"]).arg(file).arg(WORDS);
                command
            }),
        };
        let spoken = without_leading_silence(&sound);
        assert!(spoken.len() >= PIECES * PIECE, "{}: {} samples only", self.name, spoken.len());
        let mut speech = spoken[..PIECES * PIECE].to_vec();
        let gain = LEVEL / rms_of_speech(&speech);
        speech.iter_mut().for_each(|sample| *sample = (*sample * gain).clamp(-1.0, 1.0));
        speech
    }
}

fn recorded(name: &str) -> Vec<f32> {
    let file = PathBuf::from("/usr/share/asterisk/sounds").join(name).join("demo-instruct.g722");
    let payload = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut samples = vec![0.0; 2 * payload.len()];
    Decoder::new(Codec::G722).unwrap().decode(&payload, &mut samples).unwrap();
    samples
}

fn synthesised(directory: &Path, name: &str, command: impl FnOnce(&Path) -> Command) -> Vec<f32> {
    let file = directory.join(format!("{name}.wav"));
    let mut command = command(&file);
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
    let (rate, samples) = wav::load(&file);
    resampled(&samples, rate, RATE)
}

/// A voice's pieces behind a warm-up of the same voice.
pub fn with_warm_up(speech: &[f32]) -> Vec<f32> {
    let warm_up = WARM_UP * RATE as usize;
    let lead =
        speech.iter().cycle().skip((speech.len() - warm_up % speech.len()) % speech.len()).take(warm_up);
    lead.chain(speech).copied().collect()
}

/// The same sound at another rate, without delay.
pub fn resampled(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to {
        return samples.to_vec();
    }
    let length = (samples.len() as u64 * u64::from(to) / u64::from(from)) as usize;
    let mut resampler = Resampler::new(from, to, to as usize / 100);
    let delay = resampler.delay();
    let mut output = vec![0.0; length + delay];
    resampler.process(samples, &mut output);
    output.drain(..delay);
    output
}

fn without_leading_silence(sound: &[f32]) -> &[f32] {
    let loudest = sound.iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
    let first = sound.iter().position(|sample| sample.abs() > 0.1 * loudest).unwrap_or(0);
    &sound[first.saturating_sub(RATE as usize / 5)..]
}

/// Root mean square of the frames that are no pauses: those less than 30 dB below the loudest.
fn rms_of_speech(samples: &[f32]) -> f32 {
    let energies: Vec<f32> =
        samples.chunks(320).map(|frame| frame.iter().map(|sample| sample * sample).sum::<f32>()).collect();
    let loudest = energies.iter().copied().fold(0.0, f32::max);
    let spoken: Vec<f32> = energies.into_iter().filter(|energy| *energy > loudest / 1000.0).collect();
    (spoken.iter().sum::<f32>() / (320 * spoken.len()) as f32).sqrt()
}
