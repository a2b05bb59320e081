//! One INVITE, several callees (RFC 3261 section 13.2.2.4): early dialogs side by side, the first answer wins.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, SessionId};
use voipd_sip::message::Request;

/// Alice behind a proxy that is scripted, and two phones of Bob.
struct Forked {
    net: Net,
    alice: HostId,
    proxy: HostId,
    phones: [HostId; 2],
    session: SessionId,
    invite: Request,
}

impl Forked {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let proxy = net.raw("192.0.2.9:5060");
        let phones = [net.raw("192.0.2.21:5060"), net.raw("192.0.2.22:5060")];
        let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        let session = net
            .with(alice, |e, now| {
                e.invite(now, id, "sip:bob@192.0.2.9".parse().unwrap(), InviteOptions::default())
            })
            .unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        net.run_ms(20);
        net.events(alice);
        let invite = net.requests(proxy).remove(0);
        Self { net, alice, proxy, phones, session, invite }
    }

    fn respond(&mut self, phone: usize, code: u16) {
        let contact = format!("<sip:bob@{}>", self.net.address(self.phones[phone]).ip());
        let response = with_contact(answer(&self.invite, code, &format!("phone{phone}")), &contact);
        let response = if code == 180 { response } else { with_sdp(response, ANSWER) };
        self.net.respond(self.proxy, self.alice, &response);
        self.net.run_ms(20);
    }

    fn methods(&mut self, phone: usize) -> Vec<String> {
        let requests = self.net.requests(self.phones[phone]);
        requests.iter().map(|request| request.method.to_string()).collect()
    }
}

#[test]
fn the_first_answer_wins_and_the_second_is_ended() {
    let mut forked = Forked::new();
    forked.respond(0, 180);
    forked.respond(1, 183);
    assert_eq!(forked.net.events(forked.alice).len(), 2);
    forked.respond(1, 200);
    let events = forked.net.events(forked.alice);
    assert!(matches!(events[..], [Event::Answered { .. }]), "{events:?}");
    assert_eq!(forked.methods(1), ["ACK"]);
    forked.respond(0, 200);
    assert!(forked.net.events(forked.alice).is_empty());
    assert_eq!(forked.methods(0), ["ACK", "BYE"]);
    // Both repeat their 2xx: the winner's is acknowledged again, and so is the loser's.
    forked.respond(1, 200);
    forked.respond(0, 200);
    assert_eq!(forked.methods(1), ["ACK"]);
    assert_eq!(forked.methods(0)[..1], ["ACK"]);
    // The call that was won goes on.
    let session = forked.session;
    forked.net.with(forked.alice, |e, now| e.hangup(now, session)).unwrap();
    forked.net.run_ms(20);
    assert_eq!(forked.methods(1), ["BYE"]);
}

#[test]
fn every_answer_after_the_cancel_is_ended() {
    let mut forked = Forked::new();
    forked.respond(0, 180);
    let session = forked.session;
    forked.net.with(forked.alice, |e, now| e.hangup(now, session)).unwrap();
    forked.respond(0, 200);
    forked.respond(1, 200);
    assert_eq!(forked.methods(0), ["ACK", "BYE"]);
    assert_eq!(forked.methods(1), ["ACK", "BYE"]);
    assert_eq!(end_of(&forked.net.events(forked.alice), session).cause, EndCause::Local);
}

#[test]
fn a_late_fork_is_ended_behind_what_was_said_in_its_early_dialog() {
    let mut forked = Forked::new();
    for rseq in ["1", "2"] {
        let mut ringing = with_contact(answer(&forked.invite, 180, "phone0"), "<sip:bob@192.0.2.21>");
        ringing.headers.push("Require", "100rel");
        ringing.headers.push("RSeq", rseq);
        forked.net.respond(forked.proxy, forked.alice, &ringing);
        forked.net.run_ms(20);
        let prack = forked.net.requests(forked.phones[0]).remove(0);
        forked.net.respond(forked.phones[0], forked.alice, &answer(&prack, 200, "phone0"));
        forked.net.run_ms(20);
    }
    forked.respond(1, 200);
    forked.respond(0, 200);
    let requests = forked.net.requests(forked.phones[0]);
    let said: Vec<_> = requests.iter().map(|request| (request.method.as_str(), request.cseq)).collect();
    assert_eq!(said, [("ACK", 1), ("BYE", 4)]);
}

