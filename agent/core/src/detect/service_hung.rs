//! `service.hung`: a unit runs but its probe does not answer.
//!
//! In: the latest result of every probe and the unit that it speaks for. Out: a verdict per unit
//! that has a probe. Only failures since the last start of the unit count, so that a restart gives
//! it as many tries to answer as it had before. A unit that does not run is not hung.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::measured;
use crate::finding::{FindingKind, Severity};
use crate::sample::{ActiveState, Probe, Sample, Unit};
use crate::signal::PROBE_AGE_MAX;
use crate::subject::UnitName;

/// Most probes that are followed. The policy names them one by one; this many is a mistake.
const PROBES_MAX: usize = 1_024;

/// What is remembered of a probe.
#[derive(Debug, Default)]
struct Seen {
    invocation: Option<[u8; 16]>,
    /// Failures in a row that the invocation before has left behind.
    left_behind: u32,
}

/// Remembers for every probe which invocation its failures belong to.
#[derive(Debug, Default)]
pub(crate) struct ServiceHung {
    seen: BTreeMap<String, Seen>,
}

impl ServiceHung {
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::ServiceHung, &Verdict::Unknown);
            return;
        };
        self.seen.retain(|name, _| sample.probes.contains_key(name));
        // The probes of one unit speak together: the worst word counts.
        let mut verdicts: BTreeMap<&UnitName, Verdict> = BTreeMap::new();
        for (name, probe) in &sample.probes {
            let verdict = match units.get(&probe.unit) {
                Some(unit) => self.verdict(name, probe, unit, sample, round),
                None => Verdict::Over,
            };
            let worst = verdicts.entry(&probe.unit).or_insert(Verdict::Over);
            if rank(&verdict) > rank(worst) {
                *worst = verdict;
            }
        }
        for (unit, verdict) in verdicts {
            round.judge(FindingKind::ServiceHung, SubjectRef::Unit(unit), verdict);
        }
        round.judge_rest(FindingKind::ServiceHung, &Verdict::Over);
    }

    fn verdict(&mut self, name: &str, probe: &Probe, unit: &Unit, sample: &Sample, round: &Round<'_>) -> Verdict {
        match unit.active {
            ActiveState::Inactive | ActiveState::Failed => return Verdict::Over,
            ActiveState::Activating | ActiveState::Deactivating => return Verdict::Between,
            ActiveState::Active | ActiveState::Reloading => {}
        }
        let fails = self.fails_of_this_invocation(name, probe, unit);
        if round.now.since(probe.at) > PROBE_AGE_MAX {
            return Verdict::Unknown;
        }
        if probe.fails == 0 {
            return Verdict::Over;
        }
        let fails_max = probe.fails_max.max(1);
        if fails < fails_max {
            return Verdict::Between;
        }
        let text = format!("probe {name} failed {fails} times in a row: {}", probe.text);
        Verdict::Holds(Case {
            severity: Severity::Critical,
            // The more often it did not answer, the less it is the network or a hiccup. A busy
            // host makes slow answers of its own.
            confidence: match (fails >= fails_max.saturating_mul(2), is_starved(sample)) {
                (_, true) => 0.6,
                (true, false) => 0.97,
                (false, false) => 0.9,
            },
            evidence: vec![measured(text, "probe_fails", f64::from(fails), Some(f64::from(fails_max)))],
            raise_after: Duration::ZERO,
        })
    }

    fn fails_of_this_invocation(&mut self, name: &str, probe: &Probe, unit: &Unit) -> u32 {
        if !self.seen.contains_key(name) {
            if self.seen.len() >= PROBES_MAX {
                return probe.fails;
            }
            self.seen.insert(name.to_owned(), Seen { invocation: unit.invocation, left_behind: 0 });
        }
        let Some(seen) = self.seen.get_mut(name) else { return probe.fails };
        if seen.invocation != unit.invocation {
            seen.invocation = unit.invocation;
            seen.left_behind = probe.fails;
        } else if probe.fails < seen.left_behind {
            seen.left_behind = 0;
        }
        probe.fails - seen.left_behind
    }
}

fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Over => 0,
        Verdict::Unknown => 1,
        Verdict::Between => 2,
        Verdict::Holds(_) => 3,
    }
}

/// Whether the host stalls as a whole, so that no answer in time says little about one unit.
pub(super) fn is_starved(sample: &Sample) -> bool {
    let full = |p: Option<crate::sample::Pressure>| p.and_then(|p| p.full).map_or(0.0, |full| full.avg10_ratio);
    full(sample.pressure.memory) > 0.5 || full(sample.pressure.io) > 0.8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::time::Now;

    fn now(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }
    }

    /// A probe with that many failures, of a unit in that state and invocation.
    fn sample(second: u64, fails: u32, active: ActiveState, invocation: u8) -> Sample {
        let name: UnitName = "web.service".parse().unwrap();
        let unit = Unit { active, invocation: Some([invocation; 16]), ..Unit::default() };
        let probe = Probe {
            unit: name.clone(),
            at: now(second),
            fails,
            fails_max: 3,
            latency: Duration::from_secs(2),
            text: "no answer within 2 s".to_owned(),
        };
        Sample {
            at: now(second),
            units: Some(BTreeMap::from([(name, unit)])),
            probes: BTreeMap::from([("web".to_owned(), probe)]),
            ..Sample::default()
        }
    }

    fn run(samples: &[Sample]) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for sample in samples {
            let second = sample.at.boot_ns / 1_000_000_000;
            let mut events = detectors.observe_sample(sample, sample.at);
            events.retain(|event| event.finding.kind == FindingKind::ServiceHung);
            seen.extend(events.into_iter().map(|event| (second, event.change)));
        }
        seen
    }

    use ActiveState::{Active, Deactivating, Inactive};

    #[test]
    fn opens_when_the_probe_has_failed_often_enough() {
        let samples: Vec<_> = (0..5).map(|s| sample(s, u32::try_from(s).unwrap(), Active, 1)).collect();
        assert_eq!(run(&samples), [(3, Change::Opened)]);
    }

    #[test]
    fn a_unit_that_does_not_run_is_not_hung() {
        assert_eq!(run(&[sample(1, 9, Inactive, 1), sample(2, 10, Inactive, 1)]), []);
    }

    #[test]
    fn a_restart_gives_it_as_many_tries_again() {
        let samples = [
            sample(1, 3, Active, 1),
            sample(2, 3, Deactivating, 1),
            sample(3, 3, Active, 2),
            sample(4, 4, Active, 2),
            sample(5, 5, Active, 2),
            sample(6, 0, Active, 2),
            sample(7, 0, Active, 2),
            sample(8, 0, Active, 2),
            sample(9, 1, Active, 2),
        ];
        assert_eq!(run(&samples), [(1, Change::Opened), (8, Change::Cleared)]);
    }

    #[test]
    fn a_probe_that_is_no_longer_run_says_nothing() {
        let stale = |second| Sample { at: now(second), ..sample(1, 5, Active, 1) };
        assert_eq!(run(&[stale(400), stale(401)]), []);
        let samples: Vec<_> = (1..400).map(|s| Sample { at: now(s), ..sample(1, 5, Active, 1) }).collect();
        assert_eq!(run(&samples), [(1, Change::Opened), (331, Change::Unknown)]);
    }
}
