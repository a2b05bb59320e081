//! Opus, mono at 48 kHz, through the system's libopus. It reads of the packet format (RFC 6716 section 3) what is needed
//! to know a packet's length and whether it carries FEC; all else is libopus's.

use audiopus::packet::Packet;
use audiopus::softclip::SoftClip;
use audiopus::{Application, Bandwidth, Bitrate, Channels, MutSignals, SampleRate, Signal, coder};

use super::dred::Dred;
use super::libopus::Library;
use super::{CodecError, EncoderSettings, OPUS_BITRATE, fec_loss_percent};

/// Most samples of one packet: 120 ms (RFC 6716 section 3.2.5).
const MAX_SAMPLES: usize = 5760;
/// Smallest unit of libopus's concealment: 2.5 ms.
const UNIT: usize = 120;
/// A payload this short only says that the sender has stopped, and need not be sent (libopus: `opus_encode`).
const DTX_LENGTH: usize = 2;
/// Range of bit rates that libopus takes.
const BITRATES: std::ops::RangeInclusive<u32> = 6_000..=510_000;

pub(super) struct Encoder {
    coder: coder::Encoder,
    /// The peer can use FEC.
    fec: bool,
    /// Widest band that the peer plays.
    band: Bandwidth,
    /// Most bits per second that the peer wants.
    most: Option<u32>,
    bitrate: u32,
    /// Bits are spent on FEC.
    protected: bool,
}

impl Encoder {
    pub(super) fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        let band = settings.max_playback_rate.map_or(Bandwidth::Fullband, widest_band);
        let make = || -> audiopus::Result<coder::Encoder> {
            let mut coder = coder::Encoder::new(SampleRate::Hz48000, Channels::Mono, Application::Voip)?;
            coder.set_vbr(!settings.cbr)?;
            coder.set_max_bandwidth(band)?;
            coder.set_signal(Signal::Voice)?;
            coder.set_complexity(settings.complexity.min(10))?;
            coder.set_dtx(settings.dtx)?;
            Ok(coder)
        };
        let coder = make().map_err(|error| CodecError::Opus(error.to_string()))?;
        let mut encoder =
            Encoder { coder, fec: settings.fec, band, most: settings.bitrate, bitrate: 0, protected: false };
        encoder.set_bitrate(None);
        Ok(encoder)
    }

    pub(super) fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, CodecError> {
        if samples.len() > MAX_SAMPLES || payload.is_empty() {
            return Err(CodecError::Buffer);
        }
        let length = self.coder.encode_float(samples, payload).map_err(|_| CodecError::Buffer)?;
        Ok(if length <= DTX_LENGTH { 0 } else { length })
    }

    pub(super) fn set_complexity(&mut self, complexity: u8) {
        // Every value of the range is valid: there is no failure to tell of.
        let _ = self.coder.set_complexity(complexity.min(10));
    }

    pub(super) fn set_bitrate(&mut self, wanted: Option<u32>) {
        let wanted = wanted.unwrap_or(OPUS_BITRATE).min(self.most.unwrap_or(u32::MAX));
        self.bitrate = wanted.clamp(*BITRATES.start(), *BITRATES.end());
        // It is in libopus's range: there is no failure to tell of.
        let _ = self.coder.set_bitrate(Bitrate::BitsPerSecond(self.bitrate as i32));
        self.tell_loss();
    }

    pub(super) fn bitrate(&self) -> u32 {
        self.bitrate
    }

    pub(super) fn set_fec(&mut self, wanted: bool) -> bool {
        self.protected = wanted && self.fec;
        let wider = matches!(self.band, Bandwidth::Superwideband | Bandwidth::Fullband);
        let band = if self.protected && wider { Bandwidth::Wideband } else { self.band };
        // Every one of these values is valid.
        let _ = self.coder.set_inband_fec(self.protected);
        let _ = self.coder.set_max_bandwidth(band);
        self.tell_loss();
        self.protected
    }

    fn tell_loss(&mut self) {
        let loss = if self.protected { fec_loss_percent(self.bitrate) } else { 0 };
        // It is below 100: there is no failure to tell of.
        let _ = self.coder.set_packet_loss_perc(loss);
    }
}

