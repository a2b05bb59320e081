//! A peer begins anew with another SSRC, or has ours (RFC 3550 section 8.2).
#![allow(clippy::unwrap_used)]

mod world;

use voipd_audio::StreamPlan;
use voipd_audio::plan::{Codec, EngineEvent};
use world::{STREAM, World, address, plan, rtp};

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
fn what_a_reflector_sends_back_follows_our_new_ssrc_without_loss() {
    let mut world = World::new(1);
    let mut ours = plan(Codec::Pcmu, 0, address(1));
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, ours.clone(), socket).unwrap();
    let mut reflected = 0;
    let mut ssrcs = Vec::new();
    for round in 0..200 {
        world.run_ms(20);
        let sent = world.network().sent_from(address(0));
        for packet in &sent[reflected..] {
            world.network().send(address(1), address(0), &packet.bytes);
        }
        reflected = sent.len();
        if round == 100 {
            ours = StreamPlan { ssrc: 0xABCD, generation: 2, ..ours };
            world.sides[0].controller.update_stream(STREAM, ours.clone()).unwrap();
        }
        ssrcs.push(world.sides[0].counters(STREAM).remote_ssrc);
    }
    assert_eq!(collisions(&world), [address(1); 2], "once for each SSRC");
    assert_eq!((ssrcs[90], ssrcs[199]), (0x1000, 0xABCD));
    let counters = world.sides[0].counters(STREAM);
    assert_eq!((counters.packets_lost, counters.packets_invalid), (0, 0), "{counters:?}");
    // No packet time is left out when only the SSRC changes.
    let sent = world.network().sent_from(address(0));
    assert!(sent.windows(2).all(|pair| pair[1].at_nanos - pair[0].at_nanos == 20_000_000));
}
