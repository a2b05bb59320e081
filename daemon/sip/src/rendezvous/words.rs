//! The words that a meeting point and its owner exchange.

use std::net::SocketAddr;
use std::time::Instant;

use crate::digest::{Secret, UserHash};
use crate::endpoint::Flow;
use crate::uri::Host;

/// What a meeting point is.
#[derive(Clone, Debug)]
pub struct RendezvousConfig {
    /// Value of Server, `voipd/0.1.0`.
    pub product: String,
    /// What stands behind the `@` of its members' addresses: its domain, and the realm of their passwords.
    pub host: Host,
    /// The port in those addresses, where there is one.
    pub port: Option<u16>,
    /// What it names dialogs with. The same after a restart lets them go on.
    pub key: Secret,
    /// Most transactions at once; a request beyond is answered 503 without state.
    pub max_transactions: usize,
}

/// What a device of a member proves itself with. A member has one for each device that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Whose.
    pub member: String,
    /// User name of its digests, unique: the member's name, a dot, and letters that the device has drawn.
    pub user: String,
    /// All that is known of its password.
    pub hash: UserHash,
}

/// A place for one more device of a member, until it is taken or its time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Who is invited.
    pub member: String,
    /// All that is known of its secret.
    pub key: super::InvitationKey,
    /// Unix seconds from which on it opens nothing.
    pub expires: u64,
}

/// A member as its meeting point sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user part of its address.
    pub name: String,
    /// How many devices have joined.
    pub devices: usize,
    /// Where it is registered from now.
    pub addresses: Vec<SocketAddr>,
    /// Unix seconds until which a further device can join; `None` when none is invited.
    pub invited_until: Option<u64>,
}

/// Why a name cannot be invited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It would be no user part of an address, or a misleading one.
    #[error("'{0}' is no name for a friend: use lower-case letters, digits, '-' and '_', at most 32 of them")]
    BadName(String),
    /// There is no room for a further member.
    #[error("there are {0} friends already, and no more fit: remove one")]
    TooManyMembers(usize),
    /// There is no room for a further device.
    #[error("'{member}' has {devices} devices already: remove the friend, and invite anew")]
    TooManyDevices {
        /// Whose.
        member: String,
        /// How many.
        devices: usize,
    },
}

/// What a meeting point asks of or tells its owner.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes.
    Transmit {
        /// From which socket, and to which.
        flow: Flow,
        /// One message.
        bytes: Vec<u8>,
    },
    /// Something happened.
    Event(Event),
    /// Nothing more to do before this time, or before the next input.
    Timeout(Option<Instant>),
}

/// What happened at a meeting point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An invitation was used: keep the credential, and forget the invitation of its member.
    Joined(Credential),
    /// Two members have talked for the first time, and may know of each other's presence: keep the pair.
    Met {
        /// Who called.
        one: String,
        /// Who answered.
        other: String,
    },
    /// A member was given a login for the relays ([`Rendezvous::set_relays`](super::Rendezvous::set_relays)).
    Granted(super::RelayLogin),
    /// A member offers a relay, and nobody has been relayed there yet: try it, and answer by
    /// [`Rendezvous::relay_checked`](super::Rendezvous::relay_checked).
    Offered {
        /// Who.
        member: String,
        /// Where it is said to be, and to relay (TURN over UDP).
        address: SocketAddr,
        /// What opens it, if it is his.
        login: super::RelayLogin,
    },
    /// Where a member is registered from has changed.
    Moved {
        /// Who.
        member: String,
        /// It is registered from somewhere.
        online: bool,
    },
}
