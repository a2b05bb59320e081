//! What a tick may spend on sound that can be had cheaper. It counts work, not time: so the same packets give the same sound
//! on every machine, and a test can tell how much a tick does.
//!
//! Filling a gap from both sides takes as long as dozens of streams take otherwise. One stream's gap is no matter; but
//! streams that come by one way lose their packets together, and the tick must end in time for all of them.

use crate::engine::load::FULL_COMPLEXITY;
use crate::plan::EngineCounters;

/// Most work of a tick, in multiplications: about a millisecond where it was measured.
/// Thirteen gaps of 20 ms at 8 kHz.
const OF_A_TICK: u64 = 2_000_000;

/// The work of one tick on what could be had cheaper.
#[derive(Default)]
pub(crate) struct Effort {
    allowed: u64,
    spent: u64,
    /// Gaps that found no room.
    spared: u64,
    /// The present one is among them.
    counted: bool,
}

impl Effort {
    /// A tick begins. `complexity`: how hard encoders try; where they have to be spared, gaps are, too.
    pub(crate) fn begin(&mut self, complexity: u8) {
        let allowed = OF_A_TICK * u64::from(complexity) / u64::from(FULL_COMPLEXITY);
        *self = Effort { allowed, ..Effort::default() };
    }

    /// From here on it is about another gap: where several ways to fill one find no room, it is still one.
    pub(crate) fn next_gap(&mut self) {
        self.counted = false;
    }

    /// Whether the tick has room for so many multiplications; they are spent then.
    pub(crate) fn take(&mut self, work: u64) -> bool {
        let spent = self.spent.saturating_add(work);
        let fits = spent <= self.allowed;
        if fits {
            self.spent = spent;
        } else if !std::mem::replace(&mut self.counted, true) {
            self.spared += 1;
        }
        fits
    }

    /// Writes what the tick has spent into the engine's counters.
    pub(crate) fn count(&self, counters: &mut EngineCounters) {
        counters.most_gap_work = counters.most_gap_work.max(self.spent);
        counters.gaps_spared += self.spared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_without_room_counts_once() {
        let (mut effort, mut counters) = (Effort::default(), EngineCounters::default());
        effort.begin(FULL_COMPLEXITY);
        for _ in 0..2 {
            effort.next_gap();
            assert!(!effort.take(OF_A_TICK + 1) && !effort.take(OF_A_TICK + 2) && effort.take(1));
        }
        effort.count(&mut counters);
        assert_eq!((counters.gaps_spared, counters.most_gap_work), (2, 2));
    }
}
