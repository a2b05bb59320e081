//! Players: a thread for each keeps the ring to the engine filled. Knows files and samples, not who hears them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use rtrb::{Producer, RingBuffer};
use voipd_audio::engine::{DevicePort, Pace};

use super::wav::{io_words, require_regular};
use super::{decode, wav};

/// How often a player looks whether its ring of one second wants more.
const PLAYER_PAUSE: Duration = Duration::from_millis(200);

/// Mono samples of a file of any known kind.
enum Decoder {
    Wav(wav::Decoder),
    Other(Box<decode::Decoder>),
}

impl Decoder {
    /// The file is read on from where it is. A library that panics on a hostile file has refused it.
    fn new(file: File) -> Result<Self, String> {
        contained(|| Self::open(file)).unwrap_or_else(|| Err(PANICKED.to_owned()))
    }

    fn open(mut file: File) -> Result<Self, String> {
        let begin = file.stream_position().map_err(|error| io_words(&error))?;
        let mut magic = Vec::new();
        (&mut file).take(12).read_to_end(&mut magic).map_err(|error| io_words(&error))?;
        file.seek(io::SeekFrom::Start(begin)).map_err(|error| io_words(&error))?;
        let is_wav = matches!(magic.get(..4), Some(b"RIFF" | b"RF64")) && magic.get(8..) == Some(b"WAVE");
        if is_wav {
            return Ok(Self::Wav(wav::Decoder::new(BufReader::new(file))?));
        }
        Ok(Self::Other(Box::new(decode::Decoder::new(file)?)))
    }

    fn rate(&self) -> u32 {
        match self {
            Self::Wav(decoder) => decoder.rate(),
            Self::Other(decoder) => decoder.rate,
        }
    }

    /// Fills the ring as far as it has room; `false` when the file has ended. After an error it is of no more use.
    fn fill(&mut self, ring: &mut Producer<f32>) -> io::Result<bool> {
        contained(|| match self {
            Self::Wav(decoder) => decoder.fill(ring),
            Self::Other(decoder) => decoder.fill(ring),
        })
        .unwrap_or_else(|| Err(io::Error::other(PANICKED)))
    }
}

const PANICKED: &str =
    "the file is broken in a way that its decoder cannot cope with: convert it to WAV first";

/// Runs what a library does with a file from anywhere; `None`: it has panicked. Whatever it left half done must be dropped.
fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Says in words why an open file cannot be played. The file is read on from where it was.
pub(super) fn check_to_play(mut file: File) -> Result<(), String> {
    require_regular(&file)?;
    let begin = file.stream_position().map_err(|error| io_words(&error))?;
    let reader = file.try_clone().map_err(|error| io_words(&error))?;
    let decoder = Decoder::new(reader);
    file.seek(io::SeekFrom::Start(begin)).map_err(|error| io_words(&error))?;
    decoder.map(drop)
}

/// Plays a sound file once, or again and again. After its last sample the ring's producer is dropped, which tells the engine
/// of the end.
///
/// WAV (4 to 384 kHz, integers of 8, 16, 24 or 32 bits or 32-bit floating point), FLAC, Ogg (Vorbis or Opus) and MP3;
/// channels are mixed to one.
pub(super) fn play(mut file: File, looped: bool) -> Result<DevicePort, String> {
    require_regular(&file)?;
    let begin = file.stream_position().map_err(|error| io_words(&error))?;
    let again = match looped {
        true => Some((file.try_clone().map_err(|error| io_words(&error))?, begin)),
        false => None,
    };
    let mut decoder = Decoder::new(file)?;
    let rate = decoder.rate();
    let (mut ring, capture) = RingBuffer::new(rate as usize);
    if decoder.fill(&mut ring).map_err(|error| io_words(&error))? || looped {
        thread::Builder::new()
            .name("voipd-play".to_owned())
            .spawn(move || run_player(decoder, ring, again))
            .map_err(|error| format!("no thread to play the file: {error}"))?;
    }
    Ok(DevicePort { capture: Some(capture), playback: None, rate, pace: Pace::Tick })
}

/// The beginning of a file as mono samples, and their rate.
pub(super) fn read_all(file: File, longest: Duration) -> Result<(Vec<f32>, u32), String> {
    require_regular(&file)?;
    let mut decoder = Decoder::new(file)?;
    let rate = decoder.rate();
    let (mut ring, mut samples) = RingBuffer::new(rate as usize * longest.as_secs() as usize);
    decoder.fill(&mut ring).map_err(|error| io_words(&error))?;
    Ok((std::iter::from_fn(|| samples.pop().ok()).collect(), rate))
}

/// `again`: the file and where it begins, where it is played again and again.
fn run_player(mut decoder: Decoder, mut ring: Producer<f32>, again: Option<(File, u64)>) {
    let broke_off = |why: &str| log::warn!("the sound file being played broke off: {why}");
    while !ring.is_abandoned() {
        thread::sleep(PLAYER_PAUSE);
        let mut filled = decoder.fill(&mut ring);
        while let (Ok(false), Some((file, begin))) = (&filled, &again) {
            match restart(file, *begin) {
                Ok(restarted) => decoder = restarted,
                Err(why) => return broke_off(&why),
            }
            let before = ring.slots();
            filled = decoder.fill(&mut ring);
            // A file that has become empty meanwhile would be begun for ever.
            if matches!(filled, Ok(false)) && ring.slots() == before {
                return;
            }
        }
        match filled {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return broke_off(&io_words(&error)),
        }
    }
}

fn restart(file: &File, begin: u64) -> Result<Decoder, String> {
    let mut file = file.try_clone().map_err(|error| io_words(&error))?;
    file.seek(io::SeekFrom::Start(begin)).map_err(|error| io_words(&error))?;
    Decoder::new(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_has_refused_the_file() {
        assert_eq!(contained(|| 7), Some(7));
        let nothing: &[u8] = &[];
        let place = std::hint::black_box(3);
        assert_eq!(contained(|| nothing[place]), None);
    }
}
