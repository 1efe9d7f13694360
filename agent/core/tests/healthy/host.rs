//! A healthy host, seeded: daily and weekly load, nightly and weekly and monthly jobs, a runner of
//! builds, deployments with restarts, reboots, backups, caches that fill, heaps that are collected,
//! pools that grow with the load, logs that are rotated, and bursts that are only much to do.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use mainstay_core::id::IdSource;
use mainstay_core::sample::{
    ActiveState, Cgroup, CpuTimes, Disk, FileHandles, Filesystem, FilesystemUsage, Interface, KernelCounters,
    LoadAverage, Memory, Pressure, ProcessCounts, Sample, Stall, Unit,
};
use mainstay_core::time::Now;

/// Seconds between samples: less than what the detectors take for a gap.
pub(crate) const STEP: u64 = 10;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;
const WEEK: f64 = 7.0 * DAY;

const CPUS: f64 = 8.0;
const MIB: f64 = 1_048_576.0;
const MEMORY: f64 = 16_384.0 * MIB;
const DISK: f64 = 200e9;
const INODES: f64 = 12e6;

/// What a service is like. CPUs, MiB and counts: at rest, and what a full load adds.
struct Nature {
    name: &'static str,
    cpus: (f64, f64),
    memory: (f64, f64),
    /// Collected every so many minutes, up to so many MiB.
    heap: (f64, f64),
    /// Fills up to so many MiB, in so many hours.
    cache: (f64, f64),
    memory_max: Option<f64>,
    fds: (f64, f64),
    tasks: (f64, f64),
    /// Deployments a week.
    deploys: f64,
}

const REST: Nature = Nature {
    name: "",
    cpus: (0.002, 0.0),
    memory: (12.0, 0.0),
    heap: (0.0, 0.0),
    cache: (0.0, 0.0),
    memory_max: None,
    fds: (20.0, 0.0),
    tasks: (2.0, 0.0),
    deploys: 0.0,
};

const SERVICES: [Nature; 10] = [
    Nature {
        name: "web.service",
        cpus: (0.05, 0.6),
        memory: (120.0, 80.0),
        // On the busiest of its days, in its largest version, nine tenths of its 1024.
        fds: (60.0, 250.0),
        tasks: (9.0, 0.0),
        deploys: 0.5,
        ..REST
    },
    Nature {
        name: "app.service",
        cpus: (0.08, 1.2),
        memory: (900.0, 150.0),
        heap: (25.0, 500.0),
        memory_max: Some(2_048.0),
        fds: (180.0, 220.0),
        tasks: (60.0, 140.0),
        deploys: 2.5,
        ..REST
    },
    Nature {
        name: "worker.service",
        cpus: (0.02, 0.5),
        memory: (250.0, 60.0),
        heap: (6.0, 80.0),
        memory_max: Some(1_024.0),
        fds: (50.0, 60.0),
        tasks: (12.0, 20.0),
        deploys: 2.5,
        ..REST
    },
    Nature {
        name: "db.service",
        cpus: (0.05, 0.5),
        memory: (700.0, 300.0),
        cache: (1_500.0, 30.0),
        fds: (140.0, 160.0),
        tasks: (14.0, 60.0),
        deploys: 0.03,
        ..REST
    },
    Nature {
        name: "cache.service",
        cpus: (0.01, 0.1),
        memory: (60.0, 0.0),
        cache: (1_400.0, 9.0),
        memory_max: Some(2_048.0),
        fds: (30.0, 300.0),
        tasks: (5.0, 0.0),
        deploys: 0.1,
        ..REST
    },
    Nature {
        name: "queue.service",
        cpus: (0.01, 0.1),
        memory: (80.0, 40.0),
        heap: (45.0, 120.0),
        fds: (60.0, 80.0),
        tasks: (30.0, 10.0),
        deploys: 0.1,
        ..REST
    },
    Nature { name: "cron.service", ..REST },
    Nature { name: "runner.service", memory: (60.0, 0.0), tasks: (12.0, 0.0), fds: (40.0, 0.0), ..REST },
    Nature { name: "ssh.service", fds: (12.0, 0.0), ..REST },
    Nature { name: "logs.service", cpus: (0.01, 0.05), memory: (40.0, 10.0), fds: (40.0, 20.0), ..REST },
];

