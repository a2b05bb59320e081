//! Streams by way of a TURN server: the four bytes before each packet, rings to a connection, and changes of the path.

use std::net::SocketAddr;

use crate::world::{Side, World, address, plan};
use voipd_audio::engine::{MAX_DATAGRAM, RELAY_PACKETS, RelayEnds, RelayPacket, relay_rings};
use voipd_audio::plan::{Codec, Path, PortId, StreamPlan};

const PORT: PortId = PortId(1);
const OURS: usize = 0;
const SERVER: usize = 1;
const PEER: usize = 2;
const STRANGER: usize = 3;
const CHANNEL: u16 = 0x4007;

fn by_channel(generation: u32) -> StreamPlan {
    let path = Path::TurnChannel { server: address(SERVER), channel: CHANNEL };
    StreamPlan { generation, path, ..plan(Codec::Pcmu, OURS, address(SERVER)) }
}

fn by_stream(generation: u32) -> StreamPlan {
    let path = Path::Stream { peer: address(PEER), link: 1, channel: CHANNEL };
    StreamPlan { generation, path, ..plan(Codec::Pcmu, OURS, address(PEER)) }
}

fn rtp(sequence: u16) -> Vec<u8> {
    crate::world::rtp(0, sequence, u32::from(sequence) * 160, 0xABCD, &[0x2A; 160])
}

fn framed(channel: u16, packet: &[u8]) -> Vec<u8> {
    let mut framed = channel.to_be_bytes().to_vec();
    framed.extend((packet.len() as u16).to_be_bytes());
    framed.extend(packet);
    framed
}

fn received(side: &Side) -> u64 {
    side.controller.stream_counters(PORT).unwrap().packets_received
}

fn send(world: &World, from: SocketAddr, bytes: &[u8]) {
    world.network().send(from, address(OURS), bytes);
}

fn world(plan: StreamPlan) -> World {
    let mut world = World::new(1);
    let socket = world.sides[0].socket(address(OURS));
    let controller = &mut world.sides[0].controller;
    controller.open_stream(PORT, plan, socket).unwrap();
    controller.connect(PORT, &[PORT]).unwrap();
    world
}

#[test]
fn packets_go_and_come_in_the_channel() {
    let mut world = world(by_channel(1));
    for sequence in 0..50 {
        let mut packet = framed(CHANNEL, &rtp(sequence));
        // Some servers pad datagrams as they pad streams.
        packet.resize(packet.len() + usize::from(sequence % 4), 0);
        send(&world, address(SERVER), &packet);
        world.run_ms(20);
    }
    assert_eq!(received(&world.sides[0]), 50);
    let sent = world.network().sent_from(address(OURS));
    assert!(sent.len() >= 49, "{}", sent.len());
    for packet in sent {
        assert_eq!(packet.to, address(SERVER));
        assert_eq!(packet.bytes[..4], [0x40, 7, 0, 172]);
        assert_eq!(packet.bytes[4] & 0xC0, 0x80);
        assert_eq!(packet.bytes.len(), 176);
    }
}

#[test]
fn what_is_not_media_of_the_channel_goes_to_control() {
    let mut world = world(by_channel(1));
    let stun = [0_u8; 20];
    let data_indication = [0, 0x17, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let rtcp = [0x80, 200, 0, 0];
    let foreign = framed(CHANNEL + 1, &rtp(0));
    let inner = framed(CHANNEL, &stun);
    for bytes in [&data_indication[..], &inner, &framed(CHANNEL, &rtcp), &foreign] {
        send(&world, address(SERVER), bytes);
    }
    // Only the server of the plan is believed to speak for the channel.
    send(&world, address(STRANGER), &framed(CHANNEL, &rtp(0)));
    world.run_ms(40);
    let side = &mut world.sides[0];
    let strays: Vec<Vec<u8>> =
        std::iter::from_fn(|| side.controller.poll_stray()).map(|stray| stray.bytes).collect();
    let forged = framed(CHANNEL, &rtp(0));
    assert_eq!(
        strays,
        [&data_indication[..], &inner, &rtcp, &foreign, &forged],
        "STUN whole, RTCP without header"
    );
    assert_eq!(received(side), 0);
}

#[test]
fn the_path_changes_without_a_lost_packet() {
    let mut world = world(by_channel(1));
    for sequence in 0..100_u16 {
        match sequence {
            30 => {
                let path = Path::Udp { remote: address(PEER), symmetric: false };
                let direct = StreamPlan { generation: 2, path, ..by_channel(2) };
                world.sides[0].controller.update_stream(PORT, direct).unwrap();
            }
            70 => world.sides[0].controller.update_stream(PORT, by_channel(3)).unwrap(),
            _ => {}
        }
        // The peer changes its path a little later than we do.
        match sequence {
            35..75 => send(&world, address(PEER), &rtp(sequence)),
            _ => send(&world, address(SERVER), &framed(CHANNEL, &rtp(sequence))),
        }
        world.run_ms(20);
    }
    let counters = world.sides[0].controller.stream_counters(PORT).unwrap();
    assert_eq!((counters.packets_received, counters.packets_lost), (100, 0), "{counters:?}");
}

fn pop(ends: &mut RelayEnds) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| ends.outgoing.pop().ok()).map(|packet| packet.message().to_vec()).collect()
}

