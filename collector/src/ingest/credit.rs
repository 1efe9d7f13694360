//! Credit: how many bytes an agent may have on its way, by how long its last ones took to become durable.
//!
//! A disk that is slow makes everybody's credit small, so that agents keep in their spools what would otherwise wait in the
//! memory of this machine. One push may always be under way, so it never stands still.

use std::time::Duration;

/// The most, on a disk that keeps up.
pub const CREDIT_MAX: u32 = 4 * 1024 * 1024;
/// The least, which is about one push.
const CREDIT_MIN: u32 = 64 * 1024;
/// What is durable within this was prompt.
const PROMPT_MS: u64 = 250;

/// What an agent may have on its way after a push that took so long.
#[must_use]
pub fn credit(took: Duration) -> u32 {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(PROMPT_MS);
    let share = u64::from(CREDIT_MAX) * PROMPT_MS / took_ms;
    u32::try_from(share).unwrap_or(CREDIT_MAX).max(CREDIT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_shrinks_with_the_time_that_a_push_takes_and_never_to_nothing() {
        let credits = [0, 249, 250, 500, 1_000, 10_000, 60_000].map(|ms| credit(Duration::from_millis(ms)));
        assert_eq!(credits[..4], [CREDIT_MAX, CREDIT_MAX, CREDIT_MAX, CREDIT_MAX / 2]);
        assert!(credits.is_sorted_by(|a, b| a >= b), "{credits:?}");
        assert_eq!((credits[6], credit(Duration::MAX)), (CREDIT_MIN, CREDIT_MIN));
    }
}
