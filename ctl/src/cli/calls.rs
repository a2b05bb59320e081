//! What the commands about calls and their sound take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use zbus::OwnedObjectPath;

use crate::exit::Failure;
use crate::objects::{CallName, ConferenceName, object_path};
use crate::wav::StreamHeader;

/// Where the sound of a call comes from and goes to.
#[derive(Debug, Args)]
pub(crate) struct SoundArgs {
    /// Let the peer hear this sound file instead of the microphone
    #[arg(long, value_name = "FILE")]
    pub(crate) play: Option<PathBuf>,
    /// Record what the peer says into this file: Opus where its name ends in .ogg, .oga or .opus, FLAC for .flac, else WAV;
    /// one that exists is replaced
    #[arg(long, value_name = "FILE")]
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
    /// What standard input is to the peer; otherwise inject where it is a file or a pipe and --listen is not given, else
    /// tap
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
    /// .opus, FLAC for .flac, else WAV; one that exists is replaced
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
