//! `task.leak`: a unit starts threads or processes and never ends them.
//!
//! In: the tasks of every unit, and what is left until its own limit (`pids.max`), or else until the
//! most that the machine can have. Out: verdicts of a [`LeakWatch`].

use std::fmt;

use super::leak_watch::{self, Reading, Resource};
use super::lifecycle::{Round, Verdict};
use super::settings::Settings;
use super::snapshot::Part;
use super::words::{count, float};
use crate::finding::FindingKind;
use crate::sample::{Cgroup, Sample};
use crate::subject::UnitName;

/// Threads and processes.
static TASKS: Resource = Resource {
    kind: FindingKind::TaskLeak,
    noun: "threads and processes",
    used_measure: "tasks_used_ratio",
    show: count,
    // A pool of threads for every CPU of a large machine is no leak.
    growth_min: 64.0,
    flat: 64.0,
    models_until: 0,
    within: |settings| settings.leak_within,
};

leak_watch::detector! {
    /// Histories by unit.
    TaskLeak: UnitName, TASKS, Part { tag: 9, versions: (1, 1), name: "task.leak" }
}

impl TaskLeak {
    pub(crate) fn observe(&mut self, sample: &Sample, settings: &Settings, round: &mut Round<'_>) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::TaskLeak, &Verdict::Unknown);
            return;
        };
        self.0.retain_among(units.keys());
        for (name, unit) in units {
            if let Some(cgroup) = &unit.cgroup {
                self.0.observe(name, unit.invocation, reading(cgroup, sample), settings, round);
            }
        }
        round.judge_rest(FindingKind::TaskLeak, &Verdict::Over);
    }
}

/// What the tasks run into.
enum Limit {
    /// The unit's own.
    Unit(u64),
    /// The machine's.
    Machine(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(limit) => write!(f, "its limit of {limit} (pids.max)"),
            Self::Machine(limit) => write!(f, "the machine's limit of {limit} (threads-max, pid_max)"),
        }
    }
}

/// What is used, and what is left until the nearer of the two limits.
fn reading(cgroup: &Cgroup, sample: &Sample) -> Option<Reading<Limit>> {
    let used = cgroup.tasks?;
    let unit = cgroup.tasks_max.map(|limit| (limit.saturating_sub(used), limit, Limit::Unit(limit)));
    let machine = sample.tasks_max.zip(sample.tasks());
    let machine = machine.map(|(limit, all)| (limit.saturating_sub(all), limit, Limit::Machine(limit)));
    let (left, of, limit) = unit.into_iter().chain(machine).min_by_key(|(left, ..)| *left)?;
    Some(Reading { used: float(used), left: float(left), of: float(of), limit })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::detect::leak_watch::check::{Shown, seen};
    use crate::sample::{ProcessCounts, Unit};

    /// Shows a unit; gives the hours at which findings changed, and the text of the first.
    fn run(hours: u64, limit: Option<u64>, tasks: impl Fn(f64) -> f64) -> (Vec<u64>, String) {
        let events = seen(FindingKind::TaskLeak, hours, |minute| {
            let tasks = tasks.shown(minute);
            let cgroup = Cgroup { tasks: Some(tasks), tasks_max: limit, ..Cgroup::default() };
            let unit = Unit { cgroup: Some(cgroup), ..Unit::default() };
            let threads = 300 + u32::try_from(tasks).unwrap();
            Sample {
                processes: Some(ProcessCounts { total: 200, threads, ..ProcessCounts::default() }),
                tasks_max: Some(32_768),
                units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
                ..Sample::default()
            }
        });
        let text = events.first().map_or(String::new(), |(_, event)| {
            event.finding.evidence.iter().map(|seen| seen.text.as_str()).collect::<Vec<_>>().join("; ")
        });
        (events.iter().map(|(hour, _)| *hour).collect(), text)
    }

    #[test]
    fn a_leak_of_threads_is_found_by_the_limit_of_the_unit() {
        // 45 an hour after two days: gone after 22 h.
        let (hours, text) = run(60, Some(1_000), |m| 20.0 + (m - 2_880.0).max(0.0) * 0.75);
        assert!(hours.first().is_some_and(|hour| (51..=54).contains(hour)), "{hours:?}");
        assert!(
            text.contains("threads and processes grew by") && text.contains("its limit of 1000 (pids.max)"),
            "{text}"
        );
        assert!(text.ends_with("on the 2 days before it hardly changed at these hours"), "{text}");
    }

    #[test]
    fn without_its_own_limit_the_machines_counts() {
        let (hours, text) = run(60, None, |m| 20.0 + (m - 2_880.0).max(0.0) * 20.0);
        assert!(!hours.is_empty() && text.contains("the machine's limit of 32768"), "{hours:?} {text}");
    }

    #[test]
    fn a_pool_of_threads_that_grows_with_the_day_is_no_leak() {
        let day = |m: f64| 200.0 + 150.0 * (m / 1_440.0 * std::f64::consts::TAU).sin();
        assert_eq!(run(120, Some(1_000), day).0, [0; 0]);
    }
}
