//! Consent (RFC 7675): whether the peer still wants our packets on a pair.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use stun_proto::types::message::TransactionId;

/// Between two questions, times 0.8 to 1.2 (section 5.1).
const INTERVAL: Duration = Duration::from_secs(5);
/// Without an answer for this long, consent is gone (section 5.1).
const LIFETIME: Duration = Duration::from_secs(30);
/// Questions that may still be answered.
const OPEN: usize = 8;

/// What the time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask.
    Ask,
    /// The peer has not answered for too long.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Consent {
    next: Instant,
    expires: Instant,
    open: VecDeque<TransactionId>,
}

impl Consent {
    /// Given by the check that has just succeeded.
    pub(crate) fn new(now: Instant, rng: &mut ChaCha8Rng) -> Self {
        Consent { next: now + pause(rng), expires: now + LIFETIME, open: VecDeque::new() }
    }

    pub(crate) fn due(&self, now: Instant) -> Option<Due> {
        if self.expires <= now {
            Some(Due::Lost)
        } else if self.next <= now {
            Some(Due::Ask)
        } else {
            None
        }
    }

    /// The next question is due now.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.next = now;
    }

    /// A question goes out. Each is a transaction of its own and is not repeated (section 5.1).
    pub(crate) fn asked(&mut self, now: Instant, id: TransactionId, rng: &mut ChaCha8Rng) {
        self.next = now + pause(rng);
        if self.open.len() >= OPEN {
            self.open.pop_front();
        }
        self.open.push_back(id);
    }

    pub(crate) fn is_ours(&self, id: TransactionId) -> bool {
        self.open.contains(&id)
    }

    /// The peer has answered, with a success response signed by its password.
    pub(crate) fn given(&mut self, now: Instant, id: TransactionId) {
        self.open.retain(|open| *open != id);
        self.expires = now + LIFETIME;
    }

    pub(crate) fn wake(&self) -> Instant {
        self.next.min(self.expires)
    }
}

fn pause(rng: &mut ChaCha8Rng) -> Duration {
    let thousandths = 800 + rng.next_u32() % 401;
    INTERVAL * thousandths / 1000
}
