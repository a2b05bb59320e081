//! What registrars add to RFC 3261: redirections, Service-Route (3608), Path (3327), GRUU (5627), push (8599),
//! refused extensions, and several bindings and accounts side by side.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::endpoint::{
    Binding, Event, Identity, IdentityId, Push, RegistrationFailure, RegistrationState, SessionId, Transport,
};
use voipd_sip::message::{Method, Request, Response};
use voipd_sip::uri::Uri;

const INSTANCE: &str = "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

type Script = Box<dyn FnMut(&Request) -> Response>;

/// One endpoint and a registrar that answers by a script.
struct Setup {
    net: Net,
    alice: HostId,
    server: HostId,
    script: Rc<RefCell<Script>>,
    id: IdentityId,
}

/// 200 with the request's own Contact and these fields.
fn ok(request: &Request, fields: &[(&str, &str)]) -> Response {
    let mut response = answer(request, 200, "registrar");
    for contact in request.headers.get_all("Contact") {
        response.headers.push("Contact", contact);
    }
    fields.iter().for_each(|(name, value)| response.headers.push(name, *value));
    response
}

fn with_fields(request: &Request, code: u16, fields: &[(&str, &str)]) -> Response {
    let mut response = answer(request, code, "registrar");
    fields.iter().for_each(|(name, value)| response.headers.push(name, *value));
    response
}

impl Setup {
    fn new(change: impl FnOnce(&mut Identity), script: impl FnMut(&Request) -> Response + 'static) -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let script: Rc<RefCell<Script>> = Rc::new(RefCell::new(Box::new(script)));
        let server = serve(&mut net, "192.0.2.100:5060", &script);
        net.name("example.org", &["192.0.2.100:5060"]);
        let mut identity = subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret");
        change(&mut identity);
        let id = net.with(alice, |endpoint, _| endpoint.add_identity(identity));
        Self { net, alice, server, script, id }
    }

    fn set(&mut self, script: impl FnMut(&Request) -> Response + 'static) {
        *self.script.borrow_mut() = Box::new(script);
    }

    fn register(&mut self) -> Vec<Request> {
        let id = self.id;
        self.net.with(self.alice, |endpoint, now| endpoint.register(now, id)).unwrap();
        self.net.run_ms(1000);
        self.seen(self.server)
    }

    fn seen(&mut self, host: HostId) -> Vec<Request> {
        self.net.seen(host).into_iter().map(|(_, request)| request).collect()
    }

    /// The last state, and what was told of bindings.
    fn result(&mut self) -> (RegistrationState, Vec<Binding>) {
        let (mut state, mut bindings) = (RegistrationState::Unregistered, Vec::new());
        for event in self.net.events(self.alice) {
            match event {
                Event::Registration { identity, state: new } if identity == self.id => state = new,
                Event::Bound { identity, binding } if identity == self.id => bindings.push(*binding),
                _ => {}
            }
        }
        (state, bindings)
    }

    fn state(&mut self) -> RegistrationState {
        self.result().0
    }

    fn status(&mut self) -> (RegistrationFailure, Option<u16>) {
        match self.state() {
            RegistrationState::Failed { reason, status, .. } => (reason, status),
            other => panic!("{other:?}"),
        }
    }

