//! The RTP streams that the jitter buffer follows as one: sequence numbers extended over all of them, timestamps turned
//! into nanoseconds on one time line, what has come, what is next. It holds no packets.
//!
//! Another source, another clock or a jump begins a new run on the same time line: what is still held of the run before is
//! played first, and its stragglers find their places.

use super::pool::Packet;
use super::{Arrival, MS, TICK, nanos};

/// Sequence numbers further ahead than this are another stream's (RFC 3550 A.1, MAX_DROPOUT).
const MAX_DROPOUT: i16 = 3000;
/// Sequence numbers further back than this are another stream's (RFC 3550 A.1, MAX_MISORDER).
const MAX_MISORDER: i16 = 100;
/// A packet whose timestamp disagrees with its arrival by more than this is on another time line.
const MAX_TIME_JUMP: i64 = 2_000 * MS;
/// Where the clock or the source changes, the time between is known by arrivals only: so little is no pause.
const TURNED: i64 = 60 * MS;
/// Longest packet: four times the longest that RTP formats know.
const MAX_LENGTH: i64 = 500 * MS;

/// Where an arrival belongs.
pub(super) enum Place {
    /// Into the present run, or as a straggler (`false`) into the one before.
    Known(Packet, bool),
    /// It goes on with the present run, in another clock.
    OtherClock,
    /// Another source, or a jump.
    Strange,
}

/// Consecutive packets of one source with one clock.
struct Run {
    ssrc: u32,
    clock_rate: i64,
    /// Extended number of the first packet, and of the one whose number on the wire is known.
    first: i64,
    highest: i64,
    wire: u16,
    /// Extended timestamp of the highest packet with sound.
    timestamp: i64,
    /// A timestamp and its time in nanoseconds.
    origin: (i64, i64),
}

impl Run {
    fn begin(arrival: &Arrival<'_>, sequence: i64, time: i64) -> Self {
        let timestamp = i64::from(arrival.timestamp);
        Run {
            ssrc: arrival.ssrc,
            clock_rate: clock_rate(arrival),
            first: sequence,
            highest: sequence,
            wire: arrival.sequence,
            timestamp,
            origin: (timestamp, time),
        }
    }

    /// How far the number is ahead of the highest one.
    fn ahead(&self, sequence: u16) -> i16 {
        sequence.wrapping_sub(self.wire) as i16
    }

    fn extend(&self, timestamp: u32) -> i64 {
        self.timestamp + i64::from(timestamp.wrapping_sub(self.timestamp as u32) as i32)
    }

    fn time(&self, timestamp: i64) -> i64 {
        self.origin.1 + nanos(timestamp - self.origin.0, self.clock_rate)
    }

    fn packet(&self, arrival: &Arrival<'_>) -> Packet {
        // A telephone event's timestamp stands still while it lasts.
        let timestamp = if arrival.duration == 0 { self.timestamp } else { self.extend(arrival.timestamp) };
        Packet {
            sequence: self.highest + i64::from(self.ahead(arrival.sequence)),
            time: self.time(timestamp),
            at: arrival_time(arrival),
            duration: length(arrival),
            payload_type: arrival.payload_type,
            ..Packet::EMPTY
        }
    }

    fn follow(&mut self, arrival: &Arrival<'_>) {
        let ahead = self.ahead(arrival.sequence);
        if ahead < 0 {
            return;
        }
        self.highest += i64::from(ahead);
        self.wire = arrival.sequence;
        if arrival.duration > 0 {
            self.timestamp = self.extend(arrival.timestamp);
        }
    }
}

/// Times are in nanoseconds; sequence numbers are extended to 64 bits.
pub(super) struct Stream {
    run: Run,
    former: Option<Run>,
    /// Where the newest packet with sound ends.
    end: i64,
    /// Arrival minus time of the last packet with sound.
    transit: i64,
    /// Sequence number that the stream began with.
    first: i64,
    /// Next to be played.
    pub(super) next: i64,
    /// Time at which it should begin.
    pub(super) position: i64,
    /// Length of the last packet played.
    pub(super) duration: i64,
    /// One bit for each sequence number before `next`, lowest bit latest: it came.
    seen: u128,
}

impl Stream {
    pub(super) fn begin(first: &Arrival<'_>) -> Self {
        let sequence = i64::from(first.sequence);
        Stream {
            run: Run::begin(first, sequence, 0),
            former: None,
            end: 0,
            transit: arrival_time(first),
            first: sequence,
            next: sequence,
            position: 0,
            duration: length(first),
            seen: 0,
        }
    }

    /// Where `arrival` belongs: to a run by its source, a sequence number not far off, and (with sound) a timestamp that its
    /// arrival makes likely.
    pub(super) fn place(&self, arrival: &Arrival<'_>) -> Place {
        let (run, ahead) = (&self.run, self.run.ahead(arrival.sequence));
        let near = arrival.ssrc == run.ssrc && (-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead);
        let sound = arrival.duration > 0;
        if near && (!sound || clock_rate(arrival) == run.clock_rate) {
            let packet = run.packet(arrival);
            if packet.sequence >= run.first || self.former.is_none() {
                return if self.is_likely(&packet) { Place::Known(packet, true) } else { Place::Strange };
            }
        }
        if let Some(former) = &self.former
            && arrival.ssrc == former.ssrc
            && (!sound || clock_rate(arrival) == former.clock_rate)
            && (-MAX_MISORDER..=MAX_DROPOUT).contains(&former.ahead(arrival.sequence))
        {
            let packet = former.packet(arrival);
            if packet.sequence < run.first && self.is_likely(&packet) {
                return Place::Known(packet, false);
            }
        }
        if near && sound && ahead > 0 { Place::OtherClock } else { Place::Strange }
    }