/// Two channels that are kept, not sent: what recordings are made with.
pub struct StereoEncoder(coder::Encoder);

impl StereoEncoder {
    /// Not for the real-time thread: allocates. `bitrate` in bits per second, of both channels.
    pub fn new(bitrate: u32) -> Result<Self, CodecError> {
        let make = || -> audiopus::Result<coder::Encoder> {
            // For speech alone libopus would fold both channels into one at lower rates.
            let mut coder = coder::Encoder::new(SampleRate::Hz48000, Channels::Stereo, Application::Audio)?;
            coder.set_bitrate(Bitrate::BitsPerSecond(
                bitrate.clamp(*BITRATES.start(), *BITRATES.end()) as i32
            ))?;
            coder.set_force_channels(Channels::Stereo)?;
            Ok(coder)
        };
        make().map(StereoEncoder).map_err(|error| CodecError::Opus(error.to_string()))
    }

    /// `samples`: left and right by turns at 48 kHz, a packet's worth (RFC 6716 section 2.1.4); answers the payload's
    /// octets.
    pub fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, CodecError> {
        self.0.encode_float(samples, payload).map_err(|_| CodecError::Buffer)
    }
}

/// The widest band that is of use to whoever plays at this rate in hertz (RFC 7587 section 6.1).
fn widest_band(playback_rate: u32) -> Bandwidth {
    match playback_rate {
        0..12_000 => Bandwidth::Narrowband,
        12_000..16_000 => Bandwidth::Mediumband,
        16_000..24_000 => Bandwidth::Wideband,
        24_000..48_000 => Bandwidth::Superwideband,
        _ => Bandwidth::Fullband,
    }
}

pub(super) struct Decoder {
    library: Library,
    /// Where libopus has it.
    dred: Option<Dred>,
    /// What is decoded can go beyond full scale, of a malformed packet by far.
    clip: SoftClip,
}

impl Decoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        let clip = SoftClip::new(Channels::Mono);
        Ok(Decoder { library: Library::new()?, dred: Dred::new(), clip })
    }

    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) -> Result<usize, CodecError> {
        self.run(Some(payload), samples, false).ok_or(CodecError::Malformed)
    }

    pub(super) fn conceal(&mut self, samples: &mut [f32]) {
        for chunk in samples.chunks_mut(MAX_SAMPLES) {
            // libopus conceals whole units; the rest of an odd request is silence.
            let whole = chunk.len() / UNIT * UNIT;
            let (concealed, rest) = chunk.split_at_mut(whole);
            if !concealed.is_empty() && self.run(None, concealed, false).is_none() {
                concealed.fill(0.0);
            }
            rest.fill(0.0);
        }
    }

    pub(super) fn decode_fec(&mut self, next: &[u8], samples: &mut [f32]) -> Option<usize> {
        // libopus fills what the FEC does not reach back to by concealment; less than the FEC frame it cannot give.
        let whole = !samples.is_empty() && samples.len().is_multiple_of(UNIT) && samples.len() <= MAX_SAMPLES;
        if !whole || !has_fec(next) || samples.len() < frame_length(next[0]) {
            return None;
        }
        self.run(Some(next), samples, true)
    }

    /// Samples before the packet of which it tells ([`Dred::reach`]).
    pub(super) fn described(&mut self, payload: &[u8]) -> usize {
        self.dred.as_mut().map_or(0, |dred| dred.reach(payload))
    }

    /// See [`Dred::decode`].
    pub(super) fn decode_description(
        &mut self,
        later: &[u8],
        before: usize,
        samples: &mut [f32],
    ) -> Option<usize> {
        let whole = !samples.is_empty() && samples.len().is_multiple_of(UNIT) && samples.len() <= MAX_SAMPLES;
        let dred = self.dred.as_mut().filter(|_| whole)?;
        // It speaks with the network that conceals.
        self.library.set_deep(true);
        let decoded = dred.decode(&mut self.library, later, before, samples);
        self.library.set_deep(false);
        self.clipped(samples, decoded?)
    }

    /// See [`Library::may_be_deep`].
    pub(super) fn may_conceal_better(&self) -> bool {
        self.library.may_be_deep()
    }

    /// As [`Decoder::conceal`], by libopus's network. It is on for no longer: libopus would also use it for what FEC does not
    /// reach back to, and whoever wants plain concealment would have to remember it.
    pub(super) fn conceal_better(&mut self, samples: &mut [f32]) {
        self.library.set_deep(true);
        self.conceal(samples);
        self.library.set_deep(false);
    }

    pub(super) fn reset(&mut self) {
        self.library.reset();
        self.clip = SoftClip::new(Channels::Mono);
    }

    fn run(&mut self, payload: Option<&[u8]>, samples: &mut [f32], fec: bool) -> Option<usize> {
        let decoded = self.library.decode(payload, samples, fec)?;
        self.clipped(samples, decoded)
    }

    /// The first `decoded` of the samples are sound.
    fn clipped(&mut self, samples: &mut [f32], decoded: usize) -> Option<usize> {
        let sound = samples.get_mut(..decoded)?;
        self.clip.apply(MutSignals::try_from(sound).ok()?).ok()?;
        Some(decoded)
    }
}

