//! Port mappings at the router of the local network: which are wanted, who makes them, how long they live. It speaks
//! neither UPnP nor NAT-PMP nor PCP: it asks for requests, and judges what routers answer.
//!
//! Call one method of [`Mapper`], then drain [`Mapper::poll_output`] until it answers [`Output::Timeout`].

mod address;
mod chores;
mod entry;
mod epoch;
mod mapper;
mod message;
mod pinhole;
mod race;
mod survey;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

pub use address::is_public;
pub use mapper::{AddError, MAX_MAPPINGS, Mapper};
pub use pinhole::{PinholeOutput, PinholeProblem, PinholeView, Pinholes};
pub use survey::{PATIENCE, SURVEY, Spoken};

/// A mapping that is wanted. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(pub u32);

/// One request to a router. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a router is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Internet Gateway Device of UPnP, versions 1 and 2.
    Upnp,
    /// RFC 6886.
    NatPmp,
    /// RFC 6887.
    Pcp,
}

impl Protocol {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];

    /// `upnp`, `nat-pmp` or `pcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upnp => "upnp",
            Self::NatPmp => "nat-pmp",
            Self::Pcp => "pcp",
        }
    }
}

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections from outside.
    Tcp,
}

impl Transport {
    /// `udp` or `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The port that SIP listens on.
    Sip,
    /// Sound of a call.
    Rtp,
    /// Reports about the sound of a call.
    Rtcp,
    /// Somebody asked for it.
    User,
}

impl Purpose {
    /// `sip`, `rtp`, `rtcp` or `user`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
            Self::Rtp => "rtp",
            Self::Rtcp => "rtcp",
            Self::User => "user",
        }
    }

    /// The lease that is asked for: what a crash leaves behind lives no longer.
    pub fn lease(self) -> Duration {
        match self {
            Self::Rtp | Self::Rtcp => Duration::from_secs(600),
            Self::Sip | Self::User => Duration::from_secs(3600),
        }
    }
}

/// A mapping that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// What is mapped.
    pub transport: Transport,
    /// Port of this machine; not 0.
    pub internal_port: u16,
    /// Port that is asked for at the router; the internal one where absent. Routers may give another one.
    pub external_port: Option<u16>,
    /// What it is for.
    pub purpose: Purpose,
    /// Removed after this time; kept until somebody removes it where absent.
    pub keep_for: Option<Duration>,
}

/// The way out of the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The router.
    pub router: Ipv4Addr,
    /// Our address in its network.
    pub local: Ipv4Addr,
}

/// Everything that names a mapping at a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who is asked.
    pub protocol: Protocol,
    /// Where it was made, and for which address.
    pub gateway: Gateway,
    /// What is mapped.
    pub transport: Transport,
    /// Our port.
    pub internal_port: u16,
    /// The router's port.
    pub external_port: u16,
    /// What proves to a PCP server that the mapping is ours (RFC 6887 section 11.2).
    pub nonce: [u32; 3],
}

/// What is asked of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the mapping, or prolong it. `external_port` is what we would like.
    Map {
        /// Which one.
        lease: Lease,
        /// How long it shall live; `None`: until it is removed.
        lifetime: Option<Duration>,
    },
    /// Is it still there, and where? Where it is not, or the protocol cannot tell, ask for it as [`Action::Map`] does.
    Check {
        /// Which one.
        lease: Lease,
        /// As in [`Action::Map`].
        lifetime: Option<Duration>,
    },
    /// Remove the mapping, where it is (still) ours. One that is not there counts as removed.
    Unmap {
        /// Which one.
        lease: Lease,
    },
}

