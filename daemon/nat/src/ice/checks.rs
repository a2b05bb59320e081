//! The connectivity checks of one component in one generation, over rice-proto. The library sees plain host candidates only,
//! also for addresses at relays: how a packet leaves from a base is not its affair. Which of the valid pairs is nominated is
//! decided here, by the order in which the library hears of answers: it nominates the first it hears of.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rice_proto::agent::{Agent, AgentPoll};
use rice_proto::candidate::{self, CandidateType, TransportType};
use rice_proto::stream;
use stun_proto::agent::Transmit;
use stun_proto::types::message::{Message, MessageClass, TransactionId};

use super::candidate::priority;
use super::round_trips::RoundTrips;
use super::{Candidate, CandidateKind, Clock, Credentials, stun};

/// A pair by way of a relay is not nominated before the checks are this old: a hole in two NATs may need the second try.
const RELAY_PATIENCE: Duration = Duration::from_millis(1500);
/// The same while the peer may name more addresses: what has been nominated stays (RFC 8839 section 4.3.4), and media
/// goes by the relay meanwhile.
const TRICKLE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the round trips by several relays are compared, from the first that works.
const SETTLE: Duration = Duration::from_millis(600);
/// What a further relay on the way counts as: it costs somebody's bandwidth, and round trips of some milliseconds less
/// prove nothing.
const FURTHER_RELAY: Duration = Duration::from_millis(20);
/// By how much another way must be shorter than the one that carries media already: a change costs some of its packets.
const CHANGE: Duration = Duration::from_millis(30);
/// What a connection to a relay counts as: a lost packet holds up all behind it.
const CONNECTION: Duration = Duration::from_millis(100);
/// Pairs (RFC 8445 section 6.1.2.5 asks for a bound and proposes 100).
const PAIRS: usize = 100;
/// Requests that the library gets to see in one generation; each may make it remember a candidate and a check.
const REQUESTS: u32 = 500;
/// Transactions by which repeated requests are known.
const SEEN: usize = 64;
/// The library's number of the only component it gets to see: of two, it tells the selected pair of the last alone.
const COMPONENT: usize = rice_proto::component::RTP;
/// Answers held back.
const HELD: usize = 64;
/// Rounds of the library's loop before it is left alone until the next millisecond.
const ROUNDS: usize = 256;

/// What the checks tell.
#[derive(Debug)]
pub(crate) enum Event {
    Transmit {
        base: SocketAddr,
        remote: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A pair works in both directions.
    Valid {
        base: SocketAddr,
        remote: SocketAddr,
        /// As whom the peer sees us on it.
        seen: SocketAddr,
    },
    /// A pair is nominated.
    Selected {
        base: SocketAddr,
        remote: SocketAddr,
    },
}

/// A local address that packets can leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalBase {
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
    pub(crate) relayed: bool,
    /// At a relay that is reached by a connection.
    pub(crate) connected: bool,
}

#[derive(Debug)]
struct RemoteBase {
    address: SocketAddr,
    priority: u32,
    relayed: bool,
}

