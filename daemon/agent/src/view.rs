//! What front ends see of accounts and calls: plain data, made anew at every change.

use std::net::SocketAddr;

use voipd_media::ice::CandidateKind;
use voipd_sip::digest::Algorithm;
use voipd_sip::endpoint::Binding;

use crate::account::{AccountId, AccountSettings};

/// A call. Numbers are never reused while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

/// A conference. Numbers are never reused while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConferenceId(pub u32);

/// What the sound device is to a conference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevicePart {
    /// The microphone speaks, and the loudspeaker plays everybody.
    #[default]
    Joined,
    /// The loudspeaker plays everybody; the microphone is not heard.
    Listening,
    /// The calls are among themselves.
    Away,
}

impl DevicePart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Joined, Self::Listening, Self::Away];

    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Listening => "listening",
            Self::Away => "away",
        }
    }
}

/// A conference as front ends see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConferenceView {
    /// Which conference.
    pub id: ConferenceId,
    /// Its calls in the order of their numbers, each with whether the others do not hear it.
    pub members: Vec<(CallId, bool)>,
    /// Whether microphone and loudspeaker take part.
    pub device: DevicePart,
}

/// How an account fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// Switched off: it takes and places no calls.
    Disabled,
    /// Enabled, and nothing to register.
    Ready,
    /// Enabled, and not registered although it could be.
    Unregistered,
    /// A REGISTER is under way.
    Registering,
    /// The registrar knows where to find it.
    Registered,
    /// The last REGISTER failed; see the reason.
    Failed,
}

/// An account as front ends see it; never its password.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// Which account.
    pub id: AccountId,
    /// As configured.
    pub settings: AccountSettings,
    /// How it fares.
    pub state: AccountState,
    /// `''`, `credentials`, `foreign-realm`, `weak-digest`, `unknown-digest`, `server-proof`, `rejected`, `timeout`,
    /// `unresolvable`, `unreachable`, `no-network`.
    pub reason: &'static str,
    /// Status of the last registration response, 0 without one.
    pub sip_status: u16,
    /// Seconds granted.
    pub expires: u32,
    /// When the next try is made.
    pub retry_at: Option<std::time::Instant>,
    /// The weakest algorithm that its servers' challenges were answered with; `None` before the first.
    pub digest: Option<Algorithm>,
    /// What the registrar says of the registration.
    pub binding: Binding,
}

/// Who began a call, as this side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// The peer calls.
    Inbound,
    /// This side calls.
    Outbound,
}

/// State of a call (the D-Bus strings are these names in lower case).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// Outbound: nobody has answered the INVITE yet.
    Dialing,
    /// Outbound: the peer rings.
    Ringing,
    /// Outbound: the peer sends sound before it answers.
    Early,
    /// Inbound: not answered yet.
    Incoming,
    /// Answered, and sound may flow both ways.
    Active,
    /// Held by this side or by the peer.
    Held,
    /// Over; its object can be read for a while.
    Ended,
}

impl CallState {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            CallState::Dialing => "dialing",
            CallState::Ringing => "ringing",
            CallState::Early => "early",
            CallState::Incoming => "incoming",
            CallState::Active => "active",
            CallState::Held => "held",
            CallState::Ended => "ended",
        }
    }
}

