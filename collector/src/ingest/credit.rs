//! Credit: how many bytes an agent may have on its way, by how long its last ones took to become durable.
//!
//! A disk that is slow makes everybody's credit small, so that agents keep in their spools what would otherwise wait in the
//! memory of this machine; and so do many agents, who all bring an hour at once after a break. One push may always be under
//! way, so none stands still.

use std::time::Duration;

/// The most of one agent, on a disk that keeps up.
const CREDIT_MAX: u32 = 4 * 1024 * 1024;
/// The least: one push at a time.
const CREDIT_MIN: u32 = 1024;
/// The most of all agents together, as far as it is more than one push of each.
const ALL_MAX: usize = 64 * 1024 * 1024;
/// What is durable within this was prompt.
const PROMPT_MS: u64 = 250;

/// What an agent may have on its way after a push that took so long, where so many agents are there.
#[must_use]
pub fn credit(took: Duration, agents: usize) -> u32 {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(PROMPT_MS);
    let by_time = u64::from(CREDIT_MAX) * PROMPT_MS / took_ms;
    // By powers of two: an acknowledgement that says the same as the one before says less.
    let share = (ALL_MAX / agents.max(1)).checked_ilog2().map_or(0, |bits| 1_u64 << bits);
    u32::try_from(by_time.min(share)).unwrap_or(CREDIT_MAX).clamp(CREDIT_MIN, CREDIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_shrinks_with_the_time_that_a_push_takes_and_never_to_nothing() {
        let credits = [0, 249, 250, 500, 1_000, 10_000, 3_600_000].map(|ms| credit(Duration::from_millis(ms), 1));
        assert_eq!(credits[..4], [CREDIT_MAX, CREDIT_MAX, CREDIT_MAX, CREDIT_MAX / 2]);
        assert!(credits.is_sorted_by(|a, b| a >= b), "{credits:?}");
        assert_eq!((credits[6], credit(Duration::MAX, 0)), (CREDIT_MIN, CREDIT_MIN));
    }

    #[test]
    fn all_agents_together_are_given_no_more_than_this_machine_holds() {
        assert_eq!(credit(Duration::ZERO, ALL_MAX / CREDIT_MAX as usize), CREDIT_MAX);
        for agents in [17, 100, 9_999, 10_000, 60_000] {
            let all = credit(Duration::ZERO, agents) as usize * agents;
            assert!(all <= ALL_MAX && all > ALL_MAX / 2, "{agents} agents have {all}");
        }
        assert_eq!(
            credit(Duration::ZERO, 10_000),
            credit(Duration::ZERO, 9_000),
            "it does not change with each that comes"
        );
        assert_eq!(credit(Duration::ZERO, usize::MAX), CREDIT_MIN);
    }
}
