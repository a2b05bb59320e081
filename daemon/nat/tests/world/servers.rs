//! A STUN server, and TURN servers of turn-server-proto, on public addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use stun_proto::Instant;
use stun_proto::agent::Transmit;
use stun_proto::types::TransportType;
use stun_proto::types::attribute::{
    AlternateServer, AttributeStaticType, ErrorCode, Nonce, Realm, Username, XorMappedAddress,
};
use stun_proto::types::message::{
    BINDING, IntegrityAlgorithm, LongTermCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageWrite, MessageWriteExt, MessageWriteVec,
};
use turn_server_proto::api::{TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::types::message::{ALLOCATE, CHANNEL_BIND};
use voipd_nat::ice::StreamId;
use voipd_nat::turn::frame;

use super::{SECOND_TURN, STUN, TURN, address};

/// A client's connection, which has no address in this world.
pub type Client = (usize, StreamId);

pub enum Sent {
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Stream { to: Client, bytes: Vec<u8> },
}

struct Turn {
    server: TurnServer,
    address: SocketAddr,
    transport: TransportType,
    relayed: Vec<SocketAddr>,
}

/// How a TURN server answers whoever wants an address.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// With another server's address, before it asks who it is.
    Alternate(SocketAddr),
    /// The same, once that was proved, and proved itself.
    ProvedAlternate(SocketAddr),
    /// With an error, once that was proved.
    Code(u16),
    /// The same, without a proof of its own.
    UnprovedAlternate(SocketAddr),
}

pub struct Servers {
    pub refusals: Vec<(SocketAddr, Refusal)>,
    /// Requests for channels get lost.
    pub loses_channels: bool,
    turns: Vec<Turn>,
    clients: BTreeMap<SocketAddr, Client>,
    next_port: u16,
    pub allocations: usize,
    wake: Option<Duration>,
}

impl Servers {
    pub fn new() -> Self {
        let mut turns = Vec::new();
        for at in [TURN, SECOND_TURN] {
            for transport in [TransportType::Udp, TransportType::Tcp] {
                let mut server = TurnServer::new(transport, address(at), "example".to_owned());
                server.add_user("user".to_owned(), "secret".to_owned());
                turns.push(Turn { server, address: address(at), transport, relayed: Vec::new() });
            }
        }
        Servers {
            refusals: Vec::new(),
            loses_channels: false,
            turns,
            clients: BTreeMap::new(),
            next_port: 50000,
            allocations: 0,
            wake: None,
        }
    }

    /// Nonces of all TURN servers live this long.
    pub fn set_nonce_lifetime(&mut self, lifetime: Duration) {
        for turn in &mut self.turns {
            turn.server.set_nonce_expiry_duration(lifetime);
        }
    }

    pub fn is_at(&self, to: SocketAddr) -> bool {
        to == address(STUN) || self.turns.iter().any(|turn| turn.address.ip() == to.ip())
    }

    pub fn datagram(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        if let Some(answer) = binding(from, to, bytes) {
            return vec![answer];
        }
        let Some(place) = self.turns.iter().position(|turn| {
            (turn.address == to && turn.transport == TransportType::Udp) || turn.relayed.contains(&to)
        }) else {
            return vec![];
        };
        self.receive(at, place, TransportType::Udp, from, to, bytes)
    }

    pub fn stream(&mut self, at: Duration, client: Client, to: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        let (peer, stream) = client;
        let from = SocketAddr::from(([203, 0, 113, 100 + peer as u8], 30000 + stream.0 as u16));
        self.clients.insert(from, client);
        let bytes = match frame::channel_data(bytes) {
            // The server's buffer for streams takes padding for the beginning of the next message.
            Some((_, data)) => &bytes[..frame::CHANNEL_HEADER + data.len()],
            None => bytes,
        };
        let is_tcp = |turn: &Turn| turn.address == to && turn.transport == TransportType::Tcp;
        let place = self.turns.iter().position(is_tcp).expect("server");
        self.receive(at, place, TransportType::Tcp, from, to, bytes)
    }

    pub fn wake(&self) -> Option<Duration> {
        self.wake
    }

    pub fn handle_timeout(&mut self, at: Duration) -> Vec<Sent> {
        (0..self.turns.len()).flat_map(|place| self.pump(at, place)).collect()
    }