/// Why a call ended or changed its state (the D-Bus strings are these names in kebab case).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This side did it.
    Local,
    /// The peer did it.
    Remote,
    /// The one called is busy (486, 600).
    Busy,
    /// The one called does not want the call (603).
    Declined,
    /// Nobody answered in time (408, 480, or the ring time-out).
    NoAnswer,
    /// The caller gave up (CANCEL, 487).
    Cancelled,
    /// No response at all, or ICMP said that nobody is there.
    Unreachable,
    /// The server's certificate has expired.
    CertificateExpired,
    /// The server's certificate is not valid yet; most often this machine's clock is wrong.
    CertificateNotYetValid,
    /// The server's certificate is for another name.
    CertificateWrongName,
    /// The server's certificate is signed by nobody known here.
    CertificateUnknownIssuer,
    /// The server's certificate is not the pinned one.
    CertificateNotPinned,
    /// The server's certificate was revoked, is for another purpose, or cannot be read.
    CertificateUnfit,
    /// The server does not accept this account's client certificate, or asks for one.
    ClientCertificate,
    /// The two ends have no TLS in common, or the server speaks none.
    TlsFailed,
    /// The name leads nowhere.
    Unresolvable,
    /// The peer fell silent in mid-call, or this side's network does not work.
    Network,
    /// No codec, or no kind of media, in common (415, 488, 606).
    NoCommonCodec,
    /// The peer wants its media encrypted, and this side has no encryption.
    EncryptionRequired,
    /// The address leads to nobody (404, 410, 484, 604).
    NotFound,
    /// The credentials were refused (401, 407).
    Credentials,
    /// A rule of this side forbids it.
    Policy,
    /// The peer broke the protocol beyond repair.
    Protocol,
    /// Any other refusal; see the SIP status.
    Rejected,
    /// Somebody else has answered an inbound call: it is not missed.
    AnsweredElsewhere,
    /// The one called is elsewhere (3xx), and nobody has agreed to follow; see the contacts.
    Redirected,
}

impl Reason {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Local => "local",
            Reason::Remote => "remote",
            Reason::Busy => "busy",
            Reason::Declined => "declined",
            Reason::NoAnswer => "no-answer",
            Reason::Cancelled => "cancelled",
            Reason::Unreachable => "unreachable",
            Reason::CertificateExpired => "certificate-expired",
            Reason::CertificateNotYetValid => "certificate-not-yet-valid",
            Reason::CertificateWrongName => "certificate-wrong-name",
            Reason::CertificateUnknownIssuer => "certificate-unknown-issuer",
            Reason::CertificateNotPinned => "certificate-not-pinned",
            Reason::CertificateUnfit => "certificate-unfit",
            Reason::ClientCertificate => "client-certificate",
            Reason::TlsFailed => "tls-failed",
            Reason::Unresolvable => "unresolvable",
            Reason::Network => "network",
            Reason::NoCommonCodec => "no-common-codec",
            Reason::EncryptionRequired => "encryption-required",
            Reason::NotFound => "not-found",
            Reason::Credentials => "credentials",
            Reason::Policy => "policy",
            Reason::Protocol => "protocol",
            Reason::Rejected => "rejected",
            Reason::AnsweredElsewhere => "answered-elsewhere",
            Reason::Redirected => "redirected",
        }
    }
}

/// How a call's peer is reached through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallNetwork {
    /// As it was agreed.
    Ok,
    /// The network has changed, and the peer is being told where we are; or an offer has not arrived, and is made again.
    Moving,
    /// No network leads to the peer: the call waits for one.
    Waiting,
}

impl CallNetwork {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            CallNetwork::Ok => "ok",
            CallNetwork::Moving => "moving",
            CallNetwork::Waiting => "waiting",
        }
    }
}

/// A stranger's words without the characters that end lines, strings or colours.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Where a call's sound goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundPlace {
    /// Microphone and loudspeaker.
    Device,
    /// Files that came with the call.
    Files,
    /// Back to the peer.
    Echo,
    /// Programs have the sound device's place.
    Programs,
    /// The other calls of a conference, and the sound device where that takes part.
    Conference,
    /// Nowhere: not answered yet, held, or ended.
    None,
}