/// An answer that the library has not heard of yet.
#[derive(Debug)]
struct Held {
    base: SocketAddr,
    remote: SocketAddr,
    bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Checks {
    agent: Agent,
    stream: usize,
    clock: Clock,
    started: Instant,
    local: Credentials,
    remote: Credentials,
    tie_breaker: u64,
    trips: RoundTrips,
    locals: Vec<LocalBase>,
    remotes: Vec<RemoteBase>,
    pairs: usize,
    requests: u32,
    seen: VecDeque<TransactionId>,
    held: Vec<Held>,
    elected: Option<(SocketAddr, SocketAddr)>,
    /// Until then, a pair that needs a relay is not nominated.
    patient_until: Instant,
    first_valid: Option<Instant>,
    /// The pair that has answered first carries media until one is nominated.
    carrying: Option<(SocketAddr, SocketAddr)>,
    events: VecDeque<Event>,
    wake: Option<Instant>,
}

impl Checks {
    pub(crate) fn new(
        now: Instant,
        clock: Clock,
        (controlling, tie_breaker): (bool, u64),
        local: &Credentials,
        remote: &Credentials,
    ) -> Self {
        let mut agent = Agent::builder()
            .trickle_ice(true)
            .controlling(controlling)
            .set_request_retransmits(
                Duration::from_millis(500),
                Duration::from_millis(1600),
                8,
                Duration::from_secs(2),
            )
            .build();
        let stream = agent.add_stream();
        if let Some(mut stream) = agent.mut_stream(stream) {
            stream
                .set_local_credentials(stream::Credentials::new(local.ufrag.clone(), local.password.clone()));
            stream.set_remote_credentials(stream::Credentials::new(
                remote.ufrag.clone(),
                remote.password.clone(),
            ));
            let _ = stream.add_component();
        }
        Checks {
            agent,
            stream,
            clock,
            started: now,
            local: local.clone(),
            remote: remote.clone(),
            tie_breaker,
            trips: RoundTrips::default(),
            locals: Vec::new(),
            remotes: Vec::new(),
            pairs: 0,
            requests: 0,
            seen: VecDeque::new(),
            held: Vec::new(),
            elected: None,
            patient_until: now + RELAY_PATIENCE,
            first_valid: None,
            carrying: None,
            events: VecDeque::new(),
            wake: Some(now),
        }
    }

    /// Whether the peer may name more addresses (RFC 8838 section 14). Those that came last get their time, too.
    pub(crate) fn expect_more(&mut self, now: Instant, more: bool) {
        let longest = self.started + TRICKLE_PATIENCE;
        self.patient_until = if more { longest } else { longest.min(now + RELAY_PATIENCE) };
    }

    pub(crate) fn is_controlling(&self) -> bool {
        self.agent.controlling()
    }

    pub(crate) fn add_local(&mut self, local: LocalBase) {
        let facing = |remote: &&RemoteBase| remote.address.is_ipv4() == local.address.is_ipv4();
        let pairs = self.remotes.iter().filter(facing).count();
        if self.locals.iter().any(|known| known.address == local.address) || self.pairs + pairs > PAIRS {
            return;
        }
        self.pairs += pairs;
        let candidate = plain(&format!("L{}", self.locals.len()), local.address, local.priority);
        self.locals.push(local);
        if let Some(mut stream) = self.agent.mut_stream(self.stream) {
            stream.add_local_candidate(candidate);
        }
        self.wake = Some(self.started);
    }

    pub(crate) fn add_remote(&mut self, remote: &Candidate) {
        let facing = |local: &&LocalBase| local.address.is_ipv4() == remote.address.is_ipv4();
        let pairs = self.locals.iter().filter(facing).count();
        if self.remotes.iter().any(|known| known.address == remote.address) || self.pairs + pairs > PAIRS {
            return;
        }
        self.pairs += pairs;
        let candidate = plain(&format!("R{}", self.remotes.len()), remote.address, remote.priority);
        let relayed = remote.kind == CandidateKind::Relayed;
        self.remotes.push(RemoteBase { address: remote.address, priority: remote.priority, relayed });
        if let Some(mut stream) = self.agent.mut_stream(self.stream) {
            stream.add_remote_candidate(candidate);
        }
        self.wake = Some(self.started);
    }

    /// A request that is for us and signed. `false`: the caller has to answer it. The library does not get to see the
    /// same request twice: each would be a new check to it.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        base: SocketAddr,
        remote: SocketAddr,
        message: &Message<'_>,
    ) -> bool {
        let id = message.transaction_id();
        if self.requests >= REQUESTS || self.seen.contains(&id) || !self.is_base(base) {
            return false;
        }
        self.requests += 1;
        if self.seen.len() >= SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(id);
        self.feed(now, base, remote, message.as_bytes())
    }

