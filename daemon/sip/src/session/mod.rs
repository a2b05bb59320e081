//! INVITE sessions (RFC 3261 sections 13 to 15): one call's way from its first question to its last acknowledgement.
//!
//! A session outlives its [`Event::Ended`] by what must still be sent: CANCEL, BYE, ACKs for late 2xx.

mod active;
mod attempts;
mod early;
mod inbound;
mod info;
mod inviting;
mod moved;
mod offers;
mod outbound;
mod reliable;
mod timer;
mod update;

use std::time::{Duration, Instant};

use self::active::Active;
use self::early::Early;
use self::inbound::Alerting;
use self::inviting::{Offering, Resolving};
use self::outbound::{Calling, Cancelling};
use crate::account::Called;
use crate::auth::Rounds;
use crate::body;
use crate::caller::Caller;
use crate::core::{ALLOW, Core, SDP};
use crate::dialog::{Dialog, DialogId};
use crate::dtmf_info::Digit;
use crate::endpoint::{
    EndCause, Event, Flow, IdentityId, InviteOptions, ResolveError, ResolveId, SessionEnd, SessionError,
    SessionId,
};
use crate::headers::{Headers, name};
use crate::leg::{Disclosure, Kind, Leg, Outgoing, Sender};
use crate::message::{Method, Request, Response, StatusCode};
use crate::reason::{Reason, Reasons};
use crate::timer::{SessionTimer, Timer};
use crate::transaction::{Outcome, Owner, Report, ServerId};
use crate::uas;
use crate::uri::NameAddr;

pub(crate) use self::reliable::RAck;
use self::reliable::Reliability;

/// Dialogs of one INVITE that are kept: no honest fork has more.
const MAX_FORKS: usize = 8;

/// Which of a session's requests a client transaction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Invite,
    Cancel,
    Reinvite,
    Update,
    Prack,
    Bye,
    /// BYE to a fork that answered too late.
    ForkBye,
    /// OPTIONS that asks for a sign of life.
    Probe,
    /// INFO with a digit.
    Info,
}

/// A response as it was sent, for a session that repeats it itself.
struct Answer {
    server: ServerId,
    bytes: Vec<u8>,
}

/// What a session works with.
pub(crate) struct Cx<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) now: Instant,
    pub(crate) sender: Sender,
}

