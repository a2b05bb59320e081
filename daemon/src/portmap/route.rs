//! Finds the router of the local network: the gateway of the default route.

use std::net::{IpAddr, Ipv4Addr};

use voipd_nat::mapping::Gateway;

/// RTF_UP and RTF_GATEWAY of `linux/route.h`.
const UP_AND_GATEWAY: u32 = 0x3;

/// The router, where this machine has a private address behind one; port mappings are of no use elsewhere.
pub fn gateway() -> Option<Gateway> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    let router = default_router(&table)?;
    match crate::transport::local_ip_towards_ip(IpAddr::V4(router))? {
        IpAddr::V4(local) if is_behind_nat(local) => Some(Gateway { router, local }),
        _ => None,
    }
}

/// Private (RFC 1918), or shared with others by a carrier (RFC 6598).
fn is_behind_nat(local: Ipv4Addr) -> bool {
    let [first, second, ..] = local.octets();
    local.is_private() || (first == 100 && (64..128).contains(&second))
}

/// The gateway of the default route with the lowest metric, from the text of `/proc/net/route`.
fn default_router(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let hex = |index: usize| fields.get(index).and_then(|field| u32::from_str_radix(field, 16).ok());
        let (destination, gateway, flags, mask) = (hex(1)?, hex(2)?, hex(3)?, hex(7)?);
        let metric: u32 = fields.get(6)?.parse().ok()?;
        let leads_out = destination == 0 && mask == 0 && flags & UP_AND_GATEWAY == UP_AND_GATEWAY;
        // The kernel writes an address as the number that its bytes are on this machine.
        (leads_out && gateway != 0).then_some((metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_lowest_metric_leads_to_the_router() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let wifi = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n";
        let wire = "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        let lan = "eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let tunnel = "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n";
        let router = |lines: &[&str]| default_router(&format!("{head}{}", lines.concat()));
        assert_eq!(router(&[wifi, lan, wire]), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(router(&[wifi]), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(router(&[lan, tunnel]), None);
        assert_eq!(router(&["nonsense\n", "eth0\t0\n"]), None);
    }

    #[test]
    fn only_private_addresses_are_behind_a_nat() {
        for private in ["192.168.1.10", "10.1.1.1", "172.20.0.1", "100.64.1.1"] {
            assert!(is_behind_nat(private.parse().unwrap()), "{private}");
        }
        for public in ["203.0.113.7", "127.0.0.1", "198.18.0.1", "100.128.0.1", "169.254.1.1"] {
            assert!(!is_behind_nat(public.parse().unwrap()), "{public}");
        }
    }
}
