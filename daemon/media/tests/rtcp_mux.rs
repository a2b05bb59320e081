//! RTP and RTCP on one port where both want it, and where RTCP goes otherwise (RFC 5761, RFC 3605, RFC 8858).

use crate::support::*;
use voipd_media::{Agreement, Direction, Negotiation};

fn answered(offer: &str) -> (Vec<u8>, Agreement) {
    let mut side = side(&ALL);
    side.handle_offer(&peer(offer)).unwrap();
    side.make_answer(here(), Direction::SendRecv).unwrap()
}

/// What comes of our offer when the peer answers so.
fn offered(side: &mut Negotiation, answer: &str) -> Agreement {
    side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&peer(answer)).unwrap()
}

#[test]
fn extended_reports_are_offered_and_answered_where_they_are_offered() {
    for (attribute, spoken) in [("a=rtcp-xr:voip-metrics", true), ("a=RTCP-XR", true), ("a=rtcp:5", false)] {
        let (answer, _) = answered(&format!("m=audio 4000 RTP/AVP 0\n{attribute}"));
        assert_eq!(has_line(&answer, "a=rtcp-xr:rcvr-rtt=all voip-metrics"), spoken, "{attribute}");
    }
}

#[test]
fn an_offer_with_mux_is_accepted_on_the_port_of_rtp() {
    for attribute in ["a=rtcp-mux", "a=rtcp-mux\na=rtcp:4321", "a=RTCP-MUX", "a=rtcp-mux\na=rtcp-mux-only"] {
        let (answer, agreement) = answered(&format!("m=audio 4000 RTP/AVP 0\n{attribute}"));
        assert!(agreement.rtcp_mux, "{attribute}");
        assert_eq!(agreement.remote_rtcp, agreement.remote_rtp);
        assert!(has_line(&answer, "a=rtcp-mux"), "{attribute}");
    }
}

#[test]
fn an_offer_without_mux_is_answered_without_it() {
    for (attributes, port) in [("a=sendrecv", 4001), ("a=rtcp:4321", 4321), ("a=rtcp-mux-not\na=rtcp:5", 5)] {
        let (answer, agreement) = answered(&format!("m=audio 4000 RTP/AVP 0\n{attributes}"));
        assert!(!agreement.rtcp_mux && !has_line(&answer, "a=rtcp-mux"), "{attributes}");
        assert_eq!(agreement.remote_rtcp.port(), port);
    }
}

#[test]
fn mux_of_another_line_or_of_the_session_is_none() {
    let (_, agreement) = answered("m=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 96\na=rtcp-mux");
    assert!(!agreement.rtcp_mux);
    let mut side = side(&ALL);
    side.handle_offer(b"v=0\r\nc=IN IP4 192.0.2.2\r\na=rtcp-mux\r\nm=audio 4000 RTP/AVP 0\r\n").unwrap();
    assert!(!side.make_answer(here(), Direction::SendRecv).unwrap().1.rtcp_mux);
}

#[test]
fn our_offer_asks_for_mux_and_the_answer_decides() {
    let mut side = side(&ALL);
    assert!(has_line(&side.make_offer(here(), Direction::SendRecv), "a=rtcp-mux"));
    let agreement = offered(&mut side, "m=audio 4000 RTP/AVP 0\na=rtcp-mux");
    assert_eq!((agreement.rtcp_mux, agreement.remote_rtcp), (true, agreement.remote_rtp));
    // A later answer without it falls back to the port of its own.
    let agreement = offered(&mut side, "m=audio 4000 RTP/AVP 0");
    assert_eq!((agreement.rtcp_mux, agreement.remote_rtcp.port()), (false, 4001));
}

#[test]
fn a_session_that_stays_as_it_is_keeps_its_version_with_mux() {
    let mut side = side(&ALL);
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 0\na=rtcp-mux")).unwrap();
    let (first, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    let (again, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(first, again);
}

#[test]
fn no_payload_type_of_ours_looks_like_rtcp() {
    // A peer that takes every other number.
    let numbers: Vec<u8> = (0..64).chain(96..128).collect();
    let mut used = side(&ALL);
    for numbers in numbers.chunks(48) {
        let list: String = numbers.iter().map(|number| format!(" {number}")).collect();
        let maps: String = numbers.iter().map(|n| format!("\na=rtpmap:{n} PCMU/8000")).collect();
        used.handle_offer(&peer(&format!("m=audio 4000 RTP/AVP{list}{maps}\na=rtcp-mux"))).unwrap();
        let (_, agreement) = used.make_answer(here(), Direction::SendRecv).unwrap();
        assert!(agreement.receive.iter().all(|(number, _)| !(64..=95).contains(number)));
    }
    let offer = used.make_offer(here(), Direction::SendRecv);
    let line = lines_with(&offer, "m=audio").remove(0);
    let numbers = line.split(' ').skip(3).map(|number| number.parse::<u8>().unwrap());
    for number in numbers {
        assert!(!(64..=95).contains(&number), "{line}");
    }
}

#[test]
fn a_format_under_a_number_that_looks_like_rtcp_is_not_taken() {
    let (answer, _) = answered("m=audio 4000 RTP/AVP 77 0\na=rtpmap:77 opus/48000/2\na=rtcp-mux");
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 0"]);
}
