//! Recorders: a thread for each writes what the ring from the engine holds. Knows files and samples, not who is recorded.

mod flac;
mod ogg;
mod wav;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rtrb::{Consumer, Producer, RingBuffer};

use super::wav::{io_words, require_regular};
use crate::api::ports::RecordFormat;

/// Sampling rate of recordings in hertz.
pub const RECORDING_RATE: u32 = 48_000;
/// How often a recorder empties its ring of two seconds.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens a file to record into. What is there is replaced if it is a WAV file or empty; anything else is safe.
pub(super) fn open_to_record(path: &Path) -> Result<File, String> {
    let fail = |words: &str| format!("{}: {words}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| fail(&io_words(&error)))?;
    let data = file.metadata().map_err(|error| fail(&io_words(&error)))?;
    let mut magic = [0; 12];
    let is_wav = |magic: &[u8; 12]| magic.starts_with(b"RIFF") && magic.ends_with(b"WAVE");
    if data.len() > 0 && !(file.read_exact(&mut magic).is_ok() && is_wav(&magic)) {
        return Err(fail("something that is not a WAV file is there; voipd does not overwrite it"));
    }
    Ok(file)
}

/// Says in words why an open file cannot be recorded into. Nothing is written.
pub(super) fn check_to_record(file: &File) -> Result<(), String> {
    require_regular(file)?;
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|error| io_words(&error.into()))?;
    match flags & libc::O_ACCMODE {
        libc::O_RDONLY => Err("it is open for reading only".to_owned()),
        // Headers are written anew as the recording grows.
        _ if flags & libc::O_APPEND != 0 => {
            Err("it is open for appending only; open it for writing".to_owned())
        }
        _ => Ok(()),
    }
}

/// A file in the making. What it was given a second ago can be played whatever happens.
trait Recording: Send {
    /// Takes the next sample, of the channels in turn.
    fn write(&mut self, sample: f32) -> io::Result<()>;

    /// The format holds no more.
    fn is_full(&self) -> bool {
        false
    }

    /// Writes what is missing.
    fn complete(self: Box<Self>) -> io::Result<()>;
}

/// Records into a file, from its beginning: [`RECORDING_RATE`], so many channels, interleaved in the ring. When the engine
/// drops its end of the ring, the file is completed and `finished` called.
pub(super) fn record(
    mut file: File,
    format: RecordFormat,
    channels: usize,
    finished: impl FnOnce(Result<(), String>) + Send + 'static,
) -> Result<Producer<f32>, String> {
    require_regular(&file)?;
    let words = |error: io::Error| format!("the recording cannot be written: {}", io_words(&error));
    file.set_len(0).and_then(|()| file.rewind()).map_err(words)?;
    let recording: io::Result<Box<dyn Recording>> = match format {
        RecordFormat::Wav => wav::Recorder::new(file, channels).map(|recorder| Box::new(recorder) as _),
        RecordFormat::Ogg => ogg::Recorder::new(file, channels).map(|recorder| Box::new(recorder) as _),
        RecordFormat::Flac => flac::Recorder::new(file, channels).map(|recorder| Box::new(recorder) as _),
    };
    let recording = recording.map_err(words)?;
    let (playback, ring) = RingBuffer::new(2 * RECORDING_RATE as usize * channels);
    thread::Builder::new()
        .name("voipd-record".to_owned())
        .spawn(move || finished(run(recording, ring).map_err(words)))
        .map_err(|error| format!("no thread to record the file: {error}"))?;
    Ok(playback)
}

fn run(mut recording: Box<dyn Recording>, mut ring: Consumer<f32>) -> io::Result<()> {
    loop {
        // Asked before the ring is emptied: what comes before the engine lets go is not lost.
        let ended = ring.is_abandoned();
        while let Ok(sample) = ring.pop() {
            recording.write(sample)?;
        }
        if ended || recording.is_full() {
            return recording.complete();
        }
        thread::sleep(PAUSE);
    }
}
