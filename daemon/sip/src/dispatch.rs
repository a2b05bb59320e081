//! From what comes in to the machine that it is for: messages, answers, timers.

use std::time::{Duration, Instant};

use crate::caller::Caller;
use crate::core::{Asker, Core};
use crate::dialog::DialogId;
use crate::endpoint::{
    Endpoint, Event, Flow, IdentityId, Incoming, Output, ResolveError, ResolveId, SessionId, Transport,
    TransportError,
};
use crate::headers::name;
use crate::leg::{Disclosure, Sender};
use crate::message::{Message, Method, Request, StatusCode};
use crate::registration::{BindingId, Registration};
use crate::session::{self, CutOff, Cx, Session, trickle};
use crate::stun;
use crate::timer::Timer;
use crate::transaction::{Match, Outcome, Owner, Report, ServerId};
use crate::uas;
use crate::uri::Uri;
use crate::way_back;
use crate::wire::{self, ReadError};

/// How often the log hears of unreadable messages.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Unreadable messages, told once and then counted, so that a flood does not fill the log.
#[derive(Default)]
pub(crate) struct Complaints {
    /// When the next one may be told.
    next: Option<Instant>,
    untold: u64,
}

impl Complaints {
    fn add(&mut self, now: Instant, error: &ReadError) {
        if self.next.is_some_and(|next| now < next) {
            self.untold += 1;
            return;
        }
        log::info!("unreadable SIP message: {error} ({} more before)", self.untold);
        *self = Self { next: Some(now + COMPLAINT_INTERVAL), untold: 0 };
    }
}

impl Endpoint {
    /// A STUN message: the answer to a keep-alive of ours, or nobody's. (Requests are not answered: nobody is told of
    /// us that we were a STUN server.)
    pub(crate) fn on_stun(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        if let Some(answer) = stun::read(bytes) {
            for registration in self.registrations.values_mut() {
                registration.on_stun(&mut self.core, flow, answer);
            }
            self.end_given_up(now);
        }
    }

    /// What travels on flows that keep-alives have found to be dead fails.
    fn end_given_up(&mut self, now: Instant) {
        for (flow, error) in std::mem::take(&mut self.core.given_up) {
            if flow.transport.is_reliable() {
                self.core.outbox.push(Output::Disconnect { flow });
            }
            self.on_failed(now, flow, error);
        }
    }

    pub(crate) fn on_message(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        if flow.transport.is_reliable() {
            for registration in self.registrations.values_mut() {
                registration.on_life(&mut self.core, flow);
            }
        }
        match wire::read_datagram(bytes) {
            Ok(Some(Message::Request(request))) => self.on_request(now, flow, request),
            Ok(Some(Message::Response(response))) => {
                let core = &mut self.core;
                if let Some(report) = core.transactions.receive_response(&mut core.outbox, now, response) {
                    self.on_report(now, report);
                }
            }
            Ok(None) => {}
            Err(error) => {
                self.complaints.add(now, &error);
                if let Some(mut response) = error.reply {
                    let reply = way_back::find(&mut response.via, flow);
                    self.core.respond_stateless(reply, *response);
                }
            }
        }
    }

