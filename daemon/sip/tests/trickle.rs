//! Candidates trickled in INFO (RFC 8840): who is told of it, when fragments may be sent, and what is refused.

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{Event, FragmentId, SessionError};

const FRAGMENT: &[u8] = b"m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=end-of-candidates\r\n";
const PACKAGE: &str = "Info-Package: trickle-ice\nContent-Type: application/trickle-ice-sdpfrag\n";
const TAKES: &str = "Allow: INVITE, ACK, BYE, INFO\nSupported: trickle-ice\nRecv-Info: trickle-ice\n";

/// The peer has called with these header fields, and Alice trickles.
fn trickles(headers: &str) -> Script {
    let mut script = Script::calls(headers, OFFER);
    script.act(|e, _, session| e.set_trickle(session, true));
    script
}

fn talks(headers: &str) -> Script {
    let mut script = trickles(headers);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.response(200);
    script.ack(b"");
    script.event();
    script
}

fn send(script: &mut Script) -> Result<(), SessionError> {
    script.act(|e, now, session| e.send_fragment(now, session, FRAGMENT.to_vec()))
}

fn takes(script: &mut Script) -> bool {
    script.act(|e, _, session| e.takes_fragments(session))
}

fn fragment(event: &Event) -> FragmentId {
    match event {
        Event::Fragment { id, body, .. } if body == FRAGMENT => *id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_trickles_says_so_and_another_does_not() {
    let mut script = trickles("");
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let answer = script.response(200);
    assert!(answer.headers.tokens("Supported").contains(&"trickle-ice"));
    assert_eq!(answer.headers.tokens("Recv-Info"), ["trickle-ice"]);
    let mut plain = Script::calls("", OFFER);
    plain.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let answer = plain.response(200);
    assert!(!answer.headers.tokens("Supported").contains(&"trickle-ice"));
    assert_eq!(answer.headers.get("Recv-Info"), None);
}

#[test]
fn strangers_who_ask_are_told_where_it_is_announced() {
    for announced in [false, true] {
        let mut net = Net::new();
        let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
        net.with(alice, |e, _| e.announce_trickle(announced));
        net.say(
            peer,
            alice,
            "OPTIONS sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKo
From: <sip:peer@192.0.2.9>;tag=a
To: <sip:alice@192.0.2.1>
Call-ID: o
CSeq: 1 OPTIONS
Content-Length: 0

",
        );
        net.run_ms(50);
        let response = net.responses(peer).remove(0);
        assert_eq!(response.headers.tokens("Supported").contains(&"trickle-ice"), announced);
    }
}

#[test]
fn fragments_go_out_when_the_2xx_is_acknowledged() {
    let mut script = trickles(TAKES);
    assert!(!takes(&mut script));
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.response(200);
    assert!(!takes(&mut script) && script.act(|e, _, session| e.peer_trickles(session)));
    assert_eq!(send(&mut script), Err(SessionError::WrongState));
    script.ack(b"");
    script.event();
    assert!(takes(&mut script));
    send(&mut script).unwrap();
    let info = script.next("INFO");
    assert_eq!(info.headers.get("Info-Package"), Some("trickle-ice"));
    assert_eq!(info.headers.get("Content-Type"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!(info.headers.get("Content-Disposition"), Some("Info-Package"));
    assert_eq!(info.body, FRAGMENT);
    script.reply(&info, 200, "", b"");
    assert!(matches!(script.event(), Event::FragmentSent { taken: true, .. }));
    script.ends_well();
}

#[test]
fn a_refused_fragment_ends_nothing() {
    for code in [400, 415, 469, 481, 500] {
        let mut script = talks(TAKES);
        send(&mut script).unwrap();
        let info = script.next("INFO");
        script.reply(&info, code, "", b"");
        assert!(matches!(script.event(), Event::FragmentSent { taken: false, .. }), "{code}");
        script.ends_well();
    }
    let mut script = talks(TAKES);
    send(&mut script).unwrap();
    script.next("INFO");
    script.run_s(33);
    script.requests();
    assert!(matches!(script.event(), Event::FragmentSent { taken: false, .. }));
    script.ends_well();
}

#[test]
fn a_fragment_that_finds_no_way_is_not_taken() {
    let lost = "Record-Route: <sip:nowhere.example.net;lr>\n";
    let mut script = talks(&format!("{TAKES}{lost}"));
    send(&mut script).unwrap();
    assert!(matches!(script.event(), Event::FragmentSent { taken: false, .. }));
    // Before the answer, too.
    let mut script = Script::called();
    script.act(|e, _, session| e.set_trickle(session, true));
    script.respond(183, &format!("{TAKES}{lost}"), ANSWER);
    script.events();
    send(&mut script).unwrap();
    assert!(matches!(script.event(), Event::FragmentSent { taken: false, .. }));
}

#[test]
fn nobody_gets_a_fragment_who_has_not_said_that_it_takes_one() {
    for headers in
        ["", "Supported: 100rel\n", "Supported: trickle-ice\nRecv-Info:\n", "Recv-Info: g.3gpp.mid-call\n"]
    {
        let mut script = talks(headers);
        assert!(!takes(&mut script), "{headers}");
        assert_eq!(send(&mut script), Err(SessionError::NotAllowed), "{headers}");
        script.ends_well();
    }
    for headers in ["Supported: timer, Trickle-ICE\n", "Recv-Info: a, trickle-ice;x=y\n"] {
        assert!(takes(&mut talks(headers)), "{headers}");
    }
}

#[test]
fn a_callees_early_answer_opens_the_way_and_its_2xx_may_close_it() {
    let mut script = Script::called();
    script.act(|e, _, session| e.set_trickle(session, true));
    script.respond(183, TAKES, ANSWER);
    script.events();
    assert!(takes(&mut script));
    send(&mut script).unwrap();
    let info = script.next("INFO");
    assert_eq!(info.to.tag(), Some("peer"));
    script.reply(&info, 200, "", b"");
    assert!(matches!(script.event(), Event::FragmentSent { taken: true, .. }));
    script.respond(200, "Recv-Info: none\n", ANSWER);
    script.events();
    script.next("ACK");
    assert!(!takes(&mut script));
    script.ends_well();
}

#[test]
fn a_fragment_is_handed_on_and_answered_as_the_application_says() {
    let mut script = talks(TAKES);
    script.request("INFO", PACKAGE, FRAGMENT);
    let id = fragment(&script.event());
    assert!(script.statuses().is_empty(), "nobody has judged it yet");
    script.act(|e, now, _| e.answer_fragment(now, id, Ok(())));
    script.response(200);
    script.request("INFO", PACKAGE, FRAGMENT);
    let id = fragment(&script.event());
    let status = status(400);
    script.act(|e, now, _| e.answer_fragment(now, id, Err((status, "a=ice-ufrag is missing"))));
    let refusal = script.response(400);
    assert_eq!(refusal.reason, "a=ice-ufrag is missing");
    // Once is enough.
    script.act(|e, now, _| e.answer_fragment(now, id, Ok(())));
    assert!(script.statuses().is_empty());
    script.ends_well();
}

#[test]
fn before_the_answer_fragments_are_taken_too() {
    let mut script = trickles(TAKES);
    script.act(|e, now, session| e.ring(now, session, None)).unwrap();
    script.response(180);
    script.request("INFO", PACKAGE, FRAGMENT);
    let id = fragment(&script.event());
    script.act(|e, now, _| e.answer_fragment(now, id, Ok(())));
    script.response(200);
}

#[test]
fn other_bodies_and_sessions_that_do_not_trickle_refuse() {
    let mut script = talks(TAKES);
    script.request("INFO", "Info-Package: trickle-ice\nContent-Type: application/sdp\n", FRAGMENT);
    let refusal = script.response(415);
    assert_eq!(refusal.headers.get("Accept"), Some("application/trickle-ice-sdpfrag"));
    script.request("INFO", "Info-Package: foo\nContent-Type: text/plain\n", b"x");
    assert_eq!(script.response(469).headers.get("Recv-Info"), Some("trickle-ice"));
    script.ends_well();
    let mut plain = Script::talks(TAKES);
    plain.request("INFO", PACKAGE, FRAGMENT);
    assert_eq!(plain.response(469).headers.get("Recv-Info"), Some(""));
    plain.ends_well();
}

#[test]
fn a_flood_of_fragments_is_bounded_and_the_end_answers_what_waits() {
    let mut script = talks(TAKES);
    for _ in 0..70 {
        script.request("INFO", PACKAGE, FRAGMENT);
    }
    assert_eq!(script.statuses(), [500; 6]);
    script.events();
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    script.net.run_ms(50);
    let statuses = script.statuses();
    assert_eq!(statuses.iter().filter(|status| **status == 481).count(), 64, "{statuses:?}");
}
