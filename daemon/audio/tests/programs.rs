//! Program ports: what is written is heard by the peer, what is read is what both sides say, and nothing that a program
//! does or leaves undone disturbs the tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::world::sound::{amplitude, rms};
use crate::world::{STREAM, TAPE, World};
use voipd_audio::PortId;
use voipd_audio::engine::{EngineError, Listener, ProgramPort, Side};
use voipd_audio::plan::Codec;

const PROGRAM: PortId = PortId(7);

/// A program's ends of its rings.
struct Client {
    input: rtrb::Producer<f32>,
    output: rtrb::Consumer<f32>,
    dropped: Arc<AtomicU64>,
}

impl Client {
    fn open(world: &mut World, side: Side, rate: u32, frames: usize) -> Self {
        let (input, source) = rtrb::RingBuffer::new(rate as usize * 10);
        let (ring, output) = rtrb::RingBuffer::new(frames * side.channels());
        let dropped = Arc::new(AtomicU64::new(0));
        let listener = Some(Listener { side, ring, dropped: dropped.clone() });
        let port = ProgramPort { source: Some(source), listener, rate };
        world.sides[0].controller.open_program(PROGRAM, port, STREAM).unwrap();
        Client { input, output, dropped }
    }

    fn heard(&mut self) -> Vec<f32> {
        std::iter::from_fn(|| self.output.pop().ok()).collect()
    }
}

fn tone(hertz: f32, rate: u32, ms: u32) -> Vec<f32> {
    let step = std::f32::consts::TAU * hertz / rate as f32;
    (0..rate * ms / 1000).map(|n| 0.3 * (n as f32 * step).sin()).collect()
}

fn channel(frames: &[f32], place: usize) -> Vec<f32> {
    frames.chunks_exact(2).map(|frame| frame[place]).collect()
}

#[test]
fn what_is_written_is_heard_by_the_peer_at_every_rate() {
    for rate in [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
        let (mut world, _near, mut far) = World::call(Codec::G722, 48_000);
        let mut client = Client::open(&mut world, Side::Far, rate, rate as usize);
        world.sides[0].controller.connect(STREAM, &[PROGRAM]).unwrap();
        client.input.push_entire_slice(&tone(1000.0, rate, 1000)).unwrap();
        world.run_ms(700);
        far.recorded();
        world.run_ms(300);
        let level = amplitude(&far.recorded(), 1000.0, 48_000);
        assert!((0.26..0.34).contains(&level), "{rate}: {level}");
        world.run_ms(500);
        far.recorded();
        world.run_ms(200);
        assert!(rms(&far.recorded()) < 2e-3, "{rate}: silence after the end");
    }
}

#[test]
fn each_side_is_heard_by_itself_together_or_left_and_right() {
    for (side, rate) in [
        (Side::Far, 8000),
        (Side::Near, 16_000),
        (Side::Both, 22_050),
        (Side::Stereo, 44_100),
        (Side::Stereo, 48_000),
    ] {
        let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 48_000);
        let mut client = Client::open(&mut world, side, rate, rate as usize * 3);
        near.feed(&tone(500.0, 48_000, 2000));
        far.feed(&tone(1100.0, 48_000, 2000));
        world.run_ms(1000);
        client.heard();
        world.run_ms(500);
        let heard = client.heard();
        let frames = heard.len() / side.channels();
        assert!(frames.abs_diff(rate as usize / 2) <= 2, "{side:?} at {rate}: {frames} frames");
        let (left, right) = match side {
            Side::Stereo => (channel(&heard, 0), channel(&heard, 1)),
            Side::Far | Side::Near | Side::Both => (heard.clone(), heard),
        };
        let has = |sound: &[f32], hertz: f32| {
            let level = amplitude(sound, hertz, rate);
            assert!(!(0.02..0.25).contains(&level), "{side:?} at {rate}: {hertz} Hz at {level}");
            level > 0.25
        };
        let told = (has(&left, 500.0), has(&left, 1100.0), has(&right, 500.0), has(&right, 1100.0));
        let expected = match side {
            Side::Far => (false, true, false, true),
            Side::Near => (true, false, true, false),
            Side::Both => (true, true, true, true),
            Side::Stereo => (true, false, false, true),
        };
        assert_eq!(told, expected, "{side:?} at {rate}");
    }
}

