//! How a mapping is made: all protocols at once until one has proved itself with this router, then that one.

use std::time::{Duration, Instant};

use rand_chacha::rand_core::Rng;

use super::address::judge;
use super::entry::{Mapped, Race, State, Waiting};
use super::mapper::{CHECK, Mapper, Quiet, Whose};
use super::{Action, Gateway, Granted, Lease, MappingId, Output, Problem, Protocol, Refusal, RequestId};

/// How often another external port is tried where one is taken.
const MAX_CONFLICTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// Another NAT does not go away soon.
const FIRST_WAIT_BEHIND_NAT: Duration = Duration::from_secs(600);
const LONGEST_WAIT: Duration = Duration::from_secs(1800);
/// A router is not asked more often for the same lease (RFC 6887 section 11.2.1).
const SHORTEST_RENEWAL: Duration = Duration::from_secs(4);

impl Mapper {
    /// Begins with all that is due and need not wait for another one's outcome.
    pub(super) fn start_due(&mut self, now: Instant) {
        let Some(gateway) = self.gateway else { return };
        let due: Vec<MappingId> = self
            .entries
            .iter()
            .filter(
                |(_, entry)| matches!(&entry.state, State::Waiting(w) if w.at.is_some_and(|at| at <= now)),
            )
            .filter(|(_, entry)| !self.is_being_removed(&entry.want))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            match self.preferred {
                Some(protocol) => self.start(now, id, gateway, &[protocol]),
                // Who is alone finds out for all what this router speaks.
                None if self.scout.is_none() && self.quiet_until().is_none_or(|until| until <= now) => {
                    self.scout = Some(id);
                    self.start(now, id, gateway, &Protocol::ALL);
                }
                None => {}
            }
        }
    }

    fn start(&mut self, now: Instant, id: MappingId, gateway: Gateway, protocols: &[Protocol]) {
        let Some(entry) = self.entries.get(&id) else { return };
        let State::Waiting(waiting) = &entry.state else { return };
        let mut race =
            Race { failures: waiting.failures, before: waiting.problem.clone(), ..Race::default() };
        let (want, nonce, lifetime) = (entry.want, entry.nonce, entry.lease_time(now));
        for protocol in protocols {
            let lease = Lease {
                protocol: *protocol,
                gateway,
                transport: want.transport,
                internal_port: want.internal_port,
                external_port: want.external_port.unwrap_or(want.internal_port),
                nonce,
            };
            let action = Action::Map { lease, lifetime: Some(lifetime) };
            race.pending.insert(*protocol, self.ask(now, action, Whose::Entry(id)));
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::Asking(race);
        }
    }

    /// A router has said yes to a mapping of `id`.
    pub(super) fn granted(
        &mut self,
        now: Instant,
        id: MappingId,
        request: RequestId,
        lease: Lease,
        granted: &Granted,
    ) {
        let verdict = judge(&lease, granted);
        let Some(entry) = self.entries.get_mut(&id) else { return self.undo(now, lease, granted) };
        let asked = entry.lease_time(now);
        match (&mut entry.state, verdict) {
            (State::Asking(race), verdict) if race.pending.get(&lease.protocol) == Some(&request) => {
                race.pending.remove(&lease.protocol);
                match verdict {
                    Ok(()) => {
                        let others: Vec<RequestId> = race.pending.values().copied().collect();
                        entry.state = State::Mapped(Mapped::new(now, lease, granted, asked));
                        self.won(now, id, lease.protocol, &others);
                    }
                    Err(problem) => {
                        race.note(problem);
                        self.undo(now, lease, granted);
                        self.race_goes_on(now, id);
                    }
                }
            }
            (State::Mapped(mapped), Ok(())) if mapped.pending == Some(request) => {
                mapped.prolong(now, granted, asked);
            }
            (State::Mapped(mapped), Err(problem)) if mapped.pending == Some(request) => {
                mapped.pending = None;
                self.give_back(now, id);
                self.failed(now, id, 0, problem);
            }
            _ => self.undo(now, lease, granted),
        }
    }

    /// The first good answer.
    fn won(&mut self, now: Instant, id: MappingId, protocol: Protocol, others: &[RequestId]) {
        for request in others {
            self.abandon(*request, Whose::Late);
        }
        if self.scout == Some(id) {
            self.scout = None;
        }
        self.preferred = Some(protocol);
        self.quiet = None;
        self.check_at.get_or_insert(now + CHECK);
        // What waited because this router seemed not to answer waits no more.
        for entry in self.entries.values_mut() {
            if let State::Waiting(waiting) = &mut entry.state
                && waiting.problem.as_ref().is_none_or(Problem::is_of_the_router)
            {
                waiting.at = Some(now);
            }
        }
    }

    /// Takes back what nobody waits for. Where the router has put it into one rule with a mapping that stands, it stays.
    pub(super) fn undo(&mut self, now: Instant, lease: Lease, granted: &Granted) {
        let lease = Lease { external_port: granted.external.port(), ..lease };
        let same_port = |other: &Lease| {
            (other.gateway, other.transport, other.internal_port)
                == (lease.gateway, lease.transport, lease.internal_port)
        };
        let mut sibling = None;
        for (id, entry) in &mut self.entries {
            let Some(mapped) = entry.mapped_mut().filter(|mapped| same_port(&mapped.lease)) else { continue };
            if mapped.lease.external_port == lease.external_port {
                if mapped.lease.protocol != lease.protocol && !mapped.sharers.contains(&lease.protocol) {
                    mapped.sharers.push(lease.protocol);
                }
                return;
            }
            sibling = Some(*id);
        }
        if lease.external_port != 0 {
            self.remove_lease(now, lease, granted.lifetime.is_none(), sibling);
        }
    }

    /// A router has said no, or nothing, about a mapping of `id`.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        id: MappingId,
        request: RequestId,
        action: &Action,
        refusal: Refusal,
    ) {
        let lease = *action.lease();
        let lifetime = match action {
            Action::Map { lifetime, .. } | Action::Check { lifetime, .. } => *lifetime,
            Action::Unmap { .. } => None,
        };
        if lifetime.is_none() {
            self.permanent_refused(now, id, lease, &refusal);
        }
        let other_port = self.any_port();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match &mut entry.state {
            State::Asking(race) if race.pending.get(&lease.protocol) == Some(&request) => {
                race.pending.remove(&lease.protocol);
                let again = match refusal {
                    Refusal::PortInUse if race.conflicts < MAX_CONFLICTS => Some(other_port),
                    Refusal::SamePort if lease.external_port != lease.internal_port => {
                        Some(lease.internal_port)
                    }
                    _ => None,
                };
                if let Some(external_port) = again {
                    race.conflicts += 1;
                    let action = Action::Map { lease: Lease { external_port, ..lease }, lifetime };
                    return self.ask_again(now, id, action);
                }
                if refusal == Refusal::OnlyPermanent && lifetime.is_some() {
                    race.permanent = Some(lease);
                }
                race.note(match refusal {
                    Refusal::NoAnswer => Problem::Silent,
                    refusal => Problem::Refused { protocol: lease.protocol, refusal },
                });
                self.race_goes_on(now, id);
            }
            State::Mapped(mapped) if mapped.pending == Some(request) => {
                mapped.pending = None;
                if refusal == Refusal::PortInUse {
                    // Somebody else has it now: nothing of ours is there to be removed.
                    if mapped.expires.is_none() {
                        self.outputs.push_back(Output::Forget(mapped.lease));
                    }
                    let problem = Problem::Refused { protocol: lease.protocol, refusal };
                    return self.lost(now, id, Some(problem));
                }
                let left = mapped.expires.map_or(FIRST_WAIT * 2, |at| at.saturating_duration_since(now));
                mapped.renew_at = now + (left / 2).max(SHORTEST_RENEWAL);
            }
            _ => {}
        }
    }

    /// Whoever does not answer may have made the mapping all the same; whoever refuses has not.
    fn permanent_refused(&mut self, now: Instant, id: MappingId, lease: Lease, refusal: &Refusal) {
        let stands = self.entries.get(&id).is_some_and(|entry| entry.mapped().is_some());
        match refusal {
            _ if stands => {}
            Refusal::NoAnswer => self.remove_lease(now, lease, true, None),
            _ => self.outputs.push_back(Output::Forget(lease)),
        }
    }

    fn ask_again(&mut self, now: Instant, id: MappingId, action: Action) {
        let protocol = action.lease().protocol;
        let request = self.ask(now, action, Whose::Entry(id));
        if let Some(State::Asking(race)) = self.entries.get_mut(&id).map(|entry| &mut entry.state) {
            race.pending.insert(protocol, request);
        }
    }

    /// One runner less.
    fn race_goes_on(&mut self, now: Instant, id: MappingId) {
        let Some(State::Asking(race)) = self.entries.get_mut(&id).map(|entry| &mut entry.state) else {
            return;
        };
        if !race.pending.is_empty() {
            return;
        }
        if let Some(lease) = race.permanent.take() {
            self.outputs.push_back(Output::Remember(lease));
            return self.ask_again(now, id, Action::Map { lease, lifetime: None });
        }
        let failures = race.failures;
        let problem = race.problem.take().unwrap_or(Problem::Silent);
        let alone = self.scout != Some(id);
        if alone && problem == Problem::Silent {
            // The protocol that used to work does not any more: all are asked again, at once.
            self.preferred = None;
            return self.lost(now, id, Some(problem));
        }
        self.failed(now, id, failures, problem);
    }

    /// A mapping that was there, or should have been, is not: it is tried again at once.
    pub(super) fn lost(&mut self, now: Instant, id: MappingId, problem: Option<Problem>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::Waiting(Waiting { at: Some(now), failures: 0, problem });
        }
    }

    /// Nothing came of it: again later.
    fn failed(&mut self, now: Instant, id: MappingId, failures: u32, problem: Problem) {
        let failures = failures.saturating_add(1);
        let first = match problem {
            Problem::NotPublic(_) => FIRST_WAIT_BEHIND_NAT,
            _ => FIRST_WAIT,
        };
        let at = now + self.about((first * 2u32.saturating_pow(failures.min(12) - 1)).min(LONGEST_WAIT));
        if self.scout == Some(id) {
            self.scout = None;
        }
        if problem.is_of_the_router() {
            self.preferred = None;
            self.quiet = Some(Quiet { until: at, problem: problem.clone() });
            for entry in self.entries.values_mut() {
                if let State::Waiting(waiting) = &mut entry.state {
                    waiting.problem = Some(problem.clone());
                }
            }
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::Waiting(Waiting { at: Some(at), failures, problem: Some(problem) });
        }
    }

    /// A tenth more or less, so that many machines do not ask in step.
    fn about(&mut self, time: Duration) -> Duration {
        time * (90 + self.rng.next_u32() % 21) / 100
    }

    /// A port of the dynamic range (RFC 6335).
    fn any_port(&mut self) -> u16 {
        u16::try_from(49_152 + self.rng.next_u32() % 16_384).unwrap_or(u16::MAX)
    }
}

impl Race {
    /// Keeps the more telling one.
    fn note(&mut self, problem: Problem) {
        if self.problem.as_ref().is_none_or(|known| problem.weight() > known.weight()) {
            self.problem = Some(problem);
        }
    }
}

impl Problem {
    /// It would meet every mapping alike.
    fn is_of_the_router(&self) -> bool {
        match self {
            Self::NoGateway | Self::Silent | Self::NoExternal | Self::NotPublic(_) => true,
            Self::Refused { refusal, .. } => {
                matches!(refusal, Refusal::Unsupported | Refusal::NotAuthorized | Refusal::NoNetwork)
            }
            Self::Nonsense { .. } => false,
        }
    }

    /// How much it tells about what is wrong.
    fn weight(&self) -> u8 {
        match self {
            Self::NoGateway | Self::Silent => 0,
            Self::Refused { refusal: Refusal::Unsupported | Refusal::NoAnswer, .. } => 1,
            Self::Nonsense { .. } => 2,
            Self::Refused { .. } => 3,
            Self::NoExternal => 4,
            Self::NotPublic(_) => 5,
        }
    }
}
