//! A meeting point as proxy (RFC 3261 section 16): whose calls it routes, how, and whose it does not.

use std::time::Duration;

use crate::common::meeting::{DOMAIN, Friend};
use crate::common::{ANSWER, HostId, Net, OFFER, answer, end_of, first_line, incoming, sent, with_contact};
use voipd_sip::digest::{Covered, Exchange, Login, authorization, challenges};
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, SessionId, Transport, TransportError};
use voipd_sip::headers::name;
use voipd_sip::message::{Method, Request, Response};

const POINT: &str = "198.51.100.1:5060";
const ALICE: &str = "203.0.113.5:5060";
const BOB: &str = "203.0.113.66:5060";

struct World {
    net: Net,
    point: HostId,
    alice: Friend,
    bob: Friend,
}

impl World {
    fn by(alice: Transport, bob: Transport) -> Self {
        let mut net = Net::new();
        let point = net.meeting(POINT);
        let alice = net.friend_by(point, "alice", ALICE, alice);
        let bob = net.friend_by(point, "bob", BOB, bob);
        Self { net, point, alice, bob }
    }

    fn new() -> Self {
        Self::by(Transport::Udp, Transport::Udp)
    }

    fn dial(&mut self, target: &str) -> SessionId {
        let (target, id) = (target.parse().unwrap(), self.alice.id);
        let session = self
            .net
            .with(self.alice.host, |endpoint, now| endpoint.invite(now, id, target, InviteOptions::default()))
            .unwrap();
        self.net.events(self.alice.host);
        self.net
            .with(self.alice.host, |endpoint, now| endpoint.send_invite(now, session, OFFER.to_vec()))
            .unwrap();
        session
    }

    /// Alice's call rings at bob's: both sessions.
    fn ringing(&mut self) -> (SessionId, SessionId) {
        let caller = self.dial(&format!("sip:bob@{DOMAIN}"));
        self.net.run_ms(300);
        let callee = incoming(&self.net.events(self.bob.host));
        self.net.with(self.bob.host, |endpoint, now| endpoint.ring(now, callee, None)).unwrap();
        self.net.run_ms(300);
        let events = self.net.events(self.alice.host);
        assert!(matches!(&events[..], [Event::Progress { status, .. }] if status.get() == 180), "{events:?}");
        (caller, callee)
    }

    fn talking(&mut self) -> (SessionId, SessionId) {
        let (caller, callee) = self.ringing();
        self.net.with(self.bob.host, |endpoint, now| endpoint.accept(now, callee, ANSWER.to_vec())).unwrap();
        self.net.run_ms(300);
        let events = self.net.events(self.alice.host);
        assert!(matches!(&events[..], [Event::Answered { .. }]), "{events:?}");
        let events = self.net.events(self.bob.host);
        assert!(matches!(&events[..], [Event::Confirmed { .. }]), "{events:?}");
        (caller, callee)
    }

    /// Nothing went straight from one friend to the other.
    fn all_by_the_point(&self) -> bool {
        let [alice, bob] = [ALICE, BOB].map(|address| address.parse::<std::net::SocketAddr>().unwrap().ip());
        let straight =
            |a: std::net::IpAddr, b: std::net::IpAddr| (a, b) == (alice, bob) || (a, b) == (bob, alice);
        !self.net.capture.iter().any(|(_, from, to, _)| straight(from.ip(), to.ip()))
    }

    fn no_transaction_is_left(&mut self) {
        self.net.run(Duration::from_secs(70));
        let left = self.net.with_meeting(self.point, |point, _| point.is_idle());
        assert_eq!(left, Some(true));
    }
}

/// A telephone written by hand, joined and registered, that others can call and that calls.
struct Hand {
    host: HostId,
    name: &'static str,
    user: String,
    password: voipd_sip::digest::Secret,
    count: u32,
}

impl Hand {
    fn join(net: &mut Net, point: HostId, name: &'static str, address: &str, contact: &str) -> Self {
        let host = net.raw(address);
        let (user, password) = net.invitation(point, name).login("hand");
        let mut hand = Self { host, name, user, password, count: 0 };
        let request = hand.text("REGISTER", &format!("sip:{DOMAIN}"), name, &format!("Contact: {contact}\n"));
        let answer = hand.ask(net, point, &request);
        assert_eq!(answer.status.get(), 200, "{answer:?}");
        hand
    }

