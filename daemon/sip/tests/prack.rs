//! Reliable provisional responses (RFC 3262), as caller and as callee.

use std::time::Duration;

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, SessionError};

const REQUIRED: &str = "Require: 100rel\n";
const SUPPORTED: &str = "Supported: 100rel\n";

fn progress(event: &Event) -> (u16, Option<&[u8]>) {
    match event {
        Event::Progress { status, sdp, .. } => (status.get(), sdp.as_deref()),
        other => panic!("{other:?}"),
    }
}

// As caller.

#[test]
fn the_invite_says_that_provisional_responses_may_be_reliable() {
    let script = Script::called();
    assert!(script.invite.headers.tokens("Supported").contains(&"100rel"));
    assert!(script.invite.headers.tokens("Allow").contains(&"PRACK"));
    assert!(script.invite.headers.get("Require").is_none());
}

#[test]
fn each_reliable_response_is_acknowledged_in_its_dialog() {
    let mut script = Script::called();
    for (rseq, code) in [(700, 180), (701, 183)] {
        script.respond_reliably(code, rseq, b"");
        assert_eq!(progress(&script.event()), (code, None));
        let prack = script.next("PRACK");
        assert_eq!(prack.headers.get("RAck"), Some(format!("{rseq} 1 INVITE").as_str()));
        assert_eq!(prack.to.tag(), Some("peer"));
        assert_eq!(prack.uri.to_string(), "sip:peer@192.0.2.9:5060");
        assert_eq!(prack.cseq, rseq - 698, "each request of the dialog has its number");
        script.reply(&prack, 200, "", b"");
    }
    script.respond(200, "", ANSWER);
    assert!(matches!(script.event(), Event::Answered { sdp: Some(_), .. }));
    let ack = script.next("ACK");
    assert_eq!(ack.cseq, 1, "the INVITE's");
    script.ends_well();
}

#[test]
fn a_repeated_response_is_neither_acknowledged_nor_told_again() {
    let mut script = Script::called();
    script.respond_reliably(183, 5, ANSWER);
    assert_eq!(progress(&script.event()), (183, Some(ANSWER)));
    let prack = script.next("PRACK");
    script.respond_reliably(183, 5, ANSWER);
    script.no_event();
    // The PRACK itself is repeated until it is answered.
    script.net.run_ms(600);
    assert_eq!(script.next("PRACK"), prack);
    script.reply(&prack, 200, "", b"");
    script.respond_reliably(183, 5, ANSWER);
    script.run_s(40);
    assert!(script.requests().is_empty());
    script.no_event();
}

#[test]
fn a_response_that_overtakes_another_waits_for_its_repetition() {
    let mut script = Script::called();
    script.respond_reliably(180, 10, b"");
    let first = script.next("PRACK");
    script.reply(&first, 200, "", b"");
    script.event();
    // 11 is still under way.
    script.respond_reliably(183, 12, ANSWER);
    script.no_event();
    assert!(script.requests().is_empty());
    for rseq in [11, 12] {
        script.respond_reliably(183, rseq, ANSWER);
        let prack = script.next("PRACK");
        assert_eq!(prack.headers.get("RAck"), Some(format!("{rseq} 1 INVITE").as_str()));
        script.reply(&prack, 200, "", b"");
    }
    let events = script.events();
    assert_eq!(progress(&events[0]), (183, Some(ANSWER)));
    assert_eq!(progress(&events[1]), (183, None), "the answer is known");
}

#[test]
fn numbers_without_require_or_out_of_bounds_make_no_response_reliable() {
    let mut script = Script::called();
    for headers in
        ["RSeq: 3\n", "Require: 100rel\n", "Require: 100rel\nRSeq: 0\n", "Require: 100rel\nRSeq: x\n"]
    {
        script.respond(180, headers, b"");
        assert_eq!(progress(&script.event()), (180, None), "{headers}");
        assert!(script.requests().is_empty(), "{headers}");
    }
    // One without a tag has no dialog that a PRACK could travel in.
    let mut untagged = script.invite.response(status(180));
    untagged.headers.push("Require", "100rel");
    untagged.headers.push("RSeq", "1");
    script.net.respond(script.peer, script.alice, &untagged);
    assert!(script.requests().is_empty());
}

