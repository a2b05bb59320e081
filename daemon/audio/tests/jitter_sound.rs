//! Jitter, bursts and changes of codec as they are heard.

use crate::world::sound::{assert_same, find, rms, speech};
use crate::world::{LATENCY, STREAM, Seeded, Tape, Weather, World, address, plan};
use voipd_audio::StreamPlan;
use voipd_audio::plan::Codec;

const MS: u64 = 1_000_000;

#[test]
fn nothing_is_stretched_on_a_calm_network() {
    // A little jitter of the machines themselves is no reason.
    for (codec, rate) in [(Codec::Pcmu, 8_000), (Codec::G722, 16_000), (Codec::Opus, 48_000)] {
        let (mut world, mut near, mut far) = World::call(codec, rate);
        let mut random = Seeded(11);
        world.network().weather = Box::new(move |_| vec![LATENCY + random.draw() % MS]);
        let words = speech(rate, 8.0, 5);
        near.feed(&words);
        world.run_ms(8_400);
        assert_same(&words, &far.recorded(), rate, if codec == Codec::Opus { 0.7 } else { 0.97 });
        let counters = world.sides[1].counters(STREAM);
        assert_eq!(
            (counters.accelerated_us, counters.expanded_us, counters.frames_concealed),
            (0, 0, 0),
            "{codec:?}"
        );
        assert!(counters.buffer_us < 33_000, "{codec:?}: {counters:?}");
    }
}

#[test]
fn after_a_burst_the_delay_is_back_within_seconds_and_no_word_is_lost() {
    for (codec, rate) in [(Codec::Pcmu, 8_000), (Codec::G722, 16_000)] {
        let (mut world, mut near, mut far) = World::call(codec, rate);
        // From the fourth second on for two seconds the wire stands still for 180 ms again and again.
        let stalled = 5_000 * MS..7_000 * MS;
        world.network().weather = Box::new(move |sent| {
            let due = sent.at_nanos + LATENCY;
            vec![if stalled.contains(&due) {
                (due / (180 * MS) + 1) * 180 * MS - sent.at_nanos
            } else {
                LATENCY
            }]
        });
        let words = speech(rate, 20.0, 6);
        near.feed(&words);
        let mut delays = Vec::new();
        for _ in 0..204 {
            world.run_ms(100);
            delays.push(world.sides[1].counters(STREAM).buffer_us / 1000);
        }
        let counters = world.sides[1].counters(STREAM);
        assert!(delays.iter().max() > Some(&150), "{delays:?}");
        // The target needs six seconds to forget; then most of the surplus goes at once, and the rest in pauses.
        assert!(delays[140..].iter().all(|delay| *delay < 100), "{codec:?}: {delays:?}");
        assert!(delays[180..].iter().all(|delay| *delay < 50), "{codec:?}: {delays:?}");
        assert_eq!((counters.packets_lost, counters.packets_late, counters.packets_discarded), (0, 0, 0));
        assert!(counters.accelerated_us > 90_000, "{codec:?}: {counters:?}");
        // What was said is heard before and after as it was.
        let heard = far.recorded();
        for second in [1, 2, 15, 16, 17, 18] {
            let part = &words[second * rate as usize..(2 * second + 1) * rate as usize / 2];
            if rms(part) < 0.02 {
                continue;
            }
            let from = second * rate as usize;
            let (correlation, lag) =
                find(part, &heard[from..from + rate as usize * 3 / 4], rate as usize / 8);
            assert!(correlation > 0.6, "{codec:?}, second {second}: {correlation}");
            assert!(lag < rate as usize * 90 / 1000, "{codec:?}, second {second}: {lag}");
        }
    }
}

#[test]
fn a_way_that_grows_by_more_than_is_ever_waited_for_costs_no_words() {
    // Longer by 350 ms for good, and by 700 ms: the buffer aims at 400 ms at most.
    for longer in [350, 700] {
        let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8_000);
        world.network().weather = Box::new(move |sent| {
            vec![if sent.at_nanos < 4_000 * MS { LATENCY } else { LATENCY + longer * MS }]
        });
        let words = speech(8_000, 14.0, 12);
        near.feed(&words);
        world.run_ms(3_000);
        let before = world.sides[1].counters(STREAM).frames_concealed;
        world.run_ms(1_000);
        let after = world.sides[1].counters(STREAM).frames_concealed;
        // Nothing can be played while nothing comes.
        assert!(after - before <= longer / 10 + 2, "{longer} ms: {before} and {after}");
        world.run_ms(9_000);
        let counters = world.sides[1].counters(STREAM);
        assert_eq!(counters.frames_concealed, after, "{longer} ms: {counters:?}");
        assert!(counters.buffer_us < 60_000, "{longer} ms: {counters:?}");
        let heard = far.recorded();
        for second in [5, 7, 9, 11] {
            let (said, from) = (&words[second * 8_000..(2 * second + 1) * 4_000], second * 8_000);
            if rms(said) > 0.02 {
                let (correlation, _) = find(said, &heard[from..from + 12_000], 8_000);
                assert!(correlation > 0.6, "{longer} ms, second {second}: {correlation}");
            }
        }
    }
}

