//! One RTP stream as the jitter buffer follows it: extended sequence numbers and timestamps, what has come, what is next.
//! It holds no packets.

use super::pool::Packet;
use super::{Arrival, MS, nanos};

/// Sequence numbers further ahead than this are another stream's (RFC 3550 A.1, MAX_DROPOUT).
const MAX_DROPOUT: i16 = 3000;
/// Sequence numbers further back than this are another stream's (RFC 3550 A.1, MAX_MISORDER).
const MAX_MISORDER: i16 = 100;
/// A packet whose timestamp disagrees with its arrival by more than this is on another time line.
const MAX_TIME_JUMP: i64 = 2_000 * MS;

/// Sequence numbers and timestamps are extended to 64 bits.
pub(super) struct Stream {
    ssrc: u32,
    /// Sequence number that the stream began with.
    first: i64,
    /// Highest sequence number seen, and the highest one's timestamp among packets with sound.
    pub(super) highest: i64,
    timestamp: i64,
    /// Arrival minus timestamp of the last packet with sound, in nanoseconds.
    transit: i64,
    /// Next to be played.
    pub(super) next: i64,
    /// Timestamp at which it should begin.
    pub(super) position: i64,
    /// Of the last packet played, in timestamp units.
    pub(super) duration: i64,
    /// One bit for each sequence number before `next`, lowest bit latest: it came.
    seen: u128,
}

impl Stream {
    pub(super) fn begin(first: &Arrival<'_>, clock_rate: i64) -> Self {
        let (sequence, timestamp) = (i64::from(first.sequence), i64::from(first.timestamp));
        Stream {
            ssrc: first.ssrc,
            first: sequence,
            highest: sequence,
            timestamp,
            transit: first.at_nanos as i64 - nanos(timestamp, clock_rate),
            next: sequence,
            position: timestamp,
            duration: i64::from(first.duration),
            seen: 0,
        }
    }

    /// Whether `arrival` can be a packet of this stream: same source, a sequence number not far off, and (with sound) a
    /// timestamp that its arrival makes likely.
    pub(super) fn continued_by(&self, arrival: &Arrival<'_>, clock_rate: i64) -> bool {
        let ahead = arrival.sequence.wrapping_sub(self.highest as u16) as i16;
        if arrival.ssrc != self.ssrc || !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            return false;
        }
        let transit = arrival.at_nanos as i64 - nanos(self.extend(arrival.timestamp), clock_rate);
        arrival.duration == 0 || (transit - self.transit).abs() <= MAX_TIME_JUMP
    }

    /// Whether `arrival` is the very next packet.
    pub(super) fn confirmed_by(&self, arrival: &Arrival<'_>, clock_rate: i64) -> bool {
        arrival.sequence == (self.highest as u16).wrapping_add(1) && self.continued_by(arrival, clock_rate)
    }

    /// The packet with extended numbers.
    pub(super) fn place(&self, arrival: &Arrival<'_>) -> Packet {
        let ahead = arrival.sequence.wrapping_sub(self.highest as u16) as i16;
        Packet {
            sequence: self.highest + i64::from(ahead),
            // A telephone event's timestamp stands still while it lasts.
            timestamp: if arrival.duration == 0 { self.timestamp } else { self.extend(arrival.timestamp) },
            at: arrival.at_nanos as i64,
            duration: arrival.duration,
            payload_type: arrival.payload_type,
            ..Packet::EMPTY
        }
    }

    fn extend(&self, timestamp: u32) -> i64 {
        self.timestamp + i64::from(timestamp.wrapping_sub(self.timestamp as u32) as i32)
    }

    /// Follows the numbers of a packet that has come; answers its transit time, if it holds sound.
    pub(super) fn note(&mut self, packet: &Packet, clock_rate: i64) -> Option<i64> {
        let newest = packet.sequence >= self.highest;
        self.highest = self.highest.max(packet.sequence);
        if packet.duration == 0 {
            return None;
        }
        if newest {
            self.timestamp = packet.timestamp;
        }
        self.transit = packet.at - nanos(packet.timestamp, clock_rate);
        Some(self.transit)
    }

    /// Whether the number was played, or dropped, and so has come before.
    pub(super) fn has_seen(&self, sequence: i64) -> bool {
        self.bit(sequence).is_some_and(|bit| self.seen & bit != 0)
    }

    /// A packet came after its place had been played; answers whether it had been counted as lost.
    pub(super) fn mark_late(&mut self, sequence: i64) -> bool {
        self.seen |= self.bit(sequence).unwrap_or(0);
        sequence >= self.first
    }

    fn bit(&self, sequence: i64) -> Option<u128> {
        let back = u32::try_from(self.next - 1 - sequence).ok()?;
        1_u128.checked_shl(back)
    }

    /// Nothing has been played or passed over.
    pub(super) fn untouched(&self) -> bool {
        self.next == self.first
    }

    /// An untouched stream begins no later than with `sequence`.
    pub(super) fn begin_by(&mut self, sequence: i64) {
        if self.untouched() {
            self.first = self.first.min(sequence);
            self.next = self.first;
        }
    }

    /// Moves behind `packet`; answers how many before it never came.
    pub(super) fn pass(&mut self, packet: &Packet) -> u64 {
        let missing = self.skip_to(packet.sequence);
        if packet.sequence == self.next {
            self.next += 1;
            self.seen = self.seen << 1 | 1;
        }
        if packet.duration > 0 {
            self.position = packet.timestamp + i64::from(packet.duration);
            self.duration = i64::from(packet.duration);
        }
        missing
    }

    /// Moves on to `sequence`; answers how many on the way never came.
    pub(super) fn skip_to(&mut self, sequence: i64) -> u64 {
        let missing = (sequence - self.next).max(0);
        self.next += missing;
        self.seen =
            u32::try_from(missing).ok().and_then(|missing| self.seen.checked_shl(missing)).unwrap_or(0);
        missing as u64
    }

    /// The next packet is lost: its time passes all the same.
    pub(super) fn lose_one(&mut self) {
        self.skip_to(self.next + 1);
        self.position += self.duration;
    }
}
