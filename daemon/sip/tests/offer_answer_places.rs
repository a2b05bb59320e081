//! Where offers and answers travel (RFC 3264, the six patterns of RFC 6337 table 1), and where they must not.

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{Event, SessionError};

const REQUIRED: &str = "Require: 100rel\nAllow: INVITE, ACK, BYE, PRACK, UPDATE\n";
const SUPPORTED: &str = "Supported: 100rel\nAllow: INVITE, ACK, BYE, PRACK, UPDATE\n";
const OTHER: &[u8] = b"v=0\r\no=- 9 9 IN IP4 192.0.2.9\r\ns=-\r\nt=0 0\r\n";

fn confirmed(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Confirmed { sdp, .. } => sdp.as_deref(),
        other => panic!("{other:?}"),
    }
}

fn offered(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Offered { sdp, .. } => sdp.as_deref(),
        other => panic!("{other:?}"),
    }
}

fn accept(script: &mut Script, sdp: &[u8]) -> Result<(), SessionError> {
    script.act(|e, now, session| e.accept(now, session, sdp.to_vec()))
}

fn ring(script: &mut Script, sdp: Option<&[u8]>) -> Result<(), SessionError> {
    script.act(|e, now, session| e.ring(now, session, sdp.map(<[u8]>::to_vec)))
}

// Pattern 1: INVITE, 2xx.

#[test]
fn offer_in_invite_answer_in_2xx() {
    let mut script = Script::calls("", OFFER);
    assert_eq!(accept(&mut script, b""), Err(SessionError::WrongState), "the answer is missing");
    accept(&mut script, ANSWER).unwrap();
    assert_eq!(script.response(200).body, ANSWER);
    script.ack(b"");
    assert_eq!(confirmed(&script.event()), None);
    script.ends_well();

    let mut script = Script::called();
    assert_eq!(script.invite.body, OFFER);
    script.respond(200, "", ANSWER);
    assert!(matches!(script.event(), Event::Answered { sdp: Some(sdp), .. } if sdp == ANSWER));
    assert!(script.next("ACK").body.is_empty());
    script.ends_well();
}

#[test]
fn an_unreliable_answer_is_repeated_in_the_2xx_which_counts() {
    let mut script = Script::called();
    script.respond(183, "", ANSWER);
    assert!(matches!(script.event(), Event::Progress { sdp: Some(_), .. }));
    script.respond(183, "", ANSWER);
    assert!(matches!(script.event(), Event::Progress { sdp: Some(_), .. }));
    script.respond(200, "", OTHER);
    assert!(matches!(script.event(), Event::Answered { sdp: Some(sdp), .. } if sdp == OTHER));
}

// Pattern 2: 2xx, ACK.

#[test]
fn offer_in_2xx_answer_in_ack() {
    let mut script = Script::calls("", b"");
    accept(&mut script, OFFER).unwrap();
    assert_eq!(script.response(200).body, OFFER);
    assert_eq!(script.offer(OTHER), Err(SessionError::WrongState));
    script.ack(ANSWER);
    assert_eq!(confirmed(&script.event()), Some(ANSWER));
    script.ends_well();
}

#[test]
fn a_reinvite_without_offer_is_answered_in_its_ack() {
    let mut script = Script::talks("");
    script.request("INVITE", "", b"");
    assert_eq!(offered(&script.event()), None);
    script.answer_offer(OFFER);
    assert_eq!(script.response(200).body, OFFER);
    // Until then, nobody else offers.
    script.request("UPDATE", "", OTHER);
    script.response(491);
    assert_eq!(script.offer(OTHER), Err(SessionError::WrongState));
    script.ack(ANSWER);
    assert_eq!(confirmed(&script.event()), Some(ANSWER));
    script.offer(OTHER).unwrap();
}

#[test]
fn an_ack_without_the_answer_is_told_and_the_next_offer_possible() {
    let mut script = Script::calls("", b"");
    accept(&mut script, OFFER).unwrap();
    script.response(200);
    script.ack(b"");
    assert_eq!(confirmed(&script.event()), None);
    script.request("INVITE", "", OTHER);
    assert_eq!(offered(&script.event()), Some(OTHER));
}

// Pattern 3: INVITE, reliable 1xx.

