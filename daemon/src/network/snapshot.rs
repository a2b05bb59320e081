//! The network at one moment: interfaces, their addresses, and where everything else goes.

use std::net::IpAddr;

/// What there is of a network, for people and for what depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkState {
    /// There is none.
    #[default]
    Offline,
    /// There are neighbours, and no way beyond them.
    Local,
    /// There is a way to everywhere.
    Online,
}

impl NetworkState {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Local => "local",
            Self::Online => "online",
        }
    }
}

/// The network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By index.
    pub interfaces: Vec<Interface>,
    /// The most wanted first.
    pub default_routes: Vec<DefaultRoute>,
    /// Differs where any other route does.
    pub(crate) routes_digest: u64,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's number.
    pub index: u32,
    /// `eth0`.
    pub name: String,
    /// Switched on, and with a carrier.
    pub running: bool,
    /// This machine alone.
    pub loopback: bool,
    /// A VPN or another line with one far end.
    pub point_to_point: bool,
    /// In the system's order.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix, in bits.
    pub prefix: u8,
    /// Whether it can be used.
    pub state: AddressState,
    /// It means something on its own link alone.
    pub link_local: bool,
    /// It was made up for privacy, and will be replaced (RFC 8981).
    pub temporary: bool,
}

/// Whether an address can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// For everything.
    Preferred,
    /// For what uses it already (RFC 4862 section 5.5.4).
    Deprecated,
    /// Not before it is known that nobody else has it (RFC 4862 section 5.4).
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

/// A way to everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// For IPv4, or else IPv6.
    pub ipv4: bool,
    /// `None` on a line with one far end.
    pub gateway: Option<IpAddr>,
    /// Number of the interface.
    pub interface: u32,
    /// The smaller, the more wanted.
    pub metric: u32,
}

impl Snapshot {
    /// What there is of a network.
    pub fn state(&self) -> NetworkState {
        let usable =
            |interface: &&Interface| interface.running && !interface.loopback && interface.can_be_used();
        let leads_out = |interface: &Interface| {
            self.default_routes.iter().any(|route| route.interface == interface.index)
        };
        let usable: Vec<&Interface> = self.interfaces.iter().filter(usable).collect();
        match usable.iter().any(|interface| leads_out(interface)) {
            true => NetworkState::Online,
            false if usable.is_empty() => NetworkState::Offline,
            false => NetworkState::Local,
        }
    }

    /// The router towards everywhere, where there is one.
    pub fn gateway(&self, ipv4: bool) -> Option<IpAddr> {
        self.default_routes.iter().find(|route| route.ipv4 == ipv4)?.gateway
    }

    /// Addresses that can be used beyond this machine.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let others = self.interfaces.iter().filter(|interface| interface.running && !interface.loopback);
        let addresses = others.flat_map(|interface| &interface.addresses);
        addresses.filter(|address| address.can_be_used() && !address.link_local).map(|a| a.ip).collect()
    }

    /// The interface that has an address; of the loopback interface, every address of its networks.
    pub fn interface_of(&self, ip: IpAddr) -> Option<&Interface> {
        let has = |interface: &&Interface| {
            let fits = |address: &Address| address.ip == ip || (interface.loopback && address.covers(ip));
            interface.addresses.iter().any(fits)
        };
        self.interfaces.iter().find(has)
    }
}

impl Interface {
    fn can_be_used(&self) -> bool {
        self.addresses.iter().any(|address| address.can_be_used() && !address.link_local)
    }
}

impl Address {
    fn can_be_used(&self) -> bool {
        matches!(self.state, AddressState::Preferred | AddressState::Deprecated)
    }

    fn covers(&self, ip: IpAddr) -> bool {
        let network = format!("{}/{}", self.ip, self.prefix).parse::<voipd_agent::Network>();
        network.is_ok_and(|network| network.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, prefix: u8, state: AddressState) -> Address {
        Address { ip: ip.parse().unwrap(), prefix, state, link_local: false, temporary: false }
    }

    fn interface(index: u32, name: &str, addresses: Vec<Address>) -> Interface {
        let (loopback, name) = (name == "lo", name.to_owned());
        Interface { index, name, running: true, loopback, point_to_point: false, addresses }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            interfaces: vec![
                interface(1, "lo", vec![address("127.0.0.1", 8, AddressState::Preferred)]),
                interface(2, "eth0", vec![address("192.0.2.7", 24, AddressState::Preferred)]),
            ],
            default_routes: vec![DefaultRoute {
                ipv4: true,
                gateway: Some("192.0.2.1".parse().unwrap()),
                interface: 2,
                metric: 100,
            }],
            routes_digest: 0,
        }
    }

    #[test]
    fn a_network_is_what_leads_somewhere() {
        let mut network = snapshot();
        assert_eq!(network.state(), NetworkState::Online);
        assert_eq!(network.gateway(true), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(network.gateway(false), None);
        network.default_routes.clear();
        assert_eq!(network.state(), NetworkState::Local);
        network.interfaces[1].addresses[0].state = AddressState::Tentative;
        assert_eq!((network.state(), network.addresses()), (NetworkState::Offline, Vec::new()));
        let mut unplugged = snapshot();
        unplugged.interfaces[1].running = false;
        assert_eq!((unplugged.state(), unplugged.addresses()), (NetworkState::Offline, Vec::new()));
    }

    #[test]
    fn all_of_the_loopback_network_is_on_the_loopback_interface() {
        let network = snapshot();
        let name = |ip: &str| network.interface_of(ip.parse().unwrap()).map(|i| i.name.clone());
        assert_eq!(name("127.77.0.3").as_deref(), Some("lo"));
        assert_eq!(name("192.0.2.7").as_deref(), Some("eth0"));
        assert_eq!(name("192.0.2.8"), None);
    }
}
