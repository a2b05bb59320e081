//! What the commands about the way through NAT take.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct NatArgs {
    #[command(subcommand)]
    pub(crate) command: Option<NatCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NatCommand {
    /// Show what is known (what 'nat' alone does)
    Show,
    /// Find everything out anew, and show it
    Discover,
    /// Have the router map a port of this machine, until it is removed or voipd stops
    Add(AddMappingArgs),
    /// Remove such a mapping
    Remove {
        /// Its number, as 'nat' shows it
        mapping: u32,
    },
}

#[derive(Args, Debug)]
pub(crate) struct AddMappingArgs {
    /// What comes in
    #[arg(value_name = "udp|tcp")]
    pub(crate) protocol: MappedProtocol,
    /// Port of this machine
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Port to ask for at the router; the same as this machine's when not given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) external: Option<u16>,
    /// Remove it after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    pub(crate) lifetime: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MappedProtocol {
    /// Datagrams
    Udp,
    /// Connections
    Tcp,
}
