//! Established sessions (RFC 3261 sections 13.3.1.4, 14 and 15): acknowledgement, new offers, sign of life, end.

use std::time::Duration;

use super::{Cx, Purpose, State, common, reason, sdp};
use crate::core::{ALLOW, SDP};
use crate::endpoint::{EndCause, Event, SessionError};
use crate::headers::name;
use crate::leg::Leg;
use crate::message::{Method, Request, Response, StatusCode};
use crate::timer::{SessionTimer, T1, T2, TRANSACTION_TIMEOUT};
use crate::transaction::{Outcome, Report, ServerId};

pub(super) struct Active {
    pub(super) leg: Leg,
    role: Role,
    negotiation: Negotiation,
}

/// Who made the Call-ID: it decides who tries again first after glare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Caller,
    Callee,
}

/// Which offer is under way.
enum Negotiation {
    Stable,
    /// Our 2xx is repeated until its ACK comes.
    Unacknowledged {
        sent: Sent2xx,
        of: Invite,
        interval: Duration,
    },
    /// Our re-INVITE of this number has no final response yet.
    Offering {
        cseq: u32,
    },
    /// Our re-INVITE met the peer's, and will be tried again.
    Glare {
        offer: Vec<u8>,
    },
    /// The peer's re-INVITE waits for the user.
    Answering {
        server: ServerId,
        request: Box<Request>,
    },
}

/// Which INVITE a 2xx answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invite {
    First,
    Later,
}

/// A 2xx of ours.
struct Sent2xx {
    cseq: u32,
    server: ServerId,
    /// As sent; `None` where its transaction was gone.
    bytes: Option<Vec<u8>>,
    content: Content,
}

/// What a 2xx carried, and so what its ACK carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Offer,
    Answer,
}

impl Active {
    pub(super) fn outbound(leg: Leg) -> Self {
        Self { leg, role: Role::Caller, negotiation: Negotiation::Stable }
    }

    pub(super) fn inbound(
        cx: &mut Cx<'_>,
        leg: Leg,
        server: ServerId,
        request: &Request,
        sdp: Vec<u8>,
    ) -> Self {
        let mut active = Self { leg, role: Role::Callee, negotiation: Negotiation::Stable };
        active.send_2xx(cx, server, request, sdp, Invite::First);
        active
    }

    // Our 2xx and its ACK.

    fn send_2xx(&mut self, cx: &mut Cx<'_>, server: ServerId, request: &Request, body: Vec<u8>, of: Invite) {
        let content =
            if sdp(&request.headers, &request.body).is_some() { Content::Answer } else { Content::Offer };
        let response = cx.dialog_response(request, &self.leg, StatusCode::OK, Some(body));
        let sent = Sent2xx { cseq: request.cseq, server, bytes: cx.respond(server, response), content };
        cx.set(SessionTimer::Retransmit, T1);
        cx.set(SessionTimer::Acknowledge, TRANSACTION_TIMEOUT);
        self.negotiation = Negotiation::Unacknowledged { sent, of, interval: T1 };
    }

    pub(super) fn retransmit(&mut self, cx: &mut Cx<'_>) {
        let Negotiation::Unacknowledged { sent, interval, .. } = &mut self.negotiation else { return };
        if let Some(bytes) = &sent.bytes {
            cx.core.transactions.repeat(&mut cx.core.outbox, sent.server, bytes);
        }
        *interval = T2.min(*interval * 2);
        cx.set(SessionTimer::Retransmit, *interval);
    }

    pub(super) fn on_ack(&mut self, cx: &mut Cx<'_>, ack: &Request) {
        if self.is_acknowledged_by(ack) {
            self.settle(cx);
            let sdp = sdp(&ack.headers, &ack.body);
            cx.event(|session| Event::Confirmed { session, sdp });
        }
    }

    fn is_acknowledged_by(&self, ack: &Request) -> bool {
        matches!(&self.negotiation, Negotiation::Unacknowledged { sent, .. } if sent.cseq == ack.cseq)
    }