    /// An answer that is signed by the peer.
    pub(crate) fn response(
        &mut self,
        now: Instant,
        base: SocketAddr,
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        if !self.is_base(base) {
            return;
        }
        if self.trips.answered(now, (base, remote), message.transaction_id()) {
            return;
        }
        let seen = stun::mapped_address(message).filter(|seen| seen.is_ipv4() == base.is_ipv4());
        if let Some(seen) = seen {
            self.first_valid.get_or_insert(now);
            self.carrying.get_or_insert((base, remote));
            self.events.push_back(Event::Valid { base, remote, seen });
        }
        let works = seen.is_some();
        if !works || !self.agent.controlling() || self.elected == Some((base, remote)) {
            self.feed(now, base, remote, message.as_bytes());
        } else if self.elected.is_none() {
            let bytes = message.as_bytes().to_vec();
            self.held.retain(|held| held.base != base || held.remote != remote);
            if self.held.len() < HELD {
                self.held.push(Held { base, remote, bytes });
            }
            if self.is_relayed(base, remote) {
                self.trips.watch(now, (base, remote));
            }
            self.elect(now);
            self.probe(now);
        }
    }

    /// Since when it has been known that a pair works.
    pub(crate) fn first_valid(&self) -> Option<Instant> {
        self.first_valid
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if !self.held.is_empty() {
            self.elect(now);
            self.probe(now);
        }
        if self.wake.is_none_or(|wake| wake <= now) {
            self.pump(now);
        }
    }

