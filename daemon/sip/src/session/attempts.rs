//! One INVITE on its way to several servers in turn (RFC 3263 section 4.3): which were asked, and which is next.
//!
//! A server that says nothing for a while is not given up: the next is asked beside it, and the first by which a callee is
//! heard is the one. What the others say later comes too late, as another fork's answer does.

use std::sync::Arc;

use super::Cx;
use super::inviting::send;
use super::outbound::cancel_late;
use crate::auth::Rounds;
use crate::endpoint::{EndCause, Flow, SessionEnd, TransportError};
use crate::faces::Faces;
use crate::message::Request;
use crate::timer::{SILENCE, SessionTimer};
use crate::transaction::{ClientId, Report, Sent};

/// What an INVITE has brought so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// A provisional response: now it can be cancelled (RFC 3261 section 9.1).
    Provisional,
}

/// How an attempt ended, and with it the session if no other brings more.
pub(super) struct Failure(pub(super) SessionEnd);

impl Failure {
    pub(super) fn new(cause: EndCause) -> Self {
        Self(SessionEnd { cause, status: None, text: None, q850: None, contacts: Vec::new() })
    }

    /// How much it says about what is wrong.
    fn weight(&self) -> u8 {
        match self.0.cause {
            EndCause::Refused => 3,
            EndCause::Unreachable(
                TransportError::Certificate(_)
                | TransportError::ClientCertificate
                | TransportError::Handshake,
            ) => 2,
            EndCause::Unreachable(_) => 1,
            _ => 0,
        }
    }
}

/// An INVITE that may bring the answer.
struct Attempt {
    client: ClientId,
    heard: Heard,
}

pub(super) struct Attempts {
    /// Never none, and one alone once a callee was heard of.
    open: Vec<Attempt>,
    /// Where it can still be sent.
    rest: Vec<Flow>,
    /// The weightiest failure so far.
    failure: Option<Failure>,
}

impl Attempts {
    pub(super) fn begin(cx: &mut Cx<'_>, request: Request, flow: Flow, rest: Vec<Flow>) -> Self {
        let client = send(cx, request, flow, Rounds::default());
        let open = vec![Attempt { client, heard: Heard::Nothing }];
        let attempts = Self { open, rest, failure: None };
        attempts.listen(cx);
        attempts
    }

    pub(super) fn holds(&self, id: ClientId) -> bool {
        self.open.iter().any(|attempt| attempt.client == id)
    }

    fn is_heard(&self) -> bool {
        self.open.iter().any(|attempt| attempt.heard == Heard::Provisional)
    }

    /// No response to any of them will be heard: they were sent from addresses that are gone.
    pub(super) fn are_stranded(&self, cx: &Cx<'_>, faces: &Faces) -> bool {
        let is_stranded = |attempt: &Attempt| cx.core.transactions.is_stranded(attempt.client, faces);
        !self.open.is_empty() && self.open.iter().all(is_stranded)
    }

    /// They are taken back from where their far ends are reached now, where that is anywhere. The INVITE that was sent
    /// last.
    pub(super) fn take_back(&mut self, cx: &mut Cx<'_>, faces: &Faces) -> Option<Arc<Sent>> {
        for attempt in &self.open {
            cx.core.transactions.relocate(attempt.client, faces);
        }
        let (sent, carrier) = cx.core.transactions.sent(self.open.last()?.client)?;
        if faces.is_dead(carrier) {
            return None;
        }
        for Attempt { client, heard } in self.open.drain(..) {
            match heard {
                Heard::Provisional => cancel_late(cx, client),
                Heard::Nothing => cx.core.transactions.abandon(&mut cx.core.outbox, client),
            }
        }
        Some(sent)
    }

    /// Gives the last server that was asked its time, where there is another.
    fn listen(&self, cx: &mut Cx<'_>) {
        if self.rest.is_empty() || self.is_heard() {
            cx.stop(SessionTimer::NextServer);
        } else {
            cx.set(SessionTimer::NextServer, SILENCE);
        }
    }

    /// A server works on it: no further one is asked. Those that were asked before may still be the ones to reach a
    /// callee: 100 is of the next hop alone.
    pub(super) fn trying(&mut self, cx: &mut Cx<'_>, id: ClientId) {
        if let Some(attempt) = self.open.iter_mut().find(|attempt| attempt.client == id) {
            attempt.heard = Heard::Provisional;
        }
        self.listen(cx);
    }

    /// A callee has been heard by way of this server: the others are not waited for any more. Those that have said 100
    /// are cancelled, since nothing else would end them if they said no more; the rest as soon as they speak.
    pub(super) fn hear(&mut self, cx: &mut Cx<'_>, id: ClientId, heard: Heard) {
        cx.stop(SessionTimer::NextServer);
        for other in self.open.drain(..).filter(|other| other.client != id) {
            match other.heard {
                Heard::Provisional => cancel_late(cx, other.client),
                Heard::Nothing => cx.core.transactions.hush(&mut cx.core.outbox, other.client),
            }
        }
        self.open.push(Attempt { client: id, heard });
    }

    /// This one has met another at its callee, which is asked already by way of that: `true` where there is another.
    pub(super) fn is_merged(&mut self, id: ClientId) -> bool {
        let merged = self.open.len() > 1;
        if merged {
            self.open.retain(|attempt| attempt.client != id);
        }
        merged
    }

    /// The same server, which has been heard, gets the INVITE once more.
    pub(super) fn repeat(&mut self, cx: &mut Cx<'_>, request: Request, flow: Flow, rounds: Rounds) {
        let client = send(cx, request, flow, rounds);
        self.open = vec![Attempt { client, heard: Heard::Nothing }];
        self.listen(cx);
    }

    /// The server that was asked last says nothing.
    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_>) {
        let silent = self.open.last().and_then(|attempt| cx.core.transactions.sent(attempt.client));
        if let Some((sent, _)) = silent {
            cx.core.avoided.add(cx.now, sent.flow);
            self.next(cx, &sent.request);
        }
    }

    fn next(&mut self, cx: &mut Cx<'_>, request: &Request) {
        if !self.rest.is_empty() && !self.is_heard() {
            let flow = self.rest.remove(0);
            let client = send(cx, request.clone(), flow, Rounds::default());
            self.open.push(Attempt { client, heard: Heard::Nothing });
        }
        self.listen(cx);
    }

    /// One has failed. `Some`: and so did all others.
    pub(super) fn fail(&mut self, cx: &mut Cx<'_>, report: &Report, failure: Failure) -> Option<Failure> {
        self.open.retain(|attempt| attempt.client != report.id);
        if self.failure.as_ref().is_none_or(|worst| worst.weight() <= failure.weight()) {
            self.failure = Some(failure);
        }
        self.next(cx, &report.sent.request);
        if self.open.is_empty() { self.failure.take() } else { None }
    }

    /// The caller has given up: the INVITE that is to be cancelled, and whether it can be. The others are as good as
    /// answered by another fork.
    pub(super) fn give_up(mut self, cx: &mut Cx<'_>) -> Option<(ClientId, Heard)> {
        let best = self.open.iter().rev().max_by_key(|attempt| attempt.heard == Heard::Provisional)?;
        let (client, heard) = (best.client, best.heard);
        self.hear(cx, client, heard);
        Some((client, heard))
    }
}
