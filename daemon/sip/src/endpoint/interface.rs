//! The words that the endpoint and its owner exchange: identities, flows, outputs, events, ends and errors.

use std::net::SocketAddr;
use std::time::Instant;

use crate::digest::Secret;
use crate::message::StatusCode;
use crate::uri::{Host, NameAddr, Uri};

/// An account as signalling sees it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId(pub u32);
/// An INVITE session: a call as signalling sees it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);
/// A question to the resolver. Numbers are never reused; answers to unknown ones are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveId(pub u64);

/// What carries messages (RFC 3261 section 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams: every message is one, and may be lost, doubled or overtaken.
    Udp,
}

/// Between which two sockets a message travels. `local` is a concrete address, never unspecified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// What carries the message.
    pub transport: Transport,
    /// Our socket, as Via and Contact name it.
    pub local: SocketAddr,
    /// The next hop's socket.
    pub remote: SocketAddr,
}

/// What the whole user agent has in common.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Value of User-Agent and Server, `voipd/0.1.0`.
    pub product: String,
    /// Most sessions at once; an INVITE beyond is answered 486.
    pub max_sessions: usize,
    /// Most server transactions at once; a request beyond is answered 503 without state. Requests in dialogs have as
    /// much room again, so that calls can end when strangers have filled the table.
    pub max_transactions: usize,
    /// Seconds that a session may go without a refresh, as we ask for it (RFC 4028); at least 90. `None`: session timers
    /// are not taken part in at all.
    pub session_expires: Option<u32>,
}

/// Who we are to a server or a peer.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Address of record: From, and To of REGISTER. The unspecified address as its host (`0.0.0.0`) stands for the local
    /// address that a call is placed from: whom nobody knows by name is called back there.
    pub aor: NameAddr,
    /// Where REGISTER goes; `None` for accounts without a server.
    pub registrar: Option<Uri>,
    /// Preloaded route (RFC 3261 section 8.1.1.1); `;lr` is added when it is missing.
    pub outbound_proxy: Option<Uri>,
    /// What answers challenges; `None` leaves them unanswered.
    pub credentials: Option<Credentials>,
    /// Seconds asked for in REGISTER.
    pub expires: u32,
}

/// Digest credentials. They answer only challenges to requests that were sent to an address of the identity's own
/// registrar or outbound proxy, and only for `realm`; where none is given, for any realm until a registration has
/// succeeded, then for the realm it succeeded with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name of the digest.
    pub user: String,
    /// Password of the digest.
    pub password: Secret,
    /// The only realm that is answered.
    pub realm: Option<String>,
}

/// What signalling asks of or tells its owner.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // taken from the queue once, and taken apart at once
pub enum Output {
    /// Send these bytes.
    Transmit {
        /// From which socket, and to which.
        flow: Flow,
        /// One message.
        bytes: Vec<u8>,
    },
    /// Find the addresses of this next hop, and for each the local address that would be used; answer with
    /// [`Endpoint::handle_resolved`](super::Endpoint::handle_resolved). The host may be an address literal.
    Resolve {
        /// Number of the question.
        id: ResolveId,
        /// What to find.
        next_hop: NextHop,
    },
    /// Something happened.
    Event(Event),
    /// Nothing more to do before this time, or before the next input.
    Timeout(Option<Instant>),
}

/// Where a request goes next (RFC 3261 section 8.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Name or address literal.
    pub host: Host,
    /// Explicit port; without one SRV applies (RFC 3263), then 5060.
    pub port: Option<u16>,
    /// How to get there.
    pub transport: Transport,
}

/// Why a name led nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("no such host: {0}")]
    NoSuchHost(String),
    /// Whether it exists cannot be found out now.
    #[error("the name servers do not answer for {0}")]
    Unavailable(String),
    /// It has addresses, but none that this machine reaches.
    #[error("no route to {0}")]
    NoRoute(String),
}

/// What a registration has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// No binding, and none wanted.
    Unregistered,
    /// A binding is being made.
    Registering,
    /// The binding is there, and refreshed by itself.
    Registered {
        /// Seconds granted.
        expires: u32,
    },
    /// No binding could be made or refreshed.
    Failed {
        /// What kind of failure.
        reason: RegistrationFailure,
        /// Status of the response, if one came.
        status: Option<u16>,
        /// When the next try is made; `None` when none will be (wrong password).
        retry: Option<Instant>,
    },
}

/// Why a registration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationFailure {
    /// The credentials were refused, or none are there to answer with.
    Credentials,
    /// The challenge is not for this account's realm, or not from its servers.
    ForeignRealm,
    /// The registrar said no.
    Rejected,
    /// The registrar says nothing.
    Timeout,
    /// The registrar's name led nowhere.
    Unresolvable,
    /// The transport said that nobody is there, or there is no way to it.
    Unreachable,
}

