//! Where members are: the bindings of RFC 3261 section 10, each tied to the flow that it was made on (RFC 5626), since a
//! member behind a NAT is reached there and nowhere else.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::digest::Algorithm;
use crate::endpoint::Flow;
use crate::uri::{NameAddr, SipUri, Uri};

/// Most bindings of a member.
pub(super) const MAX_BINDINGS: usize = 10;

/// Numbers are never reused. A binding that is refreshed, or made anew by the same device before its time is over, keeps
/// its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BindingId(u64);

/// Which device of a member has made a binding, and for which of its flows: the same after our restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device(pub(super) u64);

#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) id: BindingId,
    /// As it was registered, without its `expires`.
    pub(super) contact: NameAddr,
    pub(super) uri: SipUri,
    /// What it was registered on; `None` when that connection is lost, and the device expected back.
    flow: Option<Flow>,
    /// Path values of its REGISTER, topmost first (RFC 3327).
    pub(super) path: Vec<String>,
    /// `+sip.instance`.
    pub(super) instance: Option<String>,
    /// `reg-id`: which of several flows of the instance this is (RFC 5626 section 4.2).
    pub(super) reg_id: Option<u32>,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    pub(super) expires: Instant,
}

/// A binding as REGISTER asks for it.
pub(super) struct Wanted {
    pub(super) contact: NameAddr,
    pub(super) uri: SipUri,
    pub(super) instance: Option<String>,
    pub(super) reg_id: Option<u32>,
    /// Seconds; 0 removes the binding.
    pub(super) expires: u32,
}

/// What all bindings of one REGISTER have in common.
pub(super) struct Occasion<'a> {
    pub(super) flow: Flow,
    pub(super) path: &'a [String],
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
}

/// An older REGISTER came behind a newer one (RFC 3261 section 10.3 step 7).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfOrder;

impl Binding {
    /// What [`Binding::is_same`] goes by.
    pub(super) fn device(&self) -> Device {
        let text = match &self.instance {
            Some(instance) => format!("{instance} {:?}", self.reg_id),
            None => self.uri.to_string(),
        };
        let hash = Algorithm::Sha256.hash(text);
        Device(hash.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0))
    }

    fn is_same(&self, wanted: &Wanted) -> bool {
        match (&self.instance, &wanted.instance) {
            // RFC 5626 section 6: device and flow; where no flow is named, the address will do. Without reg-id, one
            // device has one binding: what it had before a restart leads nowhere.
            (Some(ours), Some(theirs)) => {
                let is_named_by_address = wanted.reg_id.is_none() && self.uri.equivalent(&wanted.uri);
                ours == theirs && (self.reg_id == wanted.reg_id || is_named_by_address)
            }
            _ => self.uri.equivalent(&wanted.uri),
        }
    }
}

#[derive(Default)]
pub(super) struct Bindings {
    map: BTreeMap<String, Vec<Binding>>,
    last_id: u64,
}

impl Bindings {
    /// Makes, refreshes or removes bindings: all of them or, where one must not, none.
    ///
    /// # Errors
    /// One was made or refreshed by a later REGISTER.
    pub(super) fn update(
        &mut self,
        now: Instant,
        member: &str,
        occasion: &Occasion<'_>,
        wanted: Vec<Wanted>,
    ) -> Result<(), OutOfOrder> {
        let bindings = self.map.entry(member.to_owned()).or_default();
        bindings.retain(|binding| binding.expires > now);
        let is_late =
            |binding: &Binding| binding.call_id == occasion.call_id && binding.cseq >= occasion.cseq;
        if wanted.iter().any(|wanted| bindings.iter().any(|b| b.is_same(wanted) && is_late(b))) {
            return Err(OutOfOrder);
        }
        for wanted in wanted {
            let before = bindings.iter().position(|binding| binding.is_same(&wanted));
            let before = before.map(|position| bindings.remove(position).id);
            if wanted.expires == 0 {
                continue;
            }
            if bindings.len() >= MAX_BINDINGS {
                // The one that has gone longest without a refresh: most likely nobody is there any more.
                bindings.remove(0);
            }
            let id = before.unwrap_or_else(|| {
                self.last_id += 1;
                BindingId(self.last_id)
            });
            bindings.push(Binding {
                id,
                contact: wanted.contact,
                uri: wanted.uri,
                flow: Some(occasion.flow),
                path: occasion.path.to_vec(),
                instance: wanted.instance,
                reg_id: wanted.reg_id,
                call_id: occasion.call_id.to_owned(),
                cseq: occasion.cseq,
                expires: now + std::time::Duration::from_secs(wanted.expires.into()),
            });
        }
        Ok(())
    }

