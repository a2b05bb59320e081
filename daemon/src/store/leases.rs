//! Port mappings that a router will not forget by itself, as lines of text.

use voipd_nat::mapping::{Gateway, Lease, Protocol, Transport};

/// Most that are read back: so many were never made.
const MOST: usize = 4096;

pub(super) fn write(leases: &[Lease]) -> String {
    let line = |lease: &Lease| {
        let Gateway { router, local } = lease.gateway;
        let (transport, internal, external) =
            (lease.transport.name(), lease.internal_port, lease.external_port);
        format!("{router} {local} {transport} {internal} {external}\n")
    };
    leases.iter().filter(|lease| lease.protocol == Protocol::Upnp).map(line).collect()
}

/// Lines that make no sense are left out.
pub(super) fn read(text: &str) -> Vec<Lease> {
    text.lines().filter_map(read_line).take(MOST).collect()
}

fn read_line(line: &str) -> Option<Lease> {
    let mut words = line.split(' ');
    let gateway = Gateway { router: words.next()?.parse().ok()?, local: words.next()?.parse().ok()? };
    let transport = match words.next()? {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return None,
    };
    Some(Lease {
        // The others know no mappings without an end.
        protocol: Protocol::Upnp,
        gateway,
        transport,
        internal_port: words.next()?.parse().ok()?,
        external_port: words.next()?.parse().ok()?,
        nonce: [0; 3],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_nonsense_is_not() {
        let lease = |transport, port| Lease {
            protocol: Protocol::Upnp,
            gateway: Gateway { router: [192, 168, 1, 1].into(), local: [192, 168, 1, 10].into() },
            transport,
            internal_port: port,
            external_port: 50_000,
            nonce: [0; 3],
        };
        let leases = vec![lease(Transport::Udp, 16_384), lease(Transport::Tcp, 5060)];
        assert_eq!(read(&write(&leases)), leases);
        assert_eq!(read("x\n192.168.1.1 192.168.1.10 sctp 1 2\n192.168.1.1 192.168.1.10 udp 1 70000\n"), []);
    }
}
