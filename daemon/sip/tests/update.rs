//! UPDATE (RFC 3311), before and after the answer, and its glare with other offers (RFC 3261 section 14).

use std::time::Duration;

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, SessionError, SessionId};

const HOLD: &[u8] = b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=sendonly\r\n";
const UPDATES: &str = "Allow: INVITE, ACK, BYE, UPDATE, PRACK\nSupported: 100rel\n";

fn offered(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Offered { sdp, .. } => sdp.as_deref(),
        other => panic!("{other:?}"),
    }
}

fn done(event: &Event) -> Result<Option<&[u8]>, u16> {
    match event {
        Event::OfferDone { result, .. } => match result {
            Ok(sdp) => Ok(sdp.as_deref()),
            Err(status) => Err(status.get()),
        },
        other => panic!("{other:?}"),
    }
}

/// Alice has called, and hears the peer, whose answer has come reliably.
fn hearing() -> Script {
    let mut script = Script::called();
    script.respond_reliably(183, 1, ANSWER);
    let prack = script.next("PRACK");
    script.reply(&prack, 200, "", b"");
    assert!(matches!(script.event(), Event::Progress { sdp: Some(_), .. }));
    script
}

/// The peer has called, and has Alice's early answer.
fn heard() -> Script {
    let mut script = Script::calls(UPDATES, OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    let early = script.response(183);
    script.prack(&early, b"");
    script.response(200);
    script
}

/// The delay that a 500 names.
fn retry_after(script: &mut Script) {
    let busy = script.response(500);
    let after: u32 = busy.headers.get("Retry-After").unwrap().parse().unwrap();
    assert!(after <= 10, "{after}");
}

// From us, before the answer.

#[test]
fn early_media_is_changed_by_update() {
    let mut script = hearing();
    script.offer(HOLD).unwrap();
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState), "one at a time");
    let update = script.next("UPDATE");
    assert_eq!(update.body, HOLD);
    assert_eq!(update.to.tag(), Some("peer"));
    assert!(update.headers.get("Contact").is_some(), "a target refresh request");
    assert!(update.headers.tokens("Allow").contains(&"UPDATE"));
    script.reply(&update, 200, "", ANSWER);
    assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    // What the 2xx repeats was said before the UPDATE, and is passed over.
    script.respond(200, "", OFFER);
    assert!(matches!(script.event(), Event::Answered { sdp: None, .. }));
    script.next("ACK");
    script.ends_well();
}

#[test]
fn early_media_of_a_caller_is_changed_by_update() {
    let mut script = heard();
    script.offer(HOLD).unwrap();
    let update = script.next("UPDATE");
    assert_eq!(update.body, HOLD);
    script.reply(&update, 200, "", ANSWER);
    assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    script.act(|e, now, session| e.accept(now, session, Vec::new())).unwrap();
    script.response(200);
    script.ack(b"");
    assert!(matches!(script.event(), Event::Confirmed { sdp: None, .. }));
    script.ends_well();
}

#[test]
fn nothing_is_offered_early_where_it_must_not_be() {
    // Not answered, and not reliably answered.
    let mut script = Script::called();
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState));
    script.respond(183, UPDATES, ANSWER);
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState));
    // The peer does not take UPDATE.
    let mut script = Script::called();
    script.respond(183, "Require: 100rel\nRSeq: 1\nAllow: INVITE, ACK, BYE, PRACK\n", ANSWER);
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState));
    // Alice's early answer has not arrived.
    let mut script = Script::calls(UPDATES, OFFER);
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState));
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    assert!(!script.act(|e, _, session| e.can_offer(session)));
    let early = script.response(183);
    script.prack(&early, b"");
    assert!(script.act(|e, _, session| e.can_offer(session)));
}

#[test]
fn an_early_update_that_fails_leaves_the_call_as_it_was() {
    for code in [408, 481, 488, 500] {
        let mut script = hearing();
        script.offer(HOLD).unwrap();
        let update = script.next("UPDATE");
        script.reply(&update, code, "", b"");
        assert_eq!(done(&script.event()), Err(code));
        script.respond(200, "", b"");
        assert!(matches!(script.event(), Event::Answered { sdp: None, .. }));
        script.next("ACK");
        script.ends_well();
    }
}

#[test]
fn an_update_whose_answer_comes_after_that_of_the_call() {
    let mut script = hearing();
    script.offer(HOLD).unwrap();
    let update = script.next("UPDATE");
    script.respond(200, "", b"");
    assert!(matches!(script.event(), Event::Answered { sdp: None, .. }));
    script.next("ACK");
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState));
    script.reply(&update, 200, "", ANSWER);
    assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    script.ends_well();
}

