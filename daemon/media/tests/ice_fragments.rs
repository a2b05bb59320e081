//! Trickled candidates (RFC 8840): how lines are identified, and fragments written, read and refused.

use crate::support::*;
use proptest::prelude::*;
use voipd_media::ice::{Fragment, FragmentError, LocalIce, PeerIce};
use voipd_media::{Direction, Negotiation};

const UFRAG: &str = "a=ice-ufrag:9uB6";
const LATE: &str = "a=candidate:2 1 UDP 1694498815 203.0.113.7 4000 typ srflx raddr 192.0.2.2 rport 4000";

fn trickling() -> LocalIce {
    LocalIce { trickle: true, complete: false, ..ice() }
}

fn side_that_trickles() -> Negotiation {
    let mut side = side(&ALL);
    side.set_ice(Some(trickling()));
    side
}

fn read(text: &str) -> Result<Fragment, FragmentError> {
    Fragment::read(text.as_bytes(), Some("0"))
}

fn addresses(fragment: &Fragment) -> Vec<String> {
    fragment.candidates.iter().map(|candidate| candidate.address.to_string()).collect()
}

#[test]
fn an_offer_that_trickles_says_so_and_names_its_line() {
    let offer = side_that_trickles().make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&offer, "a=ice-options:"), ["a=ice-options:ice2 trickle"]);
    assert_eq!(lines_with(&offer, "a=mid:"), ["a=mid:0"]);
    assert!(!has_line(&offer, "a=end-of-candidates"));
    let mut done = side(&ALL);
    done.set_ice(Some(LocalIce { complete: true, ..trickling() }));
    assert!(has_line(&done.make_offer(here(), Direction::SendRecv), "a=end-of-candidates"));
}

#[test]
fn an_answer_repeats_the_identification_of_the_offers_line() {
    let mut side = side_that_trickles();
    let with_mid = |mid: &str| {
        format!(
            "m=audio 4000 RTP/AVP 0\na=mid:{mid}\na=ice-options:trickle ice2\n{UFRAG}\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh"
        )
    };
    side.handle_offer(&peer(&with_mid("Audio-1"))).unwrap();
    assert_eq!(side.mid(), Some("Audio-1"), "also before it is answered");
    let (answer, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "a=mid:"), ["a=mid:Audio-1"]);
    let PeerIce::Offered(theirs) = agreement.ice else { panic!("no ICE") };
    assert!(theirs.trickle && theirs.ice2 && !theirs.complete);
    // Later offers of ours keep it.
    assert!(has_line(&side.make_offer(here(), Direction::SendRecv), "a=mid:Audio-1"));
    for bad in ["a b", "", "\"", &"x".repeat(33)] {
        let mut side = side_that_trickles();
        side.handle_offer(&peer(&with_mid(bad))).unwrap();
        let (answer, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
        assert_eq!(lines_with(&answer, "a=mid:").len(), 0, "{bad:?}");
    }
}

#[test]
fn a_fragment_is_read_as_it_was_written() {
    let ours = LocalIce { complete: true, ..trickling() };
    let written = ours.fragment(Some("0"), false);
    let text = String::from_utf8(written.clone()).unwrap();
    assert!(text.starts_with("m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:8hhY\r\na=ice-pwd:"), "{text}");
    let read = Fragment::read(&written, Some("0")).unwrap();
    assert_eq!((read.ufrag.as_str(), read.complete), ("8hhY", true));
    assert_eq!(read.candidates, ours.candidates);
    let muxed = ours.fragment(Some("0"), true);
    assert!(has_line(&muxed, "a=rtcp-mux"));
    assert_eq!(Fragment::read(&muxed, Some("0")).unwrap().candidates.len(), 1);
    assert!(has_line(&ours.fragment(None, true), "a=mid:0"));
}

