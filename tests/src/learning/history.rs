//! Days of a host, made of half a minute of it.
//!
//! What the host has for itself goes on as it was recorded: units, interfaces, probes, filesystems, with their names and the
//! runs that units are in. Rates and levels follow the time of day and wander about; they come back to what was recorded at
//! the end, which is when the recording ended. What belongs to the machine is made by [`Neighbours`]. Every counter
//! advances. A sample stands for ten seconds, the step of the learned models: rates over it are what they are of ten
//! samples, and no detector takes it for a gap.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_core::id::IdSource;
use mainstay_core::sample::{Cgroup, Interface, Probe, Sample, TcpCounters, Unit};
use mainstay_core::subject::UnitName;
use mainstay_core::time::Now;

use super::neighbours::{Neighbours, Wander, uniform};

/// What a sample stands for.
pub(super) const STEP_SECONDS: f64 = 10.0;
const STEP_MS: i64 = 10_000;
const STEP_NS: u64 = 10_000_000_000;

const DAY_STEPS: u64 = 8_640;

/// How much more there is to do at the busiest time of day than in the mean, and how far it wanders.
const BY_DAY: f64 = 0.3;
const BY_CHANCE: f64 = 0.4;

/// The same for memory, which follows the load a little.
const MEMORY_BY_CHANCE: f64 = 0.03;

/// Share of a filesystem that a day writes and the night takes away again.
const ROTATED: f64 = 0.02;

/// A count from arithmetic.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

