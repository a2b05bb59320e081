//! When to play faster or slower: compares the delay with its target between two water marks. It knows nanoseconds, not
//! packets and not sound.

use super::{MS, TICK};

/// Shortest piece that is worth leaving out or putting in.
const SHORTEST: i64 = 5 * MS / 2;
/// A surplus counts when it has lasted so long: the end of a burst is no surplus yet, more may come.
const LASTING: i64 = 500 * MS;
/// A surplus of less than four ticks waits so long for a pause of the voice, in which nobody hears it go.
const PATIENCE: i64 = 3_000 * MS;

/// What would bring the delay nearer to its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advice {
    /// Nothing: the delay is between its marks.
    Keep,
    /// Leave sound out.
    Shorten {
        /// At most so much, in nanoseconds.
        most: i64,
        /// Normalised correlation that the pieces joined should have at least; in a quiet place any will do.
        likeness: f32,
    },
    /// Put sound in.
    Lengthen {
        /// So much is wanted, in nanoseconds; up to 10 ms may be put in where less is.
        wanted: i64,
        /// As for [`Advice::Shorten`].
        likeness: f32,
    },
}

/// The delay as it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// How long after the fastest packets' arrival the next packet will be wanted, in nanoseconds.
    pub(super) lateness: i64,
    /// What will be left of the packets before it then: less than a tick. It delays sound, and gives packets no time.
    pub(super) remainder: i64,
    /// The lateness aimed at.
    pub(super) wait: i64,
    /// The lateness below which packets are late, or soon will be.
    pub(super) enough: i64,
    /// The same of packets that are expected to be slower than any that were seen: prepared for in pauses only.
    pub(super) safe: i64,
}

impl Standing {
    /// What can be left out so that packets still have `wait` and `margin` to come.
    fn surplus(&self, margin: i64) -> i64 {
        if self.lateness < self.wait {
            return 0;
        }
        self.remainder + (self.lateness - self.wait - margin).max(0) / TICK * TICK
    }

    /// What must be put in so that packets have `wait` again: whole ticks, less what is left over.
    fn deficit(&self, enough: i64) -> i64 {
        if self.lateness >= enough {
            return 0;
        }
        let short = (self.wait - self.lateness).max(1);
        ((short + TICK - 1) / TICK * TICK - self.remainder).max(SHORTEST)
    }
}

/// Memory of one stream's water marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    /// Since when there has been a surplus of a tick or more.
    surplus_since: Option<i64>,
    /// When sound was stretched last.
    stretched: i64,
    /// Since when there has been something to do.
    waiting_since: Option<i64>,
}

impl Level {
    pub(super) const fn new() -> Self {
        Level { surplus_since: None, stretched: i64::MIN / 2, waiting_since: None }
    }

    /// What should be done at `now`; `quiet` tells whether the sound to be played next is a pause.
    pub(super) fn advise(&mut self, now: i64, standing: Standing, quiet: impl FnOnce() -> bool) -> Advice {
        let eighth = standing.wait / 8;
        let surplus = standing.surplus(eighth.max(3 * MS));
        let (deficit, expected) = (standing.deficit(standing.enough), standing.deficit(standing.safe));
        // In a pause the mark is lower.
        let gentle = standing.surplus((eighth / 2).max(MS));
        let lasting = if gentle < TICK {
            self.surplus_since = None;
            0
        } else {
            now - *self.surplus_since.get_or_insert(now)
        };
        if gentle < SHORTEST && deficit.max(expected) == 0 {
            self.waiting_since = None;
            return Advice::Keep;
        }
        let waited = now - *self.waiting_since.get_or_insert(now);
        let since = now - self.stretched;
        let likeness = |by: i64| {
            let pressed = (by - 20 * MS).max(0) as f32 / (200 * MS) as f32;
            let weary = (waited - PATIENCE).max(0) as f32 / (50_000 * MS) as f32;
            (0.9 - pressed - weary).max(0.3)
        };
        if deficit.max(expected) > 0 {
            if quiet() {
                return Advice::Lengthen { wanted: deficit.max(expected), likeness: 0.0 };
            }
            let pace = if deficit < 40 * MS { 100 * MS } else { 40 * MS };
            if deficit > 0 && since >= pace {
                return Advice::Lengthen { wanted: deficit, likeness: likeness(deficit).max(0.6) };
            }
            return Advice::Keep;
        }
        // Without a lasting surplus only the remainder may go: no packet needs it.
        let calm = if lasting >= LASTING { gentle } else { gentle.min(standing.remainder) };
        if calm >= SHORTEST && quiet() {
            return Advice::Shorten { most: calm, likeness: 0.0 };
        }
        let patience = if surplus < 4 * TICK { PATIENCE } else { LASTING };
        let pace = match surplus {
            0..40_000_000 => 200 * MS,
            40_000_000..100_000_000 => 60 * MS,
            _ => 0,
        };
        if surplus >= TICK && lasting >= patience && since >= pace {
            return Advice::Shorten { most: surplus, likeness: likeness(surplus) };
        }
        Advice::Keep
    }

    /// Sound was stretched at `now`.
    pub(super) fn stretched(&mut self, now: i64) {
        self.stretched = now;
        self.waiting_since = None;
    }
}
