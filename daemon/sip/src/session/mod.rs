//! INVITE sessions (RFC 3261 sections 13 to 15): one call's way from its first question to its last acknowledgement.
//!
//! A session outlives its [`Event::Ended`](crate::endpoint::Event::Ended) by what must still be sent: CANCEL, BYE, ACKs for
//! late 2xx.

mod active;
mod attempts;
mod commands;
mod cut_off;
mod cx;
mod early;
mod inbound;
mod info;
mod inviting;
mod moved;
mod offers;
mod outbound;
mod reliable;
mod timer;
pub(crate) mod trickle;
mod update;

use std::time::Instant;

use self::active::Active;
pub(crate) use self::cut_off::CutOff;
pub(crate) use self::cx::Cx;
use self::early::Early;
use self::inbound::Alerting;
use self::inviting::{Offering, Resolving};
use self::outbound::{Calling, Cancelling};
use crate::account::Called;
use crate::body;
use crate::core::Core;
use crate::dialog::{Dialog, DialogId};
use crate::endpoint::{Flow, IdentityId, InviteOptions, ResolveError, ResolveId, SessionError, SessionId};
use crate::headers::Headers;
use crate::leg::{Disclosure, Kind, Leg, Sender};
use crate::message::{Method, Request, StatusCode};
use crate::reason::Reason;
use crate::timer::SessionTimer;
use crate::transaction::{Outcome, Owner, Report, ServerId};
use crate::uas;

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
    /// INFO with candidates.
    Fragment,
}

/// A response as it was sent, for a session that repeats it itself.
struct Answer {
    server: ServerId,
    bytes: Vec<u8>,
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
    /// Ended: BYE, which says why, waits until our 2xx is acknowledged (RFC 3261 section 15).
    Unacknowledged(Active, Option<Reason>),
    /// Ended: what was sent is brought to its end.
    Over(Option<Leg>),
}

pub(crate) struct Session {
    sender: Sender,
    state: State,
    /// Dialogs of forks that answered when another had won: acknowledged, and ended at once.
    forks: Vec<Leg>,
    /// The greatest number of a request of ours in an early dialog: a 2xx may bring one back that is forgotten, and its
    /// peer remembers.
    early_cseq: u32,
    /// The connection by which the identity's server reached us in its dialog is lost.
    cut_off: Option<CutOff>,
}

