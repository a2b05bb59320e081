//! `org.voipd.Conference1`: calls that hear each other.

use zbus::{ObjectPath, OwnedObjectPath};

use crate::Result;

/// A conference.
#[zbus::proxy(
    interface = "org.voipd.Conference1",
    default_service = "org.voipd",
    async_name = "ConferenceProxy"
)]
pub trait Conference {
    /// Takes a call in.
    fn join(&self, call: &ObjectPath<'_>) -> Result<()>;

    /// Takes a call out; it goes on, on hold.
    fn leave(&self, call: &ObjectPath<'_>) -> Result<()>;

    /// Whether the others do not hear the peer of this call.
    #[zbus(name = "SetMuted")]
    fn set_muted(&self, call: &ObjectPath<'_>, muted: bool) -> Result<()>;

    /// Hangs up all calls.
    fn end(&self) -> Result<()>;

    /// Keeps the active speaker current until it is unwatched or the caller leaves the bus.
    fn watch_speaker(&self) -> Result<()>;

    /// Ends that.
    fn unwatch_speaker(&self) -> Result<()>;

    /// Paths of the calls.
    #[zbus(property)]
    fn members(&self) -> zbus::Result<Vec<OwnedObjectPath>>;

    /// Paths of those whose peers the others do not hear.
    #[zbus(property)]
    fn muted_members(&self) -> zbus::Result<Vec<OwnedObjectPath>>;

    /// `joined`, `listening` or `away`.
    #[zbus(property)]
    fn device(&self) -> zbus::Result<String>;

    /// Sets what microphone and loudspeaker are to the conference.
    #[zbus(property)]
    fn set_device(&self, device: &str) -> zbus::Result<()>;

    /// Path of the call whose peer talks; `/` for nobody.
    #[zbus(property)]
    fn active_speaker(&self) -> zbus::Result<OwnedObjectPath>;
}
