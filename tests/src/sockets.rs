//! Who listens where, as the kernel tells it, on this host or in another network namespace.

use std::net::Ipv4Addr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: a socket is bound.
    Udp,
    /// Connections are taken.
    Tcp,
}

/// Whether a socket listens at a port of an address, or of any address, on the host where a process runs.
pub fn listens(process: u32, transport: Transport, address: Option<Ipv4Addr>, port: u16) -> bool {
    let (name, state) = match transport {
        Transport::Udp => ("udp", None),
        // TCP_LISTEN of the kernel.
        Transport::Tcp => ("tcp", Some("0A")),
    };
    // The process may have ended: then its socket is gone, too.
    let sockets = std::fs::read_to_string(format!("/proc/{process}/net/{name}")).unwrap_or_default();
    sockets.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1).and_then(|local| local.split_once(':'));
        local.is_some_and(|(at, number)| {
            number == format!("{port:04X}")
                && address.is_none_or(|address| at == format!("{:08X}", u32::from(address).swap_bytes()))
        }) && state.is_none_or(|state| fields.get(3) == Some(&state))
    })
}