    fn on_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let reply = way_back::find(&mut request.via, flow);
        let core = &mut self.core;
        if request.method == Method::Ack {
            if !core.transactions.receive_ack(&mut core.outbox, now, &request)
                && let Some(&session) = core.dialogs.get(&DialogId::of_request(&request))
            {
                self.with_session(now, session, |session, cx| session.on_ack(cx, &request));
            }
            return;
        }
        match core.transactions.match_request(&mut core.outbox, now, &request) {
            Match::Repeated => {}
            Match::Merged => {
                let response = request.response(StatusCode::LOOP_DETECTED);
                core.respond_stateless(reply, response);
            }
            // What `sips:` promises cannot be kept on another transport (RFC 5630 section 3.1.3).
            Match::New
                if matches!(&request.uri, Uri::Sip(uri) if uri.secure)
                    && flow.transport != Transport::Tls =>
            {
                let response = request.response(StatusCode::UNSUPPORTED_URI_SCHEME);
                core.respond_stateless(reply, response);
            }
            Match::New => self.on_new_request(now, flow, reply, request),
        }
    }

    fn on_new_request(&mut self, now: Instant, flow: Flow, reply: Flow, request: Request) {
        // Whoever is not there any more would leave the request unanswered.
        let session = self.core.dialogs.get(&DialogId::of_request(&request)).copied();
        let session = session.filter(|session| self.sessions.contains_key(session));
        // A full table must not keep calls from ending: what belongs to one finds room for as much again.
        let limit = self.core.config.max_transactions;
        let belongs = session.is_some() || request.method == Method::Cancel;
        let limit = if belongs { limit.saturating_mul(2) } else { limit };
        if self.core.transactions.server_count() >= limit {
            let mut response = request.response(StatusCode::SERVICE_UNAVAILABLE);
            response.headers.push(name::RETRY_AFTER, "5");
            return self.core.respond_stateless(reply, response);
        }
        match (&request.method, session) {
            (Method::Cancel, _) => self.on_cancel(now, reply, &request),
            (_, Some(session)) => {
                let server = self.serve(now, reply, &request);
                if request.method == Method::Invite {
                    self.core.transactions.set_session(server, session);
                }
                self.with_session(now, session, |session, cx| session.on_request(cx, server, request));
            }
            (Method::Invite, None) => self.on_invite(now, flow, reply, request),
            // Without a dialog nothing here has an effect: answered without state, a flood costs no memory.
            (_, None) => {
                let core = &mut self.core;
                let mut response = match uas::refusal(core, &request) {
                    Some(refusal) => refusal,
                    None if request.method == Method::Options && request.to.tag().is_none() => {
                        uas::options(core, &request, core.announces_trickle)
                    }
                    None => core.response(&request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
                };
                if request.to.tag().is_none() {
                    response.to.params.remove("tag");
                }
                core.respond_stateless(reply, response);
            }
        }
    }

    fn serve(&mut self, now: Instant, reply: Flow, request: &Request) -> ServerId {
        let core = &mut self.core;
        let trying = (request.method == Method::Invite).then(|| core.response(request, StatusCode::TRYING));
        core.transactions.serve(&mut core.outbox, now, reply, request, trying.as_ref())
    }

    /// RFC 3261 section 9.2.
    fn on_cancel(&mut self, now: Instant, reply: Flow, cancel: &Request) {
        let Some(cancelled) = self.core.transactions.cancelled(cancel) else {
            let response = cancel.response(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
            return self.core.respond_stateless(reply, response);
        };
        let server = self.serve(now, reply, cancel);
        let mut response = self.core.response(cancel, StatusCode::OK);
        let session = cancelled.session.and_then(|session| self.sessions.get(&session));
        if let Some(tag) = session.and_then(Session::local_tag) {
            response.to.params.set("tag", Some(tag));
        }
        self.core.respond(now, server, response);
        if let Some(session) = cancelled.session {
            self.with_session(now, session, |session, cx| session.on_cancel(cx, cancelled.server, cancel));
        }
    }

    /// An INVITE in no dialog that we know (RFC 3261 section 13.3.1).
    fn on_invite(&mut self, now: Instant, flow: Flow, reply: Flow, request: Request) {
        let server = self.serve(now, reply, &request);
        if let Some(refusal) = uas::refusal(&mut self.core, &request) {
            self.core.respond(now, server, refusal);
            return;
        }
        if request.to.tag().is_some() {
            return self.core.refuse(now, server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
        }
        if self.live_sessions >= self.core.config.max_sessions {
            return self.core.refuse(now, server, &request, StatusCode::BUSY_HERE);
        }
        let identity = self.identity_for(&request, flow);
        let session = self.next_session();
        let incoming = Incoming {
            session,
            identity,
            request_uri: request.uri.clone(),
            from: request.from.clone(),
            to: request.to.clone(),
            flow,
            call_id: request.call_id.clone(),
            offer: session::sdp(&request.headers, &request.body),
            caller: Caller::of(&request.from, &request.headers),
            reliable: session::wants_reliable(&request),
        };
        let sender = Sender { session, identity, disclosure: Disclosure::Open, trickle: false };
        let mut cx = Cx { core: &mut self.core, now, sender };
        if let Some(inbound) = Session::inbound(&mut cx, server, request, flow) {
            self.core.transactions.set_session(server, session);
            self.begin_session(now, session, inbound);
            self.core.event(Event::Incoming(incoming));
        }
    }

    /// Whose contact the Request-URI names, if the request came from that identity's servers.
    fn identity_for(&self, request: &Request, flow: Flow) -> Option<IdentityId> {
        let Uri::Sip(uri) = &request.uri else { return None };
        let mut accounts = self.core.accounts.iter();
        let (&id, _) = accounts
            .find(|(_, account)| account.is_reached_by(uri) && account.is_server(flow.remote.ip()))?;
        self.is_known(id).then_some(id)
    }

    pub(crate) fn on_resolved(
        &mut self,
        now: Instant,
        id: ResolveId,
        mut result: Result<Vec<Flow>, ResolveError>,
    ) {
        let Some((asker, hop)) = self.core.answered(id) else { return };
        let identity = match asker {
            Asker::Registration(binding) => Some(binding.identity),
            Asker::Session(session) => self.identity_of(session),
            Asker::Response(_) => None,
        };
        if let Ok(flows) = &mut result {
            self.core.order(now, identity, flows);
        }
        if let (Some(account), Ok(flows)) =
            (identity.and_then(|identity| self.core.accounts.get_mut(&identity)), &result)
        {
            account.resolved(&hop, flows);
        }
        match asker {
            Asker::Registration(BindingId { identity, reg_id }) => {
                self.with_registration(identity, |registration, core| {
                    registration.on_resolved(core, now, reg_id, id, result)
                });
            }
            Asker::Session(session) => {
                self.with_session(now, session, |session, cx| session.on_resolved(cx, id, result));
            }
            Asker::Response(server) => {
                let core = &mut self.core;
                if let Some(&flow) = result.ok().as_ref().and_then(|flows| flows.first()) {
                    core.transactions.redirect(&mut core.outbox, now, server, flow);
                }
            }
        }
    }

    fn identity_of(&self, session: SessionId) -> Option<IdentityId> {
        self.sessions.get(&session).and_then(|session| session.sender().identity)
    }

    pub(crate) fn on_failed(&mut self, now: Instant, flow: Flow, error: TransportError) {
        log::debug!("{}:{}: {error}", flow.transport.name(), flow.remote);
        let core = &mut self.core;
        // A connection that was closed may have been idle for too long: that says nothing against the far end.
        if error != TransportError::Closed {
            core.avoided.add(now, flow);
        }
        let bound = core.accounts.iter().flat_map(|(&identity, account)| {
            account.bound_with(flow).into_iter().map(move |reg_id| BindingId { identity, reg_id })
        });
        let bound: Vec<BindingId> = bound.collect();
        for (server, sent_by) in core.transactions.cut_off(flow) {
            core.resolve(now, sent_by, None, Asker::Response(server));
        }
        for report in core.transactions.failed(&mut core.outbox, &mut core.random, now, flow, error) {
            self.on_report(now, report);
        }
        if flow.transport.is_reliable() {
            self.cut_off_sessions(flow, error, &bound);
        }
        for BindingId { identity, reg_id } in bound {
            self.with_registration(identity, |registration, core| registration.on_cut_off(core, now, reg_id));
        }
    }

    /// A connection does not come about.
    pub(crate) fn on_slow(&mut self, now: Instant, flow: Flow) {
        let core = &mut self.core;
        let falls_back = core.transactions.fall_back(&mut core.outbox, &mut core.random, now, flow);
        if falls_back {
            core.dead_streams.add_stream(now, flow);
        }
        // What waits in its queue is not to be sent a second time, when the call may be over, nor after the call: unless
        // others wait as well.
        if self.core.transactions.needs(flow) || self.uses(flow) {
            return;
        }
        let core = &mut self.core;
        let given_up = core.transactions.end_given_up(&mut core.outbox, flow);
        if falls_back || !given_up.is_empty() {
            core.outbox.push(Output::Disconnect { flow });
        }
        for report in given_up {
            self.on_report(now, report);
        }
    }

    /// Servers cannot send by a connection any more, which carried these bindings.
    fn cut_off_sessions(&mut self, flow: Flow, error: TransportError, bound: &[BindingId]) {
        let accounts = self.core.accounts.iter();
        let of_servers = accounts.filter(|(_, account)| account.is_server(flow.remote.ip()));
        let identities: Vec<IdentityId> = of_servers.map(|(&identity, _)| identity).collect();
        for identity in identities {
            let of_identity = bound.iter().filter(|binding| binding.identity == identity);
            let Some(cut_off) = CutOff::of(of_identity.map(|binding| binding.reg_id).collect(), error) else {
                continue;
            };
            for session in self.sessions.values_mut().filter(|s| s.sender().identity == Some(identity)) {
                session.on_cut_off(flow, &cut_off);
            }
            if cut_off == CutOff::Request {
                self.tell_reconnected(identity);
            }
        }
    }

    /// Tells of the sessions that were cut off from an account's server and are so no more.
    fn tell_reconnected(&mut self, identity: IdentityId) {
        let Some(account) = self.core.accounts.get(&identity) else { return };
        let of_identity = self.sessions.iter_mut().filter(|(_, s)| s.sender().identity == Some(identity));
        for (&session, state) in of_identity {
            if state.is_reconnected(account) {
                self.core.outbox.event(Event::Reconnected { session });
            }
        }
    }

    /// Takes note of as whom the far end sees us.
    fn learn(&mut self, report: &Report) {
        let Outcome::Response(response) = &report.outcome else { return };
        let flow = report.sent.flow;
        let before = self.core.reflexive.of(flow);
        if !self.core.reflexive.learn(flow, response.via.first()) {
            return;
        }
        let identity = match report.owner {
            Owner::Registration(binding) => Some(binding.identity),
            Owner::Session(session, _) => self.identity_of(session),
            Owner::Relay => None,
        };
        let account = identity.and_then(|identity| self.core.accounts.get(&identity));
        if let Some(identity) = identity
            && account.is_some_and(|account| account.is_server(flow.remote.ip()))
        {
            let address = self.core.reflexive.of(flow);
            self.core.event(Event::Seen { identity, flow, before, address });
        }
    }

    pub(crate) fn on_report(&mut self, now: Instant, report: Report) {
        self.learn(&report);
        let flow = report.sent.flow;
        match &report.outcome {
            // It was too large for a datagram: that nothing came by TCP says nothing against the server.
            Outcome::Timeout if report.carrier.transport != flow.transport => {
                self.core.dead_streams.add_stream(now, report.carrier);
            }
            Outcome::Timeout | Outcome::Unreachable(_) => self.core.avoided.add(now, flow),
            Outcome::Response(response) if response.status == StatusCode::SERVICE_UNAVAILABLE => {
                self.core.avoided.add(now, flow);
            }
            Outcome::Response(_) => self.core.avoided.remove(flow),
            Outcome::Over => {}
        }
        match report.owner {
            Owner::Registration(BindingId { identity, reg_id }) => {
                self.with_registration(identity, |registration, core| {
                    registration.on_report(core, now, reg_id, report)
                });
            }
            Owner::Session(session, _) => {
                if let Outcome::Response(response) = &report.outcome
                    && response.status.is_success()
                    && let Some(session) = self.sessions.get(&session)
                {
                    // Only a registration depends on whether the server knows the password.
                    self.core.confirm_server(session.sender().identity, &report, response);
                }
                self.with_session(now, session, |session, cx| session.on_report(cx, report));
            }
            Owner::Relay => {}
        }
    }

    pub(crate) fn on_timer(&mut self, now: Instant, timer: Timer) {
        let core = &mut self.core;
        match timer {
            Timer::Client(id, timer) => {
                if let Some(report) = core.transactions.client_timer(&mut core.outbox, now, id, timer) {
                    self.on_report(now, report);
                }
            }
            Timer::Server(id, timer) => core.transactions.server_timer(&mut core.outbox, now, id, timer),
            Timer::Session(session, timer) => {
                self.with_session(now, session, |session, cx| session.on_timer(cx, timer));
            }
            Timer::Registration(BindingId { identity, reg_id }, timer) => {
                self.with_registration(identity, |registration, core| {
                    registration.on_timer(core, now, reg_id, timer)
                });
                self.end_given_up(now);
            }
            Timer::Resolve(id) => self.on_resolved(now, id, Err(ResolveError::Unavailable(String::new()))),
        }
    }

    pub(crate) fn begin_session(&mut self, now: Instant, id: SessionId, session: Session) {
        let identity = session.sender().identity;
        self.sessions.insert(id, session);
        self.live_sessions += 1;
        self.count_calls(now, identity);
    }

    /// A session of an identity has begun or ended: its flows matter more, or less.
    fn count_calls(&mut self, now: Instant, identity: Option<IdentityId>) {
        let live = |session: &Session| session.sender().identity == identity && !session.has_ended();
        let any = self.sessions.values().any(live);
        if let Some(registration) = identity.and_then(|identity| self.registrations.get_mut(&identity)) {
            registration.set_calls(&mut self.core, now, any);
        }
    }

    /// Runs `act` on a session, and forgets the session when it has come to its end.
    pub(crate) fn with_session<R>(
        &mut self,
        now: Instant,
        id: SessionId,
        act: impl FnOnce(&mut Session, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        let session = self.sessions.get_mut(&id)?;
        let had_ended = session.has_ended();
        let sender = session.sender();
        let result = act(session, &mut Cx { core: &mut self.core, now, sender });
        let ends = session.has_ended() && !had_ended;
        if ends {
            self.live_sessions = self.live_sessions.saturating_sub(1);
            trickle::forget(&mut self.core, now, id);
        }
        if session.is_idle() && !self.core.transactions.owns_any(id) {
            for dialog in session.dialog_ids() {
                self.core.dialogs.remove(dialog);
            }
            self.core.outbox.timers.stop_session(id);
            self.sessions.remove(&id);
            if let Some(identity) = sender.identity {
                self.forget(identity);
            }
        }
        if ends {
            self.count_calls(now, sender.identity);
        }
        Some(result)
    }

    /// Runs `act` on a registration, and forgets a removed identity when nothing of it is left.
    pub(crate) fn with_registration<R>(
        &mut self,
        id: IdentityId,
        act: impl FnOnce(&mut Registration, &mut Core) -> R,
    ) -> Option<R> {
        let result = act(self.registrations.get_mut(&id)?, &mut self.core);
        self.tell_reconnected(id);
        self.forget(id);
        Some(result)
    }

    /// Forgets an identity that was removed, once neither its registration nor a session needs it.
    fn forget(&mut self, id: IdentityId) {
        let is_over = self.registrations.get(&id).is_some_and(Registration::is_over);
        if is_over && !self.sessions.values().any(|session| session.sender().identity == Some(id)) {
            if let Some(registration) = self.registrations.remove(&id) {
                registration.binding_ids().for_each(|id| self.core.outbox.timers.stop_registration(id));
            }
            self.core.accounts.remove(&id);
        }
    }

    /// The identity is there and not removed.
    pub(crate) fn is_known(&self, id: IdentityId) -> bool {
        self.registrations.get(&id).is_some_and(|registration| !registration.is_forgotten())
    }
}
