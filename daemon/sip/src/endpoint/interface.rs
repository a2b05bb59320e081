//! The words that the endpoint and its owner exchange: identities, flows, outputs, events, ends and errors.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use data_encoding::BASE32_NOPAD_NOCASE;
use sha2::{Digest as _, Sha256};

use super::Event;
use crate::digest::Secret;
use crate::rendezvous::Directory;
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// An account as signalling sees it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId(pub u32);
/// An INVITE session: a call as signalling sees it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);
/// Candidates of a peer's that wait for their answer. Numbers are never reused; answers to unknown ones are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentId(pub u64);
/// A question to the resolver. Numbers are never reused; answers to unknown ones are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveId(pub u64);

/// What carries messages (RFC 3261 section 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams: every message is one, and may be lost, doubled or overtaken.
    Udp,
    /// A connection: messages arrive whole and in order, or the connection is lost.
    Tcp,
    /// A connection whose ends have proved who they are (RFC 3261 section 26.3.1, RFC 5922).
    Tls,
}

impl Transport {
    /// As Via names it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// Messages are neither lost nor doubled: no retransmissions (RFC 3261 section 17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// Where SIP lives without a port (RFC 3261 section 19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        }
    }
}

/// How long a connection may take before [`Endpoint::handle_slow`](super::Endpoint::handle_slow) is to be told: the first
/// packet that asks for one is repeated after a second, and one of the two should have arrived.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// What the far end of a connection must prove and what we show it: whoever answers [`Output::Resolve`] numbers these
/// requirements, so that a connection made for one name or one account is not taken for another (RFC 5923 section 7).
/// 0 where nothing is required: without TLS, and on connections that came to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsRequirement(pub u32);

/// Why a flow does not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens there.
    #[error("nobody listens there")]
    Refused,
    /// There is no way there.
    #[error("there is no route")]
    NoRoute,
    /// A connection was not made in time.
    #[error("it does not answer")]
    TimedOut,
    /// The far end closed the connection, or it broke.
    #[error("the connection was lost")]
    Closed,
    /// The far end's certificate is not good.
    #[error("{0}")]
    Certificate(CertificateFault),
    /// The far end does not take ours, or wants one and has none.
    #[error("it does not accept this account's client certificate, or asks for one")]
    ClientCertificate,
    /// The two ends have no TLS in common, or the far end speaks none.
    #[error("no TLS connection comes about")]
    Handshake,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come; most often this machine's clock is wrong.
    #[error("its certificate is not valid yet: check this machine's clock")]
    NotYetValid,
    /// It is another server's.
    #[error("its certificate is for another name")]
    WrongName,
    /// It signed itself, or who signed it is not known here.
    #[error("its certificate is signed by nobody known here")]
    UnknownIssuer,
    /// It is not the pinned one.
    #[error("its certificate is not the pinned one")]
    NotPinned,
    /// It was revoked, is for another purpose, or cannot be read.
    #[error("its certificate is not fit for this use")]
    Unfit,
}

/// Between which two sockets a message travels. `local` is a concrete address, never unspecified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// What carries the message.
    pub transport: Transport,
    /// Our socket, as Via and Contact name it: of a connection that we made, the one that we listen on.
    pub local: SocketAddr,
    /// The next hop's socket.
    pub remote: SocketAddr,
    /// What the far end must prove.
    pub tls: TlsRequirement,
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
    /// How long a session outlasts offers and refreshes of ours that nobody answers: zero ends it with the first that is
    /// given up, as RFC 3261 section 14.1 has it.
    pub network_timeout: Duration,
}

/// Who we are to a server or a peer.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Address of record: From, and To of REGISTER. The unspecified address as its host (`0.0.0.0`) stands for the local
    /// address that a call is placed from: whom nobody knows by name is called back there.
    pub aor: NameAddr,
    /// Where REGISTER goes; `None` for accounts without a server.
    pub registrar: Option<Uri>,
    /// Preloaded routes (RFC 3261 section 8.1.1.1), the most wanted first; `;lr` is added where it is missing. Requests
    /// go by way of the first that carries a binding; the second is another way to be reached, where the registrar knows
    /// flows (RFC 5626 section 4.2).
    pub outbound_proxies: Vec<Uri>,
    /// What answers challenges; `None` leaves them unanswered.
    pub credentials: Option<Credentials>,
    /// Seconds asked for in REGISTER.
    pub expires: u32,
    /// URN that names this device for good, `urn:uuid:…` (RFC 5626 section 4.1): with it a registrar knows an old binding
    /// of this device, and makes GRUUs.
    pub instance: Option<String>,
    /// Asks the registrar for GRUUs (RFC 5627), and uses them as Contact in dialogs through the identity's servers.
    pub gruu: bool,
    /// What wakes this device when a request comes for it.
    pub push: Option<Push>,
    /// Which address of ours its Contact names.
    pub contact: ContactPolicy,
    /// User part of its Contact, see [`contact_user`]: with one that stays the same, a registration takes the place of the
    /// one that a sudden end has left with the registrar. `None`, or one that another identity has still: a new one.
    pub contact_user: Option<String>,
}

/// The user part that the Contact of this account has at each start: nobody can guess it who does not know the key.
pub fn contact_user(key: &Secret, account: &str) -> String {
    let hash = Sha256::new_with_prefix(b"voipd contact\0")
        .chain_update(key.expose())
        .chain_update(b"\0")
        .chain_update(account)
        .finalize();
    let mut user = BASE32_NOPAD_NOCASE.encode(&hash);
    user.make_ascii_lowercase();
    // 80 bits.
    user.truncate(16);
    user
}

