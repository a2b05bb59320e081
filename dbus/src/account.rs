//! `org.voipd.Account1`: what an account is set to be, and how its registration fares.

use zbus::{SerializeDict, Type};

use crate::Result;

/// Settings of a new account; what is `None` gets the daemon's default. The keys are those of the configuration file.
#[derive(Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct AccountSettings {
    /// Unique name: letters, digits, `-`, `_`, `.`.
    pub name: Option<String>,
    /// `sip` or `echo`.
    pub kind: Option<String>,
    /// Address of record.
    pub address: Option<String>,
    /// The name shown to peers.
    pub display_name: Option<String>,
    /// Where REGISTER goes.
    pub registrar: Option<String>,
    /// Where requests go first; at most two.
    pub outbound_proxy: Option<Vec<String>>,
    /// How the servers are reached: `udp`, `tcp` or `tls`.
    pub transport: Option<String>,
    /// The only authorities that are believed over TLS, as PEM text.
    pub tls_ca: Option<String>,
    /// SHA-256 of the only certificate that is good over TLS, or of its public key.
    pub tls_pin: Option<String>,
    /// What servers are shown that ask for a certificate, as PEM text.
    pub tls_certificate: Option<String>,
    /// Its key, as PEM text.
    pub tls_key: Option<String>,
    /// User name in digest authentication.
    pub auth_user: Option<String>,
    /// Password in digest authentication.
    pub password: Option<String>,
    /// The only realms the password is for.
    pub realm: Option<Vec<String>>,
    /// Whether to answer servers that have nothing better than MD5.
    pub allow_md5: Option<bool>,
    /// Whether to register.
    pub register: Option<bool>,
    /// Life of a registration to ask for, in seconds.
    pub expires: Option<u32>,
    /// Whether to ask for GRUUs and to use them.
    pub gruu: Option<bool>,
    /// Push service that the server can wake this device through.
    pub push_provider: Option<String>,
    /// What names this device there.
    pub push_prid: Option<String>,
    /// What else the push service needs.
    pub push_param: Option<String>,
    /// Codecs, most wanted first.
    pub codecs: Option<Vec<String>>,
    /// Milliseconds of sound in a packet.
    pub ptime: Option<u32>,
    /// Whether packets may repeat what was in earlier ones (RFC 2198).
    pub redundancy: Option<bool>,
    /// Whether pauses are not sent (RFC 3389; Opus in its own way).
    pub silence_suppression: Option<bool>,
    /// Which address of ours the servers are told: `auto` or `local`.
    pub contact: Option<String>,
    /// What becomes of calls that are redirected: `ask`, `follow` or `never`.
    pub redirect: Option<String>,
    /// How digits are sent: `auto`, `rtp` or `info`.
    pub dtmf: Option<String>,
    /// Whether media uses ICE: `auto`, `off` or `relay`.
    pub ice: Option<String>,
    /// STUN servers, `stun:HOST[:PORT]`.
    pub stun: Option<Vec<String>>,
    /// Relays, `turn:HOST[:PORT][?transport=tcp]` or `turns:HOST[:PORT]`.
    pub relays: Option<Vec<String>>,
    /// User name at the relays.
    pub relay_user: Option<String>,
    /// Password at the relays.
    pub relay_password: Option<String>,
    /// Whether the account is enabled from the start.
    pub enabled: Option<bool>,
    /// Networks whose calls are taken besides those of the account's servers.
    pub allow_from: Option<Vec<String>>,
    /// Country code.
    pub country: Option<String>,
    /// Area code without trunk prefix.
    pub area: Option<String>,
    /// What stands before national numbers.
    pub trunk_prefix: Option<String>,
    /// What `+` stands for.
    pub international_prefix: Option<String>,
    /// What the exchange wants before numbers that lead outside.
    pub outside_prefix: Option<String>,
    /// Fewest digits of a local number.
    pub local_digits: Option<u32>,
    /// Replacements, `FROM:TO`.
    pub rewrite: Option<Vec<String>>,
    /// `dialled`, `plus` or `national`.
    pub number_format: Option<String>,
    /// `sip` or `phone`.
    pub number_uri: Option<String>,
    /// Numbers that are never blocked or rewritten.
    pub emergency: Option<Vec<String>>,
    /// Beginnings of numbers that are not called.
    pub blocked: Option<Vec<String>>,
}

/// An account.
#[zbus::proxy(interface = "org.voipd.Account1", default_service = "org.voipd", async_name = "AccountProxy")]
pub trait Account {
    /// Enables the account.
    fn enable(&self) -> Result<()>;

    /// Disables the account.
    fn disable(&self) -> Result<()>;

    /// Registers now.
    fn register(&self) -> Result<()>;

    /// Takes the registration back.
    fn unregister(&self) -> Result<()>;

    /// Unique name.
    #[zbus(property)]
    fn name(&self) -> zbus::Result<String>;