    fn text(&mut self, method: &str, uri: &str, to: &str, more: &str) -> String {
        self.count += 1;
        let (n, from) = (self.count, self.name);
        format!(
            "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;rport;branch=z9hG4bK{from}{n}\n\
             From: <sip:{from}@{DOMAIN}>;tag=f\nTo: <sip:{to}@{DOMAIN}>\nCall-ID: {from}\n\
             CSeq: {n} {method}\nMax-Forwards: 70\n{more}\n"
        )
    }

    /// Sends a request and answers the challenge; the final response.
    fn ask(&mut self, net: &mut Net, point: HostId, text: &str) -> Response {
        net.say(self.host, point, text);
        net.run_ms(100);
        let challenged = net.responses(self.host).pop().expect("a response");
        let (field, answer) = match challenged.status.get() {
            401 => (name::WWW_AUTHENTICATE, name::AUTHORIZATION),
            407 => (name::PROXY_AUTHENTICATE, name::PROXY_AUTHORIZATION),
            _ => return challenged,
        };
        let offer = challenges(&challenged.headers, field).unwrap();
        let line = text.lines().next().unwrap();
        let mut words = line.split(' ');
        let method = Method::new(words.next().unwrap()).unwrap();
        let covered = Covered { method: &method, uri: words.next().unwrap(), body: &[] };
        let exchange = Exchange { nonce_count: 1, cnonce: "c", first_nonce: "" };
        let login = Login { user: &self.user, password: &self.password };
        let value = authorization(&offer.challenges[0], login, covered, exchange);
        let again = text.replace(";branch=z9hG4bK", ";branch=z9hG4bKagain").replacen(
            "Max-Forwards",
            &format!("{answer}: {value}\nMax-Forwards"),
            1,
        );
        net.say(self.host, point, &again);
        net.run_ms(200);
        net.responses(self.host).pop().expect("a response")
    }
}

#[test]
fn friends_call_each_other_and_every_message_goes_by_the_meeting_point() {
    let transports = [Transport::Udp, Transport::Tcp];
    for (alice, bob) in transports.into_iter().flat_map(|a| transports.map(|b| (a, b))) {
        let mut world = World::by(alice, bob);
        let (caller, callee) = world.talking();
        world
            .net
            .with(world.alice.host, |endpoint, now| endpoint.offer(now, caller, OFFER.to_vec()))
            .unwrap();
        world.net.run_ms(300);
        world
            .net
            .with(world.bob.host, |endpoint, now| endpoint.answer_offer(now, callee, Ok(ANSWER.to_vec())))
            .unwrap();
        world.net.run_ms(300);
        world.net.with(world.bob.host, |endpoint, now| endpoint.hangup(now, callee)).unwrap();
        world.net.run_ms(300);
        let ended = end_of(&world.net.events(world.alice.host), caller);
        assert_eq!(ended.cause, EndCause::Remote, "{alice:?} {bob:?}");
        assert!(world.all_by_the_point(), "{alice:?} {bob:?}");
        world.no_transaction_is_left();
    }
}

#[test]
fn rfc5626_a_request_goes_over_the_flow_of_the_binding_and_not_to_its_contact() {
    let mut world = World::new();
    // What its Contact says is behind a NAT.
    let carol =
        Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:40123", "<sip:c@10.0.0.5:5060>");
    world.dial(&format!("sip:carol@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(carol.host).remove(0);
    assert_eq!(invite.uri.to_string(), "sip:c@10.0.0.5:5060");
    assert_eq!(invite.max_forwards, 69);
    assert_eq!(invite.via.len(), 2);
    let routes = invite.headers.route_set(name::RECORD_ROUTE).unwrap();
    assert_eq!(routes.len(), 1, "{routes:?}");
    assert!(invite.headers.get(name::PROXY_AUTHORIZATION).is_none(), "credentials go no further");
    let asserted = invite.headers.get(name::P_ASSERTED_IDENTITY);
    assert_eq!(asserted, Some("<sip:alice@meet.example.org>"));
}

#[test]
fn rfc5658_who_is_reached_differently_finds_his_own_way_back() {
    let mut world = World::by(Transport::Tcp, Transport::Udp);
    world.talking();
    let mut invites =
        world.net.capture.iter().filter(|(_, _, to, bytes)| {
            *to == BOB.parse().unwrap() && first_line(bytes).starts_with("INVITE")
        });
    let text = String::from_utf8_lossy(&invites.next_back().unwrap().3).into_owned();
    let routes: Vec<&str> = text.lines().filter(|line| line.starts_with("Record-Route")).collect();
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(!routes[0].contains("transport=") && routes[1].contains("transport=tcp"), "{routes:?}");
}

#[test]
fn rfc3261_16_10_who_gives_up_cancels_every_fork() {
    let mut world = World::new();
    let (caller, callee) = world.ringing();
    world.net.with(world.alice.host, |endpoint, now| endpoint.hangup(now, caller)).unwrap();
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.bob.host), callee).cause, EndCause::Cancelled);
    world.no_transaction_is_left();
}

