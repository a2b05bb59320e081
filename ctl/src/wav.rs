//! WAV on standard input and output: what a header says, and samples as voipd takes them. It reads streams whose length
//! nobody knows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes of a header that are looked at: far more than writers put before the sound.
const LONGEST_HEADER: usize = 64 << 10;
/// Frames that are read at once.
const FRAMES: usize = 1024;
/// What stands for a length that is not known.
const UNKNOWN: u32 = u32::MAX;

/// How the samples of standard input lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Unsigned8,
    Int16,
    Int24,
    Int32,
    Float32,
    Alaw,
    Ulaw,
}

impl Encoding {
    fn of(tag: u16, bits: u16) -> Option<Self> {
        match (tag, bits) {
            (1, 8) => Some(Self::Unsigned8),
            (1, 16) => Some(Self::Int16),
            (1, 24) => Some(Self::Int24),
            (1, 32) => Some(Self::Int32),
            (3, 32) => Some(Self::Float32),
            (6, 8) => Some(Self::Alaw),
            (7, 8) => Some(Self::Ulaw),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 | Self::Alaw | Self::Ulaw => 1,
            Self::Int16 => 2,
            Self::Int24 => 3,
            Self::Int32 | Self::Float32 => 4,
        }
    }

    /// One sample as a 16-bit integer.
    fn decode(self, bytes: &[u8]) -> i32 {
        let value = bytes.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        match self {
            Self::Unsigned8 => (value as i32 - 128) << 8,
            Self::Int16 => i32::from(value as u16 as i16),
            Self::Int24 => (value << 8) as i32 >> 16,
            Self::Int32 => value as i32 >> 16,
            // `as` saturates, and makes zero of what is no number.
            Self::Float32 => i32::from((f32::from_bits(value) * 32_768.0) as i16),
            Self::Alaw => alaw(value as u8),
            Self::Ulaw => ulaw(value as u8),
        }
    }
}

