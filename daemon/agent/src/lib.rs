//! Accounts, calls and policy: joins signalling, media description and audio, without I/O.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod account;
mod accounts;
pub mod adaptation;
pub mod agent;
mod call;
mod call_ports;
mod caller;
mod commands;
mod complaints;
mod conference;
pub mod dialplan;
mod digits;
mod error;
mod forks;
mod heard_digits;
mod ice;
mod ice_calls;
pub mod ice_settings;
mod mapped;
mod media;
mod names;
mod neighbours;
pub mod output;
mod plan;
pub mod quality;
mod reason;
mod registration;
mod roaming;
mod servers;
mod session;
mod sound;
mod target;
mod trickle;
pub mod view;
mod vigil;

pub use account::{
    AccountId, AccountKind, AccountOrigin, AccountSettings, DtmfMethod, Network, RedirectPolicy, TlsSettings,
};
pub use agent::{Agent, AgentConfig};
pub use call::{DialOptions, SoundChoice};
pub use call_ports::{MOST_CALL_PORTS, PortRole, Voice};
pub use conference::MOST_CONFERENCES;
pub use digits::MOST_DIGITS;
pub use error::AgentError;
pub use ice_calls::RelayStream;
pub use mapped::{is_global_ipv6, is_outside};
pub use names::MediaNameId;
pub use neighbours::Neighbour;
pub use output::Output;
pub use plan::{built_codecs, described_codec};
pub use roaming::{Faced, NetworkChange};
pub use servers::{RelayState, RelayView, ServerId};
pub use target::TargetError;
pub use view::{AccountView, CallId, CallView, ConferenceId, ConferenceView, DevicePart};
