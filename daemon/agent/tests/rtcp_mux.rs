//! Where RTCP goes, and from which port: with RTP where both want it (RFC 5761), else where the peer says (RFC 3605).

use std::net::SocketAddr;

use crate::common::peer::{Called, Peer, sdp};
use crate::common::{HostId, Pair, World};
use voipd_agent::view::CallId;
use voipd_audio::plan::EngineEvent;

/// From where to where RTCP went since the last look.
fn ways(world: &mut World) -> Vec<(SocketAddr, SocketAddr)> {
    let mut ways: Vec<_> = world.rtcp.drain(..).map(|(from, to, _)| (from, to)).collect();
    ways.dedup();
    ways
}

/// A call to a scripted peer at 192.0.2.9:4000 that answers with these attributes.
fn called(attributes: &str) -> (World, HostId, CallId, Peer) {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    let answer = sdp("192.0.2.9", 4000, "sendrecv") + attributes;
    peer.answer(&mut world, &invite, 200, &answer);
    world.run_ms(50);
    world.inbox(raw);
    (world, alice, call, peer)
}

#[test]
fn two_of_us_share_one_port_for_both() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    let rtp = [world.local_media(pair.alice, out), world.local_media(pair.bob, inb)];
    world.run_s(20);
    let ways = ways(world);
    assert!(ways.contains(&(rtp[0], rtp[1])) && ways.contains(&(rtp[1], rtp[0])), "{ways:?}");
    assert!(ways.iter().all(|(from, to)| rtp.contains(from) && rtp.contains(to)), "{ways:?}");
    assert!(world.act(pair.alice, |agent, _| agent.remote_view(out)).is_some(), "it arrives");
}

#[test]
fn a_peer_without_mux_gets_rtcp_from_and_to_the_port_above() {
    let (mut world, alice, call, _) = called("");
    let rtp = world.local_media(alice, call);
    world.run_s(10);
    let from = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    assert_eq!(ways(&mut world), [(from, "192.0.2.9:4001".parse().unwrap())]);
}

#[test]
fn a_peer_that_names_its_rtcp_gets_it_there() {
    for (attribute, to) in [
        ("a=rtcp:5555\n", "192.0.2.9:5555"),
        ("a=rtcp:5555 IN IP4 192.0.2.77\n", "192.0.2.77:5555"),
        ("a=rtcp-mux\na=rtcp:5555\n", "192.0.2.9:4000"),
    ] {
        let (mut world, ..) = called(attribute);
        world.run_s(10);
        let ways = ways(&mut world);
        assert_eq!(ways.iter().map(|(_, to)| to.to_string()).collect::<Vec<_>>(), [to], "{attribute}");
    }
}

#[test]
fn a_peer_behind_a_nat_gets_both_where_its_media_comes_from() {
    let (mut world, alice, call, _) = called("a=rtcp-mux\n");
    let port = world.stream_port(alice, call);
    let remote = "198.51.100.7:61000".parse().unwrap();
    world.engine_says(alice, EngineEvent::RemoteChanged { port, remote });
    ways(&mut world);
    world.run_s(10);
    assert_eq!(ways(&mut world), [(world.local_media(alice, call), remote)]);
}

#[test]
fn a_reinvite_without_mux_falls_back_to_the_port_of_its_own() {
    let (mut world, alice, call, mut peer) = called("a=rtcp-mux\n");
    let rtp = world.local_media(alice, call);
    peer.request(&mut world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert!(!world.last_sdp(alice).contains("rtcp-mux"), "what was not offered is not answered");
    ways(&mut world);
    world.run_s(10);
    let from = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    assert_eq!(ways(&mut world), [(from, "192.0.2.9:4001".parse().unwrap())]);
}
