//! The table of neighbours: bounded, free of what terminals would obey, and with addresses of the own network alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mdns_sd::ResolvedService;
use nix::ifaddrs::getifaddrs;
use voipd_agent::Neighbour;

/// Most neighbours; whoever comes when there are as many is not seen.
const MOST: usize = 64;
/// Longest name in characters: DNS-SD allows 63 bytes (RFC 6763 section 4.1.1).
const LONGEST_NAME: usize = 63;

pub(super) struct Table {
    /// Full name of our own announcement, in lower case.
    own: Option<String>,
    /// By full name.
    known: BTreeMap<String, Neighbour>,
}

impl Table {
    pub(super) fn new(own: Option<String>) -> Self {
        Self { own: own.map(|name| name.to_lowercase()), known: BTreeMap::new() }
    }

    /// Answers whether anything has changed.
    pub(super) fn resolved(&mut self, service: &ResolvedService) -> bool {
        let networks = local_networks();
        let ips = service.addresses.iter().map(|address| address.to_ip_addr());
        self.add(&service.fullname, service.port, ips, &networks)
    }

    fn add(
        &mut self,
        full_name: &str,
        port: u16,
        addresses: impl Iterator<Item = IpAddr>,
        networks: &[(Ipv4Addr, Ipv4Addr)],
    ) -> bool {
        let key = full_name.to_lowercase();
        if self.own.as_ref() == Some(&key) {
            return false;
        }
        // An address elsewhere would have us call whomever somebody on this network likes us to call.
        let mut here: Vec<Ipv4Addr> = addresses
            .filter_map(|address| match address.to_canonical() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
            .filter(|address| networks.iter().any(|network| holds(*network, *address)))
            .collect();
        here.sort_unstable();
        let name = instance(full_name);
        let Some(address) = here.first().filter(|_| port != 0 && !name.trim().is_empty()) else {
            return self.known.remove(&key).is_some();
        };
        if self.known.len() >= MOST && !self.known.contains_key(&key) {
            return false;
        }
        let neighbour = Neighbour { name, address: SocketAddr::from((*address, port)) };
        self.known.insert(key, neighbour.clone()) != Some(neighbour)
    }

    pub(super) fn removed(&mut self, full_name: &str) -> bool {
        self.known.remove(&full_name.to_lowercase()).is_some()
    }

    /// Our own announcement has another name now.
    pub(super) fn renamed(&mut self, old: &str, new: String) {
        if self.own.as_ref() == Some(&old.to_lowercase()) {
            self.known.remove(&new.to_lowercase());
            self.own = Some(new.to_lowercase());
        }
    }

    pub(super) fn neighbours(&self) -> Vec<Neighbour> {
        let mut all: Vec<Neighbour> = self.known.values().cloned().collect();
        all.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        all
    }
}

/// The instance's own name: without the service, and without the backslashes that protect its dots.
pub(super) fn instance(full_name: &str) -> String {
    let name = full_name.strip_suffix(super::SERVICE).unwrap_or(full_name).trim_end_matches('.');
    let mut plain = String::new();
    let mut escaped = false;
    for c in name.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        plain.push(c);
    }
    printable(&plain)
}

/// Without anything that a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(LONGEST_NAME).map(|c| if hidden(c) { '?' } else { c }).collect()
}

/// Address and mask of each interface but the loopback.
pub(super) fn local_networks() -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let network = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        let mask = interface.netmask?.as_sockaddr_in()?.ip();
        (!address.is_loopback()).then_some((address, mask))
    };
    interfaces.filter_map(network).collect()
}

fn holds((address, mask): (Ipv4Addr, Ipv4Addr), other: Ipv4Addr) -> bool {
    let mask = u32::from(mask);
    mask != 0 && u32::from(address) & mask == u32::from(other) & mask && !other.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: [(Ipv4Addr, Ipv4Addr); 1] =
        [(Ipv4Addr::new(192, 168, 1, 10), Ipv4Addr::new(255, 255, 255, 0))];

    fn add(table: &mut Table, name: &str, addresses: &[&str]) -> bool {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        table.add(&format!("{name}.{}", super::super::SERVICE), 5060, addresses.into_iter(), &HOME)
    }

    #[test]
    fn a_neighbour_is_in_the_own_network() {
        let mut table = Table::new(None);
        assert!(add(&mut table, "kitchen", &["203.0.113.7", "192.168.1.20", "fe80::1"]));
        assert!(!add(&mut table, "far", &["203.0.113.7", "192.168.2.20", "127.0.0.1", "8.8.8.8"]));
        let known = table.neighbours();
        assert_eq!(known.len(), 1);
        assert_eq!(
            (known[0].name.as_str(), known[0].address.to_string().as_str()),
            ("kitchen", "192.168.1.20:5060")
        );
        assert!(add(&mut table, "kitchen", &["203.0.113.7"]), "it has moved out");
        assert_eq!(table.neighbours(), []);
    }

    #[test]
    fn we_are_not_our_own_neighbour_whatever_we_are_called() {
        let own = format!("hall.{}", super::super::SERVICE);
        let mut table = Table::new(Some(own.clone()));
        assert!(!add(&mut table, "Hall", &["192.168.1.10"]));
        table.renamed(&own, format!("hall (2).{}", super::super::SERVICE));
        assert!(!add(&mut table, "hall (2)", &["192.168.1.10"]));
        assert!(add(&mut table, "hall", &["192.168.1.20"]), "that is the other one now");
    }

    #[test]
    fn names_are_printable_and_the_table_is_bounded() {
        let mut table = Table::new(None);
        assert!(add(&mut table, "\u{1b}[2Jki\u{202e}tchen\\.up", &["192.168.1.20"]));
        assert_eq!(table.neighbours()[0].name, "?[2Jki?tchen.up");
        for number in 0..1000 {
            add(&mut table, &format!("n{number}"), &["192.168.1.20"]);
        }
        assert_eq!(table.neighbours().len(), MOST);
        assert!(table.removed(&format!("n3.{}", super::super::SERVICE)));
        assert_eq!(table.neighbours().len(), MOST - 1);
        assert_eq!(printable(&"x".repeat(500)).len(), LONGEST_NAME);
    }
}