    fn invite(&mut self, target: &str) -> SessionId {
        let (id, target) = (self.id, target.parse().unwrap());
        let session = self
            .net
            .with(self.alice, |e, now| {
                e.invite(now, id, target, voipd_sip::endpoint::InviteOptions::default())
            })
            .unwrap();
        self.net.with(self.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        self.net.run_ms(100);
        session
    }
}

fn serve(net: &mut Net, address: &str, script: &Rc<RefCell<Script>>) -> HostId {
    let script = Rc::clone(script);
    net.server(address, move |_, request: &Request| match request.method {
        Method::Ack => Vec::new(),
        _ => vec![script.borrow_mut()(request)],
    })
}

fn registered(expires: u32) -> RegistrationState {
    RegistrationState::Registered { expires }
}

fn contact(request: &Request) -> String {
    request.headers.get("Contact").unwrap().to_owned()
}

fn user_of(contact: &str) -> String {
    contact.trim_start_matches("<sip:").split('@').next().unwrap().to_owned()
}

// Several bindings, several accounts.

#[test]
fn the_time_of_another_device_s_binding_is_not_ours() {
    let mut setup = Setup::new(
        |_| {},
        |request| {
            let mut response = answer(request, 200, "registrar");
            let own = contact(request).replace("expires=3600", "expires=77");
            let list = format!("<sip:desk@198.51.100.1>;expires=9, {own}, <sip:cell@198.51.100.2>;expires=8");
            response.headers.push("Contact", list);
            response.headers.push("Expires", "5");
            response
        },
    );
    setup.register();
    assert_eq!(setup.state(), registered(77));
}

#[test]
fn the_time_of_a_binding_that_was_left_behind_elsewhere_is_not_that_of_the_new_one() {
    let mut setup = Setup::new(
        |_| {},
        |request| {
            let mut response = answer(request, 200, "registrar");
            let own = contact(request).replace("expires=3600", "expires=77");
            let left = format!("<sip:{}@198.51.100.1:1024>;expires=3000", user_of(&own));
            response.headers.push("Contact", format!("{left}, {own}"));
            response
        },
    );
    setup.register();
    assert_eq!(setup.state(), registered(77));
}

#[test]
fn a_binding_that_the_registrar_has_rewritten_is_known_by_being_alone() {
    let rewritten = |contacts: &'static str| {
        Setup::new(
            |_| {},
            move |request| with_fields(request, 200, &[("Contact", contacts), ("Expires", "300")]),
        )
    };
    let mut alone = rewritten("<sip:ab12@203.0.113.1:5080>;expires=120");
    alone.register();
    assert_eq!(alone.state(), registered(120));
    let mut several = rewritten("<sip:ab12@203.0.113.1>;expires=120, <sip:ab13@203.0.113.1>;expires=60");
    several.register();
    assert_eq!(several.state(), registered(300), "nobody knows which of them is ours");
}

#[test]
fn two_accounts_at_one_registrar_have_bindings_calls_and_credentials_of_their_own() {
    let mut net = Net::new();
    let phone = net.agent("192.0.2.1:5060");
    let registrar = Registrar::new();
    let server = net.server("192.0.2.100:5060", Registrar::serve(&registrar));
    net.name("example.org", &["192.0.2.100:5060"]);
    // The same address of record twice: two lines of one telephone.
    let identity = || subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret");
    let ids = [0, 1].map(|_| net.with(phone, |endpoint, _| endpoint.add_identity(identity())));
    for id in ids {
        net.with(phone, |endpoint, now| endpoint.register(now, id)).unwrap();
    }
    net.run_ms(500);
    let states = net.events(phone).into_iter().filter_map(|event| match event {
        Event::Registration { identity, state: RegistrationState::Registered { expires } } => {
            Some((identity, expires))
        }
        _ => None,
    });
    assert_eq!(states.collect::<Vec<_>>(), ids.map(|id| (id, 3600)));
    let bindings: Vec<String> = registrar.borrow().bindings.keys().cloned().collect();
    assert_eq!(bindings.len(), 2);
    let call_ids: std::collections::BTreeSet<_> =
        net.seen(server).into_iter().map(|(_, request)| request.call_id).collect();
    assert_eq!(call_ids.len(), 2, "each registration is a series of its own");

    // A call to either binding is for its account.
    let proxy = server;
    for (number, binding) in bindings.iter().enumerate() {
        let text = format!(
            "INVITE {binding} SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.100:5060;branch=z9hG4bK{number}\n\
             From: <sip:bob@example.org>;tag=b\nTo: <sip:alice@example.org>\nCall-ID: c{number}\nCSeq: 1 INVITE\n\
             Contact: <sip:bob@192.0.2.100>\nMax-Forwards: 9\nContent-Length: 0\n\n"
        );
        net.say(proxy, phone, &text);
    }
    net.run_ms(50);
    let called = net.events(phone).into_iter().filter_map(|event| match event {
        Event::Incoming(incoming) => Some(incoming.identity.unwrap()),
        _ => None,
    });
    let called: std::collections::BTreeSet<_> = called.collect();
    assert_eq!(called, ids.into(), "one call for each");

    // One goes, the other stays.
    net.with(phone, |endpoint, now| endpoint.unregister(now, ids[0])).unwrap();
    net.run_ms(200);
    assert_eq!(registrar.borrow().bindings.len(), 1);
}