#[test]
fn near_is_what_the_peer_is_told_mute_and_all() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 48_000);
    let mut client = Client::open(&mut world, Side::Near, 8000, 8000);
    world.sides[0].controller.connect(STREAM, &[TAPE, PROGRAM]).unwrap();
    near.feed(&tone(500.0, 48_000, 2000));
    client.input.push_entire_slice(&tone(900.0, 8000, 2000)).unwrap();
    world.run_ms(600);
    let (here, there) = (client.heard(), far.recorded());
    for hertz in [500.0, 900.0] {
        assert!(amplitude(&here[2400..], hertz, 8000) > 0.22);
        assert!(amplitude(&there[19_200..], hertz, 48_000) > 0.22);
    }
    world.sides[0].controller.set_muted(STREAM, true).unwrap();
    world.run_ms(100);
    client.heard();
    world.run_ms(200);
    assert_eq!(rms(&client.heard()), 0.0);
}

#[test]
fn who_does_not_read_loses_whole_frames_and_holds_up_nobody() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 48_000);
    // Room for 100 ms.
    let mut client = Client::open(&mut world, Side::Stereo, 8000, 800);
    near.feed(&tone(500.0, 48_000, 3000));
    far.feed(&tone(1100.0, 48_000, 3000));
    world.run_ms(1000);
    assert_eq!(client.dropped.load(Ordering::Relaxed), 900 * 8);
    let before = far.recorded();
    assert!(amplitude(&before[24_000..], 500.0, 48_000) > 0.25, "the peer hears on");
    client.heard();
    world.run_ms(100);
    let heard = client.heard();
    assert_eq!(heard.len(), 1600);
    assert!(amplitude(&channel(&heard, 0), 500.0, 8000) > 0.25, "left is left after a gap too");
    assert!(amplitude(&channel(&heard, 1), 1100.0, 8000) > 0.25);
    // A program that has gone is as good as one that does not read.
    drop(client.output);
    world.run_ms(1000);
    assert!(amplitude(&far.recorded()[24_000..], 500.0, 48_000) > 0.25);
}

#[test]
fn a_pause_is_no_fault_and_no_sample_is_lost() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 48_000);
    let mut client = Client::open(&mut world, Side::Near, 8000, 16_000);
    world.sides[0].controller.connect(STREAM, &[PROGRAM]).unwrap();
    // 10 ms and a half, and again after a pause: the half is not kept for ever.
    for _ in 0..3 {
        client.input.push_entire_slice(&[0.25; 120]).unwrap();
        world.run_ms(200);
    }
    let heard = client.heard();
    assert_eq!(heard.iter().filter(|sample| **sample == 0.25).count(), 360);
    let runs = heard.chunk_by(|a, b| a == b).filter(|run| run[0] == 0.25).count();
    assert!(runs <= 6, "{runs} pieces");
    let counters = world.sides[0].controller.counters();
    assert_eq!((counters.device_underruns, counters.device_overruns), (0, 0));
}

#[test]
fn when_the_stream_closes_there_is_silence_and_its_slot_means_nothing() {
    let (mut world, _near, mut far) = World::call(Codec::Pcmu, 48_000);
    let mut client = Client::open(&mut world, Side::Both, 8000, 8000);
    far.feed(&tone(1100.0, 48_000, 3000));
    world.run_ms(500);
    client.heard();
    world.sides[0].controller.close(STREAM);
    world.run_ms(20);
    client.heard();
    let mut other = world.sides[0].open_tape(PortId(9), 8000);
    other.feed(&[0.5; 4000]);
    world.run_ms(300);
    let heard = client.heard();
    assert_eq!((heard.len(), rms(&heard)), (2400, 0.0));
    let port = ProgramPort { source: None, listener: None, rate: 8000 };
    let refused = world.sides[0].controller.open_program(PortId(8), port, STREAM);
    assert_eq!(refused, Err(EngineError::NoSuchPort));
}
