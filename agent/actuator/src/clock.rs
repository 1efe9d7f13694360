//! Reads the clocks. The only place that does.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::journal::Stamp;

/// This moment, on both clocks and with the boot it lies in.
#[must_use]
pub fn now() -> Stamp {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(boot.tv_nsec).unwrap_or(0);
    Stamp { boot: boot_id(), boot_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanos), wall_ms: wall_ms() }
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// The boot id; all zeros where it cannot be read, which then counts as one and the same boot.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().parse::<mainstay_core::id::BootId>().unwrap_or_default().0
}