    /// Contact: * (RFC 3261 section 10.3 step 6).
    ///
    /// # Errors
    /// One was made or refreshed by a later REGISTER.
    pub(super) fn clear(&mut self, member: &str, occasion: &Occasion<'_>) -> Result<(), OutOfOrder> {
        let Some(bindings) = self.map.get_mut(member) else { return Ok(()) };
        let is_late =
            |binding: &Binding| binding.call_id == occasion.call_id && binding.cseq >= occasion.cseq;
        if bindings.iter().any(is_late) {
            return Err(OutOfOrder);
        }
        bindings.clear();
        Ok(())
    }

    /// A member's bindings that lead somewhere, the newest last, with their flows.
    pub(super) fn of(&self, now: Instant, member: &str) -> impl Iterator<Item = (&Binding, Flow)> {
        let bindings = self.map.get(member).map(Vec::as_slice).unwrap_or_default();
        let live = bindings.iter().filter(move |binding| binding.expires > now);
        live.filter_map(|binding| Some((binding, binding.flow?)))
    }

    /// Where a binding is reached now.
    pub(super) fn flow(&self, now: Instant, member: &str, id: BindingId) -> Option<Flow> {
        self.of(now, member).find(|(binding, _)| binding.id == id).map(|(_, flow)| flow)
    }

    /// Where a device is reached now.
    pub(super) fn flow_of(&self, now: Instant, member: &str, device: Device) -> Option<Flow> {
        self.of(now, member).find(|(binding, _)| binding.device() == device).map(|(_, flow)| flow)
    }

    /// The member's device on that flow.
    pub(super) fn device_on(&self, now: Instant, member: &str, flow: Flow) -> Option<Device> {
        self.of(now, member).find(|(_, bound)| *bound == flow).map(|(binding, _)| binding.device())
    }

    /// The member's binding on that flow.
    pub(super) fn on_flow(&self, now: Instant, member: &str, flow: Flow) -> Option<BindingId> {
        self.of(now, member).find(|(_, bound)| *bound == flow).map(|(binding, _)| binding.id)
    }

    /// Some binding relies on the flow.
    pub(super) fn uses(&self, flow: Flow) -> bool {
        self.map.values().flatten().any(|binding| binding.flow == Some(flow))
    }

    /// What was made on a connection that is lost leads nowhere (RFC 5626 section 4.2.2); whose that was.
    pub(super) fn cut_off(&mut self, flow: Flow) -> Vec<String> {
        let mut changed = Vec::new();
        for (member, bindings) in &mut self.map {
            for binding in bindings {
                if binding.flow.take_if(|ours| ours.far_end() == flow.far_end()).is_some() {
                    changed.push(member.clone());
                }
            }
        }
        changed
    }

    /// Removes what has expired; whose that was.
    pub(super) fn forget_expired(&mut self, now: Instant) -> Vec<String> {
        let mut changed = Vec::new();
        for (member, bindings) in &mut self.map {
            let before = bindings.len();
            bindings.retain(|binding| binding.expires > now);
            if bindings.len() != before {
                changed.push(member.clone());
            }
        }
        self.map.retain(|_, bindings| !bindings.is_empty());
        changed
    }

    pub(super) fn remove(&mut self, member: &str) -> bool {
        self.map.remove(member).is_some()
    }
}

/// A contact that requests can be sent to.
pub(super) fn sip_contact(contact: &NameAddr) -> Option<SipUri> {
    match &contact.uri {
        Uri::Sip(uri) if uri.headers.is_none() => Some(uri.clone()),
        _ => None,
    }
}