#[test]
fn an_update_put_off_is_sent_again() {
    // The caller waits 2.1 to 4 s after 491 (RFC 3261 section 14.1), and as long as it is told after 500.
    for (code, headers, from, to) in [(491, "", 2100, 4000), (500, "Retry-After: 3\n", 3000, 3000)] {
        let mut script = hearing();
        script.offer(HOLD).unwrap();
        let update = script.next("UPDATE");
        let start = script.net.elapsed().as_millis() as u64 + 10;
        script.reply(&update, code, headers, b"");
        script.run_s(5);
        script.no_event();
        let again = script.net.requests(script.peer).remove(0);
        assert_eq!((again.cseq, again.body.as_slice()), (update.cseq + 1, HOLD));
        let at = times(&script.net, script.alice, "UPDATE")[1];
        assert!((from..=to).contains(&(at - start)), "{code}: {}", at - start);
        script.reply(&again, 200, "", ANSWER);
        assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    }
}

#[test]
fn a_peer_that_puts_off_for_ever_refuses() {
    let mut script = hearing();
    script.offer(HOLD).unwrap();
    for round in 0..11 {
        let update = script.next("UPDATE");
        script.reply(&update, 500, "Retry-After: 0\n", b"");
        if round < 10 {
            script.no_event();
        }
        script.net.run_ms(1000);
    }
    assert_eq!(done(&script.event()), Err(500));
}

// From the peer, before the answer.

#[test]
fn the_peer_changes_early_media() {
    let mut script = hearing();
    script.request("UPDATE", "", HOLD);
    assert_eq!(offered(&script.event()), Some(HOLD));
    script.answer_offer(OFFER);
    let ok = script.response(200);
    assert_eq!(ok.body, OFFER);
    assert!(ok.headers.get("Contact").is_some());
    script.respond(200, "", b"");
    assert!(matches!(script.event(), Event::Answered { sdp: None, .. }));

    let mut script = heard();
    script.request("UPDATE", "", HOLD);
    assert_eq!(offered(&script.event()), Some(HOLD));
    script.act(|e, now, session| e.answer_offer(now, session, Err(status(488)))).unwrap();
    script.response(488);
    script.request("UPDATE", "", HOLD);
    assert_eq!(offered(&script.event()), Some(HOLD));
    // The 2xx comes after the answer.
    script.act(|e, now, session| e.accept(now, session, Vec::new())).unwrap();
    assert_eq!(script.statuses(), []);
    script.answer_offer(ANSWER);
    script.net.run_ms(10);
    let responses = script.net.responses(script.peer);
    let said: Vec<_> = responses.iter().map(|r| (r.cseq.method.as_str(), r.body.as_slice())).collect();
    assert_eq!(said, [("UPDATE", ANSWER), ("INVITE", b"")]);
}

#[test]
fn an_update_without_offer_moves_the_target_early() {
    let mut script = Script::calls(UPDATES, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    script.response(180);
    script.request("UPDATE", "", b"");
    let ok = script.response(200);
    assert!(ok.body.is_empty());
    script.no_event();
    let mut script = Script::called();
    script.respond(180, "", b"");
    script.event();
    script.request("UPDATE", "", b"");
    script.response(200);
}

#[test]
fn an_early_offer_before_the_first_is_answered() {
    // Ours, in the INVITE: 491.
    let mut script = Script::called();
    script.respond(183, "", ANSWER);
    script.event();
    script.request("UPDATE", "", HOLD);
    script.response(491);
    // The peer's, in its INVITE: 500 with Retry-After.
    let mut script = Script::calls(UPDATES, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    script.response(180);
    script.request("UPDATE", "", HOLD);
    retry_after(&mut script);
    script.no_event();
    // The one that we owe to an INVITE without.
    let mut script = Script::calls(UPDATES, b"");
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    script.response(180);
    script.request("UPDATE", "", HOLD);
    script.response(491);
}

#[test]
fn a_fork_that_is_not_heard_cannot_change_what_is() {
    let mut script = Script::called();
    let mut net = std::mem::replace(&mut script.net, Net::new());
    for (tag, rseq) in [("one", 1), ("two", 5)] {
        let response = with_contact(answer(&script.invite, 183, tag), "<sip:peer@192.0.2.9:5060>");
        let mut response = with_sdp(response, if tag == "one" { ANSWER } else { OFFER });
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq.to_string());
        response.headers.push("Allow", "UPDATE");
        net.respond(script.peer, script.alice, &response);
        net.run_ms(20);
    }
    script.net = net;
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState), "whom would it reach?");
    script.net.requests(script.peer);
    let events = script.events();
    assert!(matches!(&events[1], Event::Progress { sdp: Some(sdp), .. } if sdp == OFFER), "{events:?}");
    for (tag, code) in [("one", 488), ("two", 200)] {
        let text = format!(
            "UPDATE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{tag}
From: {};tag={tag}
To: {}
Call-ID: {}
CSeq: 1 UPDATE
Contact: <sip:peer@192.0.2.9:5060>
Content-Type: application/sdp
Content-Length: {}

{}",
            script.invite.to,
            script.invite.from,
            script.invite.call_id,
            HOLD.len(),
            String::from_utf8_lossy(HOLD)
        );
        script.net.say(script.peer, script.alice, &text);
        script.net.run_ms(10);
        if code == 200 {
            assert_eq!(offered(&script.event()), Some(HOLD));
            script.answer_offer(ANSWER);
        }
        script.response(code);
    }
    // The other one wins: what it answered holds.
    let won = with_contact(answer(&script.invite, 200, "one"), "<sip:peer@192.0.2.9:5060>");
    script.net.respond(script.peer, script.alice, &won);
    script.net.run_ms(10);
    assert!(matches!(script.event(), Event::Answered { sdp: Some(sdp), .. } if sdp == ANSWER));
}

