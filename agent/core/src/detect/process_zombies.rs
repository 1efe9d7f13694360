//! `process.zombies`: processes ended and nobody asks how.
//!
//! In: counts over all processes. A zombie holds an id and nothing else, so a few are no trouble;
//! hundreds that stay are a parent that does not work, and in the end no process can be made.

use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::measured;
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;

/// So many from which it is trouble, and under which it is over.
const OPEN_COUNT: u32 = 100;
const CLEAR_COUNT: u32 = 50;

/// A parent that is busy takes care of its children later.
const RAISE_AFTER: Duration = Duration::from_secs(300);

/// Judges the host.
pub(crate) fn observe(sample: &Sample, round: &mut Round<'_>) {
    round.judge(FindingKind::ProcessZombies, SubjectRef::Host, verdict(sample));
}

fn verdict(sample: &Sample) -> Verdict {
    let Some(processes) = sample.processes else { return Verdict::Unknown };
    if processes.zombies < CLEAR_COUNT {
        return Verdict::Over;
    }
    if processes.zombies < OPEN_COUNT {
        return Verdict::Between;
    }
    let text = format!("{} of {} processes are zombies", processes.zombies, processes.total);
    Verdict::Holds(Case {
        severity: Severity::Warning,
        confidence: 0.95,
        evidence: vec![measured(text, "zombies", f64::from(processes.zombies), Some(f64::from(OPEN_COUNT)))],
        raise_after: RAISE_AFTER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::ProcessCounts;
    use crate::time::Now;

    fn run(zombies: impl Fn(u64) -> u32) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..900 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let processes = Some(ProcessCounts { total: 500, zombies: zombies(second), ..ProcessCounts::default() });
            let events = detectors.observe_sample(&Sample { at: now, processes, ..Sample::default() }, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::ProcessZombies);
            seen.extend(own.map(|event| (second, event.change)));
        }
        seen
    }

    #[test]
    fn many_that_stay_are_found() {
        let seen = run(|second| if (100..600).contains(&second) { 150 } else { 1 });
        assert_eq!(seen, [(400, Change::Opened), (630, Change::Cleared)]);
    }

    #[test]
    fn a_few_and_a_burst_are_none() {
        assert_eq!(run(|_| 40), []);
        assert_eq!(run(|second| if second < 200 { 500 } else { 0 }), []);
    }
}
