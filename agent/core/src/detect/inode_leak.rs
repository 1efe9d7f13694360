//! `inode.leak`: files are made on a filesystem and never removed, until it has no inodes left.
//!
//! In: inodes used and left of every filesystem that has a fixed number of them. Out: verdicts of a
//! [`LeakWatch`]. Session files and mail queues do this, long before the bytes run out.

use std::fmt;

use super::leak_watch::{self, Reading, Resource};
use super::lifecycle::{Round, Verdict};
use super::settings::Settings;
use super::snapshot::Part;
use super::words::{count, float};
use crate::finding::FindingKind;
use crate::sample::{FilesystemUsage, Sample};
use crate::subject::PathBytes;

/// Inodes.
static INODES: Resource = Resource {
    kind: FindingKind::InodeLeak,
    noun: "inodes in use",
    used_measure: "inodes_used_ratio",
    show: count,
    // Fewer than a package with its documentation brings.
    growth_min: 1_000.0,
    flat: 1_000.0,
    models_until: 0,
    within: |settings| settings.leak_within,
};

leak_watch::detector! {
    /// Histories by filesystem.
    InodeLeak: PathBytes, INODES, Part { tag: 10, versions: (1, 1), name: "inode.leak" }
}

impl InodeLeak {
    pub(crate) fn observe(&mut self, sample: &Sample, settings: &Settings, round: &mut Round<'_>) {
        // None at all is a reading that failed.
        if !sample.filesystems.is_empty() {
            self.0.retain(|mount| sample.filesystems.iter().any(|fs| fs.mount == *mount));
        }
        for fs in sample.filesystems.iter().filter(|fs| !fs.read_only) {
            self.0.observe(&fs.mount, None, fs.usage.as_ref().and_then(reading), settings, round);
        }
        round.judge_rest(FindingKind::InodeLeak, &Verdict::Over);
    }
}

/// The number of inodes of a filesystem.
struct Limit(u64);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the end of the filesystem's {} inodes", self.0)
    }
}

/// `None` where inodes are made as they are needed.
fn reading(usage: &FilesystemUsage) -> Option<Reading<Limit>> {
    let used = usage.files.saturating_sub(usage.files_free);
    let (left, of) = (float(usage.files_free), float(usage.files));
    (usage.files > 0).then(|| Reading { used: float(used), left, of, limit: Limit(usage.files) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::leak_watch::check::{Shown, seen};
    use crate::sample::Filesystem;
    use crate::subject::Subject;

    /// Shows a filesystem of a million inodes; gives the hours at which findings changed.
    fn run(hours: u64, files: u64, used: impl Fn(f64) -> f64) -> Vec<u64> {
        let events = seen(FindingKind::InodeLeak, hours, |minute| {
            let usage =
                FilesystemUsage { files, files_free: 1_000_000 - used.shown(minute), ..FilesystemUsage::default() };
            let fs = Filesystem { mount: "/srv".into(), usage: Some(usage), ..Filesystem::default() };
            Sample { filesystems: vec![fs], ..Sample::default() }
        });
        assert!(events.iter().all(|(_, event)| event.finding.subject == Subject::Mount("/srv".into())));
        events.iter().map(|(hour, _)| *hour).collect()
    }

    #[test]
    fn files_that_are_made_and_never_removed_are_found() {
        // 36000 an hour after two days: gone after 25 h.
        let hours = run(66, 1_000_000, |m| 100_000.0 + (m - 2_880.0).max(0.0) * 600.0);
        assert!(hours.first().is_some_and(|hour| (51..=55).contains(hour)), "{hours:?}");
    }

    #[test]
    fn a_nightly_cleanup_and_a_restored_backup_are_no_leak() {
        assert_eq!(run(120, 1_000_000, |m| 100_000.0 + (m % 1_440.0) * 300.0), [0; 0], "made by day, removed by night");
        assert_eq!(run(120, 1_000_000, |m| if m > 4_000.0 { 500_000.0 } else { 100_000.0 }), [0; 0], "one jump");
    }

    #[test]
    fn where_inodes_are_made_as_needed_nothing_is_said() {
        assert_eq!(run(48, 0, |m| 100_000.0 + m * 300.0), [0; 0]);
    }
}
