//! A registration whose network changes: the binding is made anew from where its registrar is reached now, and the one
//! before removed with the same request.

use std::time::Instant;

use super::{Registration, Rest, State};
use crate::core::Core;
use crate::endpoint::{Flow, RegistrationFailure as Failure};
use crate::faces::{Face, Faces};
use crate::headers::{Headers, name};
use crate::message::Request;
use crate::timer::{RegistrationTimer, Timer};
use crate::uri::{NameAddr, SipUri, Uri};

impl Registration {
    /// What a REGISTER that waits for its response travels on.
    pub(crate) fn under_way(&self) -> Option<Flow> {
        match &self.state {
            State::Registering { flow, .. } | State::Unregistering { flow } => Some(*flow),
            State::Idle | State::Resolving(_) | State::Bound => None,
        }
    }

    /// The network has changed.
    pub(crate) fn on_network(&mut self, core: &mut Core, now: Instant, faces: &Faces) {
        match &self.state {
            State::Bound => {
                let bound = core.accounts.get(&self.id).and_then(|account| account.registered);
                if let Some(flow) = bound {
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
                    let wait = self.backoff.hurry(now, &mut core.random);
                    core.outbox.timers.set(retry, now + wait);
                }
            }
            State::Resolving(_) | State::Unregistering { .. } => {}
        }
    }

    fn move_binding(&mut self, core: &mut Core, now: Instant, faces: &Faces, flow: Flow) {
        match faces.of(flow) {
            Face::Moved(ip) => {
                core.outbox.timers.stop_registration(self.id);
                self.backoff.reset();
                self.send_register(core, now, flow.leaving(ip), Rest::Unasked, false, None);
            }
            Face::Nowhere => {
                core.outbox.timers.stop_registration(self.id);
                self.fail(core, now, Failure::NoNetwork, None);
            }
            Face::Same if matches!(self.state, State::Idle) => {
                self.send_register(core, now, flow, Rest::Unasked, false, None);
            }
            Face::Same if faces.recheck => {
                let wait = self.backoff.hurry(now, &mut core.random);
                core.outbox.timers.set(Timer::Registration(self.id, RegistrationTimer::Refresh), now + wait);
            }
            Face::Same => {}
        }
    }
}

/// The address that a REGISTER of ours binds.
pub(super) fn contact_of(request: &Request) -> Option<SipUri> {
    match request.headers.contacts().ok()?.into_iter().next()?.uri {
        Uri::Sip(uri) => Some(uri),
        Uri::Other { .. } => None,
    }
}

/// The binding of `old` is removed with the same request, where `new` does not take its place (RFC 3261 section
/// 10.2.2): nobody is called any more where we were.
pub(super) fn replace(headers: &mut Headers, new: &NameAddr, old: &SipUri) {
    if matches!(&new.uri, Uri::Sip(uri) if uri.equivalent(old)) {
        return;
    }
    let mut gone = NameAddr::new(Uri::Sip(old.clone()));
    gone.params.set("expires", Some("0"));
    headers.push(name::CONTACT, gone.to_string());
}

/// The request removes a binding beside the one that it makes.
pub(super) fn replaces(request: &Request) -> bool {
    request.headers.contacts().is_ok_and(|contacts| contacts.len() > 1)
}
