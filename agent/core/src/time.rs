//! The moment, as an argument.
//!
//! Nothing in this crate reads a clock. Durations are measured on the boot clock, which never
//! goes back while the machine runs; the wall clock is for people, for time zones and for what
//! has to survive a reboot.

use std::time::Duration;

/// One moment on both clocks of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Now {
    /// Nanoseconds since boot, sleep included (`CLOCK_BOOTTIME`). Never goes back within a boot.
    pub boot_ns: u64,
    /// Milliseconds since 1970-01-01 UTC. May jump in both directions.
    pub wall_ms: i64,
}

impl Now {
    /// Time that has passed since `earlier`, on the boot clock. Zero if `earlier` lies ahead,
    /// which happens only when the two are of different boots.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.boot_ns.saturating_sub(earlier.boot_ns))
    }

    /// This moment, moved on by `by` on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self { boot_ns: self.boot_ns.saturating_add(ns), wall_ms: self.wall_ms.saturating_add(ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_on_the_boot_clock_only() {
        let a = Now { boot_ns: 5_000_000_000, wall_ms: 1_000 };
        let b = Now { boot_ns: 7_500_000_000, wall_ms: 0 };
        assert_eq!(b.since(a), Duration::from_millis(2_500));
        assert_eq!(a.since(b), Duration::ZERO);
        assert_eq!(a.plus(Duration::from_secs(1)), Now { boot_ns: 6_000_000_000, wall_ms: 2_000 });
    }
}