impl Cx<'_> {
    fn event(&mut self, event: impl FnOnce(SessionId) -> Event) {
        let event = event(self.sender.session);
        self.core.event(event);
    }

    fn ended(&mut self, cause: EndCause, status: Option<u16>, text: Option<String>) {
        self.ended_as(SessionEnd { cause, status, q850: None, text, contacts: Vec::new() });
    }

    /// Ended by the peer's BYE or CANCEL, which may say why.
    fn ended_by(&mut self, cause: EndCause, headers: &Headers) {
        let reasons = Reasons::of(headers);
        let (status, q850, text) = (reasons.status(), reasons.q850_cause(), reasons.text());
        self.ended_as(SessionEnd { cause, status, q850, text, contacts: Vec::new() });
    }

    fn ended_as(&mut self, end: SessionEnd) {
        self.event(|session| Event::Ended { session, end });
    }

    fn set(&mut self, timer: SessionTimer, after: Duration) {
        self.core.outbox.timers.set(Timer::Session(self.sender.session, timer), self.now + after);
    }

    fn stop(&mut self, timer: SessionTimer) {
        self.core.outbox.timers.stop(Timer::Session(self.sender.session, timer));
    }

    fn respond(&mut self, server: ServerId, response: Response) -> Option<Answer> {
        let bytes = self.core.respond(self.now, server, response)?;
        Some(Answer { server, bytes })
    }

    /// Sends a response again, wherever its transaction's responses go now.
    fn repeat(&mut self, answer: &Answer) {
        self.core.transactions.repeat(&mut self.core.outbox, answer.server, &answer.bytes);
    }

    fn refuse(&mut self, server: ServerId, request: &Request, status: StatusCode) {
        self.core.refuse(self.now, server, request, status);
    }

    /// 500 to an INVITE or an offer that came before the last one was answered (RFC 3261 section 14.2, RFC 3311
    /// section 5.2).
    fn refuse_for_now(&mut self, server: ServerId, request: &Request) {
        let mut response = self.core.response(request, StatusCode::SERVER_INTERNAL_ERROR);
        let after = self.core.random.between(Duration::ZERO, Duration::from_secs(10)).as_secs();
        response.headers.push(name::RETRY_AFTER, after.to_string());
        self.respond(server, response);
    }

    /// A response that makes or keeps a dialog (RFC 3261 sections 12.1.1 and 13.3.1).
    fn dialog_response(
        &mut self,
        request: &Request,
        leg: &Leg,
        status: StatusCode,
        sdp: Option<Vec<u8>>,
    ) -> Response {
        let mut response = request.response(status);
        response.to.params.set("tag", Some(&leg.dialog.id.local_tag));
        for route in request.headers.get_all(name::RECORD_ROUTE) {
            response.headers.push(name::RECORD_ROUTE, route);
        }
        let contact = self.core.contact(self.sender, leg.flow, leg.dialog.is_secure());
        response.headers.push(name::CONTACT, contact.to_string());
        response.headers.push(name::ALLOW, ALLOW);
        response.headers.push(name::SUPPORTED, self.core.supported());
        response.headers.push(name::SERVER, self.core.config.product.clone());
        if let Some(sdp) = sdp {
            response.headers.push(name::CONTENT_TYPE, SDP);
            response.body = sdp;
        }
        response
    }

    fn index(&mut self, dialog: &Dialog) {
        self.core.dialogs.insert(dialog.id.clone(), self.sender.session);
    }

    fn unindex(&mut self, dialog: &Dialog) {
        self.core.dialogs.remove(&dialog.id);
    }

    fn send(&mut self, leg: &mut Leg, request: Request, purpose: Purpose) {
        self.send_again(leg, request, Rounds::default(), purpose);
    }

    fn send_again(&mut self, leg: &mut Leg, request: Request, rounds: Rounds, purpose: Purpose) {
        let outgoing = Outgoing { request, rounds, kind: Kind::Transaction(purpose) };
        leg.send(self.core, self.now, self.sender, outgoing);
    }

    fn bye(&mut self, leg: &mut Leg, purpose: Purpose, why: Option<&Reason>) {
        let mut bye = leg.dialog.request(Method::Bye);
        if let Some(why) = why {
            bye.headers.push(name::REASON, why.to_string());
        }
        self.send(leg, bye, purpose);
    }

    /// Who has answered, in the words of the identity's own server; of nobody else they are believed (RFC 3325).
    fn asserted(&self, report: &Report, response: &Response) -> Vec<NameAddr> {
        let account = self.sender.identity.and_then(|identity| self.core.accounts.get(&identity));
        match account.is_some_and(|account| account.is_server(report.sent.flow.remote.ip())) {
            true => Caller::of(&response.to, &response.headers).asserted,
            false => Vec::new(),
        }
    }

    fn acknowledge(&mut self, leg: &mut Leg, invite: &Request) {
        leg.acknowledge(self.core, self.now, self.sender, invite);
    }

    /// Sends an in-dialog request again, with credentials: its new number, or `None` where the challenge is not
    /// answered.
    fn answer_challenge(
        &mut self,
        leg: &mut Leg,
        report: &Report,
        response: &Response,
        purpose: Purpose,
    ) -> Option<u32> {
        let (mut request, rounds) =
            self.core.answer_challenge(self.sender.identity, report, response).ok()?;
        request.cseq = leg.dialog.next_cseq();
        let cseq = request.cseq;
        self.send_again(leg, request, rounds, purpose);
        Some(cseq)
    }
}

#[allow(clippy::large_enum_variant)] // sessions spend their time in the largest
enum State {
    Resolving(Resolving),
    Offering(Offering),
    Calling(Calling),
    /// Ended: the INVITE's final response is waited for.
    Cancelling(Cancelling),
    Alerting(Alerting),
    Active(Active),
    /// Ended: BYE waits until our 2xx is acknowledged (RFC 3261 section 15).
    Unacknowledged(Active),
    /// Ended: what was sent is brought to its end.
    Over(Option<Leg>),
}