#[test]
fn one_stall_costs_seconds_of_delay_and_not_a_packet() {
    let (mut world, mut near, _far) = World::call(Codec::G722, 16_000);
    let stalled = 15_000 * MS..15_300 * MS;
    world.network().weather = Box::new(move |sent| {
        let due = sent.at_nanos + LATENCY;
        vec![if stalled.contains(&due) { stalled.end - sent.at_nanos } else { LATENCY }]
    });
    near.feed(&speech(16_000, 20.0, 7));
    let mut delays = Vec::new();
    for _ in 0..190 {
        world.run_ms(100);
        delays.push(world.sides[1].counters(STREAM).buffer_us / 1000);
    }
    let counters = world.sides[1].counters(STREAM);
    assert!(delays.iter().max() > Some(&280), "{delays:?}");
    assert!(delays[175..].iter().all(|delay| *delay < 50), "{delays:?}");
    assert_eq!((counters.packets_lost, counters.packets_discarded), (0, 0));
    assert!(counters.frames_concealed <= 32, "{counters:?}");
}

/// Up to 38 ms of jitter; packets keep their order.
fn uneven() -> Weather {
    let (mut number, mut last) = (0, 0);
    Box::new(move |sent| {
        if sent.from != address(0) {
            return vec![LATENCY];
        }
        number += 1;
        last = last.max(sent.at_nanos + LATENCY + [0, 38, 12, 31, 5][number % 5] * MS);
        vec![last - sent.at_nanos]
    })
}

/// A call in which the near side can send each of two codecs, and the far side hears both.
fn two_codecs(first: Codec, second: Codec) -> (World, Tape, Tape, StreamPlan) {
    let (mut world, near, mut far) = World::call(first, 48_000);
    far.recorded();
    let (one, other) = (plan(first, 1, address(0)), plan(second, 1, address(0)));
    let receive = [one.receive.clone(), other.receive].concat();
    let both = StreamPlan { generation: 2, receive, ..one };
    world.sides[1].controller.update_stream(STREAM, both).unwrap();
    let change = StreamPlan { generation: 2, ..plan(second, 0, address(1)) };
    (world, near, far, change)
}

#[test]
fn a_change_of_codec_leaves_no_gap_whatever_is_buffered() {
    use Codec::{G722, Opus, Pcma, Pcmu};
    let pairs =
        [(Pcmu, Opus), (Opus, Pcmu), (G722, Opus), (Opus, G722), (Pcmu, G722), (G722, Pcma), (Pcma, Pcmu)];
    for (first, second) in pairs {
        let (mut world, mut near, mut far, change) = two_codecs(first, second);
        // Jitter has the buffer hold a few packets; the change passes through it in order.
        world.network().weather = uneven();
        let step = std::f32::consts::TAU * 300.0 / 48_000.0;
        let tone: Vec<f32> = (0..6 * 48_000).map(|n| 0.4 * (n as f32 * step).sin()).collect();
        near.feed(&tone);
        world.run_ms(3_000);
        let before = world.sides[1].counters(STREAM);
        world.sides[0].controller.update_stream(STREAM, change).unwrap();
        world.run_ms(2_000);
        let after = world.sides[1].counters(STREAM);
        assert_eq!((after.packets_lost, after.packets_late, after.packets_discarded), (0, 0, 0));
        // The sender leaves out the packet that it was filling.
        let concealed = after.frames_concealed - before.frames_concealed;
        assert!(concealed <= 2, "{first:?} to {second:?}: {after:?}");
        let heard = far.recorded();
        let levels: Vec<f32> = heard[2 * 48_000..4 * 48_000].chunks_exact(480).map(rms).collect();
        let quietest = levels.iter().copied().fold(1.0, f32::min);
        // 0.28 is the tone. A new Opus encoder needs a tenth of a second to take one up.
        assert!(second == Opus || quietest > 0.12, "{first:?} to {second:?}: {quietest}, {levels:?}");
    }
}

#[test]
fn another_source_goes_on_behind_what_is_held_of_the_one_before() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8_000);
    world.network().weather = uneven();
    let step = std::f32::consts::TAU * 300.0 / 8_000.0;
    let tone: Vec<f32> = (0..6 * 8_000).map(|n| 0.4 * (n as f32 * step).sin()).collect();
    near.feed(&tone);
    world.run_ms(3_000);
    let call = plan(Codec::Pcmu, 0, address(1));
    let renewed = StreamPlan { generation: 2, ssrc: 0xFEED, ..call };
    let before = world.sides[1].counters(STREAM);
    world.sides[0].controller.update_stream(STREAM, renewed).unwrap();
    world.run_ms(2_000);
    let after = world.sides[1].counters(STREAM);
    assert_eq!(after.remote_ssrc, 0xFEED);
    assert_eq!((after.packets_lost, after.packets_late, after.packets_discarded), (0, 0, 0), "{after:?}");
    assert!(after.frames_concealed <= before.frames_concealed + 2, "{before:?} {after:?}");
    let heard = far.recorded();
    let quietest = heard[2 * 8_000..4 * 8_000].chunks_exact(80).map(rms).fold(1.0, f32::min);
    assert!(quietest > 0.2, "{quietest}");
}
