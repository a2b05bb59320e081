//! RFC 2198: what a lost packet held is played from a later one, and the wire's losses are counted all the same.

use crate::world::sound::{assert_same, speech};
use crate::world::{STREAM, Seeded, Sent, Tape, World, address, payload_type, plan, rtp};
use voipd_audio::StreamPlan;
use voipd_audio::plan::{Codec, ReceiveKind, SendPlan, Steering};

const RED: u8 = 63;

/// A call whose sides take redundant data; the first sends `copies`.
fn call(codec: Codec, copies: u8) -> (World, Tape, Tape) {
    let (mut world, near, far) = World::call(codec, codec.sample_rate());
    for (this, other) in [(0, 1), (1, 0)] {
        let basis = plan(codec, this, address(other));
        let send = SendPlan { redundancy: Some(RED), ..basis.send.unwrap() };
        let mut receive = basis.receive.clone();
        receive.push((RED, ReceiveKind::Redundant));
        let plan = StreamPlan { generation: 2, send: Some(send), receive, ..basis };
        world.sides[this].controller.update_stream(STREAM, plan).unwrap();
    }
    world.sides[0].controller.steer(STREAM, Steering { copies, ..Steering::default() }).unwrap();
    (world, near, far)
}

/// Loses what `lost` names by sequence number, of the first side's packets.
fn lose(world: &mut World, lost: impl Fn(u16) -> bool + Send + 'static) {
    world.network().weather =
        Box::new(move |sent: &Sent| match sent.from == address(0) && lost(sent.sequence()) {
            true => vec![],
            false => vec![15_000_000],
        });
}

#[test]
fn one_copy_makes_up_for_every_single_loss() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::L16Wide, Codec::Opus] {
        let (mut world, mut near, mut far) = call(codec, 1);
        lose(&mut world, |sequence| sequence % 9 == 4);
        let words = speech(codec.sample_rate(), 8.0, 5);
        near.feed(&words);
        world.run_ms(8300);
        let counters = world.sides[1].counters(STREAM);
        assert!(counters.packets_lost > 40, "{codec:?}: {counters:?}");
        // The first loss shows that copies are worth waiting for.
        assert!(counters.packets_restored + 1 >= counters.packets_lost, "{codec:?}: {counters:?}");
        assert!(counters.frames_concealed <= 6, "{codec:?}: {counters:?}");
        assert_eq!((counters.packets_duplicate, counters.packets_invalid), (0, 0), "{codec:?}: {counters:?}");
        // No more than the copy's 20 ms is added to the delay, and the sound is whole.
        assert!(counters.buffer_us <= 75_000, "{codec:?}: {counters:?}");
        let second = codec.sample_rate() as usize;
        let least = if codec == Codec::Opus { 0.7 } else { 0.98 };
        assert_same(&words[2 * second..7 * second], &far.recorded()[2 * second..], second as u32, least);
        assert_eq!(world.sides[0].counters(STREAM).send_copies, 1);
    }
}

#[test]
fn two_copies_make_up_for_pairs() {
    let (mut world, mut near, _far) = call(Codec::Pcmu, 2);
    lose(&mut world, |sequence| matches!(sequence % 17, 4 | 5));
    near.feed(&speech(8000, 10.0, 6));
    world.run_ms(10_300);
    let counters = world.sides[1].counters(STREAM);
    assert!(counters.packets_lost > 50, "{counters:?}");
    assert!(counters.packets_restored + 2 >= counters.packets_lost, "{counters:?}");
    assert!(counters.frames_concealed <= 10, "{counters:?}");
}

#[test]
fn a_packet_that_comes_behind_its_copy_counts_as_come() {
    let (mut world, mut near, mut far) = call(Codec::Pcmu, 1);
    let (mut number, mut random) = (0_u64, Seeded(4));
    // Every fifth packet is overtaken by the next.
    world.network().weather = Box::new(move |_| {
        number += 1;
        vec![if number.is_multiple_of(5) { 38_000_000 } else { 15_000_000 + random.draw() % 1_000_000 }]
    });
    let words = speech(8000, 5.0, 7);
    near.feed(&words);
    world.run_ms(5400);
    let counters = world.sides[1].counters(STREAM);
    assert!(counters.packets_reordered > 20 && counters.packets_restored > 20, "{counters:?}");
    assert_eq!((counters.packets_lost, counters.packets_duplicate), (0, 0), "{counters:?}");
    assert_same(&words[16_000..36_000], &far.recorded()[16_000..], 8000, 0.98);
}

#[test]
fn a_wire_without_losses_pays_no_delay_for_copies() {
    let held = [0, 2].map(|copies| {
        let (mut world, mut near, _far) = call(Codec::Pcmu, copies);
        near.feed(&speech(8000, 3.0, 8));
        world.run_ms(3200);
        let counters = world.sides[1].counters(STREAM);
        assert_eq!((counters.packets_restored, counters.frames_concealed), (0, 0), "{counters:?}");
        counters.buffer_us
    });
    assert_eq!(held[0], held[1]);
}

