//! The registration of one identity (RFC 3261 section 10): made, refreshed, tried again, removed.

mod moved;

use std::time::{Duration, Instant};

use crate::account::{Account, Detour};
use crate::auth::{Denied, Rounds};
use crate::backoff::{Backoff, Kind};
use crate::binding;
use crate::core::{Asker, Core};
use crate::dialog::{self, FIRST_CSEQ};
use crate::digest::Proof;
use crate::endpoint::{
    Binding, Event, Flow, IdentityId, RegistrationFailure as Failure, RegistrationState, ResolveError,
    ResolveId, TransportError,
};
use crate::headers::{Headers, name};
use crate::message::{Method, Request, Response};
use crate::timer::{RegistrationTimer, SILENCE, Timer};
use crate::transaction::{ClientId, MAX_FORWARDS, Outcome, Owner, Report};
use crate::uri::{NameAddr, SipUri, Uri};

/// Longest wait before a lost connection is made again, where it had lasted: thousands of clients may have lost theirs to
/// the same restart.
const RECONNECT: Duration = Duration::from_secs(2);
/// A connection that was lost sooner than this did not last: the next one is waited for as after a failure.
const LASTING: Duration = Duration::from_secs(60);
/// Sent to keep a connection open (RFC 5626 section 3.5.1).
const PING: &[u8] = b"\r\n\r\n";
/// How often, where the registrar does not say it (RFC 5626 section 4.4.1).
const PING_INTERVAL: (Duration, Duration) = (Duration::from_secs(95), Duration::from_secs(120));
/// How often at most, whatever the registrar says.
const PING_MIN: Duration = Duration::from_secs(10);
/// Longest wait that a Retry-After can impose.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// No registrar is followed to a longer time with its Min-Expires, or believed to grant one.
const EXPIRES_MAX: u32 = 7 * 24 * 3600;
/// Redirections followed one after the other: no honest registrar needs more.
const MAX_DETOURS: u8 = 3;

/// What the owner wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Unregistered,
    Registered,
    /// The identity is removed: nobody hears of it any more.
    Forgotten,
}

/// How much is asked for beyond RFC 3261: less after a registrar refused it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Full,
    /// 555: the registrar cannot send push notifications (RFC 8599 section 4.1.3).
    WithoutPush,
    /// 420, or 439 (RFC 5626 section 6): something on the way stumbles over extensions.
    Plain,
}

enum State {
    /// Nothing under way; perhaps a timer.
    Idle,
    Resolving(ResolveId),
    /// A REGISTER waits for its response.
    Registering {
        client: ClientId,
        flow: Flow,
        rest: Rest,
        raised: bool,
    },
    /// The binding is there; Timer Refresh runs.
    Bound,
    /// A REGISTER that removes the binding waits for its response.
    Unregistering {
        flow: Flow,
    },
}

/// Where a REGISTER can still be sent (RFC 3263 section 4.3).
enum Rest {
    /// To whatever the registrar's name leads to now: it went to where the binding was made.
    Unasked,
    /// To these.
    Flows(Vec<Flow>),
}

pub(crate) struct Registration {
    id: IdentityId,
    goal: Goal,
    state: State,
    call_id: String,
    cseq: u32,
    /// Seconds to ask for: the configuration's, or the registrar's minimum.
    expires: u32,
    manner: Manner,
    /// Redirections since the last binding or failure.
    detours: u8,
    backoff: Backoff,
    /// Since when the binding's connection has lasted.
    bound_since: Option<Instant>,
    /// Least and longest time between two keep-alives.
    ping_interval: (Duration, Duration),
    reported: RegistrationState,
}

impl Registration {
    pub(crate) fn new(id: IdentityId, call_id: String, expires: u32) -> Self {
        Self {
            id,
            goal: Goal::Unregistered,
            state: State::Idle,
            call_id,
            cseq: FIRST_CSEQ - 1,
            expires,
            manner: Manner::Full,
            detours: 0,
            backoff: Backoff::default(),
            bound_since: None,
            ping_interval: PING_INTERVAL,
            reported: RegistrationState::Unregistered,
        }
    }

