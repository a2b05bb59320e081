//! Another codec or packet time in the middle of a call (RFC 3264 sections 5.1 and 8.3): what is under way in the old
//! way, and what may come in the new way before the answer, is understood.

use crate::support::*;
use voipd_media::{Agreement, Codec, Direction, ReceiveFormat};

const WIDE: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

fn understands(agreement: &Agreement, number: u8, codec: Codec) -> bool {
    agreement.receive.contains(&(number, ReceiveFormat::Audio(codec)))
}

#[test]
fn g722_is_offered_under_its_static_number_and_its_odd_clock() {
    let offer = side(&WIDE).make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&offer, "m="), ["m=audio 30000 RTP/AVP 96 9 0 8 97 101"]);
    assert!(has_line(&offer, "a=rtpmap:9 G722/8000"));
}

#[test]
fn a_static_number_needs_no_rtpmap() {
    let mut side = side(&WIDE);
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 9 8 0")).unwrap();
    let (answer, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!((agreement.send.codec, agreement.send.payload_type), (Codec::G722, 9));
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 9 8 0"]);
}

#[test]
fn the_peer_changes_the_codec_and_the_old_one_is_still_understood() {
    let mut side = side(&WIDE);
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 0")).unwrap();
    side.make_answer(here(), Direction::SendRecv).unwrap();
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 111\na=rtpmap:111 opus/48000/2\na=ptime:40")).unwrap();
    let (_, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    let send = &agreement.send;
    assert_eq!((send.codec, send.payload_type, send.ptime_ms), (Codec::Opus, 111, 40));
    assert!(understands(&agreement, 0, Codec::Pcmu) && understands(&agreement, 111, Codec::Opus));
}

#[test]
fn what_we_offer_in_a_call_is_understood_before_the_answer() {
    let mut side = side(&WIDE);
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 0")).unwrap();
    let (_, before) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert!(!understands(&before, 9, Codec::G722));
    side.make_offer(here(), Direction::SendRecv);
    let waiting = side.agreement().unwrap().clone();
    assert!(understands(&waiting, 9, Codec::G722) && understands(&waiting, 0, Codec::Pcmu));
    assert_eq!(waiting.send, before.send);
    // A refused offer leaves what we send as it was.
    side.withdraw_offer();
    assert_eq!(side.agreement().unwrap().send, before.send);
}

#[test]
fn the_answer_may_choose_another_codec_and_packet_time() {
    let mut side = side(&WIDE);
    side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&peer("m=audio 4000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000")).unwrap();
    side.make_offer(here(), Direction::SendRecv);
    let changed = side.handle_answer(&peer("m=audio 4000 RTP/AVP 9\na=ptime:30")).unwrap();
    assert_eq!((changed.send.codec, changed.send.ptime_ms, changed.send_events), (Codec::G722, 30, None));
}

#[test]
fn the_packet_time_alone_may_change() {
    let mut side = side(&WIDE);
    for (attribute, expected) in [("a=ptime:20", 20), ("a=ptime:60", 60), ("a=maxptime:10", 10)] {
        side.handle_offer(&peer(&format!("m=audio 4000 RTP/AVP 9\n{attribute}"))).unwrap();
        let (_, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
        assert_eq!(agreement.send.ptime_ms, expected, "{attribute}");
    }
}
