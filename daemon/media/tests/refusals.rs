//! What cannot be used is refused in its place or with a named reason, and nothing that was agreed is lost.

use crate::support::*;
use voipd_media::{Codec, Direction, Negotiation, NegotiationError};

fn refusal(offer: &[u8]) -> NegotiationError {
    let mut side = side(&ALL);
    let error = side.handle_offer(offer).unwrap_err();
    assert_eq!(side.make_answer(here(), Direction::SendRecv).unwrap_err(), NegotiationError::Unexpected);
    assert_eq!(side.agreement(), None);
    error
}

#[test]
fn other_media_are_refused_in_their_places_and_stay_there() {
    let mut side = side(&ALL);
    side.handle_offer(&peer(
        "m=video 5000 RTP/AVP 96 97
         a=rtpmap:96 VP8/90000
         m=audio 4000 RTP/AVP 0
         m=application 9 UDP/BFCP *
         m=audio 4002 RTP/AVP 8",
    ))
    .unwrap();
    let (answer, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    let refused = |audio: &str| {
        ["m=video 0 RTP/AVP 96 97", audio, "m=application 0 UDP/BFCP *", "m=audio 0 RTP/AVP 8"]
            .map(str::to_owned)
    };
    assert_eq!(lines_with(&answer, "m="), refused("m=audio 30000 RTP/AVP 0"));

    let offer = side.make_offer(here(), Direction::SendOnly);
    assert_eq!(lines_with(&offer, "m="), refused("m=audio 30000 RTP/AVP 0 96 8 97 101"));
    // The answer's audio is looked for in its place.
    let answer = peer(
        "m=video 0 RTP/AVP 96
         m=audio 4000 RTP/AVP 0
         m=application 0 UDP/BFCP *
         m=audio 0 RTP/AVP 8",
    );
    assert_eq!(side.handle_answer(&answer).unwrap().send.codec, Codec::Pcmu);
    assert!(matches!(side.handle_answer(&peer("m=video 0 RTP/AVP 96")), Err(NegotiationError::Malformed(_))));
}

#[test]
fn the_audio_line_in_use_stays_in_use() {
    let mut side = side(&ALL);
    side.handle_offer(&peer("m=audio 4000 RTP/SAVP 0\nm=audio 4002 RTP/AVP 0")).unwrap();
    let (_, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(agreement.remote_rtp.port(), 4002);
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 0\nm=audio 4002 RTP/AVP 0")).unwrap();
    let (answer, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(agreement.remote_rtp.port(), 4002);
    assert_eq!(lines_with(&answer, "m="), ["m=audio 0 RTP/AVP 0", "m=audio 30000 RTP/AVP 0"]);
}

#[test]
fn a_line_added_later_is_refused_too() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&peer("m=audio 4000 RTP/AVP 0")).unwrap();
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 0\nm=video 5000 RTP/AVP 31")).unwrap();
    let (answer, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVP 0", "m=video 0 RTP/AVP 31"]);
}

#[test]
fn no_common_codec_names_both_sides() {
    let offer = peer(
        "m=audio 4000 RTP/AVP 18 3 98 101
         a=rtpmap:98 speex/16000
         a=rtpmap:101 telephone-event/8000",
    );
    let error = refusal(&offer);
    assert_eq!(
        error.to_string(),
        "no common codec: the peer has G729, GSM, speex, this account has opus, PCMA, PCMU"
    );
    assert_eq!(error.status(), (488, 305));
}

#[test]
fn an_answer_with_codecs_that_were_not_offered_is_no_answer() {
    let mut side = side(&[Codec::Pcmu]);
    side.make_offer(here(), Direction::SendRecv);
    let error = side.handle_answer(&peer("m=audio 4000 RTP/AVP 8")).unwrap_err();
    assert!(matches!(error, NegotiationError::NoCommonCodec { .. }));
    assert_eq!(side.agreement(), None);
}

#[test]
fn each_reason_has_its_error() {
    assert_eq!(refusal(&peer("m=video 4000 RTP/AVP 96")), NegotiationError::NoAudio);
    assert_eq!(refusal(&peer("m=audio 0 RTP/AVP 0")), NegotiationError::NoAudio);
    assert_eq!(refusal(&peer("")), NegotiationError::NoAudio);
    for profile in ["RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF"] {
        let error = refusal(&peer(&format!("m=audio 4000 {profile} 0")));
        assert_eq!(error, NegotiationError::Encryption(profile.to_owned()));
        assert_eq!(error.status(), (488, 302));
    }
    let error = refusal(&peer("m=audio 4000 TCP/MRCPv2 1"));
    assert_eq!(error, NegotiationError::Profile("TCP/MRCPv2".to_owned()));
    let name = peer("m=audio 4000 RTP/AVP 0\nc=IN IP4 media.example.com");
    assert_eq!(refusal(&name), NegotiationError::Address("media.example.com".to_owned()));
    for text in ["", "v=1\r\n", "m=audio 4000 RTP/AVP 0\r\n", "{\"type\": \"offer\"}"] {
        assert!(matches!(refusal(text.as_bytes()), NegotiationError::Malformed(_)), "{text}");
    }
}

#[test]
fn of_several_unusable_lines_the_nearest_miss_is_told() {
    let codec = "m=audio 4000 RTP/AVP 18";
    let profile = "m=audio 4000 RTP/SAVP 0";
    for offer in [format!("{codec}\n{profile}"), format!("{profile}\n{codec}")] {
        assert!(matches!(refusal(&peer(&offer)), NegotiationError::NoCommonCodec { .. }));
    }
}

#[test]
fn the_other_ip_version_is_refused() {
    let mut side = side(&ALL);
    side.handle_offer(&peer("m=audio 4000 RTP/AVP 0\nc=IN IP6 2001:db8::2")).unwrap();
    assert_eq!(side.offered_address(), Some("2001:db8::2".parse().unwrap()));
    let error = side.make_answer(here(), Direction::SendRecv).unwrap_err();
    assert!(matches!(error, NegotiationError::Address(_)));
    // The offer still stands: with an address of the right kind it is answered.
    side.make_answer(local("2001:db8::1"), Direction::SendRecv).unwrap();
}

#[test]
fn an_unusable_offer_leaves_the_call_as_it_was() {
    let mut side: Negotiation = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let agreement = side.handle_answer(&peer("m=audio 4000 RTP/AVP 0")).unwrap();
    let before = side.make_offer(here(), Direction::SendRecv);
    side.handle_answer(&peer("m=audio 4000 RTP/AVP 0")).unwrap();

    side.handle_offer(&peer("m=audio 0 RTP/AVP 0\nm=image 5004 udptl t38")).unwrap_err();
    assert_eq!(side.agreement(), Some(&agreement));
    assert_eq!(side.make_offer(here(), Direction::SendRecv), before);
}

#[test]
fn without_an_offer_there_is_no_answer() {
    let mut side = side(&ALL);
    let answer = peer("m=audio 4000 RTP/AVP 0");
    assert_eq!(side.handle_answer(&answer), Err(NegotiationError::Unexpected));
    side.make_offer(here(), Direction::SendRecv);
    side.withdraw_offer();
    assert_eq!(side.handle_answer(&answer), Err(NegotiationError::Unexpected));
}
