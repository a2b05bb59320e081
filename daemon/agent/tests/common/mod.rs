//! A world in virtual time: agents, scripted SIP peers and a registrar, joined by a network that delays, loses, doubles
//! and reorders SIP, with names, media ports and an audio engine that keeps books and checks what it is asked.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod books;
pub mod ice;
pub mod internet;
pub mod network;
pub mod peer;
pub mod registrar;
pub mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_agent::dialplan::DialPlan;
use voipd_agent::ice_settings::IceSettings;
use voipd_agent::view::{AccountState, AccountView, CallId, CallState, CallView, Reason};
use voipd_agent::{
    AccountId, AccountKind, AccountOrigin, AccountSettings, Agent, AgentConfig, DialOptions, DtmfMethod,
    MediaNameId, Network, Output, RedirectPolicy, RelayStream, RelayView, SoundChoice, TlsSettings,
};
use voipd_audio::PortId;
use voipd_audio::StreamPlan;
use voipd_audio::plan::{EngineEvent, Path, StreamCounters};
use voipd_media::Codec;
use voipd_nat::ice::StreamId;
use voipd_nat::turn::frame::channel_data;
use voipd_sip::endpoint::{ContactPolicy, Flow, ResolveError, TlsRequirement, Transport, TransportError};
use voipd_sip::message::{Message, Request, Response, StatusCode};
use voipd_sip::uri::Host;
use voipd_sip::wire;

use books::Books;
use internet::servers::Sent;
use internet::{Internet, TURN, address};

/// Unix time at the beginning of every world, in microseconds.
pub const EPOCH: u64 = 1_800_000_000_000_000;
/// Packets a second in a stream of 20 ms.
const PACKETS: u64 = 50;
/// SSRC of scripted peers.
const SPEAKER_SSRC: u32 = 77;

/// A host of the network: its place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(usize);

enum Role {
    Agent(Box<Station>),
    /// Keeps what it gets; says what it is told to.
    Raw {
        inbox: Vec<Message>,
    },
    Registrar(registrar::Registrar),
    /// Nobody listens: the sender gets an ICMP error.
    Closed,
}

struct Node {
    address: SocketAddr,
    role: Role,
}

/// An agent with what the daemon would be around it.
pub struct Station {
    pub agent: Agent,
    books: Books,
    outputs: Vec<Output>,
    /// `Some`: media sockets cannot be bound, and why.
    pub no_sockets: Option<String>,
    next_port: u16,
    /// Answers to BindMedia wait until [`World::bind_held`].
    pub hold_binding: bool,
    /// Other local addresses, and the networks that they face.
    pub faces: Vec<(Network, IpAddr)>,
    /// Further addresses of the machine.
    pub beside: Vec<IpAddr>,
    waiting: Vec<(CallId, IpAddr)>,
    /// Where media sockets are bound, if not where signalling is.
    pub media_at: Option<IpAddr>,
    wake_at: Option<Instant>,
    place: network::Place,
}

struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What the network does to SIP datagrams; chances of 1000.
#[derive(Clone, Copy)]
pub struct Link {
    pub latency: Duration,
    pub loss: u64,
    pub doubling: u64,
    /// Up to this much is added to the latency, so that datagrams overtake each other.
    pub jitter: Duration,
}

/// What somebody on the way makes of a datagram.
pub type Tamper = fn(&[u8]) -> Vec<u8>;

/// Everything there is.
pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub link: Link,
    /// SIP datagrams that were sent.
    pub capture: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// RTCP packets that were sent.
    pub rtcp: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// RTP addresses of scripted peers that send sound to whoever sends there.
    pub speakers: BTreeSet<SocketAddr>,
    /// Questions for names in session descriptions; those that the world knows are answered at once.
    pub media_questions: Vec<(HostId, MediaNameId, String)>,
    /// RTP is lost.
    pub media_cut: bool,
    /// Packets of sound that the counters call lost, in per cent.
    pub sound_loss: u64,
    /// Nothing arrives anywhere, and nobody is told.
    pub blackout: bool,
    /// So many of 1000 packets between media sockets are lost.
    pub media_loss: u64,
    /// Events of the engines are lost.
    pub deaf_engine: bool,
    /// What somebody on the way makes of SIP datagrams.
    pub tamper: Option<Tamper>,
    /// What lies between media sockets.
    pub internet: Internet,
    /// Servers that are spoken with by TCP.
    pub streams: streams::Streams,
    names: BTreeMap<String, Vec<SocketAddr>>,
    hosts: Vec<Node>,
    air: BTreeMap<(Instant, u64), Packet>,
    engine: BTreeMap<(Instant, u64), (HostId, EngineEvent)>,
    count: u64,
    random: u64,
}

