//! `fd.exhausted`, `task.exhausted`, `conntrack.exhausted`: the host or a unit runs out of what there
//! is only so much of.
//!
//! In: file handles, tasks and tracked connections of the host, and open files and tasks of every
//! unit, each with its maximum. Two windows judge the host: nine tenths for ten seconds, or eight
//! tenths for an hour. A unit that works close to its limit may be made so; nine tenths are said all
//! the same, since the next burst does not fit.

use std::time::Duration;

use super::burn::{Burn, either};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, percent};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;

/// Share of the maximum from which it is trouble, and under which it is over.
const OPEN_RATIO: f64 = 0.9;
const CLEAR_RATIO: f64 = 0.85;

/// Share over an hour that is trouble too: no room is left for the peak of the day.
const SLOW_RATIO: f64 = 0.8;

/// Share from which a unit has no room for ordinary work.
const UNIT_CRITICAL_RATIO: f64 = 0.97;

/// A burst of a few seconds passes.
const RAISE_AFTER: Duration = Duration::from_secs(10);

/// A resource with a maximum.
struct Level {
    kind: FindingKind,
    /// What of which a share is in use.
    noun: &'static str,
    measure: &'static str,
}

const HANDLES: Level =
    Level { kind: FindingKind::FdExhausted, noun: "all file handles of the machine", measure: "file_handles_ratio" };
const TASKS: Level = Level {
    kind: FindingKind::TaskExhausted,
    noun: "all threads and processes that the machine can have",
    measure: "tasks_used_ratio",
};
const CONNECTIONS: Level = Level {
    kind: FindingKind::ConntrackExhausted,
    noun: "all connections that netfilter can track",
    measure: "conntrack_used_ratio",
};
const UNIT_FDS: Level = Level {
    kind: FindingKind::FdExhausted,
    noun: "the files that one of its processes can open (RLIMIT_NOFILE)",
    measure: "fds_used_ratio",
};
const UNIT_TASKS: Level = Level {
    kind: FindingKind::TaskExhausted,
    noun: "the threads and processes that it can have (pids.max)",
    measure: "tasks_used_ratio",
};

/// The long windows of the host.
#[derive(Debug, Default)]
pub(crate) struct Exhausted {
    handles: Burn,
    tasks: Burn,
    connections: Burn,
}

