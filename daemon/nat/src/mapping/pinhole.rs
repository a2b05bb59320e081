//! Pinholes: ports of an IPv6 address of ours that the router's firewall lets in, asked for by PCP (RFC 6887). It writes
//! and reads the messages itself, because the sender's address is what the router goes by; it knows no socket.
//!
//! Call one method of [`Pinholes`], then drain [`Pinholes::poll_output`] until it answers [`PinholeOutput::Timeout`].

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::epoch::Epoch;
use super::message::{Grant, Request, Response};
use super::{MappingId, Protocol, Purpose, Transport};

/// Most pinholes at once.
const MAX_PINHOLES: usize = 2100;
/// A request is repeated after this time, and each time after twice as long: a router answers in a few milliseconds.
const REPEAT: Duration = Duration::from_millis(250);
/// How often it is sent in all.
const TRIES: u32 = 4;
/// After a failure it is tried again so late at first; doubles, ...
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// ... up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(1800);
/// A router is not asked more often for the same pinhole (RFC 6887 section 11.2.1).
const SHORTEST_RENEWAL: Duration = Duration::from_secs(4);

/// Why a pinhole is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinholeProblem {
    /// Nobody to ask.
    #[error("there is no router for IPv6")]
    NoRouter,
    /// No answer.
    #[error("the router does not answer PCP over IPv6: allow it in its settings")]
    Silent,
    /// It says no.
    #[error("the router refuses to let IPv6 in (PCP result {0})")]
    Refused(u8),
    /// What it would let in does not come to us.
    #[error("the router translates IPv6, and what comes to our own address is not let in")]
    Elsewhere,
}

/// A pinhole as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinholeView {
    /// Its number.
    pub id: MappingId,
    /// What is let in.
    pub transport: Transport,
    /// Our port.
    pub port: u16,
    /// What it is for.
    pub purpose: Purpose,
    /// Our address; `None` without a router.
    pub address: Option<Ipv6Addr>,
    /// When the router closes it unless it is prolonged; `None` while it is not open.
    pub open_until: Option<Instant>,
    /// Why it is not open.
    pub problem: Option<PinholeProblem>,
}

/// What is asked for and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinholeOutput {
    /// Send this to the router's port 5351, from the address of [`Pinholes::set_address`].
    Send(Vec<u8>),
    /// One has opened, closed, or there is news about why it is not open.
    Changed,
    /// Nothing more before this time, or before the next input.
    Timeout(Option<Instant>),
}

/// All pinholes of one machine. Made, renewed and removed by PCP (RFC 6887).
#[derive(Debug)]
pub struct Pinholes {
    rng: ChaCha8Rng,
    address: Option<Ipv6Addr>,
    pinholes: BTreeMap<MappingId, Pinhole>,
    /// Those that are to be closed; they are not wanted any more.
    closing: Vec<(Key, Asking)>,
    epoch: Option<Epoch>,
    outputs: VecDeque<PinholeOutput>,
}

/// What names a pinhole at the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    nonce: [u8; 12],
    transport: Transport,
    port: u16,
}

#[derive(Debug)]
struct Pinhole {
    key: Key,
    purpose: Purpose,
    open_until: Option<Instant>,
    problem: Option<PinholeProblem>,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Until there is a router.
    Idle,
    /// The next thing is due then: renewing what is open, or another attempt.
    Until(Instant),
    Asking(Asking),
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Asking {
    sent: u32,
    again_at: Instant,
}

impl Asking {
    fn new(now: Instant) -> Self {
        Self { sent: 1, again_at: now + REPEAT }
    }

