//! INFO in sessions: digits in both directions (RFC 2976 as gateways use it). The one Info package (RFC 6086) that we take
//! is [`trickle`]'s.

use super::{Cx, Purpose, State, active::Active, trickle};
use crate::dtmf_info::{Digit, PLAIN, RELAY};
use crate::endpoint::{Event, SessionError};
use crate::headers::name;
use crate::leg::Leg;
use crate::message::{Method, Request, StatusCode};
use crate::transaction::{Outcome, Report, ServerId};

/// Answers an INFO, and tells of the digit in it.
pub(super) fn receive(cx: &mut Cx<'_>, server: ServerId, request: &Request) {
    if request.headers.get(name::INFO_PACKAGE).is_some() {
        // RFC 6086 section 4.2.2: the list may be empty.
        let mut response = cx.core.response(request, StatusCode::BAD_INFO_PACKAGE);
        response.headers.push(name::RECV_INFO, if cx.sender.trickle { trickle::TAG } else { "" });
        cx.respond(server, response);
        return;
    }
    let content_type = request.headers.content_type().unwrap_or_default();
    if request.body.is_empty() {
        // RFC 2976 section 2.2: answered, whatever it was for.
        cx.refuse(server, request, StatusCode::OK);
    } else if ![RELAY, PLAIN].contains(&content_type.as_str()) {
        let mut response = cx.core.response(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        response.headers.push(name::ACCEPT, format!("{RELAY}, {PLAIN}"));
        cx.respond(server, response);
    } else if let Some(Digit { digit, duration_ms }) = Digit::read(&content_type, &request.body) {
        cx.refuse(server, request, StatusCode::OK);
        cx.event(|session| Event::Digit { session, digit, duration_ms });
    } else {
        cx.refuse(server, request, StatusCode::BAD_REQUEST);
    }
}

/// The peer has not said that it takes no INFO (RFC 3261 section 20.5).
pub(super) fn is_allowed(leg: &Leg) -> bool {
    leg.dialog.allows(&Method::Info)
}

impl Active {
    pub(super) fn send_digit(&mut self, cx: &mut Cx<'_>, digit: Digit) -> Result<(), SessionError> {
        if !is_allowed(&self.leg) {
            return Err(SessionError::NotAllowed);
        }
        let mut request = self.leg.dialog.request(Method::Info);
        request.headers.push(name::CONTENT_TYPE, RELAY);
        request.body = digit.write();
        cx.send(&mut self.leg, request, Purpose::Info);
        Ok(())
    }

    pub(super) fn on_info(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        let taken = match &report.outcome {
            Outcome::Over => return State::Active(self),
            Outcome::Response(response) => match response.status.get() {
                ..200 => return State::Active(self),
                401 | 407
                    if cx.answer_challenge(&mut self.leg, &report, response, Purpose::Info).is_some() =>
                {
                    return State::Active(self);
                }
                // RFC 3261 section 12.2.1.2.
                481 => return self.gone(cx, &report),
                _ => response.status.is_success(),
            },
            // The call itself is looked after by other means: a peer may have no ear for INFO alone.
            Outcome::Timeout | Outcome::Unreachable(_) => false,
        };
        cx.event(|session| Event::DigitSent { session, taken });
        State::Active(self)
    }
}
