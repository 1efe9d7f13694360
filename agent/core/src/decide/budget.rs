//! The clock on which cooldowns and budgets are counted, and the times at which a rule acted.
//!
//! Only time that the host has provably been up is counted: the boot clock of this boot, plus what the records of earlier
//! boots prove. It never runs faster than true time and no step of the wall clock moves it, so a cooldown is never cut
//! short and a budget never exceeded; after a reboot the wait is the longer one, and a host that reboots every minute
//! does not get a fresh budget every minute.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::BootId;
use crate::policy::Budget;
use crate::time::Now;

/// Most times kept for one rule; a policy's budgets are bounded by the same number.
pub(crate) const TIMES_MAX: usize = 1_000;

/// A moment in proven uptime, in nanoseconds.
pub(super) type Proven = u64;

/// Counts the time that the host has provably been up since the book was begun.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ProvenClock {
    /// This boot, once it is known.
    pub(super) boot: Option<BootId>,
    /// Proven before this boot.
    pub(super) before_ns: u64,
    /// Boot time up to which this boot is proven.
    pub(super) seen_ns: u64,
}

impl ProvenClock {
    /// Learns which boot this is.
    pub(super) fn started(&mut self, boot: BootId, now: Now) {
        if self.boot != Some(boot) {
            self.before_ns = self.before_ns.saturating_add(self.seen_ns);
            self.boot = Some(boot);
            self.seen_ns = 0;
        }
        self.saw(now);
    }

    /// Learns that this boot lasts until now.
    pub(super) fn saw(&mut self, now: Now) {
        self.seen_ns = self.seen_ns.max(now.boot_ns);
    }

    /// This moment.
    pub(super) fn at(&self, now: Now) -> Proven {
        self.before_ns.saturating_add(now.boot_ns.max(self.seen_ns))
    }

    /// Time that has passed since a moment, at the least.
    pub(super) fn since(&self, moment: Proven, now: Now) -> Duration {
        Duration::from_nanos(self.at(now).saturating_sub(moment))
    }
}

/// When a rule acted, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Times(pub(super) VecDeque<Proven>);

impl Times {
    /// Notes that the rule acted.
    pub(super) fn push(&mut self, at: Proven) {
        if self.0.len() >= TIMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(at);
    }

    /// How often it acted within the last `per`.
    pub(super) fn within(&self, per: Duration, clock: &ProvenClock, now: Now) -> u32 {
        let recent = self.0.iter().rev().take_while(|at| clock.since(**at, now) < per).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// How long until it may act once more.
    pub(super) fn free_in(&self, budget: Budget, clock: &ProvenClock, now: Now) -> Duration {
        let count = budget.count as usize;
        // The budget is free again when the oldest of the last `count` actions leaves the window.
        let Some(oldest) = self.0.len().checked_sub(count).and_then(|at| self.0.get(at)) else { return Duration::ZERO };
        budget.per.saturating_sub(clock.since(*oldest, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { boot_ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    #[test]
    fn counts_only_what_is_proven_across_boots() {
        let mut clock = ProvenClock::default();
        clock.started(BootId([1; 16]), at(100));
        let acted = clock.at(at(100));
        clock.saw(at(160));
        assert_eq!(clock.since(acted, at(200)), Duration::from_secs(100));
        // The host goes down some time after 160 s and comes back: only the 60 s are proven.
        clock.started(BootId([2; 16]), at(5));
        assert_eq!(clock.since(acted, at(5)), Duration::from_secs(65));
        // A restart of the agent in the same boot changes nothing.
        clock.started(BootId([2; 16]), at(30));
        assert_eq!(clock.since(acted, at(30)), Duration::from_secs(90));
    }

    #[test]
    fn a_budget_is_free_when_the_oldest_action_leaves_the_window() {
        let mut clock = ProvenClock::default();
        clock.started(BootId([1; 16]), at(0));
        let mut times = Times::default();
        for second in [10, 20, 50] {
            times.push(clock.at(at(second)));
        }
        let budget = Budget { count: 2, per: Duration::from_secs(60) };
        assert_eq!(times.within(budget.per, &clock, at(75)), 2);
        assert_eq!(times.free_in(budget, &clock, at(75)), Duration::from_secs(5));
        assert_eq!(times.within(budget.per, &clock, at(80)), 1, "the moment itself is outside");
        assert_eq!(times.free_in(budget, &clock, at(80)), Duration::ZERO);
        assert_eq!(times.free_in(Budget { count: 9, ..budget }, &clock, at(51)), Duration::ZERO);
    }
}
