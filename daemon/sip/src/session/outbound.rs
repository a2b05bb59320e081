//! Outbound sessions until they are answered or given up (RFC 3261 sections 13.2 and 9.1).

use super::active::Active;
use super::attempts::{Attempts, Failure, Heard};
use super::early::{Early, News};
use super::timer::Clock;
use super::{Cx, MAX_FORKS, Purpose, State, sdp};
use crate::auth::Rounds;
use crate::core::{ALLOW, Asker, SDP};
use crate::dialog::{self, Dialog, DialogId, FIRST_CSEQ};
use crate::endpoint::{EndCause, Event, Flow, ResolveError, ResolveId, SessionError, TransportError};
use crate::headers::{Headers, name};
use crate::leg::Leg;
use crate::message::{Method, Request, Response, StatusCode};
use crate::timer::{SessionTimer, TRANSACTION_TIMEOUT};
use crate::transaction::{ClientId, MAX_FORWARDS, Outcome, Owner, Report, ServerId};
use crate::uri::{NameAddr, SipUri, Uri};

/// Waits for the resolver.
pub(super) struct Resolving {
    pub(super) asked: ResolveId,
    target: SipUri,
}

impl Resolving {
    pub(super) fn begin(cx: &mut Cx<'_>, target: SipUri) -> Result<Self, SessionError> {
        let identity = cx.sender.identity.ok_or(SessionError::NoSuchIdentity)?;
        let account = cx.core.accounts.get(&identity).ok_or(SessionError::NoSuchIdentity)?;
        let hop = account.next_hop(&target);
        let asked = cx.core.resolve(cx.now, hop, cx.sender.identity, Asker::Session(cx.sender.session));
        Ok(Self { asked, target })
    }

    pub(super) fn on_resolved(self, cx: &mut Cx<'_>, result: Result<Vec<Flow>, ResolveError>) -> State {
        let (flows, nowhere) = match result {
            Ok(flows) => (flows, EndCause::Unresolvable),
            // The name is known; the network is what is missing.
            Err(ResolveError::NoRoute(_)) => (Vec::new(), EndCause::Unreachable(TransportError::NoRoute)),
            Err(_) => (Vec::new(), EndCause::Unresolvable),
        };
        let Some(&flow) = flows.first() else {
            cx.ended(nowhere, None, None);
            return State::Over(None);
        };
        cx.event(|session| Event::OfferWanted { session, flow });
        State::Offering(Offering { flows, target: self.target })
    }
}

/// Waits for the offer.
pub(super) struct Offering {
    /// At least one.
    flows: Vec<Flow>,
    target: SipUri,
}

impl Offering {
    pub(super) fn send(mut self, cx: &mut Cx<'_>, offer: Vec<u8>) -> State {
        let account = cx.sender.identity.and_then(|identity| cx.core.accounts.get(&identity));
        let (Some(account), false) = (account, self.flows.is_empty()) else {
            cx.ended(EndCause::Unresolvable, None, None);
            return State::Over(None);
        };
        let flow = self.flows.remove(0);
        let mut headers = Headers::default();
        for route in account.routes() {
            headers.push(name::ROUTE, NameAddr::new(Uri::Sip(route)).to_string());
        }
        headers.push(name::ALLOW, ALLOW);
        headers.push(name::SUPPORTED, cx.core.supported());
        headers.push(name::CONTENT_TYPE, SDP);
        let target = dialog::as_request_uri(&self.target);
        let aor = account.aor_on(flow);
        let mut request = Request {
            method: Method::Invite,
            to: NameAddr::new(Uri::Sip(dialog::as_address_of_record(&target))),
            uri: Uri::Sip(target),
            via: Vec::new(),
            from: aor.with_tag(&cx.core.random.tag()),
            call_id: cx.core.random.call_id(),
            cseq: FIRST_CSEQ,
            max_forwards: MAX_FORWARDS,
            headers,
            body: offer,
        };
        let clock = Clock::new();
        clock.ask(cx, &mut request);
        let attempts = Attempts::begin(cx, request, flow, self.flows);
        State::Calling(Calling { attempts, early: Vec::new(), described: None, clock })
    }
}

