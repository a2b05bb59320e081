//! Which of this machine's addresses faces whom, as the system's routes have it; and what that means for a flow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::endpoint::Flow;

/// The way to peers and servers, after a change of the network. Whoever owns the endpoint asks the system for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faces {
    /// This machine's own addresses that can be used now.
    pub own: BTreeSet<IpAddr>,
    /// The address that this machine would send from, to each that was asked for; `None` where no route leads there.
    pub towards: BTreeMap<IpAddr, Option<IpAddr>>,
    /// More than the routes may have changed, as after a sleep: whatever was agreed before is to be looked after.
    pub recheck: bool,
}

/// What has become of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// It is as it was.
    Same,
    /// The far end is reached from this address now.
    Moved(IpAddr),
    /// No route leads there.
    Nowhere,
}

impl Faces {
    /// What has become of the way from `local` to `remote`. Far ends that were not asked for are as they were.
    pub fn face(&self, local: IpAddr, remote: IpAddr) -> Face {
        match self.towards.get(&remote) {
            None => Face::Same,
            Some(Some(now)) if *now == local => Face::Same,
            Some(Some(now)) => Face::Moved(*now),
            Some(None) => Face::Nowhere,
        }
    }

    /// This machine has the address no more.
    pub fn is_gone(&self, local: IpAddr) -> bool {
        !self.own.contains(&local)
    }

    pub(crate) fn of(&self, flow: Flow) -> Face {
        self.face(flow.local.ip(), flow.remote.ip())
    }

    /// The flow as it goes on from another address.
    pub(crate) fn moved(&self, flow: Flow) -> Option<Flow> {
        match self.of(flow) {
            Face::Moved(ip) => Some(flow.leaving(ip)),
            Face::Same | Face::Nowhere => None,
        }
    }

    /// Nothing comes on this flow any more, and nothing goes.
    pub(crate) fn is_dead(&self, flow: Flow) -> bool {
        self.is_gone(flow.local.ip())
    }
}

impl Flow {
    /// The same, from another address of ours.
    pub(crate) fn leaving(self, ip: IpAddr) -> Self {
        let mut flow = self;
        flow.local.set_ip(ip);
        flow
    }
}
