//! What an RTP payload type can mean: codecs and telephone events, their parameters in SDP, their numbers.

use sdp_types::{Fmtp, RtpMap};

use crate::codec::Codec;
use crate::redundancy;

/// Clock rates of telephone-event that we know, in hertz: those of our codecs.
const EVENT_RATES: [u32; 3] = [8_000, 16_000, 48_000];

/// Clock rates of comfort noise that we know, in hertz: those of our codecs but Opus and L16 at 48 kHz, which do without.
pub(crate) const NOISE_RATES: [u32; 2] = [8_000, 16_000];
/// The number of comfort noise at 8000 Hz (RFC 3389 section 4).
pub const COMFORT_NOISE: u8 = 13;

/// What a payload type that arrives means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveFormat {
    /// Sound.
    Audio(Codec),
    /// telephone-event with its clock rate in hertz (RFC 4733).
    Events(u32),
    /// Comfort noise with its clock rate in hertz (RFC 3389).
    ComfortNoise(u32),
    /// Redundant audio data with its clock rate in hertz (RFC 2198).
    Redundant(u32),
}

impl ReceiveFormat {
    /// What a=rtpmap names, if it is something we have.
    pub(crate) fn from_rtpmap(map: &RtpMap) -> Option<Self> {
        let given = map.encoding_name.trim();
        let is = |name: &str, rate: u32| given.eq_ignore_ascii_case(name) && map.clock_rate == rate;
        let mono = map.encoding_params.as_deref().is_none_or(|channels| channels == "1");
        // Opus is always named with two channels (RFC 7587 section 7); some peers forget that, and the bits are the same.
        if is("opus", 48_000) && (mono || map.encoding_params.as_deref() == Some("2")) {
            return Some(ReceiveFormat::Audio(Codec::Opus));
        }
        let redundant = redundancy::RATES.into_iter().find(|rate| is("red", *rate));
        if let Some(rate) = redundant
            && (mono || rate == 48_000)
        {
            return Some(ReceiveFormat::Redundant(rate));
        }
        if !mono {
            return None;
        }
        Codec::ALL
            .into_iter()
            .find(|codec| is(codec.encoding_name(), codec.clock_rate()))
            .map(ReceiveFormat::Audio)
            .or_else(|| {
                let rate = EVENT_RATES.into_iter().find(|rate| is("telephone-event", *rate));
                rate.map(ReceiveFormat::Events)
            })
            .or_else(|| {
                let rate = NOISE_RATES.into_iter().find(|rate| is("CN", *rate));
                rate.map(ReceiveFormat::ComfortNoise)
            })
    }

    /// What a payload type without a=rtpmap means (RFC 3551 section 6).
    pub(crate) fn from_static_type(payload_type: u8) -> Option<Self> {
        let known = |codec: &Codec| codec.static_payload_type() == Some(payload_type);
        let noise = (payload_type == COMFORT_NOISE).then_some(ReceiveFormat::ComfortNoise(8_000));
        Codec::ALL.into_iter().find(known).map(ReceiveFormat::Audio).or(noise)
    }

    /// What a=rtpmap means that gives a static payload type its own name and something odd beside it: `G722/16000`, the name
    /// of an annex. The number says what is meant (RFC 3551 section 6).
    pub(crate) fn from_odd_rtpmap(map: &RtpMap) -> Option<Self> {
        let name = static_name(map.payload_type)?;
        let given = map.encoding_name.trim().get(..name.len())?;
        let mono = map.encoding_params.as_deref().is_none_or(|channels| channels == "1");
        Self::from_static_type(map.payload_type).filter(|_| mono && given.eq_ignore_ascii_case(name))
    }

    pub(crate) fn rtpmap(self, payload_type: u8) -> RtpMap {
        match self {
            ReceiveFormat::Audio(Codec::Opus) => {
                RtpMap::with_encoding_params(payload_type, "opus", 48_000, "2")
            }
            ReceiveFormat::Audio(codec) => {
                RtpMap::new(payload_type, codec.encoding_name(), codec.clock_rate())
            }
            ReceiveFormat::Events(rate) => RtpMap::new(payload_type, "telephone-event", rate),
            ReceiveFormat::ComfortNoise(rate) => RtpMap::new(payload_type, "CN", rate),
            ReceiveFormat::Redundant(rate) => redundancy::rtpmap(payload_type, rate),
        }
    }

