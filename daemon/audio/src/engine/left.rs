//! Ticks that are left to the next one, and what comes in them to the next but one: nobody outside of the engine can tell.

use crate::TICK_NANOS;
use crate::engine::MediaSocket;
use crate::engine::processor::Processor;

/// Wakings, a second of those that serve two ticks, for which the control side is taken to wait for another packet: it looks
/// for a way through the network, where one packet that is not RTP has come.
const CALM: u32 = 50;

impl<S: MediaSocket> Processor<S> {
    /// Whether the tick that comes may be left to [`Processor::two_ticks`]: nothing is sent in it, no peer hears another one, and
    /// there are no sound devices, files and programs that would hear something or be heard. Nobody sees then when it is
    /// served.
    pub fn can_wait(&self) -> bool {
        // What a device has recorded last may still be sounding.
        let silent = |slot: usize| self.frames.get(slot).is_some_and(|frame| !frame.is_sounding());
        let can_wait = |slot: usize| match self.ports.get(slot) {
            Some(Some(port)) => port.can_wait() && (port.is_stream() || silent(slot)),
            _ => true,
        };
        self.last_due.is_some()
            && self.commands.is_empty()
            && self.hurried.is_empty()
            && !self.peers_heard
            && self.open.iter().all(can_wait)
    }

    /// As [`Processor::tick`], for the tick that was left and the one that is due: the first hears what had come by its own
    /// time, and knows nothing of what was commanded since it was left. What is sent leaves first; what has come is left
    /// to every other time, or to the next command.
    pub fn two_ticks(&mut self, now_nanos: u64, late_nanos: u64) -> bool {
        let Some(last) = self.last_due else { return self.tick(now_nanos, late_nanos) };
        let left = last + TICK_NANOS;
        self.last_due = Some(left);
        self.counters.ticks += 1;
        self.unheard += 1;
        let missed = now_nanos.saturating_sub(late_nanos) >= left + 3 * TICK_NANOS / 2;
        if missed || !self.commands.is_empty() {
            self.catch_up();
            self.mix(left, false);
            return self.tick_behind(now_nanos, late_nanos, true);
        }
        self.mix(left, false);
        self.keep_time(now_nanos, late_nanos);
        self.unheard += 1;
        self.mix(now_nanos, false);
        self.send();
        if self.unheard > 2 || self.outbox.calm <= CALM {
            self.catch_up();
            self.publish_streams();
        }
        self.publish();
        true
    }

    /// Serves the ticks for which nothing was received.
    pub(super) fn catch_up(&mut self) {
        let unheard = std::mem::take(&mut self.unheard);
        if let Some(last) = self.last_due.filter(|_| unheard > 0) {
            self.effort.begin(self.load.complexity());
            self.receive(last, unheard, false);
            self.effort.count(&mut self.counters);
        }
    }
}
