//! What media peers agree on, one file for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

mod codec_change;
mod hold_and_resume;
mod hostile_rtcp;
mod hostile_text;
mod ice;
mod ice_fragments;
mod payload_types;
mod real_peers;
mod redundancy;
mod refusals;
mod repeated_offers;
mod rtcp_between_two;
mod rtcp_collision;
mod rtcp_mux;
mod secure_offers;
mod silence;
mod two_of_us;
