//! Connections of the virtual network: they lose nothing while they last, and can be refused, cut, or fail to prove who
//! is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use voipd_sip::endpoint::{Flow, TlsRequirement, Transport, TransportError};
use voipd_sip::message::{Message, Response};
use voipd_sip::wire;
use voipd_sip::wire::stream::{Frame, StreamReader};

use super::{HostId, Net, Packet, Role};

/// How long a host that does not exist is waited for.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What TLS flows of this network require: a number like any other.
pub const REQUIRED: TlsRequirement = TlsRequirement(7);

#[derive(Default)]
pub struct Connections {
    list: Vec<Connection>,
    /// What comes of a connection there.
    faults: BTreeMap<(Transport, SocketAddr), TransportError>,
    /// What agents have dropped.
    dropped: Vec<Flow>,
    /// Pings are not answered.
    pub mute: bool,
}

struct Connection {
    open: bool,
    ends: [End; 2],
}

struct End {
    host: HostId,
    /// As this end names the connection.
    flow: Flow,
    reader: StreamReader,
}

/// Where an agent listens for TLS.
pub fn tls_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 5061)
}

/// The flow from an agent at `local`.
pub fn flow(transport: Transport, local: SocketAddr, remote: SocketAddr) -> Flow {
    match transport {
        Transport::Tls => Flow { transport, local: tls_address(local), remote, tls: REQUIRED },
        _ => Flow { transport, local, remote, tls: TlsRequirement::default() },
    }
}

impl Net {
    /// Whoever connects there from now on fails in this way; `None`: succeeds again.
    pub fn fault(&mut self, transport: Transport, address: &str, fault: Option<TransportError>) {
        let key = (transport, address.parse().unwrap());
        match fault {
            Some(fault) => self.connections.faults.insert(key, fault),
            None => self.connections.faults.remove(&key),
        };
    }

    /// How many connections were ever made between two hosts.
    pub fn connected(&self, one: HostId, other: HostId) -> usize {
        self.connections.list.iter().filter(|connection| connection.joins(one, other)).count()
    }

    /// Cuts every connection between two hosts; both ends learn of it.
    pub fn cut(&mut self, one: HostId, other: HostId) {
        let latency = self.link.latency;
        for index in 0..self.connections.list.len() {
            let connection = &mut self.connections.list[index];
            if connection.open && connection.joins(one, other) {
                connection.open = false;
                self.post(latency, Packet::Lost { connection: index, end: 0 });
                self.post(latency, Packet::Lost { connection: index, end: 1 });
            }
        }
    }

    /// The connections that agents have dropped so far.
    pub fn dropped(&self) -> &[Flow] {
        &self.connections.dropped
    }

    /// An agent drops a connection: nobody hears of it.
    pub(super) fn drop_connection(&mut self, host: HostId, flow: Flow) {
        self.connections.dropped.push(flow);
        for connection in &mut self.connections.list {
            let is_this = |end: &End| end.host == host && end.flow == flow;
            connection.open &= !connection.ends.iter().any(is_this);
        }
    }

    /// A raw host answers by the newest connection with another.
    pub fn reply(&mut self, from: HostId, to: HostId, response: &Response) {
        self.say_on(from, to, &wire::write(&Message::Response(response.clone())));
    }

    /// A raw host writes on the newest connection with another.
    pub fn say_on(&mut self, from: HostId, to: HostId, bytes: &[u8]) {
        let list = &self.connections.list;
        let newest = list.iter().rposition(|connection| connection.open && connection.joins(from, to));
        let connection = newest.expect("a connection");
        let end = list[connection].ends.iter().position(|end| end.host == from).unwrap();
        self.put(connection, end, bytes.to_vec());
    }

    /// A raw host opens a connection to another, and writes on it.
    pub fn dial(&mut self, transport: Transport, from: HostId, to: HostId, bytes: &[u8]) {
        let (local, mut remote) = (self.address(from), self.address(to));
        if transport == Transport::Tls {
            remote = tls_address(remote);
        }
        let connection = self.connect(from, flow(transport, local, remote), to);
        self.put(connection, 0, bytes.to_vec());
    }

