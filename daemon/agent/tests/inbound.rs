//! Which account an inbound call belongs to, and what makes no call at all.

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, World, direct, echo, sip};
use voipd_agent::view::{AccountState, CallState, Reason, SoundPlace};
use voipd_agent::{AccountId, PortRole, Voice};

/// An INVITE from `from` for this Request-URI; the final or latest response.
fn call_in(world: &mut World, from: HostId, to: HostId, uri: &str) -> u16 {
    let IpText(ip) = IpText::of(world, from);
    let mut peer = Peer::calling(world, from, to, uri);
    peer.request(world, "INVITE", &sdp(&ip, 4000, "sendrecv"));
    world.run_ms(50);
    world.responses(from).pop().expect("an answer").status.get()
}

struct IpText(String);

impl IpText {
    fn of(world: &World, host: HostId) -> Self {
        Self(world.address(host).ip().to_string())
    }
}

/// Nothing rings, and nothing can be seen.
fn nothing_happened(world: &World, host: HostId) {
    assert_eq!(world.calls(host), []);
    assert!(!world.ringer_open(host) && !world.device_open(host));
    assert_eq!(world.media_open(host), 0);
}

#[test]
fn the_direct_account_takes_calls_from_its_networks_only() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let near = world.raw("192.0.2.9:5060");
    let far = world.raw("198.51.100.9:5060");
    assert_eq!(call_in(&mut world, far, bob, "sip:bob@192.0.2.2"), 404);
    nothing_happened(&world, bob);
    assert_eq!(world.count_said(bob, "180"), 0);
    assert_eq!(call_in(&mut world, near, bob, "sip:anyone@192.0.2.2"), 180);
    assert_eq!(world.state(bob, world.live_call(bob)), CallState::Incoming);
}

#[test]
fn an_empty_allow_list_lets_nobody_in_and_still_calls_out() {
    let mut world = World::new();
    let bob = world.agent("192.0.2.2:5060");
    let mut closed = direct();
    closed.allow_from.clear();
    world.account(bob, closed);
    let near = world.raw("192.0.2.9:5060");
    let own = world.raw("127.0.0.1:5070");
    for from in [near, own] {
        assert_eq!(call_in(&mut world, from, bob, "sip:bob@192.0.2.2"), 404);
    }
    nothing_happened(&world, bob);
    world.dial(bob, "sip:192.0.2.9");
    world.run_ms(50);
    assert_eq!(world.requests(near)[0].method.as_str(), "INVITE");
}

#[test]
fn strangers_fill_neither_the_log_nor_the_memory() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let far = world.raw("198.51.100.9:5060");
    for _ in 0..500 {
        call_in(&mut world, far, bob, "sip:100@192.0.2.2");
    }
    nothing_happened(&world, bob);
    let lines = world.log(bob).len();
    assert_eq!(lines, 1, "{:?}", world.log(bob));
    world.run_s(60);
    call_in(&mut world, far, bob, "sip:100@192.0.2.2");
    assert!(world.log(bob)[1].ends_with("(499 more before)"), "{:?}", world.log(bob));
}

/// An agent with a registered account `alice@example.org` and nothing else, its registrar at 203.0.113.1.
fn registered() -> (World, HostId, HostId, AccountId) {
    let mut world = World::new();
    let bob = world.agent("192.0.2.2:5060");
    let registrar = world.registrar("203.0.113.1:5060", "alice", "secret-pw");
    world.name("example.org", &["203.0.113.1:5060"]);
    let account = world.account(bob, sip("work", "sip:alice@example.org", "secret-pw"));
    world.run_s(1);
    assert_eq!(world.account_state(bob, account), AccountState::Registered);
    (world, bob, registrar, account)
}

