//! `org.voipd.Manager1`: places calls, keeps accounts.

use zbus::{OwnedFd, OwnedObjectPath, SerializeDict, Type};

use crate::{AccountSettings, Dict, Result};

/// Options of [`ManagerProxy::dial`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct DialOptions {
    /// Name or path of the account that calls.
    pub account: Option<String>,
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
    /// Codecs for this call in place of the account's, most wanted first.
    pub codecs: Option<Vec<String>>,
    /// Do not tell the callee who calls.
    pub anonymous: Option<bool>,
    /// Go on to whom the call is redirected to.
    pub follow: Option<bool>,
}

/// Options of [`ManagerProxy::open_conference`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct ConferenceOptions {
    /// `joined`, `listening` or `away`.
    pub device: Option<String>,
}

/// Options of [`ManagerProxy::trace`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct TraceOptions {
    /// Number of the only call whose messages are wanted.
    pub call: Option<u32>,
}

/// The telephone as a whole.
#[zbus::proxy(
    interface = "org.voipd.Manager1",
    default_service = "org.voipd",
    default_path = "/org/voipd",
    async_name = "ManagerProxy"
)]
pub trait Manager {
    /// Calls a target; answers with the call's path at once.
    fn dial(&self, target: &str, options: &DialOptions) -> Result<OwnedObjectPath>;

    /// Adds an account and keeps it across restarts.
    fn add_account(&self, settings: &AccountSettings) -> Result<OwnedObjectPath>;

    /// Removes an account that came over the bus.
    fn remove_account(&self, account: &zbus::ObjectPath<'_>) -> Result<()>;

    /// Opens a conference of these calls; answers with its path.
    fn open_conference(
        &self,
        calls: &[zbus::ObjectPath<'_>],
        options: &ConferenceOptions,
    ) -> Result<OwnedObjectPath>;

    /// Begins a trace of SIP messages; it ends when what this answers with is closed.
    fn trace(&self, options: &TraceOptions) -> Result<OwnedFd>;

    /// Looks at everything that a telephone needs; each check is a dictionary.
    fn diagnose(&self) -> Result<Vec<Dict>>;

    /// Version of the daemon.
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;

    /// Codecs that this daemon has.
    #[zbus(property)]
    fn codecs(&self) -> zbus::Result<Vec<String>>;

    /// `system` or `session`.
    #[zbus(property)]
    fn scope(&self) -> zbus::Result<String>;

    /// Whether inbound calls are refused.
    #[zbus(property)]
    fn do_not_disturb(&self) -> zbus::Result<bool>;

    /// Sets whether inbound calls are refused.
    #[zbus(property)]
    fn set_do_not_disturb(&self, on: bool) -> zbus::Result<()>;

    /// Whether the dial tone sounds.
    #[zbus(property)]
    fn dial_tone(&self) -> zbus::Result<bool>;

    /// Lets the dial tone sound, or ends it.
    #[zbus(property)]
    fn set_dial_tone(&self, on: bool) -> zbus::Result<()>;

    /// Paths of all accounts.
    #[zbus(property)]
    fn accounts(&self) -> zbus::Result<Vec<OwnedObjectPath>>;

    /// Path of the call whose peer talks; `/` for nobody.
    #[zbus(property)]
    fn active_speaker(&self) -> zbus::Result<OwnedObjectPath>;

    /// Paths of all calls.
    #[zbus(property)]
    fn calls(&self) -> zbus::Result<Vec<OwnedObjectPath>>;

    /// Paths of all conferences.
    #[zbus(property)]
    fn conferences(&self) -> zbus::Result<Vec<OwnedObjectPath>>;

    /// Telephones of the local network that can be called by name.
    #[zbus(property)]
    fn neighbours(&self) -> zbus::Result<Vec<Dict>>;
}
