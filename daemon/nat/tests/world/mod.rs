//! A small internet in virtual time: hosts behind NATs of each kind, a STUN server, TURN servers.

#![allow(dead_code)]

pub mod nat;
pub mod servers;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_nat::ice::{
    Base, Candidate, IceAgent, MediaPath, Output, Remote, Role, SelectedPair, Settings, State, StreamId,
};
use voipd_nat::turn::{RelayError, RelayServer, RelayTransport};

use nat::{Kind, Nat};
use servers::Servers;

pub const STUN: &str = "198.51.100.1:3478";
pub const TURN: &str = "198.51.100.9:3478";
pub const SECOND_TURN: &str = "198.51.100.10:3478";

/// One way, between any two.
pub const LATENCY: Duration = Duration::from_millis(20);

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

pub fn relay(transport: RelayTransport) -> RelayServer {
    relay_at(TURN, transport)
}

pub fn relay_at(at: &str, transport: RelayTransport) -> RelayServer {
    RelayServer {
        name: "turn.example".to_owned(),
        address: address(at),
        transport,
        username: "user".to_owned(),
        password: "secret".to_owned(),
    }
}

/// One peer: its agent, its NAT and what it was told.
pub struct Peer {
    pub agent: IceAgent,
    pub nat: Nat,
    pub paths: BTreeMap<u16, SelectedPair>,
    pub told: Vec<SelectedPair>,
    pub states: Vec<(Duration, State)>,
    pub failed: Vec<(String, RelayError)>,
    /// When a path was withdrawn, and of which component.
    pub withdrawn: Vec<(Duration, u16)>,
    pub received: Vec<Vec<u8>>,
    pub trickled: VecDeque<Candidate>,
    pub streams: BTreeMap<StreamId, SocketAddr>,
    pub closed_streams: Vec<StreamId>,
    /// Packets of peers that came by ChannelData on the selected path, or straight to it.
    pub media: Vec<Vec<u8>>,
    pub timeouts: u64,
}

enum Arrival {
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    ToStream { peer: usize, stream: StreamId, bytes: Vec<u8> },
    FromStream { peer: usize, stream: StreamId, bytes: Vec<u8> },
    StreamOpened { peer: usize, stream: StreamId, server: SocketAddr },
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub peers: Vec<Peer>,
    pub servers: Servers,
    /// Where no packet arrives.
    pub dark: Vec<SocketAddr>,
    /// One way, between the addresses of whom it takes another time than [`LATENCY`].
    pub distances: Vec<([IpAddr; 2], Duration)>,
    /// One in `n` datagrams is lost, in no order.
    pub loses: Option<usize>,
    pub datagrams: usize,
    queue: BTreeMap<(Instant, usize), Arrival>,
    sequence: usize,
}

/// What a peer begins with.
pub struct Setup {
    pub kind: Kind,
    pub stun: bool,
    pub relays: Vec<RelayServer>,
    pub components: u16,
}

impl Setup {
    pub fn new(kind: Kind) -> Self {
        Setup { kind, stun: true, relays: vec![relay(RelayTransport::Udp)], components: 1 }
    }
}

impl World {
    pub fn new(setups: [Setup; 2]) -> Self {
        let [one, two] = setups;
        World::with_roles([(one, Role::Controlling), (two, Role::Controlled)])
    }

