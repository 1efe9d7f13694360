//! `fd.exhausted`: the machine is running out of file handles.
//!
//! In: handles in use and their maximum. Where systemd has raised the maximum to the most that
//! there is, this never opens.

use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, percent};
use crate::finding::{FindingKind, Severity};
use crate::signal::Signals;

/// Share of the maximum from which it is trouble, and under which it is over.
const OPEN_RATIO: f64 = 0.9;
const CLEAR_RATIO: f64 = 0.85;

/// A burst of a few seconds passes.
const RAISE_AFTER: Duration = Duration::from_secs(10);

/// Judges the host.
pub(crate) fn observe(signals: &Signals<'_>, round: &mut Round<'_>) {
    round.judge(FindingKind::FdExhausted, SubjectRef::Host, verdict(signals.file_handles_ratio));
}

fn verdict(ratio: Option<f64>) -> Verdict {
    let Some(ratio) = ratio else { return Verdict::Unknown };
    if ratio < CLEAR_RATIO {
        return Verdict::Over;
    }
    if ratio < OPEN_RATIO {
        return Verdict::Between;
    }
    let text = format!("{} of all file handles are in use", percent(ratio));
    Verdict::Holds(Case {
        severity: Severity::Critical,
        confidence: 0.95,
        evidence: vec![measured(text, "file_handles_ratio", ratio, Some(OPEN_RATIO))],
        raise_after: RAISE_AFTER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::{FileHandles, Sample};
    use crate::time::Now;

    #[test]
    fn opens_near_the_maximum_and_clears_with_distance() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..200u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let allocated = match second {
                50..100 => 950,
                100..150 => 870,
                _ => 100,
            };
            let file_handles = Some(FileHandles { allocated, maximum: 1_000 });
            let events = detectors.observe_sample(&Sample { at: now, file_handles, ..Sample::default() }, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::FdExhausted);
            seen.extend(own.map(|event| (second, event.change)));
        }
        assert_eq!(seen, [(60, Change::Opened), (180, Change::Cleared)]);
    }
}