#[test]
fn packets_go_and_come_through_the_rings_of_a_connection() {
    let mut world = world(by_stream(1));
    let (port, mut ends) = relay_rings();
    world.sides[0].controller.attach_relay(PORT, Some(port)).unwrap();
    let mut sent = Vec::new();
    for sequence in 0..50 {
        let now = world.network().now_nanos;
        ends.push(RelayPacket::new(&framed(CHANNEL, &rtp(sequence)), now).unwrap());
        world.run_ms(20);
        sent.extend(pop(&mut ends));
    }
    assert_eq!(received(&world.sides[0]), 50);
    assert!(sent.len() >= 49 && sent.iter().all(|packet| packet[..4] == [0x40, 7, 0, 172]), "{}", sent.len());
    assert!(world.network().sent_from(address(OURS)).is_empty(), "nothing past the relay");
    assert!(*world.sides[0].wakes.lock().unwrap() >= 49, "the control side is woken for what is sent");
}

#[test]
fn a_connection_that_takes_and_brings_too_much_costs_packets_that_are_counted() {
    let mut world = world(by_stream(1));
    let (port, mut ends) = relay_rings();
    world.sides[0].controller.attach_relay(PORT, Some(port)).unwrap();
    for sequence in 0..100 {
        ends.push(RelayPacket::new(&framed(CHANNEL, &rtp(sequence)), 0).unwrap());
    }
    world.run_ms(2000);
    let counters = world.sides[0].controller.stream_counters(PORT).unwrap();
    assert_eq!(counters.packets_received as usize, RELAY_PACKETS);
    assert_eq!(counters.packets_discarded as usize, 100 - RELAY_PACKETS);
    assert_eq!(pop(&mut ends).len(), RELAY_PACKETS);
    assert!(counters.packets_unsent > 50, "{counters:?}");
    // Another connection takes the place of a lost one.
    let (port, mut others) = relay_rings();
    world.sides[0].controller.attach_relay(PORT, Some(port)).unwrap();
    world.run_ms(200);
    assert!(pop(&mut others).len() >= 9);
    assert!(ends.outgoing.is_abandoned(), "the old rings are freed");
    world.sides[0].controller.attach_relay(PORT, None).unwrap();
    world.run_ms(20);
    assert!(others.outgoing.is_abandoned());
}

#[test]
fn messages_that_are_too_long_are_no_packets() {
    assert!(RelayPacket::new(&[0; MAX_DATAGRAM + 1], 0).is_none());
    assert!(RelayPacket::new(&[0; MAX_DATAGRAM], 0).is_some());
}

#[test]
fn a_packet_that_the_control_side_hands_over_is_played_as_if_it_had_come() {
    let path = Path::Udp { remote: address(PEER), symmetric: false };
    let mut world = world(StreamPlan { path, ..by_channel(1) });
    for sequence in 0..20 {
        let packet = rtp(sequence);
        match sequence % 2 {
            0 => send(&world, address(PEER), &packet),
            _ => world.sides[0].controller.hand(PORT, &packet, 0).unwrap(),
        }
        world.run_ms(20);
    }
    let counters = world.sides[0].controller.stream_counters(PORT).unwrap();
    assert_eq!((counters.packets_received, counters.packets_invalid), (20, 0), "{counters:?}");
    // What is no packet of sound is counted, what is none at all left out, and a closed stream takes nothing.
    let controller = &mut world.sides[0].controller;
    for bytes in [&[0x80, 200, 0, 0][..], &[0; 20], &[], &[0x80; 4000]] {
        controller.hand(PORT, bytes, 0).unwrap();
    }
    world.run_ms(20);
    let controller = &mut world.sides[0].controller;
    assert_eq!(controller.stream_counters(PORT).unwrap().packets_invalid, 3);
    controller.close(PORT);
    assert!(controller.hand(PORT, &rtp(30), 0).is_err());
}