pub(crate) struct Session {
    sender: Sender,
    state: State,
    /// Dialogs of forks that answered when another had won: acknowledged, and ended at once.
    forks: Vec<Leg>,
}

impl Session {
    /// A dialog of it has travelled on `flow`.
    pub(crate) fn uses(&self, flow: Flow) -> bool {
        let leg = match &self.state {
            State::Alerting(alerting) => Some(&alerting.leg),
            State::Active(active) | State::Unacknowledged(active) => Some(&active.leg),
            State::Calling(calling) => return calling.early().iter().any(|early| early.leg.uses(flow)),
            State::Over(leg) => leg.as_ref(),
            State::Resolving(_) | State::Offering(_) | State::Cancelling(_) => None,
        };
        leg.is_some_and(|leg| leg.uses(flow))
    }

    /// An outbound session, which begins with the question where its target is.
    pub(crate) fn outbound(
        core: &mut Core,
        now: Instant,
        session: SessionId,
        identity: IdentityId,
        called: Called,
        options: InviteOptions,
    ) -> Result<Self, SessionError> {
        let disclosure = if options.anonymous { Disclosure::Anonymous } else { Disclosure::Open };
        let sender = Sender { session, identity: Some(identity), disclosure };
        let resolving = Resolving::begin(&mut Cx { core, now, sender }, called, options)?;
        Ok(Self { sender, state: State::Resolving(resolving), forks: Vec::new() })
    }

    /// An inbound session; `None` where the INVITE was refused.
    pub(crate) fn inbound(cx: &mut Cx<'_>, server: ServerId, request: Request, flow: Flow) -> Option<Self> {
        let alerting = Alerting::begin(cx, server, request, flow)?;
        Some(Self { sender: cx.sender, state: State::Alerting(alerting), forks: Vec::new() })
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender
    }

