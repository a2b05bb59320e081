//! What a change of the network means to everything that an endpoint has under way.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::account::Account;
use crate::core::Asker;
use crate::endpoint::{Endpoint, IdentityId, SessionId};
use crate::faces::{Faces, Way};
use crate::registration::Registration;

impl Endpoint {
    pub(crate) fn ways_in_use(&self) -> BTreeSet<Way> {
        let registered = self.core.accounts.values().flat_map(Account::bound_flows);
        let flows = registered
            .chain(self.registrations.values().flat_map(Registration::under_way))
            .chain(self.sessions.values().flat_map(|session| session.flows()))
            .chain(self.core.transactions.flows());
        flows.map(|flow| (flow.local.ip(), flow.remote.ip())).collect()
    }

    pub(crate) fn on_network(&mut self, now: Instant, faces: &Faces) -> Vec<SessionId> {
        let core = &mut self.core;
        for flow in core.transactions.move_responses(faces) {
            for (server, sent_by) in core.transactions.cut_off(flow) {
                core.resolve(now, sent_by, None, Asker::Response(server));
            }
        }
        let identities: Vec<IdentityId> = self.registrations.keys().copied().collect();
        for identity in identities {
            self.with_registration(identity, |registration, core| registration.on_network(core, now, faces));
        }
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        let moved = sessions.into_iter().filter(|id| {
            self.with_session(now, *id, |session, cx| session.on_network(cx, faces)).unwrap_or_default()
        });
        let moved = moved.collect();
        let core = &mut self.core;
        for report in core.transactions.strand(&mut core.outbox, faces) {
            self.on_report(now, report);
        }
        // What did not answer there may answer here.
        self.core.avoided.forget();
        self.core.dead_streams.forget();
        moved
    }
}
