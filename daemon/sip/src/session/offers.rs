//! Offers in one dialog (RFC 3264, RFC 3261 section 14, RFC 3311): whose is under way, and who has to wait.

use std::time::Duration;

use super::{Cx, Purpose, sdp};
use crate::core::SDP;
use crate::endpoint::Event;
use crate::headers::name;
use crate::leg::Leg;
use crate::message::{Method, Request, Response, StatusCode};
use crate::timer::SessionTimer;
use crate::transaction::{Outcome, Report, ServerId};

/// A peer that puts our offer off again and again refuses it.
const MOST_PUT_OFF: u8 = 10;

/// Who made the Call-ID: it decides who tries again first after glare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Caller,
    Callee,
}

/// One of the two in a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Us,
    Peer,
}

/// What carries an offer of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Invite,
    Update,
}

enum Exchange {
    /// This party's offer in an INVITE, or in a response to one, is not answered for good.
    Unanswered(Party),
    Stable,
    /// Our re-INVITE or UPDATE of this number has no final response yet.
    Ours {
        cseq: u32,
        carrier: Carrier,
    },
    /// Our offer met the peer's, and will be made again.
    Glare {
        offer: Vec<u8>,
        carrier: Carrier,
    },
    /// The peer's re-INVITE, UPDATE or PRACK waits for the user.
    Theirs {
        server: ServerId,
        request: Box<Request>,
    },
}

/// Why an offer of the peer's comes at the wrong time (RFC 3311 section 5.2, RFC 3261 section 14.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Collision {
    /// Ours is not answered: 491.
    Pending,
    /// Its last is not answered: 500.
    TooSoon,
}

/// What a response to our offer means to the dialog.
pub(super) enum Verdict {
    GoesOn,
    /// No answer, or 408 (RFC 3261 section 12.2.1.2).
    Lost(Option<u16>),
    /// 481: the peer knows nothing of this dialog.
    Gone,
}

pub(super) struct Offers {
    role: Role,
    exchange: Exchange,
    /// How often our offer was put off.
    put_off: u8,
}

impl Offers {
    /// The INVITE that begins the session is under way; `first` offers.
    pub(super) fn begun(role: Role, first: Party) -> Self {
        Self { role, exchange: Exchange::Unanswered(first), put_off: 0 }
    }

    /// Whose offer in an INVITE or in a response to it waits for its answer.
    pub(super) fn unanswered(&self) -> Option<Party> {
        match self.exchange {
            Exchange::Unanswered(party) => Some(party),
            _ => None,
        }
    }

    pub(super) fn is_stable(&self) -> bool {
        matches!(self.exchange, Exchange::Stable)
    }

    /// The offer in an INVITE, or in a response to it, is answered.
    pub(super) fn answered(&mut self) {
        if matches!(self.exchange, Exchange::Unanswered(_)) {
            self.exchange = Exchange::Stable;
        }
    }

    /// A 2xx or a reliable provisional response of ours offers.
    pub(super) fn offered_in_response(&mut self) {
        self.exchange = Exchange::Unanswered(Party::Us);
    }

    // Ours.

    pub(super) fn make(&mut self, cx: &mut Cx<'_>, leg: &mut Leg, carrier: Carrier, mut request: Request) {
        self.exchange = Exchange::Ours { cseq: request.cseq, carrier };
        cx.core.introduce(&mut request.headers, cx.sender);
        request.headers.push(name::CONTENT_TYPE, SDP);
        cx.send(leg, request, carrier.purpose());
    }

    /// Our offer in an UPDATE.
    pub(super) fn update(&mut self, cx: &mut Cx<'_>, leg: &mut Leg, offer: Vec<u8>) {
        let request = Request { body: offer, ..leg.dialog.request(Method::Update) };
        self.make(cx, leg, Carrier::Update, request);
    }

    /// The offer that glare has put off.
    pub(super) fn take_glare(&mut self) -> Option<(Vec<u8>, Carrier)> {
        let Exchange::Glare { offer, carrier } = &mut self.exchange else { return None };
        let again = (std::mem::take(offer), *carrier);
        self.exchange = Exchange::Stable;
        Some(again)
    }

    /// The INVITE of ours that has no final response yet.
    pub(super) fn is_inviting(&self) -> bool {
        matches!(self.exchange, Exchange::Ours { carrier: Carrier::Invite, .. })
    }

    /// Our UPDATE of which the same is true.
    pub(super) fn is_updating(&self) -> bool {
        matches!(self.exchange, Exchange::Ours { carrier: Carrier::Update, .. })
    }

    pub(super) fn is_ours(&self, report: &Report) -> bool {
        matches!(self.exchange, Exchange::Ours { cseq, .. } if cseq == report.sent.request.cseq)
    }

