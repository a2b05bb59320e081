//! One INVITE on its way to several servers in turn (RFC 3263 section 4.3): which were asked, and which is next.
//!
//! A server that says nothing for a while is not given up: the next is asked beside it, and the first that says anything
//! is the one. What the others say later comes too late, as another fork's answer does.

use super::Cx;
use super::inviting::send;
use crate::auth::Rounds;
use crate::endpoint::{EndCause, Flow, SessionEnd, TransportError};
use crate::faces::Faces;
use crate::message::Request;
use crate::timer::{SILENCE, SessionTimer};
use crate::transaction::{ClientId, Report};

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

pub(super) struct Attempts {
    /// INVITEs that may bring the answer; never none, and one alone once it was heard of.
    open: Vec<ClientId>,
    heard: Heard,
    /// Where it can still be sent.
    rest: Vec<Flow>,
    /// The weightiest failure so far.
    failure: Option<Failure>,
}

impl Attempts {
    pub(super) fn begin(cx: &mut Cx<'_>, request: Request, flow: Flow, rest: Vec<Flow>) -> Self {
        let client = send(cx, request, flow, Rounds::default());
        let attempts = Self { open: vec![client], heard: Heard::Nothing, rest, failure: None };
        attempts.listen(cx);
        attempts
    }

    pub(super) fn holds(&self, id: ClientId) -> bool {
        self.open.contains(&id)
    }

    /// No response to any of them will be heard: they were sent from addresses that are gone.
    pub(super) fn are_stranded(&self, cx: &Cx<'_>, faces: &Faces) -> bool {
        !self.open.is_empty() && self.open.iter().all(|id| cx.core.transactions.is_stranded(*id, faces))
    }

    /// They could be cancelled from where the far end is reached now. The INVITE that was sent last, and whether it was
    /// heard of.
    pub(super) fn relocate(&mut self, cx: &mut Cx<'_>, faces: &Faces) -> Option<(ClientId, Heard)> {
        for id in &self.open {
            cx.core.transactions.relocate(*id, faces);
        }
        self.open.last().map(|last| (*last, self.heard))
    }

    /// Gives the last server that was asked its time, where there is another.
    fn listen(&self, cx: &mut Cx<'_>) {
        if self.rest.is_empty() || self.heard == Heard::Provisional {
            cx.stop(SessionTimer::NextServer);
        } else {
            cx.set(SessionTimer::NextServer, SILENCE);
        }
    }

    /// A server has said something: the others are not waited for any more.
    pub(super) fn hear(&mut self, cx: &mut Cx<'_>, id: ClientId, heard: Heard) {
        cx.stop(SessionTimer::NextServer);
        for other in self.open.drain(..).filter(|other| *other != id) {
            cx.core.transactions.hush(&mut cx.core.outbox, other);
        }
        self.open.push(id);
        self.heard = heard;
    }

    /// The same server, which has been heard, gets the INVITE once more.
    pub(super) fn repeat(&mut self, cx: &mut Cx<'_>, request: Request, flow: Flow, rounds: Rounds) {
        self.open = vec![send(cx, request, flow, rounds)];
        self.listen(cx);
    }

    /// The server that was asked last says nothing.
    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_>) {
        let silent = self.open.last().and_then(|id| cx.core.transactions.sent(*id));
        if let Some((sent, _)) = silent {
            cx.core.avoided.add(cx.now, sent.flow);
            self.next(cx, &sent.request);
        }
    }

    fn next(&mut self, cx: &mut Cx<'_>, request: &Request) {
        if !self.rest.is_empty() {
            let flow = self.rest.remove(0);
            self.open.push(send(cx, request.clone(), flow, Rounds::default()));
        }
        self.listen(cx);
    }

    /// One has failed. `Some`: and so did all others.
    pub(super) fn fail(&mut self, cx: &mut Cx<'_>, report: &Report, failure: Failure) -> Option<Failure> {
        self.open.retain(|id| *id != report.id);
        self.heard = Heard::Nothing;
        if self.failure.as_ref().is_none_or(|worst| worst.weight() <= failure.weight()) {
            self.failure = Some(failure);
        }
        self.next(cx, &report.sent.request);
        if self.open.is_empty() { self.failure.take() } else { None }
    }

    /// The caller has given up: the INVITE that is to be cancelled, and whether it can be. The others are as good as
    /// answered by another fork.
    pub(super) fn give_up(mut self, cx: &mut Cx<'_>) -> (ClientId, Heard) {
        let last = self.open.last().copied().unwrap_or(ClientId(0));
        let heard = self.heard;
        self.hear(cx, last, heard);
        (last, heard)
    }
}
