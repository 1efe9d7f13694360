//! Which series are recorded: the host's that a person would look at first, and those of its busiest units.
//!
//! A host may have a thousand units. What is recorded of each minute is those that have a probe or have failed, those that
//! used the most CPU in the minute before, and those with the most memory; a unit that a finding is about is recorded
//! from then on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::readings::Reading;
use crate::sample::{ActiveState, Sample, Unit};
use crate::series::SeriesKey;
use crate::subject::UnitName;

/// Most units that are recorded, besides those that findings are about.
pub(super) const UNITS_MAX: usize = 64;
/// Of these, most that are recorded because they have a probe or have failed, or because of their CPU time; the rest is by memory.
const WATCHED_MAX: usize = 16;
const BY_CPU_MAX: usize = 40;
/// Most that are recorded because a finding is about them.
const FOLLOWED_MAX: usize = 16;

/// Whether a series of this name is recorded, if its unit is. `node_cpu_seconds_total` is recorded over all CPUs together,
/// from the sample itself.
fn is_recorded(name: &str) -> bool {
    matches!(
        name,
        "node_load1"
            | "node_context_switches_total"
            | "node_forks_total"
            | "node_procs_running"
            | "node_procs_blocked"
            | "node_memory_MemTotal_bytes"
            | "node_memory_MemFree_bytes"
            | "node_memory_MemAvailable_bytes"
            | "node_memory_Cached_bytes"
            | "node_memory_Dirty_bytes"
            | "node_memory_SwapTotal_bytes"
            | "node_memory_SwapFree_bytes"
            | "node_vmstat_pswpin"
            | "node_vmstat_pswpout"
            | "node_vmstat_pgmajfault"
            | "node_vmstat_oom_kill"
            | "node_pressure_cpu_waiting_seconds_total"
            | "node_pressure_memory_waiting_seconds_total"
            | "node_pressure_memory_stalled_seconds_total"
            | "node_pressure_io_waiting_seconds_total"
            | "node_pressure_io_stalled_seconds_total"
            | "node_filesystem_readonly"
            | "node_filesystem_device_error"
            | "node_filesystem_size_bytes"
            | "node_filesystem_avail_bytes"
            | "node_filesystem_files_free"
            | "node_disk_reads_completed_total"
            | "node_disk_read_bytes_total"
            | "node_disk_read_time_seconds_total"
            | "node_disk_writes_completed_total"
            | "node_disk_written_bytes_total"
            | "node_disk_write_time_seconds_total"
            | "node_disk_io_now"
            | "node_disk_io_time_seconds_total"
            | "node_network_receive_bytes_total"
            | "node_network_receive_packets_total"
            | "node_network_receive_errs_total"
            | "node_network_receive_drop_total"
            | "node_network_transmit_bytes_total"
            | "node_network_transmit_packets_total"
            | "node_network_transmit_errs_total"
            | "node_network_transmit_drop_total"
            | "node_filefd_allocated"
            | "node_processes_pids"
            | "node_processes_threads"
            | "node_processes_state"
            | "node_netstat_Tcp_CurrEstab"
            | "node_netstat_Tcp_OutSegs"
            | "node_netstat_Tcp_RetransSegs"
            | "node_netstat_TcpExt_ListenOverflows"
            | "node_netstat_TcpExt_ListenDrops"
            | "node_nf_conntrack_entries"
            | "node_timex_sync_status"
            | "mainstay_unit_state"
            | "mainstay_unit_restarts_total"
            | "mainstay_unit_memory_bytes"
            | "mainstay_unit_tasks"
            | "mainstay_unit_open_fds"
            | "mainstay_unit_oom_kills_total"
            | "mainstay_unit_cpu_seconds_total"
            | "mainstay_unit_cpu_throttled_seconds_total"
            | "mainstay_unit_io_read_bytes_total"
            | "mainstay_unit_io_written_bytes_total"
            | "mainstay_probe_duration_seconds"
            | "mainstay_probe_success"
            | "mainstay_log_errors_total"
    )
}

/// The units of the minute.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    units: BTreeSet<String>,
    followed: BTreeSet<String>,
    cpu_before_us: BTreeMap<UnitName, u64>,
    /// The unit that was asked for last, and the answer: a unit's readings come one after the other.
    asked: String,
    answer: bool,
}

