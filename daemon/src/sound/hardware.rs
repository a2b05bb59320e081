//! Devices of sound systems through cpal: finding one by name, opening it. Everything here may
//! block, so it runs on threads that nothing waits for without a limit.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{ErrorKind, HostId, SupportedStreamConfigRange};
use voipd_audio::engine::{DevicePort, Pace};

use crate::api::DeviceRole;

use super::cards::{CardPcm, Cards, held_by};
use super::choice::{Choice, build_capture, build_playback, choose};
use super::name::{HOST_DEFAULT, HostKind};
use super::role_index;
use super::server::Servers;
use super::stream::{CaptureEnd, ErrorGate, Lost, PlaybackEnd, Pulse, Sizes, SoundCounters};

/// Which way sound goes through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Capture,
    Playback,
}

impl Direction {
    pub(super) fn of(role: DeviceRole) -> Self {
        match role {
            DeviceRole::Input => Direction::Capture,
            DeviceRole::Output | DeviceRole::Ringer => Direction::Playback,
        }
    }
}

/// Who uses a connection to a sound server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Role(DeviceRole),
    Listing,
}

impl User {
    fn index(self) -> usize {
        match self {
            User::Role(role) => role_index(role),
            User::Listing => 3,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Capture => "microphone",
            Direction::Playback => "loudspeaker",
        })
    }
}

/// Why a device could not be opened, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// There is none: where any would do, silence does.
    Absent(String),
    /// It is there, but busy, forbidden or broken.
    Refused(String),
}

/// A running stream. Dropping it may hang.
pub(super) struct OpenStream {
    stream: cpal::Stream,
    closing: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

/// A device as a listing shows it.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) direction: Direction,
    pub(super) default: bool,
}

/// The sound systems of this process.
pub(super) struct Hosts {
    /// A client of the PulseAudio crate never ends by itself, so each is kept as long as it answers. Callbacks run on
    /// its one thread: each role has its own, which no listing delays.
    pulse: [Mutex<Option<Arc<cpal::Host>>>; 4],
    counters: Arc<SoundCounters>,
}

impl Hosts {
    pub(super) fn new(counters: Arc<SoundCounters>) -> Self {
        Self { pulse: Default::default(), counters }
    }

    /// After a call that did not come back: the connection it hangs in is not used again.
    pub(super) fn forget_connection(&self, user: User) {
        *self.pulse[user.index()].lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The host and all its devices.
    fn devices(
        &self,
        kind: HostKind,
        user: User,
    ) -> Result<(Arc<cpal::Host>, Vec<cpal::Device>), cpal::Error> {
        let fresh = |id| {
            let host = cpal::host_from_id(id)?;
            let devices = host.devices()?.collect();
            Ok((Arc::new(host), devices))
        };
        match kind {
            HostKind::Alsa => fresh(HostId::Alsa),
            #[cfg(feature = "pipewire")]
            HostKind::PipeWire => fresh(HostId::PipeWire),
            #[cfg(not(feature = "pipewire"))]
            HostKind::PipeWire => Err(ErrorKind::HostUnavailable.into()),
            HostKind::PulseAudio => {
                // Not locked while the server is asked: it may never answer.
                let pulse = &self.pulse[user.index()];
                let kept = pulse.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(host) = kept
                    && let Ok(devices) = host.devices()
                {
                    let devices = devices.collect();
                    return Ok((host, devices));
                }
                let found: (Arc<cpal::Host>, _) = fresh(HostId::PulseAudio)?;
                *pulse.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.0.clone());
                Ok(found)
            }
        }
    }

    /// Devices of a sound server, or the PCMs of ALSA's configuration that belong to no card.
    pub(super) fn list(&self, kind: HostKind) -> Result<Vec<Listed>, String> {
        let (host, devices) = self.devices(kind, User::Listing).map_err(|error| error.to_string())?;
        let default = |device: Option<cpal::Device>| device.and_then(|device| device.id().ok());
        let (default_in, default_out) = match kind {
            HostKind::Alsa => (None, None),
            _ => (default(host.default_input_device()), default(host.default_output_device())),
        };
        let mut listed = Vec::new();
        for device in devices {
            let Ok(id) = device.id() else { continue };
            let name = id.id().to_owned();
            if is_plumbing(kind, &name) {
                continue;
            }
            let description = description(&device);
            let both = [
                (Direction::Capture, device.supports_input(), &default_in),
                (Direction::Playback, device.supports_output(), &default_out),
            ];
            for (direction, _, default) in both.into_iter().filter(|(_, supported, _)| *supported) {
                let default = default.as_ref() == Some(&id);
                listed.push(Listed {
                    name: name.clone(),
                    description: description.clone(),
                    direction,
                    default,
                });
            }
        }
        Ok(listed)
    }

