//! What a transport decides: timers (RFC 3261 section 17), Via and Contact (sections 18.1.1 and 8.1.1.8), `sips:`
//! (section 26.2.2, RFC 5630), and the switch from UDP to TCP above 1300 bytes (section 18.1.1).

use std::time::Duration;

use crate::common::streams::{CONNECT_TIMEOUT, flow};
use crate::common::*;
use voipd_sip::endpoint::{
    CertificateFault, EndCause, Event, Flow, InviteOptions, PATIENCE, SessionId, Transport, TransportError,
};
use voipd_sip::message::{Message, Request};
use voipd_sip::{Uri, wire};

/// An endpoint and a scripted peer that listens on every transport.
struct Script {
    net: Net,
    alice: HostId,
    peer: HostId,
}

impl Script {
    fn new() -> Self {
        Self::at("192.0.2.9:5060")
    }

    fn at(peer: &str) -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw(peer);
        Self { net, alice, peer }
    }

    /// Alice calls; the INVITE as it arrived.
    fn invite(&mut self, target: &str, offer: &[u8]) -> (SessionId, Request) {
        let session = self.call(target, offer);
        self.net.run_ms(20);
        (session, self.net.requests(self.peer).remove(0))
    }

    fn call(&mut self, target: &str, offer: &[u8]) -> SessionId {
        let id = self.net.with(self.alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        let target = target.parse().unwrap();
        let session =
            self.net.with(self.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        self.net.with(self.alice, |e, now| e.send_invite(now, session, offer.to_vec())).unwrap();
        self.net.events(self.alice);
        session
    }

    fn times(&self, word: &str) -> Vec<u64> {
        times(&self.net, self.alice, word)
    }

    /// Transports of the topmost Via of what Alice sent.
    fn vias(&self, word: &str) -> Vec<String> {
        let here = self.net.address(self.alice).ip();
        let sent = self
            .net
            .capture
            .iter()
            .filter(|(_, from, _, bytes)| from.ip() == here && first_line(bytes).starts_with(word));
        sent.map(|(_, _, _, bytes)| match read(bytes) {
            Message::Request(request) => request.via[0].transport.clone(),
            Message::Response(response) => response.via[0].transport.clone(),
        })
        .collect()
    }
}

fn contact(request: &Request) -> String {
    let contact = request.headers.contacts().unwrap().remove(0);
    let Uri::Sip(mut uri) = contact.uri else { panic!("{contact:?}") };
    uri.user = None;
    Uri::Sip(uri).to_string()
}

/// An offer of this many bytes.
fn large(size: usize) -> Vec<u8> {
    let mut offer = OFFER.to_vec();
    offer.extend(b"a=x:".iter().chain(vec![b'x'; size - OFFER.len() - 6].iter()).chain(b"\r\n"));
    assert_eq!(offer.len(), size);
    offer
}

#[test]
fn timers_a_and_e_do_not_run_on_a_stream_but_b_and_f_do() {
    let mut script = Script::new();
    let (session, invite) = script.invite("sip:peer@192.0.2.9;transport=tcp", OFFER);
    assert_eq!(invite.via[0].transport, "TCP");
    script.net.run(Duration::from_secs(40));
    assert_eq!(script.times("INVITE"), [0]);
    let end = end_of(&script.net.events(script.alice), session);
    assert_eq!(end.cause, EndCause::Timeout);

    let (session, invite) = script.invite("sip:peer@192.0.2.9;transport=tcp", OFFER);
    let ok = with_sdp(with_contact(answer(&invite, 200, "p"), "<sip:peer@192.0.2.9;transport=tcp>"), ANSWER);
    script.net.reply(script.peer, script.alice, &ok);
    script.net.run_ms(100);
    script.net.events(script.alice);
    script.net.with(script.alice, |e, now| e.probe(now, session)).unwrap();
    script.net.run(Duration::from_secs(31));
    assert!(script.net.events(script.alice).is_empty());
    script.net.run(Duration::from_secs(2));
    assert_eq!(script.times("OPTIONS").len(), 1);
    assert_eq!(end_of(&script.net.events(script.alice), session).cause, EndCause::Timeout);
}

#[test]
fn timer_d_is_zero_on_a_stream() {
    let mut script = Script::new();
    let (session, invite) = script.invite("sip:peer@192.0.2.9;transport=tcp", OFFER);
    let busy = answer(&invite, 486, "peer");
    script.net.reply(script.peer, script.alice, &busy);
    script.net.run_ms(100);
    assert_eq!(end_of(&script.net.events(script.alice), session).status, Some(486));
    assert_eq!(script.vias("ACK"), ["TCP"]);
    // The transaction is over, so that a repetition is nobody's.
    script.net.reply(script.peer, script.alice, &busy);
    script.net.run_ms(100);
    assert_eq!(script.times("ACK").len(), 1);
}

const INVITE: &str = "INVITE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bKinvite1;rport
Max-Forwards: 70
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>
Call-ID: inbound-1
CSeq: 7 INVITE
Contact: <sip:peer@192.0.2.9:5060;transport=tcp>
Content-Length: 0

";

#[test]
fn timer_g_does_not_run_on_a_stream_but_h_does() {
    let mut script = Script::new();
    script.net.dial(Transport::Tcp, script.peer, script.alice, crlf(INVITE).as_bytes());
    script.net.run_ms(20);
    let session = incoming(&script.net.events(script.alice));
    script.net.with(script.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
    script.net.run(Duration::from_secs(31));
    assert_eq!(script.times("486").len(), 1);
    assert!(!script.net.with(script.alice, |e, _| e.is_idle()), "Timer H waits for the ACK");
    script.net.run(Duration::from_secs(2));
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
    let busy = script.net.responses(script.peer).remove(0);
    // RFC 3261 section 18.2.2: on the connection that the request came on, whatever Via says.
    assert_eq!(script.net.connected(script.peer, script.alice), 1);
    assert_eq!(busy.via[0].params.value("received"), Some("192.0.2.9"));
}

#[test]
fn timers_i_and_j_are_zero_on_a_stream() {
    let mut script = Script::new();
    script.net.dial(Transport::Tcp, script.peer, script.alice, crlf(INVITE).as_bytes());
    script.net.run_ms(20);
    let session = incoming(&script.net.events(script.alice));
    script.net.with(script.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
    script.net.run_ms(20);
    let busy = script.net.responses(script.peer).remove(0);
    let Message::Request(mut ack) = read(crlf(INVITE).as_bytes()) else { panic!() };
    ack.method = method("ACK");
    ack.to = busy.to;
    script.net.say_on(script.peer, script.alice, &wire::write(&Message::Request(ack)));
    script.net.run_ms(20);
    // Timer I has fired: the same INVITE would be a new one.
    script.net.say_on(script.peer, script.alice, crlf(INVITE).as_bytes());
    script.net.run_ms(20);
    let session = incoming(&script.net.events(script.alice)[1..]);
    // CANCEL is answered once; said again at once it finds its INVITE, but no transaction of its own.
    let cancel = INVITE.replace("INVITE", "CANCEL");
    for _ in 0..2 {
        script.net.say_on(script.peer, script.alice, crlf(&cancel).as_bytes());
        script.net.run_ms(20);
    }
    assert_eq!(end_of(&script.net.events(script.alice), session).cause, EndCause::Cancelled);
    assert_eq!(script.times("200").len(), 2);
}

#[test]
fn a_2xx_is_repeated_end_to_end_on_a_stream_too() {
    let mut script = Script::new();
    script.net.dial(Transport::Tcp, script.peer, script.alice, crlf(INVITE).as_bytes());
    script.net.run_ms(20);
    let session = incoming(&script.net.events(script.alice));
    script.net.with(script.alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    script.net.run(Duration::from_secs(4));
    // RFC 3261 section 13.3.1.4.
    assert_eq!(script.times("200"), [20, 520, 1520, 3520]);
}

#[test]
fn via_and_contact_name_the_transport() {
    let mut script = Script::new();
    let (_, udp) = script.invite("sip:peer@192.0.2.9", OFFER);
    assert_eq!((&*udp.via[0].transport, &*contact(&udp)), ("UDP", "sip:192.0.2.1:5060"));
    let (_, tcp) = script.invite("sip:peer@192.0.2.9;transport=TCP", OFFER);
    assert_eq!((&*tcp.via[0].transport, &*contact(&tcp)), ("TCP", "sip:192.0.2.1:5060;transport=tcp"));
    assert_eq!(tcp.via[0].port, Some(5060));
    let mut script = Script::at("192.0.2.9:5061");
    let (_, tls) = script.invite("sip:peer@192.0.2.9;transport=tls", OFFER);
    assert_eq!((&*tls.via[0].transport, &*contact(&tls)), ("TLS", "sip:192.0.2.1:5061;transport=tls"));
    assert_eq!(tls.via[0].port, Some(5061));
}

#[test]
fn a_sips_target_is_called_over_tls_with_a_sips_contact() {
    let mut script = Script::at("192.0.2.9:5061");
    let (session, invite) = script.invite("sips:peer@192.0.2.9", OFFER);
    assert_eq!(invite.uri.to_string(), "sips:peer@192.0.2.9");
    assert_eq!((&*invite.via[0].transport, &*contact(&invite)), ("TLS", "sips:192.0.2.1:5061"));
    // In the dialog it stays so, even where the peer's Contact forgets it (RFC 3261 section 12.1.2).
    let ok = with_sdp(with_contact(answer(&invite, 200, "p"), "<sip:peer@192.0.2.9:5061>"), ANSWER);
    script.net.reply(script.peer, script.alice, &ok);
    script.net.run_ms(50);
    script.net.with(script.alice, |e, now| e.offer(now, session, OFFER.to_vec())).unwrap();
    script.net.run_ms(50);
    let requests = script.net.requests(script.peer);
    let [ack, reinvite] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((ack.method.as_str(), &*ack.via[0].transport), ("ACK", "TLS"));
    assert_eq!(contact(reinvite), "sips:192.0.2.1:5061");
}

#[test]
fn sips_never_falls_back_to_another_transport() {
    let mut script = Script::at("192.0.2.9:5061");
    let wrong = TransportError::Certificate(CertificateFault::WrongName);
    script.net.fault(Transport::Tls, "192.0.2.9:5061", Some(wrong));
    let session = script.call("sips:peer@192.0.2.9", OFFER);
    script.net.run(Duration::from_secs(40));
    let end = end_of(&script.net.events(script.alice), session);
    assert_eq!(end.cause, EndCause::Unreachable(wrong));
    assert_eq!(script.vias("INVITE"), ["TLS"]);
    // The same for a name where TLS comes first: what it would have hidden is not shown to who breaks it.
    script
        .net
        .name_on("example.net", &[(Transport::Tls, "192.0.2.9:5061"), (Transport::Udp, "192.0.2.9:5061")]);
    let session = script.call("sip:peer@example.net", OFFER);
    script.net.run(Duration::from_secs(40));
    assert_eq!(end_of(&script.net.events(script.alice), session).cause, EndCause::Unreachable(wrong));
    assert_eq!(script.vias("INVITE"), ["TLS", "TLS"]);
    assert!(script.net.requests(script.peer).is_empty());
}

#[test]
fn a_sips_request_is_taken_from_tls_only_and_answered_with_a_sips_contact() {
    let mut script = Script::new();
    let invite = crlf(&INVITE.replace("INVITE sip:alice@192.0.2.1", "INVITE sips:alice@192.0.2.1"));
    script.net.dial(Transport::Tcp, script.peer, script.alice, invite.as_bytes());
    script.net.run_ms(50);
    assert!(script.net.events(script.alice).is_empty());
    assert_eq!(script.net.responses(script.peer)[0].status.get(), 416);
    let invite = invite.replace("SIP/2.0/TCP", "SIP/2.0/TLS").replace(";transport=tcp", "");
    script.net.dial(Transport::Tls, script.peer, script.alice, invite.as_bytes());
    script.net.run_ms(50);
    let session = incoming(&script.net.events(script.alice));
    script.net.with(script.alice, |e, now| e.ring(now, session, None)).unwrap();
    script.net.run_ms(50);
    let ringing = script.net.responses(script.peer).remove(0);
    assert!(ringing.headers.get("Contact").unwrap().starts_with("<sips:"), "{ringing:?}");
}

#[test]
fn a_request_above_1300_bytes_goes_by_tcp() {
    let mut script = Script::new();
    let (_, small) = script.invite("sip:peer@192.0.2.9", &large(600));
    assert_eq!(small.via[0].transport, "UDP");
    assert!(wire::write(&Message::Request(small)).len() <= 1300);
    let (session, big) = script.invite("sip:peer@192.0.2.9", &large(1300));
    assert_eq!(big.via[0].transport, "TCP");
    // The Contact promises no more than before, and what follows is small again.
    assert_eq!(contact(&big), "sip:192.0.2.1:5060");
    let ok = with_sdp(with_contact(answer(&big, 200, "peer"), "<sip:peer@192.0.2.9>"), ANSWER);
    script.net.reply(script.peer, script.alice, &ok);
    script.net.run_ms(50);
    assert_eq!(script.vias("ACK"), ["UDP"]);
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    assert_eq!(script.vias("BYE"), ["UDP"]);
}

#[test]
fn a_large_request_goes_as_a_datagram_where_tcp_is_refused() {
    let mut script = Script::new();
    script.net.fault(Transport::Tcp, "192.0.2.9:5060", Some(TransportError::Refused));
    let session = script.call("sip:peer@192.0.2.9", &large(1300));
    script.net.run_ms(50);
    let requests = script.net.requests(script.peer);
    assert_eq!((requests.len(), &*requests[0].via[0].transport), (1, "UDP"));
    assert_eq!(script.vias("INVITE"), ["TCP", "UDP"]);
    // It can be answered, and cancelled as what it is.
    script.net.respond(script.peer, script.alice, &answer(&requests[0], 180, "peer"));
    script.net.run_ms(50);
    assert!(matches!(script.net.events(script.alice)[..], [Event::Progress { .. }]));
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    script.net.run_ms(50);
    let cancel = script.net.requests(script.peer).remove(0);
    assert_eq!((cancel.method.as_str(), &cancel.via), ("CANCEL", &requests[0].via));
    // For a minute nobody tries TCP there.
    script.call("sip:peer@192.0.2.9", &large(1300));
    assert_eq!(script.vias("INVITE"), ["TCP", "UDP", "UDP"]);
    script.net.run(Duration::from_secs(61));
    script.call("sip:peer@192.0.2.9", &large(1300));
    assert_eq!(script.vias("INVITE").last().map(String::as_str), Some("TCP"));
}

#[test]
fn a_large_request_goes_as_a_datagram_where_no_connection_comes_about() {
    let mut script = Script::new();
    script.net.fault(Transport::Tcp, "192.0.2.9:5060", Some(TransportError::TimedOut));
    script.call("sip:peer@192.0.2.9", &large(1300));
    script.net.run(PATIENCE);
    assert_eq!(script.vias("INVITE"), ["TCP"]);
    let (here, there) = (script.net.address(script.alice), script.net.address(script.peer));
    let stream = flow(Transport::Tcp, here, there);
    script.net.with(script.alice, |e, now| e.handle_slow(now, stream));
    script.net.run_ms(50);
    assert_eq!(script.net.dropped(), [stream], "what waits in its queue is not sent as well");
    let requests = script.net.requests(script.peer);
    assert_eq!((requests.len(), &*requests[0].via[0].transport), (1, "UDP"));
    script.net.respond(script.peer, script.alice, &answer(&requests[0], 180, "peer"));
    script.net.run_ms(50);
    assert!(matches!(script.net.events(script.alice)[..], [Event::Progress { .. }]));
    assert_eq!(script.vias("INVITE"), ["TCP", "UDP"]);
    stays_with_datagrams_for_an_hour(&mut script);
}

/// Alice gives a call up whose INVITE waits for a connection that does not come about.
fn given_up(target: &str) -> (Script, Flow, SessionId) {
    let mut script = Script::new();
    script.net.fault(Transport::Tcp, "192.0.2.9:5060", Some(TransportError::TimedOut));
    let session = script.call(target, &large(1300));
    script.net.run_ms(500);
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    assert_eq!(end_of(&script.net.events(script.alice), session).cause, EndCause::Local);
    let stream = flow(Transport::Tcp, script.net.address(script.alice), script.net.address(script.peer));
    (script, stream, session)
}

#[test]
fn a_call_that_was_given_up_before_its_connection_came_about_is_never_placed() {
    for target in ["sip:peer@192.0.2.9", "sip:peer@192.0.2.9;transport=tcp"] {
        let (mut script, stream, _) = given_up(target);
        script.net.with(script.alice, |e, now| e.handle_slow(now, stream));
        assert_eq!(script.net.dropped(), [stream], "{target}: what waits in its queue is not sent later");
        assert!(script.net.with(script.alice, |e, _| e.is_idle()), "{target}");
        script.net.run(Duration::from_secs(60));
        assert_eq!(script.vias("INVITE"), ["TCP"], "{target}");
        assert!(script.net.requests(script.peer).is_empty(), "{target}");
        assert!(script.net.events(script.alice).is_empty(), "{target}");
    }
}

#[test]
fn a_call_that_was_given_up_before_its_connection_was_refused_is_never_placed() {
    let mut script = Script::new();
    script.net.fault(Transport::Tcp, "192.0.2.9:5060", Some(TransportError::Refused));
    let session = script.call("sip:peer@192.0.2.9", &large(1300));
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    script.net.run_ms(100);
    assert_eq!(script.vias("INVITE"), ["TCP"]);
    assert!(script.net.requests(script.peer).is_empty());
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
}

#[test]
fn a_connection_that_another_call_waits_for_is_not_dropped_for_one_that_was_given_up() {
    let (mut script, stream, _) = given_up("sip:peer@192.0.2.9");
    let other = script.call("sip:peer@192.0.2.9;transport=tcp", &large(1300));
    script.net.with(script.alice, |e, now| e.handle_slow(now, stream));
    assert!(script.net.dropped().is_empty());
    script.net.run(CONNECT_TIMEOUT);
    let end = end_of(&script.net.events(script.alice), other);
    assert_eq!(end.cause, EndCause::Unreachable(TransportError::TimedOut));
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
    assert_eq!(script.vias("INVITE"), ["TCP"; 2]);
}

#[test]
fn a_large_request_that_a_stream_has_swallowed_makes_datagrams_of_the_next() {
    let mut script = Script::new();
    let session = script.call("sip:peer@192.0.2.9", &large(1300));
    script.net.run(Duration::from_secs(33));
    assert_eq!(end_of(&script.net.events(script.alice), session).cause, EndCause::Timeout);
    assert_eq!(script.vias("INVITE"), ["TCP"]);
    stays_with_datagrams_for_an_hour(&mut script);
}

fn stays_with_datagrams_for_an_hour(script: &mut Script) {
    let mut next = |after: u64| {
        script.net.run(Duration::from_secs(after));
        script.call("sip:peer@192.0.2.9", &large(1300));
        script.vias("INVITE").pop().unwrap()
    };
    assert_eq!(next(0), "UDP");
    assert_eq!(next(61), "UDP");
    assert_eq!(next(3600), "TCP");
}

#[test]
fn what_waits_for_a_connection_that_its_uri_names_goes_on_waiting() {
    let mut script = Script::new();
    script.net.fault(Transport::Tcp, "192.0.2.9:5060", Some(TransportError::TimedOut));
    script.call("sip:peer@192.0.2.9;transport=tcp", &large(1300));
    let (here, there) = (script.net.address(script.alice), script.net.address(script.peer));
    let stream = flow(Transport::Tcp, here, there);
    script.net.with(script.alice, |e, now| e.handle_slow(now, stream));
    script.net.run_ms(50);
    assert_eq!(script.vias("INVITE"), ["TCP"]);
}

#[test]
fn a_transport_that_the_uri_names_is_kept_for_large_requests() {
    let mut script = Script::new();
    let (_, invite) = script.invite("sip:peer@192.0.2.9;transport=udp", &large(1400));
    assert_eq!(invite.via[0].transport, "UDP");
}

#[test]
fn cancel_follows_a_large_invite_to_tcp() {
    let mut script = Script::new();
    let (session, invite) = script.invite("sip:peer@192.0.2.9", &large(1400));
    script.net.reply(script.peer, script.alice, &answer(&invite, 180, "peer"));
    script.net.run_ms(50);
    script.net.with(script.alice, |e, now| e.hangup(now, session)).unwrap();
    script.net.run_ms(50);
    let cancel = script.net.requests(script.peer).remove(0);
    assert_eq!((cancel.method.as_str(), &cancel.via), ("CANCEL", &invite.via));
    assert_eq!(script.net.connected(script.alice, script.peer), 1);
}
