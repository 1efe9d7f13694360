//! The machine that a host shares, and how restless it is.
//!
//! Hosts of a test have the machine's kernel, so what `/proc/stat`, `/proc/meminfo` and the pressure files say is about all
//! hosts on it, and about whatever else it works at: other tests, compilers. A stretch of half a minute shows one moment of
//! that. So these figures are made up, wide enough for everything between an idle machine and one that is all busy: on such
//! a machine neither is unusual, and what is found on a host is found by what is the host's own.

use mainstay_core::id::IdSource;
use mainstay_core::sample::{CpuTimes, Pressure, Sample, Stall};

use super::history::{STEP_SECONDS, whole};

/// Steps that a level stays: one minute to twenty.
const STAY: (u64, u64) = (6, 120);

/// Share of the way to its level that a step goes.
const PACE: f64 = 0.3;

/// A draw between 0 and 1.
pub(super) fn uniform(ids: &mut IdSource) -> f64 {
    (ids.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Goes from level to level, between 0 and 1, and stays at each for some minutes: all levels alike, so that no level is far
/// from the mean in the measure of their spread. What is mostly at rest and works now and then has extremes, and a host with
/// many such hours is told of nothing less.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wander {
    level: f64,
    target: f64,
    left: u64,
}

impl Wander {
    pub(super) fn step(&mut self, ids: &mut IdSource) -> f64 {
        if self.left == 0 {
            self.target = uniform(ids);
            self.left = STAY.0 + ids.next_u64() % (STAY.1 - STAY.0);
        }
        self.left -= 1;
        self.level += (self.target - self.level) * PACE;
        self.level
    }
}

/// What goes on on the machine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Neighbours {
    cpu: Wander,
    disk: Wander,
    memory: Wander,
    stolen: Wander,
}

impl Neighbours {
    /// Ten more seconds: counters go on from where they are in `sample`; levels lie below what `calm` has.
    /// Gives how busy the CPUs are, 0 to 1.
    pub(super) fn step(&mut self, sample: &mut Sample, calm: &Sample, ids: &mut IdSource) -> f64 {
        let (cpu, disk, memory) = (self.cpu.step(ids), self.disk.step(ids), self.memory.step(ids));
        let stolen = self.stolen.step(ids);
        let cpus = f64::from(calm.cpus.unwrap_or(1).max(1));
        if let Some(times) = &mut sample.cpu {
            spend(times, cpus * STEP_SECONDS * 100.0, cpu, disk * 0.4, stolen * 0.2);
        }
        if let Some(load) = &mut sample.load {
            let runnable = cpus * (0.1 + 4.0 * cpu);
            load.one += (runnable - load.one) * (STEP_SECONDS / 60.0);
        }
        if let Some(kernel) = &mut sample.kernel {
            kernel.context_switches += whole((500.0 + 40_000.0 * cpu) * STEP_SECONDS);
            kernel.forks += whole((2.0 + 80.0 * cpu) * STEP_SECONDS);
            kernel.interrupts += whole((500.0 + 8_000.0 * cpu) * STEP_SECONDS);
            kernel.procs_blocked = whole(3.0 * disk);
        }
        if let (Some(now), Some(calm)) = (&mut sample.memory, calm.memory) {
            // Never so little that it would be trouble of its own.
            let taken = (calm.total_bytes as f64 * 0.4 * memory).min(calm.available_bytes as f64 * 0.6);
            now.available_bytes = calm.available_bytes.saturating_sub(whole(taken));
            now.free_bytes = calm.free_bytes.min(now.available_bytes);
        }
        if let Some(vm) = &mut sample.vm {
            vm.pgmajfault += whole(200.0 * disk * STEP_SECONDS);
        }
        if let (Some(now), Some(calm)) = (&mut sample.file_handles, calm.file_handles) {
            now.allocated = whole(calm.allocated as f64 * (0.8 + 0.4 * memory));
        }
        wait(&mut sample.pressure.cpu, cpu * 0.95, 0.0);
        wait(&mut sample.pressure.memory, 0.1 * disk, 0.002 * disk);
        wait(&mut sample.pressure.io, 0.6 * disk, 0.1 * disk);
        for device in &mut sample.disks {
            let busy = 0.95 * disk;
            let requests = STEP_SECONDS * (2.0 + 800.0 * busy);
            let await_ms = 0.3 + 40.0 * disk;
            device.reads += whole(requests / 2.0);
            device.writes += whole(requests / 2.0);
            device.read_ms += whole(requests / 2.0 * await_ms);
            device.write_ms += whole(requests / 2.0 * await_ms);
            device.read_bytes += whole(300e6 * disk * STEP_SECONDS);
            device.written_bytes += whole(600e6 * disk * STEP_SECONDS);
            device.io_ms += whole(busy * STEP_SECONDS * 1e3);
            device.weighted_io_ms += whole(requests * await_ms);
        }
        cpu
    }
}

/// Shares so many ticks out. The busy share stays below what would be saturation.
fn spend(times: &mut CpuTimes, ticks: f64, busy: f64, waiting: f64, stolen: f64) {
    let busy = 0.02 + 0.82 * busy;
    let stolen = stolen * busy;
    let waiting = waiting * (1.0 - busy);
    times.user += whole(ticks * (busy - stolen) * 0.75);
    times.system += whole(ticks * (busy - stolen) * 0.23);
    times.softirq += whole(ticks * (busy - stolen) * 0.02);
    times.steal += whole(ticks * stolen);
    times.iowait += whole(ticks * waiting);
    times.idle += whole(ticks * (1.0 - busy - waiting));
}

/// Ten seconds of waiting, some tasks and all.
fn wait(pressure: &mut Option<Pressure>, some: f64, full: f64) {
    let Some(pressure) = pressure else { return };
    stall(&mut pressure.some, some);
    if let Some(stalled) = &mut pressure.full {
        stall(stalled, full);
    }
}

fn stall(stall: &mut Stall, share: f64) {
    stall.total_us += whole(share * STEP_SECONDS * 1e6);
    for (average, seconds) in
        [(&mut stall.avg10_ratio, 10.0), (&mut stall.avg60_ratio, 60.0), (&mut stall.avg300_ratio, 300.0)]
    {
        *average += (share - *average) * (STEP_SECONDS / seconds).min(1.0);
    }
}