#[test]
fn offer_in_invite_answer_in_a_reliable_provisional_response() {
    let mut script = Script::called();
    script.respond_reliably(183, 1, ANSWER);
    assert!(matches!(script.event(), Event::Progress { sdp: Some(sdp), .. } if sdp == ANSWER));
    let prack = script.next("PRACK");
    assert!(prack.body.is_empty());
    script.reply(&prack, 200, "", b"");
    // Whatever comes after the answer is none (RFC 3261 section 13.2.1).
    script.respond_reliably(183, 2, OTHER);
    assert!(matches!(script.event(), Event::Progress { sdp: None, .. }));
    let prack = script.next("PRACK");
    script.reply(&prack, 200, "", b"");
    script.respond(200, "", OTHER);
    assert!(matches!(script.event(), Event::Answered { sdp: None, .. }));
    script.next("ACK");
    script.ends_well();
}

// Pattern 4: reliable 1xx, PRACK.

#[test]
fn offer_in_a_reliable_provisional_response_answer_in_prack() {
    let mut script = Script::calls(REQUIRED, b"");
    let event = script.invite.body.is_empty();
    assert!(event);
    assert_eq!(ring(&mut script, None), Err(SessionError::WrongState), "the first has the offer");
    ring(&mut script, Some(OFFER)).unwrap();
    let early = script.response(183);
    assert_eq!(early.body, OFFER);
    script.request("UPDATE", "", OTHER);
    script.response(491);
    script.prack(&early, ANSWER);
    assert!(script.response(200).body.is_empty());
    assert_eq!(confirmed(&script.event()), Some(ANSWER));
    accept(&mut script, b"").unwrap();
    assert!(script.response(200).body.is_empty());
    script.ack(b"");
    assert_eq!(confirmed(&script.event()), None);
    script.ends_well();
}

#[test]
fn a_call_accepted_before_the_prack_waits_for_its_answer() {
    let mut script = Script::calls(SUPPORTED, b"");
    ring(&mut script, Some(OFFER)).unwrap();
    let early = script.response(183);
    accept(&mut script, b"").unwrap();
    assert_eq!(script.statuses(), []);
    script.prack(&early, ANSWER);
    assert_eq!(confirmed(&script.event()), Some(ANSWER));
    assert_eq!(script.statuses(), [200, 200]);
}

#[test]
fn a_prack_without_the_answer_is_told() {
    let mut script = Script::calls(REQUIRED, b"");
    ring(&mut script, Some(OFFER)).unwrap();
    let early = script.response(183);
    script.prack(&early, b"");
    script.response(200);
    assert_eq!(confirmed(&script.event()), None);
    script.act(|e, now, session| e.reject(now, session, status(488), None)).unwrap();
    script.response(488);
}

#[test]
fn an_offer_is_not_made_where_it_may_be_lost() {
    // Without reliability, it stays for the 2xx (RFC 3261 section 13.2.1).
    let mut script = Script::calls("", b"");
    ring(&mut script, Some(OFFER)).unwrap();
    assert!(script.response(180).body.is_empty());
    accept(&mut script, OFFER).unwrap();
    assert_eq!(script.response(200).body, OFFER);
    script.ack(ANSWER);
    assert_eq!(confirmed(&script.event()), Some(ANSWER));
}

#[test]
fn the_caller_that_wants_reliability_is_told_of() {
    for (headers, wants) in [(REQUIRED, true), (SUPPORTED, false), ("", false)] {
        let mut script = Script::try_call(Net::new(), headers, b"");
        let Event::Incoming(incoming) = script.event() else { panic!() };
        assert_eq!((incoming.reliable, incoming.offer), (wants, None), "{headers}");
    }
}

// Pattern 5: PRACK, 2xx to it.

#[test]
fn offer_in_prack_answer_in_its_2xx() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    ring(&mut script, Some(ANSWER)).unwrap();
    let early = script.response(183);
    script.prack(&early, OTHER);
    assert_eq!(offered(&script.event()), Some(OTHER));
    // The call is accepted meanwhile: the order is kept.
    accept(&mut script, b"").unwrap();
    assert_eq!(script.statuses(), []);
    script.answer_offer(ANSWER);
    script.net.run_ms(10);
    let responses = script.net.responses(script.peer);
    let said: Vec<_> = responses.iter().map(|r| (r.cseq.method.as_str(), r.body.as_slice())).collect();
    assert_eq!(said, [("PRACK", ANSWER), ("INVITE", b"")]);
}