#[test]
fn rfc3261_16_7_the_first_answer_wins_and_the_others_are_cancelled() {
    let mut world = World::new();
    let desk = Hand::join(&mut world.net, world.point, "bob", "203.0.113.9:5060", "<sip:desk@10.0.0.9>");
    let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(desk.host).remove(0);
    world.net.respond(desk.host, world.point, &answer(&invite, 180, "desk"));
    world.net.run_ms(100);
    let callee = incoming(&world.net.events(world.bob.host));
    world.net.with(world.bob.host, |endpoint, now| endpoint.accept(now, callee, ANSWER.to_vec())).unwrap();
    world.net.run_ms(300);
    let events = world.net.events(world.alice.host);
    assert!(events.iter().any(|event| matches!(event, Event::Answered { .. })), "{events:?}");
    let cancel = world.net.requests(desk.host).remove(0);
    assert_eq!(cancel.method, Method::Cancel);
    assert!(cancel.headers.get(name::REASON).unwrap().contains("cause=200"));
    assert_eq!(cancel.via[0].branch(), invite.via[0].branch());
    world.net.respond(desk.host, world.point, &answer(&cancel, 200, "desk"));
    world.net.respond(desk.host, world.point, &answer(&invite, 487, "desk"));
    world.net.run_ms(300);
    assert_eq!(world.net.requests(desk.host).remove(0).method, Method::Ack);
    world.net.with(world.alice.host, |endpoint, now| endpoint.hangup(now, caller)).unwrap();
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.bob.host), callee).cause, EndCause::Remote);
    world.no_transaction_is_left();
}

#[test]
fn a_device_that_rings_after_another_has_answered_hears_why_it_is_cancelled() {
    let mut world = World::new();
    let desk = Hand::join(&mut world.net, world.point, "bob", "203.0.113.9:5060", "<sip:desk@10.0.0.9>");
    world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(desk.host).remove(0);
    let callee = incoming(&world.net.events(world.bob.host));
    world.net.with(world.bob.host, |endpoint, now| endpoint.accept(now, callee, ANSWER.to_vec())).unwrap();
    world.net.run_ms(300);
    let early = world.net.requests(desk.host);
    assert!(early.iter().all(|request| request.method == Method::Invite), "{early:?}");
    world.net.respond(desk.host, world.point, &answer(&invite, 180, "desk"));
    world.net.run_ms(100);
    let cancel = world.net.requests(desk.host).remove(0);
    assert_eq!(cancel.method, Method::Cancel);
    assert!(cancel.headers.get(name::REASON).is_some_and(|why| why.contains("cause=200")), "{cancel:?}");
}

#[test]
fn rfc3261_16_7_5_a_6xx_ends_the_search() {
    let mut world = World::new();
    let desk = Hand::join(&mut world.net, world.point, "bob", "203.0.113.9:5060", "<sip:desk@10.0.0.9>");
    let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    let callee = incoming(&world.net.events(world.bob.host));
    world.net.with(world.bob.host, |endpoint, now| endpoint.ring(now, callee, None)).unwrap();
    world.net.run_ms(100);
    let invite = world.net.requests(desk.host).remove(0);
    world.net.respond(desk.host, world.point, &answer(&invite, 603, "desk"));
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.bob.host), callee).cause, EndCause::Cancelled);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(603));
    world.no_transaction_is_left();
}