#[test]
fn each_fork_has_its_own_numbers() {
    let mut script = Script::called();
    for (tag, rseq) in [("one", 100), ("two", 7), ("one", 101), ("two", 8)] {
        let mut response = with_contact(answer(&script.invite, 180, tag), "<sip:peer@192.0.2.9:5060>");
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq.to_string());
        script.net.respond(script.peer, script.alice, &response);
        script.net.run_ms(10);
        let prack = script.next("PRACK");
        assert_eq!(prack.to.tag(), Some(tag));
        assert_eq!(prack.headers.get("RAck"), Some(format!("{rseq} 1 INVITE").as_str()));
        script.reply(&prack, 200, "", b"");
    }
}

#[test]
fn a_prack_follows_the_route_of_the_response() {
    let mut script = Script::called();
    script.net.name("proxy.example.net", &["192.0.2.40:5060"]);
    let proxy = script.net.raw("192.0.2.40:5060");
    let headers = "Require: 100rel\nRSeq: 1\nRecord-Route: <sip:proxy.example.net;lr>\n";
    script.respond(183, headers, ANSWER);
    script.net.run_ms(10);
    let prack = script.net.requests(proxy).remove(0);
    assert_eq!(prack.headers.get("Route"), Some("<sip:proxy.example.net;lr>"));
    assert_eq!(prack.uri.to_string(), "sip:peer@192.0.2.9:5060");
}

#[test]
fn a_prack_without_an_answer_leaves_the_call_to_its_invite() {
    for code in [481, 500] {
        let mut script = Script::called();
        script.respond_reliably(180, 1, b"");
        script.event();
        let prack = script.next("PRACK");
        script.reply(&prack, code, "", b"");
        script.respond(200, "", ANSWER);
        assert!(matches!(script.event(), Event::Answered { .. }));
        script.next("ACK");
        script.ends_well();
    }
    let mut script = Script::called();
    script.respond_reliably(180, 1, b"");
    script.event();
    script.run_s(40);
    script.requests();
    script.respond(200, "", ANSWER);
    assert!(matches!(script.event(), Event::Answered { .. }));
}

#[test]
fn a_call_that_is_cancelled_acknowledges_nothing_more() {
    let mut script = Script::called();
    script.respond_reliably(180, 1, b"");
    script.event();
    let prack = script.next("PRACK");
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    let cancel = script.next("CANCEL");
    script.reply(&cancel, 200, "", b"");
    script.reply(&prack, 200, "", b"");
    script.respond_reliably(183, 2, ANSWER);
    script.respond(487, "", b"");
    script.next("ACK");
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Local);
    script.run_s(70);
    assert!(script.requests().is_empty());
    assert!(script.act(|e, _, _| e.is_idle()));
}

#[test]
fn an_answer_that_crosses_the_cancel_is_ended_behind_what_was_acknowledged() {
    let mut script = Script::called();
    for (rseq, code) in [(1, 180), (2, 183)] {
        script.respond_reliably(code, rseq, b"");
        script.event();
        let prack = script.next("PRACK");
        assert_eq!(prack.cseq, rseq + 1);
        script.reply(&prack, 200, "", b"");
    }
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    script.next("CANCEL");
    script.respond(200, "", ANSWER);
    let requests = script.requests();
    let said: Vec<_> = requests.iter().map(|request| (request.method.as_str(), request.cseq)).collect();
    assert_eq!(said, [("ACK", 1), ("BYE", 4)], "a lower number would be refused (RFC 3261 section 12.2.2)");
}

#[test]
fn an_answer_in_a_dialog_that_a_proxy_has_called_over_goes_on_with_its_numbers() {
    let mut script = Script::called();
    script.respond_reliably(180, 1, b"");
    script.event();
    let prack = script.next("PRACK");
    script.reply(&prack, 200, "", b"");
    script.respond(199, "", b"");
    script.respond(200, "", ANSWER);
    script.next("ACK");
    script.events();
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    assert_eq!(script.next("BYE").cseq, prack.cseq + 1);
}

// As callee.

#[test]
fn who_requires_reliability_gets_it() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    let ringing = script.response(180);
    let rseq: u32 = ringing.headers.get("RSeq").unwrap().parse().unwrap();
    assert!((1..1 << 31).contains(&rseq));
    assert!(ringing.to.tag().is_some() && ringing.headers.get("Contact").is_some());
    script.prack(&ringing, b"");
    script.response(200);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    let early = script.response(183);
    assert_eq!(early.headers.get("RSeq"), Some((rseq + 1).to_string().as_str()));
    assert_eq!(early.body, ANSWER);
    script.prack(&early, b"");
    script.response(200);
    script.act(|e, now, session| e.accept(now, session, Vec::new())).unwrap();
    let ok = script.response(200);
    assert!(ok.body.is_empty(), "the answer has arrived already");
    assert!(ok.headers.get("RSeq").is_none());
    script.ack(b"");
    assert!(matches!(script.event(), Event::Confirmed { sdp: None, .. }));
    script.ends_well();
}

