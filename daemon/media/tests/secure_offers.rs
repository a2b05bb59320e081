//! Offers of encrypted media while there is no encryption: refused by name, or passed over where there is a choice
//! (RFC 3264 section 6, RFC 3711, RFC 5124, RFC 5764).

use crate::support::*;
use voipd_media::{Direction, NegotiationError};

const SECURE: [&str; 4] = ["RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"];

#[test]
fn encrypted_media_alone_is_refused_by_name() {
    for profile in SECURE {
        let error = side(&ALL).handle_offer(&peer(&format!("m=audio 4000 {profile} 0"))).unwrap_err();
        assert_eq!(error, NegotiationError::Encryption(profile.to_owned()));
        assert_eq!(error.status(), (488, 302), "RFC 3261 section 20.43: incompatible transport protocol");
        assert!(error.to_string().contains("encrypted media"), "{error}");
    }
}

#[test]
fn of_two_alternatives_the_plain_one_is_taken_and_the_other_has_port_0() {
    for profile in SECURE {
        for (offer, answer) in [
            (
                format!("m=audio 4000 {profile} 0\nm=audio 4002 RTP/AVP 0"),
                [format!("m=audio 0 {profile} 0"), "m=audio 30000 RTP/AVP 0".to_owned()],
            ),
            (
                format!("m=audio 4002 RTP/AVP 0\nm=audio 4000 {profile} 0"),
                ["m=audio 30000 RTP/AVP 0".to_owned(), format!("m=audio 0 {profile} 0")],
            ),
        ] {
            let mut side = side(&ALL);
            side.handle_offer(&peer(&offer)).unwrap();
            let (written, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
            assert_eq!(lines_with(&written, "m="), answer);
            assert_eq!(agreement.remote_rtp.port(), 4002);
        }
    }
}

#[test]
fn feedback_is_answered_in_its_own_profile() {
    let mut side = side(&ALL);
    side.handle_offer(&peer("m=audio 4000 RTP/AVPF 0\na=rtcp-fb:* trr-int 1000")).unwrap();
    let (answer, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "m="), ["m=audio 30000 RTP/AVPF 0"]);
    assert_eq!(lines_with(&answer, "a=rtcp-fb"), [""; 0], "what we do not do is not answered");
}

#[test]
fn keys_in_a_plain_offer_are_passed_over() {
    let mut side = side(&ALL);
    let key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32";
    side.handle_offer(&peer(&format!("m=audio 4000 RTP/AVP 0\n{key}"))).unwrap();
    let (answer, _) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "a=crypto"), [""; 0]);
}

#[test]
fn an_answer_that_encrypts_what_was_offered_plain_is_none() {
    let mut side = side(&ALL);
    side.make_offer(here(), Direction::SendRecv);
    let error = side.handle_answer(&peer("m=audio 4000 RTP/SAVP 0")).unwrap_err();
    assert!(matches!(error, NegotiationError::Encryption(_)));
    assert_eq!(side.agreement(), None);
}
