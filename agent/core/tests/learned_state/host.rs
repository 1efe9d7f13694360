//! A small host with habits, for snapshots of what is learned: the CPU is busier by day, a disk of
//! 100 GiB grows by a quarter of a GiB a day, a service takes some 300 MiB.
//!
//! Everything follows from the second, so that two versions of the detectors are shown the same.

use std::collections::BTreeMap;

use mainstay_core::detect::Detectors;
use mainstay_core::detect::FindingEvent;
use mainstay_core::sample::{Cgroup, CpuTimes, Disk, Filesystem, FilesystemUsage, Memory, Sample, Unit};
use mainstay_core::time::Now;

/// One day in seconds.
pub(crate) const DAY: u64 = 86_400;
/// The recorded snapshot was taken after so many days.
#[allow(dead_code)] // each of the two programs that include this uses a part of it
pub(crate) const LEARNED_DAYS: u64 = 3;
/// Seconds between samples.
const EVERY: u64 = 10;

/// The moment of a second of this host's life.
pub(crate) fn at(second: u64) -> Now {
    Now { boot_ns: second * 1_000_000_000, wall_ms: 1_795_392_000_000 + i64::try_from(second * 1_000).unwrap_or(0) }
}

/// A number from 0 to 1 that follows from the second and a lane.
fn noise(second: u64, lane: u64) -> f64 {
    let mut mixed = second.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ lane.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 32;
    #[allow(clippy::cast_precision_loss)]
    let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    unit
}

/// The host with its counters.
#[derive(Debug, Default)]
pub(crate) struct Host {
    cpu: CpuTimes,
    disk: Disk,
}

impl Host {
    /// Shows seconds to detectors; `busy` changes the busy share of the CPU. Gives what they said, with the second.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn show(
        &mut self,
        detectors: &mut Detectors,
        seconds: std::ops::Range<u64>,
        busy: impl Fn(u64, f64) -> f64,
    ) -> Vec<(u64, FindingEvent)> {
        let mut said = Vec::new();
        for second in seconds.step_by(EVERY as usize) {
            let day = (second as f64 / DAY as f64 * std::f64::consts::TAU).sin();
            let share = busy(second, 0.3 + 0.1 * day + 0.05 * noise(second, 1));
            self.cpu.user += (share * 1_000.0 * EVERY as f64 / 10.0) as u64;
            self.cpu.idle += ((1.0 - share) * 1_000.0 * EVERY as f64 / 10.0) as u64;
            self.disk.name = "vda".into();
            // A runaway process writes as well.
            let is_runaway = share > 0.9;
            self.disk.io_ms += if is_runaway { 9_000 } else { (500.0 + 500.0 * noise(second, 2)) as u64 };
            self.disk.written_bytes += if is_runaway { 900_000_000 } else { (1e6 + 1e6 * noise(second, 3)) as u64 };
            let size_bytes = 100u64 << 30;
            let used = (40u64 << 30) + (second << 28) / DAY;
            let avail_bytes = size_bytes - used;
            let usage = FilesystemUsage { size_bytes, free_bytes: avail_bytes, avail_bytes, ..Default::default() };
            let resident = (300.0 + 20.0 * noise(second / 600, 4)) as u64 * 1_048_576;
            let cgroup = Cgroup {
                memory_anon_bytes: Some(resident),
                memory_current_bytes: Some(resident * 2),
                memory_max_bytes: Some(2 << 30),
                ..Cgroup::default()
            };
            let unit = Unit { invocation: Some([7; 16]), cgroup: Some(cgroup), ..Unit::default() };
            let sample = Sample {
                at: at(second),
                cpu: Some(self.cpu),
                memory: Some(Memory { total_bytes: 16 << 30, available_bytes: 8 << 30, ..Memory::default() }),
                disks: vec![self.disk.clone()],
                filesystems: vec![Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() }],
                units: "app.service".parse().ok().map(|name| BTreeMap::from([(name, unit)])),
                ..Sample::default()
            };
            let events = detectors.observe_sample(&sample, at(second));
            said.extend(events.into_iter().map(|event| (second, event)));
        }
        said
    }
}
