//! SIP signalling without I/O: messages, transactions, dialogs, registrations and sessions of one user agent.
//!
//! Nothing here reads a clock, a random source, a file or a socket: [`Endpoint`] is given the time, the
//! datagrams and the answers to its questions, and is drained with [`Endpoint::poll_output`].

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod account;
mod auth;
mod avoided;
mod binding;
mod body;
pub mod caller;
mod core;
mod dialog;
pub mod digest;
mod dispatch;
pub mod dtmf_info;
pub mod endpoint;
pub mod faces;
mod grammar;
pub mod headers;
mod leg;
mod mapped;
pub mod message;
pub mod multipart;
mod outbox;
mod random;
pub mod reason;
pub mod redact;
mod redirect;
mod reflexive;
mod registration;
pub mod rendezvous;
mod roaming;
mod session;
mod stun;
mod timer;
mod transaction;
mod uas;
pub mod uri;
mod way_back;
pub mod wire;

pub use endpoint::Endpoint;
pub use message::{Message, Method, Request, Response};
pub use uri::{NameAddr, Uri};
