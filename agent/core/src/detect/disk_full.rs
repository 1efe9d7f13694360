//! `disk.full` and `disk.inodes`: a filesystem is nearly full, or has nearly no inodes left.
//!
//! In: filesystems that can be written to, as df shows them. Out: a verdict per mount point for
//! each of the two. One that does not answer is unknown; a read-only one cannot fill.

use std::time::Duration;

use super::held_files;
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::words::{bytes, measured, percent};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::{FilesystemSignals, Signals};

/// Files that are written and removed at once, as compilers and package managers do, are no
/// trouble: it must hold for a few seconds.
const RAISE_AFTER: Duration = Duration::from_secs(5);

/// Judges every filesystem of the sample.
pub(crate) fn observe(sample: &Sample, signals: &Signals<'_>, settings: &Settings, round: &mut Round<'_>) {
    for fs in &signals.filesystems {
        round.judge(FindingKind::DiskFull, SubjectRef::Mount(fs.mount), full(fs, sample, settings));
        round.judge(FindingKind::DiskInodes, SubjectRef::Mount(fs.mount), inodes(fs, settings));
    }
    for hung in sample.filesystems.iter().filter(|fs| fs.usage.is_none()) {
        round.judge(FindingKind::DiskFull, SubjectRef::Mount(&hung.mount), Verdict::Unknown);
        round.judge(FindingKind::DiskInodes, SubjectRef::Mount(&hung.mount), Verdict::Unknown);
    }
    // Without any filesystem the table could not be read; there is always a root.
    let rest = if sample.filesystems.is_empty() { Verdict::Unknown } else { Verdict::Over };
    round.judge_rest(FindingKind::DiskFull, &rest);
    round.judge_rest(FindingKind::DiskInodes, &rest);
}

fn full(fs: &FilesystemSignals<'_>, sample: &Sample, settings: &Settings) -> Verdict {
    if fs.used_ratio < settings.disk_full_clear_ratio {
        return Verdict::Over;
    }
    if fs.used_ratio < settings.disk_full_ratio {
        return Verdict::Between;
    }
    let text = format!(
        "used {} of {}, limit {}",
        percent(fs.used_ratio),
        bytes(fs.usable_bytes),
        percent(settings.disk_full_ratio)
    );
    Verdict::Holds(Case {
        severity: severity(fs.used_ratio, settings),
        confidence: 0.99,
        evidence: std::iter::once(measured(text, "used_ratio", fs.used_ratio, Some(settings.disk_full_ratio)))
            .chain(held_files::evidence(sample, fs))
            .collect(),
        raise_after: RAISE_AFTER,
    })
}

fn inodes(fs: &FilesystemSignals<'_>, settings: &Settings) -> Verdict {
    let Some(used) = fs.inodes_used_ratio else { return Verdict::Over };
    let band = settings.disk_full_ratio - settings.disk_full_clear_ratio;
    if used < settings.disk_inodes_ratio - band {
        return Verdict::Over;
    }
    if used < settings.disk_inodes_ratio {
        return Verdict::Between;
    }
    let text = format!("used {} of the inodes, limit {}", percent(used), percent(settings.disk_inodes_ratio));
    Verdict::Holds(Case {
        severity: severity(used, settings),
        confidence: 0.99,
        evidence: vec![measured(text, "inodes_used_ratio", used, Some(settings.disk_inodes_ratio))],
        raise_after: RAISE_AFTER,
    })
}

fn severity(used_ratio: f64, settings: &Settings) -> Severity {
    if used_ratio >= settings.disk_full_critical_ratio { Severity::Critical } else { Severity::Warning }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Filesystem, FilesystemUsage};
    use crate::time::Now;

    /// A disk of 1000 bytes and 1000 inodes with so many used.
    fn disk(used: u64, inodes: u64) -> Option<FilesystemUsage> {
        Some(FilesystemUsage {
            size_bytes: 1_000,
            free_bytes: 1_000 - used,
            avail_bytes: 1_000 - used,
            files: 1_000,
            files_free: 1_000 - inodes,
        })
    }

    /// Shows the disk once a second.
    fn run(usages: &[Option<FilesystemUsage>]) -> Vec<(usize, FindingKind, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for (at, usage) in usages.iter().enumerate() {
            let now = Now { boot_ns: at as u64 * 1_000_000_000, wall_ms: 0 };
            let fs = Filesystem { mount: "/data".into(), usage: *usage, ..Filesystem::default() };
            let sample = Sample { at: now, filesystems: vec![fs], ..Sample::default() };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|event| event.finding.kind != FindingKind::AgentDegraded);
            seen.extend(events.into_iter().map(|event| (at, event.finding.kind, event.change)));
        }
        seen
    }

    use FindingKind::{DiskFull, DiskInodes};

    #[test]
    fn opens_after_a_few_seconds_and_clears_below_the_lower_level() {
        let usages = [vec![disk(950, 0); 10], vec![disk(910, 0); 10], vec![disk(800, 0); 10]].concat();
        assert_eq!(run(&usages), [(5, DiskFull, Change::Opened), (23, DiskFull, Change::Cleared)]);
    }

    #[test]
    fn getting_worse_is_said() {
        let usages = [vec![disk(950, 0); 10], vec![disk(980, 0); 3]].concat();
        assert_eq!(run(&usages), [(5, DiskFull, Change::Opened), (10, DiskFull, Change::Changed)]);
    }

    #[test]
    fn a_short_peak_and_a_level_that_is_merely_high_are_no_finding() {
        let usages = [vec![disk(990, 0); 4], vec![disk(915, 0); 500]].concat();
        assert_eq!(run(&usages), []);
    }

    #[test]
    fn inodes_are_found_on_their_own() {
        assert_eq!(run(&vec![disk(100, 950); 10]), [(5, DiskInodes, Change::Opened)]);
    }

    #[test]
    fn a_filesystem_that_does_not_answer_neither_opens_nor_clears() {
        assert_eq!(run(&[None; 60]), []);
        let usages = [vec![disk(950, 0); 10], vec![None; 60], vec![disk(950, 0); 5]].concat();
        let want = [(5, Change::Opened), (39, Change::Unknown), (70, Change::Changed)];
        assert_eq!(run(&usages), want.map(|(at, change)| (at, DiskFull, change)));
    }
}
