//! What a disk's findings say of deleted files: which unit holds how much, where that is worth a word.
//!
//! In: the holders in the sample. Out: one line of evidence. It never opens a finding by itself.

use std::collections::BTreeMap;

use super::words::{bytes, float, said};
use crate::finding::Evidence;
use crate::sample::Sample;
use crate::signal::FilesystemSignals;

/// Less than this share of a filesystem is not what fills it.
const SHARE_MIN: f64 = 0.01;

/// Most units that are named.
const UNITS_MAX: usize = 3;

/// Who holds deleted files on a filesystem, the unit with the most first.
pub(super) fn evidence(sample: &Sample, fs: &FilesystemSignals<'_>) -> Option<Evidence> {
    let mut units: BTreeMap<&str, u64> = BTreeMap::new();
    for held in sample.held.as_ref()?.iter().filter(|held| held.mount == *fs.mount) {
        let sum = units.entry(&held.unit).or_default();
        *sum = sum.saturating_add(held.bytes);
    }
    let is_much = |held: u64| float(held) >= SHARE_MIN * float(fs.usable_bytes);
    let mut units: Vec<(&str, u64)> = units.into_iter().filter(|(_, held)| is_much(*held)).collect();
    units.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
    units.truncate(UNITS_MAX);
    let all: Vec<String> = units.iter().map(|(unit, held)| format!("{} of {unit}", bytes(*held))).collect();
    if all.is_empty() {
        return None;
    }
    Some(said(format!("held by deleted files that are still open: {}; closing them frees it", all.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::finding::FindingKind;
    use crate::processes::Held;
    use crate::sample::{Filesystem, FilesystemUsage};
    use crate::time::Now;

    fn held(unit: &str, mount: &str, bytes: u64) -> Held {
        Held { mount: mount.into(), unit: unit.into(), pid: 7, name: "app".into(), files: 1, bytes }
    }

    /// A disk of 100 GiB that is 95 % full; what is held is known from a second on.
    fn said_of(all: Vec<Held>, known_from: u64) -> Vec<(u64, Change, Vec<String>)> {
        let all = Arc::new(all);
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..60 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let avail_bytes = 5 << 30;
            let usage =
                FilesystemUsage { size_bytes: 100 << 30, free_bytes: avail_bytes, avail_bytes, ..Default::default() };
            let fs = Filesystem { mount: "/srv".into(), usage: Some(usage), ..Filesystem::default() };
            let held = (second >= known_from).then(|| all.clone());
            let sample = Sample { at: now, filesystems: vec![fs], held, ..Sample::default() };
            let events = detectors.observe_sample(&sample, now);
            let full = events.into_iter().filter(|event| event.finding.kind == FindingKind::DiskFull);
            seen.extend(full.map(|event| {
                let words = event.finding.evidence.into_iter().map(|evidence| evidence.text).collect();
                (second, event.change, words)
            }));
        }
        seen
    }

    #[test]
    fn a_full_disk_says_which_unit_holds_deleted_files() {
        let all = vec![
            held("app.service", "/srv", 9 << 30),
            held("app.service", "/srv", 3 << 30),
            held("b.service", "/srv", 2 << 30),
            held("c.service", "/", 50 << 30),
            held("d.service", "/srv", 1 << 20),
        ];
        let seen = said_of(all, 0);
        assert_eq!(seen.len(), 1, "{seen:?}");
        let text = "held by deleted files that are still open: 12.0 GiB of app.service, 2.0 GiB of b.service; closing them frees it";
        assert_eq!(seen[0].2[1], text);
    }

    #[test]
    fn what_is_found_out_later_is_told_then() {
        let seen = said_of(vec![held("app.service", "/srv", 9 << 30)], 20);
        let when: Vec<_> = seen.iter().map(|(second, change, words)| (*second, *change, words.len())).collect();
        assert_eq!(when, [(5, Change::Opened, 1), (20, Change::Changed, 2)]);
    }

    #[test]
    fn next_to_nothing_is_not_worth_a_word() {
        let seen = said_of(vec![held("app.service", "/srv", 1 << 20)], 0);
        assert_eq!(seen[0].2.len(), 1);
    }
}
