//! `org.voipd.Call1`: a call.

use zbus::{OwnedFd, OwnedObjectPath, SerializeDict, Type};

use crate::{Dict, Result};

/// Options of [`CallProxy::accept`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct AcceptOptions {
    /// A sound file open for reading, which the peer hears instead of the microphone.
    pub play: Option<OwnedFd>,
    /// A file open for writing, which becomes a sound file of what the peer says.
    pub record: Option<OwnedFd>,
    /// `wav`, `ogg` or `flac`.
    pub record_format: Option<String>,
    /// Programs have the sound device's place.
    pub programs: Option<bool>,
    /// Do not hold the other calls, mix them with this one.
    pub mix: Option<bool>,
    /// The call is one of this conference.
    pub conference: Option<OwnedObjectPath>,
}

/// Options of [`CallProxy::open_audio`] and [`CallProxy::open_audio_socket`].
#[derive(Clone, Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct AudioOptions {
    /// `tap`, `inject` or `replace`.
    pub mode: Option<String>,
    /// `s16le`, `f32` or `ulaw`.
    pub format: Option<String>,
    /// Hertz, 8000 to 48000.
    pub rate: Option<u32>,
    /// `far`, `near`, `both`, `stereo` or `none`.
    pub side: Option<String>,
    /// The port closes when all that was written has been heard.
    pub end_with_input: Option<bool>,
}

/// Options of [`CallProxy::play`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct PlayOptions {
    /// `inject` or `replace`.
    pub mode: Option<String>,
    /// Again and again.
    pub repeat: Option<bool>,
}

/// Options of [`CallProxy::start_recording`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct RecordOptions {
    /// `far`, `near`, `both` or `stereo`.
    pub side: Option<String>,
    /// `wav`, `ogg` or `flac`.
    pub format: Option<String>,
}

/// Options of [`CallProxy::resume`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct ResumeOptions {
    /// Do not hold the other calls, mix them with this one.
    pub mix: Option<bool>,
}

/// A call.
#[zbus::proxy(interface = "org.voipd.Call1", default_service = "org.voipd", async_name = "CallProxy")]
pub trait Call {
    /// Answers the call.
    fn accept(&self, options: &AcceptOptions) -> Result<()>;

    /// Refuses the call: `busy`, `declined`, or empty.
    fn reject(&self, reason: &str) -> Result<()>;

    /// Ends the call.
    fn hangup(&self) -> Result<()>;

    /// Puts the peer on hold.
    fn hold(&self) -> Result<()>;

    /// Takes the peer off hold.
    fn resume(&self, options: &ResumeOptions) -> Result<()>;

    /// Stops the ring tone here.
    fn silence(&self) -> Result<()>;

    /// Asks the peer for another codec.
    fn set_codec(&self, codec: &str) -> Result<()>;

    /// Sends digits; a comma is a pause.
    fn send_dtmf(&self, digits: &str) -> Result<()>;

    /// Joins a program to the call; the answer is its socket.
    fn open_audio(&self, options: &AudioOptions) -> Result<OwnedFd>;

    /// Joins whoever connects to the socket at the path that is answered.
    fn open_audio_socket(&self, options: &AudioOptions) -> Result<String>;

    /// Plays a sound file to the peer.
    fn play(&self, file: &OwnedFd, options: &PlayOptions) -> Result<()>;

    /// Ends playing.
    fn stop_playing(&self) -> Result<()>;

    /// Records the call.
    fn start_recording(&self, file: &OwnedFd, options: &RecordOptions) -> Result<()>;

    /// Ends recording; answers when the file is complete.
    fn stop_recording(&self) -> Result<()>;

    /// The files and programs of the call.
    fn list_ports(&self) -> Result<Vec<Dict>>;

    /// `inbound` or `outbound`.
    #[zbus(property)]
    fn direction(&self) -> zbus::Result<String>;

    /// One of [`CallState`](crate::CallState).
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;

    /// Reason of the last change of state, one of [`Reason`](crate::Reason).
    #[zbus(property)]
    fn reason(&self) -> zbus::Result<String>;

    /// URI of the peer: text from a stranger.
    #[zbus(property)]
    fn peer(&self) -> zbus::Result<String>;

    /// Display name of the peer: text from a stranger.
    #[zbus(property)]
    fn peer_name(&self) -> zbus::Result<String>;

