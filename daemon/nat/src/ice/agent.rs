//! The agent itself: what comes in is led to gathering, checks, relays and consent; what they want goes out.

mod checking;
mod doubt;
mod gathering;
mod packets;
mod paths;
mod relays;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::checks::Checks;
use super::gather::Gatherer;
use super::{
    Base, Candidate, Clock, Credentials, Output, Remote, Role, Settings, State, StreamId, default_candidate,
};
use checking::NOMINATION_LIMIT;
use doubt::Watch;
use paths::Chosen;
use relays::Relay;

/// Checks without a nominated pair end after this long.
const CHECKS_LIMIT: Duration = Duration::from_secs(20);

/// See [`super`].
#[derive(Debug)]
pub struct IceAgent {
    clock: Clock,
    now: Instant,
    rng: ChaCha8Rng,
    tie_breaker: u64,
    role: Role,
    components: u16,
    state: State,
    settings: Settings,
    local: Credentials,
    previous: Option<Credentials>,
    remote: Option<Remote>,
    /// The peer may name more candidates.
    expects_more: bool,
    generation: u32,
    checks: Vec<(u16, Checks)>,
    checks_end: Option<Instant>,
    early: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    gatherer: Gatherer,
    gathering_ends: Option<Instant>,
    candidates: Vec<Candidate>,
    bases: Vec<Base>,
    relays: Vec<Relay>,
    /// As which address a server has seen a base.
    seen: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
    /// When NATs have to be reminded of the bases that servers have seen.
    keep: Option<Instant>,
    next_stream: u32,
    chosen: Vec<Chosen>,
    watch: Watch,
    /// Pairs that the peer has nominated. Where a loss kept the library from hearing of it in time, the peer will not
    /// say so again.
    asked: Vec<(SocketAddr, SocketAddr)>,
    /// As whom the peer sees us, by the pair that it was asked on.
    seen_by_peer: Vec<((SocketAddr, SocketAddr), SocketAddr)>,
    outputs: VecDeque<Output>,
    received: usize,
    closed: bool,
    relays_only: bool,
}

impl IceAgent {
    /// Begins to gather. `seed` must be unpredictable: user name fragment and password come from it.
    #[must_use]
    pub fn new(now: Instant, settings: Settings, seed: [u8; 32]) -> Self {
        Self::begin(now, settings, seed, false)
    }

    /// The same, but nothing is used and nothing told except relays, so that the peer does not learn our addresses (RFC
    /// 8828 section 5.2, mode 4). The sockets serve for reaching the relays.
    #[must_use]
    pub fn by_relays_only(now: Instant, settings: Settings, seed: [u8; 32]) -> Self {
        Self::begin(now, settings, seed, true)
    }