    /// Registers now, and keeps registered.
    pub(crate) fn register(&mut self, core: &mut Core, now: Instant) {
        self.goal = Goal::Registered;
        match self.state {
            State::Idle => {
                core.outbox.timers.stop_registration(self.id);
                self.manner = Manner::Full;
                self.begin(core, now);
            }
            State::Bound => self.refresh(core, now),
            // A REGISTER under way is waited for (RFC 3261 section 10.2): `settle` goes on from there.
            State::Resolving(_) | State::Registering { .. } | State::Unregistering { .. } => {}
        }
    }

    /// Removes the binding and stops refreshing.
    pub(crate) fn unregister(&mut self, core: &mut Core, now: Instant) {
        self.goal = Goal::Unregistered;
        self.leave(core, now);
    }

    /// The identity is removed.
    pub(crate) fn forget(&mut self, core: &mut Core, now: Instant) {
        self.goal = Goal::Forgotten;
        self.leave(core, now);
    }

    fn leave(&mut self, core: &mut Core, now: Instant) {
        match self.state {
            State::Resolving(id) => {
                core.answered(id);
                self.state = State::Idle;
                self.settle(core, now);
            }
            State::Idle | State::Bound => self.settle(core, now),
            State::Registering { .. } | State::Unregistering { .. } => {}
        }
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.goal == Goal::Forgotten
    }

