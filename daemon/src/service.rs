//! The service manager: told when the daemon is ready, alive and stopping. Nothing happens without one.

use sd_notify::NotifyState;

/// Calls can be placed and taken from now on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The driver's loop turns; without this, the watchdog ends the process and it is started anew.
pub fn watchdog() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// No more calls are taken.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told anything: {error}");
    }
}
