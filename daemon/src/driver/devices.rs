//! The sound devices in use: opened while something needs them, opened again when they were lost.

use std::time::{Duration, Instant};

use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT, RINGER};
use voipd_audio::PortId;
use voipd_audio::engine::MediaSocket;
use voipd_audio::tone::Tone;

use super::patchbay::Patchbay;
use crate::api::{AudioView, DeviceRole, DeviceState, DeviceView};
use crate::realtime::Scheduling;
use crate::sound::{DeviceName, FindError, SoundEvent, SoundSystem};

/// How long a device that failed is left alone.
const RETRY: Duration = Duration::from_secs(2);
/// Longest device test.
const TEST_TIME: Duration = Duration::from_secs(10);
const TEST_HERTZ: f32 = 440.0;
const ROLES: [DeviceRole; 3] = [DeviceRole::Input, DeviceRole::Output, DeviceRole::Ringer];

enum State {
    Closed,
    Opening,
    Open,
    Failed { reason: String, at: Instant },
}

struct Device {
    name: String,
    state: State,
    wanted: bool,
}

/// Who wants the devices at the moment.
#[derive(Default)]
struct Users {
    calls: bool,
    ringing: bool,
    test: Option<Test>,
}

struct Test {
    until: Instant,
    output: bool,
    input: bool,
}

/// Microphone, loudspeaker and ringer.
pub struct Devices {
    sound: SoundSystem,
    devices: [Device; 3],
    users: Users,
    published: Option<AudioView>,
}

impl Devices {
    /// `names`: input, output, ringer.
    pub fn new(sound: SoundSystem, names: [String; 3]) -> Self {
        let devices = names.map(|name| Device { name, state: State::Closed, wanted: false });
        Self { sound, devices, users: Users::default(), published: None }
    }

    /// What happened next to a device.
    pub async fn next_event(&mut self) -> SoundEvent {
        self.sound.next_event().await
    }

    /// All devices that can be chosen.
    pub fn list(&self) -> impl Future<Output = Vec<DeviceView>> + Send + use<> {
        self.sound.list()
    }

    pub fn use_for_calls<S: MediaSocket>(&mut self, wanted: bool, patchbay: &mut Patchbay<S>) {
        self.users.calls = wanted;
        self.follow(patchbay);
    }

    pub fn use_ringer<S: MediaSocket>(&mut self, wanted: bool, patchbay: &mut Patchbay<S>) {
        self.users.ringing = wanted;
        self.follow(patchbay);
    }

    /// Opens the devices for a few seconds, and sounds a tone.
    pub fn start_test<S: MediaSocket>(&mut self, output: bool, input: bool, patchbay: &mut Patchbay<S>) {
        self.users.test = Some(Test { until: Instant::now() + TEST_TIME, output, input });
        self.follow(patchbay);
        if output && !self.users.calls {
            patchbay.play_tone(DEVICE_OUTPUT, Some(Tone::test(TEST_HERTZ, TEST_TIME.as_millis() as u32)));
        }
    }

