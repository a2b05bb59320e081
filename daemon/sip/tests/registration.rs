//! Registrations: made, challenged, refreshed, refused, tried again, removed.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::digest::Algorithm;
use voipd_sip::endpoint::{
    EndCause, Event, Identity, IdentityId, InviteOptions, RegistrationFailure, RegistrationState,
    SessionError, TransportError,
};

struct Setup {
    net: Net,
    alice: HostId,
    server: HostId,
    registrar: Rc<RefCell<Registrar>>,
    id: IdentityId,
}

impl Setup {
    fn new() -> Self {
        Self::with(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret"))
    }

    fn with(identity: Identity) -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let registrar = Registrar::new();
        let server = net.server("192.0.2.100:5060", Registrar::serve(&registrar));
        net.name("example.org", &["192.0.2.100:5060"]);
        let id = net.with(alice, |endpoint, _| endpoint.add_identity(identity));
        Self { net, alice, server, registrar, id }
    }

    fn register(&mut self) {
        let id = self.id;
        self.net.with(self.alice, |endpoint, now| endpoint.register(now, id)).unwrap();
    }

    fn states(&mut self) -> Vec<RegistrationState> {
        let events = self.net.events(self.alice).into_iter();
        events
            .filter_map(|event| match event {
                Event::Registration { identity, state } if identity == self.id => Some(state),
                // What else is learned has tests of its own.
                Event::Digest { .. } | Event::Bound { .. } => None,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Registered, and nothing left to look at.
    fn registered(mut self) -> Self {
        self.register();
        self.net.run_ms(100);
        let expires = self.registrar.borrow().max_expires;
        assert_eq!(
            self.states(),
            [RegistrationState::Registering, RegistrationState::Registered { expires }]
        );
        self.net.seen(self.server);
        self
    }

    fn failure(&mut self) -> (RegistrationFailure, Option<u16>, Option<Duration>) {
        let states = self.states();
        let Some(RegistrationState::Failed { reason, status, retry }) = states.last() else {
            panic!("{states:?}")
        };
        (*reason, *status, retry.map(|at| at - self.net.start))
    }
}

#[test]
fn a_registration_is_made_with_credentials() {
    let mut setup = Setup::new();
    setup.register();
    setup.net.run_ms(100);
    assert_eq!(
        setup.states(),
        [RegistrationState::Registering, RegistrationState::Registered { expires: 3600 }]
    );
    let seen = setup.net.seen(setup.server);
    let [(_, first), (_, second)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(first.uri.to_string(), "sip:example.org");
    assert_eq!(first.to.uri.to_string(), "sip:alice@example.org");
    assert_eq!((first.cseq, second.cseq), (1, 2));
    assert_eq!(first.call_id, second.call_id);
    assert_eq!(first.headers.get("Authorization"), None);
    assert_ne!(first.via[0].branch(), second.via[0].branch());
    assert!(first.via[0].params.get("rport").is_some());
    let bindings = setup.registrar.borrow().bindings.clone();
    let (contact, _) = bindings.first_key_value().unwrap();
    assert!(contact.starts_with("sip:") && contact.ends_with("@192.0.2.1:5060"), "{contact}");
    assert!(!contact.contains("alice"), "the contact is not to be guessed: {contact}");
    let servers: Vec<IpAddr> = vec!["192.0.2.100".parse().unwrap()];
    assert_eq!(setup.net.with(setup.alice, |endpoint, _| endpoint.servers(setup.id)), servers);
    assert!(setup.net.with(setup.alice, |endpoint, _| endpoint.is_idle()));
}

#[test]
fn the_binding_is_refreshed_before_it_expires_and_the_nonce_used_again() {
    let setup = Setup::new();
    setup.registrar.borrow_mut().max_expires = 600;
    let mut setup = setup.registered();
    setup.net.run(Duration::from_secs(3 * 600));
    let refreshes = setup.net.seen(setup.server);
    assert!(setup.states().is_empty(), "a refresh is no news");
    assert_eq!(refreshes.len(), 3, "each is let in at once");
    let mut last = Duration::ZERO;
    for (at, request) in &refreshes {
        let pause = at.saturating_sub(last).as_secs();
        assert!((510..=541).contains(&pause), "{pause}");
        assert_eq!(request.call_id, refreshes[0].1.call_id);
        last = *at;
    }
    assert_eq!(refreshes.iter().map(|(_, request)| request.cseq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(setup.registrar.borrow().counts, [(1, 1), (1, 2), (1, 3), (1, 4)]);
}

#[test]
fn a_stale_nonce_is_replaced_without_a_word() {
    let setup = Setup::new();
    setup.registrar.borrow_mut().nonce_uses = 1;
    setup.registrar.borrow_mut().max_expires = 600;
    let mut setup = setup.registered();
    setup.net.run(Duration::from_secs(600));
    assert!(setup.states().is_empty());
    assert_eq!(setup.registrar.borrow().counts, [(1, 1), (2, 1)]);
    assert_eq!(setup.registrar.borrow().refused, 0);
}

#[test]
fn a_server_that_calls_every_nonce_stale_is_given_up() {
    let mut setup = Setup::new();
    let challenge = "Digest realm=\"example.org\", nonce=\"n\", stale=true, qop=\"auth\"".to_owned();
    setup.registrar.borrow_mut().broken = Some((401, vec![("WWW-Authenticate", challenge)]));
    setup.register();
    setup.net.run(Duration::from_secs(10));
    assert_eq!(setup.failure(), (RegistrationFailure::Credentials, Some(401), None));
    assert_eq!(setup.net.seen(setup.server).len(), 4);
}

#[test]
fn a_wrong_password_is_tried_once() {
    let mut setup = Setup::with(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "wrong"));
    setup.register();
    setup.net.run(Duration::from_secs(7200));
    assert_eq!(setup.failure(), (RegistrationFailure::Credentials, Some(401), None));
    assert_eq!(setup.registrar.borrow().refused, 1);
    assert_eq!(setup.net.seen(setup.server).len(), 2);
    setup.register();
    setup.net.run_ms(100);
    assert!(setup.registrar.borrow().refused > 1, "asked for, it is tried again");
}

#[test]
fn without_credentials_a_challenge_is_a_failure() {
    let mut setup = Setup::with(Identity {
        credentials: None,
        ..subscriber("<sip:alice@example.org>", "sip:example.org", "", "")
    });
    setup.register();
    setup.net.run_ms(100);
    assert_eq!(setup.failure(), (RegistrationFailure::Credentials, Some(401), None));
}

#[test]
fn sha_256_is_preferred_to_md5() {
    let setup = Setup::new();
    setup.registrar.borrow_mut().algorithms = vec![Algorithm::Md5, Algorithm::Sha256];
    let mut setup = setup;
    setup.register();
    setup.net.run_ms(100);
    let seen = setup.net.seen(setup.server);
    let credentials = seen[1].1.headers.get("Authorization").unwrap();
    assert_eq!(Registrar::parameter(credentials, "algorithm").as_deref(), Some("SHA-256"));
    assert_eq!(setup.registrar.borrow().bindings.len(), 1);
}

#[test]
fn a_proxy_s_challenge_is_answered_in_its_own_header_field() {
    let setup = Setup::new();
    setup.registrar.borrow_mut().as_proxy = true;
    let mut setup = setup.registered();
    assert_eq!(setup.registrar.borrow().bindings.len(), 1);
    let id = setup.id;
    setup.net.with(setup.alice, |endpoint, now| endpoint.register(now, id)).unwrap();
    setup.net.run_ms(100);
    let seen = setup.net.seen(setup.server);
    assert!(seen[0].1.headers.get("Proxy-Authorization").is_some());
    assert_eq!(seen[0].1.headers.get("Authorization"), None);
}

#[test]
fn a_foreign_realm_gets_no_digest() {
    let mut identity = subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret");
    identity.credentials.as_mut().unwrap().realms = vec!["example.org".to_owned()];
    let mut setup = Setup::with(identity);
    setup.registrar.borrow_mut().realm = "evil.example".to_owned();
    setup.register();
    setup.net.run(Duration::from_secs(3600));
    assert_eq!(setup.failure(), (RegistrationFailure::ForeignRealm, Some(401), None));
    let seen = setup.net.seen(setup.server);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].1.headers.get("Authorization"), None);
}

/// An INVITE of a registered identity, and its end; what the server saw of it.
fn call(setup: &mut Setup, target: &str) -> voipd_sip::endpoint::SessionEnd {
    let (id, target) = (setup.id, target.parse().unwrap());
    let session = setup
        .net
        .with(setup.alice, |endpoint, now| endpoint.invite(now, id, target, InviteOptions::default()))
        .unwrap();
    setup.net.with(setup.alice, |endpoint, now| endpoint.send_invite(now, session, OFFER.to_vec())).unwrap();
    setup.net.run_ms(200);
    end_of(&setup.net.events(setup.alice), session)
}

#[test]
fn a_callee_behind_the_proxy_gets_no_digest_for_a_realm_of_its_own() {
    let mut setup = Setup::new().registered();
    setup.registrar.borrow_mut().realm = "evil.example".to_owned();
    let end = call(&mut setup, "sip:mallory@example.org");
    assert_eq!((end.cause, end.status), (EndCause::Refused, Some(401)));
    for (_, request) in setup.net.seen(setup.server) {
        assert_eq!(request.headers.get("Authorization"), None, "{request:?}");
    }
}

#[test]
fn a_stranger_s_challenge_is_not_answered_even_for_the_own_realm() {
    let setup = Setup::new();
    let mut setup = setup.registered();
    let stranger = Registrar::new();
    let host = setup.net.server("203.0.113.5:5060", Registrar::serve(&stranger));
    let end = call(&mut setup, "sip:alice@203.0.113.5");
    assert_eq!((end.cause, end.status), (EndCause::Refused, Some(401)));
    let seen = setup.net.seen(host);
    let methods: Vec<_> = seen.iter().map(|(_, request)| request.method.as_str()).collect();
    assert_eq!(methods, ["INVITE", "ACK"], "nothing is learned from a stranger, and nothing tried");
    for (_, request) in seen {
        assert_eq!(request.headers.get("Authorization"), None);
        assert_eq!(request.headers.get("Proxy-Authorization"), None);
    }
}

#[test]
fn an_invite_to_the_own_domain_is_authenticated_and_only_when_asked() {
    let mut setup = Setup::new().registered();
    let end = call(&mut setup, "sip:bob@example.org");
    assert_eq!((end.cause, end.status), (EndCause::Refused, Some(404)), "let in, but nobody is there");
    let seen = setup.net.seen(setup.server);
    let invites: Vec<_> = seen.iter().filter(|(_, request)| request.method == method("INVITE")).collect();
    let [(_, first), (_, second)] = invites[..] else { panic!("{seen:?}") };
    assert_eq!(first.headers.get("Authorization"), None, "it would reach the callee");
    assert!(second.headers.get("Authorization").is_some());
    assert_eq!((first.cseq, second.cseq), (1, 2));
    assert_eq!((&first.call_id, first.from.tag()), (&second.call_id, second.from.tag()));
    assert_eq!(first.uri.to_string(), "sip:bob@example.org");
}

#[test]
fn too_short_a_time_is_raised_to_the_registrar_s_minimum() {
    let mut identity = subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret");
    identity.expires = 60;
    let mut setup = Setup::with(identity);
    setup.registrar.borrow_mut().min_expires = 900;
    setup.register();
    setup.net.run_ms(200);
    assert_eq!(setup.states().last(), Some(&RegistrationState::Registered { expires: 900 }));
    let asked: Vec<_> = setup.net.seen(setup.server).into_iter().map(|(_, request)| request).collect();
    let asked: Vec<_> = asked.iter().map(|request| request.headers.get("Expires").unwrap()).collect();
    assert_eq!(asked, ["60", "60", "900"]);
}

#[test]
fn a_minimum_that_helps_nobody_is_a_failure() {
    for minimum in ["10", "4000000000", "soon"] {
        let mut setup = Setup::new();
        setup.registrar.borrow_mut().broken = Some((423, vec![("Min-Expires", minimum.to_owned())]));
        setup.register();
        setup.net.run_ms(500);
        let (reason, status, retry) = setup.failure();
        assert_eq!((reason, status), (RegistrationFailure::Rejected, Some(423)), "{minimum}");
        assert!(retry.is_some());
        assert_eq!(setup.net.seen(setup.server).len(), 1, "{minimum}");
    }
}

#[test]
fn failures_are_tried_again_ever_more_slowly() {
    let mut setup = Setup::new();
    setup.registrar.borrow_mut().broken = Some((403, Vec::new()));
    setup.register();
    setup.net.run(Duration::from_secs(3600));
    let tries: Vec<_> = setup.net.seen(setup.server).into_iter().map(|(at, _)| at.as_millis()).collect();
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((30_000..=60_100).contains(&pauses[0]), "{pauses:?}");
    assert!((60_000..=120_100).contains(&pauses[1]), "{pauses:?}");
    assert!((120_000..=240_100).contains(&pauses[2]), "{pauses:?}");
    assert!(pauses[3..].iter().all(|pause| (150_000..=300_100).contains(pause)), "{pauses:?}");
    assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]), "all clients at once: {pauses:?}");
    let (reason, status, retry) = setup.failure();
    assert_eq!((reason, status), (RegistrationFailure::Rejected, Some(403)));
    setup.registrar.borrow_mut().broken = None;
    setup.net.run(retry.unwrap() - setup.net.elapsed() + Duration::from_millis(100));
    assert!(matches!(setup.states().last(), Some(RegistrationState::Registered { .. })));
}

