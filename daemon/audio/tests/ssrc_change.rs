//! A peer begins anew with another SSRC, or has ours (RFC 3550 section 8.2).

use crate::world::{STREAM, World, address, plan, rtp};
use voipd_audio::StreamPlan;
use voipd_audio::plan::{Codec, EngineEvent};

fn packet(world: &World, sequence: u16, ssrc: u32) {
    let bytes = rtp(0, sequence, u32::from(sequence) * 160, ssrc, &[0x80; 160]);
    world.network().send(address(1), address(0), &bytes);
}

fn alone() -> World {
    let mut world = World::new(1);
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    for sequence in 100..150 {
        packet(&world, sequence, 7);
        world.run_ms(20);
    }
    world
}

fn changes(world: &World) -> usize {
    world.sides[0].events.iter().filter(|event| matches!(event, EngineEvent::SsrcChanged { .. })).count()
}

#[test]
fn the_new_one_is_heard_and_reported() {
    let mut world = alone();
    for sequence in 30_000..30_050 {
        packet(&world, sequence, 8);
        world.run_ms(20);
    }
    assert!(world.sides[0].events.contains(&EngineEvent::SsrcChanged { port: STREAM, ssrc: 8 }));
    let counters = world.sides[0].counters(STREAM);
    assert_eq!((counters.remote_ssrc, counters.packets_lost), (8, 0));
    assert!(counters.base_extended_seq >= 30_000 && counters.highest_extended_seq <= 30_049);
    let expected = u64::from(counters.highest_extended_seq - counters.base_extended_seq) + 1;
    assert_eq!(counters.source_received, expected, "{counters:?}");
    assert!(counters.packets_received > expected, "{counters:?}");
    assert!(counters.frames_concealed <= 8, "{counters:?}");
    assert!(counters.frames_played >= 190, "{counters:?}");
}

#[test]
fn one_packet_with_another_ssrc_changes_nothing() {
    let mut world = alone();
    for sequence in 150..200 {
        packet(&world, sequence, 7);
        if sequence % 10 == 0 {
            packet(&world, sequence, 0xBAD0 + u32::from(sequence));
        }
        world.run_ms(20);
    }
    assert_eq!(changes(&world), 0);
    let counters = world.sides[0].counters(STREAM);
    assert_eq!((counters.remote_ssrc, counters.frames_concealed, counters.packets_lost), (7, 0, 0));
    assert_eq!(counters.packets_invalid, 5);
}

fn collisions(world: &World) -> Vec<std::net::SocketAddr> {
    let sources = world.sides[0].events.iter().filter_map(|event| match event {
        EngineEvent::SsrcCollision { source, .. } => Some(*source),
        _ => None,
    });
    sources.collect()
}

#[test]
fn a_peer_with_our_ssrc_is_reported_once_and_heard() {
    let mut world = World::new(1);
    let ours = plan(Codec::Pcmu, 0, address(1));
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, ours.clone(), socket).unwrap();
    for sequence in 100..150 {
        packet(&world, sequence, ours.ssrc);
        world.run_ms(20);
    }
    assert_eq!(collisions(&world), [address(1)]);
    assert!(world.sides[0].counters(STREAM).frames_played > 80);
}

#[test]
fn our_ssrc_from_a_stranger_is_not_believed() {
    let mut world = alone();
    let bytes = rtp(0, 1, 160, 0x1000, &[0x80; 160]);
    world.network().send(address(9), address(0), &bytes);
    world.run_ms(50);
    assert_eq!(collisions(&world), []);
}

#[test]
fn what_a_reflector_sends_back_is_told_from_a_collision_and_heard() {
    let mut world = World::new(1);
    let ours = plan(Codec::Pcmu, 0, address(1));
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, ours.clone(), socket).unwrap();
    let mut reflected = 0;
    for _ in 0..100 {
        world.run_ms(20);
        let sent = world.network().sent_from(address(0));
        for packet in &sent[reflected..] {
            world.network().send(address(1), address(0), &packet.bytes);
        }
        reflected = sent.len();
    }
    assert_eq!(collisions(&world), []);
    let told = EngineEvent::Reflected { port: STREAM, source: address(1) };
    assert_eq!(world.sides[0].events.iter().filter(|event| **event == told).count(), 1);
    let counters = world.sides[0].counters(STREAM);
    assert_eq!((counters.packets_lost, counters.packets_invalid, counters.packets_discarded), (0, 0, 0));
    assert!(counters.frames_played > 180, "{counters:?}");
}

#[test]
fn another_ssrc_leaves_no_packet_time_out() {
    let mut world = World::new(1);
    let ours = plan(Codec::Pcmu, 0, address(1));
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, ours.clone(), socket).unwrap();
    world.run_ms(1010);
    world.sides[0]
        .controller
        .update_stream(STREAM, StreamPlan { ssrc: 0xABCD, generation: 2, ..ours })
        .unwrap();
    world.run_ms(1000);
    let sent = world.network().sent_from(address(0));
    assert!(sent.windows(2).all(|pair| pair[1].at_nanos - pair[0].at_nanos == 20_000_000));
    let ssrcs: std::collections::BTreeSet<_> = sent.iter().map(|sent| sent.bytes[8..12].to_vec()).collect();
    assert_eq!(ssrcs.len(), 2);
}
