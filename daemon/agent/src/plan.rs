//! Stream plans: what was agreed in SDP, said in the engine's words.

use voipd_audio::plan::{Path, Protection, ReceiveKind, SendPlan, StreamPlan};
use voipd_media::negotiation::ReceiveFormat;
use voipd_media::{Agreement, COMFORT_NOISE, Codec};

use crate::adaptation::Limits;
use crate::call::is_address;

/// The plan that carries out `agreement`. While this side holds the call nothing is sent and nothing is played.
pub(crate) fn stream_plan(agreement: &Agreement, ssrc: u32, generation: u32, local_hold: bool) -> StreamPlan {
    let may_send = agreement.direction.sends();
    let may_receive = agreement.direction.receives();
    let format = &agreement.send;
    let codec = engine_codec(format.codec);
    let send = (may_send && !local_hold).then_some(SendPlan {
        codec,
        payload_type: format.payload_type,
        ptime_ms: format.ptime_ms,
        events: agreement.send_events,
        bitrate: format.max_bitrate,
        fec: format.fec,
        dtx: format.dtx,
        cbr: format.cbr,
        max_playback_rate: format.max_playback_rate,
        comfort_noise: format.comfort_noise,
        redundancy: format.redundancy,
    });
    let mut receive: Vec<(u8, ReceiveKind)> = agreement
        .receive
        .iter()
        .map(|(payload_type, format)| {
            let kind = match format {
                ReceiveFormat::Audio(codec) => ReceiveKind::Audio(engine_codec(*codec)),
                ReceiveFormat::Events(rate) => ReceiveKind::Events(*rate),
                ReceiveFormat::ComfortNoise(rate) => ReceiveKind::ComfortNoise(*rate),
                ReceiveFormat::Redundant(_) => ReceiveKind::Redundant,
            };
            (*payload_type, kind)
        })
        .collect();
    // Some send it without having agreed to; its number means nothing else.
    if receive.iter().all(|(number, _)| *number != COMFORT_NOISE) {
        receive.push((COMFORT_NOISE, ReceiveKind::ComfortNoise(8_000)));
    }
    // RTCP keeps the way open where it shares the port, and ICE's checks do where there is ICE.
    let may_close = send.is_none() && !agreement.rtcp_mux && is_address(agreement.remote_rtp);
    StreamPlan {
        generation,
        path: Path::Udp { remote: agreement.remote_rtp, symmetric: true },
        protection: Protection::None,
        ssrc,
        send,
        keep_open: unused_number(agreement).filter(|_| may_close),
        receive,
        play: may_receive && !local_hold,
    }
}

/// A dynamic payload type that nothing was agreed for.
fn unused_number(agreement: &Agreement) -> Option<u8> {
    let format = &agreement.send;
    let events = agreement.send_events.map(|(number, _)| number);
    let sent = [Some(format.payload_type), events, format.comfort_noise, format.redundancy];
    let is_used = |number: &u8| {
        sent.contains(&Some(*number)) || agreement.receive.iter().any(|(bound, _)| bound == number)
    };
    (96..=127).rev().find(|number| !is_used(number))
}

fn engine_codec(codec: Codec) -> voipd_audio::Codec {
    match codec {
        Codec::Opus => voipd_audio::Codec::Opus,
        Codec::Pcmu => voipd_audio::Codec::Pcmu,
        Codec::Pcma => voipd_audio::Codec::Pcma,
        Codec::G722 => voipd_audio::Codec::G722,
        Codec::L16Narrow => voipd_audio::Codec::L16Narrow,
        Codec::L16Wide => voipd_audio::Codec::L16Wide,
        Codec::L16Full => voipd_audio::Codec::L16Full,
        Codec::G726 => voipd_audio::Codec::G726,
        Codec::G726Aal2 => voipd_audio::Codec::G726Aal2,
        Codec::Gsm => voipd_audio::Codec::Gsm,
        Codec::SpeexNarrow => voipd_audio::Codec::SpeexNarrow,
        Codec::SpeexWide => voipd_audio::Codec::SpeexWide,
        Codec::G729 => voipd_audio::Codec::G729,
    }
}

/// A codec of the engine's in the words of session descriptions, which have all of them.
pub fn described_codec(codec: voipd_audio::Codec) -> Option<Codec> {
    Codec::ALL.into_iter().find(|described| engine_codec(*described) == codec)
}

/// The codecs that this build has, in the order of [`Codec::ALL`].
pub fn built_codecs() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| engine_codec(*codec).is_built())
}

/// How far sending may adapt to the network under `agreement`, by the way that `plan` takes.
pub(crate) fn limits(agreement: &Agreement, plan: &StreamPlan) -> Limits {
    /// Bytes of headers: UDP, IP of both versions, a TURN channel (RFC 8656 section 12.4), TCP with its time stamps.
    const UDP: u16 = 8;
    const IPV4: u16 = 20;
    const IPV6: u16 = 40;
    const CHANNEL: u16 = 4;
    const TCP: u16 = 32;
    let ip = if plan.path.remote().is_ipv4() { IPV4 } else { IPV6 };
    let format = &agreement.send;
    let codec = engine_codec(format.codec);
    Limits {
        codec,
        ptime_ms: format.ptime_ms,
        max_ptime_ms: format.max_ptime_ms,
        max_bitrate: format.max_bitrate,
        bandwidth: format.bandwidth,
        fec: format.fec,
        copies: format.redundancy.map_or(0, |_| Limits::room_for_copies(codec, format.ptime_ms)),
        packet_overhead: ip
            + match plan.path {
                Path::Udp { .. } => UDP,
                Path::TurnChannel { .. } => UDP + CHANNEL,
                Path::Stream { .. } => TCP + CHANNEL,
            },
    }
}

/// RTP clock rate of what is sent, in hertz.
pub(crate) fn clock_rate(agreement: &Agreement) -> u32 {
    engine_codec(agreement.send.codec).clock_rate()
}