/// The services of [`SERVICES`] that jobs run in.
const WEB: usize = 0;
const CRON: usize = 6;
const RUNNER: usize = 7;

/// Something that runs for a while: CPUs, MiB, tasks, forks a second, share of time that all wait for I/O.
#[derive(Debug, Clone, Copy)]
struct Job {
    service: usize,
    until: f64,
    cpus: f64,
    memory: f64,
    tasks: f64,
    forks: f64,
    io: f64,
}

struct Service {
    invocation: u64,
    started: f64,
    /// What this version takes more or less than the first.
    factor: f64,
    cpu_us: f64,
    noise: f64,
}

/// The host.
pub(crate) struct Host {
    ids: IdSource,
    second: u64,
    phase: f64,
    booted: u64,
    services: Vec<Service>,
    jobs: Vec<Job>,
    noise: f64,
    /// Bytes of logs, of releases, and inodes of sessions.
    logs: f64,
    installed: f64,
    sessions: f64,
    cpu: [f64; 3],
    forks: f64,
    disk_ms: f64,
    disk_bytes: f64,
    net_bytes: f64,
    waiting: [f64; 3],
    waited_us: [f64; 3],
}

impl Host {
    pub(crate) fn new(seed: u64) -> Self {
        let mut ids = IdSource::new(seed);
        let phase = uniform(&mut ids) * 4.0 * HOUR;
        let service = |_| Service { invocation: 1, started: 0.0, factor: 1.0, cpu_us: 0.0, noise: 0.0 };
        Self {
            ids,
            second: 0,
            phase,
            booted: 0,
            services: SERVICES.iter().map(service).collect(),
            jobs: Vec::new(),
            noise: 0.0,
            logs: 2e9,
            installed: 40e9,
            sessions: 20_000.0,
            cpu: [0.0; 3],
            forks: 0.0,
            disk_ms: 0.0,
            disk_bytes: 0.0,
            net_bytes: 0.0,
            waiting: [0.0; 3],
            waited_us: [0.0; 3],
        }
    }

    /// What can be read after the next ten seconds.
    pub(crate) fn sample(&mut self) -> Sample {
        self.second += STEP;
        let t = float(self.second);
        self.noise = 0.98 * self.noise + 0.02 * normal(&mut self.ids);
        self.begin_jobs(t);
        self.jobs.retain(|job| job.until > t);
        self.deploy(t);
        let load = self.load(t);
        let units = self.units(t, load);
        self.sample_of(t, load, units)
    }

    /// How much there is to do, 0 to 1 on an ordinary day.
    fn load(&self, t: f64) -> f64 {
        let hour = ((t + self.phase) % DAY) / HOUR;
        let day = 0.5 - 0.5 * ((hour - 3.0) / 24.0 * TAU).cos();
        let weekend = if (t / DAY) % 7.0 >= 5.0 { 0.55 } else { 1.0 };
        let growth = 1.0 + 0.005 * t / WEEK;
        let burst: f64 = self.jobs.iter().filter(|job| job.service == WEB).map(|job| job.cpus).sum();
        (day * weekend * growth * (1.0 + self.noise) + burst).clamp(0.02, 2.0)
    }

    /// True once every `every` seconds on average.
    fn happens(&mut self, every: f64) -> bool {
        uniform(&mut self.ids) < float(STEP) / every
    }

    fn begin(&mut self, service: usize, t: f64, minutes: (f64, f64), job: Job) {
        let minutes = minutes.0 + (minutes.1 - minutes.0) * uniform(&mut self.ids);
        self.jobs.push(Job { service, until: t + minutes * MINUTE, ..job });
    }

