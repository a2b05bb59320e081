//! Hold and resume by plan: nothing is sent in between, and time goes on.

use crate::world::sound::{assert_same, rms, speech};
use crate::world::{STREAM, Sent, World, address, plan};
use voipd_audio::StreamPlan;
use voipd_audio::plan::Codec;

fn held(generation: u32) -> StreamPlan {
    StreamPlan { generation, send: None, play: false, ..plan(Codec::Pcmu, 0, address(1)) }
}

fn resumed(generation: u32) -> StreamPlan {
    StreamPlan { generation, ..plan(Codec::Pcmu, 0, address(1)) }
}

#[test]
fn timestamps_go_on_with_time_and_sequence_numbers_with_packets() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.run_ms(500);
    world.sides[0].controller.update_stream(STREAM, held(2)).unwrap();
    world.run_ms(20);
    let before = world.network().sent_from(address(0));
    world.run_ms(1230);
    assert_eq!(world.network().sent_from(address(0)).len(), before.len(), "nothing is sent while held");
    world.sides[0].controller.update_stream(STREAM, resumed(3)).unwrap();
    world.run_ms(500);
    let all = world.network().sent_from(address(0));
    let (last, first) = (before.last().unwrap(), &all[before.len()]);
    assert!(first.marker() && !last.marker() && !all[before.len() + 1].marker());
    assert_eq!(first.sequence(), last.sequence().wrapping_add(1));
    let passed_ms = (first.at_nanos - last.at_nanos) / 1_000_000;
    assert_eq!(first.timestamp(), last.timestamp().wrapping_add(passed_ms as u32 * 8));
    for pair in all[before.len()..].windows(2) {
        assert_eq!(pair[1].timestamp(), pair[0].timestamp().wrapping_add(160));
        assert_eq!(pair[1].at_nanos - pair[0].at_nanos, 20_000_000);
    }
}

#[test]
fn a_stream_that_sends_nothing_keeps_its_way_open_where_it_is_asked_to() {
    const UNKNOWN: u8 = 127;
    let kept = |world: &World| -> Vec<Sent> {
        let all = world.network().sent_from(address(0));
        all.into_iter().filter(|sent| sent.payload_type() == UNKNOWN).collect()
    };
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.run_ms(500);
    let listening = StreamPlan { keep_open: Some(UNKNOWN), play: true, ..held(2) };
    world.sides[0].controller.update_stream(STREAM, listening).unwrap();
    world.run_ms(20);
    let counted = world.sides[0].counters(STREAM);
    world.run_ms(980);
    assert_eq!(kept(&world).len(), 2, "at once, and once more should that be lost");
    world.run_ms(30_000);
    let packets = kept(&world);
    assert_eq!(packets.len(), 6);
    assert!(packets.iter().all(|packet| packet.bytes.len() == 12 && !packet.marker()));
    assert_eq!(packets[2].at_nanos - packets[0].at_nanos, 15_000_000_000);
    assert_eq!(packets[2].timestamp(), packets[0].timestamp().wrapping_add(15 * 8000));
    let counters = world.sides[0].counters(STREAM);
    assert_eq!(
        (counters.packets_sent, counters.octets_sent, counters.last_sent_nanos),
        (counted.packets_sent, counted.octets_sent, counted.last_sent_nanos)
    );

    world.sides[0].controller.update_stream(STREAM, resumed(3)).unwrap();
    world.run_ms(30_000);
    assert_eq!(kept(&world).len(), 6, "sound keeps it open");
    let all = world.network().sent_from(address(0));
    for pair in all.windows(2) {
        assert_eq!(pair[1].sequence(), pair[0].sequence().wrapping_add(1));
    }
    let first = all.iter().position(|sent| sent.payload_type() == UNKNOWN).unwrap();
    assert!(all[first + 6].marker());
    let heard = world.sides[1].counters(STREAM);
    assert_eq!((heard.packets_lost, heard.packets_invalid), (0, 0), "who hears of them misses nothing");
}

#[test]
fn a_held_stream_plays_nothing_and_a_resumed_one_plays_again() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
    far.feed(&speech(8000, 2.0, 6));
    world.run_ms(1000);
    world.sides[0].controller.update_stream(STREAM, held(2)).unwrap();
    world.run_ms(100);
    near.recorded();
    world.run_ms(900);
    assert_eq!(rms(&near.recorded()), 0.0);
    let counters = world.sides[0].counters(STREAM);
    assert_eq!(counters.packets_lost, 0, "what is not played is counted all the same");
    assert!(counters.packets_received > 95);
    world.sides[0].controller.update_stream(STREAM, resumed(3)).unwrap();
    world.run_ms(100);
    near.recorded();
    let words = speech(8000, 2.0, 7);
    far.feed(&words);
    world.run_ms(2300);
    assert_same(&words, &near.recorded(), 8000, 0.99);
    let counters = world.sides[0].counters(STREAM);
    assert_eq!((counters.packets_late, counters.frames_concealed, counters.packets_lost), (0, 0, 0));
}

#[test]
fn a_plan_of_an_old_generation_is_ignored() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.sides[0].controller.update_stream(STREAM, resumed(5)).unwrap();
    world.sides[0].controller.update_stream(STREAM, held(5)).unwrap();
    world.sides[0].controller.update_stream(STREAM, held(4)).unwrap();
    world.run_ms(500);
    assert!(world.network().sent_from(address(0)).len() >= 23);
}
