//! `disk.readonly`: a filesystem that could be written to no longer can.
//!
//! In: the mounts of a sample. A kernel that finds an error on a disk makes its filesystem
//! read-only; every write fails from then on. What was read-only from the start is meant to be.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::said;
use crate::finding::{FindingKind, Severity};
use crate::sample::{Filesystem, Sample};
use crate::subject::PathBytes;

/// Backups and upgrades make a filesystem read-only for a moment.
const RAISE_AFTER: Duration = Duration::from_secs(10);

/// Most mounts that are remembered.
const MOUNTS_MAX: usize = 512;

/// Remembers which mounts could be written to.
#[derive(Debug, Default)]
pub(crate) struct DiskReadonly {
    written: BTreeSet<PathBytes>,
}

impl DiskReadonly {
    /// Judges every mount of the sample.
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        // Without any filesystem the table could not be read; there is always a root.
        if sample.filesystems.is_empty() {
            round.judge_rest(FindingKind::DiskReadonly, &Verdict::Unknown);
            return;
        }
        for fs in &sample.filesystems {
            let verdict = self.verdict(fs);
            round.judge(FindingKind::DiskReadonly, SubjectRef::Mount(&fs.mount), verdict);
        }
        self.written.retain(|mount| sample.filesystems.iter().any(|fs| fs.mount == *mount));
        round.judge_rest(FindingKind::DiskReadonly, &Verdict::Over);
    }

    fn verdict(&mut self, fs: &Filesystem) -> Verdict {
        if !fs.read_only {
            if self.written.len() < MOUNTS_MAX && !self.written.contains(&fs.mount) {
                self.written.insert(fs.mount.clone());
            }
            return Verdict::Over;
        }
        if !self.written.contains(&fs.mount) {
            return Verdict::Over;
        }
        let device = String::from_utf8_lossy(&fs.device.0);
        let text = format!("{device} ({}) was writable and is read-only now: look for errors of the disk", fs.fstype);
        Verdict::Holds(Case {
            severity: Severity::Critical,
            confidence: 0.95,
            evidence: vec![said(text)],
            raise_after: RAISE_AFTER,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::time::Now;

    fn run(read_only: impl Fn(u64) -> bool) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..120 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let fs = Filesystem { mount: "/srv".into(), read_only: read_only(second), ..Filesystem::default() };
            let sample = Sample { at: now, filesystems: vec![fs], ..Sample::default() };
            let events = detectors.observe_sample(&sample, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::DiskReadonly);
            seen.extend(own.map(|event| (second, event.change)));
        }
        seen
    }

    #[test]
    fn a_filesystem_that_turns_read_only_is_found_and_cleared_when_it_can_be_written_again() {
        assert_eq!(run(|second| (20..80).contains(&second)), [(30, Change::Opened), (83, Change::Cleared)]);
    }

    #[test]
    fn one_that_is_meant_to_be_read_only_is_none_nor_is_a_moment() {
        assert_eq!(run(|_| true), []);
        assert_eq!(run(|second| (20..25).contains(&second)), []);
    }
}