// Redirections.

#[test]
fn a_redirected_registration_is_made_at_the_other_registrar() {
    for code in [300, 301, 302] {
        let mut setup = Setup::new(
            |_| {},
            move |request| {
                let contacts = "<sip:worse.example.org>;q=0.1, <sip:better.example.org:5070>;q=0.9";
                with_fields(request, code, &[("Contact", contacts)])
            },
        );
        let registrar = Registrar::new();
        let other = setup.net.server("192.0.2.101:5070", Registrar::serve(&registrar));
        setup.net.name("better.example.org", &["192.0.2.101:5070"]);
        assert_eq!(setup.register().len(), 1);
        assert_eq!(setup.state(), registered(3600), "{code}");
        let seen = setup.seen(other);
        assert_eq!(seen.len(), 2, "the challenge of the registrar that ours has named is answered");
        assert_eq!(seen[1].uri.to_string(), "sip:better.example.org:5070");
        assert_eq!(seen[1].to.uri.to_string(), "sip:alice@example.org");
        // It is refreshed there.
        setup.net.run(Duration::from_secs(3600));
        assert_eq!(setup.seen(other).len(), 1);
        assert!(setup.seen(setup.server).is_empty());
    }
}

#[test]
fn a_registration_that_was_redirected_over_tls_goes_on_over_nothing_else() {
    for (code, place, followed) in [
        (302, Transport::Udp, false),
        (302, Transport::Tcp, false),
        (302, Transport::Tls, true),
        (305, Transport::Udp, false),
        (305, Transport::Tls, true),
    ] {
        let mut setup = Setup::new(
            |_| {},
            move |request| with_fields(request, code, &[("Contact", "<sip:other.example.org>")]),
        );
        let other = Rc::new(RefCell::new(Box::new(|request: &Request| ok(request, &[])) as Script));
        let other = serve(&mut setup.net, "192.0.2.101:5061", &other);
        // The URIs do not say how they are reached: DNS does.
        setup.net.name_on("example.org", &[(Transport::Tls, "192.0.2.100:5060")]);
        setup.net.name_on("other.example.org", &[(place, "192.0.2.101:5061")]);
        assert_eq!(setup.register().len(), 1, "{code} {place:?}");
        assert_eq!(!setup.seen(other).is_empty(), followed, "{code} {place:?}");
        match followed {
            true => assert_eq!(setup.state(), registered(3600), "{code}"),
            false => assert_eq!(setup.status(), (RegistrationFailure::Rejected, None), "{code} {place:?}"),
        }
    }
}

#[test]
fn a_q_value_that_makes_no_sense_is_none() {
    let contacts = "<sip:worse.example.org>;q=0.9, <sip:192.0.2.101>;q=-1e30";
    let mut setup = Setup::new(|_| {}, move |request| with_fields(request, 302, &[("Contact", contacts)]));
    let other = Rc::new(RefCell::new(Box::new(|request: &Request| ok(request, &[])) as Script));
    let other = serve(&mut setup.net, "192.0.2.101:5060", &other);
    setup.register();
    assert_eq!(setup.state(), registered(3600));
    assert_eq!(setup.seen(other)[0].uri.to_string(), "sip:192.0.2.101");
}

#[test]
fn use_proxy_sends_the_same_request_by_that_proxy() {
    let mut setup =
        Setup::new(|_| {}, |request| with_fields(request, 305, &[("Contact", "<sip:192.0.2.101>")]));
    let proxy = Rc::new(RefCell::new(Box::new(|request: &Request| ok(request, &[])) as Script));
    let proxy = serve(&mut setup.net, "192.0.2.101:5060", &proxy);
    setup.register();
    assert_eq!(setup.state(), registered(3600));
    let seen = setup.seen(proxy);
    assert_eq!(seen[0].uri.to_string(), "sip:example.org");
    assert_eq!(seen[0].headers.get("Route"), Some("<sip:192.0.2.101;lr>"));
}