/// Which address of ours a Contact names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContactPolicy {
    /// The one that the identity's servers see.
    #[default]
    Auto,
    /// Our own, whatever they see.
    Local,
}

/// A push notification service that reaches this device (RFC 8599 section 4.1), as the Contact of REGISTER names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// `pn-provider`: the service.
    pub provider: String,
    /// `pn-prid`: this device at that service.
    pub prid: String,
    /// `pn-param`: what else the service needs.
    pub param: Option<String>,
}

/// Digest credentials. They answer only challenges to requests that were sent to an address of the identity's own
/// registrar or outbound proxy, and only for `realms`; where none is given, for any realm until a registration has
/// succeeded, then for those it succeeded with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name of the digest.
    pub user: String,
    /// Password of the digest.
    pub password: Secret,
    /// The only realms that are answered; may be empty.
    pub realms: Vec<String>,
    /// Also where the server has nothing better than MD5.
    pub allow_md5: bool,
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
        /// For whom: its TLS settings hold.
        identity: Option<IdentityId>,
        /// What to find.
        next_hop: NextHop,
    },
    /// Drop this connection, whatever is still to be written: its far end is gone.
    Disconnect {
        /// Which.
        flow: Flow,
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
    /// Explicit port; without one SRV applies (RFC 3263), then the transport's own.
    pub port: Option<u16>,
    /// How to get there, where the URI says it; else NAPTR and SRV decide (RFC 3263 section 4.1).
    pub transport: Option<Transport>,
    /// `sips:`: nothing but TLS will do.
    pub secure: bool,
}

impl NextHop {
    /// The same place, over nothing but TLS: at TLS's own port, where the one named is another transport's.
    pub(crate) fn secured(self) -> Self {
        match self.secure || self.transport == Some(Transport::Tls) {
            true => Self { secure: true, ..self },
            false => Self { secure: true, port: None, transport: None, ..self },
        }
    }
}

/// Why a name led nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("no such host: {0}")]
    NoSuchHost(String),
    /// Whether it exists cannot be found out now: no name server answers.
    #[error("no name server answers for {0}")]
    Unavailable(String),
    /// Whether it exists cannot be found out now: the name servers have trouble of their own.
    #[error("the name servers cannot tell about {0}: they answer with an error")]
    ServerFailure(String),
    /// The domain exists, and says that it takes SIP by no transport that we can use.
    #[error("{0} offers no SIP by a transport that can be used here")]
    NoService(String),
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

/// What the registrar says of a binding besides its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Addresses that are the identity's, the default one first (P-Associated-URI, RFC 7315 section 4.1).
    pub associated: Vec<NameAddr>,
    /// Leads to this device alone, from anywhere (RFC 5627): the Contact of dialogs.
    pub public_gruu: Option<SipUri>,
    /// The same without the address of record in it.
    pub temporary_gruu: Option<SipUri>,
    /// The way of requests outside of dialogs (RFC 3608), behind the outbound proxy.
    pub service_route: Vec<SipUri>,
    /// What a meeting point tells of this identity's friends.
    pub directory: Option<Directory>,
    /// The push service that the server will use (`+sip.pns` of Feature-Caps, RFC 8599 section 4.1.2).
    pub push_service: Option<String>,
}

/// Why a registration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationFailure {
    /// The credentials were refused, or none are there to answer with.
    Credentials,
    /// The challenge is not for this account's realm, or not from its servers.
    ForeignRealm,
    /// The server has nothing better than MD5, and [`Credentials::allow_md5`] is off.
    WeakDigest,
    /// The server asks for a scheme or an algorithm that this stack does not have.
    UnknownDigest,
    /// Whoever accepted the registration has tried to prove that he knows the password, and does not.
    ServerProof,
    /// The registrar said no.
    Rejected,
    /// The registrar says nothing.
    Timeout,
    /// The registrar's name led nowhere.
    Unresolvable,
    /// The transport could not deliver, or there is no way to the registrar.
    Unreachable(TransportError),
    /// This machine has no network that leads to the registrar; the next one that comes is tried at once.
    NoNetwork,
}

/// How an outbound session is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InviteOptions {
    /// The callee must not learn who calls: From says nothing, and the identity's own server is told who it is and asked
    /// to keep it (RFC 3323, RFC 3325).
    pub anonymous: bool,
    /// 300, 301 and 302 are followed (RFC 3261 section 8.1.3.4); otherwise they end the session.
    pub follow: bool,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// Who or what ended it.
    pub cause: EndCause,
    /// Status of the final response, or from Reason in BYE/CANCEL (`SIP;cause=200`).
    pub status: Option<u16>,
    /// Cause of ITU-T Q.850 in the peer's Reason (RFC 3326, RFC 6432).
    pub q850: Option<u16>,
    /// Reason phrase or Reason text of the peer.
    pub text: Option<String>,
    /// Contacts of a 3xx, the most wanted first (RFC 3261 section 21.3).
    pub contacts: Vec<NameAddr>,
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
    /// The transport could not deliver, or there is no way there.
    Unreachable(TransportError),
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
    /// The peer has said that it does not take this method.
    #[error("the peer does not take this request")]
    NotAllowed,
    /// `tel:` and others lead nowhere.
    #[error("only sip: and sips: targets can be called")]
    NotASipUri,
}
