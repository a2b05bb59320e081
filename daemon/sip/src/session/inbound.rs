//! Inbound sessions until they are answered or given up (RFC 3261 section 13.3).

use std::time::Duration;

use super::active::Active;
use super::offers::{Offers, Party, Role, Verdict};
use super::reliable::{self, Sending};
use super::{Cx, State, common, sdp, timer, update};
use crate::core::ACCEPT;
use crate::dialog::Dialog;
use crate::endpoint::{EndCause, Event, Flow, SessionError};
use crate::headers::name;
use crate::leg::Leg;
use crate::message::{Method, Request, StatusCode};
use crate::timer::SessionTimer;
use crate::transaction::{Report, ServerId};

/// How often a provisional response is repeated (RFC 3261 section 13.3.1.1).
const PROVISIONAL_INTERVAL: Duration = Duration::from_secs(60);

/// The INVITE waits for the user's decision.
pub(super) struct Alerting {
    server: ServerId,
    pub(super) request: Request,
    pub(super) leg: Leg,
    pub(super) offers: Offers,
    /// What was told last.
    told: Option<(StatusCode, Option<Vec<u8>>)>,
    pub(super) sending: Sending,
    /// The user has accepted, with this session description: the 2xx waits until it may be sent.
    accepted: Option<Vec<u8>>,
}

impl Alerting {
    /// `None` where the INVITE makes no dialog: it is answered then.
    pub(super) fn begin(cx: &mut Cx<'_>, server: ServerId, request: Request, flow: Flow) -> Option<Self> {
        if let Some(refusal) = timer::refusal(cx, &request) {
            cx.respond(server, refusal);
            return None;
        }
        let tag = cx.core.random.tag();
        let Ok(dialog) = Dialog::callee(&request, &tag) else {
            cx.refuse(server, &request, StatusCode::BAD_REQUEST);
            return None;
        };
        cx.index(&dialog);
        // What is unreadable does not limit the invitation.
        if let Some(seconds) = request.headers.number(name::EXPIRES).ok().flatten() {
            cx.set(SessionTimer::Expires, Duration::from_secs(seconds.into()));
        }
        let first = match sdp(&request.headers, &request.body) {
            Some(_) => Party::Peer,
            None => Party::Us,
        };
        let (leg, offers) = (Leg::new(dialog, flow), Offers::begun(Role::Callee, first));
        let sending = Sending::new(&request);
        Some(Self { server, request, leg, offers, told: None, sending, accepted: None })
    }

    pub(super) fn ring(&mut self, cx: &mut Cx<'_>, early: Option<Vec<u8>>) -> Result<(), SessionError> {
        if self.accepted.is_some() {
            return Err(SessionError::WrongState);
        }
        let early = early.filter(|_| match self.offers.unanswered() {
            Some(Party::Peer) => true,
            // An offer must arrive (RFC 3261 section 13.2.1).
            Some(Party::Us) => self.sending.is_wanted(true),
            // What is answered already is not answered again.
            None => false,
        });
        let status = if early.is_some() { StatusCode::SESSION_PROGRESS } else { StatusCode::RINGING };
        let reliable = self.sending.is_wanted(early.is_some());
        // The first reliable response to an INVITE without offer has one (RFC 3262 section 5).
        if reliable
            && early.is_none()
            && self.offers.unanswered() == Some(Party::Us)
            && self.leg.awaited.is_none()
        {
            return Err(SessionError::WrongState);
        }
        self.told = Some((status, early));
        self.tell(cx);
        Ok(())
    }

    /// Tells again what was told last.
    pub(super) fn repeat(&mut self, cx: &mut Cx<'_>) {
        // A description that arrives for certain is told once.
        if let Some((_, early)) = &mut self.told
            && self.offers.unanswered().is_none()
        {
            *early = None;
        }
        self.tell(cx);
    }

    fn tell(&mut self, cx: &mut Cx<'_>) {
        let Some((status, early)) = self.told.clone() else { return };
        cx.set(SessionTimer::Provisional, PROVISIONAL_INTERVAL);
        if !self.sending.is_wanted(early.is_some()) {
            let response = cx.dialog_response(&self.request, &self.leg, status, early);
            cx.respond(self.server, response);
        } else if let Some((status, early)) = self.sending.turn(status, early) {
            self.tell_reliably(cx, status, early);
        }
    }

    fn tell_reliably(&mut self, cx: &mut Cx<'_>, status: StatusCode, early: Option<Vec<u8>>) {
        if early.is_some() && self.offers.unanswered() == Some(Party::Peer) {
            self.offers.answered();
        }
        let response = cx.dialog_response(&self.request, &self.leg, status, early);
        self.sending.send(cx, &mut self.leg, self.server, &self.request, response);
    }

    /// Takes the user's decision; [`Alerting::proceed`] carries it out.
    pub(super) fn accept(&mut self, sdp: Vec<u8>) -> Result<(), SessionError> {
        let described = self.offers.unanswered().is_none() || self.sending.holds_back_2xx();
        if self.accepted.is_some() || (sdp.is_empty() && !described) {
            return Err(SessionError::WrongState);
        }
        self.accepted = Some(sdp);
        Ok(())
    }

