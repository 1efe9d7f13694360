//! The clock: the only place of the collector that reads one.

use std::time::{SystemTime, UNIX_EPOCH};

use mainstay_core::time::Now;

/// This moment, on both clocks of the machine.
#[must_use]
pub fn now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(boot.tv_nsec).unwrap_or(0);
    Now { boot_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanos), wall_ms: wall_ms() }
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
