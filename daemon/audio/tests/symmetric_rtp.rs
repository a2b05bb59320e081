//! Symmetric RTP: the stream follows its peer to where the packets really come from, and nobody else.

use std::net::SocketAddr;

use crate::world::{STREAM, World, address, plan, rtp};
use voipd_audio::StreamPlan;
use voipd_audio::plan::{Codec, EngineEvent};

const PUBLIC: &str = "203.0.113.9:61000";
const STRANGER: &str = "198.51.100.66:7777";

fn moves(world: &World) -> Vec<SocketAddr> {
    world.sides[0]
        .events
        .iter()
        .filter_map(|event| match event {
            EngineEvent::RemoteChanged { remote, .. } => Some(*remote),
            _ => None,
        })
        .collect()
}

/// Side 0 alone; packets from its peer are sent by hand.
fn alone() -> World {
    let mut world = World::new(1);
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    world
}

fn packet(world: &World, from: SocketAddr, sequence: u16, ssrc: u32) {
    let bytes = rtp(0, sequence, u32::from(sequence) * 160, ssrc, &[0xFF; 160]);
    world.network().send(from, address(0), &bytes);
}

fn last_target(world: &World) -> SocketAddr {
    world.network().sent.iter().rev().find(|sent| sent.from == address(0)).unwrap().to
}

#[test]
fn a_peer_behind_nat_is_found() {
    let mut world = alone();
    let public = PUBLIC.parse().unwrap();
    for sequence in 0..20 {
        packet(&world, public, sequence, 7);
        world.run_ms(20);
    }
    assert_eq!(moves(&world), [public]);
    assert_eq!(last_target(&world), public);
    assert_eq!(world.sides[0].counters(STREAM).packets_invalid, 0, "what it says before is heard too");
}

#[test]
fn forged_packets_do_not_turn_a_stream() {
    let mut world = alone();
    let stranger = STRANGER.parse().unwrap();
    for sequence in 0..200 {
        packet(&world, address(1), sequence, 7);
        // The forger knows everything but cannot keep the peer from speaking.
        for ahead in 0..3 {
            packet(&world, stranger, sequence + ahead, 7);
        }
        packet(&world, stranger, sequence, 0xBAD);
        world.run_ms(20);
    }
    assert_eq!(moves(&world), []);
    assert_eq!(last_target(&world), address(1));
    let counters = world.sides[0].counters(STREAM);
    assert_eq!(counters.packets_received, 200);
    assert_eq!((counters.frames_concealed, counters.packets_lost, counters.remote_ssrc), (0, 0, 7));
}

#[test]
fn a_peer_that_moves_is_followed() {
    let mut world = alone();
    let public = PUBLIC.parse().unwrap();
    for sequence in 0..50 {
        packet(&world, address(1), sequence, 7);
        world.run_ms(20);
    }
    for sequence in 50..70 {
        packet(&world, public, sequence, 7);
        world.run_ms(20);
    }
    assert_eq!(moves(&world), [public]);
    assert_eq!(last_target(&world), public);
    assert_eq!(world.sides[0].counters(STREAM).packets_invalid, 3, "those that proved the new address");
}

#[test]
fn what_still_comes_from_the_old_address_does_not_turn_a_stream_back() {
    let mut world = alone();
    for sequence in 0..50 {
        packet(&world, address(1), sequence, 7);
        world.run_ms(20);
    }
    let moved = StreamPlan { generation: 2, ..plan(Codec::Pcmu, 0, address(5)) };
    world.sides[0].controller.update_stream(STREAM, moved).unwrap();
    for sequence in 50..60 {
        packet(&world, address(1), sequence, 7);
        world.run_ms(20);
    }
    assert_eq!(moves(&world), []);
    assert_eq!(last_target(&world), address(5));
    for sequence in 0..20 {
        packet(&world, address(5), sequence, 9);
        world.run_ms(20);
    }
    assert_eq!((moves(&world), last_target(&world)), (vec![], address(5)));
    let counters = world.sides[0].counters(STREAM);
    assert_eq!(counters.remote_ssrc, 9);
    assert!(counters.packets_invalid <= 1, "the first of its SSRC at most: {counters:?}");
}
