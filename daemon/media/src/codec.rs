//! The audio codecs that can be named in SDP: their names, clocks, numbers and packet times. What they do to sound is not
//! known here.

use std::fmt;

/// An audio codec that can be named in SDP. Opus is always `opus/48000/2` on the wire (RFC 7587) and mono here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// RFC 6716, RFC 7587.
    Opus,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s: 16 kHz of sound, named and clocked as 8000 (RFC 3551 section 4.5.2).
    G722,
    /// 16-bit samples at 8 kHz (RFC 3551 section 4.5.11).
    L16Narrow,
    /// 16-bit samples at 16 kHz.
    L16Wide,
    /// 16-bit samples at 48 kHz.
    L16Full,
    /// G.726 at 32 kbit/s, packed as RFC 3551 section 4.5.4 says.
    G726,
    /// The same in the packing of AAL2, which has a name of its own (RFC 3551 section 4.5.4).
    G726Aal2,
    /// GSM 06.10 full rate (RFC 3551 section 4.5.8).
    Gsm,
    /// Speex, narrowband (RFC 5574).
    SpeexNarrow,
    /// Speex, wideband (RFC 5574).
    SpeexWide,
    /// G.729 and its annex A (RFC 3551 section 4.5.6).
    G729,
}

impl Codec {
    /// All of them, in the order in which they are offered where nothing is said: the widest band first, then the one that
    /// costs the least quality, then the one that most peers have.
    pub const ALL: [Codec; 13] = [
        Codec::Opus,
        Codec::G722,
        Codec::Pcmu,
        Codec::Pcma,
        Codec::SpeexWide,
        Codec::G726,
        Codec::G726Aal2,
        Codec::Gsm,
        Codec::SpeexNarrow,
        Codec::G729,
        Codec::L16Full,
        Codec::L16Wide,
        Codec::L16Narrow,
    ];

    /// What people call it: the encoding name in SDP, with the clock rate where one name has several.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::L16Narrow => "L16/8000",
            Codec::L16Wide => "L16/16000",
            Codec::L16Full => "L16/48000",
            Codec::G726 => "G726-32",
            Codec::G726Aal2 => "AAL2-G726-32",
            Codec::Gsm => "GSM",
            Codec::SpeexNarrow => "speex/8000",
            Codec::SpeexWide => "speex/16000",
            Codec::G729 => "G729",
        }
    }

    /// The encoding name in SDP.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Codec::L16Narrow | Codec::L16Wide | Codec::L16Full => "L16",
            Codec::SpeexNarrow | Codec::SpeexWide => "speex",
            _ => self.name(),
        }
    }

    /// RTP clock rate in hertz.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus | Codec::L16Full => 48_000,
            Codec::L16Wide | Codec::SpeexWide => 16_000,
            Codec::Pcmu
            | Codec::Pcma
            | Codec::G722
            | Codec::L16Narrow
            | Codec::G726
            | Codec::G726Aal2
            | Codec::Gsm
            | Codec::SpeexNarrow
            | Codec::G729 => 8_000,
        }
    }

    /// The number that RFC 3551 section 6 gives it for all time.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Codec::Pcmu => Some(0),
            Codec::Gsm => Some(3),
            Codec::Pcma => Some(8),
            Codec::G722 => Some(9),
            Codec::G729 => Some(18),
            _ => None,
        }
    }

    /// The number that we give it where nothing speaks against it.
    pub(crate) const fn usual_payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Gsm => 3,
            Codec::Pcma => 8,
            Codec::G722 => 9,
            Codec::G729 => 18,
            Codec::Opus => 96,
            Codec::L16Full => 98,
            Codec::L16Wide => 99,
            Codec::L16Narrow => 100,
            Codec::G726 => 102,
            Codec::G726Aal2 => 106,
            Codec::SpeexWide => 103,
            Codec::SpeexNarrow => 104,
        }
    }

    /// The longest packet time that one packet of this codec can have and that is not above `milliseconds`; at least its
    /// shortest. An Opus frame has no 30 ms (RFC 6716 section 2.1.4), GSM and Speex have frames of 20 ms, and packets of
    /// L16 must fit an Ethernet frame.
    pub(crate) fn packet_time(self, milliseconds: u16) -> u16 {
        let times: &[u16] = match self {
            Codec::Opus => &[60, 40, 20, 10],
            Codec::Gsm | Codec::SpeexNarrow | Codec::SpeexWide => &[60, 40, 20],
            Codec::L16Full => &[10],
            Codec::L16Wide => &[40, 30, 20, 10],
            Codec::Pcmu
            | Codec::Pcma
            | Codec::G722
            | Codec::L16Narrow
            | Codec::G726
            | Codec::G726Aal2
            | Codec::G729 => &[60, 40, 30, 20, 10],
        };
        let shortest = times.last().copied().unwrap_or(20);
        times.iter().copied().find(|time| *time <= milliseconds).unwrap_or(shortest)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_times_fit_the_codec() {
        assert_eq!(Codec::Opus.packet_time(30), 20);
        assert_eq!(Codec::Pcmu.packet_time(30), 30);
        assert_eq!(Codec::Pcmu.packet_time(25), 20);
        assert_eq!(Codec::Pcmu.packet_time(0), 10);
        assert_eq!(Codec::Opus.packet_time(u16::MAX), 60);
        assert_eq!(Codec::Gsm.packet_time(10), 20);
        assert_eq!(Codec::SpeexWide.packet_time(30), 20);
        assert_eq!(Codec::L16Full.packet_time(20), 10);
        assert_eq!(Codec::L16Wide.packet_time(60), 40);
    }

    #[test]
    fn every_codec_is_listed_once_and_has_a_name_and_a_number_of_its_own() {
        for (place, codec) in Codec::ALL.into_iter().enumerate() {
            for other in Codec::ALL.into_iter().skip(place + 1) {
                assert_ne!(codec.name(), other.name());
                assert_ne!(codec.usual_payload_type(), other.usual_payload_type());
            }
            let usual = codec.usual_payload_type();
            assert_eq!(codec.static_payload_type().unwrap_or(usual), usual);
        }
    }
}