#[test]
fn rfc3261_16_7_6_the_caller_hears_the_best_of_all_refusals() {
    let mut world = World::new();
    let desk = Hand::join(&mut world.net, world.point, "bob", "203.0.113.9:5060", "<sip:desk@10.0.0.9>");
    let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(desk.host).remove(0);
    world.net.respond(desk.host, world.point, &answer(&invite, 500, "desk"));
    world.net.run_ms(300);
    assert!(world.net.events(world.alice.host).is_empty(), "the other still rings");
    let callee = incoming(&world.net.events(world.bob.host));
    let busy = crate::common::status(486);
    world.net.with(world.bob.host, |endpoint, now| endpoint.reject(now, callee, busy, None)).unwrap();
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(486));
    world.no_transaction_is_left();
}

#[test]
fn rfc3261_16_7_a_503_of_a_friend_is_not_ours() {
    let mut world = World::new();
    let carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let caller = world.dial(&format!("sip:carol@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(carol.host).remove(0);
    world.net.respond(carol.host, world.point, &answer(&invite, 503, "c"));
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(500));
}

#[test]
fn rfc3261_16_7_3_an_answer_that_does_not_say_for_whom_it_is_becomes_500() {
    for status in [200, 486] {
        let mut world = World::new();
        let carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
        let caller = world.dial(&format!("sip:carol@{DOMAIN}"));
        world.net.run_ms(300);
        let invite = world.net.requests(carol.host).remove(0);
        let mut bare = answer(&invite, status, "c");
        bare.via.truncate(1);
        world.net.respond(carol.host, world.point, &bare);
        world.net.run_ms(300);
        assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(500), "{status}");
        world.no_transaction_is_left();
    }
}

#[test]
fn rfc3261_16_8_an_invite_that_rings_for_ever_is_cancelled_by_timer_c() {
    let mut world = World::new();
    let carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let caller = world.dial(&format!("sip:carol@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(carol.host).remove(0);
    world.net.respond(carol.host, world.point, &answer(&invite, 180, "c"));
    world.net.run(Duration::from_secs(199));
    assert!(world.net.requests(carol.host).is_empty());
    world.net.run(Duration::from_secs(2));
    assert_eq!(world.net.requests(carol.host).remove(0).method, Method::Cancel);
    // And where CANCEL has no effect either, after 64*T1 (section 9.1).
    world.net.run(Duration::from_secs(33));
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(408));
    world.no_transaction_is_left();
}

#[test]
fn a_friend_that_does_not_answer_at_all_is_408_after_32_s() {
    let mut world = World::new();
    let carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let caller = world.dial(&format!("sip:carol@{DOMAIN}"));
    world.net.run(Duration::from_secs(33));
    assert!(world.net.requests(carol.host).len() > 5, "as a datagram, it is repeated");
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(408));
    world.no_transaction_is_left();
}

#[test]
fn a_friend_who_is_not_there_is_480() {
    let mut world = World::new();
    world.net.with(world.bob.host, |endpoint, now| endpoint.unregister(now, world.bob.id)).unwrap();
    world.net.run_ms(300);
    let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(480));
}

#[test]
fn a_device_that_has_unregistered_is_not_there_any_more() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut net = Net::new();
        let point = net.meeting(POINT);
        let bob = net.device_by(point, "bob", BOB, transport);
        let there = |net: &mut Net| {
            let members = net.with_meeting(point, |point, now| point.members(now)).unwrap();
            members[0].addresses.len()
        };
        assert_eq!(there(&mut net), 1, "{transport:?}");
        net.with(bob.host, |endpoint, now| endpoint.unregister(now, bob.id)).unwrap();
        net.run_ms(300);
        assert_eq!(there(&mut net), 0, "{transport:?}");
    }
}

#[test]
fn a_friend_whose_machine_has_gone_is_480_at_once() {
    let mut world = World::new();
    world.net.forget(BOB);
    world.net.closed(BOB);
    let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(480));
}

#[test]
fn nobody_is_404() {
    let mut world = World::new();
    let caller = world.dial(&format!("sip:nobody@{DOMAIN}"));
    world.net.run_ms(300);
    // It is left to the user agent of the same socket, which knows nobody either.
    let incoming = incoming(&world.net.events(world.point));
    let (point, not_found) = (world.point, crate::common::status(404));
    world.net.with(point, |endpoint, now| endpoint.reject(now, incoming, not_found, None)).unwrap();
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(404));
}

