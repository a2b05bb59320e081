//! Outbound sessions from their INVITE until they are answered or given up (RFC 3261 sections 13.2 and 9.1).

use super::active::Active;
use super::attempts::{Attempts, Failure, Heard};
use super::early::{Early, News};
use super::inviting::{Invitation, Protection, Resolving};
use super::timer::{self, Clock};
use super::{Cx, MAX_FORKS, Purpose, State, sdp};
use crate::account::Called;
use crate::auth::Rounds;
use crate::dialog::{Dialog, DialogId};
use crate::endpoint::{EndCause, Event, SessionEnd};
use crate::headers::{Headers, name};
use crate::leg::Leg;
use crate::message::{Method, Request, Response, StatusCode};
use crate::reason::{Reason, Reasons};
use crate::redirect;
use crate::timer::{SessionTimer, TRANSACTION_TIMEOUT};
use crate::transaction::{ClientId, MAX_FORWARDS, Outcome, Owner, Report, Sent, ServerId};
use crate::uri::SipUri;

/// INVITE is sent.
pub(super) struct Calling {
    pub(super) attempts: Attempts,
    early: Vec<Early>,
    /// The tags of the last [`MAX_FORKS`] callees whose session descriptions the user was told; who is heard is last.
    described: Vec<String>,
    clock: Clock,
    invitation: Invitation,
}

impl Calling {
    pub(super) fn new(attempts: Attempts, clock: Clock, invitation: Invitation) -> Self {
        Self { attempts, early: Vec::new(), described: Vec::new(), clock, invitation }
    }

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

