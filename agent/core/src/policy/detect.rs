//! Thresholds of detectors that a policy may set: a closed list.

use std::collections::BTreeMap;

use super::Dimension;

/// A threshold that a policy may set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The key in `[detect]`.
    pub name: &'static str,
    /// What is written: `95%`, `30s`, `5GiB` or `3`.
    pub dimension: Dimension,
    /// Smallest value, in base units (ratio, seconds, bytes).
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

const fn ratio(name: &'static str) -> Threshold {
    Threshold { name, dimension: Dimension::Ratio, min: 0.01, max: 1.0 }
}

const fn duration(name: &'static str, min: f64, max: f64) -> Threshold {
    Threshold { name, dimension: Dimension::Duration, min, max }
}

const fn count(name: &'static str, min: f64, max: f64) -> Threshold {
    Threshold { name, dimension: Dimension::Count, min, max }
}

/// One day in seconds.
const DAY: f64 = 86_400.0;

impl Threshold {
    /// The closed list. What each means and its default stands with the detectors' settings and in docs/POLICY.md.
    pub const ALL: [Self; 18] = [
        ratio("disk_full_used"),
        ratio("disk_full_clear"),
        ratio("disk_inodes_used"),
        ratio("disk_inodes_clear"),
        duration("disk_filling_within", 60.0, 30.0 * DAY),
        ratio("disk_filling_used_min"),
        ratio("memory_pressure_some"),
        ratio("memory_available_min"),
        duration("memory_pressure_for", 0.0, DAY),
        duration("memory_leak_within", 60.0, 30.0 * DAY),
        ratio("cpu_saturated_used"),
        ratio("cpu_saturated_pressure"),
        duration("cpu_saturated_for", 0.0, DAY),
        count("crash_loop_restarts", 2.0, 1_000.0),
        duration("crash_loop_within", 1.0, DAY),
        count("anomaly_score", 1.0, 1_000.0),
        duration("anomaly_for", 0.0, DAY),
        duration("unknown_after", 1.0, DAY),
    ];

    /// The threshold of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|threshold| threshold.name == name)
    }
}

/// The thresholds that a policy sets, in base units: ratios from 0 to 1, seconds, bytes, counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DetectOverrides(BTreeMap<&'static str, f64>);

impl DetectOverrides {
    /// The value of a threshold, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Every threshold that is set.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.0.iter().map(|(name, value)| (*name, *value))
    }

    pub(super) fn set(&mut self, threshold: Threshold, value: f64) {
        self.0.insert(threshold.name, value);
    }

    pub(super) fn extend(&mut self, later: &Self) {
        self.0.extend(&later.0);
    }
}