    /// Whether there is a device of that name, and for that role.
    pub(super) fn find(&self, kind: HostKind, name: &str, role: DeviceRole) -> Result<(), OpenError> {
        let direction = Direction::of(role);
        let servers = Servers::of_environment();
        servers.reach(kind).map_err(OpenError::Absent)?;
        servers.prepare(kind).map_err(OpenError::Refused)?;
        let is_card = |pcm: &CardPcm| {
            let fits = if direction == Direction::Capture { pcm.capture } else { pcm.playback };
            fits && pcm.stable_name() == name
        };
        if kind == HostKind::Alsa && Cards::of_system().pcms().iter().any(is_card) {
            return Ok(());
        }
        let (_, devices) = self
            .devices(kind, User::Listing)
            .map_err(|error| OpenError::Refused(format!("{kind} does not let voipd in: {error}")))?;
        let is_named = |device: &cpal::Device| {
            device.id().is_ok_and(|id| id.id() == name) && supports(device, direction)
        };
        if name == HOST_DEFAULT || devices.iter().any(is_named) {
            return Ok(());
        }
        Err(OpenError::Absent(format!(
            "{kind} has no {direction} `{name}` now: `voipctl devices` shows what there is"
        )))
    }

    /// Whether a sound system has what it calls its default, for that role.
    pub(super) fn find_default(&self, kind: HostKind, role: DeviceRole) -> Result<(), OpenError> {
        let direction = Direction::of(role);
        if kind == HostKind::Alsa {
            let fits =
                |pcm: &CardPcm| if direction == Direction::Capture { pcm.capture } else { pcm.playback };
            let there = Cards::of_system().pcms().iter().any(fits);
            return there
                .then_some(())
                .ok_or_else(|| OpenError::Absent(format!("no card has a {direction}")));
        }
        Servers::of_environment().prepare(kind).map_err(OpenError::Refused)?;
        let (host, _) = self
            .devices(kind, User::Listing)
            .map_err(|error| OpenError::Refused(format!("{kind} does not let voipd in: {error}")))?;
        default_device(kind, &host, direction).map(drop)
    }

    /// Opens a device of a sound system. `lost` is told in words if it is lost later.
    pub(super) fn open(
        &self,
        kind: HostKind,
        name: &str,
        role: DeviceRole,
        lost: &Lost,
    ) -> Result<Opened, OpenError> {
        let servers = Servers::of_environment();
        servers.reach(kind).map_err(OpenError::Absent)?;
        servers.prepare(kind).map_err(OpenError::Refused)?;
        match kind {
            HostKind::Alsa => self.open_alsa(name, role, lost),
            _ => self.open_on_server(kind, name, role, lost),
        }
    }

    fn open_on_server(
        &self,
        kind: HostKind,
        name: &str,
        role: DeviceRole,
        lost: &Lost,
    ) -> Result<Opened, OpenError> {
        let direction = Direction::of(role);
        let (host, devices) = self
            .devices(kind, User::Role(role))
            .map_err(|error| OpenError::Refused(format!("{kind} does not let voipd in: {error}")))?;
        let device = if name == HOST_DEFAULT {
            default_device(kind, &host, direction)?
        } else {
            let named = |device: &cpal::Device| device.id().is_ok_and(|id| id.id() == name);
            devices
                .into_iter()
                .find(|device| named(device) && supports(device, direction))
                .ok_or_else(|| OpenError::Absent(format!("{kind} has no {direction} `{name}` now")))?
        };
        let opened = self
            .open_device(kind, &device, direction, lost)
            .map_err(|error| refusal(&error, direction, String::new))?;
        let id = device.id().map(|id| id.id().to_owned()).unwrap_or_else(|_| name.to_owned());
        let name =
            if kind == HostKind::PipeWire && name == HOST_DEFAULT { HOST_DEFAULT.to_owned() } else { id };
        Ok(Opened { description: format!("{} ({kind})", description(&device)), name, ..opened })
    }

