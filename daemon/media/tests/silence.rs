//! Pauses in offer and answer: comfort noise (RFC 3389) and Opus's own way (RFC 7587), where both sides want it.

use crate::support::{has_line, here, lines_with, peer, side, there};
use voipd_media::{Agreement, Codec, Direction, Negotiation, Preferences, ReceiveFormat};

const BOTH: Direction = Direction::SendRecv;

/// A side that leaves pauses out.
fn sparing(codecs: &[Codec]) -> Negotiation {
    let codecs = codecs.to_vec();
    Negotiation::new(4711, Preferences { codecs, ptime_ms: 20, redundancy: false, silence_suppression: true })
}

/// What a caller and a callee have agreed on.
fn agree(mut caller: Negotiation, mut callee: Negotiation) -> [Agreement; 2] {
    let offer = caller.make_offer(here(), BOTH);
    callee.handle_offer(&offer).unwrap();
    let (answer, answered) = callee.make_answer(there(), BOTH).unwrap();
    [caller.handle_answer(&answer).unwrap(), answered]
}

fn answer_to(mut side: Negotiation, media: &str) -> (Vec<u8>, Agreement) {
    side.handle_offer(&peer(media)).unwrap();
    side.make_answer(here(), BOTH).unwrap()
}

#[test]
fn comfort_noise_is_offered_at_each_clock_that_leaves_pauses_to_it() {
    let offer = sparing(&[Codec::Opus, Codec::G722, Codec::SpeexWide, Codec::Pcmu]).make_offer(here(), BOTH);
    assert!(has_line(&offer, "a=rtpmap:13 CN/8000"));
    assert!(has_line(&offer, "a=rtpmap:118 CN/16000"));
    assert_eq!(lines_with(&offer, "a=rtpmap:").iter().filter(|line| line.contains("CN/")).count(), 2);
    let media = lines_with(&offer, "m=").remove(0);
    assert!(media.contains(" 13 ") && media.contains(" 118"), "{media}");
    let opus = sparing(&[Codec::Opus]).make_offer(here(), BOTH);
    assert!(!String::from_utf8(opus.clone()).unwrap().contains("CN/"), "Opus has a way of its own");
    assert!(lines_with(&opus, "a=fmtp:").iter().any(|line| line.contains("usedtx=1")));
}

#[test]
fn who_does_not_ask_for_it_neither_offers_nor_takes_it() {
    let offer = side(&[Codec::Opus, Codec::Pcmu]).make_offer(here(), BOTH);
    let text = String::from_utf8(offer).unwrap();
    assert!(!text.contains("CN/") && !text.contains("usedtx"), "{text}");
    let (answer, agreed) = answer_to(side(&[Codec::Pcmu]), "m=audio 4000 RTP/AVP 0 13");
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 0"]);
    assert_eq!(agreed.send.comfort_noise, None);
}

#[test]
fn two_that_both_want_it_agree() {
    for (codec, number) in [(Codec::Pcmu, 13), (Codec::G722, 13), (Codec::SpeexWide, 118)] {
        for agreed in agree(sparing(&[codec]), sparing(&[codec])) {
            assert_eq!(agreed.send.comfort_noise, Some(number), "{codec}");
        }
    }
    for agreed in agree(sparing(&[Codec::Opus]), sparing(&[Codec::Opus])) {
        assert!(agreed.send.dtx);
        assert_eq!(agreed.send.comfort_noise, None);
    }
}

#[test]
fn one_alone_cannot_have_comfort_noise() {
    for agreed in agree(sparing(&[Codec::Pcmu]), side(&[Codec::Pcmu]))
        .into_iter()
        .chain(agree(side(&[Codec::Pcmu]), sparing(&[Codec::Pcmu])))
    {
        assert_eq!(agreed.send.comfort_noise, None);
    }
}

#[test]
fn the_peers_number_is_sent_and_the_static_one_needs_no_rtpmap() {
    let noise = |media: &str| answer_to(sparing(&[Codec::SpeexWide, Codec::Pcmu]), media).1;
    assert_eq!(noise("m=audio 4000 RTP/AVP 0 13").send.comfort_noise, Some(13));
    let wide = noise("m=audio 4000 RTP/AVP 97 105\na=rtpmap:97 speex/16000\na=rtpmap:105 CN/16000");
    assert_eq!(wide.send.comfort_noise, Some(105));
    assert!(wide.receive.iter().any(|(_, format)| *format == ReceiveFormat::ComfortNoise(16_000)));
    // Noise of another clock than the codec's says nothing about its pauses.
    let other = noise("m=audio 4000 RTP/AVP 97 13\na=rtpmap:97 speex/16000");
    assert_eq!(other.send.comfort_noise, None);
}

#[test]
fn comfort_noise_alone_is_no_codec() {
    let mut side = sparing(&[Codec::Pcmu]);
    assert!(side.handle_offer(&peer("m=audio 4000 RTP/AVP 13")).is_err());
}

#[test]
fn an_opus_peer_that_wants_no_pauses_gets_none() {
    let opus = |fmtp: &str| {
        let media = format!("m=audio 4000 RTP/AVP 96\na=rtpmap:96 opus/48000/2\n{fmtp}");
        answer_to(side(&[Codec::Opus]), &media).1.send.dtx
    };
    assert!(opus("a=fmtp:96 usedtx=1"));
    assert!(!opus("a=fmtp:96 usedtx=0"));
    assert!(!opus(""));
}