/// An INVITE out of the registrar's mouth.
fn call_from_registrar(world: &mut World, registrar: HostId, to: HostId, uri: &str) {
    let mut peer = Peer::calling(world, registrar, to, uri);
    peer.request(world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
}

#[test]
fn a_call_by_the_registered_contact_belongs_to_its_account() {
    let (mut world, bob, registrar, account) = registered();
    let contact = world.registrar_at(registrar).binding.clone().unwrap();
    call_from_registrar(&mut world, registrar, bob, &contact);
    let view = world.view(bob, world.live_call(bob));
    assert_eq!((view.account, view.state), (account, CallState::Incoming));
    assert_eq!(view.peer_name, "Peer");
}

#[test]
fn the_same_user_part_from_elsewhere_rings_nothing() {
    let (mut world, bob, registrar, _) = registered();
    let contact = world.registrar_at(registrar).binding.clone().unwrap();
    let far = world.raw("198.51.100.9:5060");
    for uri in ["sip:alice@192.0.2.2", "sip:alice@example.org", &contact] {
        assert_eq!(call_in(&mut world, far, bob, uri), 404, "{uri}");
    }
    // And not by guessing at the user part from the server either.
    call_from_registrar(&mut world, registrar, bob, "sip:alice@192.0.2.2");
    nothing_happened(&world, bob);
}

#[test]
fn an_account_may_allow_more_networks() {
    let mut world = World::new();
    let bob = world.agent("192.0.2.2:5060");
    let trunk = |name: &str, address: &str| {
        let mut settings = sip(name, address, "secret-pw");
        settings.register = false;
        settings.allow_from = vec!["198.51.100.0/24".parse().unwrap()];
        settings
    };
    let first = world.account(bob, trunk("first", "sip:100@example.org"));
    let second = world.account(bob, trunk("second", "sip:200@example.org"));
    let far = world.raw("198.51.100.9:5060");
    for (user, account) in [("200", second), ("100", first), ("300", first)] {
        assert_eq!(call_in(&mut world, far, bob, &format!("sip:{user}@192.0.2.2")), 180);
        let call = world.live_call(bob);
        assert_eq!(world.view(bob, call).account, account, "{user}");
        world.hang_up(bob, call);
    }
}

#[test]
fn do_not_disturb_turns_calls_away_but_not_from_the_echo() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    world.account(bob, echo());
    let near = world.raw("192.0.2.9:5060");
    world.act(bob, |agent, now| agent.set_do_not_disturb(now, true));
    assert_eq!(call_in(&mut world, near, bob, "sip:bob@192.0.2.2"), 480);
    nothing_happened(&world, bob);
    assert_eq!(call_in(&mut world, near, bob, "sip:echo@192.0.2.2"), 200);
    world.act(bob, |agent, now| agent.set_do_not_disturb(now, false));
    assert_eq!(call_in(&mut world, near, bob, "sip:bob@192.0.2.2"), 180);
}

#[test]
fn a_call_that_rings_is_not_disturbed_by_do_not_disturb() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let near = world.raw("192.0.2.9:5060");
    call_in(&mut world, near, bob, "sip:bob@192.0.2.2");
    world.act(bob, |agent, now| agent.set_do_not_disturb(now, true));
    assert_eq!(world.state(bob, world.live_call(bob)), CallState::Incoming);
}

#[test]
fn the_echo_answers_by_itself_and_sends_the_sound_back() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let bob = world.agent("192.0.2.2:5060");
    world.account(bob, echo());
    let out = world.dial(alice, "sip:echo@192.0.2.2");
    world.run_ms(200);
    assert_eq!(world.state(alice, out), CallState::Active);
    let inb = world.live_call(bob);
    assert_eq!(world.states(bob, inb), [CallState::Incoming, CallState::Active]);
    assert_eq!(world.view(bob, inb).sound, SoundPlace::Echo);
    let stream = world.stream_port(bob, inb);
    assert_eq!(world.heard_at(bob, stream), [stream]);
    assert!(!world.device_open(bob) && !world.ringer_open(bob));
    // A program speaks instead of the echo.
    let role = PortRole::Program(Voice::Instead);
    let program = world.act(bob, |agent, now| agent.open_port(now, inb, role)).unwrap();
    assert_eq!(world.heard_at(bob, stream), [program]);
    world.act(bob, |agent, now| agent.close_port(now, inb, program));
    assert_eq!(world.heard_at(bob, stream), [stream]);
    // Another name at the same place is nobody.
    let other = world.dial(alice, "sip:bob@192.0.2.2");
    world.run_ms(200);
    assert_eq!(world.end(alice, other), (Reason::NotFound, 404));
    world.hang_up(alice, out);
    world.run_ms(200);
    assert_eq!(world.end(bob, inb).0, Reason::Remote);
}

#[test]
fn the_echo_respects_its_allow_list() {
    let mut world = World::new();
    let bob = world.agent("192.0.2.2:5060");
    let mut settings = echo();
    settings.allow_from = vec!["192.0.2.0/24".parse().unwrap()];
    world.account(bob, settings);
    let far = world.raw("198.51.100.9:5060");
    assert_eq!(call_in(&mut world, far, bob, "sip:echo@192.0.2.2"), 404);
    nothing_happened(&world, bob);
}

#[test]
fn media_sockets_face_the_peers_media_not_its_proxy() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let near = world.raw("192.0.2.9:5060");
    world.station(bob).faces.push(("203.0.113.0/24".parse().unwrap(), "203.0.113.2".parse().unwrap()));
    let mut peer = Peer::calling(&world, near, bob, "sip:bob@192.0.2.2");
    peer.request(&mut world, "INVITE", &sdp("203.0.113.9", 4000, "sendrecv"));
    world.run_ms(50);
    let call = world.live_call(bob);
    world.accept(bob, call);
    world.run_ms(50);
    assert_eq!(world.local_media(bob, call).ip(), "203.0.113.2".parse::<std::net::IpAddr>().unwrap());
    assert!(world.last_sdp(bob).contains("c=IN IP4 203.0.113.2"));
}