#[test]
fn credentials_may_stand_before_all_streams_and_other_streams_are_passed_over() {
    let text = format!(
        "a=group:BUNDLE 0 1\r\n{UFRAG}\r\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\nm=video 9 RTP/AVP 0\r\na=mid:1\r\n\
         a=candidate:1 1 UDP 1 192.0.2.9 9 typ host\r\na=end-of-candidates\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n{LATE}\r\n"
    );
    let fragment = read(&text).unwrap();
    assert_eq!(addresses(&fragment), ["203.0.113.7:4000"]);
    assert!(!fragment.complete, "the other stream's is");
    let other = read(&text.replace("a=mid:0", "a=mid:2")).unwrap();
    assert!(other.candidates.is_empty() && other.ufrag == "9uB6");
    // Bare line feeds, and a stream without a name.
    let bare = read(&format!("{UFRAG}\nm=audio 9 RTP/AVP 0\n{LATE}\na=end-of-candidates\n")).unwrap();
    assert_eq!((addresses(&bare).len(), bare.complete), (1, true));
    let unnamed =
        Fragment::read(format!("{UFRAG}\nm=audio 9 x 0\na=mid:q\n{LATE}\n").as_bytes(), None).unwrap();
    assert_eq!(addresses(&unnamed).len(), 1);
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    let long = format!("{UFRAG}\r\nm=audio 9 RTP/AVP 0\r\n{}", format!("{LATE}\r\n").repeat(100));
    let many = format!("{UFRAG}\r\n{}", "a=x\r\n".repeat(257));
    for (text, error) in [
        ("", FragmentError::NoUfrag),
        ("nonsense", FragmentError::NoLines),
        ("aa=b\r\n", FragmentError::NoLines),
        (LATE, FragmentError::NoUfrag),
        ("a=ice-ufrag:a b c d\r\n", FragmentError::NoUfrag),
        ("a=ice-ufrag:9uB6\r\na=ice-pwd:short\r\n", FragmentError::BadPassword),
        (&long, FragmentError::TooLong),
        (&many, FragmentError::TooLong),
    ] {
        assert_eq!(read(text), Err(error), "{text:.40}");
        assert_eq!(error.status(), if error == FragmentError::TooLong { 413 } else { 400 });
    }
    assert_eq!(Fragment::read(b"a=ice-ufrag:\xff\xff", None), Err(FragmentError::NoLines));
}

#[test]
fn addresses_that_cannot_be_sent_to_are_left_out_and_their_number_is_bounded() {
    let odd = [
        "a=candidate:1 1 TCP 1 192.0.2.9 9 typ host tcptype active",
        "a=candidate:1 1 UDP 1 224.0.0.1 9 typ host",
        "a=candidate:1 1 UDP 1 host.local 9 typ host",
        "a=candidate:1 3 UDP 1 192.0.2.9 9 typ host",
        "a=candidate:",
    ];
    let fragment = read(&format!("{UFRAG}\nm=audio 9 RTP/AVP 0\n{}\n", odd.join("\n"))).unwrap();
    assert!(fragment.candidates.is_empty());
    let many: String = (1..120).map(|n| format!("a=candidate:1 1 UDP 1 192.0.2.9 {n} typ host\n")).collect();
    let fragment = read(&format!("{UFRAG}\nm=audio 9 RTP/AVP 0\n{many}")).unwrap();
    assert_eq!(fragment.candidates.len(), 24);
}

proptest! {
    #[test]
    fn no_fragment_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Fragment::read(&bytes, Some("0"));
    }

    #[test]
    fn nearly_right_fragments_stay_bounded(lines in proptest::collection::vec(
        "(a=(mid|candidate|ice-ufrag|ice-pwd|end-of-candidates)(:[ -~]{0,40})?|m=[a-z ]{0,9}|[ -~]{0,20})", 0..40,
    )) {
        if let Ok(fragment) = Fragment::read(lines.join("\n").as_bytes(), Some("0")) {
            prop_assert!(fragment.candidates.len() <= 24 && fragment.ufrag.len() >= 4);
        }
    }
}
