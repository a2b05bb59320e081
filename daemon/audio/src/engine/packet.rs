//! What an RTP packet is to a stream. It knows neither sockets nor what becomes of the packet.

use crate::jitter::Arrival;
use crate::plan::Codec;

/// One RTP packet, read.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) at_nanos: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet as the jitter buffer wants it. `clock_rate`: in hertz; `duration`: in timestamp units.
    pub(crate) fn arrival(self, clock_rate: u32, duration: u32) -> Arrival<'a> {
        Arrival {
            sequence: self.sequence,
            timestamp: self.timestamp,
            clock_rate,
            ssrc: self.ssrc,
            payload_type: self.payload_type,
            marker: self.marker,
            at_nanos: self.at_nanos,
            duration,
            payload: self.payload,
        }
    }
}

/// What a payload is to this stream.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    Audio {
        codec: Codec,
        /// In timestamp units.
        duration: u32,
    },
    /// At this clock rate.
    Event(u32),
    /// A description of the noise in a pause, at this clock rate.
    Noise(u32),
    /// No payload: something that keeps a NAT's binding open (RFC 6263 section 4.6).
    Nothing,
}
