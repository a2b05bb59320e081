//! FLAC, Ogg (Vorbis and Opus) and MP3 files as mono samples. Knows containers and codecs, not who hears them; WAV files
//! have a reader of their own.

use std::fs::File;
use std::io;

use rtrb::Producer;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use voipd_audio::Codec;

use super::wav::RATES;

/// Packets in a row that may be broken.
const MOST_BROKEN: usize = 50;
/// Samples of the longest Opus packet: 120 ms at 48 kHz (RFC 6716 section 3.2.5).
const LONGEST_OPUS: usize = 5760;

/// Reads mono samples from a file.
pub(super) struct Decoder {
    format: Box<dyn FormatReader>,
    codec: CodecDecoder,
    track: u32,
    pub(super) rate: u32,
    /// Samples that are decoded, and how many of them have been taken.
    mono: Vec<f32>,
    taken: usize,
}

enum CodecDecoder {
    Symphonia {
        decoder: Box<dyn AudioDecoder>,
        interleaved: Vec<f32>,
    },
    /// With the samples that are still to be thrown away at its beginning.
    Opus(Box<voipd_audio::codec::Decoder>, u64),
}

impl Decoder {
    pub(super) fn new(file: File) -> Result<Self, String> {
        let unknown = "this is not a WAV file, nor one of FLAC, Ogg Vorbis, Ogg Opus or MP3";
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let format = symphonia::default::get_probe()
            .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|error| match error {
                Error::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.to_string(),
                _ => unknown.to_owned(),
            })?;
        let track = format.default_track(TrackType::Audio).ok_or("there is no sound in this file")?;
        let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
        let parameters = parameters.ok_or("the file does not say how its sound is encoded")?;
        let (id, rate, delay) = (track.id, rate(parameters)?, track.delay.unwrap_or_default());
        let codec = if parameters.codec == CODEC_ID_OPUS {
            let decoder = voipd_audio::codec::Decoder::new(Codec::Opus).map_err(|error| error.to_string())?;
            CodecDecoder::Opus(Box::new(decoder), delay.into())
        } else {
            let made = symphonia::default::get_codecs()
                .make_audio_decoder(parameters, &AudioDecoderOptions::default());
            let decoder = made.map_err(|error| format!("the file's sound cannot be decoded: {error}"))?;
            CodecDecoder::Symphonia { decoder, interleaved: Vec::new() }
        };
        let mut decoder = Self { format, codec, track: id, rate, mono: Vec::new(), taken: 0 };
        match decoder.read() {
            Ok(true) => Ok(decoder),
            Ok(false) => Err("there is no sound in this file".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Fills the ring as far as it has room; `false` when the file has ended.
    pub(super) fn fill(&mut self, ring: &mut Producer<f32>) -> io::Result<bool> {
        loop {
            let rest = self.mono.get(self.taken..).unwrap_or_default();
            let (taken, _) = ring.push_partial_slice(rest);
            self.taken += taken.len();
            if self.taken < self.mono.len() {
                return Ok(true);
            }
            if !self.read()? {
                return Ok(false);
            }
        }
    }

    /// Decodes the next packet that gives something; `false` at the end.
    fn read(&mut self) -> io::Result<bool> {
        (self.mono, self.taken) = (Vec::new(), 0);
        let mut broken = 0;
        while broken < MOST_BROKEN {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                // Where another stream is chained to the first, this one is over.
                Ok(None) | Err(Error::ResetRequired) => return Ok(false),
                // A file that was cut off gives what it has.
                Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(false);
                }
                Err(Error::IoError(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error.to_string())),
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.codec.decode(&packet, &mut self.mono) {
                Ok(()) if self.mono.is_empty() => {}
                Ok(()) => return Ok(true),
                Err(()) => broken += 1,
            }
        }
        Err(io::Error::other("too much of the file is damaged"))
    }
}

/// Hertz.
fn rate(parameters: &AudioCodecParameters) -> Result<u32, String> {
    // What an Opus file was made of does not matter: it is decoded at 48 kHz.
    let rate = if parameters.codec == CODEC_ID_OPUS { Some(48_000) } else { parameters.sample_rate };
    let rate = rate.ok_or("the file does not say its sampling rate")?;
    match RATES.contains(&rate) {
        true => Ok(rate),
        false => Err(format!("the file's sampling rate of {rate} Hz is not supported")),
    }
}

impl CodecDecoder {
    /// Appends the sound of a packet; an error for one that is broken.
    fn decode(&mut self, packet: &Packet, mono: &mut Vec<f32>) -> Result<(), ()> {
        match self {
            Self::Symphonia { decoder, interleaved } => {
                let decoded = decoder.decode(packet).map_err(|_| ())?;
                let channels = decoded.spec().channels().count().max(1);
                interleaved.resize(decoded.samples_interleaved(), 0.0);
                decoded.copy_to_slice_interleaved(&mut *interleaved);
                let frames = interleaved.chunks_exact(channels);
                mono.extend(frames.map(|frame| fit(frame.iter().sum::<f32>() / channels as f32)));
                Ok(())
            }
            Self::Opus(decoder, delay) => {
                let mut samples = [0.0; LONGEST_OPUS];
                let count = decoder.decode(&packet.data, &mut samples).map_err(|_| ())?;
                // What the encoder needed to begin, and to fill its last packet (RFC 7845 section 4).
                let trim = |time: u64| usize::try_from(time).unwrap_or(usize::MAX).min(count);
                let (begin, end) = (trim(*delay), count - trim(packet.trim_end.get()));
                *delay -= begin as u64;
                mono.extend(samples.get(begin..end).unwrap_or_default().iter().copied().map(fit));
                Ok(())
            }
        }
    }
}

fn fit(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}
