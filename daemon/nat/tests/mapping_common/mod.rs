//! A router and a mapper that talk in virtual time.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use voipd_nat::mapping::{
    Action, Answer, Gateway, Granted, Lease, Mapper, MappingId, MappingView, Memory, Output, Protocol,
    Purpose, Refusal, RequestId, Transport, Want,
};

pub const GATEWAY: Gateway =
    Gateway { router: Ipv4Addr::new(192, 168, 1, 1), local: Ipv4Addr::new(192, 168, 1, 10) };
pub const OTHER_GATEWAY: Gateway =
    Gateway { router: Ipv4Addr::new(10, 0, 0, 1), local: Ipv4Addr::new(10, 0, 0, 7) };
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn rtp(port: u16) -> Want {
    Want {
        transport: Transport::Udp,
        internal_port: port,
        external_port: None,
        purpose: Purpose::Rtp,
        keep_for: None,
    }
}

pub fn sip() -> Want {
    Want { purpose: Purpose::Sip, ..rtp(5060) }
}

/// A rule of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub client: Ipv4Addr,
    pub port: u16,
    pub until: Option<Instant>,
    pub by: Protocol,
}

/// A home router with a table of rules. What is wrong with it is set from outside.
pub struct Router {
    pub speaks: BTreeSet<Protocol>,
    pub external: Ipv4Addr,
    /// By transport and external port.
    pub rules: BTreeMap<(Transport, u16), Rule>,
    pub started: Instant,
    pub delay: BTreeMap<Protocol, Duration>,
    /// Refuses leases that end, over UPnP.
    pub permanent_only: bool,
    pub same_port_only: bool,
    /// Gives this external port instead of the one that was asked for, over PCP and NAT-PMP.
    pub gives_port: Option<u16>,
    /// Gives each protocol ports of its own: no two protocols share a rule.
    pub own_ports: bool,
    pub grants: Option<Duration>,
    pub refuses: Option<Refusal>,
    /// Its table of UPnP says of every lease that it does not end.
    pub shows_no_lease: bool,
    /// Removing by UPnP is refused.
    pub keeps_all: bool,
    /// How long its device of UPnP takes to be found.
    pub search: Duration,
    found_at: Option<Instant>,
}

impl Router {
    pub fn new(now: Instant, speaks: &[Protocol]) -> Self {
        Self {
            speaks: speaks.iter().copied().collect(),
            external: PUBLIC,
            rules: BTreeMap::new(),
            started: now - secs(100_000),
            delay: BTreeMap::new(),
            permanent_only: false,
            same_port_only: false,
            gives_port: None,
            own_ports: false,
            grants: None,
            refuses: None,
            shows_no_lease: false,
            keeps_all: false,
            search: Duration::ZERO,
            found_at: None,
        }
    }

    pub fn restart(&mut self, now: Instant) {
        self.rules.clear();
        self.started = now;
    }

    /// When an answer comes to what is asked now.
    fn answers_at(&mut self, now: Instant, protocol: Protocol) -> Instant {
        let delay = self.delay.get(&protocol).copied().unwrap_or(Duration::from_millis(5));
        let found = match protocol {
            Protocol::Upnp => *self.found_at.get_or_insert(now + self.search),
            Protocol::NatPmp | Protocol::Pcp => now,
        };
        now.max(found) + delay
    }

    /// `None`: no answer at all.
    fn answer(&mut self, now: Instant, action: &Action) -> Option<Answer> {
        self.rules.retain(|_, rule| rule.until.is_none_or(|until| until > now));
        let lease = *action.lease();
        if lease.gateway != GATEWAY || !self.speaks.contains(&lease.protocol) {
            return None;
        }
        match action {
            Action::Unmap { .. } => {
                if self.keeps_all {
                    return Some(Answer::Refused(Refusal::NotAuthorized));
                }
                self.rules.retain(|(transport, port), rule| {
                    let named = match lease.protocol {
                        Protocol::Upnp => *port == lease.external_port,
                        _ => rule.port == lease.internal_port && rule.by == lease.protocol,
                    };
                    *transport != lease.transport || rule.client != lease.gateway.local || !named
                });
                Some(Answer::Unmapped)
            }
            Action::Map { lifetime, .. } => Some(self.map(now, lease, *lifetime, false)),
            Action::Check { lifetime, .. } => Some(self.map(now, lease, *lifetime, true)),
        }
    }

    fn map(&mut self, now: Instant, lease: Lease, lifetime: Option<Duration>, check: bool) -> Answer {
        let upnp = lease.protocol == Protocol::Upnp;
        if let Some(refusal) = &self.refuses {
            return Answer::Refused(refusal.clone());
        }
        if upnp && self.permanent_only && lifetime.is_some() {
            return Answer::Refused(Refusal::OnlyPermanent);
        }
        if upnp && self.same_port_only && lease.external_port != lease.internal_port {
            return Answer::Refused(Refusal::SamePort);
        }
        let mut port =
            if upnp { lease.external_port } else { self.gives_port.unwrap_or(lease.external_port) };
        if self.own_ports {
            port = lease.internal_port + 1000 * (lease.protocol as u16 + 1);
        }
        let ours = |rule: &Rule| (rule.client, rule.port) == (lease.gateway.local, lease.internal_port);
        let mut there = false;
        loop {
            match self.rules.get(&(lease.transport, port)) {
                Some(rule) if ours(rule) => there = true,
                Some(_) if upnp => return Answer::Refused(Refusal::PortInUse),
                Some(_) => {
                    port += 1;
                    continue;
                }
                None => {}
            }
            break;
        }
        if let Some(rule) = self.rules.get(&(lease.transport, port)).filter(|_| upnp && check && there) {
            let lifetime = rule.until.map(|until| until - now).filter(|_| !self.shows_no_lease);
            let external = SocketAddrV4::new(self.external, port);
            return Answer::Mapped(Granted { external, lifetime, memory: Memory::Kept });
        }
        let granted = lifetime.map(|asked| self.grants.unwrap_or(asked));
        let rule = Rule {
            client: lease.gateway.local,
            port: lease.internal_port,
            until: granted.map(|time| now + time),
            by: lease.protocol,
        };
        self.rules.insert((lease.transport, port), rule);
        let memory = match (upnp, check) {
            (false, _) => Memory::Epoch(u32::try_from((now - self.started).as_secs()).expect("a short life")),
            (true, true) => Memory::Lost,
            (true, false) => Memory::Unknown,
        };
        Answer::Mapped(Granted {
            external: SocketAddrV4::new(self.external, port),
            lifetime: granted,
            memory,
        })
    }
}

