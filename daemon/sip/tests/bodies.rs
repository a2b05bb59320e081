//! Bodies of requests (RFC 3261 section 8.2.3, RFC 5621): found among parts, passed over, or refused; and digits in INFO.

use crate::common::*;
use voipd_sip::endpoint::{Event, Incoming, InviteOptions, SessionError, SessionId};
use voipd_sip::message::Response;

struct Caller {
    net: Net,
    alice: HostId,
    peer: HostId,
    cseq: u32,
    tag: String,
}

impl Caller {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw("192.0.2.9:5060");
        Self { net, alice, peer, cseq: 0, tag: String::new() }
    }

    /// The final responses to a request with these fields and this body.
    fn ask(&mut self, method: &str, fields: &str, body: &str) -> Vec<Response> {
        self.cseq += 1;
        let body = crlf(body);
        let text = format!(
            "{method} sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{}
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>{}
Call-ID: bodies
CSeq: {} {method}
Contact: <sip:peer@192.0.2.9>
{fields}Content-Length: {}

",
            self.cseq,
            self.tag,
            self.cseq,
            body.len()
        );
        self.net.send(self.peer, self.alice, (crlf(&text) + &body).as_bytes());
        self.net.run_ms(30);
        let cseq = self.cseq;
        self.net
            .responses(self.peer)
            .into_iter()
            .filter(|r| r.status.get() >= 200 && r.cseq.seq == cseq)
            .collect()
    }

    fn talking() -> (Self, SessionId) {
        let mut caller = Self::new();
        caller.ask("INVITE", "", "");
        let session = incoming(&caller.net.events(caller.alice));
        caller.net.with(caller.alice, |e, now| e.accept(now, session, OFFER.to_vec())).unwrap();
        caller.net.run_ms(30);
        let ok = caller.net.responses(caller.peer).pop().unwrap();
        caller.tag = format!(";tag={}", ok.to.tag().unwrap());
        caller.cseq -= 1;
        caller.ask("ACK", "Content-Type: application/sdp\n", "v=0\n");
        caller.net.events(caller.alice);
        (caller, session)
    }
}

const MIXED: &str = "Content-Type: multipart/mixed;boundary=b\n";

fn parts(disposition: &str) -> String {
    format!(
        "--b\nContent-Type: application/isup;version=itu-t92+\n{disposition}\n\x01\x02\n--b\n\
         Content-Type: application/sdp\n\nv=0\no=- 1 1 IN IP4 192.0.2.9\n\n--b--\n"
    )
}

