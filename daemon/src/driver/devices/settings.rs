//! What is set of each device, and the processing of the microphone that follows from it. Knows which devices are open,
//! not how they are opened.

use std::collections::BTreeMap;

use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT};
use voipd_audio::engine::{InsertSwitch, MediaSocket};
use voipd_audio::voice::{EchoFigures, Stages};

use super::{index, role_name};
use crate::api::DeviceRole;
use crate::api::devices::{DeviceChange, DeviceSettings};
use crate::driver::patchbay::Patchbay;
use crate::realtime::start_voice_processing;

/// What is set of the devices that were ever set, by role and chosen name.
pub(super) struct Settings {
    /// Of all others.
    defaults: DeviceSettings,
    kept: [BTreeMap<String, DeviceSettings>; 3],
}

impl Settings {
    pub(super) fn new(defaults: DeviceSettings, kept: Vec<(DeviceRole, String, String)>) -> Self {
        let mut settings = Self { defaults, kept: Default::default() };
        for (role, name, text) in kept {
            settings.kept[index(role)].insert(name, defaults.read(&text));
        }
        settings
    }

    pub(super) fn of(&self, role: DeviceRole, name: &str) -> DeviceSettings {
        let settings = self.kept[index(role)].get(name).copied().unwrap_or(self.defaults);
        if role == DeviceRole::Input {
            return settings;
        }
        DeviceSettings { echo_cancellation: false, noise_suppression: false, gain_control: false, ..settings }
    }

    pub(super) fn change(&mut self, role: DeviceRole, name: &str, change: DeviceChange) -> DeviceSettings {
        let settings = self.of(role, name).changed(change);
        self.kept[index(role)].insert(name.to_owned(), settings);
        settings
    }
}

/// The processing of the microphone that is open.
#[derive(Default)]
pub(super) struct Voice {
    switch: Option<InsertSwitch>,
    /// Blocks of the microphones before: all, and late ones.
    before: (u64, u64),
}

impl Voice {
    /// Switches what is wanted; the thread is started when it is needed first.
    pub(super) fn follow<S: MediaSocket>(&mut self, wanted: Stages, patchbay: &mut Patchbay<S>) {
        if self.switch.is_none() && wanted.any() {
            match start_voice_processing(DEVICE_OUTPUT) {
                Ok((port, switch)) => match patchbay.controller().attach_insert(DEVICE_INPUT, Some(port)) {
                    Ok(()) => self.switch = Some(switch),
                    Err(error) => log::error!("the engine refused the microphone's processing: {error}"),
                },
                Err(error) => {
                    log::warn!("{}: its sound is sent as it is: {error}", role_name(DeviceRole::Input));
                }
            }
        }
        if let Some(switch) = &self.switch {
            switch.set(wanted);
        }
    }

    /// The microphone is closed.
    pub(super) fn end(&mut self) {
        self.before = self.blocks();
        self.switch = None;
    }

    /// Blocks since the start that were to be processed, and those of them for which the thread was late.
    pub(super) fn blocks(&self) -> (u64, u64) {
        let (blocks, late) = self.switch.as_ref().map(InsertSwitch::blocks).unwrap_or_default();
        (self.before.0 + blocks, self.before.1 + late)
    }

    /// What is done to the microphone's sound now.
    pub(super) fn stages(&self) -> Stages {
        self.switch.as_ref().map_or(Stages::NONE, InsertSwitch::stages)
    }

    pub(super) fn echo(&self) -> EchoFigures {
        self.switch.as_ref().map(InsertSwitch::echo_figures).unwrap_or_default()
    }
}
