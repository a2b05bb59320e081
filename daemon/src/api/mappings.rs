//! Port mappings as `org.voipd.Nat1` shows and takes them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use voipd_agent::view::CallId;
use voipd_nat::mapping::{Protocol, Purpose, Transport};

/// A port of this machine that shall be reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingWish {
    pub transport: Transport,
    pub internal_port: u16,
    /// The same as the internal one where absent.
    pub external_port: Option<u16>,
    /// Until it is removed where absent.
    pub keep_for: Option<Duration>,
}

/// A mapping as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingView {
    pub id: u32,
    pub transport: Transport,
    /// Without a router, the address is not known.
    pub internal_address: Option<IpAddr>,
    pub internal_port: u16,
    pub external: Option<SocketAddr>,
    pub purpose: Purpose,
    pub call: Option<CallId>,
    pub by: Option<Protocol>,
    /// Unix seconds at which the router forgets it unless it is prolonged; `None` while it is not there, and for good.
    pub expires: Option<u64>,
    /// Plain words while it is not there.
    pub reason: String,
}
