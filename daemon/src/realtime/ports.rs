//! Ports of media: an even one for RTP and the next odd one for RTCP (RFC 3550 section 11), out of a configured range.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::UdpMediaSocket;

/// Room for what arrives while the tick does not come, in bytes: half a second of many a packet.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// The sockets of one call.
pub struct PortPair {
    /// For the engine.
    pub rtp: UdpMediaSocket,
    /// For the control side; does not block.
    pub rtcp: UdpSocket,
    /// Even.
    pub rtp_port: u16,
    /// The one above it.
    pub rtcp_port: u16,
}

/// Why there are no ports.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The range holds no even port with the odd one above it.
    #[error("the port range {0}-{1} holds no pair of an even and an odd port: give RTP a larger range")]
    NoPair(u16, u16),
    /// Every pair is in use, by calls or by other programs.
    #[error("all RTP ports from {0} to {1} are in use: end calls or give RTP a larger range")]
    Exhausted(u16, u16),
    /// The system refuses the address, whatever the port.
    #[error("media cannot be received on {0}: {1}")]
    Address(IpAddr, #[source] io::Error),
}

/// Binds a free pair. Where the search begins is random: the ports of a call are not to be guessed from those of the one
/// before. `dscp` marks what is sent (RFC 2474), 0 to 63.
///
/// # Errors
/// See [`BindError`].
pub fn bind_pair(address: IpAddr, ports: RangeInclusive<u16>, dscp: u8) -> Result<PortPair, BindError> {
    let (first, last) = (*ports.start(), *ports.end());
    let pairs: Vec<u16> = ports.filter(|port| port.is_multiple_of(2) && *port != 0 && *port < last).collect();
    if pairs.is_empty() {
        return Err(BindError::NoPair(first, last));
    }
    let start = RandomState::new().hash_one(first) as usize % pairs.len();
    for &rtp_port in pairs.iter().cycle().skip(start).take(pairs.len()) {
        let rtcp_port = rtp_port + 1;
        let bound = bind(SocketAddr::new(address, rtp_port), dscp)
            .and_then(|rtp| Ok((rtp, bind(SocketAddr::new(address, rtcp_port), dscp)?)));
        match bound {
            Ok((rtp, rtcp)) => {
                let rtp = UdpMediaSocket::new(rtp).map_err(|error| BindError::Address(address, error))?;
                return Ok(PortPair { rtp, rtcp, rtp_port, rtcp_port });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(BindError::Address(address, error)),
        }
    }
    Err(BindError::Exhausted(first, last))
}

fn bind(local: SocketAddr, dscp: u8) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Smaller buffers and unmarked packets are worse than wished for, and better than no call.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = set_dscp(&socket, local.is_ipv6(), dscp);
    socket.bind(&local.into())?;
    Ok(socket.into())
}

#[allow(unsafe_code)]
fn set_dscp(socket: &Socket, ipv6: bool, dscp: u8) -> io::Result<()> {
    let (level, option) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
    // The lower two bits of the octet belong to congestion notification (RFC 3168).
    let octet = libc::c_int::from(dscp & 0x3F) << 2;
    // SAFETY: the pointer is to a c_int and the length is a c_int's; the call does not keep it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const octet).cast(),
            size_of_val(&octet) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn pairs_are_even_and_odd_until_there_are_none() {
        let taken: Vec<_> =
            (0..4).map(|_| bind_pair(LOCAL, 41_001..=41_009, 46).map_err(|e| e.to_string())).collect();
        for pair in &taken {
            let pair = pair.as_ref().expect("four pairs");
            assert_eq!((pair.rtp_port % 2, pair.rtcp_port), (0, pair.rtp_port + 1));
            assert!((41_002..=41_008).contains(&pair.rtp_port));
        }
        let error = bind_pair(LOCAL, 41_001..=41_009, 46).map(|_| ()).expect_err("all are taken");
        assert!(matches!(error, BindError::Exhausted(41_001, 41_009)), "{error}");
        drop(taken);
        assert!(bind_pair(LOCAL, 41_001..=41_009, 46).is_ok());
    }

    #[test]
    fn a_foreign_address_and_an_empty_range_are_named() {
        let foreign = IpAddr::from([192, 0, 2, 1]);
        assert!(matches!(bind_pair(foreign, 41_010..=41_020, 0), Err(BindError::Address(..))));
        assert!(matches!(bind_pair(LOCAL, 41_011..=41_012, 0), Err(BindError::NoPair(..))));
    }
}