fn invite_of_a_stranger(uri: &str, more: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\nVia: SIP/2.0/UDP 203.0.113.99;branch=z9hG4bKeve\n\
         From: <sip:eve@example.net>;tag=e\nTo: <{uri}>\nCall-ID: eve\nCSeq: 1 INVITE\n\
         Contact: <sip:eve@203.0.113.99>\nMax-Forwards: 70\n{more}\n"
    )
}

/// What a stranger gets for a request, and that nobody else hears of it.
fn stranger(text: &str) -> u16 {
    let mut world = World::new();
    let eve = world.net.raw("203.0.113.99:5060");
    let victim = world.net.raw("192.0.2.99:5060");
    world.net.say(eve, world.point, text);
    world.net.run_ms(300);
    assert!(world.net.inbox(victim).is_empty(), "it was relayed");
    assert!(world.net.events(world.bob.host).iter().all(|event| !matches!(event, Event::Incoming(_))));
    let status = world.net.responses(eve).pop().expect("a response").status.get();
    assert_eq!(
        world.net.with_meeting(world.point, |point, _| point.is_idle()),
        Some(true),
        "it is remembered"
    );
    status
}

#[test]
fn a_strangers_call_to_a_friend_is_challenged() {
    assert_eq!(stranger(&invite_of_a_stranger(&format!("sip:bob@{DOMAIN}"), "")), 407);
    assert_eq!(stranger(&invite_of_a_stranger("sip:bob@198.51.100.1", "")), 407);
    let message = invite_of_a_stranger(&format!("sip:bob@{DOMAIN}"), "").replace("INVITE", "MESSAGE");
    assert_eq!(stranger(&message), 407);
}

#[test]
fn a_strangers_call_through_us_is_refused() {
    let route = format!("Route: <sip:{DOMAIN};lr>\n");
    assert_eq!(stranger(&invite_of_a_stranger("sip:victim@192.0.2.99", &route)), 403);
    let route = "Route: <sip:198.51.100.1:5060;lr>, <sip:192.0.2.99;lr>\n";
    assert_eq!(stranger(&invite_of_a_stranger("sip:victim@192.0.2.99", route)), 403);
}

#[test]
fn a_guessed_dialog_leads_nowhere() {
    let route = format!("Route: <sip:aaaaaaaaaaaaaaaaaaaaaaaa@{DOMAIN};lr>\n");
    let text = invite_of_a_stranger("sip:victim@192.0.2.99", &route);
    assert_eq!(
        stranger(&text.replace("To: <sip:victim@192.0.2.99>", "To: <sip:victim@192.0.2.99>;tag=t")),
        481
    );
    assert_eq!(stranger(&text), 403);
}

