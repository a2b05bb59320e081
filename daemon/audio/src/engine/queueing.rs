//! How long packets wait in queues on their way to us, by their timestamps and arrivals alone. It knows no clock of the
//! peer's: what the fastest packet of the last minutes took counts as nothing.

/// How long the fastest packet counts, at least; at most twice as long. The clocks of two machines drift apart by some
/// 20 ms in the meantime.
const BASE_NANOS: i64 = 60_000_000_000;
/// Of the packets of this time the fastest one tells the queue: jitter delays single packets, a queue delays all.
const RECENT_NANOS: i64 = 500_000_000;
/// The same where it matters more to know soon than to know well.
const NOW_NANOS: i64 = 100_000_000;

/// A timestamp that disagrees with its arrival by more is of another time line: the sender's clock has jumped.
const JUMP_NANOS: i64 = 2_000_000_000;

/// The queue before one stream.
#[derive(Default)]
pub(crate) struct Queueing {
    last: Option<Point>,
    base: Fastest,
    recent: Fastest,
    now: Fastest,
    queued: i64,
    queued_now: i64,
}

impl Queueing {
    /// Another source, another clock.
    pub(crate) fn restart(&mut self) {
        *self = Queueing::default();
    }

    /// Takes a packet with this timestamp, on a clock of `clock_rate` hertz.
    pub(crate) fn observe(&mut self, timestamp: u32, at_nanos: u64, clock_rate: u32) {
        let at = at_nanos as i64;
        let step = |last: Point| at.wrapping_sub(last.at) - units(timestamp, last.timestamp, clock_rate);
        let transit = match self.last.map(|last| (last.transit, step(last))) {
            Some((transit, step)) if step.abs() <= JUMP_NANOS => transit + step,
            Some(_) => {
                self.restart();
                0
            }
            None => 0,
        };
        self.last = Some(Point { at, timestamp, transit });
        self.base.add(at, transit, BASE_NANOS);
        self.recent.add(at, transit, RECENT_NANOS);
        self.now.add(at, transit, NOW_NANOS);
        self.queued = self.recent.least() - self.base.least();
        self.queued_now = self.now.least() - self.base.least();
    }

    /// In microseconds.
    pub(crate) fn queued_us(&self) -> u64 {
        (self.queued / 1000).max(0) as u64
    }

    /// By the packets of the last 0.1 to 0.2 s alone, in microseconds.
    pub(crate) fn queued_now_us(&self) -> u64 {
        (self.queued_now / 1000).max(0) as u64
    }
}

/// Nanoseconds between two timestamps.
fn units(later: u32, earlier: u32, clock_rate: u32) -> i64 {
    i64::from(later.wrapping_sub(earlier) as i32) * 1_000_000_000 / i64::from(clock_rate.max(1))
}

#[derive(Clone, Copy)]
struct Point {
    at: i64,
    timestamp: u32,
    /// Compared with that of the first packet.
    transit: i64,
}

/// The least transit of a time, by halves of up to twice as long.
#[derive(Default)]
struct Fastest {
    since: i64,
    now: Option<i64>,
    before: Option<i64>,
}

impl Fastest {
    fn add(&mut self, at: i64, transit: i64, window: i64) {
        if self.now.is_none() {
            self.since = at;
        }
        if at.wrapping_sub(self.since) >= window {
            (self.before, self.now, self.since) = (self.now, None, at);
        }
        self.now = Some(self.now.map_or(transit, |least| least.min(transit)));
    }

    fn least(&self) -> i64 {
        let all = [self.now, self.before];
        all.into_iter().flatten().min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 20 ms with these delays in milliseconds; what is thought to be queued then.
    fn queued(delays: impl Iterator<Item = u64>) -> u64 {
        let mut queueing = Queueing::default();
        for (number, delay) in delays.enumerate() {
            let sent = number as u64 * 20;
            queueing.observe(
                (u32::MAX - 5000).wrapping_add(sent as u32 * 8),
                (sent + delay) * 1_000_000,
                8000,
            );
        }
        queueing.queued_us() / 1000
    }

    #[test]
    fn latency_and_jitter_are_no_queue() {
        assert_eq!(queued((0..500).map(|_| 80)), 0);
        let jitter = queued((0..5000).map(|number| 80 + number * 7919 % 30));
        assert!(jitter <= 2, "{jitter}");
    }

    #[test]
    fn what_delays_every_packet_is() {
        assert_eq!(queued((0..500).map(|number| if number < 250 { 20 } else { 170 })), 150);
        let growing = queued((0..500).map(|number| 20 + number.min(400)));
        assert_eq!(growing, 400);
    }

    #[test]
    fn a_queue_is_seen_while_it_begins() {
        let mut queueing = Queueing::default();
        // A link of a third of what is sent: after 300 ms of sending, a packet has waited for 200 ms.
        for sent in (0..300_u64).step_by(20) {
            queueing.observe(sent as u32 * 8, sent * 3 * 1_000_000, 8000);
        }
        let (slow, soon) = (queueing.queued_us() / 1000, queueing.queued_now_us() / 1000);
        assert!(slow < 300 && soon > 400, "{slow} {soon}");
    }

    #[test]
    fn a_clock_that_jumps_is_no_queue() {
        let mut queueing = Queueing::default();
        for packet in 0..200_u32 {
            let jumped = match packet {
                50 => 0x7FFF_0000,
                100.. => 0x9000_0000,
                _ => 0,
            };
            queueing.observe(jumped + packet * 160, u64::from(packet) * 20_000_000, 8000);
            assert_eq!((queueing.queued_us(), queueing.queued_now_us()), (0, 0), "packet {packet}");
        }
    }

    #[test]
    fn a_longer_way_is_no_queue_after_two_minutes() {
        assert_eq!(queued((0..10_000).map(|number| if number < 1000 { 20 } else { 90 })), 0);
    }
}
