//! Losses as they are heard: single ones, or in bursts (RFC 3611 section 4.7.2). A burst begins and ends with a missing
//! packet and has no 16 received ones in a row between them; all the rest are gaps. It knows sequence numbers alone.

use crate::plan::StreamCounters;

/// Received packets in a row that end a burst (RFC 3611 section 4.7.2, recommended Gmin).
pub(crate) const GMIN: u64 = 16;
/// Packets behind the newest one that may still come: what is missing then is lost.
const WINDOW: u16 = 64;
/// A jump of the sequence number that begins anew instead of counting all between as lost.
const LARGEST_JUMP: u16 = 512;

/// What has become of the packets so far.
#[derive(Clone, Default)]
pub(crate) struct Bursts {
    /// The next sequence number that comes behind all.
    next: Option<u16>,
    /// Whether the packets before `next` came in time: the lowest bit is that of the newest.
    came: u64,
    /// How many bits of `came` are in use.
    seen: u16,
    run: Run,
    counted: Counted,
}

/// Where we are between the last missing packet and now.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Packets from the first missing one of this burst, or what may become one, to the last.
    span: u64,
    /// Missing ones of them; 0: no burst is open.
    missing: u64,
    /// Received in a row since then.
    received: u64,
    /// The packet before was missing.
    in_run: bool,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    bursts: u64,
    burst_packets: u64,
    burst_missing: u64,
    gap_packets: u64,
    gap_missing: u64,
    /// Runs of missing packets.
    runs: u64,
}

impl Bursts {
    /// A packet; `in_time`: early enough to be played. Duplicates do no harm.
    pub(crate) fn packet(&mut self, sequence: u16, in_time: bool) {
        let Some(next) = self.next else {
            (self.next, self.came, self.seen) = (Some(sequence.wrapping_add(1)), u64::from(in_time), 1);
            return;
        };
        let step = sequence.wrapping_sub(next);
        if step < LARGEST_JUMP {
            for number in 0..=step {
                self.shift(number == step && in_time);
            }
            self.next = Some(sequence.wrapping_add(1));
        } else {
            let behind = next.wrapping_sub(sequence);
            if behind <= self.seen {
                self.came |= u64::from(in_time) << (behind - 1);
            } else if behind > LARGEST_JUMP {
                self.restart();
                self.packet(sequence, in_time);
            }
        }
    }

    /// Another source, or none: what waits is judged as it is.
    pub(crate) fn restart(&mut self) {
        for place in (0..self.seen).rev() {
            self.judge(self.came & (1 << place) != 0);
        }
        (self.next, self.came, self.seen) = (None, 0, 0);
    }

    /// One packet more; the oldest one's fate is sealed.
    fn shift(&mut self, came: bool) {
        if self.seen == WINDOW {
            self.judge(self.came >> (WINDOW - 1) != 0);
        } else {
            self.seen += 1;
        }
        self.came = (self.came << 1) | u64::from(came);
    }

    fn judge(&mut self, came: bool) {
        let Run { span, missing, received, in_run } = &mut self.run;
        if came {
            *in_run = false;
            match *missing {
                0 => self.counted.gap_packets += 1,
                _ => {
                    *received += 1;
                    if *received == GMIN {
                        self.counted.close(self.run);
                        self.counted.gap_packets += GMIN;
                        self.run = Run::default();
                    }
                }
            }
        } else {
            self.counted.runs += u64::from(!*in_run);
            *span += std::mem::take(received) + 1;
            *missing += 1;
            *in_run = true;
        }
    }

    /// Writes what is known into the stream's counters; a burst that is not over counts as if it were.
    pub(crate) fn count(&self, counters: &mut StreamCounters) {
        let mut counted = self.counted;
        counted.close(self.run);
        counted.gap_packets += self.run.received;
        counters.bursts = counted.bursts;
        counters.burst_packets = counted.burst_packets;
        counters.burst_missing = counted.burst_missing;
        counters.gap_packets = counted.gap_packets;
        counters.gap_missing = counted.gap_missing;
        counters.loss_runs = counted.runs;
    }
}

impl Counted {
    /// A burst, or a single loss, is over.
    fn close(&mut self, run: Run) {
        match run.missing {
            0 => {}
            // One alone is part of a gap.
            1 => {
                self.gap_packets += 1;
                self.gap_missing += 1;
            }
            _ => {
                self.bursts += 1;
                self.burst_packets += run.span;
                self.burst_missing += run.missing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets by a pattern: `x` came, `.` did not, `l` came late; then so many that all is judged.
    fn counted(pattern: &str) -> StreamCounters {
        let mut bursts = Bursts::default();
        let mut sequence = 65_500_u16;
        for what in pattern.chars() {
            if what != '.' {
                bursts.packet(sequence, what == 'x');
            }
            sequence = sequence.wrapping_add(1);
        }
        for _ in 0..WINDOW {
            bursts.packet(sequence, true);
            sequence = sequence.wrapping_add(1);
        }
        let mut counters = StreamCounters::default();
        bursts.count(&mut counters);
        counters
    }

    #[test]
    fn single_losses_belong_to_a_gap() {
        let sixteen = "x".repeat(16);
        let counters = counted(&format!("{sixteen}.{sixteen}.{sixteen}"));
        assert_eq!((counters.bursts, counters.burst_packets), (0, 0));
        assert_eq!((counters.gap_packets, counters.gap_missing, counters.loss_runs), (50, 2, 2));
    }

    #[test]
    fn losses_less_than_gmin_apart_are_a_burst() {
        let fifteen = "x".repeat(15);
        let counters = counted(&format!("xxxx.{fifteen}..xl.{}", "x".repeat(20)));
        assert_eq!((counters.bursts, counters.burst_packets, counters.burst_missing), (1, 21, 5));
        assert_eq!((counters.gap_packets, counters.gap_missing, counters.loss_runs), (24, 0, 3));
    }

    #[test]
    fn what_comes_behind_others_is_no_loss() {
        let mut bursts = Bursts::default();
        for block in 0..40_u16 {
            for place in [3, 1, 0, 2] {
                bursts.packet(block * 4 + place, true);
                bursts.packet(block * 4 + place, true);
            }
        }
        let mut counters = StreamCounters::default();
        bursts.count(&mut counters);
        assert_eq!((counters.gap_missing, counters.burst_missing), (0, 0));
    }

    #[test]
    fn a_new_beginning_loses_nothing() {
        let mut bursts = Bursts::default();
        for sequence in (0..100_u16).chain(30_000..30_100) {
            bursts.packet(sequence, true);
        }
        bursts.restart();
        let mut counters = StreamCounters::default();
        bursts.count(&mut counters);
        assert_eq!((counters.gap_packets, counters.gap_missing, counters.bursts), (200, 0, 0));
    }
}