    fn receive(
        &mut self,
        at: Duration,
        place: usize,
        transport: TransportType,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Vec<Sent> {
        if let Some(bytes) = self.refused(to, bytes) {
            return self.sent(transport, to, from, bytes).into_iter().collect();
        }
        let wants_channel = |request: Message<'_>| request.has_method(CHANNEL_BIND);
        if self.loses_channels && Message::from_bytes(bytes).is_ok_and(wants_channel) {
            return vec![];
        }
        let turn = &mut self.turns[place];
        let answer = turn.server.recv(Transmit::new(bytes.to_vec(), transport, from, to), time(at));
        let mut sent = Vec::new();
        if let Some(built) = answer {
            let built = built.build();
            sent.extend(self.sent(built.transport, built.from, built.to, built.data));
        }
        sent.extend(self.pump(at, place));
        sent
    }

    /// A refusal of an Allocate request, where the server there refuses.
    fn refused(&self, to: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let (_, refusal) = self.refusals.iter().find(|(at, _)| *at == to)?;
        let request = Message::from_bytes(bytes).ok()?;
        if !request.has_class(MessageClass::Request) || request.method() != ALLOCATE {
            return None;
        }
        let (code, alternate, waits, signs) = match *refusal {
            Refusal::Alternate(address) => (300, Some(address), false, false),
            Refusal::ProvedAlternate(address) => (300, Some(address), true, true),
            Refusal::UnprovedAlternate(address) => (300, Some(address), true, false),
            Refusal::Code(code) => (code, None, true, true),
        };
        let mut answer = Message::builder_error(&request, MessageWriteVec::new());
        if waits && !request.has_attribute(Username::TYPE) {
            answer.add_attribute(&ErrorCode::builder(401).build().unwrap()).unwrap();
            answer.add_attribute(&Realm::new("example").unwrap()).unwrap();
            answer.add_attribute(&Nonce::new("nonce").unwrap()).unwrap();
            answer.add_fingerprint().unwrap();
            return Some(answer.finish());
        }
        answer.add_attribute(&ErrorCode::builder(code).build().unwrap()).unwrap();
        if let Some(address) = alternate {
            answer.add_attribute(&AlternateServer::new(address)).unwrap();
        }
        if signs {
            let login = LongTermCredentials::new("user".to_owned(), "secret".to_owned());
            let key = MessageIntegrityCredentials::from(login.to_key("example".to_owned()));
            answer.add_message_integrity(&key, IntegrityAlgorithm::Sha1).unwrap();
        }
        answer.add_fingerprint().unwrap();
        Some(answer.finish())
    }

    fn pump(&mut self, at: Duration, place: usize) -> Vec<Sent> {
        let now = time(at);
        let mut sent = Vec::new();
        for _ in 0..100 {
            let turn = &mut self.turns[place];
            let polled = turn.server.poll(now);
            let mut transmits = Vec::new();
            while let Some(transmit) = turn.server.poll_transmit(now) {
                transmits.push(transmit);
            }
            match polled {
                TurnServerPollRet::AllocateSocket {
                    transport,
                    listen_addr,
                    client_addr,
                    allocation_transport,
                    family,
                } => {
                    self.next_port += 1;
                    self.allocations += 1;
                    let relayed = SocketAddr::new(turn.address.ip(), self.next_port);
                    turn.relayed.push(relayed);
                    turn.server.allocated_socket(
                        transport,
                        listen_addr,
                        client_addr,
                        allocation_transport,
                        family,
                        Ok(relayed),
                        now,
                    );
                }
                TurnServerPollRet::SocketClose { listen_addr, .. } => {
                    turn.relayed.retain(|relayed| *relayed != listen_addr);
                    self.allocations -= 1;
                }
                TurnServerPollRet::WaitUntil(wake) => {
                    for transmit in transmits.drain(..) {
                        sent.extend(self.sent(transmit.transport, transmit.from, transmit.to, transmit.data));
                    }
                    if wake > now {
                        let wake = Duration::from_nanos(wake.as_nanos() as u64);
                        self.wake =
                            Some(self.wake.filter(|known| *known > at).map_or(wake, |known| known.min(wake)));
                        return sent;
                    }
                }
                _ => {}
            }
            for transmit in transmits {
                sent.extend(self.sent(transmit.transport, transmit.from, transmit.to, transmit.data));
            }
        }
        sent
    }

    fn sent(
        &self,
        transport: TransportType,
        from: SocketAddr,
        to: SocketAddr,
        mut bytes: Vec<u8>,
    ) -> Option<Sent> {
        match transport {
            TransportType::Udp => Some(Sent::Datagram { from, to, bytes }),
            TransportType::Tcp => {
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                Some(Sent::Stream { to: *self.clients.get(&to)?, bytes })
            }
        }
    }
}

fn time(at: Duration) -> Instant {
    Instant::from_nanos(at.as_nanos() as i64)
}

/// What both kinds of servers answer to a Binding request.
fn binding(from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Option<Sent> {
    let request = Message::from_bytes(bytes).ok()?;
    if to != address(STUN) && to.port() != 3478 {
        return None;
    }
    if !request.has_method(BINDING) || !request.has_class(MessageClass::Request) {
        return None;
    }
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    response.add_attribute(&XorMappedAddress::new(from, request.transaction_id())).ok()?;
    response.add_fingerprint().ok()?;
    Some(Sent::Datagram { from: to, to: from, bytes: response.finish() })
}
