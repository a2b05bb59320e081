//! The outbox: what the bus is told, in order, and not before a recording that an ended call leaves is complete.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use voipd_agent::view::CallId;

use crate::api::Update;

/// How long an ended call waits for its recording to be complete.
const LONGEST: Duration = Duration::from_millis(500);

/// Updates on their way to the bus.
pub(super) struct Outbox {
    bus: mpsc::UnboundedSender<Update>,
    /// Calls that are being recorded.
    recording: BTreeSet<CallId>,
    /// Ended calls whose recordings are being completed, and how long they are waited for.
    completing: BTreeMap<CallId, Instant>,
    held: VecDeque<Update>,
}

impl Outbox {
    pub(super) fn new(bus: mpsc::UnboundedSender<Update>) -> Self {
        Self { bus, recording: BTreeSet::new(), completing: BTreeMap::new(), held: VecDeque::new() }
    }

    pub(super) fn send(&mut self, update: Update) {
        self.held.push_back(update);
        self.release();
    }

    /// The call's recording begins.
    pub(super) fn recording(&mut self, call: CallId) {
        self.recording.insert(call);
    }

    /// The call ends: whoever hears of it shall find the file complete.
    pub(super) fn hold_for_recording(&mut self, call: CallId, now: Instant) {
        if self.recording.contains(&call) {
            self.completing.insert(call, now + LONGEST);
        }
    }

    /// The call's recording is complete, or failed.
    pub(super) fn recorded(&mut self, call: CallId) {
        self.recording.remove(&call);
        self.completing.remove(&call);
        self.release();
    }

    /// When [`Outbox::handle_timeout`] wants to be called; something is held until then.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.completing.values().min().copied()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.completing.retain(|_, until| *until > now);
        self.release();
    }

    fn release(&mut self) {
        if self.completing.is_empty() {
            for update in self.held.drain(..) {
                // The bus ends only after the driver.
                let _ = self.bus.send(update);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_wait_for_a_recording_and_no_longer_than_they_must() {
        let (bus, mut told) = mpsc::unbounded_channel();
        let mut outbox = Outbox::new(bus);
        let start = Instant::now();
        let count =
            |told: &mut mpsc::UnboundedReceiver<Update>| std::iter::from_fn(|| told.try_recv().ok()).count();
        outbox.recording(CallId(1));
        outbox.send(Update::DoNotDisturb(true));
        assert_eq!(count(&mut told), 1, "nothing has ended");
        outbox.hold_for_recording(CallId(2), start);
        assert_eq!(outbox.held_until(), None, "that call is not recorded");
        outbox.hold_for_recording(CallId(1), start);
        outbox.send(Update::CallRemoved(CallId(1)));
        assert_eq!(count(&mut told), 0);
        outbox.recorded(CallId(1));
        assert_eq!(count(&mut told), 1);
        outbox.recording(CallId(3));
        outbox.hold_for_recording(CallId(3), start);
        outbox.send(Update::DoNotDisturb(false));
        outbox.handle_timeout(start + LONGEST);
        assert_eq!(count(&mut told), 1);
    }
}
