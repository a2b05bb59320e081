//! Recordings as WAV: 16 bits.

use std::fs::File;
use std::io::{self, BufWriter};

use hound::{SampleFormat, WavSpec, WavWriter};

use super::{RECORDING_RATE, Recording};

/// The 32-bit lengths of a WAV file end at 4 GiB: over 12 hours of one channel.
const MOST_SAMPLES: u64 = ((4 << 30) - (1 << 20)) / 2;

pub(super) struct Recorder {
    writer: WavWriter<BufWriter<File>>,
    /// Of all channels.
    samples: u64,
}

impl Recorder {
    pub(super) fn new(file: File, channels: usize) -> io::Result<Self> {
        let spec = WavSpec {
            channels: channels as u16,
            sample_rate: RECORDING_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = WavWriter::new(BufWriter::new(file), spec).map_err(plain)?;
        writer.flush().map_err(plain)?;
        Ok(Self { writer, samples: 0 })
    }
}

impl Recording for Recorder {
    fn write(&mut self, sample: f32) -> io::Result<()> {
        // `as` saturates, and makes zero of what is no number.
        self.writer.write_sample((sample * 32_768.0).round() as i16).map_err(plain)?;
        self.samples += 1;
        if self.samples.is_multiple_of(RECORDING_RATE.into()) {
            // Writes the lengths in the header, too.
            self.writer.flush().map_err(plain)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.samples >= MOST_SAMPLES
    }

    fn complete(self: Box<Self>) -> io::Result<()> {
        self.writer.finalize().map_err(plain)
    }
}

fn plain(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}
