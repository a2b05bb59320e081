//! Whatever strangers send to an RTP port, the call goes on.

use crate::world::sound::{assert_same, speech};
use crate::world::{EVENTS, STREAM, Seeded, World, address, plan, rtp};
use voipd_audio::PortId;
use voipd_audio::plan::Codec;

#[test]
fn a_call_goes_on_under_garbage() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
    let words = speech(8000, 5.0, 14);
    near.feed(&words);
    far.feed(&words);
    let stranger = "198.51.100.66:7777".parse().unwrap();
    let mut random = Seeded(3);
    let mut sent = 0;
    for _ in 0..540 {
        for _ in 0..10 {
            // Random bytes; half of them look like RTP, some in payload types of the call, some from the peer's address.
            let mut bytes: Vec<u8> = (0..random.draw() % 1600).map(|_| random.draw() as u8).collect();
            if let (Some(first), true) = (bytes.first_mut(), random.chance(50)) {
                *first = 0x80 | (*first & 0x3F);
            }
            if let (Some(second), true) = (bytes.get_mut(1), random.chance(50)) {
                *second = if random.chance(50) { 0 } else { EVENTS };
            }
            let from = if random.chance(30) { address(0) } else { stranger };
            world.network().send(from, address(1), &bytes);
            sent += 1;
        }
        world.tick();
    }
    assert_same(&words, &far.recorded(), 8000, 0.99);
    let counters = world.sides[1].counters(STREAM);
    assert!(counters.packets_invalid > sent / 3, "{counters:?}");
    assert!(counters.packets_discarded < sent, "{counters:?}");
    assert_eq!((counters.frames_concealed, counters.remote_ssrc), (0, 0x1000), "{counters:?}");
    assert!(!world.network().sent_from(address(1)).iter().any(|packet| packet.to == stranger));
}

#[test]
fn what_is_not_rtp_reaches_the_control_side() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    let stun = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    let report = [0x80, 200, 0, 6, 0, 0, 0, 1];
    let dtls = [22, 254, 253, 0];
    for bytes in [&stun[..], &report[..], &dtls[..], &[255; 9]] {
        world.network().send(address(0), address(1), bytes);
    }
    world.run_ms(50);
    let controller = &mut world.sides[1].controller;
    let strays: Vec<_> = std::iter::from_fn(|| controller.poll_stray()).collect();
    let bytes: Vec<_> = strays.iter().map(|stray| stray.bytes.as_slice()).collect();
    assert_eq!(bytes, [&stun[..], &report[..], &dtls[..]]);
    assert!(strays.iter().all(|stray| stray.port == STREAM && stray.source == address(0)));
    assert_eq!(world.sides[1].counters(STREAM).packets_invalid, 1);
}

#[test]
fn a_flood_of_strays_is_dropped_and_counted() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    for _ in 0..1000 {
        world.network().send(address(0), address(1), &[0, 1, 2, 3]);
    }
    world.run_ms(200);
    let controller = &mut world.sides[1].controller;
    // They are read in eight ticks, each of which hands over 16; as many have room.
    assert_eq!(std::iter::from_fn(|| controller.poll_stray()).count(), 8 * 16);
    assert_eq!(world.sides[1].counters(STREAM).packets_discarded, 1000 - 8 * 16);
}

#[test]
fn a_flood_at_one_port_keeps_nothing_from_the_control_side_of_another_call() {
    const OTHER: PortId = PortId(3);
    let mut world = World::new(1);
    for (port, local) in [(STREAM, address(0)), (OTHER, address(2))] {
        let socket = world.sides[0].socket(local);
        world.sides[0].controller.open_stream(port, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    }
    let mut strays = Vec::new();
    for tick in 0..60 {
        if tick < 50 {
            for _ in 0..200 {
                world.network().send(address(1), address(0), &[0]);
            }
            world.network().send(address(1), address(2), &[0, 1, 0, 0]);
        }
        world.tick();
        let controller = &mut world.sides[0].controller;
        strays.extend(std::iter::from_fn(|| controller.poll_stray()).map(|stray| stray.port));
    }
    let of = |port: PortId| strays.iter().filter(|stray| **stray == port).count();
    assert_eq!(of(OTHER), 50);
    assert!((500..1000).contains(&of(STREAM)), "{}", of(STREAM));
    assert_eq!(world.sides[0].counters(OTHER).packets_discarded, 0);
}

#[test]
fn malformed_rtp_of_the_peer_is_counted_and_nothing_else() {
    let (mut world, _near, _far) = World::call(Codec::Opus, 48_000);
    world.run_ms(100);
    let bad = [
        rtp(55, 1, 1, 0x1000, &[1; 20]),
        // An extension and padding that are longer than the packet.
        [&[0x90_u8][..], &rtp(96, 1, 1, 0x1000, &[0, 0, 255, 255])[1..]].concat(),
        [&[0xA0_u8][..], &rtp(96, 1, 1, 0x1000, &[1, 2, 3, 200])[1..]].concat(),
        // No Opus packet: code 3 with a frame count of zero (RFC 6716 section 3.2.5).
        rtp(96, 1, 1, 0x1000, &[0xFF, 0]),
        vec![0x80],
        vec![0x80; 11],
    ];
    let before = world.sides[1].counters(STREAM).packets_invalid;
    for bytes in &bad {
        world.network().send(address(0), address(1), bytes);
    }
    world.run_ms(100);
    assert_eq!(world.sides[1].counters(STREAM).packets_invalid, before + 6);
    assert_eq!(world.sides[1].counters(STREAM).packets_lost, 0);
}
