//! State of `org.voipd.Nat1`.

use std::net::IpAddr;

use voipd_agent::RelayView;
use voipd_nat::stun::Report;

use crate::network::NetworkState;

/// What is known of the way through NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatView {
    pub network: NetworkState,
    /// Those of this machine that can be used beyond it.
    pub local_addresses: Vec<IpAddr>,
    pub discovery: Report,
    /// Those of all accounts.
    pub relays: Vec<RelayView>,
}
