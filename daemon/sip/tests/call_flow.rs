//! Calls between two endpoints: answered, refused, given up, ended.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, SessionEnd, SessionError, TransportError};

fn end(cause: EndCause, status: Option<u16>, text: Option<&str>) -> SessionEnd {
    SessionEnd { cause, status, q850: None, text: text.map(str::to_owned), contacts: Vec::new() }
}

#[test]
fn a_call_is_placed_answered_and_hung_up_by_the_caller() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    pair.net.with(pair.alice, |endpoint, now| endpoint.hangup(now, caller)).unwrap();
    pair.net.run_ms(100);
    assert_eq!(end_of(&pair.net.events(pair.alice), caller), end(EndCause::Local, None, None));
    assert_eq!(end_of(&pair.net.events(pair.bob), callee), end(EndCause::Remote, None, None));
    let alice: Vec<_> = sent(&pair.net, pair.alice).into_iter().map(|(_, line)| line).collect();
    assert_eq!(alice[0], "INVITE sip:bob@192.0.2.2 SIP/2.0");
    assert!(alice[1].starts_with("ACK sip:") && alice[2].starts_with("BYE sip:"), "{alice:?}");
    assert_eq!(alice.len(), 3);
    let bob: Vec<_> = sent(&pair.net, pair.bob).into_iter().map(|(_, line)| line).collect();
    assert_eq!(bob, ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "SIP/2.0 200 OK"]);
    let again = pair.net.with(pair.alice, |endpoint, now| endpoint.hangup(now, caller));
    assert_eq!(again, Err(SessionError::NoSuchSession));
}

#[test]
fn a_call_is_hung_up_by_the_callee() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    pair.net.with(pair.bob, |endpoint, now| endpoint.hangup(now, callee)).unwrap();
    pair.net.run_ms(100);
    assert_eq!(end_of(&pair.net.events(pair.alice), caller), end(EndCause::Remote, None, None));
    assert_eq!(end_of(&pair.net.events(pair.bob), callee), end(EndCause::Local, None, None));
}

#[test]
fn a_busy_callee_refuses() {
    let mut pair = Pair::new();
    let caller = pair.invite();
    pair.net.run_ms(50);
    let callee = incoming(&pair.net.events(pair.bob));
    pair.net.with(pair.bob, |endpoint, now| endpoint.reject(now, callee, status(486), None)).unwrap();
    assert_eq!(end_of(&pair.net.events(pair.bob), callee), end(EndCause::Local, Some(486), None));
    pair.net.run_ms(100);
    let refused = end(EndCause::Refused, Some(486), Some("Busy Here"));
    assert_eq!(end_of(&pair.net.events(pair.alice), caller), refused);
    assert_eq!(times(&pair.net, pair.alice, "ACK").len(), 1);
}

#[test]
fn a_ringing_call_is_cancelled() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.ringing();
    pair.net.with(pair.alice, |endpoint, now| endpoint.hangup(now, caller)).unwrap();
    assert_eq!(end_of(&pair.net.events(pair.alice), caller), end(EndCause::Local, None, None));
    pair.net.run_ms(100);
    assert_eq!(end_of(&pair.net.events(pair.bob), callee), end(EndCause::Cancelled, None, None));
    let bob: Vec<_> = sent(&pair.net, pair.bob).into_iter().map(|(_, line)| line).collect();
    assert_eq!(bob, ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    pair.net.run(Duration::from_secs(60));
    assert!(pair.net.events(pair.alice).is_empty() && pair.net.events(pair.bob).is_empty());
    assert!(pair.net.with(pair.alice, |endpoint, _| endpoint.is_idle()));
}

#[test]
fn a_call_that_nobody_answers_times_out() {
    let mut pair = Pair::new();
    pair.net.link.loss = 1000;
    let caller = pair.invite();
    pair.net.run(Duration::from_secs(31));
    assert!(pair.net.events(pair.alice).is_empty());
    pair.net.run(Duration::from_secs(2));
    assert_eq!(end_of(&pair.net.events(pair.alice), caller), end(EndCause::Timeout, None, None));
}

#[test]
fn early_media_comes_before_the_answer() {
    let mut pair = Pair::new();
    let caller = pair.invite();
    pair.net.run_ms(50);
    let callee = incoming(&pair.net.events(pair.bob));
    pair.net.with(pair.bob, |endpoint, now| endpoint.ring(now, callee, Some(ANSWER.to_vec()))).unwrap();
    pair.net.run_ms(50);
    let events = pair.net.events(pair.alice);
    let [Event::Progress { session, status, sdp, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*session, status.get(), sdp.as_deref()), (caller, 183, Some(ANSWER)));
}

