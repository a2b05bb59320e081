//! How long packets that are sent wait on their way, by what the peer's reports know of them. It decides nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_audio::plan::StreamCounters;
use voipd_media::rtcp::RemoteView;

/// Moments that are remembered, and how far apart they are at the least: some 30 s, and longer than any queue that is worth
/// waiting for.
const MOMENTS: usize = 80;
const APART: Duration = Duration::from_millis(400);
/// How long the least delay counts, at least; at most twice as long.
const BASE: Duration = Duration::from_secs(60);
/// Reports that follow each other faster tell nothing new.
const SHORTEST: Duration = Duration::from_millis(200);
/// Of the reports of so much time, at most so many, the first one that knew of a queue tells together with the last one
/// what the link carries.
const LONG_AGO: Duration = Duration::from_secs(3);
const RECENT: usize = 12;
const STANDING: Duration = Duration::from_millis(65);
/// Packets that cover a smaller share of the time were not sent all the time. They may have become shorter in it.
const FULL: f64 = 0.3;
/// A source that has sent for no longer is thought to have sent all the time.
const YOUNG: Duration = Duration::from_secs(10);
/// Packets that are sent so soon after they have begun to take another way overlap with those of the way before.
const OVERLAP: Duration = Duration::from_secs(1);
/// For so long afterwards, round trips may still be of the way before: that of a report is some reports old.
const RENEWED: Duration = Duration::from_secs(20);
/// As long as the first reports come, no way is taken for longer than this.
const FARTHEST: Duration = Duration::from_millis(800);
const FIRST_REPORTS: u32 = 3;

/// Jitter that is a link's own: packets of sound differ in length, and reports come between them.
const USUAL_JITTER: Duration = Duration::from_millis(5);
/// What remains of it makes packet and report late by so many times as much, now and then; at most by so much.
const LATENESS: u32 = 4;
const MOST_UNEVEN: Duration = Duration::from_millis(80);

/// A peer may have got so many packets more than were sent by our last look at the counters.
const AHEAD: u16 = 100;

/// What one report shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Waiting time in the queue on the way to the peer.
    pub(super) queue: Duration,
    /// The same without any allowance for jitter.
    pub(super) at_most: Duration,
    /// The same by the round trip of our last report but one: exact, and some seconds old.
    pub(super) earlier: Duration,
    /// Seconds a second that it has grown by since the report before.
    pub(super) growth: f64,
    /// Bits per second that have left the queue in the meantime, packet headers included: where there is one, that is what
    /// the link carries.
    pub(super) carried: f64,
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
    /// By the last look: octets and packets.
    counted: (u64, u64),
    /// The same in bits, packet headers included: of the size that they had when they were sent.
    bits: f64,
    /// What was sent before tells nothing of the way that packets take now.
    turned: Option<Instant>,
    base: Least,
    round_trip: Least,
    last: Option<Last>,
    /// The reports before it, of the last seconds.
    recent: VecDeque<Last>,
    /// When the first packet was sent, where that is known.
    beginning: Option<Last>,
    reports: u32,
}

/// What the report before has shown.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: Instant,
    queue: Duration,
    /// Sent until the first packet that the peer did not have.
    bits: f64,
}

