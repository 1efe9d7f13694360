//! What the detectors have learned, told for people: the models, and subject by subject what each
//! of them holds for usual.
//!
//! Made when somebody asks ([`super::Detectors::learned`]), never in the one-second path.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::settings::Settings;
use super::snapshot::{AnyKept, Kept, Part};
use crate::policy::Glob;

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

/// Why a snapshot of what was learned is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotWhy {
    /// One a day.
    Daily,
    /// An operator had it forgotten.
    Reset,
    /// An operator went back to an earlier one.
    Rollback,
    /// Another version of the agent went on with it.
    Upgrade,
}

impl SnapshotWhy {
    const ALL: [Self; 4] = [Self::Daily, Self::Reset, Self::Rollback, Self::Upgrade];

    /// The word in file names, on the wire and on the screen.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Reset => "reset",
            Self::Rollback => "rollback",
            Self::Upgrade => "upgrade",
        }
    }

    /// The one that this word names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == word)
    }

    /// How many of these are kept: three days to notice that something wrong was learned, and the one
    /// from before each kind of change.
    fn kept(self) -> usize {
        if self == Self::Daily { DAILY_MAX } else { 1 }
    }
}

/// Daily snapshots that are kept.
pub const DAILY_MAX: usize = 3;

/// Snapshots that cannot be read and are kept aside, for whoever wants to know why.
pub const UNREADABLE_MAX: usize = 2;

/// Milliseconds between two daily snapshots.
const DAY_MS: u64 = 86_400_000;

/// Whether it is time for a daily snapshot. A clock that was set back by a day counts as one that
/// went on by a day.
#[must_use]
pub fn is_daily_due(snapshots: &[SnapshotInfo], now_ms: i64) -> bool {
    let daily = snapshots.iter().filter(|snapshot| snapshot.why == SnapshotWhy::Daily.as_str());
    daily.map(|snapshot| snapshot.at_ms.abs_diff(now_ms)).min().is_none_or(|nearest| nearest >= DAY_MS)
}

/// The snapshots that are too many, of those that are there: the oldest of their kind.
#[must_use]
pub fn surplus(snapshots: &[SnapshotInfo]) -> Vec<SnapshotInfo> {
    let mut newest_first = snapshots.to_vec();
    newest_first.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.at_ms));
    let mut seen: BTreeMap<(bool, String), usize> = BTreeMap::new();
    newest_first.retain(|snapshot| {
        let is_unreadable = snapshot.unreadable.is_some();
        let kind = if is_unreadable { String::new() } else { snapshot.why.clone() };
        let of_kind = seen.entry((is_unreadable, kind)).or_default();
        *of_kind += 1;
        let kept = SnapshotWhy::named(&snapshot.why).map_or(0, SnapshotWhy::kept);
        *of_kind > if is_unreadable { UNREADABLE_MAX } else { kept }
    });
    newest_first
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

/// Which subjects are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subjects<'a> {
    /// All, and with them what is known of the host as a whole.
    All,
    /// Those whose name (a metric with its labels, a mount point, a unit) this matches.
    Like(&'a Glob),
}

impl Subjects<'_> {
    pub(crate) fn matches(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Like(glob) => glob.matches(name.as_bytes()),
        }
    }
}

/// A detector that learns what is usual.
pub(crate) trait Learns: AnyKept {
    /// Tells what was learned of every subject.
    fn learned(&self, since: Since, settings: &Settings, to: &mut Learned);

    /// How many subjects these are.
    fn matching(&self, which: Subjects<'_>) -> usize;

    /// Forgets these subjects.
    fn reset(&mut self, which: Subjects<'_>);
}

impl Learned {
    /// Adds a model with its subjects: from these come their number, since when and how long it was
    /// trained, and what they take beside what `model` takes by itself.
    pub(crate) fn add(&mut self, part: Part, model: LearnedModel, subjects: impl Iterator<Item = LearnedSubject>) {
        let begin = self.subjects.len();
        self.subjects.extend(subjects.map(|subject| LearnedSubject { model: part.name.to_owned(), ..subject }));
        let own = &self.subjects[begin..];
        self.models.push(LearnedModel {
            name: part.name.to_owned(),
            version: part.versions.1.into(),
            subjects: count(own.len()),
            since_ms: own.iter().filter_map(|subject| subject.since_ms).min(),
            trained: own.iter().map(|subject| subject.trained).max().unwrap_or_default(),
            state_bytes: model.state_bytes + own.iter().map(|subject| subject.state_bytes).sum::<u64>(),
            ..model
        });
    }
}

/// What operators did to what was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// When it, or a part of it, was last forgotten, by the wall clock.
    pub(crate) reset_ms: Option<i64>,
    /// When it was last rolled back.
    pub(crate) rolled_back_ms: Option<i64>,
}

impl Kept for Marks {
    const PART: Part = Part { tag: 32, versions: (1, 1), name: "marks of operators" };

    fn save(&self, writer: &mut Writer) {
        writer.option(self.reset_ms, Writer::i64);
        writer.option(self.rolled_back_ms, Writer::i64);
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { reset_ms: reader.option(Reader::i64)?, rolled_back_ms: reader.option(Reader::i64)? })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(day: i64, why: SnapshotWhy) -> SnapshotInfo {
        SnapshotInfo { at_ms: day * 86_400_000, why: why.as_str().to_owned(), ..SnapshotInfo::default() }
    }

    #[test]
    fn three_days_and_the_last_of_each_change_are_kept() {
        use SnapshotWhy::{Daily, Reset, Upgrade};
        let mut all: Vec<_> = (0..5).map(|day| snapshot(day, Daily)).collect();
        all.extend([snapshot(1, Reset), snapshot(2, Upgrade), snapshot(3, Reset)]);
        let surplus = surplus(&all);
        assert_eq!(surplus, [snapshot(1, Daily), snapshot(1, Reset), snapshot(0, Daily)]);
    }

    #[test]
    fn what_cannot_be_read_takes_the_place_of_none_that_can() {
        let damaged = |day| SnapshotInfo { unreadable: Some("x".into()), ..snapshot(day, SnapshotWhy::Daily) };
        let all: Vec<_> = (0..4).map(damaged).chain((0..3).map(|day| snapshot(day, SnapshotWhy::Daily))).collect();
        assert_eq!(surplus(&all), [damaged(1), damaged(0)]);
    }

    #[test]
    fn a_day_after_the_last_one_the_next_is_due_also_if_the_clock_was_set_back() {
        let all = [snapshot(10, SnapshotWhy::Daily), snapshot(11, SnapshotWhy::Reset)];
        let due = |hours: i64| is_daily_due(&all, hours * 3_600_000);
        assert_eq!([due(240), due(263), due(264), due(217), due(216)], [false, false, true, false, true]);
        assert!(is_daily_due(&[], 0));
    }
}