#[test]
fn the_answer_to_an_update_of_a_fork_that_is_not_heard_any_more_is_not_told() {
    let mut script = hearing();
    script.offer(HOLD).unwrap();
    let update = script.next("UPDATE");
    let other = with_contact(answer(&script.invite, 183, "other"), "<sip:peer@192.0.2.9:5060>");
    script.net.respond(script.peer, script.alice, &with_sdp(other, OFFER));
    script.net.run_ms(10);
    assert!(matches!(script.event(), Event::Progress { sdp: Some(sdp), .. } if sdp == OFFER));
    script.reply(&update, 200, "", ANSWER);
    script.no_event();
}

#[test]
fn what_becomes_of_an_update_of_a_fork_that_has_lost_means_nothing_to_the_one_that_has_won() {
    let mut script = hearing();
    script.offer(HOLD).unwrap();
    let update = script.next("UPDATE");
    let contact = "<sip:peer@192.0.2.9:5060>";
    let mut other = with_sdp(with_contact(answer(&script.invite, 183, "other"), contact), ANSWER);
    other.headers.push("Require", "100rel");
    other.headers.push("RSeq", "1");
    script.net.respond(script.peer, script.alice, &other);
    script.net.run_ms(10);
    let prack = script.next("PRACK");
    script.reply(&prack, 200, "", b"");
    script.net.respond(
        script.peer,
        script.alice,
        &with_contact(answer(&script.invite, 200, "other"), contact),
    );
    script.net.run_ms(10);
    script.next("ACK");
    let events = script.events();
    assert!(matches!(events[..], [Event::Progress { .. }, Event::Answered { .. }]), "{events:?}");
    script.offer(HOLD).unwrap();
    let invite = script.next("INVITE");
    assert_eq!((invite.to.tag(), invite.cseq), (Some("other"), update.cseq), "each dialog counts by itself");
    script.reply(&update, 481, "", b"");
    script.no_event();
    script.reply(&invite, 200, "", ANSWER);
    assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    script.next("ACK");
    script.ends_well();
}

// After the answer.

#[test]
fn the_peer_offers_by_update_in_a_call() {
    let mut script = Script::talks("");
    script.request("UPDATE", "", HOLD);
    assert_eq!(offered(&script.event()), Some(HOLD));
    // While it waits, every other offer comes too soon, and so does an UPDATE without one.
    for (name, sdp) in [("UPDATE", HOLD), ("INVITE", OFFER), ("UPDATE", b"".as_slice())] {
        script.request(name, "", sdp);
        retry_after(&mut script);
        if name == "INVITE" {
            script.ack(b"");
        }
    }
    assert_eq!(script.offer(HOLD), Err(SessionError::WrongState));
    script.answer_offer(ANSWER);
    assert_eq!(script.response(200).body, ANSWER);
    // No ACK belongs to it: the next offer may come at once.
    script.offer(HOLD).unwrap();
    let invite = script.next("INVITE");
    script.reply(&invite, 200, "", ANSWER);
    assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    script.next("ACK");
    script.ends_well();
}

#[test]
fn an_update_that_is_refused_keeps_the_call_and_its_target() {
    let mut script = Script::talks("");
    let moved = "Contact: <sip:peer@192.0.2.77>\n";
    script.request("UPDATE", moved, HOLD);
    script.event();
    script.act(|e, now, session| e.answer_offer(now, session, Err(status(488)))).unwrap();
    script.response(488);
    script.ends_well();
}

