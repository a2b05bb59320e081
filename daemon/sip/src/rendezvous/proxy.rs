//! The proxy (RFC 3261 section 16): stateful, record-routing, forking, and for members alone.

use std::time::{Duration, Instant};

use super::bindings::Binding;
use super::dialogs::Party;
use super::forks::{Context, ContextId, Fork, Progress};
use super::registrar::is_reached;
use super::{Alarm, Rendezvous};
use crate::auth::Rounds;
use crate::core::via;
use crate::digest::{Algorithm, realm_of};
use crate::endpoint::{Flow, Transport};
use crate::grammar::MAX_LIST;
use crate::headers::{Headers, name};
use crate::message::{Message, Method, Request, Response, StatusCode};
use crate::reason::Reason;
use crate::transaction::{ClientId, Outcome, Owner, Report, Sent, ServerId};
use crate::uri::{Host, NameAddr, SipUri, Uri};
use crate::wire;

/// Timer C: above 3 minutes (RFC 3261 section 16.6 step 11).
const TIMER_C: Duration = Duration::from_secs(200);
/// Most calls of a member that wait for an answer.
const MAX_RINGING: usize = 8;

/// What a request is for.
enum Aim {
    /// The dialog of that name.
    Dialog(String),
    /// A dialog that is not known here any more.
    Lost,
    /// A member.
    Member(String),
    /// Another domain, by way of us.
    Elsewhere,
    /// The user agent that shares our sockets.
    NotOurs,
}

/// A place that a request is passed on to.
struct Target {
    flow: Flow,
    uri: Uri,
    /// Route values to put first.
    routes: Vec<String>,
    /// The dialog that it may begin.
    token: Option<String>,
}

impl Rendezvous {
    /// Takes our own Route values from a request (RFC 3261 section 16.4), and says what it is for.
    fn aim(&mut self, now: Instant, request: &mut Request, flow: Flow) -> Aim {
        let Ok(routes) = request.headers.route_set(name::ROUTE) else { return Aim::NotOurs };
        let is_own = |route: &NameAddr| matches!(&route.uri, Uri::Sip(uri) if self.is_here(uri, flow));
        let own = routes.iter().take_while(|route| is_own(route)).count();
        let token = routes.iter().take(own).find_map(|route| match &route.uri {
            Uri::Sip(uri) => uri.user.clone(),
            Uri::Other { .. } => None,
        });
        if own > 0 {
            request.headers.remove(name::ROUTE);
            for route in routes.iter().skip(own) {
                request.headers.push(name::ROUTE, route.to_string());
            }
        }
        if let Some(token) = token.filter(|_| request.to.tag().is_some() || request.method == Method::Ack) {
            let is_known = self.dialogs.has(&token) || self.recall(now, &token, request);
            return if is_known { Aim::Dialog(token) } else { Aim::Lost };
        }
        match &request.uri {
            Uri::Sip(uri) if self.is_here(uri, flow) => match &uri.user {
                Some(user) if self.members.has(user) => Aim::Member(user.clone()),
                _ => Aim::NotOurs,
            },
            _ if own > 0 => Aim::Elsewhere,
            _ => Aim::NotOurs,
        }
    }

    /// Goes on with a dialog that began before a restart, which its own name tells of.
    fn recall(&mut self, now: Instant, token: &str, request: &Request) -> bool {
        let read = self.tokens.read(token, request, self.unix(now));
        // Who was removed in the meantime is not served any more.
        let read = read.filter(|(_, both)| both.iter().all(|party| self.members.has(&party.member)));
        let Some((caller_tag, both)) = read else { return false };
        self.dialogs.begin(now, token.to_owned(), (&request.call_id, &caller_tag), both);
        true
    }

