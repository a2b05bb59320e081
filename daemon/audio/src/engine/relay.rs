//! Packets by way of a TURN server: the four bytes before each (ChannelData, RFC 8656 section 12.4), and the rings to and
//! from whoever has the connection where the server is reached by TCP or TLS. It knows nothing else of TURN.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::MAX_DATAGRAM;
use crate::plan::Path;

/// Bytes before a packet in a channel.
pub(crate) const CHANNEL_HEADER: usize = 4;
/// Packets that wait in a ring: 640 ms of packets of 20 ms.
pub const RELAY_PACKETS: usize = 32;

/// A packet in a ring: ChannelData with its header, without padding.
pub struct RelayPacket {
    /// The packet, from the beginning.
    pub bytes: [u8; MAX_DATAGRAM],
    /// How much of it.
    pub len: usize,
    /// Monotonic arrival time in nanoseconds; of no meaning in the other direction.
    pub at_nanos: u64,
}

impl RelayPacket {
    /// A packet that has arrived; `None` when it is too long.
    #[must_use]
    pub fn new(message: &[u8], at_nanos: u64) -> Option<Self> {
        let mut bytes = [0; MAX_DATAGRAM];
        bytes.get_mut(..message.len())?.copy_from_slice(message);
        Some(RelayPacket { bytes, len: message.len(), at_nanos })
    }

    /// All of it.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The tick's ends of the rings of a connection.
pub struct RelayPort {
    pub(crate) outgoing: rtrb::Producer<RelayPacket>,
    pub(crate) incoming: rtrb::Consumer<RelayPacket>,
    pub(crate) dropped: Arc<AtomicU64>,
}

/// The connection's ends.
pub struct RelayEnds {
    /// What the tick sends. After a tick that sent something, the engine's waker wakes the control side.
    pub outgoing: rtrb::Consumer<RelayPacket>,
    /// What the tick shall play.
    pub incoming: rtrb::Producer<RelayPacket>,
    dropped: Arc<AtomicU64>,
}

impl RelayEnds {
    /// Hands a packet to the tick; where there is no room it is dropped, and counted in the stream's figures.
    pub fn push(&mut self, packet: RelayPacket) {
        if self.incoming.push(packet).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Makes the rings of a connection.
#[must_use]
pub fn relay_rings() -> (RelayPort, RelayEnds) {
    let (outgoing, sent) = rtrb::RingBuffer::new(RELAY_PACKETS);
    let (received, incoming) = rtrb::RingBuffer::new(RELAY_PACKETS);
    let dropped = Arc::new(AtomicU64::new(0));
    let port = RelayPort { outgoing, incoming, dropped: dropped.clone() };
    (port, RelayEnds { outgoing: sent, incoming: received, dropped })
}

/// Channels that a stream's packets may come in: that of the plan, and the one before it, which the peer's packets may
/// still take for a while.
#[derive(Clone, Copy, Default)]
pub(crate) struct Channels {
    current: Option<Channel>,
    previous: Option<Channel>,
}

/// A channel at a TURN server; `None`: behind the connection.
type Channel = (Option<SocketAddr>, u16);

impl Channels {
    pub(crate) fn follow(&mut self, path: Path) {
        let channel = match path {
            Path::Udp { .. } => None,
            Path::TurnChannel { server, channel } => Some((Some(server), channel)),
            Path::Stream { channel, .. } => Some((None, channel)),
        };
        if channel != self.current {
            self.previous = self.current.or(self.previous);
            self.current = channel;
        }
    }

    /// Where in a packet from `server` that is what it carries, if it came in a channel of ours.
    pub(crate) fn inside(&self, server: Option<SocketAddr>, bytes: &[u8]) -> Option<Range<usize>> {
        let (&[a, b, c, d], rest) = bytes.split_first_chunk::<CHANNEL_HEADER>()?;
        let channel = Some((server, u16::from_be_bytes([a, b])));
        if channel != self.current && channel != self.previous {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([c, d]));
        (len <= rest.len()).then_some(CHANNEL_HEADER..CHANNEL_HEADER + len)
    }
}

/// Writes a packet with the header of its channel; `None` when it is too long.
pub(crate) fn mark<'a>(room: &'a mut [u8; MAX_DATAGRAM], channel: u16, packet: &[u8]) -> Option<&'a [u8]> {
    let [a, b] = channel.to_be_bytes();
    let [c, d] = u16::try_from(packet.len()).ok()?.to_be_bytes();
    let len = CHANNEL_HEADER + packet.len();
    let (header, rest) = room.get_mut(..len)?.split_first_chunk_mut::<CHANNEL_HEADER>()?;
    *header = [a, b, c, d];
    rest.copy_from_slice(packet);
    room.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_marked_and_stripped_by_their_channel() {
        let server = SocketAddr::from(([192, 0, 2, 1], 3478));
        let mut channels = Channels::default();
        channels.follow(Path::TurnChannel { server, channel: 0x4001 });
        let mut room = [0; MAX_DATAGRAM];
        let mut marked = mark(&mut room, 0x4001, b"packet").expect("short").to_vec();
        assert_eq!(marked, *b"\x40\x01\x00\x06packet");
        marked.extend_from_slice(&[0, 0]);
        assert_eq!(channels.inside(Some(server), &marked), Some(4..10), "padding is left out");
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 3479));
        assert_eq!(channels.inside(Some(elsewhere), &marked), None);
        assert_eq!(channels.inside(None, &marked), None);
        assert_eq!(channels.inside(Some(server), &marked[..9]), None, "cut");
        assert_eq!(channels.inside(Some(server), &[]), None);
        // The peer may not have moved yet.
        channels.follow(Path::Udp { remote: elsewhere, symmetric: false });
        assert!(channels.inside(Some(server), &marked).is_some());
        channels.follow(Path::TurnChannel { server, channel: 0x4002 });
        channels.follow(Path::Stream { peer: elsewhere, link: 1, channel: 0x4003 });
        assert!(channels.inside(Some(server), &marked).is_none());
        assert_eq!(mark(&mut room, 0x4001, &[0; MAX_DATAGRAM]), None);
    }
}
