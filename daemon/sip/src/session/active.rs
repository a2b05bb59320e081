//! Established sessions (RFC 3261 sections 13.3.1.4, 14 and 15): acknowledgement, new offers, sign of life, end.

use std::time::{Duration, Instant};

use super::offers::{Carrier, Offers, Party, Verdict};
use super::timer::{self, Clock};
use super::update::{self, collide};
use super::{Answer, Cx, Purpose, State, common, reliable, sdp, trickle};
use crate::core::SDP;
use crate::endpoint::{EndCause, Event, SessionError};
use crate::headers::name;
use crate::leg::Leg;
use crate::message::{Method, Request, StatusCode};
use crate::reason::Reason;
use crate::timer::{SessionTimer, T1, T2, TRANSACTION_TIMEOUT};
use crate::transaction::{Outcome, Report, ServerId};

pub(super) struct Active {
    pub(super) leg: Leg,
    offers: Offers,
    clock: Clock,
    unacknowledged: Option<Sent2xx>,
    /// The UPDATE of ours that refreshes the session, without an offer.
    refreshing: Option<u32>,
    /// When it was first seen that nobody answers us, since somebody did.
    unanswered: Option<Instant>,
}

/// Our 2xx, which is repeated until its ACK comes.
struct Sent2xx {
    of: Invite,
    cseq: u32,
    /// As sent; `None` where its transaction was gone.
    sent: Option<Answer>,
    interval: Duration,
}

/// Which INVITE a 2xx answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invite {
    First,
    Later,
}

impl Active {
    pub(super) fn outbound(leg: Leg, offers: Offers, clock: Clock) -> Self {
        Self { leg, offers, clock, unacknowledged: None, refreshing: None, unanswered: None }
    }

    /// `sdp`: the answer to the INVITE's offer, or an offer where it had none; `None` where both were exchanged before.
    pub(super) fn inbound(
        cx: &mut Cx<'_>,
        leg: Leg,
        offers: Offers,
        server: ServerId,
        request: &Request,
        sdp: Option<Vec<u8>>,
    ) -> Self {
        let mut active = Self::outbound(leg, offers, Clock::new());
        if active.offers.unanswered() == Some(Party::Peer) {
            active.offers.answered();
        }
        active.send_2xx(cx, server, request, sdp, Invite::First);
        active
    }

    // Our 2xx and its ACK.

    fn send_2xx(
        &mut self,
        cx: &mut Cx<'_>,
        server: ServerId,
        request: &Request,
        sdp: Option<Vec<u8>>,
        of: Invite,
    ) {
        let mut response = cx.dialog_response(request, &self.leg, StatusCode::OK, sdp);
        self.clock.answer(cx, request, &mut response);
        let sent = cx.respond(server, response);
        cx.set(SessionTimer::Retransmit, T1);
        cx.set(SessionTimer::Acknowledge, TRANSACTION_TIMEOUT);
        self.unacknowledged = Some(Sent2xx { of, cseq: request.cseq, sent, interval: T1 });
    }

    pub(super) fn retransmit(&mut self, cx: &mut Cx<'_>) {
        let Some(Sent2xx { sent, interval, .. }) = &mut self.unacknowledged else { return };
        if let Some(sent) = sent {
            cx.repeat(sent);
        }
        *interval = T2.min(*interval * 2);
        cx.set(SessionTimer::Retransmit, *interval);
    }

    pub(super) fn on_ack(&mut self, cx: &mut Cx<'_>, ack: &Request) {
        if self.is_acknowledged_by(ack) {
            // A description where none is due is passed over (RFC 3261 section 13.2.1).
            let awaited = self.offers.unanswered() == Some(Party::Us);
            self.offers.answered();
            self.acknowledged(cx, sdp(&ack.headers, &ack.body).filter(|_| awaited));
        }
    }

