//! Pinholes: which ports of our IPv6 address the router's firewall shall let in, and the socket by which it is asked.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use voipd_agent::view::CallId;
use voipd_media::LocalMedia;
use voipd_nat::mapping::{MappingId, PinholeOutput, PinholeView, Pinholes, Purpose, Transport};

use super::{Driver, Finished};
use crate::network::Snapshot;
use crate::transport::local_ip_towards_ip;

/// Where routers take PCP (RFC 6887 section 19.1).
const PCP: u16 = 5351;
/// Somewhere beyond every local network: the way there is the way out.
const BEYOND: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1));
/// Longest message of PCP (RFC 6887 section 7).
const LONGEST: usize = 1100;

/// All pinholes.
pub(super) struct Door {
    pinholes: Pinholes,
    /// The way out: our address and the router's.
    way: Option<(Ipv6Addr, SocketAddrV6)>,
    socket: Option<Socket>,
    sip: Vec<(Transport, SocketAddr)>,
    sip_open: Vec<MappingId>,
    calls: BTreeMap<CallId, [MappingId; 2]>,
    wake_at: Option<Instant>,
}

/// It sends from our address, which is the one that the router lets in, and hears that router alone.
struct Socket {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Door {
    /// `sip`: where SIP is taken without TLS over IPv6.
    pub(super) fn new(sip: Vec<(Transport, SocketAddr)>, mut seed: [u8; 32]) -> Self {
        // Not what mappings draw from.
        seed.reverse();
        Self {
            pinholes: Pinholes::new(seed),
            way: None,
            socket: None,
            sip,
            sip_open: Vec::new(),
            calls: BTreeMap::new(),
            wake_at: None,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pinholes.is_idle()
    }

    /// A router leads out by IPv6.
    pub(super) fn has_way(&self) -> bool {
        self.way.is_some()
    }

    pub(super) fn views(&self) -> impl Iterator<Item = PinholeView> {
        self.pinholes.views()
    }

    /// Whose port it is.
    pub(super) fn call_of(&self, id: MappingId) -> Option<CallId> {
        self.calls.iter().find(|(_, ports)| ports.contains(&id)).map(|(call, _)| *call)
    }

    fn send(&mut self, bytes: &[u8], finished: &mpsc::UnboundedSender<Finished>) -> io::Result<()> {
        let Some((local, router)) = self.way else { return Ok(()) };
        let socket = match &self.socket {
            Some(known) => Arc::clone(&known.socket),
            None => {
                let socket = std::net::UdpSocket::bind((local, 0))?;
                socket.connect(router)?;
                socket.set_nonblocking(true)?;
                let socket = Arc::new(UdpSocket::from_std(socket)?);
                let reader = tokio::spawn(read(Arc::clone(&socket), finished.clone()));
                self.socket = Some(Socket { socket: Arc::clone(&socket), reader });
                socket
            }
        };
        socket.try_send(bytes).map(drop)
    }
}

/// Hands over what the router says, until somebody ends it.
async fn read(socket: Arc<UdpSocket>, finished: mpsc::UnboundedSender<Finished>) {
    let mut bytes = [0; LONGEST];
    loop {
        match socket.recv(&mut bytes).await {
            Ok(length) => {
                let bytes = bytes.get(..length).unwrap_or_default().to_vec();
                if finished.send(Finished::RouterSaid(bytes)).is_err() {
                    return;
                }
            }
            // Nobody listens there: what is asked again says so again, and not more often.
            Err(error) => log::debug!("pinholes: the router cannot be asked: {error}"),
        }
    }
}

/// The way out by IPv6: our global address and the router, where there are both.
fn way_out(network: &Snapshot) -> Option<(Ipv6Addr, SocketAddrV6)> {
    let routes = network.default_routes.iter().filter(|route| !route.ipv4);
    let route = routes.min_by_key(|route| route.metric)?;
    let Some(IpAddr::V6(router)) = route.gateway else { return None };
    let Some(IpAddr::V6(local)) = local_ip_towards_ip(BEYOND) else { return None };
    let here = network.interface_of(IpAddr::V6(local))?.index == route.interface;
    let scope = if router.is_unicast_link_local() { route.interface } else { 0 };
    (here && voipd_agent::is_global_ipv6(local)).then(|| (local, SocketAddrV6::new(router, PCP, 0, scope)))
}

impl Driver {
    /// Once a second, and when the network has changed. `strangers`: somebody outside may call by IPv6 without a server.
    /// `slept`: what the router had for us may be gone.
    pub(super) fn review_pinholes(&mut self, now: Instant, strangers: bool, slept: bool) {
        let way = way_out(&self.network);
        if way != self.door.way {
            (self.door.way, self.door.socket) = (way, None);
            self.door.pinholes.set_address(now, way.map(|(local, _)| local));
        }
        if slept {
            self.door.pinholes.renew_all(now);
        }
        let wanted = strangers && way.is_some();
        if wanted && self.door.sip_open.is_empty() {
            let ours = |at: &SocketAddr| at.ip().is_unspecified() || way.is_some_and(|(ip, _)| at.ip() == ip);
            let ports: Vec<_> = self.door.sip.iter().filter(|(_, at)| ours(at)).copied().collect();
            for (transport, at) in ports {
                let id = self.pinhole_number();
                if self.door.pinholes.open(now, id, transport, at.port(), Purpose::Sip) {
                    self.door.sip_open.push(id);
                }
            }
        }
        if !wanted {
            for id in std::mem::take(&mut self.door.sip_open) {
                self.door.pinholes.close(now, id);
            }
        }
        self.serve_pinholes(now);
    }

