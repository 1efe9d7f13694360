//! `clock.unsynced`: nothing keeps the clock right.
//!
//! In: what the kernel says of its clock. A clock that drifts breaks certificates, logs and
//! clusters, slowly: it is worth a message, not a page.

use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, said};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;

/// After a start it takes a while until a time server is found, and a server may be away.
const RAISE_AFTER: Duration = Duration::from_secs(1_800);

/// Judges the host.
pub(crate) fn observe(sample: &Sample, round: &mut Round<'_>) {
    round.judge(FindingKind::ClockUnsynced, SubjectRef::Host, verdict(sample));
}

fn verdict(sample: &Sample) -> Verdict {
    let Some(clock) = sample.clock else { return Verdict::Unknown };
    if clock.synchronised {
        return Verdict::Over;
    }
    #[allow(clippy::cast_precision_loss)]
    let error = clock.max_error_us as f64 / 1e6;
    Verdict::Holds(Case {
        severity: Severity::Warning,
        confidence: 0.9,
        evidence: vec![
            said("no time server keeps the clock right".to_owned()),
            measured(format!("it may be wrong by {error:.1} s"), "clock_max_error_seconds", error, None),
        ],
        raise_after: RAISE_AFTER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::ClockSync;
    use crate::time::Now;

    #[test]
    fn a_clock_that_nobody_keeps_for_half_an_hour_is_found() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for tenth in 0..400u64 {
            let second = tenth * 10;
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let synchronised = !(100..110).contains(&second) && !(1_000..3_000).contains(&second);
            let clock = Some(ClockSync { synchronised, max_error_us: 16_000_000, offset_ns: 0 });
            let events = detectors.observe_sample(&Sample { at: now, clock, ..Sample::default() }, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::ClockUnsynced);
            seen.extend(own.map(|event| (second, event.change)));
        }
        assert_eq!(seen, [(2_800, Change::Opened), (3_030, Change::Cleared)]);
    }
}
