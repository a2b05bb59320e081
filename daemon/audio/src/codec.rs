//! Codecs: one encoder and one decoder for each [`Codec`], into the caller's buffers, without allocation after `new`.
//! It knows payloads and samples; it does not know packets, time or loss patterns.

mod concealment;
mod dred;
mod g711;
mod g722;
mod g726;
#[cfg(feature = "g729")]
mod g729;
#[cfg(feature = "gsm")]
mod gsm;
mod interpolation;
mod libopus;
mod opus;
mod pcm;
#[cfg(feature = "speex")]
mod speex;

use concealment::Concealment;
use g711::Law;

use crate::plan::Codec;

pub use g711::{ulaw_code, ulaw_sample};
pub use opus::StereoEncoder;

/// Why a codec could not be made or fed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// libopus would not make an encoder or decoder (control thread only).
    #[error("libopus refused: {0}")]
    Opus(String),
    /// A codec's library would not make an encoder or decoder (control thread only).
    #[error("the library of {0:?} refused: {1}")]
    Library(Codec, &'static str),
    /// This build does not have the codec (control thread only).
    #[error("this build is without the codec {0:?}")]
    NotBuilt(Codec),
    /// The payload is no frame of this codec (the peer's fault).
    #[error("malformed payload")]
    Malformed,
    /// The buffers handed in do not fit: too small, or a frame length that the codec does not have (our fault).
    #[error("buffer of a wrong length")]
    Buffer,
}

/// Why a library that tells nothing makes no encoder or decoder.
#[cfg(any(feature = "g729", feature = "gsm", feature = "speex"))]
const MISSING: &str = "out of memory";

impl Codec {
    /// Whether this build can encode and decode it: some need a library that can be left out.
    pub const fn is_built(self) -> bool {
        match self {
            Codec::Gsm => cfg!(feature = "gsm"),
            Codec::SpeexNarrow | Codec::SpeexWide => cfg!(feature = "speex"),
            Codec::G729 => cfg!(feature = "g729"),
            Codec::Opus
            | Codec::Pcmu
            | Codec::Pcma
            | Codec::G722
            | Codec::G726
            | Codec::G726Aal2
            | Codec::L16Narrow
            | Codec::L16Wide
            | Codec::L16Full => true,
        }
    }

    /// Rate at which this codec's samples are decoded and mixed, in hertz.
    pub const fn sample_rate(self) -> u32 {
        match self {
            Codec::Opus | Codec::L16Full => 48_000,
            Codec::G722 | Codec::L16Wide | Codec::SpeexWide => 16_000,
            Codec::Pcmu
            | Codec::Pcma
            | Codec::L16Narrow
            | Codec::G726
            | Codec::G726Aal2
            | Codec::Gsm
            | Codec::SpeexNarrow
            | Codec::G729 => 8_000,
        }
    }

    /// RTP clock rate in hertz: that of the samples, but for G.722, whose clock an old error has fixed at 8000 (RFC 3551
    /// section 4.5.2).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::G722 => 8_000,
            _ => self.sample_rate(),
        }
    }
}

/// How to encode; only Opus looks at more than the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// What to encode to.
    pub codec: Codec,
    /// Most bits per second that the peer wants (RFC 7587 `maxaveragebitrate`); never exceeded.
    pub bitrate: Option<u32>,
    /// The peer can use in-band FEC. None is spent before [`Encoder::set_fec`].
    pub fec: bool,
    /// Send nothing while there is nothing to hear.
    pub dtx: bool,
    /// Every packet has the same length.
    pub cbr: bool,
    /// The highest rate in hertz that the peer plays: what lies above half of it is not coded.
    pub max_playback_rate: Option<u32>,
    /// 0 to 10.
    pub complexity: u8,
}

impl EncoderSettings {
    /// For a peer that asks for nothing. `complexity`: 0 to 10.
    pub fn new(codec: Codec, complexity: u8) -> Self {
        EncoderSettings {
            codec,
            bitrate: None,
            fec: false,
            dtx: false,
            cbr: false,
            max_playback_rate: None,
            complexity,
        }
    }
}

/// Bits per second of our Opus unless something else is asked for: fullband mono speech at 20 ms.
pub const OPUS_BITRATE: u32 = 32_000;

/// Encoder of one stream.
pub struct Encoder(EncoderKind);

