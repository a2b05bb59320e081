//! One binding and the flow that it is made on: made, refreshed, tried again, removed.

mod moved;

use std::time::{Duration, Instant};

use super::contact::{Bound, Contacts};
use super::detour::Detours;
use super::keepalive::{KeepAlive, Said, Verdict};
use super::register::Registers;
use super::retry::{Others, Retries, named_time, refresh_after};
use super::{BindingId, Goal, RegId};
use crate::account::{Account, FlowKind};
use crate::auth::Rounds;
use crate::binding;
use crate::core::{Asker, Core};
use crate::dialog;
use crate::digest::Proof;
use crate::endpoint::{
    Binding, Event, Flow, RegistrationFailure as Failure, RegistrationState, ResolveError, ResolveId,
    TransportError,
};
use crate::message::Response;
use crate::stun;
use crate::timer::{RegistrationTimer, SILENCE, Timer};
use crate::transaction::{ClientId, Outcome, Report};

enum State {
    /// Nothing under way; perhaps a timer.
    Idle,
    /// There is no server for it that carries no other binding: nothing is done until that changes.
    Redundant,
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

pub(super) struct FlowRegistration {
    id: BindingId,
    goal: Goal,
    state: State,
    registers: Registers,
    detours: Detours,
    retries: Retries,
    contacts: Contacts,
    keep_alive: KeepAlive,
    reported: RegistrationState,
}

impl FlowRegistration {
    pub(super) fn new(id: BindingId, call_id: String, expires: u32) -> Self {
        Self {
            id,
            goal: Goal::Unregistered,
            state: State::Idle,
            registers: Registers::new(id, call_id, expires),
            detours: Detours::default(),
            retries: Retries::default(),
            contacts: Contacts::default(),
            keep_alive: KeepAlive::new(id),
            reported: RegistrationState::Unregistered,
        }
    }

    /// Registers now, and keeps registered.
    pub(super) fn register(&mut self, core: &mut Core, now: Instant) {
        self.goal = Goal::Registered;
        match self.state {
            State::Idle | State::Redundant => {
                core.outbox.timers.stop_registration(self.id);
                self.registers.begin();
                self.contacts.begin();
                self.begin(core, now);
            }
            State::Bound => self.refresh(core, now),
            // A REGISTER under way is waited for (RFC 3261 section 10.2): `settle` goes on from there.
            State::Resolving(_) | State::Registering { .. } | State::Unregistering { .. } => {}
        }
    }

    /// Removes the binding and stops refreshing.
    pub(super) fn leave(&mut self, core: &mut Core, now: Instant, goal: Goal) {
        self.goal = goal;
        match self.state {
            State::Resolving(id) => {
                core.answered(id);
                self.state = State::Idle;
                self.settle(core, now);
            }
            State::Idle | State::Redundant | State::Bound => self.settle(core, now),
            State::Registering { .. } | State::Unregistering { .. } => {}
        }
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.goal == Goal::Forgotten
    }

    /// There is no binding, and nothing is under way to one.
    pub(super) fn is_unbound(&self) -> bool {
        matches!(self.state, State::Idle | State::Redundant)
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.is_unbound() || matches!(self.state, State::Bound)
    }

    /// The binding is wanted, and there is a server for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.goal == Goal::Registered && !matches!(self.state, State::Redundant)
    }

    pub(super) fn state(&self) -> &RegistrationState {
        &self.reported
    }

    /// What the binding was made on, where the registrar has bound that flow.
    pub(super) fn outbound_flow(&self, core: &Core) -> Option<Flow> {
        let account = core.accounts.get(&self.id.identity).filter(|_| self.goal == Goal::Registered)?;
        account.flow_of(self.id.reg_id).filter(|flow| account.kind_of(*flow) == FlowKind::Outbound)
    }

