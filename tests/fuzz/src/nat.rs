//! The way through NAT: what STUN servers, relays and the peer send to an agent of ICE and to the discovery of NATs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_proto::types::attribute::RawAttribute;
use stun_proto::types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageIntegrityCredentials, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteVec, ShortTermCredentials, TransactionId,
};
use voipd_nat::ice::{Base, Credentials, IceAgent, Output, Remote, Role, Settings, StreamId};
use voipd_nat::stun::{self, Discovery, Gathered};
use voipd_nat::turn::{RelayServer, RelayTransport};

const BASE: ([u8; 4], u16) = ([192, 0, 2, 10], 4000);
const PEER: ([u8; 4], u16) = ([192, 0, 2, 20], 5000);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 3478);
const RELAY: ([u8; 4], u16) = ([192, 0, 2, 2], 3478);
const STREAM_RELAY: ([u8; 4], u16) = ([192, 0, 2, 3], 3478);
const REALM: &str = "realm";
const PASSWORD: &str = "a password of the relay";
/// Most that one message, or one moment, may have us do.
const MOST_OUTPUTS: usize = 400;
const MOST_BYTES: usize = 64 * 1024;

/// Who sends: the lowest bits of a step's first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Peer,
    Server,
    Relay,
    Stream,
    Stranger,
}

impl Origin {
    const ALL: [Origin; 5] = [Origin::Peer, Origin::Server, Origin::Relay, Origin::Stream, Origin::Stranger];

    fn address(self) -> SocketAddr {
        match self {
            Origin::Peer => PEER.into(),
            Origin::Server => SERVER.into(),
            Origin::Relay => RELAY.into(),
            Origin::Stream => STREAM_RELAY.into(),
            Origin::Stranger => ([192, 0, 2, 66], 666).into(),
        }
    }
}

/// One step of the fuzzer's: a byte of what is done, a byte of length, and what is sent.
struct Step<'a> {
    what: u8,
    bytes: &'a [u8],
}

impl Step<'_> {
    fn origin(&self) -> Origin {
        Origin::ALL[usize::from(self.what & 7) % Origin::ALL.len()]
    }

    /// The bytes as they are, or a message made of them: its type, then attributes, each with two bytes of type and
    /// one of length. It answers `id`, and is signed where the sender has a `key`.
    fn message(&self, id: TransactionId, key: Option<&MessageIntegrityCredentials>) -> Vec<u8> {
        let Some((kind, mut rest)) = self.bytes.split_first_chunk::<2>().filter(|_| self.what & 8 != 0)
        else {
            return self.bytes.to_vec();
        };
        let Ok(kind) = MessageType::from_bytes(&[kind[0] & 0x3f, kind[1]]) else {
            return self.bytes.to_vec();
        };
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        while let Some(([a, b, length], tail)) = rest.split_first_chunk::<3>() {
            let (value, tail) = tail.split_at(usize::from(*length).min(tail.len()));
            let kind = u16::from_be_bytes([*a, *b]);
            // Integrity and fingerprint close a message: the library panics where they are written as others are.
            if ![0x0008, 0x001C, 0x8028].contains(&kind) {
                let _ = message.add_attribute(&RawAttribute::new(kind.into(), value));
            }
            rest = tail;
        }
        if let Some(key) = key.filter(|_| self.what & 16 != 0) {
            let _ = message.add_message_integrity(key, IntegrityAlgorithm::Sha1);
        }
        message.finish()
    }

    fn wait(&self) -> Duration {
        [0, 20, 500, 5000].map(Duration::from_millis)[usize::from(self.what >> 6)]
    }
}

fn steps(bytes: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let ([what, length], tail) = rest.split_first_chunk::<2>()?;
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        Some(Step { what: *what, bytes })
    })
}

fn transaction(bytes: &[u8]) -> Option<TransactionId> {
    Message::from_bytes(bytes).ok().map(|message| message.transaction_id())
}

fn relay(address: SocketAddr, transport: RelayTransport) -> RelayServer {
    RelayServer {
        name: "relay.example".to_owned(),
        address,
        transport,
        username: "user".to_owned(),
        password: PASSWORD.to_owned(),
    }
}

/// An agent that is at its checks, the last request that it sent to each, and what it has done since it was last asked.
struct Agent {
    agent: IceAgent,
    asked: [TransactionId; Origin::ALL.len()],
    streams: u32,
}

impl Agent {
    fn new(now: Instant) -> Self {
        let settings = Settings {
            role: Role::Controlling,
            components: 1,
            bases: vec![Base { component: 1, address: BASE.into(), preference: 100 }],
            stun_servers: vec![SERVER.into()],
            relays: vec![
                relay(RELAY.into(), RelayTransport::Udp),
                relay(STREAM_RELAY.into(), RelayTransport::Tcp),
            ],
        };
        let agent = IceAgent::new(now, settings, [7; 32]);
        Agent { agent, asked: [TransactionId::from(0); Origin::ALL.len()], streams: 0 }
    }

