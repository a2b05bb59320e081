//! The relay's task: what clients and peers say is judged, given to the protocol, and sent on. It decides on limits and
//! addresses, and nothing about friends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use turn_server_proto::api::{SocketAllocateError, Transmit, TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::stun::Instant as StunInstant;
use turn_server_proto::types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION};
use turn_server_proto::types::stun::TransportType;
use turn_server_proto::types::stun::message::{BINDING, Message, MessageClass, TransactionId};
use voipd_sip::digest::Secret;

use super::gate::{self, Bucket, Logins, Refused, friend_of, is_public, point_of};
use super::streams::{Happened, Streams};
use super::{RelayConfig, Word};

/// Most allocations at once.
const MAX_ALLOCATIONS: usize = 256;
/// Most allocations of one friend.
const MAX_OF_FRIEND: usize = 12;
/// Most peers that an allocation is for.
const MAX_PEERS: usize = 64;
/// How long a channel keeps a peer (RFC 8656 section 12): longer than any permission.
const PEER: Duration = Duration::from_secs(600);
/// Bytes a second that a friend may relay for long, each way together: some video calls.
const RATE: f64 = 1_000_000.0;
/// Bytes that a friend may relay at once.
const BURST: f64 = 2_000_000.0;
/// Requests a second that are answered without a login.
const STRANGERS: f64 = 100.0;
/// How long a nonce is good.
const NONCE: Duration = Duration::from_secs(3600);
/// Most addresses of clients that have proved a login and may be remembered by the protocol.
const MAX_SEEN: usize = 16_384;
/// Packets from peers that wait for the task.
const QUEUE: usize = 1024;
/// How often another port is tried.
const ATTEMPTS: usize = 32;
/// Largest datagram taken.
const LARGEST: usize = 2048;
/// How long a socket that fails is left alone.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a relay that has begun is reached, and whether by TCP as well. It ends when nobody can say a word to it.
///
/// # Errors
/// The socket cannot be opened.
pub(super) fn start(
    config: RelayConfig,
    realm: String,
    seed: u64,
    words_out: mpsc::UnboundedReceiver<Word>,
) -> io::Result<(SocketAddr, bool)> {
    let socket = Arc::new(bind(config.listen)?);
    let listen = socket.local_addr()?;
    let (streams_in, said) = mpsc::channel(QUEUE);
    let streams = Streams::listen(listen, streams_in.clone()).unwrap_or_else(|error| {
        log::warn!("the relay at {listen} serves no friends by TCP: {error}");
        Streams::none(streams_in)
    });
    let by_tcp = streams.is_listening();
    let (peers_in, peers) = mpsc::channel(QUEUE);
    let task = Task {
        config,
        listen,
        socket,
        server: new_server(TransportType::Udp, listen, &realm),
        stream_server: new_server(TransportType::Tcp, listen, &realm),
        streams,
        logins: Logins::new(realm),
        start: Instant::now(),
        allocations: BTreeMap::new(),
        friends: BTreeMap::new(),
        asking: None,
        seen: BTreeSet::new(),
        strangers: Bucket::new(Instant::now(), STRANGERS, STRANGERS),
        peers_in,
        random: seed | 1,
    };
    tokio::spawn(task.run(words_out, peers, said));
    Ok((listen, by_tcp))
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn new_server(transport: TransportType, listen: SocketAddr, realm: &str) -> TurnServer {
    let mut server = TurnServer::new(transport, listen, realm.to_owned());
    server.set_nonce_expiry_duration(NONCE);
    server
}

fn unix() -> u64 {
    crate::driver::unix_micros() / 1_000_000
}

/// Who asks, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    address: SocketAddr,
    by_tcp: bool,
}

impl Client {
    const fn transport(self) -> TransportType {
        if self.by_tcp { TransportType::Tcp } else { TransportType::Udp }
    }
}