    /// `sip`, `direct` or `echo`.
    #[zbus(property)]
    fn kind(&self) -> zbus::Result<String>;

    /// `config`, `bus` or `built-in`.
    #[zbus(property)]
    fn origin(&self) -> zbus::Result<String>;

    /// Whether the account places and takes calls.
    #[zbus(property)]
    fn enabled(&self) -> zbus::Result<bool>;

    /// Address of record, or empty.
    #[zbus(property)]
    fn address(&self) -> zbus::Result<String>;

    /// The name shown to peers, or empty.
    #[zbus(property)]
    fn display_name(&self) -> zbus::Result<String>;

    /// URI of the registrar, or empty.
    #[zbus(property)]
    fn registrar(&self) -> zbus::Result<String>;

    /// URIs of the outbound proxies, separated by spaces, or empty.
    #[zbus(property)]
    fn outbound_proxy(&self) -> zbus::Result<String>;

    /// `udp`, `tcp` or `tls`; empty where DNS decides.
    #[zbus(property)]
    fn transport(&self) -> zbus::Result<String>;

    /// Version and cipher suite of TLS; `none` without, empty without a registration.
    #[zbus(property)]
    fn security(&self) -> zbus::Result<String>;

    /// User name in digest authentication, or empty.
    #[zbus(property)]
    fn auth_user(&self) -> zbus::Result<String>;

    /// Whether a password is known.
    #[zbus(property)]
    fn has_password(&self) -> zbus::Result<bool>;

    /// Whether servers are answered that have nothing better than MD5.
    #[zbus(property)]
    fn allow_md5(&self) -> zbus::Result<bool>;

    /// Whether the account is set to register.
    #[zbus(property)]
    fn registers(&self) -> zbus::Result<bool>;

    /// The push service that the server is told of, or empty.
    #[zbus(property)]
    fn push_provider(&self) -> zbus::Result<String>;

    /// How numbers are dialled, where it is not the usual way: settings as the configuration has them.
    #[zbus(property)]
    fn dial_plan(&self) -> zbus::Result<Vec<String>>;

    /// Codecs, most wanted first.
    #[zbus(property)]
    fn codecs(&self) -> zbus::Result<Vec<String>>;

    /// Whether redundant audio data (RFC 2198) is offered and taken.
    #[zbus(property)]
    fn redundancy(&self) -> zbus::Result<bool>;

    /// Whether pauses are not sent, in either direction.
    #[zbus(property)]
    fn silence_suppression(&self) -> zbus::Result<bool>;

    /// `ask`, `follow` or `never`.
    #[zbus(property)]
    fn redirect(&self) -> zbus::Result<String>;

    /// `auto`, `rtp` or `info`.
    #[zbus(property)]
    fn dtmf(&self) -> zbus::Result<String>;

    /// `auto`, `off` or `relay`.
    #[zbus(property)]
    fn ice(&self) -> zbus::Result<String>;

    /// The account's STUN servers.
    #[zbus(property)]
    fn stun(&self) -> zbus::Result<Vec<String>>;

    /// The account's relays.
    #[zbus(property)]
    fn relays(&self) -> zbus::Result<Vec<String>>;

    /// One of [`AccountState`](crate::AccountState).
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;

    /// Why the state is what it is, or empty.
    #[zbus(property)]
    fn reason(&self) -> zbus::Result<String>;

    /// Status of the last answer to REGISTER, or 0.
    #[zbus(property)]
    fn sip_status(&self) -> zbus::Result<u16>;

    /// Seconds granted, or 0.
    #[zbus(property)]
    fn expires(&self) -> zbus::Result<u32>;

    /// Seconds until the next try, or 0.
    #[zbus(property(emits_changed_signal = "false"))]
    fn retry_in(&self) -> zbus::Result<u32>;

    /// The weakest digest algorithm in use, or empty.
    #[zbus(property)]
    fn digest_algorithm(&self) -> zbus::Result<String>;

    /// Address of this device alone, or empty.
    #[zbus(property)]
    fn public_gruu(&self) -> zbus::Result<String>;

    /// The same without the account's name, or empty.
    #[zbus(property)]
    fn temporary_gruu(&self) -> zbus::Result<String>;

    /// Addresses that are the account's, as its server says.
    #[zbus(property)]
    fn associated_addresses(&self) -> zbus::Result<Vec<String>>;

    /// Proxies that requests go by, as the registrar says.
    #[zbus(property)]
    fn service_route(&self) -> zbus::Result<Vec<String>>;

    /// The push service that the server will use, or empty.
    #[zbus(property)]
    fn push_service(&self) -> zbus::Result<String>;

    /// The state changed: the signal `StateChanged`. (`receive_state_changed` tells of the property `State`.)
    #[zbus(signal, name = "StateChanged")]
    fn state_transition(&self, old: &str, new: &str, reason: &str, sip_status: u16) -> zbus::Result<()>;
}