enum EncoderKind {
    G711(Law),
    G722(Box<g722::Encoder>),
    L16,
    G726(Box<g726::Encoder>),
    #[cfg(feature = "gsm")]
    Gsm(gsm::Encoder),
    #[cfg(feature = "speex")]
    Speex(speex::Encoder),
    #[cfg(feature = "g729")]
    G729(g729::Encoder),
    Opus(opus::Encoder),
}

impl Encoder {
    /// Control thread: allocates.
    pub fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        Ok(Encoder(match settings.codec {
            Codec::Pcmu => EncoderKind::G711(Law::Mu),
            Codec::Pcma => EncoderKind::G711(Law::A),
            Codec::G722 => EncoderKind::G722(Box::new(g722::Encoder::new())),
            Codec::L16Narrow | Codec::L16Wide | Codec::L16Full => EncoderKind::L16,
            Codec::G726 => EncoderKind::G726(Box::new(g726::Encoder::new(g726::Packing::Rtp))),
            Codec::G726Aal2 => EncoderKind::G726(Box::new(g726::Encoder::new(g726::Packing::Aal2))),
            #[cfg(feature = "gsm")]
            Codec::Gsm => EncoderKind::Gsm(gsm::Encoder::new()?),
            #[cfg(feature = "speex")]
            Codec::SpeexNarrow => EncoderKind::Speex(speex::Encoder::new(speex::Band::Narrow)?),
            #[cfg(feature = "speex")]
            Codec::SpeexWide => EncoderKind::Speex(speex::Encoder::new(speex::Band::Wide)?),
            #[cfg(feature = "g729")]
            Codec::G729 => EncoderKind::G729(g729::Encoder::new()?),
            Codec::Opus => EncoderKind::Opus(opus::Encoder::new(settings)?),
            #[allow(unreachable_patterns, reason = "not where all features are on")]
            other => return Err(CodecError::NotBuilt(other)),
        }))
    }

    /// Encodes one packet's samples (ptime × rate) and returns the payload's length; 0 means "send nothing" (DTX).
    /// Opus has frames of 2.5, 5, 10, 20, 40 and 60 ms only, GSM and Speex have frames of 20 ms. Real-time thread:
    /// allocates nothing.
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
            EncoderKind::L16 => {
                let payload = payload.get_mut(..2 * samples.len()).ok_or(CodecError::Buffer)?;
                pcm::encode_l16(samples, payload);
                Ok(payload.len())
            }
            EncoderKind::G726(encoder) => {
                let octets = samples.len() / g726::SAMPLES_PER_OCTET;
                let payload = payload.get_mut(..octets).ok_or(CodecError::Buffer)?;
                encoder.encode(samples, payload);
                Ok(octets)
            }
            #[cfg(feature = "gsm")]
            EncoderKind::Gsm(encoder) => encoder.encode(samples, payload),
            #[cfg(feature = "speex")]
            EncoderKind::Speex(encoder) => encoder.encode(samples, payload),
            #[cfg(feature = "g729")]
            EncoderKind::G729(encoder) => encoder.encode(samples, payload),
            EncoderKind::Opus(encoder) => encoder.encode(samples, payload),
        }
    }

    /// Whether it can trade quality for time: only Opus.
    pub fn has_complexity(&self) -> bool {
        matches!(self.0, EncoderKind::Opus(_))
    }

    /// Whether a frame takes about a microsecond only.
    pub(crate) fn is_light(&self) -> bool {
        matches!(self.0, EncoderKind::G711(_) | EncoderKind::L16)
    }

    /// Real-time thread: trades quality for time, 0 (cheapest) to 10. The others have one way only.
    pub fn set_complexity(&mut self, complexity: u8) {
        if let EncoderKind::Opus(encoder) = &mut self.0 {
            encoder.set_complexity(complexity);
        }
    }

    /// Real-time thread: bits per second that are wanted, [`OPUS_BITRATE`] where nothing is; never more than the settings
    /// allow. Only Opus has a choice.
    pub fn set_bitrate(&mut self, wanted: Option<u32>) {
        if let EncoderKind::Opus(encoder) = &mut self.0 {
            encoder.set_bitrate(wanted);
        }
    }

    /// Bits per second that the encoder is asked for; 0 where it has no choice.
    pub fn bitrate(&self) -> u32 {
        match &self.0 {
            EncoderKind::Opus(encoder) => encoder.bitrate(),
            _ => 0,
        }
    }

    /// Real-time thread: begins or ends to spend bits on in-band FEC; answers whether it is spent now. Only Opus has it, and
    /// only where the settings allow it.
    pub fn set_fec(&mut self, wanted: bool) -> bool {
        match &mut self.0 {
            EncoderKind::Opus(encoder) => encoder.set_fec(wanted),
            _ => false,
        }
    }
}

