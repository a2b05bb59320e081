//! The registration of one identity (RFC 3261 section 10): one binding, or one by each of two servers where the registrar
//! knows flows (RFC 5626), told to the owner as one.

mod contact;
mod detour;
mod flow;
mod keepalive;
mod register;
mod retry;

use std::time::Instant;

use self::flow::FlowRegistration;
use crate::core::Core;
use crate::endpoint::{
    Event, Flow, IdentityId, RegistrationFailure, RegistrationState, ResolveError, ResolveId,
};
use crate::faces::Faces;
use crate::stun;
use crate::timer::RegistrationTimer;
use crate::transaction::Report;

/// Which of a device's bindings (RFC 5626 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RegId(u8);

impl RegId {
    pub(crate) const FIRST: Self = Self(1);
    /// Its place among others, from 0 on.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0).saturating_sub(1)
    }
}

impl std::fmt::Display for RegId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A binding of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingId {
    pub(crate) identity: IdentityId,
    pub(crate) reg_id: RegId,
}

/// What the owner wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Unregistered,
    Registered,
    /// The identity is removed: nobody hears of it any more.
    Forgotten,
}

pub(crate) struct Registration {
    identity: IdentityId,
    first: FlowRegistration,
    /// By way of another server, beside the first.
    second: FlowRegistration,
    /// What the first was made on when the second was begun.
    beside: Option<Flow>,
    told: RegistrationState,
}

impl Registration {
    pub(crate) fn new(core: &mut Core, identity: IdentityId, expires: u32) -> Self {
        // Each by a Call-ID of its own (RFC 5626 section 4.2.1).
        let mut binding =
            |reg_id| FlowRegistration::new(BindingId { identity, reg_id }, core.random.call_id(), expires);
        Self {
            identity,
            first: binding(RegId::FIRST),
            second: binding(RegId(2)),
            beside: None,
            told: RegistrationState::Unregistered,
        }
    }

    /// Registers now, and keeps registered.
    pub(crate) fn register(&mut self, core: &mut Core, now: Instant) {
        self.first.register(core, now);
        if self.second.is_wanted() {
            self.second.register(core, now);
        }
        self.settle(core, now);
    }

    /// Removes the bindings and stops refreshing.
    pub(crate) fn unregister(&mut self, core: &mut Core, now: Instant) {
        self.leave(core, now, Goal::Unregistered);
    }

    /// The identity is removed.
    pub(crate) fn forget(&mut self, core: &mut Core, now: Instant) {
        self.leave(core, now, Goal::Forgotten);
    }

    fn leave(&mut self, core: &mut Core, now: Instant, goal: Goal) {
        self.beside = None;
        self.second.leave(core, now, goal);
        self.first.leave(core, now, goal);
        self.settle(core, now);
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.first.is_forgotten()
    }

    /// Forgotten, and nothing is under way any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_forgotten() && self.first.is_unbound() && self.second.is_unbound()
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.first.is_idle() && self.second.is_idle()
    }

    pub(crate) fn binding_ids(&self) -> impl Iterator<Item = BindingId> + use<> {
        let identity = self.identity;
        [RegId::FIRST, RegId(2)].into_iter().map(move |reg_id| BindingId { identity, reg_id })
    }

    fn of(&mut self, reg_id: RegId) -> &mut FlowRegistration {
        if reg_id == RegId::FIRST { &mut self.first } else { &mut self.second }
    }

    pub(crate) fn on_timer(
        &mut self,
        core: &mut Core,
        now: Instant,
        reg_id: RegId,
        timer: RegistrationTimer,
    ) {
        self.of(reg_id).on_timer(core, now, timer);
        self.settle(core, now);
    }

    pub(crate) fn on_resolved(
        &mut self,
        core: &mut Core,
        now: Instant,
        reg_id: RegId,
        id: ResolveId,
        result: Result<Vec<Flow>, ResolveError>,
    ) {
        self.of(reg_id).on_resolved(core, now, id, result);
        self.settle(core, now);
    }

    pub(crate) fn on_report(&mut self, core: &mut Core, now: Instant, reg_id: RegId, report: Report) {
        self.of(reg_id).on_report(core, now, report);
        self.settle(core, now);
    }

    /// The flow of a binding is lost.
    pub(crate) fn on_cut_off(&mut self, core: &mut Core, now: Instant, reg_id: RegId) {
        self.of(reg_id).on_cut_off(core, now);
        self.settle(core, now);
    }

    /// What REGISTERs that wait for their responses travel on.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = Flow> {
        [&self.first, &self.second].into_iter().filter_map(FlowRegistration::under_way)
    }

    /// The network has changed.
    pub(crate) fn on_network(&mut self, core: &mut Core, now: Instant, faces: &Faces) {
        for binding in [&mut self.first, &mut self.second] {
            binding.on_network(core, now, faces);
        }
        self.settle(core, now);
    }

    /// Whether there are calls by this identity.
    pub(crate) fn set_calls(&mut self, core: &mut Core, now: Instant, any: bool) {
        for binding in [&mut self.first, &mut self.second] {
            binding.set_calls(core, now, any);
        }
    }

    /// The far end of a connection has answered a keep-alive.
    pub(crate) fn on_pong(&mut self, core: &mut Core, flow: Flow) {
        for binding in [&mut self.first, &mut self.second] {
            binding.on_pong(core, flow);
        }
    }

    /// Something has come on a connection.
    pub(crate) fn on_life(&mut self, core: &mut Core, flow: Flow) {
        for binding in [&mut self.first, &mut self.second] {
            binding.on_life(core, flow);
        }
    }

    /// Somebody has answered a STUN request.
    pub(crate) fn on_stun(&mut self, core: &mut Core, flow: Flow, answer: stun::Answer) {
        for binding in [&mut self.first, &mut self.second] {
            binding.on_stun(core, flow, answer);
        }
    }

    /// Begins and ends the second binding as the first one asks for it, and tells the owner what has become of both.
    fn settle(&mut self, core: &mut Core, now: Instant) {
        let outbound = self.first.outbound_flow(core);
        if outbound.is_some() && outbound != self.beside && !self.second.is_wanted() {
            self.beside = outbound;
            self.second.register(core, now);
        }
        if self.is_forgotten() {
            return;
        }
        let state = [&self.first, &self.second]
            .into_iter()
            .map(FlowRegistration::state)
            .find(|state| matches!(state, RegistrationState::Registered { .. }))
            .unwrap_or_else(|| self.first.state());
        if *state != self.told {
            self.told = state.clone();
            core.event(Event::Registration { identity: self.identity, state: state.clone() });
        }
    }
}

impl From<crate::auth::Denied> for RegistrationFailure {
    fn from(denied: crate::auth::Denied) -> Self {
        use crate::auth::Denied;
        match denied {
            Denied::Credentials => Self::Credentials,
            Denied::ForeignRealm => Self::ForeignRealm,
            Denied::WeakDigest => Self::WeakDigest,
            Denied::UnknownDigest => Self::UnknownDigest,
        }
    }
}