    /// What we say about how we want to receive this format, among `formats`. `silence_suppression`: pauses need not be
    /// sent to us.
    pub(crate) fn fmtp(self, formats: &[(u8, ReceiveFormat)], silence_suppression: bool) -> Option<String> {
        match self {
            ReceiveFormat::Audio(Codec::Opus) => {
                let pauses = if silence_suppression { ";usedtx=1" } else { "" };
                Some(format!("stereo=0;sprop-stereo=0;useinbandfec=1{pauses}"))
            }
            // Annex B is a way of its own to send pauses (RFC 4856 section 2.1.9).
            ReceiveFormat::Audio(Codec::G729) if !silence_suppression => Some("annexb=no".to_owned()),
            ReceiveFormat::Audio(_) | ReceiveFormat::ComfortNoise(_) => None,
            ReceiveFormat::Events(_) => Some("0-15".to_owned()),
            ReceiveFormat::Redundant(rate) => Some(redundancy::fmtp(rate, formats)),
        }
    }

    /// The number that we give it where nothing speaks against it.
    const fn usual_payload_type(self) -> u8 {
        match self {
            ReceiveFormat::Audio(codec) => codec.usual_payload_type(),
            ReceiveFormat::Events(48_000) => 97,
            ReceiveFormat::Events(16_000) => 105,
            ReceiveFormat::Events(_) => 101,
            ReceiveFormat::ComfortNoise(16_000) => 118,
            ReceiveFormat::ComfortNoise(_) => COMFORT_NOISE,
            ReceiveFormat::Redundant(rate) => redundancy::usual_payload_type(rate),
        }
    }
}

/// The name of a static payload type of RFC 3551, for messages to people.
pub(crate) const fn static_name(payload_type: u8) -> Option<&'static str> {
    match payload_type {
        0 => Some("PCMU"),
        3 => Some("GSM"),
        4 => Some("G723"),
        8 => Some("PCMA"),
        9 => Some("G722"),
        10 | 11 => Some("L16"),
        13 => Some("CN"),
        15 => Some("G728"),
        18 => Some("G729"),
        _ => None,
    }
}

/// How the peer wants Opus (RFC 7587 section 6.1). `stereo` needs no answer: what we send is mono; nor does
/// `sprop-maxcapturerate`: our decoder plays what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpusParameters {
    pub(crate) max_bitrate: Option<u32>,
    pub(crate) fec: bool,
    pub(crate) dtx: bool,
    pub(crate) cbr: bool,
    /// In hertz.
    pub(crate) max_playback_rate: Option<u32>,
}

impl From<&Fmtp> for OpusParameters {
    fn from(fmtp: &Fmtp) -> Self {
        let value = |name: &str| {
            fmtp.format_specific_params
                .iter()
                .find(|param| param.param.trim().eq_ignore_ascii_case(name))
                .and_then(|param| param.val.as_deref())
                .and_then(|value| value.trim().parse::<u32>().ok())
        };
        OpusParameters {
            // The range that RFC 7587 section 6.1 calls reasonable.
            max_bitrate: value("maxaveragebitrate").map(|rate| rate.clamp(6_000, 510_000)),
            fec: value("useinbandfec") == Some(1),
            dtx: value("usedtx") == Some(1),
            cbr: value("cbr") == Some(1),
            max_playback_rate: value("maxplaybackrate"),
        }
    }
}

/// Which payload type numbers mean what in packets that we receive. A number's meaning never changes while the
/// session lasts (RFC 3264 section 8.3.2); one format may have several numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct PayloadTypes {
    bound: Vec<(u8, ReceiveFormat)>,
}

impl PayloadTypes {
    /// The number to offer a format with: the one used last, or a new one. `None`: every number is taken.
    pub(crate) fn for_offer(&mut self, format: ReceiveFormat) -> Option<u8> {
        let used = self.bound.iter().rev().find(|(_, bound)| *bound == format).map(|(number, _)| *number);
        used.or_else(|| self.bind(format, format.usual_payload_type()))
    }

    /// The number to answer with: the offerer's, as RFC 3264 section 6.1 recommends, unless it meant something else
    /// before; then our own.
    pub(crate) fn for_answer(&mut self, format: ReceiveFormat, offered: u8) -> Option<u8> {
        match self.meaning(offered) {
            Some(meaning) if meaning == format => Some(offered),
            Some(_) => self.for_offer(format),
            None => self.bind(format, offered),
        }
    }

    /// Every number that has a meaning, in rising order: what was agreed once may still be under way.
    pub(crate) fn bound(&self) -> Vec<(u8, ReceiveFormat)> {
        let mut bound = self.bound.clone();
        bound.sort_by_key(|(number, _)| *number);
        bound
    }

    fn meaning(&self, number: u8) -> Option<ReceiveFormat> {
        self.bound.iter().find(|(bound, _)| *bound == number).map(|(_, format)| *format)
    }

