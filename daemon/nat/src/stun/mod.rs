//! What STUN servers tell about this machine's place behind NATs: public addresses (RFC 8489), and how the NAT maps and
//! filters (RFC 5780).
//!
//! [`Discovery`] is the state machine; a [`Report`] is what it knows.

mod behaviour;
mod discovery;
mod judge;
mod message;
mod report;
mod round;
mod transaction;

pub use behaviour::{Filtering, Hairpin, Mapping, Ports};
pub use discovery::{Discovery, Gathered, Output, Reflexive};
pub use report::{PathReport, Report, ServerReport, ServerState, Source, State};
pub use round::{MOST_PATHS, MOST_SERVERS, Path, Role, Server, SocketId, Transmit};
