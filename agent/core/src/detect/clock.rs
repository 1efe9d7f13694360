//! The detectors' own time: milliseconds that never go back.
//!
//! It goes on with the boot clock, and over a restart or a reboot with the wall clock, so that a
//! window of an hour stays one hour whatever happened in between.

use std::time::Duration;

use crate::time::Now;

/// Milliseconds of detector time. Only differences mean something.
pub(crate) type Millis = i64;

/// `duration` in milliseconds.
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Where detector time stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    t: Millis,
    last: Option<Now>,
}

impl Clock {
    /// Goes on at `now` from a clock that stood at `t` when it was `saved`. Which boot that was is
    /// not known, so the wall clock counts.
    pub(crate) fn resume(t: Millis, saved: Now, now: Now) -> Self {
        let passed = now.wall_ms.saturating_sub(saved.wall_ms).max(0);
        Self { t: t.saturating_add(passed), last: Some(now) }
    }

    /// Where it stands, and the moment of that.
    pub(crate) fn stands(self) -> (Millis, Now) {
        (self.t, self.last.unwrap_or_default())
    }

    /// Moves on to `now` and gives the detector time.
    pub(crate) fn advance(&mut self, now: Now) -> Millis {
        let passed = match self.last {
            Some(last) if now.boot_ns >= last.boot_ns => millis(now.since(last)),
            // Another boot: only the wall clock knows.
            Some(last) => now.wall_ms.saturating_sub(last.wall_ms).max(0),
            None => 0,
        };
        self.t = self.t.saturating_add(passed);
        self.last = Some(now);
        self.t
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_over_a_reboot_and_never_back() {
        let mut clock = Clock::default();
        let at = |boot_s: u64, wall_s: i64| Now { boot_ns: boot_s * 1_000_000_000, wall_ms: wall_s * 1_000 };
        assert_eq!(clock.advance(at(100, 5_000)), 0);
        assert_eq!(clock.advance(at(101, 4_000)), 1_000, "a wall clock set back does not count");
        assert_eq!(clock.advance(at(1, 4_060)), 61_000, "after a reboot the wall clock counts");
        assert_eq!(clock.advance(at(0, 10)), 61_000);
    }
}
