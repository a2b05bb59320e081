//! The command line: which commands there are and what they take.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use zbus::OwnedObjectPath;

use crate::daemon::Bus;
use crate::dialplan::DialPlanArgs;
use crate::exit::{Exit, Failure};
use crate::objects::{CallName, ConferenceName, object_path};
use crate::wav::StreamHeader;

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
    /// Number or object path of the conference that the call is to be in
    #[arg(long, conflicts_with = "mix")]
    pub(crate) conference: Option<ConferenceName>,
}

impl SoundArgs {
    /// Path of the conference.
    pub(crate) fn conference(&self) -> Result<Option<OwnedObjectPath>, Failure> {
        let Some(name) = &self.conference else { return Ok(None) };
        Ok(Some(object_path(&name.path())?.into()))
    }
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
    /// Say what standard input holds and write what the peer says to standard output, instead of the sound device; the
    /// call ends with the input
    #[arg(long, value_name = "-", value_parser = ["-"], conflicts_with_all = ["play", "detach"])]
    pub(crate) audio: Option<String>,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    /// Codecs for this call in place of the account's, the most wanted first
    #[arg(long, value_delimiter = ',', value_name = "CODEC")]
    pub(crate) codecs: Option<Vec<String>>,
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

/// How standard input and output are joined to a call.
#[derive(Debug, Default, Args)]
pub(crate) struct JoinArgs {
    /// How samples lie in raw sound (otherwise s16le)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Sampling rate of raw sound in hertz (otherwise 16000); that of a WAV file on standard input is known
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(8000..=48_000))]
    pub(crate) rate: Option<u32>,
    /// What is written to standard output
    #[arg(long, value_name = "SIDE")]
    pub(crate) listen: Option<Side>,
    /// Write a WAV header first
    #[arg(long)]
    pub(crate) wav: bool,
    /// Do not end with the input
    #[arg(long)]
    pub(crate) stay: bool,
}

impl JoinArgs {
    /// Whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.format.is_none() && self.rate.is_none() && self.listen.is_none() && !self.wav && !self.stay
    }

    pub(crate) fn side(&self) -> Option<&'static str> {
        self.listen.map(Side::word)
    }

    fn sample_rate(&self) -> u32 {
        self.rate.unwrap_or(16_000)
    }

    /// Format and rate.
    pub(crate) fn options(&self) -> voipd_dbus::AudioOptions {
        voipd_dbus::AudioOptions {
            format: Some(self.format.unwrap_or(Format::S16le).word().to_owned()),
            rate: Some(self.sample_rate()),
            ..Default::default()
        }
    }

    pub(crate) fn header(&self) -> StreamHeader {
        let (tag, bits) = match self.format.unwrap_or(Format::S16le) {
            Format::S16le => (1, 16),
            Format::F32 => (3, 32),
            Format::Ulaw => (7, 8),
        };
        let channels = if matches!(self.listen, Some(Side::Stereo)) { 2 } else { 1 };
        StreamHeader { tag, bits, channels, rate: self.sample_rate() }
    }
}

/// Gives each value the word that it has on the command line and on the bus.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub(crate) enum $name { $($(#[$value_doc])* #[value(name = $word)] $value,)+ }

        impl $name {
            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }
        }
    };
}

words! {
    /// How samples lie in a stream of bytes.
    Format {
        /// 16-bit integers, little-endian
        S16le = "s16le",
        /// 32-bit floating point, little-endian
        F32 = "f32",
        /// G.711 µ-law
        Ulaw = "ulaw",
    }
}

words! {
    /// What the sound device is to a conference.
    DeviceWord {
        /// Microphone and loudspeaker take part
        Joined = "joined",
        /// The loudspeaker does, and the microphone is not heard
        Listening = "listening",
        /// The calls are among themselves
        Away = "away",
    }
}

words! {
    /// Which side of a call.
    Side {
        /// What the peer says
        Far = "far",
        /// What the peer is told
        Near = "near",
        /// The sum
        Both = "both",
        /// Near on the left, far on the right
        Stereo = "stereo",
    }
}

words! {
    /// What standard input is to the peer.
    Mode {
        /// Nothing: it is not read
        Tap = "tap",
        /// Heard beside the microphone
        Inject = "inject",
        /// Heard instead of the microphone
        Replace = "replace",
    }
}

#[derive(Debug, Args)]
pub(crate) struct AudioArgs {
    #[command(flatten)]
    pub(crate) call: OneCall,
    /// What standard input is to the peer (otherwise tap)
    #[arg(long)]
    pub(crate) mode: Option<Mode>,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    /// Print the path of a socket that another program of voipd's own user joins the call by, once
    #[arg(long, conflicts_with_all = ["wav", "list"])]
    pub(crate) socket: bool,
    /// List the files and programs of the call
    #[arg(long, conflicts_with_all = ["mode", "format", "rate", "listen", "wav", "stay"])]
    pub(crate) list: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "voipctl play [OPTIONS] [CALL] <FILE>\n       voipctl play --stop [CALL]")]
pub(crate) struct PlayArgs {
    /// Number or object path of the call, when there are several; then the file
    #[arg(num_args = 0..=2, value_names = ["CALL", "FILE"])]
    pub(crate) words: Vec<String>,
    /// The microphone is not heard meanwhile
    #[arg(long)]
    pub(crate) replace: bool,
    /// Again and again
    #[arg(long = "loop")]
    pub(crate) repeat: bool,
    /// Return when the file has ended
    #[arg(long, conflicts_with = "repeat")]
    pub(crate) wait: bool,
    /// End what is played
    #[arg(long, conflicts_with_all = ["replace", "repeat", "wait"])]
    pub(crate) stop: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "voipctl record [OPTIONS] [CALL] <FILE>\n       voipctl record --stop [CALL]")]
pub(crate) struct RecordArgs {
    /// Number or object path of the call, when there are several; then the file: Opus where its name ends in .ogg, .oga or
    /// .opus, else WAV; one that exists is replaced
    #[arg(num_args = 0..=2, value_names = ["CALL", "FILE"])]
    pub(crate) words: Vec<String>,
    /// What is recorded (otherwise far)
    #[arg(long)]
    pub(crate) side: Option<Side>,
    /// End the recording; returns when the file is complete
    #[arg(long, conflicts_with = "side")]
    pub(crate) stop: bool,
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
    /// Number or object path of the call, when there are several; then the codec: opus, G722, PCMU, …
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
    /// Show or set how loud the device of a role is
    Volume {
        /// What the device is for
        #[arg(value_name = "input|output|ringer")]
        role: Role,
        /// Per cent: 100 is the sound as it is, 50 half as loud, 150 the most
        #[arg(value_parser = clap::value_parser!(u32).range(..=150))]
        volume: Option<u32>,
    },
    /// Mute the device of a role (on), or let it be heard (off)
    Mute {
        /// What the device is for
        #[arg(value_name = "input|output|ringer")]
        role: Role,
        /// on or off
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// Show what is done to the microphone's sound, or switch a part of it
    Processing {
        /// echo: the loudspeaker's echo is taken out; noise: steady noise is; gain: the level is kept even
        #[arg(value_name = "echo|noise|gain", requires = "switch")]
        stage: Option<Stage>,
        /// on or off
        switch: Option<Switch>,
    },
    /// Play a tone and show the microphone's level
    Test(TestArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Stage {
    Echo,
    Noise,
    Gain,
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
