//! UPDATE from the peer (RFC 3311), in early and in confirmed dialogs: admitted, put off, answered.

use super::Cx;
use super::offers::{Collision, Offers};
use super::sdp;
use super::timer::{self, Clock};
use crate::leg::Leg;
use crate::message::{Method, Request, StatusCode};
use crate::transaction::ServerId;

/// `clock`: in a confirmed dialog, where an UPDATE refreshes the session too (RFC 4028).
pub(super) fn receive(
    cx: &mut Cx<'_>,
    leg: &mut Leg,
    offers: &mut Offers,
    clock: Option<&mut Clock>,
    server: ServerId,
    request: Request,
) {
    if request.headers.contacts().is_err() {
        return cx.refuse(server, &request, StatusCode::BAD_REQUEST);
    }
    if clock.is_some()
        && let Some(refusal) = timer::refusal(cx, &request)
    {
        cx.respond(server, refusal);
        return;
    }
    if sdp(&request.headers, &request.body).is_some() {
        match offers.collision() {
            None => offers.receive(cx, server, request),
            Some(collision) => collide(cx, server, &request, collision),
        }
    } else if offers.theirs().is_some_and(|(_, open)| open.method == Method::Update) {
        cx.refuse_for_now(server, &request);
    } else {
        accept(cx, leg, clock, server, &request, None);
    }
}

/// An offer of the peer's that comes at the wrong time.
pub(super) fn collide(cx: &mut Cx<'_>, server: ServerId, request: &Request, collision: Collision) {
    match collision {
        Collision::Pending => cx.refuse(server, request, StatusCode::REQUEST_PENDING),
        Collision::TooSoon => cx.refuse_for_now(server, request),
    }
}

/// Answers the peer's offer in an UPDATE or PRACK that [`Offers::take_theirs`] gave. (RFC 3262 section 3 wants a 2xx for
/// every PRACK that matches; one whose offer cannot be taken is refused all the same, as RFC 6337 section 3.1.2 has no
/// better word for it, and acknowledges.)
pub(super) fn answer(
    cx: &mut Cx<'_>,
    leg: &mut Leg,
    clock: Option<&mut Clock>,
    server: ServerId,
    request: &Request,
    answer: Result<Vec<u8>, StatusCode>,
) {
    match answer {
        Ok(sdp) => accept(cx, leg, clock, server, request, Some(sdp)),
        Err(status) => cx.refuse(server, request, status),
    }
}

fn accept(
    cx: &mut Cx<'_>,
    leg: &mut Leg,
    clock: Option<&mut Clock>,
    server: ServerId,
    request: &Request,
    sdp: Option<Vec<u8>>,
) {
    if request.method == Method::Update {
        // `receive` has seen that the Contact can be read; one that leads nowhere leaves the target as it was.
        _ = leg.dialog.refresh_target(&request.headers);
    }
    let mut response = cx.dialog_response(request, leg, StatusCode::OK, sdp);
    if request.method == Method::Update
        && let Some(clock) = clock
    {
        clock.answer(cx, request, &mut response);
    }
    cx.respond(server, response);
}