    /// Sends the 2xx where the user has accepted, and no session description of a provisional response or of a PRACK is
    /// under way (RFC 3262 section 3).
    pub(super) fn proceed(mut self, cx: &mut Cx<'_>) -> State {
        if self.sending.holds_back_2xx() || self.offers.theirs().is_some() {
            return State::Alerting(self);
        }
        let Some(sdp) = self.accepted.take() else { return State::Alerting(self) };
        self.decided(cx);
        let sdp = Some(sdp).filter(|_| self.offers.unanswered().is_some());
        State::Active(Active::inbound(cx, self.leg, self.offers, self.server, &self.request, sdp))
    }

    /// The early dialog has its answer, and the peer takes UPDATE.
    pub(super) fn can_offer(&self) -> bool {
        let is_settled = self.offers.is_stable() && self.leg.awaited.is_none() && self.accepted.is_none();
        is_settled && self.leg.dialog.takes_update()
    }

    /// How our UPDATE ended. What becomes of the dialog, our final response decides.
    pub(super) fn on_update_report(&mut self, cx: &mut Cx<'_>, report: &Report) {
        if !self.offers.is_ours(report) {
            return;
        }
        match self.offers.on_report(cx, &mut self.leg, report) {
            Verdict::GoesOn => {}
            Verdict::Lost(_) => self.offers.refused(cx, StatusCode::REQUEST_TIMEOUT),
            Verdict::Gone => self.offers.refused(cx, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        }
    }

    fn on_prack(mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) -> State {
        if !reliable::acknowledge(&mut self.leg, &request) {
            cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
            return State::Alerting(self);
        }
        let described = self.sending.holds_back_2xx();
        let next = self.sending.acknowledged(cx);
        let sdp = sdp(&request.headers, &request.body);
        if described && self.offers.unanswered() == Some(Party::Us) {
            self.offers.answered();
            cx.refuse(server, &request, StatusCode::OK);
            cx.event(|session| Event::Confirmed { session, sdp });
        } else if sdp.is_some() && self.offers.collision().is_none() {
            self.offers.receive(cx, server, request);
        } else {
            // An offer while another is open is no offer; the PRACK acknowledges all the same.
            cx.refuse(server, &request, StatusCode::OK);
        }
        if let Some((status, early)) = next
            && self.accepted.is_none()
        {
            let early = early.filter(|_| self.offers.unanswered().is_some());
            self.tell_reliably(cx, status, early);
        }
        self.proceed(cx)
    }

    /// No PRACK came in 64*T1 (RFC 3262 section 3).
    pub(super) fn unacknowledged(mut self, cx: &mut Cx<'_>) -> State {
        self.leg.awaited = None;
        let state = self.reject(cx, StatusCode::SERVER_TIME_OUT, None);
        cx.ended(EndCause::Timeout, None, None);
        state
    }

    /// Answers with a final response; `Ended` is the caller's to tell.
    pub(super) fn reject(
        mut self,
        cx: &mut Cx<'_>,
        status: StatusCode,
        warning: Option<(u16, String)>,
    ) -> State {
        self.decided(cx);
        self.offers.close(cx);
        let mut response = cx.core.response(&self.request, status);
        response.to.params.set("tag", Some(&self.leg.dialog.id.local_tag));
        if let Some((code, text)) = warning {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            response.headers.push(name::WARNING, format!("{code:03} {} \"{text}\"", self.leg.flow.local));
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            response.headers.push(name::ACCEPT, ACCEPT);
        }
        cx.respond(self.server, response);
        State::Over(Some(self.leg))
    }

    pub(super) fn on_cancel(self, cx: &mut Cx<'_>, cancel: &Request) -> State {
        let state = self.reject(cx, StatusCode::REQUEST_TERMINATED, None);
        cx.ended_by(EndCause::Cancelled, &cancel.headers);
        state
    }

    /// The caller does not wait any longer (RFC 3261 section 13.3.1).
    pub(super) fn expire(self, cx: &mut Cx<'_>) -> State {
        let state = self.reject(cx, StatusCode::REQUEST_TERMINATED, None);
        cx.ended(EndCause::Cancelled, None, None);
        state
    }

    pub(super) fn on_request(mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) -> State {
        let Some(request) = common(cx, &mut self.leg, server, request) else { return State::Alerting(self) };
        match request.method {
            // The caller may end an early dialog so (RFC 3261 section 15).
            Method::Bye => {
                cx.refuse(server, &request, StatusCode::OK);
                let state = self.reject(cx, StatusCode::REQUEST_TERMINATED, None);
                cx.ended_by(EndCause::Remote, &request.headers);
                state
            }
            Method::Invite => {
                cx.refuse_for_now(server, &request);
                State::Alerting(self)
            }
            Method::Prack => self.on_prack(cx, server, request),
            Method::Update => {
                update::receive(cx, &mut self.leg, &mut self.offers, None, server, request);
                State::Alerting(self)
            }
            _ => {
                cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
                State::Alerting(self)
            }
        }
    }

    /// The INVITE gets its final response: nothing waits for the user any more.
    fn decided(&mut self, cx: &mut Cx<'_>) {
        cx.stop(SessionTimer::Provisional);
        cx.stop(SessionTimer::Expires);
        self.sending.stop(cx);
    }
}
