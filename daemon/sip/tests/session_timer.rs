//! Session timers (RFC 4028): asked for, agreed on, refreshed, and the end of a session that is not.

use std::time::Duration;

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event};
use voipd_sip::message::{Request, Response};

const TIMER: &str = "Supported: timer\n";
const UPDATES: &str = "Allow: INVITE, ACK, BYE, UPDATE\n";

fn session_expires(response: &Response) -> Option<&str> {
    response.headers.get("Session-Expires")
}

fn asks(request: &Request) -> Option<&str> {
    request.headers.get("Session-Expires")
}

/// Seconds from `start` to when Alice sent her first request of that name since.
fn seconds_until(script: &Script, start: Duration, name: &str) -> u64 {
    let start = start.as_millis() as u64;
    let at = times(&script.net, script.alice, name).into_iter().find(|at| *at > start);
    (at.unwrap_or_else(|| panic!("no {name}")) - start) / 1000
}

/// Alice's answer to an INVITE with these header fields.
fn accepted(headers: &str) -> (Script, Response) {
    let mut script = Script::calls(headers, OFFER);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let ok = script.response(200);
    script.ack(b"");
    script.event();
    (script, ok)
}

// As caller.

#[test]
fn the_invite_asks_for_a_timer_and_leaves_the_refresher_open() {
    let script = Script::called();
    assert_eq!(asks(&script.invite), Some("1800"));
    assert!(script.invite.headers.get("Min-SE").is_none(), "90 is understood");
    assert!(script.invite.headers.tokens("Supported").contains(&"timer"));
    assert!(script.invite.headers.get("Require").is_none(), "a peer without timers can be called");
}

#[test]
fn a_422_is_obeyed() {
    let mut script = Script::called();
    script.respond(422, "Min-SE: 3600\n", b"");
    let requests = script.requests();
    let [ack, again] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(ack.method.as_str(), "ACK");
    assert_eq!((again.cseq, &again.call_id), (2, &script.invite.call_id));
    assert_eq!((asks(again), again.headers.get("Min-SE")), (Some("3600"), Some("3600")));
    assert_eq!((again.to.tag(), again.body.as_slice()), (None, OFFER));
    assert_eq!(again.from, script.invite.from);
    // Another server on the way wants still more.
    script.invite = again.clone();
    script.respond(422, "Min-SE: 4000\n", b"");
    script.invite = script.requests().remove(1);
    assert_eq!(asks(&script.invite), Some("4000"));
    script.respond(200, "Require: timer\nSession-Expires: 4000;refresher=uac\n", ANSWER);
    assert!(matches!(script.event(), Event::Answered { .. }));
}

#[test]
fn a_422_that_asks_for_nothing_new_is_a_refusal() {
    for headers in ["", "Min-SE: 1800\n", "Min-SE: long\n"] {
        let mut script = Script::called();
        script.respond(422, headers, b"");
        assert_eq!(end_of(&script.events(), script.session).status, Some(422), "{headers}");
    }
    // Nor is a server obeyed that never has enough.
    let mut script = Script::called();
    for round in 0..5 {
        script.no_event();
        script.respond(422, &format!("Min-SE: {}\n", 2000 + round), b"");
        if let Some(again) = script.requests().into_iter().nth(1) {
            script.invite = again;
        }
    }
    assert_eq!(end_of(&script.events(), script.session).status, Some(422));
}

#[test]
fn the_caller_refreshes_when_half_the_time_is_over() {
    let headers = format!("{UPDATES}Require: timer\nSession-Expires: 600;refresher=uac\n");
    let mut script = Script::answered(&headers);
    for _ in 0..3 {
        let start = script.net.elapsed();
        let update = script.wait("UPDATE", 301);
        assert!(seconds_until(&script, start, "UPDATE").abs_diff(300) <= 1);
        assert!(update.body.is_empty() && update.headers.get("Content-Type").is_none());
        assert_eq!(asks(&update), Some("600;refresher=uac"));
        assert!(update.headers.get("Contact").is_some());
        script.reply(&update, 200, "Require: timer\nSession-Expires: 600;refresher=uac\n", b"");
    }
    script.ends_well();
}

