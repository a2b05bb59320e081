//! State of `org.voipd.Nat1`.

use voipd_agent::RelayView;
use voipd_nat::stun::Report;

/// What is known of the way through NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatView {
    pub discovery: Report,
    /// Those of all accounts.
    pub relays: Vec<RelayView>,
}
