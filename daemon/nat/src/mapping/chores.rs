//! Mappings that are to be removed: tried again while the router is there, and for permanent ones also at later starts.

use std::time::{Duration, Instant};

use super::mapper::{Mapper, Whose};
use super::{Action, Answer, Lease, MappingId, Output, Refusal, RequestId, Want};

/// How often removing is tried again for a mapping that will end by itself.
const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// How long to wait with a permanent mapping at the most.
const LONGEST_WAIT: Duration = Duration::from_secs(1800);
/// Most mappings to be removed at once; further ones are left to their leases.
const MAX_CHORES: usize = 4096;

/// A mapping to be removed.
#[derive(Debug)]
pub(super) struct Chore {
    lease: Lease,
    /// It will not end by itself.
    permanent: bool,
    /// When it is tried; `None`: while it is tried, or when its router is there again.
    pub(super) at: Option<Instant>,
    failures: u32,
    request: Option<RequestId>,
    /// This mapping may have gone with it: to be asked for again.
    then_renew: Option<MappingId>,
}

impl Mapper {
    /// Mappings of an earlier run that do not end by themselves: they are removed as soon as their router is there.
    pub fn adopt(&mut self, now: Instant, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            self.remove_lease(now, lease, true, None);
        }
        self.settle(now);
    }

    pub(super) fn remove_lease(
        &mut self,
        now: Instant,
        lease: Lease,
        permanent: bool,
        then_renew: Option<MappingId>,
    ) {
        let same = |chore: &Chore| chore.lease == lease && chore.permanent == permanent;
        if self.chores.len() >= MAX_CHORES || self.chores.values().any(same) {
            return;
        }
        let here = self.gateway == Some(lease.gateway);
        if !here && !permanent {
            return;
        }
        self.last_chore += 1;
        let at = here.then_some(now);
        let chore = Chore { lease, permanent, at, failures: 0, request: None, then_renew };
        self.chores.insert(self.last_chore, chore);
    }

    /// Removes what is due.
    pub(super) fn do_chores(&mut self, now: Instant) {
        let due = self.chores.iter().filter(|(_, chore)| chore.at.is_some_and(|at| at <= now));
        let due: Vec<(u32, Lease)> = due.map(|(number, chore)| (*number, chore.lease)).collect();
        for (number, lease) in due {
            let request = self.ask(now, Action::Unmap { lease }, Whose::Chore(number));
            if let Some(chore) = self.chores.get_mut(&number) {
                (chore.at, chore.request) = (None, Some(request));
            }
        }
    }

    pub(super) fn chore_answered(&mut self, now: Instant, number: u32, answer: &Answer) {
        let Some(chore) = self.chores.get_mut(&number) else { return };
        chore.request = None;
        let refusal = match answer {
            Answer::Refused(refusal) => Some(refusal),
            // A mapping's answer to a removal cannot be: what is removed then is anybody's guess.
            Answer::Unmapped | Answer::Mapped(_) => None,
        };
        if let Some(refusal) = refusal {
            chore.failures += 1;
            let wait = FIRST_WAIT * 2u32.saturating_pow(chore.failures.min(12) - 1);
            let here = self.gateway == Some(chore.lease.gateway) && !self.stopping;
            if chore.permanent {
                // What is remembered is tried again at the next start.
                chore.at = here.then(|| now + wait.min(LONGEST_WAIT));
                return;
            }
            if here && *refusal == Refusal::NoAnswer && chore.failures < TRIES {
                chore.at = Some(now + wait);
                return;
            }
        }
        let Some(chore) = self.chores.remove(&number) else { return };
        if chore.permanent {
            self.outputs.push_back(Output::Forget(chore.lease));
        }
        if let Some(mapped) =
            chore.then_renew.and_then(|id| self.entries.get_mut(&id)).and_then(|entry| entry.mapped_mut())
        {
            mapped.renew_at = now;
        }
    }

    /// The same port is being unmapped just now, or will be once more, where the router did not answer: the new mapping
    /// would go. What a router keeps for good may take for ever, and is not waited for.
    pub(super) fn is_being_removed(&self, want: &Want) -> bool {
        let same =
            |lease: &Lease| (lease.transport, lease.internal_port) == (want.transport, want.internal_port);
        let comes_again = |chore: &Chore| chore.at.is_some() && !chore.permanent;
        self.chores
            .values()
            .any(|chore| same(&chore.lease) && (chore.request.is_some() || comes_again(chore)))
    }

    /// The way out of the network is another one.
    pub(super) fn move_chores(&mut self, now: Instant) {
        let gateway = self.gateway;
        self.chores.retain(|_, chore| chore.permanent || gateway == Some(chore.lease.gateway));
        for chore in self.chores.values_mut() {
            let here = gateway == Some(chore.lease.gateway);
            chore.at = (here && chore.request.is_none()).then_some(now);
        }
    }

    /// What waits for another attempt gets it now: it is the last one.
    pub(super) fn hurry_chores(&mut self, now: Instant) {
        for chore in self.chores.values_mut() {
            chore.at = chore.at.map(|_| now);
        }
    }

    /// Something is still to be removed, and can be.
    pub(super) fn has_chores(&self) -> bool {
        self.chores.values().any(|chore| chore.at.is_some() || chore.request.is_some())
    }
}
