//! What the commands about sound devices take.

use clap::{Args, Subcommand, ValueEnum};

use super::Switch;

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
