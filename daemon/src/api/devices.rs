//! What people set of a sound device: volume, muting, and what is done to a microphone's sound.

/// Loudest volume, in per cent.
pub const MOST_VOLUME: u32 = 150;

/// What is set of a device. That of loudspeakers and ringers has no processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Per cent, as an ear judges it; 100 is the sound as it is.
    pub volume: u32,
    pub muted: bool,
    /// The loudspeaker's echo is taken out of the microphone's sound.
    pub echo_cancellation: bool,
    /// Steady noise is taken out of it.
    pub noise_suppression: bool,
    /// Its level is kept even.
    pub gain_control: bool,
}

impl Default for DeviceSettings {
    /// Echo is an annoyance to the peer, who cannot switch it off; noise and level are a matter of taste.
    fn default() -> Self {
        Self {
            volume: 100,
            muted: false,
            echo_cancellation: true,
            noise_suppression: false,
            gain_control: false,
        }
    }
}

/// What is to be changed of them; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    pub volume: Option<u32>,
    pub muted: Option<bool>,
    pub echo_cancellation: Option<bool>,
    pub noise_suppression: Option<bool>,
    pub gain_control: Option<bool>,
}

impl DeviceChange {
    /// Whether only a microphone has it.
    pub fn is_processing(&self) -> bool {
        self.echo_cancellation.is_some() || self.noise_suppression.is_some() || self.gain_control.is_some()
    }
}

impl DeviceSettings {
    /// With what is changed.
    #[must_use]
    pub fn changed(self, change: DeviceChange) -> Self {
        Self {
            volume: change.volume.unwrap_or(self.volume).min(MOST_VOLUME),
            muted: change.muted.unwrap_or(self.muted),
            echo_cancellation: change.echo_cancellation.unwrap_or(self.echo_cancellation),
            noise_suppression: change.noise_suppression.unwrap_or(self.noise_suppression),
            gain_control: change.gain_control.unwrap_or(self.gain_control),
        }
    }

    /// The factor by which samples are multiplied. The cube of the volume: half the volume is half as loud to an ear
    /// (18 dB less), as in PulseAudio.
    #[must_use]
    pub fn gain(&self) -> f32 {
        if self.muted { 0.0 } else { (self.volume as f32 / 100.0).powi(3) }
    }

    /// For the store: words that [`DeviceSettings::read`] reads.
    #[must_use]
    pub fn write(&self) -> String {
        let flag = |on| if on { "yes" } else { "no" };
        format!(
            "volume={} muted={} echo-cancellation={} noise-suppression={} gain-control={}",
            self.volume,
            flag(self.muted),
            flag(self.echo_cancellation),
            flag(self.noise_suppression),
            flag(self.gain_control),
        )
    }

    /// What stands in the store; words that are not understood (of a newer voipd) leave `self` as it is.
    #[must_use]
    pub fn read(self, text: &str) -> Self {
        let mut change = DeviceChange::default();
        for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            let flag = match value {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            };
            match key {
                "volume" => change.volume = value.parse().ok(),
                "muted" => change.muted = flag,
                "echo-cancellation" => change.echo_cancellation = flag,
                "noise-suppression" => change.noise_suppression = flag,
                "gain-control" => change.gain_control = flag,
                _ => {}
            }
        }
        self.changed(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: DeviceSettings = DeviceSettings {
        volume: 80,
        muted: true,
        echo_cancellation: true,
        noise_suppression: false,
        gain_control: true,
    };
    const OTHERS: DeviceSettings = DeviceSettings {
        volume: 100,
        muted: false,
        echo_cancellation: false,
        noise_suppression: true,
        gain_control: false,
    };

    #[test]
    fn settings_survive_the_way_through_the_store() {
        assert_eq!(OTHERS.read(&SETTINGS.write()), SETTINGS);
        assert_eq!(SETTINGS.read(""), SETTINGS);
        let newer = SETTINGS.read("volume=999 muted=perhaps reverb=lots gain-control=no");
        assert_eq!(newer, DeviceSettings { volume: MOST_VOLUME, gain_control: false, ..SETTINGS });
    }

    #[test]
    fn volume_is_a_cube_and_muting_is_silence() {
        let at = |volume| DeviceSettings { volume, ..OTHERS }.gain();
        assert_eq!((at(100), at(50), at(0)), (1.0, 0.125, 0.0));
        assert_eq!(SETTINGS.gain(), 0.0);
    }
}
