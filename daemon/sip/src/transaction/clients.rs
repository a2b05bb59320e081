//! The client side: requests of ours, what becomes of them, and how they are sent again.

use std::sync::Arc;
use std::time::Instant;

use super::key;
use super::key::ClientKey;
use super::{
    Client, ClientId, ClientMachine, Deliver, Expiry, Io, Outcome, Owner, Report, Sent, Transactions,
};
use crate::endpoint::{Flow, SessionId, TransportError};
use crate::message::{Message, Response};
use crate::outbox::Outbox;
use crate::random::Random;
use crate::timer::{ClientTimer, TRANSACTION_TIMEOUT, Timer};
use crate::wire;

impl Transactions {
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
        let client =
            Client { key, owner, sent, flow: carrier, bytes, machine, reconnected: false, given_up: false };
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
    /// can be sent in another way, and are still of interest.
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
            // What a connection carried that was closed may have arrived.
            if error != TransportError::Closed && self.clients.get(&id).is_some_and(|client| client.given_up)
            {
                reports.extend(self.remove_client(outbox, id, Outcome::Over));
            } else if !self.send_again(outbox, random, now, id, error) {
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
        if client.is_switched() {
            self.send_as_datagram(outbox, random, now, id);
            return true;
        }
        // A connection that was idle may have been closed as the request went out: the far end knows a second copy by
        // its branch.
        let again = error == TransportError::Closed
            && client.sent.flow.transport.is_reliable()
            && !client.reconnected;
        if again {
            client.reconnected = true;
            outbox.transmit(client.flow, client.bytes.clone());
        }
        again
    }

    /// Sends a request as the datagram that it was too large for: where TCP is not spoken, that is what is left (RFC 3261
    /// section 18.1.1).
    fn send_as_datagram(&mut self, outbox: &mut Outbox, random: &mut Random, now: Instant, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let flow = client.sent.flow;
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
    }

    /// No connection with the far end of `flow` comes about: what was only too large for a datagram goes as one, if it is
    /// still of interest. Answers whether there is any.
    pub(crate) fn fall_back(
        &mut self,
        outbox: &mut Outbox,
        random: &mut Random,
        now: Instant,
        flow: Flow,
    ) -> bool {
        let waits = |client: &Client| {
            client.flow.far_end() == flow.far_end() && client.is_switched() && client.is_unanswered()
        };
        let waiting: Vec<_> =
            self.clients.iter().filter(|(_, client)| waits(client)).map(|(&id, _)| id).collect();
        for id in &waiting {
            if self.clients.get(id).is_some_and(|client| !client.given_up) {
                self.send_as_datagram(outbox, random, now, *id);
            }
        }
        !waiting.is_empty()
    }

    /// Something that is still of interest, or a response of ours, waits for the far end of `flow`.
    pub(crate) fn needs(&self, flow: Flow) -> bool {
        let waits = |client: &Client| client.is_pending() && !client.given_up;
        let asked = self.clients.values().filter(|client| waits(client)).map(|client| client.flow);
        let answered = self.servers.values().filter_map(|server| server.way_back.flow());
        asked.chain(answered).any(|other| other.far_end() == flow.far_end())
    }

    /// Ends what was given up before a connection with the far end of `flow` has come about: it was never sent.
    pub(crate) fn end_given_up(&mut self, outbox: &mut Outbox, flow: Flow) -> Vec<Report> {
        let unsent = |client: &Client| {
            client.flow.far_end() == flow.far_end() && client.given_up && client.is_unanswered()
        };
        let ids: Vec<_> =
            self.clients.iter().filter(|(_, client)| unsent(client)).map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove_client(outbox, id, Outcome::Over)).collect()
    }

    /// An INVITE is of no more interest: where it has not been sent yet, it need not be. What it brings is still heard.
    pub(crate) fn give_up_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.given_up = true;
        }
    }

    /// An INVITE is of no more interest: it is not repeated any more, but a late answer is still heard.
    pub(crate) fn hush(&mut self, outbox: &mut Outbox, id: ClientId) {
        outbox.timers.stop(Timer::Client(id, ClientTimer::A));
        self.give_up_client(id);
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

    pub(super) fn remove_client(
        &mut self,
        outbox: &mut Outbox,
        id: ClientId,
        outcome: Outcome,
    ) -> Option<Report> {
        let client = self.clients.remove(&id)?;
        // A CANCEL that was sent once more, from another address, has the key of the first.
        if self.client_keys.get(&client.key) == Some(&id) {
            self.client_keys.remove(&client.key);
        }
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
}