#[test]
fn a_peer_without_update_is_refreshed_by_reinvite() {
    let mut script = Script::answered("Require: timer\nSession-Expires: 600;refresher=uac\n");
    script.run_s(301);
    assert!(matches!(script.event(), Event::RefreshWanted { .. }));
    script.offer(OFFER).unwrap();
    let invite = script.next("INVITE");
    assert_eq!(asks(&invite), Some("600;refresher=uac"));
    let start = script.net.elapsed();
    script.reply(&invite, 200, "Session-Expires: 200;refresher=uac\n", ANSWER);
    assert!(matches!(script.event(), Event::OfferDone { result: Ok(_), .. }));
    script.next("ACK");
    // The new interval counts.
    script.run_s(101);
    assert!(matches!(script.net.timed_events(script.alice)[..], [(at, Event::RefreshWanted { .. })]
        if (at - start).as_secs() == 100));
}

#[test]
fn any_offer_refreshes() {
    let mut script = Script::answered("Require: timer\nSession-Expires: 600;refresher=uac\n");
    script.run_s(200);
    script.offer(OFFER).unwrap();
    let invite = script.next("INVITE");
    assert_eq!(asks(&invite), Some("600;refresher=uac"));
    script.reply(&invite, 200, "Session-Expires: 600;refresher=uac\n", ANSWER);
    script.event();
    script.next("ACK");
    script.run_s(298);
    script.no_event();
    script.run_s(3);
    assert!(matches!(script.event(), Event::RefreshWanted { .. }));
}

#[test]
fn a_peer_that_refuses_update_is_refreshed_by_reinvite() {
    for code in [405, 501] {
        let headers = format!("{UPDATES}Session-Expires: 600;refresher=uac\n");
        let mut script = Script::answered(&headers);
        let update = script.wait("UPDATE", 301);
        script.reply(&update, code, "", b"");
        assert!(matches!(script.event(), Event::RefreshWanted { .. }), "{code}");
    }
}

#[test]
fn a_refresh_that_fails_is_tried_again_until_the_time_is_over() {
    let headers = format!("{UPDATES}Session-Expires: 600;refresher=uac\n");
    let mut script = Script::answered(&headers);
    let start = script.net.elapsed();
    let mut tries = Vec::new();
    for _ in 0..600 {
        script.run_s(1);
        for request in script.net.requests(script.peer) {
            if request.method.as_str() == "UPDATE" {
                tries.push((script.net.elapsed() - start).as_secs());
                script.reply(&request, 503, "", b"");
            }
        }
    }
    assert!(tries.len() >= 3 && tries.len() < 6, "{tries:?}");
    assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Timeout);
    assert!(seconds_until(&script, start, "BYE").abs_diff(568) <= 1, "32 s before the end");
}

#[test]
fn a_refresh_that_nobody_answers_ends_the_call() {
    for (code, status) in [(None, None), (Some(408), Some(408)), (Some(481), Some(481))] {
        let headers = format!("{UPDATES}Session-Expires: 600;refresher=uac\n");
        let mut script = Script::answered(&headers);
        let update = script.wait("UPDATE", 301);
        if let Some(code) = code {
            script.reply(&update, code, "", b"");
        }
        script.run_s(33);
        let end = end_of(&script.events(), script.session);
        assert_eq!(end.status, status);
        assert_eq!(end.cause, if code == Some(481) { EndCause::Remote } else { EndCause::Timeout });
    }
}

#[test]
fn a_refresh_can_be_put_off_challenged_and_asked_to_be_longer() {
    let headers = format!("{UPDATES}Session-Expires: 600;refresher=uac\n");
    let mut script = Script::answered(&headers);
    let update = script.wait("UPDATE", 301);
    script.reply(&update, 491, "", b"");
    let update = script.wait("UPDATE", 5);
    script.reply(&update, 422, "Min-SE: 900\n", b"");
    let update = script.next("UPDATE");
    assert_eq!((asks(&update), update.headers.get("Min-SE")), (Some("900;refresher=uac"), Some("900")));
    script.reply(&update, 200, "Session-Expires: 900;refresher=uac\n", b"");
    let start = script.net.elapsed();
    script.wait("UPDATE", 451);
    assert!(seconds_until(&script, start, "UPDATE").abs_diff(450) <= 1);
}

