//! What other telephones write is understood, whatever its line ends. (baresip's words are its own, of version 1.0.)

use crate::support::*;
use voipd_media::ice::PeerIce;
use voipd_media::{Agreement, Codec, Direction, ReceiveFormat, SendFormat};

fn answer(offer: &str, address: &str) -> (Vec<u8>, Agreement) {
    let answer_with = |text: String| {
        let mut side = side(&ALL);
        side.handle_offer(text.as_bytes()).unwrap();
        side.make_answer(local(address), Direction::SendRecv).unwrap()
    };
    let with_lf = answer_with(offer.to_owned());
    assert_eq!(answer_with(offer.replace('\n', "\r\n")), with_lf);
    with_lf
}

fn audio(payload_type: u8, codec: Codec) -> (u8, ReceiveFormat) {
    (payload_type, ReceiveFormat::Audio(codec))
}

fn events(payload_type: u8, rate: u32) -> (u8, ReceiveFormat) {
    (payload_type, ReceiveFormat::Events(rate))
}

#[test]
fn baresip() {
    let (sdp, agreement) = answer(include_str!("peers/baresip.sdp"), "192.0.2.1");
    assert_eq!(
        agreement,
        Agreement {
            remote_rtp: "192.0.2.2:16618".parse().unwrap(),
            remote_rtcp: "192.0.2.2:16619".parse().unwrap(),
            rtcp_mux: false,
            ice: PeerIce::Absent,
            direction: Direction::SendRecv,
            remote_hold: false,
            send: SendFormat {
                codec: Codec::Opus,
                payload_type: 96,
                ptime_ms: 20,
                max_bitrate: None,
                fec: false,
                dtx: false,
                cbr: false,
                max_playback_rate: None,
                comfort_noise: None,
                redundancy: None,
                max_ptime_ms: 60,
                bandwidth: None,
            },
            receive: vec![
                audio(0, Codec::Pcmu),
                audio(8, Codec::Pcma),
                audio(96, Codec::Opus),
                events(101, 8_000)
            ],
            send_events: Some((101, 8_000)),
        }
    );
    assert_eq!(lines_with(&sdp, "m="), ["m=audio 30000 RTP/AVP 96 0 8 101"]);
}

#[test]
fn baresip_answers() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let agreement = side.handle_answer(include_bytes!("peers/baresip_answer.sdp")).unwrap();
    assert_eq!((agreement.send.codec, agreement.send.payload_type), (Codec::Opus, 96));
    // It has events only at the other clock rate.
    assert_eq!(agreement.send_events, Some((101, 8_000)));
}

#[test]
fn linphone() {
    let (sdp, agreement) = answer(include_str!("peers/linphone.sdp"), "192.0.2.1");
    assert_eq!(agreement.remote_rtcp, "192.0.2.21:57128".parse().unwrap());
    assert_eq!(agreement.send.codec, Codec::Opus);
    assert_eq!(agreement.send_events, Some((101, 48_000)), "the clock of Opus");
    // RFC 4585: the answer keeps the offer's profile.
    assert_eq!(lines_with(&sdp, "m="), ["m=audio 30000 RTP/AVPF 96 0 8 101 100", "m=video 0 RTP/AVPF 96"]);
}

#[test]
fn asterisk() {
    let (sdp, agreement) = answer(include_str!("peers/asterisk.sdp"), "2001:db8::1");
    let opus = SendFormat {
        codec: Codec::Opus,
        payload_type: 107,
        ptime_ms: 20, // Opus has no 30 ms.
        max_bitrate: Some(20_000),
        fec: true,
        dtx: true,
        cbr: false,
        max_playback_rate: Some(16_000),
        comfort_noise: None,
        redundancy: None,
        max_ptime_ms: 60,
        bandwidth: None,
    };
    assert_eq!(agreement.send, opus);
    assert_eq!(agreement.remote_rtp, "[2001:db8::30]:14638".parse().unwrap());
    assert!(has_line(&sdp, "c=IN IP6 2001:db8::1"));
    assert!(has_line(&sdp, "a=rtpmap:107 opus/48000/2"));
}

#[test]
fn sipp() {
    let (sdp, agreement) = answer(include_str!("peers/sipp.sdp"), "127.0.0.1");
    assert_eq!(agreement.send.codec, Codec::Pcmu);
    assert_eq!(agreement.receive, [audio(0, Codec::Pcmu)]);
    assert_eq!(agreement.send_events, None);
    assert_eq!(lines_with(&sdp, "m="), ["m=audio 30000 RTP/AVP 0"]);
}

#[test]
fn web_gateway() {
    let (sdp, agreement) = answer(include_str!("peers/web_gateway.sdp"), "192.0.2.1");
    assert_eq!((agreement.send.codec, agreement.send.payload_type), (Codec::Opus, 111));
    assert_eq!(agreement.send_events, Some((110, 48_000)));
    assert_eq!(agreement.remote_rtcp, "198.51.100.7:49170".parse().unwrap());
    assert_eq!(
        lines_with(&sdp, "m="),
        [
            "m=audio 30000 RTP/AVP 111 0 8 110 126",
            "m=video 0 RTP/AVP 96 97",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
    // What we do not do is not answered.
    assert_eq!((agreement.rtcp_mux, agreement.remote_rtp.port()), (true, 49_170));
    assert!(has_line(&sdp, "a=rtcp-mux"));
    for attribute in ["a=group", "a=ice", "a=candidate", "a=mid"] {
        assert_eq!(lines_with(&sdp, attribute), [""; 0]);
    }
}

#[test]
fn desk_phone() {
    let (sdp, agreement) = answer(include_str!("peers/desk_phone.sdp"), "192.0.2.1");
    assert_eq!((agreement.send.codec, agreement.send.ptime_ms), (Codec::Pcma, 40));
    assert_eq!((agreement.direction, agreement.remote_hold), (Direction::RecvOnly, true));
    assert_eq!(agreement.send_events, Some((96, 8_000)));
    assert_eq!(
        lines_with(&sdp, "m="),
        ["m=image 0 udptl 0", "m=audio 0 RTP/SAVP 0 8", "m=audio 30000 RTP/AVP 8 0 96"]
    );
    assert!(has_line(&sdp, "a=recvonly"));
}

#[test]
fn a_static_number_by_its_own_name_is_known_whatever_is_said_beside_it() {
    for (number, map, codec) in [
        (9, "G722/16000", Codec::G722),
        (8, " PCMA/8000", Codec::Pcma),
        (18, "G729A/8000", Codec::G729),
        (0, "pcmu/16000", Codec::Pcmu),
    ] {
        let offer = peer(&format!("m=audio 4000 RTP/AVP {number}\na=rtpmap:{number} {map}\n"));
        let mut side = side(&[codec]);
        side.handle_offer(&offer).unwrap();
        let (_, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
        assert_eq!((agreement.send.payload_type, agreement.send.codec), (number, codec), "{map}");
    }
    for (number, map, codec) in
        [(9, "opus/16000", Codec::G722), (0, "PCMA/16000", Codec::Pcmu), (0, "PCMU/8000/2", Codec::Pcmu)]
    {
        let offer = peer(&format!("m=audio 4000 RTP/AVP {number}\na=rtpmap:{number} {map}\n"));
        let mut side = side(&[codec]);
        let refused =
            side.handle_offer(&offer).is_err() || side.make_answer(here(), Direction::SendRecv).is_err();
        assert!(refused, "{map}");
    }
}