    pub(crate) fn wake(&self) -> Option<Instant> {
        let waits = |at: Option<Instant>| at.filter(|_| !self.held.is_empty());
        let (patience, probe) = (
            waits(Some(self.patience_ends())),
            waits(self.trips.wake().filter(|_| self.agent.controlling())),
        );
        [self.wake, patience, probe].into_iter().flatten().min()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a pair goes through a relay at either end.
    pub(crate) fn is_relayed(&self, base: SocketAddr, remote: SocketAddr) -> bool {
        self.relays_between(base, remote) > 0
    }

    fn relays_between(&self, base: SocketAddr, remote: SocketAddr) -> usize {
        let local = self.locals.iter().any(|local| local.address == base && local.relayed);
        let remote = self.remotes.iter().any(|known| known.address == remote && known.relayed);
        usize::from(local) + usize::from(remote)
    }

    /// How good a pair is: the best without a relay, then the lowest cost, then the worse of its ends, then the better one
    /// (RFC 8445 section 6.1.2.3).
    fn rank(&self, base: SocketAddr, remote: SocketAddr) -> (Reverse<Duration>, u32, u32) {
        let local = self.locals.iter().find(|local| local.address == base).map_or(0, |local| local.priority);
        let unknown = priority(CandidateKind::PeerReflexive, 0, 1);
        let peer =
            self.remotes.iter().find(|known| known.address == remote).map_or(unknown, |known| known.priority);
        (Reverse(self.cost(base, remote)), local.min(peer), local.max(peer))
    }

    /// What a way by relays costs: its round trip, which is the sum of both ends' ways to them and of what lies between,
    /// and something for what a round trip does not show. Nothing where there is no relay.
    fn cost(&self, base: SocketAddr, remote: SocketAddr) -> Duration {
        let further = match self.relays_between(base, remote) {
            0 => return Duration::ZERO,
            1 => Duration::ZERO,
            _ => FURTHER_RELAY,
        };
        let connected = self.locals.iter().any(|local| local.address == base && local.connected);
        let connection = if connected { CONNECTION } else { Duration::ZERO };
        let change = if self.carrying == Some((base, remote)) { Duration::ZERO } else { CHANGE };
        // One of which nothing is known comes behind all others.
        self.trips.of((base, remote)).map_or(Duration::MAX, |trip| trip + further + connection + change)
    }

    fn patience_ends(&self) -> Instant {
        let settled = self.first_valid.map_or(self.started, |at| at + SETTLE);
        settled.max(self.patient_until)
    }

    /// Measures, as long as nothing is nominated, how long the working ways by relays are.
    fn probe(&mut self, now: Instant) {
        let asks = self.agent.controlling() && self.elected.is_none();
        while asks && let Some((base, remote)) = self.trips.due(now) {
            let rank = priority(CandidateKind::PeerReflexive, 0, 1);
            let request = stun::check_request(&self.local, &self.remote, true, self.tie_breaker, rank);
            if let Some((id, bytes)) = request {
                self.trips.sent(now, (base, remote), id, true);
                self.events.push_back(Event::Transmit { base, remote, bytes });
            }
        }
    }

    /// Lets the library hear of one working pair, when there is one that needs no relay, or when it is time to take what
    /// there is.
    fn elect(&mut self, now: Instant) {
        let patient = now < self.patience_ends();
        let best = self
            .held
            .iter()
            .filter(|held| !patient || !self.is_relayed(held.base, held.remote))
            .max_by_key(|held| self.rank(held.base, held.remote));
        let Some((base, remote)) = best.map(|best| (best.base, best.remote)) else { return };
        self.elected = Some((base, remote));
        for held in std::mem::take(&mut self.held) {
            if (held.base, held.remote) == (base, remote) {
                self.feed(now, base, remote, &held.bytes);
            }
        }
    }

    /// Whether this is an address that packets can leave from.
    pub(crate) fn is_base(&self, address: SocketAddr) -> bool {
        self.locals.iter().any(|local| local.address == address)
    }

    fn feed(&mut self, now: Instant, base: SocketAddr, remote: SocketAddr, bytes: &[u8]) -> bool {
        let at = self.clock.at(now);
        let mut handled = false;
        if let Some(mut stream) = self.agent.mut_stream(self.stream) {
            let transmit = Transmit::new(bytes, TransportType::Udp, remote, base);
            handled = stream.handle_incoming_data(COMPONENT, transmit, at).handled;
            while stream.poll_recv().is_some() {}
        }
        self.pump(now);
        handled
    }

    fn pump(&mut self, now: Instant) {
        let at = self.clock.at(now);
        for _ in 0..ROUNDS {
            let polled = self.agent.poll(at);
            let mut idle = true;
            while let Some(sent) = self.agent.poll_transmit(at) {
                let Transmit { data, from, to, .. } = sent.transmit;
                if let Ok(message) = Message::from_bytes(&data)
                    && message.has_class(MessageClass::Request)
                {
                    self.trips.sent(now, (from, to), message.transaction_id(), false);
                }
                self.events.push_back(Event::Transmit { base: from, remote: to, bytes: data.into_vec() });
                idle = false;
            }
            match polled {
                AgentPoll::WaitUntil(wake) => {
                    self.wake = Some(self.clock.back(wake));
                    if idle && wake > at {
                        return;
                    }
                }
                AgentPoll::Closed => {
                    self.wake = None;
                    return;
                }
                AgentPoll::SelectedPair(selected) => {
                    let pair = selected.selected.candidate_pair();
                    let (base, remote) = (pair.local.base_address, pair.remote.address);
                    self.events.push_back(Event::Selected { base, remote });
                }
                AgentPoll::ComponentStateChange(_)
                | AgentPoll::AllocateSocket(_)
                | AgentPoll::RemoveSocket(_)
                | AgentPoll::GatheredCandidate(_)
                | AgentPoll::GatheringComplete(_) => {}
            }
        }
        self.wake = Some(now + Duration::from_millis(1));
    }
}

/// What the library gets to see. Foundations are all different: of pairs with one foundation it would check one after
/// the other, each for as long as an unanswered check takes.
fn plain(foundation: &str, address: SocketAddr, priority: u32) -> candidate::Candidate {
    candidate::Candidate::builder(COMPONENT, CandidateType::Host, TransportType::Udp, foundation, address)
        .priority(priority)
        .build()
}
