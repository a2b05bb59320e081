//! What the agent asks of and tells the daemon.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use voipd_audio::plan::Steering;
use voipd_audio::tone::Tone;
use voipd_audio::{PortId, StreamPlan};
use voipd_nat::ice::StreamId;
use voipd_nat::turn::{RelayServer, RelayTransport};
use voipd_sip::endpoint::{Flow, NextHop, ResolveId};

use crate::account::AccountId;
use crate::names::MediaNameId;
use crate::quality::Warning as QualityWarning;
use crate::servers::{RelayView, ServerId};
use crate::view::{AccountView, CallId, CallState, CallView, ConferenceId, ConferenceView, Reason};

/// The microphone.
pub const DEVICE_INPUT: PortId = PortId(1);
/// The loudspeaker or earpiece.
pub const DEVICE_OUTPUT: PortId = PortId(2);
/// What rings for an inbound call.
pub const RINGER: PortId = PortId(3);
/// Ports from here on belong to calls.
pub(crate) const FIRST_CALL_PORT: u32 = 16;

/// One thing to do, or one thing that happened. They come in the order in which they happened.
#[allow(missing_docs, reason = "plain messages: the names of their fields say what they hold")]
#[derive(Debug)]
pub enum Output {
    /// Send a SIP message.
    Transmit { flow: Flow, bytes: Vec<u8> },
    /// Drop a SIP connection: its far end is gone.
    Disconnect { flow: Flow },
    /// A server of the account sees us, on this flow, under another address than before; `None`: under our own, since
    /// nobody translates.
    SeenAs { account: AccountId, flow: Flow, address: Option<SocketAddr> },
    /// Find addresses, for this account where one asks; answer with [`crate::Agent::handle_resolved`].
    Resolve { id: ResolveId, account: Option<AccountId>, next_hop: NextHop },
    /// Find the addresses of a host in a session description; answer with [`crate::Agent::handle_media_resolved`].
    ResolveMedia { id: MediaNameId, name: String },
    /// Bind RTP and RTCP sockets on the local address that faces `peer`, where the peer has said where its media is,
    /// else on `address`; answer with [`crate::Agent::handle_media_bound`]. Sockets that were bound for the call before,
    /// and that no stream has taken, are not needed any more.
    BindMedia { call: CallId, address: IpAddr, peer: Option<IpAddr> },
    /// Bind RTP and RTCP sockets anew, as for [`Output::BindMedia`], and let the call's stream go on with them at once;
    /// those before are not needed any more. Answer with [`crate::Agent::handle_media_bound`].
    MoveMedia { call: CallId, port: PortId, address: IpAddr, peer: Option<IpAddr> },
    /// Look again how everybody is reached; answer with [`crate::Agent::handle_network_changed`].
    CheckNetwork,
    /// Start the call's stream on the sockets bound for it.
    OpenStream { call: CallId, port: PortId, plan: Box<StreamPlan> },
    /// Change a stream: the plan replaces the one before as a whole.
    UpdateStream { port: PortId, plan: Box<StreamPlan> },
    /// The call's stream, its other ports and its sockets are no longer needed: nothing is said of these ports any more, and
    /// they are to be taken out of whatever they are connected to.
    CloseMedia { call: CallId, ports: Vec<PortId> },
    /// The call is answered: let sound flow at one of the ports that [`crate::Agent::open_port`] has given. Its stream is
    /// opened right behind this, where it is not open yet.
    OpenPort { call: CallId, port: PortId, stream: PortId },
    /// The port is no longer needed: nothing is said of it any more, and it is to be taken out of whatever it is connected
    /// to.
    ClosePort { port: PortId },
    /// What `sink` hears from now on; nothing when `sources` is empty.
    Connect { sink: PortId, sources: Vec<PortId> },
    /// Whether the peer of this stream hears silence.
    SetMuted { port: PortId, muted: bool },
    /// Send a stream otherwise from its next packet on, as the network suggests.
    SteerStream { port: PortId, steering: Steering },
    /// Send a digit as a telephone event (RFC 4733); the engine reports when it is done.
    SendDtmf { port: PortId, digit: char, duration_ms: u32 },
    /// Which tone sounds at [`DEVICE_OUTPUT`] or [`RINGER`] from now on.
    PlayTone { port: PortId, tone: Option<Tone> },
    /// Whether anything needs [`DEVICE_INPUT`] and [`DEVICE_OUTPUT`].
    UseDevice(bool),
    /// Whether anything needs [`RINGER`].
    UseRinger(bool),
    /// Send an RTCP packet from the call's RTCP socket, or from its RTP socket where both share one (RFC 5761).
    SendRtcp { call: CallId, remote: SocketAddr, muxed: bool, bytes: Vec<u8> },
    /// Send a packet of ICE's or TURN's from the call's socket at this address, which is one for RTP or one for RTCP. What
    /// such sockets receive that is neither RTP nor RTCP goes to [`crate::Agent::handle_stun`].
    SendStun { call: CallId, from: SocketAddr, remote: SocketAddr, bytes: Vec<u8> },
    /// Let the call's stream go on with that of its RTP sockets which is at this address (see
    /// [`crate::Agent::handle_media_beside`]); the others go on being read for ICE.
    UseSocket { call: CallId, port: PortId, socket: SocketAddr },
    /// Connect to a relay by TCP or TLS; all that comes of it goes to [`crate::Agent::handle_relay`].
    OpenRelay { call: CallId, stream: StreamId, server: RelayServer },
    /// Send a message by such a connection.
    SendRelay { call: CallId, stream: StreamId, bytes: Vec<u8> },
    /// Play an RTP packet of the peer's that a relay has sent with a header of its own (a Data indication, RFC 8656
    /// section 11.6), which the stream does not understand.
    PlayPacket { call: CallId, port: PortId, bytes: Vec<u8> },
    /// Close it when all that was sent is out.
    CloseRelay { call: CallId, stream: StreamId },
    /// Find the addresses of a STUN server or a relay; answer with [`crate::Agent::handle_server_resolved`].
    ResolveServer { id: ServerId, name: String },
    /// Measure one round trip to a relay; answer with [`crate::Agent::handle_relay_measured`].
    MeasureRelay { id: ServerId, address: SocketAddr, transport: RelayTransport },
    /// The relays of all accounts, and how they fare.
    RelaysChanged(Vec<RelayView>),
    /// Answer with [`crate::Agent::handle_counters`].
    WantCounters { call: CallId, port: PortId },
    /// A new or a changed account.
    AccountChanged(Box<AccountView>),
    /// An account is gone; its number is not used again.
    AccountRemoved(AccountId),
    /// A new or a changed call. An inbound call that cannot be taken for want of a common codec is new and ended at once.
    CallChanged(Box<CallView>),
    /// Comes right behind the view; a new call's first state is told by its view alone.
    CallStateChanged { call: CallId, old: CallState, new: CallState, reason: Reason, sip_status: u16 },
    /// The peer has sent a digit.
    DtmfReceived { call: CallId, digit: char, duration_ms: u32 },
    /// A direction of a call has begun to sound bad, or is good again.
    QualityChanged { call: CallId, warning: QualityWarning },
    /// The dial tone has begun to sound, or has ended.
    DialTone(bool),
    /// A call is gone; its number is not used again.
    CallRemoved(CallId),
    /// A new or a changed conference.
    ConferenceChanged(Box<ConferenceView>),
    /// A conference is over; its number is not used again.
    ConferenceRemoved(ConferenceId),
    /// Something worth a line in the log.
    Log(Note),
    /// Nothing more before this time, or before the next input.
    Timeout(Option<Instant>),
}

/// What happened that an administrator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// A line without control characters, whatever strangers put into it.
    pub text: String,
    /// The call that it is about.
    pub call: Option<CallId>,
    /// Name of the account that it is about.
    pub account: Option<String>,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// In the course of things.
    Info,
    /// Something did not work.
    Warning,
}
