//! The arithmetic of report blocks (RFC 3550 section 6.4.1 and appendix A.3): losses, delays, round trips, jitter.

use std::time::Duration;

use super::ReceivedCounters;
use super::compound::Heard;

/// Units of a second in the middle 32 bits of an NTP timestamp.
const FRACTIONS: f64 = 65_536.0;

/// What was reported about one received stream the last time.
#[derive(Debug)]
pub(super) struct Reception {
    ssrc: u32,
    base: u32,
    expected: u32,
    received: u32,
}

impl Reception {
    pub(super) fn new(counters: &ReceivedCounters) -> Self {
        Reception { ssrc: counters.ssrc, base: counters.base_extended_seq, expected: 0, received: 0 }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The report block, unless nothing arrived since the last one. `last`: the timestamp of the stream's last sender
    /// report and the delay since it came.
    pub(super) fn report(&mut self, counters: &ReceivedCounters, last: Option<(u32, u32)>) -> Option<Heard> {
        if counters.base_extended_seq != self.base {
            // The stream began anew under its number.
            *self = Reception::new(counters);
        }
        if counters.packets == self.received {
            return None;
        }
        let expected = counters.highest_extended_seq.wrapping_sub(self.base).wrapping_add(1);
        let expected_interval = expected.wrapping_sub(self.expected);
        let received_interval = counters.packets.wrapping_sub(self.received);
        (self.expected, self.received) = (expected, counters.packets);
        let (last_report, delay) = last.unwrap_or_default();
        Some(Heard {
            ssrc: counters.ssrc,
            fraction_lost: fraction_lost(expected_interval, received_interval),
            cumulative_lost: cumulative_lost(expected, counters.packets),
            highest_extended_seq: counters.highest_extended_seq,
            jitter: counters.jitter,
            last_report,
            delay,
        })
    }
}

/// In 256ths. Duplicates can make the loss negative; it is zero then.
fn fraction_lost(expected: u32, received: u32) -> u8 {
    let lost = u64::from(expected.saturating_sub(received));
    (lost << 8).checked_div(u64::from(expected)).unwrap_or(0).min(255) as u8
}

/// Clamped to the 24 bits with sign that it has on the wire.
fn cumulative_lost(expected: u32, received: u32) -> i32 {
    let lost = i64::from(expected) - i64::from(received);
    lost.clamp(-0x80_0000, 0x7f_ffff) as i32
}

/// The middle 32 bits of an NTP timestamp: sixteen of seconds, sixteen of fractions.
pub(super) fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// Time from `arrived` to `now` in 65536ths of a second; `None` where the clock went back or the field overflows.
pub(super) fn delay(arrived: u64, now: u64) -> Option<u32> {
    u32::try_from(now.checked_sub(arrived)? >> 16).ok()
}

/// What is left of the time since our report when the peer's delay (DLSR, in 65536ths of a second) is taken away
/// (RFC 3550 section 6.4.1). The monotonic clock takes the place of NTP time, so that a clock being set does no harm.
/// `None` where the peer's delay is longer than that by more than rounding.
pub(super) fn round_trip(since_report: Duration, delay: u32) -> Option<Duration> {
    const ROUNDING: Duration = Duration::from_millis(1);
    let delay = Duration::from_secs_f64(f64::from(delay) / FRACTIONS);
    (since_report + ROUNDING >= delay).then(|| since_report.saturating_sub(delay))
}

/// Jitter from RTP timestamp units.
pub(super) fn jitter_time(jitter: u32, clock_rate: u32) -> Duration {
    Duration::from_secs_f64(f64::from(jitter) / f64::from(clock_rate.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(highest: u32, packets: u32) -> ReceivedCounters {
        ReceivedCounters {
            ssrc: 1,
            base_extended_seq: 100,
            highest_extended_seq: highest,
            packets,
            jitter: 0,
        }
    }

    #[test]
    fn loss_is_of_the_interval_and_of_the_whole() {
        let mut reception = Reception::new(&counters(100, 0));
        // 100 to 199, all there; then 200 to 299, a quarter missing.
        let first = reception.report(&counters(199, 100), None).unwrap();
        assert_eq!((first.fraction_lost, first.cumulative_lost), (0, 0));
        let second = reception.report(&counters(299, 175), None).unwrap();
        assert_eq!((second.fraction_lost, second.cumulative_lost), (64, 25));
        assert_eq!(second.highest_extended_seq, 299);
    }

    #[test]
    fn duplicates_make_the_loss_negative_and_its_fraction_zero() {
        let block = Reception::new(&counters(100, 0)).report(&counters(109, 20), None).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -10));
    }

    #[test]
    fn losses_are_clamped_to_the_field() {
        assert_eq!(cumulative_lost(u32::MAX, 1), 0x7f_ffff);
        assert_eq!(cumulative_lost(1, u32::MAX), -0x80_0000);
        assert_eq!(fraction_lost(1000, 0), 255);
        assert_eq!(fraction_lost(0, 10), 0);
        assert_eq!(fraction_lost(u32::MAX, u32::MAX / 2), 128);
    }

    #[test]
    fn a_silent_stream_is_not_reported() {
        let mut reception = Reception::new(&counters(100, 0));
        assert!(reception.report(&counters(100, 0), None).is_none());
        assert!(reception.report(&counters(110, 11), None).is_some());
        assert!(reception.report(&counters(110, 11), None).is_none());
    }

    #[test]
    fn a_stream_that_begins_anew_is_counted_anew() {
        let mut reception = Reception::new(&counters(100, 0));
        reception.report(&counters(299, 100), None);
        let again = ReceivedCounters { base_extended_seq: 5000, ..counters(5009, 10) };
        let block = reception.report(&again, None).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 0));
    }

    #[test]
    fn the_round_trip_leaves_out_the_peers_delay() {
        // The example of RFC 3550 section 6.4.1: A is 46864.500, LSR 46853.125 and DLSR 5.250 seconds.
        let trip = round_trip(Duration::from_millis(46_864_500 - 46_853_125), 0x0005_4000);
        assert_eq!(trip, Some(Duration::from_millis(6_125)));
    }

    #[test]
    fn a_round_trip_is_never_negative() {
        assert_eq!(round_trip(Duration::from_micros(990), 65), Some(Duration::ZERO));
        assert_eq!(round_trip(Duration::from_millis(990), 65_536), None);
        assert_eq!(round_trip(Duration::ZERO, u32::MAX), None);
    }

    #[test]
    fn a_delay_needs_a_clock_that_goes_on() {
        assert_eq!(delay(1 << 32, 3 << 31), Some(32_768));
        assert_eq!(delay(2, 1), None);
        assert_eq!(delay(0, u64::MAX), None);
    }

    #[test]
    fn jitter_follows_the_clock_rate() {
        assert_eq!(jitter_time(80, 8_000), Duration::from_millis(10));
        assert_eq!(jitter_time(480, 48_000), Duration::from_millis(10));
        assert!(jitter_time(u32::MAX, 0) > Duration::ZERO);
    }
}
