//! A network in virtual time: one machine, the NAT in front of it, and STUN servers beyond.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_nat::stun::{
    Discovery, Gathered, Output, Path, PathReport, Report, Role, Server, ServerReport, SocketId, Source,
    State,
};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// One way.
const DELAY: Duration = Duration::from_millis(10);

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What something depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Nothing,
    Address,
    AddressAndPort,
}

/// What stands between the machine and the world.
#[derive(Clone, Debug)]
pub struct Nat {
    /// None: the machine has a public address, and this is a firewall.
    pub public: Option<IpAddr>,
    pub mapping: By,
    pub filtering: By,
    pub hairpin: bool,
    pub preserves_ports: bool,
    /// Nothing goes out at all.
    pub blocked: bool,
    pub mapped: BTreeMap<(SocketAddr, Option<IpAddr>, Option<u16>), u16>,
    pub opened: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl Nat {
    pub fn new(mapping: By, filtering: By) -> Self {
        Self {
            public: Some("203.0.113.9".parse().unwrap()),
            mapping,
            filtering,
            hairpin: false,
            preserves_ports: false,
            blocked: false,
            mapped: BTreeMap::new(),
            opened: BTreeSet::new(),
        }
    }

    pub fn firewall(filtering: By) -> Self {
        Self { public: None, ..Self::new(By::Nothing, filtering) }
    }

    /// The source that the world sees.
    fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let Some(public) = self.public else {
            self.opened.insert((from, to));
            return from;
        };
        let key = match self.mapping {
            By::Nothing => (from, None, None),
            By::Address => (from, Some(to.ip()), None),
            By::AddressAndPort => (from, Some(to.ip()), Some(to.port())),
        };
        let fresh = 40_000 + u16::try_from(self.mapped.len()).unwrap();
        let port = if self.preserves_ports { from.port() } else { fresh };
        let port = *self.mapped.entry(key).or_insert(port);
        let source = SocketAddr::new(public, port);
        self.opened.insert((source, to));
        source
    }

    /// The local socket that a packet gets to.
    fn inwards(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let mut open = self.opened.iter().filter(|(source, _)| *source == to);
        let passes = match self.filtering {
            By::Nothing => open.next().is_some(),
            By::Address => open.any(|(_, known)| known.ip() == from.ip()),
            By::AddressAndPort => open.any(|(_, known)| *known == from),
        };
        let local = match self.public {
            None => Some(to),
            Some(_) => {
                self.mapped.iter().find(|(_, port)| **port == to.port()).map(|((local, ..), _)| *local)
            }
        };
        local.filter(|_| passes)
    }
}

/// What a server does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers, and from elsewhere when it is asked to and has another address.
    Honest,
    Silent,
    /// ICMP says that nobody is there.
    Refused,
    Error(u16),
    /// Says that everyone is this.
    Says(SocketAddr),
    /// Sends only what RFC 3489 knew.
    Old,
    /// A router on the way has put this into the plain address.
    Rewritten(SocketAddr),
    WrongId,
    /// Answers come from another address without being asked for.
    FromElsewhere,
    /// Has no answer for the first so many requests of each transaction.
    Deaf(u32),
    /// Its other address is named and does not work.
    OtherDead,
    /// Answers requests to answer from elsewhere as if they were plain.
    IgnoresChange,
    /// A success without any address.
    Empty,
}

#[derive(Clone, Debug)]
pub struct StunServer {
    pub address: SocketAddr,
    pub other: Option<SocketAddr>,
    pub manner: Manner,
    heard: BTreeMap<Vec<u8>, u32>,
}

impl StunServer {
    pub fn plain(address: &str) -> Self {
        Self { address: at(address), other: None, manner: Manner::Honest, heard: BTreeMap::new() }
    }

    /// With two addresses and two ports, as RFC 5780 wants it.
    pub fn full(address: &str, other: &str) -> Self {
        Self { other: Some(at(other)), ..Self::plain(address) }
    }

