//! What the bus asks of the driver, and what the driver tells the bus. The bus translates, the driver decides.

#![allow(missing_docs, reason = "plain messages: the names of their fields say what they hold")]

pub mod conferences;
pub mod devices;
pub mod mappings;
pub mod nat;
pub mod ports;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::oneshot;
use voipd_agent::quality::{CallQuality, Warning};
use voipd_agent::view::{CallId, CallState, Reason};
use voipd_agent::{AccountId, AccountSettings, AccountView, CallView, ConferenceId, ConferenceView};
use voipd_audio::plan::Heard;
use voipd_media::Codec;

use crate::doctor::Check;
use devices::{DeviceChange, DeviceSettings};
use ports::RecordFormat;

/// Why a request was refused: a documented D-Bus error name and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub kind: ErrorKind,
    pub message: String,
}

/// The names under `org.voipd.Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NoSuchAccount,
    NoSuchCall,
    NoSuchConference,
    NoSuchDevice,
    InvalidState,
    InvalidArgument,
    AlreadyExists,
    NotPermitted,
    DeviceUnavailable,
    LimitReached,
    NotReady,
    Failed,
}

/// How a request is answered. The driver never calls it by itself: it sends [`Update::Answer`], so that the answer goes
/// out after everything that happened before it.
pub type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// Which account a caller means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChoice {
    Name(String),
    Id(AccountId),
}

/// Where the sound of a call comes from and goes to, if not to the sound device.
#[derive(Debug, Default)]
pub struct CallSound {
    /// A sound file, open for reading: the peer hears it instead of the microphone.
    pub play: Option<OwnedFd>,
    /// A file open for writing: becomes a sound file of what the peer says.
    pub record: Option<OwnedFd>,
    /// What that file becomes.
    pub record_format: RecordFormat,
    /// Programs have the sound device's place.
    pub programs: bool,
    /// Do not hold the other calls, mix them with this one.
    pub mix: bool,
    /// The call is one of this conference.
    pub conference: Option<ConferenceId>,
}

/// A role that a sound device plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRole {
    Input,
    Output,
    Ringer,
}

/// What the bus asks.
pub enum Request {
    Dial {
        target: String,
        account: Option<AccountChoice>,
        sound: CallSound,
        /// The callee is not told who calls.
        /// In place of the account's, the most wanted first.
        codecs: Option<Vec<Codec>>,
        anonymous: bool,
        /// The call may go on to whom it is redirected to.
        follow: bool,
        reply: Reply<CallId>,
    },
    AddAccount {
        settings: Box<AccountSettings>,
        reply: Reply<AccountId>,
    },
    RemoveAccount {
        account: AccountId,
        reply: Reply<()>,
    },
    EnableAccount {
        account: AccountId,
        enabled: bool,
        reply: Reply<()>,
    },
    RegisterAccount {
        account: AccountId,
        register: bool,
        reply: Reply<()>,
    },
    SetDoNotDisturb {
        on: bool,
        reply: Reply<()>,
    },
    SetDialTone {
        on: bool,
        reply: Reply<()>,
    },
    Accept {
        call: CallId,
        sound: CallSound,
        reply: Reply<()>,
    },
    Reject {
        call: CallId,
        reason: Reason,
        reply: Reply<()>,
    },
    Hangup {
        call: CallId,
        reply: Reply<()>,
    },
    Hold {
        call: CallId,
        reply: Reply<()>,
    },
    Resume {
        call: CallId,
        mix: bool,
        reply: Reply<()>,
    },
    Silence {
        call: CallId,
        reply: Reply<()>,
    },
    SetMuted {
        call: CallId,
        muted: bool,
        reply: Reply<()>,
    },
    SetCodec {
        call: CallId,
        codec: Codec,
        reply: Reply<()>,
    },
    SendDtmf {
        call: CallId,
        digits: String,
        reply: Reply<()>,
    },
    CallStatistics {
        call: CallId,
        reply: Reply<CallStatistics>,
    },
    CallGraph {
        call: CallId,
        reply: Reply<Vec<GraphNode>>,
    },
    /// Whether [`Update::Activity`] is wanted of a call; until then, and afterwards, nothing is listened for.
    WatchActivity {
        call: CallId,
        on: bool,
    },
    /// Whoever holds the other end of the answer reads what is sent and received, until it is closed.
    Trace {
        /// Nothing but this call.
        call: Option<CallId>,
        reply: Reply<OwnedFd>,
    },
    ListDevices {
        reply: Reply<Vec<DeviceView>>,
    },
    SelectDevice {
        role: DeviceRole,
        name: String,
        reply: Reply<()>,
    },
    ConfigureDevice {
        role: DeviceRole,
        change: DeviceChange,
        reply: Reply<()>,
    },
    StartTest {
        output: bool,
        input: bool,
        reply: Reply<()>,
    },
    StopTest {
        reply: Reply<()>,
    },
    /// Looks at everything that a telephone needs.
    Diagnose {
        reply: Reply<Vec<Check>>,
    },
    /// Finds out anew how this machine looks from outside.
    Discover {
        reply: Reply<()>,
    },
    AudioLive {
        reply: Reply<AudioLive>,
    },
    AddMapping {
        wish: mappings::MappingWish,
        reply: Reply<u32>,
    },
    RemoveMapping {
        mapping: u32,
        reply: Reply<()>,
    },
    Conference(conferences::ConferenceRequest),
    Friends(FriendsRequest),
    Ports(ports::PortsRequest),
}

