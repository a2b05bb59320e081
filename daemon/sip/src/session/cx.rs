//! What a session works with: the endpoint's common parts, the time, who sends; and what every state says with them.

use std::time::{Duration, Instant};

use super::{Answer, Purpose};
use crate::auth::Rounds;
use crate::caller::Caller;
use crate::core::{Core, SDP};
use crate::dialog::Dialog;
use crate::endpoint::{EndCause, Event, SessionEnd, SessionId};
use crate::headers::{Headers, name};
use crate::leg::{Kind, Leg, Outgoing, Sender};
use crate::message::{Method, Request, Response, StatusCode};
use crate::reason::{Reason, Reasons};
use crate::timer::{SessionTimer, Timer};
use crate::transaction::{Outcome, Report, ServerId};
use crate::uri::NameAddr;

/// What a session works with.
pub(crate) struct Cx<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) now: Instant,
    pub(crate) sender: Sender,
}

impl Cx<'_> {
    pub(super) fn event(&mut self, event: impl FnOnce(SessionId) -> Event) {
        let event = event(self.sender.session);
        self.core.event(event);
    }

    pub(super) fn ended(&mut self, cause: EndCause, status: Option<u16>, text: Option<String>) {
        self.ended_as(SessionEnd { cause, status, q850: None, text, contacts: Vec::new() });
    }

    /// Ended by the peer's BYE or CANCEL, which may say why.
    pub(super) fn ended_by(&mut self, cause: EndCause, headers: &Headers) {
        let reasons = Reasons::of(headers);
        let (status, q850, text) = (reasons.status(), reasons.q850_cause(), reasons.text());
        self.ended_as(SessionEnd { cause, status, q850, text, contacts: Vec::new() });
    }

    pub(super) fn ended_as(&mut self, end: SessionEnd) {
        self.event(|session| Event::Ended { session, end });
    }

    pub(super) fn set(&mut self, timer: SessionTimer, after: Duration) {
        self.core.outbox.timers.set(Timer::Session(self.sender.session, timer), self.now + after);
    }

    pub(super) fn stop(&mut self, timer: SessionTimer) {
        self.core.outbox.timers.stop(Timer::Session(self.sender.session, timer));
    }

    pub(super) fn respond(&mut self, server: ServerId, response: Response) -> Option<Answer> {
        let bytes = self.core.respond(self.now, server, response)?;
        Some(Answer { server, bytes })
    }

    /// Sends a response again, wherever its transaction's responses go now.
    pub(super) fn repeat(&mut self, answer: &Answer) {
        self.core.transactions.repeat(&mut self.core.outbox, answer.server, &answer.bytes);
    }

    pub(super) fn refuse(&mut self, server: ServerId, request: &Request, status: StatusCode) {
        self.core.refuse(self.now, server, request, status);
    }

    /// 500 to an INVITE or an offer that came before the last one was answered (RFC 3261 section 14.2, RFC 3311
    /// section 5.2).
    pub(super) fn refuse_for_now(&mut self, server: ServerId, request: &Request) {
        let mut response = self.core.response(request, StatusCode::SERVER_INTERNAL_ERROR);
        let after = self.core.random.between(Duration::ZERO, Duration::from_secs(10)).as_secs();
        response.headers.push(name::RETRY_AFTER, after.to_string());
        self.respond(server, response);
    }

    /// A response that makes or keeps a dialog (RFC 3261 sections 12.1.1 and 13.3.1).
    pub(super) fn dialog_response(
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
        self.core.introduce(&mut response.headers, self.sender);
        response.headers.push(name::SERVER, self.core.config.product.clone());
        if let Some(sdp) = sdp {
            response.headers.push(name::CONTENT_TYPE, SDP);
            response.body = sdp;
        }
        response
    }

    pub(super) fn index(&mut self, dialog: &Dialog) {
        self.core.dialogs.insert(dialog.id.clone(), self.sender.session);
    }

    pub(super) fn unindex(&mut self, dialog: &Dialog) {
        self.core.dialogs.remove(&dialog.id);
    }

    pub(super) fn send(&mut self, leg: &mut Leg, request: Request, purpose: Purpose) {
        self.send_again(leg, request, Rounds::default(), purpose);
    }

    pub(super) fn send_again(&mut self, leg: &mut Leg, request: Request, rounds: Rounds, purpose: Purpose) {
        let outgoing = Outgoing { request, rounds, kind: Kind::Transaction(purpose) };
        leg.send(self.core, self.now, self.sender, outgoing);
    }

    pub(super) fn bye(&mut self, leg: &mut Leg, purpose: Purpose, why: Option<&Reason>) {
        let mut bye = leg.dialog.request(Method::Bye);
        if let Some(why) = why {
            bye.headers.push(name::REASON, why.to_string());
        }
        self.send(leg, bye, purpose);
    }

    /// Who has answered, in the words of the identity's own server; of nobody else they are believed (RFC 3325).
    pub(super) fn asserted(&self, report: &Report, response: &Response) -> Vec<NameAddr> {
        let account = self.sender.identity.and_then(|identity| self.core.accounts.get(&identity));
        match account.is_some_and(|account| account.is_server(report.sent.flow.remote.ip())) {
            true => Caller::of(&response.to, &response.headers).asserted,
            false => Vec::new(),
        }
    }

    pub(super) fn acknowledge(&mut self, leg: &mut Leg, invite: &Request) {
        leg.acknowledge(self.core, self.now, self.sender, invite);
    }

    /// Where a request in a dialog is challenged, sends it again with credentials. What else becomes of it is of no
    /// interest.
    pub(super) fn answer_if_challenged(&mut self, leg: &mut Leg, report: &Report, purpose: Purpose) {
        if let Outcome::Response(response) = &report.outcome
            && matches!(response.status.get(), 401 | 407)
        {
            self.answer_challenge(leg, report, response, purpose);
        }
    }

    /// Sends an in-dialog request again, with credentials: its new number, or `None` where the challenge is not
    /// answered.
    pub(super) fn answer_challenge(
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
