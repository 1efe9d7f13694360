//! The one source of chance in a simulation.

use mainstay_core::id::IdSource;

/// Draws from a seed; the same again from the same seed.
#[derive(Debug, Clone)]
pub struct Rng(IdSource);

impl Rng {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(IdSource::new(seed))
    }

    /// A seed from the name of a test, so that each test has a world of its own.
    #[must_use]
    pub fn seed_of(name: &str) -> u64 {
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `from` to below `to`; `from` if there is none.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        let draw = self.next_u64();
        from + if to > from { draw % (to - from) } else { 0 }
    }

    /// True once in `n` draws; never for 0.
    pub fn once_in(&mut self, n: u64) -> bool {
        let draw = self.next_u64();
        n > 0 && draw.is_multiple_of(n)
    }
}