impl Chosen {
    /// Whether a reading is recorded.
    pub(super) fn wants(&mut self, reading: &Reading<'_>) -> bool {
        // That a unit is not active says the rest.
        let is_spare = reading.name == "mainstay_unit_state" && reading.labels.contains(&("state", "failed"));
        if is_spare || !is_recorded(reading.name) {
            return false;
        }
        let mut labels = reading.labels.iter();
        match labels.find(|(name, _)| *name == "unit") {
            None => true,
            // Lines of the kernel's own are counted under a name that no unit can have.
            Some((_, unit)) => reading.name.starts_with("mainstay_probe_") || *unit == "kernel" || self.has(unit),
        }
    }

    fn has(&mut self, unit: &str) -> bool {
        if self.asked != unit {
            self.asked.clear();
            self.asked.push_str(unit);
            self.answer = self.units.contains(unit) || self.followed.contains(unit);
        }
        self.answer
    }

    /// Whether a series that was recorded still is.
    pub(super) fn keeps(&self, key: &SeriesKey) -> bool {
        let is_of_unit = key.name.starts_with("mainstay_unit_") || key.name.starts_with("mainstay_log_");
        let unit = key.labels.iter().find(|(name, _)| name == "unit").map(|(_, unit)| unit);
        let has = |unit: &String| unit == "kernel" || self.units.contains(unit) || self.followed.contains(unit);
        !is_of_unit || unit.is_none_or(has)
    }

    /// A finding is about this unit.
    pub(super) fn follow(&mut self, unit: &UnitName) {
        if self.followed.len() >= FOLLOWED_MAX && !self.followed.contains(unit.as_str()) {
            self.followed.pop_first();
        }
        self.followed.insert(unit.as_str().to_owned());
        self.asked.clear();
    }

    /// Chooses for the minute that begins with this sample.
    pub(super) fn choose(&mut self, sample: &Sample) {
        let Some(units) = &sample.units else { return };
        let probed: BTreeSet<&UnitName> = sample.probes.values().map(|probe| &probe.unit).collect();
        let is_watched =
            |(name, unit): &(&UnitName, &Unit)| unit.active == ActiveState::Failed || probed.contains(*name);
        let mut chosen: BTreeSet<&UnitName> =
            units.iter().filter(is_watched).take(WATCHED_MAX).map(|(name, _)| name).collect();
        let with = |of: fn(&Unit) -> Option<u64>| {
            units.iter().filter_map(move |(name, unit)| Some((name, of(unit)?))).collect::<Vec<_>>()
        };
        let mut by_cpu = with(|unit| unit.cgroup.as_ref()?.cpu_usage_us);
        let used_us = |(name, now): &(&UnitName, u64)| {
            now.saturating_sub(self.cpu_before_us.get(*name).copied().unwrap_or_default())
        };
        by_cpu.sort_by_key(|one| Reverse(used_us(one)));
        chosen.extend(by_cpu.iter().take(BY_CPU_MAX).map(|(name, _)| *name));
        let mut by_memory = with(|unit| {
            let cgroup = unit.cgroup.as_ref()?;
            cgroup.memory_current_bytes.or(cgroup.rss_bytes)
        });
        by_memory.sort_by_key(|(_, bytes)| Reverse(*bytes));
        for (name, _) in by_memory {
            if chosen.len() >= UNITS_MAX {
                break;
            }
            chosen.insert(name);
        }
        self.cpu_before_us = by_cpu.into_iter().map(|(name, us)| (name.clone(), us)).collect();
        self.units = chosen.into_iter().map(|name| name.as_str().to_owned()).collect();
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_that_is_recorded_is_a_reading() {
        let source = include_str!("chosen.rs");
        let (_, list) = source.split_once("fn is_recorded").unwrap();
        let (list, _) = list.split_once(")\n}").unwrap();
        let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 60, "{names:?}");
        let readings = include_str!("../readings.rs");
        for name in names {
            assert!(is_recorded(name));
            assert!(readings.contains(&format!("\"{name}\"")), "{name} is no reading");
        }
    }
}