#[test]
fn a_known_dialog_takes_nothing_of_another_call() {
    let mut world = World::new();
    world.talking();
    let lines = world.net.capture.iter().map(|(_, _, _, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let mut route = lines.filter_map(|text| {
        let line = text.lines().find(|line| line.starts_with("Record-Route: "))?;
        Some(line.replacen("Record-", "", 1))
    });
    let route = route.next_back().expect("a record-route");
    let eve = world.net.raw("203.0.113.99:5060");
    let text = invite_of_a_stranger("sip:victim@192.0.2.99", &format!("{route}\n"));
    let text = text.replace("To: <sip:victim@192.0.2.99>", "To: <sip:victim@192.0.2.99>;tag=t");
    world.net.say(eve, world.point, &text);
    world.net.run_ms(300);
    assert_eq!(world.net.responses(eve).pop().unwrap().status.get(), 481);
}

#[test]
fn a_friend_calls_nobody_elsewhere_by_way_of_us() {
    let mut world = World::new();
    let mut carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let victim = world.net.raw("192.0.2.99:5060");
    let text =
        carol.text("INVITE", "sip:victim@192.0.2.99", "victim", &format!("Route: <sip:{DOMAIN};lr>\n"));
    let refused = carol.ask(&mut world.net, world.point, &text);
    assert_eq!(refused.status.get(), 403);
    assert!(world.net.inbox(victim).is_empty());
}

#[test]
fn a_friend_cannot_call_in_anothers_name() {
    let mut world = World::new();
    let mut carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let text = carol.text("INVITE", &format!("sip:bob@{DOMAIN}"), "bob", "");
    let forged = text.replace("From: <sip:carol@", "From: <sip:alice@");
    assert_eq!(carol.ask(&mut world.net, world.point, &forged).status.get(), 403);
    assert!(world.net.events(world.bob.host).iter().all(|event| !matches!(event, Event::Incoming(_))));
}

#[test]
fn rfc3325_what_a_friend_says_of_himself_is_replaced_by_what_was_proved() {
    let mut world = World::new();
    let mut carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let dave = Hand::join(&mut world.net, world.point, "dave", "203.0.113.10:5060", "<sip:d@10.0.0.10>");
    let lie = "P-Asserted-Identity: <sip:boss@bank.example>\nP-Preferred-Identity: <sip:boss@bank.example>\n";
    let text = carol.text("MESSAGE", &format!("sip:dave@{DOMAIN}"), "dave", lie);
    carol.count += 10;
    world.net.say(carol.host, world.point, &text);
    world.net.run_ms(50);
    world.net.inbox(carol.host);
    challenge_answered(&mut world, &mut carol, &text);
    let message = world.net.requests(dave.host).remove(0);
    let asserted: Vec<_> = message.headers.get_all(name::P_ASSERTED_IDENTITY).collect();
    assert_eq!(asserted, ["<sip:carol@meet.example.org>"]);
    assert!(message.headers.get(name::P_PREFERRED_IDENTITY).is_none());

    let text = carol
        .text("MESSAGE", &format!("sip:dave@{DOMAIN}"), "dave", "Privacy: id\n")
        .replace(&format!("From: <sip:carol@{DOMAIN}>"), "From: <sip:anonymous@anonymous.invalid>");
    challenge_answered(&mut world, &mut carol, &text);
    let message = world.net.requests(dave.host).pop().unwrap();
    assert!(message.headers.get(name::P_ASSERTED_IDENTITY).is_none());
}

/// Sends a request that nobody answers, with its challenge answered.
fn challenge_answered(world: &mut World, hand: &mut Hand, text: &str) {
    world.net.say(hand.host, world.point, &text.replace("branch=z9hG4bK", "branch=z9hG4bKfirst"));
    world.net.run_ms(100);
    let challenged = world.net.responses(hand.host).pop().expect("a challenge");
    let offer = challenges(&challenged.headers, name::PROXY_AUTHENTICATE).unwrap();
    let uri = text.split(' ').nth(1).unwrap();
    let covered = Covered { method: &Method::Message, uri, body: &[] };
    let exchange = Exchange { nonce_count: 1, cnonce: "c", first_nonce: "" };
    let login = Login { user: &hand.user, password: &hand.password };
    let value = authorization(&offer.challenges[0], login, covered, exchange);
    let again = text.replacen("Max-Forwards", &format!("Proxy-Authorization: {value}\nMax-Forwards"), 1);
    world.net.say(hand.host, world.point, &again);
    world.net.run_ms(100);
}

#[test]
fn rfc4320_a_message_that_nobody_answers_gets_no_408() {
    let mut world = World::new();
    let mut carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let dave = Hand::join(&mut world.net, world.point, "dave", "203.0.113.10:5060", "<sip:d@10.0.0.10>");
    let text = carol.text("MESSAGE", &format!("sip:dave@{DOMAIN}"), "dave", "");
    challenge_answered(&mut world, &mut carol, &text);
    world.net.run(Duration::from_secs(40));
    assert!(!world.net.requests(dave.host).is_empty());
    assert!(world.net.responses(carol.host).is_empty());
    world.no_transaction_is_left();
}

#[test]
fn rfc3261_16_3_3_max_forwards_0_is_483() {
    let text = invite_of_a_stranger(&format!("sip:bob@{DOMAIN}"), "").replace("Forwards: 70", "Forwards: 0");
    assert_eq!(stranger(&text), 483);
}

#[test]
fn rfc3261_16_3_4_a_loop_is_482_and_a_spiral_is_none() {
    let mut world = World::new();
    // Carol's telephone sends what comes for her back to where it came from.
    let mut carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    world.dial(&format!("sip:carol@{DOMAIN}"));
    world.net.run_ms(300);
    let back = |request: &Request, uri: &str| {
        let mut request = request.clone();
        request.uri = uri.parse().unwrap();
        request.via.insert(0, "SIP/2.0/UDP 10.0.0.9;rport;branch=z9hG4bKback".parse().unwrap());
        request.headers.remove(name::RECORD_ROUTE);
        request
    };
    let invite = world.net.requests(carol.host).remove(0);
    world.net.request(carol.host, world.point, &back(&invite, &format!("sip:carol@{DOMAIN}")));
    world.net.run_ms(100);
    assert_eq!(world.net.responses(carol.host).pop().unwrap().status.get(), 482);
    world.net.request(carol.host, world.point, &back(&invite, &format!("sip:bob@{DOMAIN}")));
    world.net.run_ms(100);
    assert_eq!(world.net.responses(carol.host).pop().unwrap().status.get(), 407);
    carol.count += 1;
}

#[test]
fn rfc3261_16_3_5_proxy_require_is_420() {
    let text = invite_of_a_stranger(&format!("sip:bob@{DOMAIN}"), "Proxy-Require: teleport\n");
    assert_eq!(stranger(&text), 420);
}

#[test]
fn rfc5630_a_sips_call_is_kept_to_tls() {
    assert_eq!(stranger(&invite_of_a_stranger(&format!("sips:bob@{DOMAIN}"), "")), 416);
}

#[test]
fn a_call_outlives_the_connection_of_one_side() {
    let mut world = World::by(Transport::Udp, Transport::Tcp);
    let (caller, callee) = world.talking();
    world.net.run(Duration::from_secs(300));
    world.net.cut(world.bob.host, world.point);
    // His telephone registers anew, on another connection.
    world.net.run(Duration::from_secs(20));
    world.net.events(world.bob.host);
    world.net.with(world.alice.host, |endpoint, now| endpoint.hangup(now, caller)).unwrap();
    world.net.run_ms(500);
    assert_eq!(end_of(&world.net.events(world.bob.host), callee).cause, EndCause::Remote);
}

#[test]
fn a_fork_whose_connection_breaks_is_over() {
    let mut world = World::by(Transport::Udp, Transport::Tcp);
    world.net.fault(Transport::Tcp, POINT, Some(TransportError::Refused));
    world.net.cut(world.bob.host, world.point);
    world.net.run_ms(200);
    let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).status, Some(480));
}

