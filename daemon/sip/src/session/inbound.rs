//! Inbound sessions until they are answered or given up (RFC 3261 section 13.3).

use std::time::Duration;

use super::{Cx, State, active::Active, common};
use crate::core::ACCEPT;
use crate::dialog::Dialog;
use crate::endpoint::{EndCause, Flow};
use crate::headers::name;
use crate::leg::Leg;
use crate::message::{Method, Request, StatusCode};
use crate::timer::SessionTimer;
use crate::transaction::ServerId;

/// How often a provisional response is repeated (RFC 3261 section 13.3.1.1).
const PROVISIONAL_INTERVAL: Duration = Duration::from_secs(60);

/// The INVITE waits for the user's decision.
pub(super) struct Alerting {
    server: ServerId,
    pub(super) request: Request,
    pub(super) leg: Leg,
    /// What was told last.
    told: Option<(StatusCode, Option<Vec<u8>>)>,
}

impl Alerting {
    /// `None` where the INVITE makes no dialog: it is answered then.
    pub(super) fn begin(cx: &mut Cx<'_>, server: ServerId, request: Request, flow: Flow) -> Option<Self> {
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
        Some(Self { server, request, leg: Leg::new(dialog, flow), told: None })
    }

    pub(super) fn ring(&mut self, cx: &mut Cx<'_>, early: Option<Vec<u8>>) {
        let status = if early.is_some() { StatusCode::SESSION_PROGRESS } else { StatusCode::RINGING };
        self.told = Some((status, early));
        self.repeat(cx);
    }

    /// Tells again what was told last.
    pub(super) fn repeat(&mut self, cx: &mut Cx<'_>) {
        let Some((status, early)) = self.told.clone() else { return };
        let response = cx.dialog_response(&self.request, &self.leg, status, early);
        cx.respond(self.server, response);
        cx.set(SessionTimer::Provisional, PROVISIONAL_INTERVAL);
    }

    pub(super) fn accept(self, cx: &mut Cx<'_>, sdp: Vec<u8>) -> Active {
        decided(cx);
        Active::inbound(cx, self.leg, self.server, &self.request, sdp)
    }

    /// Answers with a final response; `Ended` is the caller's to tell.
    pub(super) fn reject(self, cx: &mut Cx<'_>, status: StatusCode, warning: Option<(u16, String)>) -> State {
        decided(cx);
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
                cx.refuse_overlap(server, &request);
                State::Alerting(self)
            }
            _ => {
                cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
                State::Alerting(self)
            }
        }
    }
}

/// The INVITE has its final response: nothing waits for the user any more.
fn decided(cx: &mut Cx<'_>) {
    cx.stop(SessionTimer::Provisional);
    cx.stop(SessionTimer::Expires);
}
