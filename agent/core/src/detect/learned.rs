//! What the detectors have learned, told for people: the models, and subject by subject what each
//! of them holds for usual.
//!
//! Made when somebody asks ([`super::Detectors::learned`]), never in the one-second path.

use std::time::Duration;

use super::clock::Millis;

/// One model: what a learning detector knows as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LearnedModel {
    /// The kind of finding that it serves: `metric.anomalous`.
    pub name: String,
    /// The version of its saved state.
    pub version: u32,
    /// How many subjects it follows.
    pub subjects: u32,
    /// Since when it learns, by the wall clock; `None` where that is not known.
    pub since_ms: Option<i64>,
    /// How much of that time it was shown, up to what it remembers.
    pub trained: Duration,
    /// How much longer it learns before it says anything.
    pub learning: Option<Duration>,
    /// Bytes in memory.
    pub state_bytes: u64,
    /// The sensitivity or limit in force, in words with its numbers.
    pub in_force: String,
    /// Whether the policy has frozen it: it judges and does not learn.
    pub is_frozen: bool,
    /// When an operator had it, or a part of it, forgotten.
    pub reset_ms: Option<i64>,
    /// When an operator had it rolled back.
    pub rolled_back_ms: Option<i64>,
}

/// What one model holds for usual of one subject.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LearnedSubject {
    /// The model, by its name.
    pub model: String,
    /// A metric with its labels, a mount point, a unit.
    pub name: String,
    /// Since when it is followed, by the wall clock; `None` where that is not known.
    pub since_ms: Option<i64>,
    /// How much of that time it was shown, up to what is remembered.
    pub trained: Duration,
    /// How much longer it is learned before anything is said of it.
    pub learning: Option<Duration>,
    /// Bytes in memory.
    pub state_bytes: u64,
    /// What is usual now, for a model that knows it.
    pub expected: Option<f64>,
    /// The usual distance from it.
    pub scale: Option<f64>,
    /// From so far off on, below and above what is usual, it is unusual.
    pub limit: Option<f64>,
    /// What the model says of it now, in words.
    pub text: String,
}

/// A snapshot of what was learned, kept to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotInfo {
    /// When it was taken, by the wall clock. Names it in an order.
    pub at_ms: i64,
    /// Why: `daily`, `reset`, `rollback`, `upgrade` (each but the first: before it).
    pub why: String,
    /// How large it is.
    pub bytes: u64,
    /// Why it cannot be used, if so.
    pub unreadable: Option<String>,
}

/// Everything that was learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learned {
    /// Every model, by name.
    pub models: Vec<LearnedModel>,
    /// What they know, model by model, each in the order of its subjects' names.
    pub subjects: Vec<LearnedSubject>,
    /// Whether the policy has frozen learning.
    pub is_frozen: bool,
}

/// The wall clock of a moment in detector time, seen from now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since {
    pub(crate) t: Millis,
    pub(crate) wall_ms: i64,
}

impl Since {
    pub(crate) fn wall_ms(self, t: Millis) -> i64 {
        self.wall_ms.saturating_sub(self.t.saturating_sub(t))
    }

    /// How long ago that is.
    pub(crate) fn passed(self, t: Millis) -> Duration {
        Duration::from_millis(u64::try_from(self.t.saturating_sub(t)).unwrap_or(0))
    }
}

/// A count that is shown.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A size that is shown.
pub(crate) fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
