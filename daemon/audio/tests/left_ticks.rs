//! Ticks that are left to the one behind them: nobody outside of the engine can tell.

use voipd_audio::engine::{DevicePort, Listener, Pace, ProgramPort, Side as Heard};
use voipd_audio::plan::{Codec, EngineEvent, SendPlan, Steering, StreamCounters};
use voipd_audio::tone::Signal;
use voipd_audio::tone::national::Country;
use voipd_audio::{PortId, StreamPlan, TICK_NANOS};

use crate::bare::{Bare, socket};
use crate::world::sound::speech;
use crate::world::{LATENCY, STREAM, Seeded, Sent, TAPE, Tape, World, address, plan};

const OTHER: PortId = PortId(7);

/// Side 0 speaks by a tape; side 1 has no device. Whether it leaves ticks decides what it does with them.
fn call(codec: Codec, leaves: bool) -> (World, Tape) {
    let rate = codec.sample_rate();
    let mut world = World::new(2);
    for (this, other) in [(0, 1), (1, 0)] {
        let side = &mut world.sides[this];
        let socket = side.socket(address(this));
        side.controller.open_stream(STREAM, plan(codec, this, address(other)), socket).unwrap();
    }
    let speaker = &mut world.sides[0];
    let mut tape = speaker.open_tape(TAPE, rate);
    speaker.controller.connect(STREAM, &[TAPE]).unwrap();
    speaker.controller.connect(TAPE, &[STREAM]).unwrap();
    tape.feed(&speech(rate, 3.0, 3));
    world.sides[1].leaves = leaves;
    (world, tape)
}

/// Packets that are lost, doubled, late and in the wrong order, some of them between two ticks.
fn bad_weather(world: &World) {
    let mut random = Seeded(11);
    world.network().weather = Box::new(move |_| match random.draw() % 40 {
        0 | 1 => Vec::new(),
        2 => vec![10_000_000, 10_000_000],
        late @ 3..10 => vec![5_000_000 * late],
        _ => vec![10_000_000],
    });
}

/// Goes on until side 1 has, or would have, just left a tick; answers how many ticks that took.
fn until_left(world: &mut World) -> u64 {
    (1..100)
        .find(|_| {
            world.tick();
            world.sides[1].left
        })
        .expect("ticks are left")
}

/// What can be told from outside of a call: what both ends sent and when, what was heard, what was counted.
type Seen = (Vec<(u64, Vec<u8>)>, [Vec<f32>; 2], StreamCounters, Vec<EngineEvent>);

fn seen(world: &World, tapes: [Option<Tape>; 2]) -> Seen {
    let sent = |sent: &Sent| (sent.at_nanos, sent.bytes.clone());
    let counters = world.sides[1].counters(STREAM);
    let sent = world.network().sent.iter().map(sent).collect();
    let heard = tapes.map(|tape| tape.map_or(Vec::new(), |mut tape| tape.recorded()));
    (sent, heard, counters, world.sides[1].events.clone())
}

fn assert_same(what: &str, left: Seen, each: Seen) {
    assert_eq!(left.0.len(), each.0.len(), "{what}: packets");
    for (number, (left, each)) in left.0.iter().zip(&each.0).enumerate() {
        assert_eq!(left.0, each.0, "{what}: when packet {number} was sent");
        assert_eq!(left.1, each.1, "{what}: packet {number}");
    }
    assert!(left.1 == each.1, "{what}: what was heard");
    assert_eq!(left.2, each.2, "{what}");
    assert_eq!(left.3, each.3, "{what}");
}

/// Does the same to a call that leaves ticks and to one that does not, with `change` when the first has just left a tick, and
/// when it is about to leave one: what is commanded before that is taken with the one behind it.
fn compare(what: &str, codec: Codec, prepare: impl Fn(&mut World), change: impl Fn(&mut World)) {
    compare_with_device(what, codec, prepare, |world| {
        change(world);
        None
    });
}

/// The same where the change may bring a device, which hears the same, too.
fn compare_with_device(
    what: &str,
    codec: Codec,
    prepare: impl Fn(&mut World),
    change: impl Fn(&mut World) -> Option<Tape>,
) {
    // What has come is left as well from the second second on, and then in every other waking.
    let cases = [500, 1500, 1520].into_iter().flat_map(|rest_ms| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(before, bad)| (rest_ms, before, bad))
    });
    for (rest_ms, before, bad) in cases {
        let mut ticks = 0;
        let mut run = |leaves: bool| {
            let (mut world, tape) = call(codec, leaves);
            let mut device = None;
            if bad {
                bad_weather(&world);
            }
            prepare(&mut world);
            world.run_ms(rest_ms);
            if leaves {
                ticks = until_left(&mut world);
            } else {
                world.run_ms(10 * ticks);
            }
            if before {
                // The tick in which a packet is sent, and another one that is left.
                world.run_ms(10);
                assert_eq!(world.sides[1].leaving, leaves);
                if leaves {
                    device = change(&mut world);
                }
                world.run_ms(10);
            }
            if !(before && leaves) {
                device = change(&mut world);
            }
            world.run_ms(1500);
            // All that was left is served.
            world.sides[1].leaves = false;
            world.run_ms(30);
            seen(&world, [Some(tape), device])
        };
        let (left, each) = (run(true), run(false));
        let when = format!("after {rest_ms} ms, before {before}, bad weather {bad}");
        assert_same(&format!("{what}, {codec:?}, {when}"), left, each);
    }
}

