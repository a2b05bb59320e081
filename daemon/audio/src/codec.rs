//! Codecs: one encoder and one decoder for each [`Codec`], into the caller's buffers, without allocation after `new`.
//! It knows payloads and samples; it does not know packets, time or loss patterns.

mod concealment;
mod g711;
mod g722;
mod opus;

use concealment::Concealment;
use g711::Law;

use crate::plan::Codec;

pub use g711::{ulaw_code, ulaw_sample};

/// Why a codec could not be made or fed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// libopus would not make an encoder or decoder (control thread only).
    #[error("libopus refused: {0}")]
    Opus(String),
    /// The payload is no frame of this codec (the peer's fault).
    #[error("malformed payload")]
    Malformed,
    /// The buffers handed in do not fit: too small, or a frame length that the codec does not have (our fault).
    #[error("buffer of a wrong length")]
    Buffer,
}

impl Codec {
    /// Rate at which this codec's samples are decoded and mixed, in hertz.
    pub const fn sample_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::G722 => 16_000,
            Codec::Pcmu | Codec::Pcma => 8_000,
        }
    }
    /// RTP clock rate in hertz: that of the samples, but for G.722, whose clock an old error has fixed at 8000 (RFC 3551
    /// section 4.5.2).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::G722 => 8_000,
            Codec::Opus | Codec::Pcmu | Codec::Pcma => self.sample_rate(),
        }
    }
}

/// How to encode; only Opus looks at more than the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// What to encode to.
    pub codec: Codec,
    /// Most bits per second that the peer wants (RFC 7587 `maxaveragebitrate`); never exceeded, and never raised above
    /// [`OPUS_BITRATE`].
    pub bitrate: Option<u32>,
    /// The peer can use in-band FEC. It is spent only once [`Encoder::set_packet_loss`] tells of enough loss.
    pub fec: bool,
    /// Send nothing while there is nothing to hear.
    pub dtx: bool,
    /// 0 to 10.
    pub complexity: u8,
}

/// Bits per second of our Opus unless the peer wants fewer: fullband mono speech at 20 ms.
pub const OPUS_BITRATE: u32 = 32_000;

/// Encoder of one stream.
pub struct Encoder(EncoderKind);

enum EncoderKind {
    G711(Law),
    G722(Box<g722::Encoder>),
    Opus(opus::Encoder),
}

impl Encoder {
    /// Control thread: allocates.
    pub fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        Ok(Encoder(match settings.codec {
            Codec::Pcmu => EncoderKind::G711(Law::Mu),
            Codec::Pcma => EncoderKind::G711(Law::A),
            Codec::G722 => EncoderKind::G722(Box::new(g722::Encoder::new())),
            Codec::Opus => EncoderKind::Opus(opus::Encoder::new(settings)?),
        }))
    }

    /// Encodes one packet's samples (ptime × rate) and returns the payload's length; 0 means "send nothing" (DTX).
    /// Opus has frames of 2.5, 5, 10, 20, 40 and 60 ms only. Real-time thread: allocates nothing.
    pub fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, CodecError> {
        match &mut self.0 {
            EncoderKind::G711(law) => {
                let payload = payload.get_mut(..samples.len()).ok_or(CodecError::Buffer)?;
                law.encode(samples, payload);
                Ok(payload.len())
            }
            EncoderKind::G722(encoder) => {
                let octets = samples.len() / g722::SAMPLES_PER_OCTET;
                let payload = payload.get_mut(..octets).ok_or(CodecError::Buffer)?;
                encoder.encode(samples, payload);
                Ok(octets)
            }
            EncoderKind::Opus(encoder) => encoder.encode(samples, payload),
        }
    }

    /// Real-time thread: trades quality for time, 0 (cheapest) to 10. G.711 and G.722 have one way only.
    pub fn set_complexity(&mut self, complexity: u8) {
        if let EncoderKind::Opus(encoder) = &mut self.0 {
            encoder.set_complexity(complexity);
        }
    }

    /// Real-time thread: the loss that the peer reports, in per cent. Opus spends bits on FEC above
    /// [`FEC_LOSS_PERCENT`] if the settings allow FEC at all.
    pub fn set_packet_loss(&mut self, percent: u8) {
        if let EncoderKind::Opus(encoder) = &mut self.0 {
            encoder.set_packet_loss(percent);
        }
    }
}

