//! `log.pattern`: a unit writes errors of a kind that it has not written before.
//!
//! In: new patterns ([`crate::log::LogReading::novel`]), told once each. The finding stands for a while and names them.
//! It is worth knowing, no more: nothing follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::{Millis, millis};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::said;
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::subject::UnitName;

/// How long it stands after the last new pattern.
const OVER_AFTER: Duration = Duration::from_secs(900);

/// Most units with something new at once.
const UNITS_MAX: usize = 32;

/// Patterns that are named.
const PATTERNS_MAX: usize = 3;

/// What is new, by unit.
#[derive(Debug, Default)]
pub(crate) struct LogPattern {
    novel: BTreeMap<UnitName, Novel>,
}

#[derive(Debug, Default)]
struct Novel {
    last: Millis,
    patterns: Vec<String>,
    more: usize,
}

impl LogPattern {
    /// Judges units with something new.
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let Some(log) = &sample.log else {
            round.judge_rest(FindingKind::LogPattern, &Verdict::Unknown);
            return;
        };
        for (name, pattern) in &log.novel {
            if self.novel.contains_key(name) || self.novel.len() < UNITS_MAX {
                let novel = self.novel.entry(name.clone()).or_default();
                novel.last = round.t;
                if novel.patterns.len() < PATTERNS_MAX {
                    novel.patterns.push(format!("new: {} (e.g. {})", pattern.template, pattern.example));
                } else {
                    novel.more += 1;
                }
            }
        }
        self.novel.retain(|_, novel| round.t.saturating_sub(novel.last) < millis(OVER_AFTER));
        for (name, novel) in &self.novel {
            let mut evidence: Vec<_> = novel.patterns.iter().cloned().map(said).collect();
            if novel.more > 0 {
                evidence.push(said(format!("and {} more", novel.more)));
            }
            let case = Case { severity: Severity::Info, confidence: 0.8, evidence, raise_after: Duration::ZERO };
            round.judge(FindingKind::LogPattern, SubjectRef::Unit(name), Verdict::Holds(case));
        }
        round.judge_rest(FindingKind::LogPattern, &Verdict::Over);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::log::{LogReading, Pattern};
    use crate::time::Now;

    #[test]
    fn a_new_pattern_stands_for_a_quarter_of_an_hour() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..1_000u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let pattern = Pattern { template: "lost <*>".into(), recent: 3, example: "lost db".into() };
            let novel = if second == 10 { vec![("app.service".parse().unwrap(), pattern)] } else { Vec::new() };
            let log = Some(Arc::new(LogReading { novel, ..LogReading::default() }));
            let events = detectors.observe_sample(&Sample { at: now, log, ..Sample::default() }, now);
            for event in events.into_iter().filter(|event| event.finding.kind == FindingKind::LogPattern) {
                assert_eq!(event.finding.evidence[0].text, "new: lost <*> (e.g. lost db)");
                seen.push((second, event.finding.kind, event.change));
            }
        }
        let kind = FindingKind::LogPattern;
        assert_eq!(seen, [(10, kind, Change::Opened), (910, kind, Change::Cleared)]);
    }
}