#[test]
fn a_named_retry_time_is_kept() {
    let mut setup = Setup::new();
    let after = ("Retry-After", "120 (I'm busy);duration=3600".to_owned());
    setup.registrar.borrow_mut().broken = Some((503, vec![after]));
    setup.register();
    setup.net.run_ms(100);
    let (reason, status, retry) = setup.failure();
    assert_eq!((reason, status), (RegistrationFailure::Rejected, Some(503)));
    assert!((120..=123).contains(&retry.unwrap().as_secs()), "{retry:?}");
}

#[test]
fn a_silent_registrar_and_an_unknown_name_are_tried_again() {
    let mut setup = Setup::new();
    setup.net.link.loss = 1000;
    setup.register();
    setup.net.run(Duration::from_secs(33));
    let (reason, status, retry) = setup.failure();
    assert_eq!((reason, status), (RegistrationFailure::Timeout, None));
    assert!(retry.unwrap() > setup.net.elapsed());
    setup.net.link.loss = 0;
    setup.net.run(Duration::from_secs(60));
    assert!(matches!(setup.states().last(), Some(RegistrationState::Registered { .. })));

    let mut setup = Setup::with(subscriber("<sip:a@192.0.2.1>", "sip:[2001:db8::1]", "a", "b"));
    setup.register();
    assert_eq!(setup.failure().0, RegistrationFailure::Unreachable(TransportError::NoRoute));

    let mut setup = Setup::with(subscriber("<sip:a@nowhere.example>", "sip:nowhere.example", "a", "b"));
    setup.register();
    assert_eq!(setup.failure().0, RegistrationFailure::Unresolvable);
    setup.net.name("nowhere.example", &["192.0.2.100:5060"]);
    setup.registrar.borrow_mut().user = "a".to_owned();
    setup.registrar.borrow_mut().password = "b".to_owned();
    setup.net.run(Duration::from_secs(61));
    assert!(matches!(setup.states().last(), Some(RegistrationState::Registered { .. })));
}

