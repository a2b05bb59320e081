//! The engine: mixer, streams and devices on one 10 ms clock, controlled from another thread.

mod bursts;
mod command;
mod controller;
mod counters;
mod decoding;
mod device;
mod dtmf;
mod effort;
mod insert;
mod left;
mod load;
mod mixer;
mod obedience;
mod packet;
mod playout;
mod port;
mod processor;
mod program;
mod queueing;
mod receive;
mod reception;
mod redundancy;
mod relay;
mod route;
mod send;
mod slack;
mod stream;
mod suppression;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use crate::codec::CodecError;
use crate::engine::command::{COMMANDS, EVENTS, STRAYS};
use crate::engine::counters::EngineShared;
use crate::engine::effort::Effort;
use crate::engine::load::Load;
use crate::engine::mixer::Mixer;
use crate::engine::port::{MAX_PORTS, PortSet};
use crate::engine::processor::Outbox;
use crate::plan::{EngineCounters, PortId};

pub use crate::engine::controller::Controller;
pub use crate::engine::insert::{InsertEnds, InsertPort, InsertSwitch, insert};
pub use crate::engine::port::Clip;
pub use crate::engine::processor::Processor;
pub use crate::engine::program::{Listener, ProgramPort, Side};
pub use crate::engine::redundancy::copies_that_fit;
pub use crate::engine::relay::{RELAY_PACKETS, RelayEnds, RelayPacket, RelayPort, relay_rings};

/// Largest datagram received, in bytes; longer ones are cut and dropped as invalid. What is sent fits in an Ethernet's frame, but
/// 20 ms of L16 at 48 kHz, which RFC 3551 makes the default, come in fragments of one of 1932 bytes.
pub const MAX_DATAGRAM: usize = 2048;
/// Datagrams taken from one socket in one tick.
pub const BATCH: usize = 32;

/// The RTP socket of one stream as the tick sees it. Neither call blocks.
pub trait MediaSocket: Send + 'static {
    /// Fills `batch` with what has arrived; at most [`BATCH`] datagrams.
    fn receive(&mut self, batch: &mut Batch);
    /// `false` when the system would not take it (counted, not retried).
    fn send(&mut self, remote: SocketAddr, datagram: &[u8]) -> bool;
}

/// Datagrams received in one go, in buffers made once.
pub struct Batch {
    /// The buffers, filled from the front.
    pub datagrams: Box<[Datagram; BATCH]>,
    /// How many of them are filled.
    pub len: usize,
}

impl Batch {
    /// Allocates the buffers.
    pub fn new() -> Self {
        let empty = || Datagram {
            bytes: [0; MAX_DATAGRAM],
            len: 0,
            source: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            at_nanos: 0,
        };
        // Made on the heap one by one: 48 kB at once would have to lie on the stack first.
        let datagrams: Vec<Datagram> = (0..BATCH).map(|_| empty()).collect();
        match datagrams.into_boxed_slice().try_into() {
            Ok(datagrams) => Batch { datagrams, len: 0 },
            Err(_) => unreachable!("as many as were made"),
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

/// One received datagram.
pub struct Datagram {
    /// The buffer; a shorter datagram leaves the rest as it was.
    pub bytes: [u8; MAX_DATAGRAM],
    /// Bytes received; 0 for a datagram longer than the buffer, which is no use cut.
    pub len: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// Monotonic arrival time in nanoseconds (kernel's, where it gives one).
    pub at_nanos: u64,
}

/// Wakes the control side after a tick that has something to tell (an eventfd in the daemon).
pub trait Waker: Send + 'static {
    /// Called at most once a tick; must not block.
    fn wake(&mut self);
}

/// A packet on the RTP port that is not RTP (RTCP-mux, STUN, DTLS: RFC 7983), for the control side.
#[derive(Clone, Debug)]
pub struct Stray {
    /// The stream on whose socket it came.
    pub port: PortId,
    /// Who sent it; nothing has proved that it is the peer.
    pub source: SocketAddr,
    /// When it came, in nanoseconds of the monotonic clock: it may have waited for a tick.
    pub at_nanos: u64,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// Samples between a device (or a file thread) and the tick: rings of `f32`, mono, at `rate`.
pub struct DevicePort {
    /// What the device recorded.
    pub capture: Option<rtrb::Consumer<f32>>,
    /// What the device shall play.
    pub playback: Option<rtrb::Producer<f32>>,
    /// Hertz.
    pub rate: u32,
    /// Whose clock the rings follow.
    pub pace: Pace,
}

/// Who keeps the time of a [`DevicePort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The device has a clock of its own: drift is corrected towards `target` samples in each ring.
    Device {
        /// Samples.
        target: usize,
    },
    /// The tick's clock (files): every tick takes and gives exactly 10 ms. When `capture` is abandoned and empty,
    /// the source has ended ([`crate::plan::EngineEvent::SourceEnded`]).
    Tick,
}

/// Why the control side's wish failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Never opened, or closed.
    #[error("no such port")]
    NoSuchPort,
    /// The port's number is that of an open one.
    #[error("the port is open already")]
    PortInUse,
    /// All places for ports are taken.
    #[error("the engine has no room for another port")]
    Full,
    /// A codec could not be made.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The port cannot do this.
    #[error("the port is of another kind")]
    WrongKind,
    /// Not a digit, or none of a length between 1 ms and a minute.
    #[error("no telephone event: a digit 0-9, *, #, A-D or ! and a duration up to a minute are wanted")]
    InvalidEvent,
    /// The peer hears them one after another: too many are waiting.
    #[error("too many telephone events are waiting to be sent")]
    TooManyEvents,
}

/// Makes the two halves. `max_ports`: streams, devices and files together, at most 1024.
pub fn engine<S: MediaSocket>(max_ports: usize, waker: Box<dyn Waker>) -> (Controller<S>, Processor<S>) {
    let max_ports = max_ports.min(MAX_PORTS);
    let (command_sender, command_receiver) = rtrb::RingBuffer::new(COMMANDS);
    // As many as there are commands: control may be slow to take them back without holding up the tick.
    let (returned_sender, returned_receiver) = rtrb::RingBuffer::new(COMMANDS);
    let (event_sender, event_receiver) = rtrb::RingBuffer::new(EVENTS);
    let (stray_sender, stray_receiver) = rtrb::RingBuffer::new(STRAYS);
    let shared = EngineShared::new();
    let controller = Controller {
        commands: command_sender,
        pending: VecDeque::new(),
        returned: returned_receiver,
        events: event_receiver,
        strays: stray_receiver,
        shared: shared.clone(),
        ports: BTreeMap::new(),
        free: (0..max_ports).collect(),
    };
    let processor = Processor {
        ports: (0..max_ports).map(|_| None).collect(),
        open: PortSet::EMPTY,
        frames: Vec::with_capacity(max_ports),
        mixer: Mixer::new(max_ports),
        commands: command_receiver,
        returned: returned_sender,
        outbox: Outbox { events: event_sender, strays: stray_sender, dropped: 0, told: false, calm: 0 },
        batch: Batch::new(),
        waker,
        counters: EngineCounters::default(),
        shared,
        load: Load::new(),
        effort: Effort::default(),
        hurried: PortSet::EMPTY,
        last_due: None,
        unheard: 0,
        peers_heard: false,
    };
    (controller, processor)
}