    /// URI of the peer in the words of the account's own server, or empty.
    #[zbus(property)]
    fn asserted_identity(&self) -> zbus::Result<String>;

    /// Display name that came with it, or empty.
    #[zbus(property)]
    fn asserted_name(&self) -> zbus::Result<String>;

    /// Whether who calls wants to stay unknown.
    #[zbus(property)]
    fn anonymous(&self) -> zbus::Result<bool>;

    /// Whom the call was meant for before, the latest first: text from a stranger.
    #[zbus(property)]
    fn diversion(&self) -> zbus::Result<Vec<String>>;

    /// Why the latest one was left, or empty.
    #[zbus(property)]
    fn diversion_reason(&self) -> zbus::Result<String>;

    /// Where a redirection that was not followed leads, the most wanted first.
    #[zbus(property)]
    fn redirect_contacts(&self) -> zbus::Result<Vec<String>>;

    /// The account that the call belongs to.
    #[zbus(property)]
    fn account(&self) -> zbus::Result<OwnedObjectPath>;

    /// Codec, or empty.
    #[zbus(property)]
    fn codec(&self) -> zbus::Result<String>;

    /// How the media is protected.
    #[zbus(property)]
    fn security(&self) -> zbus::Result<String>;

    /// Whether the peer hears silence.
    #[zbus(property)]
    fn muted(&self) -> zbus::Result<bool>;

    /// Sets whether the peer hears silence.
    #[zbus(property)]
    fn set_muted(&self, muted: bool) -> zbus::Result<()>;

    /// Whether this side holds the call.
    #[zbus(property)]
    fn local_hold(&self) -> zbus::Result<bool>;

    /// Whether the peer holds the call.
    #[zbus(property)]
    fn remote_hold(&self) -> zbus::Result<bool>;

    /// Whether the call shares the sound device with others.
    #[zbus(property)]
    fn mixed(&self) -> zbus::Result<bool>;

    /// The conference that the call is in; `/` for none.
    #[zbus(property)]
    fn conference(&self) -> zbus::Result<OwnedObjectPath>;

    /// `ok`, `moving` or `waiting`.
    #[zbus(property)]
    fn network_state(&self) -> zbus::Result<String>;

    /// `device`, `files`, `programs`, `echo`, `conference` or `none`.
    #[zbus(property)]
    fn sound(&self) -> zbus::Result<String>;

    /// Whether a file is played to the peer.
    #[zbus(property)]
    fn playing(&self) -> zbus::Result<bool>;

    /// Whether the call is recorded.
    #[zbus(property)]
    fn recording(&self) -> zbus::Result<bool>;

    /// Empty, or one of [`Reason`](crate::Reason) when the call has ended.
    #[zbus(property)]
    fn end_reason(&self) -> zbus::Result<String>;

    /// Status of the last answer to the INVITE, or 0.
    #[zbus(property)]
    fn sip_status(&self) -> zbus::Result<u16>;

    /// Cause of ITU-T Q.850 that came with the end, or 0.
    #[zbus(property, name = "Q850Cause")]
    fn q850_cause(&self) -> zbus::Result<u16>;

    /// When the call began, in Unix microseconds.
    #[zbus(property)]
    fn created_at(&self) -> zbus::Result<u64>;

    /// When it was answered, in Unix microseconds, or 0.
    #[zbus(property)]
    fn answered_at(&self) -> zbus::Result<u64>;

    /// When it ended, in Unix microseconds, or 0.
    #[zbus(property)]
    fn ended_at(&self) -> zbus::Result<u64>;

    /// Where media is sent to, or empty.
    #[zbus(property)]
    fn remote_media(&self) -> zbus::Result<String>;

    /// The way that media takes: `kind` and what is known of its ends.
    #[zbus(property)]
    fn media_path(&self) -> zbus::Result<Dict>;

    /// The state changed: the signal `StateChanged`. (`receive_state_changed` tells of the property `State`.)
    #[zbus(signal, name = "StateChanged")]
    fn state_transition(&self, old: &str, new: &str, reason: &str, sip_status: u16) -> zbus::Result<()>;

    /// The peer sent a digit.
    #[zbus(signal)]
    fn dtmf_received(&self, digit: &str, duration_ms: u32) -> zbus::Result<()>;
}
