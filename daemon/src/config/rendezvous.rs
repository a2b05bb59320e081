//! The section `[rendezvous]`: whether this voipd is a meeting point for friends, and under which address.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use voipd_agent::Network;
use voipd_sip::uri::Host;

use super::account::network;
use super::fields::Fields;
use crate::turn_server::RelayConfig;

/// Where a relay is reached (RFC 8656 section 18.6).
const RELAY_PORT: u16 = 3478;
/// Where it relays: the dynamic ports.
const RELAY_PORTS: RangeInclusive<u16> = 49152..=65535;

/// What the section says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendezvous {
    pub(super) point: Option<RendezvousConfig>,
    pub(super) offer: Option<OfferConfig>,
}

/// A relay that is offered to friends at the meeting points of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferConfig {
    /// An address of this machine and a port; `None`: the address by which it is registered, and the usual port.
    pub listen: Option<SocketAddr>,
    /// Ports on which it relays.
    pub ports: RangeInclusive<u16>,
    /// Networks to which it relays, and where it may be, although not everybody reaches them.
    pub networks: Vec<Network>,
}

impl OfferConfig {
    /// The relay at an address of this machine by which it is registered.
    pub fn at(&self, own: IpAddr) -> RelayConfig {
        let listen = self.listen.unwrap_or(SocketAddr::new(own, RELAY_PORT));
        RelayConfig { listen, ports: self.ports.clone(), networks: self.networks.clone() }
    }
}

/// A meeting point for friends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RendezvousConfig {
    /// What stands behind the `@` of the friends' addresses: a name or an address at which this machine is reached.
    pub host: Host,
    /// The port behind it, where one is written.
    pub port: Option<u16>,
    /// The relay that it lends to its friends.
    pub relay: Option<RelayConfig>,
    /// Networks where friends' relays may be although not everybody reaches them.
    pub networks: Vec<Network>,
}

/// Reads the section.
pub(super) fn read(mut fields: Fields<'_>) -> Option<Rendezvous> {
    let enabled = fields.flag("enabled").unwrap_or(false);
    let has_address = fields.has("address");
    let address = fields.parse("address", address);
    if enabled && !has_address {
        fields.reject(
            "address",
            "is missing: write the name or address at which friends reach this machine, such as \
             \"meet.example.org\" or \"203.0.113.7\"",
        );
    }
    let wanted = fields.flag("relay").unwrap_or(false);
    let offered = fields.flag("offer-relay").unwrap_or(false);
    let has_address = fields.has("relay-address");
    let listen = fields.parse("relay-address", relay_address);
    let ports = fields.parse("relay-ports", relay_ports).unwrap_or(RELAY_PORTS);
    let networks = fields.parse_list("relay-networks", network).unwrap_or_default();
    let offer = offered.then(|| OfferConfig { listen, ports: ports.clone(), networks: networks.clone() });
    let host = address.as_ref().map(|(host, _)| host);
    let listen = match (listen, host) {
        (None, Some(Host::Ip(ip))) if !has_address => Some(SocketAddr::new(*ip, RELAY_PORT)),
        (listen, _) => listen,
    };
    if wanted && listen.is_none() && !has_address {
        fields.reject(
            "relay-address",
            "is missing: write the address of this machine at which friends reach the relay, such as \"203.0.113.7\"",
        );
    }
    let networks_too = networks.clone();
    let relay = listen.filter(|_| wanted).map(|listen| RelayConfig { listen, ports, networks });
    let point = |(host, port)| RendezvousConfig { host, port, relay, networks: networks_too };
    let point = address.filter(|_| enabled).map(point);
    fields.finish().then_some(Rendezvous { point, offer })
}

fn relay_address(text: &str) -> Result<SocketAddr, String> {
    let ip = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = ip.map(|ip| SocketAddr::new(ip, RELAY_PORT)).or_else(|_| text.parse::<SocketAddr>());
    let usable = |address: &SocketAddr| {
        !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0
    };
    address.ok().filter(usable).ok_or_else(|| {
        format!(
            "is '{text}': write the address of this machine at which friends reach the relay, such as \
             \"203.0.113.7\" or \"203.0.113.7:3478\""
        )
    })
}

fn relay_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let read = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        (first >= 1024 && first <= last).then_some(first..=last)
    });
    read.ok_or_else(|| format!("is '{text}': write the first and the last port, such as \"49152-65535\""))
}

