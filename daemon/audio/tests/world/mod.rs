//! Two or more engines in virtual time, joined by a network that delays, loses, doubles and reorders as it is told.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test file uses its own part.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use voipd_audio::TICK_NANOS;
use voipd_audio::engine::{Batch, Controller, DevicePort, MediaSocket, Pace, Processor, Waker, engine};
use voipd_audio::plan::{
    Codec, EngineEvent, Path, PortId, Protection, ReceiveKind, SendPlan, StreamCounters, StreamPlan,
};

pub mod sound;

/// One datagram that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at_nanos: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Sent {
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7F
    }
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }
    /// Timestamp units in a millisecond.
    pub fn clock_units(&self) -> u32 {
        if self.payload_type() == payload_type(Codec::Opus) { 48 } else { 8 }
    }
    pub fn payload(&self) -> &[u8] {
        &self.bytes[12..]
    }
}

/// What the network does to a datagram: when each of its copies arrives after it was sent, in nanoseconds.
pub type Weather = Box<dyn FnMut(&Sent) -> Vec<u64> + Send>;

/// The network.
pub struct Network {
    pub now_nanos: u64,
    /// Whoever looks at the network now has a clock of its own: what it shows, and the network's time.
    pub clock: Option<(u64, u64)>,
    inboxes: BTreeMap<SocketAddr, Vec<(u64, SocketAddr, Vec<u8>)>>,
    pub weather: Weather,
    /// How often sockets were asked what has come.
    pub looks: usize,
    /// Everything that was sent, in order.
    pub sent: Vec<Sent>,
}

impl Network {
    /// Puts a datagram on the wire, as an engine or as a stranger.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let sent = Sent { at_nanos: self.now_nanos, from, to, bytes: bytes.to_vec() };
        let delays = (self.weather)(&sent);
        for delay in delays {
            self.inboxes.entry(to).or_default().push((self.now_nanos + delay, from, bytes.to_vec()));
        }
        self.sent.push(sent);
    }

    pub fn sent_from(&self, from: SocketAddr) -> Vec<Sent> {
        self.sent.iter().filter(|sent| sent.from == from).cloned().collect()
    }
}

/// A socket on the network.
pub struct Socket {
    network: Arc<Mutex<Network>>,
    local: SocketAddr,
}

impl MediaSocket for Socket {
    fn receive(&mut self, batch: &mut Batch) {
        let mut network = self.network.lock().unwrap();
        network.looks += 1;
        let (own, now) = network.clock.unwrap_or((network.now_nanos, network.now_nanos));
        let Some(inbox) = network.inboxes.get_mut(&self.local) else { return };
        inbox.sort_by_key(|(at, ..)| *at);
        while batch.len < batch.datagrams.len() && inbox.first().is_some_and(|(at, ..)| *at <= now) {
            let (at, from, bytes) = inbox.remove(0);
            let datagram = &mut batch.datagrams[batch.len];
            datagram.len = if bytes.len() > datagram.bytes.len() { 0 } else { bytes.len() };
            datagram.bytes[..datagram.len].copy_from_slice(&bytes[..datagram.len]);
            (datagram.source, datagram.at_nanos) = (from, (at + own).saturating_sub(now));
            batch.len += 1;
        }
    }

    fn send(&mut self, remote: SocketAddr, datagram: &[u8]) -> bool {
        self.network.lock().unwrap().send(self.local, remote, datagram);
        true
    }
}

struct CountingWaker(Arc<Mutex<u64>>);