#[test]
fn another_address_is_tried_when_the_first_is_dead() {
    let mut setup = Setup::new();
    setup.net.closed("192.0.2.99:5060");
    setup.net.name("example.org", &["192.0.2.99:5060", "192.0.2.100:5060"]);
    setup.register();
    setup.net.run_ms(200);
    assert!(matches!(setup.states().last(), Some(RegistrationState::Registered { .. })));

    let mut setup = Setup::new();
    setup.net.closed("192.0.2.99:5060");
    setup.net.name("example.org", &["192.0.2.99:5060"]);
    setup.register();
    setup.net.run_ms(200);
    assert_eq!(setup.failure().0, RegistrationFailure::Unreachable(TransportError::Refused));
}

#[test]
fn unregistering_removes_the_binding_for_good() {
    let mut setup = Setup::new().registered();
    let id = setup.id;
    setup.net.with(setup.alice, |endpoint, now| endpoint.unregister(now, id)).unwrap();
    assert!(!setup.net.with(setup.alice, |endpoint, _| endpoint.is_idle()));
    setup.net.run(Duration::from_secs(7200));
    assert_eq!(setup.states(), [RegistrationState::Unregistered]);
    let seen = setup.net.seen(setup.server);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].1.headers.get("Expires"), Some("0"));
    assert!(setup.registrar.borrow().bindings.is_empty());
    assert!(setup.net.with(setup.alice, |endpoint, _| endpoint.is_idle()));
}

