//! One round of questions: every server once, and those that can be asked more about how the NAT behaves (RFC 5780).
//! It knows neither when rounds begin nor what the last one found.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::judge::{self, Observation};
use super::message::{self, Change, Received, Response};
use super::report::{ServerState, Source};
use super::transaction::{Due, Patience, Retransmission};
use super::{Filtering, Hairpin, Mapping};

/// Most servers that are asked in a round.
pub const MOST_SERVERS: usize = 16;
/// Most local addresses from which they are asked.
pub const MOST_PATHS: usize = 4;
/// Most servers for each local address that are asked how the NAT behaves: the second speaks where the first is wrong.
const MOST_TESTERS: usize = 2;

/// One of the sockets of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    /// Its path, counted as they were given.
    pub path: usize,
    /// What is asked by it.
    pub role: Role,
}

/// What a socket is for. What is sent by one would spoil the tests of the other: a filter opens for those who are sent
/// to (RFC 5780 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks every server, and servers' other addresses.
    Mapping,
    /// Sends to the servers' first addresses alone.
    Filtering,
}

/// A local address from which servers are asked: its two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Address of the socket with [`Role::Mapping`].
    pub mapping: SocketAddr,
    /// Address of the socket with [`Role::Filtering`].
    pub filtering: SocketAddr,
}

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As people know it.
    pub name: String,
    /// Why it is asked.
    pub source: Source,
    /// The path to it and its address, or why it has none.
    pub place: Result<(usize, SocketAddr), String>,
}

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// By which socket.
    pub socket: SocketId,
    /// To whom.
    pub to: SocketAddr,
    /// A Binding request.
    pub bytes: Vec<u8>,
}

/// A server and what it has told.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) server: Server,
    pub(super) state: ServerState,
    pub(super) reason: String,
    pub(super) rtt: Option<Duration>,
    pub(super) public: Option<SocketAddr>,
    /// Where else it can be asked.
    other: Option<SocketAddr>,
    /// Whether it answers there.
    other_lives: bool,
    filter: FilterTest,
}

/// What came of the requests to answer from elsewhere: `None` as long as that is open.
#[derive(Clone, Copy, Debug, Default)]
struct FilterTest {
    both: Option<Heard>,
    port: Option<Heard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Answer,
    Silence,
    /// The server does not do it.
    Nonsense,
}

/// What is known of one local address.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    pub(super) path: Path,
    pub(super) observations: Vec<Observation>,
    pub(super) hairpin: Hairpin,
    /// How the second socket looks from outside.
    filtering_public: Option<SocketAddr>,
    primed: bool,
    testers: usize,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// RFC 5780 section 4.3, test I.
    Bind,
    /// Test II: the other address, the same port.
    OtherAddress,
    /// Test III: the other address and port.
    OtherBoth,
    /// Opens the second socket's mapping.
    Prime,
    /// Section 4.4, test II.
    ChangeBoth,
    /// Section 4.4, test III.
    ChangePort,
    /// Section 4.6.
    Hairpin,
}

#[derive(Debug)]
struct Transaction {
    id: [u8; 12],
    purpose: Purpose,
    /// Of the servers; of no meaning to [`Purpose::Hairpin`].
    server: usize,
    socket: SocketId,
    to: SocketAddr,
    change: Change,
    clock: Retransmission,
}

/// A round under way, or over.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) servers: Vec<Asked>,
    pub(super) paths: Vec<Walked>,
    transactions: Vec<Transaction>,
}

impl Round {
    /// Asks all servers. What is beyond the limits is left out.
    pub(super) fn begin(
        now: Instant,
        rng: &mut ChaCha12Rng,
        paths: Vec<Path>,
        servers: Vec<Server>,
        out: &mut Vec<Transmit>,
    ) -> Self {
        let walked = |path| Walked {
            path,
            observations: Vec::new(),
            hairpin: Hairpin::Unknown,
            filtering_public: None,
            primed: false,
            testers: 0,
        };
        let asked = |server: Server| Asked {
            state: if server.place.is_ok() { ServerState::Asking } else { ServerState::Failed },
            reason: server.place.as_ref().err().cloned().unwrap_or_default(),
            rtt: None,
            public: None,
            other: None,
            other_lives: false,
            filter: FilterTest::default(),
            server,
        };
        let mut round = Self {
            servers: servers.into_iter().take(MOST_SERVERS).map(asked).collect(),
            paths: paths.into_iter().take(MOST_PATHS).map(walked).collect(),
            transactions: Vec::new(),
        };
        let places: Vec<_> = round.servers.iter().map(|asked| asked.server.place.clone()).collect();
        for (server, place) in places.into_iter().enumerate() {
            if let Ok((path, to)) = place {
                let socket = SocketId { path, role: Role::Mapping };
                round.send(now, rng, Purpose::Bind, server, socket, to, out);
            }
        }
        round
    }

