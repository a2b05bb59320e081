//! Offers and answers that follow one another in a call (RFC 3264 section 8).

use crate::support::*;
use voipd_media::{Codec, Direction};

fn pcmu() -> Vec<u8> {
    peer("m=audio 4000 RTP/AVP 0")
}

#[test]
fn the_version_rises_by_one_and_only_with_a_change() {
    let mut side = side(&[Codec::Pcmu, Codec::Opus]);
    let first = side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&pcmu()).unwrap();
    assert_eq!(side.make_offer(here(), Direction::SendRecv), first);
    side.handle_answer(&pcmu()).unwrap();

    let hold = side.make_offer(here(), Direction::SendOnly);
    side.handle_answer(&pcmu()).unwrap();
    let moved = side.make_offer(local("192.0.2.99"), Direction::SendOnly);
    assert_eq!([version(&first), version(&hold), version(&moved)], [1, 2, 3]);
    for sdp in [&first, &hold, &moved] {
        assert!(lines(sdp)[1].starts_with("o=- 4711 "), "the session keeps its number");
    }
}

#[test]
fn answers_count_in_the_same_row_of_versions() {
    let mut side = side(&[Codec::Pcmu]);
    side.handle_offer(&pcmu()).unwrap();
    let (early, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    let (last, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(early, last, "a 183 and a 200 carry the same answer");
    let hold = side.make_offer(here(), Direction::SendOnly);
    assert_eq!([version(&last), version(&hold)], [1, 2]);
}

#[test]
fn the_agreed_codec_comes_first_in_a_new_offer() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let agreed = side.handle_answer(&pcmu()).unwrap();
    let offer = side.make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&offer, "m="), ["m=audio 30000 RTP/AVP 0 96 8 97 101"]);
    assert_eq!(version(&offer), 2);
    assert_eq!(side.handle_answer(&pcmu()).unwrap(), agreed, "another order is no change");
    assert_eq!(side.make_offer(here(), Direction::SendRecv), offer);
}

#[test]
fn early_answers_follow_one_another() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let first = side.handle_answer(&pcmu()).unwrap();
    assert_eq!(side.handle_answer(&pcmu()).unwrap(), first, "a repeated answer changes nothing");
    let forked = side.handle_answer(&peer("m=audio 4010 RTP/AVP 8")).unwrap();
    assert_eq!((forked.send.codec, forked.remote_rtp.port()), (Codec::Pcma, 4010));
    assert_eq!(side.agreement(), Some(&forked));
}

#[test]
fn a_refused_offer_gives_back_what_was_agreed() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let agreed = side.handle_answer(&pcmu()).unwrap();

    side.make_offer(here(), Direction::SendOnly);
    side.handle_answer(&peer("m=audio 4000 RTP/AVP 0\na=recvonly")).unwrap();
    side.withdraw_offer();
    assert_eq!(side.agreement(), Some(&agreed));
    side.withdraw_offer();
    assert_eq!(side.agreement(), Some(&agreed));
}

#[test]
fn a_refused_first_offer_leaves_nothing() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&pcmu()).unwrap();
    side.withdraw_offer();
    assert_eq!(side.agreement(), None);
}

#[test]
fn a_refused_new_offer_of_the_peers_changes_nothing_until_it_is_answered() {
    let mut side = side(&ALL);
    side.handle_offer(&pcmu()).unwrap();
    let (_, agreed) = side.make_answer(here(), Direction::SendRecv).unwrap();
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 8\na=inactive")).unwrap();
    assert_eq!(side.agreement(), Some(&agreed));
    let (_, changed) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_ne!(changed, agreed);
}

#[test]
fn the_peer_may_move_its_media() {
    let mut side = side(&ALL);
    side.handle_offer(&pcmu()).unwrap();
    side.make_answer(here(), Direction::SendRecv).unwrap();
    side.handle_offer(&peer("m=audio 4444 RTP/AVP 0\nc=IN IP4 198.51.100.1\na=rtcp:4450")).unwrap();
    let (_, moved) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(moved.remote_rtp, "198.51.100.1:4444".parse().unwrap());
    assert_eq!(moved.remote_rtcp, "198.51.100.1:4450".parse().unwrap());
}