    fn open_alsa(&self, name: &str, role: DeviceRole, lost: &Lost) -> Result<Opened, OpenError> {
        let direction = Direction::of(role);
        let cards = Cards::of_system();
        let pcm = cards.pcms().into_iter().find(|pcm| pcm.stable_name() == name);
        let (host, devices) = self
            .devices(HostKind::Alsa, User::Role(role))
            .map_err(|error| OpenError::Refused(format!("ALSA does not start: {error}")))?;
        let named = |wanted: &str| {
            devices.iter().find(|device| device.id().is_ok_and(|id| id.id() == wanted)).cloned()
        };
        let holder = || {
            let pcm = pcm.clone().or_else(|| cards.pcms().into_iter().next());
            held_by(pcm.and_then(|pcm| cards.holder(pcm.card, pcm.device, direction == Direction::Capture)))
        };
        let candidates = match &pcm {
            // The hardware itself first: the engine converts rates better than ALSA's plug. The plug is for formats
            // that cpal does not know, such as packed 24 bits.
            Some(CardPcm { card, device, .. }) => {
                let plain = named(&format!("hw:CARD={card},DEV={device}"));
                let found: Vec<_> =
                    plain.into_iter().chain(named(&format!("plughw:CARD={card},DEV={device}"))).collect();
                if found.is_empty() {
                    return Err(OpenError::Refused(may_open(*card).err().unwrap_or_else(holder)));
                }
                found
            }
            None if name == HOST_DEFAULT => host.default_output_device().into_iter().collect(),
            None => vec![named(name).ok_or_else(|| {
                OpenError::Absent(format!(
                    "ALSA has no device `{name}` now: `voipctl devices` and `aplay -L` show them"
                ))
            })?],
        };
        let mut last = OpenError::Absent(format!("ALSA has no {direction} `{name}`"));
        for device in candidates {
            match self.open_device(HostKind::Alsa, &device, direction, lost) {
                Ok(opened) => {
                    let description = pcm.map_or_else(|| description(&device), |pcm| pcm.description);
                    let description = format!("{description} (ALSA)");
                    return Ok(Opened { description, name: name.to_owned(), ..opened });
                }
                Err(error) => {
                    last = refusal(&error, direction, holder);
                    if error.kind() != ErrorKind::UnsupportedConfig {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn open_device(
        &self,
        kind: HostKind,
        device: &cpal::Device,
        direction: Direction,
        lost: &Lost,
    ) -> Result<Opened, cpal::Error> {
        let choice = choose(kind, supported(device, direction)?).ok_or(ErrorKind::UnsupportedConfig)?;
        let rate = choice.config.sample_rate;
        let mut sizes = Sizes::new(rate, choice.period as usize);
        for _ in 0..2 {
            let opened = self.build(device, direction, &choice, sizes, lost)?;
            // The size that was asked for is only a hint; a ring made for a much smaller one would not do.
            let actual = opened.stream.stream.buffer_size().unwrap_or(choice.period) as usize;
            let fitting = Sizes::new(rate, actual);
            if fitting.most_waiting <= sizes.most_waiting * 5 / 4 {
                opened.stream.stream.play()?;
                let port = DevicePort { pace: Pace::Device { target: fitting.target }, ..opened.port };
                return Ok(Opened { port, ..opened });
            }
            sizes = fitting;
        }
        Err(ErrorKind::UnsupportedConfig.into())
    }

    fn build(
        &self,
        device: &cpal::Device,
        direction: Direction,
        choice: &Choice,
        sizes: Sizes,
        lost: &Lost,
    ) -> Result<Opened, cpal::Error> {
        let pulse = Arc::new(Pulse::default());
        let closing = Arc::new(AtomicBool::new(false));
        let gate = ErrorGate::new(&self.counters, &closing, lost.clone());
        let (channels, counters) = (choice.config.channels, &self.counters);
        let (stream, capture, playback) = match direction {
            Direction::Capture => {
                let (end, ring) = CaptureEnd::new(sizes, channels, &pulse, counters);
                (build_capture(device, choice, end, gate)?, Some(ring), None)
            }
            Direction::Playback => {
                let (end, ring) = PlaybackEnd::new(sizes, channels, &pulse, counters);
                (build_playback(device, choice, end, gate)?, None, Some(ring))
            }
        };
        let port = DevicePort {
            capture,
            playback,
            rate: choice.config.sample_rate,
            pace: Pace::Device { target: sizes.target },
        };
        let stream = OpenStream { stream, closing, pulse };
        Ok(Opened { port, stream, name: String::new(), description: String::new() })
    }
}

/// A device that runs.
pub(super) struct Opened {
    pub(super) port: DevicePort,
    pub(super) stream: OpenStream,
    /// What it is called on its host.
    pub(super) name: String,
    pub(super) description: String,
}

fn description(device: &cpal::Device) -> String {
    let text = device.description().map(|description| description.name().to_owned()).unwrap_or_default();
    match text.as_str() {
        "default_input" => "the microphone that is default".to_owned(),
        "default_output" => "the loudspeaker that is default".to_owned(),
        _ => text.lines().collect::<Vec<_>>().join(", "),
    }
}

fn supports(device: &cpal::Device, direction: Direction) -> bool {
    match direction {
        Direction::Capture => device.supports_input(),
        Direction::Playback => device.supports_output(),
    }
}

/// Names that stand for how sound is converted or for what `default` already says, not for a device.
fn is_plumbing(kind: HostKind, name: &str) -> bool {
    match kind {
        HostKind::PulseAudio => false,
        HostKind::PipeWire => matches!(name, "sink_default" | "input_default" | "output_default"),
        // Cards come from the kernel's list, one name for each device.
        HostKind::Alsa => {
            const PLUMBING: [&str; 13] = [
                "default",
                "null",
                "pulse",
                "pipewire",
                "jack",
                "oss",
                "lavrate",
                "samplerate",
                "speexrate",
                "speex",
                "upmix",
                "vdownmix",
                "usbstream",
            ];
            name.contains("CARD=") || PLUMBING.contains(&name)
        }
    }
}

/// What the server calls its default.
fn default_device(
    kind: HostKind,
    host: &cpal::Host,
    direction: Direction,
) -> Result<cpal::Device, OpenError> {
    let device = match direction {
        Direction::Capture => host.default_input_device(),
        Direction::Playback => host.default_output_device(),
    };
    let device = device.ok_or_else(|| OpenError::Absent(format!("{kind} has no {direction} now")))?;
    // Without a microphone the default source is what the loudspeaker plays: the peer would hear himself.
    if direction == Direction::Capture && device.id().is_ok_and(|id| id.id().ends_with(".monitor")) {
        return Err(OpenError::Absent(format!("{kind} has no microphone, only what its loudspeakers play")));
    }
    Ok(device)
}

/// Whether this process may open a card at all.
pub(super) fn may_open(card: u32) -> Result<(), String> {
    match File::open(format!("/dev/snd/controlC{card}")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err("voipd may not open sound cards: add its user to the group audio".to_owned())
        }
        _ => Ok(()),
    }
}

fn refusal(error: &cpal::Error, direction: Direction, holder: impl Fn() -> String) -> OpenError {
    let words = match error.kind() {
        ErrorKind::DeviceBusy => match holder() {
            words if words.is_empty() => "busy: the sound server does not answer in time".to_owned(),
            words => words,
        },
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => {
            return OpenError::Absent(format!("the {direction} is not there ({error})"));
        }
        ErrorKind::UnsupportedOperation => {
            return OpenError::Absent(format!("this device is no {direction}"));
        }
        ErrorKind::PermissionDenied => "voipd may not open it: add its user to the group audio".to_owned(),
        ErrorKind::UnsupportedConfig => "none of its rates and sample formats fits".to_owned(),
        _ => format!("it does not open: {error}"),
    };
    OpenError::Refused(words)
}

fn supported(
    device: &cpal::Device,
    direction: Direction,
) -> Result<Vec<SupportedStreamConfigRange>, cpal::Error> {
    Ok(match direction {
        Direction::Capture => device.supported_input_configs()?.collect(),
        Direction::Playback => device.supported_output_configs()?.collect(),
    })
}
