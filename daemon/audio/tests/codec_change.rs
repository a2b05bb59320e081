//! A plan changes the codec in the middle of a call.

use crate::support::sine;
use crate::world::sound::{assert_same, speech};
use crate::world::{STREAM, TAPE, World, address, payload_type, plan, rtp};
use voipd_audio::StreamPlan;
use voipd_audio::codec::{Encoder, EncoderSettings};
use voipd_audio::plan::Codec;

fn change(from: Codec, to: Codec) {
    let (mut world, mut near, mut far) = World::call(from, 48_000);
    let first = speech(48_000, 2.0, 8);
    near.feed(&first);
    world.run_ms(2400);
    assert_same(&first, &far.recorded(), 48_000, 0.6);
    assert_eq!(world.sides[1].counters(STREAM).received_codec(), Some(from));
    for (this, other) in [(0, 1), (1, 0)] {
        // What is under way in the old codec is still understood.
        let (old, new) = (plan(from, this, address(other)), plan(to, this, address(other)));
        let receive = [new.receive, old.receive].concat();
        let plan = StreamPlan { generation: 2, receive, ..new };
        world.sides[this].controller.update_stream(STREAM, plan).unwrap();
    }
    world.run_ms(200);
    far.recorded();
    let second = speech(48_000, 2.0, 9);
    near.feed(&second);
    world.run_ms(2400);
    assert_same(&second, &far.recorded(), 48_000, 0.6);

    let sent = world.network().sent_from(address(0));
    assert!(sent.iter().any(|packet| packet.payload_type() == payload_type(from)));
    assert_eq!(sent.last().unwrap().payload_type(), payload_type(to));
    for pair in sent.windows(2) {
        assert_eq!(pair[1].sequence(), pair[0].sequence().wrapping_add(1));
        let (same, step) = (
            pair[0].payload_type() == pair[1].payload_type(),
            pair[1].timestamp().wrapping_sub(pair[0].timestamp()),
        );
        if same {
            assert_eq!(step, 20 * pair[0].clock_units());
        } else {
            assert!(pair[1].marker());
            assert!(step < 60 * 48, "the timestamp goes on from where it is: {step}");
        }
    }
    let counters = world.sides[1].counters(STREAM);
    assert_eq!((counters.packets_lost, counters.packets_invalid), (0, 0));
    assert!(counters.frames_concealed <= 6, "{counters:?}");
    assert_eq!(counters.received_codec(), Some(to));
}

#[test]
fn from_narrow_to_full_band() {
    change(Codec::Pcmu, Codec::Opus);
}

#[test]
fn from_full_to_narrow_band() {
    change(Codec::Opus, Codec::Pcma);
}

#[test]
fn between_two_of_the_same_rate() {
    change(Codec::Pcma, Codec::Pcmu);
}

#[test]
fn a_peer_that_changes_between_agreed_codecs_is_heard() {
    let mut world = World::new(2);
    for (this, other) in [(0, 1), (1, 0)] {
        let (pcmu, opus) = (plan(Codec::Pcmu, this, address(other)), plan(Codec::Opus, this, address(other)));
        let receive = [pcmu.receive.clone(), opus.receive].concat();
        let socket = world.sides[this].socket(address(this));
        world.sides[this].controller.open_stream(STREAM, StreamPlan { receive, ..pcmu }, socket).unwrap();
    }
    let mut tapes = Vec::new();
    for side in &mut world.sides {
        tapes.push(side.open_tape(crate::world::TAPE, 48_000));
        side.controller.connect(STREAM, &[crate::world::TAPE]).unwrap();
        side.controller.connect(crate::world::TAPE, &[STREAM]).unwrap();
    }
    let words = speech(48_000, 4.0, 10);
    tapes[0].feed(&words);
    world.run_ms(2000);
    // Only the sender changes; the receiver learns it from the payload type.
    let opus = plan(Codec::Opus, 0, address(1));
    let change = StreamPlan { generation: 2, ..opus };
    world.sides[0].controller.update_stream(STREAM, change).unwrap();
    world.run_ms(2400);
    let heard = tapes[1].recorded();
    let tail = &words[2 * 48_000 + 24_000..3 * 48_000];
    let (correlation, _) = crate::world::sound::find(tail, &heard[2 * 48_000 + 24_000..], 12_000);
    assert!(correlation > 0.6, "{correlation}");
    assert_eq!(world.sides[1].counters(STREAM).packets_invalid, 0);
}

