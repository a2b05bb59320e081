//! One UDP socket that knows to which of this machine's addresses a datagram came, and what ICMP said.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

/// Room for one packet-info and one extended-error message of either family.
const CONTROL_SPACE: usize = 256;
/// ICMP (RFC 792): a time exceeded on the way; and of what was unreachable, a datagram too long to go on in one piece.
const TIME_EXCEEDED: u8 = 11;
const UNREACHABLE: u8 = 3;
const TOO_LONG: u8 = 4;
/// The same of ICMPv6 (RFC 4443).
const V6_PACKET_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;

/// What one receive gave.
pub(crate) enum Received {
    Datagram { len: usize, local: SocketAddr, remote: SocketAddr },
    Unreachable(SocketAddr),
}

/// A bound UDP socket.
pub(crate) struct UdpSocket {
    inner: tokio::net::UdpSocket,
    bound: SocketAddr,
}

impl UdpSocket {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let inner = tokio::net::UdpSocket::from_std(socket.into())?;
        let bound = inner.local_addr()?;
        Ok(Self { inner, bound })
    }

    pub(crate) fn bound(&self) -> SocketAddr {
        self.bound
    }

    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.inner.async_io(Interest::READABLE | Interest::ERROR, || self.next(buffer)).await
    }

    /// Says `WouldBlock` only when nothing waits, neither datagram nor report: only what comes after that wakes us.
    fn next(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let mut unexplained = false;
        loop {
            let error = match self.read(buffer) {
                // Either there is no datagram, or the system reports an earlier one's fate: the error queue tells.
                Err(error) if is_icmp(&error) || nothing(&error) => error,
                result => return result,
            };
            match self.read_error() {
                Ok(Some(remote)) => return Ok(Received::Unreachable(remote)),
                // Of no consequence.
                Ok(None) => {}
                Err(none) if nothing(&none) && !nothing(&error) => {
                    // The system tells an error of ICMP once: datagrams may wait behind it.
                    if unexplained {
                        return Err(error);
                    }
                    unexplained = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = [0; CONTROL_SPACE];
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.inner.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty())?;
        let remote = message.address.as_ref().and_then(to_std).ok_or(io::ErrorKind::InvalidData)?;
        let local = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(u32::from_be(info.ipi_addr.s_addr).into()))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(info.ipi6_addr.s6_addr.into())),
            _ => None,
        });
        let local = SocketAddr::new(local.unwrap_or(self.bound.ip()), self.bound.port());
        Ok(Received::Datagram { len: message.bytes, local, remote })
    }

    /// Takes the oldest report: the address that cannot be reached, if that is what it says.
    fn read_error(&self) -> io::Result<Option<SocketAddr>> {
        let mut control = [0; CONTROL_SPACE];
        let mut nothing = [0; 1];
        let mut slices = [IoSliceMut::new(&mut nothing)];
        let flags = MsgFlags::MSG_ERRQUEUE;
        let message =
            recvmsg::<SockaddrStorage>(self.inner.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let unreachable = message.cmsgs()?.any(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(report, _) => is_unreachable(&report),
            ControlMessageOwned::Ipv6RecvErr(report, _) => is_unreachable(&report),
            _ => false,
        });
        Ok(message.address.as_ref().and_then(to_std).filter(|_| unreachable))
    }

    /// Sends from `local`, an address of this machine, where the socket is bound to all of them.
    pub(crate) fn send(&self, local: IpAddr, remote: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        match self.write(local, remote, bytes) {
            // The report of an earlier datagram's fate, not of this one.
            Err(error) if is_icmp(&error) => self.write(local, remote, bytes),
            result => result,
        }
    }

    fn write(&self, local: IpAddr, remote: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let address = SockaddrStorage::from(remote);
        let v4;
        let v6;
        let control: &[ControlMessage<'_>] = match local {
            _ if !self.bound.ip().is_unspecified() => &[],
            IpAddr::V4(ip) => {
                let spec_dst = libc::in_addr { s_addr: u32::from(ip).to_be() };
                v4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: spec_dst,
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                &[ControlMessage::Ipv4PacketInfo(&v4)]
            }
            IpAddr::V6(ip) => {
                v6 =
                    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                &[ControlMessage::Ipv6PacketInfo(&v6)]
            }
        };
        // Not by way of tokio's readiness: what the kernel has no room for now is lost, as the network may lose it.
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(self.inner.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, Some(&address))?;
        Ok(())
    }
}

/// What Linux makes of an ICMP message.
fn is_icmp(error: &io::Error) -> bool {
    use libc::{
        EACCES, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENONET, ENOPROTOOPT,
        EOPNOTSUPP, EPROTO,
    };
    matches!(
        error.raw_os_error(),
        Some(
            EACCES
                | ECONNREFUSED
                | EHOSTDOWN
                | EHOSTUNREACH
                | EMSGSIZE
                | ENETUNREACH
                | ENONET
                | ENOPROTOOPT
                | EOPNOTSUPP
                | EPROTO
        )
    )
}

/// Whether a report says that nobody is there. A time exceeded is to be ignored (RFC 3261 section 18.4), and after a
/// datagram that was too long for the path the kernel knows how long the next may be: repeated, it arrives.
fn is_unreachable(report: &libc::sock_extended_err) -> bool {
    match (report.ee_origin, report.ee_type) {
        (libc::SO_EE_ORIGIN_ICMP, UNREACHABLE) => report.ee_code != TOO_LONG,
        (libc::SO_EE_ORIGIN_ICMP, kind) => kind != TIME_EXCEEDED,
        (libc::SO_EE_ORIGIN_ICMP6, kind) => !matches!(kind, V6_PACKET_TOO_BIG | V6_TIME_EXCEEDED),
        // What our own kernel refused, whoever sent it has heard.
        _ => false,
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3261 section 18.4.
    #[test]
    fn only_icmp_that_says_that_nobody_is_there_is_believed() {
        let report = |ee_origin, ee_type, ee_code| libc::sock_extended_err {
            ee_errno: 0,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        };
        let (v4, v6) = (libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6);
        for (origin, kind, code, what) in [
            (v4, 3, 1, "host unreachable"),
            (v4, 3, 3, "port unreachable"),
            (v4, 3, 13, "prohibited"),
            (v4, 12, 0, "parameter problem"),
            (v6, 1, 0, "no route"),
            (v6, 1, 1, "prohibited"),
            (v6, 1, 4, "port unreachable"),
            (v6, 4, 0, "parameter problem"),
        ] {
            assert!(is_unreachable(&report(origin, kind, code)), "{what}, {origin}");
        }
        for (origin, kind, code, what) in [
            (v4, 3, 4, "too long for the path"),
            (v4, 11, 0, "time exceeded"),
            (v6, 2, 0, "too long for the path"),
            (v6, 3, 0, "time exceeded"),
            (libc::SO_EE_ORIGIN_LOCAL, 0, 0, "too long for this machine"),
        ] {
            assert!(!is_unreachable(&report(origin, kind, code)), "{what}, {origin}");
        }
    }
}
