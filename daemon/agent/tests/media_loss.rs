//! Peers that fall silent: those that have vanished, those that live, and those whose media comes from elsewhere.

use crate::common::peer::{Called, Peer, sdp};
use crate::common::{HostId, Pair, World};
use voipd_agent::view::{CallId, CallState, MediaWay, Reason};
use voipd_audio::plan::EngineEvent;

#[test]
fn a_peer_that_has_vanished_ends_the_call() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.run_s(10);
    // A power cut at Bob's: nothing of him gets through any more.
    world.link.loss = 1000;
    world.media_cut = true;
    world.run_s(29);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    assert_eq!(world.count_said(pair.alice, "OPTIONS"), 0);
    world.run_s(3);
    assert!(world.count_said(pair.alice, "OPTIONS") > 0, "it is asked for a sign of life");
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    world.run_s(32);
    assert_eq!(world.end(pair.alice, out).0, Reason::Network);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Network);
    assert_eq!(world.media_open(pair.alice), 0);
}

#[test]
fn a_peer_that_is_silent_but_alive_stays() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.media_cut = true;
    world.run_s(600);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    assert_eq!(world.state(pair.bob, inb), CallState::Active);
    let asked = world.count_said(pair.alice, "OPTIONS");
    assert!((18..=20).contains(&asked), "{asked} times in ten minutes");
}

#[test]
fn a_held_call_lives_without_sound() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.hold(pair.alice, out);
    world.run_s(3600);
    assert_eq!(world.state(pair.bob, inb), CallState::Held);
    world.resume(pair.alice, out);
    world.run_s(1);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
}

#[test]
fn a_peer_that_flows_is_not_asked() {
    let mut pair = Pair::new();
    pair.talking();
    pair.world.run_s(300);
    assert_eq!(pair.world.count_said(pair.alice, "OPTIONS"), 0);
}

#[test]
fn a_peer_that_has_forgotten_the_call_ends_it() {
    let (mut world, alice, call, peer) = called_peer();
    world.run_s(31);
    let options = world.requests(peer.host).pop().unwrap();
    assert_eq!(options.method.as_str(), "OPTIONS");
    peer.answer(&mut world, &options, 481, "");
    world.run_ms(50);
    assert_eq!(world.end(alice, call).0, Reason::Network);
}

/// A call to a scripted peer that says in SDP 10.0.0.9:4000, as one behind a NAT does, and sends nothing.
fn called_peer() -> (World, HostId, CallId, Peer) {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    peer.answer(&mut world, &invite, 200, &sdp("10.0.0.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.inbox(raw);
    (world, alice, call, peer)
}

#[test]
fn reports_follow_a_peer_behind_a_nat() {
    let (mut world, alice, call, _) = called_peer();
    let packet = |ssrc: u32| {
        // A receiver report without blocks, and a CNAME (RFC 3550 sections 6.4.2 and 6.5).
        let [a, b, c, d] = ssrc.to_be_bytes();
        vec![0x80, 201, 0, 1, a, b, c, d, 0x81, 202, 0, 2, a, b, c, d, 1, 1, b'x', 0]
    };
    let stranger = "203.0.113.5:9".parse().unwrap();
    let nat = "192.0.2.77:61001".parse().unwrap();
    let said = "10.0.0.9:4001".parse().unwrap();
    let remotes = |world: &mut World| {
        let to: Vec<std::net::SocketAddr> = world.rtcp.drain(..).map(|(_, to, _)| to).collect();
        to
    };
    let hear = |world: &mut World, from| {
        world.act(alice, |agent, now| agent.handle_rtcp(now, call, from, &packet(7)));
    };
    hear(&mut world, nat);
    world.run_s(10);
    assert!(remotes(&mut world).iter().all(|to| *to == said), "nothing has shown that the peer is there");

    let port = world.stream_port(alice, call);
    let remote = "192.0.2.77:61000".parse().unwrap();
    world.engine_says(alice, EngineEvent::RemoteChanged { port, remote });
    let way = world.view(alice, call).media_way;
    let MediaWay::Plain { remote: shown, .. } = way else { panic!("{way:?}") };
    assert_eq!(shown, Some(remote), "front ends are told, too");
    hear(&mut world, nat);
    hear(&mut world, stranger);
    world.run_s(10);
    let to = remotes(&mut world);
    assert!(!to.is_empty() && to.iter().all(|to| *to == nat), "{to:?}");
}
