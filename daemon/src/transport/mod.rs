//! Transport: SIP datagrams and connections in and out, and the way from a next hop to addresses. It reads no SIP.

mod connection;
mod limits;
pub mod probe;
mod resolve;
mod streams;
pub(crate) mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use voipd_agent::account::TlsSettings;
use voipd_sip::endpoint::{Flow, TlsRequirement, Transport as Protocol, TransportError};
use voipd_sip::uri::Host;

pub use resolve::{Place, Resolver, ResolverSettings, order};
pub use streams::Security;
use streams::{Event, Streams};
use udp::{Received, UdpSocket};

use crate::config::SipConfig;
use crate::tls::{Requirement, TlsError, TlsServer};

/// What waits for the driver; beyond that the kernel's buffers fill: datagrams are dropped, connections wait.
const QUEUE: usize = 256;
/// How often a port is looked for that is free for datagrams and connections, where any will do.
const ATTEMPTS: usize = 16;

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
    /// A whole message on a connection.
    Message {
        /// Which connection.
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
    /// A TCP connection that we make is not there after [`PATIENCE`](voipd_sip::endpoint::PATIENCE).
    Slow {
        /// Which.
        flow: Flow,
    },
    /// The far end of a connection has answered a ping (RFC 5626 section 3.5.1).
    Pong {
        /// Which connection.
        flow: Flow,
    },
    /// A connection has not been used for long: [`Transport::close`] it unless somebody still needs it.
    Idle {
        /// Which connection.
        flow: Flow,
    },
}

