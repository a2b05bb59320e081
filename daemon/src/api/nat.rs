//! State of `org.voipd.Nat1`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use voipd_nat::stun::{Filtering, Hairpin, Mapping, Ports};

use crate::network::NetworkState;

/// How this machine looks from outside, and who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatView {
    pub network: NetworkState,
    /// Those of this machine that can be used beyond it.
    pub local_addresses: Vec<IpAddr>,
    pub state: NatState,
    /// Plain words when unknown or failed.
    pub reason: String,
    /// Those of the default routes first; the first one is spoken of as *the* NAT.
    pub paths: Vec<PathView>,
    pub servers: Vec<ServerView>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatState {
    #[default]
    Unknown,
    Discovering,
    Known,
    Failed,
}

/// What is known of one local address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    pub local: IpAddr,
    pub public: Vec<IpAddr>,
    pub mapping: Mapping,
    pub filtering: Filtering,
    pub ports: Ports,
    pub hairpin: Hairpin,
}

/// Someone who is asked for the public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// As the configuration or the account has it.
    pub name: String,
    /// `configuration`, `account:NAME` or `registration:NAME`.
    pub source: String,
    pub address: Option<SocketAddr>,
    pub state: ServerState,
    /// Plain words when failed.
    pub reason: String,
    pub rtt: Option<Duration>,
    pub public: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    #[default]
    Unknown,
    Asking,
    Works,
    Failed,
}