impl Delay {
    /// `overhead`: bytes of each packet around its payload.
    pub(super) fn sent(&mut self, now: Instant, counters: &StreamCounters, overhead: u32) {
        let ptime = Duration::from_millis(counters.send_ptime_ms.into());
        if counters.sent_ssrc != self.ssrc_sent {
            // Its sequence numbers have nothing to do with those before.
            self.ssrc_sent = counters.sent_ssrc;
            self.moments.clear();
            self.last = None;
            self.recent.clear();
            // The stream has been sent since its first packet, or there were others before.
            let age = ptime.saturating_mul(counters.packets_sent.min(u32::MAX.into()) as u32);
            let at = now.checked_sub(age).filter(|_| age <= YOUNG && !ptime.is_zero());
            self.beginning = at.map(|at| Last { at, queue: Duration::ZERO, bits: 0.0 });
        }
        let (octets, packets) =
            std::mem::replace(&mut self.counted, (counters.octets_sent, counters.packets_sent));
        let headers = counters.packets_sent.saturating_sub(packets) * u64::from(overhead);
        self.bits += (counters.octets_sent.saturating_sub(octets) + headers) as f64 * 8.0;
        let next = match self.moments.back() {
            Some(last) => last.next + u64::from(counters.sent_sequence.wrapping_sub(last.next as u16)),
            // Room for packets from before.
            None => u64::from(counters.sent_sequence) + (1 << 16),
        };
        let before = self.moments.len().checked_sub(2).and_then(|place| self.moments.get(place));
        if before.is_some_and(|before| now.saturating_duration_since(before.at) < APART) {
            self.moments.pop_back();
        }
        while self.moments.len() >= MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment { at: now, next, bits: self.bits, ptime });
    }

    /// Packets take another way from now on, whose length is not known. What was sent when stays known.
    pub(super) fn way_changed(&mut self, now: Instant) {
        self.turned = Some(now + OVERLAP);
        (self.base, self.round_trip) = (Least::default(), Least::default());
        self.recent.clear();
    }

    /// `None` where the report says nothing that could be used.
    pub(super) fn report(&mut self, now: Instant, view: &RemoteView, queued: Duration) -> Option<Seen> {
        let newest = *self.moments.back()?;
        let behind = (newest.next as u16).wrapping_sub(1).wrapping_sub(view.highest_seq as u16);
        if behind >= 1 << 15 {
            if behind.wrapping_neg() <= AHEAD {
                self.nothing_waits(now, newest, queued);
            }
            return None;
        }
        // The first packet that the peer did not have.
        let missing = newest.next.checked_sub(u64::from(behind))?;
        let (queue, at_most) = match self.sent_at(missing) {
            // The report speaks of the way before, or of what was lost when that ended.
            Some(sent_at) if self.turned.is_some_and(|turned| sent_at < turned) => {
                (Duration::ZERO, Duration::ZERO)
            }
            Some(sent_at) => {
                let way = now.saturating_duration_since(sent_at).saturating_sub(queued);
                let base = self.base.add(now, way);
                // A queue may have been there from the beginning.
                let base = if self.reports < FIRST_REPORTS { base.min(FARTHEST) } else { base };
                // The report may have left right before the packet's arrival, or a packet time earlier.
                let wait = way.saturating_sub(base + newest.ptime / 2);
                (wait.saturating_sub(uneven(view.jitter)), wait)
            }
            // Where nothing is under way, or little is sent, nothing is known of a queue, and there can hardly be one.
            None => {
                self.nothing_waits(now, newest, queued);
                (Duration::ZERO, Duration::ZERO)
            }
        };
        let renewed = self.turned.is_none_or(|turned| now.saturating_duration_since(turned) >= RENEWED);
        let earlier = view.round_trip.filter(|_| renewed).map_or(Duration::ZERO, |round_trip| {
            let way = round_trip.saturating_sub(queued);
            way.saturating_sub(self.round_trip.add(now, way) + uneven(view.jitter))
        });
        self.reports = self.reports.saturating_add(1);
        // Reports that have waited for different times were written further apart, or closer, than they come.
        let written = now.checked_sub(queued).unwrap_or(now);
        let bits = self.bits_before(missing)?;
        let loss = f64::from(view.fraction_lost);
        let before = self.last.filter(|last| written.saturating_duration_since(last.at) >= SHORTEST);
        let before = before.or(self.beginning);
        self.last = Some(Last { at: written, queue, bits });
        let before = before?;
        let seconds = written.saturating_duration_since(before.at).max(SHORTEST).as_secs_f64();
        let growth = (queue.as_secs_f64() - before.queue.as_secs_f64()) / seconds;
        let carried = (bits - before.bits).max(0.0) * (1.0 - loss) / seconds;
        // Packets are as coarse as the time between two hurried reports is short.
        while self.recent.front().is_some_and(|at| written.saturating_duration_since(at.at) > LONG_AGO)
            || self.recent.len() >= RECENT
        {
            self.recent.pop_front();
        }
        let long = self.recent.iter().find(|at| at.queue >= STANDING).filter(|_| loss == 0.0);
        let carried = long.map_or(carried, |long| {
            let seconds = written.saturating_duration_since(long.at).max(SHORTEST).as_secs_f64();
            (bits - long.bits).max(0.0) / seconds
        });
        self.recent.push_back(Last { at: written, queue, bits });
        Some(Seen { queue, at_most, earlier, growth, carried })
    }

    /// The peer has all that was sent by the last look: the way is no longer than the time since then.
    fn nothing_waits(&mut self, now: Instant, newest: Moment, queued: Duration) {
        if self.turned.is_none_or(|turned| newest.at >= turned) {
            self.base.add(now, now.saturating_duration_since(newest.at).saturating_sub(queued));
        }
    }

    /// The moments around the sending of this packet, and where between them it was; `None` where it is newer than all.
    fn around(&self, sequence: u64) -> Option<(Moment, Moment, f64)> {
        let later = self.moments.iter().position(|moment| moment.next > sequence)?;
        let after = *self.moments.get(later)?;
        let before = later.checked_sub(1).and_then(|place| self.moments.get(place));
        let earlier = before.copied().or_else(|| {
            let beginning = self.beginning?;
            let packets =
                after.at.saturating_duration_since(beginning.at).as_secs_f64() / after.ptime.as_secs_f64();
            let next = after.next.checked_sub(packets.round() as u64)?;
            Some(Moment { at: beginning.at, next, bits: beginning.bits, ptime: after.ptime })
        });
        let before = earlier.filter(|before| before.next <= sequence && before.next < after.next)?;
        let share = (sequence - before.next) as f64 / (after.next - before.next) as f64;
        Some((before, after, share))
    }

    /// Bits that were sent before this packet.
    fn bits_before(&self, sequence: u64) -> Option<f64> {
        let newest = self.moments.back()?;
        let bits = self
            .around(sequence)
            .map(|(before, after, share)| before.bits + (after.bits - before.bits) * share);
        Some(bits.unwrap_or(newest.bits))
    }

    /// When this packet was sent, between the moments that are known; `None` where it is newer than all, and where packets
    /// were not sent all the time, so that it might have been at any.
    fn sent_at(&self, sequence: u64) -> Option<Instant> {
        let (before, after, share) = self.around(sequence)?;
        let time = after.at.saturating_duration_since(before.at);
        let full = after.ptime.mul_f64((after.next - before.next) as f64) >= time.mul_f64(FULL);
        full.then(|| before.at + time.mul_f64(share))
    }
}

/// How late a packet and a report may come without a queue, where packets come with so much jitter.
fn uneven(jitter: Duration) -> Duration {
    (jitter.saturating_sub(USUAL_JITTER) * LATENESS).min(MOST_UNEVEN)
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