fn nothing(_: &mut World) {}

#[test]
fn what_nobody_hears_is_served_in_half_the_wakings_and_sent_as_ever() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::L16Wide, Codec::Opus] {
        compare("nobody hears", codec, nothing, nothing);
    }
    let (mut world, _tape) = call(Codec::Pcmu, true);
    world.run_ms(1000);
    let woken = |world: &World| world.sides[1].controller.counters().lateness.iter().sum::<u64>();
    let (before, counted) = (woken(&world), world.sides[1].controller.counters().ticks);
    world.run_ms(1000);
    assert_eq!(woken(&world) - before, 50);
    let counters = world.sides[1].controller.counters();
    assert_eq!((counters.ticks - counted, counters.ticks_missed), (100, 0));
}

#[test]
fn what_nobody_hears_is_received_in_every_other_waking_until_somebody_asks_for_a_way() {
    let (mut world, _tape) = call(Codec::Pcmu, true);
    // The other side would look, too.
    world.sides[0].controller.close(TAPE);
    let looks = |world: &mut World, ms| {
        let before = world.network().looks;
        world.run_ms(ms);
        world.network().looks - before
    };
    let ours = |looks: usize, ms: u64| looks - ms as usize / 20;
    world.run_ms(100);
    let early = looks(&mut world, 400);
    assert_eq!(ours(early, 400), 20, "in every waking while the call is new");
    world.run_ms(1000);
    let calm = looks(&mut world, 400);
    assert_eq!(ours(calm, 400), 10);
    // A Binding request (RFC 8489) comes when it comes; others follow it, and are handed over without a second rest.
    let request = |world: &mut World| {
        world.network().send(address(0), address(1), &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        let sent = world.network().now_nanos;
        (1..10)
            .find_map(|ticks| {
                world.tick();
                let stray = world.sides[1].controller.poll_stray()?;
                assert_eq!(stray.at_nanos, sent + LATENCY, "when it came, not when it was read");
                Some(ticks)
            })
            .expect("it is handed over")
    };
    assert!(request(&mut world) <= 6);
    for _ in 0..8 {
        assert!(request(&mut world) <= 4);
        world.run_ms(30);
    }
    world.run_ms(1200);
    let calm = looks(&mut world, 400);
    assert_eq!(ours(calm, 400), 10);
}

fn open_device(world: &mut World) -> Option<Tape> {
    let side = &mut world.sides[1];
    let mut tape = side.open_tape(TAPE, 48_000);
    tape.feed(&speech(48_000, 2.0, 5));
    side.controller.connect(STREAM, &[TAPE]).unwrap();
    side.controller.connect(TAPE, &[STREAM]).unwrap();
    Some(tape)
}

#[test]
fn whatever_comes_in_between_finds_everything_as_it_would_have_been() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        compare_with_device("a device", codec, nothing, open_device);
        compare("an echo", codec, nothing, |world| {
            world.sides[1].controller.connect(STREAM, &[STREAM]).unwrap();
        });
        compare("digits", codec, nothing, |world| {
            for digit in "12".chars() {
                world.sides[1].controller.send_dtmf(STREAM, digit, 100).unwrap();
            }
        });
        compare("mute and a tone", codec, nothing, |world| {
            let controller = &mut world.sides[1].controller;
            controller.set_muted(STREAM, true).unwrap();
            let tone = Country::RECOMMENDED.tone(Signal::Busy);
            controller.play_tone(STREAM, Some(tone)).unwrap();
        });
        compare("other packets", codec, nothing, |world| {
            let steering = Steering { ptime_ms: Some(40), ..Steering::default() };
            world.sides[1].controller.steer(STREAM, steering).unwrap();
        });
        compare("another plan", codec, nothing, |world| {
            let other = if codec == Codec::Pcmu { Codec::G722 } else { Codec::Pcmu };
            let plan = StreamPlan { generation: 2, ..plan(codec, 1, address(0)) };
            let send = SendPlan { payload_type: 9, codec: other, ..plan.send.unwrap() };
            let plan = StreamPlan { send: Some(send), ..plan };
            world.sides[1].controller.update_stream(STREAM, plan).unwrap();
        });
        compare("hold", codec, nothing, |world| {
            let plan = StreamPlan {
                generation: 2,
                send: None,
                keep_open: Some(20),
                play: false,
                ..plan(codec, 1, address(0))
            };
            world.sides[1].controller.update_stream(STREAM, plan).unwrap();
        });
        compare("watched", codec, nothing, |world| {
            world.sides[1].controller.watch_activity(STREAM, true).unwrap();
        });
        compare(
            "closed",
            codec,
            |world| {
                let socket = world.sides[1].socket(address(9));
                let plan = plan(Codec::Pcmu, 5, address(8));
                world.sides[1].controller.open_stream(OTHER, plan, socket).unwrap();
            },
            |world| world.sides[1].controller.close(OTHER),
        );
    }
}