    fn begin_jobs(&mut self, t: f64) {
        let at = |hour: f64, every: f64| (t % every) >= hour * HOUR && (t % every) < hour * HOUR + float(STEP);
        let job = Job { service: CRON, until: 0.0, cpus: 1.0, memory: 0.0, tasks: 3.0, forks: 2.0, io: 0.0 };
        if at(2.2, DAY) {
            self.begin(CRON, t, (15.0, 35.0), Job { memory: 200.0, ..job });
        }
        if at(3.0, DAY) {
            // The backup reads the whole disk; the job's unit is systemd's, started by a timer.
            self.begin(usize::MAX, t, (35.0, 65.0), Job { cpus: 0.5, memory: 90.0, io: 0.2, ..job });
        }
        if at(28.0, WEEK) {
            self.begin(CRON, t, (90.0, 130.0), Job { memory: 350.0, io: 0.1, ..job });
        }
        if at(5.0, 4.0 * WEEK) {
            self.begin(CRON, t, (150.0, 200.0), Job { io: 0.15, ..job });
        }
        // Builds by day, most of them short and some of them long.
        let hour = (t % DAY) / HOUR;
        if (8.0..19.0).contains(&hour) && (t / DAY) % 7.0 < 5.0 && self.happens(1.5 * HOUR) {
            let long = uniform(&mut self.ids).powi(4) * 60.0;
            let build =
                Job { cpus: 1.5 + 1.3 * uniform(&mut self.ids), memory: 600.0, tasks: 60.0, forks: 150.0, ..job };
            self.begin(RUNNER, t, (4.0 + long, 8.0 + long), build);
        }
        // A mailing goes out, or somebody links to the site.
        if self.happens(0.3 * WEEK) {
            let more = 0.3 + 0.5 * uniform(&mut self.ids);
            self.begin(WEB, t, (4.0, 25.0), Job { cpus: more, memory: 0.0, tasks: 0.0, forks: 0.0, ..job });
        }
    }

    fn deploy(&mut self, t: f64) {
        let hour = (t % DAY) / HOUR;
        let is_working = (9.0..17.0).contains(&hour) && (t / DAY) % 7.0 < 5.0;
        for (at, nature) in SERVICES.iter().enumerate() {
            // Working hours are a quarter of a week.
            if is_working && nature.deploys > 0.0 && self.happens(WEEK / 4.2 / nature.deploys) {
                let factor = self.services[at].factor * (1.0 + 0.04 * normal(&mut self.ids));
                self.services[at].factor = factor.clamp(0.8, 1.3);
                self.restart(at, t);
                self.installed += 150e6;
            }
        }
        if self.happens(4.0 * WEEK) && self.second > self.booted + 86_400 {
            self.booted = self.second;
            (self.cpu, self.forks, self.disk_ms, self.disk_bytes, self.net_bytes) = ([0.0; 3], 0.0, 0.0, 0.0, 0.0);
            self.waited_us = [0.0; 3];
            (0..SERVICES.len()).for_each(|at| self.restart(at, t));
        }
    }

    fn restart(&mut self, at: usize, t: f64) {
        let service = &mut self.services[at];
        service.invocation += 1;
        (service.started, service.cpu_us) = (t, 0.0);
        self.jobs.retain(|job| job.service != at || at == WEB);
    }