    /// The peer has the last 2xx of ours.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.unacknowledged.is_none()
    }

    fn is_acknowledged_by(&self, ack: &Request) -> bool {
        self.unacknowledged.as_ref().is_some_and(|sent| sent.cseq == ack.cseq)
    }

    fn acknowledged(&mut self, cx: &mut Cx<'_>, sdp: Option<Vec<u8>>) {
        self.stop_repeating(cx);
        cx.event(|session| Event::Confirmed { session, sdp });
    }

    fn stop_repeating(&mut self, cx: &mut Cx<'_>) {
        cx.stop(SessionTimer::Retransmit);
        cx.stop(SessionTimer::Acknowledge);
        self.unacknowledged = None;
    }

    /// The user hung up before the ACK, which comes now: BYE may go.
    pub(super) fn on_ack_after_end(self, cx: &mut Cx<'_>, ack: &Request, why: Option<Reason>) -> State {
        match self.is_acknowledged_by(ack) {
            true => self.leave(cx, why.as_ref()),
            false => State::Unacknowledged(self, why),
        }
    }

    /// No ACK came in 64*T1 (RFC 3261 section 13.3.1.4).
    pub(super) fn unacknowledged(self, cx: &mut Cx<'_>) -> State {
        let state = self.leave(cx, None);
        cx.ended(EndCause::Timeout, None, None);
        state
    }

    // Our offers.

    /// A re-INVITE may go out: no offer and no INVITE is under way (RFC 3261 section 14.1), and there is a network for it.
    pub(super) fn can_offer(&self) -> bool {
        self.offers.is_stable() && self.unacknowledged.is_none() && self.leg.is_reachable()
    }

    pub(super) fn offer(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>) {
        self.send_offer(cx, offer, Carrier::Invite);
    }

    pub(super) fn offer_again(&mut self, cx: &mut Cx<'_>) {
        if let Some((offer, carrier)) = self.offers.take_glare() {
            self.send_offer(cx, offer, carrier);
        }
    }

    fn send_offer(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>, carrier: Carrier) {
        let method = match carrier {
            Carrier::Invite => Method::Invite,
            Carrier::Update => Method::Update,
        };
        let mut request = Request { body: offer, ..self.leg.dialog.request(method) };
        self.clock.ask(cx, &mut request);
        self.offers.make(cx, &mut self.leg, carrier, request);
    }

    pub(super) fn on_reinvite(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        if let Outcome::Response(response) = &report.outcome
            && response.status.is_success()
        {
            cx.acknowledge(&mut self.leg, &report.sent.request);
        }
        self.on_offer(cx, &report)
    }

    /// How our re-INVITE, or our offer in an UPDATE, ended.
    fn on_offer(mut self, cx: &mut Cx<'_>, report: &Report) -> State {
        if !self.offers.is_ours(report) {
            return State::Active(self);
        }
        if let Outcome::Response(response) = &report.outcome {
            if response.status.is_success() {
                self.clock.agreed(cx, response);
            } else if response.status == StatusCode::SESSION_INTERVAL_TOO_SMALL
                && self.clock.raise(&report.sent.request, response)
            {
                let carrier = if self.offers.is_inviting() { Carrier::Invite } else { Carrier::Update };
                self.send_offer(cx, report.sent.request.body.clone(), carrier);
                return State::Active(self);
            }
        }
        match self.offers.on_report(cx, &mut self.leg, report) {
            Verdict::GoesOn => State::Active(self),
            Verdict::Lost(_) if self.outlasts(cx) => {
                self.offers.refused(cx, StatusCode::REQUEST_TIMEOUT);
                State::Active(self)
            }
            Verdict::Lost(status) => self.lost(cx, status),
            Verdict::Gone => self.gone(cx, report),
        }
    }

    // The session timer.

    /// Refreshes the session (RFC 4028 section 7.4): without an offer where the peer takes UPDATE.
    pub(super) fn refresh(&mut self, cx: &mut Cx<'_>) {
        self.clock.refresh_again(cx);
        if self.leg.dialog.takes_update() {
            self.send_refresh(cx);
        } else if self.can_offer() {
            cx.event(|session| Event::RefreshWanted { session });
        }
        // Else an offer is under way, which refreshes too.
    }

    fn send_refresh(&mut self, cx: &mut Cx<'_>) {
        let mut update = self.leg.dialog.request(Method::Update);
        cx.core.introduce(&mut update.headers, cx.sender);
        self.clock.ask(cx, &mut update);
        self.refreshing = Some(update.cseq);
        cx.send(&mut self.leg, update, Purpose::Update);
    }

    /// How an UPDATE of ours ended.
    pub(super) fn on_update_report(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        if self.refreshing != Some(report.sent.request.cseq) {
            return self.on_offer(cx, &report);
        }
        let response = match &report.outcome {
            Outcome::Response(response) => response,
            Outcome::Timeout if self.outlasts(cx) => return State::Active(self),
            Outcome::Timeout => return self.lost(cx, None),
            // The next try may find a way.
            Outcome::Unreachable(_) | Outcome::Over => return State::Active(self),
        };
        match response.status.get() {
            ..200 => {}
            200..300 => {
                _ = self.leg.dialog.refresh_target(&response.headers);
                self.clock.agreed(cx, response);
            }
            401 | 407 => {
                self.refreshing = cx.answer_challenge(&mut self.leg, &report, response, Purpose::Update);
            }
            405 | 501 => {
                self.leg.dialog.without_update();
                self.refresh(cx);
            }
            408 if self.outlasts(cx) => {}
            408 => return self.lost(cx, Some(408)),
            422 if self.clock.raise(&report.sent.request, response) => self.send_refresh(cx),
            481 => return self.gone(cx, &report),
            491 => {
                let delay = self.offers.glare_delay(cx);
                cx.set(SessionTimer::Refresh, delay);
            }
            // The session lives on; the next try is set already.
            _ => {}
        }
        State::Active(self)
    }

    // The peer's offers.

    fn on_invite(&mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) {
        if request.headers.contacts().is_err() {
            return cx.refuse(server, &request, StatusCode::BAD_REQUEST);
        }
        if let Some(refusal) = timer::refusal(cx, &request) {
            cx.respond(server, refusal);
            return;
        }
        // Also where the answer in the ACK is still missing (RFC 5407 section 3.1.5).
        if let Some(collision) = self.offers.collision() {
            return collide(cx, server, &request, collision);
        }
        // Only the ACK was lost: a peer that offers anew has our 2xx.
        if self.unacknowledged.is_some() {
            self.acknowledged(cx, None);
        }
        self.offers.receive(cx, server, request);
    }

    pub(super) fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        answer: Result<Vec<u8>, StatusCode>,
    ) -> Result<(), SessionError> {
        let (server, request) = self.offers.take_theirs().ok_or(SessionError::WrongState)?;
        if request.method != Method::Invite {
            update::answer(cx, &mut self.leg, Some(&mut self.clock), server, &request, answer);
            return Ok(());
        }
        match answer {
            Ok(description) => {
                // A refused offer leaves the target as it was; `on_invite` has seen that the Contact can be read.
                _ = self.leg.dialog.refresh_target(&request.headers);
                if sdp(&request.headers, &request.body).is_none() {
                    self.offers.offered_in_response();
                }
                self.send_2xx(cx, server, &request, Some(description), Invite::Later);
            }
            Err(status) => cx.refuse(server, &request, status),
        }
        Ok(())
    }

    /// CANCEL of the peer's re-INVITE: the session goes on as it was.
    pub(super) fn on_cancel(&mut self, cx: &mut Cx<'_>, cancelled: ServerId) {
        if self.offers.theirs().is_some_and(|(server, _)| server == cancelled)
            && let Some((server, request)) = self.offers.take_theirs()
        {
            cx.refuse(server, &request, StatusCode::REQUEST_TERMINATED);
        }
    }

    // Everything else in the dialog.

    pub(super) fn on_request(mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) -> State {
        self.hear();
        let Some(request) = common(cx, &mut self.leg, server, request) else { return State::Active(self) };
        match request.method {
            Method::Invite => self.on_invite(cx, server, request),
            Method::Update => {
                let (leg, offers) = (&mut self.leg, &mut self.offers);
                update::receive(cx, leg, offers, Some(&mut self.clock), server, request);
            }
            // It has crossed with our 2xx (RFC 3262 section 3).
            Method::Prack if reliable::acknowledge(&mut self.leg, &request) => {
                cx.refuse(server, &request, StatusCode::OK);
            }
            Method::Bye => {
                cx.refuse(server, &request, StatusCode::OK);
                let state = self.silence(cx);
                cx.ended_by(EndCause::Remote, &request.headers);
                return state;
            }
            _ => cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        }
        State::Active(self)
    }

    pub(super) fn probe(&mut self, cx: &mut Cx<'_>) {
        let mut request = self.leg.dialog.request(Method::Options);
        request.headers.push(name::ACCEPT, SDP);
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
                    return self.gone(cx, &report);
                }
                401 | 407
                    if cx.answer_challenge(&mut self.leg, &report, response, Purpose::Probe).is_some() => {}
                _ => probed(cx, true),
            },
            Outcome::Timeout => {
                probed(cx, false);
                if self.leg.is_reachable() {
                    return self.lost(cx, None);
                }
            }
            // As if it were a 503 (RFC 3261 section 8.1.3.1), which ends no dialog: the network may come back.
            Outcome::Unreachable(_) => probed(cx, false),
            Outcome::Over => {}
        }
        State::Active(self)
    }

    /// A request found no way to its next hop.
    pub(super) fn on_unsent(&mut self, cx: &mut Cx<'_>, purpose: Purpose) {
        match purpose {
            Purpose::Reinvite => self.offers.refused(cx, StatusCode::SERVICE_UNAVAILABLE),
            Purpose::Probe => cx.event(|session| Event::Probed { session, alive: false }),
            Purpose::Update if self.offers.is_updating() => {
                self.offers.refused(cx, StatusCode::SERVICE_UNAVAILABLE);
            }
            Purpose::Info => cx.event(|session| Event::DigitSent { session, taken: false }),
            Purpose::Fragment => trickle::not_sent(cx),
            _ => {}
        }
    }

    /// The peer is there, or somebody on the way to it knows better than that it does not answer.
    pub(super) fn hear(&mut self) {
        self.unanswered = None;
    }

    /// A request of ours has found no answer (or 408), and the session goes on all the same: the network has left us, or
    /// may be back before long. (RFC 3261 section 12.2.1.2 would rather end the dialog at once.)
    fn outlasts(&mut self, cx: &Cx<'_>) -> bool {
        if !self.leg.is_reachable() {
            return true;
        }
        // The first was sent a transaction's time before.
        let rest = cx.core.config.network_timeout.saturating_sub(TRANSACTION_TIMEOUT);
        cx.now < *self.unanswered.get_or_insert(cx.now) + rest
    }

    // The end.

    /// No answer, 408 (RFC 3261 section 12.2.1.2), or no refresh (RFC 4028 section 10).
    pub(super) fn lost(self, cx: &mut Cx<'_>, status: Option<u16>) -> State {
        let state = self.leave(cx, None);
        cx.ended(EndCause::Timeout, status, None);
        state
    }

    /// The peer knows nothing of this dialog: BYE would tell it nothing (RFC 3261 section 12.2.1.2).
    pub(super) fn gone(self, cx: &mut Cx<'_>, report: &Report) -> State {
        let Outcome::Response(response) = &report.outcome else { return self.lost(cx, None) };
        let text = Some(response.reason.clone()).filter(|reason| !reason.is_empty());
        let state = self.silence(cx);
        cx.ended(EndCause::Remote, Some(response.status.get()), text);
        state
    }

    /// Ends the session for the user; `Ended` is the caller's to tell.
    pub(super) fn hangup(self, cx: &mut Cx<'_>, why: Option<Reason>) -> State {
        match self.unacknowledged {
            Some(Sent2xx { of: Invite::First, .. }) => {
                let mut waiting = self;
                waiting.clock.stop(cx);
                State::Unacknowledged(waiting, why)
            }
            _ => self.leave(cx, why.as_ref()),
        }
    }

    /// Answers what is open and sends BYE.
    pub(super) fn leave(self, cx: &mut Cx<'_>, why: Option<&Reason>) -> State {
        let mut leg = self.close(cx);
        cx.bye(&mut leg, Purpose::Bye, why);
        State::Over(Some(leg))
    }

    /// Answers what is open, without BYE.
    pub(super) fn silence(self, cx: &mut Cx<'_>) -> State {
        State::Over(Some(self.close(cx)))
    }

    fn close(mut self, cx: &mut Cx<'_>) -> Leg {
        // A peer that has gone may leave our re-INVITE with a provisional response for ever.
        if self.offers.is_inviting() {
            cx.set(SessionTimer::Cancel, TRANSACTION_TIMEOUT);
        }
        self.offers.close(cx);
        self.stop_repeating(cx);
        self.clock.stop(cx);
        self.leg.awaited = None;
        self.leg
    }
}
