//! Far ends that did not answer, and are passed over for a while where there are others (RFC 3263 section 4.3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::endpoint::{Flow, TlsRequirement, Transport};

/// How long one is passed over.
const AVOIDED_FOR: Duration = Duration::from_secs(60);
/// How long a stream is passed over that requests too large for a datagram were sent by in vain: where TCP is filtered, or
/// taken and not served, it will be so tomorrow.
const NO_STREAM_FOR: Duration = Duration::from_secs(3600);
/// Most of them; the oldest is forgotten first.
const MAX_AVOIDED: usize = 64;

/// What tells the far ends of flows apart. Not our own address: ICMP does not say which of ours it answers.
pub(crate) type FarEnd = (Transport, SocketAddr, TlsRequirement);

impl Flow {
    pub(crate) fn far_end(self) -> FarEnd {
        (self.transport, self.remote, self.tls)
    }
}

#[derive(Default)]
pub(crate) struct Avoided {
    /// With the time from which each is tried again, the last added last.
    list: Vec<(FarEnd, Instant)>,
}

impl Avoided {
    pub(crate) fn add(&mut self, now: Instant, flow: Flow) {
        self.add_for(now, flow, AVOIDED_FOR);
    }

    /// Nothing has come of a stream where a datagram would have been sent, had it not been too large.
    pub(crate) fn add_stream(&mut self, now: Instant, flow: Flow) {
        self.add_for(now, flow, NO_STREAM_FOR);
    }

    fn add_for(&mut self, now: Instant, flow: Flow, time: Duration) {
        self.list.retain(|(far_end, until)| *far_end != flow.far_end() && *until > now);
        if self.list.len() >= MAX_AVOIDED {
            self.list.remove(0);
        }
        self.list.push((flow.far_end(), now + time));
    }

    /// It has answered.
    pub(crate) fn remove(&mut self, flow: Flow) {
        self.list.retain(|(far_end, _)| *far_end != flow.far_end());
    }

    /// On another network, all may answer.
    pub(crate) fn forget(&mut self) {
        self.list.clear();
    }

    pub(crate) fn holds(&self, now: Instant, flow: Flow) -> bool {
        self.list.iter().any(|(far_end, until)| *far_end == flow.far_end() && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(number: u16) -> Flow {
        Flow {
            transport: Transport::Udp,
            local: ([192, 0, 2, 1], 5060).into(),
            remote: ([192, 0, 2, 2], number).into(),
            tls: TlsRequirement::default(),
        }
    }

    #[test]
    fn a_far_end_is_avoided_for_a_minute_or_until_it_answers() {
        let start = Instant::now();
        let mut avoided = Avoided::default();
        avoided.add(start, flow(1));
        avoided.add(start, flow(2));
        avoided.remove(flow(2));
        assert!(avoided.holds(start + AVOIDED_FOR - Duration::from_millis(1), flow(1)));
        assert!(!avoided.holds(start + AVOIDED_FOR, flow(1)));
        assert!(!avoided.holds(start, flow(2)));
        assert!(!avoided.holds(start, Flow { transport: Transport::Tcp, ..flow(1) }));
    }

    #[test]
    fn a_stream_that_was_switched_to_in_vain_is_avoided_for_longer() {
        let start = Instant::now();
        let mut avoided = Avoided::default();
        let stream = Flow { transport: Transport::Tcp, ..flow(1) };
        avoided.add_stream(start, stream);
        assert!(avoided.holds(start + NO_STREAM_FOR - Duration::from_millis(1), stream));
        assert!(!avoided.holds(start + NO_STREAM_FOR, stream));
        avoided.add_stream(start, stream);
        avoided.forget();
        assert!(!avoided.holds(start, stream));
    }

    #[test]
    fn not_more_than_a_few_are_remembered() {
        let start = Instant::now();
        let mut avoided = Avoided::default();
        (0..=MAX_AVOIDED as u16).for_each(|number| avoided.add(start, flow(number)));
        assert_eq!(avoided.list.len(), MAX_AVOIDED);
        assert!(!avoided.holds(start, flow(0)) && avoided.holds(start, flow(1)));
    }
}