impl World {
    pub fn new() -> Self {
        Self::seeded(1)
    }

    pub fn seeded(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            link: Link { latency: Duration::from_millis(10), loss: 0, doubling: 0, jitter: Duration::ZERO },
            capture: Vec::new(),
            rtcp: Vec::new(),
            speakers: BTreeSet::new(),
            media_questions: Vec::new(),
            media_cut: false,
            sound_loss: 0,
            blackout: false,
            media_loss: 0,
            deaf_engine: false,
            tamper: None,
            internet: Internet::default(),
            streams: streams::Streams::default(),
            names: BTreeMap::new(),
            hosts: Vec::new(),
            air: BTreeMap::new(),
            engine: BTreeMap::new(),
            count: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn random(&mut self) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    // Building.

    fn add(&mut self, address: &str, role: Role) -> HostId {
        self.hosts.push(Node { address: address.parse().unwrap(), role });
        HostId(self.hosts.len() - 1)
    }

    /// An agent without accounts.
    pub fn agent(&mut self, address: &str) -> HostId {
        self.agent_with(address, config())
    }

    pub fn agent_with(&mut self, address: &str, config: AgentConfig) -> HostId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random().to_le_bytes());
        let agent = Agent::new(config, seed, self.now, EPOCH);
        let station = Station {
            agent,
            books: Books::default(),
            outputs: Vec::new(),
            no_sockets: None,
            next_port: 10_000,
            hold_binding: false,
            faces: Vec::new(),
            waiting: Vec::new(),
            media_at: None,
            beside: Vec::new(),
            wake_at: None,
            place: network::Place::default(),
        };
        self.add(address, Role::Agent(Box::new(station)))
    }

    /// An agent with the account `direct`, open to 192.0.2.0/24.
    pub fn phone(&mut self, address: &str) -> HostId {
        let host = self.agent(address);
        self.account(host, direct());
        host
    }

    pub fn account(&mut self, host: HostId, settings: AccountSettings) -> AccountId {
        self.act(host, |agent, now| agent.add_account(now, settings)).unwrap()
    }

    pub fn raw(&mut self, address: &str) -> HostId {
        self.add(address, Role::Raw { inbox: Vec::new() })
    }

    pub fn registrar(&mut self, address: &str, user: &str, password: &str) -> HostId {
        self.add(address, Role::Registrar(registrar::Registrar::new(user, password)))
    }

    pub fn closed(&mut self, address: &str) -> HostId {
        self.add(address, Role::Closed)
    }

    pub fn name(&mut self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.names.insert(name.to_owned(), addresses);
    }

    // Looking.

    pub fn address(&self, host: HostId) -> SocketAddr {
        self.hosts[host.0].address
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn station(&mut self, host: HostId) -> &mut Station {
        match &mut self.hosts[host.0].role {
            Role::Agent(station) => station,
            _ => panic!("{host:?} is no agent"),
        }
    }

    pub fn registrar_at(&mut self, host: HostId) -> &mut registrar::Registrar {
        match &mut self.hosts[host.0].role {
            Role::Registrar(registrar) => registrar,
            _ => panic!("{host:?} is no registrar"),
        }
    }

    fn books(&self, host: HostId) -> &Books {
        match &self.hosts[host.0].role {
            Role::Agent(station) => &station.books,
            _ => panic!("{host:?} is no agent"),
        }
    }

    /// What front ends see of a call.
    pub fn view(&self, host: HostId, call: CallId) -> CallView {
        self.books(host).calls.get(&call).unwrap_or_else(|| panic!("{call:?} is not to be seen")).clone()
    }

    pub fn state(&self, host: HostId, call: CallId) -> CallState {
        self.view(host, call).state
    }

    /// Calls that can be seen.
    pub fn calls(&self, host: HostId) -> Vec<CallId> {
        self.books(host).calls.keys().copied().collect()
    }

    /// The only call that is not over.
    pub fn live_call(&self, host: HostId) -> CallId {
        let mut live = self.books(host).calls.values().filter(|view| view.state != CallState::Ended);
        let call = live.next().expect("a call").id;
        assert!(live.next().is_none(), "more than one call");
        call
    }

    /// The states that front ends saw a call in.
    pub fn states(&self, host: HostId, call: CallId) -> Vec<CallState> {
        self.books(host).states.iter().filter(|(id, _)| *id == call).map(|(_, state)| *state).collect()
    }

    pub fn end(&self, host: HostId, call: CallId) -> (Reason, u16) {
        let view = self.view(host, call);
        (view.end_reason.unwrap_or_else(|| panic!("has not ended: {view:?}")), view.sip_status)
    }

    pub fn account_view(&self, host: HostId, account: AccountId) -> AccountView {
        self.books(host).accounts.get(&account).expect("an account").clone()
    }

    pub fn account_state(&self, host: HostId, account: AccountId) -> AccountState {
        self.account_view(host, account).state
    }

    /// The plan of a call's stream.
    pub fn plan(&self, host: HostId, call: CallId) -> StreamPlan {
        self.books(host).stream_of(call).expect("a stream").plan.clone()
    }

    pub fn has_stream(&self, host: HostId, call: CallId) -> bool {
        self.books(host).stream_of(call).is_some()
    }

    pub fn stream_port(&self, host: HostId, call: CallId) -> PortId {
        self.books(host).stream_port_of(call).expect("a stream")
    }

    /// Where a call receives.
    pub fn local_media(&self, host: HostId, call: CallId) -> SocketAddr {
        let books = self.books(host);
        books.stream_of(call).map_or(books.bound[&call].0, |stream| stream.local)
    }

    /// What `sink` hears.
    pub fn heard_at(&self, host: HostId, sink: PortId) -> Vec<PortId> {
        self.books(host).connected.get(&sink).cloned().unwrap_or_default()
    }

    pub fn tone(&self, host: HostId, port: PortId) -> Option<voipd_audio::tone::Tone> {
        self.books(host).tones.get(&port).copied()
    }

    pub fn device_open(&self, host: HostId) -> bool {
        self.books(host).device
    }

    pub fn ringer_open(&self, host: HostId) -> bool {
        self.books(host).ringer
    }

    /// Sockets, streams and files that are open.
    pub fn media_open(&self, host: HostId) -> usize {
        self.books(host).open_things()
    }

    pub fn digits_heard(&self, host: HostId, call: CallId) -> String {
        self.books(host).digits.iter().filter(|(id, _)| *id == call).map(|(_, digit)| *digit).collect()
    }

    pub fn wakes_at(&mut self, host: HostId) -> Option<Instant> {
        self.station(host).wake_at
    }

    pub fn relays(&self, host: HostId) -> Vec<RelayView> {
        self.books(host).relays.clone()
    }

    /// Lines for the log.
    pub fn log(&self, host: HostId) -> Vec<String> {
        self.books(host).log.clone()
    }

    /// Takes the outputs so far, but for SIP datagrams and time-outs.
    pub fn outputs(&mut self, host: HostId) -> Vec<Output> {
        std::mem::take(&mut self.station(host).outputs)
    }

    /// Takes what a raw host has got.
    pub fn inbox(&mut self, host: HostId) -> Vec<Message> {
        match &mut self.hosts[host.0].role {
            Role::Raw { inbox } => std::mem::take(inbox),
            _ => panic!("{host:?} is not raw"),
        }
    }

    pub fn requests(&mut self, host: HostId) -> Vec<Request> {
        let request = |message| match message {
            Message::Request(request) => Some(request),
            Message::Response(_) => None,
        };
        self.inbox(host).into_iter().filter_map(request).collect()
    }

    pub fn responses(&mut self, host: HostId) -> Vec<Response> {
        let response = |message| match message {
            Message::Response(response) => Some(response),
            Message::Request(_) => None,
        };
        self.inbox(host).into_iter().filter_map(response).collect()
    }

    /// First lines of what one host sent, by SIP.
    pub fn said(&self, host: HostId) -> Vec<String> {
        let address = self.address(host);
        let own = self.capture.iter().filter(|(from, _, _)| *from == address);
        own.map(|(_, _, bytes)| first_line(bytes)).collect()
    }

    /// All that a host has said to another, each as a text.
    pub fn said_to(&self, from: HostId, to: HostId) -> Vec<String> {
        let (from, to) = (self.address(from), self.address(to));
        let theirs = self.capture.iter().filter(|(at, there, _)| (*at, *there) == (from, to));
        theirs.map(|(.., bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// How many of a host's SIP datagrams have this word, a method or a status, in their first line.
    pub fn count_said(&self, host: HostId, word: &str) -> usize {
        self.said(host).iter().filter(|line| line.split(' ').any(|part| part == word)).count()
    }

    /// The body of the last SIP datagram with SDP that a host sent.
    pub fn last_sdp(&self, host: HostId) -> String {
        let address = self.address(host);
        let mut bodies =
            self.capture.iter().filter(|(from, _, _)| *from == address).filter_map(|(_, _, bytes)| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.split_once("\r\n\r\n")
                    .map(|(_, body)| body.to_owned())
                    .filter(|body| body.starts_with("v=0"))
            });
        bodies.next_back().expect("a session description")
    }

    // Acting.

    /// Acts on an agent, then carries out what it asks.
    pub fn act<R>(&mut self, host: HostId, act: impl FnOnce(&mut Agent, Instant) -> R) -> R {
        let now = self.now;
        let result = act(&mut self.station(host).agent, now);
        self.drain(host);
        result
    }

    pub fn dial(&mut self, host: HostId, target: &str) -> CallId {
        self.act(host, |agent, now| agent.dial(now, target, None, SoundChoice::default())).unwrap()
    }

    pub fn dial_with(&mut self, host: HostId, target: &str, options: impl Into<DialOptions>) -> CallId {
        self.act(host, |agent, now| agent.dial(now, target, None, options)).unwrap()
    }

    pub fn accept(&mut self, host: HostId, call: CallId) {
        self.act(host, |agent, now| agent.accept(now, call, SoundChoice::default())).unwrap();
    }

    pub fn accept_with(&mut self, host: HostId, call: CallId, sound: SoundChoice) {
        self.act(host, |agent, now| agent.accept(now, call, sound)).unwrap();
    }

    pub fn hold(&mut self, host: HostId, call: CallId) {
        self.act(host, |agent, now| agent.hold(now, call)).unwrap();
    }

    pub fn resume(&mut self, host: HostId, call: CallId) {
        self.act(host, |agent, now| agent.resume(now, call, false)).unwrap();
    }

    pub fn hang_up(&mut self, host: HostId, call: CallId) {
        self.act(host, |agent, now| agent.hang_up(now, call)).unwrap();
    }

    /// What the audio engine reports.
    pub fn engine_says(&mut self, host: HostId, event: EngineEvent) {
        self.act(host, |agent, now| agent.handle_engine_event(now, event));
    }

    /// Answers what waits because of [`Station::hold_binding`].
    pub fn bind_held(&mut self, host: HostId) {
        self.station(host).hold_binding = false;
        for (call, address) in std::mem::take(&mut self.station(host).waiting) {
            self.bind(host, call, address);
        }
        self.drain(host);
    }

    /// Sends bytes from one host to another.
    pub fn send(&mut self, from: HostId, to: HostId, bytes: &[u8]) {
        let (from, to) = (self.address(from), self.address(to));
        self.transmit(from, to, bytes.to_vec());
    }

    /// Sends a text with bare line ends as a message.
    pub fn say(&mut self, from: HostId, to: HostId, text: &str) {
        self.send(from, to, crlf(text).as_bytes());
    }

    pub fn respond(&mut self, from: HostId, to: HostId, response: &Response) {
        self.send(from, to, &wire::write(&Message::Response(response.clone())));
    }

    // The network.

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.capture.push((from, to, bytes.clone()));
        let bytes = self.tamper.map_or_else(|| bytes.clone(), |tamper| tamper(&bytes));
        if self.random() % 1000 < self.link.loss {
            return;
        }
        let copies = if self.random() % 1000 < self.link.doubling { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.link.jitter.as_micros() as u64;
            let jitter = Duration::from_micros(self.random() % (jitter + 1));
            self.fly(from, to, bytes.clone(), self.link.latency + jitter);
        }
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, after: Duration) {
        self.count += 1;
        self.air.insert((self.now + after, self.count), Packet { from, to, bytes });
    }

    fn later(&mut self, after: Duration, host: HostId, event: EngineEvent) {
        self.count += 1;
        self.engine.insert((self.now + after, self.count), (host, event));
    }

    fn drain(&mut self, host: HostId) -> Option<Instant> {
        loop {
            if !matches!(self.hosts[host.0].role, Role::Agent(_)) {
                return None;
            }
            match self.station(host).agent.poll_output() {
                Output::Timeout(at) => {
                    let station = self.station(host);
                    station.books.settled(at);
                    station.wake_at = at;
                    return at;
                }
                output => {
                    self.station(host).books.check(&output);
                    self.carry_out(host, &output);
                    if !matches!(output, Output::Transmit { .. }) {
                        self.station(host).outputs.push(output);
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, host: HostId, output: &Output) {
        let now = self.now;
        match output {
            Output::Transmit { flow, bytes } => {
                self.set_out(host, *flow, bytes);
            }
            Output::Resolve { id, next_hop, .. } => {
                let found = match &next_hop.host {
                    Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, next_hop.port.unwrap_or(5060))]),
                    Host::Name(name) => {
                        self.names.get(name).cloned().ok_or(ResolveError::NoSuchHost(name.clone()))
                    }
                };
                let result = found.and_then(|found| {
                    let flow = |remote: &SocketAddr| {
                        Some(self.streams.flow(self.socket_towards(host, remote.ip())?, *remote))
                    };
                    let flows: Vec<Flow> = found.iter().filter_map(flow).collect();
                    let unreached = found.first().filter(|_| flows.is_empty());
                    unreached.map_or(Ok(flows.clone()), |to| Err(ResolveError::NoRoute(to.to_string())))
                });
                self.station(host).agent.handle_resolved(now, *id, result);
            }
            Output::BindMedia { call, address, peer } => {
                let address = self.media_towards(host, *peer).unwrap_or(*address);
                let address = self.station(host).media_at.unwrap_or(address);
                self.bind(host, *call, address);
            }
            Output::MoveMedia { call, port, address, peer } => {
                self.move_media(host, *call, *port, *address, *peer);
            }
            Output::CheckNetwork => self.network_changed(host, false),
            Output::SendDtmf { port, digit, duration_ms } => {
                self.send_digit(host, *port, *digit, *duration_ms)
            }
            Output::ResolveMedia { id, name } => {
                self.media_questions.push((host, *id, name.clone()));
                if let Some(addresses) = self.names.get(name) {
                    let addresses = addresses.iter().map(|address| address.ip()).collect();
                    self.station(host).agent.handle_media_resolved(now, *id, Ok(addresses));
                }
            }
            Output::SendRtcp { call, remote, muxed, bytes } => {
                let (rtp, rtcp) = self.books(host).bound[call];
                let local = if *muxed { rtp } else { rtcp };
                self.rtcp.push((local, *remote, bytes.clone()));
                self.media_leaves(local, *remote, bytes.clone());
            }
            Output::SendStun { from, remote, bytes, .. } => {
                self.internet.asked.push(*remote);
                self.media_leaves(*from, *remote, bytes.clone());
            }
            Output::OpenRelay { call, stream, .. } => {
                self.station(host).agent.handle_relay(now, *call, *stream, RelayStream::Opened);
            }
            Output::PlayPacket { call, bytes, .. } => {
                let at = self.local_media(host, *call);
                self.internet.play(at, at, bytes.clone());
            }
            Output::SendRelay { stream, bytes, .. } => self.send_relay(host, *stream, bytes),
            Output::ResolveServer { id, name } => {
                let found = self.names.get(name).map(|all| all.iter().map(|address| address.ip()).collect());
                let found = found.ok_or_else(|| format!("{name} has no address"));
                self.station(host).agent.handle_server_resolved(now, *id, found);
            }
            Output::MeasureRelay { id, address, .. } => {
                let measured = self.internet.round_trips.get(address).copied();
                let measured = measured.ok_or_else(|| "it does not answer".to_owned());
                self.station(host).agent.handle_relay_measured(now, *id, measured);
            }
            Output::WantCounters { call, port } => {
                let counters = self.counters(host, *port);
                let nanos = self.elapsed().as_nanos() as u64 + 1;
                self.station(host).agent.handle_counters(now, nanos, *call, &counters);
            }
            _ => {}
        }
    }

    fn bind(&mut self, host: HostId, call: CallId, address: IpAddr) {
        let now = self.now;
        let station = self.station(host);
        if station.hold_binding {
            station.waiting.push((call, address));
            return;
        }
        let result = match &station.no_sockets {
            Some(why) => Err(why.clone()),
            None => {
                let rtp_port = station.next_port;
                station.next_port += 2;
                Ok(voipd_media::LocalMedia { address, rtp_port, rtcp_port: rtp_port + 1 })
            }
        };
        if let Ok(local) = &result {
            station.books.bind(call, *local);
            if station.agent.wants_sockets_beside(call) {
                let with = |ip: &IpAddr| voipd_media::LocalMedia { address: *ip, ..*local };
                let beside: Vec<_> = station.beside.iter().map(with).collect();
                station.books.bind_beside(call, &beside);
                station.agent.handle_media_beside(call, beside);
            }
        }
        station.agent.handle_media_bound(now, call, result);
    }

    fn send_digit(&mut self, host: HostId, port: PortId, digit: char, duration_ms: u32) {
        let after = Duration::from_millis(u64::from(duration_ms) + 50);
        self.later(after, host, EngineEvent::DtmfSent { port, digit });
        if let Some((peer, port)) = self.stream_fed_by(host, port) {
            self.later(after, peer, EngineEvent::DtmfReceived { port, digit, duration_ms });
        }
    }

    /// The stream of another agent that plays what this one sends.
    fn stream_fed_by(&self, host: HostId, port: PortId) -> Option<(HostId, PortId)> {
        let stream = self.books(host).streams.get(&port)?;
        stream.plan.send?;
        let remote = stream.plan.path.remote();
        let agents = (0..self.hosts.len()).filter(|at| matches!(self.hosts[*at].role, Role::Agent(_)));
        agents.map(HostId).find_map(|peer| {
            let (port, _) = self.books(peer).streams.iter().find(|(_, other)| other.local == remote)?;
            Some((peer, *port))
        })
    }

    /// Figures of a stream: packets flow where both ends' plans allow it.
    fn counters(&mut self, host: HostId, port: PortId) -> StreamCounters {
        let elapsed = self.elapsed();
        let stream = &self.books(host).streams[&port];
        let (local, sends, since) = (stream.local, stream.plan.send.is_some(), stream.counted_at);
        let remote = stream.plan.path.remote();
        let agents = (0..self.hosts.len()).filter(|at| matches!(self.hosts[*at].role, Role::Agent(_)));
        let fed_by = agents.map(HostId).find_map(|peer| {
            let mut streams = self.books(peer).streams.values().map(|other| &other.plan);
            let feeds = |plan: &&StreamPlan| {
                let remote = plan.path.remote();
                remote == local && plan.send.is_some()
            };
            streams.find(feeds).map(|plan| plan.ssrc)
        });
        let speaker = self.speakers.contains(&remote).then_some(SPEAKER_SSRC);
        let heard = fed_by.or(speaker).filter(|_| !self.media_cut && !self.blackout);
        let packets = (elapsed - since.unwrap_or(elapsed)).as_millis() as u64 * PACKETS / 1000;
        let played = self.internet.played_at(local);
        let lost = packets * self.sound_loss / 100;
        let stream = self.station(host).books.streams.get_mut(&port).unwrap();
        stream.counted_at = Some(elapsed);
        let counters = &mut stream.counters;
        if let Some(ssrc) = heard {
            if ssrc != counters.remote_ssrc {
                (counters.base_extended_seq, counters.source_received) =
                    (counters.highest_extended_seq + 1, 0);
            }
            counters.packets_received += packets - lost;
            counters.source_received += packets - lost;
            counters.octets_received += (packets - lost) * 160;
            counters.packets_lost += lost;
            (counters.gap_packets, counters.gap_missing) =
                (counters.gap_packets + packets, counters.gap_missing + lost);
            counters.loss_runs += lost;
            counters.frames_played += 2 * (packets - lost);
            counters.frames_concealed += 2 * lost;
            (counters.remote_ssrc, counters.receive_ptime_ms) = (ssrc, 20);
            counters.highest_extended_seq += packets as u32;
        }
        counters.packets_received = counters.packets_received.max(played);
        counters.source_received = counters.source_received.max(played);
        if sends {
            counters.packets_sent += packets;
            counters.octets_sent += packets * 160;
            counters.last_sent_nanos = elapsed.as_nanos() as u64;
        }
        *counters
    }

    fn deliver(&mut self, packet: Packet) {
        let now = self.now;
        if self.blackout {
            return;
        }
        let Some(host) = self.host_at(packet.to) else {
            return self.deliver_media(packet);
        };
        match &mut self.hosts[host.0].role {
            Role::Agent(station) => {
                let flow = self.streams.flow(packet.to, packet.from);
                match flow.transport {
                    Transport::Udp => station.agent.handle_datagram(now, flow, &packet.bytes),
                    Transport::Tcp | Transport::Tls => station.agent.handle_message(now, flow, &packet.bytes),
                }
                self.drain(host);
            }
            Role::Raw { inbox } => inbox.push(read(&packet.bytes)),
            // A keep-alive says nothing.
            Role::Registrar(_) if packet.bytes.iter().all(u8::is_ascii_whitespace) => {}
            Role::Registrar(registrar) => {
                if let Message::Request(request) = read(&packet.bytes)
                    && let Some(response) = registrar.answer(&request, packet.from)
                {
                    self.transmit(packet.to, packet.from, wire::write(&Message::Response(response)));
                }
            }
            Role::Closed => {
                let sender = self.hosts.iter().position(|node| node.address == packet.from).map(HostId);
                if let Some(sender) = sender {
                    self.act(sender, |agent, now| {
                        agent.handle_failed(now, udp(packet.from, packet.to), TransportError::Refused)
                    });
                }
            }
        }
    }

    /// A packet leaves a media socket.
    pub fn media_leaves(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.internet.sent.push((from, to));
        let Some(from) = self.internet.outward(self.now - self.start, from, to) else { return };
        if self.random() % 1000 >= self.media_loss {
            self.fly(from, to, bytes, self.link.latency);
        }
    }

    fn deliver_media(&mut self, packet: Packet) {
        let at = self.elapsed();
        if self.internet.is_dark(packet.from, packet.to) {
            return;
        }
        if self.internet.servers.is_at(packet.to) {
            let sent = self.internet.servers.datagram(at, packet.from, packet.to, &packet.bytes);
            return self.deliver_from_servers(sent);
        }
        let to = self.internet.inward(at, packet.from, packet.to);
        for host in (0..self.hosts.len()).map(HostId) {
            if !matches!(self.hosts[host.0].role, Role::Agent(_)) {
                continue;
            }
            if let Some((call, rtp)) = self.books(host).socket(to) {
                return self.at_socket(host, call, rtp, to, packet);
            }
        }
    }

    /// What the daemon does with a packet on a media socket (RFC 7983).
    fn at_socket(&mut self, host: HostId, call: CallId, rtp: bool, at: SocketAddr, packet: Packet) {
        let Packet { from, bytes, .. } = packet;
        if rtp && self.takes_channel(host, call, from, &bytes) {
            return;
        }
        match (bytes[0], bytes[1]) {
            (0..=3 | 64..=79, _) => {
                self.act(host, |agent, now| agent.handle_stun(now, call, at, from, &bytes));
            }
            (128..=191, 0..=127) => self.internet.play(at, from, bytes),
            _ => {
                self.internet.rtcp.push((at, from));
                self.act(host, |agent, now| agent.handle_rtcp(now, call, from, &bytes));
            }
        }
    }

    /// A message to the relay by a connection; media of the peer that comes by one is put where it would be played.
    pub fn send_relay(&mut self, host: HostId, stream: StreamId, bytes: &[u8]) {
        let sent = self.internet.servers.stream(self.elapsed(), (host.0, stream), address(TURN), bytes);
        self.deliver_from_servers(sent);
    }

    /// What the tick and the task of a connection do with ChannelData: RTP of the stream's path is played.
    fn takes_channel(&mut self, host: HostId, call: CallId, from: SocketAddr, bytes: &[u8]) -> bool {
        let Some(stream) = self.books(host).stream_of(call) else { return false };
        let channel = match stream.plan.path {
            Path::TurnChannel { channel, .. } | Path::Stream { channel, .. } => channel,
            Path::Udp { .. } => return false,
        };
        let local = stream.local;
        let Some((_, data)) = channel_data(bytes).filter(|(number, _)| *number == channel) else {
            return false;
        };
        let rtp = matches!(data, [128..=191, 0..=127, ..]);
        if rtp {
            self.internet.play(local, from, data.to_vec());
        } else if matches!(data, [128..=191, ..]) {
            self.internet.rtcp.push((local, from));
            self.act(host, |agent, now| agent.handle_rtcp(now, call, from, data));
        }
        matches!(data, [128..=191, ..])
    }

    fn deliver_from_servers(&mut self, sent: Vec<Sent>) {
        for sent in sent {
            match sent {
                Sent::Datagram { from, to, bytes } => self.fly(from, to, bytes, self.link.latency),
                Sent::Stream { to: (host, stream), bytes } => {
                    let host = HostId(host);
                    let call = self.live_call(host);
                    if self.takes_channel(host, call, address(TURN), &bytes) {
                        continue;
                    }
                    self.act(host, |agent, now| {
                        agent.handle_relay(now, call, stream, RelayStream::Message(&bytes))
                    });
                }
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let waking = self.hosts.iter().filter_map(|node| match &node.role {
                Role::Agent(station) => station.wake_at,
                _ => None,
            });
            let flying = self.air.first_key_value().map(|(&(at, _), _)| at);
            let speaking = self.engine.first_key_value().map(|(&(at, _), _)| at);
            let servers = self.internet.servers.wake().map(|at| self.start + at).filter(|at| *at > self.now);
            let next = waking.chain(flying).chain(speaking).chain(servers).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = at.max(self.now);
            let sent = self.internet.servers.handle_timeout(self.now - self.start);
            self.deliver_from_servers(sent);
            while let Some(entry) = self.air.first_entry()
                && entry.key().0 <= at
            {
                let packet = entry.remove();
                self.deliver(packet);
            }
            while let Some(entry) = self.engine.first_entry()
                && entry.key().0 <= at
            {
                let (host, event) = entry.remove();
                if !self.deaf_engine {
                    self.engine_says(host, event);
                }
            }
            for host in (0..self.hosts.len()).map(HostId) {
                let due = |role: &Role| match role {
                    Role::Agent(station) => station.wake_at.is_some_and(|due| due <= at),
                    _ => false,
                };
                if due(&self.hosts[host.0].role) {
                    self.act(host, |agent, now| agent.handle_timeout(now));
                    assert!(
                        !due(&self.hosts[host.0].role),
                        "asks to be woken for what it has been woken for"
                    );
                }
            }
        }
        self.now = end;
    }

    pub fn run_ms(&mut self, milliseconds: u64) {
        self.run(Duration::from_millis(milliseconds));
    }

    pub fn run_s(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }
}

/// Two phones that can call each other without a server.
pub struct Pair {
    pub world: World,
    pub alice: HostId,
    pub bob: HostId,
}

impl Pair {
    pub fn new() -> Self {
        Self::seeded(1)
    }

    pub fn seeded(seed: u64) -> Self {
        let mut world = World::seeded(seed);
        let alice = world.phone("192.0.2.1:5060");
        let bob = world.phone("192.0.2.2:5060");
        Self { world, alice, bob }
    }

    /// Bob's phone rings: Alice's call and Bob's.
    pub fn ringing(&mut self) -> (CallId, CallId) {
        let outbound = self.world.dial(self.alice, "sip:bob@192.0.2.2");
        self.world.run_ms(100);
        (outbound, self.world.live_call(self.bob))
    }

    /// Alice and Bob talk.
    pub fn talking(&mut self) -> (CallId, CallId) {
        let (outbound, inbound) = self.ringing();
        self.world.accept(self.bob, inbound);
        self.world.run_ms(100);
        assert_eq!(self.world.state(self.alice, outbound), CallState::Active);
        assert_eq!(self.world.state(self.bob, inbound), CallState::Active);
        (outbound, inbound)
    }
}

pub fn config() -> AgentConfig {
    AgentConfig {
        tones: None,
        product: "voipd-test".to_owned(),
        instance: Some("urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6".to_owned()),
        contact_key: None,
        max_calls: 20,
        ring_timeout: Duration::from_secs(60),
        media_timeout: Duration::from_secs(30),
        network_timeout: Duration::from_secs(60),
        session_timer: Some(1800),
    }
}

/// The account `direct`, open to 192.0.2.0/24.
pub fn direct() -> AccountSettings {
    AccountSettings {
        name: "direct".to_owned(),
        kind: AccountKind::Direct,
        origin: AccountOrigin::BuiltIn,
        enabled: true,
        address: None,
        display_name: None,
        registrar: None,
        outbound_proxies: Vec::new(),
        transport: None,
        tls: TlsSettings::default(),
        auth_user: None,
        password: None,
        realms: Vec::new(),
        allow_md5: true,
        register: false,
        expires: 3600,
        gruu: false,
        push: None,
        codecs: vec![Codec::Opus, Codec::Pcma, Codec::Pcmu],
        ptime_ms: 20,
        silence_suppression: false,
        redundancy: true,
        redirect: RedirectPolicy::Ask,
        dtmf: DtmfMethod::Auto,
        ice: IceSettings::default(),
        allow_from: vec!["192.0.2.0/24".parse().unwrap()],
        dial_plan: DialPlan::default(),
        contact: ContactPolicy::Auto,
    }
}

/// The echo service, for everybody.
pub fn echo() -> AccountSettings {
    AccountSettings {
        name: "echo".to_owned(),
        kind: AccountKind::Echo,
        allow_from: vec!["0.0.0.0/0".parse().unwrap()],
        ..direct()
    }
}

/// An account with a server, which it registers with.
pub fn sip(name: &str, address: &str, password: &str) -> AccountSettings {
    AccountSettings {
        name: name.to_owned(),
        kind: AccountKind::Sip,
        origin: AccountOrigin::Bus,
        address: Some(address.parse().unwrap()),
        password: Some(voipd_sip::digest::Secret::new(password)),
        register: true,
        allow_from: Vec::new(),
        ..direct()
    }
}

/// Lines end in CR LF on the wire.
pub fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

pub fn read(bytes: &[u8]) -> Message {
    wire::read_datagram(bytes).expect("a message").expect("not a keep-alive")
}

pub fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

pub fn status(code: u16) -> StatusCode {
    StatusCode::new(code).unwrap()
}

/// The value of an attribute's direction in a session description.
pub fn direction(sdp: &str) -> &str {
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let line = sdp.lines().filter_map(|line| line.strip_prefix("a=")).find(|line| directions.contains(line));
    line.unwrap_or("sendrecv")
}

/// A UDP flow.
pub fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, local, remote, tls: TlsRequirement::default() }
}
