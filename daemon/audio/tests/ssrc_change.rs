//! A peer begins anew with another SSRC.
#![allow(clippy::unwrap_used)]

mod world;

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
