//! Whether this machine's clock can be right. It asks the kernel, and no time server.

use std::time::{Duration, SystemTime};

use super::Check;

/// What there is to be known of the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: SystemTime,
    /// When this program was written to disk: it cannot be earlier than that.
    built: Option<SystemTime>,
    /// Whether the kernel holds the clock for synchronized; `None` where it does not say.
    synchronized: Option<bool>,
}

/// Asks the kernel.
pub(super) fn look() -> Clock {
    let built = std::fs::metadata("/proc/self/exe").and_then(|file| file.modified());
    Clock { now: SystemTime::now(), built: built.ok(), synchronized: synchronized() }
}

#[allow(unsafe_code)]
fn synchronized() -> Option<bool> {
    // SAFETY: the structure holds numbers alone, for which all bits zero are good; with `modes` 0 the call only reads.
    let state = unsafe {
        let mut clock: libc::timex = std::mem::zeroed();
        libc::adjtimex(&mut clock)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR)
}

impl Clock {
    pub(super) fn judge(self) -> Check {
        const ID: &str = "clock";
        const SET: &str =
            "set it, and keep it right: timedatectl set-ntp true, with systemd-timesyncd or chrony installed";
        // Files of a package may carry the time of another zone's midnight.
        let too_early = |built: SystemTime| self.now + Duration::from_secs(86_400) < built;
        if self.built.is_some_and(too_early) {
            return Check::failed(
                ID,
                "the clock is wrong: it is earlier than the day on which voipd was installed, and TLS servers' \
                 certificates look as if they were not valid yet",
                SET,
            );
        }
        match self.synchronized {
            Some(true) => Check::ok(ID, "the clock is kept right by a time server"),
            Some(false) => Check::warning(
                ID,
                "no time server keeps the clock right, as far as the kernel knows: if it goes wrong, TLS servers' \
                 certificates are refused",
                SET,
            ),
            None => Check::skipped(ID, "the kernel does not say whether the clock is kept right"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckState;
    use super::*;

    fn judged(days_after_install: i64, synchronized: Option<bool>) -> CheckState {
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * 86_400);
        let shift = Duration::from_secs(days_after_install.unsigned_abs() * 86_400);
        let now = if days_after_install < 0 { built - shift } else { built + shift };
        Clock { now, built: Some(built), synchronized }.judge().state
    }

    #[test]
    fn a_clock_before_the_installation_is_wrong_whatever_the_kernel_thinks() {
        assert_eq!(judged(-10, Some(true)), CheckState::Failed);
        assert_eq!(judged(10, Some(true)), CheckState::Ok);
        assert_eq!(judged(10, Some(false)), CheckState::Warning);
        assert_eq!(judged(10, None), CheckState::Skipped);
    }

    #[test]
    fn the_kernel_is_asked_without_harm() {
        assert_ne!(look().judge().state, CheckState::Failed);
    }
}