    pub fn with(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    fn listens_at(&self, to: SocketAddr) -> bool {
        let other_lives = self.manner != Manner::OtherDead;
        let other = self.other.filter(|_| other_lives);
        let ips = [Some(self.address.ip()), other.map(|other| other.ip())];
        let ports = [Some(self.address.port()), other.map(|other| other.port())];
        to == self.address || (ips.contains(&Some(to.ip())) && ports.contains(&Some(to.port())))
    }

    /// The answer and from where it comes.
    fn answer(&mut self, from: SocketAddr, to: SocketAddr, request: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let id = &request[4..20];
        let heard = self.heard.entry(id.to_vec()).or_default();
        *heard += 1;
        let change = request.get(20..28).filter(|a| a[..4] == [0, 3, 0, 4]).map_or(0, |a| a[7]);
        let mut source = to;
        if let Some(other) = self.other.filter(|_| self.manner != Manner::IgnoresChange) {
            let here = self.address;
            if change & 4 != 0 {
                source.set_ip(if to.ip() == here.ip() { other.ip() } else { here.ip() });
            }
            if change & 2 != 0 {
                source.set_port(if to.port() == here.port() { other.port() } else { here.port() });
            }
        }
        let xor = |address| attribute(0x20, address, Some(id));
        let plain = |address| attribute(1, address, None);
        let mut attributes = match &self.manner {
            Manner::Silent | Manner::Refused => return None,
            Manner::Deaf(most) if *heard <= *most => return None,
            Manner::OtherDead if change != 0 => return None,
            Manner::Error(code) => {
                let digits =
                    [0, 9, 0, 4, 0, 0, u8::try_from(code / 100).unwrap(), u8::try_from(code % 100).unwrap()];
                return Some((source, message(0x0111, id, &digits)));
            }
            Manner::Says(lie) => xor(*lie),
            Manner::Old => plain(from),
            Manner::Rewritten(wrong) => [plain(*wrong), xor(from)].concat(),
            Manner::Empty => Vec::new(),
            _ => [plain(from), xor(from)].concat(),
        };
        if let Some(other) = self.other {
            attributes.extend(attribute(0x802c, other, None));
        }
        if self.manner == Manner::FromElsewhere {
            source.set_port(9);
        }
        let mut answer = message(0x0101, id, &attributes);
        if self.manner == Manner::WrongId {
            answer[19] ^= 1;
        }
        Some((source, answer))
    }
}

fn message(kind: u16, head: &[u8], attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).unwrap();
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), head, attributes].concat()
}

fn attribute(kind: u16, address: SocketAddr, xor: Option<&[u8]>) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mask = xor.unwrap_or(&[0; 16]);
    let masked = |bytes: &[u8]| bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect::<Vec<_>>();
    let length = u16::try_from(4 + ip.len()).unwrap();
    [
        &kind.to_be_bytes()[..],
        &length.to_be_bytes(),
        &[0, family],
        &masked(&address.port().to_be_bytes()),
        &masked(&ip),
    ]
    .concat()
}