    /// Passes a request on, where it may pass. `false` leaves it to the user agent.
    pub(super) fn relay(&mut self, now: Instant, flow: Flow, reply: Flow, mut request: Request) -> bool {
        let aim = self.aim(now, &mut request, flow);
        let refusal = match &aim {
            Aim::NotOurs => return false,
            Aim::Lost => Some((StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST, "")),
            Aim::Elsewhere => Some((StatusCode::FORBIDDEN, "Only Friends Are Served Here")),
            // What `sips:` promises cannot be kept on another transport (RFC 5630 section 3.1.3).
            Aim::Dialog(_) | Aim::Member(_) if is_secure(&request) && flow.transport != Transport::Tls => {
                Some((StatusCode::UNSUPPORTED_URI_SCHEME, ""))
            }
            // RFC 3261 section 16.3 step 3.
            _ if request.max_forwards == 0 => Some((StatusCode::TOO_MANY_HOPS, "")),
            _ if self.is_loop(&request) => Some((StatusCode::LOOP_DETECTED, "")),
            Aim::Member(_) if request.to.tag().is_some() => {
                Some((StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST, ""))
            }
            _ => None,
        };
        if let Some((status, why)) = refusal {
            self.refuse_stateless(reply, &request, status, why);
            return true;
        }
        let mut unsupported = request.headers.tokens(name::PROXY_REQUIRE);
        unsupported.truncate(MAX_LIST);
        if !unsupported.is_empty() {
            let unsupported = unsupported.join(", ");
            let mut response = self.response(&request, StatusCode::BAD_EXTENSION);
            response.headers.push(name::UNSUPPORTED, unsupported);
            self.respond_stateless(reply, response);
            return true;
        }
        match aim {
            Aim::Dialog(token) => self.relay_in_dialog(now, reply, request, &token),
            Aim::Member(member) => self.relay_to_member(now, flow, reply, request, &member),
            Aim::Lost | Aim::Elsewhere | Aim::NotOurs => {}
        }
        true
    }

    /// A request outside of a dialog, from one member to another.
    fn relay_to_member(&mut self, now: Instant, flow: Flow, reply: Flow, mut request: Request, callee: &str) {
        let Some(caller) = self.authenticate(now, reply, &request, name::PROXY_AUTHORIZATION) else {
            return;
        };
        if !self.is_address_of(&request.from, &caller, flow) && !is_anonymous(&request.from) {
            let why = "These Credentials Are Not This Caller's";
            return self.refuse_stateless(reply, &request, StatusCode::FORBIDDEN, why);
        }
        if !self.may(now, reply, &request, &caller) {
            return;
        }
        let ringing = self.contexts.values().filter(|context| {
            context.is_invite() && !context.answered && context.caller.as_ref() == Some(&caller)
        });
        if request.method == Method::Invite && ringing.count() >= MAX_RINGING
            || self.transactions.server_count() >= self.config.max_transactions
        {
            return self.overloaded(reply, &request);
        }
        let server = self.serve(now, reply, &request);
        self.assert_identity(&mut request, &caller);
        let secure = is_secure(&request);
        let is_invite = request.method == Method::Invite;
        let reached = self.bindings.of(now, callee).filter(|(to, flow)| is_reached(&to.uri, *flow, secure));
        let reached: Vec<(Binding, Flow)> = reached.map(|(to, flow)| (to.clone(), flow)).collect();
        let caller_device = self.bindings.device_on(now, &caller, flow);
        let mut targets = Vec::new();
        for (binding, to) in reached {
            let token = is_invite.then(|| {
                let caller = Party { member: caller.clone(), device: caller_device, flow: Some(flow) };
                let device = Some(binding.device());
                let callee = Party { member: callee.to_owned(), device, flow: Some(to) };
                let drawn = self.random.bytes();
                let token = self.tokens.write(&request, [&caller, &callee], self.unix(now), drawn);
                let names = (request.call_id.as_str(), request.from.tag().unwrap_or_default());
                self.dialogs.begin(now, token.clone(), names, [caller, callee]);
                token
            });
            targets.push(Target { flow: to, uri: Uri::Sip(binding.uri), routes: binding.path, token });
        }
        if targets.is_empty() {
            let response = self.response(&request, StatusCode::TEMPORARILY_UNAVAILABLE);
            return self.respond(now, server, response);
        }
        self.forward(
            now,
            flow,
            Context::new(server, request, Some((caller, callee.to_owned())), None),
            targets,
        );
    }

