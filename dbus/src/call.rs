//! `org.voipd.Call1`: a call.

use zbus::{OwnedFd, OwnedObjectPath, SerializeDict, Type};

use crate::{Dict, Result};

/// Options of [`CallProxy::accept`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct AcceptOptions {
    /// A WAV file open for reading, which the peer hears instead of the microphone.
    pub play: Option<OwnedFd>,
    /// A file open for writing, which becomes a WAV file of what the peer says.
    pub record: Option<OwnedFd>,
    /// Do not hold the other calls, mix them with this one.
    pub mix: Option<bool>,
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

    /// `ok`, `moving` or `waiting`.
    #[zbus(property)]
    fn network_state(&self) -> zbus::Result<String>;

    /// `device`, `files`, `echo` or `none`.
    #[zbus(property)]
    fn sound(&self) -> zbus::Result<String>;

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
