//! What media peers say to each other, without I/O: session descriptions, offer/answer, RTCP.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod codec;
mod direction;
pub mod emodel;
mod error;
mod format;
pub mod ice;
pub mod names;
pub mod negotiation;
mod redundancy;
pub mod rtcp;
mod sdp;

pub use codec::Codec;
pub use direction::Direction;
pub use error::NegotiationError;
pub use format::{COMFORT_NOISE, ReceiveFormat};
pub use negotiation::{Agreement, LocalMedia, Negotiation, Preferences, SendFormat};