    fn begin(now: Instant, settings: Settings, seed: [u8; 32], relays_only: bool) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let local = Credentials::draw(&mut rng);
        let tie_breaker = rng.next_u64();
        let bases = settings.bases.clone();
        let mut agent = IceAgent {
            clock: Clock { epoch: now },
            now,
            rng,
            tie_breaker,
            role: settings.role,
            components: settings.components.clamp(1, 2),
            state: State::New,
            settings,
            local,
            previous: None,
            remote: None,
            expects_more: false,
            generation: 0,
            checks: Vec::new(),
            checks_end: None,
            early: VecDeque::new(),
            gatherer: Gatherer::default(),
            gathering_ends: None,
            candidates: Vec::new(),
            bases: Vec::new(),
            relays: Vec::new(),
            seen: BTreeMap::new(),
            keep: None,
            next_stream: 0,
            chosen: Vec::new(),
            watch: Watch::default(),
            asked: Vec::new(),
            seen_by_peer: Vec::new(),
            outputs: VecDeque::new(),
            received: 0,
            closed: false,
            relays_only,
        };
        agent.gather(&bases);
        agent.drain();
        agent
    }

    /// What our description says: `a=ice-ufrag` and `a=ice-pwd`.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.local
    }

    /// All candidates so far, for a description; those that come later are told by [`Output::Candidate`].
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether [`Output::GatheringComplete`] has been told.
    #[must_use]
    pub fn is_gathered(&self) -> bool {
        self.gathering_ends.is_none()
    }

    /// The one address of a component for peers that know no ICE, and for the `c=` and `m=` lines.
    #[must_use]
    pub fn default_candidate(&self, component: u16) -> Option<&Candidate> {
        default_candidate(&self.candidates, component)
    }

    /// What the agent is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The role, as it is after conflicts have been settled (RFC 8445 section 7.3.1.1).
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether these credentials of the peer's mean that it restarts (RFC 8445 section 9): then [`Self::restart`] comes
    /// before our answer and before [`Self::set_remote`].
    #[must_use]
    pub fn is_peer_restart(&self, credentials: &Credentials) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.credentials != *credentials)
    }

    /// Sets the role for a new offer/answer exchange.
    pub fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    /// The peer agreed to multiplex RTP and RTCP (RFC 5761): the second component is given up. To be called before
    /// [`Self::set_remote`].
    pub fn multiplex(&mut self, now: Instant) {
        self.now = now;
        self.components = 1;
        self.drop_component(2);
        self.drain();
    }

    /// The peer's description: checks begin. Called again with the same credentials, it adds candidates; with others, the
    /// peer has restarted.
    pub fn set_remote(&mut self, now: Instant, remote: Remote) {
        self.now = now;
        if remote.lite {
            self.role = Role::Controlling;
        }
        if self.remote.as_ref().is_some_and(|known| known.credentials == remote.credentials) {
            let mut more = false;
            for candidate in remote.candidates {
                more |= self.add_remote(candidate);
            }
            if more {
                self.look_again();
            }
        } else {
            let candidates = remote.candidates.clone();
            self.expects_more = remote.trickles;
            self.remote = Some(Remote { candidates: Vec::new(), ..remote });
            self.begin_checks();
            // What came early was for this description.
            self.asked.clear();
            self.checks_end = Some(now + CHECKS_LIMIT);
            for candidate in candidates {
                self.add_remote(candidate);
            }
            for (base, from, bytes) in std::mem::take(&mut self.early) {
                self.request(base, from, &bytes);
            }
            self.set_state(State::Checking);
        }
        self.drain();
    }

    /// A candidate that the peer trickles (RFC 8838). More than [`super::REMOTE_CANDIDATES`] are left out, and what comes
    /// after the peer has said that nothing more does (section 14). Where nothing has worked so far, checks begin anew.
    pub fn add_remote_candidate(&mut self, now: Instant, candidate: Candidate) {
        self.now = now;
        if self.expects_more && self.add_remote(candidate) {
            self.look_again();
        }
        self.drain();
    }

    /// The peer has no more candidates (`a=end-of-candidates`): a way by a relay is not kept waiting for a better one.
    pub fn end_of_remote_candidates(&mut self, now: Instant) {
        self.now = now;
        self.expects_more = false;
        for (_, checks) in &mut self.checks {
            checks.expect_more(now, false);
        }
        self.drain();
    }

    /// Begins a new generation (RFC 8445 section 9): other credentials, checks anew when the peer has answered; media goes
    /// on by the old path until then. Reflexive addresses are asked for once more, since a router may have got another
    /// one, and relays that were lost are tried again. With `bases`, the sockets are others: what is no longer among them
    /// is forgotten at once with all that depends on it, and everything is gathered anew.
    pub fn restart(&mut self, now: Instant, bases: Option<Vec<Base>>) {
        self.now = now;
        self.previous = Some(std::mem::replace(&mut self.local, Credentials::draw(&mut self.rng)));
        self.generation += 1;
        self.remote = None;
        self.expects_more = false;
        self.checks.clear();
        self.checks_end = None;
        self.asked.clear();
        self.early.clear();
        match bases {
            Some(bases) => self.replace_bases(bases),
            None => self.gather_again(),
        }
        self.set_state(State::New);
        self.drain();
    }

    /// A mapping of this base that a router has made (UPnP, NAT-PMP, PCP): a reflexive candidate without a STUN server.
    pub fn add_mapped(&mut self, now: Instant, base: SocketAddr, address: SocketAddr) {
        self.now = now;
        if let Some(component) =
            self.bases.iter().find(|known| known.address == base).map(|known| known.component)
        {
            self.add_reflexive(component, base, address);
        }
        self.drain();
    }

    /// Servers that were found after gathering began (by name resolution).
    pub fn add_servers(&mut self, now: Instant, stun: Vec<SocketAddr>, relays: Vec<super::RelayServer>) {
        self.now = now;
        self.add_stun_servers(stun);
        self.add_relays(relays);
        self.drain();
    }

    /// A datagram that has come to a base and is not RTP or RTCP of the selected path: STUN, ChannelData with its header,
    /// and anything from a TURN server.
    pub fn handle_datagram(&mut self, now: Instant, base: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if let Some((component, relayed, peer, data)) = self.receive_by_relay(base, from, bytes) {
            self.peer_packet(component, relayed, peer, &data);
        } else if let Some(component) = self.component_of(base) {
            self.peer_packet(component, base, from, bytes);
        }
        self.drain();
    }

    /// A connection to a TURN server stands.
    pub fn handle_stream_opened(&mut self, now: Instant, stream: StreamId) {
        self.now = now;
        self.stream_opened(stream);
        self.drain();
    }

    /// A whole message ([`crate::turn::frame`]) from a connection to a TURN server.
    pub fn handle_stream_message(&mut self, now: Instant, stream: StreamId, bytes: &[u8]) {
        self.now = now;
        if let Some((component, relayed, peer, data)) = self.receive_by_stream(stream, bytes) {
            self.peer_packet(component, relayed, peer, &data);
        }
        self.drain();
    }

    /// A connection to a TURN server could not be made or is closed; `reason` for people to read.
    pub fn handle_stream_closed(&mut self, now: Instant, stream: StreamId, reason: &str) {
        self.now = now;
        self.stream_closed(stream, reason);
        self.drain();
    }

    /// The time that [`Output::Timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        for (_, checks) in &mut self.checks {
            checks.handle_timeout(now);
        }
        for relay in &mut self.relays {
            relay.handle_timeout(now, self.clock.at(now));
        }
        self.keep_reflexive();
        self.ask_for_consent();
        self.watch_checks();
        self.drain();
    }

    /// Gives back what was allocated. Drain the outputs once more, then drop the agent.
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        self.closed = true;
        self.checks.clear();
        self.chosen.clear();
        self.gatherer = Gatherer::default();
        self.gathering_ends = None;
        self.keep = None;
        self.close_relays(|_| true);
    }

    /// What the agent wants, until [`Output::Timeout`].
    pub fn poll_output(&mut self) -> Output {
        match self.outputs.pop_front() {
            Some(output) => {
                if matches!(output, Output::Received { .. }) {
                    self.received -= 1;
                }
                output
            }
            None => Output::Timeout(self.wake()),
        }
    }

    fn wake(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let checks = self.checks.iter().filter_map(|(_, checks)| checks.wake());
        let relays = self.relays.iter().filter_map(Relay::wake).map(|wake| self.clock.back(wake));
        let relays = relays.chain(self.relays.iter().filter_map(Relay::keep));
        let consents = self.chosen.iter().filter_map(Chosen::wake);
        let valid = self.checks.iter().filter_map(|(_, checks)| checks.first_valid());
        let stuck = valid.filter(|_| !self.follows_nominations()).map(|at| at + NOMINATION_LIMIT);
        let own =
            [self.gatherer.wake(), self.gathering_ends, self.keep, self.checks_end].into_iter().flatten();
        let earliest = checks.chain(relays).chain(consents).chain(stuck).chain(own).min()?;
        // A millisecond at least: nothing that a library asks for may keep the caller busy for ever.
        Some(earliest.max(self.now + Duration::from_millis(1)))
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.outputs.push_back(Output::State(state));
        }
    }
}