impl Action {
    /// The mapping that this is about.
    pub fn lease(&self) -> &Lease {
        match self {
            Self::Map { lease, .. } | Self::Check { lease, .. } | Self::Unmap { lease } => lease,
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Action::Map`] and [`Action::Check`].
    Mapped(Granted),
    /// To [`Action::Unmap`].
    Unmapped,
    /// To any.
    Refused(Refusal),
}

/// A router says yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Where the mapping is reached, by the router's account.
    pub external: SocketAddrV4,
    /// How long it lives from now on; `None`: until it is removed.
    pub lifetime: Option<Duration>,
    /// What the answer tells about the router's memory.
    pub memory: Memory,
}

/// Has the router forgotten what it had been told?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Seconds since the router's mapping table was empty (RFC 6886 section 3.6, RFC 6887 section 8.5).
    Epoch(u32),
    /// The mapping stands there as we had made it; it was not prolonged.
    Kept,
    /// It did not stand there any more, and was made anew.
    Lost,
    /// The answer does not tell.
    Unknown,
}

/// A router says no, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No answer in time.
    NoAnswer,
    /// It does not speak the protocol, or not this request.
    Unsupported,
    /// Its administrator does not want it.
    NotAuthorized,
    /// Somebody else has the external port (UPnP 718).
    PortInUse,
    /// It knows no leases that end (UPnP 725).
    OnlyPermanent,
    /// Both ports must be the same (UPnP 724).
    SamePort,
    /// It has no room for more.
    NoRoom,
    /// It has no network itself.
    NoNetwork,
    /// Something else, in its words.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAnswer => "no answer",
            Self::Unsupported => "it does not know how",
            Self::NotAuthorized => "not allowed by the router's settings",
            Self::PortInUse => "the port is taken by another machine",
            Self::OnlyPermanent => "it makes permanent mappings only",
            Self::SamePort => "both ports must be the same",
            Self::NoRoom => "it has no room for more mappings",
            Self::NoNetwork => "it has no connection to the internet",
            Self::Other(text) => text,
        })
    }
}

/// Why a mapping is not there, or of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nobody to ask.
    #[error("there is no router: this machine has no private IPv4 address with a default route")]
    NoGateway,
    /// None of the protocols was answered.
    #[error("the router answers neither PCP nor NAT-PMP nor UPnP: switch one of them on in its settings")]
    Silent,
    /// The best answer was a no.
    #[error("the router refuses ({}): {refusal}", protocol.name())]
    Refused {
        /// Who was asked.
        protocol: Protocol,
        /// What it said.
        refusal: Refusal,
    },
    /// It gave 0.0.0.0 as its external address.
    #[error("the router knows no external address of its own: it has no connection to the internet")]
    NoExternal,
    /// Its external address cannot be reached from outside.
    #[error(
        "the router's own address is {0}, which is not public: another NAT stands before it, perhaps the provider's; \
         use a relay"
    )]
    NotPublic(Ipv4Addr),
    /// A lifetime or a port that makes no sense.
    #[error("the router's answer makes no sense ({}): {what}", protocol.name())]
    Nonsense {
        /// Who was asked.
        protocol: Protocol,
        /// What is wrong.
        what: &'static str,
    },
}

/// A mapping as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingView {
    /// Its number.
    pub id: MappingId,
    /// What was wanted.
    pub want: Want,
    /// Our address; `None` without a gateway.
    pub local: Option<Ipv4Addr>,
    /// Where it is reached from outside, once it is.
    pub external: Option<SocketAddrV4>,
    /// What made it.
    pub protocol: Option<Protocol>,
    /// When the router forgets it unless it is prolonged; `None` while there is none, and for permanent ones.
    pub expires: Option<Instant>,
    /// The router keeps it until it is removed.
    pub permanent: bool,
    /// Why there is none, while there is none.
    pub problem: Option<Problem>,
}

/// What the policy asks for and tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask the router; answer with [`Mapper::handle_answer`].
    Request {
        /// Names the answer.
        id: RequestId,
        /// What to ask.
        action: Action,
    },
    /// Ask the router what it says of itself, without mapping anything; answer with [`Mapper::handle_seen`].
    Look {
        /// Names the answer.
        id: RequestId,
        /// In which protocol.
        protocol: Protocol,
        /// Whom.
        gateway: Gateway,
    },
    /// A mapping is there, moved or gone, or there is news about why it is not there.
    Changed(MappingId),
    /// Nobody wants this mapping any more.
    Removed(MappingId),
    /// Keep this where a crash does not reach it, before the requests that follow are made: the mapping will not end by
    /// itself.
    Remember(Lease),
    /// It is gone: it need not be kept any more.
    Forget(Lease),
    /// Nothing more before this time, or before the next input.
    Timeout(Option<Instant>),
}