#[test]
fn redirections_in_a_circle_and_to_nowhere_end() {
    let mut setup =
        Setup::new(|_| {}, |request| with_fields(request, 302, &[("Contact", "<sip:192.0.2.100>")]));
    assert_eq!(setup.register().len(), 4, "three redirections are followed");
    assert_eq!(setup.status(), (RegistrationFailure::Rejected, Some(302)));
    // The next try begins at home.
    setup.set(|request| ok(request, &[]));
    assert_eq!(setup.register()[0].uri.to_string(), "sip:example.org");
    assert_eq!(setup.state(), registered(3600));

    for nowhere in ["*", "<tel:+15551234>", ""] {
        let mut setup = Setup::new(|_| {}, move |request| with_fields(request, 301, &[("Contact", nowhere)]));
        assert_eq!(setup.register().len(), 1, "{nowhere}");
        assert_eq!(setup.status(), (RegistrationFailure::Rejected, Some(301)), "{nowhere}");
    }
}

// Extensions that are refused.

fn everything(identity: &mut Identity) {
    identity.instance = Some(INSTANCE.to_owned());
    identity.gruu = true;
    identity.push =
        Some(Push { provider: "fcm".to_owned(), prid: "a:b/c=".to_owned(), param: Some("p 1".to_owned()) });
}

#[test]
fn a_registrar_that_stumbles_over_extensions_is_asked_without_them() {
    for code in [420, 439] {
        let mut setup = Setup::new(everything, move |request| match request.headers.get("Supported") {
            Some(_) => with_fields(request, code, &[("Unsupported", "gruu, path")]),
            None => ok(request, &[]),
        });
        let seen = setup.register();
        assert_eq!(setup.state(), registered(3600), "{code}");
        assert_eq!(seen.len(), 2);
        let plain = contact(&seen[1]);
        assert!(!plain.contains("pn-") && !plain.contains("sip.instance"), "{plain}");
        assert_eq!(user_of(&plain), user_of(&contact(&seen[0])), "the same binding");
        // A refresh knows it already; a registration that is asked for tries again.
        setup.net.run(Duration::from_secs(3500));
        assert_eq!(setup.seen(setup.server).len(), 1);
        let mut never = Setup::new(everything, move |request| with_fields(request, code, &[]));
        assert_eq!(never.register().len(), 2);
        assert_eq!(never.status(), (RegistrationFailure::Rejected, Some(code)));
    }
}

#[test]
fn a_registrar_without_push_notifications_is_asked_without_them() {
    let mut setup = Setup::new(everything, |request| match contact(request).contains("pn-provider") {
        true => with_fields(request, 555, &[]),
        false => ok(request, &[]),
    });
    let seen = setup.register();
    assert_eq!((setup.state(), seen.len()), (registered(3600), 2));
    assert!(contact(&seen[1]).contains("sip.instance"), "only the push parameters are left out");
}

#[test]
fn an_extension_that_we_do_not_have_is_a_failure() {
    let mut setup = Setup::new(|_| {}, |request| with_fields(request, 421, &[("Require", "sec-agree")]));
    assert_eq!(setup.register().len(), 1);
    assert_eq!(setup.status(), (RegistrationFailure::Rejected, Some(421)));
}

#[test]
fn a_busy_registrar_names_the_time_and_the_next_address_is_tried_first() {
    let mut setup = Setup::new(|_| {}, |request| with_fields(request, 503, &[("Retry-After", "600")]));
    let other = Rc::new(RefCell::new(Box::new(|request: &Request| ok(request, &[])) as Script));
    serve(&mut setup.net, "192.0.2.101:5060", &other);
    setup.net.name("example.org", &["192.0.2.100:5060", "192.0.2.101:5060"]);
    setup.register();
    assert_eq!(setup.state(), registered(3600));
    // Both busy: not before the named time.
    *other.borrow_mut() = Box::new(|request| with_fields(request, 503, &[("Retry-After", "600")]));
    setup.register();
    let at = setup.net.elapsed();
    let RegistrationState::Failed { retry: Some(retry), .. } = setup.state() else { panic!() };
    assert!(retry - setup.net.start >= at + Duration::from_secs(598), "{:?}", retry - setup.net.start);
}

