//! Digits from the peer: some gateways send each twice, as a telephone event and in INFO, and a person has pressed it once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_sip::endpoint::SessionId;

use crate::agent::Agent;
use crate::digits::Way;
use crate::output::Output;
use crate::view::CallId;

/// How long after a digit the same one may come by the other way. An event is reported at its end, an INFO may be
/// repeated.
const TWIN: Duration = Duration::from_secs(2);
/// Most digits that are remembered: nobody dials faster.
const MAX_REMEMBERED: usize = 32;

/// The digits of the last moments that have come by one way alone.
#[derive(Default)]
pub(crate) struct HeardDigits(VecDeque<(char, Way, Instant)>);

impl HeardDigits {
    /// Takes a digit; `false` where it has come by the other way already.
    fn is_new(&mut self, now: Instant, digit: char, way: Way) -> bool {
        self.0.retain(|(.., at)| now.saturating_duration_since(*at) < TWIN);
        let twin = self.0.iter().position(|(other, by, _)| *other == digit && *by != way);
        if let Some(twin) = twin {
            self.0.remove(twin);
            return false;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((digit, way, now));
        true
    }
}

impl Agent {
    /// The peer has sent a digit in INFO.
    pub(crate) fn digit_received(&mut self, now: Instant, session: SessionId, digit: char, duration_ms: u32) {
        if let Some(call) = self.by_session.get(&session).copied() {
            self.digit_heard(now, call, digit, duration_ms, Way::Info);
        }
    }

    /// The peer has sent a digit by one way or the other.
    pub(crate) fn digit_heard(&mut self, now: Instant, id: CallId, digit: char, duration_ms: u32, way: Way) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.heard_digits.is_new(now, digit, way) {
            self.outputs.push_back(Output::DtmfReceived { call: id, digit, duration_ms });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_that_comes_by_both_ways_is_one() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut heard = HeardDigits::default();
        // Twice the same key, each by both ways, overtaking each other.
        let arrivals = [(0, Way::Event), (100, Way::Event), (150, Way::Info), (300, Way::Info)];
        let new: Vec<bool> = arrivals.iter().map(|(ms, way)| heard.is_new(at(*ms), '5', *way)).collect();
        assert_eq!(new, [true, true, false, false]);
        assert!(heard.is_new(at(400), '5', Way::Info), "a third one");
        assert!(heard.is_new(at(500), '6', Way::Event), "another key");
        assert!(heard.is_new(at(2600), '5', Way::Event), "much later: pressed again");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let start = Instant::now();
        let mut heard = HeardDigits::default();
        (0..1000).for_each(|_| _ = heard.is_new(start, '1', Way::Info));
        assert_eq!(heard.0.len(), MAX_REMEMBERED);
    }
}
