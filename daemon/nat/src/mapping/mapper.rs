//! The mapper: mappings behind one input and one output. It knows no socket and no clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::chores::Chore;
use super::entry::{Entry, State, Waiting};
use super::epoch::Epoch;
use super::survey::Survey;
use super::{
    Action, Answer, Gateway, Granted, Lease, MappingId, MappingView, Memory, Output, Problem, Protocol,
    Refusal, RequestId, Transport, Want,
};

/// Most mappings at once: two for each of a thousand calls, and some.
pub const MAX_MAPPINGS: usize = 2100;
/// How often a router is asked whether it still knows its mappings.
pub(super) const CHECK: Duration = Duration::from_secs(60);
/// Who has not answered by then counts as silent. Longer than any protocol retransmits here.
const REQUEST_TIME: Duration = Duration::from_secs(15);
/// A yes that comes later still than this is left to its lease.
const LATE_TIME: Duration = Duration::from_secs(120);

/// Why a mapping is not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// There are [`MAX_MAPPINGS`] already.
    #[error("there are {MAX_MAPPINGS} port mappings already: remove one first")]
    TooMany,
    /// The port is mapped already.
    #[error("{} port {port} of this machine is mapped already (mapping {})", transport.name(), id.0)]
    Exists {
        /// By this one.
        id: MappingId,
        /// What is mapped.
        transport: Transport,
        /// Our port.
        port: u16,
    },
    /// Everything is being removed.
    #[error("voipd is stopping")]
    Stopping,
}

/// All mappings of one machine. See the [module](super).
#[derive(Debug)]
pub struct Mapper {
    pub(super) rng: ChaCha8Rng,
    pub(super) gateway: Option<Gateway>,
    pub(super) entries: BTreeMap<MappingId, Entry>,
    requests: BTreeMap<RequestId, Asked>,
    pub(super) chores: BTreeMap<u32, Chore>,
    /// What this router has proved to speak.
    pub(super) preferred: Option<Protocol>,
    /// Asks in all protocols, while all others wait for what it finds.
    pub(super) scout: Option<MappingId>,
    /// The router is of no use for now.
    pub(super) quiet: Option<Quiet>,
    epochs: BTreeMap<Protocol, Epoch>,
    /// What the router says of itself.
    pub(super) survey: Survey,
    pub(super) check_at: Option<Instant>,
    pub(super) stopping: bool,
    last_mapping: u32,
    pub(super) last_request: u64,
    pub(super) last_chore: u32,
    pub(super) outputs: VecDeque<Output>,
}

/// A router that is left alone for a while.
#[derive(Debug)]
pub(super) struct Quiet {
    pub(super) until: Instant,
    pub(super) problem: Problem,
}

/// A request under way.
#[derive(Debug)]
struct Asked {
    action: Action,
    whose: Whose,
    deadline: Instant,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Entry(MappingId),
    Chore(u32),
    /// Nobody any more: a yes is undone.
    Nobody,
    /// The same, but a yes is not likely: a stop does not wait for it.
    Late,
}

