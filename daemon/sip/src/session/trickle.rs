//! Candidates that are trickled in INFO (RFC 8840): who takes part, fragments sent and received. What is in a fragment is
//! the application's affair.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Cx, Purpose, Session, State};
use crate::core::Core;
use crate::endpoint::{Event, FragmentId, SessionError, SessionId};
use crate::headers::{Headers, name};
use crate::leg::Leg;
use crate::message::{Method, Request, StatusCode};
use crate::transaction::{Outcome, Report, ServerId};

/// Option tag and Info package, which have one name (RFC 8840 section 10).
pub(crate) const TAG: &str = "trickle-ice";
/// Media type of a fragment.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Fragments of all sessions that wait for the application's word.
const MAX_WAITING: usize = 64;

/// Fragments that wait for the application's word.
#[derive(Default)]
pub(crate) struct Waiting {
    last: u64,
    open: VecDeque<(FragmentId, SessionId, ServerId, Request)>,
}

/// What a peer has said of trickling in a dialog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Support {
    /// Recv-Info names the package (RFC 6086 section 4.2.1); `None` where the peer has sent no such header field.
    takes: Option<bool>,
    /// Supported names it.
    knows: bool,
}

impl Support {
    /// Takes what a message of the peer's says; what it is silent on stays.
    pub(crate) fn hear(&mut self, headers: &Headers) {
        let names = |field| headers.tokens(field).iter().any(|token| is_package(token));
        if headers.get(name::RECV_INFO).is_some() {
            self.takes = Some(names(name::RECV_INFO));
        }
        if headers.get(name::SUPPORTED).is_some() {
            self.knows = names(name::SUPPORTED);
        }
    }

    /// Fragments may be sent to it. There are peers that know the one header field and not the other.
    pub(crate) fn is_there(self) -> bool {
        self.takes.unwrap_or(self.knows)
    }
}

/// The name of an Info package or of an option, without parameters.
fn is_package(token: &str) -> bool {
    token.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(TAG)
}

/// The INFO belongs to this package.
pub(super) fn is_fragment(request: &Request) -> bool {
    request.headers.get(name::INFO_PACKAGE).is_some_and(is_package)
}

/// Hands a fragment to the application, which answers it.
pub(super) fn receive(cx: &mut Cx<'_>, server: ServerId, request: &Request) {
    if request.headers.content_type().unwrap_or_default() != FRAGMENT {
        let mut response = cx.core.response(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        response.headers.push(name::ACCEPT, FRAGMENT);
        cx.respond(server, response);
        return;
    }
    let session = cx.sender.session;
    let waiting = &mut cx.core.fragments;
    waiting.last += 1;
    let id = FragmentId(waiting.last);
    waiting.open.push_back((id, session, server, request.clone()));
    let surplus = if waiting.open.len() > MAX_WAITING { waiting.open.pop_front() } else { None };
    if let Some((_, _, server, request)) = surplus {
        cx.refuse(server, &request, StatusCode::SERVER_INTERNAL_ERROR);
    }
    let body = request.body.clone();
    cx.event(|session| Event::Fragment { session, id, body });
}

/// Answers a fragment: 200, or the status and the words that refuse it. One that waits no longer is passed over.
pub(crate) fn answer(core: &mut Core, now: Instant, id: FragmentId, answer: Result<(), (StatusCode, &str)>) {
    let Some(place) = core.fragments.open.iter().position(|(open, ..)| *open == id) else { return };
    let Some((_, _, server, request)) = core.fragments.open.remove(place) else { return };
    let (status, words) = match answer {
        Ok(()) => (StatusCode::OK, None),
        Err((status, words)) => (status, Some(words)),
    };
    let mut response = core.response(&request, status);
    if let Some(words) = words {
        response.reason = words.to_owned();
    }
    core.respond(now, server, response);
}

/// The session is over: the application will not answer for it.
pub(crate) fn forget(core: &mut Core, now: Instant, session: SessionId) {
    let open = std::mem::take(&mut core.fragments.open);
    let (over, open) = open.into_iter().partition(|(_, of, ..)| *of == session);
    core.fragments.open = open;
    let over: VecDeque<_> = over;
    for (_, _, server, request) in over {
        core.refuse(now, server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
    }
}

impl Session {
    /// Whether this side trickles candidates in this session, and says so from now on.
    pub(crate) fn set_trickle(&mut self, on: bool) {
        self.sender.trickle = on;
    }

    /// The peer has said that it takes fragments.
    pub(crate) fn peer_trickles(&self) -> bool {
        match &self.state {
            State::Alerting(alerting) => alerting.leg.dialog.trickle.is_there(),
            State::Active(active) => active.leg.dialog.trickle.is_there(),
            State::Calling(calling) => calling.heard().is_some_and(|leg| leg.dialog.trickle.is_there()),
            _ => false,
        }
    }

    /// There is a dialog at both ends, in which both have described their media (RFC 8840 section 4.3).
    fn trickle_leg(&mut self) -> Option<&mut Leg> {
        match &mut self.state {
            State::Calling(calling) => calling.heard_mut(),
            // The caller has our description when it has acknowledged it.
            State::Alerting(alerting) if alerting.offers.is_stable() && alerting.leg.awaited.is_none() => {
                Some(&mut alerting.leg)
            }
            State::Active(active) if active.is_acknowledged() => Some(&mut active.leg),
            _ => None,
        }
    }

    pub(crate) fn takes_fragments(&mut self) -> bool {
        self.sender.trickle && self.trickle_leg().is_some_and(|leg| leg.dialog.trickle.is_there())
    }

    pub(crate) fn send_fragment(&mut self, cx: &mut Cx<'_>, fragment: Vec<u8>) -> Result<(), SessionError> {
        let Some(leg) = self.trickle_leg() else { return Err(SessionError::WrongState) };
        if !leg.dialog.trickle.is_there() {
            return Err(SessionError::NotAllowed);
        }
        let mut request = leg.dialog.request(Method::Info);
        request.headers.push(name::INFO_PACKAGE, TAG);
        request.headers.push(name::CONTENT_TYPE, FRAGMENT);
        request.headers.push(name::CONTENT_DISPOSITION, "Info-Package");
        request.body = fragment;
        cx.send(leg, request, Purpose::Fragment);
        Ok(())
    }
}

/// A fragment of ours found no way to its next hop.
pub(super) fn not_sent(cx: &mut Cx<'_>) {
    cx.event(|session| Event::FragmentSent { session, taken: false });
}

/// How a fragment of ours ended. The dialog is looked after by other means: what is lost with it are candidates.
pub(super) fn on_report(cx: &mut Cx<'_>, mut leg: Option<&mut Leg>, report: &Report) {
    let taken = match &report.outcome {
        Outcome::Over => return,
        Outcome::Response(response) => match response.status.get() {
            ..200 => return,
            401 | 407
                if leg.as_mut().is_some_and(|leg| {
                    cx.answer_challenge(leg, report, response, Purpose::Fragment).is_some()
                }) =>
            {
                return;
            }
            _ => response.status.is_success(),
        },
        Outcome::Timeout | Outcome::Unreachable(_) => false,
    };
    cx.event(|session| Event::FragmentSent { session, taken });
}
