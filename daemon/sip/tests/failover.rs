//! Several servers for one next hop (RFC 3263 section 4.3): the next is tried where one fails or says nothing, and what a
//! slow one says later comes too late.

use std::time::Duration;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::endpoint::{
    CertificateFault, EndCause, Event, IdentityId, InviteOptions, RegistrationFailure, RegistrationState,
    SessionId, Transport, TransportError,
};
use voipd_sip::message::Request;

/// How long one server may say nothing, and a little more for the way.
const PATIENCE: u64 = 4_000;

/// Alice, and two scripted servers of `example.net`.
struct Two {
    net: Net,
    alice: HostId,
    id: IdentityId,
    first: HostId,
    second: HostId,
}

impl Two {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let first = net.raw("192.0.2.11:5060");
        let second = net.raw("192.0.2.12:5060");
        net.name("example.net", &["192.0.2.11:5060", "192.0.2.12:5060"]);
        let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        Self { net, alice, id, first, second }
    }

    fn call(&mut self) -> SessionId {
        self.call_to("sip:bob@example.net")
    }

    fn call_to(&mut self, target: &str) -> SessionId {
        let (id, target) = (self.id, target.parse().unwrap());
        let session =
            self.net.with(self.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        self.net.with(self.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        self.net.events(self.alice);
        session
    }

    /// The only INVITE of a host, whatever else and however often it came.
    fn invite(&mut self, host: HostId) -> Request {
        let mut requests = self.net.requests(host);
        requests.retain(|request| request.method == method("INVITE"));
        assert!(requests.iter().all(|request| *request == requests[0]), "{requests:?}");
        requests.swap_remove(0)
    }

    fn respond(&mut self, host: HostId, invite: &Request, code: u16, tag: &str) {
        let contact = format!("<sip:{}>", self.net.address(host));
        let response = with_contact(answer(invite, code, tag), &contact);
        let response = if code == 200 { with_sdp(response, ANSWER) } else { response };
        self.net.respond(host, self.alice, &response);
        self.net.run_ms(30);
    }

    fn hang_up(&mut self, session: SessionId) {
        self.net.with(self.alice, |e, now| e.hangup(now, session)).unwrap();
    }

    fn methods(&mut self, host: HostId) -> Vec<String> {
        self.net.requests(host).iter().map(|request| request.method.as_str().to_owned()).collect()
    }
}

#[test]
fn a_dead_first_server_costs_less_than_four_seconds() {
    for transport in ["", ";transport=tcp"] {
        let mut two = Two::new();
        // Nobody is there at all: no answer, no ICMP, no connection.
        two.net.name("example.net", &["192.0.2.99:5060", "192.0.2.12:5060"]);
        let session = two.call_to(&format!("sip:bob@example.net{transport}"));
        two.net.run_ms(PATIENCE);
        let invite = two.invite(two.second);
        if transport.is_empty() {
            two.respond(two.second, &invite, 200, "bob");
        } else {
            let contact = "<sip:192.0.2.12;transport=tcp>";
            let ok = with_sdp(with_contact(answer(&invite, 200, "bob"), contact), ANSWER);
            two.net.reply(two.second, two.alice, &ok);
            two.net.run_ms(30);
        }
        let events = two.net.events(two.alice);
        assert!(matches!(events[..], [Event::Answered { .. }]), "{transport}: {events:?}");
        // What the first one's transaction comes to is of no interest.
        two.net.run(Duration::from_secs(40));
        assert!(two.net.events(two.alice).is_empty());
        two.hang_up(session);
    }
}

#[test]
fn the_next_server_gets_another_branch_of_the_same_call() {
    let mut two = Two::new();
    two.call();
    two.net.run_ms(PATIENCE);
    let (one, other) = (two.invite(two.first), two.invite(two.second));
    assert_ne!(one.via[0].branch(), other.via[0].branch());
    assert_eq!((&one.call_id, one.from.tag(), one.cseq), (&other.call_id, other.from.tag(), other.cseq));
    assert_eq!((&one.uri, &one.body), (&other.uri, &other.body));
}

#[test]
fn a_server_that_says_anything_is_waited_for() {
    let mut two = Two::new();
    two.call();
    two.net.run_ms(20);
    let invite = two.invite(two.first);
    two.respond(two.first, &invite, 100, "");
    two.net.run(Duration::from_secs(60));
    assert!(two.net.requests(two.second).is_empty());
}

#[test]
fn a_dead_server_is_passed_over_for_a_minute() {
    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(PATIENCE);
    let invite = two.invite(two.second);
    two.respond(two.second, &invite, 486, "bob");
    assert_eq!(end_of(&two.net.events(two.alice), session).status, Some(486));
    two.net.run(Duration::from_secs(10));
    let before = two.invite(two.first);
    two.call();
    two.net.run_ms(20);
    let again = two.invite(two.second);
    assert_ne!(again.call_id, before.call_id, "the second call goes to the second server at once");
    two.respond(two.second, &again, 486, "bob");
    // The first INVITE's transaction has ended after 32 s: so long the server was known to be dead.
    two.net.run(Duration::from_secs(32 + 60));
    assert!(two.net.requests(two.first).is_empty());
    two.call();
    two.net.run_ms(20);
    assert_eq!(two.methods(two.first), ["INVITE"], "it is given another chance");
}

#[test]
fn a_late_provisional_response_of_the_first_server_is_cancelled() {
    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(PATIENCE);
    let (one, other) = (two.invite(two.first), two.invite(two.second));
    two.respond(two.second, &other, 180, "bob");
    two.net.events(two.alice);
    two.respond(two.first, &one, 180, "slow");
    two.respond(two.first, &one, 180, "slow");
    let requests = two.net.requests(two.first);
    assert_eq!(requests.iter().map(|r| r.method.as_str()).collect::<Vec<_>>(), ["CANCEL"], "once");
    assert_eq!(requests[0].via, one.via);
    assert!(two.net.events(two.alice).is_empty(), "the caller hears of one ringing only");
    two.respond(two.first, &one, 487, "slow");
    assert_eq!(two.methods(two.first), ["ACK"]);
    two.respond(two.second, &other, 200, "bob");
    let events = two.net.events(two.alice);
    assert!(matches!(events[..], [Event::Answered { session: of, .. }] if of == session), "{events:?}");
    assert_eq!(two.methods(two.second), ["ACK"]);
}

#[test]
fn a_first_server_that_has_said_100_and_no_more_is_cancelled() {
    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(PATIENCE);
    let (one, other) = (two.invite(two.first), two.invite(two.second));
    two.respond(two.first, &one, 100, "");
    two.respond(two.second, &other, 200, "bob");
    let events = two.net.events(two.alice);
    assert!(matches!(events[..], [Event::Answered { .. }]), "{events:?}");
    assert_eq!(two.methods(two.first), ["CANCEL"]);
    two.hang_up(session);
    two.net.run(Duration::from_secs(70));
    assert!(two.net.with(two.alice, |e, _| e.is_idle()), "nothing waits for what it never says");
}

#[test]
fn a_late_answer_of_the_first_server_is_acknowledged_and_ended() {
    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(PATIENCE);
    let (one, other) = (two.invite(two.first), two.invite(two.second));
    two.respond(two.second, &other, 200, "bob");
    two.net.events(two.alice);
    two.respond(two.first, &one, 200, "slow");
    assert_eq!(two.methods(two.first), ["ACK", "BYE"]);
    assert!(two.net.events(two.alice).is_empty());
    two.hang_up(session);
    two.net.run_ms(20);
    assert_eq!(two.methods(two.second), ["ACK", "BYE"]);
}

#[test]
fn the_first_server_s_answer_wins_while_the_second_has_said_nothing() {
    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(PATIENCE);
    let (one, other) = (two.invite(two.first), two.invite(two.second));
    two.respond(two.first, &one, 180, "bob");
    two.respond(two.first, &one, 200, "bob");
    let events = two.net.events(two.alice);
    assert!(matches!(events[..], [Event::Progress { .. }, Event::Answered { .. }]), "{events:?}");
    assert_eq!(two.methods(two.first), ["ACK"]);
    // The second is not asked any more, and told so when it speaks.
    two.net.run(Duration::from_secs(10));
    assert!(two.net.requests(two.second).is_empty());
    two.respond(two.second, &other, 180, "late");
    assert_eq!(two.methods(two.second), ["CANCEL"]);
    two.hang_up(session);
}

#[test]
fn a_503_or_a_refused_connection_is_passed_by_at_once() {
    let mut two = Two::new();
    two.call();
    two.net.run_ms(20);
    let invite = two.invite(two.first);
    two.respond(two.first, &invite, 503, "busy");
    assert_eq!(two.methods(two.second), ["INVITE"]);
    let mut two = Two::new();
    two.net.fault(Transport::Tcp, "192.0.2.11:5060", Some(TransportError::Refused));
    two.call_to("sip:bob@example.net;transport=tcp");
    two.net.run_ms(50);
    assert_eq!(two.methods(two.second), ["INVITE"]);
}

#[test]
fn when_all_fail_the_weightiest_reason_is_told() {
    let expired = TransportError::Certificate(CertificateFault::Expired);
    let mut two = Two::new();
    two.net
        .name_on("example.net", &[(Transport::Tls, "192.0.2.11:5061"), (Transport::Tls, "192.0.2.12:5061")]);
    two.net.fault(Transport::Tls, "192.0.2.11:5061", Some(expired));
    two.net.fault(Transport::Tls, "192.0.2.12:5061", Some(TransportError::Refused));
    let session = two.call_to("sips:bob@example.net");
    two.net.run_ms(100);
    assert_eq!(end_of(&two.net.events(two.alice), session).cause, EndCause::Unreachable(expired));

    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(20);
    let invite = two.invite(two.first);
    two.respond(two.first, &invite, 503, "busy");
    two.net.run(Duration::from_secs(40));
    let end = end_of(&two.net.events(two.alice), session);
    assert_eq!((end.cause, end.status), (EndCause::Refused, Some(503)));

    let mut two = Two::new();
    let session = two.call();
    two.net.run(Duration::from_secs(40));
    assert_eq!(end_of(&two.net.events(two.alice), session).cause, EndCause::Timeout);
}

#[test]
fn a_caller_who_gives_up_leaves_no_server_ringing() {
    let mut two = Two::new();
    let session = two.call();
    two.net.run_ms(PATIENCE);
    let (one, other) = (two.invite(two.first), two.invite(two.second));
    two.hang_up(session);
    assert_eq!(end_of(&two.net.events(two.alice), session).cause, EndCause::Local);
    two.respond(two.first, &one, 180, "slow");
    two.respond(two.second, &other, 180, "bob");
    assert!(two.methods(two.first).contains(&"CANCEL".to_owned()));
    assert!(two.methods(two.second).contains(&"CANCEL".to_owned()));
    two.respond(two.first, &one, 487, "slow");
    two.respond(two.second, &other, 487, "bob");
    two.net.run(Duration::from_secs(40));
    assert!(two.net.with(two.alice, |e, _| e.is_idle()));
}

#[test]
fn a_request_in_the_dialog_goes_by_the_next_server_of_its_route() {
    let mut two = Two::new();
    two.net.name("proxy.example.net", &["192.0.2.11:5060", "192.0.2.12:5060"]);
    let session = two.call();
    two.net.run_ms(20);
    let invite = two.invite(two.first);
    let mut ok = with_sdp(with_contact(answer(&invite, 200, "bob"), "<sip:bob@198.51.100.1>"), ANSWER);
    ok.headers.push("Record-Route", "<sip:proxy.example.net;lr;transport=tcp>");
    two.net.respond(two.first, two.alice, &ok);
    two.net.run_ms(50);
    assert_eq!(two.methods(two.first), ["ACK"]);
    two.net.cut(two.alice, two.first);
    two.net.fault(Transport::Tcp, "192.0.2.11:5060", Some(TransportError::Refused));
    two.net.run_ms(50);
    two.hang_up(session);
    two.net.run_ms(50);
    assert_eq!(two.methods(two.second), ["BYE"]);
}

/// Alice registers with two registrars, of which the first does what `first` says.
fn registering(first: Option<&str>) -> (Net, HostId, HostId) {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let registrar = Registrar::new();
    let server = net.server("192.0.2.100:5060", Registrar::serve(&registrar));
    net.name("example.org", &[first.unwrap_or("192.0.2.99:5060"), "192.0.2.100:5060"]);
    let id = net.with(alice, |e, _| {
        e.add_identity(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret"))
    });
    net.with(alice, |e, now| e.register(now, id)).unwrap();
    (net, alice, server)
}

fn last_state(net: &mut Net, alice: HostId) -> Option<RegistrationState> {
    let events = net.events(alice).into_iter();
    let mut states = events.filter_map(|event| match event {
        Event::Registration { state, .. } => Some(state),
        _ => None,
    });
    states.next_back()
}

#[test]
fn a_registration_finds_the_second_registrar_when_the_first_says_nothing() {
    let (mut net, alice, server) = registering(None);
    net.run_ms(PATIENCE);
    assert!(matches!(last_state(&mut net, alice), Some(RegistrationState::Registered { .. })));
    // The binding stays where it is.
    net.run(Duration::from_secs(3600));
    assert!(net.events(alice).is_empty());
    assert!(net.seen(server).len() >= 3);
}

#[test]
fn a_refresh_that_finds_nobody_goes_by_another_registrar() {
    let (mut net, alice, _) = registering(Some("192.0.2.100:5060"));
    net.run_ms(100);
    assert!(matches!(last_state(&mut net, alice), Some(RegistrationState::Registered { .. })));
    let other = Registrar::new();
    let second = net.server("192.0.2.101:5060", Registrar::serve(&other));
    net.name("example.org", &["192.0.2.100:5060", "192.0.2.101:5060"]);
    net.forget("192.0.2.100:5060");
    net.run(Duration::from_secs(3600));
    assert!(matches!(last_state(&mut net, alice), Some(RegistrationState::Registered { .. })));
    assert!(!net.seen(second).is_empty());
}

#[test]
fn a_registration_says_what_is_wrong_with_the_certificate() {
    for fault in [CertificateFault::Expired, CertificateFault::NotYetValid, CertificateFault::UnknownIssuer] {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        net.server("192.0.2.100:5061", Registrar::serve(&Registrar::new()));
        net.name("example.org", &["192.0.2.100:5061"]);
        net.fault(Transport::Tls, "192.0.2.100:5061", Some(TransportError::Certificate(fault)));
        let id = net.with(alice, |e, _| {
            e.add_identity(subscriber("<sip:alice@example.org>", "sips:example.org", "alice", "secret"))
        });
        net.with(alice, |e, now| e.register(now, id)).unwrap();
        net.run_ms(100);
        let Some(RegistrationState::Failed { reason, retry: Some(_), .. }) = last_state(&mut net, alice)
        else {
            panic!("{fault}")
        };
        assert_eq!(reason, RegistrationFailure::Unreachable(TransportError::Certificate(fault)));
        net.fault(Transport::Tls, "192.0.2.100:5061", None);
        net.run(Duration::from_secs(61));
        assert!(matches!(last_state(&mut net, alice), Some(RegistrationState::Registered { .. })));
    }
}
