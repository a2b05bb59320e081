//! What the machines leave behind: outputs in their order, and timers.

use std::collections::VecDeque;

use crate::endpoint::{Event, Flow, Output};
use crate::timer::Timers;

#[derive(Default)]
pub(crate) struct Outbox {
    outputs: VecDeque<Output>,
    pub(crate) timers: Timers,
}

impl Outbox {
    pub(crate) fn transmit(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.push(Output::Transmit { flow, bytes });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn pop(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.timers.next()))
    }
}
