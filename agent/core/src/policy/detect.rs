//! What a policy may set of the detectors: thresholds, a closed list, each the detectors' own setting under its own
//! name; and whether they go on learning.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Dimension;
use crate::detect::{Learning, Settings};

/// A threshold that a policy may set.
#[derive(Debug, Clone, Copy)]
pub struct Threshold {
    /// The key in `[detect]`: the name in [`Settings`] without its unit.
    pub name: &'static str,
    /// What is written: `95%`, `30s` or `3`.
    pub dimension: Dimension,
    /// Smallest value, in base units (ratio, seconds).
    pub min: f64,
    /// Largest value.
    pub max: f64,
    set: fn(&mut Settings, f64),
}

const fn ratio(name: &'static str, set: fn(&mut Settings, f64)) -> Threshold {
    Threshold { name, dimension: Dimension::Ratio, min: 0.01, max: 1.0, set }
}

const fn duration(name: &'static str, min: f64, max: f64, set: fn(&mut Settings, f64)) -> Threshold {
    Threshold { name, dimension: Dimension::Duration, min, max, set }
}

const fn count(name: &'static str, min: f64, max: f64, set: fn(&mut Settings, f64)) -> Threshold {
    Threshold { name, dimension: Dimension::Count, min, max, set }
}

/// One day in seconds.
const DAY: f64 = 86_400.0;

impl Threshold {
    /// The closed list. What each means and its default stands with [`Settings`] and in docs/POLICY.md.
    pub const ALL: [Self; 27] = [
        duration("unknown_after", 1.0, DAY, |to, value| to.unknown_after = time(value)),
        count("crash_loop_short_count", 2.0, 100.0, |to, value| to.crash_loop_short_count = whole(value)),
        duration("crash_loop_short", 1.0, DAY, |to, value| to.crash_loop_short = time(value)),
        count("crash_loop_long_count", 2.0, 100.0, |to, value| to.crash_loop_long_count = whole(value)),
        duration("crash_loop_long", 1.0, DAY, |to, value| to.crash_loop_long = time(value)),
        count("flapping_short_count", 2.0, 32.0, |to, value| to.flapping_short_count = whole(value)),
        duration("flapping_short", 1.0, DAY, |to, value| to.flapping_short = time(value)),
        count("flapping_long_count", 2.0, 32.0, |to, value| to.flapping_long_count = whole(value)),
        duration("flapping_long", 1.0, DAY, |to, value| to.flapping_long = time(value)),
        ratio("disk_full", |to, value| to.disk_full_ratio = value),
        ratio("disk_full_clear", |to, value| to.disk_full_clear_ratio = value),
        ratio("disk_full_critical", |to, value| to.disk_full_critical_ratio = value),
        ratio("disk_inodes", |to, value| to.disk_inodes_ratio = value),
        duration("disk_filling_within", 60.0, 30.0 * DAY, |to, value| to.disk_filling_within = time(value)),
        ratio("memory_available", |to, value| to.memory_available_ratio = value),
        ratio("memory_waiting", |to, value| to.memory_waiting_ratio = value),
        ratio("memory_stalled", |to, value| to.memory_stalled_ratio = value),
        duration("memory_pressure_for", 0.0, DAY, |to, value| to.memory_pressure_for = time(value)),
        duration("memory_leak_within", 60.0, 30.0 * DAY, |to, value| to.memory_leak_within = time(value)),
        duration("leak_within", 60.0, 30.0 * DAY, |to, value| to.leak_within = time(value)),
        ratio("cpu_busy", |to, value| to.cpu_busy_ratio = value),
        ratio("cpu_waiting", |to, value| to.cpu_waiting_ratio = value),
        duration("cpu_saturated_for", 0.0, DAY, |to, value| to.cpu_saturated_for = time(value)),
        count("runaway_cpus", 0.1, 100.0, |to, value| to.runaway_cpus = value),
        duration("runaway_for", 60.0, DAY, |to, value| to.runaway_for = time(value)),
        count("fork_storm_tasks", 10.0, 100_000.0, |to, value| to.fork_storm_tasks = value),
        count("anomaly_false_alarms_per_week", 0.01, 100.0, |to, value| to.anomaly_false_alarms_per_week = value),
    ];

    /// The threshold of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|threshold| threshold.name == name)
    }
}

fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn whole(count: f64) -> u32 {
    // Bounded by the list above; the cast saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = count.round() as u32;
    count
}

/// What `learning` in `[detect]` may say.
pub(super) const LEARNING: [(&str, Learning); 2] = [("on", Learning::On), ("frozen", Learning::Frozen)];

/// What a policy sets of the detectors: thresholds in base units (ratios from 0 to 1, seconds, counts), and learning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DetectOverrides {
    thresholds: BTreeMap<&'static str, f64>,
    learning: Option<Learning>,
}

impl DetectOverrides {
    /// The value of a threshold, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.thresholds.get(name).copied()
    }

    /// Every threshold that is set.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.thresholds.iter().map(|(name, value)| (*name, *value))
    }

    /// Whether learning goes on, if it is said.
    #[must_use]
    pub fn learning(&self) -> Option<Learning> {
        self.learning
    }

    /// The detectors' settings with these in place.
    #[must_use]
    pub fn applied_to(&self, mut settings: Settings) -> Settings {
        for threshold in Threshold::ALL {
            if let Some(value) = self.get(threshold.name) {
                (threshold.set)(&mut settings, value);
            }
        }
        settings.learning = self.learning.unwrap_or(settings.learning);
        settings
    }

    pub(super) fn set(&mut self, threshold: Threshold, value: f64) {
        self.thresholds.insert(threshold.name, value);
    }

    pub(super) fn set_learning(&mut self, learning: Learning) {
        self.learning = Some(learning);
    }

    pub(super) fn extend(&mut self, later: &Self) {
        self.thresholds.extend(&later.thresholds);
        self.learning = later.learning.or(self.learning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_threshold_changes_one_setting() {
        let mut seen = vec![Settings::default()];
        for threshold in Threshold::ALL {
            let mut set = DetectOverrides::default();
            set.set(threshold, threshold.max);
            let changed = set.applied_to(Settings::default());
            assert!(!seen.contains(&changed), "{} changes nothing, or what another one changes", threshold.name);
            seen.push(changed);
        }
    }
}
