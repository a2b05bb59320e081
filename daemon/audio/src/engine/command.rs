//! What the two halves of the engine send each other.

use std::net::SocketAddr;

use crate::engine::MAX_DATAGRAM;
use crate::engine::insert::Insert;
use crate::engine::port::{PlayedTone, Port, PortSet};
use crate::engine::relay::{RelayPacket, RelayPort};
use crate::engine::stream::StreamSetup;
use crate::engine::watch::ActivityWatch;
use crate::plan::{PortId, Steering};

/// Commands that may wait for the tick; more wait on the control side.
pub(crate) const COMMANDS: usize = 256;
/// Events that may wait for the control side.
pub(crate) const EVENTS: usize = 512;
/// Packets for the control side that may wait for it.
pub(crate) const STRAYS: usize = 128;

/// From control to the tick, in order. Ports are named by slot.
pub(crate) enum Command<S> {
    /// Gives the port in the box in exchange for what is in the slot.
    Open {
        slot: usize,
        port: Box<Option<Port<S>>>,
    },
    Plan {
        slot: usize,
        setup: Box<StreamSetup>,
    },
    /// The box is for the port.
    Close {
        slot: usize,
        room: Box<Option<Port<S>>>,
    },
    Move {
        slot: usize,
        socket: S,
    },
    Connect {
        slot: usize,
        sources: Box<PortSet>,
    },
    Mute {
        slot: usize,
        muted: bool,
    },
    Event {
        slot: usize,
        digit: char,
        duration_ms: u32,
    },
    Steer {
        slot: usize,
        steering: Steering,
    },
    Tone {
        slot: usize,
        tone: Option<Box<PlayedTone>>,
    },
    Watch {
        slot: usize,
        watch: Option<Box<ActivityWatch>>,
    },
    Relay {
        slot: usize,
        relay: Option<Box<RelayPort>>,
    },
    Insert {
        slot: usize,
        insert: Option<Box<Insert>>,
    },
    Volume {
        slot: usize,
        gain: f32,
    },
    Packet {
        slot: usize,
        packet: Box<RelayPacket>,
    },
}

/// From the tick to control: what a command has replaced, to be freed there. At most one for each command.
pub(crate) enum Returned<S> {
    Port { _port: Box<Option<Port<S>>> },
    Setup { _setup: Box<StreamSetup> },
    Socket { _socket: S },
    Sources { _sources: Box<PortSet> },
    Tone { _tone: Box<PlayedTone> },
    Watch { _watch: Box<ActivityWatch> },
    Relay { _relay: Box<RelayPort> },
    Insert { _insert: Box<Insert> },
    Packet { _packet: Box<RelayPacket> },
}

/// A packet for the control side, as it lies in the ring.
pub(crate) struct StrayRecord {
    pub(crate) port: PortId,
    pub(crate) source: SocketAddr,
    pub(crate) at_nanos: u64,
    pub(crate) len: usize,
    pub(crate) bytes: [u8; MAX_DATAGRAM],
}
