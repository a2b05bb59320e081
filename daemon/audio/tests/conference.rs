//! Three hear each other: each the two others and not itself, across codecs and rates.

use crate::world::sound::amplitude;
use crate::world::{STREAM, TAPE, World, address, plan};
use std::sync::Arc;

use voipd_audio::PortId;
use voipd_audio::engine::{Listener, ProgramPort, Side};
use voipd_audio::plan::Codec;

const SECOND: PortId = PortId(3);
const RECORDER: PortId = PortId(4);

fn sine(rate: u32, frequency: f32) -> Vec<f32> {
    let step = std::f32::consts::TAU * frequency / rate as f32;
    (0..rate as usize * 2).map(|n| 0.2 * (n as f32 * step).sin()).collect()
}

fn three(first: Codec, second: Codec) {
    for (side, recorded) in [
        (Side::Both, [true, true, true]),
        (Side::Near, [true, false, true]),
        (Side::Far, [false, true, false]),
    ] {
        three_and_a_recorder(first, second, side, recorded);
    }
}

/// `recorded`: who is heard where this side of the first call is recorded.
fn three_and_a_recorder(first: Codec, second: Codec, side: Side, recorded: [bool; 3]) {
    let mut world = World::new(3);
    // Side 0 mixes its own device and two calls.
    for (port, codec, local, remote) in [(STREAM, first, 10, 1), (SECOND, second, 20, 2)] {
        let socket = world.sides[0].socket(address(local));
        world.sides[0].controller.open_stream(port, plan(codec, local, address(remote)), socket).unwrap();
    }
    let mut tapes = vec![world.sides[0].open_tape(TAPE, 48_000)];
    let mixer = &mut world.sides[0].controller;
    mixer.connect(TAPE, &[STREAM, SECOND]).unwrap();
    mixer.connect(STREAM, &[TAPE, SECOND]).unwrap();
    mixer.connect(SECOND, &[TAPE, STREAM]).unwrap();
    for (end, codec, remote) in [(1, first, 10), (2, second, 20)] {
        let this = &mut world.sides[end];
        let socket = this.socket(address(end));
        this.controller.open_stream(STREAM, plan(codec, end, address(remote)), socket).unwrap();
        tapes.push(this.open_tape(TAPE, codec.sample_rate()));
        this.controller.connect(STREAM, &[TAPE]).unwrap();
        this.controller.connect(TAPE, &[STREAM]).unwrap();
    }
    let rates = [48_000, first.sample_rate(), second.sample_rate()];
    let voices = [440.0, 700.0, 1100.0];
    for ((tape, rate), voice) in tapes.iter_mut().zip(rates).zip(voices) {
        tape.feed(&sine(rate, voice));
    }
    let (ring, mut recording) = rtrb::RingBuffer::new(48_000 * 2);
    let listener = Some(Listener { side, ring, dropped: Arc::default() });
    let recorder = ProgramPort { source: None, listener, rate: 48_000 };
    world.sides[0].controller.open_program(RECORDER, recorder, STREAM).unwrap();
    world.run_ms(1000);
    tapes.iter_mut().for_each(|tape| drop(tape.recorded()));
    while recording.pop().is_ok() {}
    world.run_ms(500);
    let recording: Vec<f32> = std::iter::from_fn(|| recording.pop().ok()).collect();
    for (voice, wanted) in voices.into_iter().zip(recorded) {
        let level = amplitude(&recording, voice, 48_000);
        let expected = if wanted { 0.13..0.23 } else { 0.0..0.01 };
        assert!(expected.contains(&level), "{first:?}/{second:?}, {side:?}: {voice} Hz at {level}");
    }
    for (listener, (tape, rate)) in tapes.iter_mut().zip(rates).enumerate() {
        let heard = tape.recorded();
        for (speaker, voice) in voices.into_iter().enumerate() {
            let level = amplitude(&heard, voice, rate);
            if speaker == listener {
                assert!(level < 0.01, "{first:?}/{second:?}: {listener} hears itself at {level}");
            } else {
                assert!(
                    (0.14..0.23).contains(&level),
                    "{first:?}/{second:?}: {listener} hears {speaker} at {level}"
                );
            }
        }
    }
}

#[test]
fn in_narrow_band() {
    three(Codec::Pcmu, Codec::Pcma);
}

#[test]
fn across_rates() {
    three(Codec::Pcmu, Codec::Opus);
}

#[test]
fn in_full_band() {
    three(Codec::Opus, Codec::Opus);
}

/// So many in one conference; all of them but the silent ones hum, each at its own pitch.
fn many(codecs: &[Codec]) {
    let mut world = World::new(codecs.len() + 1);
    let hub = codecs.len();
    let ports: Vec<PortId> = (0..codecs.len() as u32).map(|number| PortId(10 + number)).collect();
    let mut tapes = Vec::new();
    for (side, codec) in codecs.iter().enumerate() {
        let socket = world.sides[hub].socket(address(100 + side));
        let at_hub = plan(*codec, 100 + side, address(side));
        world.sides[hub].controller.open_stream(ports[side], at_hub, socket).unwrap();
        let this = &mut world.sides[side];
        let socket = this.socket(address(side));
        let theirs = plan(*codec, side, address(100 + side));
        this.controller.open_stream(STREAM, theirs, socket).unwrap();
        tapes.push(this.open_tape(TAPE, codec.sample_rate()));
        this.controller.connect(STREAM, &[TAPE]).unwrap();
        this.controller.connect(TAPE, &[STREAM]).unwrap();
    }
    for port in &ports {
        let others: Vec<PortId> = ports.iter().copied().filter(|other| other != port).collect();
        world.sides[hub].controller.connect(*port, &others).unwrap();
    }
    let voice = |side: usize| 300.0 + 170.0 * side as f32;
    for (side, (tape, codec)) in tapes.iter_mut().zip(codecs).enumerate() {
        let quiet: Vec<f32> = sine(codec.sample_rate(), voice(side)).iter().map(|s| s * 0.3).collect();
        tape.feed(&quiet);
    }
    world.run_ms(1000);
    tapes.iter_mut().for_each(|tape| drop(tape.recorded()));
    world.run_ms(500);
    for (listener, (tape, codec)) in tapes.iter_mut().zip(codecs).enumerate() {
        let heard = tape.recorded();
        for speaker in 0..codecs.len() {
            let level = amplitude(&heard, voice(speaker), codec.sample_rate());
            match speaker == listener {
                true => assert!(level < 0.006, "{listener} hears itself at {level}"),
                false => assert!((0.04..0.08).contains(&level), "{listener} hears {speaker} at {level}"),
            }
        }
    }
}

#[test]
fn seven_of_one_rate() {
    many(&[Codec::Pcmu; 7]);
}

#[test]
fn seven_of_three_rates() {
    many(&[Codec::Pcmu, Codec::G722, Codec::Pcma, Codec::Opus, Codec::Pcmu, Codec::G722, Codec::Opus]);
}
