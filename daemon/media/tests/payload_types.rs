//! Payload type numbers: each side's own, and what they mean never changes (RFC 3264 sections 5.1, 6.1 and 8.3.2).

use crate::support::*;
use voipd_media::{Codec, Direction, ReceiveFormat};

#[test]
fn the_offer_names_every_codec_and_events_at_both_clock_rates() {
    let offer = side(&ALL).make_offer(here(), Direction::SendRecv);
    assert_eq!(
        lines(&offer),
        [
            "v=0",
            "o=- 4711 1 IN IP4 192.0.2.1",
            "s=-",
            "c=IN IP4 192.0.2.1",
            "t=0 0",
            "m=audio 30000 RTP/AVP 96 8 0 97 101",
            "a=rtpmap:96 opus/48000/2",
            "a=fmtp:96 stereo=0;sprop-stereo=0;useinbandfec=1",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:97 telephone-event/48000",
            "a=fmtp:97 0-15",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
            "a=rtcp-mux",
            "a=rtcp-xr:rcvr-rtt=all voip-metrics",
            "a=sendrecv",
        ]
    );
    let narrow = side(&[Codec::Pcmu]).make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&narrow, "m="), ["m=audio 30000 RTP/AVP 0 101"]);
}

#[test]
fn an_rtcp_port_that_does_not_follow_is_named() {
    let mut media = here();
    media.rtcp_port = 40_000;
    assert!(has_line(&side(&ALL).make_offer(media, Direction::SendRecv), "a=rtcp:40000"));
}

#[test]
fn we_send_with_the_answerers_numbers_and_receive_with_ours() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    // The answerer has our numbers the other way round.
    let answer = peer(
        "m=audio 4000 RTP/AVP 101 96
         a=rtpmap:101 opus/48000/2
         a=fmtp:101 maxaveragebitrate=16000
         a=rtpmap:96 telephone-event/8000",
    );
    let agreement = side.handle_answer(&answer).unwrap();
    assert_eq!((agreement.send.codec, agreement.send.payload_type), (Codec::Opus, 101));
    assert_eq!(agreement.send.max_bitrate, Some(16_000));
    assert_eq!(agreement.send_events, Some((96, 8_000)));
    assert!(agreement.receive.contains(&(96, ReceiveFormat::Audio(Codec::Opus))));
    assert!(agreement.receive.contains(&(101, ReceiveFormat::Events(8_000))));
}

#[test]
fn events_use_the_clock_of_the_codec_where_the_peer_has_it() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let events = "a=rtpmap:100 telephone-event/8000\na=rtpmap:102 telephone-event/48000";
    let opus = peer(&format!("m=audio 4000 RTP/AVP 100 102 96\na=rtpmap:96 opus/48000/2\n{events}"));
    assert_eq!(side.handle_answer(&opus).unwrap().send_events, Some((102, 48_000)));
    let narrow = peer(&format!("m=audio 4000 RTP/AVP 0 102 100\n{events}"));
    assert_eq!(side.handle_answer(&narrow).unwrap().send_events, Some((100, 8_000)));
}

#[test]
fn an_answer_uses_the_offerers_numbers_also_in_our_later_offers() {
    let mut side = side(&ALL);
    side.handle_offer(&peer(
        "m=audio 4000 RTP/AVP 8 120
         a=rtpmap:120 opus/48000/2",
    ))
    .unwrap();
    let (answer, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 8 120"]);
    assert_eq!(agreement.send.codec, Codec::Pcma, "the offerer's order");
    let offer = side.make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&offer, "m="), ["m=audio 30000 RTP/AVP 8 120 0 97 101"]);
}

#[test]
fn a_number_that_meant_something_else_is_not_taken_over() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&peer("m=audio 4000 RTP/AVP 96\na=rtpmap:96 opus/48000/2")).unwrap();
    // Later the peer offers its own numbers, where 96 are events.
    side.handle_offer(&peer(
        "m=audio 4000 RTP/AVP 111 96
         a=rtpmap:111 opus/48000/2
         a=rtpmap:96 telephone-event/8000",
    ))
    .unwrap();
    let (answer, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 111 101"]);
    assert_eq!((agreement.send.payload_type, agreement.send_events), (111, Some((96, 8_000))));
}

#[test]
fn a_format_offered_twice_is_answered_once() {
    let mut side = side(&ALL);
    side.handle_offer(&peer(
        "m=audio 4000 RTP/AVP 96 97 0
         a=rtpmap:96 opus/48000/2
         a=rtpmap:97 opus/48000/2
         a=fmtp:97 useinbandfec=1",
    ))
    .unwrap();
    let (answer, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 96 0"]);
}

#[test]
fn the_peers_packet_time_is_followed_as_far_as_the_codec_goes() {
    for (attributes, expected) in [
        ("a=ptime:30", 30),
        ("a=ptime:40\na=maxptime:30", 30),
        ("a=maxptime:10", 10),
        ("a=ptime:200", 60),
        ("a=ptime:5", 10),
        ("", 20),
    ] {
        let mut side = side(&ALL);
        side.make_offer(here(), Direction::SendRecv);
        let answer = peer(&format!("m=audio 4000 RTP/AVP 0\n{attributes}"));
        assert_eq!(side.handle_answer(&answer).unwrap().send.ptime_ms, expected, "{attributes}");
    }
}