#[test]
fn who_only_supports_reliability_gets_it_for_descriptions() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    assert!(script.response(180).headers.get("RSeq").is_none());
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    assert!(script.response(183).headers.get("RSeq").is_some());
}

#[test]
fn who_does_not_know_reliability_is_not_bothered() {
    let mut script = Script::calls("", OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    let early = script.response(183);
    assert!(early.headers.get("RSeq").is_none() && early.headers.get("Require").is_none());
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    assert_eq!(script.response(200).body, ANSWER, "what may not have arrived is said again");
}

#[test]
fn what_is_not_acknowledged_is_repeated_and_given_up() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    let start = script.net.elapsed().as_millis() as u64;
    script.run_s(40);
    let at: Vec<u64> = times(&script.net, script.alice, "180").iter().map(|at| at - start).collect();
    assert_eq!(at, [0, 500, 1500, 3500, 7500, 15_500, 31_500], "the interval doubles without bound");
    let given_up: Vec<u64> = times(&script.net, script.alice, "504").iter().map(|at| at - start).collect();
    assert_eq!(given_up[0], 32_000);
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Timeout);
    script.run_s(40);
    assert!(script.act(|e, _, _| e.is_idle()));
}

#[test]
fn a_prack_ends_the_repetitions() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    let ringing = script.response(180);
    script.net.run_ms(600);
    script.response(180);
    script.prack(&ringing, b"");
    script.response(200);
    script.run_s(50);
    assert_eq!(script.statuses(), []);
    script.no_event();
}

#[test]
fn a_prack_for_nothing_is_answered_481() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    let ringing = script.response(180);
    let rseq: u32 = ringing.headers.get("RSeq").unwrap().parse().unwrap();
    for rack in [
        String::new(),
        format!("RAck: {} 1 INVITE\n", rseq + 1),
        format!("RAck: {rseq} 2 INVITE\n"),
        format!("RAck: {rseq} 1 UPDATE\n"),
        format!("RAck: {rseq}\n"),
    ] {
        script.request("PRACK", &rack, b"");
        script.response(481);
    }
    script.prack(&ringing, b"");
    script.response(200);
    // It is acknowledged once.
    script.prack(&ringing, b"");
    script.response(481);
}

#[test]
fn the_next_response_waits_for_the_prack_of_the_last() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    let ringing = script.response(180);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    assert_eq!(script.statuses(), []);
    script.prack(&ringing, b"");
    script.net.run_ms(10);
    let responses = script.net.responses(script.peer);
    assert_eq!(responses.iter().map(|r| r.status.get()).collect::<Vec<_>>(), [200, 180]);
    assert_eq!(responses[1].body, ANSWER, "a description is not lost");
}

#[test]
fn no_2xx_is_sent_while_a_description_is_unacknowledged() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    let early = script.response(183);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    assert_eq!(
        script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())),
        Err(SessionError::WrongState)
    );
    script.net.run_ms(400);
    assert_eq!(script.statuses(), []);
    script.prack(&early, b"");
    script.net.run_ms(10);
    let responses = script.net.responses(script.peer);
    let methods: Vec<_> = responses.iter().map(|r| (r.status.get(), r.cseq.method.as_str())).collect();
    assert_eq!(methods, [(200, "PRACK"), (200, "INVITE")]);
    assert!(responses[1].body.is_empty());
    script.ack(b"");
    assert!(matches!(script.event(), Event::Confirmed { .. }));
    script.ends_well();
}

#[test]
fn an_accepted_call_whose_prack_never_comes_is_given_up() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    script.response(183);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.run_s(33);
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Timeout);
    assert!(times(&script.net, script.alice, "200").is_empty());
    assert!(!times(&script.net, script.alice, "504").is_empty());
}

#[test]
fn a_final_response_without_descriptions_under_way_does_not_wait() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    let ringing = script.response(180);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.response(200);
    // Its PRACK was under way: it is answered, and nothing is repeated but the 2xx.
    script.prack(&ringing, b"");
    script.response(200);
    script.prack(&ringing, b"");
    script.response(481);
    script.ack(b"");
    assert!(matches!(script.event(), Event::Confirmed { .. }));
    script.run_s(40);
    assert_eq!(times(&script.net, script.alice, "180").len(), 1);
    script.ends_well();
}

