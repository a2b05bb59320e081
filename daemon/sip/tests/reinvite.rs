//! New offers in a call that stands (RFC 3261 section 14): answered, refused, crossing, lost.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, SessionError, SessionId, TransportError};
use voipd_sip::message::{Message, Request, Response};

const HOLD: &[u8] = b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=sendonly\r\n";

fn reinvited(events: &[Event]) -> Option<&[u8]> {
    match events {
        [Event::Offered { sdp, .. }] => sdp.as_deref(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sides_offer_anew() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    for ((from, session), (to, peer)) in
        [((pair.alice, caller), (pair.bob, callee)), ((pair.bob, callee), (pair.alice, caller))]
    {
        pair.net.with(from, |e, now| e.offer(now, session, HOLD.to_vec())).unwrap();
        assert_eq!(
            pair.net.with(from, |e, now| e.offer(now, session, HOLD.to_vec())),
            Err(SessionError::WrongState),
            "one at a time"
        );
        pair.net.run_ms(15);
        assert_eq!(reinvited(&pair.net.events(to)), Some(HOLD));
        pair.net.with(to, |e, now| e.answer_offer(now, peer, Ok(ANSWER.to_vec()))).unwrap();
        pair.net.run_ms(100);
        let events = pair.net.events(from);
        assert!(
            matches!(&events[..], [Event::OfferDone { result: Ok(Some(sdp)), .. }] if sdp == ANSWER),
            "{events:?}"
        );
        let events = pair.net.events(to);
        assert!(matches!(&events[..], [Event::Confirmed { sdp: None, .. }]), "{events:?}");
    }
    pair.net.run(Duration::from_secs(60));
    assert!(pair.net.events(pair.alice).is_empty() && pair.net.events(pair.bob).is_empty());
}

#[test]
fn a_refused_offer_leaves_the_call_as_it_was() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.run_ms(15);
    pair.net.events(pair.bob);
    let too_soft = pair.net.with(pair.bob, |e, now| e.answer_offer(now, callee, Err(status(183))));
    assert_eq!(too_soft, Err(SessionError::WrongState));
    pair.net.with(pair.bob, |e, now| e.answer_offer(now, callee, Err(status(488)))).unwrap();
    pair.net.run_ms(100);
    let events = pair.net.events(pair.alice);
    assert!(
        matches!(&events[..], [Event::OfferDone { result: Err(code), .. }] if code.get() == 488),
        "{events:?}"
    );
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.run_ms(15);
    assert_eq!(reinvited(&pair.net.events(pair.bob)), Some(HOLD));
}

#[test]
fn offers_that_cross_are_both_refused_and_the_callee_s_comes_first() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    let start = pair.net.elapsed().as_millis() as u64;
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.with(pair.bob, |e, now| e.offer(now, callee, OFFER.to_vec())).unwrap();
    pair.net.run_ms(50);
    assert_eq!((times(&pair.net, pair.alice, "491").len(), times(&pair.net, pair.bob, "491").len()), (1, 1));
    assert!(pair.net.events(pair.alice).is_empty() && pair.net.events(pair.bob).is_empty());
    pair.net.run_ms(2000);
    // Bob, who did not make the Call-ID, waits at most 2 s.
    assert_eq!(reinvited(&pair.net.events(pair.alice)[1..]), Some(OFFER));
    let retry = *times(&pair.net, pair.bob, "INVITE").last().unwrap();
    assert!((20..=2020).contains(&(retry - start)), "{retry}");
    pair.net.with(pair.alice, |e, now| e.answer_offer(now, caller, Ok(ANSWER.to_vec()))).unwrap();
    pair.net.run_ms(100);
    let events = pair.net.events(pair.bob);
    assert!(matches!(&events[..], [Event::OfferDone { result: Ok(Some(_)), .. }]), "{events:?}");
    pair.net.run(Duration::from_secs(10));
    let alice: Vec<_> = times(&pair.net, pair.alice, "INVITE").into_iter().filter(|at| *at > start).collect();
    assert!(alice.is_empty(), "her offer was overtaken: {alice:?}");
}