/// Samples at 48 kHz in the packet.
pub(super) fn duration(payload: &[u8]) -> Result<usize, CodecError> {
    let packet = Packet::try_from(payload).map_err(|_| CodecError::Malformed)?;
    match audiopus::packet::nb_samples(packet, SampleRate::Hz48000) {
        Ok(samples) if (1..=MAX_SAMPLES).contains(&samples) => Ok(samples),
        _ => Err(CodecError::Malformed),
    }
}

/// Samples at 48 kHz in each frame of a packet that begins with `toc` (RFC 6716 section 3.1, table 2).
fn frame_length(toc: u8) -> usize {
    let configuration = toc >> 3;
    let step = usize::from(configuration & 3);
    match configuration {
        // SILK: 10, 20, 40, 60 ms.
        0..12 => [480, 960, 1920, 2880][step],
        // Hybrid: 10, 20 ms.
        12..16 => 480 << (configuration & 1),
        // CELT: 2.5, 5, 10, 20 ms.
        _ => 120 << step,
    }
}

/// Whether the packet carries a low-bit-rate copy of the frame before it. Only SILK and hybrid frames can; the flag
/// stands behind one voice-activity bit for each 20 ms (RFC 6716 sections 4.2.3 and 4.2.4), uncompressed because the
/// range coder's first symbols have a probability of one half.
pub(super) fn has_fec(payload: &[u8]) -> bool {
    let Some((&toc, _)) = payload.split_first() else { return false };
    if toc >> 3 >= 16 {
        return false;
    }
    let Some(&first) = first_frame(payload).and_then(<[u8]>::first) else { return false };
    let silk_frames = frame_length(toc).div_ceil(960) as u32;
    let flag = |bits_before: u32| (first >> (7 - bits_before)) & 1 == 1;
    // A stereo packet has the side channel's flags behind the middle's.
    let stereo = toc & 0x04 != 0;
    flag(silk_frames) || (stereo && flag(2 * silk_frames + 1))
}

/// The packet's first frame (RFC 6716 section 3.2), perhaps with more behind it; `None` if it is missing or empty.
fn first_frame(payload: &[u8]) -> Option<&[u8]> {
    let (&toc, rest) = payload.split_first()?;
    match toc & 3 {
        0 | 1 => Some(rest),
        2 => behind_length(rest),
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            if count & 0x40 != 0 {
                (_, rest) = padding_length(rest)?;
            }
            let (variable, frames) = (count & 0x80 != 0, count & 0x3f);
            if !variable {
                return Some(rest);
            }
            // One length for each frame but the last; the first one's comes first.
            let first_length = *rest.first()?;
            for _ in 1..frames {
                rest = skip_length(rest)?;
            }
            (first_length != 0 || frames == 1).then_some(rest)
        }
    }
}