    /// What it does now is within bounds.
    fn drain(&mut self, now: Instant) -> Option<Instant> {
        let (mut outputs, mut sent) = (0, 0);
        loop {
            match self.agent.poll_output() {
                Output::Timeout(wake) => return wake,
                Output::Transmit { remote, bytes, .. } => {
                    sent += bytes.len();
                    let origin = Origin::ALL.iter().position(|origin| origin.address() == remote);
                    if let (Some(index), Some(id)) = (origin, transaction(&bytes)) {
                        self.asked[index] = id;
                    }
                }
                Output::TransmitStream { bytes, .. } => {
                    sent += bytes.len();
                    if let Some(id) = transaction(&bytes) {
                        self.asked[3] = id;
                    }
                }
                Output::OpenStream { stream, .. } => {
                    self.streams = self.streams.max(stream.0 + 1);
                    self.agent.handle_stream_opened(now, stream);
                }
                _ => {}
            }
            outputs += 1;
            assert!(outputs <= MOST_OUTPUTS, "one message has it do {outputs} things");
            assert!(sent <= MOST_BYTES, "one message has it send {sent} bytes");
        }
    }

    fn feed(&mut self, now: Instant, step: &Step<'_>) {
        let key = match step.origin() {
            Origin::Peer => Some(ShortTermCredentials::new(self.agent.credentials().password.clone()).into()),
            Origin::Relay | Origin::Stream => Some(
                LongTermKeyCredentials::new("user".to_owned(), PASSWORD.to_owned(), REALM.to_owned()).into(),
            ),
            Origin::Server | Origin::Stranger => None,
        };
        let origin = step.origin();
        let asked = Origin::ALL.iter().zip(self.asked).find(|(other, _)| **other == origin);
        let id = asked.map_or(TransactionId::from(0), |(_, id)| id);
        let bytes = step.message(id, key.as_ref());
        if origin == Origin::Stream {
            let stream = StreamId(self.streams.saturating_sub(1));
            self.agent.handle_stream_message(now, stream, &bytes);
        } else {
            self.agent.handle_datagram(now, BASE.into(), origin.address(), &bytes);
        }
    }
}

/// Messages of a STUN server, two relays, the peer and a stranger to an agent of ICE, answers to its own requests among
/// them, signed or not: each has it do little, and its addresses stay few.
pub fn ice(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut agent = Agent::new(now);
    agent.drain(now);
    let peer = Credentials::new("peer", "the-password-of-the-peer".replace('-', "+").as_str());
    let candidate = "1 1 UDP 2130706431 192.0.2.20 5000 typ host".parse();
    if let (Ok(credentials), Ok(candidate)) = (peer, candidate) {
        agent.agent.set_remote(
            now,
            Remote { credentials, lite: false, candidates: vec![candidate], trickles: true },
        );
    }
    agent.drain(now);
    for step in steps(bytes).take(64) {
        agent.feed(now, &step);
        let mut wake = agent.drain(now);
        let until = now + step.wait();
        // A wake-up that is due and does nothing would be a loop.
        for _ in 0..2000 {
            let Some(at) = wake.filter(|at| *at <= until) else { break };
            now = now.max(at);
            agent.agent.handle_timeout(now);
            wake = agent.drain(now);
        }
        assert!(wake.is_none_or(|at| at > until || at > now), "it wants to be woken without end");
        now = until;
        assert!(agent.agent.candidates().len() <= 64, "{} candidates", agent.agent.candidates().len());
    }
}

/// Answers of STUN servers to the discovery of NATs: what is reported is an address that somebody told, and words that
/// a terminal can show.
pub fn stun(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut discovery = Discovery::new(now, [3; 32]);
    discovery.handle_timeout(now);
    let mut asked = (None, TransactionId::from(0), SocketAddr::from(SERVER));
    drain(&mut discovery, now, &mut asked);
    for step in steps(bytes).take(64) {
        let (Some(socket), id, server) = asked else { return };
        let message = step.message(id, None);
        let from = if step.what & 32 == 0 { server } else { step.origin().address() };
        discovery.handle_datagram(now, socket, from, &message);
        drain(&mut discovery, now, &mut asked);
        now += step.wait();
        discovery.handle_timeout(now);
        drain(&mut discovery, now, &mut asked);
        let report = discovery.report();
        assert!(report.reason.chars().all(|c| !c.is_control()), "{:?}", report.reason);
    }
}

type Asked = (Option<stun::SocketId>, TransactionId, SocketAddr);

fn drain(discovery: &mut Discovery, now: Instant, asked: &mut Asked) {
    for _ in 0..MOST_OUTPUTS {
        match discovery.poll_output() {
            stun::Output::Timeout(_) => return,
            stun::Output::Gather(number) => {
                let server = |address: ([u8; 4], u16)| stun::Server {
                    name: "stun.example".to_owned(),
                    source: stun::Source::Configuration,
                    place: Ok((0, address.into())),
                };
                let path = stun::Path { mapping: BASE.into(), filtering: ([192, 0, 2, 10], 4002).into() };
                let servers = [SERVER, RELAY, STREAM_RELAY].map(server).into();
                let gathered = Gathered { paths: vec![path], servers };
                discovery.handle_gathered(now, number, gathered);
            }
            stun::Output::Transmit(transmit) => {
                if let Some(id) = transaction(&transmit.bytes) {
                    *asked = (Some(transmit.socket), id, transmit.to);
                }
            }
            stun::Output::Close | stun::Output::Changed => {}
        }
    }
    panic!("one answer has it do more than {MOST_OUTPUTS} things");
}