#[test]
fn an_offer_overtaken_while_waiting_to_be_tried_again_is_reported() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.with(pair.bob, |e, now| e.offer(now, callee, OFFER.to_vec())).unwrap();
    pair.net.run_ms(2050);
    let events = pair.net.events(pair.alice);
    let [Event::OfferDone { result: Err(code), .. }, Event::Offered { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(code.get(), 491);
}

#[test]
fn a_lost_peer_ends_the_call() {
    let mut pair = Pair::new();
    let (caller, _) = pair.talking();
    pair.net.link.loss = 1000;
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.run(Duration::from_secs(33));
    assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Timeout);
    assert!(!times(&pair.net, pair.alice, "BYE").is_empty());
}

/// Alice's offer, which nobody has answered, is over after 32 s.
fn offer_in_vain(pair: &mut Pair, session: SessionId) -> Vec<Event> {
    pair.net.with(pair.alice, |e, now| e.offer(now, session, HOLD.to_vec())).unwrap();
    pair.net.run(Duration::from_secs(33));
    pair.net.events(pair.alice)
}

#[test]
fn a_session_that_waits_for_a_network_outlasts_an_offer_that_nobody_answers() {
    let mut pair = Pair::waiting(1, Duration::from_secs(60));
    let (caller, _) = pair.talking();
    for _ in 0..2 {
        pair.net.link.loss = 1000;
        let events = offer_in_vain(&mut pair, caller);
        assert!(
            matches!(&events[..], [Event::OfferDone { result: Err(code), .. }] if code.get() == 408),
            "{events:?}"
        );
        // A sign of life, and all is well again.
        pair.net.link.loss = 0;
        pair.net.run(Duration::from_secs(60));
        pair.net.with(pair.alice, |e, now| e.probe(now, caller)).unwrap();
        pair.net.run_ms(100);
        assert!(matches!(pair.net.events(pair.alice)[..], [Event::Probed { alive: true, .. }]));
    }
    pair.net.link.loss = 1000;
    offer_in_vain(&mut pair, caller);
    let events = offer_in_vain(&mut pair, caller);
    assert_eq!(end_of(&events, caller).cause, EndCause::Timeout);
    assert!(!times(&pair.net, pair.alice, "BYE").is_empty());
}

#[test]
fn an_unreachable_peer_refuses_for_now() {
    let mut pair = Pair::new();
    let (caller, _) = pair.talking();
    let bob = pair.net.address(pair.bob);
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    let flow = crate::common::udp(pair.net.address(pair.alice), bob);
    pair.net.with(pair.alice, |e, now| e.handle_failed(now, flow, TransportError::Refused));
    let events = pair.net.events(pair.alice);
    assert!(matches!(&events[..], [Event::OfferDone { result: Err(code), .. }] if code.get() == 503));
    pair.net.with(pair.alice, |e, now| e.probe(now, caller)).unwrap();
    pair.net.run_ms(100);
    assert!(matches!(pair.net.events(pair.alice)[..], [Event::Probed { alive: true, .. }]));
}