/// Why a SIP socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has the port.
    #[error(
        "cannot listen for SIP on {0}: the port is taken. Is another voipd or SIP program running? \
         Stop it, or set another port in [sip] {1}"
    )]
    InUse(SocketAddr, &'static str),
    /// The system refused.
    #[error("cannot listen for SIP on {0}: {2}. Check [sip] {1}")]
    Other(SocketAddr, &'static str, io::Error),
    /// Our certificate cannot be used.
    #[error("cannot listen for SIP over TLS: {0}. Check [sip] tls-certificate and tls-key")]
    Tls(#[from] TlsError),
}

/// All SIP sockets of the daemon.
pub struct Transport {
    sockets: Vec<Arc<UdpSocket>>,
    /// Connections without TLS are taken on the sockets' ports.
    tcp: bool,
    tls_listening: Vec<SocketAddr>,
    tls: Option<Arc<TlsServer>>,
    streams: Streams,
    events: mpsc::Receiver<Event>,
}

impl Transport {
    /// Binds every address of the configuration. IPv6 missing from the machine is no error while another socket stands.
    ///
    /// # Errors
    /// [`BindError`] with what to do.
    pub fn bind(config: &SipConfig) -> Result<Self, BindError> {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut streams = Streams::new(sender.clone());
        let bound = bind_all("listen", &config.listen, |address| bind_both(address, config.tcp))?;
        let mut sockets = Vec::new();
        for (socket, listener) in bound {
            let socket = Arc::new(socket);
            tokio::spawn(receive(Arc::clone(&socket), sender.clone()));
            sockets.push(socket);
            if let Some(listener) = listener {
                streams.listen(listener, None);
            }
        }
        let mut transport =
            Self { sockets, tcp: config.tcp, tls_listening: Vec::new(), tls: None, streams, events };
        if let Some(tls) = &config.tls {
            let server = Arc::new(TlsServer::new(&tls.files)?);
            for listener in bind_all("tls-listen", &tls.listen, streams::bind)? {
                transport.tls_listening.extend(listener.local_addr());
                transport.streams.listen(listener, Some(Arc::clone(&server)));
            }
            transport.tls = Some(server);
        }
        Ok(transport)
    }

    /// The next thing that arrives.
    pub async fn receive(&mut self) -> Arrival {
        loop {
            match self.events.recv().await {
                Some(event) => {
                    if let Some(arrival) = self.streams.handle(event) {
                        return arrival;
                    }
                }
                // The connections hold a sender.
                None => std::future::pending().await,
            }
        }
    }

    /// Sends one message. A connection is made where there is none; what becomes of it comes as an [`Arrival`].
    ///
    /// # Errors
    /// `flow.remote` cannot be reached.
    pub fn send(&mut self, flow: &Flow, bytes: &[u8]) -> Result<(), TransportError> {
        if flow.transport.is_reliable() {
            return self.streams.send(flow, bytes);
        }
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

    /// The number of what a TLS server of this name must prove to an account with these settings (RFC 5922: the name is
    /// the domain of the URI, not where DNS led).
    ///
    /// # Errors
    /// The settings hold no usable certificates.
    pub fn require(&mut self, name: &Host, settings: &TlsSettings) -> Result<TlsRequirement, TlsError> {
        self.streams.require(name, settings)
    }

    /// What a TLS server of this name must prove that is no SIP server of ours: a relay.
    ///
    /// # Errors
    /// The settings hold no usable certificates.
    pub fn requirement(&mut self, name: &Host, settings: &TlsSettings) -> Result<Arc<Requirement>, TlsError> {
        self.streams.requirement(name, settings)
    }

    /// The flow that a message to `place` would take: the system's route decides about the local address, and `local`
    /// has the port that peers reach us at. `tls` counts with TLS alone.
    pub fn flow_to(&self, place: Place, tls: TlsRequirement) -> Option<Flow> {
        let Place { transport, remote } = place;
        let route = local_ip_towards(remote).ok();
        let plain = || facing(self.sockets.iter().map(|socket| socket.bound()), remote, route);
        let listening = match transport {
            Protocol::Tls => facing(self.tls_listening.iter().copied(), remote, route).or_else(plain)?,
            Protocol::Udp | Protocol::Tcp => plain()?,
        };
        let ip = if listening.ip().is_unspecified() { route? } else { listening.ip() };
        let tls = if transport == Protocol::Tls { tls } else { TlsRequirement::default() };
        Some(Flow { transport, local: SocketAddr::new(ip, listening.port()), remote, tls })
    }

    /// The best way for others to come to us: by TLS where we have a certificate, else by connection, which a NAT keeps
    /// open for longer; and the port.
    pub fn entrance(&self) -> Option<(Protocol, u16)> {
        let secured = self.tls_listening.first().map(|address| (Protocol::Tls, address.port()));
        let plain = if self.tcp { Protocol::Tcp } else { Protocol::Udp };
        secured.or_else(|| self.sockets.first().map(|socket| (plain, socket.bound().port())))
    }

    /// SHA-256 of our certificate, where no authority vouches for it.
    pub fn own_pin(&self) -> Option<[u8; 32]> {
        self.tls.as_ref()?.own_pin()
    }

    /// Closes a connection as soon as all is written.
    pub fn close(&mut self, flow: &Flow) {
        self.streams.close(flow);
    }

    /// Drops connections as they are: nothing more comes or goes on them, and whoever used them knows it.
    pub fn abandon(&mut self, which: impl Fn(&Flow) -> bool) {
        self.streams.abandon(which);
    }

    /// Drops a connection with all that is still to be written: its far end is gone.
    pub fn disconnect(&mut self, flow: &Flow) {
        self.streams.disconnect(flow);
    }

    /// How the connection of a flow is protected; `None` without a connection of ours, or without TLS.
    pub fn security(&mut self, flow: &Flow) -> Option<Security> {
        self.streams.security(flow)
    }

    /// Takes our certificate from its files again when they have changed.
    pub fn refresh_certificate(&self) {
        if let Some(tls) = &self.tls {
            tls.refresh();
        }
    }

    /// Lets every connection write what it has, and closes it.
    pub async fn close_all(self) {
        let Self { streams, events, .. } = self;
        // A task that has something to tell must not wait for somebody to listen.
        drop(events);
        streams.close_all().await;
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

/// Of the addresses where we listen, the first of `remote`'s family that the system sends to it from, by `route`; else the
/// first of its family.
fn facing(
    listening: impl Iterator<Item = SocketAddr>,
    remote: SocketAddr,
    route: Option<IpAddr>,
) -> Option<SocketAddr> {
    let same_family = listening.filter(|address| address.is_ipv4() == remote.is_ipv4());
    let turned_away = |address: &SocketAddr| !address.ip().is_unspecified() && Some(address.ip()) != route;
    // Of equals it takes the first.
    same_family.min_by_key(turned_away)
}

/// Binds each address; where the machine has no IPv6, those of IPv4 will do.
fn bind_all<T>(
    key: &'static str,
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, BindError> {
    let mut bound = Vec::new();
    let mut missing = None;
    for address in addresses {
        match bind(*address) {
            Ok(socket) => bound.push(socket),
            Err(error) if is_missing_family(*address, &error) => {
                log::info!("nothing listens for SIP on {address}: this machine has no IPv6 ({error})");
                missing = Some(BindError::Other(*address, key, error));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::InUse(*address, key));
            }
            Err(error) => return Err(BindError::Other(*address, key, explained(*address, error))),
        }
    }
    match (bound.is_empty(), missing) {
        (true, Some(error)) => Err(error),
        _ => Ok(bound),
    }
}

/// Why nothing can listen at an address, with the remedy where its port is one that not everybody may have.
pub fn explained(address: SocketAddr, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied || !(1..1024).contains(&address.port()) {
        return error;
    }
    let words = format!(
        "{error}: a port below 1024 needs CAP_NET_BIND_SERVICE, which a drop-in of the system unit gives by \
         AmbientCapabilities= and CapabilityBoundingSet="
    );
    io::Error::new(error.kind(), words)
}

/// A socket for datagrams and one for connections, at the same port (RFC 3261 section 18.2.1).
fn bind_both(address: SocketAddr, tcp: bool) -> io::Result<(UdpSocket, Option<TcpListener>)> {
    let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let socket = UdpSocket::bind(address)?;
        if !tcp {
            return Ok((socket, None));
        }
        match streams::bind(socket.bound()) {
            Ok(listener) => return Ok((socket, Some(listener))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn udp_flow(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Protocol::Udp, local, remote, tls: TlsRequirement::default() }
}

async fn receive(socket: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
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
        if events.send(Event::Arrival(arrival)).await.is_err() {
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

/// Whether the machine has no IPv6. An address of its own that is not there is a mistake, or comes later.
fn is_missing_family(address: SocketAddr, error: &io::Error) -> bool {
    let everywhere = address.ip().is_unspecified() || address.ip().is_loopback();
    address.is_ipv6()
        && match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => true,
            Some(libc::EADDRNOTAVAIL) => everywhere,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SipConfig {
        SipConfig {
            listen: vec![address.parse().unwrap()],
            tcp: false,
            tls: None,
            user_agent: "test".to_owned(),
            name_servers: Vec::new(),
        }
    }

    fn udp(remote: SocketAddr) -> Place {
        Place { transport: Protocol::Udp, remote }
    }

    // Root, as whom tests may run, is refused no port.
    #[test]
    fn a_refused_port_below_1024_has_its_remedy() {
        let refused = |address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            let bind = |_: SocketAddr| Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
            bind_all("tls-listen", &[address], bind).unwrap_err().to_string()
        };
        let low = refused("0.0.0.0:443");
        assert!(low.contains("CAP_NET_BIND_SERVICE") && low.contains("Check [sip] tls-listen"), "{low}");
        assert!(!refused("0.0.0.0:5061").contains("CAP_NET_BIND_SERVICE"));
    }

    #[tokio::test]
    async fn datagrams_arrive_with_both_addresses_and_answers_leave_from_the_one_that_was_asked() {
        let mut transport = Transport::bind(&at("0.0.0.0:0")).unwrap();
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
    async fn of_several_addresses_the_one_that_the_route_leaves_from_is_used() {
        // The system sends to all of its loopback from 127.0.0.1.
        let remote = "127.0.0.9:9".parse().unwrap();
        for order in [["127.0.0.2:0", "127.0.0.1:0"], ["127.0.0.1:0", "127.0.0.2:0"]] {
            let listen = order.iter().map(|address| address.parse().unwrap()).collect();
            let transport = Transport::bind(&SipConfig { listen, ..at("127.0.0.1:0") }).unwrap();
            let mut bound = transport.sockets.iter().map(|socket| socket.bound());
            let near = bound.find(|bound| bound.ip() == IpAddr::from([127, 0, 0, 1]));
            let flow = transport.flow_to(udp(remote), TlsRequirement::default()).unwrap();
            assert_eq!(Some(flow.local), near, "{order:?}");
        }
        // An address that no route leaves from is better than none.
        let transport = Transport::bind(&at("127.0.0.2:0")).unwrap();
        let flow = transport.flow_to(udp(remote), TlsRequirement::default()).unwrap();
        assert_eq!(flow.local, transport.sockets[0].bound());
    }

    #[tokio::test]
    async fn a_closed_port_is_reported_with_its_address_and_nothing_else_stops() {
        let mut transport = Transport::bind(&at("127.0.0.1:0")).unwrap();
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let open = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let flow = transport.flow_to(udp(closed), TlsRequirement::default()).unwrap();
        transport.send(&flow, b"anyone?").unwrap();
        let Arrival::Failed { flow: failed, .. } = transport.receive().await else { panic!("a report") };
        assert_eq!(failed.remote, closed);
        let flow = transport.flow_to(udp(open.local_addr().unwrap()), TlsRequirement::default()).unwrap();
        transport.send(&flow, b"you").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(open.recv(&mut buffer).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_datagram_that_was_too_long_is_no_sign_that_nobody_is_there() {
        let mut transport = Transport::bind(&at("127.0.0.1:0")).unwrap();
        let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let flow = transport.flow_to(udp(peer.local_addr().unwrap()), TlsRequirement::default()).unwrap();
        // IPv4 has room for 65507 bytes. Of more the kernel keeps a report, which waits behind the first datagram here.
        assert_eq!(transport.send(&flow, &[0; 65_508]), Err(TransportError::NoRoute));
        for word in [b"one", b"two"] {
            peer.send_to(word, flow.local).await.unwrap();
            match transport.receive().await {
                Arrival::Datagram { bytes, .. } => assert_eq!(bytes, word),
                other => panic!("{other:?} is no datagram"),
            }
        }
    }

    #[tokio::test]
    async fn a_taken_port_says_what_to_do() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = Transport::bind(&at(&taken.local_addr().unwrap().to_string())).err().unwrap();
        assert!(error.to_string().contains("set another port in [sip] listen"), "{error}");
    }
}