fn address(text: &str) -> Result<(Host, Option<u16>), String> {
    let wrong = || {
        format!(
            "is '{text}': write the name or address at which friends reach this machine, such as \
             \"meet.example.org\" or \"203.0.113.7:5080\""
        )
    };
    // An IPv6 address alone has colons that begin no port.
    if let Ok(host) = text.parse::<Host>() {
        return reachable(host, None).ok_or_else(wrong);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = host.parse::<Host>().map_err(|_| wrong())?;
    reachable(host, Some(port)).ok_or_else(wrong)
}

fn reachable(host: Host, port: Option<u16>) -> Option<(Host, Option<u16>)> {
    let nowhere = matches!(&host, Host::Ip(ip) if ip.is_unspecified() || ip.is_multicast());
    (!nowhere).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_an_address_of_this_machine_and_ports() {
        let read = |text: &str| relay_address(text).map(|address| address.to_string());
        assert_eq!(read("203.0.113.7"), Ok("203.0.113.7:3478".to_owned()));
        assert_eq!(read("203.0.113.7:443"), Ok("203.0.113.7:443".to_owned()));
        assert_eq!(read("2001:db8::1"), Ok("[2001:db8::1]:3478".to_owned()));
        assert_eq!(read("[2001:db8::1]:443"), Ok("[2001:db8::1]:443".to_owned()));
        for bad in ["", "0.0.0.0", "::", "224.0.0.1", "203.0.113.7:0", "meet.example.org"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(relay_ports("50000 - 50100"), Ok(50000..=50100));
        for bad in ["", "50000", "50100-50000", "80-90", "1-70000"] {
            assert!(relay_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_relay_is_lent_only_where_that_was_said() {
        use super::super::{Scope, parse};
        let point = |lines: &str| {
            let read = |_: &std::path::Path, _| Err(std::io::ErrorKind::NotFound.into());
            let text = format!("[rendezvous]\nenabled = true\n{lines}");
            let config = parse(&text, std::path::Path::new("voipd.toml"), Scope::System, &read);
            config.map(|config| config.rendezvous.unwrap().relay).map_err(|error| error.to_string())
        };
        assert_eq!(point("address = \"203.0.113.7\""), Ok(None));
        let lent = point("address = \"203.0.113.7\"\nrelay = true").unwrap().unwrap();
        assert_eq!((lent.listen.to_string(), lent.networks.len()), ("203.0.113.7:3478".to_owned(), 0));
        let wrong = point("address = \"meet.example.org\"\nrelay = true").unwrap_err();
        assert!(wrong.contains("relay-address") && wrong.contains("is missing"), "{wrong}");
    }

    #[test]
    fn a_relay_is_offered_from_the_address_that_was_written_or_the_registered_one() {
        use super::super::{Scope, parse};
        let offer = |lines: &str| {
            let read = |_: &std::path::Path, _| Err(std::io::ErrorKind::NotFound.into());
            let text = format!("[rendezvous]\n{lines}");
            parse(&text, std::path::Path::new("voipd.toml"), Scope::System, &read).unwrap().offer_relay
        };
        assert_eq!((offer(""), offer("offer-relay = false")), (None, None));
        let own = "203.0.113.9".parse().unwrap();
        let listens = |lines: &str| offer(lines).unwrap().at(own).listen.to_string();
        assert_eq!(listens("offer-relay = true"), "203.0.113.9:3478");
        let written = "offer-relay = true\nrelay-address = \"203.0.113.7:3500\"";
        assert_eq!(listens(written), "203.0.113.7:3500");
    }

    #[test]
    fn an_address_is_a_host_with_or_without_a_port() {
        let read = |text: &str| address(text).map(|(host, port)| (host.to_string(), port));
        assert_eq!(read("meet.example.org"), Ok(("meet.example.org".to_owned(), None)));
        assert_eq!(read("203.0.113.7:5080"), Ok(("203.0.113.7".to_owned(), Some(5080))));
        assert_eq!(read("2001:db8::1"), Ok(("[2001:db8::1]".to_owned(), None)));
        assert_eq!(read("[2001:db8::1]:5080"), Ok(("[2001:db8::1]".to_owned(), Some(5080))));
        for bad in ["", "0.0.0.0", "::", "224.0.0.1", "meet:0", "meet:x", "sip:meet.example.org", "a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
