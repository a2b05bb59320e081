//! TURN (RFC 8656) as a client: what a relay is, how its packets are framed, and one allocation with what belongs to it.
//! Knows neither ICE nor sockets.

mod allocation;
mod families;
pub mod frame;

use std::fmt;
use std::net::SocketAddr;

pub(crate) use allocation::{Allocation, Event, Way};

/// How a relay is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelayTransport {
    /// Datagrams from the socket that also sends to the peer.
    Udp,
    /// A TCP connection of its own.
    Tcp,
    /// A TLS connection of its own.
    Tls,
}

impl RelayTransport {
    /// `udp`, `tcp` or `tls`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RelayTransport::Udp => "udp",
            RelayTransport::Tcp => "tcp",
            RelayTransport::Tls => "tls",
        }
    }
}

/// A TURN server and what it takes to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayServer {
    /// Host name or address as it was configured: shown, and what a TLS certificate must prove.
    pub name: String,
    /// Its resolved address.
    pub address: SocketAddr,
    /// How it is reached.
    pub transport: RelayTransport,
    /// Long-term credentials (RFC 8489 section 9.2).
    pub username: String,
    /// Never shown.
    pub password: String,
}

impl fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} over {}", self.name, self.address.port(), self.transport.name())
    }
}

/// Why a relay gives no address, or gives none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// 401 or 441 after the credentials were given.
    #[error("the relay does not accept the user name or password (check `relay-user` and `relay-password`)")]
    Credentials,
    /// 486 or 508.
    #[error(
        "the relay is full or the user's quota is used up ({code} {reason}): try later, or use another relay"
    )]
    Quota {
        /// STUN error code.
        code: u16,
        /// The server's words, at most 80 characters.
        reason: String,
    },
    /// Another error code.
    #[error("the relay refused: {code} {reason}")]
    Refused {
        /// STUN error code.
        code: u16,
        /// The server's words, at most 80 characters.
        reason: String,
    },
    /// No answer in time, or none any more.
    #[error("the relay does not answer: check its address, and whether a firewall lets {0} through")]
    Silent(&'static str),
    /// The connection could not be made or was closed.
    #[error("no connection to the relay: {0}")]
    Connection(String),
}
