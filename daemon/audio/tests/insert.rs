//! The insert of a microphone's port: the way to the processing thread and back, in virtual time.

use std::sync::{Arc, Mutex};

use crate::support::{energy, rms, sine, speech};
use crate::world::{Tape, World};
use voipd_audio::PortId;
use voipd_audio::engine::{InsertEnds, InsertSwitch, Waker, insert};
use voipd_audio::voice::Stages;

const MICROPHONE: PortId = PortId(5);
const LOUDSPEAKER: PortId = PortId(6);
const FAR: PortId = PortId(7);
const EAR: PortId = PortId(8);
const RATE: u32 = 48_000;
const FRAME: usize = 480;
const ECHO: Stages = Stages { echo: true, ..Stages::NONE };
const NOISE: Stages = Stages { noise: true, ..Stages::NONE };

/// Counts wakes.
#[derive(Clone, Default)]
struct Bell(Arc<Mutex<u32>>);

impl Waker for Bell {
    fn wake(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// A room with a microphone and a loudspeaker, a far end that speaks, and an ear where the microphone is heard.
struct Room {
    world: World,
    microphone: Tape,
    loudspeaker: Tape,
    far: Tape,
    ear: Tape,
    ends: InsertEnds,
    switch: InsertSwitch,
    bell: Bell,
    /// The microphone is recorded a moment ahead of the tick.
    prompt: bool,
}

impl Room {
    /// One on a machine that is quick enough for it.
    fn prompt() -> Self {
        Room { prompt: true, ..Room::new() }
    }

    fn new() -> Self {
        let mut world = World::new(1);
        let side = &mut world.sides[0];
        let [microphone, loudspeaker, far, ear] =
            [MICROPHONE, LOUDSPEAKER, FAR, EAR].map(|port| side.open_tape(port, RATE));
        side.controller.connect(LOUDSPEAKER, &[FAR]).unwrap();
        side.controller.connect(EAR, &[MICROPHONE]).unwrap();
        let bell = Bell::default();
        let (port, ends, switch) = insert(LOUDSPEAKER, Box::new(bell.clone()));
        side.controller.attach_insert(MICROPHONE, Some(port)).unwrap();
        Room { world, microphone, loudspeaker, far, ear, ends, switch, bell, prompt: false }
    }

    /// A tick, and the processing thread behind it.
    fn tick(&mut self) {
        let processor = &mut self.world.sides[0].processor;
        if self.prompt && processor.wants_head_start() {
            processor.record_ahead();
            self.ends.process();
        }
        self.world.tick();
        self.ends.process();
    }

    /// The microphone hears `sound`; answers what the ear hears.
    fn speak(&mut self, sound: &[f32]) -> Vec<f32> {
        for frame in sound.chunks_exact(FRAME) {
            self.microphone.feed(frame);
            self.tick();
        }
        self.ear.recorded()
    }

    /// The far end speaks, and the microphone hears the loudspeaker 80 ms later at half its level: (echo, ear).
    fn listen(&mut self, sound: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut air = vec![0.0; RATE as usize * 80 / 1000];
        let mut echo = Vec::new();
        for frame in sound.chunks_exact(FRAME) {
            self.far.feed(frame);
            let now: Vec<f32> = air.drain(..FRAME).collect();
            self.microphone.feed(&now);
            echo.extend(now);
            self.tick();
            let played = self.loudspeaker.recorded();
            air.extend(played.iter().map(|sample| 0.5 * sample));
            air.resize(air.len() + FRAME - played.len(), 0.0);
        }
        (echo, self.ear.recorded())
    }
}

fn roughness(samples: &[f32]) -> f32 {
    samples.windows(3).map(|three| (three[0] - 2.0 * three[1] + three[2]).abs()).fold(0.0, f32::max)
}

fn steepness(samples: &[f32]) -> f32 {
    samples.windows(2).map(|two| (two[1] - two[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn switched_off_it_changes_no_bit_and_wakes_nobody() {
    let mut room = Room::new();
    let words = speech(RATE, 1.0, 1);
    assert_eq!(room.speak(&words), words);
    assert_eq!((room.switch.blocks(), *room.bell.0.lock().unwrap()), ((0, 0), 0));
}

#[test]
fn the_echo_of_what_the_loudspeaker_plays_is_cancelled() {
    for room in [Room::new(), Room::prompt()] {
        cancels(room);
    }
}

fn cancels(mut room: Room) {
    room.switch.set(ECHO);
    let words = speech(RATE, 6.0, 2);
    let half = words.len() / 2;
    room.listen(&words[..half]);
    let (echo, heard) = room.listen(&words[half..]);
    let by = 10.0 * (energy(&echo) / energy(&heard)).log10();
    assert!(by > 25.0, "{by:.1} dB");
    let found = room.switch.echo_figures().delay_ms.expect("an echo is found");
    assert!((60..90).contains(&found), "{found} ms");
    assert_eq!(room.switch.blocks(), (600, 0));

    // The loudspeaker goes and comes back in another place of the engine.
    let controller = &mut room.world.sides[0].controller;
    controller.close(LOUDSPEAKER);
    room.speak(&vec![0.0; 10 * FRAME]);
    let side = &mut room.world.sides[0];
    let _takes_the_place = side.open_tape(PortId(9), RATE);
    room.loudspeaker = side.open_tape(LOUDSPEAKER, RATE);
    side.controller.connect(LOUDSPEAKER, &[FAR]).unwrap();
    let (echo, heard) = room.listen(&words);
    let last = 4 * RATE as usize..;
    let by = 10.0 * (energy(&echo[last.clone()]) / energy(&heard[last])).log10();
    assert!(by > 25.0, "after another loudspeaker {by:.1} dB");
}

#[test]
fn it_is_switched_without_a_click() {
    for room in [Room::new(), Room::prompt()] {
        switches(room);
    }
}

fn switches(mut room: Room) {
    let tone = sine(440.0, 0.3, RATE, RATE as usize / 2);
    let mut heard = Vec::new();
    for stages in [Stages::NONE, ECHO, Stages::NONE, ECHO, Stages::NONE] {
        room.switch.set(stages);
        heard.extend(room.speak(&tone));
    }
    let smooth = roughness(&tone);
    assert!(roughness(&heard) < 4.0 * smooth, "{} against {smooth}", roughness(&heard));
    for window in heard.chunks_exact(FRAME) {
        // Two sines that are out of step fade through a dip, and never through silence.
        assert!(rms(window) > 0.02, "{}", rms(window));
    }
    assert_eq!(heard[4 * tone.len() + FRAME..], tone[FRAME..], "it is off again");
}

#[test]
fn a_late_thread_costs_processing_and_no_sound() {
    let mut room = Room::new();
    room.switch.set(NOISE);
    let tone = sine(440.0, 0.3, RATE, RATE as usize / 2);
    let mut heard = room.speak(&tone);
    // The thread stands still for half a second.
    for frame in tone.chunks_exact(FRAME) {
        room.microphone.feed(frame);
        room.world.tick();
    }
    let raw = room.ear.recorded();
    assert_eq!(raw[2 * FRAME..], tone[2 * FRAME..], "the sound is passed on as it is");
    let (all, late) = room.switch.blocks();
    assert_eq!(all, 100);
    assert!((49..=50).contains(&late), "{late}");
    heard.extend(raw);
    heard.extend(room.speak(&tone));
    let (_, again) = room.switch.blocks();
    // The thread first works off what waits; the block that found no room meanwhile is lost.
    assert!(again <= late + 2, "{again} after {late}");
    // Where the processed sound is missing its pitch may jump in phase, but not its value.
    let steep = steepness(&tone);
    assert!(steepness(&heard) < 1.3 * steep, "{} against {steep}", steepness(&heard));
    assert!(heard.iter().all(|sample| sample.abs() < 0.5));
}

/// By how many samples what the ear hears is behind what the microphone hears.
fn lag(room: &mut Room) -> usize {
    room.switch.set(ECHO);
    let words = speech(RATE, 3.0, 4);
    let heard = room.speak(&words);
    let likeness = |lag: usize| {
        let last = 2 * RATE as usize..words.len();
        last.map(|place| f64::from(words[place - lag]) * f64::from(heard[place])).sum::<f64>()
    };
    (0..1200).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap()
}

#[test]
fn the_echo_canceller_costs_seven_milliseconds_and_the_head_start() {
    let in_ms = |lag: usize| lag as f64 / 48.0;
    let prompt = in_ms(lag(&mut Room::prompt()));
    assert!((6.5..=7.2).contains(&prompt), "{prompt} ms");
    let slow = in_ms(lag(&mut Room::new()));
    assert!((slow - prompt - 10.0).abs() < 0.1, "{slow} ms where the thread has a whole tick");
}

#[test]
fn a_machine_that_is_too_slow_for_a_moment_gets_a_whole_tick() {
    let mut room = Room::prompt();
    room.switch.set(NOISE);
    let tone = sine(440.0, 0.3, RATE, RATE as usize / 2);
    room.speak(&tone);
    assert_eq!(room.switch.blocks().1, 0);
    let slowly = |room: &mut Room, frames: usize| {
        for frame in tone.chunks_exact(FRAME).take(frames) {
            room.microphone.feed(frame);
            let processor = &mut room.world.sides[0].processor;
            if processor.wants_head_start() {
                processor.record_ahead();
            }
            room.world.tick();
            room.ends.process();
        }
        room.ear.recorded()
    };
    // One late block now and then is none too many.
    for _ in 0..3 {
        slowly(&mut room, 1);
        assert!(room.world.sides[0].processor.wants_head_start());
        for _ in 0..12 {
            room.speak(&tone);
        }
    }
    let heard = slowly(&mut room, 20);
    assert!(!room.world.sides[0].processor.wants_head_start());
    let late = room.switch.blocks().1;
    assert_eq!(late, 6);
    assert!(steepness(&heard) < 1.3 * steepness(&tone));
    // From then on all are in time.
    slowly(&mut room, 50);
    assert_eq!(room.switch.blocks().1, late);

    // Another try comes when it is switched on again.
    room.switch.set(Stages::NONE);
    room.speak(&tone);
    room.switch.set(NOISE);
    room.speak(&tone);
    assert!(room.world.sides[0].processor.wants_head_start());
    assert_eq!(room.switch.blocks().1, late);
}

#[test]
fn the_thread_hears_that_its_port_is_closed() {
    let mut room = Room::new();
    assert!(room.ends.process());
    let rung = *room.bell.0.lock().unwrap();
    room.world.sides[0].controller.close(MICROPHONE);
    room.world.tick();
    room.world.tick();
    assert!(!room.ends.process());
    assert_eq!(*room.bell.0.lock().unwrap(), rung + 1);
}

#[test]
fn volume_changes_without_a_step_and_full_volume_changes_nothing() {
    let mut room = Room::new();
    let tone = sine(440.0, 0.3, RATE, RATE as usize / 5);
    let mut heard = room.speak(&tone);
    assert_eq!(heard, tone);
    for (gain, level) in [(0.1, 0.03), (0.0, 0.0), (2.0, 0.6), (1.0, 0.3)] {
        room.world.sides[0].controller.set_volume(MICROPHONE, gain).unwrap();
        let part = room.speak(&tone);
        let loudest = part[FRAME..].iter().copied().fold(0.0_f32, f32::max);
        // Above half of full scale the limiter bends.
        assert!((loudest - level).abs() < 0.03, "{gain}: {loudest}");
        heard.extend(part);
    }
    assert!(roughness(&heard) < 8.0 * roughness(&tone));
    assert_eq!(heard[heard.len() - tone.len() + FRAME..], tone[FRAME..]);
    // The loudspeaker's echo is that of what it plays, not of what it is given.
    room.world.sides[0].controller.set_volume(LOUDSPEAKER, 0.5).unwrap();
    room.switch.set(ECHO);
    let (echo, _) = room.listen(&speech(RATE, 1.0, 3));
    assert!(rms(&echo) > 0.0);
    assert!(room.world.sides[0].controller.set_volume(PortId(99), 1.0).is_err());
}