    /// An agent writes a message.
    pub(super) fn write(&mut self, host: HostId, flow: Flow, bytes: Vec<u8>) {
        self.capture.push((self.elapsed(), flow.local, flow.remote, bytes.clone()));
        let is_this = |end: &End| {
            end.host == host
                && (end.flow.transport, end.flow.remote, end.flow.tls)
                    == (flow.transport, flow.remote, flow.tls)
        };
        let list = &self.connections.list;
        let open = list.iter().enumerate().filter(|(_, connection)| connection.open);
        let known = open
            .filter_map(|(index, connection)| Some((index, connection.ends.iter().position(is_this)?)))
            .next_back();
        if let Some((connection, end)) = known {
            return self.put(connection, end, bytes);
        }
        let there = self.host_at(flow.remote).or_else(|| {
            let agents =
                self.hosts.iter().enumerate().filter(|(_, node)| matches!(node.role, Role::Agent { .. }));
            let mut listening = agents.filter(|(_, node)| {
                flow.transport == Transport::Tls && tls_address(node.address) == flow.remote
            });
            listening.next().map(|(index, _)| HostId(index))
        });
        let latency = self.link.latency;
        let machine = self.hosts.iter().any(|node| node.address.ip() == flow.remote.ip());
        let fault = match self.connections.faults.get(&(flow.transport, flow.remote)) {
            Some(TransportError::TimedOut) => Some((CONNECT_TIMEOUT, TransportError::TimedOut)),
            Some(fault) => Some((2 * latency, *fault)),
            None if there.is_none() && !machine => Some((CONNECT_TIMEOUT, TransportError::TimedOut)),
            None if there.is_none_or(|there| matches!(self.hosts[there.0].role, Role::Closed)) => {
                Some((2 * latency, TransportError::Refused))
            }
            None => None,
        };
        match (fault, there) {
            (Some((after, error)), _) => self.post(after, Packet::Unmade { host, flow, error }),
            (None, Some(there)) => {
                let connection = self.connect(host, flow, there);
                self.put(connection, 0, bytes);
            }
            (None, None) => unreachable!("nobody there is a fault"),
        }
    }

    fn connect(&mut self, host: HostId, flow: Flow, there: HostId) -> usize {
        let port = 40_000 + self.connections.list.len() as u16;
        let source = SocketAddr::new(self.public_ip(flow.local.ip()), port);
        let back = Flow { local: flow.remote, remote: source, tls: TlsRequirement::default(), ..flow };
        let end = |host, flow: Flow| End { host, flow, reader: StreamReader::new(flow.remote) };
        self.connections.list.push(Connection { open: true, ends: [end(host, flow), end(there, back)] });
        self.connections.list.len() - 1
    }

    /// Bytes go off from one end, in pieces.
    fn put(&mut self, connection: usize, end: usize, bytes: Vec<u8>) {
        let latency = self.link.latency;
        for piece in bytes.chunks(500) {
            self.post(latency, Packet::Segment { connection, end: 1 - end, bytes: piece.to_vec() });
        }
    }

    pub(super) fn arrive(&mut self, connection: usize, end: usize, bytes: &[u8]) {
        if !self.connections.list[connection].open {
            return;
        }
        self.connections.list[connection].ends[end].reader.push(bytes);
        let mut answers = 0;
        loop {
            let there = &mut self.connections.list[connection].ends[end];
            let (host, flow) = (there.host, there.flow);
            match there.reader.next() {
                Ok(None) => {
                    there.reader.pause();
                    if let Role::Agent { endpoint, .. } = &mut self.hosts[host.0].role
                        && answers > 0
                    {
                        endpoint.handle_pong(flow);
                    }
                    return;
                }
                Ok(Some(Frame::Message(message))) => {
                    for response in self.hand_over(host, flow, &message) {
                        self.put(connection, end, response);
                    }
                }
                Ok(Some(Frame::Ping)) => {
                    // Its first half was no answer.
                    answers -= 1;
                    if !self.connections.mute {
                        self.put(connection, end, b"\r\n".to_vec());
                    }
                }
                Ok(Some(Frame::Pong)) => answers += 1,
                Err(error) => {
                    self.put(connection, end, error.reply.unwrap_or_default());
                    return;
                }
            }
        }
    }

    pub(super) fn notice(&mut self, connection: usize, end: usize) {
        let End { host, flow, .. } = self.connections.list[connection].ends[end];
        self.fail(host, flow, TransportError::Closed);
    }
}

impl Connection {
    fn joins(&self, one: HostId, other: HostId) -> bool {
        let hosts = [self.ends[0].host, self.ends[1].host];
        hosts == [one, other] || hosts == [other, one]
    }
}
