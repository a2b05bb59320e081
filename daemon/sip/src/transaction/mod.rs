//! Transactions (RFC 3261 section 17): which there are, which message belongs to which; not what a message means.

mod clients;
mod invite_client;
mod invite_server;
mod key;
mod moved;
mod non_invite_client;
mod non_invite_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::invite_client::InviteClient;
use self::invite_server::InviteServer;
use self::key::{ClientKey, MergeKey, ServerKey};
use self::non_invite_client::NonInviteClient;
use self::non_invite_server::NonInviteServer;
use crate::auth::Rounds;
use crate::endpoint::{Flow, NextHop, SessionId, TransportError};
use crate::message::{Message, Method, Request, Response, StatusCode};
use crate::outbox::Outbox;
use crate::registration::BindingId;
use crate::session::Purpose;
use crate::timer::{ClientTimer, ServerTimer, Timer};
use crate::way_back::WayBack;
use crate::wire;

pub(crate) const MAX_FORWARDS: u8 = 70;

/// Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);
/// Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerId(pub(crate) u64);

/// Who sent a request and hears how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Registration(BindingId),
    Session(SessionId, Purpose),
    /// A meeting point, whose transactions are none of an endpoint's.
    Relay,
}

/// A request as it was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) request: Request,
    /// What its next hop was found to be. (A request that is too large for a datagram travels by TCP instead.)
    pub(crate) flow: Flow,
    /// How often challenges were answered on the way to this request.
    pub(crate) rounds: Rounds,
}

/// What a client transaction tells its owner.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) id: ClientId,
    pub(crate) owner: Owner,
    pub(crate) sent: Arc<Sent>,
    /// What it travelled on.
    pub(crate) carrier: Flow,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // lives from the transaction to its owner
pub(crate) enum Outcome {
    Response(Response),
    /// Timer B or F.
    Timeout,
    /// The transport could not deliver.
    Unreachable(TransportError),
    /// Nothing more will come.
    Over,
}

/// Does a response go up to the owner?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deliver {
    Yes,
    No,
}

/// What a timer did to its transaction.
enum Expiry {
    GoesOn,
    Over,
    TimedOut,
}

/// What a machine may do: send on its flow and set its timers.
struct Io<'a> {
    outbox: &'a mut Outbox,
    now: Instant,
    /// `None` where a response has no way back yet.
    flow: Option<Flow>,
    id: u64,
}

impl Io<'_> {
    fn transmit(&mut self, bytes: Vec<u8>) {
        if let Some(flow) = self.flow {
            self.outbox.transmit(flow, bytes);
        }
    }
    /// Nothing is lost or doubled on the way: nothing need be repeated.
    fn is_reliable(&self) -> bool {
        self.flow.is_some_and(|flow| flow.transport.is_reliable())
    }
    /// How long a finished transaction stays to deal with repetitions: on a stream there are none (RFC 3261 table 4).
    fn against_repetitions(&self, time: Duration) -> Duration {
        if self.is_reliable() { Duration::ZERO } else { time }
    }
    fn set_client(&mut self, timer: ClientTimer, after: Duration) {
        self.outbox.timers.set(Timer::Client(ClientId(self.id), timer), self.now + after);
    }
    fn stop_client(&mut self, timer: ClientTimer) {
        self.outbox.timers.stop(Timer::Client(ClientId(self.id), timer));
    }
    fn set_server(&mut self, timer: ServerTimer, after: Duration) {
        self.outbox.timers.set(Timer::Server(ServerId(self.id), timer), self.now + after);
    }
    fn stop_server(&mut self, timer: ServerTimer) {
        self.outbox.timers.stop(Timer::Server(ServerId(self.id), timer));
    }
}

struct Client {
    key: ClientKey,
    owner: Owner,
    sent: Arc<Sent>,
    /// What it travels on.
    flow: Flow,
    bytes: Vec<u8>,
    machine: ClientMachine,
    /// Its connection was lost under it, and it was sent on another.
    reconnected: bool,
    /// Nobody waits for what it brings.
    given_up: bool,
}

enum ClientMachine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

impl ClientMachine {
    fn start(io: &mut Io<'_>, method: &Method) -> Self {
        match method {
            Method::Invite => Self::Invite(InviteClient::start(io)),
            _ => Self::NonInvite(NonInviteClient::start(io)),
        }
    }
}

