//! Recordings as FLAC (RFC 9639): 16 bits, without loss, about half of what WAV takes.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flac_codec::Error;
use flac_codec::encode::{FlacSampleWriter, Options};

use super::{RECORDING_RATE, Recording};

/// Samples of a frame, of each channel: 85 ms.
const BLOCK: u16 = 4096;
/// The writer keeps 24 bytes of each frame: 24 MB for a day of one channel, with which a recording ends.
const MOST_SAMPLES: u64 = 24 * 3600 * RECORDING_RATE as u64;

/// The file's header tells neither length nor checksum before the end (RFC 9639 section 8.2 lets it).
pub(super) struct Recorder {
    writer: FlacSampleWriter<Shared>,
    /// Where the writer writes, which cannot be told to hold nothing back.
    file: Shared,
    /// Interleaved samples of the frame that is being filled.
    frame: Vec<i32>,
    /// All samples of a frame.
    full: usize,
    /// Of all channels.
    samples: u64,
}

impl Recorder {
    pub(super) fn new(file: File, channels: usize) -> io::Result<Self> {
        let options = Options::default().block_size(BLOCK).map_err(io::Error::other)?;
        let mut file = Shared(Arc::new(Mutex::new(BufWriter::new(file))));
        let writer = FlacSampleWriter::new(file.clone(), options, RECORDING_RATE, 16, channels as u8, None)
            .map_err(plain)?;
        file.flush()?;
        let full = usize::from(BLOCK) * channels;
        Ok(Self { writer, file, frame: Vec::with_capacity(full), full, samples: 0 })
    }
}

impl Recording for Recorder {
    fn write(&mut self, sample: f32) -> io::Result<()> {
        // `as` saturates, and makes zero of what is no number.
        self.frame.push(i32::from((sample * 32_768.0).round() as i16));
        self.samples += 1;
        if self.frame.len() >= self.full {
            self.writer.write(&self.frame).map_err(plain)?;
            self.frame.clear();
            self.file.flush()?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.samples >= MOST_SAMPLES
    }

    fn complete(mut self: Box<Self>) -> io::Result<()> {
        self.writer.write(&self.frame).map_err(plain)?;
        match self.writer.finalize() {
            // Nothing was said: the header stands alone.
            Ok(()) | Err(Error::NoSamples) => self.file.flush(),
            Err(error) => Err(plain(error)),
        }
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<BufWriter<File>>>);

impl Shared {
    fn file(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file().seek(to)
    }
}

fn plain(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
