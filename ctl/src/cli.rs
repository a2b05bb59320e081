//! The command line: which commands there are and what they take.

mod account;
mod calls;
mod devices;
mod nat;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::account::{AccountCommand, AddArgs};
pub(crate) use self::calls::{
    AnswerArgs, AudioArgs, CodecArgs, DeviceWord, DialArgs, DtmfArgs, HangupArgs, JoinArgs, Mode, OneCall,
    PlayArgs, RecordArgs, RejectArgs, ResumeArgs, SoundArgs,
};
pub(crate) use self::devices::{DevicesArgs, DevicesCommand, Role, Stage, TestArgs};
pub(crate) use self::nat::{AddMappingArgs, MappedProtocol, NatArgs, NatCommand};
use crate::daemon::Bus;
use crate::exit::{Exit, Failure};
use crate::objects::{CallName, ConferenceName};

/// Places and takes telephone calls through voipd, and shows how they go
#[derive(Debug, Parser)]
#[command(name = "voipctl", version, about, after_help = Exit::help(), max_term_width = 110)]
pub(crate) struct Cli {
    /// Use the voipd of the system bus
    #[arg(long, global = true)]
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
    /// The bus that was asked for. clap sees no conflict between an option before the command and one behind it.
    pub(crate) fn bus(&self) -> Result<Option<Bus>, Failure> {
        match (self.system, self.session) {
            (true, true) => {
                Err(Failure::usage("--system and --session exclude each other: say one of them."))
            }
            (true, false) => Ok(Some(Bus::System)),
            (false, true) => Ok(Some(Bus::Session)),
            (false, false) => Ok(None),
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
    /// Join a call to standard input and output: plain samples, or WAV
    Audio(AudioArgs),
    /// Play a sound file to the peer of a call
    Play(PlayArgs),
    /// Record a call that goes on
    Record(RecordArgs),
    /// Conferences: list, open, join, leave, mute, unmute, device, end, watch; without a command, list
    Conference {
        #[command(subcommand)]
        command: Option<ConferenceCommand>,
    },
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
    /// Let the dial tone sound, as when a receiver is lifted (on), or end it (off); without either, show which
    DialTone {
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

#[derive(Debug, Subcommand)]
pub(crate) enum ConferenceCommand {
    /// List the conferences with their calls
    List,
    /// Open a conference of calls that are there, or one that waits for its first; prints its path
    Open {
        /// Numbers or object paths of the calls
        calls: Vec<CallName>,
        /// What microphone and loudspeaker are to it (otherwise joined)
        #[arg(long)]
        device: Option<DeviceWord>,
    },
    /// Take a call into a conference
    Join {
        #[command(flatten)]
        call: OneCall,
        /// Number or object path of the conference, when there are several
        #[arg(long, value_name = "CONFERENCE")]
        to: Option<ConferenceName>,
    },
    /// Take a call out of its conference; it is on hold then
    Leave(OneCall),
    /// Let the others not hear the peer of a call
    Mute(OneCall),
    /// Let them hear it again
    Unmute(OneCall),
    /// Say what microphone and loudspeaker are to a conference
    Device {
        /// What they are
        device: DeviceWord,
        /// Number or object path of the conference, when there are several
        conference: Option<ConferenceName>,
    },
    /// Hang up all calls of a conference
    End {
        /// Number or object path of the conference, when there are several
        conference: Option<ConferenceName>,
    },
    /// Print who speaks, until the conference is over or Ctrl-C
    Watch {
        /// Number or object path of the conference, when there are several
        conference: Option<ConferenceName>,
    },
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
    #[arg(long)]
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
pub(crate) fn seconds(value: f64, option: &str) -> Result<std::time::Duration, Failure> {
    std::time::Duration::try_from_secs_f64(value)
        .map_err(|_| Failure::usage(format!("{option} {value} is no number of seconds")))
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
        let bus = |line: &str| parse(line).unwrap().bus();
        assert_eq!(bus("voipctl --session status").unwrap(), Some(Bus::Session));
        assert_eq!(bus("voipctl account list --system --json").unwrap(), Some(Bus::System));
        assert_eq!(bus("voipctl calls").unwrap(), None);
        for line in ["voipctl --session --system calls", "voipctl --system calls --session"] {
            assert!(bus(line).is_err(), "{line}");
        }
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
            "voipctl call sip:a@b --audio file.wav",
            "voipctl call sip:a@b --audio - --play file.wav",
            "voipctl audio 3 --rate 96000",
            "voipctl audio 3 --list --wav",
            "voipctl play 3 a.wav b.wav",
            "voipctl record --stop --side near",
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
