//! Readings that are given up for a while: what they showed becomes unknown, and nothing is alarmed at or taken for over
//! because of it, neither when they go nor when they come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::finding::FindingKind;
use crate::log::{LogCounts, LogReading};
use crate::parse::kmsg::KernelEvent;
use crate::sample::{Cgroup, CpuTimes, Filesystem, FilesystemUsage, KernelCounters, Memory, ProcessCounts};

/// A host with one unit; `trouble` fills its tables and its log.
struct Shown {
    trouble: bool,
    second: u64,
}

impl Shown {
    fn whole(&self) -> Sample {
        let (second, bad) = (self.second, self.trouble);
        let cgroup = Cgroup {
            memory_current_bytes: Some(64 << 20),
            memory_anon_bytes: Some(32 << 20),
            memory_max_bytes: Some(1 << 30),
            cpu_usage_us: Some(second * 20_000),
            tasks: Some(if bad { 96 } else { 8 }),
            tasks_max: Some(100),
            fds: Some(if bad { 1_000 } else { 20 }),
            fds_max: Some(1_024),
            ..Cgroup::default()
        };
        let unit = Unit { invocation: Some([1; 16]), cgroup: Some(cgroup), ..Unit::default() };
        let processes =
            ProcessCounts { total: 200, threads: 300, zombies: if bad { 150 } else { 0 }, uninterruptible: 0 };
        let errors = if bad { second * 20 } else { 0 };
        let units = BTreeMap::from([("app.service".parse().unwrap(), LogCounts { errors, ..LogCounts::default() })]);
        let events = if bad { vec![KernelEvent::IoError { device: "vda".into() }] } else { Vec::new() };
        let log = LogReading { units, events, ..LogReading::default() };
        Sample {
            units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
            processes: Some(processes),
            tasks: Some(300),
            log: Some(Arc::new(log)),
            ..self.core()
        }
    }

    /// What is left on the lowest step.
    fn core(&self) -> Sample {
        let ticks = self.second * 100;
        let usage = FilesystemUsage { size_bytes: 1_000, free_bytes: 900, avail_bytes: 900, files: 0, files_free: 0 };
        let unit = Unit { invocation: Some([1; 16]), cgroup: Some(Cgroup::default()), ..Unit::default() };
        Sample {
            at: now(self.second),
            cpu: Some(CpuTimes { user: ticks / 10, idle: ticks, ..CpuTimes::default() }),
            cpus: Some(1),
            kernel: Some(KernelCounters { forks: self.second, ..KernelCounters::default() }),
            memory: Some(Memory { total_bytes: 1 << 30, available_bytes: 1 << 29, ..Memory::default() }),
            filesystems: vec![Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() }],
            tasks: Some(300),
            tasks_max: Some(32_768),
            units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
            ..Sample::default()
        }
    }
}

fn now(second: u64) -> Now {
    #[allow(clippy::cast_possible_wrap)]
    Now { boot_ns: second * 1_000_000_000, wall_ms: second as i64 * 1_000 }
}

/// Shows a host from one second to another; gives what changed.
fn show(
    detectors: &mut Detectors,
    seconds: std::ops::Range<u64>,
    apart: usize,
    sample: impl Fn(u64) -> Sample,
) -> Vec<(FindingKind, Change)> {
    let mut seen = Vec::new();
    for second in seconds.step_by(apart) {
        let events = detectors.observe_sample(&sample(second), now(second));
        seen.extend(events.into_iter().map(|event| (event.finding.kind, event.change)));
    }
    seen
}

const HOUR: u64 = 3_600;

#[test]
fn a_well_host_stays_well_while_less_is_read_of_it_and_afterwards() {
    let mut detectors = Detectors::new(Settings::default(), 1);
    let well = |second| Shown { trouble: false, second };
    for (from, to) in [(0, 2), (4, 5), (7, 8)] {
        assert_eq!(show(&mut detectors, from * HOUR..to * HOUR, 1, |s| well(s).whole()), [], "from hour {from}");
        detectors.set_partial(true);
        let (less, until) = (to * HOUR, (to + 2) * HOUR);
        assert_eq!(show(&mut detectors, less..until, 5, |s| well(s).core()), [], "from hour {to}");
        detectors.set_partial(false);
    }
}

#[test]
fn trouble_that_is_no_longer_seen_is_unknown_until_it_is_seen_again() {
    let mut detectors = Detectors::new(Settings::default(), 1);
    let shown = |trouble, second| Shown { trouble, second };
    assert_eq!(show(&mut detectors, 0..HOUR, 1, |s| shown(false, s).whole()), []);
    let mut opened = show(&mut detectors, HOUR..HOUR + 600, 1, |s| shown(true, s).whole());
    opened.retain(|(_, change)| *change == Change::Opened);
    opened.sort();
    let kinds: Vec<FindingKind> = opened.iter().map(|(kind, _)| *kind).collect();
    let want = [
        FindingKind::ProcessZombies,
        FindingKind::FdExhausted,
        FindingKind::TaskExhausted,
        FindingKind::KernelError,
        FindingKind::LogBurst,
    ];
    assert_eq!(kinds, want);

    let mut lost = show(&mut detectors, HOUR + 600..3 * HOUR, 5, |s| shown(true, s).core());
    lost.sort();
    assert_eq!(lost, want.map(|kind| (kind, Change::Unknown)), "neither cleared nor opened");
    // It is still there.
    let back = show(&mut detectors, 3 * HOUR..3 * HOUR + 600, 1, |s| shown(true, s).whole());
    let known: Vec<_> = want.iter().filter(|kind| back.contains(&(**kind, Change::Changed))).collect();
    assert_eq!(known.len(), want.len(), "{back:?}");
    assert!(back.iter().all(|(_, change)| !matches!(change, Change::Opened | Change::Cleared)), "{back:?}");
    // And ends when it is seen to end, not before.
    let ended = show(&mut detectors, 3 * HOUR + 600..5 * HOUR, 1, |s| shown(false, s).whole());
    assert_eq!(ended.iter().filter(|(_, change)| *change == Change::Cleared).count(), want.len(), "{ended:?}");
    assert!(ended.iter().all(|(_, change)| *change == Change::Cleared), "{ended:?}");
}