// Routes.

#[test]
fn requests_go_by_the_service_route_and_registrations_do_not() {
    let route = [
        ("Service-Route", "<sip:192.0.2.110;lr>, <sip:home@core.example.org;lr;x=1>"),
        ("Path", "<sip:p;lr>"),
    ];
    let mut setup = Setup::new(|_| {}, move |request| ok(request, &route));
    let edge = Rc::new(RefCell::new(Box::new(|request: &Request| answer(request, 404, "e")) as Script));
    let edge = serve(&mut setup.net, "192.0.2.110:5060", &edge);
    let first = setup.register();
    assert!(first[0].headers.tokens("Supported").contains(&"path"), "RFC 3327 section 5.1");
    let (state, bindings) = setup.result();
    assert_eq!(state, registered(3600));
    let told: Vec<String> = bindings[0].service_route.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["sip:192.0.2.110;lr", "sip:home@core.example.org;lr;x=1"]);

    // Also to other domains: the home network decides.
    for target in ["sip:bob@example.org", "sip:carol@203.0.113.7"] {
        setup.invite(target);
        let seen = setup.seen(edge);
        let routes: Vec<_> = seen[0].headers.get_all("Route").collect();
        assert_eq!(routes, ["<sip:192.0.2.110;lr>", "<sip:home@core.example.org;lr;x=1>"]);
        assert_eq!(seen[0].uri.to_string(), target);
    }
    let refresh = setup.register();
    assert_eq!(refresh[0].headers.get("Route"), None, "RFC 3608 section 6.1");

    // The last 200 holds: without a route, there is none.
    setup.set(|request| match request.method {
        Method::Register => ok(request, &[]),
        _ => answer(request, 404, "z"),
    });
    setup.register();
    setup.invite("sip:bob@example.org");
    assert!(setup.seen(edge).is_empty());
    let invites = setup.seen(setup.server);
    assert_eq!(invites[0].headers.get("Route"), None);
}

#[test]
fn the_outbound_proxy_comes_before_the_service_route_and_not_twice() {
    let proxied = |identity: &mut Identity| {
        identity.outbound_proxies = vec!["sip:192.0.2.100;lr".parse().unwrap()];
    };
    let routes_of = |route: &'static str| {
        let mut setup = Setup::new(proxied, move |request| match request.method {
            Method::Register => ok(request, &[("Service-Route", route)]),
            _ => answer(request, 404, "z"),
        });
        let register = setup.register();
        assert_eq!(register[0].headers.get("Route"), Some("<sip:192.0.2.100;lr>"));
        setup.invite("sip:bob@example.org");
        let invite = setup.seen(setup.server).remove(0);
        invite.headers.get_all("Route").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(routes_of("<sip:core.example.org;lr>"), ["<sip:192.0.2.100;lr>", "<sip:core.example.org;lr>"]);
    assert_eq!(
        routes_of("<sip:192.0.2.100;lr>, <sip:core.example.org;lr>"),
        ["<sip:192.0.2.100;lr>", "<sip:core.example.org;lr>"]
    );
    // What is no route is none at all.
    for bad in ["<sip:core.example.org>", "<tel:123>", "<sip:a;lr>, nonsense", ""] {
        assert_eq!(routes_of(bad), ["<sip:192.0.2.100;lr>"], "{bad}");
    }
}

