//! When a request is sent again, and when it is given up (RFC 8489 section 6.2.1). It knows no server.

use std::time::{Duration, Instant};

/// RTO: how long the first answer is waited for.
const RTO: Duration = Duration::from_millis(500);
/// Rc: most requests that are sent.
const MOST_REQUESTS: u32 = 7;
/// Rm: how many RTO the last answer is waited for.
const LAST_WAIT: u32 = 16;

/// How patient a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    requests: u32,
    last_wait: Duration,
}

impl Patience {
    /// As the RFC has it: 39.5 s.
    pub(super) const FULL: Self = Self { requests: MOST_REQUESTS, last_wait: RTO.saturating_mul(LAST_WAIT) };
    /// Where silence is an answer too, and the server is known to be there: 5.5 s, and it is silence only when four
    /// requests or their answers are lost.
    pub(super) const SHORT: Self = Self { requests: 4, last_wait: RTO.saturating_mul(4) };
}

/// What a transaction wants when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The request is to be sent once more.
    Again,
    /// Nobody has answered.
    Over,
}

/// The clock of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retransmission {
    patience: Patience,
    sent: u32,
    last: Instant,
    next: Instant,
    interval: Duration,
}

impl Retransmission {
    /// A request that is sent for the first time now.
    pub(super) fn begin(now: Instant, patience: Patience) -> Self {
        Self { patience, sent: 1, last: now, next: now + RTO, interval: RTO }
    }

    /// When [`Retransmission::due`] wants to be asked.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// What is to be done by now, if anything.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if now < self.next {
            return None;
        }
        if self.sent >= self.patience.requests {
            return Some(Due::Over);
        }
        self.sent += 1;
        self.last = now;
        self.interval = self.interval.saturating_mul(2);
        let wait = if self.sent == self.patience.requests { self.patience.last_wait } else { self.interval };
        self.next = now + wait;
        Some(Due::Again)
    }

    /// The round trip that ends now; `None` where the answer may be to one of several requests (RFC 6298 section 3).
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        (self.sent == 1).then(|| now.saturating_duration_since(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times in milliseconds at which requests are sent, and at which they are given up.
    fn times(patience: Patience) -> Vec<u128> {
        let start = Instant::now();
        let mut transaction = Retransmission::begin(start, patience);
        let mut times = vec![0];
        loop {
            let now = transaction.next();
            times.push(now.duration_since(start).as_millis());
            assert_eq!(transaction.due(now - Duration::from_millis(1)), None);
            if transaction.due(now) == Some(Due::Over) {
                return times;
            }
        }
    }

    #[test]
    fn requests_are_repeated_at_the_times_of_rfc_8489() {
        assert_eq!(times(Patience::FULL), [0, 500, 1500, 3500, 7500, 15500, 31500, 39500]);
        assert_eq!(times(Patience::SHORT), [0, 500, 1500, 3500, 5500]);
    }

    #[test]
    fn only_an_answer_to_the_only_request_tells_the_round_trip() {
        let start = Instant::now();
        let mut transaction = Retransmission::begin(start, Patience::FULL);
        let soon = start + Duration::from_millis(30);
        assert_eq!(transaction.round_trip(soon), Some(Duration::from_millis(30)));
        transaction.due(transaction.next());
        assert_eq!(transaction.round_trip(start + Duration::from_millis(600)), None);
    }
}
