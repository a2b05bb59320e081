//! One device: what is chosen, how far it is open, and what follows when it cannot be had. It opens and closes nothing
//! itself.

use std::time::{Duration, Instant};

use super::role::role_name;
use super::stand_in::{LOOK, StandIn};
use crate::api::DeviceRole;
use crate::sound::{DeviceName, HostKind};

/// How long a device that failed is left alone, from its answer on: a try may take longer than this.
pub(super) const RETRY: Duration = Duration::from_secs(2);

pub(super) enum State {
    Closed,
    Opening,
    Open {
        name: DeviceName,
        since: Instant,
        /// When to ask whether it is still there.
        look_at: Instant,
    },
    /// `again`: when to ask for it again; `None`: it has been asked for, and has not answered yet, or it is a file that
    /// was being written.
    Failed {
        reason: String,
        again: Option<Instant>,
    },
}

impl State {
    pub(super) fn failed(reason: String) -> Self {
        State::Failed { reason, again: Some(Instant::now() + RETRY) }
    }

    /// Whether to ask for the device again now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self, State::Failed { again: Some(again), .. } if *again <= now)
    }
}

pub(super) struct Device {
    /// As it was chosen.
    pub(super) name: String,
    pub(super) state: State,
    pub(super) wanted: bool,
    pub(super) stand_in: Option<StandIn>,
}

impl Device {
    pub(super) fn new(name: String) -> Self {
        Self { name, state: State::Closed, wanted: false, stand_in: None }
    }

    /// Chosen is what the sound system chooses.
    pub(super) fn is_default(&self) -> bool {
        matches!(self.name.parse(), Ok(DeviceName::Default))
    }

    /// Whether to ask now if the device that is open is still there: a sound server leads the sound of one that is gone
    /// to another, and says nothing.
    pub(super) fn is_look_due(&mut self, now: Instant) -> bool {
        let is_chosen = self.stand_in.is_none() && !self.is_default();
        match &mut self.state {
            State::Open { name: DeviceName::Host(kind, _), look_at, .. }
                if is_chosen && *kind != HostKind::Alsa && *look_at <= now =>
            {
                *look_at = now + LOOK;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_real(&self) -> bool {
        matches!(&self.state, State::Open { name: DeviceName::Host(..), .. })
    }

    /// What is to be opened for it now; a device that failed keeps showing its failure until the answer is there.
    pub(super) fn request(&mut self, role: DeviceRole) -> Option<DeviceName> {
        if let State::Failed { again, .. } = &mut self.state {
            *again = None;
        }
        let name = match &self.stand_in {
            Some(stand_in) if !stand_in.returning => return Some(DeviceName::Default),
            _ => self.name.parse::<DeviceName>(),
        };
        match name {
            Ok(name) => Some(name),
            Err(error) => {
                let reason = error.to_string();
                if !matches!(self.state, State::Failed { .. }) {
                    log::warn!("{}: {reason}", role_name(role));
                }
                self.state = State::failed(reason);
                None
            }
        }
    }

    /// `name` is open in its place, or is what was chosen.
    pub(super) fn opened(&mut self, name: DeviceName, description: String) {
        let now = Instant::now();
        let returning = self.stand_in.take_if(|stand_in| stand_in.returning).is_some();
        if self.is_default() {
            let silent = name == DeviceName::Null;
            self.stand_in = silent.then(|| StandIn::silence(description, returning, now));
        }
        self.state = State::Open { name, since: now, look_at: now + LOOK };
    }

    /// It did not open, or was lost: whether to open it, or what stands in for it where `fallback` allows that, at once.
    pub(super) fn failed(&mut self, role: DeviceRole, reason: String, fallback: bool) -> bool {
        let now = Instant::now();
        if !matches!(&self.state, State::Failed { reason: before, .. } if *before == reason) {
            log::warn!("{}: {reason}", role_name(role));
        }
        // Opened again, it would begin anew: what there is of it is worth more than what would follow.
        let recorded = matches!(&self.state, State::Open { name: DeviceName::File(_), .. });
        let served = matches!(self.state, State::Open { since, .. } if since.elapsed() >= RETRY);
        if self.is_default() {
            // It leads to something that cannot be had: silence does not stand in for that.
            self.stand_in = None;
        }
        let again = match &mut self.stand_in {
            Some(stand_in) if stand_in.returning => {
                stand_in.refused(reason.clone(), now);
                true
            }
            None if fallback && StandIn::is_possible(&self.name) => {
                self.stand_in = Some(StandIn::new(reason.clone(), now));
                true
            }
            // What is default may be another device already.
            _ => served && !recorded,
        };
        if recorded && !again {
            self.state = State::Failed { reason, again: None };
        } else if !again {
            self.state = State::failed(reason);
        }
        again
    }

    /// `name` is there: whether to open it now, in place of what stands in for it.
    pub(super) fn is_to_return(&mut self, name: &str) -> bool {
        let is_wanted = self.wanted && self.name == name;
        let stand_in = self.stand_in.as_mut().filter(|stand_in| is_wanted && !stand_in.returning);
        stand_in.map(|stand_in| stand_in.returning = true).is_some()
    }

    /// Why nothing sounds where something should.
    pub(super) fn failure(&self) -> Option<String> {
        match (&self.state, &self.stand_in) {
            (State::Failed { reason, .. }, None) => Some(reason.clone()),
            // A machine without sound is as it should be.
            (State::Open { name: DeviceName::Null, .. }, Some(_)) if self.is_default() => None,
            (State::Failed { .. } | State::Open { name: DeviceName::Null, .. }, Some(stand_in)) => {
                Some(stand_in.reason.clone())
            }
            _ => None,
        }
    }

    /// What is used in its place, and why.
    pub(super) fn stood_in_for(&self, role: DeviceRole) -> Option<String> {
        match (&self.state, &self.stand_in) {
            (State::Open { name, .. }, Some(stand_in)) => Some(format!(
                "{}: {}: {}; {name} is used until it is back",
                role_name(role),
                self.name,
                stand_in.reason
            )),
            _ => None,
        }
    }
}