impl Mapper {
    /// No gateway is known yet. `seed`: for ports, nonces and times of new attempts.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            rng: ChaCha8Rng::from_seed(seed),
            gateway: None,
            entries: BTreeMap::new(),
            requests: BTreeMap::new(),
            chores: BTreeMap::new(),
            preferred: None,
            scout: None,
            quiet: None,
            epochs: BTreeMap::new(),
            survey: Survey::default(),
            check_at: None,
            stopping: false,
            last_mapping: 0,
            last_request: 0,
            last_chore: 0,
            outputs: VecDeque::new(),
        }
    }

    // Inputs.

    /// The way out of the network, whenever it may have changed; `None` where there is none, or no NAT before it. On
    /// the same way as before, all mappings are asked for again: the router may have started anew, and leases end while
    /// this machine sleeps and its clock stands still.
    pub fn set_gateway(&mut self, now: Instant, gateway: Option<Gateway>) {
        if gateway == self.gateway {
            for mapped in self.entries.values_mut().filter_map(Entry::mapped_mut) {
                mapped.renew_at = now;
            }
            return self.settle(now);
        }
        self.gateway = gateway;
        (self.preferred, self.scout, self.quiet, self.check_at) = (None, None, None, None);
        self.epochs.clear();
        self.survey.forget();
        let requests: Vec<RequestId> = self.requests.keys().copied().collect();
        for request in requests {
            self.abandon(request, Whose::Nobody);
        }
        let permanent =
            self.entries.values().filter_map(Entry::mapped).filter(|mapped| mapped.expires.is_none());
        let permanent: Vec<Lease> = permanent.map(|mapped| mapped.lease).collect();
        for lease in permanent {
            self.remove_lease(now, lease, true, None);
        }
        let (at, problem) = self.beginning(now);
        for entry in self.entries.values_mut() {
            entry.state = State::Waiting(Waiting { at, failures: 0, problem: problem.clone() });
        }
        self.move_chores(now);
        self.settle(now);
    }

    /// Wants a mapping.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(&mut self, now: Instant, want: Want) -> Result<MappingId, AddError> {
        if self.stopping {
            return Err(AddError::Stopping);
        }
        if self.entries.len() >= MAX_MAPPINGS {
            return Err(AddError::TooMany);
        }
        let (transport, port) = (want.transport, want.internal_port);
        let same = |entry: &Entry| (entry.want.transport, entry.want.internal_port) == (transport, port);
        if let Some((id, _)) = self.entries.iter().find(|(_, entry)| same(entry)) {
            return Err(AddError::Exists { id: *id, transport, port });
        }
        let id = self.next_number();
        let (at, problem) = self.beginning(now);
        let entry = Entry {
            want,
            nonce: [self.rng.next_u32(), self.rng.next_u32(), self.rng.next_u32()],
            ends: want.keep_for.map(|time| now + time),
            state: State::Waiting(Waiting { at, failures: 0, problem }),
            told: None,
        };
        self.entries.insert(id, entry);
        self.settle(now);
        Ok(id)
    }

    /// A number that no mapping has or will have: for what is shown beside mappings.
    pub fn next_number(&mut self) -> MappingId {
        self.last_mapping += 1;
        MappingId(self.last_mapping)
    }

    /// Does not want it any more; answers whether there was one.
    pub fn remove(&mut self, now: Instant, id: MappingId) -> bool {
        let there = self.take_out(now, id);
        self.settle(now);
        there
    }

    /// The answer to [`Output::Request`]. Answers that nobody waits for any more change nothing, except that a mapping
    /// made by them is removed.
    pub fn handle_answer(&mut self, now: Instant, id: RequestId, answer: Answer) {
        let Some(asked) = self.requests.remove(&id) else { return };
        if let Answer::Mapped(granted) = &answer {
            self.learn(now, &asked, granted);
        }
        self.deliver(now, id, &asked, answer);
        self.settle(now);
    }

    /// The time that [`Output::Timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let forgotten =
            |asked: &Asked| matches!(asked.whose, Whose::Nobody | Whose::Late) && asked.deadline <= now;
        self.requests.retain(|_, asked| !forgotten(asked));
        let late = self.requests.iter().filter(|(_, asked)| asked.deadline <= now);
        let late: Vec<RequestId> = late.map(|(id, _)| *id).collect();
        for id in late {
            let Some(asked) = self.requests.remove(&id) else { continue };
            self.deliver(now, id, &asked, Answer::Refused(Refusal::NoAnswer));
            // Should it say yes after all, that is undone.
            let deadline = now + LATE_TIME;
            self.requests.insert(id, Asked { whose: Whose::Late, deadline, ..asked });
        }
        let over = self.entries.iter().filter(|(_, entry)| entry.ends.is_some_and(|at| at <= now));
        let over: Vec<MappingId> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.take_out(now, id);
        }
        self.survey_timeout(now);
        self.expire(now);
        self.renew(now);
        self.check(now);
        self.settle(now);
    }

    /// Removes all mappings, and makes no more. Go on until [`Mapper::is_idle`].
    pub fn shut_down(&mut self, now: Instant) {
        self.stopping = true;
        let all: Vec<MappingId> = self.entries.keys().copied().collect();
        for id in all {
            self.take_out(now, id);
        }
        self.hurry_chores(now);
        self.settle(now);
    }

    /// Nothing is left to do before a stop: what a router does not answer any more is left to its lease, or to the next
    /// start.
    pub fn is_idle(&self) -> bool {
        let asking = self.requests.values().any(|asked| asked.whose != Whose::Late);
        self.outputs.is_empty() && self.entries.is_empty() && !asking && !self.has_chores()
    }

    /// The next thing to do; [`Output::Timeout`] when there is nothing.
    pub fn poll_output(&mut self) -> Output {
        match self.outputs.pop_front() {
            Some(output) => output,
            None => Output::Timeout(self.next_timeout()),
        }
    }

    // Getters.

    /// All mappings that are wanted, by number.
    pub fn views(&self) -> impl Iterator<Item = MappingView> {
        self.entries.iter().map(|(id, entry)| entry.view(*id, self.local()))
    }

    /// One mapping.
    pub fn view(&self, id: MappingId) -> Option<MappingView> {
        self.entries.get(&id).map(|entry| entry.view(id, self.local()))
    }

    /// The way out of the network as it was last told.
    pub fn gateway(&self) -> Option<Gateway> {
        self.gateway
    }

    // What the parts of this type share.

    /// Where a new mapping, or one whose router is gone, stands.
    fn beginning(&self, now: Instant) -> (Option<Instant>, Option<Problem>) {
        match (self.gateway, &self.quiet) {
            (None, _) => (None, Some(Problem::NoGateway)),
            (Some(_), Some(quiet)) => (Some(now), Some(quiet.problem.clone())),
            (Some(_), None) => (Some(now), None),
        }
    }

    pub(super) fn ask(&mut self, now: Instant, action: Action, whose: Whose) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.requests.insert(id, Asked { action, whose, deadline: now + REQUEST_TIME });
        self.outputs.push_back(Output::Request { id, action });
        id
    }

    /// Nobody waits for this answer any more. `whose`: [`Whose::Nobody`] or [`Whose::Late`].
    pub(super) fn abandon(&mut self, id: RequestId, whose: Whose) {
        if let Some(asked) = self.requests.get_mut(&id)
            && matches!(asked.whose, Whose::Entry(_))
        {
            asked.whose = whose;
        }
    }

    pub(super) fn quiet_until(&self) -> Option<Instant> {
        self.quiet.as_ref().map(|quiet| quiet.until)
    }

    /// Takes a mapping back from the router; the entry itself stays.
    pub(super) fn give_back(&mut self, now: Instant, id: MappingId) {
        let Some(mapped) = self.entries.get(&id).and_then(Entry::mapped) else { return };
        let (lease, permanent) = (mapped.lease, mapped.expires.is_none());
        let sharers = mapped.sharers.clone();
        self.remove_lease(now, lease, permanent, None);
        for protocol in sharers {
            self.remove_lease(now, Lease { protocol, ..lease }, false, None);
        }
    }

    /// After each input: begins what is due and tells what has changed.
    pub(super) fn settle(&mut self, now: Instant) {
        self.start_due(now);
        self.renew(now);
        self.do_chores(now);
        if self.entries.values().all(|entry| entry.mapped().is_none()) {
            self.check_at = None;
        }
        let local = self.local();
        for (id, entry) in &mut self.entries {
            let view = entry.view(*id, local);
            if entry.told.as_ref() != Some(&view) {
                entry.told = Some(view);
                self.outputs.push_back(Output::Changed(*id));
            }
        }
    }

    fn local(&self) -> Option<Ipv4Addr> {
        self.gateway.map(|gateway| gateway.local)
    }

    fn take_out(&mut self, now: Instant, id: MappingId) -> bool {
        self.give_back(now, id);
        let Some(entry) = self.entries.remove(&id) else { return false };
        let pending: Vec<RequestId> = match entry.state {
            State::Waiting(_) => Vec::new(),
            State::Asking(race) => race.pending.into_values().collect(),
            State::Mapped(mapped) => mapped.pending.into_iter().collect(),
        };
        for request in pending {
            self.abandon(request, Whose::Nobody);
        }
        if self.scout == Some(id) {
            self.scout = None;
        }
        self.outputs.push_back(Output::Removed(id));
        true
    }

    fn deliver(&mut self, now: Instant, id: RequestId, asked: &Asked, answer: Answer) {
        match (asked.whose, answer) {
            (Whose::Chore(number), answer) => self.chore_answered(now, number, &answer),
            (Whose::Entry(entry), Answer::Mapped(granted)) => {
                self.granted(now, entry, id, *asked.action.lease(), &granted);
            }
            (Whose::Entry(entry), Answer::Refused(refusal)) => {
                self.refused(now, entry, id, &asked.action, refusal);
            }
            (Whose::Entry(entry), Answer::Unmapped) => {
                let refusal = Refusal::Other("it has removed the mapping instead".to_owned());
                self.refused(now, entry, id, &asked.action, refusal);
            }
            (Whose::Nobody | Whose::Late, Answer::Mapped(granted)) => {
                self.undo(now, *asked.action.lease(), &granted);
            }
            (Whose::Nobody | Whose::Late, _) => {}
        }
    }

    /// A router that has forgotten one mapping has forgotten all.
    fn learn(&mut self, now: Instant, asked: &Asked, granted: &Granted) {
        let lease = asked.action.lease();
        if self.gateway != Some(lease.gateway) {
            return;
        }
        let forgotten = match granted.memory {
            Memory::Lost => true,
            Memory::Kept | Memory::Unknown => false,
            Memory::Epoch(seconds) => {
                let next = Epoch::new(seconds, now);
                let before = self.epochs.insert(lease.protocol, next);
                before.is_some_and(|before| before.restarted(lease.protocol, next))
            }
        };
        if forgotten {
            let mapped = self.entries.values_mut().filter_map(Entry::mapped_mut);
            for mapped in mapped.filter(|mapped| mapped.lease.protocol == lease.protocol) {
                mapped.renew_at = now;
            }
        }
    }

    /// Leases that ended although we asked for more.
    fn expire(&mut self, now: Instant) {
        let ended =
            |entry: &Entry| entry.mapped().and_then(|mapped| mapped.expires).is_some_and(|at| at <= now);
        let ended: Vec<MappingId> =
            self.entries.iter().filter(|(_, entry)| ended(entry)).map(|(id, _)| *id).collect();
        for id in ended {
            let pending = self.entries.get(&id).and_then(Entry::mapped).and_then(|mapped| mapped.pending);
            if let Some(request) = pending {
                self.abandon(request, Whose::Nobody);
            }
            self.preferred = None;
            self.lost(now, id, Some(Problem::Silent));
        }
    }

    fn renew(&mut self, now: Instant) {
        let due = |entry: &Entry| {
            entry.mapped().is_some_and(|mapped| mapped.pending.is_none() && mapped.renew_at <= now)
        };
        let due: Vec<MappingId> =
            self.entries.iter().filter(|(_, entry)| due(entry)).map(|(id, _)| *id).collect();
        for id in due {
            self.prolong(now, id, |lease, lifetime| Action::Map { lease, lifetime });
        }
    }

    /// Looks after the mapping that was asked for longest ago, for all.
    fn check(&mut self, now: Instant) {
        if self.check_at.is_none_or(|at| at > now) {
            return;
        }
        self.check_at = Some(now + CHECK);
        let idle = self.entries.iter().filter_map(|(id, entry)| {
            entry.mapped().filter(|mapped| mapped.pending.is_none()).map(|mapped| (mapped.asked_at, *id))
        });
        if let Some((_, id)) = idle.min() {
            self.prolong(now, id, |lease, lifetime| Action::Check { lease, lifetime });
        }
    }

    fn prolong(&mut self, now: Instant, id: MappingId, action: impl Fn(Lease, Option<Duration>) -> Action) {
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(mapped) = entry.mapped() else { return };
        let lifetime = mapped.expires.map(|_| entry.lease_time(now));
        let request = self.ask(now, action(mapped.lease, lifetime), Whose::Entry(id));
        if let Some(mapped) = self.entries.get_mut(&id).and_then(Entry::mapped_mut) {
            (mapped.pending, mapped.asked_at) = (Some(request), now);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        // Who waits for the scout, or for a router that is left alone, is not waited for.
        let waits = self.preferred.is_none() && self.scout.is_some();
        let entries = self.entries.values().flat_map(|entry| {
            let at = match &entry.state {
                State::Waiting(_) if waits || self.is_being_removed(&entry.want) => None,
                State::Waiting(waiting) if self.preferred.is_none() => {
                    waiting.at.map(|at| self.quiet_until().map_or(at, |until| until.max(at)))
                }
                State::Waiting(waiting) => waiting.at,
                State::Asking(_) => None,
                State::Mapped(mapped) if mapped.pending.is_some() => mapped.expires,
                State::Mapped(mapped) => {
                    Some(mapped.expires.map_or(mapped.renew_at, |at| at.min(mapped.renew_at)))
                }
            };
            [at, entry.ends]
        });
        let requests = self.requests.values().map(|asked| Some(asked.deadline));
        let chores = self.chores.values().map(|chore| chore.at);
        entries.chain(requests).chain(chores).chain([self.check_at, self.survey.until()]).flatten().min()
    }
}
