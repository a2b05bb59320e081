//! The daemon as a library, so that tests can reach its parts.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod api;
pub mod bus;
pub mod config;
pub mod doctor;
pub mod driver;
pub mod instance;
pub mod logging;
pub mod neighbours;
pub mod network;
pub mod portmap;
pub mod programs;
pub mod realtime;
pub mod relay;
pub mod rtkit;
pub mod service;
pub mod sound;
pub mod store;
pub mod tls;
pub mod transport;
pub mod turn_server;
