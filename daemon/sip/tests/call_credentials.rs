//! Calls through a proxy that asks for credentials (RFC 3261 section 22): in INVITE, ACK, re-INVITE and BYE.

use std::time::Duration;

use crate::common::*;
use voipd_sip::digest::Algorithm;
use voipd_sip::endpoint::{EndCause, Event, Identity, InviteOptions, SessionError, SessionId};
use voipd_sip::message::{Request, Response};

const CHALLENGE: &str = "Digest realm=\"example.org\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
const OTHER_NONCE: &str =
    "Digest realm=\"example.org\", nonce=\"n2\", algorithm=MD5, qop=\"auth\", stale=true";

/// Alice behind a scripted proxy, which also is the far end.
struct Script {
    net: Net,
    alice: HostId,
    proxy: HostId,
    session: SessionId,
}

impl Script {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let proxy = net.raw("192.0.2.100:5060");
        let identity = Identity {
            outbound_proxies: vec!["sip:192.0.2.100;lr".parse().unwrap()],
            ..subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret")
        };
        let id = net.with(alice, |e, _| e.add_identity(identity));
        let session = net
            .with(alice, |e, now| {
                e.invite(now, id, "sip:bob@b.example".parse().unwrap(), InviteOptions::default())
            })
            .unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        net.events(alice);
        Self { net, alice, proxy, session }
    }

    /// The only request that has come, of that method.
    fn request(&mut self, name: &str) -> Request {
        self.net.run_ms(20);
        let mut requests = self.net.requests(self.proxy);
        let names: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
        assert_eq!(names, [name]);
        requests.remove(0)
    }

    fn respond(&mut self, response: &Response) {
        self.net.respond(self.proxy, self.alice, response);
        self.net.run_ms(10);
    }

    fn challenge(&mut self, request: &Request, challenge: &str) {
        let mut response = answer(request, 407, "proxy");
        response.headers.push("Proxy-Authenticate", challenge);
        self.respond(&response);
        if request.method == method("INVITE") {
            self.net.run_ms(10);
        }
    }

    fn accept(&mut self, request: &Request) {
        let mut response = with_sdp(with_contact(answer(request, 200, "bob"), "<sip:bob@192.0.2.7>"), ANSWER);
        response.headers.push("Record-Route", "<sip:192.0.2.100;lr>");
        self.respond(&response);
    }

    fn requests(&mut self) -> Vec<Request> {
        self.net.run_ms(20);
        self.net.requests(self.proxy)
    }
}

fn credentials(request: &Request) -> Option<&str> {
    request.headers.get("Proxy-Authorization")
}

#[test]
fn every_request_of_a_call_has_the_credentials_it_needs() {
    let mut script = Script::new();
    let first = script.request("INVITE");
    assert_eq!(credentials(&first), None);
    script.challenge(&first, CHALLENGE);
    let requests = script.requests();
    let [ack, second] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((ack.method.as_str(), ack.cseq, second.cseq), ("ACK", 1, 2));
    assert!(credentials(second).unwrap().contains("nc=00000001"));
    assert_eq!(second.body, OFFER);
    script.accept(second);
    let ack = script.request("ACK");
    assert_eq!(credentials(&ack), credentials(second), "RFC 3261 section 13.2.2.4");
    let events = script.net.events(script.alice);
    assert!(matches!(events[..], [Event::Digest { algorithm: Algorithm::Md5, .. }, Event::Answered { .. }]));

    // A re-INVITE goes with credentials at once; when their nonce is stale, again with others.
    let session = script.session;
    script.net.with(script.alice, |e, now| e.offer(now, session, OFFER.to_vec())).unwrap();
    let reinvite = script.request("INVITE");
    assert!(credentials(&reinvite).unwrap().contains("nc=00000002"));
    script.challenge(&reinvite, OTHER_NONCE);
    let requests = script.requests();
    let again = &requests[1];
    assert!(credentials(again).unwrap().contains("nonce=\"n2\""));
    assert_eq!(again.cseq, reinvite.cseq + 1);
    script.accept(again);
    script.request("ACK");
    assert!(matches!(script.net.events(script.alice)[..], [Event::OfferDone { result: Ok(_), .. }]));

    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    let bye = script.request("BYE");
    assert!(credentials(&bye).unwrap().contains("nc=00000002"));
    script.challenge(&bye, CHALLENGE);
    let again = script.request("BYE");
    assert!(credentials(&again).unwrap().contains("nonce=\"n1\""));
    script.respond(&answer(&again, 200, "bob"));
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
}

