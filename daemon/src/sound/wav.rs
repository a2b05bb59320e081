//! The samples of WAV files, and what a file must be. Knows files and samples, not who plays them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rtrb::Producer;

/// Rates of files that are played, in hertz.
pub(super) const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
/// Chunks before the sound: a hostile file could have millions.
const MOST_CHUNKS: usize = 1000;

/// Opens a file to play or says in words why it cannot be played.
pub(super) fn open_to_play(path: &Path) -> Result<File, String> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    open.map_err(|error| format!("{}: {}", path.display(), io_words(&error)))
}

pub(super) fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "voipd may not open this file".to_owned(),
        io::ErrorKind::IsADirectory => "this is a folder, not a file".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => {
            let rule = "the system service writes only in /var/lib/voipd and where ReadWritePaths= of its unit allows it";
            format!("the file system is read-only for voipd: {rule}")
        }
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::UnexpectedEof => "the file ends too early".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn require_regular(file: &File) -> Result<(), String> {
    let data = file.metadata().map_err(|error| io_words(&error))?;
    // A pipe or a terminal would hold up the thread that waits for it.
    if data.is_file() { Ok(()) } else { Err("this is not a regular file".to_owned()) }
}

/// How a sample lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Unsigned8,
    Int16,
    Int24,
    Int32,
    Float32,
}

impl Encoding {
    fn bytes(self) -> usize {
        match self {
            Encoding::Unsigned8 => 1,
            Encoding::Int16 => 2,
            Encoding::Int24 => 3,
            Encoding::Int32 | Encoding::Float32 => 4,
        }
    }

    /// `bytes` is one sample, little-endian.
    fn decode(self, bytes: &[u8]) -> f32 {
        // Shifted to the top of 32 bits, so that every width has the same full scale.
        let top = bytes.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        match self {
            Encoding::Unsigned8 => (top as f32 - 128.0) / 128.0,
            Encoding::Int16 | Encoding::Int24 | Encoding::Int32 => {
                ((top << (32 - 8 * self.bytes())) as i32) as f32 / 2_147_483_648.0
            }
            Encoding::Float32 => {
                let value = f32::from_bits(top);
                if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 }
            }
        }
    }
}

/// Reads mono samples from a WAV file.
pub(super) struct Decoder {
    reader: BufReader<File>,
    format: Format,
    /// Bytes of sound not yet read, by the header; the file may end before.
    left: u64,
    /// One block of whole frames.
    block: Box<[u8]>,
}

impl Decoder {
    /// Frames read at a time.
    const BLOCK: usize = 1024;

    pub(super) fn new(mut reader: BufReader<File>) -> Result<Self, String> {
        let (format, left) = read_header(&mut reader)?;
        let block = vec![0; Self::BLOCK * format.frame()].into_boxed_slice();
        Ok(Self { reader, format, left, block })
    }

    /// Hertz.
    pub(super) fn rate(&self) -> u32 {
        self.format.rate
    }

    /// Fills the ring as far as it has room; `false` when the file has ended.
    pub(super) fn fill(&mut self, ring: &mut Producer<f32>) -> io::Result<bool> {
        let Format { encoding, channels, .. } = self.format;
        let frame = self.format.frame();
        loop {
            let frames = ring.slots().min(Self::BLOCK);
            if frames == 0 {
                return Ok(true);
            }
            let wanted = ((frames * frame) as u64).min(self.left) as usize;
            let Some(buffer) = self.block.get_mut(..wanted) else { return Ok(false) };
            let read = read_as_much(&mut self.reader, buffer)?;
            self.left -= read as u64;
            for samples in buffer[..read].chunks_exact(frame) {
                let sum: f32 =
                    samples.chunks_exact(encoding.bytes()).map(|sample| encoding.decode(sample)).sum();
                // There was room: this thread alone fills the ring.
                let _ = ring.push(sum / channels as f32);
            }
            if read < frame || read < wanted {
                return Ok(false);
            }
        }
    }
}

/// Fills the buffer, but for the end of the file.
fn read_as_much(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// How the samples of a file lie in it.
#[derive(Clone, Copy, Debug)]
struct Format {
    encoding: Encoding,
    channels: usize,
    rate: u32,
}

impl Format {
    /// Bytes of one sample of every channel.
    fn frame(self) -> usize {
        self.channels * self.encoding.bytes()
    }

    /// From the `fmt ` chunk (WAVEFORMATEX, or WAVEFORMATEXTENSIBLE with the tag at the head of its subformat).
    fn read(chunk: &[u8]) -> Result<Self, String> {
        let field =
            |at: usize| chunk.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        let tag = match field(0) {
            0xfffe => field(24),
            tag => tag,
        };
        let (channels, frame) = (field(2), field(12));
        let rate = u32::from(field(6)) << 16 | u32::from(field(4));
        let encoding = match (tag, frame.checked_div(channels)) {
            (1, Some(1)) => Encoding::Unsigned8,
            (1, Some(2)) => Encoding::Int16,
            (1, Some(3)) => Encoding::Int24,
            (1, Some(4)) => Encoding::Int32,
            (3, Some(4)) => Encoding::Float32,
            (_, None) => return Err("the WAV file has no channels".to_owned()),
            _ => {
                return Err(
                    "the WAV file's encoding is not supported: use PCM of 8, 16, 24 or 32 bits or 32-bit \
                            floating point"
                        .to_owned(),
                );
            }
        };
        let format = Self { encoding, channels: usize::from(channels), rate };
        if format.frame() != usize::from(frame) {
            return Err("the WAV file's header contradicts itself".to_owned());
        }
        if !RATES.contains(&rate) {
            return Err(format!("the WAV file's sampling rate of {rate} Hz is not supported"));
        }
        Ok(format)
    }
}

/// Leaves the reader at the first sample; answers the format and how many bytes of sound the header promises.
///
/// hound's reader refuses the unknown lengths that pipes and killed recorders leave behind, so it is not used here.
fn read_header(reader: &mut BufReader<File>) -> Result<(Format, u64), String> {
    let cut_off = |_| "this is not a WAV file, or one that was cut off in its header".to_owned();
    let mut riff = [0; 12];
    reader.read_exact(&mut riff).map_err(cut_off)?;
    if !matches!(&riff[..4], b"RIFF" | b"RF64") || &riff[8..] != b"WAVE" {
        return Err("this is not a WAV file".to_owned());
    }
    let mut format = None;
    for _ in 0..MOST_CHUNKS {
        let mut header = [0; 8];
        reader.read_exact(&mut header).map_err(cut_off)?;
        let [a, b, c, d, length @ ..] = header;
        let length = i64::from(u32::from_le_bytes(length));
        let read = match &[a, b, c, d] {
            b"data" => {
                let format: Format =
                    format.ok_or("the WAV file does not say what format its samples have")?;
                if length < format.frame() as i64 {
                    return Err("the WAV file holds no sound".to_owned());
                }
                return Ok((format, length.unsigned_abs()));
            }
            b"fmt " => {
                let mut chunk = [0; 26];
                let part = length.min(26);
                reader.read_exact(&mut chunk[..part as usize]).map_err(cut_off)?;
                format = Some(Format::read(&chunk)?);
                part
            }
            _ => 0,
        };
        // Chunks are padded to even lengths.
        reader.seek_relative(length + (length & 1) - read).map_err(cut_off)?;
    }
    Err("this is not a WAV file that a telephone can play: there is no sound in it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_file_system_is_so_for_the_service_and_can_be_opened_to_it() {
        let words = io_words(&io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(words.contains("for voipd") && words.contains("ReadWritePaths="), "{words}");
    }
}
