//! Whatever comes in whatever order, the jitter buffer keeps its bounds.

use proptest::prelude::*;
use voipd_audio::jitter::{Advice, Arrival, Inserted, JitterBuffer, Next};

const TICK: u64 = 10_000_000;
const MAX_MS: u64 = 200;

/// One packet: how its numbers step on from those before, how long it is, and when it comes.
#[derive(Clone, Debug)]
struct Step {
    sequence: i16,
    ticks: i32,
    source: u8,
    clock: u32,
    packet_ms: u32,
    after_ms: u64,
    length: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let usual = (Just(1_i16), Just(0_i32), Just(0_u8), Just(8_000_u32));
    let odd = (-200_i16..200, -4_000_i32..4_000, 0_u8..3, prop_oneof![Just(8_000_u32), Just(48_000)]);
    let wild = (any::<i16>(), any::<i32>(), any::<u8>(), any::<u32>());
    let numbers = prop_oneof![12 => usual, 3 => odd, 1 => wild];
    let packet_ms = prop_oneof![8 => Just(20_u32), 1 => Just(0), 1 => 1_u32..=120];
    let after_ms = prop_oneof![8 => 0_u64..45, 1 => 0_u64..700];
    (numbers, packet_ms, after_ms, 0_usize..1_500).prop_map(
        |((sequence, ticks, source, clock), packet_ms, after_ms, length)| Step {
            sequence,
            ticks,
            source,
            clock,
            packet_ms,
            after_ms,
            length,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_for_any_packets(steps in prop::collection::vec(step(), 1..400), stretching in any::<bool>()) {
        let mut buffer = JitterBuffer::new(20, MAX_MS as u32);
        let payload = [7; 1_500];
        let (mut sequence, mut timestamp, mut now, mut unplayed, mut due) = (0_u16, 0_u32, 1_u64 << 40, 0_u64, 0_u64);
        let (mut kept, mut played) = (0_u64, 0_u64);
        let first = now;
        for step in steps {
            now += step.after_ms * 1_000_000;
            // The ticks that were due before it came.
            while first + due * TICK <= now {
                let at = first + due * TICK;
                due += 1;
                let mut pulls = 0;
                while unplayed < TICK && pulls < 4 {
                    pulls += 1;
                    match buffer.next(at) {
                        Next::Packet { duration, skip, payload, .. } => {
                            prop_assert!(skip <= duration && duration <= 500_000_000);
                            prop_assert!(payload.iter().all(|byte| *byte == 7));
                            unplayed += duration - skip;
                            played += 1;
                        }
                        Next::Lost { .. } => unplayed += 20_000_000,
                        Next::Empty => unplayed += TICK,
                        Next::Silence => unplayed = unplayed.max(TICK),
                    }
                }
                match buffer.advise(at, unplayed, || stretching) {
                    Advice::Shorten { most, likeness } => {
                        prop_assert!(most > 0 && (0.0..=0.9).contains(&likeness));
                        let by = most.min(5_000_000).min(unplayed as i64);
                        unplayed -= by as u64;
                        buffer.stretched(at, -by);
                    }
                    Advice::Lengthen { wanted, likeness } => {
                        prop_assert!(wanted > 0 && (0.0..=0.9).contains(&likeness));
                        unplayed += 5_000_000;
                        buffer.stretched(at, 5_000_000);
                    }
                    Advice::Keep => {}
                }
                unplayed = unplayed.saturating_sub(TICK);
            }
            sequence = sequence.wrapping_add_signed(step.sequence);
            timestamp = timestamp.wrapping_add(step.clock.min(48_000) / 1000 * step.packet_ms).wrapping_add_signed(step.ticks);
            let inserted = buffer.insert(Arrival {
                sequence,
                timestamp,
                clock_rate: step.clock,
                ssrc: step.source.into(),
                payload_type: 0,
                marker: false,
                at_nanos: now,
                duration: step.clock / 1000 * step.packet_ms,
                payload: &payload[..step.length],
            });
            kept += u64::from(matches!(inserted, Inserted::Kept | Inserted::Restarted));
            let figures = buffer.figures();
            // One packet and a tick are always allowed; no packet here is longer than 120 ms, or 500 for an odd clock.
            prop_assert!(figures.target_us <= (MAX_MS + 500 + 10) * 1000, "{:?}", figures);
        }
        // What is played had come; with each change of source one packet more had come than was said to be kept.
        prop_assert!(played <= 2 * kept + 1, "{} of {}", played, kept);
    }
}
