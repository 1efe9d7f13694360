//! `memory.leak`: the memory of a unit grows steadily towards its limit.
//!
//! In: memory of every unit that is no page cache, and what is left until the limit of the unit, or
//! else until the end of the machine's memory. Out: verdicts of a [`LeakWatch`].

use std::fmt;

use super::leak_watch::{self, Resource};
use super::lifecycle::{Round, Verdict};
use super::settings::Settings;
use super::snapshot::Part;
use super::words::{bytes, float};
use crate::finding::FindingKind;
use crate::sample::Sample;
use crate::signal::{Signals, UnitSignals};
use crate::subject::UnitName;

/// Memory, in bytes.
static MEMORY: Resource = Resource {
    kind: FindingKind::MemoryLeak,
    noun: "memory that is no cache",
    used_measure: "memory_used_ratio",
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    show: |amount| bytes(amount as u64),
    // The agent's own and other small programs may do as they like.
    growth_min: 16.0 * 1_048_576.0,
    flat: 0.0,
    models_until: 2,
    within: |settings| settings.memory_leak_within,
};

leak_watch::detector! {
    /// Histories by unit.
    MemoryLeak: UnitName, MEMORY, Part { tag: 6, versions: (2, 3), name: "memory.leak" }
}

impl MemoryLeak {
    pub(crate) fn observe(
        &mut self,
        sample: &Sample,
        signals: &Signals<'_>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::MemoryLeak, &Verdict::Unknown);
            return;
        };
        self.0.retain_among(units.keys());
        for unit in &signals.units {
            self.0.observe(unit.unit, unit.invocation, reading(unit, sample), settings, round);
        }
        round.judge_rest(FindingKind::MemoryLeak, &Verdict::Over);
    }
}

/// What the memory runs into.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// The unit's own, in bytes.
    Unit(u64),
    /// The machine's memory, in bytes.
    Machine(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(limit) => write!(f, "its limit of {}", bytes(*limit)),
            Self::Machine(total) => write!(f, "the end of the machine's memory of {}", bytes(*total)),
        }
    }
}

/// What is used, and what is left until the limit.
fn reading(unit: &UnitSignals<'_>, sample: &Sample) -> Option<leak_watch::Reading<Limit>> {
    // Page cache grows without harm and cannot be told apart.
    let used = unit.memory_bytes.filter(|_| !unit.memory_with_cache)?;
    let memory = sample.memory?;
    let (limit, of, left) = match unit.memory_max_bytes {
        Some(limit) if limit < memory.total_bytes => (Limit::Unit(limit), limit, limit.saturating_sub(used)),
        _ => (Limit::Machine(memory.total_bytes), memory.total_bytes, memory.available_bytes),
    };
    Some(leak_watch::Reading { used: float(used), left: float(left), of: float(of), limit })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Cgroup, Memory, Unit};
    use crate::time::Now;

    const MIB: f64 = 1_048_576.0;

    /// Shows a unit every ten seconds; `used_mib` tells its memory after so many minutes, `restarts`
    /// its invocation. Gives when, in hours, findings opened and cleared.
    fn run(
        hours: u64,
        limit_mib: Option<u64>,
        used_mib: impl Fn(f64) -> f64,
        invocation: impl Fn(u64) -> u8,
    ) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for tick in 0..hours * 360 {
            let minute = tick / 6;
            let now = Now { boot_ns: tick * 10_000_000_000, wall_ms: 0 };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let used = (used_mib(minute as f64) * MIB) as u64;
            let cgroup = Cgroup {
                memory_anon_bytes: Some(used),
                memory_current_bytes: Some(used * 2),
                memory_max_bytes: limit_mib.map(|mib| mib << 20),
                ..Cgroup::default()
            };
            let unit = Unit { invocation: Some([invocation(minute); 16]), cgroup: Some(cgroup), ..Unit::default() };
            let memory = Memory { total_bytes: 16 << 30, available_bytes: 8 << 30, ..Memory::default() };
            let sample = Sample {
                at: now,
                memory: Some(memory),
                units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
                ..Sample::default()
            };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|e| e.finding.kind == FindingKind::MemoryLeak && e.change != Change::Changed);
            seen.extend(events.into_iter().map(|event| (minute / 60, event.change)));
        }
        seen
    }

    /// A garbage collector's sawtooth: up to half as much again, every 20 minutes.
    fn sawtooth(minute: f64) -> f64 {
        1.0 + 0.5 * (minute % 20.0) / 20.0
    }

    #[test]
    fn a_steady_leak_is_found_in_hours_by_its_own_limit() {
        // 60 MiB an hour on 200, limit 1 GiB: full after 13 h.
        let seen = run(6, Some(1_024), |m| 200.0 + m, |_| 0);
        assert_eq!(seen, [(2, Change::Opened)]);
    }

    #[test]
    fn a_leak_below_a_sawtooth_heap_is_found() {
        let seen = run(8, Some(2_048), |m| (200.0 + m) * sawtooth(m), |_| 0);
        assert_eq!(seen.len(), 1, "{seen:?}");
    }

    #[test]
    fn a_sawtooth_heap_is_no_leak() {
        assert_eq!(run(48, Some(1_024), |m| 400.0 * sawtooth(m), |_| 0), []);
    }

    #[test]
    fn a_cache_that_fills_and_stays_full_is_no_leak() {
        assert_eq!(run(48, Some(1_024), |m| 200.0 + 500.0 * (1.0 - (-m / 90.0).exp()), |_| 0), []);
    }

    #[test]
    fn daily_load_is_no_leak() {
        let day = |m: f64| 1.0 + 0.3 * (m / 1_440.0 * std::f64::consts::TAU).sin();
        assert_eq!(run(72, Some(4_096), |m| 800.0 * day(m), |_| 0), []);
    }

    #[test]
    fn a_unit_restarted_every_two_hours_shows_no_trend() {
        assert_eq!(run(24, Some(1_024), |m| 200.0 + m % 120.0, |m| u8::try_from(m / 120).unwrap()), []);
    }

    #[test]
    fn a_restart_clears_it() {
        let seen = run(8, Some(1_024), |m| 200.0 + m % 300.0, |m| u8::try_from(m / 300).unwrap());
        assert_eq!(seen, [(2, Change::Opened), (5, Change::Cleared), (7, Change::Opened)], "and it leaks again");
    }

    #[test]
    fn growth_that_reaches_no_limit_for_weeks_is_none() {
        assert_eq!(run(12, None, |m| 500.0 + m * 0.2, |_| 0), []);
    }
}