#[test]
fn what_does_not_fit_the_state_is_refused() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.ringing();
    let again = pair.net.with(pair.alice, |e, now| e.send_invite(now, caller, OFFER.to_vec()));
    assert_eq!(again, Err(SessionError::WrongState), "one INVITE is enough");
    let cannot = pair.net.with(pair.alice, |e, now| e.accept(now, caller, ANSWER.to_vec()));
    assert_eq!(cannot, Err(SessionError::WrongState), "it is her call");
    let early = pair.net.with(pair.bob, |e, now| e.offer(now, callee, OFFER.to_vec()));
    assert_eq!(early, Err(SessionError::WrongState), "not answered yet");
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut pair = Pair::new();
    pair.net.link.latency = Duration::from_millis(400);
    let caller = pair.invite();
    pair.net.with(pair.alice, |e, now| e.hangup(now, caller)).unwrap();
    assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Local);
    pair.net.run_ms(450);
    let callee = incoming(&pair.net.events(pair.bob));
    assert!(times(&pair.net, pair.alice, "CANCEL").is_empty());
    pair.net.run_ms(4000);
    // 100 leaves after 200 ms of thought and takes 400 ms.
    assert_eq!(times(&pair.net, pair.alice, "CANCEL")[0], 1000);
    assert_eq!(end_of(&pair.net.events(pair.bob), callee).cause, EndCause::Cancelled);
    let gone = pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec()));
    assert_eq!(gone, Err(SessionError::NoSuchSession));
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.ringing();
    pair.net.with(pair.alice, |e, now| e.hangup(now, caller)).unwrap();
    pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    pair.net.run(Duration::from_secs(10));
    assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Local);
    let events = pair.net.events(pair.bob);
    assert!(matches!(events[0], Event::Confirmed { .. }), "{events:?}");
    assert_eq!(end_of(&events, callee), end(EndCause::Remote, None, None));
    for word in ["CANCEL", "ACK", "BYE"] {
        assert_eq!(times(&pair.net, pair.alice, word).len(), 1, "{word}");
    }
    pair.net.run(Duration::from_secs(60));
    for host in [pair.alice, pair.bob] {
        assert!(pair.net.with(host, |e, _| e.is_idle()));
    }
}

#[test]
fn both_hang_up_at_once() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    pair.net.with(pair.alice, |e, now| e.hangup(now, caller)).unwrap();
    pair.net.with(pair.bob, |e, now| e.hangup(now, callee)).unwrap();
    pair.net.run(Duration::from_secs(1));
    assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Local);
    assert_eq!(end_of(&pair.net.events(pair.bob), callee).cause, EndCause::Local);
    for host in [pair.alice, pair.bob] {
        assert_eq!(times(&pair.net, host, "BYE").len(), 1);
        assert!(sent(&pair.net, host).last().unwrap().1.starts_with("SIP/2.0 200"));
    }
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_sends_bye_after_it() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.ringing();
    pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    pair.net.with(pair.bob, |e, now| e.hangup(now, callee)).unwrap();
    assert_eq!(end_of(&pair.net.events(pair.bob), callee), end(EndCause::Local, None, None));
    assert!(times(&pair.net, pair.bob, "BYE").is_empty());
    assert!(!pair.net.with(pair.bob, |e, _| e.is_idle()));
    let answered = pair.net.elapsed().as_millis() as u64;
    pair.net.run_ms(200);
    assert_eq!(times(&pair.net, pair.bob, "BYE"), [answered + 20]);
    assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Remote);
    assert!(pair.net.events(pair.bob).is_empty());
}

#[test]
fn a_callee_that_hangs_up_and_never_sees_the_ack_sends_bye_at_64_t1() {
    let mut pair = Pair::new();
    let (_, callee) = pair.ringing();
    pair.net.link.loss = 1000;
    pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    pair.net.with(pair.bob, |e, now| e.hangup(now, callee)).unwrap();
    let answered = pair.net.elapsed().as_millis() as u64;
    pair.net.run(Duration::from_secs(100));
    assert_eq!(times(&pair.net, pair.bob, "BYE")[0], answered + 32_000);
    assert_eq!(times(&pair.net, pair.bob, "200").len(), 11);
    end_of(&pair.net.events(pair.bob), callee);
    assert!(pair.net.with(pair.bob, |e, _| e.is_idle()));
}

#[test]
fn a_ringing_call_is_declined_by_hanging_up() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.ringing();
    pair.net.with(pair.bob, |e, now| e.hangup(now, callee)).unwrap();
    pair.net.run_ms(100);
    assert_eq!(
        end_of(&pair.net.events(pair.alice), caller),
        end(EndCause::Refused, Some(603), Some("Decline"))
    );
}

#[test]
fn a_refusal_can_say_more() {
    let mut pair = Pair::new();
    pair.invite();
    pair.net.run_ms(50);
    let callee = incoming(&pair.net.events(pair.bob));
    let soft = pair.net.with(pair.bob, |e, now| e.reject(now, callee, status(200), None));
    assert_eq!(soft, Err(SessionError::WrongState));
    let warning = Some((305, "no \"codec\" in common".to_owned()));
    pair.net.with(pair.bob, |e, now| e.reject(now, callee, status(488), warning)).unwrap();
    let (_, _, _, bytes) = pair.net.capture.last().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains("\r\nWarning: 305 192.0.2.2:5060 \"no \\\"codec\\\" in common\"\r\n"), "{text}");
}

