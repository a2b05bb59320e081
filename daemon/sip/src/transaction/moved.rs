//! Transactions whose network changes: what was sent from an address that is gone, and what goes on from another.

use super::{Client, ClientId, Outcome, Report, Transactions};
use crate::endpoint::{Flow, SessionId, TransportError};
use crate::faces::Faces;
use crate::outbox::Outbox;
use crate::session::Purpose;
use crate::transaction::{ClientMachine, Owner};

impl Transactions {
    /// What everything under way travels on.
    pub(crate) fn flows(&self) -> impl Iterator<Item = Flow> {
        let clients = self.clients.values().filter(|client| client.is_pending()).map(|client| client.flow);
        clients.chain(self.servers.values().filter_map(|server| server.way_back.flow()))
    }

    /// Ends every client transaction whose response cannot come any more, since the address that it was sent from is
    /// gone; but for an INVITE that something else waits for, which could still be cancelled from elsewhere.
    pub(crate) fn strand(&mut self, outbox: &mut Outbox, faces: &Faces) -> Vec<Report> {
        let is_stranded = |client: &Client| {
            let invites = matches!(
                (&client.machine, client.owner),
                (ClientMachine::Invite(_), Owner::Session(_, Purpose::Invite))
            );
            client.is_pending() && !invites && faces.is_dead(client.flow)
        };
        let stranded: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| is_stranded(client)).map(|(&id, _)| id).collect();
        let end = |id| {
            let owner = self.clients.get(&id).map(|client| client.owner);
            let probes = matches!(owner, Some(Owner::Session(_, Purpose::Probe)));
            // That the question is lost says nothing of the peer.
            let outcome = if probes { Outcome::Over } else { Outcome::Unreachable(TransportError::NoRoute) };
            self.remove_client(outbox, id, outcome)
        };
        stranded.into_iter().filter_map(end).collect()
    }

    /// What an INVITE travels on has another local address now: CANCEL and ACK go from there, under the Via that the far
    /// end knows.
    pub(crate) fn relocate(&mut self, id: ClientId, faces: &Faces) {
        if let Some(client) = self.clients.get_mut(&id)
            && let Some(flow) = faces.moved(client.flow)
        {
            client.flow = flow;
        }
    }

    /// The INVITE was sent from an address that is gone: no response to it will be heard.
    pub(crate) fn is_stranded(&self, id: ClientId, faces: &Faces) -> bool {
        self.clients.get(&id).is_some_and(|client| faces.is_dead(client.flow))
    }

    /// Responses as datagrams go to whom they went before, from where they are routed now. Answers the connections that
    /// are gone, each once.
    pub(crate) fn move_responses(&mut self, faces: &Faces) -> Vec<Flow> {
        let mut lost: Vec<Flow> = Vec::new();
        for server in self.servers.values_mut() {
            let Some(flow) = server.way_back.flow().filter(|flow| faces.is_dead(*flow)) else { continue };
            if flow.transport.is_reliable() {
                if !lost.contains(&flow) {
                    lost.push(flow);
                }
            } else if let Some(moved) = faces.moved(flow) {
                server.way_back.leave_from(moved);
            }
        }
        lost
    }

    /// The session has sent what it still waits to hear of, from an address that is gone.
    pub(crate) fn has_stranded(&self, session: SessionId, purpose: Purpose, faces: &Faces) -> bool {
        let is_it = |client: &Client| {
            client.owner == Owner::Session(session, purpose)
                && client.is_pending()
                && faces.is_dead(client.flow)
        };
        self.clients.values().any(is_it)
    }
}
