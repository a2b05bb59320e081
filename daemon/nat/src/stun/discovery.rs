//! Discovery: when servers are asked, and what is known by now. It owns no socket and resolves no name.
//!
//! [`Discovery::poll_output`] asks for a round's servers and sockets ([`Output::Gather`]), which come back by
//! [`Discovery::handle_gathered`]; datagrams go both ways until the round is over. The next one follows by itself: after
//! ten minutes, after growing waits where nobody answered, and at once when the network has changed.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::judge::{self, Observation};
use super::report::{PathReport, Report, ServerReport, ServerState, Source, State};
use super::round::{Asked, Path, Round, Server, SocketId, Transmit};
use super::{Filtering, Hairpin};

/// Life of what was found out.
const REFRESH: Duration = Duration::from_secs(600);
/// First wait after a round in which nobody answered; each further one is twice as long, up to [`REFRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// How long names and sockets are waited for: longer than the name servers' own time.
const GATHERING: Duration = Duration::from_secs(15);
/// Most registrations that tell addresses.
const MOST_REGISTRATIONS: usize = 64;

/// What the discovery asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The servers of today, and two sockets for each local address that leads to some: for
    /// [`Discovery::handle_gathered`] with this number. The sockets of the round before are not used any more.
    Gather(u32),
    /// A datagram to be sent by a socket of the round.
    Transmit(Transmit),
    /// The round's sockets are not used any more.
    Close,
    /// [`Discovery::report`] is not as it was.
    Changed,
    /// Nothing more for now; [`Discovery::handle_timeout`] wants to be called then.
    Timeout(Option<Instant>),
}

/// What there is for a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Local addresses, the one of the default route first; at most [`MOST_PATHS`](super::MOST_PATHS) are used.
    pub paths: Vec<Path>,
    /// Whom to ask; at most [`MOST_SERVERS`](super::MOST_SERVERS) are.
    pub servers: Vec<Server>,
}

/// What a registrar has told by answering a request (RFC 3581).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflexive {
    /// The socket that sent.
    pub local: SocketAddr,
    /// As whom it was seen.
    pub public: SocketAddr,
    /// By whom.
    pub server: SocketAddr,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is under way until then.
    Waiting(Instant),
    Gathering(Instant),
    Asking(Round),
}

/// Finds out how this machine looks from outside, again and again.
#[derive(Debug)]
pub struct Discovery {
    rng: ChaCha12Rng,
    phase: Phase,
    number: u32,
    /// The last round on this network that is over.
    last: Option<Round>,
    registrations: BTreeMap<String, Reflexive>,
    /// Rounds in a row in which nobody answered.
    failures: u32,
    report: Report,
    outputs: VecDeque<Output>,
}

impl Discovery {
    /// The first round begins with the first [`Discovery::handle_timeout`].
    pub fn new(now: Instant, seed: [u8; 32]) -> Self {
        Self {
            rng: ChaCha12Rng::from_seed(seed),
            phase: Phase::Waiting(now),
            number: 0,
            last: None,
            registrations: BTreeMap::new(),
            failures: 0,
            report: Report {
                state: State::Unknown,
                reason: "no server was asked yet".to_owned(),
                ..Report::default()
            },
            outputs: VecDeque::new(),
        }
    }

    /// What is known by now.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// This machine has other addresses, or other ways out: nothing that was known holds any more.
    pub fn network_changed(&mut self, now: Instant) {
        self.registrations.clear();
        self.last = None;
        self.failures = 0;
        self.gather(now);
        self.judge();
    }

    /// There are other servers to ask than before, or somebody wants to know how it is now. What is known stays until
    /// there is something newer.
    pub fn ask_again(&mut self, now: Instant) {
        self.failures = 0;
        self.gather(now);
        self.judge();
    }

    /// Whether the answer to [`Output::Gather`] with this number is waited for: not to an earlier one than the last, and not
    /// for ever.
    pub fn awaits(&self, number: u32) -> bool {
        number == self.number && matches!(self.phase, Phase::Gathering(_))
    }

    /// The servers and sockets of a round. What is not waited for is ignored.
    pub fn handle_gathered(&mut self, now: Instant, number: u32, gathered: Gathered) {
        if !self.awaits(number) {
            return;
        }
        let mut out = Vec::new();
        let Gathered { paths, servers } = gathered;
        let round = Round::begin(now, &mut self.rng, paths, servers, &mut out);
        self.phase = Phase::Asking(round);
        self.after(now, out);
    }

