//! How long to wait before the next attempt: exponential up to a cap, then full jitter over it.
//!
//! The jitter comes after the cap: were it before, a fleet that has waited for long would come
//! back all at once (fleet#53357). What the server asks for is waited out first, and the jitter
//! added to it, for the same reason.

use std::time::Duration;

use mainstay_core::id::IdSource;

/// The ceiling of the first wait; it doubles with each attempt.
const FIRST: Duration = Duration::from_secs(1);
/// The highest ceiling.
pub(crate) const CEILING_MAX: Duration = Duration::from_secs(120);
/// Longest that a server may make us wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Counts attempts and draws waits.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    random: IdSource,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { attempts: 0, random: IdSource::new(seed) }
    }

    /// The connection works: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The wait before the next attempt.
    pub(crate) fn next(&mut self, retry_after: Duration) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(16)).min(CEILING_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let ceiling_us = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        retry_after.min(RETRY_AFTER_MAX) + Duration::from_micros(self.random.next_u64() % (ceiling_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let draw = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..20).map(|_| backoff.next(Duration::ZERO)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_fleet_that_has_waited_for_long_comes_back_spread_over_the_whole_cap() {
        let mut tenths = [0; 10];
        for seed in 0..10_000 {
            let mut backoff = Backoff::new(seed);
            for _ in 0..12 {
                backoff.next(Duration::ZERO);
            }
            let wait = backoff.next(Duration::ZERO);
            assert!(wait <= CEILING_MAX);
            tenths[usize::try_from(wait.as_millis() * 10 / (CEILING_MAX.as_millis() + 1)).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn the_server_s_wish_is_waited_out_and_spread() {
        let mut backoff = Backoff::new(3);
        let waits: Vec<_> = (0..50).map(|_| backoff.next(Duration::from_secs(30))).collect();
        assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(30)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(60)), "spread beyond it");
        assert!(backoff.next(Duration::MAX) <= RETRY_AFTER_MAX + CEILING_MAX, "and within reason");
    }

    #[test]
    fn after_a_connection_that_worked_the_wait_is_short_again() {
        let mut backoff = Backoff::new(3);
        for _ in 0..12 {
            backoff.next(Duration::ZERO);
        }
        backoff.reset();
        assert!(backoff.next(Duration::ZERO) <= FIRST);
    }
}
