//! What the sound that comes from the peer tells of the network: whether it begins to queue, and what has come through. It
//! judges nothing of what is sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_audio::plan::StreamCounters;

/// Looks that are remembered, and how far apart they are at the least.
const LOOKS: usize = 8;
const APART: Duration = Duration::from_millis(80);
/// The last looks of so much time tell whether a queue grows.
const SPAN: Duration = Duration::from_millis(600);
/// A queue that grows with each of so many looks, by so much each time, and is so long by now, is a link's: jitter comes and
/// goes, and timestamps that jump do so once.
const STEPS: usize = 2;
const STEP_US: u64 = 10_000;
const LONG_US: u64 = 50_000;
/// From here on the peer should hear of it.
const NOTABLE_US: u64 = 40_000;
/// So many reports are sent as early as may be, each after so many packets more: they tell the peer's sender what the way is
/// like before it has filled a queue.
const EARLY_REPORTS: u8 = 2;
const EARLY_PACKETS: u64 = 3;
/// How long a queue is spoken of at most: one that never empties is a clock that has jumped.
const LONGEST_TROUBLE: Duration = Duration::from_secs(20);
/// Bits per second that a session is thought to have at the least.
const LEAST_BANDWIDTH: f64 = 24_000.0;

/// Sound from the peer as the network lets it through.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    looks: VecDeque<Look>,
    early: u8,
    /// Packets by when the last early report was due.
    packets: u64,
    /// Since when it queues.
    trouble: Option<Instant>,
    /// It queued at the last look, so the next report says that it does no more.
    troubled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    queued_us: u64,
    /// Received, and sent, in bits with headers.
    received: f64,
    sent: f64,
}

impl Inbound {
    /// `overhead`: bytes of each packet around its payload.
    pub(super) fn look(&mut self, now: Instant, counters: &StreamCounters, overhead: u32) {
        if self.looks.back().is_some_and(|last| now.saturating_duration_since(last.at) < APART) {
            return;
        }
        while self.looks.len() >= LOOKS {
            self.looks.pop_front();
        }
        let bits = |octets: u64, packets: u64| (octets + packets * u64::from(overhead)) as f64 * 8.0;
        self.looks.push_back(Look {
            at: now,
            queued_us: counters.queued_now_us,
            received: bits(counters.octets_received, counters.packets_received),
            sent: bits(counters.octets_sent, counters.packets_sent),
        });
    }

    /// Packets take another way, and have other headers: what was seen before does not compare.
    pub(super) fn way_changed(&mut self) {
        self.looks.clear();
    }

    /// The link begins to be too slow for what the peer sends: bits per second that come through, headers included, and how
    /// long they wait.
    pub(super) fn overrun(&self, now: Instant) -> Option<(f64, Duration)> {
        let mut recent = self.looks.iter().rev().take(STEPS + 1);
        let last = recent.next()?;
        let (mut after, mut steps) = (last, 0);
        for look in recent {
            if now.saturating_duration_since(look.at) > SPAN || after.queued_us < look.queued_us + STEP_US {
                return None;
            }
            (after, steps) = (look, steps + 1);
        }
        let seconds = last.at.saturating_duration_since(after.at).as_secs_f64();
        let carried = (last.received - after.received) / seconds;
        (steps == STEPS && last.queued_us >= LONG_US && carried > 0.0)
            .then(|| (carried, Duration::from_micros(last.queued_us)))
    }

    /// Whether packets come, and have waited in a queue.
    pub(super) fn queues(&self) -> bool {
        let ends = self.looks.front().zip(self.looks.back());
        ends.is_some_and(|(first, last)| last.queued_us >= LONG_US && last.received > first.received)
    }

    /// Whether the peer should have a report soon; then, bits per second of both directions.
    pub(super) fn wants_report(&mut self, now: Instant, counters: &StreamCounters) -> Option<f64> {
        let queues = counters.queued_now_us >= NOTABLE_US;
        self.trouble = queues.then(|| self.trouble.unwrap_or(now));
        let speaks = self.trouble.is_some_and(|since| now.saturating_duration_since(since) < LONGEST_TROUBLE);
        let over = std::mem::replace(&mut self.troubled, speaks) && !speaks;
        let early = self.early < EARLY_REPORTS && counters.packets_received >= self.packets + EARLY_PACKETS;
        (speaks || over || early).then(|| self.bandwidth())
    }

    /// A report has gone out.
    pub(super) fn told(&mut self, counters: &StreamCounters) {
        if counters.packets_received > 0 && self.early < EARLY_REPORTS {
            (self.early, self.packets) = (self.early + 1, counters.packets_received);
        }
    }

    /// Whether a look is soon due again.
    pub(super) fn is_watchful(&self) -> bool {
        self.early < EARLY_REPORTS || self.troubled
    }

    fn bandwidth(&self) -> f64 {
        let ends = self.looks.front().zip(self.looks.back());
        let rate = ends.map_or(0.0, |(first, last)| {
            let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
            let bits = last.received + last.sent - first.received - first.sent;
            if seconds > 0.0 { bits / seconds } else { 0.0 }
        });
        rate.max(LEAST_BANDWIDTH)
    }
}
