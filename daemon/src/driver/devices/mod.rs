//! The sound devices in use: opened while something needs them, opened again when they were lost, stood in for by others
//! meanwhile.

mod device;
mod ringer;
mod role;
mod settings;
mod stand_in;
mod users;

use std::time::Instant;

use tokio::sync::mpsc;
use voipd_agent::output::DEVICE_OUTPUT;
use voipd_audio::engine::MediaSocket;
use voipd_audio::tone::Tone;
use voipd_audio::voice::{EchoFigures, Stages};

use super::patchbay::Patchbay;
use crate::api::devices::{DeviceChange, DeviceSettings};
use crate::api::{AudioView, DeviceRole, DeviceState, DeviceView, ErrorKind, RequestError};
use crate::realtime::Scheduling;
use crate::sound::{DeviceName, FindError, SoundEvent, SoundSystem};
use device::{Device, State};
use ringer::RingerAtOutput;
pub use role::role_name;
use role::{ROLES, index, port_of};
use settings::{Settings, Voice};
use users::{TEST_TIME, Test, Users};

const TEST_HERTZ: f32 = 440.0;

/// Which devices are used, and how.
pub struct DeviceSetup {
    /// Names of the chosen devices: input, output, ringer.
    pub names: [String; 3],
    /// What is set of a device of which nothing was ever set.
    pub defaults: DeviceSettings,
    /// What was set, as the store has it: role, chosen name, settings.
    pub kept: Vec<(DeviceRole, String, String)>,
    /// Whether the default device stands in for a chosen one that cannot be had.
    pub fallback: bool,
}

/// What happened to a device.
pub enum DeviceEvent {
    /// As the sound system tells it.
    Sound(SoundEvent),
    /// A device that something stands in for is there again.
    Back {
        /// Its role.
        role: DeviceRole,
        /// Its name.
        name: String,
    },
    /// A device is not there any more: sound that is led to it may still flow, to somewhere else.
    Gone {
        /// Its role.
        role: DeviceRole,
        /// Its name.
        name: String,
        /// In words, and what to do.
        reason: String,
    },
}

/// Microphone, loudspeaker and ringer.
pub struct Devices {
    sound: SoundSystem,
    devices: [Device; 3],
    fallback: bool,
    settings: Settings,
    voice: Voice,
    users: Users,
    ringer_at_output: RingerAtOutput,
    found: (mpsc::UnboundedSender<DeviceEvent>, mpsc::UnboundedReceiver<DeviceEvent>),
    published: Option<AudioView>,
}

impl Devices {
    /// Opens nothing.
    pub fn new(sound: SoundSystem, setup: DeviceSetup) -> Self {
        let DeviceSetup { names, defaults, kept, fallback } = setup;
        let devices = names.map(Device::new);
        Self {
            sound,
            devices,
            fallback,
            settings: Settings::new(defaults, kept),
            voice: Voice::default(),
            users: Users::default(),
            ringer_at_output: RingerAtOutput::default(),
            found: mpsc::unbounded_channel(),
            published: None,
        }
    }

    /// What happened next to a device. Cancelling it loses nothing.
    pub async fn next_event(&mut self) -> DeviceEvent {
        tokio::select! {
            event = self.sound.next_event() => DeviceEvent::Sound(event),
            Some(event) = self.found.1.recv() => event,
        }
    }

    /// All devices that can be chosen.
    pub fn list(&self) -> impl Future<Output = Vec<DeviceView>> + Send + use<> {
        self.sound.list()
    }

    /// Opens or closes the devices for calls, which end a test.
    pub fn use_for_calls<S: MediaSocket>(&mut self, wanted: bool, patchbay: &mut Patchbay<S>) {
        self.users.calls = wanted;
        if wanted {
            self.end_test(patchbay);
        }
        self.follow(patchbay);
    }

