//! A dialog and the way its requests travel: finds the flow to the next hop, and keeps the ACKs that 2xx repetitions want.

use std::net::SocketAddr;
use std::time::Instant;

use crate::auth::Rounds;
use crate::core::{Asker, Core};
use crate::dialog::Dialog;
use crate::endpoint::{Flow, IdentityId, NextHop, ResolveId, SessionId, Transport};
use crate::faces::{Face, Faces};
use crate::headers::name;
use crate::message::{Message, Method, Request, StatusCode};
use crate::session::{Purpose, RAck};
use crate::transaction::{Outcome, Owner, Report};
use crate::uri::Host;
use crate::wire;

/// Requests that wait for one resolver answer: there is no use in more.
const MAX_WAITING: usize = 8;

/// Who sends.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) session: SessionId,
    pub(crate) identity: Option<IdentityId>,
    pub(crate) disclosure: Disclosure,
    /// Candidates may be trickled, and are taken so (RFC 8840).
    pub(crate) trickle: bool,
}

/// What a peer may learn of who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disclosure {
    Open,
    /// Nothing that leads to the address of record (RFC 3323).
    Anonymous,
}

/// A request that is ready but for its flow.
pub(crate) struct Outgoing {
    pub(crate) request: Request,
    pub(crate) rounds: Rounds,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Transaction(Purpose),
    /// ACK for a 2xx.
    Ack,
}

enum Path {
    /// `rest` is tried in turn where `flow` leads nowhere (RFC 3263 section 4.3).
    Known {
        hop: NextHop,
        flow: Flow,
        rest: Vec<Flow>,
    },
    Asking {
        hop: NextHop,
        id: ResolveId,
        waiting: Vec<Outgoing>,
    },
}

/// The ACK for the 2xx to the INVITE of this number.
struct SentAck {
    cseq: u32,
    /// `None` while the way is being asked for.
    sent: Option<(Flow, Vec<u8>)>,
}

pub(crate) struct Leg {
    pub(crate) dialog: Dialog,
    /// What the dialog began on.
    pub(crate) flow: Flow,
    path: Option<Path>,
    /// Of the last two INVITEs: repetitions of older 2xx are of no interest to anyone.
    acks: Vec<SentAck>,
    /// A route leads to the next hop, as far as is known.
    reachable: bool,
    /// Of our reliable provisional response that the peer has not acknowledged.
    pub(crate) awaited: Option<RAck>,
}

impl Leg {
    /// Its requests travel on `flow`, or came on it.
    pub(crate) fn uses(&self, flow: Flow) -> bool {
        self.flow == flow || matches!(&self.path, Some(Path::Known { flow: known, .. }) if *known == flow)
    }

    pub(crate) fn new(dialog: Dialog, flow: Flow) -> Self {
        Self { dialog, flow, path: None, acks: Vec::new(), reachable: true, awaited: None }
    }

    /// Sends on the known way to the dialog's next hop, or asks for it first.
    pub(crate) fn send(&mut self, core: &mut Core, now: Instant, sender: Sender, outgoing: Outgoing) {
        if outgoing.kind == Kind::Ack {
            self.acks.retain(|ack| ack.cseq != outgoing.request.cseq);
            if self.acks.len() >= 2 {
                self.acks.remove(0);
            }
            self.acks.push(SentAck { cseq: outgoing.request.cseq, sent: None });
        }
        let hop = self.dialog.next_hop();
        let mut waiting = match &mut self.path {
            Some(Path::Known { hop: known, flow, .. }) if *known == hop => {
                let flow = *flow;
                return self.dispatch(core, now, sender, flow, outgoing);
            }
            Some(Path::Asking { hop: asked, waiting, .. }) if *asked == hop => {
                if waiting.len() < MAX_WAITING {
                    waiting.push(outgoing);
                }
                return;
            }
            Some(Path::Asking { waiting, id, .. }) => {
                core.answered(*id);
                std::mem::take(waiting)
            }
            _ => Vec::new(),
        };
        waiting.push(outgoing);
        if leads_to(&hop, self.flow) {
            let flow = self.flow;
            self.path = Some(Path::Known { hop, flow, rest: Vec::new() });
            for outgoing in waiting {
                self.dispatch(core, now, sender, flow, outgoing);
            }
        } else {
            let id = core.resolve(now, hop.clone(), sender.identity, Asker::Session(sender.session));
            self.path = Some(Path::Asking { hop, id, waiting });
        }
    }

    /// Acknowledges the 2xx to `invite`; with the same bytes again, if it is a repetition. (Every INVITE of ours has
    /// the offer, so that no ACK carries an answer.)
    pub(crate) fn acknowledge(&mut self, core: &mut Core, now: Instant, sender: Sender, invite: &Request) {
        match self.acks.iter().find(|ack| ack.cseq == invite.cseq) {
            Some(SentAck { sent: Some((flow, bytes)), .. }) => core.outbox.transmit(*flow, bytes.clone()),
            Some(SentAck { sent: None, .. }) => {}
            None => {
                let request = self.dialog.ack(invite);
                self.send(
                    core,
                    now,
                    sender,
                    Outgoing { request, rounds: Rounds::default(), kind: Kind::Ack },
                );
            }
        }
    }