#[test]
fn the_owner_of_the_machine_can_be_a_friend_as_well() {
    let mut world = World::new();
    let invitation = world.net.invitation(world.point, "owner");
    let owner = world.net.invited(world.point, &invitation, "self");
    world.net.with(world.point, |endpoint, now| endpoint.register(now, owner)).unwrap();
    world.net.run_ms(300);
    world.net.events(world.point);
    let caller = world.dial(&format!("sip:owner@{DOMAIN}"));
    world.net.run_ms(300);
    let callee = incoming(&world.net.events(world.point));
    world.net.with(world.point, |endpoint, now| endpoint.accept(now, callee, ANSWER.to_vec())).unwrap();
    world.net.run_ms(300);
    let events = world.net.events(world.alice.host);
    assert!(events.iter().any(|event| matches!(event, Event::Answered { .. })), "{events:?}");
    world.net.with(world.point, |endpoint, now| endpoint.hangup(now, callee)).unwrap();
    world.net.run_ms(300);
    assert_eq!(end_of(&world.net.events(world.alice.host), caller).cause, EndCause::Remote);
}

#[test]
fn a_caller_has_eight_calls_ringing_at_most() {
    let mut world = World::new();
    let carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    let calls: Vec<SessionId> = (0..9).map(|_| world.dial(&format!("sip:carol@{DOMAIN}"))).collect();
    world.net.run_ms(300);
    let invites = world.net.requests(carol.host);
    let calls_seen: std::collections::BTreeSet<_> = invites.iter().map(|i| i.call_id.clone()).collect();
    assert_eq!(calls_seen.len(), 8);
    assert_eq!(end_of(&world.net.events(world.alice.host), calls[8]).status, Some(503));
}

