//! Device names: how a sound device is called in the configuration and on the bus. Knows their grammar, not whether
//! the device is there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A sound system that devices are reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKind {
    /// The kernel's cards, and the PCMs of ALSA's configuration.
    Alsa,
    /// PulseAudio, or PipeWire's server for its clients.
    PulseAudio,
    /// PipeWire's own protocol.
    PipeWire,
}

impl HostKind {
    /// As it stands in a device name and in `DeviceView::host`.
    pub fn prefix(self) -> &'static str {
        match self {
            HostKind::Alsa => "alsa",
            HostKind::PulseAudio => "pulseaudio",
            HostKind::PipeWire => "pipewire",
        }
    }
}

/// As people write it.
impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostKind::Alsa => "ALSA",
            HostKind::PulseAudio => "PulseAudio",
            HostKind::PipeWire => "PipeWire",
        })
    }
}

/// The stable name of a sound device: the same after a restart or a replug.
///
/// | written | means |
/// |---|---|
/// | `default` | the user's sound server, else the first card, else silence |
/// | `null` | silence |
/// | `file:/path.wav` | a WAV file, read as input (once, then silence), written anew as output |
/// | `alsa:PCH,0` | device 0 of the card with the id PCH (`/proc/asound/cards`) |
/// | `alsa:NAME` | a PCM of ALSA's configuration that `aplay -L` shows |
/// | `pulseaudio:NAME` | a source or sink (`pactl list short`); `pulseaudio:default` follows the server |
/// | `pipewire:NAME` | a node, by `node.name`; `pipewire:default` follows the server |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceName {
    /// Chosen when the device is opened.
    Default,
    /// Silence in, nowhere out.
    Null,
    /// A WAV file, by absolute path.
    File(PathBuf),
    /// A device of a sound system, by the name it has there.
    Host(HostKind, String),
}

/// The name that follows what a sound system calls its default.
pub(super) const HOST_DEFAULT: &str = "default";

/// A text that names no sound device, with a sentence that says what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Neither a fixed name nor a known prefix.
    #[error(
        "`{0}` is not a sound device: use default, null, file:/path.wav, or a name that `voipctl devices` shows"
    )]
    Unknown(String),
    /// Where a relative path leads depends on how the daemon was started.
    #[error("`{0}`: write the file's absolute path, as in file:/home/user/sound.wav")]
    RelativePath(String),
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let unknown = || NameError::Unknown(text.to_owned());
        if text.contains(|c: char| c.is_control()) {
            return Err(unknown());
        }
        let (prefix, rest) = match text {
            "default" => return Ok(DeviceName::Default),
            "null" => return Ok(DeviceName::Null),
            _ => text.split_once(':').ok_or_else(unknown)?,
        };
        let host = match prefix {
            _ if rest.is_empty() => return Err(unknown()),
            "file" if !rest.starts_with('/') => return Err(NameError::RelativePath(text.to_owned())),
            "file" => return Ok(DeviceName::File(PathBuf::from(rest))),
            "alsa" => HostKind::Alsa,
            "pulseaudio" => HostKind::PulseAudio,
            "pipewire" => HostKind::PipeWire,
            _ => return Err(unknown()),
        };
        Ok(DeviceName::Host(host, rest.to_owned()))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Default => f.write_str("default"),
            DeviceName::Null => f.write_str("null"),
            DeviceName::File(path) => write!(f, "file:{}", path.display()),
            DeviceName::Host(host, name) => write!(f, "{}:{name}", host.prefix()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in [
            "default",
            "null",
            "file:/tmp/a b.wav",
            "alsa:PCH,0",
            "alsa:default",
            "pulseaudio:alsa_output.pci-0000_00_1f.3.analog-stereo",
            "pipewire:bluez_output.00_11:22",
        ] {
            assert_eq!(text.parse::<DeviceName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_names_no_device_is_refused() {
        for text in ["", "speaker", "alsa:", "file:", "oss:/dev/dsp", "alsa:a\nb", "Default"] {
            assert_eq!(text.parse::<DeviceName>(), Err(NameError::Unknown(text.to_owned())));
        }
        assert_eq!(
            "file:sound.wav".parse::<DeviceName>(),
            Err(NameError::RelativePath("file:sound.wav".to_owned()))
        );
    }
}
