//! What the application wants of a session, in whatever state that is.

use super::{Cx, Session, State, info, update};
use crate::dtmf_info::Digit;
use crate::endpoint::{EndCause, SessionError};
use crate::message::StatusCode;
use crate::reason::Reason;

impl Session {
    pub(crate) fn send_invite(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>) -> Result<(), SessionError> {
        if !matches!(self.state, State::Offering(_)) {
            return Err(SessionError::WrongState);
        }
        if let State::Offering(offering) = self.take() {
            self.state = offering.send(cx, offer);
        }
        Ok(())
    }

    pub(crate) fn ring(&mut self, cx: &mut Cx<'_>, early: Option<Vec<u8>>) -> Result<(), SessionError> {
        let State::Alerting(alerting) = &mut self.state else { return Err(SessionError::WrongState) };
        alerting.ring(cx, early)
    }

    pub(crate) fn accept(&mut self, cx: &mut Cx<'_>, sdp: Vec<u8>) -> Result<(), SessionError> {
        let State::Alerting(alerting) = &mut self.state else { return Err(SessionError::WrongState) };
        alerting.accept(sdp)?;
        self.proceed(cx);
        Ok(())
    }

    /// Sends the 2xx as soon as nothing holds it back.
    fn proceed(&mut self, cx: &mut Cx<'_>) {
        self.state = match self.take() {
            State::Alerting(alerting) => alerting.proceed(cx),
            state => state,
        };
    }

    pub(crate) fn reject(
        &mut self,
        cx: &mut Cx<'_>,
        status: StatusCode,
        warning: Option<(u16, String)>,
    ) -> Result<(), SessionError> {
        if !matches!(self.state, State::Alerting(_)) || status.get() < 300 {
            return Err(SessionError::WrongState);
        }
        if let State::Alerting(alerting) = self.take() {
            self.state = alerting.reject(cx, status, warning);
            cx.ended(EndCause::Local, Some(status.get()), None);
        }
        Ok(())
    }

    pub(crate) fn can_offer(&self) -> bool {
        match &self.state {
            State::Calling(calling) => calling.can_offer(),
            State::Alerting(alerting) => alerting.can_offer(),
            State::Active(active) => active.can_offer(),
            _ => false,
        }
    }

    pub(crate) fn offer(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>) -> Result<(), SessionError> {
        if !self.can_offer() {
            return Err(SessionError::WrongState);
        }
        match &mut self.state {
            State::Calling(calling) => calling.offer(cx, offer),
            State::Alerting(alerting) => alerting.offers.update(cx, &mut alerting.leg, offer),
            State::Active(active) => active.offer(cx, offer),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn answer_offer(
        &mut self,
        cx: &mut Cx<'_>,
        answer: Result<Vec<u8>, StatusCode>,
    ) -> Result<(), SessionError> {
        if answer.as_ref().is_err_and(|status| status.get() < 300) {
            return Err(SessionError::WrongState);
        }
        match &mut self.state {
            State::Calling(calling) => {
                let early = calling.described().ok_or(SessionError::WrongState)?;
                let (server, request) = early.offers.take_theirs().ok_or(SessionError::WrongState)?;
                update::answer(cx, &mut early.leg, None, server, &request, answer);
            }
            State::Alerting(alerting) => {
                let (server, request) = alerting.offers.take_theirs().ok_or(SessionError::WrongState)?;
                update::answer(cx, &mut alerting.leg, None, server, &request, answer);
                self.proceed(cx);
            }
            State::Active(active) => return active.answer(cx, answer),
            _ => return Err(SessionError::WrongState),
        }
        Ok(())
    }

    pub(crate) fn probe(&mut self, cx: &mut Cx<'_>) -> Result<(), SessionError> {
        let State::Active(active) = &mut self.state else { return Err(SessionError::WrongState) };
        active.probe(cx);
        Ok(())
    }

    pub(crate) fn send_digit(&mut self, cx: &mut Cx<'_>, digit: Digit) -> Result<(), SessionError> {
        let State::Active(active) = &mut self.state else { return Err(SessionError::WrongState) };
        active.send_digit(cx, digit)
    }

    pub(crate) fn takes_digits(&self) -> bool {
        matches!(&self.state, State::Active(active) if info::is_allowed(&active.leg))
    }

    pub(crate) fn hangup(&mut self, cx: &mut Cx<'_>, why: Option<Reason>) {
        if self.has_ended() {
            return;
        }
        self.note_early_cseq();
        self.state = match self.take() {
            State::Resolving(resolving) => {
                cx.core.answered(resolving.asked);
                State::Over(None)
            }
            State::Calling(calling) => calling.cancel(cx, why),
            State::Alerting(alerting) => alerting.reject(cx, StatusCode::DECLINE, None),
            State::Active(active) => active.hangup(cx, why),
            State::Offering(_) => State::Over(None),
            state => state,
        };
        cx.ended(EndCause::Local, None, None);
    }
}