    /// Whether nothing is waited for any more.
    pub(super) fn is_over(&self) -> bool {
        self.transactions.is_empty()
    }

    /// When [`Round::handle_timeout`] wants to be called.
    pub(super) fn next(&self) -> Option<Instant> {
        self.transactions.iter().map(|transaction| transaction.clock.next()).min()
    }

    /// Repeats requests, and gives up those that were repeated often enough.
    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut ChaCha12Rng, out: &mut Vec<Transmit>) {
        let mut over = Vec::new();
        for transaction in &mut self.transactions {
            match transaction.clock.due(now) {
                Some(Due::Again) => out.push(transmit(transaction)),
                Some(Due::Over) => over.push(transaction.id),
                None => {}
            }
        }
        for id in over {
            if let Some(transaction) = self.take(id) {
                self.ended(now, rng, &transaction, Ending::Silence, out);
            }
        }
    }

    /// A datagram came in by one of the round's sockets; whatever is not about its requests is ignored.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        rng: &mut ChaCha12Rng,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<Transmit>,
    ) {
        match message::read(bytes) {
            Some(Received::Request(id)) => self.turned_back(id, socket),
            Some(Received::Response(id, response)) => {
                let known = self.transactions.iter().find(|known| known.id == id && known.socket == socket);
                if known.is_some_and(|known| self.is_answer(known, from))
                    && let Some(transaction) = self.take(id)
                {
                    self.ended(now, rng, &transaction, Ending::Response(from, response), out);
                }
            }
            None => {}
        }
    }

    /// The network says that nobody is at an address that was sent to.
    pub(super) fn handle_unreachable(
        &mut self,
        now: Instant,
        rng: &mut ChaCha12Rng,
        socket: SocketId,
        to: SocketAddr,
        out: &mut Vec<Transmit>,
    ) {
        let of = |known: &&Transaction| {
            // What a hairpin test meets on its way is silence: a router that does not turn packets back may say so.
            known.socket == socket && known.to == to && known.purpose != Purpose::Hairpin
        };
        let lost: Vec<_> = self.transactions.iter().filter(of).map(|known| known.id).collect();
        for id in lost {
            if let Some(transaction) = self.take(id) {
                self.ended(now, rng, &transaction, Ending::Unreachable, out);
            }
        }
    }

    /// How a path's NAT filters.
    pub(super) fn filtering(&self, path: usize, mapping: Mapping) -> Filtering {
        let testers = self.servers.iter().filter(|asked| asked.path() == Some(path));
        let verdicts = testers.map(|asked| match (asked.filter.both, asked.filter.port) {
            (Some(Heard::Answer), _) if mapping == Mapping::None => Filtering::None,
            (Some(Heard::Answer), _) => Filtering::EndpointIndependent,
            // Its other address may be one where nobody answers anyone.
            _ if !asked.other_lives => Filtering::Unknown,
            (Some(Heard::Silence), Some(Heard::Answer)) => Filtering::AddressDependent,
            (Some(Heard::Silence), Some(Heard::Silence)) => Filtering::AddressAndPortDependent,
            _ => Filtering::Unknown,
        });
        verdicts.into_iter().find(|verdict| *verdict != Filtering::Unknown).unwrap_or_default()
    }

    /// Whether a response came from where it must: another's is nobody's answer, even if it knows the transaction.
    fn is_answer(&self, transaction: &Transaction, from: SocketAddr) -> bool {
        let other = self.servers.get(transaction.server).and_then(|asked| asked.other);
        match transaction.purpose {
            Purpose::ChangeBoth | Purpose::ChangePort => {
                // From its first address it says that it cannot do it.
                from == transaction.to || other.is_some_and(|other| from == changed(transaction, other))
            }
            _ => from == transaction.to,
        }
    }

    fn take(&mut self, id: [u8; 12]) -> Option<Transaction> {
        let index = self.transactions.iter().position(|transaction| transaction.id == id)?;
        Some(self.transactions.swap_remove(index))
    }

    /// A request came in: one of our own, if a NAT turns packets back.
    fn turned_back(&mut self, id: [u8; 12], socket: SocketId) {
        let of = |known: &Transaction| {
            known.id == id && known.purpose == Purpose::Hairpin && known.socket.path == socket.path
        };
        if !self.transactions.iter().any(of) {
            return;
        }
        if let Some(walked) = self.paths.get_mut(socket.path) {
            walked.hairpin = Hairpin::Works;
        }
        let own = |known: &Transaction| known.purpose == Purpose::Hairpin && known.socket.path == socket.path;
        self.transactions.retain(|known| !own(known));
    }

    fn ended(
        &mut self,
        now: Instant,
        rng: &mut ChaCha12Rng,
        transaction: &Transaction,
        ending: Ending,
        out: &mut Vec<Transmit>,
    ) {
        let Transaction { purpose, server, socket, to, .. } = *transaction;
        match purpose {
            Purpose::Bind => self.bound(now, rng, transaction, ending, out),
            Purpose::OtherAddress | Purpose::OtherBoth => {
                if let Some(public) = self.seen(transaction, &ending) {
                    self.observe(socket, to, public);
                    let other = self.servers.get_mut(server).and_then(|asked| {
                        asked.other_lives = true;
                        asked.other
                    });
                    let first = self.servers.get(server).and_then(|asked| asked.public);
                    if purpose == Purpose::OtherAddress
                        && first != Some(public)
                        && let Some(other) = other
                    {
                        self.send(now, rng, Purpose::OtherBoth, server, socket, other, out);
                    }
                }
            }
            Purpose::Prime => {
                if let Some(public) = self.seen(transaction, &ending) {
                    let walked = self.paths.get_mut(socket.path);
                    walked.into_iter().for_each(|walked| walked.filtering_public = Some(public));
                    if self.servers.get(server).is_some_and(|asked| asked.other.is_some()) {
                        for purpose in [Purpose::ChangeBoth, Purpose::ChangePort] {
                            self.send(now, rng, purpose, server, socket, to, out);
                        }
                    }
                }
            }
            Purpose::ChangeBoth | Purpose::ChangePort => {
                let heard = match ending {
                    Ending::Response(from, Response::Success { .. }) if from != to => Heard::Answer,
                    Ending::Silence => Heard::Silence,
                    Ending::Response(..) | Ending::Unreachable => Heard::Nonsense,
                };
                if let Some(asked) = self.servers.get_mut(server) {
                    let slot = match purpose {
                        Purpose::ChangeBoth => &mut asked.filter.both,
                        _ => &mut asked.filter.port,
                    };
                    *slot = Some(heard);
                }
            }
            Purpose::Hairpin => {
                if let Some(walked) = self.paths.get_mut(socket.path)
                    && walked.hairpin == Hairpin::Unknown
                {
                    walked.hairpin = Hairpin::Fails;
                }
            }
        }
        self.try_hairpin(now, rng, socket.path, out);
    }

    /// A server's first answer, or none.
    fn bound(
        &mut self,
        now: Instant,
        rng: &mut ChaCha12Rng,
        transaction: &Transaction,
        ending: Ending,
        out: &mut Vec<Transmit>,
    ) {
        let Transaction { server, socket, to, .. } = *transaction;
        let public = self.seen(transaction, &ending);
        let reason = match &ending {
            Ending::Silence => "does not answer; where no server does, UDP is blocked on the way".to_owned(),
            Ending::Unreachable => "nothing listens there: is the port right?".to_owned(),
            Ending::Response(_, response) => refusal(response),
        };
        let Some(asked) = self.servers.get_mut(server) else { return };
        let Some(public) = public else {
            asked.state = ServerState::Failed;
            asked.reason = match &ending {
                Ending::Response(_, Response::Success { mapped, .. }) => {
                    let local = self.paths.get(socket.path).map(|walked| walked.path.mapping);
                    let why = local.and_then(|local| judge::implausible(local, *mapped, to));
                    format!("says that this machine is {mapped}, {}", why.unwrap_or_default())
                }
                _ => reason,
            };
            return;
        };
        asked.state = ServerState::Works;
        asked.public = Some(public);
        asked.rtt = transaction.clock.round_trip(now);
        let other = match ending {
            Ending::Response(_, Response::Success { other, .. }) => other,
            _ => None,
        };
        self.observe(socket, to, public);
        let Some(walked) = self.paths.get_mut(socket.path) else { return };
        let other = other.filter(|other| judge::usable_other(to, *other) && walked.testers < MOST_TESTERS);
        walked.testers += usize::from(other.is_some());
        let prime = !walked.primed || other.is_some();
        walked.primed = true;
        if let Some(other) = other {
            if let Some(asked) = self.servers.get_mut(server) {
                asked.other = Some(other);
            }
            let address = SocketAddr::new(other.ip(), to.port());
            self.send(now, rng, Purpose::OtherAddress, server, socket, address, out);
        }
        if prime {
            let socket = SocketId { role: Role::Filtering, ..socket };
            self.send(now, rng, Purpose::Prime, server, socket, to, out);
        }
    }

    /// The public address that an answer tells, where it can be.
    fn seen(&self, transaction: &Transaction, ending: &Ending) -> Option<SocketAddr> {
        let Ending::Response(_, Response::Success { mapped, .. }) = ending else { return None };
        let local = self.local(transaction.socket)?;
        judge::implausible(local, *mapped, transaction.to).is_none().then_some(*mapped)
    }

    fn local(&self, socket: SocketId) -> Option<SocketAddr> {
        let path = self.paths.get(socket.path)?.path;
        Some(match socket.role {
            Role::Mapping => path.mapping,
            Role::Filtering => path.filtering,
        })
    }

    fn observe(&mut self, socket: SocketId, server: SocketAddr, public: SocketAddr) {
        if let Some(local) = self.local(socket)
            && let Some(walked) = self.paths.get_mut(socket.path)
        {
            walked.observations.push(Observation { local, server, public });
        }
    }

    /// Sends to the own public addresses, from each of the two sockets to the other's, once it is known that these are
    /// the same for everybody. Two addresses must have seen the same: one liar alone has us send to nobody.
    fn try_hairpin(&mut self, now: Instant, rng: &mut ChaCha12Rng, path: usize, out: &mut Vec<Transmit>) {
        let Some(walked) = self.paths.get(path) else { return };
        let outside = judge::from_outside(&walked.observations);
        let Some(second) = walked.filtering_public else { return };
        let agreed = outside.iter().find(|one| {
            outside.iter().any(|two| two.public == one.public && two.server.ip() != one.server.ip())
        });
        let Some(first) = agreed.map(|one| one.public) else { return };
        let tried = walked.hairpin != Hairpin::Unknown
            || self
                .transactions
                .iter()
                .any(|known| known.purpose == Purpose::Hairpin && known.socket.path == path);
        if tried || first.ip() != second.ip() || first.ip() == walked.path.mapping.ip() {
            return;
        }
        for (role, to) in [(Role::Mapping, second), (Role::Filtering, first)] {
            self.send(now, rng, Purpose::Hairpin, 0, SocketId { path, role }, to, out);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a request is all of this")]
    fn send(
        &mut self,
        now: Instant,
        rng: &mut ChaCha12Rng,
        purpose: Purpose,
        server: usize,
        socket: SocketId,
        to: SocketAddr,
        out: &mut Vec<Transmit>,
    ) {
        let mut id = [0; 12];
        rng.fill_bytes(&mut id);
        let change = match purpose {
            Purpose::ChangeBoth => Change { ip: true, port: true },
            Purpose::ChangePort => Change { ip: false, port: true },
            _ => Change::default(),
        };
        let patience = match purpose {
            Purpose::Bind => Patience::FULL,
            _ => Patience::SHORT,
        };
        let clock = Retransmission::begin(now, patience);
        let transaction = Transaction { id, purpose, server, socket, to, change, clock };
        out.push(transmit(&transaction));
        self.transactions.push(transaction);
    }
}

impl Asked {
    /// The path that leads to it.
    pub(super) fn path(&self) -> Option<usize> {
        self.server.place.as_ref().ok().map(|(path, _)| *path)
    }
}

/// How a transaction ends.
enum Ending {
    Response(SocketAddr, Response),
    Silence,
    Unreachable,
}

fn transmit(transaction: &Transaction) -> Transmit {
    let Transaction { id, socket, to, change, .. } = *transaction;
    Transmit { socket, to, bytes: message::request(id, change) }
}

/// From where a server answers that does what it is asked.
fn changed(transaction: &Transaction, other: SocketAddr) -> SocketAddr {
    let ip = if transaction.change.ip { other.ip() } else { transaction.to.ip() };
    let port = if transaction.change.port { other.port() } else { transaction.to.port() };
    SocketAddr::new(ip, port)
}

fn refusal(response: &Response) -> String {
    match response {
        Response::Error(300) => "sends us to another server".to_owned(),
        Response::Error(401) => "wants a user name and a password".to_owned(),
        Response::Error(code @ 500..=599) => format!("has trouble of its own ({code})"),
        Response::Error(code) => format!("refuses to answer ({code})"),
        Response::Success { .. } | Response::Unreadable => "answers with what is no answer".to_owned(),
    }
}