#[test]
fn the_bye_to_a_late_fork_gets_the_credentials_it_needs() {
    let mut script = Script::new();
    let invite = script.request("INVITE");
    script.accept(&invite);
    script.request("ACK");
    let mut late = with_sdp(with_contact(answer(&invite, 200, "carol"), "<sip:carol@192.0.2.8>"), ANSWER);
    late.headers.push("Record-Route", "<sip:192.0.2.100;lr>");
    script.respond(&late);
    let requests = script.requests();
    let [ack, bye] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((ack.method.as_str(), bye.method.as_str(), credentials(bye)), ("ACK", "BYE", None));
    script.challenge(bye, CHALLENGE);
    let again = script.request("BYE");
    assert_eq!((again.to.tag(), again.cseq), (Some("carol"), bye.cseq + 1));
    assert!(credentials(&again).unwrap().contains("nonce=\"n1\""));
    script.respond(&answer(&again, 200, "carol"));
    assert!(script.requests().is_empty());
}

#[test]
fn credentials_that_are_refused_end_the_call_after_one_answer() {
    let mut script = Script::new();
    let first = script.request("INVITE");
    script.challenge(&first, CHALLENGE);
    let second = script.requests().pop().unwrap();
    script.challenge(&second, CHALLENGE);
    let requests = script.requests();
    assert!(requests.iter().all(|request| request.method == method("ACK")), "{requests:?}");
    let end = end_of(&script.net.events(script.alice), script.session);
    assert_eq!((end.cause, end.status), (EndCause::Refused, Some(407)));
}

#[test]
fn a_refused_reinvite_leaves_the_call_and_a_refused_bye_ends_it() {
    let mut script = Script::new();
    let first = script.request("INVITE");
    script.accept(&first);
    script.request("ACK");
    script.net.events(script.alice);
    let session = script.session;
    script.net.with(script.alice, |e, now| e.offer(now, session, OFFER.to_vec())).unwrap();
    let foreign = CHALLENGE.replace("Digest", "Unknown");
    let reinvite = script.request("INVITE");
    script.challenge(&reinvite, &foreign);
    let events = script.net.events(script.alice);
    assert!(matches!(&events[..], [Event::OfferDone { result: Err(code), .. }] if code.get() == 407));
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    let bye = script.requests().pop().unwrap();
    script.challenge(&bye, &foreign);
    script.net.run(Duration::from_secs(40));
    assert!(script.requests().is_empty());
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
}

#[test]
fn an_ack_that_goes_past_the_proxy_has_no_credentials() {
    let mut script = Script::new();
    let first = script.request("INVITE");
    script.challenge(&first, CHALLENGE);
    let second = script.requests().pop().unwrap();
    assert!(credentials(&second).is_some());
    let bob = script.net.raw("192.0.2.7:5060");
    script.respond(&with_sdp(with_contact(answer(&second, 200, "bob"), "<sip:bob@192.0.2.7>"), ANSWER));
    script.net.run_ms(20);
    let acks = script.net.requests(bob);
    assert_eq!((acks[0].method.as_str(), credentials(&acks[0])), ("ACK", None));
    let session = script.session;
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    script.net.run_ms(20);
    let byes = script.net.requests(bob);
    assert_eq!((byes[0].method.as_str(), credentials(&byes[0])), ("BYE", None));
}

#[test]
fn a_proxy_that_is_no_sip_server_is_not_passed_by() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let identity = Identity {
        outbound_proxies: vec!["tel:+4930123456".parse().unwrap()],
        ..subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret")
    };
    let id = net.with(alice, |e, _| e.add_identity(identity));
    let target = "sip:bob@192.0.2.2".parse().unwrap();
    assert_eq!(
        net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())),
        Err(SessionError::NotASipUri)
    );
    assert_eq!(net.with(alice, |e, now| e.register(now, id)), Err(SessionError::WrongState));
    net.run(Duration::from_secs(60));
    assert!(net.capture.is_empty());
}