impl Exhausted {
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let handles = sample.file_handles.and_then(|files| ratio(files.allocated, files.maximum));
        host(&HANDLES, handles, &mut self.handles, round);
        let tasks = sample.tasks().zip(sample.tasks_max);
        host(&TASKS, tasks.and_then(|(all, max)| ratio(all, max)), &mut self.tasks, round);
        let connections = sample.conntrack.and_then(|tracked| ratio(tracked.entries, tracked.limit));
        host(&CONNECTIONS, connections, &mut self.connections, round);
        for (name, unit) in sample.units.iter().flatten() {
            let Some(cgroup) = &unit.cgroup else { continue };
            for (level, used, max) in
                [(&UNIT_FDS, cgroup.fds, cgroup.fds_max), (&UNIT_TASKS, cgroup.tasks, cgroup.tasks_max)]
            {
                round.judge(level.kind, SubjectRef::Unit(name), of_unit(level, used, max));
            }
        }
        let rest = if sample.units.is_some() { Verdict::Over } else { Verdict::Unknown };
        for kind in [FindingKind::FdExhausted, FindingKind::TaskExhausted] {
            round.judge_rest(kind, &rest);
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn ratio(used: u64, max: u64) -> Option<f64> {
    (max > 0).then(|| used as f64 / max as f64)
}

fn host(level: &Level, ratio: Option<f64>, burn: &mut Burn, round: &mut Round<'_>) {
    let verdict = match ratio {
        None => Verdict::Unknown,
        Some(ratio) => {
            burn.add(round.t, ratio);
            let slow = burn.slow(SLOW_RATIO).map(|slow| {
                let text = format!("{} of {} were in use over the last hour", percent(slow.hour), level.noun);
                case(Severity::Warning, Duration::ZERO, text, level, slow.hour, SLOW_RATIO)
            });
            either(fast(level, ratio, Severity::Critical), slow)
        }
    };
    round.judge(level.kind, SubjectRef::Host, verdict);
}

fn of_unit(level: &Level, used: Option<u64>, max: Option<u64>) -> Verdict {
    let Some(used) = used else { return Verdict::Unknown };
    // Without a limit there is nothing to run out of.
    let Some(ratio) = max.and_then(|max| ratio(used, max)) else { return Verdict::Over };
    fast(level, ratio, if ratio >= UNIT_CRITICAL_RATIO { Severity::Critical } else { Severity::Warning })
}

fn fast(level: &Level, ratio: f64, severity: Severity) -> Verdict {
    if ratio < CLEAR_RATIO {
        return Verdict::Over;
    }
    if ratio < OPEN_RATIO {
        return Verdict::Between;
    }
    let text = format!("{} of {} are in use", percent(ratio), level.noun);
    Verdict::Holds(case(severity, RAISE_AFTER, text, level, ratio, OPEN_RATIO))
}

fn case(severity: Severity, raise_after: Duration, text: String, level: &Level, ratio: f64, limit: f64) -> Case {
    let evidence = vec![measured(text, level.measure, ratio, Some(limit))];
    Case { severity, confidence: 0.95, evidence, raise_after }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::{Cgroup, Conntrack, FileHandles, ProcessCounts, Unit};
    use crate::subject::Subject;
    use crate::time::Now;

    /// Shows a sample every so many seconds; gives when findings of the three kinds changed.
    fn run(seconds: u64, step: u64, sample: impl Fn(u64) -> Sample) -> Vec<(u64, FindingKind, Change, Subject)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in (0..seconds).step_by(usize::try_from(step).unwrap()) {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let mut events = detectors.observe_sample(&Sample { at: now, ..sample(second) }, now);
            // An empty sample is trouble of the agent's own.
            events.retain(|event| event.finding.kind != FindingKind::AgentDegraded);
            for event in events {
                seen.push((second, event.finding.kind, event.change, event.finding.subject));
            }
        }
        seen
    }

    #[test]
    fn opens_near_the_maximum_and_clears_with_distance() {
        let seen = run(200, 1, |second| {
            let allocated = match second {
                50..100 => 950,
                100..150 => 870,
                _ => 100,
            };
            Sample { file_handles: Some(FileHandles { allocated, maximum: 1_000 }), ..Sample::default() }
        });
        let kind = FindingKind::FdExhausted;
        assert_eq!(seen, [(60, kind, Change::Opened, Subject::Host), (180, kind, Change::Cleared, Subject::Host)]);
    }

    #[test]
    fn an_hour_at_eight_tenths_is_said_before_the_peak_comes() {
        let connections = |second| if second < 5_400 { 84_000 } else { 20_000 };
        let seen = run(7_200, 10, |second| Sample {
            conntrack: Some(Conntrack { entries: connections(second), limit: 100_000 }),
            ..Sample::default()
        });
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].1 == FindingKind::ConntrackExhausted && (2_800..3_700).contains(&seen[0].0), "{seen:?}");
        assert!(seen[1].2 == Change::Cleared && seen[1].0 < 5_800, "{seen:?}");
        let seen = run(7_200, 10, |second| Sample {
            conntrack: Some(Conntrack {
                entries: if second % 3_600 < 1_200 { 85_000 } else { 30_000 },
                limit: 100_000,
            }),
            ..Sample::default()
        });
        assert_eq!(seen, [], "a busy twenty minutes of the hour");
    }

    #[test]
    fn a_unit_at_its_own_limit_is_named_and_one_without_is_not() {
        let unit = |cgroup| Unit { cgroup: Some(cgroup), ..Unit::default() };
        let full =
            Cgroup { fds: Some(1_000), fds_max: Some(1_024), tasks: Some(50), tasks_max: None, ..Cgroup::default() };
        let threads = Cgroup { fds: Some(5), tasks: Some(95), tasks_max: Some(100), ..Cgroup::default() };
        let seen = run(60, 1, |_| Sample {
            processes: Some(ProcessCounts { total: 50, threads: 500, ..ProcessCounts::default() }),
            tasks_max: Some(32_768),
            units: Some(BTreeMap::from([
                ("db.service".parse().unwrap(), unit(full)),
                ("java.service".parse().unwrap(), unit(threads)),
            ])),
            ..Sample::default()
        });
        let unit = |name: &str| Subject::Unit(name.parse().unwrap());
        let opened = [
            (10, FindingKind::FdExhausted, Change::Opened, unit("db.service")),
            (10, FindingKind::TaskExhausted, Change::Opened, unit("java.service")),
        ];
        assert_eq!(seen, opened);
    }

    #[test]
    fn what_is_no_longer_counted_is_unknown_and_not_over() {
        let seen = run(120, 1, |second| {
            let counted = second < 20;
            let cgroup = Cgroup {
                fds: counted.then_some(1_000),
                fds_max: counted.then_some(1_024),
                tasks: counted.then_some(95),
                tasks_max: Some(100),
                ..Cgroup::default()
            };
            let unit = Unit { cgroup: Some(cgroup), ..Unit::default() };
            Sample { units: Some(BTreeMap::from([("db.service".parse().unwrap(), unit)])), ..Sample::default() }
        });
        let unit = || Subject::Unit("db.service".parse().unwrap());
        let both = |second, change| {
            [FindingKind::FdExhausted, FindingKind::TaskExhausted].map(|kind| (second, kind, change, unit()))
        };
        assert_eq!(seen, [both(10, Change::Opened), both(49, Change::Unknown)].concat());
    }

    #[test]
    fn the_kernels_own_count_stands_in_for_processes_that_were_not_looked_at() {
        let processes = |threads| Some(ProcessCounts { threads, ..ProcessCounts::default() });
        let seen = run(120, 1, |second| Sample {
            processes: if second < 30 { processes(950) } else { None },
            tasks: Some(951),
            tasks_max: Some(1_000),
            ..Sample::default()
        });
        assert_eq!(seen, [(10, FindingKind::TaskExhausted, Change::Opened, Subject::Host)]);
    }
}
