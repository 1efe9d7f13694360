//! Thresholds of the detectors, with the defaults that a fresh host runs.

use std::time::Duration;

/// Every threshold. One set of defaults for all hosts; an operator changes them in agent.toml.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// A reading that is missing for this long makes an open finding `unknown` (default 30 s).
    pub unknown_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { unknown_after: Duration::from_secs(30) }
    }
}