    fn bind(&mut self, format: ReceiveFormat, wanted: u8) -> Option<u8> {
        // Dynamic numbers, then the unassigned ones below 64 (RFC 3551 section 3); those from 64 to 95 look like RTCP
        // (RFC 5761 section 4).
        let number = std::iter::once(wanted)
            .chain(96..=127)
            .chain(35..=63)
            .find(|number| self.meaning(*number).is_none())?;
        self.bound.push((number, format));
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    const OPUS: ReceiveFormat = ReceiveFormat::Audio(Codec::Opus);
    const PCMU: ReceiveFormat = ReceiveFormat::Audio(Codec::Pcmu);

    #[test]
    fn rtpmaps_are_understood() {
        let cases = [
            ("96 opus/48000/2", Some(OPUS)),
            ("96 OPUS/48000", Some(OPUS)),
            ("96 opus/48000/6", None),
            ("96 opus/16000/2", None),
            ("0 PCMU/8000", Some(PCMU)),
            ("100 pcmu/8000/1", Some(PCMU)),
            ("100 PCMU/8000/2", None),
            ("100 PCMU/16000", None),
            ("101 telephone-event/8000", Some(ReceiveFormat::Events(8_000))),
            ("101 telephone-event/48000/1", Some(ReceiveFormat::Events(48_000))),
            ("101 telephone-event/16000", Some(ReceiveFormat::Events(16_000))),
            ("101 telephone-event/32000", None),
            ("98 L16/48000", Some(ReceiveFormat::Audio(Codec::L16Full))),
            ("98 L16/8000/1", Some(ReceiveFormat::Audio(Codec::L16Narrow))),
            ("98 L16/16000/2", None),
            ("11 L16/44100", None),
            ("2 G726-32/8000", Some(ReceiveFormat::Audio(Codec::G726))),
            ("97 aal2-g726-32/8000", Some(ReceiveFormat::Audio(Codec::G726Aal2))),
            ("97 SPEEX/16000", Some(ReceiveFormat::Audio(Codec::SpeexWide))),
            ("97 speex/32000", None),
            ("9 G722/8000", Some(ReceiveFormat::Audio(Codec::G722))),
            ("63 red/48000/2", Some(ReceiveFormat::Redundant(48_000))),
            ("121 RED/8000", Some(ReceiveFormat::Redundant(8_000))),
            ("121 red/8000/2", None),
            ("121 red/1000", None),
            ("9 g722/8000/1", Some(ReceiveFormat::Audio(Codec::G722))),
            // Its true rate is not its name (RFC 3551 section 4.5.2).
            ("9 G722/16000", None),
        ];
        for (text, format) in cases {
            assert_eq!(ReceiveFormat::from_rtpmap(&RtpMap::from_str(text).unwrap()), format, "{text}");
        }
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        let events = EVENT_RATES.map(ReceiveFormat::Events);
        let redundant = redundancy::RATES.map(ReceiveFormat::Redundant);
        let noise = NOISE_RATES.map(ReceiveFormat::ComfortNoise);
        for format in
            Codec::ALL.map(ReceiveFormat::Audio).into_iter().chain(events).chain(noise).chain(redundant)
        {
            assert_eq!(ReceiveFormat::from_rtpmap(&format.rtpmap(99)), Some(format));
        }
    }

    #[test]
    fn opus_parameters_are_read_and_bounded() {
        let read = |text: &str| OpusParameters::from(&Fmtp::from_str(text).unwrap());
        assert_eq!(
            read("96 stereo=0; sprop-stereo=0; UseInbandFEC = 1; usedtx=1; maxaveragebitrate=24000"),
            OpusParameters { max_bitrate: Some(24_000), fec: true, dtx: true, ..Default::default() }
        );
        assert_eq!(
            read("96 maxplaybackrate=16000;sprop-maxcapturerate=8000;cbr=1"),
            OpusParameters { max_playback_rate: Some(16_000), cbr: true, ..Default::default() }
        );
        assert_eq!(
            read("96 maxaveragebitrate=1"),
            OpusParameters { max_bitrate: Some(6_000), ..Default::default() }
        );
        assert_eq!(read("96 useinbandfec;usedtx=yes;maxaveragebitrate=-5"), OpusParameters::default());
    }

    #[test]
    fn a_number_never_changes_its_meaning() {
        let mut types = PayloadTypes::default();
        assert_eq!(types.for_offer(OPUS), Some(96));
        // The peer's offer calls its events 96: we keep 96 for Opus and answer with a number of our own.
        assert_eq!(types.for_answer(ReceiveFormat::Events(8_000), 96), Some(101));
        // A free number of the peer's is taken over, and used from then on.
        assert_eq!(types.for_answer(OPUS, 107), Some(107));
        assert_eq!(types.for_offer(OPUS), Some(107));
        assert_eq!(types.for_answer(OPUS, 96), Some(96));
    }

    #[test]
    fn a_peer_that_uses_up_all_numbers_gets_no_further_format() {
        let mut types = PayloadTypes::default();
        for number in 0..=127 {
            assert_eq!(types.for_answer(PCMU, number), Some(number));
        }
        assert_eq!(types.for_answer(OPUS, 96), None);
        assert_eq!(types.for_offer(OPUS), None);
        assert!(types.for_offer(PCMU).is_some());
    }
}
