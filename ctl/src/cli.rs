//! The command line: which commands there are and what they take.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::daemon::Bus;
use crate::dialplan::DialPlanArgs;
use crate::exit::Exit;
use crate::objects::CallName;

/// Places and takes telephone calls through voipd, and shows how they go
#[derive(Debug, Parser)]
#[command(name = "voipctl", version, about, after_help = Exit::help(), max_term_width = 110)]
pub(crate) struct Cli {
    /// Use the voipd of the system bus
    #[arg(long, global = true, conflicts_with = "session")]
    system: bool,
    /// Use the voipd of the session bus
    #[arg(long, global = true)]
    session: bool,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The bus that was asked for.
    pub(crate) fn bus(&self) -> Option<Bus> {
        match (self.system, self.session) {
            (true, _) => Some(Bus::System),
            (_, true) => Some(Bus::Session),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the daemon, its accounts, its calls and its sound
    Status(StatusArgs),
    /// Accounts: list, show, add, remove, enable, disable, register, unregister
    #[command(subcommand)]
    Account(AccountCommand),
    /// Call someone and stay until the call ends
    Call(DialArgs),
    /// List the calls
    Calls,
    /// Answer a call that rings here
    Answer(AnswerArgs),
    /// Refuse a call that rings here
    Reject(RejectArgs),
    /// End a call
    Hangup(HangupArgs),
    /// Put a call on hold
    Hold(OneCall),
    /// Take a call off hold
    Resume(ResumeArgs),
    /// Let the peer of a call hear silence
    Mute(OneCall),
    /// Let the peer of a call hear this side again
    Unmute(OneCall),
    /// Stop the ring tone of a call; the caller goes on hearing it ring
    Silence(OneCall),
    /// Ask the peer of a call for another codec
    Codec(CodecArgs),
    /// Send digits on a call
    Dtmf(DtmfArgs),
    /// Sound devices: list, select, test
    Devices(DevicesArgs),
    /// List the telephones of the local network that can be called by name
    Neighbours,
    /// How this machine looks from outside: public address, NAT, the servers that tell, and ports at the router
    Nat(NatArgs),
    /// Friends: list, invite, join, remove; without a command, list
    Friends {
        #[command(subcommand)]
        command: Option<FriendsCommand>,
    },
    /// Show the figures of a call's media: loss, delay, quality
    Stats(StatsArgs),
    /// Draw the way of a call's sound, from the microphone to the peer and back, with its figures
    Graph(GraphArgs),
    /// Refuse inbound calls (on), or let them ring (off); without either, show which
    Dnd {
        /// on or off
        switch: Option<Switch>,
    },
    /// Wait until an account is registered, a call is active, or calls have ended
    Wait(WaitArgs),
    /// Print everything that happens
    Monitor,
    /// Show the SIP messages that go in and out, without credentials and keys, until Ctrl-C
    Trace(TraceArgs),
    /// Say in plain words what works, what does not, and what to do about it
    Doctor,
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    /// Go on every second, and tell who talks, until the call ends or Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    /// In the language of Graphviz: 'voipctl graph --dot | dot -Tsvg >call.svg'
    #[arg(long)]
    pub(crate) dot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show the counters of the real-time thread too
    #[arg(long)]
    pub(crate) counters: bool,
}

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

#[derive(Debug, Subcommand)]
pub(crate) enum FriendsCommand {
    /// List the friends and whether they are there
    List,
    /// Invite someone to this meeting point; prints what opens the door, once
    Invite {
        /// Name that the friend will have: lower-case letters, digits, hyphen, underscore
        name: String,
        /// How many hours the invitation lasts (otherwise a week)
        #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=2160))]
        lasts: Option<u32>,
    },
    /// Use an invitation: makes an account at its meeting point
    Join {
        /// What `voipctl friends invite` has printed
        invitation: String,
        /// Name of the account (otherwise that of the meeting point)
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Remove a friend from this meeting point
    Remove {
        /// The friend's name
        name: String,
    },
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
    /// Codecs, the most wanted first: opus,G722,PCMU,PCMA
    #[arg(long, value_delimiter = ',', value_name = "CODEC")]
    pub(crate) codecs: Option<Vec<String>>,
    /// Milliseconds of sound in a packet
    #[arg(long, value_name = "MS")]
    pub(crate) ptime: Option<u32>,
    /// Neither offer nor take packets that repeat what was in earlier ones (RFC 2198)
    #[arg(long)]
    pub(crate) no_redundancy: bool,
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

/// Where the sound of a call comes from and goes to.
#[derive(Debug, Args)]
pub(crate) struct SoundArgs {
    /// Let the peer hear this file instead of the microphone
    #[arg(long, value_name = "WAV")]
    pub(crate) play: Option<PathBuf>,
    /// Record what the peer says into this file; one that exists is replaced
    #[arg(long, value_name = "WAV")]
    pub(crate) record: Option<PathBuf>,
    /// Do not hold the other calls, mix them with this one
    #[arg(long)]
    pub(crate) mix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DialArgs {
    /// Whom to call: sip:bob@example.org, a number, a host such as door.local, or a name at the account's own server
    pub(crate) target: String,
    /// Name or object path of the account that calls
    #[arg(long)]
    pub(crate) account: Option<String>,
    #[command(flatten)]
    pub(crate) sound: SoundArgs,
    /// Do not tell the callee who calls
    #[arg(long)]
    pub(crate) anonymous: bool,
    /// Go on to whom the call is redirected to
    #[arg(long)]
    pub(crate) follow: bool,
    /// Hang up so many seconds after the call was answered
    #[arg(long, value_name = "SECS", conflicts_with = "detach", allow_negative_numbers = true)]
    pub(crate) hangup_after: Option<f64>,
    /// Wait until the call has ended without a live line
    #[arg(long, conflicts_with = "detach")]
    pub(crate) wait: bool,
    /// Return at once with the path of the call, which goes on
    #[arg(long, visible_alias = "no-wait")]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OneCall {
    /// Number or object path of the call; without it, the only one that fits
    pub(crate) call: Option<CallName>,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    #[command(flatten)]
    pub(crate) sound: SoundArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RejectArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    /// Say that this side is busy (486)
    #[arg(long, conflicts_with = "decline")]
    pub(crate) busy: bool,
    /// Say that the call is not wanted (603)
    #[arg(long)]
    pub(crate) decline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HangupArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    /// End all calls
    #[arg(long, conflicts_with = "call")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    /// Do not hold the other calls, mix them with this one
    #[arg(long)]
    pub(crate) mix: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "voipctl codec [OPTIONS] [CALL] <CODEC>")]
pub(crate) struct CodecArgs {
    /// Number or object path of the call, when there are several; then opus, G722, PCMU or PCMA
    #[arg(required = true, num_args = 1..=2, value_names = ["CALL", "CODEC"])]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "voipctl dtmf [OPTIONS] [CALL] <DIGITS>")]
pub(crate) struct DtmfArgs {
    /// Number or object path of the call, when there are several; then 0-9 * # A-D, a comma is a pause of 2 seconds
    #[arg(required = true, num_args = 1..=2, value_names = ["CALL", "DIGITS"])]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DevicesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// List the sound devices (what 'devices' alone does)
    List,
    /// Choose the device of a role
    Select {
        /// What the device is for
        #[arg(value_name = "input|output|ringer")]
        role: Role,
        /// A name of the list, default, or null
        name: String,
    },
    /// Play a tone and show the microphone's level
    Test(TestArgs),
}

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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// The microphone
    Input,
    /// The loudspeaker
    Output,
    /// What rings
    Ringer,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Ringer => "ringer",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// How long, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10))]
    pub(crate) seconds: u64,
    /// Play no tone
    #[arg(long)]
    pub(crate) no_tone: bool,
    /// Leave the microphone closed
    #[arg(long, conflicts_with = "no_tone")]
    pub(crate) no_microphone: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// What to wait for
    #[arg(value_name = "registered|active|ended")]
    pub(crate) what: WaitFor,
    /// Give up after so many seconds, with exit code 5
    #[arg(long, value_name = "SECS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<f64>,
    /// The account that is to be registered; without it, all that register
    #[arg(long, conflicts_with = "call")]
    pub(crate) account: Option<String>,
    /// The call that is to be active or ended; without it, any call active, or all ended
    #[arg(long)]
    pub(crate) call: Option<CallName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// An account is registered
    Registered,
    /// A call is active
    Active,
    /// A call has ended
    Ended,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Number or object path of a call: show what belongs to it, and nothing else
    #[arg(long)]
    pub(crate) call: Option<CallName>,
    /// Write the messages also into this file, for Wireshark; one that exists is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
    /// Show one line for each message
    #[arg(long, conflicts_with = "json")]
    pub(crate) brief: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a configuration file as voipd does and say what is wrong with it
    Check {
        /// The file; without it, the one that voipd reads
        file: Option<PathBuf>,
    },
}

/// Seconds of an argument as a duration.
pub(crate) fn seconds(value: f64, option: &str) -> Result<std::time::Duration, crate::exit::Failure> {
    std::time::Duration::try_from_secs_f64(value)
        .map_err(|_| crate::exit::Failure::usage(format!("{option} {value} is no number of seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    /// The words of every command, such as `account add`.
    fn commands(command: &clap::Command, words: &str, all: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let words = format!("{words} {}", sub.get_name());
            if !sub.has_subcommands() || matches!(sub.get_name(), "devices" | "nat") {
                all.push(words.clone());
            }
            commands(sub, &words, all);
        }
    }

    fn all_commands() -> Vec<String> {
        let mut all = Vec::new();
        commands(&Cli::command(), "voipctl", &mut all);
        all
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_the_bus_stand_anywhere_and_exclude_each_other() {
        assert_eq!(parse("voipctl --session status").unwrap().bus(), Some(Bus::Session));
        assert_eq!(parse("voipctl account list --system --json").unwrap().bus(), Some(Bus::System));
        assert_eq!(parse("voipctl calls").unwrap().bus(), None);
        assert!(parse("voipctl --session --system calls").is_err());
    }

    #[test]
    fn commands_that_contradict_themselves_are_refused() {
        for line in [
            "voipctl call sip:a@b --wait --detach",
            "voipctl call sip:a@b --no-wait --hangup-after 3",
            "voipctl reject --busy --decline",
            "voipctl hangup 3 --all",
            "voipctl codec",
            "voipctl dtmf",
            "voipctl dtmf 1 2 3",
            "voipctl dnd maybe",
            "voipctl wait registered --account a --call 3",
            "voipctl hold seven",
            "voipctl account add work --password secret",
            "voipctl devices test --seconds 11",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn each_command_is_documented() {
        let page = include_str!("../../docs/voipctl.md");
        for command in all_commands() {
            assert!(page.contains(&format!("`{command}")), "docs/voipctl.md lacks '{command}'");
        }
    }

    #[test]
    fn the_contract_names_commands_that_exist() {
        let all = all_commands();
        for (interface, xml) in voipd_dbus::XML {
            let node = zbus_xml::Node::from_reader(xml.as_bytes()).unwrap();
            let interface_xml = &node.interfaces()[0];
            let annotations = interface_xml
                .methods()
                .flat_map(|m| m.annotations())
                .chain(interface_xml.signals().flat_map(|s| s.annotations()))
                .chain(interface_xml.properties().flat_map(|p| p.annotations()));
            for annotation in
                annotations.filter(|a| a.name() == "org.voipd.Doc.Voipctl" && a.value() != "none")
            {
                for line in annotation.value().split(", ") {
                    let known = all.iter().any(|command| {
                        line.strip_prefix(command.as_str())
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                    });
                    assert!(known, "{interface}: '{line}'");
                }
            }
        }
    }
}
