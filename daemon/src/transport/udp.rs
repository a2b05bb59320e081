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
        let mut attempt = || match self.read(buffer) {
            // Either there is no datagram, or the system reports an earlier one's fate: the error queue tells.
            Err(error) if is_icmp(&error) || error.kind() == io::ErrorKind::WouldBlock => {
                self.read_error().map(Received::Unreachable)
            }
            result => result,
        };
        self.inner.async_io(Interest::READABLE | Interest::ERROR, &mut attempt).await
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

    /// The address of a datagram that ICMP reported as undeliverable.
    fn read_error(&self) -> io::Result<SocketAddr> {
        let mut control = [0; CONTROL_SPACE];
        let mut nothing = [0; 1];
        let mut slices = [IoSliceMut::new(&mut nothing)];
        let flags = MsgFlags::MSG_ERRQUEUE;
        let message =
            recvmsg::<SockaddrStorage>(self.inner.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        message.address.as_ref().and_then(to_std).ok_or(io::ErrorKind::InvalidData.into())
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

fn is_icmp(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH))
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}
