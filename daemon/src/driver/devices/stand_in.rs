//! Another device, or silence, in place of one that cannot be had: what is used meanwhile, and when the chosen one is
//! looked for.

use std::time::{Duration, Instant};

use crate::sound::DeviceName;

/// How often a device that is gone is looked for, and one that may be gone is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// How long a device is left alone that was there and did not open: each try interrupts what stands in for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the chosen device is not used.
pub(super) struct StandIn {
    pub(super) reason: String,
    look_at: Instant,
    /// The chosen device is back, and is being opened.
    pub(super) returning: bool,
}

impl StandIn {
    /// Whether something else may be used in place of `name`: only of a device of a sound system, since a file that is
    /// missing must not make a machine speak, and `default` has chosen already.
    pub(super) fn is_possible(name: &str) -> bool {
        matches!(name.parse(), Ok(DeviceName::Host(..)))
    }

    pub(super) fn new(reason: String, now: Instant) -> Self {
        Self { reason, look_at: now + LOOK, returning: false }
    }

    /// Silence in place of `default`, which leads nowhere; `again`: though it seemed to lead somewhere just now.
    pub(super) fn silence(reason: String, again: bool, now: Instant) -> Self {
        Self { reason, look_at: now + if again { PATIENCE } else { LOOK }, returning: false }
    }

    /// Whether to look for the chosen device now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.returning && self.look_at <= now;
        if due {
            self.look_at = now + LOOK;
        }
        due
    }

    /// The chosen device was there, and did not open.
    pub(super) fn refused(&mut self, reason: String, now: Instant) {
        *self = Self { reason, look_at: now + PATIENCE, returning: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_looked_for_often_while_it_is_gone_and_seldom_when_it_refuses() {
        let start = Instant::now();
        let mut stand_in = StandIn::new("unplugged".to_owned(), start);
        assert!(!stand_in.is_due(start + LOOK / 2));
        assert!(stand_in.is_due(start + LOOK));
        assert!(!stand_in.is_due(start + LOOK + LOOK / 2), "once for each time");
        assert!(stand_in.is_due(start + 2 * LOOK));
        stand_in.returning = true;
        assert!(!stand_in.is_due(start + 9 * LOOK), "it is being opened");
        stand_in.refused("busy".to_owned(), start + 10 * LOOK);
        assert!(!stand_in.is_due(start + 12 * LOOK));
        assert!(stand_in.is_due(start + 10 * LOOK + PATIENCE));
        assert_eq!(stand_in.reason, "busy");
    }

    #[test]
    fn only_devices_of_a_sound_system_are_stood_in_for() {
        assert!(StandIn::is_possible("pulseaudio:headset") && StandIn::is_possible("alsa:USB,0"));
        for name in ["default", "null", "file:/tmp/x.wav", "trombone"] {
            assert!(!StandIn::is_possible(name), "{name}");
        }
    }
}