#[test]
fn losses_on_the_way_lose_no_call() {
    for seed in 1..=10 {
        let mut net = Net::seeded(seed);
        let point = net.meeting(POINT);
        let alice = net.friend(point, "alice", ALICE);
        let bob = net.friend(point, "bob", BOB);
        let mut world = World { net, point, alice, bob };
        world.net.link.loss = 150;
        world.net.link.doubling = 100;
        world.net.link.jitter = Duration::from_millis(60);
        let caller = world.dial(&format!("sip:bob@{DOMAIN}"));
        let mut ended = 0;
        world.net.run_with(Duration::from_secs(120), |net, host, event| match event {
            Event::Incoming(incoming) => {
                net.with(host, |endpoint, now| endpoint.accept(now, incoming.session, ANSWER.to_vec()))
                    .unwrap();
            }
            Event::Answered { session, .. } => {
                net.with(host, |endpoint, now| endpoint.hangup(now, session)).unwrap();
            }
            Event::Ended { .. } => ended += 1,
            _ => {}
        });
        assert_eq!(ended, 2, "seed {seed}: {:?}", sent(&world.net, world.alice.host));
        assert_eq!(end_of(&world.net.events(world.alice.host), caller).cause, EndCause::Local);
        world.no_transaction_is_left();
    }
}

/// Whom of the others a friend sees, and whether they are there.
fn contacts(net: &mut Net, friend: Friend) -> Vec<(String, bool)> {
    net.events(friend.host);
    net.with(friend.host, |endpoint, now| endpoint.register(now, friend.id)).unwrap();
    net.run_ms(300);
    let mut bound = net.events(friend.host).into_iter().filter_map(|event| match event {
        Event::Bound { binding, .. } => Some(*binding),
        _ => None,
    });
    bound.next_back().and_then(|binding| binding.directory).expect("a directory").contacts
}

#[test]
fn presence_is_shown_to_who_has_talked_with_each_other_and_to_nobody_else() {
    let mut world = World::new();
    let carol = world.net.friend(world.point, "carol", "203.0.113.77:5060");
    assert_eq!(contacts(&mut world.net, world.alice), [], "she is nobody's contact yet");
    // One that only rings is not answered: bob has not shown that he knows alice.
    let (caller, _) = world.ringing();
    world.net.with(world.alice.host, |endpoint, now| endpoint.hangup(now, caller)).unwrap();
    world.net.run_ms(300);
    assert_eq!(contacts(&mut world.net, world.alice), []);
    world.net.events(world.bob.host);

    world.net.told(world.point);
    world.talking();
    let told = world.net.told(world.point);
    let met = voipd_sip::rendezvous::Event::Met { one: "alice".to_owned(), other: "bob".to_owned() };
    assert_eq!(told, [met]);
    assert_eq!(contacts(&mut world.net, world.alice), [("bob".to_owned(), true)]);
    assert_eq!(contacts(&mut world.net, world.bob), [("alice".to_owned(), true)]);
    assert_eq!(contacts(&mut world.net, carol), []);

    world.net.with(world.bob.host, |endpoint, now| endpoint.unregister(now, world.bob.id)).unwrap();
    world.net.run_ms(300);
    assert_eq!(contacts(&mut world.net, world.alice), [("bob".to_owned(), false)]);
    world.net.with_meeting(world.point, |point, _| point.remove("bob"));
    assert_eq!(contacts(&mut world.net, world.alice), []);
}

#[test]
fn responses_keep_their_contact() {
    let mut world = World::new();
    let carol = Hand::join(&mut world.net, world.point, "carol", "203.0.113.9:5060", "<sip:c@10.0.0.9>");
    world.dial(&format!("sip:carol@{DOMAIN}"));
    world.net.run_ms(300);
    let invite = world.net.requests(carol.host).remove(0);
    let ringing = with_contact(answer(&invite, 180, "c"), "<sip:c@10.0.0.9>");
    world.net.respond(carol.host, world.point, &ringing);
    world.net.run_ms(100);
    let to_alice = world.net.capture.iter().rfind(|(_, _, to, _)| *to == ALICE.parse().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&to_alice.3);
    assert!(text.starts_with("SIP/2.0 180") && text.contains("Contact: <sip:c@10.0.0.9>"), "{text}");
    assert_eq!(text.matches("\r\nVia:").count(), 1, "{text}");
}
