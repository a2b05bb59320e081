//! NATs by their mapping and filtering (RFC 4787).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A public address, no filter.
    Open,
    /// One mapping for all, whoever sends.
    FullCone,
    /// One mapping for all; hosts that were sent to may send.
    AddressRestricted,
    /// One mapping for all; addresses that were sent to may send.
    PortRestricted,
    /// A mapping for each destination, which alone may send.
    Symmetric,
    /// Datagrams do not leave.
    UdpBlocked,
}

pub const ALL: [Kind; 6] = [
    Kind::Open,
    Kind::FullCone,
    Kind::AddressRestricted,
    Kind::PortRestricted,
    Kind::Symmetric,
    Kind::UdpBlocked,
];

/// Mappings that are not used for longer are gone.
const LIFETIME: Duration = Duration::from_secs(30);

struct Mapping {
    base: SocketAddr,
    outside: SocketAddr,
    to: Option<SocketAddr>,
    allowed: Vec<SocketAddr>,
    used: Duration,
}

pub struct Nat {
    pub kind: Kind,
    outside: IpAddr,
    inside: IpAddr,
    next_port: u16,
    mappings: Vec<Mapping>,
}

impl Nat {
    pub fn new(kind: Kind, index: usize) -> Self {
        let outside = IpAddr::from(Ipv4Addr::new(203, 0, 113, 10 + index as u8));
        let inside =
            if kind == Kind::Open { outside } else { IpAddr::from(Ipv4Addr::new(10, index as u8, 0, 2)) };
        Nat { kind, outside, inside, next_port: 40000, mappings: Vec::new() }
    }

    pub fn base(&self, component: u16) -> SocketAddr {
        SocketAddr::new(self.inside, 5000 + 2 * (component - 1))
    }

    /// The router gets another address and forgets all.
    pub fn rebind(&mut self, outside: &str) {
        self.outside = outside.parse().expect("address");
        self.mappings.clear();
        if self.kind == Kind::Open {
            self.inside = self.outside;
        }
    }

    /// The source that a datagram has outside.
    pub fn outward(&mut self, at: Duration, base: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        match self.kind {
            Kind::UdpBlocked => return None,
            Kind::Open => return (base.ip() == self.outside).then_some(base),
            _ => {}
        }
        // Private addresses lead nowhere from here.
        if base.ip() != self.inside || matches!(to.ip(), IpAddr::V4(ip) if ip.is_private()) {
            return None;
        }
        self.mappings.retain(|mapping| mapping.used + LIFETIME > at);
        let key = (self.kind == Kind::Symmetric).then_some(to);
        let place = self.mappings.iter().position(|mapping| mapping.base == base && mapping.to == key);
        let place = place.unwrap_or_else(|| {
            self.next_port += 1;
            let outside = SocketAddr::new(self.outside, self.next_port);
            self.mappings.push(Mapping { base, outside, to: key, allowed: Vec::new(), used: at });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[place];
        mapping.used = at;
        if !mapping.allowed.contains(&to) {
            mapping.allowed.push(to);
        }
        Some(mapping.outside)
    }

    /// The base that a datagram from outside gets to.
    pub fn inward(&mut self, at: Duration, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if to.ip() != self.outside {
            return None;
        }
        if self.kind == Kind::Open {
            return Some(to);
        }
        self.mappings.retain(|mapping| mapping.used + LIFETIME > at);
        let mapping = self.mappings.iter().find(|mapping| mapping.outside == to)?;
        let allowed = match self.kind {
            Kind::FullCone => true,
            Kind::AddressRestricted => mapping.allowed.iter().any(|allowed| allowed.ip() == from.ip()),
            _ => mapping.allowed.contains(&from),
        };
        allowed.then_some(mapping.base)
    }
}