    fn units(&mut self, t: f64, load: f64) -> BTreeMap<mainstay_core::subject::UnitName, Unit> {
        let mut units = BTreeMap::new();
        for (at, nature) in SERVICES.iter().enumerate() {
            let mine = || self.jobs.iter().filter(|job| job.service == at && at != WEB);
            let sum = |of: fn(&Job) -> f64| mine().map(of).sum::<f64>();
            let (cpus, memory, tasks) = (sum(|job| job.cpus), sum(|job| job.memory), sum(|job| job.tasks));
            let draw = normal(&mut self.ids);
            let service = &mut self.services[at];
            service.noise = 0.9 * service.noise + 0.1 * draw;
            let busy = (load * (1.0 + 0.3 * service.noise)).max(0.0) * service.factor;
            let since = t - service.started;
            service.cpu_us += (nature.cpus.0 + nature.cpus.1 * busy + cpus) * float(STEP) * 1e6;
            let heap = if nature.heap.0 > 0.0 {
                nature.heap.1 * (since / MINUTE % nature.heap.0) / nature.heap.0
            } else {
                0.0
            };
            let cache = if nature.cache.1 > 0.0 {
                nature.cache.0 * (1.0 - (-since / HOUR / nature.cache.1).exp())
            } else {
                0.0
            };
            // What a program takes rises with the load and falls back slowly; here at once.
            let used = (nature.memory.0 * service.factor + nature.memory.1 * busy + heap + cache + memory) * MIB;
            let cgroup = Cgroup {
                memory_current_bytes: Some(whole(used * 1.4)),
                memory_anon_bytes: Some(whole(used)),
                memory_max_bytes: nature.memory_max.map(|mib| whole(mib * MIB)),
                cpu_usage_us: Some(whole(service.cpu_us)),
                tasks: Some(whole(nature.tasks.0 + nature.tasks.1 * busy + tasks)),
                tasks_max: Some(4_915),
                fds: Some(whole(nature.fds.0 + nature.fds.1 * busy)),
                fds_max: Some(1_024),
                ..Cgroup::default()
            };
            units.insert(nature.name.parse().unwrap(), unit(service.invocation, Some(cgroup)));
        }
        let backup = self.jobs.iter().find(|job| job.service == usize::MAX);
        let cgroup = backup.map(|job| Cgroup {
            memory_current_bytes: Some(whole(job.memory * MIB * 4.0)),
            memory_anon_bytes: Some(whole(job.memory * MIB)),
            cpu_usage_us: Some(whole((t % DAY) * 0.5e6)),
            tasks: Some(3),
            fds: Some(30),
            fds_max: Some(1_024),
            ..Cgroup::default()
        });
        let state = if cgroup.is_some() { ActiveState::Activating } else { ActiveState::Inactive };
        let of_timer =
            Unit { active: state, enabled: false, service_type: "oneshot".into(), ..unit(whole(t / DAY), cgroup) };
        units.insert("backup.service".parse().unwrap(), of_timer);
        units
    }