pub(super) fn send(cx: &mut Cx<'_>, mut request: Request, flow: Flow, rounds: Rounds) -> ClientId {
    request.via.clear();
    request.headers.remove(name::CONTACT);
    let contact = cx.core.contact(cx.sender.identity, flow, dialog::wants_secure_contact(&request));
    request.headers.push(name::CONTACT, contact.to_string());
    let owner = Owner::Session(cx.sender.session, Purpose::Invite);
    cx.core.send(cx.now, flow, request, rounds, cx.sender.identity, owner)
}

/// INVITE is sent.
pub(super) struct Calling {
    attempts: Attempts,
    early: Vec<Early>,
    /// The tag of the callee whose session description the user was told last.
    described: Option<String>,
    clock: Clock,
}

impl Calling {
    pub(super) fn early(&self) -> &[Early] {
        &self.early
    }

    pub(super) fn early_mut(&mut self) -> &mut [Early] {
        &mut self.early
    }

    /// The end of this transaction may be that of the call.
    pub(super) fn awaits(&self, id: ClientId) -> bool {
        self.attempts.holds(id)
    }

    pub(super) fn on_report(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        match &report.outcome {
            Outcome::Response(response) if response.status.is_provisional() => {
                self.attempts.hear(cx, report.id, Heard::Provisional);
                self.on_provisional(cx, &report, response);
                State::Calling(self)
            }
            Outcome::Response(response) if response.status.is_success() => {
                self.on_success(cx, &report, response)
            }
            Outcome::Response(response) => self.on_failure(cx, &report, response),
            Outcome::Timeout => self.next(cx, &report, Failure::new(EndCause::Timeout)),
            Outcome::Unreachable(error) => {
                self.next(cx, &report, Failure::new(EndCause::Unreachable(*error)))
            }
            Outcome::Over => State::Calling(self),
        }
    }

    fn on_provisional(&mut self, cx: &mut Cx<'_>, report: &Report, response: &Response) {
        if response.status.get() == 100 {
            return;
        }
        let invite = &report.sent.request;
        let tag = response.to.tag().unwrap_or_default();
        let known = self.early.iter().position(|early| early.is(tag));
        if known.is_none()
            && !tag.is_empty()
            && self.early.len() < MAX_FORKS
            && let Ok(dialog) = Dialog::caller(invite, response)
        {
            cx.index(&dialog);
            self.early.push(Early::new(Leg::new(dialog, report.sent.flow)));
        }
        let news = match self.early.iter_mut().find(|early| early.is(tag)) {
            Some(early) => early.on_provisional(cx, invite, response),
            None => News::Progress(sdp(&response.headers, &response.body)),
        };
        if let News::Progress(sdp) = news {
            if sdp.is_some() && self.described.as_deref() != Some(tag) {
                // Whatever is under way with another callee means nothing to the user any more.
                if let Some(other) = self.described() {
                    other.offers.close(cx);
                }
                self.described = Some(tag.to_owned());
            }
            let status = response.status;
            cx.event(|session| Event::Progress { session, status, sdp });
        }
    }

    /// The first 2xx wins (RFC 3261 section 13.2.2.4).
    fn on_success(mut self, cx: &mut Cx<'_>, report: &Report, response: &Response) -> State {
        self.attempts.hear(cx, report.id, Heard::Nothing);
        let described = self.described.take();
        let mut clock = std::mem::replace(&mut self.clock, Clock::new());
        let Some(mut winner) = self.win(cx, report, response) else {
            cx.ended(EndCause::Protocol, Some(response.status.get()), None);
            return State::Over(None);
        };
        cx.acknowledge(&mut winner.leg, &report.sent.request);
        clock.agreed(cx, response);
        let heard = described.is_some_and(|tag| winner.is(&tag));
        let (sdp, peer) = (winner.answer(response, heard), response.to.clone());
        cx.event(|session| Event::Answered { session, sdp, peer });
        State::Active(Active::outbound(winner.leg, winner.offers, clock))
    }

