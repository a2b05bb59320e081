//! Who wants the devices: calls, what rings, and a test.

use std::time::{Duration, Instant};

/// Longest device test.
pub(super) const TEST_TIME: Duration = Duration::from_secs(10);

/// Who wants them at the moment.
#[derive(Default)]
pub(super) struct Users {
    pub(super) calls: bool,
    pub(super) ringing: bool,
    pub(super) test: Option<Test>,
}

impl Users {
    /// Which roles are wanted, in their order; `rings_at_output`: what rings does so by the output.
    pub(super) fn wanted(&self, rings_at_output: bool) -> [bool; 3] {
        let test = self.test.as_ref();
        [
            self.calls || test.is_some_and(|test| test.input),
            self.calls || test.is_some_and(|test| test.output) || rings_at_output,
            self.ringing && !rings_at_output,
        ]
    }
}

pub(super) struct Test {
    until: Instant,
    pub(super) output: bool,
    input: bool,
}

impl Test {
    pub(super) fn new(now: Instant, output: bool, input: bool) -> Self {
        Self { until: now + TEST_TIME, output, input }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }
}
