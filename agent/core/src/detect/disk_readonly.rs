//! `disk.readonly`: a filesystem that could be written to no longer can.
//!
//! In: the mounts of a sample, and what the kernel's log says about it. A kernel that finds an
//! error on a disk makes its filesystem read-only; every write fails from then on. What was
//! read-only from the start is meant to be. Only the mounts open it: the log says why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clock::{Millis, millis};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::said;
use crate::finding::{FindingKind, Severity};
use crate::parse::kmsg::KernelEvent;
use crate::sample::{Filesystem, Sample};
use crate::subject::PathBytes;

/// Backups and upgrades make a filesystem read-only for a moment.
const RAISE_AFTER: Duration = Duration::from_secs(10);

/// Most mounts that are remembered.
const MOUNTS_MAX: usize = 512;

/// The log may be ahead of the mounts by this much.
const SAID_FOR: Duration = Duration::from_secs(60);

/// Remembers which mounts could be written to.
#[derive(Debug, Default)]
pub(crate) struct DiskReadonly {
    written: BTreeSet<PathBytes>,
    /// By device, the last thing that the kernel said about its filesystem.
    said: BTreeMap<String, (Millis, String)>,
}

impl DiskReadonly {
    /// Judges every mount of the sample.
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        // Without any filesystem the table could not be read; there is always a root.
        if sample.filesystems.is_empty() {
            round.judge_rest(FindingKind::DiskReadonly, &Verdict::Unknown);
            return;
        }
        self.listen(sample, round.t);
        for fs in &sample.filesystems {
            let verdict = self.verdict(fs);
            round.judge(FindingKind::DiskReadonly, SubjectRef::Mount(&fs.mount), verdict);
        }
        self.written.retain(|mount| sample.filesystems.iter().any(|fs| fs.mount == *mount));
        round.judge_rest(FindingKind::DiskReadonly, &Verdict::Over);
    }

    /// Takes from the log why a filesystem was made read-only.
    fn listen(&mut self, sample: &Sample, t: Millis) {
        for event in sample.log.iter().flat_map(|log| &log.events) {
            if let KernelEvent::ReadOnly { device, text } | KernelEvent::FilesystemError { device, text } = event
                && (self.said.len() < MOUNTS_MAX || self.said.contains_key(device))
            {
                self.said.insert(device.clone(), (t, text.clone()));
            }
        }
        let is_read_only = sample.filesystems.iter().any(|fs| fs.read_only && self.written.contains(&fs.mount));
        self.said.retain(|_, (heard, _)| is_read_only || t.saturating_sub(*heard) < millis(SAID_FOR));
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
        let name = device.rsplit('/').next().unwrap_or_default();
        let why = self.said.get(name).map(|(_, line)| said(format!("kernel: {line}")));
        Verdict::Holds(Case {
            severity: Severity::Critical,
            confidence: 0.95,
            evidence: std::iter::once(said(text)).chain(why).collect(),
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
    fn the_log_says_why_and_opens_nothing_by_itself() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut opened = Vec::new();
        for second in 0..60 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let read_only = second >= 21;
            let device = "/dev/sdb1".into();
            let fs = Filesystem { mount: "/srv".into(), device, read_only, ..Filesystem::default() };
            let text = "EXT4-fs (sdb1): Remounting filesystem read-only".to_owned();
            let events =
                if second == 20 { vec![KernelEvent::ReadOnly { device: "sdb1".into(), text }] } else { Vec::new() };
            let log = Some(std::sync::Arc::new(crate::log::LogReading { events, ..Default::default() }));
            let sample = Sample { at: now, filesystems: vec![fs], log, ..Sample::default() };
            let events = detectors.observe_sample(&sample, now);
            opened.extend(events.into_iter().filter(|event| event.finding.kind == FindingKind::DiskReadonly));
        }
        assert_eq!(opened.len(), 1);
        assert_eq!(opened[0].finding.evidence[1].text, "kernel: EXT4-fs (sdb1): Remounting filesystem read-only");
    }

    #[test]
    fn one_that_is_meant_to_be_read_only_is_none_nor_is_a_moment() {
        assert_eq!(run(|_| true), []);
        assert_eq!(run(|second| (20..25).contains(&second)), []);
    }
}