/// ITU-T G.711.
fn ulaw(code: u8) -> i32 {
    let code = !code;
    let magnitude = (((i32::from(code & 0x0f) << 3) + 0x84) << (code >> 4 & 7)) - 0x84;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// ITU-T G.711.
fn alaw(code: u8) -> i32 {
    let code = code ^ 0x55;
    let (step, segment) = (i32::from(code & 0x0f) << 4, code >> 4 & 7);
    let magnitude = match segment {
        0 => step + 8,
        _ => (step + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// Sound on standard input.
pub(crate) enum Sound {
    /// As it is; what was read of it already.
    Raw(Vec<u8>),
    Wav(Samples),
}

/// WAV, behind its header.
pub(crate) struct Samples {
    encoding: Encoding,
    channels: usize,
    rate: u32,
    /// Bytes of sound that the header promises; a stream's are not known.
    left: u64,
}

/// Looks at the beginning of standard input.
pub(crate) fn recognise(input: &mut impl Read) -> Result<Sound, String> {
    let mut begin = Vec::new();
    take(input, &mut begin, 12)?;
    if begin.len() < 12 || !matches!(&begin[..4], b"RIFF" | b"RF64") || &begin[8..] != b"WAVE" {
        return Ok(Sound::Raw(begin));
    }
    let mut format = None;
    let mut looked_at = 0;
    loop {
        let mut head = Vec::new();
        take(input, &mut head, 8)?;
        let head: [u8; 8] = head.try_into().map_err(|_| "the WAV header is cut off".to_owned())?;
        let [a, b, c, d, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        if &[a, b, c, d] == b"data" {
            let (encoding, channels, rate) =
                format.ok_or("the WAV header does not say how the samples lie")?;
            // Programs that write to a pipe leave 0, or the largest number that they dare.
            let left = if length == 0 || length >= 0x7fff_f000 { u64::MAX } else { u64::from(length) };
            return Ok(Sound::Wav(Samples { encoding, channels, rate, left }));
        }
        let padded = length as usize + (length as usize & 1);
        looked_at += padded + 8;
        if looked_at > LONGEST_HEADER {
            return Err("there is no sound in the first 64 KiB of the WAV file".to_owned());
        }
        let mut body = Vec::new();
        take(input, &mut body, padded)?;
        if &[a, b, c, d] == b"fmt " {
            format = Some(read_format(&body)?);
        }
    }
}

fn read_format(body: &[u8]) -> Result<(Encoding, usize, u32), String> {
    let field = |at: usize| body.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    // WAVE_FORMAT_EXTENSIBLE has the tag at the head of its subformat.
    let tag = if field(0) == 0xfffe { field(24) } else { field(0) };
    let (channels, bits) = (usize::from(field(2)), field(14));
    let rate = u32::from(field(6)) << 16 | u32::from(field(4));
    let encoding = Encoding::of(tag, bits).ok_or_else(|| {
        format!("WAV with samples of kind {tag} and {bits} bits is not understood: use PCM, floating point, A-law or µ-law")
    })?;
    if channels == 0 {
        return Err("the WAV header says that there are no channels".to_owned());
    }
    Ok((encoding, channels, rate))
}

/// Reads so many bytes, or what there is.
fn take(input: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> Result<(), String> {
    input.take(count as u64).read_to_end(bytes).map(drop).map_err(|error| error.to_string())
}

impl Sound {
    /// Hertz, where the sound says it: then [`Sound::read`] gives mono samples of 16 bits.
    pub(crate) fn rate(&self) -> Option<u32> {
        match self {
            Self::Raw(_) => None,
            Self::Wav(samples) => Some(samples.rate),
        }
    }

    /// The next bytes for voipd; `false` at the end.
    pub(crate) fn read(&mut self, input: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
        bytes.clear();
        match self {
            Self::Raw(begin) if !begin.is_empty() => std::mem::swap(begin, bytes),
            Self::Raw(_) => {
                bytes.resize(4 * FRAMES, 0);
                let count = read_some(input, bytes)?;
                bytes.truncate(count);
            }
            Self::Wav(samples) => samples.read(input, bytes)?,
        }
        Ok(!bytes.is_empty())
    }
}

impl Samples {
    fn read(&mut self, input: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
        let frame = self.encoding.bytes() * self.channels;
        let wanted = ((FRAMES * frame) as u64).min(self.left);
        let mut read = vec![0; wanted as usize];
        // Something, and then as much more as makes whole frames: a program that speaks slowly is heard at once.
        let mut count = read_some(input, &mut read)?;
        let missing = (frame - count % frame) % frame;
        if count > 0 && missing > 0 {
            let rest = read.get_mut(count..count + missing).unwrap_or_default();
            let mut filled = 0;
            while filled < rest.len() {
                match read_some(input, &mut rest[filled..])? {
                    0 => break,
                    more => filled += more,
                }
            }
            count += filled;
        }
        self.left -= count as u64;
        for one in read[..count].chunks_exact(frame) {
            let sum: i32 =
                one.chunks_exact(self.encoding.bytes()).map(|sample| self.encoding.decode(sample)).sum();
            bytes.extend(((sum / self.channels as i32) as i16).to_le_bytes());
        }
        Ok(())
    }
}

fn read_some(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The header of a WAV stream on standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamHeader {
    /// 1: integers, 3: floating point, 7: µ-law.
    pub(crate) tag: u16,
    pub(crate) bits: u16,
    pub(crate) channels: u16,
    pub(crate) rate: u32,
}

impl StreamHeader {
    const LENGTH: u32 = 44;

    /// `length`: bytes of sound; `None` as long as nobody knows.
    pub(crate) fn bytes(&self, length: Option<u32>) -> Vec<u8> {
        let frame = self.channels * self.bits / 8;
        let mut bytes = b"RIFF".to_vec();
        bytes.extend(length.map_or(UNKNOWN, |length| length.saturating_add(Self::LENGTH - 8)).to_le_bytes());
        bytes.extend(b"WAVEfmt \x10\0\0\0");
        bytes.extend(self.tag.to_le_bytes());
        bytes.extend(self.channels.to_le_bytes());
        bytes.extend(self.rate.to_le_bytes());
        bytes.extend((self.rate * u32::from(frame)).to_le_bytes());
        bytes.extend(frame.to_le_bytes());
        bytes.extend(self.bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend(length.unwrap_or(UNKNOWN).to_le_bytes());
        bytes
    }

    /// Puts the length into a file; a pipe is left as it is.
    pub(crate) fn complete(&self, file: &mut File, written: u64) -> io::Result<()> {
        let whole = written + u64::from(Self::LENGTH);
        let (Ok(end), Ok(length)) = (file.stream_position(), u32::try_from(written)) else { return Ok(()) };
        let Some(begin) = end.checked_sub(whole) else { return Ok(()) };
        file.seek(SeekFrom::Start(begin))?;
        file.write_all(&self.bytes(Some(length)))?;
        file.seek(SeekFrom::Start(end)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(tag: u16, channels: u16, rate: u32, bits: u16) -> StreamHeader {
        StreamHeader { tag, bits, channels, rate }
    }

    fn read_all(mut input: &[u8]) -> (Option<u32>, Vec<u8>) {
        let mut sound = recognise(&mut input).unwrap();
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        while sound.read(&mut input, &mut bytes).unwrap() {
            all.extend(&bytes);
        }
        (sound.rate(), all)
    }

    #[test]
    fn what_is_no_wav_stays_as_it_is() {
        for raw in [&b""[..], b"short", b"RIFF and then something else entirely"] {
            assert_eq!(read_all(raw), (None, raw.to_vec()));
        }
    }

    #[test]
    fn every_kind_of_sample_becomes_sixteen_bits_and_one_channel() {
        let integers =
            |samples: &[i16]| samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<_>>();
        let cases: [(StreamHeader, Vec<u8>, &[i16]); 8] = [
            (header(1, 1, 22_050, 16), integers(&[1, -2]), &[1, -2]),
            (header(1, 2, 48_000, 16), integers(&[100, 300, -100, -300]), &[200, -200]),
            (header(1, 1, 8000, 8), vec![0, 128, 192], &[-32_768, 0, 16_384]),
            (header(1, 1, 8000, 24), vec![0xff, 0, 0x40, 0, 0, 0x80], &[16_384, -32_768]),
            (header(1, 1, 8000, 32), vec![0, 0, 0, 0x40], &[16_384]),
            (
                header(3, 1, 8000, 32),
                [0.5_f32, f32::NAN, 2.0].map(f32::to_le_bytes).concat(),
                &[16_384, 0, 32_767],
            ),
            (header(7, 1, 8000, 8), vec![0x00, 0x80, 0xff, 0x7f], &[-32_124, 32_124, 0, 0]),
            (header(6, 1, 8000, 8), vec![0x2a, 0xaa, 0xd5], &[-32_256, 32_256, 8]),
        ];
        for (header, data, expected) in cases {
            let input = [header.bytes(None), data].concat();
            assert_eq!(read_all(&input), (Some(header.rate), integers(expected)), "{header:?}");
        }
    }

    #[test]
    fn what_stands_behind_the_sound_is_not_played() {
        let input =
            [header(1, 1, 8000, 16).bytes(Some(2)), vec![1, 0], b"LIST\x04\0\0\0tag!".to_vec()].concat();
        assert_eq!(read_all(&input), (Some(8000), vec![1, 0]));
    }

    #[test]
    fn broken_headers_are_refused_in_words() {
        let cut = |length: usize| header(1, 1, 8000, 16).bytes(None)[..length].to_vec();
        let no_sound = [b"RIFF\0\0\0\0WAVEjunk\xff\xff\0\0".to_vec(), vec![0; 70_000]].concat();
        for (bytes, words) in [
            (cut(38), "cut off"),
            (header(2, 1, 8000, 4).bytes(None), "kind 2"),
            (header(1, 0, 8000, 16).bytes(None), "no channels"),
            (b"RIFF\0\0\0\0WAVEdata\0\0\0\0".to_vec(), "how the samples lie"),
            (no_sound, "no sound"),
        ] {
            let why = recognise(&mut &bytes[..]).map(|_| ()).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    #[test]
    fn a_file_gets_its_length_and_keeps_what_stood_before() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        let header = header(3, 2, 16_000, 32);
        file.write_all(&header.bytes(None)).unwrap();
        file.write_all(&[1; 80]).unwrap();
        header.complete(&mut file, 80).unwrap();
        file.write_all(b"after").unwrap();
        file.rewind().unwrap();
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        assert_eq!(
            all,
            [b"before".to_vec(), header.bytes(Some(80)), vec![1; 80], b"after".to_vec()].concat()
        );
        assert_eq!(header.bytes(Some(80))[4..8], 116_u32.to_le_bytes());
    }
}