    /// `Ended` was told.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Cancelling(_) | State::Unacknowledged(_) | State::Over(_))
    }

    /// Nothing is left to send or to hear but repetitions.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Over(_))
            && !self.legs().any(|leg| leg.is_waiting() || leg.awaited.is_some())
    }

    pub(crate) fn dialog_ids(&self) -> impl Iterator<Item = &DialogId> {
        self.legs().map(|leg| &leg.dialog.id)
    }

    /// The tag that we gave to an inbound session.
    pub(crate) fn local_tag(&self) -> Option<&str> {
        self.dialog_ids().next().map(|id| id.local_tag.as_str())
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        let (one, many): (Option<&Leg>, &[Early]) = match &self.state {
            State::Calling(calling) => (None, calling.early()),
            State::Alerting(alerting) => (Some(&alerting.leg), &[]),
            State::Active(active) | State::Unacknowledged(active) => (Some(&active.leg), &[]),
            State::Over(leg) => (leg.as_ref(), &[]),
            State::Resolving(_) | State::Offering(_) | State::Cancelling(_) => (None, &[]),
        };
        one.into_iter().chain(many.iter().map(|early| &early.leg)).chain(&self.forks)
    }

    /// The leg of the dialog that was won.
    fn leg(&mut self) -> Option<&mut Leg> {
        match &mut self.state {
            State::Alerting(alerting) => Some(&mut alerting.leg),
            State::Active(active) | State::Unacknowledged(active) => Some(&mut active.leg),
            State::Over(leg) => leg.as_mut(),
            State::Resolving(_) | State::Offering(_) | State::Calling(_) | State::Cancelling(_) => None,
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over(None))
    }

    // From the network.

    pub(crate) fn on_resolved(
        &mut self,
        cx: &mut Cx<'_>,
        id: ResolveId,
        result: Result<Vec<Flow>, ResolveError>,
    ) {
        if let State::Resolving(resolving) = &self.state {
            if resolving.asked == id {
                let State::Resolving(resolving) = self.take() else { return };
                self.state = resolving.on_resolved(cx, result);
            }
            return;
        }
        let flows = result.unwrap_or_default();
        let sender = self.sender;
        for fork in &mut self.forks {
            if fork.resolved(cx.core, cx.now, sender, id, &flows).is_some() {
                return;
            }
        }
        if let State::Calling(calling) = &mut self.state {
            for early in calling.early_mut() {
                let unsent = early.leg.resolved(cx.core, cx.now, sender, id, &flows).unwrap_or_default();
                if unsent.contains(&Kind::Transaction(Purpose::Update)) {
                    early.offers.refused(cx, StatusCode::SERVICE_UNAVAILABLE);
                }
            }
            return;
        }
        let Some(leg) = self.leg() else { return };
        for kind in leg.resolved(cx.core, cx.now, sender, id, &flows).unwrap_or_default() {
            // What cannot be sent is as good as unreachable; an ACK will be asked for again.
            match (kind, &mut self.state) {
                (Kind::Transaction(purpose), State::Active(active)) => active.on_unsent(cx, purpose),
                (Kind::Transaction(Purpose::Update), State::Alerting(alerting)) => {
                    alerting.offers.refused(cx, StatusCode::SERVICE_UNAVAILABLE);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn on_report(&mut self, cx: &mut Cx<'_>, report: Report) {
        let Owner::Session(_, purpose) = report.owner else { return };
        if self.try_next(cx, &report, purpose) {
            return;
        }
        self.state = match (self.take(), purpose) {
            (state, Purpose::Cancel | Purpose::ForkBye) => state,
            (State::Calling(calling), Purpose::Invite) if calling.awaits(report.id) => {
                calling.on_report(cx, report)
            }
            (State::Cancelling(cancelling), Purpose::Invite) if cancelling.awaits(report.id) => {
                cancelling.on_report(cx, report)
            }
            (state, Purpose::Invite) => {
                self.state = state;
                return self.on_late_answer(cx, report);
            }
            (State::Calling(mut calling), Purpose::Prack | Purpose::Update) => {
                calling.on_early_report(cx, &report, purpose);
                State::Calling(calling)
            }
            (State::Alerting(mut alerting), Purpose::Update) => {
                alerting.on_update_report(cx, &report);
                State::Alerting(alerting)
            }
            (State::Active(active), Purpose::Reinvite) => active.on_reinvite(cx, report),
            (State::Active(active), Purpose::Update) => active.on_update_report(cx, report),
            (State::Active(mut active), Purpose::Prack) => {
                early::answer_prack_challenge(cx, &mut active.leg, &report);
                State::Active(active)
            }
            (State::Active(active), Purpose::Probe) => active.on_probe(cx, report),
            (State::Active(active), Purpose::Info) => active.on_info(cx, report),
            (State::Over(Some(mut leg)), Purpose::Reinvite) => {
                if let Outcome::Response(response) = &report.outcome
                    && response.status.is_success()
                {
                    cx.acknowledge(&mut leg, &report.sent.request);
                }
                State::Over(Some(leg))
            }
            (State::Over(Some(mut leg)), Purpose::Bye) => {
                if let Outcome::Response(response) = &report.outcome
                    && matches!(response.status.get(), 401 | 407)
                {
                    cx.answer_challenge(&mut leg, &report, response, Purpose::Bye);
                }
                State::Over(Some(leg))
            }
            (
                state,
                Purpose::Reinvite
                | Purpose::Update
                | Purpose::Prack
                | Purpose::Probe
                | Purpose::Info
                | Purpose::Bye,
            ) => state,
        };
    }

    /// An in-dialog request that its server did not deliver goes by way of the next one, where there is one.
    fn try_next(&mut self, cx: &mut Cx<'_>, report: &Report, purpose: Purpose) -> bool {
        if matches!(purpose, Purpose::Invite | Purpose::Cancel) {
            return false;
        }
        let sender = self.sender;
        let tag = report.sent.request.to.tag().unwrap_or_default();
        let is_of = |leg: &&mut Leg| leg.dialog.id.remote_tag == tag;
        let leg = match self.forks.iter_mut().find(is_of) {
            Some(fork) => Some(fork),
            None => match &mut self.state {
                State::Calling(calling) => {
                    calling.early_mut().iter_mut().map(|early| &mut early.leg).find(is_of)
                }
                State::Alerting(alerting) => Some(&mut alerting.leg),
                State::Active(active) | State::Unacknowledged(active) => Some(&mut active.leg),
                State::Over(leg) => leg.as_mut(),
                State::Resolving(_) | State::Offering(_) | State::Cancelling(_) => None,
            },
        };
        leg.is_some_and(|leg| leg.try_next(cx.core, cx.now, sender, report, purpose))
    }

    /// A response to an INVITE of ours when another has won already, or the call has ended: another fork's 2xx
    /// (RFC 3261 section 13.2.2.4), or a server that was too slow.
    fn on_late_answer(&mut self, cx: &mut Cx<'_>, report: Report) {
        let Outcome::Response(response) = &report.outcome else { return };
        if response.status.is_provisional() {
            outbound::cancel_late(cx, report.id);
        }
        if !response.status.is_success() {
            return;
        }
        let tag = response.to.tag().unwrap_or_default();
        let is_of = |leg: &Leg| leg.dialog.id.remote_tag == tag;
        if let Some(leg) = self.leg().filter(|leg| is_of(leg)) {
            return cx.acknowledge(leg, &report.sent.request);
        }
        if let Some(fork) = self.forks.iter_mut().find(|leg| is_of(leg)) {
            return cx.acknowledge(fork, &report.sent.request);
        }
        if self.forks.len() < MAX_FORKS
            && let Ok(dialog) = Dialog::caller(&report.sent.request, response)
        {
            cx.index(&dialog);
            let mut fork = Leg::new(dialog, report.sent.flow);
            cx.acknowledge(&mut fork, &report.sent.request);
            cx.bye(&mut fork, Purpose::ForkBye, Some(&Reason::answered_elsewhere()));
            self.forks.push(fork);
        }
    }

    /// A request of the peer in one of this session's dialogs, neither ACK nor CANCEL.
    pub(crate) fn on_request(&mut self, cx: &mut Cx<'_>, server: ServerId, request: Request) {
        let id = DialogId::of_request(&request);
        if let Some(fork) = self.forks.iter_mut().find(|leg| leg.dialog.id == id) {
            return answer_ended(cx, fork, server, &request);
        }
        match self.take() {
            State::Calling(mut calling) => {
                calling.on_request(cx, &id, server, request);
                self.state = State::Calling(calling);
            }
            State::Alerting(alerting) => self.state = alerting.on_request(cx, server, request),
            State::Active(active) => self.state = active.on_request(cx, server, request),
            State::Unacknowledged(mut active) => {
                answer_ended(cx, &mut active.leg, server, &request);
                // BYE from the peer: ours is not needed any more.
                self.state = match request.method {
                    Method::Bye => active.silence(cx),
                    _ => State::Unacknowledged(active),
                };
            }
            State::Over(Some(mut leg)) => {
                answer_ended(cx, &mut leg, server, &request);
                self.state = State::Over(Some(leg));
            }
            state => {
                cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
                self.state = state;
            }
        }
    }

    pub(crate) fn on_ack(&mut self, cx: &mut Cx<'_>, ack: &Request) {
        self.state = match self.take() {
            State::Active(mut active) => {
                active.on_ack(cx, ack);
                State::Active(active)
            }
            State::Unacknowledged(active) => active.on_ack_after_end(cx, ack),
            state => state,
        };
    }

    /// CANCEL of the INVITE in `server`; the CANCEL itself is answered already.
    pub(crate) fn on_cancel(&mut self, cx: &mut Cx<'_>, server: ServerId, cancel: &Request) {
        self.state = match self.take() {
            State::Alerting(alerting) => alerting.on_cancel(cx, cancel),
            State::Active(mut active) => {
                active.on_cancel(cx, server);
                State::Active(active)
            }
            state => state,
        };
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_>, timer: SessionTimer) {
        self.state = match (self.take(), timer) {
            (State::Alerting(mut alerting), SessionTimer::Provisional) => {
                alerting.repeat(cx);
                State::Alerting(alerting)
            }
            (State::Alerting(alerting), SessionTimer::Expires) => alerting.expire(cx),
            (State::Alerting(mut alerting), SessionTimer::Retransmit) => {
                alerting.sending.retransmit(cx);
                State::Alerting(alerting)
            }
            (State::Alerting(alerting), SessionTimer::Acknowledge) => alerting.unacknowledged(cx),
            (State::Alerting(mut alerting), SessionTimer::Glare) => {
                if let Some((offer, _)) = alerting.offers.take_glare() {
                    alerting.offers.update(cx, &mut alerting.leg, offer);
                }
                State::Alerting(alerting)
            }
            (State::Calling(mut calling), SessionTimer::Glare) => {
                if let Some(early) = calling.described()
                    && let Some((offer, _)) = early.offers.take_glare()
                {
                    early.offers.update(cx, &mut early.leg, offer);
                }
                State::Calling(calling)
            }
            (State::Active(mut active), SessionTimer::Retransmit) => {
                active.retransmit(cx);
                State::Active(active)
            }
            (State::Unacknowledged(mut active), SessionTimer::Retransmit) => {
                active.retransmit(cx);
                State::Unacknowledged(active)
            }
            (State::Active(active), SessionTimer::Acknowledge) => active.unacknowledged(cx),
            (State::Unacknowledged(active), SessionTimer::Acknowledge) => active.leave(cx, None),
            (State::Active(mut active), SessionTimer::Glare) => {
                active.offer_again(cx);
                State::Active(active)
            }
            (State::Calling(mut calling), SessionTimer::NextServer) => {
                calling.on_silence(cx);
                State::Calling(calling)
            }
            (State::Active(mut active), SessionTimer::Refresh) => {
                active.refresh(cx);
                State::Active(active)
            }
            (State::Active(active), SessionTimer::Expiry) => active.lost(cx, None),
            (State::Cancelling(cancelling), SessionTimer::Cancel) => cancelling.give_up(cx),
            (State::Over(Some(mut leg)), SessionTimer::Acknowledge) => {
                leg.awaited = None;
                State::Over(Some(leg))
            }
            (State::Over(leg), SessionTimer::Cancel) => {
                cx.core.transactions.abandon_session(&mut cx.core.outbox, cx.sender.session);
                State::Over(leg)
            }
            (state, _) => state,
        };
    }

    // From the application.

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
        self.state = match self.take() {
            State::Resolving(resolving) => {
                cx.core.answered(resolving.asked);
                State::Over(None)
            }
            State::Calling(calling) => calling.cancel(cx, why),
            State::Alerting(alerting) => alerting.reject(cx, StatusCode::DECLINE, None),
            State::Active(active) => active.hangup(cx, why.as_ref()),
            State::Offering(_) => State::Over(None),
            state => state,
        };
        cx.ended(EndCause::Local, None, None);
    }
}

/// A request in a dialog that is over for us: BYE may cross with ours, everything else comes too late.
fn answer_ended(cx: &mut Cx<'_>, leg: &mut Leg, server: ServerId, request: &Request) {
    let status = match request.method {
        _ if !leg.dialog.accept_cseq(request.cseq) => StatusCode::SERVER_INTERNAL_ERROR,
        Method::Bye => StatusCode::OK,
        // It may have crossed with our final response (RFC 3262 section 3).
        Method::Prack if reliable::acknowledge(leg, request) => StatusCode::OK,
        _ => StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST,
    };
    cx.refuse(server, request, status);
}

/// Answers requests that are the same in early and in confirmed dialogs; `None` when the request is dealt with.
fn common(cx: &mut Cx<'_>, leg: &mut Leg, server: ServerId, request: Request) -> Option<Request> {
    if !leg.dialog.accept_cseq(request.cseq) {
        cx.refuse(server, &request, StatusCode::SERVER_INTERNAL_ERROR);
        return None;
    }
    if let Some(refusal) = uas::refusal(cx.core, &request) {
        cx.respond(server, refusal);
        return None;
    }
    match request.method {
        Method::Options => {
            let response = uas::options(cx.core, &request);
            cx.respond(server, response);
        }
        Method::Info => {
            info::receive(cx, server, &request);
        }
        _ => return Some(request),
    }
    None
}

/// The caller wants every provisional response to be reliable (RFC 3262 section 3).
pub(crate) fn wants_reliable(invite: &Request) -> bool {
    Reliability::of(invite) == Reliability::Always
}

/// The SDP of a message, alone or among other parts; `None` also where its body cannot be used.
pub(crate) fn sdp(headers: &Headers, body: &[u8]) -> Option<Vec<u8>> {
    body::session_description(headers, body).ok().flatten().map(<[u8]>::to_vec)
}
