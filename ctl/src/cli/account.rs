//! What the commands about accounts take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::dialplan::DialPlanArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Add an account; its password is asked for, or read with --password-stdin
    Add(Box<AddArgs>),
    /// List the accounts
    List,
    /// Show everything about an account
    Show(OneAccount),
    /// Remove an account that was added here
    Remove(OneAccount),
    /// Enable an account
    Enable(OneAccount),
    /// Disable an account: it places and takes no calls
    Disable(OneAccount),
    /// Register an account now
    Register(OneAccount),
    /// Take an account's registration back
    Unregister(OneAccount),
}

#[derive(Debug, Args)]
pub(crate) struct OneAccount {
    /// Name or object path of the account
    pub(crate) account: String,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of the account: letters, digits, hyphen, underscore, dot
    pub(crate) name: String,
    /// Address of record, such as sip:alice@example.org
    #[arg(long, value_name = "URI")]
    pub(crate) address: Option<String>,
    /// sip, or echo: answers every call and sends the sound back
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Name that peers see
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// Registrar, when it is not the host of the address
    #[arg(long, value_name = "URI")]
    pub(crate) registrar: Option<String>,
    /// Proxy that requests go to first; can be given twice, for two servers that stand in for each other
    #[arg(long, value_name = "URI")]
    pub(crate) outbound_proxy: Option<Vec<String>>,
    /// How the servers are reached: udp, tcp or tls; without it, DNS decides
    #[arg(long, value_name = "NAME")]
    pub(crate) transport: Option<String>,
    /// PEM file with the only authorities to believe over TLS, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// SHA-256 of the only certificate, or public key, to believe over TLS
    #[arg(long, value_name = "HEX", conflicts_with = "tls_ca")]
    pub(crate) tls_pin: Option<String>,
    /// PEM file with a certificate to show to servers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// User name in authentication, when it is not the user of the address
    #[arg(long, value_name = "USER")]
    pub(crate) auth_user: Option<String>,
    /// The only realm that gets the password; can be given several times
    #[arg(long)]
    pub(crate) realm: Option<Vec<String>>,
    /// Do not prove the password to a server that knows nothing better than MD5
    #[arg(long)]
    pub(crate) no_md5: bool,
    /// Do not register
    #[arg(long)]
    pub(crate) no_register: bool,
    /// Life of a registration to ask for, in seconds
    #[arg(long, value_name = "SECS")]
    pub(crate) expires: Option<u32>,
    /// Let the registrar make addresses of this device alone (RFC 5627), and use them
    #[arg(long)]
    pub(crate) gruu: bool,
    /// Push service that the server can wake this device through (RFC 8599)
    #[arg(long, value_name = "NAME", requires = "push_prid")]
    pub(crate) push_provider: Option<String>,
    /// What names this device at the push service
    #[arg(long, value_name = "ID", requires = "push_provider")]
    pub(crate) push_prid: Option<String>,
    /// What else the push service needs
    #[arg(long, value_name = "TEXT", requires = "push_provider")]
    pub(crate) push_param: Option<String>,
    /// Which address of this machine servers are told: auto, or local where auto does harm
    #[arg(long, value_name = "POLICY")]
    pub(crate) contact: Option<String>,
    /// Codecs, the most wanted first: opus,G722,PCMU,PCMA; voipctl status names all
    #[arg(long, value_delimiter = ',', value_name = "CODEC")]
    pub(crate) codecs: Option<Vec<String>>,
    /// Milliseconds of sound in a packet
    #[arg(long, value_name = "MS")]
    pub(crate) ptime: Option<u32>,
    /// Neither offer nor take packets that repeat what was in earlier ones (RFC 2198)
    #[arg(long)]
    pub(crate) no_redundancy: bool,
    /// Send no sound in pauses but a description of their noise (RFC 3389), and ask peers for the same
    #[arg(long)]
    pub(crate) silence_suppression: bool,
    /// What becomes of calls that are redirected: ask, follow or never
    #[arg(long, value_name = "POLICY")]
    pub(crate) redirect: Option<String>,
    /// How digits are sent: auto, rtp or info
    #[arg(long, value_name = "METHOD")]
    pub(crate) dtmf: Option<String>,
    /// Whether media finds its way by ICE: auto, off or relay
    #[arg(long, value_name = "POLICY")]
    pub(crate) ice: Option<String>,
    /// STUN servers, such as stun:stun.example.org
    #[arg(long, value_delimiter = ',', value_name = "SERVER")]
    pub(crate) stun: Option<Vec<String>>,
    /// Relays, such as turn:relay.example.org or turns:relay.example.org:443
    #[arg(long = "relay", value_delimiter = ',', value_name = "RELAY", requires = "relay_user")]
    pub(crate) relays: Option<Vec<String>>,
    /// User name at the relays
    #[arg(long, value_name = "USER", requires = "relay_password_file")]
    pub(crate) relay_user: Option<String>,
    /// File that holds the password at the relays, on its first line
    #[arg(long, value_name = "FILE", requires = "relay_user")]
    pub(crate) relay_password_file: Option<PathBuf>,
    /// Networks whose calls are taken besides those of the server, such as 192.168.0.0/16
    #[arg(long, value_delimiter = ',', value_name = "NETWORK")]
    pub(crate) allow_from: Option<Vec<String>>,
    /// Add the account without enabling it
    #[arg(long)]
    pub(crate) disabled: bool,
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with = "no_password")]
    pub(crate) password_stdin: bool,
    /// Ask for no password
    #[arg(long)]
    pub(crate) no_password: bool,
    #[command(flatten)]
    pub(crate) dial_plan: DialPlanArgs,
}