    /// No offer is under way any more.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        cx.stop(SessionTimer::Retransmit);
        cx.stop(SessionTimer::Acknowledge);
        cx.stop(SessionTimer::Glare);
        self.negotiation = Negotiation::Stable;
    }

    /// The user hung up before the ACK, which comes now: BYE may go.
    pub(super) fn on_ack_after_end(self, cx: &mut Cx<'_>, ack: &Request) -> State {
        if self.is_acknowledged_by(ack) { self.leave(cx) } else { State::Unacknowledged(self) }
    }

    /// No ACK came in 64*T1 (RFC 3261 section 13.3.1.4).
    pub(super) fn unacknowledged(self, cx: &mut Cx<'_>) -> State {
        let state = self.leave(cx);
        cx.ended(EndCause::Timeout, None, None);
        state
    }

    // Our offers.

    pub(super) fn reinvite(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>) -> Result<(), SessionError> {
        if !matches!(self.negotiation, Negotiation::Stable) {
            return Err(SessionError::WrongState);
        }
        self.offer(cx, offer);
        Ok(())
    }

    pub(super) fn offer_again(&mut self, cx: &mut Cx<'_>) {
        if let Negotiation::Glare { offer } = &mut self.negotiation {
            let offer = std::mem::take(offer);
            self.offer(cx, offer);
        }
    }

    fn offer(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>) {
        let mut request = self.leg.dialog.request(Method::Invite);
        request.headers.push(name::ALLOW, ALLOW);
        request.headers.push(name::SUPPORTED, "");
        request.headers.push(name::CONTENT_TYPE, SDP);
        request.body = offer;
        self.negotiation = Negotiation::Offering { cseq: request.cseq };
        cx.send(&mut self.leg, request, Purpose::Reinvite);
    }

    pub(super) fn on_reinvite(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        let invite = &report.sent.request;
        let current = matches!(self.negotiation, Negotiation::Offering { cseq } if cseq == invite.cseq);
        let response = match &report.outcome {
            Outcome::Response(response) => response,
            Outcome::Timeout if current => return self.lost(cx, None),
            // RFC 3261 section 8.1.3.1: as if it were a 503.
            Outcome::Unreachable(_) if current => return self.refused(cx, StatusCode::SERVICE_UNAVAILABLE),
            Outcome::Timeout | Outcome::Unreachable(_) | Outcome::Over => return State::Active(self),
        };
        if response.status.is_success() {
            cx.acknowledge(&mut self.leg, invite);
            if current {
                self.negotiation = Negotiation::Stable;
                // A Contact that cannot be read leaves the target as it was.
                _ = self.leg.dialog.refresh_target(&response.headers);
                let sdp = sdp(&response.headers, &response.body);
                cx.event(|session| Event::ReinviteDone { session, result: Ok(sdp) });
            }
            return State::Active(self);
        }
        if response.status.is_provisional() || !current {
            return State::Active(self);
        }
        match response.status.get() {
            401 | 407 => match cx.answer_challenge(&mut self.leg, &report, response, Purpose::Reinvite) {
                Some(cseq) => {
                    self.negotiation = Negotiation::Offering { cseq };
                    State::Active(self)
                }
                None => self.refused(cx, response.status),
            },
            408 => self.lost(cx, Some(408)),
            481 => self.gone(cx, response),
            491 => {
                // RFC 3261 section 14.1, in units of 10 ms: who made the Call-ID waits longer.
                let (from, to) = match self.role {
                    Role::Caller => (210, 400),
                    Role::Callee => (0, 200),
                };
                let units = cx.core.random.between(Duration::from_millis(from), Duration::from_millis(to));
                cx.set(SessionTimer::Glare, units * 10);
                self.negotiation = Negotiation::Glare { offer: invite.body.clone() };
                State::Active(self)
            }
            _ => self.refused(cx, response.status),
        }
    }

    /// The session goes on as it was before the offer.
    fn refused(mut self, cx: &mut Cx<'_>, status: StatusCode) -> State {
        self.negotiation = Negotiation::Stable;
        cx.event(|session| Event::ReinviteDone { session, result: Err(status) });
        State::Active(self)
    }

    // The peer's offers.

    fn on_invite(&mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) {
        match &self.negotiation {
            Negotiation::Stable => {}
            Negotiation::Offering { .. } => return cx.refuse(server, &request, StatusCode::REQUEST_PENDING),
            Negotiation::Answering { .. } => return cx.refuse_overlap(server, &request),
            // The answer in the ACK is still missing (RFC 5407 section 3.1.5).
            Negotiation::Unacknowledged { sent: Sent2xx { content: Content::Offer, .. }, .. } => {
                return cx.refuse(server, &request, StatusCode::REQUEST_PENDING);
            }
            // Only the ACK was lost: a peer that offers anew has our 2xx.
            Negotiation::Unacknowledged { .. } => {
                self.settle(cx);
                cx.event(|session| Event::Confirmed { session, sdp: None });
            }
            // Our offer was made before the peer's, and would undo it.
            Negotiation::Glare { .. } => {
                self.settle(cx);
                cx.event(|session| Event::ReinviteDone { session, result: Err(StatusCode::REQUEST_PENDING) });
            }
        }
        let sdp = sdp(&request.headers, &request.body);
        self.negotiation = Negotiation::Answering { server, request: Box::new(request) };
        cx.event(|session| Event::Reinvite { session, sdp });
    }

    pub(super) fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        answer: Result<Vec<u8>, StatusCode>,
    ) -> Result<(), SessionError> {
        let refusable = answer.as_ref().err().is_none_or(|status| status.get() >= 300);
        let Negotiation::Answering { server, request } = &self.negotiation else {
            return Err(SessionError::WrongState);
        };
        if !refusable {
            return Err(SessionError::WrongState);
        }
        let (server, request) = (*server, request.clone());
        match answer {
            Ok(sdp) => {
                // A refused offer leaves the target as it was; `common` has seen that the Contact can be read.
                _ = self.leg.dialog.refresh_target(&request.headers);
                self.send_2xx(cx, server, &request, sdp, Invite::Later);
            }
            Err(status) => {
                self.negotiation = Negotiation::Stable;
                cx.refuse(server, &request, status);
            }
        }
        Ok(())
    }

    /// CANCEL of the peer's re-INVITE: the session goes on as it was.
    pub(super) fn on_cancel(&mut self, cx: &mut Cx<'_>, cancelled: ServerId) {
        if let Negotiation::Answering { server, request } = &self.negotiation
            && *server == cancelled
        {
            cx.refuse(cancelled, request, StatusCode::REQUEST_TERMINATED);
            self.negotiation = Negotiation::Stable;
        }
    }

    // Everything else in the dialog.

    pub(super) fn on_request(mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) -> State {
        let Some(request) = common(cx, &mut self.leg, server, request) else { return State::Active(self) };
        match request.method {
            Method::Invite if request.headers.contacts().is_err() => {
                cx.refuse(server, &request, StatusCode::BAD_REQUEST);
            }
            Method::Invite => self.on_invite(cx, server, request),
            Method::Bye => {
                cx.refuse(server, &request, StatusCode::OK);
                let (status, text) = reason::read(&request.headers);
                let state = self.silence(cx);
                cx.ended(EndCause::Remote, status, text);
                return state;
            }
            _ => cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        }
        State::Active(self)
    }

    pub(super) fn probe(&mut self, cx: &mut Cx<'_>) {
        let mut request = self.leg.dialog.request(Method::Options);
        request.headers.push("Accept", SDP);
        cx.send(&mut self.leg, request, Purpose::Probe);
    }

    pub(super) fn on_probe(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        let probed = |cx: &mut Cx<'_>, alive| cx.event(|session| Event::Probed { session, alive });
        match &report.outcome {
            Outcome::Response(response) => match response.status.get() {
                ..200 => {}
                408 => {
                    probed(cx, false);
                    return self.lost(cx, Some(408));
                }
                481 => {
                    probed(cx, false);
                    return self.gone(cx, response);
                }
                401 | 407
                    if cx.answer_challenge(&mut self.leg, &report, response, Purpose::Probe).is_some() => {}
                _ => probed(cx, true),
            },
            Outcome::Timeout => {
                probed(cx, false);
                return self.lost(cx, None);
            }
            // As if it were a 503 (RFC 3261 section 8.1.3.1), which ends no dialog: the network may come back.
            Outcome::Unreachable(_) => probed(cx, false),
            Outcome::Over => {}
        }
        State::Active(self)
    }

    /// A request found no way to its next hop.
    pub(super) fn on_unsent(self, cx: &mut Cx<'_>, purpose: Purpose) -> State {
        match purpose {
            Purpose::Reinvite => self.refused(cx, StatusCode::SERVICE_UNAVAILABLE),
            Purpose::Probe => {
                cx.event(|session| Event::Probed { session, alive: false });
                State::Active(self)
            }
            Purpose::Invite | Purpose::Cancel | Purpose::Bye | Purpose::ForkBye => State::Active(self),
        }
    }

    // The end.

    /// No answer, or 408 (RFC 3261 section 12.2.1.2).
    fn lost(self, cx: &mut Cx<'_>, status: Option<u16>) -> State {
        let state = self.leave(cx);
        cx.ended(EndCause::Timeout, status, None);
        state
    }

    /// The peer knows nothing of this dialog: BYE would tell it nothing (RFC 3261 section 12.2.1.2).
    fn gone(self, cx: &mut Cx<'_>, response: &Response) -> State {
        let text = Some(response.reason.clone()).filter(|reason| !reason.is_empty());
        let state = self.silence(cx);
        cx.ended(EndCause::Remote, Some(response.status.get()), text);
        state
    }

    /// Ends the session for the user; `Ended` is the caller's to tell.
    pub(super) fn hangup(self, cx: &mut Cx<'_>) -> State {
        match self.negotiation {
            Negotiation::Unacknowledged { of: Invite::First, .. } => State::Unacknowledged(self),
            _ => self.leave(cx),
        }
    }

    /// Answers what is open and sends BYE.
    pub(super) fn leave(self, cx: &mut Cx<'_>) -> State {
        let mut leg = self.close(cx);
        cx.bye(&mut leg, Purpose::Bye);
        State::Over(Some(leg))
    }

    /// Answers what is open, without BYE.
    pub(super) fn silence(self, cx: &mut Cx<'_>) -> State {
        State::Over(Some(self.close(cx)))
    }

    fn close(mut self, cx: &mut Cx<'_>) -> Leg {
        if let Negotiation::Answering { server, request } = &self.negotiation {
            cx.refuse(*server, request, StatusCode::REQUEST_TERMINATED);
        }
        // A peer that has gone may leave our re-INVITE with a provisional response for ever.
        if matches!(self.negotiation, Negotiation::Offering { .. }) {
            cx.set(SessionTimer::Cancel, TRANSACTION_TIMEOUT);
        }
        self.settle(cx);
        self.leg
    }
}
