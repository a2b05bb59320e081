//! Limits and the end of everything: many calls, floods, an orderly stop.

use crate::common::peer::{Peer, strange_sdp};
use crate::common::{Pair, World, config, direct, sip};
use voipd_agent::view::{CallState, Reason};
use voipd_agent::{AgentError, SoundChoice};

#[test]
fn no_more_calls_than_allowed_either_way() {
    let mut world = World::new();
    let mut two = config();
    two.max_calls = 2;
    let alice = world.agent_with("192.0.2.1:5060", two);
    world.account(alice, direct());
    let bob = world.phone("192.0.2.2:5060");
    let first = world.dial(alice, "sip:192.0.2.77");
    world.dial(bob, "sip:192.0.2.1");
    world.run_ms(100);
    let result =
        world.act(alice, |agent, now| agent.dial(now, "sip:192.0.2.78", None, SoundChoice::default()));
    assert_eq!(result, Err(AgentError::TooManyCalls(2)));
    let third = world.dial(bob, "sip:192.0.2.1");
    world.run_ms(100);
    assert_eq!(world.end(bob, third), (Reason::Busy, 486));
    // An ended call takes no place, though it can still be read.
    world.hang_up(alice, first);
    assert_eq!(world.calls(alice).len(), 2);
    world.dial(alice, "sip:192.0.2.78");
}

#[test]
fn a_flood_of_short_calls_stays_bounded() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let raw = world.raw("192.0.2.9:5060");
    world.phone("192.0.2.1:5060");
    let long = world.dial(bob, "sip:192.0.2.1");
    world.run_ms(100);
    for _ in 0..400 {
        let mut peer = Peer::calling(&world, raw, bob, "sip:bob@192.0.2.2");
        peer.request(&mut world, "INVITE", &strange_sdp("192.0.2.9", 4000));
        world.run_ms(21);
    }
    let calls = world.calls(bob);
    assert_eq!(calls.len(), 129, "128 that have ended, and the one that lives");
    assert!(calls.contains(&long));
    // The one that ends last is not the first to go, old as its number is.
    world.hang_up(bob, long);
    let mut peer = Peer::calling(&world, raw, bob, "sip:bob@192.0.2.2");
    peer.request(&mut world, "INVITE", &strange_sdp("192.0.2.9", 4000));
    world.run_ms(50);
    assert!(world.calls(bob).contains(&long));
    assert_eq!(world.calls(bob).len(), 128);
    world.run_s(31);
    assert_eq!(world.calls(bob), []);
}

#[test]
fn many_calls_that_end_at_once_stay_bounded() {
    let mut world = World::new();
    let mut many = config();
    many.max_calls = 300;
    let alice = world.agent_with("192.0.2.1:5060", many);
    world.account(alice, direct());
    world.closed("192.0.2.66:5060");
    for _ in 0..300 {
        world.dial(alice, "sip:192.0.2.66");
    }
    world.run_ms(100);
    assert_eq!(world.calls(alice).len(), 128);
}

#[test]
fn stopping_ends_everything() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let bob = world.phone("192.0.2.2:5060");
    let carol = world.phone("192.0.2.3:5060");
    let registrar = world.registrar("203.0.113.1:5060", "alice", "secret-pw");
    world.name("example.org", &["203.0.113.1:5060"]);
    world.account(alice, sip("work", "sip:alice@example.org", "secret-pw"));
    let talking = world.dial(alice, "sip:192.0.2.2");
    world.run_s(1);
    let at_bob = world.live_call(bob);
    world.accept(bob, at_bob);
    world.run_s(1);
    let ringing = world.dial(alice, "sip:192.0.2.3");
    let at_carol = world.dial(carol, "sip:192.0.2.1");
    world.run_s(1);
    let incoming = *world.calls(alice).last().unwrap();
    assert_eq!(world.state(alice, incoming), CallState::Incoming);
    assert!(world.registrar_at(registrar).binding.is_some());

    world.act(alice, |agent, now| agent.shut_down(now));
    for call in [talking, ringing, incoming] {
        assert_eq!(world.end(alice, call).0, Reason::Local);
    }
    assert_eq!(world.media_open(alice), 0);
    assert!(!world.device_open(alice) && !world.ringer_open(alice));
    assert!(!world.station(alice).agent.is_idle(), "the peers are still to be told");
    world.run_s(1);
    assert_eq!(world.end(bob, at_bob).0, Reason::Remote);
    assert_eq!(world.end(carol, at_carol).0, Reason::Declined);
    assert_eq!(world.registrar_at(registrar).binding, None);
    // Nothing begins any more.
    let late = world.dial(bob, "sip:192.0.2.1");
    world.run_s(1);
    assert_eq!(world.end(bob, late), (Reason::NotFound, 404));
    let dial = world.act(alice, |agent, now| agent.dial(now, "sip:192.0.2.2", None, SoundChoice::default()));
    assert!(dial.is_err());
    world.run_s(40);
    assert!(world.station(alice).agent.is_idle());
}

#[test]
fn an_agent_at_rest_asks_for_nothing() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    pair.world.hang_up(pair.alice, out);
    pair.world.run_s(120);
    for host in [pair.alice, pair.bob] {
        assert!(pair.world.station(host).agent.is_idle());
        assert_eq!(pair.world.wakes_at(host), None);
    }
}