#[test]
fn a_fork_that_answers_when_all_is_over_is_ended_too() {
    let mut forked = Forked::new();
    forked.respond(0, 200);
    let session = forked.session;
    forked.net.with(forked.alice, |e, now| e.hangup(now, session)).unwrap();
    forked.net.run(Duration::from_secs(20));
    forked.respond(1, 200);
    assert_eq!(forked.methods(1), ["ACK", "BYE"]);
    // Timer M has fired: now the fork is a stranger.
    forked.net.run(Duration::from_secs(60));
    forked.methods(1);
    forked.respond(1, 200);
    assert!(forked.methods(1).is_empty());
    assert!(forked.net.with(forked.alice, |e, _| e.is_idle()));
}

#[test]
fn a_flood_of_forks_finds_an_end() {
    let mut forked = Forked::new();
    for fork in 0..200 {
        let response = with_contact(answer(&forked.invite, 200, &format!("f{fork}")), "<sip:bob@192.0.2.21>");
        forked.net.respond(forked.proxy, forked.alice, &response);
        forked.net.run_ms(20);
    }
    let acks = forked.methods(0).iter().filter(|method| *method == "ACK").count();
    assert_eq!(acks, 9, "one that won and eight more");
}

#[test]
fn of_a_flood_of_early_answers_the_last_eight_are_remembered() {
    let mut forked = Forked::new();
    let mut told = |fork: u32| {
        let response = with_contact(answer(&forked.invite, 183, &format!("f{fork}")), "<sip:bob@192.0.2.21>");
        forked.net.respond(forked.proxy, forked.alice, &with_sdp(response, ANSWER));
        forked.net.run_ms(20);
        let events = forked.net.events(forked.alice);
        assert_eq!(events.len(), 1);
        matches!(events.first(), Some(Event::Progress { sdp: Some(_), .. }))
    };
    assert!((0..9).all(&mut told), "each is heard");
    assert!(!told(1), "it repeats itself");
    assert!(told(0), "it is forgotten");
}

#[test]
fn an_answer_that_leads_nowhere_ends_the_call() {
    let mut forked = Forked::new();
    let response = with_contact(answer(&forked.invite, 200, "x"), "<tel:+4930123>");
    forked.net.respond(forked.proxy, forked.alice, &response);
    forked.net.run_ms(20);
    assert_eq!(end_of(&forked.net.events(forked.alice), forked.session).cause, EndCause::Protocol);
}

#[test]
fn an_answer_that_leads_nowhere_leaves_nothing_of_its_early_dialog() {
    let mut forked = Forked::new();
    forked.respond(0, 180);
    let response = with_contact(answer(&forked.invite, 200, "phone0"), "<tel:+4930123>");
    forked.net.respond(forked.proxy, forked.alice, &response);
    forked.net.run(Duration::from_secs(70));
    assert_eq!(end_of(&forked.net.events(forked.alice), forked.session).cause, EndCause::Protocol);
    // The phone, which never got an ACK, gives up.
    let text = format!(
        "BYE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKbye
From: <sip:bob@192.0.2.9>;tag=phone0
To: {}
Call-ID: {}
CSeq: 1 BYE
Content-Length: 0

",
        forked.invite.from, forked.invite.call_id
    );
    forked.net.say(forked.phones[0], forked.alice, &text);
    forked.net.run_ms(20);
    let statuses: Vec<_> =
        forked.net.responses(forked.phones[0]).iter().map(|response| response.status.get()).collect();
    assert_eq!(statuses, [481]);
    assert!(forked.net.with(forked.alice, |e, _| e.is_idle()));
}

#[test]
fn requests_in_early_dialogs_are_answered() {
    let mut forked = Forked::new();
    forked.respond(0, 180);
    forked.net.events(forked.alice);
    let request = |name: &str, cseq: u32, tag: &str| {
        let digit = if name == "INFO" { "Signal=5\r\nDuration=160\r\n" } else { "" };
        format!(
            "{name} sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKearly{cseq}
From: <sip:bob@192.0.2.9>;tag={tag}
To: {}
Call-ID: {}
CSeq: {cseq} {name}
Content-Type: application/dtmf-relay
Content-Length: {}

{digit}",
            forked.invite.from,
            forked.invite.call_id,
            digit.len()
        )
    };
    let texts = [
        (request("OPTIONS", 10, "phone0"), 200),
        (request("INFO", 11, "phone0"), 200),
        (request("INFO", 9, "phone0"), 500),
        (request("INVITE", 12, "phone0"), 491),
        (request("BYE", 13, "phone0"), 481),
        (request("OPTIONS", 20, "phone1"), 481),
    ];
    for (text, code) in texts {
        forked.net.say(forked.phones[0], forked.alice, &text);
        forked.net.run_ms(20);
        assert_eq!(forked.net.responses(forked.phones[0])[0].status.get(), code, "{text}");
    }
    assert!(matches!(
        forked.net.events(forked.alice)[..],
        [Event::Digit { digit: '5', duration_ms: 160, .. }]
    ));
}