/// What the router says.
enum Said {
    Answer(Answer),
    Seen(Option<Ipv4Addr>),
}

/// Both, and the time.
pub struct World {
    pub now: Instant,
    pub mapper: Mapper,
    pub router: Router,
    under_way: VecDeque<(Instant, RequestId, Said)>,
    /// Protocols in which it was only looked at, and when.
    pub looked: Vec<(Instant, Protocol)>,
    pub asked: Vec<(Instant, Action)>,
    pub remembered: Vec<Lease>,
    pub changed: Vec<MappingId>,
    wake: Option<Instant>,
}

impl World {
    /// With a gateway, and a router that speaks these.
    pub fn new(speaks: &[Protocol]) -> Self {
        let mut world = Self::without_gateway(speaks);
        world.mapper.set_gateway(world.now, Some(GATEWAY));
        world.drain();
        world
    }

    pub fn without_gateway(speaks: &[Protocol]) -> Self {
        let now = Instant::now() + secs(1_000_000);
        Self {
            now,
            mapper: Mapper::new([7; 32]),
            router: Router::new(now, speaks),
            under_way: VecDeque::new(),
            looked: Vec::new(),
            asked: Vec::new(),
            remembered: Vec::new(),
            changed: Vec::new(),
            wake: None,
        }
    }

    pub fn add(&mut self, want: Want) -> MappingId {
        let id = self.mapper.add(self.now, want).expect("there is room");
        self.drain();
        id
    }

    pub fn remove(&mut self, id: MappingId) {
        assert!(self.mapper.remove(self.now, id), "there is such a mapping");
        self.drain();
    }

    pub fn set_gateway(&mut self, gateway: Option<Gateway>) {
        self.mapper.set_gateway(self.now, gateway);
        self.drain();
    }

    pub fn look(&mut self) {
        self.mapper.look(self.now);
        self.drain();
    }

    pub fn shut_down(&mut self) {
        self.mapper.shut_down(self.now);
        self.drain();
    }

    /// Lets that much time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let answer = self.under_way.iter().map(|(at, ..)| *at).min();
            let Some(next) = answer.into_iter().chain(self.wake).min().filter(|at| *at <= end) else { break };
            assert!(next >= self.now || self.wake == Some(next), "time runs on");
            self.now = self.now.max(next);
            if let Some(index) = self.under_way.iter().position(|(at, ..)| *at <= self.now) {
                let (_, id, said) = self.under_way.remove(index).expect("it is there");
                match said {
                    Said::Answer(answer) => self.mapper.handle_answer(self.now, id, answer),
                    Said::Seen(external) => self.mapper.handle_seen(self.now, id, Ok(external)),
                }
            } else {
                let before = self.wake;
                self.mapper.handle_timeout(self.now);
                self.drain();
                assert_ne!(self.wake, before, "a time-out that changes nothing would come for ever");
                continue;
            }
            self.drain();
        }
        self.now = end;
    }

    pub fn drain(&mut self) {
        loop {
            match self.mapper.poll_output() {
                Output::Request { id, action } => {
                    self.asked.push((self.now, action));
                    let at = self.router.answers_at(self.now, action.lease().protocol);
                    if let Some(answer) = self.router.answer(self.now, &action) {
                        self.under_way.push_back((at, id, Said::Answer(answer)));
                    }
                }
                Output::Look { id, protocol, gateway } => {
                    self.looked.push((self.now, protocol));
                    let at = self.router.answers_at(self.now, protocol);
                    if gateway == GATEWAY && self.router.speaks.contains(&protocol) {
                        // PCP has no question for the address alone.
                        let external = (protocol != Protocol::Pcp).then_some(self.router.external);
                        self.under_way.push_back((at, id, Said::Seen(external)));
                    }
                }
                Output::Changed(id) => self.changed.push(id),
                Output::Removed(_) => {}
                Output::Remember(lease) => self.remembered.push(lease),
                Output::Forget(lease) => {
                    let kept = |known: &Lease| {
                        let port = |lease: &Lease| (lease.gateway, lease.transport, lease.external_port);
                        port(known) != port(&lease)
                    };
                    self.remembered.retain(kept);
                }
                Output::Timeout(at) => {
                    self.wake = at;
                    return;
                }
            }
        }
    }

    pub fn view(&self, id: MappingId) -> MappingView {
        self.mapper.view(id).expect("the mapping is wanted")
    }

    pub fn external(&self, id: MappingId) -> Option<SocketAddrV4> {
        self.view(id).external
    }

    /// How often something was asked that `which` picks.
    pub fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.asked.iter().filter(|(_, action)| which(action)).count()
    }

    /// External ports with their protocol.
    pub fn table(&self) -> Vec<(u16, Protocol)> {
        let live =
            self.router.rules.iter().filter(|(_, rule)| rule.until.is_none_or(|until| until > self.now));
        live.map(|((_, port), rule)| (*port, rule.by)).collect()
    }
}