#[test]
fn an_offer_in_prack_that_is_refused_acknowledges_all_the_same() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    ring(&mut script, Some(ANSWER)).unwrap();
    let early = script.response(183);
    script.prack(&early, OTHER);
    script.event();
    script.act(|e, now, session| e.answer_offer(now, session, Err(status(488)))).unwrap();
    script.response(488);
    script.run_s(40);
    assert_eq!(times(&script.net, script.alice, "183").len(), 1);
    accept(&mut script, b"").unwrap();
    script.response(200);
    script.ack(b"");
    script.event();
    script.ends_well();
}

#[test]
fn an_offer_in_prack_before_the_first_is_answered_is_passed_over() {
    let mut script = Script::calls(REQUIRED, OFFER);
    ring(&mut script, None).unwrap();
    let ringing = script.response(180);
    script.prack(&ringing, OTHER);
    assert!(script.response(200).body.is_empty());
    script.no_event();
    accept(&mut script, ANSWER).unwrap();
    assert_eq!(script.response(200).body, ANSWER);
}

// Pattern 6, UPDATE, is in update.rs; here is what follows what.

#[test]
fn each_place_in_one_call() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    ring(&mut script, Some(ANSWER)).unwrap();
    let early = script.response(183);
    script.prack(&early, OTHER);
    script.event();
    script.answer_offer(ANSWER);
    script.response(200);
    script.request("UPDATE", "", OFFER);
    script.event();
    script.answer_offer(ANSWER);
    script.response(200);
    script.offer(OFFER).unwrap();
    let update = script.next("UPDATE");
    script.reply(&update, 200, "", ANSWER);
    script.event();
    accept(&mut script, b"").unwrap();
    script.response(200);
    script.ack(b"");
    script.event();
    script.request("UPDATE", "", OTHER);
    script.event();
    script.answer_offer(ANSWER);
    script.response(200);
    script.request("INVITE", "", b"");
    script.event();
    script.answer_offer(OFFER);
    script.response(200);
    script.ack(ANSWER);
    assert_eq!(confirmed(&script.event()), Some(ANSWER));
    script.offer(OFFER).unwrap();
    let invite = script.next("INVITE");
    script.reply(&invite, 200, "", ANSWER);
    assert!(matches!(script.event(), Event::OfferDone { result: Ok(Some(_)), .. }));
    script.next("ACK");
    script.ends_well();
}

// Wrong places.

#[test]
fn a_description_in_an_ack_that_answers_nothing_is_passed_over() {
    let mut script = Script::calls("", OFFER);
    accept(&mut script, ANSWER).unwrap();
    script.response(200);
    script.ack(OTHER);
    assert_eq!(confirmed(&script.event()), None);
    script.ends_well();
}

#[test]
fn descriptions_in_bye_options_and_info_mean_nothing() {
    let mut script = Script::talks("");
    script.request("OPTIONS", "", OTHER);
    script.response(200);
    script.no_event();
    script.request("INFO", "", OTHER);
    script.response(415);
    script.no_event();
    script.request("BYE", "", OTHER);
    script.response(200);
    assert!(matches!(script.event(), Event::Ended { .. }));
}

#[test]
fn a_provisional_response_to_a_reinvite_answers_nothing() {
    let mut script = Script::answered("");
    script.offer(OFFER).unwrap();
    let invite = script.next("INVITE");
    script.reply(&invite, 183, "", OTHER);
    script.no_event();
    script.reply(&invite, 200, "", ANSWER);
    assert!(matches!(script.event(), Event::OfferDone { result: Ok(Some(sdp)), .. } if sdp == ANSWER));
    script.next("ACK");
    script.ends_well();
}

#[test]
fn a_prack_in_a_call_that_stands_is_for_nothing() {
    let mut script = Script::talks("");
    script.request("PRACK", "RAck: 1 1 INVITE\n", OTHER);
    script.response(481);
    let mut script = Script::answered("");
    script.request("PRACK", "RAck: 1 1 INVITE\n", b"");
    script.response(481);
    script.ends_well();
}
