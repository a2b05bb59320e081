//! A binding whose network changes: it is made anew from where its server is reached now.

use std::time::Instant;

use super::{FlowRegistration, Rest, State};
use crate::core::Core;
use crate::endpoint::{Flow, RegistrationFailure as Failure};
use crate::faces::{Face, Faces};
use crate::message::Request;
use crate::timer::{RegistrationTimer, Timer};

impl FlowRegistration {
    /// What a REGISTER that waits for its response travels on.
    pub(in crate::registration) fn under_way(&self) -> Option<Flow> {
        match &self.state {
            State::Registering { flow, .. } | State::Unregistering { flow } => Some(*flow),
            State::Idle | State::Redundant | State::Resolving(_) | State::Bound => None,
        }
    }

    /// The network has changed.
    pub(in crate::registration) fn on_network(&mut self, core: &mut Core, now: Instant, faces: &Faces) {
        match &self.state {
            State::Bound => {
                if let Some(flow) = self.flow(core) {
                    self.move_binding(core, now, faces, flow);
                }
            }
            State::Registering { client, flow, .. } => {
                let (client, flow) = (*client, *flow);
                if faces.of(flow) != Face::Same || faces.is_dead(flow) {
                    core.transactions.abandon(&mut core.outbox, client);
                    self.state = State::Idle;
                    self.move_binding(core, now, faces, flow);
                }
            }
            // What waits to be tried again is tried now; what is not to be tried again is not.
            State::Idle => {
                let retry = Timer::Registration(self.id, RegistrationTimer::Retry);
                if core.outbox.timers.is_set(retry) {
                    let wait = self.retries.hurry(now, &mut core.random);
                    core.outbox.timers.set(retry, now + wait);
                }
            }
            State::Redundant | State::Resolving(_) | State::Unregistering { .. } => {}
        }
    }

    fn move_binding(&mut self, core: &mut Core, now: Instant, faces: &Faces, flow: Flow) {
        match faces.of(flow) {
            Face::Moved(ip) => {
                self.pause(core);
                self.retries.moved();
                self.send_register(core, now, flow.leaving(ip), Rest::Unasked, false, None);
            }
            Face::Nowhere => {
                self.pause(core);
                self.fail(core, now, Failure::NoNetwork, None);
            }
            Face::Same if matches!(self.state, State::Idle) => {
                self.send_register(core, now, flow, Rest::Unasked, false, None);
            }
            Face::Same if faces.recheck => {
                let wait = self.retries.hurry(now, &mut core.random);
                self.set_timer(core, RegistrationTimer::Refresh, now + wait);
            }
            Face::Same => {}
        }
    }

    fn pause(&mut self, core: &mut Core) {
        core.outbox.timers.stop_registration(self.id);
        self.keep_alive.stop(core);
    }
}

/// The request removes a binding beside the one that it makes.
pub(super) fn replaces(request: &Request) -> bool {
    request.headers.contacts().is_ok_and(|contacts| contacts.len() > 1)
}
