//! Device ports: clocks that drift, callbacks that stall, files that end, tones.

use std::sync::Arc;

use crate::world::sound::{amplitude, rms};
use crate::world::{STREAM, World, address, plan};
use voipd_audio::PortId;
use voipd_audio::engine::{Clip, DevicePort, Pace};
use voipd_audio::plan::{Codec, EngineEvent};
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Signal, Tone};

const DEVICE: PortId = PortId(5);

/// A sound card with a clock of its own: what it plays is what it records.
struct Card {
    record: rtrb::Producer<f32>,
    play: rtrb::Consumer<f32>,
    rate: f64,
    burst: usize,
    due: f64,
    phase: f64,
    played: Vec<f32>,
    /// Samples that it wanted and did not get.
    missed: usize,
}

impl Card {
    fn new(world: &mut World, rate: u32, ppm: f64, target: usize, burst: usize) -> Self {
        let (record, capture) = rtrb::RingBuffer::new(rate as usize);
        let (playback, play) = rtrb::RingBuffer::new(rate as usize);
        let pace = Pace::Device { target };
        let device = DevicePort { capture: Some(capture), playback: Some(playback), rate, pace };
        world.sides[0].controller.open_device(DEVICE, device).unwrap();
        let rate = f64::from(rate) * (1.0 + ppm / 1e6);
        Card { record, play, rate, burst, due: 0.0, phase: 0.0, played: Vec::new(), missed: 0 }
    }

    /// 10 ms of the tick's time: as many callbacks as the card's clock brings.
    fn run(&mut self, frequency: f64) {
        self.due += self.rate / 100.0;
        while self.due >= self.burst as f64 {
            self.due -= self.burst as f64;
            for _ in 0..self.burst {
                self.phase = (self.phase + frequency / self.rate).fract();
                let _ = self.record.push(0.3 * (self.phase * std::f64::consts::TAU).sin() as f32);
                match self.play.pop() {
                    Ok(sample) => self.played.push(sample),
                    Err(_) => self.missed += 1,
                }
            }
        }
    }
}

fn drift(rate: u32, ppm: f64, burst: usize) {
    let mut world = World::new(1);
    let target = rate as usize / 50;
    let mut card = Card::new(&mut world, rate, ppm, target, burst);
    // The card hears itself through the engine.
    world.sides[0].controller.connect(DEVICE, &[DEVICE]).unwrap();
    for _ in 0..200 {
        card.run(1000.0);
        world.tick();
    }
    card.missed = 0;
    let start = world.sides[0].controller.counters();
    for second in 0..60 {
        card.played.clear();
        for _ in 0..100 {
            card.run(1000.0);
            world.tick();
        }
        // The tone comes back without a break; that its pitch moves a little while the clocks are being matched shows
        // over longer times only.
        for piece in card.played.chunks_exact(rate as usize / 10) {
            let level = amplitude(piece, 1000.0, rate);
            assert!((0.29..0.31).contains(&level), "{rate} Hz, {ppm} ppm, second {second}: {level}");
        }
    }
    let end = world.sides[0].controller.counters();
    assert_eq!(card.missed, 0, "{rate} Hz, {ppm} ppm");
    assert_eq!(end.device_underruns, start.device_underruns, "{rate} Hz, {ppm} ppm");
    assert_eq!(end.device_overruns, start.device_overruns, "{rate} Hz, {ppm} ppm");
}

#[test]
fn a_fast_card() {
    drift(48_000, 250.0, 240);
}

#[test]
fn a_slow_card() {
    drift(48_000, -250.0, 240);
}

#[test]
fn a_card_of_another_rate() {
    drift(44_100, 100.0, 441);
}

#[test]
fn a_card_of_telephone_rate() {
    drift(8_000, -100.0, 80);
}