struct Allocation {
    socket: Arc<UdpSocket>,
    reader: tokio::task::JoinHandle<()>,
    client: Client,
    friend: String,
    /// The request that made it, and the answer.
    made_by: TransactionId,
    answer: Vec<u8>,
    /// Whom it is for, and until when at most.
    peers: BTreeMap<SocketAddr, Instant>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A packet that came from a peer to a relayed address.
struct FromPeer {
    relayed: SocketAddr,
    peer: SocketAddr,
    bytes: Vec<u8>,
}

/// A request for an allocation.
struct Asking {
    client: Client,
    user: String,
    transaction: TransactionId,
}

struct Task {
    config: RelayConfig,
    listen: SocketAddr,
    socket: Arc<UdpSocket>,
    server: TurnServer,
    /// The same for who comes by a connection.
    stream_server: TurnServer,
    streams: Streams,
    logins: Logins,
    start: Instant,
    /// By relayed address.
    allocations: BTreeMap<SocketAddr, Allocation>,
    /// What each friend may still relay.
    friends: BTreeMap<String, Bucket>,
    /// Who asks for an allocation, and from where: only until it is made.
    asking: Option<Asking>,
    /// Clients of which the protocol may remember something.
    seen: BTreeSet<Client>,
    strangers: Bucket,
    peers_in: mpsc::Sender<FromPeer>,
    random: u64,
}

impl Task {
    async fn run(
        mut self,
        mut words: mpsc::UnboundedReceiver<Word>,
        mut peers: mpsc::Receiver<FromPeer>,
        mut said: mpsc::Receiver<Happened>,
    ) {
        let mut buffer = vec![0; LARGEST];
        loop {
            let wake = self.pump();
            self.sweep();
            tokio::select! {
                word = words.recv() => match word {
                    Some(word) => self.hear(word),
                    None => return,
                },
                Some(packet) = peers.recv() => self.peer_says(packet),
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, address)) => {
                        let client = Client { address, by_tcp: false };
                        self.client_says(client, buffer.get(..length).unwrap_or_default());
                    }
                    // ICMP of a client that has gone.
                    Err(error) => {
                        log::debug!("the relay: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(happened) = said.recv() => self.connection_says(happened),
                accepted = self.streams.accept() => match accepted {
                    Ok((stream, client)) => self.streams.take(Instant::now(), stream, client),
                    // No descriptors left, or a client that has gone.
                    Err(error) => {
                        log::debug!("the relay: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    fn connection_says(&mut self, happened: Happened) {
        match happened {
            Happened::Said { client, bytes } => {
                self.client_says(Client { address: client, by_tcp: true }, &bytes);
            }
            Happened::Gone { client, number } => {
                if self.streams.gone(client, number) {
                    let gone = Client { address: client, by_tcp: true };
                    self.allocations.retain(|_, allocation| allocation.client != gone);
                    // To the protocol, nothing at all means the end of a connection.
                    let end = Transmit::new(Vec::new(), TransportType::Tcp, client, self.listen);
                    let now = self.now();
                    self.stream_server.recv(end, now);
                }
            }
        }
    }

    fn sweep(&mut self) {
        let allocations = &self.allocations;
        self.streams.sweep(Instant::now(), |address| {
            let client = Client { address, by_tcp: true };
            allocations.values().any(|allocation| allocation.client == client)
        });
    }

    fn server_of(&mut self, transport: TransportType) -> &mut TurnServer {
        if transport == TransportType::Tcp { &mut self.stream_server } else { &mut self.server }
    }

    fn add_user(&mut self, user: &str, password: &Secret) {
        for server in [&mut self.server, &mut self.stream_server] {
            server.add_user(user.to_owned(), password.expose().to_owned());
        }
    }

    fn now(&self) -> StunInstant {
        StunInstant::from_std(self.start)
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Granted { user, password } => {
                if self.allocations.is_empty() {
                    self.logins.forget_expired(unix());
                    self.forget();
                }
                self.add_user(&user, &password);
                self.logins.grant(user, password);
            }
            Word::Revoked { friend } => {
                self.logins.revoke(&friend);
                self.allocations.retain(|_, allocation| allocation.friend != friend);
                self.friends.remove(&friend);
            }
            Word::Trusted { point, key } => self.logins.trust(point, key),
            Word::Distrusted { point } => {
                self.logins.distrust(&point);
                self.allocations.retain(|_, allocation| point_of(&allocation.friend) != Some(point.as_str()));
                self.friends.retain(|friend, _| point_of(friend) != Some(point.as_str()));
            }
        }
    }

    /// Begins anew where nothing is relayed: the protocol forgets neither users nor clients by itself.
    fn forget(&mut self) {
        let realm = self.logins.realm();
        self.server = new_server(TransportType::Udp, self.listen, realm);
        self.stream_server = new_server(TransportType::Tcp, self.listen, realm);
        for (user, password) in self.logins.all() {
            for server in [&mut self.server, &mut self.stream_server] {
                server.add_user(user.to_owned(), password.expose().to_owned());
            }
        }
        self.seen.clear();
    }

    fn allocation_of(&mut self, client: Client) -> Option<&mut Allocation> {
        self.allocations.values_mut().find(|allocation| allocation.client == client)
    }

    fn client_says(&mut self, client: Client, bytes: &[u8]) {
        // RFC 7983: a packet on a channel.
        if bytes.first().is_none_or(|first| *first > 3) {
            if self.allocation_of(client).is_some() {
                self.serve(client, bytes);
            }
            return;
        }
        let Ok(message) = Message::from_bytes(bytes) else { return };
        match message.class() {
            MessageClass::Request => self.request(client, &message, bytes),
            MessageClass::Indication if self.allocation_of(client).is_some() => {
                self.serve(client, bytes);
            }
            _ => {}
        }
    }

    fn request(&mut self, client: Client, request: &Message<'_>, bytes: &[u8]) {
        let now = Instant::now();
        let begins = request.method() == ALLOCATE;
        let proved = match request.method() {
            BINDING => Err(Refused::Unproved),
            _ => self.logins.prove(request, begins, unix()),
        };
        let user = match proved {
            Ok(user) => user,
            Err(why) => {
                if why == Refused::Over {
                    log::info!("the relay: the login of {} is over", client.address);
                }
                if self.strangers.take(now, 1.0) {
                    let nonce = format!("{:016x}", self.draw());
                    let answer = match request.method() {
                        BINDING => gate::seen_from(request, client.address),
                        _ => self.logins.challenge(request, &nonce),
                    };
                    if let Some(answer) = answer {
                        self.answer(client, &answer);
                    }
                }
                return;
            }
        };
        // The client has not heard the answer (RFC 8656 section 7.2).
        if begins
            && let Some(known) = self.allocation_of(client)
            && known.made_by == request.transaction_id()
        {
            let answer = known.answer.clone();
            return self.answer(client, &answer);
        }
        if let Some(password) = self.logins.learn(&user) {
            if self.allocations.is_empty() {
                self.logins.forget_expired(unix());
                self.forget();
            }
            self.add_user(&user, &password);
        }
        if !self.seen.contains(&client) {
            if self.seen.len() >= MAX_SEEN {
                if !self.allocations.is_empty() {
                    return log::warn!("the relay has too many clients: {} is not heard", client.address);
                }
                self.forget();
            }
            self.seen.insert(client);
        }
        let peers = match request.method() {
            CREATE_PERMISSION | CHANNEL_BIND => gate::peers(request),
            _ => Vec::new(),
        };
        if peers.iter().any(|peer| !self.may_reach(peer.ip())) {
            log::info!("the relay: {user} asks for an address that it does not lead to");
            if let Some(answer) = self.logins.forbidden(request, &user) {
                self.answer(client, &answer);
            }
            return;
        }
        if !self.may_add(client, &peers, now) {
            return log::info!("the relay: an allocation of {user} has too many peers");
        }
        self.asking = begins.then(|| Asking { client, user, transaction: request.transaction_id() });
        let is_granted = self.serve(client, bytes);
        if is_granted && let Some(allocation) = self.allocation_of(client) {
            allocation.peers.extend(peers.into_iter().map(|peer| (peer, now + PEER)));
        }
        self.pump();
        self.asking = None;
    }

    fn may_add(&mut self, client: Client, peers: &[SocketAddr], now: Instant) -> bool {
        let Some(allocation) = self.allocation_of(client) else { return peers.len() <= MAX_PEERS };
        allocation.peers.retain(|_, until| *until > now);
        let more: BTreeSet<_> = peers.iter().filter(|peer| !allocation.peers.contains_key(peer)).collect();
        allocation.peers.len() + more.len() <= MAX_PEERS
    }

    /// Gives a client's message to the protocol; whether it was a request that succeeds.
    fn serve(&mut self, client: Client, bytes: &[u8]) -> bool {
        let transport = client.transport();
        let transmit = Transmit::new(bytes.to_vec(), transport, client.address, self.listen);
        let now = self.now();
        let Some(built) = self.server_of(transport).recv(transmit, now).map(|transmit| transmit.build())
        else {
            return false;
        };
        let is_answer = built.from == self.listen;
        let answer = if is_answer { Message::from_bytes(&built.data).ok() } else { None };
        let succeeds = answer.is_some_and(|answer| answer.class() == MessageClass::Success);
        self.send(transport, built.from, built.to, &built.data);
        succeeds
    }

    fn peer_says(&mut self, packet: FromPeer) {
        let FromPeer { relayed, peer, bytes } = packet;
        if !self.leads_to(peer) {
            return;
        }
        let Some(allocation) = self.allocations.get(&relayed) else { return };
        let transport = allocation.client.transport();
        let length = bytes.len();
        let now = self.now();
        let transmit = Transmit::new(bytes, TransportType::Udp, peer, relayed);
        let built = self.server_of(transport).recv(transmit, now).map(|transmit| transmit.build());
        // What nobody has permitted ends here, and is not charged to the friend.
        if let Some(built) = built
            && self.has_left(relayed, length)
        {
            self.send(transport, built.from, built.to, &built.data);
        }
    }

    /// Friends may reach this peer by way of us: of this machine, nothing but what is relayed for another friend.
    fn leads_to(&self, peer: SocketAddr) -> bool {
        let is_own = peer.ip().to_canonical() == self.listen.ip();
        self.may_reach(peer.ip()) && (!is_own || self.allocations.contains_key(&peer))
    }

    /// The friend has not had too much, with this.
    fn has_left(&mut self, relayed: SocketAddr, length: usize) -> bool {
        let Some(allocation) = self.allocations.get(&relayed) else { return false };
        let bucket = self.friends.get_mut(&allocation.friend);
        bucket.is_some_and(|bucket| bucket.take(Instant::now(), length as f64))
    }

    /// Permissions are for addresses: of this machine's own, which friends' relayed addresses share, ports decide later.
    fn may_reach(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        is_public(peer)
            || peer == self.listen.ip()
            || self.config.networks.iter().any(|network| network.contains(peer))
    }

    fn answer(&mut self, client: Client, bytes: &[u8]) {
        self.send(client.transport(), self.listen, client.address, bytes);
    }

    /// Sends to a client, reached by `transport`, or from a relayed address to a peer.
    fn send(&mut self, transport: TransportType, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        // What the kernel has no room for is lost, as on any path.
        if from == self.listen && transport == TransportType::Tcp {
            self.streams.send(to, bytes);
        } else if from == self.listen {
            let _ = self.socket.try_send_to(bytes, to);
        } else if self.leads_to(to)
            && self.has_left(from, bytes.len())
            && let Some(allocation) = self.allocations.get(&from)
        {
            let _ = allocation.socket.try_send_to(bytes, to);
        }
    }

    /// Does what the protocol wants done; how long until it wants more.
    fn pump(&mut self) -> Duration {
        let wait = self.pump_one(TransportType::Udp).min(self.pump_one(TransportType::Tcp));
        let wait = wait.clamp(Duration::from_millis(10), Duration::from_secs(60));
        if self.streams.has_any() { wait.min(Duration::from_secs(5)) } else { wait }
    }

    fn pump_one(&mut self, by: TransportType) -> Duration {
        let listen = self.listen;
        let mut made = Vec::new();
        loop {
            let now = self.now();
            let polled = self.server_of(by).poll(now);
            while let Some(transmit) = self.server_of(by).poll_transmit(now) {
                self.remember(&transmit.data);
                self.send(by, transmit.from, transmit.to, &transmit.data);
            }
            match polled {
                TurnServerPollRet::AllocateSocket { client_addr, allocation_transport, family, .. } => {
                    let is_v4 = family == turn_server_proto::types::AddressFamily::IPV4;
                    let socket = if is_v4 == listen.is_ipv4() {
                        let client = Client { address: client_addr, by_tcp: by == TransportType::Tcp };
                        self.allocate(client, allocation_transport)
                    } else {
                        Err(SocketAllocateError::AddressFamilyNotSupported)
                    };
                    made.push((client_addr, allocation_transport, family, socket));
                }
                TurnServerPollRet::WaitUntil(wake) if made.is_empty() => {
                    return wake.saturating_duration_since(now);
                }
                TurnServerPollRet::WaitUntil(_) => {
                    // The protocol keeps a client only where the last of its families has got a socket.
                    made.sort_by_key(|(.., socket)| socket.is_ok());
                    for (client, transport, family, socket) in made.drain(..) {
                        let server = self.server_of(by);
                        server.allocated_socket(by, listen, client, transport, family, socket, now);
                    }
                }
                TurnServerPollRet::SocketClose { listen_addr, .. } => {
                    self.allocations.remove(&listen_addr);
                }
                // Peers are reached by UDP alone.
                TurnServerPollRet::TcpConnect { .. } | TurnServerPollRet::TcpClose { .. } => {}
            }
        }
    }

    /// Keeps the answer to who asks for an allocation: UDP may lose it, or bring the request twice.
    fn remember(&mut self, bytes: &[u8]) {
        let Some(asking) = &self.asking else { return };
        let (client, transaction) = (asking.client, asking.transaction);
        if Message::from_bytes(bytes).is_ok_and(|answer| answer.transaction_id() == transaction)
            && let Some(allocation) = self.allocation_of(client)
        {
            allocation.answer = bytes.to_vec();
        }
    }

    fn allocate(
        &mut self,
        client: Client,
        transport: TransportType,
    ) -> Result<SocketAddr, SocketAllocateError> {
        let full = SocketAllocateError::InsufficientCapacity;
        let asking = self.asking.as_ref().filter(|asking| asking.client == client).ok_or(full)?;
        let (friend, made_by) = (friend_of(&asking.user).to_owned(), asking.transaction);
        let own = self.allocations.values().filter(|allocation| allocation.friend == friend).count();
        if transport != TransportType::Udp
            || own >= MAX_OF_FRIEND
            || self.allocations.len() >= MAX_ALLOCATIONS
        {
            log::info!("the relay makes no further allocation for {friend}");
            return Err(full);
        }
        let socket = self.free_socket().ok_or(full)?;
        let relayed = socket.local_addr().map_err(|_| full)?;
        let reader = tokio::spawn(read(Arc::clone(&socket), relayed, self.peers_in.clone()));
        let bucket = || Bucket::new(Instant::now(), RATE, BURST);
        self.friends.entry(friend.clone()).or_insert_with(bucket);
        let (answer, peers) = (Vec::new(), BTreeMap::new());
        let allocation = Allocation { socket, reader, client, friend, made_by, answer, peers };
        self.allocations.insert(relayed, allocation);
        Ok(relayed)
    }

    fn draw(&mut self) -> u64 {
        // xorshift64: neither ports nor nonces need be secret.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn free_socket(&mut self) -> Option<Arc<UdpSocket>> {
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let span = u64::from(last - first) + 1;
        (0..ATTEMPTS).find_map(|_| {
            let port = first + u16::try_from(self.draw() % span).unwrap_or(0);
            bind(SocketAddr::new(self.listen.ip(), port)).ok().map(Arc::new)
        })
    }
}

async fn read(socket: Arc<UdpSocket>, relayed: SocketAddr, relay: mpsc::Sender<FromPeer>) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        // What the task has no time for is lost, as on any path.
        let _ = relay.try_send(FromPeer { relayed, peer, bytes });
    }
}
