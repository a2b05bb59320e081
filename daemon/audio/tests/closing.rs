//! Ports close in the middle of everything, and the engine rests when the last one is gone.

use crate::world::sound::{rms, speech};
use crate::world::{STREAM, TAPE, World, address, plan};
use voipd_audio::plan::Codec;
use voipd_audio::{PortId, TICK_NANOS};

#[test]
fn a_closed_stream_is_silent_and_others_go_on() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
    let second = PortId(9);
    let (here, there) = (address(30), address(31));
    let sockets = [world.sides[0].socket(here), world.sides[1].socket(there)];
    for ((side, remote), socket) in [(0, there), (1, here)].into_iter().zip(sockets) {
        let wanted = plan(Codec::Opus, side + 10, remote);
        world.sides[side].controller.open_stream(second, wanted, socket).unwrap();
        world.sides[side].controller.connect(TAPE, &[STREAM, second]).unwrap();
        world.sides[side].controller.connect(second, &[TAPE]).unwrap();
    }
    near.feed(&speech(8000, 4.0, 15));
    far.feed(&speech(8000, 4.0, 16));
    world.run_ms(1000);
    world.sides[0].controller.close(STREAM);
    world.run_ms(500);
    let sent = world.network().sent_from(address(0)).len();
    assert_eq!(world.sides[0].controller.stream_counters(STREAM), None);
    far.recorded();
    near.recorded();
    world.run_ms(1000);
    assert_eq!(world.network().sent_from(address(0)).len(), sent);
    assert!(rms(&far.recorded()) > 0.05 && rms(&near.recorded()) > 0.05);

    // The slot is another port's now; the port's number stays out of use.
    let socket = world.sides[0].socket(address(0));
    let again = plan(Codec::Pcmu, 0, address(1));
    world.sides[0].controller.open_stream(PortId(10), again, socket).unwrap();
    world.run_ms(100);
    assert!(world.network().sent_from(address(0)).len() > sent);
}

#[test]
fn without_ports_no_tick_is_wanted() {
    let (mut world, _near, _far) = World::call(Codec::Pcmu, 8000);
    world.run_ms(100);
    let now = world.network().now_nanos;
    let side = &mut world.sides[0];
    assert!(side.controller.needs_ticks());
    side.controller.close(STREAM);
    assert!(side.processor.tick(now + TICK_NANOS, 0), "a tape is left");
    side.controller.close(TAPE);
    assert!(side.controller.needs_ticks(), "a command waits");
    assert!(!side.processor.tick(now + 2 * TICK_NANOS, 0));
    side.controller.service();
    assert!(!side.controller.needs_ticks());
    // A rest is no lateness.
    let socket = side.socket(address(0));
    side.controller.open_stream(PortId(50), plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    assert!(side.processor.tick(now + 99 * TICK_NANOS, 0));
    assert_eq!(side.controller.counters().ticks_missed, 0);
}

#[test]
fn a_source_that_closes_leaves_its_listeners() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
    near.feed(&speech(8000, 4.0, 17));
    world.run_ms(500);
    world.sides[0].controller.close(TAPE);
    world.run_ms(200);
    far.recorded();
    world.run_ms(500);
    assert!(rms(&far.recorded()) < 0.001);
    assert!(world.sides[0].counters(STREAM).packets_sent > 55, "silence is sent");
}
