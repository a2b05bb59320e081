//! How redundant audio data (RFC 2198) and bandwidth stand in SDP: which formats a payload type of `red` may hold, and how
//! much a peer wants to receive. It knows no packets.

use sdp_types::{Fmtp, Media, RtpMap, Session};

use crate::format::ReceiveFormat;

/// Clock rates that redundant data is offered at, in hertz: those of our codecs.
pub(crate) const RATES: [u32; 3] = [8_000, 16_000, 48_000];
/// Payload types that are read from one a=fmtp.
const MAX_BLOCKS: usize = 32;
/// A bandwidth below this cannot be meant, in bits per second.
const LEAST_BANDWIDTH: u64 = 8_000;

/// What a=rtpmap says of a payload type of ours. With two channels at Opus's rate, as Opus itself is named
/// (RFC 7587 section 7).
pub(crate) fn rtpmap(payload_type: u8, rate: u32) -> RtpMap {
    match rate {
        48_000 => RtpMap::with_encoding_params(payload_type, "red", rate, "2"),
        _ => RtpMap::new(payload_type, "red", rate),
    }
}

/// The number that we give it where nothing speaks against it.
pub(crate) const fn usual_payload_type(rate: u32) -> u8 {
    match rate {
        // What browsers use.
        48_000 => 63,
        16_000 => 122,
        _ => 121,
    }
}

/// What a=fmtp says of a payload type of ours (RFC 2198 section 5): the formats of that clock rate among `formats`. At least
/// two, because a peer may take a list of one for no redundancy.
pub(crate) fn fmtp(rate: u32, formats: &[(u8, ReceiveFormat)]) -> String {
    let carried = formats.iter().filter_map(|(number, format)| match format {
        ReceiveFormat::Audio(codec) if codec.clock_rate() == rate => Some(number.to_string()),
        _ => None,
    });
    let mut carried: Vec<String> = carried.collect();
    if let [only] = carried.as_slice() {
        carried.push(only.clone());
    }
    carried.join("/")
}

/// Leaves out redundant data at clock rates that no codec of `formats` has.
pub(crate) fn retain_useful<T>(formats: &mut Vec<T>, known: impl Fn(&T) -> Option<ReceiveFormat>) {
    let has_codec = |formats: &[T], rate: u32| {
        let is = |format: &T| matches!(known(format), Some(ReceiveFormat::Audio(codec)) if codec.clock_rate() == rate);
        formats.iter().any(is)
    };
    let useful = RATES.map(|rate| has_codec(formats, rate));
    formats.retain(|format| match known(format) {
        Some(ReceiveFormat::Redundant(rate)) => {
            RATES.iter().zip(useful).any(|(known, useful)| *known == rate && useful)
        }
        _ => true,
    });
}

/// What a payload type of `red` may hold, as the peer says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Empty: the peer does not say it, and takes what the clock rate allows.
    numbers: Vec<u8>,
}

impl Blocks {
    /// Whether the payload type of the peer's may be in it.
    pub(crate) fn may_hold(&self, payload_type: u8) -> bool {
        self.numbers.is_empty() || self.numbers.contains(&payload_type)
    }
}

impl From<&Fmtp> for Blocks {
    fn from(fmtp: &Fmtp) -> Self {
        let list = fmtp.format_specific_params.first().map_or("", |param| param.param.trim());
        Blocks {
            numbers: list
                .split('/')
                .filter_map(|number| number.trim().parse().ok())
                .take(MAX_BLOCKS)
                .collect(),
        }
    }
}

/// Most bits per second that the peer wants to receive, packet headers included, where it says so: b=AS (RFC 8866
/// section 5.8) of the media line, else of the session.
pub(crate) fn bandwidth(session: &Session, media: &Media) -> Option<u32> {
    let of = |bandwidths: &[sdp_types::Bandwidth]| {
        let named = bandwidths.iter().find(|bandwidth| bandwidth.bwtype.eq_ignore_ascii_case("AS"));
        let bits =
            named.map(|named| named.bandwidth.saturating_mul(1000)).filter(|bits| *bits >= LEAST_BANDWIDTH);
        bits.map(|bits| u32::try_from(bits).unwrap_or(u32::MAX))
    };
    of(&media.bandwidths).or_else(|| of(&session.bandwidths))
}

/// Whether the value of a b= line says what [`bandwidth`] wants to know; others may be of any form.
pub(crate) fn is_bandwidth(value: &str) -> bool {
    value
        .split_once(':')
        .is_some_and(|(kind, number)| kind.eq_ignore_ascii_case("AS") && number.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use crate::codec::Codec;

    #[test]
    fn the_formats_of_one_clock_are_named() {
        let formats = [
            (96, ReceiveFormat::Audio(Codec::Opus)),
            (9, ReceiveFormat::Audio(Codec::G722)),
            (0, ReceiveFormat::Audio(Codec::Pcmu)),
            (101, ReceiveFormat::Events(8_000)),
        ];
        assert_eq!(fmtp(48_000, &formats), "96/96");
        assert_eq!(fmtp(8_000, &formats), "9/0");
    }

    #[test]
    fn what_a_peer_says_of_the_blocks_is_read() {
        let read = |text: &str| Blocks::from(&Fmtp::from_str(text).unwrap());
        assert!(read("63 111/111").may_hold(111) && !read("63 111/111").may_hold(0));
        assert!(read("121 0/8/9").may_hold(9));
        assert!(read("121 x").may_hold(0) && Blocks::default().may_hold(0));
        assert!(read("121 0/999/-1/ 8").may_hold(8));
    }

    #[test]
    fn bandwidths_are_read_where_they_can_be() {
        assert!(is_bandwidth("AS:64") && is_bandwidth("as:64"));
        assert!(
            !is_bandwidth("AS")
                && !is_bandwidth("TIAS:64000")
                && !is_bandwidth("AS:-1")
                && !is_bandwidth("AS:6 4")
        );
    }
}
