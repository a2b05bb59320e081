//! The relay of a meeting point, asked by clients of another library: whom it serves, and whom it reaches.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout;
use turn_client_proto::api::{Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::types::stun::TransportType;
use turn_client_proto::types::{Instant as StunInstant, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;
use voipd::turn_server::{Relay, RelayConfig};
use voipd_sip::digest::Secret;

const LONG: Duration = Duration::from_secs(15);
/// Longer than anything takes on its way through this machine.
const QUIET: Duration = Duration::from_millis(1500);
/// A login that outlives the test, and one that was over before it.
const GOOD: &str = "99999999999:bob";
const OVER: &str = "1000000000:bob";

/// A relay that may reach one address of this machine besides itself.
async fn relay(networks: &[&str]) -> (Relay, SocketAddr) {
    let config = RelayConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ports: 20_000..=30_000,
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
    };
    let relay = Relay::start(config, "meet.example.org".to_owned(), 7).await.unwrap();
    for user in [GOOD, OVER] {
        relay.grant(user.to_owned(), Secret::new("secret"));
    }
    let address = relay.uri().strip_prefix("turn:").unwrap().parse().unwrap();
    (relay, address)
}

struct Client {
    socket: UdpSocket,
    turn: TurnClientUdp,
    start: Instant,
}

impl Client {
    async fn new(relay: SocketAddr, user: &str, password: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = TurnConfig::new(TurnCredentials::new(user, password));
        let turn = TurnClientUdp::allocate(socket.local_addr().unwrap(), relay, config);
        Self { socket, turn, start: Instant::now() }
    }

    fn now(&self) -> StunInstant {
        StunInstant::from_std(self.start)
    }

    /// Runs until something is told; `None` where nothing is within the time.
    async fn event(&mut self, limit: Duration) -> Option<TurnEvent> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let polled = self.turn.poll(self.now());
            while let Some(transmit) = self.turn.poll_transmit(self.now()) {
                self.socket.send_to(&transmit.data, transmit.to).await.unwrap();
            }
            if let Some(event) = self.turn.poll_event() {
                return Some(event);
            }
            if matches!(polled, TurnPollRet::Closed) {
                return None;
            }
            let mut buffer = [0; 2048];
            let received = timeout(Duration::from_millis(50), self.socket.recv_from(&mut buffer)).await;
            if let Ok(Ok((length, from))) = received {
                let local = self.socket.local_addr().unwrap();
                let transmit = Transmit::new(buffer[..length].to_vec(), TransportType::Udp, from, local);
                if let TurnRecvRet::PeerData(data) = self.turn.recv(transmit, self.now()) {
                    panic!("{data:?} came unasked");
                }
            }
        }
        None
    }

    async fn allocated(&mut self) -> Option<SocketAddr> {
        match self.event(LONG).await? {
            TurnEvent::AllocationCreated(_, address) => Some(address),
            TurnEvent::AllocationCreateFailed(_) => None,
            other => panic!("{other:?}"),
        }
    }

    async fn permit(&mut self, peer: IpAddr, limit: Duration) -> bool {
        self.turn.create_permission(TransportType::Udp, peer, self.now()).unwrap();
        matches!(self.event(limit).await, Some(TurnEvent::PermissionCreated(..)))
    }

    async fn send(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let built = self.turn.send_to(TransportType::Udp, peer, bytes.to_vec(), self.now()).unwrap();
        let built = built.unwrap().build();
        self.socket.send_to(&built.data, built.to).await.unwrap();
    }

    /// What a peer has sent.
    async fn heard(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (length, from) = timeout(LONG, self.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        let local = self.socket.local_addr().unwrap();
        let transmit = Transmit::new(buffer[..length].to_vec(), TransportType::Udp, from, local);
        match self.turn.recv(transmit, self.now()) {
            TurnRecvRet::PeerData(data) => data.data().to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_has_a_login_is_relayed_both_ways() {
    let (_relay, address) = relay(&["127.0.0.2/32"]).await;
    let mut bob = Client::new(address, GOOD, "secret").await;
    let relayed = bob.allocated().await.unwrap();
    assert_eq!(relayed.ip(), address.ip());
    assert!((20_000..=30_000).contains(&relayed.port()), "{relayed}");
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let there = peer.local_addr().unwrap();
    assert!(bob.permit(there.ip(), LONG).await);
    bob.send(there, b"from bob").await;
    let mut buffer = [0; 64];
    let (length, from) = timeout(LONG, peer.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..length], from), (&b"from bob"[..], relayed));
    peer.send_to(b"to bob", relayed).await.unwrap();
    assert_eq!(bob.heard().await, b"to bob");
}

#[tokio::test]
async fn strangers_and_logins_that_are_wrong_or_over_get_nothing() {
    let (_relay, address) = relay(&["127.0.0.0/8"]).await;
    for (user, password) in
        [("99999999999:eve", "secret"), (GOOD, "guessed"), (OVER, "secret"), ("", ""), ("bob", "secret")]
    {
        let mut stranger = Client::new(address, user, password).await;
        let event = stranger.event(QUIET).await;
        assert!(!matches!(event, Some(TurnEvent::AllocationCreated(..))), "{user}: {event:?}");
    }
    // The relay is well.
    assert!(Client::new(address, GOOD, "secret").await.allocated().await.is_some());
}

#[tokio::test]
async fn who_is_no_friend_any_more_is_not_relayed() {
    let (relay, address) = relay(&["127.0.0.2/32"]).await;
    let mut bob = Client::new(address, GOOD, "secret").await;
    let relayed = bob.allocated().await.unwrap();
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let there = peer.local_addr().unwrap();
    assert!(bob.permit(there.ip(), LONG).await);
    relay.revoke("bob".to_owned());
    // His address at the relay is free as soon as the relay has heard it.
    let free = async {
        while UdpSocket::bind(relayed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, free).await.unwrap();
    bob.send(there, b"still here").await;
    let mut buffer = [0; 64];
    assert!(timeout(QUIET, peer.recv_from(&mut buffer)).await.is_err());
    let mut again = Client::new(address, GOOD, "secret").await;
    assert!(!matches!(again.event(QUIET).await, Some(TurnEvent::AllocationCreated(..))));
}

#[tokio::test]
async fn networks_that_are_not_everybodys_are_not_reached() {
    let (_relay, address) = relay(&["127.0.0.2/32"]).await;
    let mut bob = Client::new(address, GOOD, "secret").await;
    let relayed = bob.allocated().await.unwrap();
    // A service of the relay's own machine, by its loopback and by the relay's own address.
    let mut services = Vec::new();
    for place in ["127.0.0.3:0", "127.0.0.1:0"] {
        services.push(UdpSocket::bind(place).await.unwrap());
    }
    for service in &services {
        let there = service.local_addr().unwrap();
        assert!(bob.permit(there.ip(), LONG).await);
        bob.send(there, b"to the inside").await;
        service.send_to(b"from the inside", relayed).await.unwrap();
    }
    // What is allowed goes through, behind all that is not.
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let there = peer.local_addr().unwrap();
    assert!(bob.permit(there.ip(), LONG).await);
    bob.send(there, b"to a peer").await;
    let mut buffer = [0; 64];
    let (length, _) = timeout(LONG, peer.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"to a peer");
    peer.send_to(b"from a peer", relayed).await.unwrap();
    assert_eq!(bob.heard().await, b"from a peer");
    for service in &services {
        assert!(service.try_recv_from(&mut buffer).is_err(), "{service:?}");
    }
}

#[tokio::test]
async fn a_friend_has_twelve_allocations_for_sixty_four_peers_each() {
    let (_relay, address) = relay(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = Client::new(address, GOOD, "secret").await;
        assert!(client.allocated().await.is_some());
        clients.push(client);
    }
    assert_eq!(Client::new(address, GOOD, "secret").await.allocated().await, None);
    let bob = &mut clients[0];
    for peer in 1..=64 {
        assert!(bob.permit(IpAddr::from([198, 51, 100, peer]), LONG).await, "{peer}");
    }
    assert!(!bob.permit(IpAddr::from([198, 51, 100, 65]), QUIET).await);
}
