//! The sockets of discovery: two for each local address, never those of SIP or sound.

use std::net::{IpAddr, SocketAddr};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use voipd_nat::stun::{MOST_PATHS, Path, Role, SocketId, Transmit};

use crate::transport::udp::{Received, UdpSocket};

/// Longest datagram that is taken: answers are far shorter.
const LONGEST: usize = 1500;
/// Packets that wait for the driver; more are lost, as the network may lose them.
const WAITING: usize = 64;

/// What came in by a socket.
pub(super) struct Incoming {
    pub(super) socket: SocketId,
    pub(super) from: SocketAddr,
    /// `None` when ICMP says that nobody is there.
    pub(super) bytes: Option<Vec<u8>>,
}

/// The sockets of one round.
pub(super) struct Sockets {
    paths: Vec<[std::sync::Arc<UdpSocket>; 2]>,
    /// Reads until the round is over.
    tasks: JoinSet<()>,
    incoming: mpsc::Receiver<Incoming>,
    sender: mpsc::Sender<Incoming>,
}

impl Default for Sockets {
    fn default() -> Self {
        let (sender, incoming) = mpsc::channel(WAITING);
        Self { paths: Vec::new(), tasks: JoinSet::new(), incoming, sender }
    }
}

impl Sockets {
    /// The path from a local address; made where there is none yet.
    pub(super) fn path_from(&mut self, local: IpAddr) -> std::io::Result<usize> {
        if let Some(index) = self.paths.iter().position(|[first, _]| first.bound().ip() == local) {
            return Ok(index);
        }
        if self.paths.len() >= MOST_PATHS {
            return Err(std::io::Error::other("this machine has more addresses than are looked at"));
        }
        let index = self.paths.len();
        let bind = || UdpSocket::bind(SocketAddr::new(local, 0)).map(std::sync::Arc::new);
        let sockets = [bind()?, bind()?];
        for (socket, role) in sockets.iter().zip([Role::Mapping, Role::Filtering]) {
            let (socket, sender) = (socket.clone(), self.sender.clone());
            self.tasks.spawn(read(socket, SocketId { path: index, role }, sender));
        }
        self.paths.push(sockets);
        Ok(index)
    }

    /// The paths in the order in which they were made.
    pub(super) fn paths(&self) -> Vec<Path> {
        let path = |[mapping, filtering]: &[std::sync::Arc<UdpSocket>; 2]| Path {
            mapping: mapping.bound(),
            filtering: filtering.bound(),
        };
        self.paths.iter().map(path).collect()
    }

    pub(super) fn send(&self, transmit: &Transmit) -> std::io::Result<()> {
        let Some([mapping, filtering]) = self.paths.get(transmit.socket.path) else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        let socket = match transmit.socket.role {
            Role::Mapping => mapping,
            Role::Filtering => filtering,
        };
        socket.send(socket.bound().ip(), transmit.to, &transmit.bytes)
    }

    /// Waits for the next packet, for ever where there is no socket.
    pub(super) async fn receive(&mut self) -> Incoming {
        match self.incoming.recv().await {
            Some(incoming) => incoming,
            // Not while we hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}

async fn read(socket: std::sync::Arc<UdpSocket>, id: SocketId, sender: mpsc::Sender<Incoming>) {
    let mut buffer = [0; LONGEST];
    loop {
        let (from, bytes) = match socket.receive(&mut buffer).await {
            Ok(Received::Datagram { len, remote, .. }) => (remote, buffer.get(..len).map(<[u8]>::to_vec)),
            Ok(Received::Unreachable(remote)) => (remote, None),
            Err(error) => {
                log::debug!("a socket of discovery: {error}");
                return;
            }
        };
        if let Err(mpsc::error::TrySendError::Closed(_)) =
            sender.try_send(Incoming { socket: id, from, bytes })
        {
            return;
        }
        // Whoever floods the socket is not to have the daemon's time for himself.
        tokio::task::yield_now().await;
    }
}
