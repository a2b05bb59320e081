//! What a tick may spend on gaps: streams that lose their packets together do not hold each other up.

use crate::world::{Seeded, World, address, plan};
use voipd_audio::PortId;
use voipd_audio::plan::{Codec, EngineCounters};

/// More than a tick can fill from both sides, less than it can play.
const MANY: usize = 100;

/// Streams that hear themselves, each of which loses one packet, all in the same tick or, `apart`, one after another;
/// answers the engine's counters and the frames that were made up. A loss before it has taught them to wait for what
/// follows.
fn lose(streams: usize, codec: Codec, apart: bool) -> (EngineCounters, u64) {
    let mut world = World::with_ports(1, streams + 1);
    let port = |stream: usize| PortId(stream as u32);
    for stream in 0..streams {
        let socket = world.sides[0].socket(address(stream));
        let plan = plan(codec, stream, address(stream));
        world.sides[0].controller.open_stream(port(stream), plan, socket).unwrap();
    }
    let mut noise = Seeded(1);
    let mut tape = world.sides[0].open_tape(PortId(streams as u32), codec.sample_rate());
    let sound: Vec<f32> =
        (0..codec.sample_rate() * 4).map(|_| (noise.draw() % 1000) as f32 / 2000.0 - 0.25).collect();
    tape.feed(&sound);
    for stream in 0..streams {
        world.sides[0].controller.connect(port(stream), &[PortId(streams as u32)]).unwrap();
    }
    world.network().weather = Box::new(move |sent| {
        // A packet has a tick of its own, every second one.
        let stream = (0..streams).find(|stream| address(*stream) == sent.from).unwrap_or_default() as u64;
        let shift = if apart { stream * 20_000_000 } else { 0 };
        let lost = [1_300_000_000, 3_000_000_000]
            .into_iter()
            .any(|at| (at + shift..at + shift + 20_000_000).contains(&sent.at_nanos));
        if lost { vec![] } else { vec![15_000_000] }
    });
    world.run_ms(1_900);
    let made_up = |world: &World| -> u64 {
        (0..streams).map(|stream| world.sides[0].counters(port(stream)).frames_concealed).sum()
    };
    let before = made_up(&world);
    world.run_ms(600 + if apart { 20 * streams as u64 } else { 0 });
    for stream in 0..streams {
        let counters = world.sides[0].counters(port(stream));
        assert_eq!(counters.packets_lost, 2, "{stream}: {counters:?}");
    }
    (world.sides[0].controller.counters(), made_up(&world) - before)
}

#[test]
fn a_tick_fills_as_many_gaps_as_it_has_room_for_and_makes_up_the_others() {
    for (codec, fit) in [(Codec::Pcmu, 8..16), (Codec::G722, 1..4), (Codec::L16Wide, 2..6)] {
        let (one, frames) = lose(1, codec, false);
        assert!(one.most_gap_work > 0 && one.gaps_spared == 0, "{codec:?}: {one:?}");
        assert_eq!(frames, 2, "{codec:?}");
        let (many, frames) = lose(MANY, codec, false);
        let filled = many.most_gap_work / one.most_gap_work;
        assert!(fit.contains(&filled), "{codec:?}: {filled} gaps filled in one tick");
        assert_eq!(many.most_gap_work % one.most_gap_work, 0, "{codec:?}: {many:?}");
        assert!(many.gaps_spared as usize >= MANY - 4 * filled as usize, "{codec:?}: {many:?}");
        assert_eq!(frames, 2 * MANY as u64, "{codec:?}: nobody is left with silence");
    }
}

#[test]
fn gaps_one_after_another_are_all_filled() {
    let (many, frames) = lose(20, Codec::Pcmu, true);
    assert_eq!((many.gaps_spared, frames), (0, 40));
}
