//! Connections with servers: they stand until they are cut, and are refused while a server is down.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use voipd_sip::endpoint::{Flow, TlsRequirement, Transport, TransportError};

use super::{HostId, World, udp};

/// The servers that are spoken with by TCP.
#[derive(Default)]
pub struct Streams {
    servers: BTreeMap<SocketAddr, Server>,
}

#[derive(Default)]
struct Server {
    is_down: bool,
    /// How often a connection was refused.
    refused: usize,
}

impl Streams {
    /// What carries messages between two sockets.
    pub fn flow(&self, local: SocketAddr, remote: SocketAddr) -> Flow {
        let transport = if self.servers.contains_key(&remote) { Transport::Tcp } else { Transport::Udp };
        Flow { transport, tls: TlsRequirement::default(), ..udp(local, remote) }
    }
}

impl World {
    /// From now on a server takes connections alone.
    pub fn takes_connections(&mut self, server: HostId) {
        self.streams.servers.insert(self.address(server), Server::default());
    }

    /// A server ends with all its connections, of which one was made by `agent`, and takes none until it is back.
    pub fn goes_down(&mut self, server: HostId, agent: HostId) {
        let remote = self.address(server);
        self.streams.servers.get_mut(&remote).unwrap().is_down = true;
        self.cut(server, agent);
    }

    /// It is back.
    pub fn comes_up(&mut self, server: HostId) {
        let remote = self.address(server);
        self.streams.servers.get_mut(&remote).unwrap().is_down = false;
    }

    /// The connection between an agent and a server is lost.
    pub fn cut(&mut self, server: HostId, agent: HostId) {
        let flow = self.streams.flow(self.address(agent), self.address(server));
        self.act(agent, |agent, now| agent.handle_failed(now, flow, TransportError::Closed));
    }

    /// How often a server that was down has refused a connection.
    pub fn refused(&self, server: HostId) -> usize {
        self.streams.servers[&self.address(server)].refused
    }

    /// Whether there is no connection for what an agent sends, which it hears at once.
    pub(super) fn is_refused(&mut self, host: HostId, flow: Flow) -> bool {
        let Some(server) = self.streams.servers.get_mut(&flow.remote).filter(|server| server.is_down) else {
            return false;
        };
        server.refused += 1;
        let now = self.now;
        self.station(host).agent.handle_failed(now, flow, TransportError::Refused);
        true
    }
}