#[test]
fn packets_are_as_the_rfc_has_them() {
    let (mut world, mut near, _far) = call(Codec::Pcmu, 2);
    near.feed(&speech(8000, 1.0, 9));
    world.run_ms(900);
    let sent = world.network().sent_from(address(0));
    assert_eq!(sent[0].payload_type(), 0, "the first has nothing to repeat");
    assert_eq!((sent[1].payload_type(), sent[1].payload().len()), (RED, 2 * 160 + 5));
    for three in sent[1..].windows(3) {
        let payload = three[2].payload();
        let header = |offset: u32| (1 << 31 | offset << 10 | 160_u32).to_be_bytes();
        assert_eq!((&payload[..4], &payload[4..8], payload[8]), (&header(320)[..], &header(160)[..], 0));
        assert_eq!(payload[9..169], three[0].payload()[three[0].payload().len() - 160..]);
        assert_eq!(payload[169..329], three[1].payload()[three[1].payload().len() - 160..]);
    }
    // A digit, and what follows begins anew.
    world.sides[0].controller.send_dtmf(STREAM, '5', 60).unwrap();
    world.run_ms(60);
    world.sides[0].controller.steer(STREAM, Steering::default()).unwrap();
    world.run_ms(200);
    let last = world.network().sent_from(address(0)).pop().unwrap();
    assert_eq!((last.payload_type(), last.payload().len()), (0, 160));
}

#[test]
fn a_peer_that_did_not_agree_gets_no_copies() {
    let (mut world, mut near, _far) = World::call(Codec::Pcmu, 8000);
    world.sides[0].controller.steer(STREAM, Steering { copies: 2, ..Steering::default() }).unwrap();
    near.feed(&speech(8000, 1.0, 9));
    world.run_ms(500);
    assert!(world.network().sent_from(address(0)).iter().all(|sent| sent.payload_type() == 0));
    assert_eq!(world.sides[0].counters(STREAM).send_copies, 0);
}

#[test]
fn the_packet_time_changes_without_a_gap() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        let (mut world, mut near, mut far) = call(codec, 1);
        let rate = codec.sample_rate();
        let words = speech(rate, 8.2, 10);
        near.feed(&words);
        for ptime_ms in [Some(40), Some(60), Some(20), None] {
            world.run_ms(2050);
            let steering = Steering { ptime_ms, copies: 1, ..Steering::default() };
            world.sides[0].controller.steer(STREAM, steering).unwrap();
            world.run_ms(20);
            assert_eq!(world.sides[0].counters(STREAM).send_ptime_ms, ptime_ms.unwrap_or(20));
        }
        let sent = world.network().sent_from(address(0));
        let step =
            |pair: &[Sent]| pair[1].timestamp().wrapping_sub(pair[0].timestamp()) / sent[0].clock_units();
        let steps: Vec<u32> = sent.windows(2).map(step).collect();
        assert!([20, 40, 60].iter().all(|wanted| steps.iter().filter(|step| *step == wanted).count() > 20));
        assert!(steps.iter().all(|step| [20, 40, 60].contains(step)), "{steps:?}");
        let counters = world.sides[1].counters(STREAM);
        assert_eq!((counters.packets_lost, counters.packets_restored), (0, 0), "{counters:?}");
        let least = if codec == Codec::Opus { 0.7 } else { 0.98 };
        // The delay changes with the packet time, and nothing is missing in between.
        let heard = far.recorded();
        for tenths in [0, 26, 47, 67] {
            let from = rate as usize * tenths / 10;
            assert_same(&words[from..from + rate as usize * 14 / 10], &heard[from..], rate, least);
        }
    }
}

#[test]
fn the_bitrate_follows_and_never_leaves_what_the_peer_wants() {
    let (mut world, mut near, _far) = World::call(Codec::Opus, 48_000);
    near.feed(&speech(48_000, 10.0, 11));
    let mut rates = Vec::new();
    for bitrate in [None, Some(8_000), Some(64_000)] {
        world.sides[0].controller.steer(STREAM, Steering { bitrate, ..Steering::default() }).unwrap();
        let before = world.sides[0].counters(STREAM).octets_sent;
        world.run_ms(2000);
        rates.push((world.sides[0].counters(STREAM).octets_sent - before) * 4);
    }
    assert!(rates[1] * 2 < rates[0] && rates[0] * 3 < rates[2] * 2, "{rates:?}");
    let basis = plan(Codec::Opus, 0, address(1));
    let send = SendPlan { bitrate: Some(16_000), ..basis.send.unwrap() };
    let plan = StreamPlan { generation: 2, send: Some(send), ..basis };
    world.sides[0].controller.update_stream(STREAM, plan).unwrap();
    world.run_ms(100);
    assert_eq!(world.sides[0].counters(STREAM).send_bitrate, 16_000);
}

#[test]
fn blocks_of_strangers_harm_nothing() {
    let (mut world, mut near, mut far) = call(Codec::Pcmu, 1);
    let words = speech(8000, 5.0, 12);
    near.feed(&words);
    let mut random = Seeded(5);
    for _ in 0..520 {
        // Under the peer's own SSRC and address: the blocks alone are wrong.
        let last = world.network().sent_from(address(0)).pop();
        if let Some(last) = last {
            let mut payload: Vec<u8> = (0..random.draw() % 40).map(|_| random.draw() as u8).collect();
            if let Some(first) = payload.first_mut() {
                *first = [0x80, 0x80 | RED, RED, 0x80 | 101, 0xFF][random.draw() as usize % 5];
            }
            let bytes = rtp(RED, last.sequence(), last.timestamp(), 0x1000, &payload);
            world.network().send(address(0), address(1), &bytes);
            let header = [0x80, 0xFF, 0xFF, 0xFF, payload_type(Codec::Pcmu)];
            let bytes = rtp(RED, last.sequence(), last.timestamp(), 0x1000, &header);
            world.network().send(address(0), address(1), &bytes);
        }
        world.tick();
    }
    assert_same(&words, &far.recorded(), 8000, 0.9);
    assert!(world.sides[1].counters(STREAM).packets_invalid > 500);
}
