//! One allocation at a TURN server: its addresses, permissions and channels, kept alive by turn-client-proto. What the
//! library leaves out is here: error codes told, packets held until their permission is there, channel numbers.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use stun_proto::Instant;
use stun_proto::agent::Transmit;
use stun_proto::types::attribute::{
    AlternateServer, AttributeStaticType, ErrorCode, MessageIntegrity, MessageIntegritySha256, Realm,
};
use stun_proto::types::message::{
    LongTermCredentials, Message, MessageClass, MessageIntegrityCredentials, TransactionId,
};
use stun_proto::types::{AddressFamily, TransportType};
use turn_client_proto::api::{TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::client::TurnClient;
use turn_client_proto::prelude::*;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::udp::TurnClientUdp;

use super::{RelayError, RelayServer, RelayTransport, families, frame};

/// Packets to peers whose permission is on its way.
const HELD: usize = 32;
/// Permissions of an allocation.
const PERMISSIONS: usize = 32;
/// Requests that are remembered.
const SIGNED: usize = 16;
/// Rounds of the library's own loop before it is left alone until the next millisecond.
const ROUNDS: usize = 64;

/// What an allocation tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// An address at the server is ours.
    Allocated(SocketAddr),
    /// The server names another one to ask instead (300, RFC 8489 section 10). The last thing it tells.
    Elsewhere(SocketAddr),
    /// Nothing (more) comes of this allocation. The last thing it tells.
    Failed(RelayError),
    /// The channel to this peer can be used.
    Bound { peer: SocketAddr, channel: u16 },
    /// The channel to this peer cannot be used (any more).
    Unbound { peer: SocketAddr },
}

/// How packets get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From a local socket.
    Base(SocketAddr),
    /// By a connection.
    Stream(u32),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) way: Way,
    pub(crate) component: u16,
    server: SocketAddr,
    transport: RelayTransport,
    client: TurnClient,
    relayed: Vec<SocketAddr>,
    held: VecDeque<(SocketAddr, Vec<u8>)>,
    wanted: Vec<IpAddr>,
    /// Requests that carried our credentials.
    signed: VecDeque<TransactionId>,
    /// Those that did not.
    unsigned: VecDeque<TransactionId>,
    credentials: (String, String),
    realm: Option<String>,
    last_error: Option<(u16, String)>,
    over: bool,
    events: VecDeque<Event>,
    transmits: VecDeque<Vec<u8>>,
    wake: Option<Instant>,
}

impl Allocation {
    pub(crate) fn new(server: &RelayServer, component: u16, way: Way, families: &[AddressFamily]) -> Self {
        let mut config = TurnConfig::new(TurnCredentials::new(&server.username, &server.password));
        for (index, family) in families.iter().enumerate() {
            if index == 0 {
                config.set_address_family(*family);
            } else {
                config.add_address_family(*family);
            }
        }
        let local = local_address(way, server.address);
        let client = match way {
            Way::Base(_) => TurnClientUdp::allocate(local, server.address, config).into(),
            Way::Stream(_) => TurnClientTcp::allocate(local, server.address, config).into(),
        };
        Allocation {
            way,
            component,
            server: server.address,
            transport: server.transport,
            client,
            relayed: Vec::new(),
            held: VecDeque::new(),
            wanted: Vec::new(),
            signed: VecDeque::new(),
            unsigned: VecDeque::new(),
            credentials: (server.username.clone(), server.password.clone()),
            realm: None,
            last_error: None,
            over: false,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            wake: None,
        }
    }

    /// Our addresses at the server.
    pub(crate) fn relayed(&self) -> &[SocketAddr] {
        &self.relayed
    }