    /// `early_cseq`: the greatest number of a request in an early dialog, in one that is forgotten, too.
    pub(super) fn on_report(mut self, cx: &mut Cx<'_>, report: Report, early_cseq: u32) -> State {
        match &report.outcome {
            Outcome::Response(response) if response.status == StatusCode::TRYING => {
                self.attempts.trying(cx, report.id);
                State::Calling(self)
            }
            Outcome::Response(response) if response.status.is_provisional() => {
                self.attempts.hear(cx, report.id, Heard::Provisional);
                self.on_provisional(cx, &report, response);
                State::Calling(self)
            }
            Outcome::Response(response) if response.status.is_success() => {
                self.on_success(cx, &report, response, early_cseq)
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
        let invite = &report.sent.request;
        let tag = response.to.tag().unwrap_or_default();
        if response.status == StatusCode::EARLY_DIALOG_TERMINATED {
            return self.dialog_over(cx, tag);
        }
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
        if let News::Progress(mut sdp) = news {
            if sdp.is_some() && !self.is_heard(tag) {
                if self.described.iter().any(|described| described == tag) {
                    // It repeats itself while another is heard by now.
                    sdp = None;
                } else {
                    // Whatever is under way with another callee means nothing to the user any more; its answer may.
                    let has_answered = |other: &&mut Early| other.offers.unanswered().is_none();
                    if let Some(other) = self.described().filter(has_answered) {
                        other.offers.close(cx);
                    }
                    if self.described.len() >= MAX_FORKS {
                        // Who makes up ever new tags is heard, but not remembered.
                        self.described.remove(0);
                    }
                    self.described.push(tag.to_owned());
                }
            }
            let (status, dialog) = (response.status, tag.to_owned());
            cx.event(|session| Event::Progress { session, status, sdp, dialog });
        }
    }

    /// A proxy says that an early dialog is over (RFC 6228): where it was heard, the one before is heard again.
    fn dialog_over(&mut self, cx: &mut Cx<'_>, tag: &str) {
        let Some(place) = self.early.iter().position(|early| early.is(tag)) else { return };
        let mut over = self.early.remove(place);
        over.offers.close(cx);
        cx.unindex(over.dialog());
        let was_heard = self.is_heard(tag);
        self.described.retain(|described| described != tag);
        let heard = self.described().filter(|_| was_heard);
        if let Some((dialog, sdp)) = heard.map(|early| (early.id().remote_tag.clone(), early.description())) {
            let status = StatusCode::EARLY_DIALOG_TERMINATED;
            cx.event(|session| Event::Progress { session, status, sdp, dialog });
        }
    }

    /// The callee of this tag is the one whose session description the user was told last.
    fn is_heard(&self, tag: &str) -> bool {
        self.described.last().is_some_and(|described| described == tag)
    }

    /// The first 2xx wins (RFC 3261 section 13.2.2.4).
    fn on_success(mut self, cx: &mut Cx<'_>, report: &Report, response: &Response, early_cseq: u32) -> State {
        self.attempts.hear(cx, report.id, Heard::Nothing);
        let heard = self.is_heard(response.to.tag().unwrap_or_default());
        let mut clock = std::mem::replace(&mut self.clock, Clock::new());
        let Some(mut winner) = self.win(cx, report, response, early_cseq) else {
            cx.ended(EndCause::Protocol, Some(response.status.get()), None);
            return State::Over(None);
        };
        cx.acknowledge(&mut winner.leg, &report.sent.request);
        clock.agreed(cx, response);
        let (sdp, peer) = (winner.answer(response, heard), response.to.clone());
        let asserted = cx.asserted(report, response);
        cx.event(|session| Event::Answered { session, sdp, peer, asserted });
        State::Active(Active::outbound(winner.leg, winner.offers, clock))
    }

    /// The dialog of a 2xx, and no other; `None` when its Contact or Record-Route leads nowhere.
    fn win(self, cx: &mut Cx<'_>, report: &Report, response: &Response, early_cseq: u32) -> Option<Early> {
        let tag = response.to.tag().unwrap_or_default();
        let mut won = None;
        for mut early in self.early {
            cx.unindex(early.dialog());
            if early.is(tag) && early.leg.dialog.confirm(response).is_ok() {
                won = Some(early);
            } else {
                early.offers.close(cx);
            }
        }
        let winner = match won {
            Some(early) => early,
            None => {
                let mut dialog = Dialog::caller(&report.sent.request, response).ok()?;
                dialog.go_on_after(early_cseq);
                Early::new(Leg::new(dialog, report.sent.flow))
            }
        };
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
        // The callee has the INVITE already, by way of the server that was asked before (RFC 3261 section 8.2.2.2).
        if response.status == StatusCode::LOOP_DETECTED && self.attempts.is_merged(report.id) {
            return State::Calling(self);
        }
        if response.status == StatusCode::BAD_EXTENSION
            && let Some(mut request) = without_extensions(&report.sent.request, response)
        {
            request.cseq += 1;
            return self.again(cx, report, request, report.sent.rounds.clone());
        }
        // This server is not in order: another may be (RFC 3263 section 4.3).
        if response.status == StatusCode::SERVICE_UNAVAILABLE {
            return self.next(cx, report, Failure(refusal(response, None)));
        }
        self.attempts.hear(cx, report.id, Heard::Nothing);
        let targets = &mut self.invitation.targets;
        let (next, dead_end) = match response.status.is_redirection().then(|| targets.redirected(response)) {
            Some(Ok(target)) => (Some(target), None),
            Some(Err(dead_end)) => (targets.after_failure(Some(response.status)), dead_end.words()),
            None => (targets.after_failure(Some(response.status)), None),
        };
        match next {
            Some(target) => self.retarget(cx, &report.sent, target),
            None => self.over(cx, Failure(refusal(response, dead_end))),
        }
    }

    /// Goes to another target with the same Call-ID, From and To.
    fn retarget(mut self, cx: &mut Cx<'_>, sent: &Sent, target: SipUri) -> State {
        self.forget_early(cx);
        cx.stop(SessionTimer::NextServer);
        self.invitation.sent = Some(sent.request.clone());
        self.invitation.least = Protection::of(sent.flow);
        Resolving::redirected(cx, target, self.invitation)
    }

    /// Asks the next server, or waits for those that were asked; where there are none, the next target, or the call has
    /// ended.
    fn next(mut self, cx: &mut Cx<'_>, report: &Report, failure: Failure) -> State {
        let Some(failure) = self.attempts.fail(cx, report, failure) else {
            self.forget_early(cx);
            return State::Calling(self);
        };
        match self.invitation.targets.after_failure(failure.0.status.and_then(StatusCode::new)) {
            Some(target) => self.retarget(cx, &report.sent, target),
            None => self.over(cx, failure),
        }
    }

    fn over(mut self, cx: &mut Cx<'_>, failure: Failure) -> State {
        self.forget_early(cx);
        cx.ended_as(failure.0);
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
        self.described.clear();
        for mut early in self.early.drain(..) {
            early.offers.close(cx);
            cx.unindex(early.dialog());
        }
    }

    /// A request in an early dialog.
    pub(super) fn on_request(&mut self, cx: &mut Cx<'_>, id: &DialogId, server: ServerId, request: Request) {
        match self.early.iter_mut().find(|early| early.id() == id) {
            Some(early) => {
                let heard = self.described.last() == Some(&id.remote_tag);
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

    /// The dialog with the callee of this tag.
    pub(super) fn leg_of(&mut self, tag: &str) -> Option<&mut Leg> {
        self.early.iter_mut().find(|early| early.is(tag)).map(|early| &mut early.leg)
    }

    /// The dialog with the callee that is heard.
    pub(super) fn heard(&self) -> Option<&Leg> {
        let tag = self.described.last()?;
        self.early.iter().find(|early| early.is(tag)).map(|early| &early.leg)
    }

    /// See [`Calling::heard`].
    pub(super) fn heard_mut(&mut self) -> Option<&mut Leg> {
        self.described().map(|early| &mut early.leg)
    }

    /// The early dialog that the user's offers and answers are about.
    pub(super) fn described(&mut self) -> Option<&mut Early> {
        let tag = self.described.last()?;
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

    /// Goes out anew to the target that this INVITE was for.
    pub(super) fn place_again(mut self, cx: &mut Cx<'_>, sent: &Sent) -> State {
        let account = cx.sender.identity.and_then(|identity| cx.core.accounts.get(&identity));
        match account.and_then(|account| account.called(sent.request.uri.clone())) {
            Some(Called { target, telephone }) => {
                self.invitation.telephone = telephone;
                self.retarget(cx, sent, target)
            }
            None => self.over(cx, Failure::new(EndCause::Unresolvable)),
        }
    }

    /// Gives the call up; `Ended` is the caller's to tell.
    pub(super) fn cancel(mut self, cx: &mut Cx<'_>, why: Option<Reason>) -> State {
        self.forget_early(cx);
        let Some((client, heard)) = self.attempts.give_up(cx) else { return State::Over(None) };
        let mut cancelling = Cancelling { client, heard: Heard::Nothing, why };
        match heard {
            Heard::Provisional => cancelling.send_cancel(cx),
            Heard::Nothing => cx.core.transactions.give_up_client(client),
        }
        State::Cancelling(cancelling)
    }
}

/// The request without the extensions that a 420 names (RFC 3261 section 8.1.3.5); `None` where it names none of ours, so
/// that each further try has fewer.
fn without_extensions(request: &Request, response: &Response) -> Option<Request> {
    let refused = response.headers.tokens(name::UNSUPPORTED);
    let is_refused = |tag: &&str| refused.iter().any(|refused| refused.eq_ignore_ascii_case(tag));
    let offered = request.headers.tokens(name::SUPPORTED);
    let (gone, kept): (Vec<&str>, Vec<&str>) = offered.into_iter().partition(is_refused);
    if gone.is_empty() {
        return None;
    }
    let mut request = request.clone();
    let (gone_timer, kept) = (gone.contains(&timer::TAG), kept.join(", "));
    request.headers.remove(name::SUPPORTED);
    if !kept.is_empty() {
        request.headers.push(name::SUPPORTED, kept);
    }
    if gone_timer {
        request.headers.remove(name::SESSION_EXPIRES);
        request.headers.remove(name::MIN_SE);
    }
    Some(request)
}

/// How a final response to our INVITE ends the session. What it says of the reason (RFC 6432) stands beside its status.
fn refusal(response: &Response, dead_end: Option<&str>) -> SessionEnd {
    let reasons = Reasons::of(&response.headers);
    let phrase = Some(response.reason.clone()).filter(|reason| !reason.is_empty());
    // RFC 3261 section 21.4.15: which extension it wants is in Require.
    let wanted = response.headers.tokens(name::REQUIRE).join(", ");
    let text = match response.status {
        StatusCode::EXTENSION_REQUIRED if !wanted.is_empty() => Some(format!("Extension Required: {wanted}")),
        _ => dead_end.map(str::to_owned).or(phrase).or_else(|| reasons.text()),
    };
    SessionEnd {
        cause: EndCause::Refused,
        status: Some(response.status.get()),
        q850: reasons.q850_cause(),
        text,
        contacts: match response.status.is_redirection() {
            true => redirect::contacts(&response.headers),
            false => Vec::new(),
        },
    }
}

/// The user has given up: CANCEL is sent as soon as a provisional response allows it.
pub(super) struct Cancelling {
    pub(super) client: ClientId,
    heard: Heard,
    why: Option<Reason>,
}

impl Cancelling {
    fn send_cancel(&mut self, cx: &mut Cx<'_>) {
        self.heard = Heard::Provisional;
        send_cancel(cx, self.client, self.why.as_ref());
        cx.set(SessionTimer::Cancel, TRANSACTION_TIMEOUT);
    }

    /// From another address, where the first may not have arrived.
    pub(super) fn repeat_cancel(&mut self, cx: &mut Cx<'_>) {
        if self.heard == Heard::Provisional {
            self.send_cancel(cx);
        }
    }

    pub(super) fn awaits(&self, id: ClientId) -> bool {
        self.client == id
    }

    /// `early_cseq`: the greatest number of a request in an early dialog, all of which are forgotten.
    pub(super) fn on_report(mut self, cx: &mut Cx<'_>, report: Report, early_cseq: u32) -> State {
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
        let leg = Dialog::caller(&report.sent.request, response).ok().map(|mut dialog| {
            dialog.go_on_after(early_cseq);
            cx.index(&dialog);
            let mut leg = Leg::new(dialog, report.sent.flow);
            cx.acknowledge(&mut leg, &report.sent.request);
            cx.bye(&mut leg, Purpose::Bye, self.why.as_ref());
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
fn send_cancel(cx: &mut Cx<'_>, client: ClientId, why: Option<&Reason>) {
    let Some((sent, carrier)) = cx.core.transactions.sent(client) else { return };
    let invite = &sent.request;
    let mut headers = Headers::default();
    for route in invite.headers.get_all(name::ROUTE) {
        headers.push(name::ROUTE, route);
    }
    if let Some(why) = why {
        headers.push(name::REASON, why.to_string());
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
        send_cancel(cx, client, None);
    }
}