#[test]
fn a_peer_that_was_to_refresh_and_does_not_is_hung_up_on() {
    for (interval, margin) in [(600, 32), (90, 30)] {
        let mut script =
            Script::answered(&format!("Require: timer\nSession-Expires: {interval};refresher=uas\n"));
        let start = script.net.elapsed();
        script.run_s(interval);
        assert_eq!(seconds_until(&script, start - Duration::from_millis(10), "BYE"), interval - margin);
        assert!(times(&script.net, script.alice, "UPDATE").is_empty());
        assert_eq!(end_of(&script.events(), script.session).cause, EndCause::Timeout);
    }
}

#[test]
fn a_peer_that_refreshes_is_kept() {
    let mut script = Script::answered("Require: timer\nSession-Expires: 600;refresher=uas\n");
    for name in ["UPDATE", "INVITE", "UPDATE"] {
        script.run_s(300);
        let sdp: &[u8] = if name == "INVITE" { OFFER } else { b"" };
        script.request(name, "Supported: timer\nSession-Expires: 600;refresher=uac\n", sdp);
        if name == "INVITE" {
            script.event();
            script.answer_offer(ANSWER);
        }
        let ok = script.response(200);
        assert_eq!(session_expires(&ok), Some("600;refresher=uac"));
        assert_eq!(ok.headers.tokens("Require"), ["timer"]);
        if name == "INVITE" {
            script.ack(b"");
            script.event();
        }
    }
    let start = script.net.elapsed();
    script.run_s(600);
    assert!(seconds_until(&script, start, "BYE").abs_diff(568) <= 1);
}

#[test]
fn a_peer_without_timers_needs_no_refresh() {
    let mut script = Script::answered("");
    script.run_s(10_000);
    assert!(script.requests().is_empty());
    script.ends_well();
}

#[test]
fn an_interval_below_the_shortest_is_none() {
    let mut script = Script::answered("Session-Expires: 5;refresher=uac\n");
    script.run_s(1000);
    assert!(script.requests().is_empty());
    script.ends_well();
}

// As callee.

#[test]
fn who_refreshes_follows_the_table() {
    // RFC 4028 section 9, table 2: what the caller supports and asks, what it is told, and whether it must know timers.
    for (headers, told, required) in [
        ("Session-Expires: 600\n", Some("600;refresher=uas"), false),
        ("Supported: timer\nSession-Expires: 600\n", Some("600;refresher=uac"), true),
        ("Supported: timer\nSession-Expires: 600;refresher=uac\n", Some("600;refresher=uac"), true),
        ("Supported: timer\nx: 600;refresher=uas\n", Some("600;refresher=uas"), true),
        ("Require: timer\nSession-Expires: 600\n", Some("600;refresher=uac"), true),
        (TIMER, Some("1800;refresher=uas"), true),
        ("Supported: timer\nMin-SE: 4000\n", Some("4000;refresher=uas"), true),
        ("", None, false),
        ("Session-Expires: 60\n", None, false),
        ("Session-Expires: soon\n", None, false),
    ] {
        let (_, ok) = accepted(headers);
        assert_eq!(session_expires(&ok), told, "{headers}");
        assert_eq!(ok.headers.tokens("Require").contains(&"timer"), required, "{headers}");
    }
}

#[test]
fn an_interval_that_is_too_short_is_refused_with_ours() {
    let mut script = Script::try_call(Net::new(), "Supported: timer\nSession-Expires: 89\n", OFFER);
    let refusal = script.response(422);
    assert_eq!(refusal.headers.get("Min-SE"), Some("90"));
    script.no_event();
    // In the call too.
    let (mut script, _) = accepted("Supported: timer\nSession-Expires: 90\n");
    for name in ["INVITE", "UPDATE"] {
        script.request(name, "Supported: timer\nSession-Expires: 10\n", b"");
        let refusal = script.response(422);
        assert_eq!(refusal.headers.get("Min-SE"), Some("90"));
        if name == "INVITE" {
            script.ack(b"");
        }
    }
    script.ends_well();
}

