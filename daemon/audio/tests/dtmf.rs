//! Telephone events (RFC 4733) from one engine to the other: exact on the wire, once at the far end.

use crate::world::{EVENTS, LATENCY, STREAM, Seeded, Sent, Side, TAPE, World, address, plan};
use voipd_audio::engine::EngineError;
use voipd_audio::plan::{Codec, EngineEvent, SendPlan};
use voipd_audio::{PortId, StreamPlan};

fn received(side: &Side) -> Vec<(char, u32)> {
    side.events
        .iter()
        .filter_map(|event| match event {
            EngineEvent::DtmfReceived { digit, duration_ms, .. } => Some((*digit, *duration_ms)),
            _ => None,
        })
        .collect()
}

fn duration(packet: &Sent) -> u16 {
    u16::from_be_bytes([packet.payload()[2], packet.payload()[3]])
}

#[test]
fn an_event_is_exact_on_the_wire() {
    for (codec, unit) in [(Codec::Pcmu, 8), (Codec::Opus, 48)] {
        let (mut world, _near, _far) = World::call(codec, codec.sample_rate());
        world.run_ms(300);
        world.sides[0].controller.send_dtmf(STREAM, '5', 100).unwrap();
        world.run_ms(500);
        let all = world.network().sent_from(address(0));
        let begin = all.iter().position(|packet| packet.payload_type() == EVENTS).expect("an event");
        let (before, event, after) = (&all[begin - 1], &all[begin..begin + 7], &all[begin + 7]);
        let start = before.timestamp().wrapping_add(20 * unit);
        for (n, packet) in event.iter().enumerate() {
            assert_eq!(packet.payload_type(), EVENTS);
            assert_eq!(packet.timestamp(), start, "the timestamp is that of the event's beginning");
            assert_eq!(packet.marker(), n == 0);
            assert_eq!(packet.payload()[0], 5);
            assert_eq!(packet.payload()[1] & 0x80 != 0, n >= 4, "the last packet comes three times");
            assert_eq!(u32::from(duration(packet)), 20 * unit * (n.min(4) as u32 + 1));
        }
        // Sound goes on at its own time, and says that it begins again.
        assert_ne!(after.payload_type(), EVENTS);
        assert!(after.marker());
        assert_eq!(after.timestamp(), start.wrapping_add(140 * unit));
        assert!(all[begin + 7..].iter().all(|packet| packet.payload_type() != EVENTS));
        for pair in all.windows(2) {
            assert_eq!(pair[1].sequence(), pair[0].sequence().wrapping_add(1));
            assert_eq!(pair[1].at_nanos - pair[0].at_nanos, 20_000_000);
        }
        assert_eq!(received(&world.sides[1]), [('5', 100)]);
        assert!(world.sides[0].events.contains(&EngineEvent::DtmfSent { port: STREAM, digit: '5' }));
        let counters = world.sides[1].counters(STREAM);
        assert_eq!((counters.packets_lost, counters.frames_concealed, counters.packets_late), (0, 0, 0));
        assert_eq!(world.sides[0].counters(STREAM).events_sent, 1);
    }
}

#[test]
fn every_digit_arrives_once_and_in_order_whatever_the_network_does() {
    const DIGITS: &str = "1998*0123456789#ABCD!55";
    for seed in 0..20 {
        let (mut world, _near, _far) = World::call(Codec::Pcma, 8000);
        let mut random = Seeded(seed);
        world.network().weather = Box::new(move |_| {
            let mut copies = Vec::new();
            if !random.chance(15) {
                copies.push(LATENCY + random.draw() % 45_000_000);
            }
            if random.chance(20) {
                copies.push(LATENCY + random.draw() % 90_000_000);
            }
            copies
        });
        for digit in DIGITS.chars() {
            world.sides[0].controller.send_dtmf(STREAM, digit, 80).unwrap();
        }
        world.run_ms(6000);
        let digits: String = received(&world.sides[1]).iter().map(|(digit, _)| *digit).collect();
        assert_eq!(digits, DIGITS, "seed {seed}");
    }
}

#[test]
fn an_event_whose_end_is_lost_ends_all_the_same() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.network().weather = Box::new(|sent| match sent.payload_type() {
        EVENTS if sent.payload()[1] & 0x80 != 0 => vec![],
        _ => vec![LATENCY],
    });
    world.sides[0].controller.send_dtmf(STREAM, '7', 200).unwrap();
    world.run_ms(1000);
    assert_eq!(received(&world.sides[1]), [('7', 180)]);
}

#[test]
fn a_long_event_is_one() {
    let (mut world, _near, _far) = World::call(Codec::Opus, 48_000);
    world.sides[0].controller.send_dtmf(STREAM, '0', 4000).unwrap();
    world.run_ms(5000);
    assert_eq!(received(&world.sides[1]), [('0', 4000)]);
}

#[test]
fn a_hold_breaks_an_event_off_and_keeps_those_that_wait() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    let call = plan(Codec::Pcmu, 0, address(1));
    world.sides[0].controller.send_dtmf(STREAM, '1', 1000).unwrap();
    world.sides[0].controller.send_dtmf(STREAM, '2', 100).unwrap();
    world.run_ms(500);
    let held = StreamPlan { generation: 2, send: None, ..call.clone() };
    world.sides[0].controller.update_stream(STREAM, held).unwrap();
    world.run_ms(1000);
    assert!(world.sides[0].events.contains(&EngineEvent::DtmfSent { port: STREAM, digit: '1' }));
    let heard = received(&world.sides[1]);
    assert!(matches!(heard[..], [('1', 400..600)]), "{heard:?}");
    world.sides[0].controller.update_stream(STREAM, StreamPlan { generation: 3, ..call }).unwrap();
    world.run_ms(1000);
    assert_eq!(received(&world.sides[1])[1..], [('2', 100)]);
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    let controller = &mut world.sides[0].controller;
    assert_eq!(controller.send_dtmf(PortId(99), '1', 100), Err(EngineError::NoSuchPort));
    assert_eq!(controller.send_dtmf(TAPE, '1', 100), Err(EngineError::WrongKind));
    assert_eq!(controller.send_dtmf(STREAM, 'x', 100), Err(EngineError::InvalidEvent));
    assert_eq!(controller.send_dtmf(STREAM, '1', 0), Err(EngineError::InvalidEvent));
    for _ in 0..32 {
        controller.send_dtmf(STREAM, '1', 40).unwrap();
    }
    assert_eq!(controller.send_dtmf(STREAM, '1', 40), Err(EngineError::TooManyEvents));
    world.run_ms(500);
    world.sides[0].controller.send_dtmf(STREAM, '2', 40).unwrap();
    let call = plan(Codec::Pcmu, 0, address(1));
    let send = SendPlan { events: None, ..call.send.unwrap() };
    let silent = StreamPlan { generation: 2, send: Some(send), ..call };
    world.sides[0].controller.update_stream(STREAM, silent).unwrap();
    assert_eq!(world.sides[0].controller.send_dtmf(STREAM, '1', 100), Err(EngineError::WrongKind));
}
