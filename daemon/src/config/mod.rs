//! The configuration: TOML text made into a typed [`Config`], and everything that is wrong with it told at once, each
//! fault with file, line, column, key and remedy.

pub mod account;
pub mod dialplan;
pub mod fields;
pub mod ice;
mod load;
mod nat;
mod rendezvous;
mod sections;
mod security;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use voipd_agent::AccountSettings;
use voipd_audio::tone::Signal;
use voipd_audio::tone::national::Country;

use crate::api::devices::DeviceSettings;
use crate::neighbours::NeighbourConfig;
use crate::tls::ServerFiles;

pub use load::{Loaded, default_path, load, no_file, state_directory};
pub use nat::NatConfig;

pub use rendezvous::{OfferConfig, RendezvousConfig};
pub(crate) use sections::device_name;
pub use text::parse;

/// For whom the daemon runs; defaults differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For the machine: system bus, user `voipd`.
    System,
    /// For one user's session: session bus.
    Session,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Session => "session",
        })
    }
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[sip]`
    pub sip: SipConfig,
    /// `[rtp]`
    pub rtp: RtpConfig,
    /// `[audio]`
    pub audio: AudioConfig,
    /// `[nat]`
    pub nat: NatConfig,
    /// `[calls]`
    pub calls: CallsConfig,
    /// `[rendezvous]`; `None` where this voipd is no meeting point.
    pub rendezvous: Option<RendezvousConfig>,
    /// `[rendezvous]`, key `offer-relay`; `None` where none is offered.
    pub offer_relay: Option<OfferConfig>,
    /// `[log]`, key `level`.
    pub log_level: log::LevelFilter,
    /// `[direct]`: the built-in account. Takes no calls when its allow list is empty.
    pub direct: AccountSettings,
    /// `[direct]`, keys `announce` and `neighbours`.
    pub neighbours: NeighbourConfig,
    /// `[[account]]`, each name once.
    pub accounts: Vec<AccountSettings>,
}

/// Where signalling is received, and as what voipd presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipConfig {
    /// Sockets to open for datagrams and connections; never empty. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Whether connections are taken there too.
    pub tcp: bool,
    /// Where TLS connections are taken, if at all.
    pub tls: Option<TlsConfig>,
    /// Value of User-Agent and Server.
    pub user_agent: String,
    /// The only name servers to ask; empty: the system's.
    pub name_servers: Vec<SocketAddr>,
}

/// Where TLS connections are taken, and with which certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Sockets to open; never empty.
    pub listen: Vec<SocketAddr>,
    /// What is shown to clients, and asked of them.
    pub files: ServerFiles,
}

/// Where media is received, and how its packets are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpConfig {
    /// Ports of RTP (even) and RTCP (the next odd one); holds at least one such pair.
    pub ports: RangeInclusive<u16>,
    /// The only local address for media; where absent, the one that reaches the peer.
    pub bind: Option<IpAddr>,
    /// Differentiated services code point of media packets (RFC 2474), 0 to 63.
    pub dscp: u8,
}

/// Sound devices by role: `default`, `null`, `file:/path.wav` or a device's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// The microphone.
    pub input: String,
    /// Where calls are heard.
    pub output: String,
    /// Where ringing is heard.
    pub ringer: String,
    /// Whether the default device stands in for one that cannot be had.
    pub fallback: bool,
    /// What is set of a device as long as nobody has set anything.
    pub defaults: DeviceSettings,
    /// Whose signals are heard; `None`: those of the country of the account's dial plan.
    pub tones: Option<&'static Country>,
    /// Files that are heard in their place.
    pub tone_files: BTreeMap<Signal, PathBuf>,
}

/// Limits of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallsConfig {
    /// Most calls at once.
    pub max: usize,
    /// How long an inbound call rings before it counts as unanswered.
    pub ring_timeout: Duration,
    /// Silence on the wire after which the peer is asked for a sign of life.
    pub media_timeout: Duration,
    /// How long a call waits for a network.
    pub network_timeout: Duration,
    /// Seconds that a call may go without a refresh of its session (RFC 4028), as we ask for it; `None` switches session
    /// timers off.
    pub session_timer: Option<u32>,
}

/// Ports of the audio engine that a call may take: its stream, a player and a recorder.
const PORTS_OF_A_CALL: usize = 3;
/// Those for devices and programs.
const OTHER_PORTS: usize = 64;
/// As many are made for few calls too, and no engine has more. Each takes 6 kB, used or not.
const PORTS: RangeInclusive<usize> = 256..=1024;

impl CallsConfig {
    /// How many ports the audio engine is to have.
    pub fn ports(&self) -> usize {
        (PORTS_OF_A_CALL * self.max + OTHER_PORTS).clamp(*PORTS.start(), *PORTS.end())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}; mend that, or name another file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The file can be read, and is wrong.
    #[error("{}", lines(.0))]
    Faulty(Vec<ConfigFault>),
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The file as it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// With its section, `sip.listen`; empty when the text is no TOML there.
    pub key: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

fn lines(faults: &[ConfigFault]) -> String {
    faults.iter().map(ConfigFault::to_string).collect::<Vec<_>>().join("\n")
}