    pub fn with_roles(setups: [(Setup, Role); 2]) -> Self {
        let start = Instant::now();
        let mut peers = Vec::new();
        for (index, (setup, role)) in setups.into_iter().enumerate() {
            let nat = Nat::new(setup.kind, index);
            let bases = (1..=setup.components)
                .map(|component| Base { component, address: nat.base(component), preference: 65535 })
                .collect();
            let settings = Settings {
                role,
                components: setup.components,
                bases,
                stun_servers: if setup.stun { vec![address(STUN)] } else { vec![] },
                relays: setup.relays,
            };
            peers.push(Peer {
                agent: IceAgent::new(start, settings, [index as u8 + 1; 32]),
                nat,
                paths: BTreeMap::new(),
                told: Vec::new(),
                states: Vec::new(),
                failed: Vec::new(),
                withdrawn: Vec::new(),
                received: Vec::new(),
                trickled: VecDeque::new(),
                streams: BTreeMap::new(),
                closed_streams: Vec::new(),
                media: Vec::new(),
                timeouts: 0,
            });
        }
        World {
            start,
            now: start,
            peers,
            servers: Servers::new(),
            dark: Vec::new(),
            distances: Vec::new(),
            loses: None,
            datagrams: 0,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Both gather, then each gets the other's description: the second at once, the first a little later.
    pub fn connect(&mut self) {
        self.gather();
        self.exchange();
    }

    pub fn gather(&mut self) {
        let done =
            self.run_until(Duration::from_secs(6), |world| world.peers.iter().all(|p| p.agent.is_gathered()));
        assert!(done, "gathering ends");
    }

    pub fn exchange(&mut self) {
        let [offer, answer] = [self.describe(0), self.describe(1)];
        self.peers[1].agent.set_remote(self.now, offer);
        self.run_for(LATENCY * 2);
        self.peers[0].agent.set_remote(self.now, answer);
    }

    pub fn describe(&mut self, peer: usize) -> Remote {
        let agent = &self.peers[peer].agent;
        // Through SDP and back, as it would be.
        let candidates =
            agent.candidates().iter().map(|candidate| candidate.to_string().parse().unwrap()).collect();
        Remote { credentials: agent.credentials().clone(), lite: false, candidates, trickles: false }
    }

    pub fn states(&self) -> [State; 2] {
        [self.peers[0].agent.state(), self.peers[1].agent.state()]
    }

    /// Both are connected.
    pub fn expect_connected(&mut self) {
        let done = self.run_until(Duration::from_secs(20), |world| world.states() == [State::Connected; 2]);
        assert!(done, "connected: {:?}", self.states());
    }

    pub fn path(&self, peer: usize) -> MediaPath {
        self.peers[peer].paths[&1].path
    }

    /// Sends media by the selected paths, both ways, and says whether it came.
    pub fn media_flows(&mut self) -> [bool; 2] {
        let mut flows = [false; 2];
        for (from, flow) in flows.iter_mut().enumerate() {
            let packet = vec![0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, from as u8];
            self.peers[1 - from].media.clear();
            self.send_media(from, &packet);
            self.run_for(Duration::from_millis(200));
            *flow = self.peers[1 - from].media.contains(&packet);
        }
        flows
    }

    fn send_media(&mut self, from: usize, packet: &[u8]) {
        let framed = |channel: u16| {
            let mut framed = voipd_nat::turn::frame::channel_header(channel, packet.len() as u16).to_vec();
            framed.extend_from_slice(packet);
            framed
        };
        match self.path(from) {
            MediaPath::Direct { base, remote } => self.send(from, base, remote, packet.to_vec()),
            MediaPath::Channel { base, server, channel, .. } => {
                self.send(from, base, server, framed(channel))
            }
            MediaPath::Stream { stream, channel, .. } => {
                let mut framed = framed(channel);
                framed.resize(framed.len().next_multiple_of(4), 0);
                self.push(Arrival::FromStream { peer: from, stream, bytes: framed });
            }
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until `done`, `limit` at most.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&World) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            let wake = self.drain();
            if done(self) {
                return true;
            }
            let arrival = self.queue.keys().next().map(|(at, _)| *at);
            let next = [arrival, wake].into_iter().flatten().min().unwrap_or(end);
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let arrival = entry.remove();
                self.arrive(arrival);
            }
            for peer in &mut self.peers {
                peer.agent.handle_timeout(self.now);
                peer.timeouts += 1;
            }
            let sent = self.servers.handle_timeout(self.now - self.start);
            self.servers_sent(sent);
        }
    }

    fn drain(&mut self) -> Option<Instant> {
        let mut wake = None;
        for index in 0..self.peers.len() {
            loop {
                match self.peers[index].agent.poll_output() {
                    Output::Transmit { base, remote, bytes } => self.send(index, base, remote, bytes),
                    Output::OpenStream { stream, server } => {
                        self.push(Arrival::StreamOpened { peer: index, stream, server: server.address });
                    }
                    Output::TransmitStream { stream, bytes } => {
                        self.push(Arrival::FromStream { peer: index, stream, bytes });
                    }
                    Output::CloseStream { stream } => self.peers[index].closed_streams.push(stream),
                    Output::Candidate(candidate) => self.peers[index].trickled.push_back(candidate),
                    Output::GatheringComplete => {}
                    Output::Selected(selected) => {
                        self.peers[index].paths.insert(selected.component, selected);
                        self.peers[index].told.push(selected);
                    }
                    Output::Withdrawn { component } => {
                        let at = self.elapsed();
                        self.peers[index].withdrawn.push((at, component));
                    }
                    Output::RelayFailed { name, error } => self.peers[index].failed.push((name, error)),
                    Output::State(state) => {
                        let at = self.elapsed();
                        self.peers[index].states.push((at, state));
                    }
                    Output::Received { bytes, .. } => self.peers[index].received.push(bytes),
                    Output::Timeout(at) => {
                        wake = [wake, at].into_iter().flatten().min();
                        break;
                    }
                }
            }
        }
        let server = self.servers.wake().map(|at| self.start + at);
        [wake, server].into_iter().flatten().min()
    }

