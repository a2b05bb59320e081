//! `org.voipd.Friends1`: a meeting point of one's own, and those of others.

use zbus::{OwnedObjectPath, SerializeDict, Type};

use crate::{Dict, Result};

/// Options of [`FriendsProxy::invite`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct InviteOptions {
    /// Seconds that the invitation opens the door.
    pub lasts: Option<u32>,
}

/// Options of [`FriendsProxy::join`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct JoinOptions {
    /// Name of the account that the invitation makes.
    pub account: Option<String>,
}

/// Friends.
#[zbus::proxy(
    interface = "org.voipd.Friends1",
    default_service = "org.voipd",
    default_path = "/org/voipd/friends",
    async_name = "FriendsProxy"
)]
pub trait Friends {
    /// Invites someone, once; answers with the invitation's text.
    fn invite(&self, name: &str, options: &InviteOptions) -> Result<String>;

    /// Uses an invitation; answers with the account that it has made, when it is registered.
    fn join(&self, invitation: &str, options: &JoinOptions) -> Result<OwnedObjectPath>;

    /// Removes a friend.
    fn remove(&self, name: &str) -> Result<()>;

    /// All friends, each with `name`, `address`, `presence`, `devices`, `invited-for` and `account`.
    fn list(&self) -> Result<Vec<Dict>>;

    /// Whether this voipd is a meeting point.
    #[zbus(property)]
    fn meeting_point(&self) -> zbus::Result<bool>;

    /// What stands behind the `@` of the friends' addresses, or empty.
    #[zbus(property)]
    fn address(&self) -> zbus::Result<String>;
}
