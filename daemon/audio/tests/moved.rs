//! A stream goes on with another socket: its address has changed, and nothing else.

use std::net::SocketAddr;

use crate::world::sound::amplitude;
use crate::world::{STREAM, TAPE, World, address};
use voipd_audio::engine::EngineError;
use voipd_audio::plan::{Codec, PortId};

const ELSEWHERE: &str = "203.0.113.9:61000";

fn sine(seconds: f32) -> Vec<f32> {
    let step = std::f32::consts::TAU * 500.0 / 8000.0;
    (0..(8000.0 * seconds) as usize).map(|n| 0.3 * (n as f32 * step).sin()).collect()
}

#[test]
fn a_stream_goes_on_from_another_address_where_it_was() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
    near.feed(&sine(4.0));
    far.feed(&sine(4.0));
    world.run_ms(1000);
    let elsewhere: SocketAddr = ELSEWHERE.parse().unwrap();
    let socket = world.sides[0].socket(elsewhere);
    world.sides[0].controller.move_stream(STREAM, socket).unwrap();
    world.run_ms(1000);

    let before = world.network().sent_from(address(0)).last().unwrap().clone();
    let after = world.network().sent_from(elsewhere);
    assert_eq!(after[0].sequence(), before.sequence().wrapping_add(1), "the source is the same");
    assert_eq!(after[0].timestamp(), before.timestamp().wrapping_add(160));
    assert!(!after[0].marker(), "and no talk spurt begins");
    assert_eq!(world.network().sent_from(address(0)).last().unwrap().at_nanos, before.at_nanos);
    // The peer has followed: what it sends arrives.
    near.recorded();
    far.recorded();
    world.run_ms(500);
    for (who, heard) in [("near", near.recorded()), ("far", far.recorded())] {
        assert!((amplitude(&heard, 500.0, 8000) - 0.3).abs() < 0.02, "the {who} end hears the other");
    }
}

#[test]
fn what_is_no_stream_has_no_socket() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    let side = &mut world.sides[0];
    let socket = side.socket(address(5));
    assert_eq!(side.controller.move_stream(TAPE, socket), Err(EngineError::WrongKind));
    let socket = side.socket(address(5));
    assert_eq!(side.controller.move_stream(PortId(99), socket), Err(EngineError::NoSuchPort));
    world.run_ms(50);
    assert!(world.network().sent_from(address(5)).is_empty());
}
