//! Can an address that a router calls external be reached from outside? It knows special ranges, not routes.

use std::net::Ipv4Addr;

use super::{Granted, Lease, Problem};

/// Shorter leases would have us ask without end.
const SHORTEST_LEASE: u64 = 10;

/// Is what a router granted of any use?
pub(super) fn judge(lease: &Lease, granted: &Granted) -> Result<(), Problem> {
    let nonsense = |what| Problem::Nonsense { protocol: lease.protocol, what };
    let external = *granted.external.ip();
    if external.is_unspecified() {
        return Err(Problem::NoExternal);
    }
    if !is_public(external) {
        return Err(Problem::NotPublic(external));
    }
    if granted.external.port() == 0 {
        return Err(nonsense("the external port is 0"));
    }
    if granted.lifetime.is_some_and(|lifetime| lifetime.as_secs() < SHORTEST_LEASE) {
        return Err(nonsense("the mapping ends at once"));
    }
    Ok(())
}

/// Not one of the ranges that RFC 6890 sets apart. Those for documentation and benchmarks (RFC 5737, RFC 2544) are not
/// refused: they are never met but in laboratories, where they stand for public ones.
pub fn is_public(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let carrier_grade = first == 100 && (64..128).contains(&second);
    !(address.is_private()
        || carrier_grade
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || first == 0
        || first >= 240
        || matches!(address.octets(), [192, 0, 0, _]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_behind_another_nat_are_not_public() {
        for private in
            ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "100.127.255.254", "169.254.1.1"]
        {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for nowhere in ["0.1.2.3", "127.0.0.1", "192.0.0.2", "224.0.0.1", "255.255.255.255"] {
            assert!(!is_public(nowhere.parse().unwrap()), "{nowhere}");
        }
        for public in ["11.22.33.11", "100.63.255.255", "100.128.0.1", "172.32.0.1", "203.0.113.7"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