    /// A datagram came in by one of the round's sockets.
    pub fn handle_datagram(&mut self, now: Instant, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        let mut out = Vec::new();
        if let Phase::Asking(round) = &mut self.phase {
            round.handle_datagram(now, &mut self.rng, socket, from, bytes, &mut out);
            self.after(now, out);
        }
    }

    /// What was sent to `to` cannot be delivered, as ICMP or the own system says.
    pub fn handle_unreachable(&mut self, now: Instant, socket: SocketId, to: SocketAddr) {
        let mut out = Vec::new();
        if let Phase::Asking(round) = &mut self.phase {
            round.handle_unreachable(now, &mut self.rng, socket, to, &mut out);
            self.after(now, out);
        }
    }

    /// A registrar has told from where a request of the account with this name came. Only where the transport is UDP:
    /// ports of connections say nothing about others.
    pub fn handle_reflexive(&mut self, account: &str, seen: Reflexive) {
        let full = self.registrations.len() >= MOST_REGISTRATIONS;
        if (full && !self.registrations.contains_key(account))
            || judge::implausible(seen.local, seen.public, seen.server).is_some()
        {
            return;
        }
        if self.registrations.insert(account.to_owned(), seen) != Some(seen) {
            self.judge();
        }
    }

    /// The account is not registered any more.
    pub fn forget_reflexive(&mut self, account: &str) {
        if self.registrations.remove(account).is_some() {
            self.judge();
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Waiting(at) if *at <= now => {
                self.gather(now);
                self.judge();
            }
            Phase::Gathering(until) if *until <= now => {
                // Its sockets and servers, if they come at all, are too late.
                self.number = self.number.wrapping_add(1);
                self.failures = self.failures.saturating_add(1);
                self.phase = Phase::Waiting(self.next_round(now, true));
                self.judge();
            }
            Phase::Asking(round) => {
                let mut out = Vec::new();
                round.handle_timeout(now, &mut self.rng, &mut out);
                self.after(now, out);
            }
            Phase::Waiting(_) | Phase::Gathering(_) => {}
        }
    }

