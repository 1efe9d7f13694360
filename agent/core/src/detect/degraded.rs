//! `agent.degraded`: the agent itself does not work as it should.
//!
//! In: what the agent says of its parts ([`super::Detectors::set_degraded`]) and what is missing
//! in the samples for longer than a hiccup. Out: one finding about the host that lists all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::{Millis, millis};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::said;
use crate::finding::{Evidence, FindingKind, Severity};
use crate::sample::Sample;

/// A source that is silent for this long is worth a finding; systemd takes a while to answer
/// during a boot or a reload.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// The sources that every host has.
const SOURCES: [&str; 4] = ["systemd", "memory", "cpu", "filesystems"];

/// What is wrong with the agent now.
#[derive(Debug, Default)]
pub(crate) struct Degraded {
    parts: BTreeMap<&'static str, Vec<Evidence>>,
    /// By source, since when it has been silent.
    silent_since: [Option<Millis>; SOURCES.len()],
}

impl Degraded {
    /// Says what is wrong with a part, in as many lines as it takes; in none where it works.
    pub(crate) fn set(&mut self, part: &'static str, says: Vec<Evidence>, round: &mut Round<'_>) {
        if says.is_empty() {
            self.parts.remove(part);
        } else {
            self.parts.insert(part, says);
        }
        self.judge(round);
    }

    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let present =
            [sample.units.is_some(), sample.memory.is_some(), sample.cpu.is_some(), !sample.filesystems.is_empty()];
        for (since, present) in self.silent_since.iter_mut().zip(present) {
            *since = if present { None } else { since.or(Some(round.t)) };
        }
        self.judge(round);
    }

    fn judge(&self, round: &mut Round<'_>) {
        let is_silent = |since: &Option<Millis>| since.is_some_and(|since| round.t - since >= millis(SILENT_MAX));
        let silent = SOURCES.iter().zip(&self.silent_since).filter(|(_, since)| is_silent(since));
        let evidence: Vec<_> = (self.parts.values().flatten().cloned())
            .chain(silent.map(|(source, _)| said(format!("{source}: nothing could be read for a minute"))))
            .collect();
        let verdict = if evidence.is_empty() {
            Verdict::Over
        } else {
            Verdict::Holds(Case {
                severity: Severity::Warning,
                confidence: 0.99,
                evidence,
                raise_after: Duration::ZERO,
            })
        };
        round.judge(FindingKind::AgentDegraded, SubjectRef::Host, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::time::Now;

    fn now(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }
    }

    fn healthy() -> Sample {
        Sample {
            units: Some(BTreeMap::new()),
            memory: Some(crate::sample::Memory::default()),
            cpu: Some(crate::sample::CpuTimes::default()),
            filesystems: vec![crate::sample::Filesystem::default()],
            ..Sample::default()
        }
    }

    #[test]
    fn a_part_that_does_not_work_is_said_at_once_until_it_does() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let opened = detectors.set_degraded("ledger", Some("disk full".to_owned()), now(1));
        assert_eq!(opened[0].finding.evidence[0].text, "ledger: disk full");
        assert!(detectors.set_degraded("ledger", Some("disk full".to_owned()), now(2)).is_empty());
        assert!(detectors.set_degraded("ledger", None, now(3)).is_empty());
        let changes: Vec<_> = (4..20)
            .flat_map(|s| {
                detectors
                    .observe_sample(&Sample { at: now(s), ..healthy() }, now(s))
                    .into_iter()
                    .map(move |e| (s, e.change))
            })
            .collect();
        assert_eq!(changes, [(13, Change::Cleared)]);
    }

    #[test]
    fn a_source_that_stays_silent_is_said_after_a_minute() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut opened = Vec::new();
        for second in 0..100 {
            let sample = Sample { at: now(second), units: None, ..healthy() };
            let events = detectors.observe_sample(&sample, now(second));
            opened.extend(events.into_iter().map(|e| (second, e.finding.evidence[0].text.clone())));
        }
        assert_eq!(opened, [(60, "systemd: nothing could be read for a minute".to_owned())]);
    }
}