#[test]
fn the_callee_refreshes_for_a_caller_without_timers() {
    // A proxy has asked in its place.
    let (mut script, _) = accepted("Session-Expires: 600\nAllow: INVITE, BYE\n");
    script.run_s(301);
    assert!(matches!(script.event(), Event::RefreshWanted { .. }));
    script.offer(OFFER).unwrap();
    let invite = script.next("INVITE");
    assert_eq!(asks(&invite), Some("600;refresher=uac"), "we are the client of this one");
    script.reply(&invite, 200, "Session-Expires: 600;refresher=uac\n", ANSWER);
    script.event();
    script.next("ACK");
    // Its own re-INVITE says nothing of timers: ours goes on.
    script.request("INVITE", "", OFFER);
    script.event();
    script.answer_offer(ANSWER);
    let ok = script.response(200);
    assert_eq!(session_expires(&ok), Some("600;refresher=uas"));
    assert!(ok.headers.get("Require").is_none());
    script.ack(b"");
    script.event();
    script.run_s(301);
    assert!(matches!(script.event(), Event::RefreshWanted { .. }));
}

#[test]
fn a_refresh_by_the_other_side_makes_it_the_refresher() {
    let (mut script, ok) = accepted(&format!("{UPDATES}{TIMER}Session-Expires: 600;refresher=uas\n"));
    assert_eq!(session_expires(&ok), Some("600;refresher=uas"));
    script.run_s(100);
    script.request("UPDATE", "Supported: timer\nSession-Expires: 600;refresher=uac\n", b"");
    assert_eq!(session_expires(&script.response(200)), Some("600;refresher=uac"));
    let start = script.net.elapsed();
    script.run_s(560);
    assert!(times(&script.net, script.alice, "UPDATE").is_empty());
    script.run_s(10);
    assert!(seconds_until(&script, start, "BYE").abs_diff(568) <= 1);
}

#[test]
fn a_call_that_ends_is_not_refreshed_any_more() {
    let (mut script, _) = accepted(&format!("{UPDATES}{TIMER}Session-Expires: 90;refresher=uas\n"));
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    script.event();
    script.run_s(200);
    assert!(times(&script.net, script.alice, "UPDATE").is_empty());
    assert!(script.act(|e, _, _| e.is_idle()));
}

// Switched off.

#[test]
fn switched_off_timers_are_not_taken_part_in() {
    let mut net = Net::new();
    let alice = net.agent_without_timers("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:5060");
    let mut script = Script::between(net, alice, peer, "Supported: timer\nSession-Expires: 60\n", OFFER);
    script.session = incoming(&script.events());
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let ok = script.response(200);
    assert_eq!((session_expires(&ok), ok.headers.get("Supported")), (None, Some("199, 100rel")));
    script.ack(b"");
    script.event();
    script.run_s(5000);
    script.ends_well();

    let mut net = Net::new();
    let alice = net.agent_without_timers("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:5060");
    let mut script = Script::between(net, alice, peer, "Require: timer\nSession-Expires: 600\n", OFFER);
    assert_eq!(script.response(420).headers.tokens("Unsupported"), ["timer"]);
}

// Both.

#[test]
fn two_endpoints_keep_a_call_over_a_bad_network() {
    let link = Link {
        latency: Duration::from_millis(20),
        loss: 200,
        doubling: 100,
        jitter: Duration::from_millis(150),
    };
    for seed in 1..=50 {
        let mut pair = Pair::seeded(seed);
        let (caller, _) = pair.talking();
        pair.net.link = link;
        pair.net.run(Duration::from_secs(20_000));
        assert!(
            pair.net.events(pair.alice).is_empty() && pair.net.events(pair.bob).is_empty(),
            "seed {seed}"
        );
        let updates = times(&pair.net, pair.alice, "UPDATE");
        assert!(updates.len() >= 22, "seed {seed}: {updates:?}");
        // The wire is cut: both find out.
        pair.net.link.loss = 1000;
        pair.net.run(Duration::from_secs(1800));
        let (alice, bob) = (pair.net.events(pair.alice), pair.net.events(pair.bob));
        assert_eq!(end_of(&alice, caller).cause, EndCause::Timeout, "seed {seed}");
        assert!(matches!(&bob[..], [Event::Ended { end, .. }] if end.cause == EndCause::Timeout), "{bob:?}");
    }
}
