//! The clocks of the host. Nothing else in Mainstay's agent reads one.

use mainstay_core::time::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    let wall = clock_gettime(ClockId::Realtime);
    Now { boot_ns: nanos(clock_gettime(ClockId::Boottime)), wall_ms: wall.tv_sec * 1_000 + wall.tv_nsec / 1_000_000 }
}

/// CPU time that this process has used.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    std::time::Duration::from_nanos(nanos(used)).as_secs_f64()
}

/// The boot clock never goes below zero.
fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_does_not_go_back_and_the_wall_clock_is_past_2020() {
        let first = now();
        let second = now();
        assert!(second.boot_ns >= first.boot_ns && first.boot_ns > 0);
        assert!(first.wall_ms > 1_577_836_800_000);
    }
}
