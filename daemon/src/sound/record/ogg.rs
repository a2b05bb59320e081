//! Recordings as Opus in Ogg (RFC 7845): one channel or two, 20 ms a packet, a page each second.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};
use voipd_audio::Codec;
use voipd_audio::codec::{CodecError, Encoder, EncoderSettings, StereoEncoder};

use super::{RECORDING_RATE, Recording};

/// Samples of a packet, of each channel.
const FRAME: usize = RECORDING_RATE as usize / 50;
/// Packets of a page.
const PAGE: u64 = 50;
/// Samples that the decoder throws away at first: what libopus needs to begin (its look-ahead at 48 kHz).
const PRE_SKIP: u16 = 312;
/// Bits per second of each channel.
const BITRATE: u32 = 32_000;
/// A call has one stream: any number names it.
const SERIAL: u32 = 1;

enum Coder {
    Mono(Encoder),
    Stereo(StereoEncoder),
}

impl Coder {
    fn new(channels: usize) -> Result<Self, CodecError> {
        if channels > 1 {
            return StereoEncoder::new(2 * BITRATE).map(Self::Stereo);
        }
        let settings = EncoderSettings { bitrate: Some(BITRATE), ..EncoderSettings::new(Codec::Opus, 5) };
        Encoder::new(settings).map(Self::Mono)
    }

    fn channels(&self) -> usize {
        match self {
            Self::Mono(_) => 1,
            Self::Stereo(_) => 2,
        }
    }

    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, CodecError> {
        match self {
            Self::Mono(encoder) => encoder.encode(samples, payload),
            Self::Stereo(encoder) => encoder.encode(samples, payload),
        }
    }
}

pub(super) struct Recorder {
    writer: PacketWriter<'static, BufWriter<File>>,
    encoder: Coder,
    /// Interleaved samples of the packet that is being filled.
    frame: Vec<f32>,
    /// The last packet stays here: it must say that it is the last.
    packet: Option<Vec<u8>>,
    packets: u64,
    /// Of all channels.
    samples: u64,
}

impl Recorder {
    pub(super) fn new(file: File, channels: usize) -> io::Result<Self> {
        let encoder = Coder::new(channels).map_err(io::Error::other)?;
        let mut writer = PacketWriter::new(BufWriter::new(file));
        let mut head = b"OpusHead\x01".to_vec();
        head.push(encoder.channels() as u8);
        head.extend(PRE_SKIP.to_le_bytes());
        head.extend(RECORDING_RATE.to_le_bytes());
        // Neither gain nor a map of channels.
        head.extend([0; 3]);
        writer.write_packet(head, SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        let mut tags = b"OpusTags\x05\0\0\0voipd".to_vec();
        tags.extend([0; 4]);
        writer.write_packet(tags, SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        writer.inner_mut().flush()?;
        let frame = Vec::with_capacity(FRAME * encoder.channels());
        Ok(Self { writer, encoder, frame, packet: None, packets: 0, samples: 0 })
    }

    fn add(&mut self, sample: f32) -> io::Result<()> {
        self.frame.push(sample);
        if self.frame.len() < FRAME * self.encoder.channels() {
            return Ok(());
        }
        let mut payload = vec![0; 1275];
        let length = self.encoder.encode(&self.frame, &mut payload).map_err(io::Error::other)?;
        payload.truncate(length);
        self.frame.clear();
        if let Some(before) = self.packet.replace(payload) {
            self.packets += 1;
            let page_ends = self.packets.is_multiple_of(PAGE);
            let end = if page_ends { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            self.writer.write_packet(before, SERIAL, end, self.packets * FRAME as u64)?;
            if page_ends {
                self.writer.inner_mut().flush()?;
            }
        }
        Ok(())
    }
}

impl Recording for Recorder {
    fn write(&mut self, sample: f32) -> io::Result<()> {
        self.samples += 1;
        self.add(sample)
    }

    /// What the encoder still holds is pushed out, and the last page says how much of its end is no sound.
    fn complete(mut self: Box<Self>) -> io::Result<()> {
        let channels = self.encoder.channels() as u64;
        let sounding = self.samples / channels;
        let wanted = (sounding + u64::from(PRE_SKIP)).next_multiple_of(FRAME as u64);
        for _ in self.samples..wanted * channels {
            self.add(0.0)?;
        }
        if let Some(last) = self.packet.take() {
            let end = u64::from(PRE_SKIP) + sounding;
            self.writer.write_packet(last, SERIAL, PacketWriteEndInfo::EndStream, end)?;
        }
        self.writer.inner_mut().flush()
    }
}
