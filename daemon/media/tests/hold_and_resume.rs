//! Holding and resuming, by both sides and in the way of RFC 2543 (RFC 3264 sections 5.1, 6.1 and 8.4).

use crate::support::*;
use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
use voipd_media::{Codec, Direction};

fn offer(direction: &str) -> Vec<u8> {
    peer(&format!("m=audio 4000 RTP/AVP 0\na={direction}"))
}

/// What the peer offers, what we want, what both may do as we see it.
const ANSWERS: [(&str, Direction, Direction); 16] = [
    ("sendrecv", SendRecv, SendRecv),
    ("sendrecv", SendOnly, SendOnly),
    ("sendrecv", RecvOnly, RecvOnly),
    ("sendrecv", Inactive, Inactive),
    ("sendonly", SendRecv, RecvOnly),
    ("sendonly", SendOnly, Inactive),
    ("sendonly", RecvOnly, RecvOnly),
    ("sendonly", Inactive, Inactive),
    ("recvonly", SendRecv, SendOnly),
    ("recvonly", SendOnly, SendOnly),
    ("recvonly", RecvOnly, Inactive),
    ("recvonly", Inactive, Inactive),
    ("inactive", SendRecv, Inactive),
    ("inactive", SendOnly, Inactive),
    ("inactive", RecvOnly, Inactive),
    ("inactive", Inactive, Inactive),
];

#[test]
fn an_answer_says_what_both_allow() {
    for (offered, wanted, expected) in ANSWERS {
        let mut side = side(&ALL);
        side.handle_offer(&offer(offered)).unwrap();
        let (sdp, agreement) = side.make_answer(here(), wanted).unwrap();
        assert_eq!(agreement.direction, expected, "{offered} and {wanted:?}");
        let attribute = format!("a={expected:?}").to_lowercase();
        assert!(has_line(&sdp, &attribute), "{offered} and {wanted:?}");
        assert_eq!(agreement.remote_hold, ["sendonly", "inactive"].contains(&offered));
    }
}

#[test]
fn an_answer_to_us_cannot_allow_more_than_we_offered() {
    for (answered, wanted, expected) in ANSWERS {
        let mut side = side(&ALL);
        side.make_offer(here(), wanted);
        let agreement = side.handle_answer(&offer(answered)).unwrap();
        assert_eq!(agreement.direction, expected, "{wanted:?}, then {answered}");
    }
}

#[test]
fn the_peer_holds_and_resumes() {
    let mut side = side(&ALL);
    for (offered, direction, hold) in [
        ("sendrecv", SendRecv, false),
        ("sendonly", RecvOnly, true),
        ("sendrecv", SendRecv, false),
        ("inactive", Inactive, true),
        ("sendrecv", SendRecv, false),
    ] {
        side.handle_offer(&offer(offered)).unwrap();
        let (_, agreement) = side.make_answer(here(), SendRecv).unwrap();
        assert_eq!((agreement.direction, agreement.remote_hold), (direction, hold), "{offered}");
    }
}

#[test]
fn the_peer_holds_with_an_unspecified_address() {
    let held = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut side = side(&ALL);
    side.handle_offer(held.as_bytes()).unwrap();
    let (sdp, agreement) = side.make_answer(here(), SendRecv).unwrap();
    assert_eq!((agreement.direction, agreement.remote_hold), (RecvOnly, true));
    assert!(has_line(&sdp, "a=recvonly"));

    side.handle_offer(&offer("sendrecv")).unwrap();
    let (_, agreement) = side.make_answer(here(), SendRecv).unwrap();
    assert_eq!((agreement.direction, agreement.remote_hold), (SendRecv, false));
    assert_eq!(agreement.remote_rtp, "192.0.2.2:4000".parse().unwrap());
}

#[test]
fn an_unspecified_ipv4_address_may_hold_an_ipv6_call() {
    let mut side = side(&ALL);
    side.handle_offer(b"v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 4000 RTP/AVP 0\r\n").unwrap();
    assert!(side.make_answer(local("2001:db8::1"), SendRecv).unwrap().1.remote_hold);
}

#[test]
fn we_hold_and_resume() {
    let mut us = side(&ALL);
    let mut they = side(&[Codec::Pcmu]);
    for (ours, theirs, their_hold) in
        [(SendRecv, SendRecv, false), (SendOnly, RecvOnly, true), (SendRecv, SendRecv, false)]
    {
        let offer = us.make_offer(here(), ours);
        they.handle_offer(&offer).unwrap();
        let (answer, their_agreement) = they.make_answer(there(), SendRecv).unwrap();
        let agreement = us.handle_answer(&answer).unwrap();
        assert_eq!((agreement.direction, agreement.remote_hold), (ours, false));
        assert_eq!((their_agreement.direction, their_agreement.remote_hold), (theirs, their_hold));
    }
}

#[test]
fn an_answer_without_a_choice_tells_nothing_about_the_peers_hold() {
    let mut side = side(&ALL);
    side.handle_offer(&offer("sendonly")).unwrap();
    side.make_answer(here(), SendRecv).unwrap();
    // Held by both: the peer must answer inactive, and still holds.
    side.make_offer(here(), Inactive);
    assert!(side.handle_answer(&offer("inactive")).unwrap().remote_hold);
    // We resume; it still does not want to hear us.
    side.make_offer(here(), SendRecv);
    assert!(side.handle_answer(&offer("sendonly")).unwrap().remote_hold);
    // It resumes too; then our own hold is not taken for the peer's.
    side.handle_offer(&offer("sendrecv")).unwrap();
    side.make_answer(here(), SendRecv).unwrap();
    side.make_offer(here(), Inactive);
    assert!(!side.handle_answer(&offer("inactive")).unwrap().remote_hold);
}
