//! Sleep: logind says when the system goes to sleep and comes back; where there is none, the clocks tell afterwards.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use zbus::Connection;

use super::NetworkEvent;
use crate::realtime::read_clock;

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(2);
/// How much the clock that counts sleep must gain on the one that does not.
const NAP_NANOS: u64 = 1_000_000_000;
/// A bus that does not answer has nothing to say about sleep.
const TIMEOUT: Duration = Duration::from_secs(5);

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Logind {
    /// `true` before sleep, `false` after it.
    #[zbus(signal)]
    fn prepare_for_sleep(&self, start: bool) -> zbus::Result<()>;
}

/// Tells of sleep for as long as somebody listens.
pub(super) async fn watch(events: mpsc::Sender<NetworkEvent>) {
    let signals = timeout(TIMEOUT, subscribe()).await;
    let mut signals = match signals {
        Ok(Ok(signals)) => Some(signals),
        Ok(Err(error)) => {
            log::debug!("logind does not tell of sleep: {error}");
            None
        }
        Err(_) => None,
    };
    let mut slept = Slept::new(nanos_asleep());
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            signal = next(&mut signals) => match signal {
                Some(true) => Some(NetworkEvent::Suspending),
                Some(false) => {
                    slept.told(nanos_asleep());
                    Some(NetworkEvent::Resumed)
                }
                None => {
                    signals = None;
                    None
                }
            },
            _ = look.tick() => slept.look(nanos_asleep()).then_some(NetworkEvent::Resumed),
        };
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

async fn subscribe() -> zbus::Result<PrepareForSleepStream> {
    let connection = Connection::system().await?;
    LogindProxy::new(&connection).await?.receive_prepare_for_sleep().await
}

async fn next(signals: &mut Option<PrepareForSleepStream>) -> Option<bool> {
    match signals {
        Some(signals) => {
            let signal = signals.next().await?;
            Some(signal.args().is_ok_and(|args| args.start))
        }
        None => std::future::pending().await,
    }
}

/// How long the system has slept since it was started, in nanoseconds.
fn nanos_asleep() -> u64 {
    read_clock(libc::CLOCK_BOOTTIME).saturating_sub(read_clock(libc::CLOCK_MONOTONIC))
}

/// What is known of the time asleep.
struct Slept(u64);

impl Slept {
    fn new(asleep: u64) -> Self {
        Self(asleep)
    }

    /// Somebody else has told of it.
    fn told(&mut self, asleep: u64) {
        self.0 = asleep;
    }

    /// Whether the system has slept since the last look.
    fn look(&mut self, asleep: u64) -> bool {
        let slept = asleep.saturating_sub(self.0) >= NAP_NANOS;
        self.0 = asleep;
        slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_noticed_once() {
        let hour = 3_600_000_000_000;
        let mut slept = Slept::new(hour);
        assert!(!slept.look(hour + 50_000), "the two clocks are read one after the other");
        assert!(slept.look(2 * hour));
        assert!(!slept.look(2 * hour + 50_000));
        slept.told(3 * hour);
        assert!(!slept.look(3 * hour));
    }
}
