//! State of `org.voipd.Nat1`.

use std::net::IpAddr;

use voipd_agent::RelayView;
use voipd_nat::stun::Report;
use voipd_sip::rendezvous::OfferState;

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
    /// Those of this machine.
    pub offers: Vec<OfferView>,
}

/// A relay of this machine that is offered to friends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferView {
    /// `turn:ADDRESS:PORT`; empty where there is none to offer.
    pub uri: String,
    /// The meeting point.
    pub point: String,
    pub state: OfferState,
}
