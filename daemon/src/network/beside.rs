//! Which addresses media may use beside the one that the route gives: those that a peer of the other family, or on another
//! network of this machine, reaches (RFC 8445 section 5.1.1.1).

use std::net::IpAddr;

use super::snapshot::{Address, AddressState, Interface, Snapshot};

/// Most of them: each is one more pair of sockets, and one more to check.
const MOST: usize = 3;

impl Snapshot {
    /// The addresses beside `first`, the best first: families take turns, so that none of them keeps the other waiting
    /// (RFC 8421 section 4). None beside an address that means this machine or one link alone.
    pub fn beside(&self, first: IpAddr) -> Vec<IpAddr> {
        if first.is_loopback() || is_link_local(first) {
            return Vec::new();
        }
        let usable = |interface: &&Interface| interface.running && !interface.loopback;
        let of = |ipv4: bool| {
            let interfaces = self.interfaces.iter().filter(usable);
            let mut found: Vec<(bool, IpAddr)> = interfaces
                .filter_map(|interface| Some((interface, best(interface, ipv4, first)?)))
                .map(|(interface, ip)| (!self.leads_out(interface, ipv4), ip))
                .collect();
            // The system's order among equals.
            found.sort_by_key(|(dead_end, _)| *dead_end);
            found.into_iter().map(|(_, ip)| ip)
        };
        let (mut same, mut other) = (of(first.is_ipv4()), of(!first.is_ipv4()));
        let mut all = Vec::new();
        while all.len() < MOST {
            let next = [other.next(), same.next()];
            if next.iter().all(Option::is_none) {
                break;
            }
            all.extend(next.into_iter().flatten());
        }
        all.truncate(MOST);
        all
    }

    fn leads_out(&self, interface: &Interface, ipv4: bool) -> bool {
        self.default_routes.iter().any(|route| route.interface == interface.index && route.ipv4 == ipv4)
    }
}

/// One address of an interface and family: one that lasts for this purpose only before one that says who we are (RFC 8445
/// section 5.1.1.1), and one that everybody reaches before a private one.
fn best(interface: &Interface, ipv4: bool, first: IpAddr) -> Option<IpAddr> {
    let is_known = interface.addresses.iter().any(|address| address.ip == first);
    if is_known && first.is_ipv4() == ipv4 {
        return None;
    }
    let usable = |address: &&Address| {
        address.ip.is_ipv4() == ipv4 && address.state == AddressState::Preferred && !address.link_local
    };
    let rank = |address: &&Address| {
        let local = matches!(address.ip, IpAddr::V6(ip) if ip.is_unique_local());
        (local, !address.temporary)
    };
    interface.addresses.iter().filter(usable).min_by_key(rank).map(|address| address.ip)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::DefaultRoute;
    use super::*;

    fn address(ip: &str, temporary: bool) -> Address {
        let ip: IpAddr = ip.parse().unwrap();
        let link_local = is_link_local(ip);
        Address { ip, prefix: 64, state: AddressState::Preferred, link_local, temporary }
    }

    fn interface(index: u32, addresses: Vec<Address>) -> Interface {
        let loopback = addresses.iter().any(|address| address.ip.is_loopback());
        Interface {
            index,
            name: format!("eth{index}"),
            running: true,
            loopback,
            point_to_point: false,
            addresses,
        }
    }

    fn network() -> Snapshot {
        let deprecated = Address { state: AddressState::Deprecated, ..address("2001:db8::dead", true) };
        let unplugged = Interface { running: false, ..interface(9, vec![address("192.0.2.99", false)]) };
        Snapshot {
            interfaces: vec![
                interface(1, vec![address("127.0.0.1", false), address("::1", false)]),
                interface(2, vec![address("10.8.0.2", false)]),
                interface(
                    3,
                    vec![
                        address("192.0.2.7", false),
                        address("192.0.2.8", false),
                        address("fe80::7", false),
                        address("fd00::7", false),
                        address("2001:db8::7", false),
                        deprecated,
                        address("2001:db8::abcd", true),
                    ],
                ),
                unplugged,
                interface(4, vec![address("198.51.100.4", false)]),
            ],
            default_routes: vec![
                DefaultRoute { ipv4: true, gateway: None, interface: 3, metric: 0 },
                DefaultRoute { ipv4: true, gateway: None, interface: 4, metric: 9 },
                DefaultRoute { ipv4: false, gateway: None, interface: 3, metric: 0 },
            ],
            ..Snapshot::default()
        }
    }

    fn beside(first: &str) -> Vec<String> {
        network().beside(first.parse().unwrap()).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn the_other_family_comes_first_and_each_network_once() {
        assert_eq!(beside("192.0.2.7"), ["2001:db8::abcd", "198.51.100.4", "10.8.0.2"]);
        assert_eq!(beside("2001:db8::7"), ["192.0.2.7", "198.51.100.4", "10.8.0.2"]);
        assert_eq!(beside("10.8.0.2"), ["2001:db8::abcd", "192.0.2.7", "198.51.100.4"]);
    }

    #[test]
    fn beside_this_machine_or_one_link_there_is_nothing() {
        assert!(beside("127.0.0.1").is_empty() && beside("fe80::7").is_empty());
    }
}
