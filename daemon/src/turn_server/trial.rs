//! Whether a relay is what it is said to be: a stranger's packet from a port that it has never heard of gets there, it
//! knows the login, and it relays at the address that it was said to have. Knows nothing of friends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};
use voipd_nat::ice::{Base, CandidateKind, IceAgent, Output, Role, Settings};
use voipd_nat::turn::{RelayServer, RelayTransport};
use voipd_sip::rendezvous::RelayLogin;

use crate::transport::local_ip_towards_ip;

/// How long a relay may take.
const TRIAL: Duration = Duration::from_secs(5);
/// Longest answer read, in bytes.
const LONGEST: usize = 2048;

/// Has the relay give an address, and gives it back. `seed` must be unpredictable.
///
/// # Errors
/// It does not, or at another address; why, for people to read.
pub async fn try_relay(address: SocketAddr, login: RelayLogin, seed: [u8; 32]) -> Result<(), String> {
    let silent = |_| "it does not answer: a NAT or a firewall stands before it".to_owned();
    let relayed = timeout(TRIAL, allocate(address, login, seed)).await.map_err(silent)??;
    if relayed.ip().to_canonical() != address.ip().to_canonical() {
        return Err(format!("it relays at {}, not at {}", relayed.ip(), address.ip()));
    }
    Ok(())
}

async fn allocate(address: SocketAddr, login: RelayLogin, seed: [u8; 32]) -> Result<SocketAddr, String> {
    let failed = |error: std::io::Error| error.to_string();
    let local = local_ip_towards_ip(address.ip()).ok_or("this machine has no route to it")?;
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await.map_err(failed)?;
    let base = socket.local_addr().map_err(failed)?;
    let server = RelayServer {
        name: address.to_string(),
        address,
        transport: RelayTransport::Udp,
        username: login.user,
        password: login.password.expose().to_owned(),
    };
    let settings = Settings {
        role: Role::Controlling,
        components: 1,
        bases: vec![Base { component: 1, address: base, preference: u16::MAX }],
        stun_servers: Vec::new(),
        relays: vec![server],
    };
    let mut agent = IceAgent::by_relays_only(Instant::now(), settings, seed);
    let mut buffer = vec![0; LONGEST];
    let result = loop {
        let wake = match agent.poll_output() {
            Output::Transmit { remote, bytes, .. } => {
                socket.send_to(&bytes, remote).await.map_err(failed)?;
                continue;
            }
            Output::Candidate(candidate) if candidate.kind == CandidateKind::Relayed => {
                break Ok(candidate.address);
            }
            Output::RelayFailed { error, .. } => break Err(error.to_string()),
            Output::Timeout(wake) => wake.unwrap_or_else(|| Instant::now() + TRIAL),
            _ => continue,
        };
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let (length, from) = received.map_err(failed)?;
                let bytes = buffer.get(..length).unwrap_or_default();
                agent.handle_datagram(Instant::now(), base, from, bytes);
            }
            () = sleep_until(wake.into()) => agent.handle_timeout(Instant::now()),
        }
    };
    agent.close(Instant::now());
    loop {
        match agent.poll_output() {
            // One packet that gets lost costs an allocation ten minutes.
            Output::Transmit { remote, bytes, .. } => drop(socket.send_to(&bytes, remote).await),
            Output::Timeout(_) => return result,
            _ => {}
        }
    }
}