    /// Forgotten, and nothing is under way any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_forgotten() && matches!(self.state, State::Idle)
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle | State::Bound)
    }

    pub(crate) fn on_timer(&mut self, core: &mut Core, now: Instant, timer: RegistrationTimer) {
        match (timer, &self.state) {
            (RegistrationTimer::Refresh, State::Bound) => self.refresh(core, now),
            (RegistrationTimer::Retry, State::Idle) if self.goal == Goal::Registered => self.begin(core, now),
            (RegistrationTimer::KeepAlive, State::Bound) => self.ping(core, now),
            (RegistrationTimer::NextServer, State::Registering { .. }) => self.on_silence(core, now),
            _ => {}
        }
    }

    pub(crate) fn on_resolved(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ResolveId,
        result: Result<Vec<Flow>, ResolveError>,
    ) {
        if !matches!(self.state, State::Resolving(asked) if asked == id) {
            return;
        }
        match result.map(|flows| flows.split_first().map(|(first, rest)| (*first, rest.to_vec()))) {
            Ok(Some((flow, rest))) => self.send_register(core, now, flow, Rest::Flows(rest), false, None),
            Err(ResolveError::NoRoute(_)) => {
                self.fail(core, now, Failure::Unreachable(TransportError::NoRoute), None);
            }
            Ok(None) | Err(_) => self.fail(core, now, Failure::Unresolvable, None),
        }
    }

    pub(crate) fn on_report(&mut self, core: &mut Core, now: Instant, report: Report) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Registering { client, flow, rest, raised } if client == report.id => {
                core.outbox.timers.stop(Timer::Registration(self.id, RegistrationTimer::NextServer));
                match &report.outcome {
                    Outcome::Response(response) if response.status.is_provisional() => {
                        self.state = State::Registering { client, flow, rest, raised };
                    }
                    Outcome::Response(response) => {
                        self.on_response(core, now, &report, response, flow, rest, raised);
                    }
                    Outcome::Timeout => self.next(core, now, rest, Failure::Timeout, None),
                    Outcome::Unreachable(error) => {
                        self.next(core, now, rest, Failure::Unreachable(*error), None);
                    }
                    Outcome::Over => self.state = State::Registering { client, flow, rest, raised },
                }
            }
            State::Unregistering { flow } => match &report.outcome {
                Outcome::Response(response) if response.status.is_provisional() => {
                    self.state = State::Unregistering { flow };
                }
                Outcome::Response(response) => {
                    let challenged = matches!(response.status.get(), 401 | 407);
                    let identity = Some(self.id);
                    if challenged
                        && let Ok((request, rounds)) = core.answer_challenge(identity, &report, response)
                    {
                        self.send(core, now, flow, request, rounds);
                        self.state = State::Unregistering { flow };
                    } else {
                        self.unbound(core, now);
                    }
                }
                Outcome::Timeout | Outcome::Unreachable(_) => self.unbound(core, now),
                Outcome::Over => self.state = State::Unregistering { flow },
            },
            // The end of a transaction that was answered before.
            state => self.state = state,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn on_response(
        &mut self,
        core: &mut Core,
        now: Instant,
        report: &Report,
        response: &Response,
        flow: Flow,
        rest: Rest,
        raised: bool,
    ) {
        let status = Some(response.status.get());
        match response.status.get() {
            200..=299 => {
                if core.confirm_server(Some(self.id), report, response) == Proof::Wrong {
                    return self.fail_or_after(core, now, Failure::ServerProof, response);
                }
                let granted =
                    core.accounts.get(&self.id).and_then(|account| binding::granted(response, account));
                let expires = granted.unwrap_or(self.expires).min(EXPIRES_MAX);
                if expires == 0 {
                    return self.fail_or_after(core, now, Failure::Rejected, response);
                }
                self.bound(core, now, flow, expires, report, response);
            }
            401 | 407 => match core.answer_challenge(Some(self.id), report, response) {
                Ok((request, rounds)) => {
                    let client = self.send(core, now, flow, request, rounds);
                    self.state = State::Registering { client, flow, rest, raised };
                }
                Err(denied) => self.refused(core, now, denied.into(), status),
            },
            300..=302 | 305 if self.follow(core, now, response) => {}
            420 | 439 if self.manner != Manner::Plain => {
                self.manner = Manner::Plain;
                self.send_register(core, now, flow, rest, raised, Some(report.sent.rounds.clone()));
            }
            555 if self.manner == Manner::Full => {
                self.manner = Manner::WithoutPush;
                self.send_register(core, now, flow, rest, raised, Some(report.sent.rounds.clone()));
            }
            423 => {
                let minimum = response.headers.number(name::MIN_EXPIRES).ok().flatten();
                match minimum.filter(|&minimum| !raised && minimum > self.expires && minimum <= EXPIRES_MAX) {
                    Some(minimum) => {
                        self.expires = minimum;
                        self.send_register(core, now, flow, rest, true, Some(report.sent.rounds.clone()));
                    }
                    None => self.fail_or_after(core, now, Failure::Rejected, response),
                }
            }
            // This server is not in order: another may be (RFC 3263 section 4.3).
            500..=599 if rest.holds_any() => self.next(core, now, rest, Failure::Rejected, status),
            400..=499 if moved::replaces(&report.sent.request) => {
                // It takes one contact at a time: the old binding is left to its end.
                if let Some(account) = core.accounts.get_mut(&self.id) {
                    account.bound_contact = None;
                }
                self.send_register(core, now, flow, rest, raised, None);
            }
            _ => self.fail_or_after(core, now, Failure::Rejected, response),
        }
    }

    fn begin(&mut self, core: &mut Core, now: Instant) {
        self.detours = 0;
        if let Some(account) = core.accounts.get_mut(&self.id) {
            account.set_detour(None);
        }
        self.set_out(core, now);
    }

    fn set_out(&mut self, core: &mut Core, now: Instant) {
        let Some(account) = core.accounts.get(&self.id) else { return };
        let Some((registrar, route)) = account.registrar() else { return };
        let hop = dialog::next_hop(route.unwrap_or(registrar));
        self.report(core, RegistrationState::Registering);
        self.state = State::Resolving(core.resolve(now, hop, Some(self.id), Asker::Registration(self.id)));
    }

    /// Goes where a 3xx points (RFC 3261 section 8.1.3.4); `false` where it points nowhere, or all too often.
    fn follow(&mut self, core: &mut Core, now: Instant, response: &Response) -> bool {
        let secure = core.accounts.get(&self.id).is_some_and(Account::is_secure);
        let target = redirection(response, secure).filter(|_| self.detours < MAX_DETOURS);
        let (Some(target), Some(account)) = (target, core.accounts.get_mut(&self.id)) else { return false };
        account.set_detour(Some(match response.status.get() {
            305 => Detour::Proxy(target),
            _ => Detour::Target(target),
        }));
        self.detours += 1;
        self.set_out(core, now);
        true
    }

    /// On the flow of the binding: the registrar and every NAT on the way know it.
    fn refresh(&mut self, core: &mut Core, now: Instant) {
        core.outbox.timers.stop_registration(self.id);
        match core.accounts.get(&self.id).and_then(|account| account.registered) {
            Some(flow) => self.send_register(core, now, flow, Rest::Unasked, false, None),
            None => self.begin(core, now),
        }
    }

    /// The connection that carried the binding is lost: whatever the registrar still sends by it is lost as well, so
    /// that the binding is made anew, at once but for others who do the same (RFC 5626 section 4.5).
    pub(crate) fn on_cut_off(&mut self, core: &mut Core, now: Instant, flow: Flow) {
        if !flow.transport.is_reliable() || !matches!(self.state, State::Bound) {
            return;
        }
        if let Some(account) = core.accounts.get_mut(&self.id) {
            account.registered = None;
        }
        core.outbox.timers.stop_registration(self.id);
        self.state = State::Idle;
        let wait = if self.has_lasted(now) {
            self.backoff.reset();
            core.random.between(Duration::ZERO, RECONNECT)
        } else {
            // It takes connections, and does not keep them: that is an answer too.
            self.backoff.fail(now, &mut core.random, Kind::Refused)
        };
        core.outbox.timers.set(Timer::Registration(self.id, RegistrationTimer::Retry), now + wait);
        self.report(core, RegistrationState::Registering);
    }

    fn has_lasted(&self, now: Instant) -> bool {
        self.bound_since.is_some_and(|since| now.saturating_duration_since(since) >= LASTING)
    }

    fn ping(&mut self, core: &mut Core, now: Instant) {
        if let Some(flow) = core.accounts.get(&self.id).and_then(|account| account.registered) {
            core.outbox.transmit(flow, PING.to_vec());
            self.keep_alive(core, now);
        }
    }

    fn keep_alive(&self, core: &mut Core, now: Instant) {
        let (least, most) = self.ping_interval;
        let wait = core.random.between(least, most);
        core.outbox.timers.set(Timer::Registration(self.id, RegistrationTimer::KeepAlive), now + wait);
    }

    /// The registrar says nothing: what it says later is nobody's.
    fn on_silence(&mut self, core: &mut Core, now: Instant) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Registering { client, flow, rest, .. } if rest.holds_any() => {
                core.transactions.abandon(&mut core.outbox, client);
                core.avoided.add(now, flow);
                self.next(core, now, rest, Failure::Timeout, None);
            }
            state => self.state = state,
        }
    }

    fn send_register(
        &mut self,
        core: &mut Core,
        now: Instant,
        flow: Flow,
        rest: Rest,
        raised: bool,
        rounds: Option<Rounds>,
    ) {
        let Some(request) = self.request(core, flow, self.expires) else { return };
        let client = self.send(core, now, flow, request, rounds.unwrap_or_default());
        if rest.holds_any() {
            core.outbox
                .timers
                .set(Timer::Registration(self.id, RegistrationTimer::NextServer), now + SILENCE);
        }
        self.state = State::Registering { client, flow, rest, raised };
    }

    /// REGISTER (RFC 3261 section 10.2).
    fn request(&self, core: &mut Core, flow: Flow, expires: u32) -> Option<Request> {
        let account = core.accounts.get(&self.id)?;
        let mut contact = core.local_contact(Some(self.id), flow, account.is_secure());
        contact.params.set("expires", Some(&expires.to_string()));
        // Request-URI: the domain, without a user (section 10.2).
        let (registrar, route) = account.registrar()?;
        let mut registrar = dialog::as_request_uri(registrar);
        registrar.user = None;
        registrar.password = None;
        let mut headers = Headers::default();
        if let Some(route) = route {
            headers.push(name::ROUTE, NameAddr::new(Uri::Sip(route.clone())).to_string());
        }
        if self.manner != Manner::Plain {
            headers.push(name::SUPPORTED, binding::PATH);
            if let Some(instance) = &account.instance {
                contact.params.set(binding::INSTANCE, Some(&format!("<{instance}>")));
                if account.wants_gruu {
                    headers.push(name::SUPPORTED, binding::GRUU);
                }
            }
        }
        if let (Manner::Full, Some(push), Uri::Sip(uri)) = (self.manner, &account.push, &mut contact.uri) {
            // RFC 8599 section 4.1.2: in the URI, so that a proxy finds them in the Request-URI of what comes. Tokens of
            // push services end in equals signs, which no parameter may hold.
            let mut set = |name, value: &str| uri.params.set(name, Some(&value.replace('=', "%3D")));
            set("pn-provider", &push.provider);
            if let Some(param) = &push.param {
                set("pn-param", param);
            }
            set("pn-prid", &push.prid);
        }
        headers.push(name::CONTACT, contact.to_string());
        if let Some(old) = account.bound_contact.as_ref().filter(|_| expires > 0) {
            moved::replace(&mut headers, &contact, old);
        }
        headers.push(name::EXPIRES, expires.to_string());
        let (from, to) = (account.aor.clone().with_tag(&core.random.tag()), account.aor.clone());
        Some(Request {
            method: Method::Register,
            uri: Uri::Sip(registrar),
            via: Vec::new(),
            from,
            to,
            call_id: self.call_id.clone(),
            cseq: 0,
            max_forwards: MAX_FORWARDS,
            headers,
            body: Vec::new(),
        })
    }

    fn send(
        &mut self,
        core: &mut Core,
        now: Instant,
        flow: Flow,
        mut request: Request,
        rounds: Rounds,
    ) -> ClientId {
        self.cseq += 1;
        request.cseq = self.cseq;
        core.send(now, flow, request, rounds, Some(self.id), Owner::Registration(self.id))
    }

    fn bound(
        &mut self,
        core: &mut Core,
        now: Instant,
        flow: Flow,
        expires: u32,
        report: &Report,
        response: &Response,
    ) {
        self.detours = 0;
        self.state = State::Bound;
        if let Some(account) = core.accounts.get_mut(&self.id) {
            if account.registered.replace(flow) != Some(flow) {
                self.bound_since = Some(now);
            }
            account.auth.registered(&report.sent.request);
            account.bound_contact = moved::contact_of(&report.sent.request);
            let binding = binding::read(response, account);
            self.set_binding(core, binding);
        }
        if !flow.transport.is_reliable() || self.has_lasted(now) {
            self.backoff.reset();
        }
        let wait = core.random.between(refresh_after(expires) * 19 / 20, refresh_after(expires));
        core.outbox.timers.set(Timer::Registration(self.id, RegistrationTimer::Refresh), now + wait);
        if flow.transport.is_reliable() {
            // RFC 5626 section 4.4.1: a time that the registrar names is its patience.
            let named = response.headers.number("Flow-Timer").ok().flatten().map(|seconds| {
                let patience = Duration::from_secs(seconds.into()).max(PING_MIN);
                (patience * 4 / 5, patience)
            });
            self.ping_interval = named.unwrap_or(PING_INTERVAL);
            self.keep_alive(core, now);
        }
        if self.goal == Goal::Registered {
            self.report(core, RegistrationState::Registered { expires });
        } else {
            self.settle(core, now);
        }
    }

    /// The binding is removed, or nobody is there to remove it.
    fn unbound(&mut self, core: &mut Core, now: Instant) {
        self.lose(core);
        self.state = State::Idle;
        self.settle(core, now);
    }

    fn lose(&mut self, core: &mut Core) {
        if let Some(account) = core.accounts.get_mut(&self.id) {
            (account.registered, account.bound_contact) = (None, None);
        }
        self.set_binding(core, Binding::default());
    }

    fn set_binding(&mut self, core: &mut Core, binding: Binding) {
        let account = core.accounts.get_mut(&self.id);
        if account.is_some_and(|account| account.set_binding(binding.clone())) && self.goal != Goal::Forgotten
        {
            core.event(Event::Bound { identity: self.id, binding: Box::new(binding) });
        }
    }

    /// Goes on from a resting state to what is wanted.
    fn settle(&mut self, core: &mut Core, now: Instant) {
        core.outbox.timers.stop_registration(self.id);
        if self.goal == Goal::Registered {
            return self.begin(core, now);
        }
        let bound = core.accounts.get(&self.id).and_then(|account| account.registered);
        if let Some(flow) = bound
            && let Some(request) = self.request(core, flow, 0)
        {
            self.send(core, now, flow, request, Rounds::default());
            self.state = State::Unregistering { flow };
        } else {
            self.state = State::Idle;
            self.report(core, RegistrationState::Unregistered);
        }
    }

    /// The next address of the registrar, or failure.
    fn next(&mut self, core: &mut Core, now: Instant, rest: Rest, reason: Failure, status: Option<u16>) {
        match rest {
            _ if self.goal != Goal::Registered => self.fail(core, now, reason, status),
            // Where the binding was made, nobody is any more: the registrar's name may lead elsewhere.
            Rest::Unasked => {
                if let Some(account) = core.accounts.get_mut(&self.id) {
                    account.registered = None;
                }
                self.begin(core, now);
            }
            Rest::Flows(flows) => match flows.split_first() {
                Some((flow, rest)) => {
                    self.send_register(core, now, *flow, Rest::Flows(rest.to_vec()), false, None);
                }
                None => self.fail(core, now, reason, status),
            },
        }
    }

    fn fail_or_after(&mut self, core: &mut Core, now: Instant, reason: Failure, response: &Response) {
        let after = response.headers.number(name::RETRY_AFTER).ok().flatten();
        let after = after.map(|seconds| Duration::from_secs(seconds.into()).min(RETRY_AFTER_MAX));
        self.retry_later(core, now, reason, Some(response.status.get()), after);
    }

    fn fail(&mut self, core: &mut Core, now: Instant, reason: Failure, status: Option<u16>) {
        self.retry_later(core, now, reason, status, None);
    }

    fn retry_later(
        &mut self,
        core: &mut Core,
        now: Instant,
        reason: Failure,
        status: Option<u16>,
        after: Option<Duration>,
    ) {
        self.state = State::Idle;
        if self.goal != Goal::Registered {
            return self.settle(core, now);
        }
        // A registrar that names a time means at least that time.
        let own = self.backoff.fail(now, &mut core.random, kind(reason));
        let wait =
            after.map_or(own, |after| after + core.random.between(Duration::ZERO, Duration::from_secs(2)));
        core.outbox.timers.set(Timer::Registration(self.id, RegistrationTimer::Retry), now + wait);
        self.report(core, RegistrationState::Failed { reason, status, retry: Some(now + wait) });
    }

    /// Asking again would change nothing, and might lock the account.
    fn refused(&mut self, core: &mut Core, now: Instant, reason: Failure, status: Option<u16>) {
        self.state = State::Idle;
        if self.goal != Goal::Registered {
            return self.settle(core, now);
        }
        self.lose(core);
        self.report(core, RegistrationState::Failed { reason, status, retry: None });
    }

    fn report(&mut self, core: &mut Core, state: RegistrationState) {
        if self.goal != Goal::Forgotten && self.reported != state {
            self.reported = state.clone();
            core.event(Event::Registration { identity: self.id, state });
        }
    }
}