    /// What has become of our offer, where [`Offers::is_ours`].
    pub(super) fn on_report(&mut self, cx: &mut Cx<'_>, leg: &mut Leg, report: &Report) -> Verdict {
        let Exchange::Ours { carrier, .. } = self.exchange else { return Verdict::GoesOn };
        let response = match &report.outcome {
            Outcome::Response(response) => response,
            Outcome::Timeout => return Verdict::Lost(None),
            // RFC 3261 section 8.1.3.1: as if it were a 503.
            Outcome::Unreachable(_) => {
                self.refused(cx, StatusCode::SERVICE_UNAVAILABLE);
                return Verdict::GoesOn;
            }
            Outcome::Over => return Verdict::GoesOn,
        };
        match response.status.get() {
            ..200 => {}
            200..300 => {
                self.exchange = Exchange::Stable;
                self.put_off = 0;
                // A Contact that cannot be read leaves the target as it was.
                _ = leg.dialog.refresh_target(&response.headers);
                let sdp = sdp(&response.headers, &response.body);
                cx.event(|session| Event::OfferDone { session, result: Ok(sdp) });
            }
            401 | 407 => match cx.answer_challenge(leg, report, response, carrier.purpose()) {
                Some(cseq) => self.exchange = Exchange::Ours { cseq, carrier },
                None => self.refused(cx, response.status),
            },
            408 => return Verdict::Lost(Some(408)),
            481 => return Verdict::Gone,
            491 | 500 if let Some(delay) = self.delay(cx, response) => {
                self.put_off += 1;
                cx.set(SessionTimer::Glare, delay);
                self.exchange = Exchange::Glare { offer: report.sent.request.body.clone(), carrier };
            }
            _ => self.refused(cx, response.status),
        }
        Verdict::GoesOn
    }

    /// How long our request waits after a 491, or after a 500 of a peer whose own offer is under way
    /// (RFC 3311 section 5.3).
    fn delay(&self, cx: &mut Cx<'_>, response: &Response) -> Option<Duration> {
        match response.status {
            _ if self.put_off >= MOST_PUT_OFF => None,
            StatusCode::REQUEST_PENDING => Some(self.glare_delay(cx)),
            _ => retry_after(response),
        }
    }

    /// RFC 3261 section 14.1, in units of 10 ms: who made the Call-ID waits longer.
    pub(super) fn glare_delay(&self, cx: &mut Cx<'_>) -> Duration {
        let (from, to) = match self.role {
            Role::Caller => (210, 400),
            Role::Callee => (0, 200),
        };
        cx.core.random.between(Duration::from_millis(from), Duration::from_millis(to)) * 10
    }

    /// The session goes on as it was before the offer.
    pub(super) fn refused(&mut self, cx: &mut Cx<'_>, status: StatusCode) {
        self.exchange = Exchange::Stable;
        self.put_off = 0;
        cx.event(|session| Event::OfferDone { session, result: Err(status) });
    }

    // Theirs.

    /// Why the peer must not offer now.
    pub(super) fn collision(&self) -> Option<Collision> {
        match self.exchange {
            Exchange::Unanswered(Party::Us) | Exchange::Ours { .. } => Some(Collision::Pending),
            Exchange::Unanswered(Party::Peer) | Exchange::Theirs { .. } => Some(Collision::TooSoon),
            Exchange::Stable | Exchange::Glare { .. } => None,
        }
    }

    /// Keeps the peer's offer (or its question for one) and tells of it. There is no [`Offers::collision`].
    pub(super) fn receive(&mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) {
        // Our offer was made before the peer's, and would undo it.
        if self.take_glare().is_some() {
            cx.stop(SessionTimer::Glare);
            self.refused(cx, StatusCode::REQUEST_PENDING);
        }
        let sdp = sdp(&request.headers, &request.body);
        self.exchange = Exchange::Theirs { server, request: Box::new(request) };
        cx.event(|session| Event::Offered { session, sdp });
    }

    /// The request of the peer that waits for the user.
    pub(super) fn theirs(&self) -> Option<(ServerId, &Request)> {
        match &self.exchange {
            Exchange::Theirs { server, request } => Some((*server, request)),
            _ => None,
        }
    }

    /// Takes the peer's request, to be answered now.
    pub(super) fn take_theirs(&mut self) -> Option<(ServerId, Request)> {
        self.theirs()?;
        match std::mem::replace(&mut self.exchange, Exchange::Stable) {
            Exchange::Theirs { server, request } => Some((server, *request)),
            _ => None,
        }
    }

    // The end.

    /// Answers what is open: the session ends.
    pub(super) fn close(&mut self, cx: &mut Cx<'_>) {
        cx.stop(SessionTimer::Glare);
        if let Some((server, request)) = self.take_theirs() {
            cx.refuse(server, &request, StatusCode::REQUEST_TERMINATED);
        }
        self.exchange = Exchange::Stable;
    }
}

impl Carrier {
    fn purpose(self) -> Purpose {
        match self {
            Self::Invite => Purpose::Reinvite,
            Self::Update => Purpose::Update,
        }
    }
}

/// When the peer of RFC 3311 section 5.2 wants to be asked again: in 0 to 10 s.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers.number(name::RETRY_AFTER).ok().flatten()?;
    (seconds <= 10).then(|| Duration::from_secs(seconds.max(1).into()))
}