#[test]
fn unregistering_while_registering_waits_for_the_answer() {
    let mut setup = Setup::new();
    setup.register();
    setup.net.run_ms(15);
    let id = setup.id;
    setup.net.with(setup.alice, |endpoint, now| endpoint.unregister(now, id)).unwrap();
    setup.net.run(Duration::from_secs(60));
    assert_eq!(setup.states(), [RegistrationState::Registering, RegistrationState::Unregistered]);
    assert!(setup.registrar.borrow().bindings.is_empty());
    let seen = setup.net.seen(setup.server);
    assert_eq!(seen.last().unwrap().1.headers.get("Expires"), Some("0"));
}

#[test]
fn a_removed_identity_takes_its_binding_along_and_is_unknown_at_once() {
    let mut setup = Setup::new().registered();
    let id = setup.id;
    setup.net.with(setup.alice, |endpoint, now| endpoint.remove_identity(now, id));
    let error = setup.net.with(setup.alice, |endpoint, now| endpoint.register(now, id));
    assert_eq!(error, Err(SessionError::NoSuchIdentity));
    setup.net.run(Duration::from_secs(7200));
    assert!(setup.states().is_empty());
    assert!(setup.registrar.borrow().bindings.is_empty());
    assert_eq!(setup.net.seen(setup.server).len(), 1);
}

#[test]
fn an_identity_without_registrar_cannot_register() {
    let mut pair = Pair::new();
    let id = pair.alice_id;
    let result = pair.net.with(pair.alice, |endpoint, now| endpoint.register(now, id));
    assert_eq!(result, Err(SessionError::WrongState));
}