    /// Whether the arrival agrees with the timestamp.
    fn is_likely(&self, packet: &Packet) -> bool {
        packet.duration == 0 || (packet.at - packet.time - self.transit).abs() <= MAX_TIME_JUMP
    }

    /// The same source goes on in another clock. `base`: the transit time of the fastest packets so far.
    pub(super) fn change_clock(&mut self, arrival: &Arrival<'_>, base: i64) {
        let ahead = i64::from(self.run.ahead(arrival.sequence));
        // Timestamps of two clocks have nothing in common (RFC 7160 section 3): sequence numbers tell how much is between at
        // the least, and the arrival how much at the most.
        let next = self.end + (ahead - 1).clamp(0, i64::from(MAX_MISORDER)) * self.duration;
        let time = next.max(arrival_time(arrival) - base);
        self.turn(Run::begin(arrival, self.run.highest + ahead, time));
    }

    /// Another source, or another place in the same one, goes on where this one ended, or later if it came later. `base`:
    /// the transit time of the fastest packets so far.
    pub(super) fn change_source(&mut self, newcomer: &Newcomer, base: i64) -> Packet {
        let time = self.end.max(newcomer.at - base);
        let run = Run {
            ssrc: newcomer.ssrc,
            clock_rate: newcomer.clock_rate,
            first: self.run.highest + 1,
            highest: self.run.highest + 1,
            wire: newcomer.sequence,
            timestamp: i64::from(newcomer.timestamp),
            origin: (i64::from(newcomer.timestamp), time),
        };
        let packet = Packet { sequence: run.highest, time, ..newcomer.packet };
        self.turn(run);
        self.transit = newcomer.at - time;
        self.end = self.end.max(packet.end());
        packet
    }

    fn turn(&mut self, run: Run) {
        self.former = Some(std::mem::replace(&mut self.run, run));
    }

    /// Follows the numbers of a packet of the present run; answers its transit time, if it holds sound.
    pub(super) fn follow(&mut self, arrival: &Arrival<'_>, packet: &Packet) -> Option<i64> {
        self.run.follow(arrival);
        if packet.duration == 0 {
            return None;
        }
        self.end = self.end.max(packet.end());
        self.transit = packet.at - packet.time;
        Some(self.transit)
    }

    /// Whether `packet` comes next, and its sound begins a while after the end of what was played last.
    pub(super) fn pauses_before(&self, packet: &Packet) -> bool {
        let gap = packet.time - self.position;
        let turns = self.former.is_some() && packet.sequence == self.run.first;
        packet.sequence == self.next && gap >= TICK && !(turns && gap <= TURNED)
    }

    /// Length of the packets between what was played last and `packet`, by sequence numbers.
    pub(super) fn missing_before(&self, packet: &Packet) -> i64 {
        (packet.sequence - self.next).max(0) * self.duration
    }

    /// Whether more than one packet has come.
    pub(super) fn is_established(&self) -> bool {
        self.run.highest > self.run.first || self.former.is_some()
    }

    /// Highest sequence number that has come.
    pub(super) fn highest(&self) -> i64 {
        self.run.highest
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

    /// What came before `packet` is forgotten.
    pub(super) fn begin_with(&mut self, packet: &Packet) {
        self.former = None;
        (self.first, self.next, self.seen) = (packet.sequence, packet.sequence, 0);
        (self.position, self.duration) = (packet.time, packet.duration);
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
            self.position = packet.end();
            self.duration = packet.duration;
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

/// The first packet of what may be another stream (RFC 3550 A.1: one alone proves nothing). Its payload waits in the pool.
pub(super) struct Newcomer {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    clock_rate: i64,
    at: i64,
    pub(super) packet: Packet,
}

impl Newcomer {
    /// `packet`: as far as it can be known.
    pub(super) fn new(arrival: &Arrival<'_>, packet: Packet) -> Self {
        Newcomer {
            ssrc: arrival.ssrc,
            sequence: arrival.sequence,
            timestamp: arrival.timestamp,
            clock_rate: clock_rate(arrival),
            at: arrival_time(arrival),
            packet,
        }
    }

    /// What is known of its first packet before it has a place.
    pub(super) fn packet(arrival: &Arrival<'_>) -> Packet {
        Packet {
            at: arrival_time(arrival),
            duration: length(arrival),
            payload_type: arrival.payload_type,
            ..Packet::EMPTY
        }
    }

    /// Whether `arrival` is the very next packet.
    pub(super) fn confirmed_by(&self, arrival: &Arrival<'_>) -> bool {
        let sent = nanos(i64::from(arrival.timestamp.wrapping_sub(self.timestamp) as i32), self.clock_rate);
        arrival.ssrc == self.ssrc
            && arrival.sequence == self.sequence.wrapping_add(1)
            && (arrival.duration == 0
                || self.packet.duration == 0
                || clock_rate(arrival) != self.clock_rate
                || (arrival_time(arrival) - self.at - sent).abs() <= MAX_TIME_JUMP)
    }
}

/// Hertz; no format has fewer than 8000.
fn clock_rate(arrival: &Arrival<'_>) -> i64 {
    i64::from(arrival.clock_rate.max(1000))
}

/// Nanoseconds; sums of a few fit into 64 bits.
fn arrival_time(arrival: &Arrival<'_>) -> i64 {
    arrival.at_nanos.min(1 << 60) as i64
}

/// Of the sound in an arrival, in nanoseconds.
fn length(arrival: &Arrival<'_>) -> i64 {
    nanos(i64::from(arrival.duration), clock_rate(arrival)).min(MAX_LENGTH)
}