    /// What is to be done now. To be asked until it answers [`Output::Timeout`].
    pub fn poll_output(&mut self) -> Output {
        let wake = || match &self.phase {
            Phase::Waiting(at) | Phase::Gathering(at) => Some(*at),
            Phase::Asking(round) => round.next(),
        };
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(wake()))
    }

    fn gather(&mut self, now: Instant) {
        // What was still to be sent belongs to a round that is no more.
        self.outputs.retain(|output| *output == Output::Changed);
        self.number = self.number.wrapping_add(1);
        self.phase = Phase::Gathering(now + GATHERING);
        self.outputs.push_back(Output::Gather(self.number));
    }

    fn after(&mut self, now: Instant, out: Vec<Transmit>) {
        self.outputs.extend(out.into_iter().map(Output::Transmit));
        if let Phase::Asking(round) = &self.phase
            && round.is_over()
        {
            let failed = !round.servers.is_empty()
                && round.servers.iter().all(|asked| asked.state == ServerState::Failed);
            self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
            let at = self.next_round(now, failed);
            if let Phase::Asking(round) = std::mem::replace(&mut self.phase, Phase::Waiting(at)) {
                self.last = Some(round);
            }
            self.outputs.push_back(Output::Close);
        }
        self.judge();
    }

    /// When the next round begins: up to a fifth earlier or later than all others who wait.
    fn next_round(&mut self, now: Instant, failed: bool) -> Instant {
        let doublings = self.failures.saturating_sub(1).min(10);
        let wait = match failed {
            true => FIRST_RETRY.saturating_mul(1 << doublings).min(REFRESH),
            false => REFRESH,
        };
        let fifth = wait / 5;
        let random = u64::from(self.rng.next_u32());
        let spread = u64::try_from((fifth * 2).as_micros()).unwrap_or(0);
        now + (wait - fifth) + Duration::from_micros((spread * random) >> 32)
    }

    /// Makes the report anew, and says so where it is not as it was.
    fn judge(&mut self) {
        let asking = match &self.phase {
            Phase::Asking(round) => Some(round),
            _ => None,
        };
        // A round under way shows what it knows only where there is nothing better.
        let round = self.last.as_ref().or(asking);
        let under_way = !matches!(self.phase, Phase::Waiting(_));
        let paths = self.paths(round);
        let servers = self.servers(round);
        let known = paths.iter().any(|path| !path.public.is_empty());
        let (state, reason) = match () {
            () if known => (State::Known, String::new()),
            () if under_way && self.last.is_none() => (State::Discovering, String::new()),
            () if servers.is_empty() => (State::Unknown, NO_SERVER.to_owned()),
            () => (State::Failed, failure(&servers)),
        };
        let report = Report { state, reason, paths, servers };
        if report != self.report {
            self.report = report;
            if !self.outputs.contains(&Output::Changed) {
                self.outputs.push_back(Output::Changed);
            }
        }
    }

    fn paths(&self, round: Option<&Round>) -> Vec<PathReport> {
        let walked = || round.iter().flat_map(|round| &round.paths);
        let mut locals: Vec<IpAddr> = Vec::new();
        let registered = self.registrations.values().map(|seen| seen.local.ip());
        for local in walked().map(|walked| walked.path.mapping.ip()).chain(registered) {
            if !locals.contains(&local) {
                locals.push(local);
            }
        }
        let report = |local: IpAddr| {
            let index = walked().position(|walked| walked.path.mapping.ip() == local);
            let walked = index.and_then(|index| walked().nth(index));
            let asked = walked.iter().flat_map(|walked| walked.observations.iter().copied());
            let told = self.registrations.values().filter(|seen| seen.local.ip() == local);
            let told = told.map(|Reflexive { local, public, server }| Observation {
                local: *local,
                server: *server,
                public: *public,
            });
            let all: Vec<Observation> = asked.chain(told).collect();
            let outside = judge::from_outside(&all);
            let believed: Vec<Observation> =
                outside.iter().filter(|one| judge::outvoted(one, &outside).is_none()).copied().collect();
            let mapping = judge::mapping(&believed);
            let filtering = round.zip(index).map(|(round, index)| round.filtering(index, mapping));
            PathReport {
                local,
                public: judge::addresses(&believed),
                mapping,
                filtering: filtering.unwrap_or(Filtering::Unknown),
                ports: judge::ports(&believed),
                hairpin: walked.map_or(Hairpin::Unknown, |walked| walked.hairpin),
            }
        };
        let mut paths: Vec<PathReport> = locals.into_iter().map(report).collect();
        // Stable: those that lead outside come first, in the order in which they were given.
        paths.sort_by_key(|path| path.public.is_empty());
        paths
    }

    fn servers(&self, round: Option<&Round>) -> Vec<ServerReport> {
        let asked = round.iter().flat_map(|round| round.servers.iter().map(|asked| server(round, asked)));
        let told = self.registrations.iter().map(|(account, seen)| ServerReport {
            name: account.clone(),
            source: Source::Registration(account.clone()),
            address: Some(seen.server),
            state: ServerState::Works,
            reason: String::new(),
            rtt: None,
            public: Some(seen.public),
        });
        asked.chain(told).collect()
    }
}

const NO_SERVER: &str = "no STUN server is known: the accounts' domains name none; name one as stun under [nat] in the \
                         configuration";

fn server(round: &Round, asked: &Asked) -> ServerReport {
    let address = asked.server.place.as_ref().ok().map(|(_, address)| *address);
    let mut report = ServerReport {
        name: asked.server.name.clone(),
        source: asked.server.source.clone(),
        address,
        state: asked.state,
        reason: asked.reason.clone(),
        rtt: asked.rtt,
        public: asked.public,
    };
    let walked = asked.path().and_then(|path| round.paths.get(path));
    if let (Some(walked), Some(server), Some(public)) = (walked, address, asked.public) {
        let outside = judge::from_outside(&walked.observations);
        let own = outside.iter().find(|one| one.server == server && one.public == public);
        if let Some(majority) = own.and_then(|own| judge::outvoted(own, &outside)) {
            report.state = ServerState::Failed;
            report.reason = format!("sees {public}, where the others see {majority}: it is not believed");
        }
    }
    report
}

/// Why nothing is known, though servers were asked.
fn failure(servers: &[ServerReport]) -> String {
    match servers {
        [one] => format!("{} {}", one.name, one.reason),
        [first, ..] if servers.iter().all(|other| other.reason == first.reason) => {
            format!("of {} STUN servers, each {}", servers.len(), first.reason)
        }
        _ => format!("of {} STUN servers, none has told the public address", servers.len()),
    }
}