#[test]
fn a_lost_ack_is_made_good_by_the_next_offer() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.ringing();
    pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    // The 2xx arrives, its ACK does not.
    pair.net.link.loss = 1000;
    pair.net.run_ms(15);
    pair.net.link.loss = 0;
    pair.net.events(pair.alice);
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.run_ms(15);
    let events = pair.net.events(pair.bob);
    let [Event::Confirmed { sdp: None, .. }, Event::Offered { sdp: Some(sdp), .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(sdp, HOLD);
}

/// A call from a scripted peer that Alice has answered, or one that she has placed.
struct Script {
    net: Net,
    alice: HostId,
    peer: HostId,
    session: SessionId,
    /// Of the peer's requests.
    from: String,
    to: String,
    call_id: String,
}

impl Script {
    fn answered(offer: bool) -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw("192.0.2.9:5060");
        let (from, call_id) = ("<sip:peer@192.0.2.9>;tag=peer".to_owned(), "inbound-1".to_owned());
        let to = "<sip:alice@192.0.2.1>".to_owned();
        let session = SessionId(1);
        let mut script = Self { net, alice, peer, session, from, to, call_id };
        script.request("INVITE", 1, if offer { OFFER } else { b"" });
        assert_eq!(incoming(&script.net.events(alice)), session);
        script.net.with(alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
        script.net.run_ms(10);
        script.to = script.response(200).to.to_string();
        script
    }

    fn acknowledged() -> Self {
        let mut script = Self::answered(true);
        script.request("ACK", 1, b"");
        assert!(matches!(script.net.events(script.alice)[..], [Event::Confirmed { .. }]));
        script
    }

    fn request(&mut self, name: &str, cseq: u32, sdp: &[u8]) -> Request {
        self.request_with(name, cseq, "", sdp)
    }

    fn request_with(&mut self, name: &str, cseq: u32, extra: &str, sdp: &[u8]) -> Request {
        let text = format!(
            "{name} sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{name}{cseq}
From: {}
To: {}
Call-ID: {}
CSeq: {cseq} {name}
Contact: <sip:peer@192.0.2.9:5060>
{extra}{}Content-Length: {}

",
            self.from,
            self.to,
            self.call_id,
            if sdp.is_empty() { "" } else { "Content-Type: application/sdp\n" },
            sdp.len()
        );
        let bytes = [crlf(&text).as_bytes(), sdp].concat();
        self.net.send(self.peer, self.alice, &bytes);
        self.net.run_ms(10);
        match read(&bytes) {
            Message::Request(request) => request,
            Message::Response(_) => unreachable!(),
        }
    }

    /// The only response that has come, which has that status.
    fn response(&mut self, code: u16) -> Response {
        self.net.run_ms(10);
        let mut responses = self.net.responses(self.peer);
        assert_eq!(responses.iter().map(|response| response.status.get()).collect::<Vec<_>>(), [code]);
        responses.remove(0)
    }

    fn event(&mut self) -> Event {
        let mut events = self.net.events(self.alice);
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

#[test]
fn an_invite_without_offer_gets_one_and_the_ack_answers() {
    let mut script = Script::answered(false);
    // As long as the answer is missing, nothing can be offered.
    script.request("INVITE", 2, OFFER);
    script.response(491);
    script.request("ACK", 2, b"");
    script.request("ACK", 1, ANSWER);
    let Event::Confirmed { sdp, .. } = script.event() else { panic!() };
    assert_eq!(sdp.as_deref(), Some(ANSWER));
}

#[test]
fn a_reinvite_without_offer_gets_one_and_the_ack_answers() {
    let mut script = Script::acknowledged();
    script.request("INVITE", 2, b"");
    assert!(matches!(script.event(), Event::Offered { sdp: None, .. }));
    let session = script.session;
    script.net.with(script.alice, |e, now| e.answer_offer(now, session, Ok(OFFER.to_vec()))).unwrap();
    assert_eq!(script.response(200).body, OFFER);
    script.request("ACK", 2, ANSWER);
    assert!(matches!(script.event(), Event::Confirmed { sdp: Some(sdp), .. } if sdp == ANSWER));
}

#[test]
fn an_offer_before_the_last_is_answered_comes_too_soon() {
    let mut script = Script::acknowledged();
    script.request("INVITE", 2, OFFER);
    assert!(matches!(script.event(), Event::Offered { .. }));
    script.request("INVITE", 3, OFFER);
    let busy = script.response(500);
    let after: u32 = busy.headers.get("Retry-After").unwrap().parse().unwrap();
    assert!(after <= 10);
    assert!(script.net.events(script.alice).is_empty());
}

#[test]
fn a_cancelled_reinvite_leaves_the_call_as_it_was() {
    let mut script = Script::acknowledged();
    let invite = script.request("INVITE", 2, OFFER);
    assert!(matches!(script.event(), Event::Offered { .. }));
    let mut cancel = invite.clone();
    cancel.method = method("CANCEL");
    cancel.headers = Default::default();
    cancel.body.clear();
    script.net.request(script.peer, script.alice, &cancel);
    script.net.run_ms(20);
    let responses = script.net.responses(script.peer);
    assert_eq!(responses.iter().map(|response| response.status.get()).collect::<Vec<_>>(), [200, 487]);
    assert!(script.net.events(script.alice).is_empty());
    let session = script.session;
    let late = script.net.with(script.alice, |e, now| e.answer_offer(now, session, Ok(ANSWER.to_vec())));
    assert_eq!(late, Err(SessionError::WrongState));
    script.net.with(script.alice, |e, now| e.probe(now, session)).unwrap();
}

#[test]
fn bye_ends_a_call_whose_new_offer_is_open() {
    let mut script = Script::acknowledged();
    script.request("INVITE", 2, OFFER);
    script.net.events(script.alice);
    script.request_with("BYE", 3, "Reason: Q.850;cause=16, SIP;cause=200;text=\"elsewhere\"\n", b"");
    script.net.run_ms(10);
    let responses = script.net.responses(script.peer);
    assert_eq!(responses.iter().map(|response| response.status.get()).collect::<Vec<_>>(), [200, 487]);
    let Event::Ended { end, .. } = script.event() else { panic!() };
    assert_eq!(
        (end.cause, end.status, end.text.as_deref()),
        (EndCause::Remote, Some(200), Some("elsewhere"))
    );
}

#[test]
fn the_peer_s_new_contact_is_followed() {
    let mut script = Script::acknowledged();
    let moved = script.net.raw("192.0.2.10:5070");
    let session = script.session;
    script.request("INVITE", 2, OFFER);
    script.net.events(script.alice);
    script.net.with(script.alice, |e, now| e.answer_offer(now, session, Err(status(488)))).unwrap();
    script.response(488);
    script.request("ACK", 2, b"");
    // An UPDATE without offer is but a new address.
    script.request_with("UPDATE", 3, "", b"");
    script.response(200);
    let text = format!(
        "INVITE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKmove
From: {}
To: {}
Call-ID: {}
CSeq: 4 INVITE
Contact: <sip:peer@192.0.2.10:5070>
Content-Length: 0

",
        script.from, script.to, script.call_id
    );
    script.net.say(script.peer, script.alice, &text);
    script.net.run_ms(10);
    script.net.with(script.alice, |e, now| e.answer_offer(now, session, Ok(OFFER.to_vec()))).unwrap();
    script.net.run_ms(20);
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    script.net.run_ms(20);
    let byes = script.net.requests(moved);
    assert_eq!(byes[0].uri.to_string(), "sip:peer@192.0.2.10:5070");
    assert_eq!(byes[0].method, method("BYE"));
}

#[test]
fn refusals_that_mean_the_end_and_those_that_do_not() {
    for (code, ends) in
        [(403, None), (481, Some(EndCause::Remote)), (408, Some(EndCause::Timeout)), (500, None)]
    {
        let mut script = Script::acknowledged();
        let session = script.session;
        script.net.with(script.alice, |e, now| e.offer(now, session, HOLD.to_vec())).unwrap();
        script.net.run_ms(10);
        let invite = script.net.requests(script.peer).pop().unwrap();
        script.net.respond(script.peer, script.alice, &answer(&invite, code, "peer"));
        script.net.run_ms(10);
        match (script.event(), ends) {
            (Event::Ended { end, .. }, Some(cause)) => {
                assert_eq!((end.cause, end.status), (cause, Some(code)))
            }
            (Event::OfferDone { result: Err(status), .. }, None) => assert_eq!(status.get(), code),
            (event, _) => panic!("{code}: {event:?}"),
        }
    }
}

#[test]
fn a_new_offer_of_the_call_id_s_owner_waits_longer_after_491() {
    // Alice has not made the Call-ID here: 0 to 2 s. In `Pair` she has: 2.1 to 4 s.
    let mut script = Script::acknowledged();
    let session = script.session;
    script.net.with(script.alice, |e, now| e.offer(now, session, HOLD.to_vec())).unwrap();
    script.net.run_ms(10);
    let invite = script.net.requests(script.peer).pop().unwrap();
    script.net.respond(script.peer, script.alice, &answer(&invite, 491, "peer"));
    script.net.run_ms(2011);
    let again: Vec<_> = script.net.requests(script.peer);
    assert_eq!(again.last().unwrap().cseq, invite.cseq + 1);
    assert_eq!(again.last().unwrap().body, HOLD);

    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    let start = pair.net.elapsed().as_millis() as u64;
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, HOLD.to_vec())).unwrap();
    pair.net.run_ms(15);
    pair.net.with(pair.bob, |e, now| e.answer_offer(now, callee, Err(status(491)))).unwrap();
    pair.net.run_ms(4100);
    let again = *times(&pair.net, pair.alice, "INVITE").last().unwrap();
    assert!((2100..=4050).contains(&(again - start)), "{again}");
}

#[test]
fn an_offer_that_is_never_decided_does_not_outlive_the_call() {
    let mut script = Script::acknowledged();
    let session = script.session;
    script.net.with(script.alice, |e, now| e.offer(now, session, HOLD.to_vec())).unwrap();
    script.net.run_ms(10);
    let invite = script.net.requests(script.peer).pop().unwrap();
    script.net.respond(script.peer, script.alice, &answer(&invite, 100, ""));
    script.net.run_ms(10);
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    script.net.run(Duration::from_secs(31));
    assert!(!script.net.with(script.alice, |e, _| e.is_idle()));
    script.net.run(Duration::from_secs(2));
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
}