#[test]
fn a_card_that_stalls_at_first_is_trimmed() {
    let mut world = World::new(1);
    let mut card = Card::new(&mut world, 48_000, 0.0, 960, 240);
    world.sides[0].controller.connect(DEVICE, &[DEVICE]).unwrap();
    // Two seconds without a callback, then all of them at once.
    world.run_ms(2000);
    card.due = 2.0 * 48_000.0;
    card.run(1000.0);
    for _ in 0..100 {
        card.run(1000.0);
        world.tick();
    }
    (card.missed, card.played) = (0, Vec::new());
    for _ in 0..300 {
        card.run(1000.0);
        world.tick();
    }
    assert_eq!(card.missed, 0);
    assert!(amplitude(&card.played, 1000.0, 48_000) > 0.27);
    // The rings are near their targets again: 20 ms each and a callback's worth.
    assert!(card.play.slots() < 2 * 960, "{} samples to play", card.play.slots());
    assert!(card.record.buffer().capacity() - card.record.slots() < 2 * 960);
    let counters = world.sides[0].controller.counters();
    assert!((1..=6).contains(&counters.device_overruns), "episodes, not samples: {counters:?}");
}

#[test]
fn what_a_start_leaves_in_the_rings_is_gone_five_seconds_later_where_there_is_no_pause() {
    let mut world = World::new(1);
    let mut card = Card::new(&mut world, 48_000, 0.0, 720, 240);
    world.sides[0].controller.connect(DEVICE, &[DEVICE]).unwrap();
    for _ in 0..20 {
        card.run(1000.0);
        world.tick();
    }
    // The card records 30 ms at once, and stands still while 30 ms are given to it.
    card.due += 3.0 * 480.0;
    let played = card.played.len();
    card.run(1000.0);
    card.played.truncate(played);
    for _ in 0..3 {
        world.tick();
    }
    let held = |card: &Card| (card.record.buffer().capacity() - card.record.slots(), card.play.slots());
    let (_, before) = held(&card);
    assert!(before > 720 + 480 + 480, "{before} samples wait to be played");
    (card.missed, card.played) = (0, Vec::new());
    for _ in 0..550 {
        card.run(1000.0);
        world.tick();
    }
    let (recorded, to_play) = held(&card);
    // Between ticks: what a tick leaves in the one, and has put into the other.
    assert!(recorded < 720 && to_play < 720 + 480 + 360, "{recorded} and {to_play} samples");
    assert_eq!((card.missed, world.sides[0].controller.counters().device_overruns), (0, 0));
    let steps = card.played.windows(2).map(|two| (two[1] - two[0]).abs()).fold(0.0, f32::max);
    assert!(steps < 1.5 * 0.3 * std::f32::consts::TAU / 48.0, "a click of {steps}");
}

#[test]
fn a_card_that_dies_leaves_silence() {
    let mut world = World::new(1);
    let card = Card::new(&mut world, 48_000, 0.0, 960, 240);
    drop(card);
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    world.sides[0].controller.connect(STREAM, &[DEVICE]).unwrap();
    world.sides[0].controller.connect(DEVICE, &[STREAM]).unwrap();
    world.run_ms(1000);
    assert!(world.network().sent_from(address(0)).len() >= 49);
    let counters = world.sides[0].controller.counters();
    assert_eq!((counters.device_underruns, counters.device_overruns), (0, 0));
}

#[test]
fn a_file_gives_all_it_has_and_its_end_is_told_once() {
    let mut world = World::new(1);
    for rate in [8_000_u32, 16_000, 44_100, 48_000] {
        let (file, record) = (PortId(rate), PortId(rate + 1));
        let mut source = world.sides[0].open_tape(file, rate);
        let mut sink = world.sides[0].open_tape(record, rate);
        world.sides[0].controller.connect(record, &[file]).unwrap();
        let step = std::f32::consts::TAU * 440.0 / rate as f32;
        let tone: Vec<f32> = (0..rate + 17).map(|n| 0.3 * (n as f32 * step).sin()).collect();
        source.feed(&tone);
        drop(source);
        world.run_ms(500);
        assert!(world.sides[0].events.is_empty());
        world.run_ms(1000);
        let ended = EngineEvent::SourceEnded { port: file };
        assert_eq!(std::mem::take(&mut world.sides[0].events), [ended], "{rate}");
        let heard = sink.recorded();
        assert!(heard.len().abs_diff(rate as usize * 3 / 2) <= 64, "{rate}: {}", heard.len());
        let second = &heard[rate as usize / 10..rate as usize];
        assert!((amplitude(second, 440.0, rate) - 0.3).abs() < 0.02, "{rate}");
        assert!(rms(&heard[rate as usize * 6 / 5..]) < 1e-3, "{rate}");
        let counters = world.sides[0].controller.counters();
        assert_eq!((counters.device_underruns, counters.device_overruns), (0, 0));
        world.sides[0].controller.close(file);
        world.sides[0].controller.close(record);
    }
}

