//! Ports of ours that the local network's router has mapped: where peers outside that network find us without a server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::endpoint::{Flow, Transport};

/// Public addresses by what is sent on and where we listen.
#[derive(Default)]
pub(crate) struct Mapped {
    known: BTreeMap<(Transport, u16), SocketAddr>,
}

impl Mapped {
    pub(crate) fn set(&mut self, transport: Transport, port: u16, external: Option<SocketAddr>) {
        match external {
            Some(external) => self.known.insert((transport, port), external),
            None => self.known.remove(&(transport, port)),
        };
    }

    /// The public address that the far end of `flow` reaches us at; `None` within the local network, which reaches our own.
    pub(crate) fn of(&self, flow: Flow) -> Option<SocketAddr> {
        let IpAddr::V4(remote) = flow.remote.ip().to_canonical() else { return None };
        let is_near = remote.is_private() || remote.is_loopback() || remote.is_link_local();
        self.known.get(&(flow.transport, flow.local.port())).filter(|_| !is_near).copied()
    }
}
