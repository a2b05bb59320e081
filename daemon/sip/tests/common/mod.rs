//! A network in virtual time: endpoints, scripted peers and servers, joined by links that delay, lose, double and
//! reorder.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod home;
pub mod meeting;
pub mod memory;
pub mod nat;
pub mod proxy;
pub mod registrar;
pub mod script;
pub mod streams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voipd_sip::Endpoint;
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{
    ContactPolicy, Credentials, EndpointConfig, Event, Flow, Identity, IdentityId, InviteOptions, Output,
    ResolveError, SessionEnd, SessionId, TlsRequirement, Transport, TransportError,
};
use voipd_sip::message::{Message, Method, Request, Response, StatusCode};
use voipd_sip::uri::Host;
use voipd_sip::wire;

use streams::Connections;

pub const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub const ANSWER: &[u8] =
    b"v=0\r\no=- 2 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

/// A host of the network: its place in [`Net::hosts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(usize);

type Server = Box<dyn FnMut(Instant, &Request) -> Vec<Response>>;

enum Role {
    Agent {
        endpoint: Box<Endpoint>,
        events: Vec<(Duration, Event)>,
        /// Those that nobody has reacted to yet.
        fresh: Vec<(Duration, Event)>,
        /// A meeting point on the same sockets.
        meeting: Option<Box<meeting::Meeting>>,
    },
    /// Keeps what it gets; says what it is told to.
    Raw { inbox: Vec<(Duration, Message)> },
    /// Answers requests by a function.
    Server { answer: Server, seen: Vec<(Duration, Request)> },
    /// Passes messages on.
    Proxy(proxy::Proxy),
    /// Nobody listens: the sender gets an ICMP error.
    Closed,
}

struct Node {
    address: SocketAddr,
    role: Role,
}

enum Packet {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Of a connection, to one of its two ends.
    Segment {
        connection: usize,
        end: usize,
        bytes: Vec<u8>,
    },
    /// This end learns that the connection is lost.
    Lost {
        connection: usize,
        end: usize,
    },
    /// A connection was not made.
    Unmade {
        host: HostId,
        flow: Flow,
        error: TransportError,
    },
}

/// What a link does to a datagram; chances of 1000.
#[derive(Clone, Copy)]
pub struct Link {
    pub latency: Duration,
    pub loss: u64,
    pub doubling: u64,
    /// Up to this much is added to the latency, so that datagrams overtake each other.
    pub jitter: Duration,
}

pub struct Net {
    pub start: Instant,
    pub now: Instant,
    pub link: Link,
    /// Datagrams that were sent, with the time: the wire as a capture would show it.
    pub capture: Vec<(Duration, SocketAddr, SocketAddr, Vec<u8>)>,
    pub connections: Connections,
    /// Servers answer STUN.
    pub stun: bool,
    nats: Vec<nat::Nat>,
    names: BTreeMap<String, Vec<(Option<Transport>, SocketAddr)>>,
    hosts: Vec<Node>,
    air: BTreeMap<(Instant, u64), Packet>,
    count: u64,
    random: u64,
}

impl Net {
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
            connections: Connections::default(),
            stun: false,
            nats: Vec::new(),
            names: BTreeMap::new(),
            hosts: Vec::new(),
            air: BTreeMap::new(),
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

    pub fn agent(&mut self, address: &str) -> HostId {
        self.agent_of(address, config())
    }

    pub fn agent_with(&mut self, address: &str, max_sessions: usize, max_transactions: usize) -> HostId {
        self.agent_of(address, EndpointConfig { max_sessions, max_transactions, ..config() })
    }

    pub fn agent_without_timers(&mut self, address: &str) -> HostId {
        self.agent_of(address, EndpointConfig { session_expires: None, ..config() })
    }

    pub fn agent_that_waits(&mut self, address: &str, network_timeout: Duration) -> HostId {
        self.agent_of(address, EndpointConfig { network_timeout, ..config() })
    }