impl Client {
    /// It was too large for a datagram (RFC 3261 section 18.1.1).
    fn is_switched(&self) -> bool {
        self.flow.transport != self.sent.flow.transport
    }
    fn is_unanswered(&self) -> bool {
        match &self.machine {
            ClientMachine::Invite(machine) => machine.is_unanswered(),
            ClientMachine::NonInvite(machine) => machine.is_unanswered(),
        }
    }
    fn is_pending(&self) -> bool {
        match &self.machine {
            ClientMachine::Invite(machine) => machine.is_pending(),
            ClientMachine::NonInvite(machine) => machine.is_pending(),
        }
    }
    fn report(&self, id: ClientId, outcome: Outcome) -> Report {
        Report { id, owner: self.owner, sent: Arc::clone(&self.sent), carrier: self.flow, outcome }
    }
}

struct Server {
    key: ServerKey,
    merge: MergeKey,
    way_back: WayBack,
    machine: ServerMachine,
    /// The session that this INVITE began or changes.
    session: Option<SessionId>,
}

impl Server {
    /// Not answered yet, or accepted.
    fn is_ongoing(&self) -> bool {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.is_ongoing(),
            ServerMachine::NonInvite(machine) => matches!(machine, NonInviteServer::Trying),
        }
    }
}

enum ServerMachine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

/// What a request is to the transactions that there are.
pub(crate) enum Match {
    New,
    /// A repetition, dealt with.
    Repeated,
    /// The same request over another path (RFC 3261 section 8.2.2.2).
    Merged,
}

/// An INVITE that a CANCEL names.
pub(crate) struct Cancelled {
    pub(crate) server: ServerId,
    /// `None` when a final response is sent already, or no session belongs to it.
    pub(crate) session: Option<SessionId>,
}

/// All transactions of an endpoint.
#[derive(Default)]
pub(crate) struct Transactions {
    last_id: u64,
    clients: BTreeMap<ClientId, Client>,
    client_keys: BTreeMap<ClientKey, ClientId>,
    /// How many client transactions each session has.
    owned: BTreeMap<SessionId, usize>,
    servers: BTreeMap<ServerId, Server>,
    server_keys: BTreeMap<ServerKey, ServerId>,
    merge_keys: BTreeMap<MergeKey, ServerId>,
}

impl Transactions {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn server_count(&self) -> usize {
        self.servers.len()
    }

    /// Finds what a request other than ACK belongs to, and answers repetitions.
    pub(crate) fn match_request(&mut self, outbox: &mut Outbox, now: Instant, request: &Request) -> Match {
        if let Some(&id) = self.server_keys.get(&ServerKey::of(request, &request.method))
            && let Some(server) = self.servers.get(&id)
        {
            let mut io = Io { outbox, now, flow: server.way_back.flow(), id: id.0 };
            match &server.machine {
                ServerMachine::Invite(machine) => machine.repeated(&mut io),
                ServerMachine::NonInvite(machine) => machine.repeated(&mut io),
            }
            return Match::Repeated;
        }
        // A request that was refused is over, though its refusal may still be repeated: a proxy that goes on to our next
        // binding, or to another account of this device, asks anew.
        let ongoing = |id: &ServerId| self.servers.get(id).is_some_and(Server::is_ongoing);
        let merged =
            request.to.tag().is_none() && self.merge_keys.get(&MergeKey::of(request)).is_some_and(ongoing);
        if merged { Match::Merged } else { Match::New }
    }

    /// Takes an ACK where it ends an INVITE transaction; `false` leaves it to the dialogs.
    pub(crate) fn receive_ack(&mut self, outbox: &mut Outbox, now: Instant, ack: &Request) -> bool {
        let Some(&id) = self.server_keys.get(&ServerKey::of(ack, &Method::Invite)) else { return false };
        let Some(server) = self.servers.get_mut(&id) else { return false };
        match &mut server.machine {
            // An RFC 2543 peer's ACK for a 2xx looks like this transaction's.
            ServerMachine::Invite(InviteServer::Accepted) | ServerMachine::NonInvite(_) => false,
            ServerMachine::Invite(machine) => {
                machine.ack(&mut Io { outbox, now, flow: server.way_back.flow(), id: id.0 });
                true
            }
        }
    }

    /// Begins a server transaction; `flow` is where its responses go, `trying` the 100 of an INVITE.
    pub(crate) fn serve(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        flow: Flow,
        request: &Request,
        trying: Option<&Response>,
    ) -> ServerId {
        let id = ServerId(self.next_id());
        let way_back = WayBack::new(request, flow);
        let machine = match trying {
            Some(trying) => {
                let bytes = wire::write(&Message::Response(trying.clone()));
                let mut io = Io { outbox, now, flow: Some(flow), id: id.0 };
                ServerMachine::Invite(InviteServer::start(&mut io, bytes))
            }
            None => ServerMachine::NonInvite(NonInviteServer::Trying),
        };
        let (key, merge) = (ServerKey::of(request, &request.method), MergeKey::of(request));
        self.server_keys.insert(key.clone(), id);
        self.merge_keys.insert(merge.clone(), id);
        self.servers.insert(id, Server { key, merge, way_back, machine, session: None });
        id
    }