#[test]
fn a_prack_that_never_comes_leaves_nothing_behind() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    assert_eq!(script.statuses(), [180, 200]);
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    script.run_s(120);
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Local);
    assert!(script.act(|e, _, _| e.is_idle()));
}

#[test]
fn a_refusal_does_not_wait_and_its_prack_is_answered() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    let early = script.response(183);
    script.act(|e, now, session| e.reject(now, session, status(486), None)).unwrap();
    script.response(486);
    script.prack(&early, b"");
    script.response(200);
    assert_eq!(times(&script.net, script.alice, "183").len(), 1);
}

#[test]
fn cancel_and_bye_come_before_the_prack() {
    for name in ["CANCEL", "BYE"] {
        let mut script = Script::calls(SUPPORTED, OFFER);
        script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
        script.response(183);
        script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
        if name == "CANCEL" {
            let mut cancel = script.invite.clone();
            cancel.method = method("CANCEL");
            cancel.headers = Default::default();
            cancel.body.clear();
            script.net.request(script.peer, script.alice, &cancel);
            script.net.run_ms(10);
        } else {
            script.request("BYE", "", b"");
        }
        assert_eq!(script.statuses(), [200, 487], "{name}");
        script.ack(b"");
        script.run_s(70);
        assert!(times(&script.net, script.alice, "183").len() == 1, "{name}");
        let cause = end_of(&script.events(), script.session).cause;
        assert_eq!(cause, if name == "BYE" { EndCause::Remote } else { EndCause::Cancelled });
    }
}

#[test]
fn hanging_up_while_the_2xx_waits_declines() {
    let mut script = Script::calls(SUPPORTED, OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    script.response(183);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    script.response(603);
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Local);
}

#[test]
fn a_reliable_response_is_told_anew_each_minute() {
    let mut script = Script::calls(REQUIRED, OFFER);
    script.act(|e, now, session| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    let mut early = script.response(183);
    for _ in 0..3 {
        script.prack(&early, b"");
        script.response(200);
        script.run_s(60);
        let next = script.response(183);
        assert!(next.body.is_empty(), "the answer is said once");
        let number = |response: &voipd_sip::Response| -> u32 {
            response.headers.get("RSeq").unwrap().parse().unwrap()
        };
        assert_eq!(number(&next), number(&early) + 1);
        early = next;
    }
}

// Both.

#[test]
fn two_endpoints_get_there_over_a_bad_network() {
    let link = Link {
        latency: Duration::from_millis(20),
        loss: 200,
        doubling: 100,
        jitter: Duration::from_millis(150),
    };
    let mut repeated = 0;
    for seed in 1..=200 {
        let mut pair = Pair::seeded(seed);
        pair.net.link = link;
        let (alice, bob) = (pair.alice, pair.bob);
        let caller = pair.invite();
        let mut early = 0;
        let mut log = Vec::new();
        pair.net.run_with(Duration::from_secs(90), |net, host, event| {
            match &event {
                Event::Incoming(incoming) => {
                    let session = incoming.session;
                    net.with(bob, |e, now| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
                    net.with(bob, |e, now| e.accept(now, session, Vec::new())).unwrap();
                }
                Event::Progress { sdp: Some(sdp), .. } => {
                    assert_eq!(sdp, ANSWER);
                    early += 1;
                }
                Event::Answered { sdp, .. } => {
                    assert!(sdp.is_none(), "the early answer arrived before");
                    net.with(alice, |e, now| e.hangup(now, caller)).unwrap();
                }
                _ => {}
            }
            log.push((host, event));
        });
        assert_eq!(early, 1, "seed {seed}: {log:?}");
        let all: Vec<_> = log.iter().map(|(_, event)| event.clone()).collect();
        assert!(all.iter().any(|event| matches!(event, Event::Answered { .. })), "seed {seed}: {all:?}");
        assert_eq!(all.iter().filter(|event| matches!(event, Event::Ended { .. })).count(), 2, "seed {seed}");
        pair.net.run(Duration::from_secs(120));
        for host in [alice, bob] {
            assert!(pair.net.with(host, |e, _| e.is_idle()), "seed {seed}");
        }
        repeated += usize::from(times(&pair.net, bob, "183").len() > 1);
    }
    assert!(repeated > 20, "the network was to lose something: {repeated}");
}
