//! The engine and its clock: ticks that were left out, load spread over ticks, packet times.

use crate::world::{STREAM, World, address, payload_type, plan};
use voipd_audio::TICK_NANOS;
use voipd_audio::plan::{Codec, SendPlan};
use voipd_audio::{PortId, StreamPlan};

#[test]
fn timestamps_follow_the_clock_over_ticks_that_were_left_out() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.run_ms(500);
    let before = world.network().sent_from(address(0)).len();
    world.network().now_nanos += 7 * TICK_NANOS;
    world.run_ms(200);
    let sent = world.network().sent_from(address(0));
    let (last, first) = (&sent[before - 1], &sent[before]);
    let passed = (first.at_nanos - last.at_nanos) / 1_000_000 * 8;
    assert_eq!(u64::from(first.timestamp().wrapping_sub(last.timestamp())), passed);
    assert_eq!(first.sequence(), last.sequence().wrapping_add(1));
    assert!(first.marker());
    assert_eq!(world.sides[0].controller.counters().ticks_missed, 7);
}

#[test]
fn late_ticks_are_counted_and_miss_nothing() {
    let mut world = World::new(1);
    world.sides[0].open_tape(PortId(1), 8000);
    let processor = &mut world.sides[0].processor;
    for (tick, late) in [(0, 0), (1, 20_000), (2, 7_000_000), (3, 30_000_000), (4, 20_000_000), (5, 0)] {
        let due = 5_000_000_000 + tick * TICK_NANOS;
        processor.tick(due + late, late);
    }
    processor.tick_took(250_000);
    processor.tick(5_060_000_000, 0);
    let counters = world.sides[0].controller.counters();
    assert_eq!((counters.ticks, counters.ticks_late, counters.ticks_missed), (7, 3, 0));
    assert_eq!(counters.lateness, [4, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(counters.longest_tick_us, 250);
}

#[test]
fn a_socket_is_asked_when_its_sound_is_wanted() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    let looks = |world: &mut World| {
        let before = world.network().looks;
        world.run_ms(1000);
        world.network().looks - before
    };
    looks(&mut world);
    assert_eq!(looks(&mut world), 100, "two streams with packets of 20 ms");
    let from = world.network().sent_from(address(0)).len();
    world.network().weather = Box::new(|_| Vec::new());
    world.run_ms(100);
    assert_eq!(looks(&mut world), 200, "what is missing is asked for in each tick");
    assert!(world.network().sent_from(address(0)).len() > from + 50);
}

/// Packets that eight streams have sent by tick, in a tenth of a second.
fn packets_by_tick(codec: Codec) -> Vec<usize> {
    let mut world = World::new(1);
    for stream in 0..8 {
        let socket = world.sides[0].socket(address(stream));
        let plan = plan(codec, stream, address(100));
        world.sides[0].controller.open_stream(PortId(stream as u32), plan, socket).unwrap();
    }
    world.run_ms(1000);
    let network = world.network();
    let start = network.sent.len() - 40;
    let mut ticks = std::collections::BTreeMap::new();
    for sent in &network.sent[start..] {
        *ticks.entry(sent.at_nanos).or_insert(0) += 1;
    }
    ticks.into_values().collect()
}

#[test]
fn costly_encoders_take_turns_and_cheap_ones_work_together() {
    for (codec, together) in
        [(Codec::Opus, 4), (Codec::G722, 4), (Codec::Pcmu, 8), (Codec::Pcma, 8), (Codec::L16Wide, 8)]
    {
        let ticks = packets_by_tick(codec);
        assert_eq!(ticks, vec![together; 40 / together], "{codec:?}");
    }
}

#[test]
fn every_packet_time_is_kept() {
    for (codec, asked, kept) in [
        (Codec::Pcmu, 10, 10),
        (Codec::Pcmu, 30, 30),
        (Codec::Pcma, 60, 60),
        (Codec::Opus, 10, 10),
        (Codec::Opus, 30, 20),
        (Codec::Opus, 40, 40),
        (Codec::Opus, 60, 60),
    ] {
        let (mut world, _near, _far) = World::call(codec, codec.sample_rate());
        let call = plan(codec, 0, address(1));
        let send = SendPlan { ptime_ms: asked, ..call.send.unwrap() };
        let changed = StreamPlan { generation: 2, send: Some(send), ..call };
        world.sides[0].controller.update_stream(STREAM, changed).unwrap();
        world.run_ms(1000);
        let sent = world.network().sent_from(address(0));
        assert_eq!(sent[5].payload_type(), payload_type(codec));
        for pair in sent[2..].windows(2) {
            assert_eq!(pair[1].at_nanos - pair[0].at_nanos, kept * 1_000_000, "{codec:?} {asked}");
            let units = pair[1].timestamp().wrapping_sub(pair[0].timestamp());
            assert_eq!(units, kept as u32 * codec.clock_rate() / 1000);
        }
        let heard = world.sides[1].counters(STREAM);
        assert_eq!(
            (heard.frames_concealed, u64::from(heard.receive_ptime_ms)),
            (0, kept),
            "{codec:?} {asked}"
        );
    }
}

#[test]
fn another_ssrc_is_another_source() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.run_ms(500);
    let call = plan(Codec::Pcmu, 0, address(1));
    let renewed = StreamPlan { generation: 2, ssrc: 0xFEED, ..call };
    world.sides[0].controller.update_stream(STREAM, renewed).unwrap();
    world.run_ms(500);
    let sent = world.network().sent_from(address(0));
    let change = sent.iter().position(|packet| packet.bytes[8..12] == 0xFEED_u32.to_be_bytes()).unwrap();
    assert_ne!(sent[change].sequence(), sent[change - 1].sequence().wrapping_add(1));
    assert!(sent[change].marker() && sent[change].sequence() < 0x8000);
    assert_eq!(world.sides[1].counters(STREAM).remote_ssrc, 0xFEED);
}