    pub fn use_ringer<S: MediaSocket>(&mut self, wanted: bool, patchbay: &mut Patchbay<S>) {
        self.users.ringing = wanted;
        self.follow(patchbay);
    }

    /// Opens the devices for a few seconds, and sounds a tone; in place of a test that runs.
    ///
    /// # Errors
    /// A call uses the devices.
    pub fn start_test<S: MediaSocket>(
        &mut self,
        output: bool,
        input: bool,
        patchbay: &mut Patchbay<S>,
    ) -> Result<(), RequestError> {
        if self.users.calls {
            return Err(RequestError {
                kind: ErrorKind::InvalidState,
                message: "a call or the dial tone uses the devices: test them when it has ended".to_owned(),
            });
        }
        self.end_test(patchbay);
        self.users.test = Some(Test::new(Instant::now(), output, input));
        self.follow(patchbay);
        if output {
            patchbay.play_tone(DEVICE_OUTPUT, Some(Tone::test(TEST_HERTZ, TEST_TIME.as_millis() as u32)));
        }
        Ok(())
    }

    pub fn stop_test<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        self.end_test(patchbay);
        self.follow(patchbay);
    }

    /// The tone is forgotten as well: it would sound again whenever the output is opened.
    fn end_test<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        if self.users.test.take().is_some_and(|test| test.output) {
            patchbay.play_tone(DEVICE_OUTPUT, None);
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
            // Silence, where it leads nowhere.
            Ok(DeviceName::Default) => Ok(None),
            Ok(name) => Ok(Some(self.sound.find(role, name))),
            Err(error) => Err(FindError::NoSuchDevice(error.to_string())),
        };
        async move {
            match parsed? {
                Some(find) => find.await,
                None => Ok(()),
            }
        }
    }

    /// Chooses another device for a role, from now on.
    pub fn select<S: MediaSocket>(&mut self, role: DeviceRole, name: &str, patchbay: &mut Patchbay<S>) {
        let device = &mut self.devices[index(role)];
        device.name = name.to_owned();
        // It stood in for another.
        device.stand_in = None;
        if device.wanted {
            self.shut(role, patchbay);
            self.open(role);
        }
        // Output and ringer may have become one device, or two.
        self.follow(patchbay);
    }

    /// Changes what is set of a role's chosen device, from now on: its name, and the settings to be kept.
    pub fn configure<S: MediaSocket>(
        &mut self,
        role: DeviceRole,
        change: DeviceChange,
        patchbay: &mut Patchbay<S>,
    ) -> (String, DeviceSettings) {
        let name = self.devices[index(role)].name.clone();
        let settings = self.settings.change(role, &name, change);
        self.apply(patchbay);
        (name, settings)
    }

    pub fn handle_event<S: MediaSocket>(&mut self, event: DeviceEvent, patchbay: &mut Patchbay<S>) {
        match event {
            DeviceEvent::Sound(SoundEvent::Opened { role, port, name, description }) => {
                let opened = patchbay.open_device(port_of(role), port);
                let device = &mut self.devices[index(role)];
                match opened {
                    Ok(()) => {
                        log::info!("{}: {description} ({name})", role_name(role));
                        device.opened(name, description);
                    }
                    Err(error) => {
                        device.state = State::failed(error.to_string());
                    }
                }
            }
            DeviceEvent::Sound(SoundEvent::Failed { role, reason } | SoundEvent::Lost { role, reason }) => {
                self.failed(role, reason, patchbay);
            }
            DeviceEvent::Back { role, name } => {
                if self.devices[index(role)].is_to_return(&name) {
                    log::info!("{}: {name} is back", role_name(role));
                    self.shut(role, patchbay);
                    self.open(role);
                }
            }
            DeviceEvent::Gone { role, name, reason } => {
                let device = &self.devices[index(role)];
                if device.is_real() && device.stand_in.is_none() && device.name == name {
                    // Nothing that its stream still says counts.
                    self.sound.close(role);
                    self.failed(role, reason, patchbay);
                }
            }
        }
        self.apply(patchbay);
    }

    /// A device did not open, or was lost.
    fn failed<S: MediaSocket>(&mut self, role: DeviceRole, reason: String, patchbay: &mut Patchbay<S>) {
        self.close_port(role, patchbay);
        if self.devices[index(role)].failed(role, reason, self.fallback) {
            self.open(role);
        }
    }

    /// Ends a test whose time is over, tries lost devices again, and looks for those that others stand in for.
    pub fn handle_timeout<S: MediaSocket>(&mut self, now: Instant, patchbay: &mut Patchbay<S>) {
        if self.users.test.as_ref().is_some_and(|test| test.is_over(now)) {
            self.stop_test(patchbay);
        }
        for role in ROLES {
            let device = &mut self.devices[index(role)];
            if !device.wanted {
                continue;
            }
            let retry = device.state.is_due(now);
            let look = device.is_look_due(now)
                || device.stand_in.as_mut().is_some_and(|stand_in| stand_in.is_due(now));
            if retry {
                self.request(role);
            }
            if look {
                self.look_for(role);
            }
        }
    }

    /// Asks whether a role's chosen device is there.
    fn look_for(&self, role: DeviceRole) {
        let name = self.devices[index(role)].name.clone();
        let Ok(parsed) = name.parse::<DeviceName>() else { return };
        let (there, found) = (self.sound.find(role, parsed), self.found.0.clone());
        tokio::spawn(async move {
            let event = match there.await {
                Ok(()) => DeviceEvent::Back { role, name },
                Err(FindError::NoSuchDevice(reason)) => DeviceEvent::Gone { role, name, reason },
                Err(FindError::Unavailable(_)) => return,
            };
            // The driver is gone when nobody listens.
            let _ = found.send(event);
        });
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
        let wanted = || {
            ROLES
                .into_iter()
                .map(|role| (role, &self.devices[index(role)]))
                .filter(|(_, device)| device.wanted)
        };
        let failure = wanted().find_map(|(_, device)| device.failure());
        let stood_in_for = wanted().find_map(|(role, device)| device.stood_in_for(role));
        let in_use = |role: DeviceRole| {
            let rings = role == DeviceRole::Ringer && self.ringer_at_output.is_on();
            match &self.devices[index(if rings { DeviceRole::Output } else { role })].state {
                State::Open { name, .. } => Some((role_name(role).to_owned(), name.to_string())),
                _ => None,
            }
        };
        let open = self.devices.iter().any(|device| matches!(device.state, State::Open { .. }));
        AudioView {
            input: input.name.clone(),
            output: output.name.clone(),
            ringer: ringer.name.clone(),
            in_use: ROLES.into_iter().filter_map(in_use).collect(),
            settings: ROLES.map(|role| self.settings.of(role, &self.devices[index(role)].name)),
            state: match (&failure, open) {
                (Some(_), _) => DeviceState::Unavailable,
                (None, true) => DeviceState::Open,
                (None, false) => DeviceState::Closed,
            },
            reason: failure.or(stood_in_for).unwrap_or_default(),
            scheduling: scheduling.policy.name(),
            scheduling_reason: scheduling.reason.clone(),
            priority: scheduling.priority,
            memory_locked: scheduling.memory_locked,
        }
    }

    /// What is done to the microphone's sound now, and what the echo canceller has found out.
    pub fn voice(&self) -> (Stages, EchoFigures) {
        (self.voice.stages(), self.voice.echo())
    }

    /// Figures of the microphone's processing, by the names that they have on the bus.
    pub fn figures(&self) -> [(&'static str, u64); 4] {
        let ((blocks, late), echo) = (self.voice.blocks(), self.voice.echo());
        [
            ("voice-blocks", blocks),
            ("voice-blocks-late", late),
            ("echo-delay-ms", echo.delay_ms.map_or(0, u64::from)),
            ("echo-enhancement-db", echo.enhancement_db.map_or(0, |enhancement| enhancement.max(0.0) as u64)),
        ]
    }

    /// Opens what is wanted and closes what is not.
    fn follow<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        let rings_at_output = self.users.ringing && self.is_one_device();
        let wanted = self.users.wanted(rings_at_output);
        if !rings_at_output {
            self.ringer_at_output.end(patchbay);
        }
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
                device.stand_in = None;
                self.shut(role, patchbay);
            }
        }
        if rings_at_output {
            self.ringer_at_output.begin(patchbay);
        }
        self.apply(patchbay);
    }

    /// Whether ringer and output are the same device: a card can be opened only once.
    fn is_one_device(&self) -> bool {
        let [_, output, ringer] = &self.devices;
        let is_device = matches!(output.name.parse(), Ok(DeviceName::Default | DeviceName::Host(..)));
        is_device && output.name == ringer.name
    }

    /// Brings volumes and processing to what is set.
    fn apply<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        for role in ROLES {
            let device = &self.devices[index(role)];
            if !matches!(device.state, State::Open { .. }) {
                continue;
            }
            // Whoever rings at the output is alone there: nothing rings during a call.
            let set_of = if role == DeviceRole::Output && self.ringer_at_output.is_on() {
                DeviceRole::Ringer
            } else {
                role
            };
            let gain = self.settings.of(set_of, &device.name).gain();
            if let Err(error) = patchbay.controller().set_volume(port_of(role), gain) {
                log::error!("the engine refused the volume of the {}: {error}", role_name(role));
            }
        }
        let [input, output, _] = &self.devices;
        let set = self.settings.of(DeviceRole::Input, &input.name);
        if input.is_real() {
            let wanted = Stages {
                // Without a loudspeaker there is no echo, and a file hears none.
                echo: set.echo_cancellation && output.is_real(),
                noise: set.noise_suppression,
                gain: set.gain_control,
            };
            self.voice.follow(wanted, patchbay);
        }
    }

    fn open(&mut self, role: DeviceRole) {
        self.devices[index(role)].state = State::Opening;
        self.request(role);
    }

    /// Asks for what is to be opened.
    fn request(&mut self, role: DeviceRole) {
        if let Some(name) = self.devices[index(role)].request(role) {
            self.sound.open(role, name);
        }
    }

    /// Closes what a role has open, or stops opening it.
    fn shut<S: MediaSocket>(&mut self, role: DeviceRole, patchbay: &mut Patchbay<S>) {
        self.sound.close(role);
        self.close_port(role, patchbay);
    }

    fn close_port<S: MediaSocket>(&mut self, role: DeviceRole, patchbay: &mut Patchbay<S>) {
        patchbay.close(port_of(role));
        if role == DeviceRole::Input {
            self.voice.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use voipd_audio::BUS_RATE;
    use voipd_audio::engine::{Batch, DevicePort, Pace, Processor, Waker, engine};

    use super::device::RETRY;
    use super::*;
    use crate::realtime::Policy;

    struct Nowhere;

    impl MediaSocket for Nowhere {
        fn receive(&mut self, _batch: &mut Batch) {}

        fn send(&mut self, _remote: SocketAddr, _datagram: &[u8]) -> bool {
            true
        }
    }

    impl Waker for Nowhere {
        fn wake(&mut self) {}
    }

    /// The devices of a call whose loudspeaker is `output`.
    struct Lab {
        devices: Devices,
        patchbay: Patchbay<Nowhere>,
        _processor: Processor<Nowhere>,
    }

    impl Lab {
        fn new(output: &str) -> Self {
            let (controller, processor) = engine(8, Box::new(Nowhere));
            let setup = DeviceSetup {
                names: ["null", output, "null"].map(str::to_owned),
                defaults: DeviceSettings::default(),
                kept: Vec::new(),
                fallback: true,
            };
            let devices = Devices::new(SoundSystem::start().unwrap(), setup);
            let mut lab = Lab { devices, patchbay: Patchbay::new(controller), _processor: processor };
            lab.devices.use_for_calls(true, &mut lab.patchbay);
            lab
        }

        fn output(&self) -> &State {
            &self.devices.devices[index(DeviceRole::Output)].state
        }

        /// Events until the loudspeaker's state is as wanted.
        async fn run_until(&mut self, wanted: impl Fn(&State) -> bool) {
            let until = tokio::time::Instant::now() + Duration::from_secs(20);
            while !wanted(self.output()) {
                let event = tokio::time::timeout_at(until, self.devices.next_event()).await;
                self.devices.handle_event(event.expect("nothing happens"), &mut self.patchbay);
            }
        }
    }

    #[tokio::test]
    async fn a_device_that_failed_is_asked_for_again_once_it_has_answered() {
        let mut lab = Lab::new("file:/nowhere/at/all/out.wav");
        lab.run_until(|state| matches!(state, State::Failed { .. })).await;
        let failed = Instant::now();
        assert!(lab.output().is_due(failed + RETRY));
        lab.devices.handle_timeout(failed + RETRY, &mut lab.patchbay);
        assert!(matches!(lab.output(), State::Failed { .. }), "the failure is shown meanwhile");
        assert!(!lab.output().is_due(failed + 10 * RETRY), "it has not answered yet");
        lab.run_until(|state| matches!(state, State::Failed { again: Some(_), .. })).await;
        assert!(lab.output().is_due(Instant::now() + RETRY));
    }

    #[tokio::test]
    async fn no_tone_outlasts_its_test() {
        let mut lab = Lab::new("null");
        let refused = lab.devices.start_test(true, true, &mut lab.patchbay).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidState, "a call uses the devices");
        assert!(lab.patchbay.tone_at(DEVICE_OUTPUT).is_none());
        lab.devices.use_for_calls(false, &mut lab.patchbay);

        lab.devices.start_test(true, false, &mut lab.patchbay).unwrap();
        assert!(lab.patchbay.tone_at(DEVICE_OUTPUT).is_some());
        lab.devices.use_for_calls(true, &mut lab.patchbay);
        assert!(lab.patchbay.tone_at(DEVICE_OUTPUT).is_none(), "a call ends it");
        lab.devices.use_for_calls(false, &mut lab.patchbay);

        lab.devices.start_test(true, false, &mut lab.patchbay).unwrap();
        lab.devices.start_test(false, true, &mut lab.patchbay).unwrap();
        assert!(lab.patchbay.tone_at(DEVICE_OUTPUT).is_none(), "another test ends it");

        lab.devices.start_test(true, true, &mut lab.patchbay).unwrap();
        lab.devices.handle_timeout(Instant::now() + 2 * TEST_TIME, &mut lab.patchbay);
        assert!(lab.patchbay.tone_at(DEVICE_OUTPUT).is_none(), "its time is over");
        assert!(matches!(lab.output(), State::Closed));
    }

    #[tokio::test]
    async fn a_device_that_is_chosen_while_another_stands_in_is_used_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut lab = Lab::new("alsa:none,0");
        let gone = SoundEvent::Failed { role: DeviceRole::Output, reason: "unplugged".to_owned() };
        lab.devices.handle_event(DeviceEvent::Sound(gone), &mut lab.patchbay);
        assert!(lab.devices.devices[index(DeviceRole::Output)].stand_in.is_some());
        let chosen = format!("file:{}", folder.path().join("out.wav").display());
        lab.devices.select(DeviceRole::Output, &chosen, &mut lab.patchbay);
        lab.run_until(|state| matches!(state, State::Open { .. })).await;
        assert!(matches!(lab.output(), State::Open { name: DeviceName::File(_), .. }));
        assert!(lab.devices.devices[index(DeviceRole::Output)].stand_in.is_none());
    }

    #[tokio::test]
    async fn silence_in_place_of_default_is_left_when_it_leads_somewhere() {
        let mut lab = Lab::new("default");
        let opened = |name: &str, description: &str| {
            let port = DevicePort { capture: None, playback: None, rate: BUS_RATE, pace: Pace::Tick };
            DeviceEvent::Sound(SoundEvent::Opened {
                role: DeviceRole::Output,
                port,
                name: name.parse().unwrap(),
                description: description.to_owned(),
            })
        };
        let back = || DeviceEvent::Back { role: DeviceRole::Output, name: "default".to_owned() };
        let is_due = |lab: &mut Lab, seconds| {
            let stand_in = lab.devices.devices[index(DeviceRole::Output)].stand_in.as_mut();
            stand_in.is_some_and(|stand_in| stand_in.is_due(Instant::now() + Duration::from_secs(seconds)))
        };
        lab.devices.handle_event(opened("null", "silence: no card"), &mut lab.patchbay);
        let (policy, reason) = (Policy::Other, String::new());
        let view = lab.devices.view(&Scheduling { policy, priority: 0, reason, memory_locked: false });
        assert!(matches!(view.state, DeviceState::Open), "a machine may be without sound");
        assert!(view.reason.contains("no card"), "{}", view.reason);
        assert!(is_due(&mut lab, 3), "it is looked for");

        lab.devices.handle_event(back(), &mut lab.patchbay);
        assert!(matches!(lab.output(), State::Opening));
        assert!(!is_due(&mut lab, 60), "it is being opened");
        lab.devices.handle_event(opened("null", "silence: no card"), &mut lab.patchbay);
        assert!(!is_due(&mut lab, 20), "it is not tried again and again");
        assert!(is_due(&mut lab, 60));

        lab.devices.handle_event(back(), &mut lab.patchbay);
        lab.devices.handle_event(opened("alsa:USB,0", "a headset"), &mut lab.patchbay);
        assert!(matches!(lab.output(), State::Open { name: DeviceName::Host(..), .. }));
        assert!(lab.devices.devices[index(DeviceRole::Output)].stand_in.is_none());
        lab.devices.handle_event(back(), &mut lab.patchbay);
        assert!(matches!(lab.output(), State::Open { .. }), "what sounds is left alone");
    }

    #[tokio::test]
    async fn a_recording_that_broke_off_is_kept_until_the_device_is_wanted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut lab = Lab::new(&format!("file:{}", path.display()));
        lab.run_until(|state| matches!(state, State::Open { .. })).await;
        let recording = [&b"RIFF\0\0\0\0WAVE"[..], &[1; 9999]].concat();
        std::fs::write(&path, &recording).unwrap();
        // Any other device that was open for so long is opened again at once.
        if let State::Open { since, .. } = &mut lab.devices.devices[index(DeviceRole::Output)].state {
            *since = Instant::now().checked_sub(2 * RETRY).unwrap();
        }
        let reason = "the recording cannot be written: the disk is full".to_owned();
        let lost = SoundEvent::Lost { role: DeviceRole::Output, reason: reason.clone() };
        lab.devices.handle_event(DeviceEvent::Sound(lost), &mut lab.patchbay);
        for tries in 1..10_u32 {
            lab.devices.handle_timeout(Instant::now() + tries * RETRY, &mut lab.patchbay);
        }
        assert!(matches!(lab.output(), State::Failed { reason: shown, again: None } if *shown == reason));
        assert_eq!(std::fs::read(&path).unwrap(), recording);

        lab.devices.use_for_calls(false, &mut lab.patchbay);
        lab.devices.use_for_calls(true, &mut lab.patchbay);
        lab.run_until(|state| matches!(state, State::Open { .. })).await;
        assert_ne!(std::fs::read(&path).unwrap(), recording, "another call replaces it");
    }
}