/// The length of a packet's padding, which stands behind the count of frames, and what follows it (RFC 6716 section 3.2.5).
pub(super) fn padding_length(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut total = 0;
    loop {
        let (&length, behind) = bytes.split_first()?;
        bytes = behind;
        if length != 255 {
            return Some((total + usize::from(length), bytes));
        }
        // Says 254, and that another one follows.
        total += 254;
    }
}

/// What follows a frame length, unless that length is 0 (a frame that was not sent).
fn behind_length(bytes: &[u8]) -> Option<&[u8]> {
    if *bytes.first()? == 0 { None } else { skip_length(bytes) }
}

/// What follows a frame length of one or two bytes (RFC 6716 section 3.2.1).
fn skip_length(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(if *bytes.first()? >= 252 { 2 } else { 1 }..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_lengths_follow_the_table_of_configurations() {
        let milliseconds = |configuration: u8| frame_length(configuration << 3) as f32 / 48.0;
        assert_eq!([0, 1, 2, 3].map(milliseconds), [10.0, 20.0, 40.0, 60.0]);
        assert_eq!([12, 13, 14, 15].map(milliseconds), [10.0, 20.0, 10.0, 20.0]);
        assert_eq!([28, 29, 30, 31].map(milliseconds), [2.5, 5.0, 10.0, 20.0]);
    }

    #[test]
    fn the_first_frame_is_found_behind_every_framing() {
        assert_eq!(first_frame(&[0x08, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(first_frame(&[0x0a, 1, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(first_frame(&[0x0a, 252, 1, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(first_frame(&[0x0a, 0, 7]), None);
        assert_eq!(first_frame(&[0x0b, 0x02, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(first_frame(&[0x0b, 0x42, 255, 1, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(first_frame(&[0x0b, 0x82, 1, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(first_frame(&[0x0b, 0x42, 255]), None);
        assert_eq!(first_frame(&[0x0b]), None);
        assert_eq!(first_frame(&[]), None);
    }

    #[test]
    fn better_concealment_ends_with_the_call_that_asked_for_it() {
        // 20 ms of SILK, wideband.
        let mut payload = [0x5a; 31];
        payload[0] = 0x48;
        let heard = |before: fn(&mut Decoder, &mut [f32])| -> Vec<f32> {
            let mut decoder = Decoder::new().unwrap();
            let mut samples = [0.0; 2 * 960];
            decoder.decode(&payload, &mut samples[..960]).unwrap();
            before(&mut decoder, &mut samples[..480]);
            decoder.reset();
            decoder.decode(&payload, &mut samples[..960]).unwrap();
            decoder.conceal(&mut samples[960..]);
            samples.to_vec()
        };
        let plain = heard(Decoder::conceal);
        assert!(plain.iter().any(|sample| *sample != 0.0));
        assert!(heard(Decoder::conceal_better) == plain);
    }

    #[test]
    fn durations_of_malformed_packets_are_refused() {
        assert_eq!(duration(&[]), Err(CodecError::Malformed));
        // Three frames of 60 ms are more than 120 ms.
        assert_eq!(duration(&[0x1b, 0x03, 1, 2, 3]), Err(CodecError::Malformed));
        // No frame at all, and no count byte.
        assert_eq!(duration(&[0x1b, 0x00, 1]), Err(CodecError::Malformed));
        assert_eq!(duration(&[0x1b]), Err(CodecError::Malformed));
        assert_eq!(duration(&[0x08, 1]), Ok(960));
        assert_eq!(duration(&[0x1b, 0x02, 1, 2]), Ok(5760));
    }
}
