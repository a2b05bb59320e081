//! Transactions (RFC 3261 section 17): which there are, which message belongs to which; not what a message means.

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
use crate::random::Random;
use crate::registration::BindingId;
use crate::session::Purpose;
use crate::timer::{ClientTimer, ServerTimer, TRANSACTION_TIMEOUT, Timer};
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
        Report { id, owner: self.owner, sent: Arc::clone(&self.sent), outcome }
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

    // Client side.

    /// Sends a request, whose topmost Via is ours already, in a new transaction.
    /// It travels on `carrier`.
    pub(crate) fn send(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        sent: Sent,
        carrier: Flow,
        owner: Owner,
    ) -> ClientId {
        let id = ClientId(self.next_id());
        let key = ClientKey::of(&sent.request.via, &sent.request.method);
        let bytes = wire::write(&Message::Request(sent.request.clone()));
        let mut io = Io { outbox, now, flow: Some(carrier), id: id.0 };
        io.transmit(bytes.clone());
        let machine = ClientMachine::start(&mut io, &sent.request.method);
        if let Owner::Session(session, _) = owner {
            *self.owned.entry(session).or_default() += 1;
        }
        self.client_keys.insert(key.clone(), id);
        let sent = Arc::new(sent);
        let client = Client { key, owner, sent, flow: carrier, bytes, machine, reconnected: false };
        self.clients.insert(id, client);
        id
    }

    /// Takes a response; `None` where it belongs to nothing or is a repetition.
    pub(crate) fn receive_response(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        response: Response,
    ) -> Option<Report> {
        // More than one Via: it was not meant for us (RFC 3261 section 8.1.3.3).
        if response.via.len() != 1 {
            return None;
        }
        self.receive_relayed(outbox, now, response)
    }

    /// As [`Self::receive_response`], for who puts its Via above those of others (RFC 3261 section 16.7).
    pub(crate) fn receive_relayed(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        response: Response,
    ) -> Option<Report> {
        let id = *self.client_keys.get(&ClientKey::of(&response.via, &response.cseq.method))?;
        let client = self.clients.get_mut(&id)?;
        if !key::is_sent_by_us(&client.sent.request.via, &response.via) {
            return None;
        }
        let mut io = Io { outbox, now, flow: Some(client.flow), id: id.0 };
        let deliver = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.response(&mut io, &client.sent.request, &response),
            ClientMachine::NonInvite(machine) => machine.response(&mut io, &response),
        };
        (deliver == Deliver::Yes).then(|| client.report(id, Outcome::Response(response)))
    }

    pub(crate) fn client_timer(
        &mut self,
        outbox: &mut Outbox,
        now: Instant,
        id: ClientId,
        timer: ClientTimer,
    ) -> Option<Report> {
        let client = self.clients.get_mut(&id)?;
        let mut io = Io { outbox, now, flow: Some(client.flow), id: id.0 };
        let expiry = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.timer(&mut io, timer, &client.bytes),
            ClientMachine::NonInvite(machine) => machine.timer(&mut io, timer, &client.bytes),
        };
        match expiry {
            Expiry::GoesOn => None,
            Expiry::Over => self.remove_client(outbox, id, Outcome::Over),
            Expiry::TimedOut => self.remove_client(outbox, id, Outcome::Timeout),
        }
    }

    /// Ends every transaction whose request went to the far end of `flow` and has no response yet, but for those that
    /// can be sent in another way.
    pub(crate) fn failed(
        &mut self,
        outbox: &mut Outbox,
        random: &mut Random,
        now: Instant,
        flow: Flow,
        error: TransportError,
    ) -> Vec<Report> {
        let unanswered = self
            .clients
            .iter()
            .filter(|(_, client)| client.flow.far_end() == flow.far_end() && client.is_unanswered());
        let ids: Vec<_> = unanswered.map(|(&id, _)| id).collect();
        let mut reports = Vec::new();
        for id in ids {
            if !self.send_again(outbox, random, now, id, error) {
                reports.extend(self.remove_client(outbox, id, Outcome::Unreachable(error)));
            }
        }
        reports
    }

    /// Sends a request that was not delivered once more, where that may help.
    fn send_again(
        &mut self,
        outbox: &mut Outbox,
        random: &mut Random,
        now: Instant,
        id: ClientId,
        error: TransportError,
    ) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let flow = client.sent.flow;
        if client.flow != flow {
            // RFC 3261 section 18.1.1: where TCP is not spoken, a large request is tried as the datagram it would be.
            let mut request = client.sent.request.clone();
            if let Some(via) = request.via.first_mut() {
                flow.transport.name().clone_into(&mut via.transport);
                via.params.set("branch", Some(&random.branch()));
            }
            self.client_keys.remove(&client.key);
            client.key = ClientKey::of(&request.via, &request.method);
            self.client_keys.insert(client.key.clone(), id);
            outbox.timers.stop_client(id);
            client.bytes = wire::write(&Message::Request(request.clone()));
            client.flow = flow;
            let mut io = Io { outbox, now, flow: Some(flow), id: id.0 };
            io.transmit(client.bytes.clone());
            client.machine = ClientMachine::start(&mut io, &request.method);
            client.sent = Arc::new(Sent { request, flow, rounds: client.sent.rounds.clone() });
            return true;
        }
        // A connection that was idle may have been closed as the request went out: the far end knows a second copy by
        // its branch.
        let again = error == TransportError::Closed && flow.transport.is_reliable() && !client.reconnected;
        if again {
            client.reconnected = true;
            outbox.transmit(client.flow, client.bytes.clone());
        }
        again
    }

    /// An INVITE is of no more interest: it is not repeated any more, but a late answer is still heard.
    pub(crate) fn hush(&mut self, outbox: &mut Outbox, id: ClientId) {
        outbox.timers.stop(Timer::Client(id, ClientTimer::A));
    }

    /// The INVITE is being cancelled: its end is waited for no longer than 64*T1 (RFC 3261 section 9.1). `false` where
    /// it has been so already.
    pub(crate) fn limit(&mut self, outbox: &mut Outbox, now: Instant, id: ClientId) -> bool {
        let timer = Timer::Client(id, ClientTimer::B);
        let first = self.clients.contains_key(&id) && !outbox.timers.is_set(timer);
        if first {
            outbox.timers.set(timer, now + TRANSACTION_TIMEOUT);
        }
        first
    }

    /// Forgets a client transaction; later responses are strays.
    pub(crate) fn abandon(&mut self, outbox: &mut Outbox, id: ClientId) {
        self.remove_client(outbox, id, Outcome::Over);
    }

    /// Forgets the INVITEs of a session that have no final response yet.
    pub(crate) fn abandon_session(&mut self, outbox: &mut Outbox, session: SessionId) {
        let is_open = |client: &Client| {
            let invite = matches!(&client.machine, ClientMachine::Invite(machine) if machine.is_pending());
            invite && matches!(client.owner, Owner::Session(owner, _) if owner == session)
        };
        let open: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_open(client)).map(|(&id, _)| id).collect();
        for id in open {
            self.abandon(outbox, id);
        }
    }

    fn remove_client(&mut self, outbox: &mut Outbox, id: ClientId, outcome: Outcome) -> Option<Report> {
        let client = self.clients.remove(&id)?;
        self.client_keys.remove(&client.key);
        outbox.timers.stop_client(id);
        if let Owner::Session(session, _) = client.owner
            && let Some(count) = self.owned.get_mut(&session)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.owned.remove(&session);
            }
        }
        Some(client.report(id, outcome))
    }

    /// The request of a transaction that still runs, and what it travels on.
    pub(crate) fn sent(&self, id: ClientId) -> Option<(Arc<Sent>, Flow)> {
        self.clients.get(&id).map(|client| (Arc::clone(&client.sent), client.flow))
    }

    /// The session that has sent a request under this Call-ID whose transaction goes on.
    pub(crate) fn session_of(&self, call_id: &str) -> Option<SessionId> {
        self.clients.values().filter(|client| client.sent.request.call_id == call_id).find_map(|client| {
            match client.owner {
                Owner::Session(session, _) => Some(session),
                Owner::Registration(_) | Owner::Relay => None,
            }
        })
    }

    /// Does the session have client transactions left?
    pub(crate) fn owns_any(&self, session: SessionId) -> bool {
        self.owned.contains_key(&session)
    }

    // Server side.

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
        let merged = request.to.tag().is_none() && self.merge_keys.contains_key(&MergeKey::of(request));
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
