//! Notices by a router's seconds-since-start that it has forgotten its mappings.

use std::time::Instant;

use super::Protocol;

/// What a router last said, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    said: u32,
    at: Instant,
}

impl Epoch {
    pub(super) fn new(said: u32, at: Instant) -> Self {
        Self { said, at }
    }

    /// Has it started over between this reading and the next one?
    pub(super) fn restarted(&self, protocol: Protocol, next: Epoch) -> bool {
        let ours = next.at.saturating_duration_since(self.at).as_secs();
        let (before, now) = (u64::from(self.said), u64::from(next.said));
        match protocol {
            // RFC 6886 section 3.6: its clock may be an eighth too slow, and two seconds off.
            Protocol::NatPmp => now + 2 < before + ours * 7 / 8,
            // RFC 6887 section 8.5: a sixteenth either way, and two seconds.
            Protocol::Pcp => {
                let theirs = now.saturating_sub(before);
                now + 1 < before || ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16
            }
            Protocol::Upnp => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_runs_on_is_no_restart() {
        let at = Instant::now();
        for protocol in [Protocol::NatPmp, Protocol::Pcp] {
            let before = Epoch::new(1000, at);
            for (passed, says) in [(0, 1000), (0, 999), (60, 1060), (60, 1057), (60, 1062), (1600, 2502)] {
                let next = Epoch::new(says, at + Duration::from_secs(passed));
                assert!(!before.restarted(protocol, next), "{protocol:?}: {says} after {passed} s");
            }
            for (passed, says) in [(60, 0), (60, 58), (0, 990), (2000, 1500)] {
                let next = Epoch::new(says, at + Duration::from_secs(passed));
                assert!(before.restarted(protocol, next), "{protocol:?}: {says} after {passed} s");
            }
        }
    }

    #[test]
    fn a_pcp_clock_that_jumps_ahead_is_a_restart() {
        let at = Instant::now();
        let next = Epoch::new(1200, at + Duration::from_secs(60));
        assert!(Epoch::new(1000, at).restarted(Protocol::Pcp, next));
    }
}