/// What the bus asks of friends.
pub enum FriendsRequest {
    /// Answered with the text of an invitation.
    Invite {
        name: String,
        /// How long it opens the door.
        lasts: Duration,
        reply: Reply<String>,
    },
    /// Answered when the account that it makes is registered, or was refused.
    Join {
        invitation: String,
        /// Name of the account.
        account: Option<String>,
        reply: Reply<AccountId>,
    },
    Remove {
        name: String,
        reply: Reply<()>,
    },
    List {
        reply: Reply<Vec<FriendView>>,
    },
}

/// What the driver tells.
pub enum Update {
    /// A new account, or a changed one.
    Account {
        view: Box<AccountView>,
        /// How signalling with the registrar is protected; `none`, or empty without a registration.
        security: String,
    },
    AccountRemoved(AccountId),
    /// A new call, or a changed one.
    Call(Box<CallView>),
    CallStateChanged {
        call: CallId,
        old: CallState,
        new: CallState,
        reason: Reason,
        sip_status: u16,
    },
    DtmfReceived {
        call: CallId,
        digit: char,
        duration_ms: u32,
    },
    /// A direction of a call has begun to sound bad, or is good again.
    QualityChanged {
        call: CallId,
        warning: Warning,
    },
    /// Somebody has begun to talk, or has stopped.
    Activity {
        call: CallId,
        heard: Heard,
        talking: bool,
        level_dbov: i8,
    },
    CallRemoved(CallId),
    /// A new conference, or a changed one.
    Conference(Box<ConferenceView>),
    ConferenceRemoved(ConferenceId),
    DoNotDisturb(bool),
    DialTone(bool),
    Audio(Box<AudioView>),
    Nat(Box<nat::NatView>),
    PortMappings(Vec<mappings::MappingView>),
    Neighbours(Vec<voipd_agent::Neighbour>),
    Friends(FriendsView),
    /// Sends an answer now that all before it is on the bus.
    Answer(Box<dyn FnOnce() + Send>),
}

/// `org.voipd.CallStatistics1`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallStatistics {
    pub stream: voipd_audio::plan::StreamCounters,
    pub round_trip_ms: Option<f64>,
    pub remote_loss_percent: Option<f64>,
    pub remote_jitter_ms: Option<f64>,
    pub quality: CallQuality,
}

/// A part of a call's media path.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphNode {
    /// Unlike that of all others in the graph.
    pub id: String,
    pub kind: &'static str,
    /// Codec, kind of path, or peer; may be empty.
    pub name: String,
    /// Nodes that its sound goes to.
    pub to: Vec<String>,
    pub figures: BTreeMap<&'static str, Figure>,
}

/// A live figure of such a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    Number(f64),
    Text(String),
}

/// State of `org.voipd.Friends1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FriendsView {
    /// This voipd is a meeting point.
    pub enabled: bool,
    /// What stands behind the `@` of the friends' addresses; empty where it is none.
    pub address: String,
}

/// A friend as he is seen here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FriendView {
    pub name: String,
    /// Where he is called.
    pub address: String,
    pub presence: Presence,
    /// Devices that have joined; 0 where this is not known here.
    pub devices: u32,
    /// Seconds that his invitation lasts; 0 without one.
    pub invited_for: u32,
    /// By which account he is called.
    pub account: Option<AccountId>,
    /// The relay that he offers, and what has come of it: `lent`, `checking`, `refused WHY`.
    pub relay: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Online,
    Offline,
    /// Nothing may be known: he has not joined, or has not added us.
    Unknown,
}

/// State of `org.voipd.Audio1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioView {
    pub input: String,
    pub output: String,
    pub ringer: String,
    /// Devices that are open, by role.
    pub in_use: BTreeMap<String, String>,
    /// What is set of the chosen devices: input, output, ringer.
    pub settings: [DeviceSettings; 3],
    pub state: DeviceState,
    /// Plain words when unavailable, and when another device stands in for a chosen one.
    pub reason: String,
    /// `fifo`, `rtkit` or `other`.
    pub scheduling: &'static str,
    pub scheduling_reason: String,
    pub priority: i32,
    pub memory_locked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    Closed,
    Open,
    Unavailable,
}

/// Always-current figures of `org.voipd.Audio1`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AudioLive {
    pub parked: bool,
    pub input_level_dbov: f64,
    pub output_level_dbov: f64,
    pub counters: BTreeMap<&'static str, u64>,
}

/// A sound device as it can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// Stable: the same after a restart or a replug.
    pub name: String,
    pub description: String,
    /// `alsa`, `pulseaudio`, `pipewire`, `null` or `file`.
    pub host: String,
    pub input: bool,
    pub output: bool,
    pub default: bool,
    pub available: bool,
    /// Plain words when not available.
    pub reason: String,
}