#[test]
fn packets_of_every_time_leave_in_their_tick() {
    for ptime_ms in [10, 20, 30, 40, 60] {
        let run = |leaves: bool| {
            let (mut world, tape) = call(Codec::Pcmu, leaves);
            let plan = StreamPlan { generation: 2, ..plan(Codec::Pcmu, 1, address(0)) };
            let send = SendPlan { ptime_ms, ..plan.send.unwrap() };
            let plan = StreamPlan { send: Some(send), ..plan };
            world.sides[1].controller.update_stream(STREAM, plan).unwrap();
            world.run_ms(2000);
            world.sides[1].leaves = false;
            world.run_ms(30);
            seen(&world, [Some(tape), None])
        };
        assert_same(&format!("{ptime_ms} ms"), run(true), run(false));
    }
}

#[test]
fn a_call_that_begins_before_it_has_a_sound_device_begins_without_a_gap() {
    for ticks in 0..12 {
        let run = |leaves: bool| {
            let (mut world, tape) = call(Codec::Pcmu, leaves);
            world.run_ms(10 * ticks);
            // A tick that is being left now takes the command with it.
            let leaving = leaves && world.sides[1].leaving;
            let device = open_device(&mut world);
            world.run_ms(2000);
            world.sides[1].leaves = false;
            world.run_ms(30);
            (leaving, seen(&world, [Some(tape), device]))
        };
        let (later, left) = run(true);
        let (_, each) = run(false);
        let heard = left.2;
        assert_eq!((heard.frames_concealed, heard.packets_late, heard.expanded_us), (0, 0, 0), "{ticks}");
        assert!(
            each.2.buffer_us.abs_diff(heard.buffer_us) < 1000,
            "{ticks}: {} {}",
            each.2.buffer_us,
            heard.buffer_us
        );
        if !later {
            assert_same(&format!("after {ticks} ticks"), left, each);
        }
    }
}

#[test]
fn whoever_sounds_or_sends_is_served_in_every_tick() {
    let mut bare = Bare::new();
    let (socket, _peer) = socket(address(0));
    let can_wait = |bare: &mut Bare| {
        bare.tick();
        (0..2).any(|_| {
            bare.tick();
            bare.processor.can_wait()
        })
    };
    assert!(!can_wait(&mut bare), "it rests");
    bare.controller.open_stream(STREAM, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    assert!(!bare.processor.can_wait(), "something is commanded");
    assert!(can_wait(&mut bare));
    let device = |capture, playback| DevicePort { capture, playback, rate: 48_000, pace: Pace::Tick };
    bare.controller.open_device(TAPE, device(None, None)).unwrap();
    bare.controller.connect(STREAM, &[TAPE]).unwrap();
    assert!(can_wait(&mut bare), "silence in the place of a device");
    bare.controller.connect(STREAM, &[STREAM]).unwrap();
    assert!(!can_wait(&mut bare), "a peer who hears itself");
    bare.controller.connect(STREAM, &[TAPE]).unwrap();
    assert!(can_wait(&mut bare));
    let (_feed, capture) = rtrb::RingBuffer::new(4800);
    let (playback, _played) = rtrb::RingBuffer::new(4800);
    for device in [device(Some(capture), None), device(None, Some(playback))] {
        bare.controller.open_device(OTHER, device).unwrap();
        assert!(!can_wait(&mut bare), "a device, though nothing is connected to it yet");
        bare.controller.close(OTHER);
    }
    assert!(can_wait(&mut bare));
    let (ring, _heard) = rtrb::RingBuffer::new(4800);
    let listener = Listener { side: Heard::Far, ring, dropped: Default::default() };
    let program = ProgramPort { source: None, listener: Some(listener), rate: 8000 };
    bare.controller.open_program(OTHER, program, STREAM).unwrap();
    assert!(!can_wait(&mut bare), "a program");
    bare.controller.close(OTHER);
    assert!(can_wait(&mut bare));
    let short = Steering { ptime_ms: Some(10), ..Steering::default() };
    bare.controller.steer(STREAM, short).unwrap();
    assert!(!can_wait(&mut bare), "each tick has a packet");
}

#[test]
fn a_machine_that_stood_still_misses_what_it_would_have_missed() {
    let run = |rest_ms: u64, leaves: bool| {
        let (mut world, tape) = call(Codec::Pcmu, true);
        world.run_ms(rest_ms);
        until_left(&mut world);
        if !leaves {
            // Had it not been left.
            world.sides[1].left = false;
            let now = world.network().now_nanos;
            world.sides[1].processor.tick(now, 0);
        }
        world.network().now_nanos += 7 * TICK_NANOS;
        world.sides[1].leaves = false;
        world.run_ms(1000);
        assert_eq!(world.sides[1].controller.counters().ticks_missed, 7);
        seen(&world, [Some(tape), None])
    };
    for rest_ms in [500, 1500, 1520] {
        assert_same(&format!("seven ticks after {rest_ms} ms"), run(rest_ms, true), run(rest_ms, false));
    }
}
