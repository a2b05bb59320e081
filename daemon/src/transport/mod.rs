//! Transport: SIP datagrams in and out, and the way from a next hop to addresses. It reads no SIP.

mod resolve;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;
use voipd_sip::endpoint::{Flow, TlsRequirement, Transport as Protocol, TransportError};

pub use resolve::{Place, Resolver, ResolverSettings, order};
use udp::{Received, UdpSocket};

/// Datagrams that wait for the driver; beyond that the kernel's buffer fills, and then drops.
const QUEUE: usize = 256;

/// What the sockets report.
#[derive(Debug)]
pub enum Arrival {
    /// A datagram.
    Datagram {
        /// Between which sockets it travelled.
        flow: Flow,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// A flow does not deliver.
    Failed {
        /// Which. Of a datagram that ICMP gave back, `local` is what the socket is bound to.
        flow: Flow,
        /// Why.
        error: TransportError,
    },
}

/// Why a SIP socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has the port.
    #[error(
        "cannot listen for SIP on {0}: the port is taken. Is another voipd or SIP program running? \
         Stop it, or set another port in [sip] listen"
    )]
    InUse(SocketAddr),
    /// The system refused.
    #[error("cannot listen for SIP on {0}: {1}. Check [sip] listen")]
    Other(SocketAddr, io::Error),
}

/// All SIP sockets of the daemon.
pub struct Transport {
    sockets: Vec<Arc<UdpSocket>>,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Transport {
    /// Binds every address of `listen`. IPv6 missing from the machine is no error while another socket stands.
    ///
    /// # Errors
    /// [`BindError`] with what to do.
    pub fn bind(listen: &[SocketAddr]) -> Result<Self, BindError> {
        let (sender, arrivals) = mpsc::channel(QUEUE);
        let mut sockets = Vec::new();
        let mut missing = None;
        for address in listen {
            match UdpSocket::bind(*address) {
                Ok(socket) => sockets.push(Arc::new(socket)),
                Err(error) if address.is_ipv6() && is_missing_family(&error) => {
                    missing = Some(BindError::Other(*address, error));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(BindError::InUse(*address));
                }
                Err(error) => return Err(BindError::Other(*address, error)),
            }
        }
        if let (true, Some(error)) = (sockets.is_empty(), missing) {
            return Err(error);
        }
        for socket in &sockets {
            tokio::spawn(receive(Arc::clone(socket), sender.clone()));
        }
        Ok(Self { sockets, arrivals })
    }

    /// The next thing that arrives.
    pub async fn receive(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // Every receiving task lives as long as its socket: there is none, and nothing will ever arrive.
            None => std::future::pending().await,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The system says that `flow.remote` cannot be reached.
    pub fn send(&self, flow: &Flow, bytes: &[u8]) -> Result<(), TransportError> {
        let socket = self.socket_for(flow.local).ok_or(TransportError::NoRoute)?;
        match socket.send(flow.local.ip(), flow.remote, bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => {
                log::info!("cannot send to {}: {error}", flow.remote);
                Err(TransportError::NoRoute)
            }
        }
    }

    /// The flow that a message to `place` would take: the system's route decides about the local address.
    pub fn flow_to(&self, place: Place) -> Option<Flow> {
        let Place { transport: Protocol::Udp, remote } = place else { return None };
        let socket = self.sockets.iter().find(|socket| socket.bound().is_ipv4() == remote.is_ipv4())?;
        let bound = socket.bound();
        let ip = if bound.ip().is_unspecified() { local_ip_towards(remote).ok()? } else { bound.ip() };
        Some(udp_flow(SocketAddr::new(ip, bound.port()), remote))
    }

    fn socket_for(&self, local: SocketAddr) -> Option<&Arc<UdpSocket>> {
        let fits = |socket: &&Arc<UdpSocket>| {
            let bound = socket.bound();
            bound.is_ipv4() == local.is_ipv4()
                && bound.port() == local.port()
                && (bound.ip() == local.ip() || bound.ip().is_unspecified())
        };
        self.sockets.iter().find(fits)
    }
}

fn udp_flow(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Protocol::Udp, local, remote, tls: TlsRequirement::default() }
}

async fn receive(socket: Arc<UdpSocket>, arrivals: mpsc::Sender<Arrival>) {
    let mut buffer = vec![0; voipd_sip::wire::MAX_MESSAGE + 1];
    loop {
        let arrival = match socket.receive(&mut buffer).await {
            Ok(Received::Datagram { len, local, remote }) => Arrival::Datagram {
                flow: udp_flow(local, remote),
                bytes: buffer.get(..len).unwrap_or_default().to_vec(),
            },
            Ok(Received::Unreachable(remote)) => {
                Arrival::Failed { flow: udp_flow(socket.bound(), remote), error: TransportError::Refused }
            }
            Err(error) => {
                log::warn!("receiving on {}: {error}", socket.bound());
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

/// The address that this machine would send to `remote` from, if there is a route.
pub fn local_ip_towards_ip(remote: IpAddr) -> Option<IpAddr> {
    // Any port will do: routes know none.
    local_ip_towards(SocketAddr::new(remote, 9)).ok()
}

/// The address that this machine would send from. Nothing is sent: connecting a UDP socket only asks for the route.
fn local_ip_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let unspecified: SocketAddr =
        if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(unspecified)?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp_place(remote: SocketAddr) -> Place {
        Place { transport: Protocol::Udp, remote }
    }

    #[tokio::test]
    async fn datagrams_arrive_with_both_addresses_and_answers_leave_from_the_one_that_was_asked() {
        let mut transport = Transport::bind(&["0.0.0.0:0".parse().unwrap()]).unwrap();
        let port = transport.sockets[0].bound().port();
        let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // 127.0.0.2 is an address of this machine's loopback too.
        peer.send_to(b"hello", ("127.0.0.2", port)).await.unwrap();
        let Arrival::Datagram { flow, bytes } = transport.receive().await else { panic!("a datagram") };
        assert_eq!(bytes, b"hello");
        assert_eq!(flow.local, format!("127.0.0.2:{port}").parse().unwrap());
        assert_eq!(flow.remote, peer.local_addr().unwrap());
        transport.send(&flow, b"answer").unwrap();
        let mut buffer = [0; 16];
        let (len, source) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], source), (&b"answer"[..], flow.local));
    }

    #[tokio::test]
    async fn a_closed_port_is_reported_with_its_address_and_nothing_else_stops() {
        let mut transport = Transport::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let open = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let flow = transport.flow_to(udp_place(closed)).unwrap();
        transport.send(&flow, b"anyone?").unwrap();
        let Arrival::Failed { flow: failed, .. } = transport.receive().await else { panic!("a report") };
        assert_eq!(failed.remote, closed);
        let flow = transport.flow_to(udp_place(open.local_addr().unwrap())).unwrap();
        transport.send(&flow, b"you").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(open.recv(&mut buffer).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_taken_port_says_what_to_do() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = Transport::bind(&[taken.local_addr().unwrap()]).err().unwrap();
        assert!(error.to_string().contains("set another port in [sip] listen"), "{error}");
    }
}
