//! Connections that are lost: what is sent again, what survives, and what is made anew (RFC 3261 section 18, RFC 5626).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::endpoint::{
    EndCause, Event, InviteOptions, RegistrationState, SessionId, Transport, TransportError,
};
use voipd_sip::message::Message;
use voipd_sip::wire;

/// Two endpoints that talk over this transport.
fn talking(transport: &str) -> (Pair, SessionId, SessionId) {
    let mut pair = Pair::new();
    let id = pair.alice_id;
    let target = format!("sip:bob@192.0.2.2;transport={transport}").parse().unwrap();
    let caller =
        pair.net.with(pair.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    pair.net.with(pair.alice, |e, now| e.send_invite(now, caller, OFFER.to_vec())).unwrap();
    pair.net.run_ms(50);
    let callee = incoming(&pair.net.events(pair.bob));
    pair.net.with(pair.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    pair.net.run_ms(50);
    assert!(pair.net.events(pair.alice).iter().any(|event| matches!(event, Event::Answered { .. })));
    assert!(pair.net.events(pair.bob).iter().any(|event| matches!(event, Event::Confirmed { .. })));
    (pair, caller, callee)
}

#[test]
fn a_call_survives_its_connection() {
    for transport in ["tcp", "tls"] {
        let (mut pair, caller, callee) = talking(transport);
        pair.net.cut(pair.alice, pair.bob);
        pair.net.run(Duration::from_secs(10));
        assert!(pair.net.events(pair.alice).is_empty() && pair.net.events(pair.bob).is_empty());
        let before = pair.net.connected(pair.alice, pair.bob);
        pair.net.with(pair.alice, |e, now| e.offer(now, caller, OFFER.to_vec())).unwrap();
        pair.net.run_ms(50);
        assert_eq!(pair.net.connected(pair.alice, pair.bob), before + 1, "{transport}: a new connection");
        let events = pair.net.events(pair.bob);
        assert!(matches!(events[..], [Event::Offered { .. }]), "{events:?}");
        pair.net.with(pair.bob, |e, now| e.answer_offer(now, callee, Ok(ANSWER.to_vec()))).unwrap();
        pair.net.run_ms(50);
        pair.net.cut(pair.alice, pair.bob);
        pair.net.run_ms(50);
        // The callee finds the caller by its Contact.
        pair.net.with(pair.bob, |e, now| e.hangup(now, callee)).unwrap();
        pair.net.run_ms(100);
        assert_eq!(end_of(&pair.net.events(pair.alice), caller).cause, EndCause::Remote);
    }
}

#[test]
fn a_request_that_met_a_closing_connection_is_sent_once_more() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:5060");
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
    let target = "sip:peer@192.0.2.9;transport=tcp".parse().unwrap();
    let session = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    // The far end closes while the INVITE is on its way.
    net.cut(alice, peer);
    net.run_ms(100);
    let requests = net.requests(peer);
    assert_eq!(requests.len(), 1);
    assert_eq!(times(&net, alice, "INVITE").len(), 2);
    // A second time it is told.
    net.events(alice);
    net.cut(alice, peer);
    net.run_ms(100);
    let end = end_of(&net.events(alice), session);
    assert_eq!(end.cause, EndCause::Unreachable(TransportError::Closed));
}

#[test]
fn a_call_that_rings_waits_for_the_answer_on_another_connection() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:5060");
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
    let target = "sip:peer@192.0.2.9;transport=tcp".parse().unwrap();
    let session = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(50);
    let invite = net.requests(peer).remove(0);
    net.reply(peer, alice, &answer(&invite, 180, "peer"));
    net.run_ms(50);
    net.cut(alice, peer);
    net.run_ms(50);
    let ok =
        with_sdp(with_contact(answer(&invite, 200, "peer"), "<sip:peer@192.0.2.9;transport=tcp>"), ANSWER);
    net.dial(Transport::Tcp, peer, alice, &wire::write(&Message::Response(ok)));
    net.run_ms(50);
    let events = net.events(alice);
    assert!(matches!(events.last(), Some(Event::Answered { .. })), "{events:?}");
}

const INVITE: &str = "INVITE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bKinvite1
Max-Forwards: 70
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>
Call-ID: inbound-1
CSeq: 7 INVITE
Contact: <sip:peer@192.0.2.9:5060;transport=tcp>
Content-Length: 0

";

