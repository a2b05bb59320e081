//! RFC 2198 in offer and answer: both sides agree on redundant data for the codec that is sent, or on none.

use crate::support::{has_line, here, lines_with, redundant_side, side, there};
use voipd_media::{Codec, Direction, Negotiation, ReceiveFormat};

const BOTH: Direction = Direction::SendRecv;

fn agree(caller: &mut Negotiation, callee: &mut Negotiation) -> [Option<u8>; 2] {
    let offer = caller.make_offer(here(), BOTH);
    callee.handle_offer(&offer).unwrap();
    let (answer, answered) = callee.make_answer(there(), BOTH).unwrap();
    let agreed = caller.handle_answer(&answer).unwrap();
    [agreed.send.redundancy, answered.send.redundancy]
}

fn offer_of(formats: &str, attributes: &[&str]) -> Vec<u8> {
    let mut text = format!("v=0\r\nc=IN IP4 192.0.2.2\r\nm=audio 4000 RTP/AVP {formats}\r\n");
    attributes.iter().for_each(|attribute| text += &format!("a={attribute}\r\n"));
    text.into_bytes()
}

/// What we send redundant data with after such an offer, and the answer.
fn answer_to(formats: &str, attributes: &[&str]) -> (Option<u8>, Vec<u8>) {
    let mut side = redundant_side(&[Codec::Opus, Codec::G722, Codec::Pcmu]);
    side.handle_offer(&offer_of(formats, attributes)).unwrap();
    let (answer, agreement) = side.make_answer(here(), BOTH).unwrap();
    (agreement.send.redundancy, answer)
}

#[test]
fn an_offer_names_the_formats_of_each_clock() {
    let mut side = redundant_side(&[Codec::Opus, Codec::G722, Codec::Pcmu]);
    let offer = side.make_offer(here(), BOTH);
    assert_eq!(lines_with(&offer, "m="), ["m=audio 30000 RTP/AVP 96 9 0 97 101 121 63"]);
    assert!(has_line(&offer, "a=rtpmap:63 red/48000/2") && has_line(&offer, "a=fmtp:63 96/96"));
    assert!(has_line(&offer, "a=rtpmap:121 red/8000") && has_line(&offer, "a=fmtp:121 9/0"));
    let narrow = redundant_side(&[Codec::Pcmu]).make_offer(here(), BOTH);
    assert_eq!(lines_with(&narrow, "m="), ["m=audio 30000 RTP/AVP 0 101 121"]);
    assert!(has_line(&narrow, "a=fmtp:121 0/0"));
}

#[test]
fn two_that_both_want_it_agree() {
    for (codec, number) in [(Codec::Opus, 63), (Codec::G722, 121), (Codec::Pcmu, 121)] {
        let agreed = agree(&mut redundant_side(&[codec]), &mut redundant_side(&[codec]));
        assert_eq!(agreed, [Some(number); 2], "{codec}");
    }
}

#[test]
fn one_alone_cannot_have_it() {
    let codecs = [Codec::Opus, Codec::Pcmu];
    assert_eq!(agree(&mut redundant_side(&codecs), &mut side(&codecs)), [None; 2]);
    assert_eq!(agree(&mut side(&codecs), &mut redundant_side(&codecs)), [None; 2]);
}

#[test]
fn a_browsers_offer_is_answered_in_kind() {
    let attributes =
        ["rtpmap:111 opus/48000/2", "fmtp:111 useinbandfec=1", "rtpmap:63 red/48000/2", "fmtp:63 111/111"];
    let (redundancy, answer) = answer_to("111 63 9 0 8", &attributes);
    assert_eq!(redundancy, Some(63));
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 111 63 9 0"]);
    assert!(has_line(&answer, "a=fmtp:63 111/111"));
}

#[test]
fn redundant_data_must_be_able_to_hold_what_is_sent() {
    // Of another clock, for another format, or without a codec of its clock: of no use.
    assert_eq!(answer_to("0 63", &["rtpmap:63 red/48000/2"]).0, None);
    assert_eq!(answer_to("0 121", &["rtpmap:121 red/8000", "fmtp:121 8/8"]).0, None);
    assert_eq!(answer_to("0 121", &["rtpmap:121 red/8000", "fmtp:121 8/0"]).0, Some(121));
    assert_eq!(answer_to("0 121", &["rtpmap:121 red/8000"]).0, Some(121));
    let (_, answer) = answer_to("0 63", &["rtpmap:63 red/48000/2"]);
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 0"]);
    // Named first, it is still the codec that decides.
    let (redundancy, answer) = answer_to("121 0", &["rtpmap:121 red/8000", "fmtp:121 0/0"]);
    assert_eq!(
        (redundancy, lines_with(&answer, "m=")),
        (Some(121), vec!["m=audio 30000 RTP/AVP 121 0".to_owned()])
    );
    let mut side = redundant_side(&[Codec::Pcmu]);
    assert!(side.handle_offer(&offer_of("121", &["rtpmap:121 red/8000"])).is_err());
}

#[test]
fn what_was_offered_may_come() {
    let mut side = redundant_side(&[Codec::Pcmu]);
    let mut other = redundant_side(&[Codec::Pcmu]);
    agree(&mut side, &mut other);
    let red = (121, ReceiveFormat::Redundant(8_000));
    assert!(
        side.agreement().unwrap().receive.contains(&red) && other.agreement().unwrap().receive.contains(&red)
    );
}

#[test]
fn the_peers_limits_are_told() {
    let read = |extra: &str| {
        let mut side = redundant_side(&[Codec::Opus]);
        let text = format!(
            "v=0\r\nc=IN IP4 192.0.2.2\r\nb=AS:128\r\nm=audio 4000 RTP/AVP 96\r\n{extra}a=rtpmap:96 opus/48000/2\r\n"
        );
        side.handle_offer(text.as_bytes()).unwrap();
        let send = side.make_answer(here(), BOTH).unwrap().1.send;
        (send.bandwidth, send.max_ptime_ms)
    };
    assert_eq!(read(""), (Some(128_000), 60));
    assert_eq!(read("b=AS:32\r\na=maxptime:40\r\n"), (Some(32_000), 40));
    assert_eq!(read("b=TIAS:1\r\nb=AS:x\r\na=maxptime:30\r\n"), (Some(128_000), 20));
    assert_eq!(read("b=AS:0\r\na=maxptime:120\r\n"), (Some(128_000), 60));
    assert_eq!(read("b=AS:99999999999999999999\r\n"), (Some(128_000), 60));
}