/// The way that a call's media takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaWay {
    /// There is no media.
    None,
    /// Without ICE: to where the peer says, or where its media comes from.
    Plain {
        /// Our end.
        local: SocketAddr,
        /// The peer's; none while it holds without an address.
        remote: Option<SocketAddr>,
    },
    /// Ways are being tried; until one is found, media goes where the peer says.
    Checking,
    /// By the way that ICE has found.
    Selected {
        /// How our end was found.
        local_kind: CandidateKind,
        /// How the peer's end was found.
        remote_kind: CandidateKind,
        /// The socket; none where a connection with a relay takes its place.
        local: Option<SocketAddr>,
        /// Where the peer is, seen from us or from our relay.
        remote: SocketAddr,
    },
    /// ICE has found none; media goes where the peer says.
    Failed,
    /// The one that was found does not lead to the peer any more; another one is looked for.
    Lost,
}

impl MediaWay {
    /// The word on D-Bus. A way is as good as the worse of its ends: `direct`, `reflexive` through a NAT, `relayed`.
    pub const fn name(self) -> &'static str {
        use CandidateKind::{Host, Relayed};
        match self {
            MediaWay::None => "none",
            MediaWay::Plain { .. } => "plain",
            MediaWay::Checking => "checking",
            MediaWay::Selected { local_kind: Relayed, .. }
            | MediaWay::Selected { remote_kind: Relayed, .. } => "relayed",
            MediaWay::Selected { local_kind: Host, remote_kind: Host, .. } => "direct",
            MediaWay::Selected { .. } => "reflexive",
            MediaWay::Failed => "failed",
            MediaWay::Lost => "lost",
        }
    }
}

/// A call as front ends see it.
#[derive(Clone, Debug, PartialEq)]
pub struct CallView {
    /// Which call.
    pub id: CallId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Who began it.
    pub direction: CallDirection,
    /// How far it has come.
    pub state: CallState,
    /// Reason of the last change of state.
    pub reason: Reason,
    /// Set once the call has ended.
    pub end_reason: Option<Reason>,
    /// Status of the last response to the INVITE, or of the Reason that came with the end; 0 before the first.
    pub sip_status: u16,
    /// URI of the peer.
    pub peer: String,
    /// Display name of the peer, as it says itself; may be empty.
    pub peer_name: String,
    /// URI of the peer in the words of the account's own server (P-Asserted-Identity); empty where it says none.
    pub asserted: String,
    /// The display name that came with it; may be empty.
    pub asserted_name: String,
    /// Inbound: the caller wants to stay unknown. Outbound: this side does.
    pub anonymous: bool,
    /// Whom the call was meant for before, the latest first, as the caller says.
    pub diversions: Vec<String>,
    /// Why the latest one was left: `user-busy`, `no-answer`, `unconditional`…; empty without diversions.
    pub diversion_reason: String,
    /// Where a redirection that was not followed leads, the most wanted first.
    pub contacts: Vec<String>,
    /// Cause of ITU-T Q.850 that came with the end; 0 without one.
    pub q850: u16,
    /// `''` before media; `opus`, `G722`, `PCMU`, `PCMA`.
    pub codec: &'static str,
    /// The peer hears silence.
    pub muted: bool,
    /// This side holds the call.
    pub local_hold: bool,
    /// The peer holds the call.
    pub remote_hold: bool,
    /// Shares the sound device with other calls.
    pub mixed: bool,
    /// The conference that it is in.
    pub conference: Option<ConferenceId>,
    /// How the peer is reached.
    pub network: CallNetwork,
    /// Where its sound goes now.
    pub sound: SoundPlace,
    /// A file is played to the peer, or will be when the call is answered.
    pub playing: bool,
    /// The call is recorded, or will be when it is answered.
    pub recording: bool,
    /// The way that its media takes.
    pub media_way: MediaWay,
    /// Where the peer receives media, as it says; `None` before it has said so, and while it holds without an address.
    pub remote_media: Option<SocketAddr>,
    /// Unix microseconds; 0 = not yet.
    pub created_at: u64,
    /// Unix microseconds; 0 = not answered.
    pub answered_at: u64,
    /// Unix microseconds; 0 = not ended.
    pub ended_at: u64,
}
