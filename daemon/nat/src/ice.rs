//! ICE (RFC 8445, RFC 8838, RFC 7675) for one call and one media section: gathers addresses, checks pairs of them with
//! the peer, and says by which path the media shall go. Knows neither SDP nor sockets nor clocks.
//!
//! Feed an [`IceAgent`] by its `handle_*` functions and by what changes it ([`IceAgent::set_remote`],
//! [`IceAgent::restart`], …), and drain [`IceAgent::poll_output`] after each, until it answers [`Output::Timeout`].

mod agent;
mod candidate;
mod checks;
mod consent;
mod gather;
mod round_trips;
mod stun;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

pub use agent::IceAgent;
pub use candidate::{Candidate, CandidateError, CandidateKind, default_candidate};

use crate::turn::{RelayError, RelayServer};

/// Candidates of a peer that are looked at, whole and trickled together; more are left out.
pub const REMOTE_CANDIDATES: usize = 100;
/// Local addresses that are used, all components together.
pub const BASES: usize = 16;
/// STUN servers that are asked.
pub const STUN_SERVERS: usize = 8;
/// Relays that are used.
pub const RELAYS: usize = 8;

/// Who decides about the pair (RFC 8445 section 6.1.1): the offerer, unless the peer is a lite implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nominates.
    Controlling,
    /// Waits for the peer's nomination.
    Controlled,
}

/// A UDP socket of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// 1: RTP (and RTCP when multiplexed), 2: RTCP.
    pub component: u16,
    /// Its address: a concrete one, never the unspecified one. It also names the socket in everything that follows.
    pub address: SocketAddr,
    /// The greater, the better: which interface or family is liked.
    pub preference: u16,
}

/// What an agent begins with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ours, by the offer/answer exchange.
    pub role: Role,
    /// 1, or 2 when RTCP has a socket of its own.
    pub components: u16,
    /// The sockets. At most [`BASES`].
    pub bases: Vec<Base>,
    /// Servers to ask for reflexive addresses. At most [`STUN_SERVERS`].
    pub stun_servers: Vec<SocketAddr>,
    /// Relays, the best first. At most [`RELAYS`].
    pub relays: Vec<RelayServer>,
}

/// User name fragment and password of one side (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`: 4 to 256 characters.
    pub ufrag: String,
    /// `a=ice-pwd`: 22 to 256 characters. Not shown in logs.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.ufrag)
    }
}

impl Credentials {
    /// Those that a peer's description carries.
    ///
    /// # Errors
    /// When length or characters are not what RFC 8839 section 5.4 allows.
    pub fn new(ufrag: &str, password: &str) -> Result<Self, IceError> {
        let ice = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/');
        if !(4..=256).contains(&ufrag.len()) || !ice(ufrag) {
            return Err(IceError::Ufrag);
        }
        if !(22..=256).contains(&password.len()) || !ice(password) {
            return Err(IceError::Password);
        }
        Ok(Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }

    /// 48 bits of name and 144 of password, where RFC 8445 section 5.3 asks for 24 and 128.
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut draw = |length: usize| -> String {
            let index = |bits: u32| usize::try_from(bits % 64).unwrap_or(0);
            (0..length)
                .map(|_| ALPHABET.get(index(rng.next_u32())).map_or('A', |byte| char::from(*byte)))
                .collect()
        };
        Credentials { ufrag: draw(8), password: draw(24) }
    }
}

/// What a peer's description says about ICE.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its user name fragment and password. Other ones than before are a restart of the peer's.
    pub credentials: Credentials,
    /// `a=ice-lite`: it only answers, and we are controlling.
    pub lite: bool,
    /// Its candidates, in the order of the description.
    pub candidates: Vec<Candidate>,
    /// More may follow (RFC 8838), by [`IceAgent::add_remote_candidate`] and until
    /// [`IceAgent::end_of_remote_candidates`].
    pub trickles: bool,
}

