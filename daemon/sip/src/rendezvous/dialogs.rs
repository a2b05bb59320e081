//! Dialogs that run by way of this meeting point: the Record-Route that it has put into their INVITE names one, and only
//! what belongs to it is routed by that name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::bindings::{Bindings, Device};
use crate::endpoint::Flow;
use crate::message::Request;
use crate::timer::TRANSACTION_TIMEOUT;

/// How long nothing may be heard of a dialog. Its session timers, where it has any, are far shorter.
const IDLE: Duration = Duration::from_secs(12 * 3600);
/// Most dialogs of a caller; of more, the one that was silent for longest is forgotten.
const MAX_DIALOGS: usize = 64;

/// One end of a dialog.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub(super) member: String,
    /// It is followed when it moves.
    pub(super) device: Option<Device>,
    /// Where it was when the dialog began; `None` when that connection is lost.
    pub(super) flow: Option<Flow>,
}

impl Party {
    /// Where it is reached now: where its binding is, or else where it was.
    pub(super) fn flow(&self, now: Instant, bindings: &Bindings) -> Option<Flow> {
        self.device.and_then(|device| bindings.flow_of(now, &self.member, device)).or(self.flow)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    pub(super) caller_tag: String,
    pub(super) caller: Party,
    pub(super) callee: Party,
    forget_at: Instant,
}

impl Dialog {
    /// Whom a request in this dialog is for; `None` when it is not of this dialog.
    pub(super) fn towards(&self, request: &Request) -> Option<&Party> {
        if request.call_id != self.call_id {
            return None;
        }
        let ours = Some(self.caller_tag.as_str());
        match (request.from.tag() == ours, request.to.tag() == ours) {
            (true, _) => Some(&self.callee),
            (false, true) => Some(&self.caller),
            (false, false) => None,
        }
    }
}

#[derive(Default)]
pub(super) struct Dialogs {
    /// By the user part of the Record-Route URI.
    map: BTreeMap<String, Dialog>,
}

impl Dialogs {
    pub(super) fn begin(
        &mut self,
        now: Instant,
        token: String,
        (call_id, caller_tag): (&str, &str),
        [caller, callee]: [Party; 2],
    ) {
        let of_caller = self.map.iter().filter(|(_, dialog)| dialog.caller.member == caller.member);
        let ages: Vec<_> = of_caller.map(|(token, dialog)| (dialog.forget_at, token)).collect();
        if ages.len() >= MAX_DIALOGS
            && let Some((_, oldest)) = ages.iter().min()
        {
            let oldest = (*oldest).clone();
            self.map.remove(&oldest);
        }
        let dialog = Dialog {
            call_id: call_id.to_owned(),
            caller_tag: caller_tag.to_owned(),
            caller,
            callee,
            forget_at: now + IDLE,
        };
        self.map.insert(token, dialog);
    }

    pub(super) fn has(&self, token: &str) -> bool {
        self.map.contains_key(token)
    }

    /// The dialog of that name, in which something was heard now.
    pub(super) fn touch(&mut self, now: Instant, token: &str) -> Option<&Dialog> {
        let dialog = self.map.get_mut(token)?;
        // One that is ending goes on ending.
        if dialog.forget_at > now + TRANSACTION_TIMEOUT {
            dialog.forget_at = now + IDLE;
        }
        Some(dialog)
    }

    /// A BYE was answered: what is still on its way may need the dialog for a moment.
    pub(super) fn end(&mut self, now: Instant, token: &str) {
        if let Some(dialog) = self.map.get_mut(token) {
            dialog.forget_at = now + TRANSACTION_TIMEOUT;
        }
    }

    pub(super) fn forget(&mut self, token: &str) {
        self.map.remove(token);
    }

    pub(super) fn forget_expired(&mut self, now: Instant) {
        self.map.retain(|_, dialog| dialog.forget_at > now);
    }

    /// Ends what a removed member has a part in.
    pub(super) fn forget_member(&mut self, member: &str) {
        self.map.retain(|_, dialog| dialog.caller.member != member && dialog.callee.member != member);
    }

    /// Some dialog relies on the flow.
    pub(super) fn uses(&self, flow: Flow) -> bool {
        self.map.values().any(|dialog| [dialog.caller.flow, dialog.callee.flow].contains(&Some(flow)))
    }

    /// A connection is lost.
    pub(super) fn cut_off(&mut self, flow: Flow) {
        for dialog in self.map.values_mut() {
            for party in [&mut dialog.caller, &mut dialog.callee] {
                party.flow.take_if(|ours| ours.far_end() == flow.far_end());
            }
        }
    }
}