    pub(crate) fn owns(&self, relayed: SocketAddr) -> bool {
        self.relayed.contains(&relayed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Lets the peer's packets through. More than the bound are left out: they then fail as unreachable would.
    pub(crate) fn permit(&mut self, now: Instant, peer: IpAddr) {
        if self.wanted.contains(&peer) || self.wanted.len() >= PERMISSIONS || self.over {
            return;
        }
        if self.client.create_permission(TransportType::Udp, peer, now).is_ok() {
            self.wanted.push(peer);
        }
        self.pump(now);
    }

    /// Wants a channel to the peer; told by [`Event::Bound`].
    pub(crate) fn bind(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(channel) = self.channel(now, peer) {
            self.events.push_back(Event::Bound { peer, channel });
        } else {
            let _ = self.client.bind_channel(TransportType::Udp, peer, now);
        }
        self.pump(now);
    }

    /// Sends to a peer; held until its permission is there.
    pub(crate) fn send(&mut self, now: Instant, peer: SocketAddr, bytes: Vec<u8>) {
        if self.over {
            return;
        }
        if self.client.have_permission(TransportType::Udp, peer.ip()) {
            if let Ok(Some(built)) = self.client.send_to(TransportType::Udp, peer, bytes, now) {
                let bytes = self.framed(built.build().data);
                self.transmits.push_back(bytes);
            }
        } else {
            self.permit(now, peer.ip());
            if self.held.len() >= HELD {
                self.held.pop_front();
            }
            self.held.push_back((peer, bytes));
        }
    }

    /// Sends what the server alone is to see.
    pub(crate) fn send_to_server(&mut self, bytes: Vec<u8>) {
        if !self.over {
            self.transmits.push_back(bytes);
        }
    }

    /// A message from the server. Gives what a peer sent: our address there, the peer's, the bytes.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        bytes: &[u8],
    ) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        if self.over {
            return None;
        }
        let bytes = whole(bytes)?;
        self.note_error(bytes);
        let local = local_address(self.way, self.server);
        let transport = match self.way {
            Way::Base(_) => TransportType::Udp,
            Way::Stream(_) => TransportType::Tcp,
        };
        let received = match self.client.recv(Transmit::new(bytes, transport, self.server, local), now) {
            TurnRecvRet::PeerData(data) => {
                let family = |relayed: &&SocketAddr| relayed.is_ipv4() == data.peer.is_ipv4();
                self.relayed.iter().find(family).map(|relayed| (*relayed, data.peer, data.data().to_vec()))
            }
            TurnRecvRet::Handled | TurnRecvRet::Ignored(_) | TurnRecvRet::PeerIcmp { .. } => None,
        };
        self.pump(now);
        received
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self, reason: String) {
        self.fail(RelayError::Connection(reason));
    }

    /// The server is gone.
    pub(crate) fn give_up(&mut self) {
        self.fail(RelayError::Silent(self.transport.name()));
    }

    /// Gives the addresses back to the server.
    pub(crate) fn delete(&mut self, now: Instant) {
        if !self.over && self.client.delete(now).is_ok() {
            self.pump(now);
        }
        self.over = true;
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.wake.is_none_or(|wake| wake <= now) {
            self.pump(now);
        }
    }

