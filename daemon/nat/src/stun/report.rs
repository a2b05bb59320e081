//! What is known of this machine's place behind NATs, and who said so: plain data.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Filtering, Hairpin, Mapping, Ports};

/// How this machine looks from outside, and who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How far discovery has come.
    pub state: State,
    /// Plain words when unknown or failed, else empty.
    pub reason: String,
    /// Those that have a public address first, in the order in which they were given; the first is spoken of as *the*
    /// path.
    pub paths: Vec<PathReport>,
    /// Everyone who was asked, or has told without being asked.
    pub servers: Vec<ServerReport>,
}

/// How far discovery has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody could be asked.
    #[default]
    Unknown,
    /// Servers are being asked for the first time on this network.
    Discovering,
    /// At least one has told a public address.
    Known,
    /// None has.
    Failed,
}

impl State {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Discovering => "discovering",
            Self::Known => "known",
            Self::Failed => "failed",
        }
    }
}

/// What is known of one local address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathReport {
    /// The local address.
    pub local: IpAddr,
    /// The addresses that servers see, first the one that most of them see.
    pub public: Vec<IpAddr>,
    /// When the NAT takes another public port.
    pub mapping: Mapping,
    /// Whose packets come in.
    pub filtering: Filtering,
    /// Whether the public port is the local one.
    pub ports: Ports,
    /// Whether packets to the own public address come back.
    pub hairpin: Hairpin,
}

/// Someone who tells the public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// As people know it.
    pub name: String,
    /// Why it is asked.
    pub source: Source,
    /// Where its name led to.
    pub address: Option<SocketAddr>,
    /// What became of it.
    pub state: ServerState,
    /// Plain words when failed, else empty.
    pub reason: String,
    /// Round-trip time, where it is known.
    pub rtt: Option<Duration>,
    /// The address that it sees.
    pub public: Option<SocketAddr>,
}

/// Why a server is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The configuration names it.
    Configuration,
    /// The domain or the settings of the account with this name lead to it.
    Account(String),
    /// It answers the registrations of the account with this name, and so tells from where they came (RFC 3581).
    Registration(String),
}

impl fmt::Display for Source {
    /// As on D-Bus.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("configuration"),
            Self::Account(name) => write!(f, "account:{name}"),
            Self::Registration(name) => write!(f, "registration:{name}"),
        }
    }
}

/// What became of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    /// It was not asked.
    #[default]
    Unknown,
    /// It was asked, and may still answer.
    Asking,
    /// It has told an address.
    Works,
    /// It has not, or one that is wrong.
    Failed,
}

impl ServerState {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Asking => "asking",
            Self::Works => "works",
            Self::Failed => "failed",
        }
    }
}
