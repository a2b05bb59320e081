//! How often a member may ask. It remembers members alone, never strangers.

use std::collections::BTreeMap;
use std::time::Instant;

/// Requests that may come at once.
const BURST: f64 = 60.0;
/// Requests a second that may come for ever.
const RATE: f64 = 10.0;

struct Bucket {
    left: f64,
    filled: Instant,
}

#[derive(Default)]
pub(super) struct Limits {
    buckets: BTreeMap<String, Bucket>,
}

impl Limits {
    /// Takes one request of a member; `false` where there were too many lately.
    pub(super) fn take(&mut self, now: Instant, member: &str) -> bool {
        let full = || Bucket { left: BURST, filled: now };
        let bucket = self.buckets.entry(member.to_owned()).or_insert_with(full);
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.left = (bucket.left + passed * RATE).min(BURST);
        bucket.filled = now;
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }

    pub(super) fn forget(&mut self, member: &str) {
        self.buckets.remove(member);
    }
}