#[test]
fn a_file_that_is_read_too_slowly_makes_a_gap_and_loses_nothing() {
    let mut world = World::new(1);
    let mut source = world.sides[0].open_tape(PortId(1), 8000);
    let mut sink = world.sides[0].open_tape(PortId(2), 8000);
    world.sides[0].controller.connect(PortId(2), &[PortId(1)]).unwrap();
    source.feed(&[0.25; 4000]);
    world.run_ms(600);
    source.feed(&[0.25; 4000]);
    world.run_ms(600);
    let heard = sink.recorded();
    assert_eq!(heard.iter().filter(|sample| **sample == 0.25).count(), 8000);
    assert_eq!(world.sides[0].controller.counters().device_underruns, 20);
}

#[test]
fn a_clip_sounds_in_the_place_of_a_tone_until_it_is_stopped() {
    for rate in [8000_u32, 16_000, 48_000] {
        let mut world = World::new(1);
        let mut tape = world.sides[0].open_tape(DEVICE, rate);
        // A tenth of a second, then as much silence.
        let step = std::f32::consts::TAU * 500.0 / 48_000.0;
        let sound: Vec<f32> =
            (0..9600).map(|n| if n < 4800 { 0.3 * (n as f32 * step).sin() } else { 0.0 }).collect();
        world.sides[0].controller.play_clip(DEVICE, Arc::new(Clip::new(&sound))).unwrap();
        world.run_ms(1000);
        let heard = tape.recorded();
        let tenth = rate as usize / 10;
        for (number, piece) in heard.chunks_exact(tenth).enumerate() {
            let middle = &piece[tenth / 10..tenth * 9 / 10];
            let level = if number % 2 == 0 { 0.3 } else { 0.0 };
            assert!((amplitude(middle, 500.0, rate) - level).abs() < 0.02, "{rate}: piece {number}");
        }
        assert!(world.sides[0].events.is_empty(), "it does not end");
        world.sides[0].controller.play_tone(DEVICE, None).unwrap();
        world.run_ms(50);
        tape.recorded();
        world.run_ms(200);
        assert_eq!(rms(&tape.recorded()), 0.0);
    }
}

#[test]
fn tones_sound_at_devices_and_at_peers_and_end() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 48_000);
    world.run_ms(500);
    near.recorded();
    far.recorded();
    world.sides[0].controller.play_tone(crate::world::TAPE, Some(Tone::test(800.0, 300))).unwrap();
    world.sides[0].controller.play_tone(STREAM, Some(Tone::test(600.0, 300))).unwrap();
    world.run_ms(200);
    let (here, there) = (near.recorded(), far.recorded());
    assert!((amplitude(&here[2400..], 800.0, 48_000) - 0.3).abs() < 0.03);
    assert!((amplitude(&there[4800..], 600.0, 48_000) - 0.3).abs() < 0.05);
    world.run_ms(300);
    for port in [crate::world::TAPE, STREAM] {
        let ends = world.sides[0].events.iter().filter(|event| **event == EngineEvent::ToneEnded { port });
        assert_eq!(ends.count(), 1);
    }
    near.recorded();
    world.run_ms(200);
    assert!(rms(&near.recorded()) < 1e-3);
    world.sides[0]
        .controller
        .play_tone(crate::world::TAPE, Some(Country::RECOMMENDED.tone(Signal::Ringback)))
        .unwrap();
    world.run_ms(300);
    assert!(rms(&near.recorded()) > 0.05);
    world.sides[0].controller.play_tone(crate::world::TAPE, None).unwrap();
    world.run_ms(50);
    near.recorded();
    world.run_ms(200);
    assert!(rms(&near.recorded()) < 1e-3);
}
