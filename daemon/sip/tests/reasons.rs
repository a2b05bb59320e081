//! Reason (RFC 3326, RFC 6432) in what ends a session, in both directions.

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, SessionEnd};
use voipd_sip::reason::{Protocol, Reason};

fn no_answer() -> Reason {
    Reason { protocol: Protocol::Q850, cause: Some(19), text: "no answer".to_owned() }
}

/// How the peer's session ends when ours ends for a reason.
fn hung_up(talking: bool) -> SessionEnd {
    let mut pair = Pair::new();
    let (caller, callee) = if talking { pair.talking() } else { pair.ringing() };
    pair.net.with(pair.alice, |e, now| e.hangup_for(now, caller, no_answer())).unwrap();
    pair.net.run_ms(100);
    assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Local);
    end_of(&pair.net.events(pair.bob), callee)
}

#[test]
fn cancel_and_bye_say_why() {
    let told = |cause| SessionEnd {
        cause,
        status: None,
        q850: Some(19),
        text: Some("no answer".to_owned()),
        contacts: Vec::new(),
    };
    assert_eq!(hung_up(false), told(EndCause::Cancelled));
    assert_eq!(hung_up(true), told(EndCause::Remote));
}

#[test]
fn a_bye_that_waits_for_the_ack_says_why() {
    let mut script = Script::calls("", OFFER);
    script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.response(200);
    script.act(|e, now, session| e.hangup_for(now, session, no_answer())).unwrap();
    assert!(script.requests().is_empty(), "not before the ACK");
    script.ack(b"");
    assert_eq!(script.next("BYE").headers.get("Reason"), Some("Q.850;cause=19;text=\"no answer\""));
}

#[test]
fn a_refusal_brings_the_cause_of_the_telephone_network() {
    let mut pair = Pair::new();
    let mut net = pair.net;
    let carrier = net.server("192.0.2.7:5060", |_, request| {
        let mut response = answer(request, 500, "x");
        response.headers.push("Reason", "Q.850;cause=17;text=\"User busy\"");
        response.reason.clear();
        vec![response]
    });
    let id = pair.alice_id;
    let target = format!("sip:bob@{}", net.address(carrier)).parse().unwrap();
    let options = voipd_sip::endpoint::InviteOptions::default();
    let session = net.with(pair.alice, |e, now| e.invite(now, id, target, options)).unwrap();
    net.with(pair.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(100);
    let end = end_of(&net.events(pair.alice), session);
    assert_eq!((end.status, end.q850, end.text.as_deref()), (Some(500), Some(17), Some("User busy")));
    pair.net = net;
}