    /// Takes a resolver's answer: `None` where the question was another's, else what could not be sent.
    pub(crate) fn resolved(
        &mut self,
        core: &mut Core,
        now: Instant,
        sender: Sender,
        id: ResolveId,
        flows: &[Flow],
    ) -> Option<Vec<Kind>> {
        if !matches!(&self.path, Some(Path::Asking { id: asked, .. }) if *asked == id) {
            return None;
        }
        let Some(Path::Asking { hop, waiting, .. }) = self.path.take() else { return None };
        let Some((&flow, rest)) = flows.split_first() else {
            // The next repetition of the 2xx asks again.
            self.acks.retain(|ack| ack.sent.is_some());
            return Some(waiting.into_iter().map(|outgoing| outgoing.kind).collect());
        };
        self.path = Some(Path::Known { hop, flow, rest: rest.to_vec() });
        for outgoing in waiting {
            self.dispatch(core, now, sender, flow, outgoing);
        }
        Some(Vec::new())
    }

    /// Sends a request that its server did not deliver by way of the next one; `false` where there is none, or the
    /// report is no such failure.
    pub(crate) fn try_next(
        &mut self,
        core: &mut Core,
        now: Instant,
        sender: Sender,
        report: &Report,
        purpose: Purpose,
    ) -> bool {
        let undelivered = match &report.outcome {
            Outcome::Timeout | Outcome::Unreachable(_) => true,
            Outcome::Response(response) => response.status == StatusCode::SERVICE_UNAVAILABLE,
            Outcome::Over => false,
        };
        let Some(Path::Known { flow, rest, .. }) = &mut self.path else { return false };
        if !undelivered || *flow != report.sent.flow || rest.is_empty() {
            return false;
        }
        let next = rest.remove(0);
        *flow = next;
        let mut request = report.sent.request.clone();
        request.via.clear();
        let outgoing = Outgoing { request, rounds: Rounds::default(), kind: Kind::Transaction(purpose) };
        self.dispatch(core, now, sender, next, outgoing);
        true
    }

    /// The network has changed: goes on from where the peer is reached now; `true` where that is another address, so that
    /// the peer's requests must be led there.
    pub(crate) fn relocate(&mut self, faces: &Faces) -> bool {
        let before = self.contact_flow();
        let places = self.acks.iter_mut().filter_map(|ack| ack.sent.as_mut().map(|(flow, _)| flow));
        let known: Vec<&mut Flow> = match &mut self.path {
            Some(Path::Known { flow, rest, .. }) => std::iter::once(flow).chain(rest).collect(),
            _ => Vec::new(),
        };
        for flow in places.chain(known).chain([&mut self.flow]) {
            if let Some(moved) = faces.moved(*flow) {
                *flow = moved;
            }
        }
        self.reachable = self.ways().iter().any(|flow| faces.of(*flow) != Face::Nowhere);
        self.contact_flow() != before
    }

    /// As of the last change of the network: a request would get somewhere.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable
    }

    /// Where its requests go, in the order in which that is tried.
    fn ways(&self) -> Vec<Flow> {
        match &self.path {
            Some(Path::Known { flow, rest, .. }) => std::iter::once(flow).chain(rest).copied().collect(),
            _ => vec![self.flow],
        }
    }

    /// What it travels on.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        [self.flow].into_iter().chain(self.ways()).collect()
    }

    /// What our Contact is named after.
    pub(crate) fn contact_flow(&self) -> Flow {
        match &self.path {
            Some(Path::Known { flow, .. }) => *flow,
            _ => self.flow,
        }
    }

    /// Something waits for the resolver.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.path, Some(Path::Asking { .. }))
    }

    fn dispatch(&mut self, core: &mut Core, now: Instant, sender: Sender, flow: Flow, outgoing: Outgoing) {
        let Outgoing { mut request, rounds, kind } = outgoing;
        if matches!(request.method, Method::Invite | Method::Update) {
            request.headers.remove(name::CONTACT);
            request
                .headers
                .push(name::CONTACT, core.contact(sender, flow, self.dialog.is_secure()).to_string());
        }
        match kind {
            Kind::Transaction(purpose) => {
                let owner = Owner::Session(sender.session, purpose);
                core.send(now, flow, request, rounds, sender.identity, owner);
            }
            Kind::Ack => {
                let cseq = request.cseq;
                // Without Record-Route the ACK goes past the proxy, straight to the peer.
                let account = sender.identity.and_then(|identity| core.accounts.get(&identity));
                if account.is_none_or(|account| !account.is_server(flow.remote.ip())) {
                    request.headers.remove(name::AUTHORIZATION);
                    request.headers.remove(name::PROXY_AUTHORIZATION);
                }
                core.finish(flow, &mut request);
                let carrier = core.carry(now, flow, &mut request, sender.identity);
                let bytes = wire::write(&Message::Request(request));
                core.outbox.transmit(carrier, bytes.clone());
                if let Some(ack) = self.acks.iter_mut().find(|ack| ack.cseq == cseq) {
                    ack.sent = Some((carrier, bytes));
                }
            }
        }
    }
}

/// The next hop is an address literal, and `flow` leads there by the transport that it names or implies.
fn leads_to(hop: &NextHop, flow: Flow) -> bool {
    let secure = flow.transport == Transport::Tls;
    let transport_fits = match hop.transport {
        _ if hop.secure => secure,
        Some(transport) => transport == flow.transport,
        None => true,
    };
    let port = hop.port.unwrap_or_else(|| flow.transport.default_port());
    transport_fits && matches!(&hop.host, Host::Ip(ip) if SocketAddr::new(*ip, port) == flow.remote)
}