#[test]
fn a_description_among_optional_parts_is_the_offer() {
    let mut caller = Caller::new();
    caller.ask("INVITE", MIXED, &parts("Content-Disposition: signal;handling=optional\n"));
    let events = caller.net.events(caller.alice);
    let [Event::Incoming(Incoming { offer: Some(offer), .. })] = &events[..] else { panic!("{events:?}") };
    assert_eq!(offer, b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\n");
}

#[test]
fn a_part_that_must_be_understood_and_is_not_refuses_the_request() {
    let mut caller = Caller::new();
    let response =
        caller.ask("INVITE", MIXED, &parts("Content-Disposition: signal;handling=required\n")).remove(0);
    assert_eq!(response.status.get(), 415);
    assert_eq!(
        response.headers.tokens("Accept"),
        ["application/sdp", "multipart/mixed", "multipart/alternative"]
    );
    assert!(caller.net.events(caller.alice).is_empty());
}

const REQUIRED: &str = "Content-Disposition: signal;handling=required\n";

#[test]
fn the_answer_in_a_response_counts_whatever_stands_beside_it() {
    for (status, disposition) in [(200, REQUIRED), (200, ""), (183, REQUIRED)] {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw("192.0.2.9:5060");
        let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        let target = "sip:peer@192.0.2.9".parse().unwrap();
        let session = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        net.run_ms(20);
        net.events(alice);
        let invite = net.requests(peer).remove(0);
        let mut response = with_contact(answer(&invite, status, "peer"), "<sip:peer@192.0.2.9>");
        response.headers.push("Content-Type", "multipart/mixed;boundary=b");
        response.body = crlf(&parts(disposition)).into_bytes();
        net.respond(peer, alice, &response);
        net.run_ms(20);
        let events = net.events(alice);
        let [Event::Answered { sdp: Some(sdp), .. } | Event::Progress { sdp: Some(sdp), .. }] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(sdp, b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\n");
    }
}

#[test]
fn the_answer_in_an_ack_counts_whatever_stands_beside_it() {
    let mut caller = Caller::new();
    caller.ask("INVITE", "", "");
    let session = incoming(&caller.net.events(caller.alice));
    caller.net.with(caller.alice, |e, now| e.accept(now, session, OFFER.to_vec())).unwrap();
    caller.net.run_ms(30);
    let ok = caller.net.responses(caller.peer).pop().unwrap();
    caller.tag = format!(";tag={}", ok.to.tag().unwrap());
    caller.cseq -= 1;
    caller.ask("ACK", MIXED, &parts(REQUIRED));
    let events = caller.net.events(caller.alice);
    assert!(matches!(&events[..], [Event::Confirmed { sdp: Some(_), .. }]), "{events:?}");
}

#[test]
fn a_body_that_cannot_be_cut_open_is_a_bad_request() {
    for (fields, body) in [("Content-Type: multipart/mixed\n", parts("")), (MIXED, "v=0\n".to_owned())] {
        let response = Caller::new().ask("INVITE", fields, &body).remove(0);
        assert_eq!(response.status.get(), 400);
        assert!(response.reason.contains("boundary"), "{}", response.reason);
    }
}

#[test]
fn a_caller_that_takes_no_description_is_told_so() {
    let status = |accept: &str| Caller::new().ask("INVITE", accept, "").first().map(|r| r.status.get());
    assert_eq!(status("Accept: text/nobodyKnowsThis\n"), Some(406));
    assert_eq!(status("Accept:\n"), Some(406), "empty takes nothing");
    assert_eq!(status("Accept: */*, application/sdp;q=0\nAccept: text/plain\n"), None);
    assert_eq!(status("Accept: application/sdp;q=0\n"), Some(406));
    for taken in ["Accept: application/SDP;level=1, text/plain\n", "Accept: application/*\n", ""] {
        assert_eq!(status(taken), None, "{taken}");
    }
}

#[test]
fn what_is_required_in_a_dialog_is_looked_at_too() {
    let (mut caller, _) = Caller::talking();
    let response = caller.ask("INVITE", "Require: foo, bar\n", "").remove(0);
    assert_eq!((response.status.get(), response.headers.tokens("Unsupported")), (420, vec!["foo", "bar"]));
    let response = caller.ask("INVITE", "Content-Type: text/plain\n", "hello").remove(0);
    assert_eq!(response.status.get(), 415);
    // The call has not noticed.
    assert!(caller.net.events(caller.alice).is_empty());
    assert_eq!(caller.ask("OPTIONS", "Proxy-Require: foo\n", "")[0].status.get(), 200, "that is for proxies");
    let refused = caller.ask("SUBSCRIBE", "", "").remove(0);
    assert_eq!(refused.status.get(), 405);
    assert!(refused.headers.tokens("Allow").contains(&"INVITE"));
}

#[test]
fn digits_in_info_are_told_and_nonsense_is_refused() {
    let (mut caller, session) = Caller::talking();
    let relay = "Content-Type: application/dtmf-relay\n";
    for (fields, body, code) in [
        (relay, "Signal=5\nDuration=160\n", 200),
        ("Content-Type: application/dtmf\n", "#", 200),
        ("", "", 200),
        (relay, "Signal=?\n", 400),
        ("Content-Type: application/media_control+xml\n", "<x/>", 415),
        ("Info-Package: foo\nContent-Type: application/dtmf-relay\n", "Signal=5\n", 469),
        ("Require: foo\nContent-Type: application/dtmf-relay\n", "Signal=5\n", 420),
    ] {
        assert_eq!(caller.ask("INFO", fields, body)[0].status.get(), code, "{fields}{body}");
    }
    let digits: Vec<_> = caller
        .net
        .events(caller.alice)
        .into_iter()
        .map(|event| match event {
            Event::Digit { session: of, digit, duration_ms } if of == session => (digit, duration_ms),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(digits, [('5', 160), ('#', 250)]);
}

#[test]
fn a_digit_goes_out_in_info_and_its_fate_is_told() {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    let digit = voipd_sip::dtmf_info::Digit { digit: '7', duration_ms: 120 };
    pair.net.with(pair.alice, |e, now| e.send_digit(now, caller, digit)).unwrap();
    pair.net.run_ms(100);
    assert!(matches!(pair.net.events(pair.alice)[..], [Event::DigitSent { taken: true, .. }]));
    let events = pair.net.events(pair.bob);
    assert!(
        matches!(events[..], [Event::Digit { session, digit: '7', duration_ms: 120 }] if session == callee),
        "{events:?}"
    );
    // A peer that is not there any more costs the digit, not the call.
    pair.net.link.loss = 1000;
    pair.net.with(pair.alice, |e, now| e.send_digit(now, caller, digit)).unwrap();
    pair.net.run(std::time::Duration::from_secs(40));
    assert!(matches!(pair.net.events(pair.alice)[..], [Event::DigitSent { taken: false, .. }]));
}

#[test]
fn a_peer_that_allows_no_info_gets_none() {
    let (mut caller, session) = Caller::talking();
    let takes = |caller: &mut Caller| caller.net.with(caller.alice, |e, _| e.takes_digits(session));
    assert!(takes(&mut caller), "it has not said");
    caller.ask("UPDATE", "Allow: INVITE, ACK, BYE\n", "");
    assert!(!takes(&mut caller));
    let digit = voipd_sip::dtmf_info::Digit { digit: '7', duration_ms: 120 };
    let result = caller.net.with(caller.alice, |e, now| e.send_digit(now, session, digit));
    assert_eq!(result, Err(SessionError::NotAllowed));
}
