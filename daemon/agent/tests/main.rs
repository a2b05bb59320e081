//! What accounts and calls do in virtual time, one file for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

mod accounts;
mod adaptation;
mod bad_network;
mod basic_call;
mod call_ends;
mod call_ports;
mod callers;
mod codec_change;
mod conference;
mod dtmf;
mod early_media;
mod forks;
mod hold;
mod hold_outage;
mod ice_addresses;
mod ice_calls;
mod ice_trickle;
mod ice_ways;
mod inbound;
mod limits;
mod mapped;
mod media_loss;
mod media_names;
mod narrow;
mod neighbours;
mod numbers;
mod offers;
mod quality;
mod reconnected;
mod redirect;
mod registration_facts;
mod roaming_accounts;
mod roaming_calls;
mod rtcp_mux;
mod secure_offers;
mod seen_elsewhere;
mod sound_device;
mod ssrc_collision;
mod transport_reasons;
mod vigil;