    fn account<'a>(&self, core: &'a Core) -> Option<&'a Account> {
        core.accounts.get(&self.id.identity)
    }

    fn flow(&self, core: &Core) -> Option<Flow> {
        self.account(core)?.flow_of(self.id.reg_id)
    }

    fn others(&self, core: &Core) -> Others {
        match self.account(core).is_some_and(|account| account.has_other(self.id.reg_id)) {
            true => Others::Some,
            false => Others::None,
        }
    }

    fn set_timer(&self, core: &mut Core, timer: RegistrationTimer, at: Instant) {
        core.outbox.timers.set(Timer::Registration(self.id, timer), at);
    }

    pub(super) fn on_timer(&mut self, core: &mut Core, now: Instant, timer: RegistrationTimer) {
        match (timer, &self.state) {
            (RegistrationTimer::Refresh, State::Bound) => self.refresh(core, now),
            (RegistrationTimer::Retry, State::Idle) if self.goal == Goal::Registered => self.begin(core, now),
            (RegistrationTimer::KeepAlive, State::Bound) => self.keep_alive.send(core, now),
            (RegistrationTimer::Answer, State::Bound) => {
                let verdict = self.keep_alive.on_late(core, now);
                self.judge(core, verdict, TransportError::TimedOut);
            }
            (RegistrationTimer::NextServer, State::Registering { .. }) => self.on_silence(core, now),
            _ => {}
        }
    }

    pub(super) fn on_resolved(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ResolveId,
        result: Result<Vec<Flow>, ResolveError>,
    ) {
        if !matches!(self.state, State::Resolving(asked) if asked == id) {
            return;
        }
        let usable = result.map(|mut flows| {
            // Two bindings by one server are lost together (RFC 5626 section 4.2.1).
            flows.retain(|flow| {
                !self.account(core).is_some_and(|account| account.is_used_by_other(self.id.reg_id, *flow))
            });
            flows.retain(|flow| self.detours.may_lead_by(*flow));
            flows
        });
        match usable.map(|flows| flows.split_first().map(|(first, rest)| (*first, rest.to_vec()))) {
            Ok(None) if self.id.reg_id != RegId::FIRST => {
                self.state = State::Redundant;
                self.report(RegistrationState::Unregistered);
            }
            Ok(Some((flow, rest))) => self.send_register(core, now, flow, Rest::Flows(rest), false, None),
            // It sends us where we do not go.
            Ok(None) if self.detours.is_any() => self.fail(core, now, Failure::Rejected, None),
            Err(ResolveError::NoRoute(_)) => {
                self.fail(core, now, Failure::Unreachable(TransportError::NoRoute), None);
            }
            Ok(None) | Err(_) => self.fail(core, now, Failure::Unresolvable, None),
        }
    }

    pub(super) fn on_report(&mut self, core: &mut Core, now: Instant, report: Report) {
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
                    let identity = Some(self.id.identity);
                    if challenged
                        && let Ok((request, rounds)) = core.answer_challenge(identity, &report, response)
                    {
                        self.registers.send(core, now, flow, request, rounds);
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
                if core.confirm_server(Some(self.id.identity), report, response) == Proof::Wrong {
                    return self.fail_or_after(core, now, Failure::ServerProof, response);
                }
                let expires = self.registers.granted(core, &report.sent.request, response);
                if expires == 0 {
                    return self.fail_or_after(core, now, Failure::Rejected, response);
                }
                self.bound(core, now, flow, expires, report, response);
            }
            401 | 407 => match core.answer_challenge(Some(self.id.identity), report, response) {
                Ok((mut request, rounds)) => {
                    // The challenge may have told as whom we are seen.
                    self.registers.rewrite(core, &self.contacts, &mut request, flow);
                    let client = self.registers.send(core, now, flow, request, rounds);
                    self.state = State::Registering { client, flow, rest, raised };
                }
                Err(denied) => self.refused(core, now, denied.into(), status),
            },
            300..=302 | 305 if self.follow(core, now, flow, response) => {}
            status @ (420 | 439 | 555) if self.registers.lower(status) => {
                self.send_register(core, now, flow, rest, raised, Some(report.sent.rounds.clone()));
            }
            423 if !raised && self.registers.raise(response) => {
                self.send_register(core, now, flow, rest, true, Some(report.sent.rounds.clone()));
            }
            423 => self.fail_or_after(core, now, Failure::Rejected, response),
            // The flow that we spoke on is none any more (RFC 5626 section 11.5).
            430 if matches!(rest, Rest::Unasked) => self.next(core, now, rest, Failure::Rejected, status),
            // This server is not in order: another may be (RFC 3263 section 4.3).
            500..=599 if rest.holds_any() => self.next(core, now, rest, Failure::Rejected, status),
            400..=499 if moved::replaces(&report.sent.request) => {
                // It takes one contact at a time: the old binding is left to its end.
                self.contacts.unbound();
                self.send_register(core, now, flow, rest, raised, None);
            }
            _ => self.fail_or_after(core, now, Failure::Rejected, response),
        }
    }

    fn begin(&mut self, core: &mut Core, now: Instant) {
        self.detours = Detours::default();
        if let Some(account) = core.accounts.get_mut(&self.id.identity) {
            account.set_detour(None);
        }
        self.set_out(core, now);
    }

    fn set_out(&mut self, core: &mut Core, now: Instant) {
        let Some((registrar, route)) =
            self.account(core).and_then(|account| account.registrar(self.id.reg_id))
        else {
            return;
        };
        let hop = dialog::next_hop(route.unwrap_or(registrar));
        self.report(RegistrationState::Registering);
        let (identity, asker) = (Some(self.id.identity), Asker::Registration(self.id));
        self.state = State::Resolving(core.resolve(now, hop, identity, asker));
    }

    /// Goes where a 3xx points (RFC 3261 section 8.1.3.4); `false` where it points nowhere, or all too often.
    fn follow(&mut self, core: &mut Core, now: Instant, flow: Flow, response: &Response) -> bool {
        let Some(account) = core.accounts.get_mut(&self.id.identity) else { return false };
        let Some(detour) = self.detours.follow(flow, response, account.is_secure()) else { return false };
        account.set_detour(Some(detour));
        self.set_out(core, now);
        true
    }

    /// On the flow of the binding: the registrar and every NAT on the way know it.
    fn refresh(&mut self, core: &mut Core, now: Instant) {
        core.outbox.timers.stop_registration(self.id);
        match self.flow(core) {
            Some(flow) => self.send_register(core, now, flow, Rest::Unasked, false, None),
            None => self.begin(core, now),
        }
    }

    /// The flow that carried the binding is lost: whatever the registrar still sends by it is lost as well, so that the
    /// binding is made anew, at once but for others who do the same (RFC 5626 section 4.5).
    pub(super) fn on_cut_off(&mut self, core: &mut Core, now: Instant) {
        if !matches!(self.state, State::Bound) {
            return;
        }
        self.unbind(core);
        core.outbox.timers.stop_registration(self.id);
        self.keep_alive.stop(core);
        self.state = State::Idle;
        let others = self.others(core);
        let wait = self.retries.cut_off(now, &mut core.random, others);
        self.set_timer(core, RegistrationTimer::Retry, now + wait);
        self.report(RegistrationState::Registering);
    }

    fn unbind(&self, core: &mut Core) {
        if let Some(account) = core.accounts.get_mut(&self.id.identity) {
            account.unbind(self.id.reg_id);
        }
    }

    pub(super) fn set_calls(&mut self, core: &mut Core, now: Instant, any: bool) {
        self.keep_alive.set_calls(core, now, any);
    }

    pub(super) fn on_pong(&mut self, core: &mut Core, flow: Flow) {
        self.keep_alive.on_pong(core, flow);
    }

    pub(super) fn on_life(&mut self, core: &mut Core, flow: Flow) {
        self.keep_alive.on_life(core, flow);
    }

    pub(super) fn on_stun(&mut self, core: &mut Core, flow: Flow, answer: stun::Answer) {
        let verdict = self.keep_alive.on_stun(core, flow, answer);
        // Not the far end has failed: it has told us.
        self.judge(core, verdict, TransportError::Closed);
    }

    fn judge(&mut self, core: &mut Core, verdict: Verdict, error: TransportError) {
        if verdict == Verdict::Failed
            && let Some(flow) = self.flow(core)
        {
            core.give_up(flow, error);
        }
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
        let Some(request) = self.registers.binding(core, &self.contacts, flow) else { return };
        let client = self.registers.send(core, now, flow, request, rounds.unwrap_or_default());
        if rest.holds_any() {
            self.set_timer(core, RegistrationTimer::NextServer, now + SILENCE);
        }
        self.state = State::Registering { client, flow, rest, raised };
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
        self.detours = Detours::default();
        self.state = State::Bound;
        let mut said = Said::read(core, flow, response);
        let kind = if said.outbound { FlowKind::Outbound } else { FlowKind::Plain };
        if let Some(account) = core.accounts.get_mut(&self.id.identity) {
            let is_other = account.bind(self.id.reg_id, flow, kind) != Some(flow);
            self.retries.bound(now, is_other);
            account.auth.registered(&report.sent.request);
            let binding = binding::read(response, account, &report.sent.request);
            self.set_binding(core, binding);
        }
        let lasted = self.retries.stands(now);
        let wait = core.random.between(refresh_after(expires) * 19 / 20, refresh_after(expires));
        self.set_timer(core, RegistrationTimer::Refresh, now + wait);
        if self.goal != Goal::Registered {
            return self.settle(core, now);
        }
        let bound = self.contacts.bound(core, self.id, &report.sent.request, response);
        if bound == Bound::Lost || self.contacts.are_to_be_moved(core, self.id, flow) {
            if lasted {
                self.keep_alive.shorten();
            }
            core.outbox.timers.stop_registration(self.id);
            return self.send_register(core, now, flow, Rest::Unasked, false, None);
        }
        said.translated |= self.contacts.are_rewritten();
        self.keep_alive.begin(core, now, flow, &said);
        self.report(RegistrationState::Registered { expires });
    }

    /// The binding is removed, or nobody is there to remove it.
    fn unbound(&mut self, core: &mut Core, now: Instant) {
        self.lose(core);
        self.state = State::Idle;
        self.settle(core, now);
    }

    fn lose(&mut self, core: &mut Core) {
        self.unbind(core);
        self.contacts.unbound();
        self.keep_alive.stop(core);
        if self.others(core) == Others::None {
            self.set_binding(core, Binding::default());
        }
    }

    fn set_binding(&mut self, core: &mut Core, binding: Binding) {
        let identity = self.id.identity;
        let account = core.accounts.get_mut(&identity);
        if account.is_some_and(|account| account.set_binding(binding.clone())) && self.goal != Goal::Forgotten
        {
            core.event(Event::Bound { identity, binding: Box::new(binding) });
        }
    }

    /// Goes on from a resting state to what is wanted.
    fn settle(&mut self, core: &mut Core, now: Instant) {
        core.outbox.timers.stop_registration(self.id);
        if self.goal == Goal::Registered {
            return self.begin(core, now);
        }
        if let Some(flow) = self.flow(core)
            && let Some(request) = self.registers.unbinding(core, &self.contacts, flow)
        {
            self.registers.send(core, now, flow, request, Rounds::default());
            self.state = State::Unregistering { flow };
        } else {
            self.state = State::Idle;
            self.report(RegistrationState::Unregistered);
        }
    }

    /// The next address of the registrar, or failure.
    fn next(&mut self, core: &mut Core, now: Instant, rest: Rest, reason: Failure, status: Option<u16>) {
        match rest {
            _ if self.goal != Goal::Registered => self.fail(core, now, reason, status),
            // Where the binding was made, nobody is any more: the registrar's name may lead elsewhere.
            Rest::Unasked => {
                self.unbind(core);
                self.retries.ended(now);
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
        self.retry_later(core, now, reason, Some(response.status.get()), named_time(response));
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
        named: Option<Duration>,
    ) {
        self.state = State::Idle;
        if self.goal != Goal::Registered {
            return self.settle(core, now);
        }
        let others = self.others(core);
        let wait = self.retries.failed(now, &mut core.random, reason, others, named);
        self.set_timer(core, RegistrationTimer::Retry, now + wait);
        self.report(RegistrationState::Failed { reason, status, retry: Some(now + wait) });
    }

    /// Asking again would change nothing, and might lock the account.
    fn refused(&mut self, core: &mut Core, now: Instant, reason: Failure, status: Option<u16>) {
        self.state = State::Idle;
        if self.goal != Goal::Registered {
            return self.settle(core, now);
        }
        self.lose(core);
        self.report(RegistrationState::Failed { reason, status, retry: None });
    }

    fn report(&mut self, state: RegistrationState) {
        self.reported = state;
    }
}

impl Rest {
    fn holds_any(&self) -> bool {
        matches!(self, Self::Flows(flows) if !flows.is_empty())
    }
}
