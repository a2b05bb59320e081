//! The way through NAT: STUN, ICE, TURN and the policy of port mappings, without I/O. It knows neither SIP nor sound.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod ice;
pub mod stun;
pub mod turn;