impl Waker for CountingWaker {
    fn wake(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// One engine and what happened in it.
pub struct Side {
    pub controller: Controller<Socket>,
    pub processor: Processor<Socket>,
    pub events: Vec<EngineEvent>,
    pub wakes: Arc<Mutex<u64>>,
    /// Ticks that can wait are left to the one behind them, as the daemon's clock does it.
    pub leaves: bool,
    /// Whether the tick that comes is left, and whether the one before was.
    pub leaving: bool,
    pub left: bool,
    network: Arc<Mutex<Network>>,
}

impl Side {
    pub fn socket(&self, local: SocketAddr) -> Socket {
        Socket { network: self.network.clone(), local }
    }

    fn tick(&mut self, now_nanos: u64) {
        if std::mem::take(&mut self.leaving) {
            self.left = true;
            return;
        }
        match std::mem::take(&mut self.left) {
            true => self.processor.two_ticks(now_nanos, 0),
            false => self.processor.tick(now_nanos, 0),
        };
        self.leaving = self.leaves && self.processor.can_wait();
        self.controller.service();
        while let Some(event) = self.controller.poll_event() {
            self.events.push(event);
        }
    }

    pub fn counters(&self, port: PortId) -> StreamCounters {
        self.controller.stream_counters(port).expect("a stream")
    }

    /// A device port on the tick's clock: what is pushed into the one end is captured, what is played comes out of
    /// the other.
    pub fn open_tape(&mut self, port: PortId, rate: u32) -> Tape {
        let (input, capture) = rtrb::RingBuffer::new(rate as usize * 60);
        let (playback, output) = rtrb::RingBuffer::new(rate as usize * 60);
        let device = DevicePort { capture: Some(capture), playback: Some(playback), rate, pace: Pace::Tick };
        self.controller.open_device(port, device).unwrap();
        Tape { input, output }
    }
}

/// The far ends of a device port's rings.
pub struct Tape {
    pub input: rtrb::Producer<f32>,
    pub output: rtrb::Consumer<f32>,
}

impl Tape {
    pub fn feed(&mut self, samples: &[f32]) {
        self.input.push_entire_slice(samples).unwrap();
    }

    pub fn recorded(&mut self) -> Vec<f32> {
        std::iter::from_fn(|| self.output.pop().ok()).collect()
    }
}

/// Engines, a network and a clock.
pub struct World {
    pub sides: Vec<Side>,
    network: Arc<Mutex<Network>>,
}

/// Delay of the network when nothing else is said.
pub const LATENCY: u64 = 15_000_000;

impl World {
    pub fn new(sides: usize) -> Self {
        World::with_ports(sides, 16)
    }

    /// Each engine with room for so many ports.
    pub fn with_ports(sides: usize, ports: usize) -> Self {
        let network = Arc::new(Mutex::new(Network {
            now_nanos: 1_000_000_000,
            clock: None,
            inboxes: BTreeMap::new(),
            weather: Box::new(|_| vec![LATENCY]),
            looks: 0,
            sent: Vec::new(),
        }));
        let sides = (0..sides)
            .map(|_| {
                let wakes = Arc::new(Mutex::new(0));
                let (controller, processor) = engine(ports, Box::new(CountingWaker(wakes.clone())));
                let (events, network) = (Vec::new(), network.clone());
                let (leaves, leaving, left) = (false, false, false);
                Side { controller, processor, events, wakes, leaves, leaving, left, network }
            })
            .collect();
        World { sides, network }
    }

    pub fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap()
    }

    pub fn tick(&mut self) {
        self.network().now_nanos += TICK_NANOS;
        let now = self.network().now_nanos;
        for side in &mut self.sides {
            side.tick(now);
        }
    }

    pub fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.tick();
        }
    }

    /// Two engines with one stream each, [`STREAM`], joined to each other, and a tape each, [`TAPE`], at `rate`.
    pub fn call(codec: Codec, rate: u32) -> (World, Tape, Tape) {
        let mut world = World::new(2);
        let mut tapes = Vec::new();
        for (this, other) in [(0, 1), (1, 0)] {
            let side = &mut world.sides[this];
            let socket = side.socket(address(this));
            side.controller.open_stream(STREAM, plan(codec, this, address(other)), socket).unwrap();
            tapes.push(side.open_tape(TAPE, rate));
            side.controller.connect(STREAM, &[TAPE]).unwrap();
            side.controller.connect(TAPE, &[STREAM]).unwrap();
        }
        let second = tapes.pop().unwrap();
        (world, tapes.pop().unwrap(), second)
    }
}

pub const STREAM: PortId = PortId(1);
pub const TAPE: PortId = PortId(2);
/// Payload type of telephone-event in every plan here.
pub const EVENTS: u8 = 101;

pub fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side as u8 + 1], 4000))
}

pub fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::Opus => 96,
        Codec::G722 => 9,
        Codec::Gsm => 3,
        Codec::G729 => 18,
        Codec::L16Full => 98,
        Codec::L16Wide => 99,
        Codec::L16Narrow => 100,
        Codec::G726 => 102,
        Codec::G726Aal2 => 106,
        Codec::SpeexWide => 103,
        Codec::SpeexNarrow => 104,
    }
}

/// A plan for one codec with telephone events, 20 ms, generation 1.
pub fn plan(codec: Codec, side: usize, remote: SocketAddr) -> StreamPlan {
    StreamPlan {
        generation: 1,
        path: Path::Udp { remote, symmetric: true },
        protection: Protection::None,
        ssrc: 0x1000 + side as u32,
        send: Some(SendPlan {
            codec,
            payload_type: payload_type(codec),
            ptime_ms: 20,
            events: Some((EVENTS, codec.clock_rate())),
            bitrate: None,
            fec: false,
            dtx: false,
            cbr: false,
            max_playback_rate: None,
            comfort_noise: None,
            redundancy: None,
        }),
        keep_open: None,
        receive: vec![
            (payload_type(codec), ReceiveKind::Audio(codec)),
            (EVENTS, ReceiveKind::Events(codec.clock_rate())),
        ],
        play: true,
    }
}

/// An RTP packet.
pub fn rtp(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A seeded source of what looks random (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }
}
