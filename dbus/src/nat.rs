//! `org.voipd.Nat1`: how this machine looks from outside.

use zbus::{SerializeDict, Type};

use crate::{Dict, Result};

/// Options of [`NatProxy::add_mapping`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct MappingOptions {
    /// The router's port that is asked for; the same as this machine's where absent.
    pub external_port: Option<u32>,
    /// Seconds after which it is removed.
    pub lifetime: Option<u32>,
}

/// How this machine looks from outside, and who says so.
#[zbus::proxy(
    interface = "org.voipd.Nat1",
    default_service = "org.voipd",
    default_path = "/org/voipd/nat",
    async_name = "NatProxy"
)]
pub trait Nat {
    /// Forgets what is known and asks all servers anew.
    fn discover(&self) -> Result<()>;

    /// `offline`, `local` or `online`.
    #[zbus(property)]
    fn network_state(&self) -> zbus::Result<String>;

    /// This machine's own IP addresses.
    #[zbus(property)]
    fn local_addresses(&self) -> zbus::Result<Vec<String>>;

    /// `unknown`, `discovering`, `known` or `failed`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;

    /// Plain words when unknown or failed.
    #[zbus(property)]
    fn reason(&self) -> zbus::Result<String>;

    /// This machine's IP addresses as others see them.
    #[zbus(property)]
    fn public_addresses(&self) -> zbus::Result<Vec<String>>;

    /// When the NAT takes another public port for the same local one.
    #[zbus(property)]
    fn mapping_behaviour(&self) -> zbus::Result<String>;

    /// Whose packets come in at a public port.
    #[zbus(property)]
    fn filtering_behaviour(&self) -> zbus::Result<String>;

    /// What is known of each local address.
    #[zbus(property)]
    fn paths(&self) -> zbus::Result<Vec<Dict>>;

    /// Who is asked, and what became of it.
    #[zbus(property)]
    fn servers(&self) -> zbus::Result<Vec<Dict>>;

    /// Ports that are, or shall be, reached from outside by way of the router.
    #[zbus(property)]
    fn mappings(&self) -> zbus::Result<Vec<Dict>>;

    /// Has the router map a port of this machine, until it is removed or voipd stops; answers the mapping's number.
    fn add_mapping(&self, protocol: &str, port: u16, options: &MappingOptions) -> Result<u32>;

    /// Removes a mapping that `AddMapping` has made.
    fn remove_mapping(&self, mapping: u32) -> Result<()>;
    /// The relays of all accounts: `uri`, `state`, `reason`, `rtt-ms`.
    #[zbus(property)]
    fn relays(&self) -> zbus::Result<Vec<Dict>>;
}