    pub fn stop_test<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        if let Some(test) = self.users.test.take() {
            if test.output && !self.users.calls {
                patchbay.play_tone(DEVICE_OUTPUT, None);
            }
            self.follow(patchbay);
        }
    }

    /// Whether a client of the bus may choose this device for the role: the error says what else. The future does not
    /// borrow.
    pub fn find(
        &self,
        role: DeviceRole,
        name: &str,
    ) -> impl Future<Output = Result<(), FindError>> + Send + use<> {
        let parsed = match name.parse::<DeviceName>() {
            // A file is opened with the daemon's rights, not with those of who asks.
            Ok(DeviceName::File(_)) => Err(FindError::NoSuchDevice(
                "a file as sound device is chosen in the configuration, not over the bus: set it in [audio], or \
                 give a call its own files"
                    .to_owned(),
            )),
            Ok(name) => Ok(self.sound.find(role, name)),
            Err(error) => Err(FindError::NoSuchDevice(error.to_string())),
        };
        async move { parsed?.await }
    }

    /// Chooses another device for a role, from now on.
    pub fn select<S: MediaSocket>(&mut self, role: DeviceRole, name: &str, patchbay: &mut Patchbay<S>) {
        let device = &mut self.devices[index(role)];
        device.name = name.to_owned();
        if device.wanted {
            self.sound.close(role);
            patchbay.close(port_of(role));
            self.open(role);
        }
    }

    pub fn handle_event<S: MediaSocket>(&mut self, event: SoundEvent, patchbay: &mut Patchbay<S>) {
        match event {
            SoundEvent::Opened { role, port, name, description } => {
                let opened = patchbay.open_device(port_of(role), port);
                let device = &mut self.devices[index(role)];
                device.state = match opened {
                    Ok(()) => {
                        log::info!("{}: {description} ({name})", role_name(role));
                        State::Open
                    }
                    Err(error) => State::Failed { reason: error.to_string(), at: Instant::now() },
                };
            }
            SoundEvent::Failed { role, reason } | SoundEvent::Lost { role, reason } => {
                patchbay.close(port_of(role));
                let device = &mut self.devices[index(role)];
                if !matches!(&device.state, State::Failed { reason: before, .. } if *before == reason) {
                    log::warn!("{}: {reason}", role_name(role));
                }
                device.state = State::Failed { reason, at: Instant::now() };
            }
        }
    }

    /// Ends a test whose time is over, and tries lost devices again.
    pub fn handle_timeout<S: MediaSocket>(&mut self, now: Instant, patchbay: &mut Patchbay<S>) {
        if self.users.test.as_ref().is_some_and(|test| test.until <= now) {
            self.stop_test(patchbay);
        }
        for role in ROLES {
            let device = &self.devices[index(role)];
            let due = matches!(device.state, State::Failed { at, .. } if at + RETRY <= now);
            if device.wanted && due {
                self.request(role);
            }
        }
    }

    /// The state for the bus, if it has changed.
    pub fn changed_view(&mut self, scheduling: &Scheduling) -> Option<AudioView> {
        let view = self.view(scheduling);
        let changed = self.published.as_ref() != Some(&view);
        changed.then(|| {
            self.published = Some(view.clone());
            view
        })
    }

    /// The state as it is.
    pub fn view(&self, scheduling: &Scheduling) -> AudioView {
        let [input, output, ringer] = &self.devices;
        let failure =
            self.devices.iter().filter(|device| device.wanted).find_map(|device| match &device.state {
                State::Failed { reason, .. } => Some(reason.clone()),
                _ => None,
            });
        let open = self.devices.iter().any(|device| matches!(device.state, State::Open));
        AudioView {
            input: input.name.clone(),
            output: output.name.clone(),
            ringer: ringer.name.clone(),
            state: match (&failure, open) {
                (Some(_), _) => DeviceState::Unavailable,
                (None, true) => DeviceState::Open,
                (None, false) => DeviceState::Closed,
            },
            reason: failure.unwrap_or_default(),
            scheduling: scheduling.policy.name(),
            scheduling_reason: scheduling.reason.clone(),
            priority: scheduling.priority,
            memory_locked: scheduling.memory_locked,
        }
    }

    /// Opens what is wanted and closes what is not.
    fn follow<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        let test = self.users.test.as_ref();
        let wanted = [
            self.users.calls || test.is_some_and(|test| test.input),
            self.users.calls || test.is_some_and(|test| test.output),
            self.users.ringing,
        ];
        for (role, wanted) in ROLES.into_iter().zip(wanted) {
            let device = &mut self.devices[index(role)];
            if device.wanted == wanted {
                continue;
            }
            device.wanted = wanted;
            if wanted {
                self.open(role);
            } else {
                device.state = State::Closed;
                self.sound.close(role);
                patchbay.close(port_of(role));
            }
        }
    }

    fn open(&mut self, role: DeviceRole) {
        self.devices[index(role)].state = State::Opening;
        self.request(role);
    }

    /// Asks for the device; a failed one keeps showing its failure until the answer is there.
    fn request(&mut self, role: DeviceRole) {
        let device = &mut self.devices[index(role)];
        if let State::Failed { at, .. } = &mut device.state {
            *at = Instant::now();
        }
        match device.name.parse::<DeviceName>() {
            Ok(name) => self.sound.open(role, name),
            Err(error) => {
                let reason = error.to_string();
                if !matches!(device.state, State::Failed { .. }) {
                    log::warn!("{}: {reason}", role_name(role));
                }
                device.state = State::Failed { reason, at: Instant::now() };
            }
        }
    }
}

fn index(role: DeviceRole) -> usize {
    match role {
        DeviceRole::Input => 0,
        DeviceRole::Output => 1,
        DeviceRole::Ringer => 2,
    }
}

fn port_of(role: DeviceRole) -> PortId {
    match role {
        DeviceRole::Input => DEVICE_INPUT,
        DeviceRole::Output => DEVICE_OUTPUT,
        DeviceRole::Ringer => RINGER,
    }
}

/// As on D-Bus.
pub fn role_name(role: DeviceRole) -> &'static str {
    match role {
        DeviceRole::Input => "input",
        DeviceRole::Output => "output",
        DeviceRole::Ringer => "ringer",
    }
}
