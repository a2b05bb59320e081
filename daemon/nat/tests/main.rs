//! What the way through NAT does, one file for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod mapping_common;
mod stun_lab;
mod world;

mod discovery_nats;
mod discovery_schedule;
mod discovery_servers;
mod ice_consent;
mod ice_host;
mod ice_hostile;
mod ice_pairs;
mod ice_relay_choice;
mod ice_restart;
mod ice_roles;
mod ice_trickle;
mod mapping_lease;
mod mapping_race;
mod mapping_removal;
mod mapping_routers;
mod mapping_survey;
mod pinholes;
mod turn_failures;
mod turn_lifetime;
