//! The relay of a meeting point, asked by clients of another library: whom it serves, and whom it reaches.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use turn_client_proto::api::{Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::attribute::XorRelayedAddress;
use turn_client_proto::types::stun::TransportType;
use turn_client_proto::types::stun::message::{Message, MessageClass};
use turn_client_proto::types::{AddressFamily, Instant as StunInstant, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;
use voipd::turn_server::{Relay, RelayConfig, try_relay};
use voipd_nat::turn::frame::{channel_data, message_length};
use voipd_sip::digest::{Login, Secret, UserHash};
use voipd_sip::rendezvous::{RelayKey, RelayLogin};

const LONG: Duration = Duration::from_secs(15);
/// Longer than anything takes on its way through this machine.
const QUIET: Duration = Duration::from_millis(1500);
/// A login that outlives the test, and one that was over before it.
const GOOD: &str = "99999999999:bob";
const OVER: &str = "1000000000:bob";

/// A relay that may reach these networks of this machine besides itself.
async fn relay(networks: &[&str]) -> (Relay, SocketAddr) {
    relay_at("127.0.0.1:0", networks).await
}

async fn relay_at(listen: &str, networks: &[&str]) -> (Relay, SocketAddr) {
    let start = || {
        let config = RelayConfig {
            listen: listen.parse().unwrap(),
            ports: 20_000..=30_000,
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        };
        Relay::start(config, "meet.example.org".to_owned(), 7).unwrap()
    };
    // The port that the system gave for datagrams may be somebody's for connections.
    let mut relay = start();
    for _ in 0..10 {
        if relay.uris().len() < 2 {
            relay = start();
        }
    }
    for user in [GOOD, OVER] {
        relay.grant(user.to_owned(), Secret::new("secret"));
    }
    let address = relay.listen();
    assert_eq!(relay.uris(), [format!("turn:{address}"), format!("turn:{address}?transport=tcp")]);
    (relay, address)
}

struct Client {
    socket: UdpSocket,
    turn: TurnClientUdp,
    start: Instant,
    /// What it has sent last by itself.
    sent: Vec<u8>,
}

impl Client {
    async fn new(relay: SocketAddr, user: &str, password: &str) -> Self {
        let config = TurnConfig::new(TurnCredentials::new(user, password));
        Self::with(relay, "127.0.0.1:0", config).await
    }

    /// One with an IPv6 address, which asks for a relayed address of each family, as voipd does then.
    async fn of_both_families(relay: SocketAddr) -> Self {
        let mut config = TurnConfig::new(TurnCredentials::new(GOOD, "secret"));
        config.add_address_family(AddressFamily::IPV6);
        Self::with(relay, "[::1]:0", config).await
    }

    async fn with(relay: SocketAddr, local: &str, config: TurnConfig) -> Self {
        let socket = UdpSocket::bind(local).await.unwrap();
        let turn = TurnClientUdp::allocate(socket.local_addr().unwrap(), relay, config);
        Self { socket, turn, start: Instant::now(), sent: Vec::new() }
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
                self.sent = transmit.data.to_vec();
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

    /// Whether the relay lets the peer's packets through; it says so in any case.
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
async fn a_relay_at_an_ipv6_address_relays_for_who_asks_for_both_families() {
    if UdpSocket::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let (_relay, address) = relay_at("[::1]:0", &[]).await;
    let mut bob = Client::of_both_families(address).await;
    let relayed = bob.allocated().await.unwrap();
    assert!(relayed.is_ipv6() && relayed.ip() == address.ip(), "{relayed}");
    assert!(matches!(bob.event(LONG).await, Some(TurnEvent::AllocationCreateFailed(AddressFamily::IPV4))));
    let mut other = Client::of_both_families(address).await;
    let there = other.allocated().await.unwrap();
    assert!(matches!(other.event(LONG).await, Some(TurnEvent::AllocationCreateFailed(_))));
    assert!(bob.permit(there.ip(), LONG).await);
    assert!(other.permit(relayed.ip(), LONG).await);
    bob.send(there, b"from relay to relay").await;
    assert_eq!(other.heard().await, b"from relay to relay");
    // What is given back is free.
    bob.turn.delete(bob.now()).unwrap();
    let free = async {
        let _ = bob.event(QUIET).await;
        while UdpSocket::bind(relayed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, free).await.unwrap();
}

#[tokio::test]
async fn who_has_not_heard_the_answer_is_answered_once_more() {
    let (_relay, address) = relay(&[]).await;
    let mut bob = Client::new(address, GOOD, "secret").await;
    let relayed = bob.allocated().await.unwrap();
    // The request that the answer belongs to, as it goes out again when nothing comes.
    bob.socket.send_to(&bob.sent, address).await.unwrap();
    let mut buffer = [0; 2048];
    let (length, _) = timeout(LONG, bob.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    let answer = Message::from_bytes(&buffer[..length]).unwrap();
    assert_eq!(answer.class(), MessageClass::Success);
    let told: XorRelayedAddress = answer.attribute().unwrap();
    assert_eq!(told.addr(answer.transaction_id()), relayed);
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
    // Permissions for what is somebody's own are refused, also where IPv6 dresses up as it or an IPv4 address as IPv6.
    for inside in ["127.0.0.3", "10.1.2.3", "192.168.1.1", "169.254.169.254", "224.0.0.1", "255.255.255.255"]
    {
        assert!(!bob.permit(inside.parse().unwrap(), LONG).await, "{inside}");
    }
    // A service of the relay's own machine, by its loopback and by the relay's own address.
    let mut services = Vec::new();
    for place in ["127.0.0.3:0", "127.0.0.1:0"] {
        services.push(UdpSocket::bind(place).await.unwrap());
    }
    for service in &services {
        let there = service.local_addr().unwrap();
        // The relay's own address is everybody's relayed one: its ports are told apart.
        if bob.permit(there.ip(), LONG).await {
            assert_eq!(there.ip(), address.ip());
            bob.send(there, b"to the inside").await;
        }
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

/// A client whose network lets no datagrams through.
struct Connected {
    stream: TcpStream,
    turn: TurnClientTcp,
    held: Vec<u8>,
    start: Instant,
}

impl Connected {
    async fn new(relay: SocketAddr, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(relay).await.unwrap();
        let config = TurnConfig::new(TurnCredentials::new(user, password));
        let turn = TurnClientTcp::allocate(stream.local_addr().unwrap(), relay, config);
        Self { stream, turn, held: Vec::new(), start: Instant::now() }
    }

    fn now(&self) -> StunInstant {
        StunInstant::from_std(self.start)
    }

    async fn flush(&mut self) {
        while let Some(transmit) = self.turn.poll_transmit(self.now()) {
            self.stream.write_all(&transmit.data).await.unwrap();
        }
    }

    /// The next message of the relay, without padding, if there is one by now; an error where the connection is over.
    async fn message(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let whole = message_length(&self.held).unwrap().filter(|length| *length <= self.held.len());
        if let Some(length) = whole {
            let message: Vec<u8> = self.held.drain(..length).collect();
            let end = channel_data(&message).map_or(message.len(), |(_, data)| 4 + data.len());
            return Ok(Some(message[..end].to_vec()));
        }
        match timeout(Duration::from_millis(50), self.stream.read_buf(&mut self.held)).await {
            Ok(Ok(0) | Err(_)) => Err(()),
            Ok(Ok(_)) | Err(_) => Ok(None),
        }
    }

    /// Runs until something is told, or a peer's packet comes.
    async fn event(&mut self) -> Option<Result<TurnEvent, Vec<u8>>> {
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            let polled = self.turn.poll(self.now());
            self.flush().await;
            if let Some(event) = self.turn.poll_event() {
                return Some(Ok(event));
            }
            if matches!(polled, TurnPollRet::Closed) {
                return None;
            }
            let Some(message) = self.message().await.ok()? else { continue };
            let (from, local) = (self.stream.peer_addr().unwrap(), self.stream.local_addr().unwrap());
            let transmit = Transmit::new(message, TransportType::Tcp, from, local);
            if let TurnRecvRet::PeerData(data) = self.turn.recv(transmit, self.now()) {
                return Some(Err(data.data().to_vec()));
            }
        }
        None
    }
}

#[tokio::test]
async fn who_reaches_the_relay_by_tcp_alone_is_relayed_as_well() {
    let (_relay, address) = relay(&["127.0.0.2/32"]).await;
    let mut bob = Connected::new(address, GOOD, "secret").await;
    let relayed = match bob.event().await {
        Some(Ok(TurnEvent::AllocationCreated(_, relayed))) => relayed,
        other => panic!("{other:?}"),
    };
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let there = peer.local_addr().unwrap();
    bob.turn.create_permission(TransportType::Udp, there.ip(), bob.now()).unwrap();
    assert!(matches!(bob.event().await, Some(Ok(TurnEvent::PermissionCreated(..)))));
    bob.turn.bind_channel(TransportType::Udp, there, bob.now()).unwrap();
    assert!(matches!(bob.event().await, Some(Ok(TurnEvent::ChannelCreated(..)))));
    // Of every length that padding makes a difference to.
    for text in [&b"bob"[..], b"from", b"from bob!", b"from bob at"] {
        let sent = bob.turn.send_to(TransportType::Udp, there, text.to_vec(), bob.now()).unwrap();
        let mut bytes = sent.unwrap().build().data;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bob.stream.write_all(&bytes).await.unwrap();
        let mut buffer = [0; 64];
        let (length, from) = timeout(LONG, peer.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!((&buffer[..length], from), (text, relayed));
        peer.send_to(text, relayed).await.unwrap();
        assert_eq!(bob.event().await.unwrap().unwrap_err(), text);
    }
    // What the connection was for goes with it.
    drop(bob);
    let free = async {
        while UdpSocket::bind(relayed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, free).await.unwrap();
}

#[tokio::test]
async fn by_tcp_strangers_get_nothing_and_nonsense_ends_the_connection() {
    let (_relay, address) = relay(&["127.0.0.0/8"]).await;
    for (user, password) in [("99999999999:eve", "secret"), (GOOD, "guessed"), (OVER, "secret")] {
        let mut stranger = Connected::new(address, user, password).await;
        let allocated = async {
            loop {
                match stranger.event().await {
                    Some(Ok(TurnEvent::AllocationCreated(..))) => return true,
                    None | Some(Ok(TurnEvent::AllocationCreateFailed(_))) => return false,
                    Some(_) => {}
                }
            }
        };
        assert_ne!(timeout(QUIET, allocated).await, Ok(true), "{user}");
    }
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 3, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"");
    }
    let mut bob = Connected::new(address, GOOD, "secret").await;
    assert!(matches!(bob.event().await, Some(Ok(TurnEvent::AllocationCreated(..)))));
}

#[tokio::test]
async fn a_friend_relays_no_more_than_his_share() {
    let (_relay, address) = relay(&["127.0.0.2/32"]).await;
    let mut bob = Client::new(address, GOOD, "secret").await;
    let relayed = bob.allocated().await.unwrap();
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let there = peer.local_addr().unwrap();
    assert!(bob.permit(there.ip(), LONG).await);
    // Twice of what may come at once; what goes through is counted while it is sent, so that no buffer hides it.
    let begun = Instant::now();
    let (mut sent, mut came) = (0_u64, 0_u64);
    let mut buffer = [0; 2048];
    while sent < 4_000_000 {
        peer.send_to(&[7; 1000], relayed).await.unwrap();
        sent += 1000;
        if sent % 20_000 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while let Ok((length, _)) = bob.socket.try_recv_from(&mut buffer) {
            came += length as u64;
        }
    }
    while let Ok(Ok((length, _))) = timeout(QUIET, bob.socket.recv_from(&mut buffer)).await {
        came += length as u64;
    }
    // A burst and a rate (docs/rendezvous.md), and at most a tenth more for the headers that wrap it.
    let most = 2_000_000.0 + 1_000_000.0 * begun.elapsed().as_secs_f64();
    assert!(came > 100_000 && (came as f64) < most * 1.1, "{came} of {sent} bytes, {most} at most");
    if begun.elapsed() < Duration::from_secs(2) {
        assert!(came < sent, "nothing was held back");
    }
}

#[tokio::test]
async fn what_strangers_send_is_not_charged_to_the_friend() {
    let (_relay, address) = relay(&["127.0.0.2/32", "127.0.0.3/32"]).await;
    let mut bob = Client::new(address, GOOD, "secret").await;
    let relayed = bob.allocated().await.unwrap();
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.3:0").await.unwrap();
    assert!(bob.permit(peer.local_addr().unwrap().ip(), LONG).await);
    // Far more than a friend may relay, and a little of what he waits for.
    let (mut sent, mut came) = (0, 0);
    let mut buffer = [0; 2048];
    while sent < 500 {
        for _ in 0..20 {
            stranger.send_to(&[7; 1000], relayed).await.unwrap();
        }
        peer.send_to(&[8; 1000], relayed).await.unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        while bob.socket.try_recv_from(&mut buffer).is_ok() {
            came += 1;
        }
    }
    while let Ok(Ok(_)) = timeout(QUIET, bob.socket.recv_from(&mut buffer)).await {
        came += 1;
    }
    assert!(came * 4 > sent * 3 && came <= sent, "{came} of {sent}");
}

#[tokio::test]
async fn logins_of_a_meeting_point_that_is_trusted_open_the_relay_and_no_others() {
    let (relay, address) = relay(&[]).await;
    let hash = UserHash::of("there.example", Login { user: "me.x", password: &Secret::new("mine") });
    let key = RelayKey::of(&hash, "salt");
    let user = "99999999999:anna@there.example";
    let password = key.password(user);
    let refused = async |user: &str| {
        let event = Client::new(address, user, password.expose()).await.event(QUIET).await;
        !matches!(event, Some(TurnEvent::AllocationCreated(..)))
    };
    assert!(refused(user).await);
    relay.trust("there.example".to_owned(), key.clone());
    let mut anna = Client::new(address, user, password.expose()).await;
    let relayed = anna.allocated().await.unwrap();
    assert_eq!(try_relay(address, login(user, &key), [3; 32]).await, Ok(()));
    assert!(refused("99999999999:anna@elsewhere.example").await);
    // What was begun ends with the trust.
    relay.distrust("there.example".to_owned());
    let free = async {
        while UdpSocket::bind(relayed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, free).await.unwrap();
    assert!(refused(user).await);
}

fn login(user: &str, key: &RelayKey) -> RelayLogin {
    RelayLogin { user: user.to_owned(), password: key.password(user) }
}

#[tokio::test]
async fn a_relay_that_is_none_or_another_ones_is_found_out() {
    let hash = UserHash::of("there.example", Login { user: "me.x", password: &Secret::new("mine") });
    let key = RelayKey::of(&hash, "salt");
    let login = login("99999999999:anna@there.example", &key);
    // One that runs, and knows nothing of that login.
    let (_relay, address) = relay(&[]).await;
    let why = try_relay(address, login.clone(), [3; 32]).await.unwrap_err();
    assert!(why.contains("user name or password"), "{why}");
    // Somebody who says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let why = try_relay(silent.local_addr().unwrap(), login, [3; 32]).await.unwrap_err();
    assert!(why.contains("does not answer"), "{why}");
}

#[tokio::test]
async fn a_relay_has_room_for_256_allocations_whoever_asks() {
    let (relay, address) = relay(&[]).await;
    let user = |friend: usize| format!("99999999999:friend{friend}");
    let mut clients: Vec<Client> = Vec::new();
    for friend in 0.. {
        let user = user(friend);
        relay.grant(user.clone(), Secret::new("secret"));
        // As many as a friend may have, at the same time.
        let wanted = (256 - clients.len()).min(12);
        let beginning = (0..wanted).map(async |_| {
            let mut client = Client::new(address, &user, "secret").await;
            assert!(client.allocated().await.is_some(), "an allocation of friend {friend}");
            client
        });
        clients.extend(join_all(beginning).await);
        if clients.len() == 256 {
            break;
        }
    }
    // Who has none finds no room, until somebody gives one back.
    let late = user(100);
    relay.grant(late.clone(), Secret::new("secret"));
    assert_eq!(Client::new(address, &late, "secret").await.allocated().await, None);
    let mut first = clients.remove(0);
    first.turn.delete(first.now()).unwrap();
    let _ = first.event(QUIET).await;
    assert!(Client::new(address, &late, "secret").await.allocated().await.is_some());
    assert_eq!(Client::new(address, &late, "secret").await.allocated().await, None);
}