#[test]
fn hanging_up_before_anything_is_sent_sends_nothing() {
    let mut pair = Pair::new();
    let id = pair.alice_id;
    let target = || "sip:bob@192.0.2.2".parse().unwrap();
    // While the resolver is asked.
    let now = pair.net.now;
    let session = pair.net.with(pair.alice, |e, _| {
        let session = e.invite(now, id, target(), InviteOptions::default()).unwrap();
        e.hangup(now, session).unwrap();
        session
    });
    assert_eq!(end_of(&pair.net.events(pair.alice), session).cause, EndCause::Local);
    // While the offer is waited for.
    let session =
        pair.net.with(pair.alice, |e, _| e.invite(now, id, target(), InviteOptions::default())).unwrap();
    pair.net.events(pair.alice);
    pair.net.with(pair.alice, |e, _| e.hangup(now, session)).unwrap();
    assert_eq!(end_of(&pair.net.events(pair.alice), session).cause, EndCause::Local);
    pair.net.run(Duration::from_secs(60));
    assert!(pair.net.capture.is_empty());
    assert!(pair.net.with(pair.alice, |e, _| e.is_idle()));
}

#[test]
fn what_cannot_be_called_is_said_at_once() {
    let mut pair = Pair::new();
    let id = pair.alice_id;
    let mut invite = |target: &str| {
        let target = target.parse().unwrap();
        pair.net.with(pair.alice, |e, now| e.invite(now, id, target, InviteOptions::default()))
    };
    assert_eq!(invite("tel:+4930123"), Err(SessionError::NotASipUri));
    let unknown = invite("sip:bob@nowhere.example").unwrap();
    let no_way = invite("sip:bob@[2001:db8::1]").unwrap();
    let events = pair.net.events(pair.alice);
    assert_eq!(end_of(&events, unknown).cause, EndCause::Unresolvable);
    assert_eq!(end_of(&events, no_way).cause, EndCause::Unreachable(TransportError::NoRoute));
}

#[test]
fn the_next_address_is_tried_when_the_first_is_dead_or_silent_or_overloaded() {
    for first in ["closed", "silent", "overloaded"] {
        let mut pair = Pair::new();
        match first {
            "closed" => pair.net.closed("192.0.2.8:5060"),
            "silent" => pair.net.raw("192.0.2.8:5060"),
            _ => pair.net.server("192.0.2.8:5060", |_, request| match request.method.as_str() {
                "INVITE" => vec![answer(request, 503, "full")],
                _ => Vec::new(),
            }),
        };
        pair.net.name("b.example", &["192.0.2.8:5060", "192.0.2.2:5060"]);
        let (id, target) = (pair.alice_id, "sip:bob@b.example".parse().unwrap());
        let session =
            pair.net.with(pair.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        pair.net.with(pair.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        pair.net.run(Duration::from_secs(33));
        let callee = incoming(&pair.net.events(pair.bob));
        pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
        pair.net.run_ms(100);
        let events = pair.net.events(pair.alice);
        assert!(matches!(events.last(), Some(Event::Answered { .. })), "{first}: {events:?}");
    }
}

#[test]
fn nobody_at_any_address() {
    let mut pair = Pair::new();
    pair.net.closed("192.0.2.8:5060");
    let (id, target) = (pair.alice_id, "sip:bob@192.0.2.8".parse().unwrap());
    let session =
        pair.net.with(pair.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    pair.net.with(pair.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    pair.net.run_ms(100);
    assert_eq!(
        end_of(&pair.net.events(pair.alice), session).cause,
        EndCause::Unreachable(TransportError::Refused)
    );
}

#[test]
fn a_probe_asks_for_a_sign_of_life() {
    let mut pair = Pair::new();
    let (caller, _) = pair.talking();
    pair.net.with(pair.alice, |e, now| e.probe(now, caller)).unwrap();
    pair.net.run_ms(100);
    let events = pair.net.events(pair.alice);
    assert!(matches!(events[..], [Event::Probed { alive: true, .. }]), "{events:?}");
    assert!(pair.net.events(pair.bob).is_empty());
}

#[test]
fn more_sessions_than_allowed_are_busy() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let bob = net.agent_with("192.0.2.2:5060", 1, 100);
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
    let bob_id = net.with(bob, |e, _| e.add_identity(identity("<sip:bob@192.0.2.2>")));
    let call = |net: &mut Net| {
        let target = "sip:bob@192.0.2.2".parse().unwrap();
        let session = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        net.run_ms(50);
        session
    };
    let first = call(&mut net);
    let second = call(&mut net);
    net.run_ms(100);
    assert_eq!(end_of(&net.events(alice), second).status, Some(486));
    let target = || "sip:alice@192.0.2.1".parse().unwrap();
    assert_eq!(
        net.with(bob, |e, now| e.invite(now, bob_id, target(), InviteOptions::default())),
        Err(SessionError::TooMany)
    );
    net.with(alice, |e, now| e.hangup(now, first)).unwrap();
    net.run_ms(1000);
    net.events(bob);
    assert!(
        net.with(bob, |e, now| e.invite(now, bob_id, target(), InviteOptions::default())).is_ok(),
        "room again"
    );
}