    /// RFC 3325 sections 5 and 7: who calls is what was proved, and not told to who must not know.
    fn assert_identity(&self, request: &mut Request, caller: &str) {
        request.headers.remove(name::P_PREFERRED_IDENTITY);
        request.headers.remove(name::P_ASSERTED_IDENTITY);
        let privacy = request.headers.get(name::PRIVACY).unwrap_or_default();
        if !privacy.split(';').any(|word| word.trim().eq_ignore_ascii_case("id")) {
            let uri = SipUri::new(Some(caller), self.config.host.clone(), self.config.port);
            request.headers.push(name::P_ASSERTED_IDENTITY, NameAddr::new(Uri::Sip(uri)).to_string());
        }
    }

    fn relay_in_dialog(&mut self, now: Instant, reply: Flow, request: Request, token: &str) {
        let dialog = self.dialogs.touch(now, token);
        let Some(party) = dialog.and_then(|dialog| dialog.towards(&request)).cloned() else {
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            return self.refuse_stateless(reply, &request, status, "");
        };
        if self.transactions.server_count() >= self.config.max_transactions.saturating_mul(2) {
            // As much room again, so that calls can end when the table is full.
            return self.overloaded(reply, &request);
        }
        let server = self.serve(now, reply, &request);
        let Some(flow) = party.flow(now, &self.bindings) else {
            // RFC 5626 section 5.3.1: the device is on its way to another flow.
            let mut response = self.response(&request, StatusCode::TEMPORARILY_UNAVAILABLE);
            "The Friend's Connection Is Lost".clone_into(&mut response.reason);
            return self.respond(now, server, response);
        };
        let target = Target { flow, uri: request.uri.clone(), routes: Vec::new(), token: None };
        let context = Context::new(server, request, None, Some(token.to_owned()));
        self.forward(now, reply, context, vec![target]);
    }

    /// An ACK for a 2xx is passed on without a transaction (RFC 3261 section 16.11).
    pub(super) fn relay_ack(&mut self, now: Instant, flow: Flow, mut ack: Request) -> bool {
        let token = match self.aim(now, &mut ack, flow) {
            Aim::Dialog(token) => token,
            // An ACK for a refusal of ours that had no transaction is for a member and for nobody.
            aim => return !matches!(aim, Aim::NotOurs),
        };
        let party = self.dialogs.touch(now, &token).and_then(|dialog| dialog.towards(&ack)).cloned();
        let target = party.and_then(|party| party.flow(now, &self.bindings));
        if let Some(target) = target.filter(|_| ack.max_forwards > 0) {
            ack.max_forwards -= 1;
            // A repeated ACK gets the same branch.
            let seen = ack.via.first().map(ToString::to_string).unwrap_or_default();
            let branch = format!("{}{:.16}", self.branch, self.guard.seal(&seen));
            ack.via.insert(0, via(target, &branch));
            self.outbox.transmit(target, wire::write(&Message::Request(ack)));
        }
        true
    }