/// How much a counter rises in a second.
fn rate(before: u64, now: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

/// What a unit uses.
#[derive(Debug, Default)]
struct Usual {
    cpus: f64,
    read: f64,
    written: f64,
    /// As it was recorded last; what is read seldom may be of an earlier sample.
    cgroup: Cgroup,
    load: Wander,
    memory: Wander,
}

/// Samples of days, oldest first. The last one is of the moment at which the recording ended.
#[derive(Debug)]
pub struct History {
    ids: IdSource,
    /// What the host is like, with counters as they stand.
    sample: Sample,
    /// As it was recorded last.
    calm: Sample,
    end: Now,
    steps: u64,
    left: Option<u64>,
    units: BTreeMap<UnitName, Usual>,
    interfaces: Vec<(Interface, Interface)>,
    tcp: f64,
    seconds: f64,
    latencies: BTreeMap<String, f64>,
    traffic: Wander,
    answers: Wander,
    neighbours: Neighbours,
}

impl History {
    /// Makes `days` of what was recorded.
    ///
    /// # Errors
    /// When too little was recorded to tell rates, or no units were seen.
    pub fn new(recorded: &[Sample], days: u32, seed: u64) -> Result<Self> {
        let (first, last) = recorded.first().zip(recorded.last()).context("nothing was recorded")?;
        let seconds = last.at.since(first.at).as_secs_f64();
        ensure!(seconds >= 5.0, "{seconds} s were recorded, rates need some more");
        let units = last.units.as_ref().context("no units were recorded")?;
        let usual = |(name, unit): (&UnitName, &Unit)| Some((name.clone(), usual(recorded, name, unit)?));
        let steps = u64::from(days) * DAY_STEPS;
        let segments = |tcp: Option<TcpCounters>| tcp.map_or(0, |tcp| tcp.segments_sent);
        let same = |now: &Interface| {
            let before = first.interfaces.iter().find(|before| before.name == now.name).unwrap_or(now);
            (before.clone(), now.clone())
        };
        let mut calm = last.clone();
        // What the clock of the machine is like is no part of a quiet week.
        calm.clock = None;
        calm.cpu_each.clear();
        Ok(Self {
            ids: IdSource::new(seed),
            sample: calm.clone(),
            end: last.at,
            steps,
            left: Some(steps),
            units: units.iter().filter_map(usual).collect(),
            interfaces: last.interfaces.iter().map(same).collect(),
            tcp: rate(segments(first.tcp), segments(last.tcp), seconds),
            seconds,
            latencies: last.probes.keys().map(|name| (name.clone(), latency(recorded, name))).collect(),
            traffic: Wander::default(),
            answers: Wander::default(),
            neighbours: Neighbours::default(),
            calm,
        })
    }

    /// Moves everything on by a step, to `left` steps before the end.
    fn step(&mut self, left: u64) {
        let to_end = left as f64 * STEP_SECONDS;
        let ids = &mut self.ids;
        let sample = &mut self.sample;
        sample.at = Now {
            // As on a machine that has been up for all of it.
            boot_ns: self.end.boot_ns + (self.steps - left) * STEP_NS,
            wall_ms: self.end.wall_ms - i64::try_from(left).unwrap_or(0) * STEP_MS,
        };
        let busy = self.neighbours.step(sample, &self.calm, ids);
        // At its mean at the end, and a day before, and the day before that.
        let season = 1.0 + BY_DAY * (to_end / 86_400.0 * TAU).sin();
        let by_chance = |wander: f64| season * (1.0 + BY_CHANCE * (2.0 * wander - 1.0));
        for (name, unit) in sample.units.iter_mut().flatten() {
            if let (Some(cgroup), Some(usual)) = (&mut unit.cgroup, self.units.get_mut(name)) {
                let load = by_chance(usual.load.step(ids));
                usual.spend(cgroup, load);
                let memory = 1.0 + MEMORY_BY_CHANCE * (2.0 * usual.memory.step(ids) - 1.0);
                usual.hold(cgroup, memory, ids);
            }
        }
        let traffic = by_chance(self.traffic.step(ids));
        for (interface, (before, now)) in sample.interfaces.iter_mut().zip(&self.interfaces) {
            receive(interface, before, now, traffic * STEP_SECONDS / self.seconds);
        }
        if let Some(tcp) = &mut sample.tcp {
            tcp.segments_sent += whole(self.tcp * traffic * STEP_SECONDS);
            // One in two thousand, as on a good network.
            tcp.segments_retransmitted += u64::from(uniform(ids) < self.tcp * STEP_SECONDS / 2_000.0);
        }
        for (filesystem, calm) in sample.filesystems.iter_mut().zip(&self.calm.filesystems) {
            let (Some(now), Some(calm)) = (&mut filesystem.usage, calm.usage) else { continue };
            let used = calm.size_bytes.saturating_sub(calm.free_bytes) as f64;
            let written = (to_end / 86_400.0).fract() * (ROTATED * calm.size_bytes as f64).min(used / 2.0);
            now.free_bytes = calm.free_bytes + whole(written);
            now.avail_bytes = calm.avail_bytes + whole(written);
        }
        let slower = self.answers.step(ids);
        for (name, probe) in &mut sample.probes {
            let usual = self.latencies.get(name).copied().unwrap_or(0.0);
            // On a busy machine an answer takes some more time.
            answer(probe, usual * (0.7 + 0.6 * slower) + 0.03 * busy, sample.at);
        }
        if let Some(log) = &sample.log {
            sample.log = Some(Arc::new(log.without_news()));
        }
    }
}

impl Iterator for History {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let left = self.left?;
        self.step(left);
        self.left = left.checked_sub(1);
        Some(self.sample.clone())
    }
}

/// What a unit used while it was recorded; `None` where it has no cgroup.
fn usual(recorded: &[Sample], name: &UnitName, unit: &Unit) -> Option<Usual> {
    let mut cgroup = unit.cgroup?;
    let seen: Vec<(Now, Cgroup)> = recorded
        .iter()
        .filter_map(|sample| {
            let then = sample.units.as_ref()?.get(name).filter(|then| then.invocation == unit.invocation)?;
            Some((sample.at, then.cgroup?))
        })
        .collect();
    let (begun, first) = *seen.first()?;
    let seconds = recorded.last()?.at.since(begun).as_secs_f64();
    let of = |count: fn(&Cgroup) -> Option<u64>| {
        let rise = count(&first).zip(count(&cgroup)).filter(|_| seconds >= 5.0);
        rise.map_or(0.0, |(before, now)| rate(before, now, seconds))
    };
    let (cpus, read, written) = (of(|c| c.cpu_usage_us) / 1e6, of(|c| c.io_read_bytes), of(|c| c.io_written_bytes));
    // A process that was too young to be looked at leaves a sum unknown in one sample and not in the next.
    let last = |count: fn(&Cgroup) -> Option<u64>| seen.iter().rev().find_map(|(_, cgroup)| count(cgroup));
    cgroup.rss_bytes = last(|c| c.rss_bytes);
    cgroup.tasks = last(|c| c.tasks);
    cgroup.fds = last(|c| c.fds);
    cgroup.fds_max = last(|c| c.fds_max);
    Some(Usual { cpus, read, written, cgroup, load: Wander::default(), memory: Wander::default() })
}