#[test]
fn a_change_of_the_band_makes_no_click() {
    for (from, to) in
        [(Codec::L16Full, Codec::Pcmu), (Codec::Pcmu, Codec::L16Full), (Codec::L16Full, Codec::G722)]
    {
        let (mut world, mut near, mut far) = World::call(from, 48_000);
        near.feed(&crate::support::sine(250.0, 0.3, 48_000, 4 * 48_000));
        world.run_ms(1000);
        for (this, other) in [(0, 1), (1, 0)] {
            let (old, new) = (plan(from, this, address(other)), plan(to, this, address(other)));
            let receive = [new.receive, old.receive].concat();
            let plan = StreamPlan { generation: 2, receive, ..new };
            world.sides[this].controller.update_stream(STREAM, plan).unwrap();
        }
        world.run_ms(1000);
        let heard = far.recorded();
        let natural = 0.3 * std::f32::consts::TAU * 250.0 / 48_000.0;
        let largest = heard[24_000..].windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        println!("{from:?} to {to:?}: {largest} against {natural}");
        assert!(largest < 4.0 * natural, "{from:?} to {to:?}: {largest} against {natural}");
    }
}

/// Loudness of the tones here.
const TONE: f32 = 0.1;

/// How loud a tone becomes whose sender goes on in another codec right behind a lost packet, and what was spent on gaps.
fn lose_before_the_change(from: Codec, to: Codec) -> (f32, u64) {
    const LOST: u16 = 155;
    let mut world = World::new(1);
    let (first, second) = (plan(from, 0, address(1)), plan(to, 0, address(1)));
    let receive = [first.receive.clone(), second.receive].concat();
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, StreamPlan { receive, ..first }, socket).unwrap();
    let mut tape = world.sides[0].open_tape(TAPE, 16_000);
    world.sides[0].controller.connect(TAPE, &[STREAM]).unwrap();
    let mut encoders = [from, to].map(|codec| Encoder::new(EncoderSettings::new(codec, 5)).unwrap());
    let mut held = Vec::new();
    for number in 0..200_u16 {
        let codec = if number > LOST { to } else { from };
        let encoder = &mut encoders[usize::from(codec != from)];
        // A packet holds whole periods.
        let rate = codec.sample_rate();
        let samples = sine(250.0, f64::from(TONE), rate, rate as usize / 50);
        let mut payload = [0; 640];
        let length = encoder.encode(&samples, &mut payload).unwrap();
        let timestamp = u32::from(number) * codec.clock_rate() / 50;
        if number != LOST {
            held.push(rtp(payload_type(codec), number, timestamp, 7, &payload[..length]));
        }
        // Of every ten two come with the third: so there is always something that follows.
        if number % 10 > 1 {
            for bytes in held.drain(..) {
                world.network().send(address(1), address(0), &bytes);
            }
        }
        world.run_ms(20);
    }
    assert_eq!(world.sides[0].counters(STREAM).packets_lost, 1);
    let heard = tape.recorded();
    let loudest = heard[16_000..].iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
    (loudest, world.sides[0].controller.counters().most_gap_work)
}

#[test]
fn a_packet_lost_before_the_change_is_not_filled_from_the_other_codecs() {
    for (from, to) in [(Codec::Pcmu, Codec::Pcma), (Codec::G722, Codec::Pcmu)] {
        let (_, work) = lose_before_the_change(from, from);
        assert!(work > 0, "{from:?} is filled from its own packets");
        let (loudest, work) = lose_before_the_change(from, to);
        assert!(work == 0 && loudest < 1.5 * TONE, "{from:?} to {to:?}: {loudest}, {work}");
    }
}