/// What libopus is told of the loss, whatever it is, while FEC is on, at so many bits per second. From 10 % on libopus 1.3.1
/// gives the sound itself so little that nothing is won, and without a limit to wideband it narrows the band to 6 kHz. Told
/// 5 % or less, it sends no FEC below some 23.5 kbit/s (25 at complexity 5); told more, it does from 18 on. PESQ-wb of
/// packets of 40 ms, with 3 and 10 % of random loss (eight voices): 22 kbit/s, told 5 % 3.04 and 1.88, 6 % 3.60 and 3.03,
/// 10 % 3.53 and 3.00, 15 % 2.95 and 2.62. 26 kbit/s, told 5 % 3.90 and 3.28, 6 % 3.89 and 3.32, 8 % 3.81 and 3.28; without
/// any loss 4.12, 4.07 and 3.98.
const fn fec_loss_percent(bitrate: u32) -> u8 {
    if bitrate < 26_000 { 6 } else { 5 }
}

/// Decoder and concealment of one stream, one codec.
pub struct Decoder(DecoderKind);

enum DecoderKind {
    G711(Law, Box<Concealment>),
    G722(Box<g722::Decoder>, Box<Concealment>),
    L16(Box<Concealment>),
    G726(Box<g726::Decoder>, Box<Concealment>),
    #[cfg(feature = "gsm")]
    Gsm(gsm::Decoder, Box<Concealment>),
    #[cfg(feature = "speex")]
    Speex(speex::Decoder),
    #[cfg(feature = "g729")]
    G729(g729::Decoder),
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
            Codec::L16Narrow | Codec::L16Wide | Codec::L16Full => DecoderKind::L16(concealment()),
            Codec::G726 => DecoderKind::G726(Box::new(g726::Decoder::new(g726::Packing::Rtp)), concealment()),
            Codec::G726Aal2 => {
                DecoderKind::G726(Box::new(g726::Decoder::new(g726::Packing::Aal2)), concealment())
            }
            #[cfg(feature = "gsm")]
            Codec::Gsm => DecoderKind::Gsm(gsm::Decoder::new()?, concealment()),
            #[cfg(feature = "speex")]
            Codec::SpeexNarrow => DecoderKind::Speex(speex::Decoder::new(speex::Band::Narrow)?),
            #[cfg(feature = "speex")]
            Codec::SpeexWide => DecoderKind::Speex(speex::Decoder::new(speex::Band::Wide)?),
            #[cfg(feature = "g729")]
            Codec::G729 => DecoderKind::G729(g729::Decoder::new()?),
            Codec::Opus => DecoderKind::Opus(opus::Decoder::new()?),
            #[allow(unreachable_patterns, reason = "not where all features are on")]
            other => return Err(CodecError::NotBuilt(other)),
        }))
    }

    /// Samples that `payload` holds, at the codec's rate, without decoding it.
    pub fn duration(&self, payload: &[u8]) -> Result<usize, CodecError> {
        match &self.0 {
            _ if payload.is_empty() => Err(CodecError::Malformed),
            DecoderKind::G711(..) => Ok(payload.len()),
            DecoderKind::G722(..) => Ok(payload.len() * g722::SAMPLES_PER_OCTET),
            DecoderKind::L16(_) if payload.len().is_multiple_of(2) => Ok(payload.len() / 2),
            DecoderKind::L16(_) => Err(CodecError::Malformed),
            DecoderKind::G726(..) => Ok(payload.len() * g726::SAMPLES_PER_OCTET),
            #[cfg(feature = "gsm")]
            DecoderKind::Gsm(..) => gsm::duration(payload),
            #[cfg(feature = "speex")]
            DecoderKind::Speex(decoder) => decoder.duration(payload),
            #[cfg(feature = "g729")]
            DecoderKind::G729(_) => g729::duration(payload),
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
                if decoder.is_tracking() {
                    let mut foreseen = [0.0; g722::TRACKED_BEYOND];
                    concealment.foresee(&mut foreseen);
                    decoder.resume(concealment.history(), &foreseen);
                }
                decoder.decode(payload, samples);
                concealment.good(samples);
                Ok(duration)
            }
            DecoderKind::L16(concealment) => {
                pcm::decode_l16(payload, samples);
                concealment.good(samples);
                Ok(duration)
            }
            DecoderKind::G726(decoder, concealment) => {
                decoder.decode(payload, samples);
                concealment.good(samples);
                Ok(duration)
            }
            #[cfg(feature = "gsm")]
            DecoderKind::Gsm(decoder, concealment) => {
                decoder.decode(payload, samples)?;
                concealment.good(samples);
                Ok(duration)
            }
            #[cfg(feature = "speex")]
            DecoderKind::Speex(decoder) => decoder.decode(payload, samples).map(|()| duration),
            #[cfg(feature = "g729")]
            DecoderKind::G729(decoder) => {
                decoder.decode(payload, samples);
                Ok(duration)
            }
            DecoderKind::Opus(decoder) => decoder.decode(payload, samples),
        }
    }

    /// Makes up `samples.len()` samples (10 ms) for what did not arrive: the library's own concealment for Opus (comfort
    /// noise where the sender had stopped), Speex and G.729, pitch repetition with fade for the others (in the manner of
    /// ITU-T G.711 Appendix I).
    pub fn conceal(&mut self, samples: &mut [f32]) {
        match &mut self.0 {
            DecoderKind::G722(decoder, concealment) => {
                for step in samples.chunks_mut(interpolation::LONGEST) {
                    let before = last_heard(concealment).unwrap_or_default();
                    concealment.conceal(step);
                    decoder.track(&before, step);
                }
            }
            DecoderKind::G711(_, concealment)
            | DecoderKind::L16(concealment)
            | DecoderKind::G726(_, concealment) => concealment.conceal(samples),
            #[cfg(feature = "gsm")]
            DecoderKind::Gsm(_, concealment) => concealment.conceal(samples),
            #[cfg(feature = "speex")]
            DecoderKind::Speex(decoder) => decoder.conceal(samples),
            #[cfg(feature = "g729")]
            DecoderKind::G729(decoder) => decoder.conceal(samples),
            DecoderKind::Opus(decoder) => decoder.conceal(samples),
        }
    }

    /// What [`Decoder::conceal_better`] costs for so many samples, in what [`Decoder::interpolation_work`] counts; 0 where
    /// there is one way only. libopus from 1.5 on has a neural network for it, which takes 0.27 ms for 10 ms of sound, in
    /// place of 0.015 ms.
    pub fn better_concealment_work(&self, samples: usize) -> u64 {
        match &self.0 {
            DecoderKind::Opus(decoder) if decoder.may_conceal_better() => 450_000 * samples as u64 / 480,
            _ => 0,
        }
    }

    /// As [`Decoder::conceal`], as well as the library can, and costly.
    pub fn conceal_better(&mut self, samples: &mut [f32]) {
        match &mut self.0 {
            DecoderKind::Opus(decoder) => decoder.conceal_better(samples),
            _ => self.conceal(samples),
        }
    }

    /// Whether what is made up changes what is decoded next.
    pub fn is_moved_by_concealment(&self) -> bool {
        match &self.0 {
            DecoderKind::Opus(_) => true,
            #[cfg(feature = "speex")]
            DecoderKind::Speex(_) => true,
            #[cfg(feature = "g729")]
            DecoderKind::G729(_) => true,
            _ => false,
        }
    }

    /// Whether the payload holds in-band FEC for the packet before it.
    pub fn carries_fec(&self, payload: &[u8]) -> bool {
        matches!(&self.0, DecoderKind::Opus(_)) && opus::has_fec(payload)
    }

    /// Whether a lost packet is better made up when the one behind it has come ([`Decoder::interpolate`]).
    pub fn looks_ahead(&self) -> bool {
        match &self.0 {
            DecoderKind::G711(_, concealment)
            | DecoderKind::G722(_, concealment)
            | DecoderKind::L16(concealment)
            | DecoderKind::G726(_, concealment) => concealment.looked_at() > 0,
            _ => false,
        }
    }

    /// What [`Decoder::interpolate`] costs for so many samples, in multiplications; 0 where it would do nothing.
    pub fn interpolation_work(&self, samples: usize) -> u64 {
        match &self.0 {
            DecoderKind::G711(_, concealment)
            | DecoderKind::L16(concealment)
            | DecoderKind::G726(_, concealment) => concealment.interpolation_work(samples),
            // It looks at what follows by a trial.
            DecoderKind::G722(_, concealment) => concealment.interpolation_work(samples) * 3 / 2,
            _ => 0,
        }
    }

    /// The lost packet before `next`, made up from what lies on both sides of it, where the codec has no other way: fills
    /// `samples`, which are as many as the lost packet had, and answers their number. `None`: nothing was touched, conceal
    /// instead.
    pub fn interpolate(&mut self, next: &[u8], samples: &mut [f32]) -> Option<usize> {
        let mut ahead = [0.0; interpolation::MAX_LOOKED_AT];
        // As much of what follows as is looked at, where so many bytes hold so many samples.
        let first = |concealment: &Concealment, bytes: usize, of_samples: usize| {
            let whole = next.len() / bytes;
            whole.min(concealment.looked_at() / of_samples)
        };
        match &mut self.0 {
            DecoderKind::G711(law, concealment) => {
                let ahead = ahead.get_mut(..first(concealment, 1, 1))?;
                law.decode(next, ahead);
                concealment.interpolate(ahead, samples).then_some(samples.len())
            }
            DecoderKind::L16(concealment) => {
                let ahead = ahead.get_mut(..first(concealment, 2, 1))?;
                pcm::decode_l16(next, ahead);
                concealment.interpolate(ahead, samples).then_some(samples.len())
            }
            DecoderKind::G726(decoder, concealment) => {
                let octets = first(concealment, 1, g726::SAMPLES_PER_OCTET);
                let ahead = ahead.get_mut(..octets * g726::SAMPLES_PER_OCTET)?;
                (**decoder).clone().decode(next.get(..octets)?, ahead);
                concealment.interpolate(ahead, samples).then_some(samples.len())
            }
            DecoderKind::G722(decoder, concealment) => {
                let octets = first(concealment, 1, g722::SAMPLES_PER_OCTET);
                let ahead = ahead.get_mut(..octets * g722::SAMPLES_PER_OCTET)?;
                let mut foreseen = [0.0; interpolation::LONGEST + g722::TRACKED_BEYOND];
                let foreseen = foreseen.get_mut(..samples.len() + g722::TRACKED_BEYOND)?;
                // What follows can only be decoded once there is something in the gap: a guess for a first look.
                concealment.foresee(foreseen);
                let before = last_heard(concealment)?;
                let mut trial = (**decoder).clone();
                trial.resume(&before, foreseen);
                trial.decode(next.get(..octets)?, ahead);
                if !concealment.interpolate(ahead, samples) {
                    return None;
                }
                decoder.track(&before, samples);
                decoder.resume(&before, ahead.get(..g722::TRACKED_BEYOND)?);
                Some(samples.len())
            }
            _ => None,
        }
    }

    /// The lost packet before `next`, from its in-band FEC, where the codec has it and it is there: fills `samples`,
    /// which are as many as the lost packet had, and answers their number. `None`: nothing was touched, conceal instead.
    pub fn decode_fec(&mut self, next: &[u8], samples: &mut [f32]) -> Option<usize> {
        match &mut self.0 {
            DecoderKind::Opus(decoder) => decoder.decode_fec(next, samples),
            _ => None,
        }
    }

    /// How many samples before the packet it describes, as far as sound waits for them: Opus with deep redundancy (DRED), where
    /// libopus can read it.
    pub fn described(&mut self, payload: &[u8]) -> usize {
        match &mut self.0 {
            DecoderKind::Opus(decoder) => decoder.described(payload),
            _ => 0,
        }
    }

    /// A lost packet by a later one's description of it: fills `samples`, which are as many as the lost packet had and begin
    /// `before` samples before the later one, and answers their number. It costs what [`Decoder::better_concealment_work`]
    /// says. `None`: nothing was touched, conceal instead.
    pub fn decode_description(&mut self, later: &[u8], before: usize, samples: &mut [f32]) -> Option<usize> {
        match &mut self.0 {
            DecoderKind::Opus(decoder) => decoder.decode_description(later, before, samples),
            _ => None,
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
            DecoderKind::L16(concealment) => concealment.reset(),
            DecoderKind::G726(decoder, concealment) => {
                decoder.reset();
                concealment.reset();
            }
            // libgsm and libbcg729 cannot forget without freeing; the next frames push out what they remember.
            #[cfg(feature = "gsm")]
            DecoderKind::Gsm(_, concealment) => concealment.reset(),
            #[cfg(feature = "speex")]
            DecoderKind::Speex(decoder) => decoder.reset(),
            #[cfg(feature = "g729")]
            DecoderKind::G729(_) => {}
            DecoderKind::Opus(decoder) => decoder.reset(),
        }
    }
}

/// As much of what was heard last as G.722 needs to go on from there.
fn last_heard(concealment: &Concealment) -> Option<[f32; g722::BEFORE]> {
    concealment.history().last_chunk().copied()
}