    /// Sends a request to its targets (RFC 3261 section 16.6).
    fn forward(&mut self, now: Instant, from: Flow, mut context: Context, targets: Vec<Target>) {
        self.last_context += 1;
        let id = ContextId(self.last_context);
        let key = loop_key(&context.request);
        let secure = is_secure(&context.request);
        for target in targets {
            let mut request = context.request.clone();
            request.max_forwards = request.max_forwards.saturating_sub(1);
            request.uri = target.uri;
            let realm = self.realm();
            request
                .headers
                .retain(name::PROXY_AUTHORIZATION, |value| realm_of(value).as_ref() != Some(&realm));
            for route in target.routes.iter().rev() {
                request.headers.put_first(name::ROUTE, route.clone());
            }
            if let Some(token) = &target.token {
                // RFC 5658: where the two sides are reached differently, each finds its own way here.
                let ways = [from, target.flow].map(|flow| self.own_route(token, flow, secure));
                let [towards_caller, towards_callee] = &ways;
                request.headers.put_first(name::RECORD_ROUTE, towards_caller.clone());
                if towards_callee != towards_caller {
                    request.headers.put_first(name::RECORD_ROUTE, towards_callee.clone());
                }
            }
            let branch = format!("{}{}.{key}", self.branch, self.random.token(12));
            request.via.insert(0, via(target.flow, &branch));
            let sent = Sent { request, flow: target.flow, rounds: Rounds::default() };
            let client = self.transactions.send(&mut self.outbox, now, sent, target.flow, Owner::Relay);
            if context.is_invite() {
                self.alarms.set(Alarm::C(client), now + TIMER_C);
            }
            context.forks.insert(client, Fork { token: target.token, progress: Progress::Silent });
            self.by_client.insert(client, id);
        }
        self.by_server.insert(context.server, id);
        self.contexts.insert(id, context);
    }

    /// How members on this flow's side name us in their Route.
    fn own_route(&self, token: &str, flow: Flow, secure: bool) -> String {
        let host = match &self.config.host {
            Host::Ip(ip) if ip.is_ipv4() != flow.local.is_ipv4() => Host::Ip(flow.local.ip()),
            host => host.clone(),
        };
        let mut uri = SipUri::new(Some(token), host, Some(flow.local.port()));
        uri.secure = secure;
        if !secure && flow.transport != Transport::Udp {
            uri.params.set("transport", Some(&flow.transport.name().to_ascii_lowercase()));
        }
        uri.params.set("lr", None);
        NameAddr::new(Uri::Sip(uri)).to_string()
    }

    /// The request was here before, on its way to the same place (RFC 3261 section 16.3 step 4).
    fn is_loop(&self, request: &Request) -> bool {
        let key = loop_key(request);
        let mut branches = request.via.iter().filter_map(|via| via.branch());
        branches.any(|branch| {
            branch
                .strip_prefix(&self.branch)
                .and_then(|rest| rest.split_once('.'))
                .is_some_and(|(_, k)| k == key)
        })
    }

    pub(super) fn on_response(&mut self, now: Instant, response: Response) -> bool {
        let branch = response.via.first().and_then(|via| via.branch());
        if !branch.is_some_and(|branch| branch.starts_with(&self.branch)) {
            return false;
        }
        if let Some(report) = self.transactions.receive_relayed(&mut self.outbox, now, response) {
            self.on_report(now, report);
        }
        true
    }

    /// What became of a fork (RFC 3261 section 16.7).
    pub(super) fn on_report(&mut self, now: Instant, report: Report) {
        let client = report.id;
        let Some(&id) = self.by_client.get(&client) else { return };
        match report.outcome {
            Outcome::Response(response) if response.status.is_provisional() => {
                self.on_provisional(now, id, client, response);
            }
            Outcome::Response(response) => self.on_final(now, id, client, response),
            Outcome::Timeout | Outcome::Unreachable(_) => {
                let status = match report.outcome {
                    Outcome::Timeout => StatusCode::REQUEST_TIMEOUT,
                    // Section 16.9 says 503, which a caller would take for ours.
                    _ => StatusCode::TEMPORARILY_UNAVAILABLE,
                };
                if let Some(context) = self.contexts.get(&id) {
                    let mut response = self.response(&context.request, status);
                    // As if the fork had sent it: our Via is taken off again.
                    response.via.insert(0, via(report.sent.flow, ""));
                    self.on_final(now, id, client, response);
                }
                self.forget_fork(id, client);
            }
            Outcome::Over => self.forget_fork(id, client),
        }
    }