    fn push(&mut self, arrival: Arrival) {
        self.sequence += 1;
        let latency = match &arrival {
            Arrival::Datagram { from, to, .. } => self.distance(from.ip(), to.ip()),
            _ => LATENCY,
        };
        self.queue.insert((self.now + latency, self.sequence), arrival);
    }

    /// One way, between two public addresses.
    fn distance(&self, one: IpAddr, other: IpAddr) -> Duration {
        let known = self.distances.iter().find(|(ends, _)| *ends == [one, other] || *ends == [other, one]);
        known.map_or(LATENCY, |(_, distance)| *distance)
    }

    /// A datagram leaves a peer's socket.
    pub fn send(&mut self, peer: usize, base: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let at = self.elapsed();
        if let Some(from) = self.peers[peer].nat.outward(at, base, to) {
            self.travel(from, to, bytes);
        }
    }

    /// A datagram is on its way in the public network.
    pub fn travel(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        let mixed = (self.datagrams as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let lost = self.loses.is_some_and(|n| (mixed as usize).is_multiple_of(n));
        if !lost {
            self.push(Arrival::Datagram { from, to, bytes });
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let at = self.elapsed();
        match arrival {
            Arrival::Datagram { from, to, .. } if self.dark.contains(&from) || self.dark.contains(&to) => {}
            Arrival::Datagram { from, to, bytes } => {
                if self.servers.is_at(to) {
                    let sent = self.servers.datagram(at, from, to, &bytes);
                    self.servers_sent(sent);
                    return;
                }
                for index in 0..self.peers.len() {
                    if let Some(base) = self.peers[index].nat.inward(at, from, to) {
                        self.deliver(index, base, from, &bytes);
                        return;
                    }
                }
            }
            Arrival::StreamOpened { peer, stream, server } => {
                if self.dark.contains(&server) {
                    let agent = &mut self.peers[peer].agent;
                    agent.handle_stream_closed(self.now, stream, "connection refused");
                } else {
                    self.peers[peer].streams.insert(stream, server);
                    self.peers[peer].agent.handle_stream_opened(self.now, stream);
                }
            }
            Arrival::FromStream { peer, stream, bytes } => {
                let Some(server) = self.peers[peer].streams.get(&stream).copied() else { return };
                if !self.dark.contains(&server) {
                    let sent = self.servers.stream(at, (peer, stream), server, &bytes);
                    self.servers_sent(sent);
                }
            }
            Arrival::ToStream { peer, stream, bytes } => {
                // What the daemon's task does: whole messages only, media of the selected path aside.
                let length = voipd_nat::turn::frame::message_length(&bytes).expect("framed");
                assert_eq!(length, Some(bytes.len()), "servers send whole, padded messages");
                if let MediaPath::Stream { stream: selected, channel, .. } = self.selected(peer)
                    && selected == stream
                    && let Some((number, data)) = voipd_nat::turn::frame::channel_data(&bytes)
                    && number == channel
                    && data.first().is_some_and(|first| *first >= 128)
                {
                    self.peers[peer].media.push(data.to_vec());
                    return;
                }
                self.peers[peer].agent.handle_stream_message(self.now, stream, &bytes);
            }
        }
    }

    fn selected(&self, peer: usize) -> MediaPath {
        let nowhere = MediaPath::Direct { base: address("0.0.0.0:0"), remote: address("0.0.0.0:0") };
        self.peers[peer].paths.get(&1).map_or(nowhere, |selected| selected.path)
    }

    /// What the tick does: media of the selected path aside, all else to the agent.
    fn deliver(&mut self, peer: usize, base: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let rtp = |bytes: &[u8]| bytes.first().is_some_and(|first| (128..192).contains(first));
        match self.selected(peer) {
            MediaPath::Channel { server, channel, .. } if server == from => {
                if let Some((number, data)) = voipd_nat::turn::frame::channel_data(bytes)
                    && number == channel
                    && rtp(data)
                {
                    self.peers[peer].media.push(data.to_vec());
                    return;
                }
            }
            _ if rtp(bytes) => {
                self.peers[peer].media.push(bytes.to_vec());
                return;
            }
            _ => {}
        }
        self.peers[peer].agent.handle_datagram(self.now, base, from, bytes);
    }

    fn servers_sent(&mut self, sent: Vec<servers::Sent>) {
        for sent in sent {
            match sent {
                servers::Sent::Datagram { from, to, bytes } => {
                    if !self.dark.contains(&from) {
                        self.travel(from, to, bytes);
                    }
                }
                servers::Sent::Stream { to: (peer, stream), bytes } => {
                    self.push(Arrival::ToStream { peer, stream, bytes });
                }
            }
        }
    }
}
