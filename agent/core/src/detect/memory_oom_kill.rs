//! `memory.oom_kill`: the kernel killed processes for lack of memory.
//!
//! In: the host's counter of kills, and those of the units' cgroups. A kill is over at once, but
//! what it took away is not: the finding stands until none has happened for a while.

use std::time::Duration;

use super::clock::{Millis, millis};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, said};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::Signals;

/// So long after the last kill it is over. Whoever is paged finds it still open.
const OVER_AFTER: Duration = Duration::from_secs(600);

/// Units named in the evidence.
const UNITS_NAMED: usize = 5;

/// Remembers the kills of the stretch that is not over yet.
#[derive(Debug, Default)]
pub(crate) struct MemoryOomKill {
    last: Option<Millis>,
    kills: u64,
    units: Vec<String>,
}

impl MemoryOomKill {
    /// Judges the host.
    pub(crate) fn observe(&mut self, sample: &Sample, signals: &Signals<'_>, round: &mut Round<'_>) {
        let verdict = self.verdict(sample, signals, round.t);
        round.judge(FindingKind::MemoryOomKill, SubjectRef::Host, verdict);
    }

    fn verdict(&mut self, sample: &Sample, signals: &Signals<'_>, t: Millis) -> Verdict {
        if self.last.is_some_and(|last| t.saturating_sub(last) >= millis(OVER_AFTER)) {
            *self = Self::default();
        }
        let kills = signals.oom_kills.unwrap_or_default();
        if kills > 0 {
            self.last = Some(t);
            self.kills = self.kills.saturating_add(kills);
        }
        // The cgroup's own counter is read a few seconds later.
        for unit in signals.units.iter().filter(|unit| unit.oom_kills.is_some_and(|kills| kills > 0)) {
            let name = unit.unit.to_string();
            if self.last.is_some() && self.units.len() < UNITS_NAMED && !self.units.contains(&name) {
                self.units.push(name);
            }
        }
        if self.last.is_none() {
            return if sample.vm.is_some() { Verdict::Over } else { Verdict::Unknown };
        }
        let text = match self.kills {
            1 => "the kernel killed a process for lack of memory".to_owned(),
            kills => format!("the kernel killed {kills} processes for lack of memory"),
        };
        #[allow(clippy::cast_precision_loss)]
        let mut evidence = vec![measured(text, "oom_kills", self.kills as f64, Some(0.0))];
        if !self.units.is_empty() {
            evidence.push(said(format!("in {}", self.units.join(", "))));
        }
        Verdict::Holds(Case { severity: Severity::Critical, confidence: 0.99, evidence, raise_after: Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::VmCounters;
    use crate::time::Now;

    #[test]
    fn a_kill_is_found_at_once_and_stands_for_ten_minutes_after_the_last() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..900u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let oom_kill = 7 + u64::from(second >= 10) + 2 * u64::from(second >= 100);
            let vm = Some(VmCounters { oom_kill, ..VmCounters::default() });
            let events = detectors.observe_sample(&Sample { at: now, vm, ..Sample::default() }, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::MemoryOomKill);
            seen.extend(own.map(|event| (second, event.change)));
            if second == 200 {
                let finding = detectors.open_findings().next().unwrap();
                assert!(finding.evidence[0].text.contains("killed 3 processes"), "{finding:?}");
            }
        }
        assert_eq!(seen, [(10, Change::Opened), (700, Change::Cleared)]);
    }
}