    /// The dialog of a 2xx, and no other; `None` when its Contact or Record-Route leads nowhere.
    fn win(self, cx: &mut Cx<'_>, report: &Report, response: &Response) -> Option<Early> {
        let tag = response.to.tag().unwrap_or_default();
        let mut won = None;
        for mut early in self.early {
            if early.is(tag) {
                won = Some(early);
            } else {
                early.offers.close(cx);
                cx.unindex(early.dialog());
            }
        }
        let winner = match won {
            Some(mut early) => early.leg.dialog.confirm(response).map(|()| early),
            None => Dialog::caller(&report.sent.request, response)
                .map(|dialog| Early::new(Leg::new(dialog, report.sent.flow))),
        };
        let winner = winner.ok()?;
        cx.index(winner.dialog());
        Some(winner)
    }

    fn on_failure(mut self, cx: &mut Cx<'_>, report: &Report, response: &Response) -> State {
        let code = response.status.get();
        if matches!(code, 401 | 407)
            && let Ok((mut request, rounds)) = cx.core.answer_challenge(cx.sender.identity, report, response)
        {
            request.cseq += 1;
            return self.again(cx, report, request, rounds);
        }
        if response.status == StatusCode::SESSION_INTERVAL_TOO_SMALL
            && self.clock.raise(&report.sent.request, response)
        {
            let mut request = report.sent.request.clone();
            request.cseq += 1;
            self.clock.ask(cx, &mut request);
            return self.again(cx, report, request, report.sent.rounds.clone());
        }
        let text = Some(response.reason.clone()).filter(|reason| !reason.is_empty());
        let failure = Failure { cause: EndCause::Refused, status: Some(code), text };
        // This server is not in order: another may be (RFC 3263 section 4.3).
        if response.status == StatusCode::SERVICE_UNAVAILABLE {
            return self.next(cx, report, failure);
        }
        self.attempts.hear(cx, report.id, Heard::Nothing);
        self.over(cx, failure)
    }

    /// Asks the next server, or waits for those that were asked; where there are none, the call has ended.
    fn next(mut self, cx: &mut Cx<'_>, report: &Report, failure: Failure) -> State {
        match self.attempts.fail(cx, report, failure) {
            None => {
                self.forget_early(cx);
                State::Calling(self)
            }
            Some(failure) => self.over(cx, failure),
        }
    }

    fn over(mut self, cx: &mut Cx<'_>, failure: Failure) -> State {
        self.forget_early(cx);
        cx.ended(failure.cause, failure.status, failure.text);
        State::Over(None)
    }

    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_>) {
        self.attempts.on_silence(cx);
    }

    /// The INVITE goes out anew, as its response has asked.
    fn again(mut self, cx: &mut Cx<'_>, report: &Report, request: Request, rounds: Rounds) -> State {
        self.forget_early(cx);
        self.attempts.hear(cx, report.id, Heard::Nothing);
        self.attempts.repeat(cx, request, report.sent.flow, rounds);
        State::Calling(self)
    }

    fn forget_early(&mut self, cx: &mut Cx<'_>) {
        self.described = None;
        for mut early in self.early.drain(..) {
            early.offers.close(cx);
            cx.unindex(early.dialog());
        }
    }

    /// A request in an early dialog.
    pub(super) fn on_request(&mut self, cx: &mut Cx<'_>, id: &DialogId, server: ServerId, request: Request) {
        match self.early.iter_mut().find(|early| early.id() == id) {
            Some(early) => {
                let heard = self.described.as_ref() == Some(&id.remote_tag);
                early.on_request(cx, server, request, heard);
            }
            None => cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        }
    }

    /// How a request in an early dialog ended.
    pub(super) fn on_early_report(&mut self, cx: &mut Cx<'_>, report: &Report, purpose: Purpose) {
        let tag = report.sent.request.to.tag().unwrap_or_default();
        if let Some(early) = self.early.iter_mut().find(|early| early.is(tag)) {
            early.on_report(cx, report, purpose);
        }
    }

    /// The early dialog that the user's offers and answers are about.
    pub(super) fn described(&mut self) -> Option<&mut Early> {
        let tag = self.described.as_ref()?;
        self.early.iter_mut().find(|early| early.is(tag))
    }

    /// One callee alone has answered, and takes UPDATE.
    pub(super) fn can_offer(&self) -> bool {
        match self.early.as_slice() {
            [early] => early.offers.is_stable() && early.dialog().takes_update(),
            _ => false,
        }
    }

    pub(super) fn offer(&mut self, cx: &mut Cx<'_>, offer: Vec<u8>) {
        if let Some(early) = self.described() {
            early.offers.update(cx, &mut early.leg, offer);
        }
    }

    /// Gives the call up; `Ended` is the caller's to tell.
    pub(super) fn cancel(mut self, cx: &mut Cx<'_>) -> State {
        self.forget_early(cx);
        let (client, heard) = self.attempts.give_up(cx);
        let mut cancelling = Cancelling { client, heard: Heard::Nothing };
        if heard == Heard::Provisional {
            cancelling.send_cancel(cx);
        }
        State::Cancelling(cancelling)
    }
}