#[test]
fn responses_find_a_new_connection_to_sent_by() {
    for code in [200, 486] {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw("192.0.2.9:5060");
        net.dial(Transport::Tcp, peer, alice, crlf(INVITE).as_bytes());
        net.run_ms(50);
        let session = incoming(&net.events(alice));
        net.cut(alice, peer);
        net.run_ms(50);
        match code {
            200 => net.with(alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap(),
            _ => net.with(alice, |e, now| e.reject(now, session, status(code), None)).unwrap(),
        }
        net.run_ms(50);
        let responses = net.responses(peer);
        let codes: Vec<u16> = responses.iter().map(|response| response.status.get()).collect();
        assert_eq!(codes, [code], "RFC 3261 section 18.2.2");
        assert_eq!(net.connected(alice, peer), 2);
        // One that was sent into a dying connection goes out anew, too.
        net.cut(alice, peer);
        net.fault(Transport::Tcp, "192.0.2.9:5060", Some(TransportError::Refused));
        net.run(Duration::from_secs(40));
        assert!(net.with(alice, |e, _| e.is_idle()), "and nothing is tried for ever");
    }
}

/// Alice is registered by TCP.
struct Registered {
    net: Net,
    alice: HostId,
    server: HostId,
    registrar: Rc<RefCell<Registrar>>,
}

impl Registered {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let registrar = Registrar::new();
        let server = net.server("192.0.2.100:5060", Registrar::serve(&registrar));
        net.name("example.org", &["192.0.2.100:5060"]);
        let id = net.with(alice, |e, _| {
            e.add_identity(subscriber(
                "<sip:alice@example.org>",
                "sip:example.org;transport=tcp",
                "alice",
                "secret",
            ))
        });
        net.with(alice, |e, now| e.register(now, id)).unwrap();
        net.run_ms(200);
        let mut this = Self { net, alice, server, registrar };
        assert!(matches!(
            this.states()[..],
            [RegistrationState::Registering, RegistrationState::Registered { .. }]
        ));
        this.net.seen(server);
        this
    }

    fn states(&mut self) -> Vec<RegistrationState> {
        let events = self.net.events(self.alice).into_iter();
        events
            .filter_map(|event| match event {
                Event::Registration { state, .. } => Some(state),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_binding_s_contact_names_tcp() {
    let setup = Registered::new();
    let bindings = setup.registrar.borrow().bindings.clone();
    let (contact, _) = bindings.first_key_value().unwrap();
    assert!(contact.ends_with("@192.0.2.1:5060;transport=tcp"), "{contact}");
}

#[test]
fn a_lost_registered_connection_is_registered_anew_at_once() {
    let mut setup = Registered::new();
    setup.net.run(Duration::from_secs(300));
    setup.net.cut(setup.alice, setup.server);
    setup.net.run(Duration::from_secs(3));
    let states = setup.states();
    assert!(
        matches!(states[..], [RegistrationState::Registering, RegistrationState::Registered { .. }]),
        "{states:?}"
    );
    assert_eq!(setup.net.connected(setup.alice, setup.server), 2);
}

#[test]
fn a_connection_that_never_lasts_is_made_less_and_less_often() {
    let mut setup = Registered::new();
    let mut made = Vec::new();
    for _ in 0..1200 {
        setup.net.cut(setup.alice, setup.server);
        setup.net.run(Duration::from_secs(1));
        made.push(setup.net.connected(setup.alice, setup.server));
    }
    // RFC 5626 section 4.5: 30 s and up, to the longest wait of ours.
    let total = made.last().copied().unwrap();
    assert!((5..=12).contains(&total), "{total} connections in twenty minutes");
}

#[test]
fn an_unreachable_registrar_is_tried_with_backoff() {
    let mut setup = Registered::new();
    setup.net.run(Duration::from_secs(300));
    setup.net.fault(Transport::Tcp, "192.0.2.100:5060", Some(TransportError::Refused));
    setup.net.cut(setup.alice, setup.server);
    setup.net.run(Duration::from_secs(600));
    let tries = times(&setup.net, setup.alice, "REGISTER").into_iter().filter(|at| *at > 299_000).count();
    // Often while the outage is young, then ever more rarely.
    assert!((10..=35).contains(&tries), "{tries}");
    let late: Vec<_> =
        times(&setup.net, setup.alice, "REGISTER").into_iter().filter(|at| *at > 600_000).collect();
    assert!(late.windows(2).all(|pair| pair[1] - pair[0] >= 50_000), "{late:?}");
    setup.net.fault(Transport::Tcp, "192.0.2.100:5060", None);
    setup.net.run(Duration::from_secs(301));
    assert!(matches!(setup.states().last(), Some(RegistrationState::Registered { .. })));
}

/// Times in seconds of pings.
fn pings(net: &Net) -> Vec<u64> {
    let pings = net.capture.iter().filter(|(_, _, _, bytes)| bytes == b"\r\n\r\n");
    pings.map(|(at, ..)| at.as_secs()).collect()
}

#[test]
fn a_registered_connection_is_kept_open_by_pings() {
    let mut setup = Registered::new();
    setup.net.run(Duration::from_secs(1000));
    let pings = pings(&setup.net);
    // RFC 5626 section 4.4.1.
    let pauses: Vec<u64> = pings.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((8..=10).contains(&pings.len()), "{pings:?}");
    assert!(pauses.iter().all(|pause| (94..=120).contains(pause)), "{pauses:?}");
    assert!(setup.states().is_empty());
    assert_eq!(setup.net.connected(setup.alice, setup.server), 1);
}

#[test]
fn datagrams_need_no_pings() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    net.server("192.0.2.100:5060", Registrar::serve(&Registrar::new()));
    net.name("example.org", &["192.0.2.100:5060"]);
    let id = net.with(alice, |e, _| {
        e.add_identity(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret"))
    });
    net.with(alice, |e, now| e.register(now, id)).unwrap();
    net.run(Duration::from_secs(1000));
    assert!(pings(&net).is_empty());
}

#[test]
fn an_inbound_call_comes_on_the_registered_connection_and_goes_back_on_it() {
    let mut setup = Registered::new();
    let (contact, _) =
        setup.registrar.borrow().bindings.first_key_value().map(|(c, e)| (c.clone(), *e)).unwrap();
    let invite = INVITE
        .replace("sip:alice@192.0.2.1 SIP", &format!("{contact} SIP"))
        .replace("192.0.2.9:5060;branch", "192.0.2.100:5060;branch");
    setup.net.say_on(setup.server, setup.alice, crlf(&invite).as_bytes());
    setup.net.run_ms(50);
    let events = setup.net.events(setup.alice);
    let Some(Event::Incoming(call)) = events.first() else { panic!("{events:?}") };
    assert!(call.identity.is_some());
    let session = call.session;
    setup.net.with(setup.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
    assert_eq!(times(&setup.net, setup.alice, "486").len(), 1);
    assert_eq!(setup.net.connected(setup.alice, setup.server), 1);
}
