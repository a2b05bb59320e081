//! What lies between media sockets: NATs, a STUN server and relays, shared with the tests of ICE itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[path = "../../../nat/tests/world/nat.rs"]
pub mod nat;
#[path = "../../../nat/tests/world/servers.rs"]
pub mod servers;

use nat::{Kind, Nat};
use servers::Servers;

pub const STUN: &str = "198.51.100.1:3478";
pub const TURN: &str = "198.51.100.9:3478";
pub const SECOND_TURN: &str = "198.51.100.10:3478";

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

/// Everything between media sockets.
pub struct Internet {
    pub nats: Vec<Nat>,
    pub servers: Servers,
    /// From and to where nothing arrives.
    pub dark: Vec<SocketAddr>,
    /// Round trips to relays; those that are not here do not answer.
    pub round_trips: BTreeMap<SocketAddr, Duration>,
    /// STUN that hosts sent, by its destination.
    pub asked: Vec<SocketAddr>,
    /// Everything that has left a media socket: from where and where to.
    pub sent: Vec<(SocketAddr, SocketAddr)>,
    /// RTCP that has arrived: the socket, and where from.
    pub rtcp: Vec<(SocketAddr, SocketAddr)>,
    /// RTP that has arrived: the socket, where from, and what.
    pub rtp: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// How much RTP has arrived at each socket.
    played: BTreeMap<SocketAddr, u64>,
}

impl Default for Internet {
    fn default() -> Self {
        let near = Duration::from_millis(40);
        Self {
            nats: Vec::new(),
            servers: Servers::new(),
            dark: Vec::new(),
            round_trips: BTreeMap::from([(address(TURN), near), (address(SECOND_TURN), 2 * near)]),
            asked: Vec::new(),
            sent: Vec::new(),
            rtcp: Vec::new(),
            rtp: Vec::new(),
            played: BTreeMap::new(),
        }
    }
}

impl Internet {
    /// Another NAT; answers the address behind it.
    pub fn nat(&mut self, kind: Kind) -> IpAddr {
        let nat = Nat::new(kind, self.nats.len());
        let inside = nat.base(1).ip();
        self.nats.push(nat);
        inside
    }

    /// The source that a packet has when it has left its host's network, if it does.
    pub fn outward(&mut self, at: Duration, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let behind = self.nats.iter_mut().find(|nat| nat.base(1).ip() == from.ip());
        behind.map_or(Some(from), |nat| nat.outward(at, from, to))
    }

    /// The socket that a packet arrives at.
    pub fn inward(&mut self, at: Duration, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.nats.iter_mut().find_map(|nat| nat.inward(at, from, to)).unwrap_or(to)
    }

    /// RTP arrives at a socket.
    pub fn play(&mut self, at: SocketAddr, from: SocketAddr, bytes: Vec<u8>) {
        *self.played.entry(at).or_default() += 1;
        self.rtp.push((at, from, bytes));
    }

    /// How much RTP has arrived at a socket so far.
    pub fn played_at(&self, socket: SocketAddr) -> u64 {
        self.played.get(&socket).copied().unwrap_or_default()
    }

    /// Where packets of this socket went.
    pub fn sent_from(&self, socket: SocketAddr) -> Vec<SocketAddr> {
        self.sent.iter().filter(|(from, _)| *from == socket).map(|(_, to)| *to).collect()
    }

    pub fn is_dark(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.dark.contains(&from) || self.dark.contains(&to)
    }
}