/// The user has given up: CANCEL is sent as soon as a provisional response allows it.
pub(super) struct Cancelling {
    client: ClientId,
    heard: Heard,
}

impl Cancelling {
    fn send_cancel(&mut self, cx: &mut Cx<'_>) {
        self.heard = Heard::Provisional;
        send_cancel(cx, self.client);
        cx.set(SessionTimer::Cancel, TRANSACTION_TIMEOUT);
    }

    pub(super) fn awaits(&self, id: ClientId) -> bool {
        self.client == id
    }

    pub(super) fn on_report(mut self, cx: &mut Cx<'_>, report: Report) -> State {
        let Outcome::Response(response) = &report.outcome else { return self.over(cx, None) };
        if response.status.is_provisional() {
            if self.heard == Heard::Nothing {
                self.send_cancel(cx);
            }
            return State::Cancelling(self);
        }
        if !response.status.is_success() {
            return self.over(cx, None);
        }
        // The answer was faster than the CANCEL: it is taken, and ended.
        let leg = Dialog::caller(&report.sent.request, response).ok().map(|dialog| {
            cx.index(&dialog);
            let mut leg = Leg::new(dialog, report.sent.flow);
            cx.acknowledge(&mut leg, &report.sent.request);
            cx.bye(&mut leg, Purpose::Bye);
            leg
        });
        self.over(cx, leg)
    }

    /// No final response came in 64*T1 after CANCEL: it is taken for cancelled (RFC 3261 section 9.1).
    pub(super) fn give_up(self, cx: &mut Cx<'_>) -> State {
        cx.core.transactions.abandon(&mut cx.core.outbox, self.client);
        self.over(cx, None)
    }

    fn over(self, cx: &mut Cx<'_>, leg: Option<Leg>) -> State {
        cx.stop(SessionTimer::Cancel);
        State::Over(leg)
    }
}

/// CANCEL for an INVITE that still runs (RFC 3261 section 9.1): it goes the same way.
fn send_cancel(cx: &mut Cx<'_>, client: ClientId) {
    let Some((sent, carrier)) = cx.core.transactions.sent(client) else { return };
    let invite = &sent.request;
    let mut headers = Headers::default();
    for route in invite.headers.get_all(name::ROUTE) {
        headers.push(name::ROUTE, route);
    }
    let cancel = Request {
        method: Method::Cancel,
        uri: invite.uri.clone(),
        via: invite.via.clone(),
        from: invite.from.clone(),
        to: invite.to.clone(),
        call_id: invite.call_id.clone(),
        cseq: invite.cseq,
        max_forwards: MAX_FORWARDS,
        headers,
        body: Vec::new(),
    };
    let owner = Owner::Session(cx.sender.session, Purpose::Cancel);
    cx.core.send(cx.now, carrier, cancel, Rounds::default(), None, owner);
}

/// Cancels an INVITE that is not waited for any more, as soon as it is heard of, and once.
pub(super) fn cancel_late(cx: &mut Cx<'_>, client: ClientId) {
    if cx.core.transactions.limit(&mut cx.core.outbox, cx.now, client) {
        send_cancel(cx, client);
    }
}
