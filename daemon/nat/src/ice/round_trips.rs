//! How long the way to the peer and back takes on each pair: from the checks, and from questions of our own, so that of
//! several ways by relays the shortest for both ends can be nominated. Knows neither roles nor sockets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_proto::types::message::TransactionId;

/// Questions that may still be answered.
const OPEN: usize = 128;
/// Pairs of which something is known.
const PAIRS: usize = 64;
/// Questions of our own for a pair.
const PROBES: u32 = 3;
/// Between two questions for a pair: longer than what waits on a way that is worth nominating.
const PACE: Duration = Duration::from_millis(250);

/// Where from and where to.
pub(crate) type Pair = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Question {
    id: TransactionId,
    pair: Pair,
    at: Instant,
    /// It was sent again: nobody knows which one is answered (Karn's rule).
    repeated: bool,
    own: bool,
}

#[derive(Debug)]
struct Measured {
    pair: Pair,
    /// The shortest: whatever is above it is queues.
    shortest: Option<Duration>,
    probes: u32,
    next: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    open: VecDeque<Question>,
    known: Vec<Measured>,
}

impl RoundTrips {
    /// A request leaves; `own`: it asks for nothing but the time.
    pub(crate) fn sent(&mut self, now: Instant, pair: Pair, id: TransactionId, own: bool) {
        if let Some(question) = self.open.iter_mut().find(|question| question.id == id) {
            question.repeated = true;
            return;
        }
        if self.open.len() >= OPEN {
            self.open.pop_front();
        }
        self.open.push_back(Question { id, pair, at: now, repeated: false, own });
    }

    /// An answer of the peer came on a pair. `true`: to a question of our own, which is nobody else's affair.
    pub(crate) fn answered(&mut self, now: Instant, pair: Pair, id: TransactionId) -> bool {
        let Some(place) = self.open.iter().position(|question| question.id == id) else { return false };
        let Some(question) = self.open.remove(place) else { return false };
        if question.pair == pair && !question.repeated {
            let took = now.saturating_duration_since(question.at);
            if let Some(measured) = self.entry(now, pair) {
                measured.shortest = Some(measured.shortest.map_or(took, |shortest| shortest.min(took)));
            }
        }
        question.own
    }

    fn entry(&mut self, now: Instant, pair: Pair) -> Option<&mut Measured> {
        if !self.known.iter().any(|known| known.pair == pair) {
            if self.known.len() >= PAIRS {
                return None;
            }
            self.known.push(Measured { pair, shortest: None, probes: 0, next: now });
        }
        self.known.iter_mut().find(|known| known.pair == pair)
    }

    /// What is known of a pair.
    pub(crate) fn of(&self, pair: Pair) -> Option<Duration> {
        self.known.iter().find(|known| known.pair == pair)?.shortest
    }

    /// Asks on a pair as well, a few times.
    pub(crate) fn watch(&mut self, now: Instant, pair: Pair) {
        self.entry(now, pair);
    }

    /// A pair on which a question is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Pair> {
        let measured = self.known.iter_mut().find(|known| known.probes < PROBES && known.next <= now)?;
        measured.probes += 1;
        measured.next = now + PACE;
        Some(measured.pair)
    }

    /// When the next question is due.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.known.iter().filter(|known| known.probes < PROBES).map(|known| known.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(port: u16) -> Pair {
        (SocketAddr::from(([192, 0, 2, 1], port)), SocketAddr::from(([192, 0, 2, 2], port)))
    }

    #[test]
    fn the_shortest_counts_and_what_was_sent_twice_does_not() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut trips = RoundTrips::default();
        trips.sent(start, pair(1), 1.into(), false);
        trips.sent(after(500), pair(1), 1.into(), false);
        assert!(!trips.answered(after(510), pair(1), 1.into()));
        assert_eq!(trips.of(pair(1)), None);
        for (id, sent, came) in [(2_u128, 600, 700), (3, 800, 830), (4, 900, 990)] {
            trips.sent(after(sent), pair(1), id.into(), true);
            assert!(trips.answered(after(came), pair(1), id.into()));
        }
        assert_eq!(trips.of(pair(1)), Some(Duration::from_millis(30)));
        // An answer that came another way says nothing of this one, and an answer counts once.
        trips.sent(after(1000), pair(1), 5.into(), true);
        assert!(trips.answered(after(1001), pair(2), 5.into()));
        assert!(!trips.answered(after(1001), pair(1), 5.into()));
        assert_eq!(trips.of(pair(1)), Some(Duration::from_millis(30)));
        assert_eq!(trips.of(pair(2)), None);
    }

    #[test]
    fn each_pair_is_asked_a_few_times_and_memory_is_bounded() {
        let start = Instant::now();
        let mut trips = RoundTrips::default();
        trips.watch(start, pair(1));
        let mut asked = 0;
        for ms in 0..5000 {
            while trips.due(start + Duration::from_millis(ms)).is_some() {
                asked += 1;
            }
        }
        assert_eq!((asked, trips.wake()), (PROBES, None));
        for port in 0..1000 {
            trips.watch(start, pair(port));
            trips.sent(start, pair(port), u128::from(port).into(), true);
        }
        assert_eq!((trips.known.len(), trips.open.len()), (PAIRS, OPEN));
    }
}