#[test]
fn an_update_with_another_body_or_an_unreadable_contact_is_refused() {
    let mut script = Script::talks("");
    let text = "Content-Type: text/plain\n";
    script.request("UPDATE", text, b"hello");
    script.response(415);
    script.request("UPDATE", "Contact: nobody at home\n", HOLD);
    script.response(400);
    script.ends_well();
}

#[test]
fn an_update_in_the_place_of_a_lost_ack_is_answered_and_the_2xx_repeated() {
    let mut script = Script::calls("", OFFER);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.response(200);
    script.request("UPDATE", "", HOLD);
    assert_eq!(offered(&script.event()), Some(HOLD));
    script.answer_offer(ANSWER);
    script.response(200);
    script.net.run_ms(600);
    script.response(200);
    script.ack(b"");
    assert!(matches!(script.event(), Event::Confirmed { sdp: None, .. }));
    script.ends_well();
}

#[test]
fn update_and_reinvite_that_cross_are_both_put_off() {
    let mut script = Script::answered(UPDATES);
    script.offer(HOLD).unwrap();
    let invite = script.next("INVITE");
    script.request("UPDATE", "", OFFER);
    script.response(491);
    let start = script.net.elapsed().as_millis() as u64 + 10;
    script.reply(&invite, 491, "", b"");
    script.next("ACK");
    // The peer, who waits less, comes first; ours is given up for it.
    script.run_s(1);
    script.request("UPDATE", "", OFFER);
    let events = script.events();
    assert_eq!(done(&events[0]), Err(491));
    assert_eq!(offered(&events[1]), Some(OFFER));
    script.answer_offer(ANSWER);
    script.response(200);
    script.run_s(10);
    let later: Vec<_> =
        times(&script.net, script.alice, "INVITE").into_iter().filter(|at| *at > start).collect();
    assert!(later.is_empty(), "{later:?}");
    script.ends_well();
}

#[test]
fn a_reinvite_put_off_by_500_comes_again() {
    let mut script = Script::answered("");
    script.offer(HOLD).unwrap();
    let invite = script.next("INVITE");
    script.reply(&invite, 500, "Retry-After: 2\n", b"");
    script.next("ACK");
    script.run_s(2);
    let again = script.next("INVITE");
    assert_eq!(again.body, HOLD);
    script.reply(&again, 200, "", ANSWER);
    assert_eq!(done(&script.event()), Ok(Some(ANSWER)));
    script.next("ACK");
    script.ends_well();
}

#[test]
fn bye_answers_the_update_that_waits() {
    let mut script = Script::talks("");
    script.request("UPDATE", "", HOLD);
    script.event();
    script.request("BYE", "", b"");
    assert_eq!(script.statuses(), [200, 487]);
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Remote);
    let late = script.act(|e, now, session| e.answer_offer(now, session, Ok(ANSWER.to_vec())));
    assert_eq!(late, Err(SessionError::NoSuchSession));
}

#[test]
fn both_sides_offer_at_will_over_a_bad_network() {
    let link = Link {
        latency: Duration::from_millis(20),
        loss: 200,
        doubling: 100,
        jitter: Duration::from_millis(150),
    };
    let mut glares = 0;
    for seed in 1..=100 {
        let mut pair = Pair::seeded(seed);
        let (caller, callee) = pair.talking();
        let (alice, bob) = (pair.alice, pair.bob);
        pair.net.link = link;
        let wants: [(HostId, SessionId); 2] = [(alice, caller), (bob, callee)];
        for (host, session) in wants {
            pair.net.with(host, |e, now| e.offer(now, session, OFFER.to_vec())).unwrap();
        }
        let mut done = [false, false];
        pair.net.run_with(Duration::from_secs(120), |net, host, event| {
            let side = usize::from(host == bob);
            let (_, session) = wants[side];
            match event {
                Event::Offered { .. } => {
                    net.with(host, |e, now| e.answer_offer(now, session, Ok(ANSWER.to_vec()))).unwrap();
                }
                Event::OfferDone { result: Ok(_), .. } => done[side] = true,
                // Overtaken by the peer's: made again when that is settled.
                Event::OfferDone { result: Err(code), .. } => assert_eq!(code.get(), 491, "seed {seed}"),
                Event::Ended { .. } => panic!("seed {seed}: the call ended"),
                _ => {}
            }
            if !done[side] && net.with(host, |e, _| e.can_offer(session)) {
                net.with(host, |e, now| e.offer(now, session, OFFER.to_vec())).unwrap();
            }
        });
        assert_eq!(done, [true, true], "seed {seed}");
        glares += times(&pair.net, alice, "491").len() + times(&pair.net, bob, "491").len();
    }
    assert!(glares > 100, "the offers were to cross: {glares}");
}
