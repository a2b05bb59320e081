//! Speech crosses a call in both directions: nothing lost, nothing made up on a clean wire.

use crate::world::sound::{assert_same, speech};
use crate::world::{STREAM, Seeded, World};
use voipd_audio::StreamPlan;
use voipd_audio::plan::{Codec, EngineEvent, SendPlan, Steering};

fn both_ways(codec: Codec, rate: u32, least: f32) {
    let (mut world, mut near, mut far) = World::call(codec, rate);
    let (words, answer) = (speech(rate, 5.0, 1), speech(rate, 5.0, 2));
    near.feed(&words);
    far.feed(&answer);
    world.run_ms(5400);
    for (sent, heard) in [(&words, far.recorded()), (&answer, near.recorded())] {
        let delay = assert_same(sent, &heard, rate, least);
        // 15 ms of network, a packet of 20 ms, the jitter buffer's margin, the clock's phase; Opus has 6.5 ms of its own.
        assert!(delay <= rate as usize * 90 / 1000, "{codec:?}: {delay} samples at {rate} Hz");
    }
    for side in &world.sides {
        let counters = side.counters(STREAM);
        assert_eq!(
            (
                counters.packets_lost,
                counters.packets_late,
                counters.packets_duplicate,
                counters.packets_discarded
            ),
            (0, 0, 0, 0),
            "{codec:?}"
        );
        assert_eq!(
            (counters.packets_invalid, counters.packets_reordered, counters.frames_concealed),
            (0, 0, 0)
        );
        assert!(counters.packets_sent >= 268 && counters.packets_received >= 266, "{counters:?}");
        assert!(counters.frames_played >= 525, "{counters:?}");
        assert_eq!(counters.jitter_us, 0);
        assert_eq!(side.events, [EngineEvent::FirstPacket { port: STREAM }]);
    }
}

#[test]
fn pcmu() {
    both_ways(Codec::Pcmu, 8000, 0.99);
}

#[test]
fn pcma() {
    both_ways(Codec::Pcma, 8000, 0.99);
}

#[test]
fn opus() {
    both_ways(Codec::Opus, 48_000, 0.7);
}

#[test]
fn narrow_band_speech_at_a_wide_band_device() {
    both_ways(Codec::Pcmu, 48_000, 0.95);
}

#[test]
fn a_device_at_44100_hertz() {
    both_ways(Codec::Opus, 44_100, 0.7);
}

#[test]
fn speech_survives_loss_and_jitter() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
    let mut random = Seeded(7);
    world.network().weather = Box::new(move |_| match random.chance(3) {
        true => vec![],
        false => vec![20_000_000 + random.draw() % 30_000_000],
    });
    let words = speech(8000, 20.0, 3);
    near.feed(&words);
    far.feed(&speech(8000, 20.0, 4));
    world.run_ms(20_400);
    let counters = world.sides[1].counters(STREAM);
    let lost = counters.packets_lost as f64 / (counters.packets_received + counters.packets_lost) as f64;
    assert!((0.01..0.06).contains(&lost), "{counters:?}");
    assert!(counters.frames_concealed >= counters.packets_lost, "{counters:?}");
    assert!(counters.frames_concealed < 300, "{counters:?}");
    assert!(counters.jitter_us > 2000 && counters.packets_reordered > 0, "{counters:?}");
    assert!(crate::world::sound::rms(&far.recorded()) > 0.5 * crate::world::sound::rms(&words));
}

#[test]
fn forward_error_correction_brings_lost_packets_back() {
    // The same loss, without and with error correction.
    let heard = [false, true].map(|fec| {
        let (mut world, mut near, _far) = World::call(Codec::Opus, 48_000);
        let call =
            StreamPlan { generation: 2, ..crate::world::plan(Codec::Opus, 0, crate::world::address(1)) };
        let send = SendPlan { fec: true, ..call.send.unwrap() };
        let plan = StreamPlan { send: Some(send), ..call };
        world.sides[0].controller.update_stream(STREAM, plan).unwrap();
        let steering = Steering { fec, ..Steering::default() };
        world.sides[0].controller.steer(STREAM, steering).unwrap();
        let mut number = 0;
        world.network().weather = Box::new(move |_| {
            number += 1;
            if number % 11 == 0 { vec![] } else { vec![15_000_000] }
        });
        near.feed(&speech(48_000, 8.0, 20));
        world.run_ms(8000);
        assert_eq!(world.sides[0].counters(STREAM).send_fec, u8::from(fec));
        world.sides[1].counters(STREAM)
    });
    let [without, with] = heard;
    assert_eq!((without.packets_corrected, with.packets_lost), (0, without.packets_lost));
    assert!(with.frames_concealed * 4 < without.frames_concealed, "{with:?} {without:?}");
    assert!(with.packets_corrected * 4 > with.packets_lost * 3, "{with:?}");
}