    fn on_provisional(&mut self, now: Instant, id: ContextId, client: ClientId, mut response: Response) {
        let Some(context) = self.contexts.get_mut(&id) else { return };
        let Some(fork) = context.forks.get_mut(&client) else { return };
        let mut unwanted = None;
        match &mut fork.progress {
            Progress::Silent => fork.progress = Progress::Ringing,
            Progress::Unwanted(why) => {
                unwanted = Some(why.take());
                fork.progress = Progress::Cancelled;
            }
            Progress::Ringing | Progress::Cancelled | Progress::Ended => {}
        }
        let (server, answered) = (context.server, context.answered);
        if context.is_invite() && response.status != StatusCode::TRYING {
            self.alarms.set(Alarm::C(client), now + TIMER_C);
        }
        if let Some(why) = unwanted {
            self.send_cancel(now, client, why.as_deref());
        }
        // 100 goes no further than one hop (section 16.7 step 5).
        if response.status != StatusCode::TRYING && !answered && response.via.len() > 1 {
            response.via.remove(0);
            self.respond(now, server, response);
        }
    }

    fn on_final(&mut self, now: Instant, id: ContextId, client: ClientId, mut response: Response) {
        self.alarms.stop(Alarm::C(client));
        let Some(context) = self.contexts.get(&id) else { return };
        if response.via.len() > 1 {
            response.via.remove(0);
        } else {
            // RFC 3261 section 16.7 step 3: it cannot be passed on, and nothing better comes of that fork.
            response = self.response(&context.request, StatusCode::SERVER_INTERNAL_ERROR);
        }
        let Some(context) = self.contexts.get_mut(&id) else { return };
        let Some(fork) = context.forks.get_mut(&client) else { return };
        fork.progress = Progress::Ended;
        let token = fork.token.clone();
        let (server, is_invite) = (context.server, context.is_invite());
        if response.status.is_success() {
            let answered = std::mem::replace(&mut context.answered, true);
            if context.request.method == Method::Bye
                && let Some(token) = &context.dialog
            {
                self.dialogs.end(now, token);
            }
            if !answered {
                let pair = context.caller.clone().zip(context.callee.clone()).filter(|_| is_invite);
                if let Some((caller, callee)) = pair {
                    self.met(&caller, &callee);
                }
                self.respond(now, server, response);
                return self.cancel_forks(now, id, Some(&Reason::answered_elsewhere().to_string()));
            }
            // Every 2xx to INVITE goes to the caller, who ends those that he does not want.
            if is_invite {
                let bytes = wire::write(&Message::Response(response));
                self.transactions.repeat(&mut self.outbox, server, &bytes);
            }
            return;
        }
        if let Some(token) = token {
            self.dialogs.forget(&token);
        }
        context.consider(response);
        if context.is_hopeless() && !context.is_decided() {
            self.cancel_forks(now, id, None);
        }
        self.decide(now, id);
    }

    /// Sends the best response, once every fork has its own.
    fn decide(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get_mut(&id) else { return };
        if context.answered || !context.is_decided() {
            return;
        }
        context.answered = true;
        let (server, is_invite) = (context.server, context.is_invite());
        let mut response = match context.take_best() {
            // RFC 4320 section 4.2: too late for anyone, and nobody else is to be asked instead.
            Some(best) if best.status == StatusCode::REQUEST_TIMEOUT && !is_invite => {
                return self.transactions.give_up(&mut self.outbox, server);
            }
            Some(best) => best,
            None => return,
        };
        if response.status == StatusCode::SERVICE_UNAVAILABLE {
            // RFC 3261 section 16.7 step 6: it is the callee's, not ours.
            response.status = StatusCode::SERVER_INTERNAL_ERROR;
        }
        self.respond(now, server, response);
    }

    fn forget_fork(&mut self, id: ContextId, client: ClientId) {
        self.by_client.remove(&client);
        self.alarms.stop(Alarm::C(client));
        let Some(context) = self.contexts.get_mut(&id) else { return };
        context.forks.remove(&client);
        if context.forks.is_empty() {
            self.by_server.remove(&context.server);
            self.contexts.remove(&id);
        }
    }

