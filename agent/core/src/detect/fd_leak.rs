//! `fd.leak`: a process of a unit opens files or connections and never closes them.
//!
//! In: for every unit the open file descriptors of its process that has the most, and that process's
//! own limit, since that is what it runs into. Out: verdicts of a [`LeakWatch`].

use std::fmt;

use super::leak_watch::{self, Reading, Resource};
use super::lifecycle::{Round, Verdict};
use super::settings::Settings;
use super::snapshot::Part;
use super::words::{count, float};
use crate::finding::FindingKind;
use crate::sample::{Cgroup, Sample};
use crate::subject::UnitName;

/// File descriptors.
static FDS: Resource = Resource {
    kind: FindingKind::FdLeak,
    noun: "open file descriptors",
    used_measure: "fds_used_ratio",
    show: count,
    // What a program opens for its own logs, sockets and libraries.
    growth_min: 32.0,
    flat: 32.0,
    models_until: 0,
    within: |settings| settings.leak_within,
};

leak_watch::detector! {
    /// Histories by unit.
    FdLeak: UnitName, FDS, Part { tag: 8, versions: (1, 1), name: "fd.leak" }
}

impl FdLeak {
    pub(crate) fn observe(&mut self, sample: &Sample, settings: &Settings, round: &mut Round<'_>) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::FdLeak, &Verdict::Unknown);
            return;
        };
        self.0.retain_among(units.keys());
        for (name, unit) in units {
            if let Some(cgroup) = &unit.cgroup {
                self.0.observe(name, unit.invocation, reading(cgroup), settings, round);
            }
        }
        round.judge_rest(FindingKind::FdLeak, &Verdict::Over);
    }
}

/// The limit of a process.
struct Limit(u64);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its limit of {} (RLIMIT_NOFILE)", self.0)
    }
}

fn reading(cgroup: &Cgroup) -> Option<Reading<Limit>> {
    let (used, limit) = (cgroup.fds?, cgroup.fds_max?);
    Some(Reading { used: float(used), left: float(limit.saturating_sub(used)), of: float(limit), limit: Limit(limit) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::detect::leak_watch::check::{Shown, sawtooth, seen};
    use crate::detect::{Change, FindingEvent};
    use crate::sample::Unit;

    /// Shows a unit with a limit; `fds` tells its descriptors after so many minutes, `invocation` its start.
    fn run(
        hours: u64,
        limit: u64,
        fds: impl Fn(f64) -> f64,
        invocation: impl Fn(u64) -> u8,
    ) -> Vec<(u64, FindingEvent)> {
        seen(FindingKind::FdLeak, hours, |minute| {
            let cgroup = Cgroup { fds: Some(fds.shown(minute)), fds_max: Some(limit), ..Cgroup::default() };
            let unit = Unit { invocation: Some([invocation(minute); 16]), cgroup: Some(cgroup), ..Unit::default() };
            Sample { units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])), ..Sample::default() }
        })
    }

    fn changes(seen: &[(u64, FindingEvent)]) -> Vec<(u64, Change)> {
        seen.iter().map(|(hour, event)| (*hour, event.change)).collect()
    }

    #[test]
    fn a_steady_leak_is_found_in_hours_with_slope_limit_and_time_left() {
        // Two days the same; then 60 an hour on 100, limit 1024: gone after 15 h.
        let seen = run(54, 1_024, |m| 100.0 + (m - 2_880.0).max(0.0), |_| 0);
        assert_eq!(changes(&seen), [(51, Change::Opened)]);
        let evidence = &seen[0].1.finding.evidence;
        let text = &evidence[0].text;
        assert!(text.contains("an hour): its limit of 1024 (RLIMIT_NOFILE) in about 12 h"), "{text}");
        assert_eq!(evidence[1].measure.as_ref().unwrap().name, "fds_used_ratio");
    }

    #[test]
    fn a_leak_below_daily_load_is_found_with_half_of_the_time_left() {
        // Two days as always; then 25 an hour more: gone after 28 h.
        let load = |m: f64| 200.0 + 100.0 * (m / 1_440.0 * std::f64::consts::TAU).sin() + 20.0 * sawtooth(m);
        let seen = run(48 + 28, 1_024, |m| load(m) + (m - 2_880.0).max(0.0) * 25.0 / 60.0, |_| 0);
        let at = seen.first().map(|(hour, _)| *hour);
        assert!(at.is_some_and(|hour| (49..=62).contains(&hour)), "{at:?}");
    }

    #[test]
    fn a_pool_that_fills_and_stays_is_no_leak() {
        assert_eq!(run(72, 1_024, |m| 50.0 + 600.0 * (1.0 - (-m / 120.0).exp()), |_| 0), []);
        let late = |m: f64| 50.0 + ((m - 2_880.0).max(0.0) * 20.0).min(500.0);
        assert_eq!(run(72, 1_024, late, |_| 0), [], "nor one that fills in a straight line of half an hour");
    }

    #[test]
    fn daily_load_a_sawtooth_and_restarts_are_no_leak() {
        let day = |m: f64| 400.0 + 300.0 * (m / 1_440.0 * std::f64::consts::TAU).sin();
        assert_eq!(run(120, 1_024, day, |_| 0), []);
        assert_eq!(run(120, 1_024, |m| 600.0 * sawtooth(m), |_| 0), []);
        let morning = |m: f64| 400.0 - 300.0 * ((m + 120.0) / 1_440.0 * std::f64::consts::TAU).cos();
        assert_eq!(run(120, 1_024, morning, |_| 0), [], "started before the rise of the morning");
        assert_eq!(run(72, 1_024, |m| 100.0 + 2.0 * (m % 240.0), |m| u8::try_from(m / 240).unwrap()), []);
    }

    #[test]
    fn a_restart_clears_it() {
        // Restarted after six hours of a leak that was found after three to four.
        let seen = run(
            56,
            1_024,
            |m| 100.0 + (m - 2_880.0).clamp(0.0, 360.0) * f64::from(u8::from(m < 3_240.0)),
            |m| u8::from(m >= 3_240),
        );
        assert_eq!(changes(&seen), [(51, Change::Opened), (54, Change::Cleared)]);
    }

    #[test]
    fn without_a_limit_or_a_count_nothing_is_said() {
        let seen = seen(FindingKind::FdLeak, 24, |minute| {
            let cgroup = Cgroup { fds: Some(100 + minute), ..Cgroup::default() };
            let unit = Unit { cgroup: Some(cgroup), ..Unit::default() };
            Sample { units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])), ..Sample::default() }
        });
        assert_eq!(seen, []);
    }
}
