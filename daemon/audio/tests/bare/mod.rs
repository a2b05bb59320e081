//! One engine whose sockets and waker allocate nothing, so that all that a tick allocates is the engine's own.

use std::net::SocketAddr;

use voipd_audio::TICK_NANOS;
use voipd_audio::engine::{Batch, Controller, MAX_DATAGRAM, MediaSocket, Processor, Waker, engine};
use voipd_audio::plan::EngineEvent;

use crate::counting::allocations;

/// Datagrams that wait for the tick, or for the test.
const QUEUE: usize = 256;

/// A datagram on its way.
#[derive(Clone)]
pub(crate) struct Mail {
    at_nanos: u64,
    peer: SocketAddr,
    len: usize,
    bytes: [u8; MAX_DATAGRAM],
}

impl Mail {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The peer's end of a socket.
pub(crate) struct Peer {
    to: rtrb::Producer<Mail>,
    from: rtrb::Consumer<Mail>,
    address: SocketAddr,
}

impl Peer {
    /// Sends a datagram from the peer's own address.
    pub(crate) fn send(&mut self, at_nanos: u64, datagram: &[u8]) {
        self.send_from(self.address, at_nanos, datagram);
    }

    /// Longer ones arrive empty, as they do from the real socket; those that find no room are lost.
    pub(crate) fn send_from(&mut self, peer: SocketAddr, at_nanos: u64, datagram: &[u8]) {
        let mut bytes = [0; MAX_DATAGRAM];
        let len = if datagram.len() > MAX_DATAGRAM { 0 } else { datagram.len() };
        bytes[..len].copy_from_slice(&datagram[..len]);
        let _ = self.to.push(Mail { at_nanos, peer, len, bytes });
    }

    /// What the engine has sent.
    pub(crate) fn received(&mut self) -> Option<Mail> {
        self.from.pop().ok()
    }
}

pub(crate) struct BareSocket {
    inbox: rtrb::Consumer<Mail>,
    outbox: rtrb::Producer<Mail>,
}

/// A socket of the engine's, and the peer at `address`.
pub(crate) fn socket(address: SocketAddr) -> (BareSocket, Peer) {
    let (to, inbox) = rtrb::RingBuffer::new(QUEUE);
    let (outbox, from) = rtrb::RingBuffer::new(QUEUE);
    (BareSocket { inbox, outbox }, Peer { to, from, address })
}

impl MediaSocket for BareSocket {
    fn receive(&mut self, batch: &mut Batch) {
        for datagram in &mut batch.datagrams[batch.len..] {
            let Ok(mail) = self.inbox.pop() else { return };
            (datagram.bytes, datagram.len) = (mail.bytes, mail.len);
            (datagram.source, datagram.at_nanos) = (mail.peer, mail.at_nanos);
            batch.len += 1;
        }
    }

    fn send(&mut self, remote: SocketAddr, datagram: &[u8]) -> bool {
        let mut bytes = [0; MAX_DATAGRAM];
        bytes[..datagram.len()].copy_from_slice(datagram);
        // A peer that takes nothing loses it.
        let _ = self.outbox.push(Mail { at_nanos: 0, peer: remote, len: datagram.len(), bytes });
        true
    }
}

/// Has nobody to wake.
pub(crate) struct Nobody;

impl Waker for Nobody {
    fn wake(&mut self) {}
}

/// An engine and its clock.
pub(crate) struct Bare {
    pub(crate) controller: Controller<BareSocket>,
    pub(crate) processor: Processor<BareSocket>,
    pub(crate) now_nanos: u64,
    pub(crate) events: Vec<EngineEvent>,
    /// Allocations and frees of all ticks so far.
    pub(crate) allocations: usize,
    /// Ticks that can wait are left to the one behind them, as the daemon's clock does it.
    pub(crate) leaves: bool,
    /// The last one was.
    left: bool,
}

impl Bare {
    pub(crate) fn new() -> Self {
        let (controller, processor) = engine(64, Box::new(Nobody));
        let (events, allocations, leaves, left) = (Vec::new(), 0, false, false);
        Bare { controller, processor, now_nanos: 1_000_000_000, events, allocations, leaves, left }
    }

    /// One tick, and what the control side does after it.
    pub(crate) fn tick(&mut self) {
        self.late_tick(0);
    }

    /// One that begins so long after it is due.
    pub(crate) fn late_tick(&mut self, late_nanos: u64) {
        self.now_nanos += TICK_NANOS;
        let two = self.left;
        let Bare { processor, now_nanos, leaves, left, .. } = self;
        self.allocations += allocations(|| {
            *left = *leaves && !*left && processor.can_wait();
        });
        if self.left {
            return;
        }
        self.allocations += allocations(|| {
            match two {
                true => processor.two_ticks(*now_nanos + late_nanos, late_nanos),
                false => processor.tick(*now_nanos + late_nanos, late_nanos),
            };
            processor.tick_took(100_000);
        });
        self.controller.service();
        self.events.extend(std::iter::from_fn(|| self.controller.poll_event()));
        while self.controller.poll_stray().is_some() {}
    }

    /// What the tick's thread does a moment before a tick, where that is wanted.
    pub(crate) fn record_ahead(&mut self) {
        let Bare { processor, .. } = self;
        if processor.wants_head_start() {
            self.allocations += allocations(|| processor.record_ahead());
        }
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.tick();
        }
    }
}
