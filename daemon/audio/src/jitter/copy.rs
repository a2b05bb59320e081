//! Copies of lost packets that later ones brought (RFC 2198). They are played, but tell nothing of the network: it is the
//! packet around them that has come.

use super::pool::Packet;
use super::stream::Place;
use super::{Arrival, JitterBuffer, MAX_PAYLOAD};

impl JitterBuffer {
    /// Real-time thread: a copy of a packet, with that packet's own sequence number and timestamp, and the time at which
    /// the copy came. Answers whether it will be played: a packet that has come itself, or whose place has been played,
    /// needs none.
    pub fn insert_copy(&mut self, arrival: Arrival<'_>) -> bool {
        let Some(stream) = &self.stream else { return false };
        let Place::Known(packet, true) = stream.place(&arrival) else { return false };
        let packet = Packet { copy: true, ..packet };
        let come = self.pool.holds(packet.sequence) || stream.has_seen(packet.sequence);
        let fits = arrival.payload.len() <= MAX_PAYLOAD && packet.sequence >= stream.next;
        fits && !come && self.pool.insert(packet, arrival.payload)
    }

    /// Real-time thread: packets wait at least so long, in nanoseconds, after the fastest one's arrival, so that what
    /// replaces a lost one can come in time.
    pub fn set_least_wait(&mut self, nanos: u64) {
        self.least_wait = i64::try_from(nanos).unwrap_or(i64::MAX);
    }
}
