//! Which of this machine's addresses faces whom, as the system's routes have it; and what that means for a flow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::endpoint::Flow;

/// From which address of ours to whom.
pub type Way = (IpAddr, IpAddr);

/// What has become of the ways to peers and servers, after a change of the network. Whoever owns the endpoint asks the
/// system for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faces {
    /// Of each way that was asked for; those that are missing are as they were.
    pub ways: BTreeMap<Way, Face>,
    /// Addresses on these ways that this machine has no more.
    pub gone: BTreeSet<IpAddr>,
    /// More than addresses and routes may have changed, as after a sleep: whatever was agreed before is to be looked
    /// after.
    pub recheck: bool,
}

/// What has become of a way.
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
    /// What has become of the way from `local` to `remote`.
    pub fn face(&self, local: IpAddr, remote: IpAddr) -> Face {
        self.ways.get(&(local, remote)).copied().unwrap_or(Face::Same)
    }

    /// This machine has the address no more.
    pub fn is_gone(&self, local: IpAddr) -> bool {
        self.gone.contains(&local)
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