impl Session {
    /// A dialog of it has travelled on `flow`.
    pub(crate) fn uses(&self, flow: Flow) -> bool {
        let leg = match &self.state {
            State::Alerting(alerting) => Some(&alerting.leg),
            State::Active(active) | State::Unacknowledged(active, _) => Some(&active.leg),
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
        let sender = Sender { session, identity: Some(identity), disclosure, trickle: false };
        let resolving = Resolving::begin(&mut Cx { core, now, sender }, called, options)?;
        Ok(Self::begun(sender, State::Resolving(resolving)))
    }

    /// An inbound session; `None` where the INVITE was refused.
    pub(crate) fn inbound(cx: &mut Cx<'_>, server: ServerId, request: Request, flow: Flow) -> Option<Self> {
        let alerting = Alerting::begin(cx, server, request, flow)?;
        Some(Self::begun(cx.sender, State::Alerting(alerting)))
    }

    fn begun(sender: Sender, state: State) -> Self {
        Self { sender, state, forks: Vec::new(), early_cseq: 0, cut_off: None }
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender
    }

    /// `Ended` was told.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Cancelling(_) | State::Unacknowledged(..) | State::Over(_))
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
            State::Active(active) | State::Unacknowledged(active, _) => (Some(&active.leg), &[]),
            State::Over(leg) => (leg.as_ref(), &[]),
            State::Resolving(_) | State::Offering(_) | State::Cancelling(_) => (None, &[]),
        };
        one.into_iter().chain(many.iter().map(|early| &early.leg)).chain(&self.forks)
    }

    /// The leg of the dialog that was won.
    fn leg(&mut self) -> Option<&mut Leg> {
        match &mut self.state {
            State::Alerting(alerting) => Some(&mut alerting.leg),
            State::Active(active) | State::Unacknowledged(active, _) => Some(&mut active.leg),
            State::Over(leg) => leg.as_mut(),
            State::Resolving(_) | State::Offering(_) | State::Calling(_) | State::Cancelling(_) => None,
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over(None))
    }

    /// Takes note of the numbers that early dialogs have used, before something that may forget these.
    fn note_early_cseq(&mut self) {
        if let State::Calling(calling) = &self.state {
            let used = calling.early().iter().map(|early| early.dialog().local_cseq());
            self.early_cseq = used.fold(self.early_cseq, u32::max);
        }
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
                if unsent.contains(&Kind::Transaction(Purpose::Fragment)) {
                    trickle::not_sent(cx);
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
                (Kind::Transaction(Purpose::Fragment), State::Alerting(_)) => trickle::not_sent(cx),
                _ => {}
            }
        }
    }

    pub(crate) fn on_report(&mut self, cx: &mut Cx<'_>, report: Report) {
        let Owner::Session(_, purpose) = report.owner else { return };
        self.note_early_cseq();
        if self.is_of_lost_fork(&report, purpose) || self.try_next(cx, &report, purpose) {
            return;
        }
        if let (State::Active(active), Outcome::Response(response)) = (&mut self.state, &report.outcome)
            && !response.status.is_provisional()
            && response.status != StatusCode::REQUEST_TIMEOUT
        {
            active.hear();
        }
        self.state = match (self.take(), purpose) {
            (state, Purpose::Cancel) => state,
            (state, Purpose::ForkBye) => {
                let tag = report.sent.request.to.tag().unwrap_or_default();
                if let Some(fork) = self.forks.iter_mut().find(|leg| leg.dialog.id.remote_tag == tag) {
                    cx.answer_if_challenged(fork, &report, purpose);
                }
                state
            }
            (State::Over(leg), Purpose::Fragment) => State::Over(leg),
            (state, Purpose::Fragment) => {
                self.state = state;
                let tag = report.sent.request.to.tag().unwrap_or_default();
                let leg = match &mut self.state {
                    State::Calling(calling) => calling.leg_of(tag),
                    _ => self.leg(),
                };
                return trickle::on_report(cx, leg, &report);
            }
            (State::Calling(calling), Purpose::Invite) if calling.awaits(report.id) => {
                calling.on_report(cx, report, self.early_cseq)
            }
            (State::Cancelling(cancelling), Purpose::Invite) if cancelling.awaits(report.id) => {
                cancelling.on_report(cx, report, self.early_cseq)
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
                cx.answer_if_challenged(&mut active.leg, &report, purpose);
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
                cx.answer_if_challenged(&mut leg, &report, purpose);
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

    /// It is about a request in another early dialog than the one that was won: its numbers mean nothing there.
    fn is_of_lost_fork(&self, report: &Report, purpose: Purpose) -> bool {
        let State::Active(active) = &self.state else { return false };
        let in_dialog = !matches!(purpose, Purpose::Invite | Purpose::Cancel | Purpose::ForkBye);
        in_dialog && active.leg.dialog.id.remote_tag != report.sent.request.to.tag().unwrap_or_default()
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
                State::Active(active) | State::Unacknowledged(active, _) => Some(&mut active.leg),
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
            && let Ok(mut dialog) = Dialog::caller(&report.sent.request, response)
        {
            dialog.go_on_after(self.early_cseq);
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
            State::Unacknowledged(mut active, why) => {
                answer_ended(cx, &mut active.leg, server, &request);
                // BYE from the peer: ours is not needed any more.
                self.state = match request.method {
                    Method::Bye => active.silence(cx),
                    _ => State::Unacknowledged(active, why),
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
            State::Unacknowledged(active, why) => active.on_ack_after_end(cx, ack, why),
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
            (State::Unacknowledged(mut active, why), SessionTimer::Retransmit) => {
                active.retransmit(cx);
                State::Unacknowledged(active, why)
            }
            (State::Active(active), SessionTimer::Acknowledge) => active.unacknowledged(cx),
            (State::Unacknowledged(active, why), SessionTimer::Acknowledge) => active.leave(cx, why.as_ref()),
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
            let response = uas::options(cx.core, &request, cx.sender.trickle);
            cx.respond(server, response);
        }
        Method::Info => match cx.sender.trickle && trickle::is_fragment(&request) {
            true => trickle::receive(cx, server, &request),
            false => info::receive(cx, server, &request),
        },
        _ => return Some(request),
    }
    None
}

/// The caller wants every provisional response to be reliable (RFC 3262 section 3).
pub(crate) fn wants_reliable(invite: &Request) -> bool {
    Reliability::of(invite) == Reliability::Always
}

/// The SDP of a message that is not refused any more, alone or among other parts; `None` also where its body cannot be
/// used.
pub(crate) fn sdp(headers: &Headers, body: &[u8]) -> Option<Vec<u8>> {
    body::any_description(headers, body).map(<[u8]>::to_vec)
}