/// What is on its way.
enum Flight {
    ToWorld { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    ToMachine { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Icmp { local: SocketAddr, to: SocketAddr },
}

pub struct Lab {
    pub now: Instant,
    pub start: Instant,
    pub discovery: Discovery,
    pub nat: Nat,
    pub servers: Vec<StunServer>,
    /// Local address; both sockets of a round are there.
    pub local: IpAddr,
    /// Times at which rounds were asked for, since the start.
    pub rounds: Vec<Duration>,
    /// How many datagrams the machine has sent, and to whom.
    pub sent: Vec<SocketAddr>,
    /// Rounds are not answered.
    pub gathers: bool,
    /// The sockets are open.
    pub open: bool,
    pub changes: usize,
    flights: Vec<(Instant, Flight)>,
    number: u32,
}

impl Lab {
    pub fn new(nat: Nat, servers: Vec<StunServer>) -> Self {
        let start = Instant::now();
        let local = if nat.public.is_some() { "192.168.1.7" } else { "203.0.113.7" };
        Self {
            now: start,
            start,
            discovery: Discovery::new(start, [7; 32]),
            nat,
            servers,
            local: local.parse().unwrap(),
            rounds: Vec::new(),
            sent: Vec::new(),
            gathers: true,
            open: false,
            changes: 0,
            flights: Vec::new(),
            number: 0,
        }
    }

    /// The report of a first round that is over.
    pub fn first_round(nat: Nat, servers: Vec<StunServer>) -> Report {
        let mut lab = Self::new(nat, servers);
        lab.run_round();
        lab.report()
    }

    pub fn report(&self) -> Report {
        self.discovery.report().clone()
    }

    fn sockets(&self) -> [(SocketAddr, SocketId); 2] {
        let base = u16::try_from(5000 + 2 * self.number).unwrap();
        [(base, Role::Mapping), (base + 1, Role::Filtering)]
            .map(|(port, role)| (SocketAddr::new(self.local, port), SocketId { path: 0, role }))
    }

    /// Goes on until a round is over.
    pub fn run_round(&mut self) {
        let rounds = self.rounds.len();
        let until = self.now + Duration::from_secs(3600);
        while self.now < until && (self.rounds.len() == rounds || self.open || !self.flights.is_empty()) {
            self.step(until);
        }
        assert!(self.now < until, "no round came to its end");
    }

    /// As above where there is nobody to ask: the round is over at once.
    pub fn run_round_without_servers(&mut self) {
        self.run_for(Duration::from_millis(1));
        assert_eq!(self.rounds.len(), 1);
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step(until);
        }
    }

    /// On to the next thing that happens, or to `until`.
    fn step(&mut self, until: Instant) {
        let wake = self.drain();
        let next = self.flights.iter().map(|(at, _)| *at).chain(wake).min().unwrap_or(until).min(until);
        self.now = next.max(self.now);
        let (due, rest) = std::mem::take(&mut self.flights).into_iter().partition(|(at, _)| *at <= self.now);
        self.flights = rest;
        for (_, flight) in due {
            self.arrive(flight);
            self.drain();
        }
        if wake.is_some_and(|wake| wake <= self.now) {
            self.discovery.handle_timeout(self.now);
        }
        self.drain();
    }

    pub fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.discovery.poll_output() {
                Output::Timeout(at) => return at,
                Output::Changed => self.changes += 1,
                Output::Close => self.open = false,
                Output::Gather(number) => {
                    self.rounds.push(self.now - self.start);
                    self.number = number;
                    self.open = false;
                    if self.gathers {
                        let gathered = self.gathered();
                        self.open = !gathered.paths.is_empty();
                        self.discovery.handle_gathered(self.now, number, gathered);
                    }
                }
                Output::Transmit(transmit) => {
                    assert!(self.open, "sent by a closed socket");
                    let from = self.sockets().into_iter().find(|(_, id)| *id == transmit.socket).unwrap().0;
                    let (to, bytes) = (transmit.to, transmit.bytes);
                    assert!(bytes.starts_with(&[0, 1]) && bytes[4..8] == COOKIE, "no request: {bytes:?}");
                    self.sent.push(to);
                    self.flights.push((self.now + DELAY, Flight::ToWorld { from, to, bytes }));
                }
            }
        }
    }

    pub fn gathered(&self) -> Gathered {
        let [(mapping, _), (filtering, _)] = self.sockets();
        let server = |server: &StunServer| Server {
            name: format!("stun:{}", server.address),
            source: Source::Configuration,
            place: Ok((0, server.address)),
        };
        Gathered {
            paths: vec![Path { mapping, filtering }],
            servers: self.servers.iter().map(server).collect(),
        }
    }

    fn arrive(&mut self, flight: Flight) {
        match flight {
            Flight::ToWorld { from, to, bytes } => self.world(from, to, &bytes),
            Flight::ToMachine { from, to, bytes } => {
                if let Some((_, socket)) = self.sockets().into_iter().find(|(at, _)| *at == to) {
                    self.discovery.handle_datagram(self.now, socket, from, &bytes);
                }
            }
            Flight::Icmp { local, to } => {
                if let Some((_, socket)) = self.sockets().into_iter().find(|(at, _)| *at == local) {
                    self.discovery.handle_unreachable(self.now, socket, to);
                }
            }
        }
    }

    fn world(&mut self, local: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.nat.blocked {
            return;
        }
        let from = self.nat.out(local, to);
        let later = self.now + DELAY;
        if Some(to.ip()) == self.nat.public {
            if self.nat.hairpin
                && let Some(inside) = self.nat.inwards(from, to)
            {
                let flight = Flight::ToMachine { from, to: inside, bytes: bytes.to_vec() };
                self.flights.push((later, flight));
            }
            return;
        }
        let Some(server) = self.servers.iter_mut().find(|server| server.listens_at(to)) else { return };
        if server.manner == Manner::Refused {
            self.flights.push((later, Flight::Icmp { local, to }));
        } else if let Some((source, answer)) = server.answer(from, to, bytes)
            && let Some(to) = self.nat.inwards(source, from)
        {
            self.flights.push((later, Flight::ToMachine { from: source, to, bytes: answer }));
        }
    }
}

/// The only path of a report.
#[track_caller]
pub fn only_path(report: &Report) -> &PathReport {
    assert_eq!((report.state, report.paths.len()), (State::Known, 1), "{report:?}");
    &report.paths[0]
}

#[track_caller]
pub fn server<'r>(report: &'r Report, address: &str) -> &'r ServerReport {
    report.servers.iter().find(|server| server.address == Some(at(address))).unwrap()
}