/// What is wrong with a peer's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IceError {
    /// RFC 8839 section 5.4.
    #[error("ice-ufrag must have 4 to 256 letters, digits, + or /")]
    Ufrag,
    /// RFC 8839 section 5.4.
    #[error("ice-pwd must have 22 to 256 letters, digits, + or /")]
    Password,
}

/// A connection to a TURN server over TCP or TLS, made and closed on the agent's wish. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// The way of media packets of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaPath {
    /// From a socket straight to the peer (or to its relay).
    Direct {
        /// The socket.
        base: SocketAddr,
        /// The peer.
        remote: SocketAddr,
    },
    /// From a socket to a TURN server, in ChannelData (RFC 8656 section 12.4).
    Channel {
        /// The socket.
        base: SocketAddr,
        /// The TURN server.
        server: SocketAddr,
        /// 0x4000 to 0x4FFF.
        channel: u16,
        /// The peer behind it.
        peer: SocketAddr,
    },
    /// By a connection to a TURN server, in ChannelData.
    Stream {
        /// The connection.
        stream: StreamId,
        /// 0x4000 to 0x4FFF.
        channel: u16,
        /// The peer behind it.
        peer: SocketAddr,
    },
}

/// The path of a component, and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedPair {
    /// 1: RTP, 2: RTCP.
    pub component: u16,
    /// Where to send.
    pub path: MediaPath,
    /// Our end: host (also behind a NAT, whose address is then the peer's affair) or relayed.
    pub local: CandidateKind,
    /// The peer's end.
    pub remote: CandidateKind,
    /// `false`: works, and may be used at once, but the checks go on and may find a better one.
    pub nominated: bool,
}

/// What an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of the peer yet.
    New,
    /// Pairs are being checked.
    Checking,
    /// Each component has its pair.
    Connected,
    /// No pair works. A restart may help.
    Failed,
    /// The peer no longer answers on the selected pair (RFC 7675): nothing may be sent to it any more. A restart may help.
    Lost,
}

/// What an agent wants of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// From this socket.
        base: SocketAddr,
        /// To this address: the peer's, or a STUN or TURN server's.
        remote: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Connect to a TURN server; to be answered by [`IceAgent::handle_stream_opened`] or
    /// [`IceAgent::handle_stream_closed`].
    OpenStream {
        /// Its number from now on.
        stream: StreamId,
        /// Where to, over TCP or TLS.
        server: RelayServer,
    },
    /// Send a message by a connection. It is padded as streams want it.
    TransmitStream {
        /// The connection.
        stream: StreamId,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Close a connection when what was sent is out.
    CloseStream {
        /// The connection.
        stream: StreamId,
    },
    /// An address of ours for the peer to know.
    Candidate(Candidate),
    /// No more candidates come, or waiting for more is not worth it. Told once for each gathering.
    GatheringComplete,
    /// Use this path for media of its component from now on.
    Selected(SelectedPair),
    /// Nothing may be sent by the path of this component any more: the peer has not consented for 30 s (RFC 7675 section
    /// 5.1), or the relay that it began at is gone. Another may still be looked for.
    Withdrawn {
        /// 1: RTP, 2: RTCP.
        component: u16,
    },
    /// A relay cannot be used (any more).
    RelayFailed {
        /// Its name.
        name: String,
        /// Why.
        error: RelayError,
    },
    /// The state changed.
    State(State),
    /// A relay or a STUN server's socket has brought something that is neither ICE's nor TURN's: media or DTLS of the peer
    /// that came before its path was set up.
    Received {
        /// 1: RTP, 2: RTCP.
        component: u16,
        /// The peer's packet.
        bytes: Vec<u8>,
    },
    /// Nothing else to do until then, unless something happens.
    Timeout(Option<Instant>),
}

/// The library's time: since the agent was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    fn at(self, now: Instant) -> stun_proto::Instant {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        stun_proto::Instant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn back(self, at: stun_proto::Instant) -> Instant {
        self.epoch + Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0))
    }
}
