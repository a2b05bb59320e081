//! `org.voipd.Audio1`: the sound devices and the real-time thread.

use std::collections::HashMap;

use zbus::{SerializeDict, Type};

use crate::{Dict, Result};

/// Options of [`AudioProxy::start_test`].
#[derive(Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct TestOptions {
    /// Play a tone on the output.
    pub output: Option<bool>,
    /// Open the microphone.
    pub input: Option<bool>,
}

/// What [`AudioProxy::configure_device`] changes; what is `None` stays.
#[derive(Clone, Debug, Default, SerializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct DeviceSettings {
    /// Per cent, 0 to 150.
    pub volume: Option<u32>,
    /// Silent.
    pub muted: Option<bool>,
    /// Of the microphone: the loudspeaker's echo is taken out.
    pub echo_cancellation: Option<bool>,
    /// Of the microphone: noise is taken out.
    pub noise_suppression: Option<bool>,
    /// Of the microphone: the level is kept even.
    pub gain_control: Option<bool>,
}

/// The sound devices and the real-time thread.
#[zbus::proxy(
    interface = "org.voipd.Audio1",
    default_service = "org.voipd",
    default_path = "/org/voipd/audio",
    async_name = "AudioProxy"
)]
pub trait Audio {
    /// All sound devices, each as a dictionary.
    fn list_devices(&self) -> Result<Vec<Dict>>;

    /// Chooses the device of a role: `input`, `output` or `ringer`.
    fn select_device(&self, role: &str, name: &str) -> Result<()>;

    /// Changes settings of the device that is chosen for a role.
    fn configure_device(&self, role: &str, settings: &DeviceSettings) -> Result<()>;

    /// Plays a tone and opens the microphone for 10 seconds.
    fn start_test(&self, options: &TestOptions) -> Result<()>;

    /// Ends the test.
    fn stop_test(&self) -> Result<()>;

    /// Asks for [`levels`](AudioProxy::receive_levels) signals every so many milliseconds.
    fn watch(&self, interval_ms: u32) -> Result<()>;

    /// Ends the signals.
    fn unwatch(&self) -> Result<()>;

    /// Name of the chosen microphone.
    #[zbus(property)]
    fn input(&self) -> zbus::Result<String>;

    /// Name of the chosen loudspeaker.
    #[zbus(property)]
    fn output(&self) -> zbus::Result<String>;

    /// Name of the device that rings.
    #[zbus(property)]
    fn ringer(&self) -> zbus::Result<String>;

    /// Names of the devices that are open, by role.
    #[zbus(property)]
    fn in_use(&self) -> zbus::Result<HashMap<String, String>>;

    /// Settings of the chosen microphone.
    #[zbus(property)]
    fn input_settings(&self) -> zbus::Result<Dict>;

    /// Settings of the chosen loudspeaker.
    #[zbus(property)]
    fn output_settings(&self) -> zbus::Result<Dict>;

    /// Settings of the device that rings.
    #[zbus(property)]
    fn ringer_settings(&self) -> zbus::Result<Dict>;

    /// `closed`, `open` or `unavailable`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;

    /// Plain words when unavailable.
    #[zbus(property)]
    fn reason(&self) -> zbus::Result<String>;

    /// `fifo`, `rtkit` or `other`.
    #[zbus(property)]
    fn scheduling(&self) -> zbus::Result<String>;

    /// Plain words when scheduling is `other`.
    #[zbus(property)]
    fn scheduling_reason(&self) -> zbus::Result<String>;

    /// Real-time priority, or 0.
    #[zbus(property)]
    fn priority(&self) -> zbus::Result<i32>;

    /// Whether memory is locked.
    #[zbus(property)]
    fn memory_locked(&self) -> zbus::Result<bool>;

    /// Whether the real-time thread sleeps because nothing sounds.
    #[zbus(property(emits_changed_signal = "false"))]
    fn parked(&self) -> zbus::Result<bool>;

    /// Level of the microphone, in dBov.
    #[zbus(property(emits_changed_signal = "false"))]
    fn input_level(&self) -> zbus::Result<f64>;

    /// Level of the loudspeaker, in dBov.
    #[zbus(property(emits_changed_signal = "false"))]
    fn output_level(&self) -> zbus::Result<f64>;

    /// Counters of the real-time thread.
    #[zbus(property(emits_changed_signal = "false"))]
    fn counters(&self) -> zbus::Result<HashMap<String, u64>>;

    /// Levels, sent to those who watch.
    #[zbus(signal)]
    fn levels(&self, levels: Dict) -> zbus::Result<()>;
}