    fn agent_of(&mut self, address: &str, config: EndpointConfig) -> HostId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random().to_le_bytes());
        let endpoint = Box::new(Endpoint::new(config, seed));
        self.add(address, Role::Agent { endpoint, events: Vec::new(), fresh: Vec::new(), meeting: None })
    }

    pub fn raw(&mut self, address: &str) -> HostId {
        self.add(address, Role::Raw { inbox: Vec::new() })
    }

    pub fn server(
        &mut self,
        address: &str,
        answer: impl FnMut(Instant, &Request) -> Vec<Response> + 'static,
    ) -> HostId {
        self.add(address, Role::Server { answer: Box::new(answer), seen: Vec::new() })
    }

    /// A proxy that passes on to `next` what names no address.
    pub fn proxy(&mut self, address: &str, next: &str, realm: Option<&'static str>) -> HostId {
        let (here, next) = (address.parse().unwrap(), next.parse().unwrap());
        self.add(address, Role::Proxy(proxy::Proxy { address: here, next, realm }))
    }

    pub fn closed(&mut self, address: &str) -> HostId {
        self.add(address, Role::Closed)
    }

    /// From now on nobody listens at a host: senders get ICMP errors.
    pub fn close(&mut self, host: HostId) {
        self.hosts[host.0].role = Role::Closed;
    }

    /// A server answers by another function from now on.
    pub fn serve_anew(
        &mut self,
        host: HostId,
        answer: impl FnMut(Instant, &Request) -> Vec<Response> + 'static,
    ) {
        self.hosts[host.0].role = Role::Server { answer: Box::new(answer), seen: Vec::new() };
    }

    /// Nobody is at that address any more.
    pub fn forget(&mut self, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let host = self.host_at(address).unwrap();
        self.hosts[host.0].address = SocketAddr::new([0, 0, 0, 0].into(), 0);
    }

    pub fn name(&mut self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| (None, address.parse().unwrap()));
        self.names.insert(name.to_owned(), addresses.collect());
    }

    /// A name whose NAPTR and SRV records lead to these, in this order.
    pub fn name_on(&mut self, name: &str, places: &[(Transport, &str)]) {
        let places = places.iter().map(|(transport, address)| (Some(*transport), address.parse().unwrap()));
        self.names.insert(name.to_owned(), places.collect());
    }

    // Looking and acting.

    pub fn address(&self, host: HostId) -> SocketAddr {
        self.hosts[host.0].address
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Acts on an endpoint, then drains it.
    pub fn with<R>(&mut self, host: HostId, act: impl FnOnce(&mut Endpoint, Instant) -> R) -> R {
        let now = self.now;
        let Role::Agent { endpoint, .. } = &mut self.hosts[host.0].role else {
            panic!("{host:?} is no agent")
        };
        let result = act(endpoint, now);
        self.drain(host);
        result
    }

    /// Takes the events so far.
    pub fn events(&mut self, host: HostId) -> Vec<Event> {
        self.timed_events(host).into_iter().map(|(_, event)| event).collect()
    }

    pub fn timed_events(&mut self, host: HostId) -> Vec<(Duration, Event)> {
        let Role::Agent { events, fresh, .. } = &mut self.hosts[host.0].role else {
            panic!("{host:?} is no agent")
        };
        events.append(fresh);
        std::mem::take(events)
    }

    /// Takes what a raw host has got.
    pub fn inbox(&mut self, host: HostId) -> Vec<(Duration, Message)> {
        let Role::Raw { inbox } = &mut self.hosts[host.0].role else { panic!("{host:?} is not raw") };
        std::mem::take(inbox)
    }

    pub fn requests(&mut self, host: HostId) -> Vec<Request> {
        let requests = self.inbox(host).into_iter().filter_map(|(_, message)| match message {
            Message::Request(request) => Some(request),
            Message::Response(_) => None,
        });
        requests.collect()
    }

    pub fn responses(&mut self, host: HostId) -> Vec<Response> {
        let responses = self.inbox(host).into_iter().filter_map(|(_, message)| match message {
            Message::Response(response) => Some(response),
            Message::Request(_) => None,
        });
        responses.collect()
    }

    /// What a server has been asked.
    pub fn seen(&mut self, host: HostId) -> Vec<(Duration, Request)> {
        let Role::Server { seen, .. } = &mut self.hosts[host.0].role else { panic!("{host:?} is no server") };
        std::mem::take(seen)
    }

    /// Sends bytes from one host to another.
    pub fn send(&mut self, from: HostId, to: HostId, bytes: &[u8]) {
        let (from, to) = (self.address(from), self.address(to));
        self.transmit(from, to, bytes.to_vec());
    }

    /// Sends bytes from a host to whatever is at an address.
    pub fn send_to(&mut self, from: HostId, to: &str, bytes: &[u8]) {
        self.transmit(self.address(from), to.parse().unwrap(), bytes.to_vec());
    }

    /// Sends a text with bare line ends as a message.
    pub fn say(&mut self, from: HostId, to: HostId, text: &str) {
        self.send(from, to, crlf(text).as_bytes());
    }

    pub fn respond(&mut self, from: HostId, to: HostId, response: &Response) {
        self.send(from, to, &wire::write(&Message::Response(response.clone())));
    }

    pub fn request(&mut self, from: HostId, to: HostId, request: &Request) {
        self.send(from, to, &wire::write(&Message::Request(request.clone())));
    }

    // The network.

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.capture.push((self.elapsed(), from, to, bytes.clone()));
        let (from, bytes) = self.translate_out(from, to, bytes);
        if self.random() % 1000 < self.link.loss {
            return;
        }
        let copies = if self.random() % 1000 < self.link.doubling { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.link.jitter.as_micros() as u64;
            let jitter = Duration::from_micros(self.random() % (jitter + 1));
            self.count += 1;
            let packet = Packet::Datagram { from, to, bytes: bytes.clone() };
            self.air.insert((self.now + self.link.latency + jitter, self.count), packet);
        }
    }

    /// What no link loses, doubles or delays more than another.
    fn post(&mut self, after: Duration, packet: Packet) {
        self.count += 1;
        self.air.insert((self.now + after, self.count), packet);
    }

    fn drain(&mut self, host: HostId) -> Option<Instant> {
        loop {
            let (now, elapsed, local) = (self.now, self.elapsed(), self.address(host));
            let Role::Agent { endpoint, fresh, .. } = &mut self.hosts[host.0].role else { return None };
            match endpoint.poll_output() {
                Output::Transmit { flow, bytes } => {
                    if flow.transport == Transport::Udp {
                        assert_eq!(flow.local, local);
                        self.transmit(flow.local, flow.remote, bytes);
                    } else {
                        self.write(host, flow, bytes);
                    }
                }
                Output::Resolve { id, next_hop, .. } => {
                    let wanted = if next_hop.secure { Some(Transport::Tls) } else { next_hop.transport };
                    let found = match &next_hop.host {
                        Host::Ip(ip) if ip.is_ipv4() != local.is_ipv4() => {
                            Err(ResolveError::NoRoute(ip.to_string()))
                        }
                        Host::Ip(ip) => {
                            let port = wanted.unwrap_or(Transport::Udp).default_port();
                            Ok(vec![(wanted, SocketAddr::new(*ip, next_hop.port.unwrap_or(port)))])
                        }
                        Host::Name(name) => {
                            self.names.get(name).cloned().ok_or(ResolveError::NoSuchHost(name.clone()))
                        }
                    };
                    let flow = |(transport, remote): (Option<Transport>, _)| match (wanted, transport) {
                        (Some(wanted), Some(there)) if wanted != there => None,
                        (wanted, there) => {
                            Some(streams::flow(wanted.or(there).unwrap_or(Transport::Udp), local, remote))
                        }
                    };
                    let result = found.map(|found| found.into_iter().filter_map(flow).collect());
                    endpoint.handle_resolved(now, id, result);
                }
                Output::Disconnect { flow } => self.drop_connection(host, flow),
                Output::Event(event) => fresh.push((elapsed, event)),
                Output::Timeout(at) => return at.into_iter().chain(self.drain_meeting(host)).min(),
            }
        }
    }

    fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        self.hosts.iter().position(|node| node.address == address).map(HostId)
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Datagram { from, to, bytes } => {
                let Some((to, bytes)) = self.translate_in(from, to, bytes) else { return };
                let Some(host) = self.host_at(to) else { return };
                if let Role::Closed = self.hosts[host.0].role {
                    let inside = self.translate_in(to, from, Vec::new()).map(|(inside, _)| inside);
                    if let Some(sender) = inside.and_then(|inside| self.host_at(inside)) {
                        let inside = self.address(sender);
                        self.fail(sender, udp(inside, to), TransportError::Refused);
                    }
                    return;
                }
                if self.stun
                    && let Role::Server { .. } = self.hosts[host.0].role
                    && let Some(answer) = nat::stun_answer(&bytes, from)
                {
                    return self.transmit(to, from, answer);
                }
                for response in self.hand_over(host, udp(to, from), &bytes) {
                    self.transmit(to, from, response);
                }
            }
            Packet::Segment { connection, end, bytes } => self.arrive(connection, end, &bytes),
            Packet::Lost { connection, end } => self.notice(connection, end),
            Packet::Unmade { host, flow, error } => self.fail(host, flow, error),
        }
    }

    fn fail(&mut self, host: HostId, flow: Flow, error: TransportError) {
        if let Role::Agent { .. } = self.hosts[host.0].role {
            self.with(host, |endpoint, now| endpoint.handle_failed(now, flow, error));
            self.with_meeting(host, |point, now| point.handle_failed(now, flow, error));
        }
    }

    /// A host gets a message; a server's responses.
    fn hand_over(&mut self, host: HostId, flow: Flow, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (now, elapsed) = (self.now, self.elapsed());
        match &mut self.hosts[host.0].role {
            Role::Agent { endpoint, meeting, .. } => {
                if meeting.as_mut().is_some_and(|meeting| meeting.point.handle(now, flow, bytes)) {
                    self.drain_meeting(host);
                    return Vec::new();
                }
                match flow.transport {
                    Transport::Udp => endpoint.handle_datagram(now, flow, bytes),
                    Transport::Tcp | Transport::Tls => endpoint.handle_message(now, flow, bytes),
                }
                self.drain(host);
            }
            Role::Raw { inbox } => {
                // What is no message stays in the capture only.
                inbox.extend(wire::read_datagram(bytes).ok().flatten().map(|message| (elapsed, message)));
            }
            Role::Server { answer, seen } => {
                if let Ok(Some(Message::Request(mut request))) = wire::read_datagram(bytes) {
                    if request.via[0].params.get("rport").is_some() {
                        request.via[0].params.set("rport", Some(&flow.remote.port().to_string()));
                        request.via[0].params.set("received", Some(&flow.remote.ip().to_string()));
                    }
                    let responses = answer(now, &request);
                    seen.push((elapsed, request));
                    let written = responses.into_iter().map(|r| wire::write(&Message::Response(r)));
                    return written.collect();
                }
            }
            Role::Proxy(proxy) => {
                for (to, bytes) in proxy.pass(flow.remote, read(bytes)) {
                    self.transmit(flow.local, to, bytes);
                }
            }
            Role::Closed => {}
        }
        Vec::new()
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.run_with(time, |_, _, _| {});
    }

    pub fn run_ms(&mut self, milliseconds: u64) {
        self.run(Duration::from_millis(milliseconds));
    }

    /// Lets time pass while `react` answers each event once; [`Net::events`] gives them still.
    pub fn run_with(&mut self, time: Duration, mut react: impl FnMut(&mut Self, HostId, Event)) {
        let end = self.now + time;
        loop {
            let mut next = self.air.first_key_value().map(|(&(at, _), _)| at);
            for host in (0..self.hosts.len()).map(HostId) {
                if let Some(at) = self.drain(host) {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
            let Some(at) = next.filter(|at| *at <= end) else { break };
            assert!(at >= self.now, "time runs backwards");
            self.now = at;
            while let Some(entry) = self.air.first_entry()
                && entry.key().0 <= at
            {
                let packet = entry.remove();
                self.deliver(packet);
            }
            for host in (0..self.hosts.len()).map(HostId) {
                if self.drain(host).is_some_and(|due| due <= at) {
                    self.with(host, |endpoint, now| endpoint.handle_timeout(now));
                    self.with_meeting(host, |point, now| point.handle_timeout(now));
                }
            }
            for host in (0..self.hosts.len()).map(HostId) {
                while let Role::Agent { events, fresh, .. } = &mut self.hosts[host.0].role
                    && !fresh.is_empty()
                {
                    let (time, event) = fresh.remove(0);
                    events.push((time, event.clone()));
                    react(self, host, event);
                }
            }
        }
        self.now = end;
    }
}

fn config() -> EndpointConfig {
    EndpointConfig {
        product: "voipd-test".to_owned(),
        max_sessions: 100,
        max_transactions: 1000,
        session_expires: Some(1800),
        network_timeout: Duration::ZERO,
    }
}

/// Lines end in CR LF on the wire.
pub fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

pub fn read(bytes: &[u8]) -> Message {
    wire::read_datagram(bytes).expect("a message").expect("not a keep-alive")
}

pub fn status(code: u16) -> StatusCode {
    StatusCode::new(code).unwrap()
}

pub fn identity(aor: &str) -> Identity {
    Identity {
        aor: aor.parse().unwrap(),
        registrar: None,
        outbound_proxies: Vec::new(),
        credentials: None,
        expires: 3600,
        instance: None,
        gruu: false,
        push: None,
        contact: ContactPolicy::Auto,
        contact_user: None,
    }
}

/// An identity with a registrar and credentials.
pub fn subscriber(aor: &str, registrar: &str, user: &str, password: &str) -> Identity {
    Identity {
        registrar: Some(registrar.parse().unwrap()),
        credentials: Some(Credentials {
            user: user.to_owned(),
            password: Secret::new(password),
            realms: Vec::new(),
            allow_md5: true,
        }),
        ..identity(aor)
    }
}

/// A response of a scripted peer, with a To tag.
pub fn answer(request: &Request, code: u16, tag: &str) -> Response {
    let mut response = request.response(status(code));
    if code > 100 && response.to.tag().is_none() {
        response.to.params.set("tag", Some(tag));
    }
    response
}

/// With a Contact.
pub fn with_contact(mut response: Response, contact: &str) -> Response {
    response.headers.push("Contact", contact);
    response
}

/// With SDP.
pub fn with_sdp(mut response: Response, sdp: &[u8]) -> Response {
    response.headers.push("Content-Type", "application/sdp");
    response.body = sdp.to_vec();
    response
}

/// How a session ended.
pub fn end_of(events: &[Event], session: SessionId) -> SessionEnd {
    let mut ends = events.iter().filter_map(|event| match event {
        Event::Ended { session: ended, end } if *ended == session => Some(end.clone()),
        _ => None,
    });
    let end = ends.next().unwrap_or_else(|| panic!("{session:?} has not ended: {events:?}"));
    assert!(ends.next().is_none(), "{session:?} has ended twice: {events:?}");
    end
}

/// The session of the only Incoming.
pub fn incoming(events: &[Event]) -> SessionId {
    let mut incoming = events.iter().filter_map(|event| match event {
        Event::Incoming(incoming) => Some(incoming.session),
        _ => None,
    });
    let session = incoming.next().unwrap_or_else(|| panic!("nothing came in: {events:?}"));
    assert!(incoming.next().is_none(), "more than one came in: {events:?}");
    session
}

/// Two endpoints that call each other without a server.
pub struct Pair {
    pub net: Net,
    pub alice: HostId,
    pub bob: HostId,
    pub alice_id: IdentityId,
    pub bob_id: IdentityId,
}

impl Pair {
    pub fn new() -> Self {
        Self::seeded(1)
    }

    pub fn seeded(seed: u64) -> Self {
        Self::waiting(seed, Duration::ZERO)
    }

    /// Their sessions outlast requests that nobody answers for so long.
    pub fn waiting(seed: u64, network_timeout: Duration) -> Self {
        let mut net = Net::seeded(seed);
        let [alice, bob] = ["192.0.2.1:5060", "192.0.2.2:5060"]
            .map(|address| net.agent_that_waits(address, network_timeout));
        let alice_id =
            net.with(alice, |endpoint, _| endpoint.add_identity(identity("<sip:alice@192.0.2.1>")));
        let bob_id = net.with(bob, |endpoint, _| endpoint.add_identity(identity("<sip:bob@192.0.2.2>")));
        Self { net, alice, bob, alice_id, bob_id }
    }

    /// Alice's INVITE is on its way.
    pub fn invite(&mut self) -> SessionId {
        let id = self.alice_id;
        let target = "sip:bob@192.0.2.2".parse().unwrap();
        let session = self
            .net
            .with(self.alice, |endpoint, now| endpoint.invite(now, id, target, InviteOptions::default()))
            .unwrap();
        let asked = self.net.events(self.alice);
        assert!(matches!(asked[..], [Event::OfferWanted { session: of, .. }] if of == session), "{asked:?}");
        self.net
            .with(self.alice, |endpoint, now| endpoint.send_invite(now, session, OFFER.to_vec()))
            .unwrap();
        session
    }

    /// Alice's INVITE has arrived: both sides' sessions.
    pub fn ringing(&mut self) -> (SessionId, SessionId) {
        let caller = self.invite();
        self.net.run_ms(50);
        let callee = incoming(&self.net.events(self.bob));
        self.net.with(self.bob, |endpoint, now| endpoint.ring(now, callee, None)).unwrap();
        self.net.run_ms(50);
        let events = self.net.events(self.alice);
        assert!(matches!(&events[..], [Event::Progress { status, .. }] if status.get() == 180), "{events:?}");
        (caller, callee)
    }

    /// Alice and Bob talk.
    pub fn talking(&mut self) -> (SessionId, SessionId) {
        let (caller, callee) = self.ringing();
        self.net.with(self.bob, |endpoint, now| endpoint.accept(now, callee, ANSWER.to_vec())).unwrap();
        self.net.run_ms(50);
        let events = self.net.events(self.alice);
        assert!(
            matches!(&events[..], [Event::Answered { sdp: Some(sdp), .. }] if sdp == ANSWER),
            "{events:?}"
        );
        let events = self.net.events(self.bob);
        assert!(matches!(&events[..], [Event::Confirmed { sdp: None, .. }]), "{events:?}");
        (caller, callee)
    }
}

/// First lines of what one host sent to another, with their times in milliseconds.
pub fn sent(net: &Net, from: HostId) -> Vec<(u64, String)> {
    let address = net.address(from);
    let here = [address, streams::tls_address(address)];
    let from_here = net.capture.iter().filter(|(_, from, _, _)| here.contains(from));
    from_here.map(|(at, _, _, bytes)| (at.as_millis() as u64, first_line(bytes))).collect()
}

pub fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// Times in milliseconds of what `from` sent with that method or status in its first line.
pub fn times(net: &Net, from: HostId, word: &str) -> Vec<u64> {
    let words = sent(net, from).into_iter();
    words.filter(|(_, line)| line.split(' ').any(|part| part == word)).map(|(at, _)| at).collect()
}

pub fn method(name: &str) -> Method {
    Method::new(name).unwrap()
}

/// A UDP flow.
pub fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, local, remote, tls: TlsRequirement::default() }
}
