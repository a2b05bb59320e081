//! Commands from the control side: none is lost, all are in order, whatever the queues hold.

use crate::world::sound::{amplitude, rms};
use crate::world::{STREAM, TAPE, World, address, plan};
use voipd_audio::PortId;
use voipd_audio::engine::EngineError;
use voipd_audio::plan::Codec;

fn sine(rate: u32, frequency: f32, seconds: f32) -> Vec<f32> {
    let step = std::f32::consts::TAU * frequency / rate as f32;
    (0..(rate as f32 * seconds) as usize).map(|n| 0.3 * (n as f32 * step).sin()).collect()
}

#[test]
fn far_more_commands_than_the_queue_holds_are_all_executed() {
    let mut world = World::new(1);
    let mut source = world.sides[0].open_tape(PortId(1), 8000);
    let mut sink = world.sides[0].open_tape(PortId(2), 8000);
    source.feed(&sine(8000, 500.0, 2.0));
    for round in 0..1500 {
        let controller = &mut world.sides[0].controller;
        controller.connect(PortId(2), &[PortId(1)]).unwrap();
        controller.set_muted(PortId(1), true).unwrap();
        let silent = PortId(1000 + round);
        let (_feed, capture) = rtrb::RingBuffer::new(8);
        let device = voipd_audio::engine::DevicePort {
            capture: Some(capture),
            playback: None,
            rate: 8000,
            pace: voipd_audio::engine::Pace::Tick,
        };
        controller.open_device(silent, device).unwrap();
        controller.connect(PortId(2), &[silent]).unwrap();
        controller.close(silent);
        if round % 2 == 1 {
            controller.set_muted(PortId(1), false).unwrap();
        }
    }
    world.sides[0].controller.connect(PortId(2), &[PortId(1)]).unwrap();
    assert!(world.sides[0].controller.needs_ticks());
    // 256 commands a tick at most, as many as the queues hold.
    world.run_ms(500);
    sink.recorded();
    world.run_ms(500);
    assert!((amplitude(&sink.recorded(), 500.0, 8000) - 0.3).abs() < 0.02, "the last commands are in force");
    assert!(*world.sides[0].wakes.lock().unwrap() >= 1500 * 5 / 256);
}

#[test]
fn a_control_side_that_takes_nothing_back_holds_up_commands_and_not_the_sound() {
    let mut world = World::new(1);
    let mut source = world.sides[0].open_tape(PortId(1), 8000);
    let mut sink = world.sides[0].open_tape(PortId(2), 8000);
    source.feed(&sine(8000, 500.0, 2.0));
    world.sides[0].controller.connect(PortId(2), &[PortId(1)]).unwrap();
    world.run_ms(100);
    for _ in 0..1000 {
        world.sides[0].controller.connect(PortId(2), &[PortId(1)]).unwrap();
    }
    world.sides[0].controller.connect(PortId(2), &[]).unwrap();
    sink.recorded();
    for tick in 0..20 {
        // Without `service`: what comes back fills its queue.
        world.sides[0].processor.tick(2_000_000_000 + tick * 10_000_000, 0);
    }
    assert!(rms(&sink.recorded()) > 0.1, "the last command has to wait");
    world.run_ms(100);
    sink.recorded();
    world.run_ms(100);
    assert_eq!(rms(&sink.recorded()), 0.0, "and is executed in the end");
}

#[test]
fn wishes_that_cannot_be_are_refused() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    let missing = PortId(77);
    let socket = world.sides[0].socket(address(5));
    let controller = &mut world.sides[0].controller;
    let wanted = plan(Codec::Pcmu, 0, address(1));
    assert_eq!(controller.connect(STREAM, &[missing]), Err(EngineError::NoSuchPort));
    assert_eq!(controller.connect(missing, &[STREAM]), Err(EngineError::NoSuchPort));
    assert_eq!(controller.set_muted(missing, true), Err(EngineError::NoSuchPort));
    assert_eq!(controller.play_tone(missing, None), Err(EngineError::NoSuchPort));
    assert_eq!(controller.update_stream(TAPE, wanted.clone()), Err(EngineError::WrongKind));
    assert_eq!(controller.open_stream(TAPE, wanted, socket), Err(EngineError::PortInUse));
    assert_eq!(controller.stream_counters(TAPE), None);
    assert_eq!(controller.device_levels(STREAM), None);
    controller.close(missing);
}

#[test]
fn an_engine_has_room_for_so_many_ports_and_again_after_closing() {
    let mut world = World::new(1);
    for number in 0..16 {
        world.sides[0].open_tape(PortId(number), 8000);
    }
    let wanted = plan(Codec::Pcmu, 0, address(1));
    let socket = world.sides[0].socket(address(0));
    let result = world.sides[0].controller.open_stream(STREAM, wanted.clone(), socket);
    assert_eq!(result, Err(EngineError::PortInUse));
    let socket = world.sides[0].socket(address(0));
    assert_eq!(
        world.sides[0].controller.open_stream(PortId(99), wanted.clone(), socket),
        Err(EngineError::Full)
    );
    world.sides[0].controller.close(PortId(3));
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(PortId(99), wanted, socket).unwrap();
    world.run_ms(100);
    assert!(world.network().sent_from(address(0)).len() >= 4);
}