impl Usual {
    fn spend(&self, cgroup: &mut Cgroup, load: f64) {
        let add = |counter: &mut Option<u64>, amount: f64| {
            if let Some(counter) = counter {
                *counter += whole(amount * load * STEP_SECONDS);
            }
        };
        add(&mut cgroup.cpu_usage_us, self.cpus * 1e6);
        add(&mut cgroup.io_read_bytes, self.read);
        add(&mut cgroup.io_written_bytes, self.written);
    }

    fn hold(&self, cgroup: &mut Cgroup, memory: f64, ids: &mut IdSource) {
        let part = |bytes: Option<u64>| bytes.map(|bytes| whole(bytes as f64 * memory));
        cgroup.rss_bytes = part(self.cgroup.rss_bytes);
        cgroup.memory_current_bytes = part(self.cgroup.memory_current_bytes);
        cgroup.memory_anon_bytes = part(self.cgroup.memory_anon_bytes);
        cgroup.tasks = self.cgroup.tasks;
        // A file or a connection more now and then.
        cgroup.fds = self.cgroup.fds.map(|fds| fds + whole(2.0 * uniform(ids)));
        cgroup.fds_max = self.cgroup.fds_max;
    }
}

/// The median of how long answers took, in seconds.
fn latency(recorded: &[Sample], name: &str) -> f64 {
    let mut all: Vec<f64> =
        recorded.iter().filter_map(|sample| Some(sample.probes.get(name)?.latency.as_secs_f64())).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

fn answer(probe: &mut Probe, seconds: f64, at: Now) {
    (probe.at, probe.fails, probe.latency) = (at, 0, Duration::from_secs_f64(seconds));
}

/// So much of what was received and sent while recording, once more.
fn receive(interface: &mut Interface, before: &Interface, now: &Interface, share: f64) {
    let add = |counter: &mut u64, before: u64, now: u64| *counter += whole(now.saturating_sub(before) as f64 * share);
    add(&mut interface.receive_bytes, before.receive_bytes, now.receive_bytes);
    add(&mut interface.receive_packets, before.receive_packets, now.receive_packets);
    add(&mut interface.transmit_bytes, before.transmit_bytes, now.transmit_bytes);
    add(&mut interface.transmit_packets, before.transmit_packets, now.transmit_packets);
}

#[cfg(test)]
pub(crate) mod tests {
    use mainstay_core::sample::{
        CpuTimes, Disk, Filesystem, FilesystemUsage, KernelCounters, LoadAverage, Memory, Pressure, Pressures,
        VmCounters,
    };

    use super::*;

    /// What a host of a test looks like, second by second.
    pub(crate) fn recorded(seconds: u64) -> Vec<Sample> {
        (0..seconds).map(second).collect()
    }

    fn second(at: u64) -> Sample {
        let unit = |cpu_us: u64, rss: u64| {
            let cgroup = Cgroup {
                cpu_usage_us: Some(cpu_us * at),
                rss_bytes: Some(rss),
                tasks: Some(3),
                fds: Some(12),
                fds_max: Some(1_024),
                ..Cgroup::default()
            };
            Unit { invocation: Some([1; 16]), cgroup: Some(cgroup), ..Unit::default() }
        };
        let pressure = Some(Pressure::default());
        let usage = FilesystemUsage {
            size_bytes: 1 << 30,
            free_bytes: 900 << 20,
            avail_bytes: 900 << 20,
            files: 65_536,
            files_free: 65_000,
        };
        let interface = Interface {
            name: "eth0".into(),
            receive_bytes: 9_000 * at,
            receive_packets: 20 * at,
            ..Interface::default()
        };
        Sample {
            // Up for ten minutes, at a moment of the afternoon.
            at: Now {
                boot_ns: (600 + at) * 1_000_000_000,
                wall_ms: 1_795_870_800_000 + i64::try_from(at).unwrap() * 1_000,
            },
            cpu: Some(CpuTimes { user: 20 * at, idle: 180 * at, ..CpuTimes::default() }),
            cpus: Some(2),
            load: Some(LoadAverage { one: 0.4, five: 0.3, fifteen: 0.2 }),
            kernel: Some(KernelCounters { context_switches: 700 * at, forks: 3 * at, ..KernelCounters::default() }),
            memory: Some(Memory {
                total_bytes: 8 << 30,
                free_bytes: 6 << 30,
                available_bytes: 7 << 30,
                ..Memory::default()
            }),
            vm: Some(VmCounters::default()),
            pressure: Pressures { cpu: pressure, memory: pressure, io: pressure },
            filesystems: vec![Filesystem { mount: "/srv/data".into(), usage: Some(usage), ..Filesystem::default() }],
            disks: vec![Disk { name: "vda".into(), ..Disk::default() }],
            interfaces: vec![interface],
            tcp: Some(TcpCounters { segments_sent: 40 * at, ..TcpCounters::default() }),
            units: Some(BTreeMap::from([
                ("app.service".parse().unwrap(), unit(30_000, 40 << 20)),
                ("batch.service".parse().unwrap(), unit(1_000, 8 << 20)),
            ])),
            ..Sample::default()
        }
    }

    #[test]
    fn a_history_ends_where_the_recording_ended_and_never_goes_back() {
        let recorded = recorded(30);
        let samples: Vec<Sample> = History::new(&recorded, 2, 1).unwrap().collect();
        assert_eq!(samples.len(), 2 * 8_640 + 1);
        assert_eq!(samples.last().unwrap().at.wall_ms, recorded.last().unwrap().at.wall_ms);
        assert_eq!(samples[0].at.wall_ms, recorded.last().unwrap().at.wall_ms - 2 * 86_400_000);
        for pair in samples.windows(2) {
            let (before, now) = (&pair[0], &pair[1]);
            assert_eq!(now.at.since(before.at), Duration::from_secs(10));
            let counters = |sample: &Sample| {
                let (cpu, kernel, disk) = (sample.cpu.unwrap(), sample.kernel.unwrap(), &sample.disks[0]);
                let app = sample.units.as_ref().unwrap().values().next().unwrap().cgroup.unwrap();
                [
                    cpu.user + cpu.idle,
                    kernel.forks,
                    kernel.context_switches,
                    disk.reads,
                    disk.io_ms,
                    sample.interfaces[0].receive_bytes,
                    sample.tcp.unwrap().segments_sent,
                    app.cpu_usage_us.unwrap(),
                ]
            };
            for (then, now) in counters(before).into_iter().zip(counters(now)) {
                assert!(now > then, "{:?}", pair[1].at);
            }
        }
    }

    #[test]
    fn rates_and_levels_are_on_average_what_was_recorded() {
        let samples: Vec<Sample> = History::new(&recorded(30), 4, 1).unwrap().collect();
        let of = |sample: &Sample| sample.units.as_ref().unwrap()[&"app.service".parse().unwrap()].cgroup.unwrap();
        let (first, last) = (samples.first().unwrap(), samples.last().unwrap());
        let used = of(last).cpu_usage_us.unwrap() - of(first).cpu_usage_us.unwrap();
        let cpus = used as f64 / 1e6 / last.at.since(first.at).as_secs_f64();
        assert!((0.027..0.033).contains(&cpus), "{cpus}");
        for sample in &samples {
            let rss = of(sample).rss_bytes.unwrap();
            assert!(rss.abs_diff(40 << 20) <= (40 << 20) / 33, "{rss}");
        }
    }

    #[test]
    fn what_shows_no_rate_is_refused() {
        let error = History::new(&recorded(2), 7, 1).unwrap_err();
        assert!(error.to_string().contains("1 s were recorded"), "{error}");
        let error = History::new(&[], 7, 1).unwrap_err();
        assert!(error.to_string().contains("nothing was recorded"), "{error}");
    }
}