    fn sample_of(&mut self, t: f64, load: f64, units: BTreeMap<mainstay_core::subject::UnitName, Unit>) -> Sample {
        let seconds = float(STEP);
        let of_jobs = |of: fn(&Job) -> f64| self.jobs.iter().filter(|job| job.service != WEB).map(of).sum::<f64>();
        let (cpus, forks, io) = (of_jobs(|job| job.cpus), of_jobs(|job| job.forks), of_jobs(|job| job.io));
        let services: f64 = SERVICES.iter().map(|nature| nature.cpus.0 + nature.cpus.1 * load).sum();
        let busy = ((services + cpus) / CPUS + 0.01).min(1.0);
        let noise = normal(&mut self.ids).abs();
        self.cpu[0] += busy * seconds * CPUS * 100.0;
        self.cpu[1] += io * 0.5 * seconds * 100.0;
        self.cpu[2] += (1.0 - busy) * seconds * CPUS * 100.0;
        self.forks += (3.0 + 12.0 * load + forks) * (1.0 + 0.1 * noise) * seconds;
        // Tasks begin to wait for a CPU when most are busy.
        let stalls = [(busy - 0.4).max(0.0) * 0.8, 0.0005 * noise, (0.01 + io + 0.02 * load * noise).min(1.0)];
        for (at, stall) in stalls.into_iter().enumerate() {
            self.waiting[at] += (stall - self.waiting[at]) * seconds / 60.0;
            self.waited_us[at] += stall * seconds * 1e6;
        }
        self.disk_ms += (0.03 + 0.1 * load + io * 2.0).min(1.0) * seconds * 1e3;
        self.disk_bytes += (0.5e6 + 2e6 * load + io * 150e6) * (1.0 + 0.2 * noise) * seconds;
        self.net_bytes += (20e3 + 3e6 * load) * (1.0 + 0.1 * noise) * seconds;
        // Logs are rotated by night and kept for a week; sessions are cleaned up by night.
        self.logs += 40e3 * load * seconds;
        self.sessions += 4.0 * load * seconds;
        if (t % DAY) < 0.1 * HOUR {
            (self.logs, self.sessions) = (self.logs.min(2.5e9), 20_000.0);
        }
        if (t % (4.0 * WEEK)) < seconds {
            self.installed = 40e9;
        }
        let used: f64 = units.values().filter_map(|unit| unit.cgroup?.memory_anon_bytes).map(float).sum();
        let available = MEMORY - used - 900.0 * MIB;
        let tasks: u64 = units.values().filter_map(|unit| unit.cgroup?.tasks).sum::<u64>() + 180;
        let disk_used = self.installed + self.logs;
        let usage = FilesystemUsage {
            size_bytes: whole(DISK),
            free_bytes: whole(DISK - disk_used),
            avail_bytes: whole(DISK - disk_used),
            files: whole(INODES),
            files_free: whole(INODES - 400_000.0 - self.sessions),
        };
        let pressure = |at: usize, full: f64| {
            let avg = self.waiting[at];
            let stall = |share: f64| Stall {
                avg10_ratio: avg * share,
                avg60_ratio: avg * share,
                avg300_ratio: avg * share,
                total_us: whole(self.waited_us[at] * share),
            };
            Some(Pressure { some: stall(1.0), full: Some(stall(full)) })
        };
        let boot_ns = (self.second - self.booted + 30) * 1_000_000_000;
        // A Monday.
        let wall_ms = 1_795_392_000_000 + i64::try_from(self.second * 1_000).unwrap();
        let mut sample = Sample {
            at: Now { boot_ns, wall_ms },
            cpu: Some(CpuTimes {
                user: whole(self.cpu[0]),
                iowait: whole(self.cpu[1]),
                idle: whole(self.cpu[2]),
                ..CpuTimes::default()
            }),
            cpus: Some(8),
            load: Some(LoadAverage { one: busy * CPUS, five: busy * CPUS, fifteen: busy * CPUS }),
            kernel: Some(KernelCounters {
                context_switches: whole(self.forks * 90.0),
                forks: whole(self.forks),
                procs_running: 1,
                ..KernelCounters::default()
            }),
            memory: Some(Memory { total_bytes: whole(MEMORY), available_bytes: whole(available), ..Memory::default() }),
            filesystems: vec![Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() }],
            disks: vec![Disk {
                name: "vda".into(),
                writes: whole(self.disk_ms / 2.0),
                write_ms: whole(self.disk_ms * 1.5),
                written_bytes: whole(self.disk_bytes),
                io_ms: whole(self.disk_ms),
                ..Disk::default()
            }],
            interfaces: vec![Interface {
                name: "eth0".into(),
                receive_bytes: whole(self.net_bytes / 8.0),
                transmit_bytes: whole(self.net_bytes),
                receive_packets: whole(self.net_bytes / 1_000.0),
                transmit_packets: whole(self.net_bytes / 900.0),
                ..Interface::default()
            }],
            processes: Some(ProcessCounts {
                total: u32::try_from(tasks / 2).unwrap(),
                threads: u32::try_from(tasks).unwrap(),
                ..ProcessCounts::default()
            }),
            tasks_max: Some(32_768),
            file_handles: Some(FileHandles { allocated: whole(2_000.0 + 900.0 * load), maximum: 1 << 40 }),
            units: Some(units),
            ..Sample::default()
        };
        sample.pressure.cpu = pressure(0, 0.0);
        sample.pressure.memory = pressure(1, 0.5);
        sample.pressure.io = pressure(2, 0.8);
        sample
    }
}

fn unit(invocation: u64, cgroup: Option<Cgroup>) -> Unit {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&invocation.to_le_bytes());
    Unit {
        active: ActiveState::Active,
        sub: "running".into(),
        result: "success".into(),
        invocation: Some(id),
        enabled: true,
        service_type: "simple".into(),
        cgroup,
        ..Unit::default()
    }
}

#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// Evenly from 0 to 1.
fn uniform(ids: &mut IdSource) -> f64 {
    float(ids.next_u64() >> 11) / float(1 << 53)
}

/// Nearly normal: the sum of twelve even draws.
fn normal(ids: &mut IdSource) -> f64 {
    (0..12).map(|_| uniform(ids)).sum::<f64>() - 6.0
}
