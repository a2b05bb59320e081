//! How long packets that are sent wait on their way, by what the peer's reports know of them. It decides nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_audio::plan::StreamCounters;
use voipd_media::rtcp::RemoteView;

/// Moments that are remembered: some 30 s, and longer than any queue that is worth waiting for.
const MOMENTS: usize = 64;
/// How long the least delay counts, at least; at most twice as long.
const BASE: Duration = Duration::from_secs(60);
/// Reports that follow each other faster tell no growth.
const SHORTEST: Duration = Duration::from_millis(200);
/// Packets that cover a smaller share of the time were not sent all the time. They may have become shorter in it.
const FULL: f64 = 0.3;
/// A queue that grows faster, in seconds a second, is measured wrongly.
const STEEPEST: f64 = 8.0;

/// What one report shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Waiting time in the queue on the way to the peer.
    pub(super) queue: Duration,
    /// Seconds a second that it has grown by since the report before.
    pub(super) growth: f64,
    /// Bits per second that were sent in the meantime, packet headers included.
    pub(super) rate: f64,
}

/// What had been sent at a moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    /// The sequence number that came next, in full length.
    next: u64,
    bits: f64,
    /// Of the packets before it.
    ptime: Duration,
}

/// The delay of one stream.
#[derive(Debug, Default)]
pub(super) struct Delay {
    moments: VecDeque<Moment>,
    ssrc_sent: u32,
    base: Least,
    last: Option<(Instant, Duration, f64)>,
}

impl Delay {
    /// `overhead`: bytes of each packet around its payload.
    pub(super) fn sent(&mut self, now: Instant, counters: &StreamCounters, overhead: u32) {
        if counters.sent_ssrc != self.ssrc_sent {
            // Its sequence numbers have nothing to do with those before.
            self.ssrc_sent = counters.sent_ssrc;
            self.moments.clear();
            self.last = None;
        }
        let octets = counters.octets_sent + counters.packets_sent * u64::from(overhead);
        let next = match self.moments.back() {
            Some(last) => {
                last.next + u64::from((counters.sent_sequence as u16).wrapping_sub(last.next as u16))
            }
            // Room for packets from before.
            None => u64::from(counters.sent_sequence) + (1 << 16),
        };
        let ptime = Duration::from_millis(counters.send_ptime_ms.into());
        while self.moments.len() >= MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment { at: now, next, bits: octets as f64 * 8.0, ptime });
    }

    /// `None` where the report says nothing that could be used.
    pub(super) fn report(&mut self, now: Instant, view: &RemoteView, queued: Duration) -> Option<Seen> {
        let newest = *self.moments.back()?;
        let behind = (newest.next as u16).wrapping_sub(1).wrapping_sub(view.highest_seq as u16);
        if behind >= 1 << 15 {
            return None;
        }
        // The first packet that the peer did not have.
        let missing = newest.next.checked_sub(u64::from(behind))?;
        // Where nothing is under way, or little is sent, nothing is known of a queue, and there can hardly be one.
        let queue = self.sent_at(missing).map_or(Duration::ZERO, |sent_at| {
            let way = now.saturating_duration_since(sent_at).saturating_sub(queued);
            way.saturating_sub(self.base.add(now, way))
        });
        let (growth, rate) = match self.last {
            Some((at, before, bits)) if now.saturating_duration_since(at) >= SHORTEST => {
                let seconds = now.saturating_duration_since(at).as_secs_f64();
                let growth = (queue.as_secs_f64() - before.as_secs_f64()) / seconds;
                (growth.min(STEEPEST), (newest.bits - bits) / seconds)
            }
            _ => {
                let oldest = self.moments.front()?;
                let seconds = now.saturating_duration_since(oldest.at).as_secs_f64().max(0.1);
                (queue.as_secs_f64() / seconds, (newest.bits - oldest.bits) / seconds)
            }
        };
        self.last = Some((now, queue, newest.bits));
        Some(Seen { queue, growth, rate })
    }

    /// When this packet was sent, between the moments that are known; `None` where it is newer than all, and where packets
    /// were not sent all the time, so that it might have been at any.
    fn sent_at(&self, sequence: u64) -> Option<Instant> {
        let later = self.moments.iter().position(|moment| moment.next > sequence)?;
        let after = self.moments.get(later)?;
        let Some(before) = later.checked_sub(1).and_then(|place| self.moments.get(place)) else {
            return Some(after.at);
        };
        let (packets, time) = (after.next - before.next, after.at.saturating_duration_since(before.at));
        let share = (sequence - before.next) as f64 / packets as f64;
        let full = after.ptime.mul_f64(packets as f64) >= time.mul_f64(FULL);
        full.then(|| before.at + time.mul_f64(share))
    }
}

/// The least of the durations of the last minutes.
#[derive(Debug, Default)]
struct Least {
    since: Option<Instant>,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Least {
    fn add(&mut self, at: Instant, value: Duration) -> Duration {
        if self.since.is_none_or(|since| at.saturating_duration_since(since) >= BASE) {
            (self.before, self.now, self.since) = (self.now, None, Some(at));
        }
        self.now = Some(self.now.map_or(value, |least| least.min(value)));
        [self.now, self.before].into_iter().flatten().min().unwrap_or(value)
    }
}