impl Rest {
    fn holds_any(&self) -> bool {
        matches!(self, Self::Flows(flows) if !flows.is_empty())
    }
}

/// Whether somebody has answered.
fn kind(reason: Failure) -> Kind {
    match reason {
        Failure::Timeout | Failure::Unresolvable | Failure::NoNetwork => Kind::Silent,
        Failure::Unreachable(
            TransportError::Certificate(_) | TransportError::ClientCertificate | TransportError::Handshake,
        ) => Kind::Refused,
        Failure::Unreachable(_) => Kind::Silent,
        Failure::Credentials
        | Failure::ForeignRealm
        | Failure::WeakDigest
        | Failure::UnknownDigest
        | Failure::ServerProof
        | Failure::Rejected => Kind::Refused,
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Credentials => Self::Credentials,
            Denied::ForeignRealm => Self::ForeignRealm,
            Denied::WeakDigest => Self::WeakDigest,
            Denied::UnknownDigest => Self::UnknownDigest,
        }
    }
}

/// The most wanted SIP URI of a redirection; a `secure` registration is not led away from TLS.
fn redirection(response: &Response, secure: bool) -> Option<SipUri> {
    let mut contacts = response.headers.contacts().unwrap_or_default();
    // q is written with at most three decimals (RFC 3261 section 25.1); without one, it is 1.
    let wanted = |contact: &NameAddr| {
        contact.params.value("q").and_then(|q| q.parse::<f32>().ok()).map_or(1000, |q| (q * 1000.0) as i32)
    };
    contacts.sort_by_key(|contact| -wanted(contact));
    contacts.into_iter().find_map(|contact| match contact.uri {
        Uri::Sip(uri) if uri.secure || !secure => Some(uri),
        _ => None,
    })
}

/// Early enough that a lost request can still be repeated to its end, where the time is long enough for that.
fn refresh_after(expires: u32) -> Duration {
    let whole = Duration::from_secs(expires.into());
    match expires {
        120.. => (whole * 9 / 10).min(whole - Duration::from_secs(60)),
        _ => (whole / 2).max(Duration::from_secs(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_comes_before_expiry_with_time_to_spare() {
        let seconds = |expires| refresh_after(expires).as_secs();
        assert_eq!((seconds(1), seconds(10)), (1, 5));
        assert_eq!((seconds(60), seconds(120), seconds(600), seconds(3600)), (30, 60, 540, 3240));
    }
}
