//! How much of its time the tick needs, and how hard the encoders may therefore try.

use crate::TICK_NANOS;

/// Opus complexity without load (RFC 6716 section 2.1.5: 0 to 10); the last step costs much and gives little.
pub(crate) const FULL_COMPLEXITY: u8 = 9;
const LEAST_COMPLEXITY: u8 = 0;
/// So much more is tried for streams whose bits are scarce ([`crate::plan::Steering::careful`]).
const CARE: u8 = 3;
/// Shares of the tick's time above which less, and below which more is tried.
const HIGH: f32 = 0.4;
const LOW: f32 = 0.15;
/// Share above which ticks do not end in time: nothing is tried any more, at once.
const OVERRUN: f32 = 0.8;
/// Most that the streams which are there may be expected to take.
const EXPECTED: f32 = 0.6;
/// What a stream takes of every tick: half of what 20 ms of Opus take where it was measured, both ways, at least
/// complexity and for each step above. In nanoseconds.
const STREAM_NANOS: (f32, f32) = (65_000.0, 15_000.0);
/// Ticks between two changes: the last one must show its effect first.
const PAUSE: u32 = 50;

/// The complexity for a stream where the load allows `complexity` for all.
pub(crate) fn complexity_of(complexity: u8, careful: bool) -> u8 {
    let more = careful && complexity > LEAST_COMPLEXITY;
    if more { (complexity + CARE).min(FULL_COMPLEXITY) } else { complexity }
}

/// The tick's load.
pub(crate) struct Load {
    /// Share of the tick's time, smoothed.
    share: f32,
    complexity: u8,
    since_change: u32,
    /// Encoders that may try more or less.
    encoders: usize,
}

impl Load {
    pub(crate) fn new() -> Self {
        Load { share: 0.0, complexity: FULL_COMPLEXITY, since_change: 0, encoders: 0 }
    }

    /// So many encoders work that may try more or less. When there are more than before, less is tried before ticks are
    /// late; how fast the machine really is turns out by and by.
    pub(crate) fn expect(&mut self, encoders: usize) {
        if encoders > self.encoders {
            let seen = self.encoders > 0 && self.since_change >= PAUSE;
            let fits = seen && self.share * encoders as f32 <= EXPECTED * self.encoders as f32;
            if !fits {
                let (least, step) = STREAM_NANOS;
                let each = EXPECTED * TICK_NANOS as f32 / encoders as f32;
                // A float converts saturating.
                self.complexity = self.complexity.min(((each - least) / step) as u8);
            }
            self.since_change = 0;
        }
        self.encoders = encoders;
    }

    pub(crate) fn add(&mut self, nanos: u64) {
        let share = nanos as f32 / TICK_NANOS as f32;
        self.share += (share - self.share) / 16.0;
        self.since_change += 1;
        if self.share > OVERRUN && self.complexity > LEAST_COMPLEXITY {
            (self.complexity, self.since_change) = (LEAST_COMPLEXITY, 0);
        }
        if self.since_change < PAUSE {
            return;
        }
        let complexity = if self.share > HIGH {
            self.complexity.saturating_sub(1)
        } else if self.share < LOW {
            (self.complexity + 1).min(FULL_COMPLEXITY)
        } else {
            self.complexity
        };
        if complexity != self.complexity {
            (self.complexity, self.since_change) = (complexity, 0);
        }
    }

    pub(crate) fn complexity(&self) -> u8 {
        self.complexity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_do_not_end_in_time_are_relieved_at_once() {
        let mut load = Load::new();
        // One late tick is the system's affair.
        load.add(5 * TICK_NANOS);
        (0..100).for_each(|_| load.add(TICK_NANOS / 10));
        assert_eq!(load.complexity(), FULL_COMPLEXITY);
        (0..20).for_each(|_| load.add(3 * TICK_NANOS / 2));
        assert_eq!(load.complexity(), LEAST_COMPLEXITY);
        // Back it goes step by step.
        (0..100).for_each(|_| load.add(TICK_NANOS / 10));
        assert!((LEAST_COMPLEXITY + 1..LEAST_COMPLEXITY + 3).contains(&load.complexity()));
    }

    #[test]
    fn many_encoders_that_come_at_once_try_less_before_a_tick_is_late() {
        let mut load = Load::new();
        load.expect(18);
        assert_eq!(load.complexity(), FULL_COMPLEXITY);
        load.expect(50);
        assert_eq!(load.complexity(), 3);
        load.expect(100);
        assert_eq!(load.complexity(), LEAST_COMPLEXITY);
        // The machine is faster than was thought.
        (0..1000).for_each(|_| load.add(TICK_NANOS / 10));
        assert_eq!(load.complexity(), FULL_COMPLEXITY);
        load.expect(101);
        assert_eq!(load.complexity(), FULL_COMPLEXITY, "it is known what the others take");
        load.expect(50);
        load.expect(101);
        assert!(load.complexity() < FULL_COMPLEXITY, "what was taken is not known any more");
    }

    #[test]
    fn more_is_tried_where_bits_are_scarce_but_not_where_ticks_are_late() {
        let of = |complexity| [false, true].map(|careful| complexity_of(complexity, careful));
        assert_eq!([0, 1, 5, 8, 9].map(of), [[0, 0], [1, 4], [5, 8], [8, 9], [9, 9]]);
    }

    #[test]
    fn complexity_follows_the_load() {
        let mut load = Load::new();
        (0..5000).for_each(|_| load.add(TICK_NANOS / 2));
        assert_eq!(load.complexity(), LEAST_COMPLEXITY);
        (0..5000).for_each(|_| load.add(TICK_NANOS / 4));
        assert_eq!(load.complexity(), LEAST_COMPLEXITY);
        (0..5000).for_each(|_| load.add(TICK_NANOS / 10));
        assert_eq!(load.complexity(), FULL_COMPLEXITY);
    }
}
