//! How often a verb was carried out in the last hour, against root's number.
//!
//! Counted over the journal, so that neither an idle exit nor a crash sets it back. Within a boot the boot clock counts;
//! what began in another boot, or lies ahead on the wall clock, counts as recent: the longer wait is taken.

use mainstay_core::verb::{Refusal, RefusalReason};

use crate::journal::Stamp;

const HOUR_MS: i64 = 3_600_000;
const HOUR_NS: u64 = 3_600_000_000_000;

/// Whether one more action may begin.
///
/// # Errors
/// [`RefusalReason::RateLimited`], with both numbers.
pub fn check(verb: &str, begun: impl Iterator<Item = Stamp>, per_hour: u32, now: Stamp) -> Result<(), Refusal> {
    let recent = begun.filter(|at| is_recent(*at, now)).count();
    if recent < usize::try_from(per_hour).unwrap_or(usize::MAX) {
        return Ok(());
    }
    let text = format!("{recent} {verb} in the last hour, and actuator.toml allows {per_hour}");
    Err(Refusal { reason: RefusalReason::RateLimited, text })
}

fn is_recent(at: Stamp, now: Stamp) -> bool {
    if at.boot == now.boot {
        return now.boot_ns.saturating_sub(at.boot_ns) < HOUR_NS;
    }
    now.wall_ms.saturating_sub(at.wall_ms) < HOUR_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u8, minutes: i64) -> Stamp {
        let boot_ns = u64::try_from(minutes.max(0)).unwrap() * 60_000_000_000;
        Stamp { boot: [boot; 16], boot_ns, wall_ms: minutes * 60_000 }
    }

    fn allowed(begun: &[Stamp], now: Stamp) -> bool {
        check("unit.restart", begun.iter().copied(), 2, now).is_ok()
    }

    #[test]
    fn holds_when_the_hour_is_used_up_and_lets_go_after_it() {
        let begun = [at(1, 0), at(1, 30)];
        assert!(!allowed(&begun, at(1, 59)));
        assert!(allowed(&begun, at(1, 61)));
    }

    #[test]
    fn a_jump_of_the_wall_clock_within_a_boot_changes_nothing() {
        let begun = [at(1, 0), at(1, 30)];
        assert!(!allowed(&begun, Stamp { wall_ms: i64::MAX, ..at(1, 31) }));
        assert!(!allowed(&begun, Stamp { wall_ms: -5, ..at(1, 31) }));
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_and_the_future_is_recent() {
        let begun = [at(1, 100), at(1, 130)];
        assert!(!allowed(&begun, at(2, 131)));
        assert!(!allowed(&begun, at(2, 10)));
        assert!(allowed(&begun, at(2, 161)));
    }

    #[test]
    fn zero_forbids() {
        assert!(check("unit.stop", std::iter::empty(), 0, at(1, 0)).is_err());
    }
}