/// What happened.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // see `Output`
pub enum Event {
    /// A registration's state changed. A refresh that is granted the same time changes nothing.
    Registration {
        /// Whose.
        identity: IdentityId,
        /// What it is now.
        state: RegistrationState,
    },
    /// A new inbound session. Answer in the same drain with `ring`, `accept` or `reject`, or at leisure: 100 is sent
    /// after 200 ms.
    Incoming(Incoming),
    /// The target of an outbound session is resolved. Answer with
    /// [`Endpoint::send_invite`](super::Endpoint::send_invite).
    OfferWanted {
        /// Which session.
        session: SessionId,
        /// What the INVITE will travel on first.
        flow: Flow,
    },
    /// A provisional response above 100.
    Progress {
        /// Which session.
        session: SessionId,
        /// Its status.
        status: StatusCode,
        /// An early answer to the INVITE's offer; with forking, each callee may bring its own.
        sdp: Option<Vec<u8>>,
    },
    /// 2xx to our INVITE; the ACK is sent already.
    Answered {
        /// Which session.
        session: SessionId,
        /// The answer to the INVITE's offer; `None` where what [`Event::Progress`] and the offers after it brought last
        /// holds.
        sdp: Option<Vec<u8>>,
        /// To of the 2xx.
        peer: NameAddr,
    },
    /// ACK to our 2xx, of an INVITE or a re-INVITE; or a re-INVITE in its place, where only the ACK was lost. Before
    /// that, where [`Endpoint::ring`](super::Endpoint::ring) has made the offer: the PRACK that answers it.
    Confirmed {
        /// Which session.
        session: SessionId,
        /// The answer, where our 2xx or provisional response had the offer.
        sdp: Option<Vec<u8>>,
    },
    /// The peer offers anew, in a re-INVITE, an UPDATE or a PRACK: answer with
    /// [`Endpoint::answer_offer`](super::Endpoint::answer_offer). In a session that is not answered yet, this too may
    /// come.
    Offered {
        /// Which session.
        session: SessionId,
        /// The offer; a re-INVITE without one wants it in our answer.
        sdp: Option<Vec<u8>>,
    },
    /// How our offer ended ([`Endpoint::offer`](super::Endpoint::offer)). 491 is retried by itself (RFC 3261 section
    /// 14.1) and reported only where the peer offered anew before the retry: ours is given up then, since it was made
    /// for what was before.
    OfferDone {
        /// Which session.
        session: SessionId,
        /// The answer, or the status that refused it; 503 stands for a transport that could not deliver.
        result: Result<Option<Vec<u8>>, StatusCode>,
    },
    /// The session timer wants the session refreshed by a re-INVITE, since the peer takes no UPDATE (RFC 4028 section
    /// 7.4): answer with [`Endpoint::offer`](super::Endpoint::offer) of what is agreed already. Every offer refreshes.
    RefreshWanted {
        /// Which session.
        session: SessionId,
    },
    /// An in-dialog INFO, answered 200 already.
    Info {
        /// Which session.
        session: SessionId,
        /// Media type in lower case; empty where there is none.
        content_type: String,
        /// As it came.
        body: Vec<u8>,
    },
    /// How an in-dialog OPTIONS ([`Endpoint::probe`](super::Endpoint::probe)) ended. 408, 481 or no answer ends the
    /// session too; a transport that could not deliver does not.
    Probed {
        /// Which session.
        session: SessionId,
        /// Any other answer means that the peer lives.
        alive: bool,
    },
    /// The session is over: the number means nothing any more.
    Ended {
        /// Which session.
        session: SessionId,
        /// How and why.
        end: SessionEnd,
    },
}

/// An INVITE that begins a session.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its number from now on.
    pub session: SessionId,
    /// Whose registered contact the Request-URI names, if the INVITE also came from that identity's servers.
    pub identity: Option<IdentityId>,
    /// Whom the INVITE is for.
    pub request_uri: Uri,
    /// Who calls, as the peer says.
    pub from: NameAddr,
    /// Who was called first, as the peer says.
    pub to: NameAddr,
    /// What it came on.
    pub flow: Flow,
    /// Its Call-ID.
    pub call_id: String,
    /// SDP; `None` asks for an offer in our 2xx.
    pub offer: Option<Vec<u8>>,
    /// The caller wants every provisional response to be reliable (RFC 3262): where it makes no offer, the first has
    /// to.
    pub reliable: bool,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// Who or what ended it.
    pub cause: EndCause,
    /// Status of the final response, or from Reason in BYE/CANCEL (`SIP;cause=200`).
    pub status: Option<u16>,
    /// Reason phrase or Reason text of the peer.
    pub text: Option<String>,
}

/// Who or what ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// We hung up, cancelled or rejected.
    Local,
    /// BYE from the peer, or 481: it knows nothing of the session any more.
    Remote,
    /// CANCEL from the peer before the answer, or its Expires passed.
    Cancelled,
    /// Final response 3xx to 6xx to our INVITE.
    Refused,
    /// No response at all, 408 in the dialog, no ACK to our 2xx, no PRACK, or no refresh of the session.
    Timeout,
    /// The target's name led nowhere.
    Unresolvable,
    /// The transport said that nobody is there.
    Unreachable,
    /// The peer broke the protocol beyond repair.
    Protocol,
}

/// The caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There never was one, or it has ended.
    #[error("no such session")]
    NoSuchSession,
    /// Not now.
    #[error("not possible in the session's state")]
    WrongState,
    /// There never was one, or it was removed.
    #[error("no such identity")]
    NoSuchIdentity,
    /// [`EndpointConfig::max_sessions`] is reached.
    #[error("too many sessions")]
    TooMany,
    /// `sips:`, `tel:` and others lead nowhere yet.
    #[error("only sip: targets can be called")]
    NotASipUri,
}
