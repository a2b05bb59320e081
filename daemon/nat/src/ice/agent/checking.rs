//! The agent's checks: when they begin, with which pairs, and when they have taken too long.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::candidate::priority;
use super::super::checks::{Checks, LocalBase};
use super::super::{Base, Candidate, CandidateKind, REMOTE_CANDIDATES, Role, State};
use super::{CHECKS_LIMIT, IceAgent};

/// A pair is known to work, but none is nominated: checks begin anew, since the library gives up when the check of a
/// nominated pair fails.
pub(super) const NOMINATION_LIMIT: Duration = Duration::from_secs(5);

impl IceAgent {
    /// `false` where it is of no use, or known.
    pub(super) fn add_remote(&mut self, candidate: Candidate) -> bool {
        let Some(remote) = &mut self.remote else { return false };
        if candidate.component > self.components
            || candidate.address.port() == 0
            || candidate.address.ip().is_unspecified()
            || candidate.address.ip().is_multicast()
            || remote.candidates.len() >= REMOTE_CANDIDATES
            || remote.candidates.contains(&candidate)
        {
            return false;
        }
        for (component, checks) in &mut self.checks {
            if *component == candidate.component {
                checks.add_remote(&candidate);
            }
        }
        self.permit(candidate.component, candidate.address);
        if let Some(remote) = &mut self.remote {
            remote.candidates.push(candidate);
        }
        true
    }

    /// An address has come to light when the checks had ended without success: they begin anew, with all that is known
    /// (RFC 8838 section 12).
    pub(super) fn look_again(&mut self) {
        if self.state == State::Failed && self.remote.is_some() && !self.closed {
            self.begin_checks();
            self.checks_end = Some(self.now + CHECKS_LIMIT);
            self.set_state(State::Checking);
        }
    }

    /// Checks from the beginning, with all that is known.
    pub(super) fn begin_checks(&mut self) {
        let Some(remote) = &self.remote else { return };
        let controlling = self.role == Role::Controlling;
        let mut all = Vec::new();
        for component in 1..=self.components {
            let mut checks = Checks::new(
                self.now,
                self.clock,
                (controlling, self.tie_breaker),
                &self.local,
                &remote.credentials,
            );
            checks.expect_more(self.now, self.expects_more);
            for local in self.local_bases(component) {
                checks.add_local(local);
            }
            for candidate in remote.candidates.iter().filter(|candidate| candidate.component == component) {
                checks.add_remote(candidate);
            }
            all.push((component, checks));
        }
        self.checks = all;
        self.seen_by_peer.clear();
        let peers: Vec<(u16, SocketAddr)> =
            remote.candidates.iter().map(|candidate| (candidate.component, candidate.address)).collect();
        for (component, peer) in peers {
            self.permit(component, peer);
        }
    }

    pub(super) fn local_bases(&self, component: u16) -> Vec<LocalBase> {
        let usable = |base: &&Base| base.component == component && !self.relays_only;
        let sockets = self.bases.iter().filter(usable).map(|base| LocalBase {
            address: base.address,
            // What the peer would have to believe if it learned of the address by the check (RFC 8445 section 7.1.1).
            priority: priority(CandidateKind::PeerReflexive, base.preference, component),
            relayed: false,
            connected: false,
        });
        sockets.chain(self.relayed_bases(component)).collect()
    }

    /// Checks that have been without a nomination for too long.
    pub(super) fn watch_checks(&mut self) {
        if self.checks_end.is_some_and(|end| end <= self.now) {
            self.checks_end = None;
            self.checks.clear();
            self.set_state(State::Failed);
            return;
        }
        let stuck =
            |checks: &Checks| checks.first_valid().is_some_and(|at| at + NOMINATION_LIMIT <= self.now);
        if self.checks.iter().any(|(_, checks)| stuck(checks)) && !self.follow_nominations() {
            self.begin_checks();
        }
    }
}