    /// Media sockets are bound: what a peer sends there first shall be let in. The call does not wait for it.
    pub(super) fn open_for_call(&mut self, now: Instant, call: CallId, local: LocalMedia) {
        let ours = self.door.way.is_some_and(|(ip, _)| local.address == IpAddr::V6(ip));
        if !ours || !self.agent.wants_pinhole(call) {
            return;
        }
        self.close_for_call(now, call);
        let ids =
            [(local.rtp_port, Purpose::Rtp), (local.rtcp_port, Purpose::Rtcp)].map(|(port, purpose)| {
                let id = self.pinhole_number();
                self.door.pinholes.open(now, id, Transport::Udp, port, purpose);
                id
            });
        self.door.calls.insert(call, ids);
        self.serve_pinholes(now);
    }

    pub(super) fn close_for_call(&mut self, now: Instant, call: CallId) {
        for id in self.door.calls.remove(&call).into_iter().flatten() {
            self.door.pinholes.close(now, id);
        }
        self.serve_pinholes(now);
    }

    pub(super) fn close_all_pinholes(&mut self, now: Instant) {
        self.door.pinholes.shut_down(now);
        self.serve_pinholes(now);
    }

    pub(super) fn router_said(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        self.door.pinholes.handle_datagram(now, bytes);
        self.serve_pinholes(now);
    }

    pub(super) fn pinholes_timeout(&mut self, now: Instant) {
        if self.door.wake_at.is_some_and(|at| at <= now) {
            self.door.pinholes.handle_timeout(now);
            self.serve_pinholes(now);
        }
    }

    fn serve_pinholes(&mut self, now: Instant) {
        let mut changed = false;
        loop {
            match self.door.pinholes.poll_output() {
                PinholeOutput::Send(bytes) => {
                    // What is not sent is not answered, and so sent again.
                    if let Err(error) = self.door.send(&bytes, &self.finished) {
                        log::debug!("pinholes: the router cannot be asked: {error}");
                    }
                }
                PinholeOutput::Changed => changed = true,
                PinholeOutput::Timeout(at) => {
                    self.door.wake_at = at;
                    break;
                }
            }
        }
        if changed {
            self.publish_mappings(now);
        }
    }
}
