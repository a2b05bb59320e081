//! The endpoint's random values: branches, tags, Call-IDs, nonces and jitter, all from one seed.
//!
//! Tags and branches must not be guessable (RFC 3261 section 19.3), so the generator is a cipher.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// 32 characters that need no escape in any part of a message and survive peers that ignore case.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

pub(crate) struct Random(ChaCha12Rng);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// `length` characters of five bits each.
    pub(crate) fn token(&mut self, length: usize) -> String {
        let mut bits = 0_u64;
        (0..length)
            .map(|position| {
                if position % 12 == 0 {
                    bits = self.0.next_u64();
                }
                let index = (bits & 31) as usize;
                bits >>= 5;
                char::from(*ALPHABET.get(index).unwrap_or(&b'a'))
            })
            .collect()
    }

    /// Twelve bytes: a STUN transaction (RFC 8489 section 5).
    pub(crate) fn bytes(&mut self) -> [u8; 12] {
        let mut bytes = [0; 12];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A branch with the magic cookie (RFC 3261 section 8.1.1.7).
    pub(crate) fn branch(&mut self) -> String {
        let mut branch = String::from("z9hG4bK");
        branch.push_str(&self.token(16));
        branch
    }

    /// 60 bits, where RFC 3261 section 19.3 asks for 32.
    pub(crate) fn tag(&mut self) -> String {
        self.token(12)
    }

    pub(crate) fn call_id(&mut self) -> String {
        self.token(24)
    }

    /// The RSeq of the first reliable provisional response: 1 to 2^31 - 1 (RFC 3262 section 3).
    pub(crate) fn rseq(&mut self) -> u32 {
        (self.0.next_u32() >> 1).max(1)
    }

    /// A whole number of milliseconds in `from..=to`.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_millis() as u64;
        from + Duration::from_millis(self.0.next_u64() % (span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_tokens_do_not_repeat() {
        let mut one = Random::new([7; 32]);
        let mut two = Random::new([7; 32]);
        let tokens: Vec<_> = (0..100).map(|_| one.token(30)).collect();
        assert_eq!(tokens, (0..100).map(|_| two.token(30)).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), tokens.len());
        assert!(tokens.iter().all(|token| token.len() == 30));
    }

    #[test]
    fn between_stays_between() {
        let mut random = Random::new([1; 32]);
        let (from, to) = (Duration::from_millis(2100), Duration::from_secs(4));
        assert!((0..1000).map(|_| random.between(from, to)).all(|d| from <= d && d <= to));
        assert_eq!(random.between(to, to), to);
    }
}
