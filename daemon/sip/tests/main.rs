//! What the user agent does, one file for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

mod alg;
mod bodies;
mod call_credentials;
mod call_flow;
mod caller_retries;
mod challenges;
mod connections;
mod contact_rewriting;
mod digest_auth;
mod failover;
mod fork;
mod keep_alive;
mod lessons;
mod lossy;
mod multipart_properties;
mod offer_answer_places;
mod outbound;
mod prack;
mod privacy;
mod properties;
mod reasons;
mod redaction;
mod redirect;
mod registration;
mod registration_extensions;
mod reinvite;
mod rendezvous_proxy;
mod rendezvous_registrar;
mod rendezvous_relays;
mod rendezvous_restart;
mod rfc3665;
mod rfc5118;
mod robustness;
mod routing;
mod session_timer;
mod strangers;
mod stream_framing;
mod telephone;
mod torture;
mod torture_endpoint;
mod transaction_timers;
mod transports;
mod trickle;
mod typed_properties;
mod update;
