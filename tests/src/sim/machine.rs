//! A simulated machine: units, a disk, two clocks, and what its kernel would show.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_core::id::BootId;
use mainstay_core::sample::{ActiveState, CpuTimes, Filesystem, FilesystemUsage, Memory, Probe, Sample, Unit};
use mainstay_core::subject::{PathBytes, UnitName};
use mainstay_core::time::Now;

/// 2026-01-01T00:00:00Z in milliseconds: where wall clocks begin.
const WALL_START_MS: i64 = 1_767_225_600_000;

/// The size of the disk.
const DISK_BYTES: u64 = 100 << 30;

/// Failed probes in a row that count as a hang.
const FAILS_MAX: u32 = 3;

/// What a service is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It runs until something kills it.
    Sound,
    /// It dies so long after every start.
    DiesAfter(Duration),
    /// Its binary is broken: every start fails.
    Broken,
}

/// A service of the machine.
#[derive(Debug, Clone)]
pub struct Service {
    /// What it is like.
    pub nature: Nature,
    /// What systemd says of it.
    pub unit: Unit,
    /// Whether it no longer answers its probe.
    pub frozen: bool,
    /// How often it was started.
    pub starts: u64,
    fails: u32,
}

impl Service {
    /// A service that runs.
    #[must_use]
    pub fn running(nature: Nature) -> Self {
        let mut service = Self { nature, unit: Unit::default(), frozen: false, starts: 0, fails: 0 };
        service.unit.restart = "no".to_owned();
        service.unit.service_type = "simple".to_owned();
        service.unit.enabled = true;
        service.started();
        service
    }

    /// It runs, as a new invocation.
    pub fn started(&mut self) {
        self.starts += 1;
        let mut invocation = [0; 16];
        invocation[..8].copy_from_slice(&self.starts.to_be_bytes());
        self.unit.active = ActiveState::Active;
        self.unit.sub = "running".to_owned();
        self.unit.result = "success".to_owned();
        self.unit.invocation = Some(invocation);
        self.unit.main_pid = 1_000 + u32::try_from(self.starts % 30_000).unwrap_or(0);
        (self.unit.exec_main_code, self.unit.exec_main_status) = (0, 0);
        self.unit.stopped_on_request = false;
        (self.frozen, self.fails) = (false, 0);
    }

    /// Its process died: killed by a signal, or ended with an error.
    pub fn died(&mut self, by_signal: bool) {
        self.unit.active = ActiveState::Failed;
        self.unit.sub = "failed".to_owned();
        self.unit.result = if by_signal { "signal" } else { "exit-code" }.to_owned();
        (self.unit.exec_main_code, self.unit.exec_main_status) = if by_signal { (2, 9) } else { (1, 1) };
        self.unit.main_pid = 0;
        (self.frozen, self.fails) = (false, 0);
    }

    /// It is on its way up again.
    pub fn starting(&mut self) {
        self.unit.active = ActiveState::Activating;
        self.unit.sub = "start".to_owned();
    }
}

/// A machine that runs services.
#[derive(Debug, Clone)]
pub struct Machine {
    /// This boot.
    pub boot: BootId,
    /// When it booted, in nanoseconds of the simulation.
    pub boot_at: u64,
    /// How far the wall clock is off.
    pub wall_off_ms: i64,
    /// Its services.
    pub services: BTreeMap<UnitName, Service>,
    /// How full its disk is, in per mille.
    pub used_permille: u64,
}

impl Machine {
    /// A machine with these services, all running, that booted at `at`.
    #[must_use]
    pub fn booted(number: u64, at: u64, services: BTreeMap<UnitName, Service>) -> Self {
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&number.to_be_bytes());
        Self { boot: BootId(boot), boot_at: at, wall_off_ms: 0, services, used_permille: 400 }
    }

    /// The moment on this machine's clocks, at `at` of the simulation.
    #[must_use]
    pub fn now(&self, at: u64) -> Now {
        let ms = i64::try_from(at / 1_000_000).unwrap_or(i64::MAX);
        // A machine is not booted in the instant in which its clock begins.
        Now {
            boot_ns: at.saturating_sub(self.boot_at) + 20_000_000_000,
            wall_ms: WALL_START_MS + ms + self.wall_off_ms,
        }
    }

    /// Goes down and comes up again at `at`; every service is started that can be.
    pub fn reboot(&mut self, at: u64) {
        let mut boot = self.boot.0;
        boot[15] = boot[15].wrapping_add(1);
        self.boot = BootId(boot);
        self.boot_at = at;
        for service in self.services.values_mut() {
            service.started();
            if service.nature == Nature::Broken {
                service.died(false);
            }
        }
    }

    /// What can be read of it now.
    pub fn sample(&mut self, at: u64) -> Sample {
        let now = self.now(at);
        let mut probes = BTreeMap::new();
        for (name, service) in &mut self.services {
            if service.unit.active == ActiveState::Active {
                service.fails = if service.frozen { service.fails + 1 } else { 0 };
                probes.insert(name.to_string(), probe(name, service.fails, now));
            }
        }
        let avail = DISK_BYTES / 1_000 * (1_000 - self.used_permille.min(1_000));
        let usage = FilesystemUsage {
            size_bytes: DISK_BYTES,
            free_bytes: avail,
            avail_bytes: avail,
            files: 1_000_000,
            files_free: 900_000,
        };
        let root = Filesystem {
            mount: PathBytes::from("/srv"),
            device: PathBytes::from("/dev/vdb"),
            fstype: "ext4".to_owned(),
            read_only: false,
            usage: Some(usage),
        };
        // An idle machine: what hosts share is not what is simulated here.
        let seconds = now.boot_ns / 1_000_000_000;
        let cpu = CpuTimes { user: seconds, system: seconds, idle: seconds * 98, ..CpuTimes::default() };
        let memory =
            Memory { total_bytes: 8 << 30, free_bytes: 4 << 30, available_bytes: 6 << 30, ..Memory::default() };
        let units = self.services.iter().map(|(name, service)| (name.clone(), service.unit.clone())).collect();
        Sample {
            at: now,
            cpu: Some(cpu),
            cpus: Some(1),
            memory: Some(memory),
            filesystems: vec![root],
            units: Some(units),
            probes,
            ..Sample::default()
        }
    }
}

fn probe(unit: &UnitName, fails: u32, now: Now) -> Probe {
    Probe {
        unit: unit.clone(),
        at: now,
        fails,
        fails_max: FAILS_MAX,
        latency: Duration::from_millis(if fails == 0 { 3 } else { 2_000 }),
        text: if fails == 0 { "200 in 3 ms" } else { "no answer within 2 s" }.to_owned(),
    }
}