    pub(crate) fn wake(&self) -> Option<Instant> {
        if self.over { None } else { self.wake }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// Drives the library until it has nothing more to do now.
    pub(crate) fn pump(&mut self, now: Instant) {
        for _ in 0..ROUNDS {
            if self.over {
                return;
            }
            let polled = self.client.poll(now);
            let mut idle = true;
            while let Some(transmit) = self.client.poll_transmit(now) {
                self.note_request(&transmit.data);
                let old = families::in_old_words(&transmit.data, &self.credentials);
                let bytes = self.framed(old.unwrap_or_else(|| transmit.data.to_vec()));
                self.transmits.push_back(bytes);
                idle = false;
            }
            while let Some(event) = self.client.poll_event() {
                self.event(now, event);
                idle = false;
            }
            match polled {
                TurnPollRet::Closed => {
                    let error = self.error();
                    self.fail(error);
                    return;
                }
                TurnPollRet::WaitUntil(wake) => {
                    self.wake = Some(wake);
                    if wake > now && idle {
                        return;
                    }
                }
                TurnPollRet::AllocateTcpSocket { .. } | TurnPollRet::TcpClose { .. } => {}
            }
        }
        self.wake = now.checked_add(std::time::Duration::from_millis(1));
    }

    fn event(&mut self, now: Instant, event: TurnEvent) {
        match event {
            TurnEvent::AllocationCreated(_, address) => {
                self.relayed.push(address);
                self.events.push_back(Event::Allocated(address));
            }
            TurnEvent::PermissionCreated(_, ip) => {
                let held = std::mem::take(&mut self.held);
                let (ready, held) = held.into_iter().partition(|(peer, _)| peer.ip() == ip);
                self.held = held;
                let ready: VecDeque<_> = ready;
                for (peer, bytes) in ready {
                    self.send(now, peer, bytes);
                }
            }
            TurnEvent::PermissionCreateFailed(_, ip) => {
                self.held.retain(|(peer, _)| peer.ip() != ip);
                self.wanted.retain(|wanted| *wanted != ip);
            }
            TurnEvent::ChannelCreated(_, peer) => {
                if let Some(channel) = self.channel(now, peer) {
                    self.events.push_back(Event::Bound { peer, channel });
                }
            }
            TurnEvent::ChannelCreateFailed(_, peer) => self.events.push_back(Event::Unbound { peer }),
            TurnEvent::AllocationCreateFailed(_)
            | TurnEvent::TcpConnected(_)
            | TurnEvent::TcpConnectFailed(_) => {}
        }
    }

    /// The library does not tell a channel's number; what it sends by the channel does.
    fn channel(&mut self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let built = self.client.send_to(TransportType::Udp, peer, &[][..], now).ok()??;
        frame::channel_data(&built.build().data).map(|(channel, _)| channel)
    }

    /// On streams, ChannelData is padded to four bytes; the library does not.
    fn framed(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if matches!(self.way, Way::Stream(_)) && frame::channel_data(&bytes).is_some() {
            bytes.resize(bytes.len() + frame::stream_padding(bytes.len()), 0);
        }
        bytes
    }

    fn note_request(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::from_bytes(bytes) else { return };
        let requests = if is_signed(&message) { &mut self.signed } else { &mut self.unsigned };
        if requests.len() >= SIGNED {
            requests.pop_front();
        }
        requests.push_back(message.transaction_id());
    }

    /// Where a server that wants to be spared sends us. Who has asked with a proof wants one.
    fn alternate(&self, message: &Message<'_>) -> Option<SocketAddr> {
        let id = message.transaction_id();
        let is_proved = || {
            let (user, password) = self.credentials.clone();
            let key = LongTermCredentials::new(user, password).to_key(self.realm.clone()?);
            message.validate_integrity(&MessageIntegrityCredentials::from(key)).ok()
        };
        let is_answer = self.unsigned.contains(&id) || (self.signed.contains(&id) && is_proved().is_some());
        // What has given us an address is not left for another.
        if !is_answer || !self.relayed.is_empty() {
            return None;
        }
        Some(message.attribute::<AlternateServer>().ok()?.server())
    }

    /// Servers do not sign a refusal of our credentials, and the library passes over what is not signed.
    fn note_error(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::from_bytes(bytes) else { return };
        if !message.has_class(MessageClass::Error) {
            return;
        }
        if let Ok(realm) = message.attribute::<Realm>() {
            self.realm = Some(realm.realm().to_owned());
        }
        if let Ok(error) = message.attribute::<ErrorCode>() {
            if error.code() == ErrorCode::TRY_ALTERNATE
                && let Some(server) = self.alternate(&message)
            {
                self.over = true;
                self.events.push_back(Event::Elsewhere(server));
                return;
            }
            let reason = error.reason().chars().filter(|c| !c.is_control()).take(80).collect();
            self.last_error = Some((error.code(), reason));
            if matches!(error.code(), 401 | 441) && self.signed.contains(&message.transaction_id()) {
                self.fail(RelayError::Credentials);
            }
        }
    }

    fn error(&mut self) -> RelayError {
        match self.last_error.take() {
            Some((401 | 441, _)) => RelayError::Credentials,
            Some((code @ (486 | 508), reason)) => RelayError::Quota { code, reason },
            Some((code, reason)) if self.relayed.is_empty() => RelayError::Refused { code, reason },
            _ => RelayError::Silent(self.transport.name()),
        }
    }

    fn fail(&mut self, error: RelayError) {
        if !self.over {
            self.over = true;
            self.held.clear();
            self.events.push_back(Event::Failed(error));
        }
    }
}

pub(super) fn is_signed(message: &Message<'_>) -> bool {
    message.has_attribute(MessageIntegrity::TYPE) || message.has_attribute(MessageIntegritySha256::TYPE)
}

/// One whole message without padding, as the library wants it: its buffer for streams takes padding, and whatever is no
/// message, for the beginning of the next one.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    match frame::channel_data(bytes) {
        Some((_, data)) => bytes.get(..frame::CHANNEL_HEADER + data.len()),
        None => Message::from_bytes(bytes).is_ok().then_some(bytes),
    }
}

/// The library wants to know both ends; those of a connection are told apart by its number.
fn local_address(way: Way, server: SocketAddr) -> SocketAddr {
    match way {
        Way::Base(base) => base,
        Way::Stream(stream) => {
            let port = u16::try_from(stream).unwrap_or(u16::MAX);
            if server.is_ipv4() {
                SocketAddr::from(([0, 0, 0, 0], port))
            } else {
                SocketAddr::from(([0_u16; 8], port))
            }
        }
    }
}