#[test]
fn credentials_go_along_the_service_route() {
    let route = ("Service-Route", "<sip:192.0.2.110;lr>");
    let mut setup = Setup::new(|_| {}, move |request| ok(request, &[route]));
    let challenge = ("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"");
    let edge = Rc::new(RefCell::new(Box::new(move |request: &Request| {
        match request.headers.get("Proxy-Authorization") {
            None => with_fields(request, 407, &[challenge]),
            Some(_) => answer(request, 404, "e"),
        }
    }) as Script));
    let edge = serve(&mut setup.net, "192.0.2.110:5060", &edge);
    setup.register();
    let session = setup.invite("sip:bob@example.org");
    assert_eq!(end_of(&setup.net.events(setup.alice), session).status, Some(404));
    assert!(setup.seen(edge).iter().any(|request| request.headers.get("Proxy-Authorization").is_some()));
}

// GRUU, P-Associated-URI.

/// A registrar that makes GRUUs of what it is told (RFC 5627 section 5.2).
fn with_gruu(request: &Request) -> Response {
    if request.method != Method::Register {
        return with_sdp(with_contact(answer(request, 200, "bob"), "<sip:bob@192.0.2.100>"), ANSWER);
    }
    let mut response = answer(request, 200, "registrar");
    let gruu = format!(
        "{};pub-gruu=\"sip:alice@example.org;gr={INSTANCE}\";temp-gruu=\"sip:tgruu.7hs==jd7v@example.org;gr\"",
        contact(request)
    );
    response.headers.push("Contact", "<sip:other@198.51.100.1>;pub-gruu=\"sip:alice@example.org;gr=other\"");
    response.headers.push("Contact", gruu);
    response
        .headers
        .push("P-Associated-URI", "\"Alice\" <sip:+15551234@example.org;user=phone>, <tel:+15551234>");
    response
}

#[test]
fn a_gruu_is_the_contact_of_dialogs_and_never_of_the_registration() {
    let mut setup = Setup::new(everything, with_gruu);
    let seen = setup.register();
    assert!(contact(&seen[0]).contains(&format!("+sip.instance=\"<{INSTANCE}>\"")), "{}", contact(&seen[0]));
    assert_eq!(seen[0].headers.tokens("Supported"), ["path", "outbound", "gruu"]);
    let (state, bindings) = setup.result();
    assert_eq!(state, registered(3600));
    let gruu = format!("sip:alice@example.org;gr={INSTANCE}");
    assert_eq!(bindings[0].public_gruu.as_ref().unwrap().to_string(), gruu);
    assert_eq!(
        bindings[0].temporary_gruu.as_ref().unwrap().to_string(),
        "sip:tgruu.7hs==jd7v@example.org;gr"
    );
    let associated: Vec<_> = bindings[0].associated.iter().map(|address| address.uri.to_string()).collect();
    assert_eq!(associated, ["sip:+15551234@example.org;user=phone", "tel:+15551234"]);

    let session = setup.invite("sip:bob@example.org");
    setup.net.with(setup.alice, |e, now| e.offer(now, session, OFFER.to_vec())).unwrap();
    setup.net.run_ms(100);
    let invites: Vec<_> =
        setup.seen(setup.server).into_iter().filter(|request| request.method == Method::Invite).collect();
    assert_eq!(invites.len(), 2);
    assert!(invites.iter().all(|invite| contact(invite) == format!("<{gruu}>")), "{invites:?}");

    // A refresh names the address itself, and says nothing new.
    let refresh = setup.register();
    assert!(contact(&refresh[0]).contains("@192.0.2.1:5060"), "{}", contact(&refresh[0]));
    assert!(setup.result().1.is_empty());
    // Who is called past the server gets an address that leads here without it.
    let stranger = setup.net.raw("203.0.113.7:5060");
    setup.invite("sip:carol@203.0.113.7");
    assert!(contact(&setup.net.requests(stranger)[0]).contains("@192.0.2.1:5060"));
    // With the binding, the GRUU is gone.
    let id = setup.id;
    setup.net.with(setup.alice, |e, now| e.unregister(now, id)).unwrap();
    setup.net.run_ms(100);
    assert_eq!(setup.result().1, [Binding::default()]);
}

#[test]
fn a_call_to_a_gruu_is_the_account_s_when_its_server_sends_it() {
    let mut setup = Setup::new(everything, with_gruu);
    setup.register();
    setup.result();
    let invite = |uri: &str, number: u32| {
        format!(
            "INVITE {uri} SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.100:5060;branch=z9hG4bK{number}\n\
             From: <sip:bob@example.org>;tag=b\nTo: <sip:alice@example.org>\nCall-ID: c{number}\nCSeq: 1 INVITE\n\
             Contact: <sip:bob@192.0.2.100>\nMax-Forwards: 9\nContent-Length: 0\n\n"
        )
    };
    let uris = [
        format!("sip:alice@example.org;gr={INSTANCE}"),
        "sip:tgruu.7hs==jd7v@EXAMPLE.org;gr".to_owned(),
        "sip:alice@example.org;gr=another".to_owned(),
        "sip:alice@example.org".to_owned(),
    ];
    for (number, uri) in (0..).zip(&uris) {
        setup.net.say(setup.server, setup.alice, &invite(uri, number));
        setup.net.run_ms(50);
    }
    let identities: Vec<_> = setup
        .net
        .events(setup.alice)
        .into_iter()
        .filter_map(|event| match event {
            Event::Incoming(incoming) => Some(incoming.identity.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(identities, [true, true, false, false]);
}

#[test]
fn an_anonymous_call_s_contact_is_the_temporary_gruu_or_no_gruu() {
    for (with_temporary, expected) in [(true, "gr"), (false, "@192.0.2.1:5060")] {
        let mut setup = Setup::new(everything, move |request| {
            let mut response = answer(request, 200, "registrar");
            let temporary = ";temp-gruu=\"sip:tgruu.7hs==@example.org;gr\"";
            let temporary = if with_temporary { temporary } else { "" };
            let public = ";pub-gruu=\"sip:alice@example.org;gr=x\"";
            response.headers.push("Contact", format!("{}{public}{temporary}", contact(request)));
            response
        });
        setup.register();
        let (id, target) = (setup.id, "sip:bob@example.org".parse().unwrap());
        let options = voipd_sip::endpoint::InviteOptions { anonymous: true, follow: false };
        let session = setup.net.with(setup.alice, |e, now| e.invite(now, id, target, options)).unwrap();
        setup.net.with(setup.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        setup.net.run_ms(100);
        let seen = setup.seen(setup.server);
        let invite = seen.iter().find(|request| request.method == Method::Invite).unwrap();
        let told = contact(invite);
        assert!(told.contains(expected) && !told.contains("alice"), "{told}");
    }
}

#[test]
fn nonsense_in_place_of_a_gruu_is_none() {
    for nonsense in ["sip:alice@example.org", "tel:+1;gr", "", "sip:a@b;gr?Route=c", "\\\""] {
        let mut setup = Setup::new(everything, move |request| {
            let mut response = answer(request, 200, "registrar");
            response.headers.push("Contact", format!("{};pub-gruu=\"{nonsense}\"", contact(request)));
            response
        });
        setup.register();
        assert_eq!(setup.result(), (registered(3600), vec![]), "{nonsense}");
    }
    // Nor is one that was not asked for.
    let mut setup = Setup::new(|identity| identity.instance = Some(INSTANCE.to_owned()), with_gruu);
    let seen = setup.register();
    assert_eq!(seen[0].headers.tokens("Supported"), ["path", "outbound"]);
    assert_eq!(setup.result().1[0].public_gruu, None);
}

// Push.

#[test]
fn push_parameters_stand_in_the_uri_and_the_server_s_service_is_told() {
    let caps = [("Feature-Caps", "*;+sip.other"), ("Feature-Caps", "*;+sip.pns=\"fcm\";+sip.vapid=\"k\"")];
    let mut setup = Setup::new(everything, move |request| match request.method {
        Method::Register => ok(request, &caps),
        _ => answer(request, 404, "z"),
    });
    let seen = setup.register();
    let (state, bindings) = setup.result();
    assert_eq!((state, bindings[0].push_service.as_deref()), (registered(3600), Some("fcm")));
    let text = contact(&seen[0]);
    assert!(text.contains(":5060;pn-provider=fcm;pn-param=p%201;pn-prid=a:b/c%3D>"), "{text}");
    let Ok(Uri::Sip(uri)) = text[1..text.find('>').unwrap()].parse::<Uri>() else { panic!("{text}") };
    assert_eq!(uri.params.value("pn-prid"), Some("a:b/c%3D"));
    setup.invite("sip:bob@example.org");
    assert!(!contact(&setup.seen(setup.server)[0]).contains("pn-"), "only the registrar hears of it");
}