    /// RFC 3261 section 16.10.
    pub(super) fn on_cancel(&mut self, now: Instant, reply: Flow, cancel: &Request) -> bool {
        let Some(cancelled) = self.transactions.cancelled(cancel) else { return false };
        let server: ServerId = self.serve(now, reply, cancel);
        let response = self.response(cancel, StatusCode::OK);
        self.respond(now, server, response);
        if let Some(&id) = self.by_server.get(&cancelled.server) {
            let why = cancel.headers.get(name::REASON);
            self.cancel_forks(now, id, why);
        }
        true
    }

    /// Cancels all forks that have no final response yet.
    fn cancel_forks(&mut self, now: Instant, id: ContextId, why: Option<&str>) {
        let Some(context) = self.contexts.get_mut(&id).filter(|context| context.is_invite()) else { return };
        let mut ringing = Vec::new();
        for (client, fork) in &mut context.forks {
            match fork.progress {
                Progress::Silent => fork.progress = Progress::Unwanted(why.map(str::to_owned)),
                Progress::Ringing => {
                    fork.progress = Progress::Cancelled;
                    ringing.push(*client);
                }
                Progress::Unwanted(_) | Progress::Cancelled | Progress::Ended => {}
            }
        }
        for client in ringing {
            self.send_cancel(now, client, why);
        }
    }

    /// CANCEL for an INVITE that was passed on (RFC 3261 section 9.1).
    fn send_cancel(&mut self, now: Instant, client: ClientId, why: Option<&str>) {
        let Some((sent, flow)) = self.transactions.sent(client) else { return };
        let invite = &sent.request;
        let mut headers = Headers::default();
        for route in invite.headers.get_all(name::ROUTE) {
            headers.push(name::ROUTE, route);
        }
        if let Some(why) = why {
            headers.push(name::REASON, why);
        }
        let cancel = Request {
            method: Method::Cancel,
            via: invite.via.first().cloned().into_iter().collect(),
            max_forwards: crate::transaction::MAX_FORWARDS,
            headers,
            body: Vec::new(),
            ..invite.clone()
        };
        self.transactions.limit(&mut self.outbox, now, client);
        let sent = Sent { request: cancel, flow, rounds: Rounds::default() };
        self.transactions.send(&mut self.outbox, now, sent, flow, Owner::Relay);
    }

    /// Timer C (RFC 3261 section 16.8): an INVITE has rung for too long.
    pub(super) fn on_timer_c(&mut self, now: Instant, client: ClientId) {
        let fork =
            self.by_client.get(&client).and_then(|id| self.contexts.get_mut(id)?.forks.get_mut(&client));
        // One that is silent ends by itself, by timer B.
        if let Some(fork) = fork.filter(|fork| fork.progress == Progress::Ringing) {
            fork.progress = Progress::Cancelled;
            self.send_cancel(now, client, None);
        }
    }
}

fn is_secure(request: &Request) -> bool {
    matches!(&request.uri, Uri::Sip(uri) if uri.secure)
}

/// RFC 3323 section 4.1.1.3.
fn is_anonymous(from: &NameAddr) -> bool {
    let anonymous =
        |host: &Host| matches!(host, Host::Name(name) if name.eq_ignore_ascii_case("anonymous.invalid"));
    matches!(&from.uri, Uri::Sip(uri) if anonymous(&uri.host))
}

/// What tells a loop from a spiral: all that decides where the request goes (RFC 3261 section 16.6 step 8).
fn loop_key(request: &Request) -> String {
    let tag = |address: &NameAddr| address.tag().unwrap_or_default().to_owned();
    let routes: Vec<&str> = request.headers.get_all(name::ROUTE).collect();
    let parts = [
        request.uri.to_string(),
        tag(&request.from),
        tag(&request.to),
        request.call_id.clone(),
        request.cseq.to_string(),
        routes.join(","),
    ];
    format!("{:.16}", Algorithm::Sha256.hash(parts.join("\n")))
}
