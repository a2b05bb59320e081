//! What the bus asks about the files and programs of a call.

use std::os::fd::OwnedFd;

use voipd_agent::view::CallId;
use voipd_audio::engine::Side;

use super::Reply;

/// A wish that concerns a call's ports.
pub enum PortsRequest {
    OpenAudio {
        call: CallId,
        wish: AudioWish,
        reply: Reply<OwnedFd>,
    },
    /// Answered with the path of a socket.
    OpenAudioSocket {
        call: CallId,
        wish: AudioWish,
        reply: Reply<String>,
    },
    Play {
        call: CallId,
        file: OwnedFd,
        wish: PlayWish,
        reply: Reply<()>,
    },
    StopPlaying {
        call: CallId,
        reply: Reply<()>,
    },
    StartRecording {
        call: CallId,
        file: OwnedFd,
        wish: RecordWish,
        reply: Reply<()>,
    },
    /// Answered when the file is complete.
    StopRecording {
        call: CallId,
        reply: Reply<()>,
    },
    List {
        call: CallId,
        reply: Reply<Vec<PortView>>,
    },
}

/// What a program does at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioMode {
    /// It listens.
    Tap,
    /// It listens, and the peer hears it beside the microphone.
    Inject,
    /// It listens, and the peer hears it instead of the microphone.
    Replace,
}

impl AudioMode {
    pub const ALL: [Self; 3] = [Self::Tap, Self::Inject, Self::Replace];

    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Inject => "inject",
            Self::Replace => "replace",
        }
    }
}

/// How samples lie in a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleFormat {
    /// 16-bit integers, little-endian.
    S16le,
    /// 32-bit floating point, little-endian, full scale 1.0.
    F32le,
    /// ITU-T G.711 µ-law.
    Ulaw,
}

impl SampleFormat {
    pub const ALL: [Self; 3] = [Self::S16le, Self::F32le, Self::Ulaw];

    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S16le => "s16le",
            Self::F32le => "f32",
            Self::Ulaw => "ulaw",
        }
    }

    /// Bytes of a sample.
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16le => 2,
            Self::F32le => 4,
            Self::Ulaw => 1,
        }
    }
}

/// How a program wants to be joined to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioWish {
    pub mode: AudioMode,
    pub format: SampleFormat,
    /// Hertz, both ways; within [`AudioWish::RATES`].
    pub rate: u32,
    /// What is heard, if anything; what is said has as many channels.
    pub side: Option<Side>,
    /// When all that was said has been heard, the port closes.
    pub end_with_input: bool,
}

impl AudioWish {
    pub const RATES: std::ops::RangeInclusive<u32> = 8000..=48_000;

    /// Samples in a frame, both ways.
    pub fn channels(&self) -> usize {
        self.side.map_or(1, Side::channels)
    }
}

/// The word on D-Bus for what is heard.
pub const fn side_name(side: Option<Side>) -> &'static str {
    match side {
        Some(Side::Far) => "far",
        Some(Side::Near) => "near",
        Some(Side::Both) => "both",
        Some(Side::Stereo) => "stereo",
        None => "none",
    }
}

/// All sides that can be heard, for choosing one by its word.
pub const SIDES: [Option<Side>; 4] =
    [Some(Side::Far), Some(Side::Near), Some(Side::Both), Some(Side::Stereo)];

/// How a file is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayWish {
    /// The microphone is not heard meanwhile.
    pub instead: bool,
    /// Again and again, until it is stopped.
    pub looped: bool,
}

/// How a call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordWish {
    pub side: Side,
    pub format: RecordFormat,
}

impl Default for RecordWish {
    fn default() -> Self {
        Self { side: Side::Far, format: RecordFormat::default() }
    }
}

/// What a recording becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    #[default]
    Wav,
    /// Opus in Ogg (RFC 7845).
    Ogg,
    /// FLAC (RFC 9639).
    Flac,
}

impl RecordFormat {
    pub const ALL: [Self; 3] = [Self::Wav, Self::Ogg, Self::Flac];

    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Ogg => "ogg",
            Self::Flac => "flac",
        }
    }
}

/// A port of a call, as front ends see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// `program`, `player` or `recorder`.
    pub kind: &'static str,
    /// Sound flows; else the call is not answered yet.
    pub open: bool,
    /// Of a program.
    pub program: Option<AudioWish>,
    /// Milliseconds that were not heard because nobody read them; of programs and recorders.
    pub dropped_ms: u64,
}