/// Loss from which on Opus's in-band FEC gives more than it takes: libopus 1.3.1 at 24 kbit/s scores PESQ-wb 3.77
/// without and 2.41 with FEC on a clean wire, 1.73 without and 2.19 with it at 10 % loss.
pub const FEC_LOSS_PERCENT: u8 = 8;

/// Decoder and concealment of one stream, one codec.
pub struct Decoder(DecoderKind);

enum DecoderKind {
    G711(Law, Box<Concealment>),
    G722(Box<g722::Decoder>, Box<Concealment>),
    Opus(opus::Decoder),
}

impl Decoder {
    /// Control thread: allocates.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        let concealment = || Box::new(Concealment::new(codec.sample_rate()));
        let g711 = |law| DecoderKind::G711(law, concealment());
        Ok(Decoder(match codec {
            Codec::Pcmu => g711(Law::Mu),
            Codec::Pcma => g711(Law::A),
            Codec::G722 => DecoderKind::G722(Box::new(g722::Decoder::new()), concealment()),
            Codec::Opus => DecoderKind::Opus(opus::Decoder::new()?),
        }))
    }

    /// Samples that `payload` holds, at the codec's rate, without decoding it.
    pub fn duration(&self, payload: &[u8]) -> Result<usize, CodecError> {
        match &self.0 {
            DecoderKind::G711(..) | DecoderKind::G722(..) if payload.is_empty() => Err(CodecError::Malformed),
            DecoderKind::G711(..) => Ok(payload.len()),
            DecoderKind::G722(..) => Ok(payload.len() * g722::SAMPLES_PER_OCTET),
            DecoderKind::Opus(_) => opus::duration(payload),
        }
    }

    /// Decodes one payload into `samples` and returns how many samples it gave. After concealment the join is smoothed.
    pub fn decode(&mut self, payload: &[u8], samples: &mut [f32]) -> Result<usize, CodecError> {
        let duration = self.duration(payload)?;
        let samples = samples.get_mut(..duration).ok_or(CodecError::Buffer)?;
        match &mut self.0 {
            DecoderKind::G711(law, concealment) => {
                law.decode(payload, samples);
                concealment.good(samples);
                Ok(duration)
            }
            DecoderKind::G722(decoder, concealment) => {
                decoder.decode(payload, samples);
                concealment.good(samples);
                Ok(duration)
            }
            DecoderKind::Opus(decoder) => decoder.decode(payload, samples),
        }
    }

    /// Makes up `samples.len()` samples (10 ms) for what did not arrive: libopus's own concealment for Opus (comfort
    /// noise where the sender had stopped), pitch repetition with fade for G.711 and G.722 (in the manner of ITU-T
    /// G.711 Appendix I).
    pub fn conceal(&mut self, samples: &mut [f32]) {
        match &mut self.0 {
            DecoderKind::G711(_, concealment) | DecoderKind::G722(_, concealment) => {
                concealment.conceal(samples);
            }
            DecoderKind::Opus(decoder) => decoder.conceal(samples),
        }
    }

    /// The lost packet before `next`, from its in-band FEC, where the codec has it and it is there: fills `samples`,
    /// which are as many as the lost packet had, and answers their number. `None`: nothing was touched, conceal instead.
    pub fn decode_fec(&mut self, next: &[u8], samples: &mut [f32]) -> Option<usize> {
        match &mut self.0 {
            DecoderKind::G711(..) | DecoderKind::G722(..) => None,
            DecoderKind::Opus(decoder) => decoder.decode_fec(next, samples),
        }
    }

    /// Forgets what was heard: the stream begins anew.
    pub fn reset(&mut self) {
        match &mut self.0 {
            DecoderKind::G711(_, concealment) => concealment.reset(),
            DecoderKind::G722(decoder, concealment) => {
                **decoder = g722::Decoder::new();
                concealment.reset();
            }
            DecoderKind::Opus(decoder) => decoder.reset(),
        }
    }
}
