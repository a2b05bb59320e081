//! Letters that nobody guesses.

/// Letters that a device draws to make its password of an invitation.
const SALT_LENGTH: usize = 16;

/// What they are drawn from.
pub(super) struct Salts(rand_chacha::ChaCha12Rng);

impl Salts {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        use rand_chacha::rand_core::SeedableRng;
        Self(rand_chacha::ChaCha12Rng::from_seed(seed))
    }

    pub(super) fn seed(&mut self) -> [u8; 32] {
        use rand_chacha::rand_core::Rng;
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    pub(super) fn draw(&mut self) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let bytes = self.seed();
        bytes.iter().take(SALT_LENGTH).map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
    }
}