    pub(crate) fn set_session(&mut self, id: ServerId, session: SessionId) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.session = Some(session);
        }
    }

    /// The INVITE that a CANCEL names (RFC 3261 section 9.2).
    pub(crate) fn cancelled(&self, cancel: &Request) -> Option<Cancelled> {
        let &id = self.server_keys.get(&ServerKey::of(cancel, &Method::Invite))?;
        let server = self.servers.get(&id)?;
        let ServerMachine::Invite(machine) = &server.machine else { return None };
        let session = if machine.is_final() { None } else { server.session };
        Some(Cancelled { server: id, session })
    }

    /// Sends a response; what was sent, for a session that repeats its 2xx itself.
    pub(crate) fn respond(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        id: ServerId,
        response: Response,
    ) -> Option<Vec<u8>> {
        let server = self.servers.get_mut(&id)?;
        let status: StatusCode = response.status;
        let bytes = wire::write(&Message::Response(response));
        let mut io = Io { outbox, now, flow: server.way_back.flow(), id: id.0 };
        match &mut server.machine {
            ServerMachine::Invite(machine) => machine.respond(&mut io, status, bytes.clone()),
            ServerMachine::NonInvite(machine) => machine.respond(&mut io, bytes.clone()),
        }
        Some(bytes)
    }

    /// Sends a session's 2xx again.
    pub(crate) fn repeat(&self, outbox: &mut Outbox, id: ServerId, bytes: &[u8]) {
        if let Some(flow) = self.servers.get(&id).and_then(|server| server.way_back.flow()) {
            outbox.transmit(flow, bytes.to_vec());
        }
    }

    /// Forgets a transaction whose request gets no answer any more.
    pub(crate) fn give_up(&mut self, outbox: &mut Outbox, id: ServerId) {
        self.remove_server(outbox, id);
    }

    /// The connection `flow` is lost: the transactions whose responses must find another way, and to where.
    pub(crate) fn cut_off(&mut self, flow: Flow) -> Vec<(ServerId, NextHop)> {
        let unfinished = |server: &Server| match &server.machine {
            ServerMachine::Invite(machine) => !matches!(machine, InviteServer::Confirmed),
            ServerMachine::NonInvite(machine) => matches!(machine, NonInviteServer::Trying),
        };
        let servers = self.servers.iter_mut().filter(|(_, server)| unfinished(server));
        servers.filter_map(|(&id, server)| Some((id, server.way_back.lose(flow)?))).collect()
    }

    /// A response's other way is found: what was to be sent goes there.
    pub(crate) fn redirect(&mut self, outbox: &mut Outbox, now: Instant, id: ServerId, flow: Flow) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        server.way_back.found(flow);
        let mut io = Io { outbox, now, flow: server.way_back.flow(), id: id.0 };
        match &server.machine {
            ServerMachine::Invite(machine) => machine.repeated(&mut io),
            ServerMachine::NonInvite(machine) => machine.repeated(&mut io),
        }
    }

    pub(crate) fn server_timer(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        id: ServerId,
        timer: ServerTimer,
    ) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let mut io = Io { outbox, now, flow: server.way_back.flow(), id: id.0 };
        let expiry = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.timer(&mut io, timer),
            ServerMachine::NonInvite(machine) => machine.timer(timer),
        };
        if !matches!(expiry, Expiry::GoesOn) {
            self.remove_server(outbox, id);
        }
    }

    fn remove_server(&mut self, outbox: &mut Outbox, id: ServerId) {
        let Some(server) = self.servers.remove(&id) else { return };
        self.server_keys.remove(&server.key);
        if self.merge_keys.get(&server.merge) == Some(&id) {
            self.merge_keys.remove(&server.merge);
        }
        outbox.timers.stop_server(id);
    }

    /// Nothing waits for an answer of the peer or of the user.
    pub(crate) fn is_idle(&self) -> bool {
        let serving = |server: &Server| match &server.machine {
            ServerMachine::Invite(machine) => machine.is_pending(),
            ServerMachine::NonInvite(machine) => matches!(machine, NonInviteServer::Trying),
        };
        !self.clients.values().any(Client::is_pending) && !self.servers.values().any(serving)
    }
}