    /// Sent once more; `None`: that was often enough.
    fn repeat(self, now: Instant) -> Option<Self> {
        (self.sent < TRIES)
            .then(|| Self { sent: self.sent + 1, again_at: now + REPEAT * 2u32.pow(self.sent) })
    }
}

impl Pinholes {
    /// No router is known yet. `seed`: for nonces.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            rng: ChaCha8Rng::from_seed(seed),
            address: None,
            pinholes: BTreeMap::new(),
            closing: Vec::new(),
            epoch: None,
            outputs: VecDeque::new(),
        }
    }

    /// Our address beyond the local network, where a router stands before it. Another one makes all pinholes anew.
    pub fn set_address(&mut self, now: Instant, address: Option<Ipv6Addr>) {
        if address == self.address {
            return;
        }
        self.address = address;
        // From another address nothing can be closed; what is open ends with its lease.
        self.closing.clear();
        self.epoch = None;
        for pinhole in self.pinholes.values_mut() {
            pinhole.open_until = None;
            pinhole.failures = 0;
            pinhole.problem = address.is_none().then_some(PinholeProblem::NoRouter);
            pinhole.state = if address.is_some() { State::Until(now) } else { State::Idle };
        }
        self.outputs.push_back(PinholeOutput::Changed);
        self.handle_timeout(now);
    }

    /// What is open is asked for again: the router may have closed it while this machine slept and its clock stood still.
    pub fn renew_all(&mut self, now: Instant) {
        for pinhole in self.pinholes.values_mut() {
            if pinhole.open_until.is_some() && matches!(pinhole.state, State::Until(_)) {
                pinhole.state = State::Until(now);
            }
        }
        self.handle_timeout(now);
    }

    /// Wants one, under a number that nothing else has; `false` where there are too many.
    pub fn open(
        &mut self,
        now: Instant,
        id: MappingId,
        transport: Transport,
        port: u16,
        purpose: Purpose,
    ) -> bool {
        if self.pinholes.len() >= MAX_PINHOLES {
            return false;
        }
        let mut nonce = [0; 12];
        self.rng.fill_bytes(&mut nonce);
        let there = self.address.is_some();
        let pinhole = Pinhole {
            key: Key { nonce, transport, port },
            purpose,
            open_until: None,
            problem: (!there).then_some(PinholeProblem::NoRouter),
            failures: 0,
            state: if there { State::Until(now) } else { State::Idle },
        };
        self.pinholes.insert(id, pinhole);
        self.outputs.push_back(PinholeOutput::Changed);
        self.handle_timeout(now);
        true
    }

    /// Does not want it any more.
    pub fn close(&mut self, now: Instant, id: MappingId) {
        let Some(pinhole) = self.pinholes.remove(&id) else { return };
        self.outputs.push_back(PinholeOutput::Changed);
        // Who is asked just now may say yes.
        let asked = matches!(pinhole.state, State::Asking(_));
        if self.address.is_some()
            && (asked || pinhole.open_until.is_some())
            && self.closing.len() < MAX_PINHOLES
        {
            self.send(pinhole.key, Duration::ZERO);
            self.closing.push((pinhole.key, Asking::new(now)));
        }
    }

    /// Closes all.
    pub fn shut_down(&mut self, now: Instant) {
        let all: Vec<MappingId> = self.pinholes.keys().copied().collect();
        for id in all {
            self.close(now, id);
        }
    }

    /// Nothing is left to do before a stop.
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty() && self.pinholes.is_empty() && self.closing.is_empty()
    }

    /// Whether none is wanted or being closed.
    pub fn is_empty(&self) -> bool {
        self.pinholes.is_empty() && self.closing.is_empty()
    }

    /// What the router has sent. What answers nothing of ours changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) {
        let Some(response) = Response::read(bytes) else { return };
        let names = |key: &Key| {
            (key.nonce, key.transport, key.port)
                == (response.nonce, response.transport, response.internal_port)
        };
        if let Some(at) = self.closing.iter().position(|(key, _)| names(key)) {
            self.closing.remove(at);
            return;
        }
        let Some(pinhole) = self.pinholes.values_mut().find(|pinhole| names(&pinhole.key)) else { return };
        if !matches!(pinhole.state, State::Asking(_)) {
            return;
        }
        match response.outcome {
            Ok(Grant { address, port, lifetime }) => {
                if Some(address) != self.address || port != pinhole.key.port || lifetime.is_zero() {
                    pinhole.fail(now, PinholeProblem::Elsewhere);
                } else {
                    (pinhole.open_until, pinhole.problem, pinhole.failures) = (Some(now + lifetime), None, 0);
                    // A router that grants a longer life still hears of us as often.
                    let half = lifetime.min(pinhole.purpose.lease()) / 2;
                    pinhole.state = State::Until(now + half.max(SHORTEST_RENEWAL));
                }
            }
            Err(result) => pinhole.fail(now, PinholeProblem::Refused(result)),
        }
        self.outputs.push_back(PinholeOutput::Changed);
        let next = Epoch::new(response.epoch, now);
        let before = self.epoch.replace(next);
        if before.is_some_and(|before| before.restarted(Protocol::Pcp, next)) {
            // It has forgotten all.
            for pinhole in self.pinholes.values_mut().filter(|pinhole| pinhole.open_until.is_some()) {
                if !names(&pinhole.key) {
                    pinhole.state = State::Until(now);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// The time that [`PinholeOutput::Timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut sent: Vec<(Key, Duration)> = Vec::new();
        for pinhole in self.pinholes.values_mut() {
            if pinhole.open_until.is_some_and(|until| until <= now) {
                pinhole.open_until = None;
                self.outputs.push_back(PinholeOutput::Changed);
            }
            match pinhole.state {
                State::Until(at) if at <= now => {
                    pinhole.state = State::Asking(Asking::new(now));
                    sent.push((pinhole.key, pinhole.purpose.lease()));
                }
                State::Asking(asking) if asking.again_at <= now => match asking.repeat(now) {
                    Some(asking) => {
                        pinhole.state = State::Asking(asking);
                        sent.push((pinhole.key, pinhole.purpose.lease()));
                    }
                    None => {
                        pinhole.fail(now, PinholeProblem::Silent);
                        self.outputs.push_back(PinholeOutput::Changed);
                    }
                },
                State::Idle | State::Until(_) | State::Asking(_) => {}
            }
        }
        self.closing.retain_mut(|(key, asking)| {
            if asking.again_at > now {
                return true;
            }
            let Some(again) = asking.repeat(now) else { return false };
            *asking = again;
            sent.push((*key, Duration::ZERO));
            true
        });
        for (key, lifetime) in sent {
            self.send(key, lifetime);
        }
    }

    /// The next thing to do; [`PinholeOutput::Timeout`] when there is nothing.
    pub fn poll_output(&mut self) -> PinholeOutput {
        self.outputs.pop_front().unwrap_or_else(|| {
            let due = self.pinholes.values().flat_map(|pinhole| {
                let next = match pinhole.state {
                    State::Idle => None,
                    State::Until(at) => Some(at),
                    State::Asking(asking) => Some(asking.again_at),
                };
                [next, pinhole.open_until]
            });
            let closing = self.closing.iter().map(|(_, asking)| Some(asking.again_at));
            PinholeOutput::Timeout(due.chain(closing).flatten().min())
        })
    }

    /// All that are wanted, by number.
    pub fn views(&self) -> impl Iterator<Item = PinholeView> {
        self.pinholes.iter().map(|(id, pinhole)| PinholeView {
            id: *id,
            transport: pinhole.key.transport,
            port: pinhole.key.port,
            purpose: pinhole.purpose,
            address: self.address,
            open_until: pinhole.open_until,
            problem: pinhole.problem.filter(|_| pinhole.open_until.is_none()),
        })
    }

    fn send(&mut self, key: Key, lifetime: Duration) {
        if let Some(client) = self.address {
            let Key { nonce, transport, port } = key;
            let request = Request { client, nonce, transport, port, lifetime };
            self.outputs.push_back(PinholeOutput::Send(request.write().to_vec()));
        }
    }
}

impl Pinhole {
    fn fail(&mut self, now: Instant, problem: PinholeProblem) {
        self.problem = Some(problem);
        self.failures = self.failures.saturating_add(1);
        let wait = (FIRST_WAIT * 2u32.saturating_pow(self.failures.min(12) - 1)).min(LONGEST_WAIT);
        self.state = State::Until(now + wait);
    }
}
