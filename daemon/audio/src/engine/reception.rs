//! Reception statistics of one stream as RFC 3550 appendix A.1, A.3 and A.8 wants them for reports.

/// Forward jump of the sequence number up to which packets are taken for lost (RFC 3550 appendix A.1).
const MAX_DROPOUT: i32 = 3000;
/// Backward jump up to which a packet is taken for late.
const MAX_MISORDER: i32 = 100;

/// Sequence numbers seen and arrival times, of one SSRC after another.
#[derive(Default)]
pub(crate) struct Reception {
    started: bool,
    base: u32,
    highest: u32,
    /// Since `base`.
    received: u64,
    /// Lost before `base`, by SSRCs or runs of sequence numbers that are past.
    lost_before: u64,
    /// After a jump: the sequence number that would confirm it.
    after_jump: Option<u16>,
    last: Option<(u64, u32)>,
    /// In timestamp units, times 16 (RFC 3550 appendix A.8).
    jitter_16: u32,
}

impl Reception {
    /// Another source begins.
    pub(crate) fn restart(&mut self) {
        *self = Reception { lost_before: self.lost(), ..Reception::default() };
    }

    /// Counts a packet; not to be called for duplicates.
    pub(crate) fn packet(&mut self, sequence: u16) {
        if !self.started {
            self.begin(sequence);
            return;
        }
        let step = i32::from(sequence.wrapping_sub(self.highest as u16) as i16);
        if !(-MAX_MISORDER..=MAX_DROPOUT).contains(&step) {
            if self.after_jump == Some(sequence) {
                // Two in a row: the sender has begun anew without saying so.
                let lost = self.lost();
                self.begin(sequence);
                self.lost_before = lost;
            } else {
                self.after_jump = Some(sequence.wrapping_add(1));
            }
            return;
        }
        self.after_jump = None;
        self.received += 1;
        if step > 0 {
            self.highest = self.highest.wrapping_add(step as u32);
        }
    }

    fn begin(&mut self, sequence: u16) {
        self.started = true;
        (self.base, self.highest, self.received, self.after_jump) =
            (u32::from(sequence), u32::from(sequence), 1, None);
    }

    /// Takes an audio packet's times into the interarrival jitter.
    pub(crate) fn timing(&mut self, timestamp: u32, at_nanos: u64, clock_rate: u32) {
        if let Some((last_nanos, last_timestamp)) = self.last {
            let arrived = (at_nanos as i64).wrapping_sub(last_nanos as i64);
            let sent = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            let arrived = i128::from(arrived) * i128::from(clock_rate) / 1_000_000_000;
            let off = (arrived - i128::from(sent)).unsigned_abs();
            // A break in talking is no jitter: more than two seconds apart, the clocks are compared anew.
            if off < 2 * u128::from(clock_rate) {
                let off = off as u32;
                self.jitter_16 = self.jitter_16.saturating_add(off).saturating_sub((self.jitter_16 + 8) >> 4);
            }
        }
        self.last = Some((at_nanos, timestamp));
    }

    /// The clock of the timestamps changes.
    pub(crate) fn reset_timing(&mut self) {
        (self.last, self.jitter_16) = (None, 0);
    }

    /// In timestamp units.
    pub(crate) fn jitter(&self) -> u32 {
        self.jitter_16 >> 4
    }

    pub(crate) fn base_extended(&self) -> u32 {
        self.base
    }

    pub(crate) fn highest_extended(&self) -> u32 {
        self.highest
    }

    /// Packets of this source since the first one that counts.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Never arrived, over all sources so far.
    pub(crate) fn lost(&self) -> u64 {
        let expected = if self.started { u64::from(self.highest.wrapping_sub(self.base)) + 1 } else { 0 };
        self.lost_before + expected.saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_across_the_wrap_of_sequence_numbers() {
        let mut reception = Reception::default();
        for sequence in [65_534, 65_535, 0, 2, 3] {
            reception.packet(sequence);
        }
        assert_eq!(reception.lost(), 1);
        assert_eq!(reception.highest_extended(), 65_536 + 3);
        assert_eq!(reception.base_extended(), 65_534);
        reception.packet(1);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn one_wild_number_is_ignored_and_two_in_a_row_begin_anew() {
        let mut reception = Reception::default();
        (0..10).for_each(|sequence| reception.packet(sequence));
        reception.packet(30_000);
        reception.packet(10);
        assert_eq!((reception.lost(), reception.highest_extended()), (0, 10));
        reception.packet(30_000);
        reception.packet(30_001);
        reception.packet(30_002);
        assert_eq!((reception.base_extended(), reception.lost()), (30_001, 0));
    }

    #[test]
    fn losses_outlive_a_change_of_source() {
        let mut reception = Reception::default();
        reception.packet(1);
        reception.packet(4);
        reception.restart();
        reception.packet(900);
        assert_eq!((reception.lost(), reception.received()), (2, 1));
    }

    #[test]
    fn jitter_is_nothing_on_an_even_wire_and_grows_on_an_uneven_one() {
        let mut reception = Reception::default();
        for n in 0..100_u32 {
            reception.timing(n * 160, u64::from(n) * 20_000_000, 8000);
        }
        assert_eq!(reception.jitter(), 0);
        for n in 100..300_u32 {
            reception.timing(n * 160, u64::from(n) * 20_000_000 + u64::from(n % 2) * 5_000_000, 8000);
        }
        // The difference in transit is 5 ms, 40 units, from packet to packet.
        assert!((35..=40).contains(&reception.jitter()), "{}", reception.jitter());
    }
}
