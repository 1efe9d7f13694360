//! Reads the host into samples. One kernel or systemd interface per file.
//!
//! Nothing in here waits: files of `/proc` and cgroups are made by the kernel on the spot, `statfs`
//! is left to a thread that may be lost, D-Bus and probes hand on what they hear.

pub mod background;
mod bell;
pub mod cgroups;
pub mod changes;
pub mod clock;
pub mod connections;
pub mod containers;
pub mod disk_health;
pub mod facts;
pub mod file;
pub mod filesystems;
pub mod handles;
pub mod journal;
pub mod look;
pub mod own;
pub mod probes;
pub mod proc;
pub mod processes;
pub mod reboot;
pub mod rounds;
pub mod scrape;
pub mod sd_notify;
pub mod systemd;
pub mod watched;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mainstay_core::budget::Reading;
use mainstay_core::processes::Held;
use mainstay_core::processes::ended::Before;
use mainstay_core::sample::{Container, Probe, Sample, Unit};
use mainstay_core::subject::{PathBytes, UnitName};
use mainstay_core::time::Now;

use background::Backgrounds;
use cgroups::Cgroups;
use containers::{Containers, Found, Running};
use disk_health::DiskHealths;
use filesystems::{FilesystemSettings, Filesystems};
use journal::Journal;
use proc::ProcReader;
use processes::Processes;
use reboot::Reboot;
use systemd::{UnitState, UnitsEvent};

/// What could not be read in one sample: by path, why.
#[derive(Debug, Default)]
pub struct ReadErrors {
    noted: BTreeMap<String, String>,
}

impl ReadErrors {
    /// Notes that `path` could not be read or understood.
    pub fn note(&mut self, path: &str, text: String) {
        self.noted.insert(path.to_owned(), text);
    }

    /// Path and reason of everything noted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.noted.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    fn clear(&mut self) {
        self.noted.clear();
    }
}

/// Everything that is read of one host, and the latest news about units and probes.
#[derive(Debug)]
pub struct Host {
    proc: ProcReader,
    processes: Processes,
    cgroups: Cgroups,
    containers: Option<Containers>,
    container_cgroups: Cgroups,
    backgrounds: Option<Backgrounds>,
    filesystems: Filesystems,
    clock: clock::Kept,
    reboot: Reboot,
    disk_healths: DiskHealths,
    units: Option<BTreeMap<UnitName, UnitState>>,
    units_left_out: u64,
    probes: BTreeMap<String, Probe>,
    journal: Option<Journal>,
    held: Option<Arc<Vec<Held>>>,
    cpus: Option<u32>,
    reading: Reading,
    buffer: Vec<u8>,
    errors: ReadErrors,
}

impl Host {
    /// Reads the host below `root`: `/` on a real one.
    #[must_use]
    pub fn at(root: &Path, filesystems: FilesystemSettings) -> Self {
        Self {
            proc: ProcReader::at(root),
            processes: Processes::at(root),
            cgroups: Cgroups::at(root),
            containers: None,
            container_cgroups: Cgroups::at(root),
            backgrounds: None,
            filesystems: Filesystems::new(&root.join("proc"), filesystems, Arc::new(filesystems::statfs)),
            clock: clock::Kept::default(),
            reboot: Reboot::at(root),
            disk_healths: DiskHealths::at(root),
            units: None,
            units_left_out: 0,
            probes: BTreeMap::new(),
            journal: None,
            held: None,
            cpus: None,
            reading: Reading::default(),
            buffer: Vec::new(),
            errors: ReadErrors::default(),
        }
    }

    /// Watches filesystems under other settings.
    pub fn set_filesystems(&mut self, settings: FilesystemSettings) {
        self.filesystems.set(settings);
    }

    /// Tells each CPU by itself where there are no more than these.
    pub fn tell_each_cpu_up_to(&mut self, cpus: usize) {
        self.proc.tell_each_cpu_up_to(cpus);
    }

    /// Reads this much from the next sample on.
    pub fn read_only(&mut self, reading: Reading) {
        self.processes.set_counting(reading.counts_processes());
        if let Some(journal) = &mut self.journal {
            journal.set_paused(!reading.follows_log());
        }
        if let Some(containers) = &mut self.containers {
            containers.set_resting(!reading.looks_around());
        }
        if let Some(backgrounds) = &mut self.backgrounds {
            backgrounds.set_resting(!reading.looks_around());
        }
        self.reading = reading;
    }

    /// How much is read.
    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Takes what the journal comes to into its samples from now on.
    pub fn follow(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// The journal, where it is followed.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Takes the containers that run into its samples from now on.
    pub fn follow_containers(&mut self, containers: Containers) {
        self.containers = Some(containers);
    }

    /// Takes what is read once a minute for summaries into its samples from now on.
    pub fn follow_background(&mut self, backgrounds: Backgrounds) {
        self.backgrounds = Some(backgrounds);
    }

    /// How many containers run, and how many of them are not followed because there are too many.
    #[must_use]
    pub fn containers(&self) -> (usize, usize) {
        let running = self.running();
        (running.containers.len() + running.left_out, running.left_out)
    }

    /// No longer follows the journal; gives what was learned of it.
    #[must_use]
    pub fn leave_journal(&mut self) -> Option<Vec<u8>> {
        self.journal.take()?.stop()
    }

    /// Reads everything as it is now.
    pub fn sample(&mut self, now: Now) -> Sample {
        *self.sample_into(Box::default(), now)
    }

    /// The same in the room of a sample that nobody needs any more. Nothing of it is left.
    pub fn sample_into(&mut self, mut sample: Box<Sample>, now: Now) -> Box<Sample> {
        self.errors.clear();
        let units = sample.units.take();
        *sample = Sample { at: now, ..Sample::default() };
        // Asked first, so that the answers are there when the rest has been read.
        if let Err(error) = self.filesystems.ask(&mut self.buffer, now) {
            self.errors.note("mountinfo", error.to_string());
        }
        self.proc.read(&mut sample, &mut self.buffer, &mut self.errors);
        sample.clock = self.clock.read(now);
        sample.reboot_required = self.reboot.read();
        sample.disk_health = self.disk_healths.read(&mut self.errors);
        sample.background = self.backgrounds.as_ref().and_then(Backgrounds::last);
        sample.processes = self.processes.read(&mut self.buffer, now);
        sample.units = self.read_units(units.unwrap_or_default());
        sample.containers = self.read_containers();
        sample.probes = self.probes.clone();
        sample.log = match self.journal.as_mut().map_or(Ok(None), Journal::take) {
            Ok(log) => log,
            Err(why) => {
                self.errors.note("journal", why);
                None
            }
        };
        sample.filesystems = self.filesystems.collect(now);
        sample.held.clone_from(&self.held);
        self.cpus = sample.cpus;
        sample
    }

    /// Takes who holds deleted files into its samples from now on; `None` where that is not known.
    pub fn set_held(&mut self, held: Option<Vec<Held>>) {
        self.held = held.map(Arc::new);
    }

    /// CPU times of all processes, as they were when they were last looked at.
    #[must_use]
    pub fn before(&self) -> Before {
        self.processes.before()
    }

    /// CPUs that were online in the last sample.
    #[must_use]
    pub fn cpus(&self) -> Option<u32> {
        self.cpus
    }

    /// Filesystems that are watched, by device number.
    #[must_use]
    pub fn mounts(&self) -> Vec<((u32, u32), PathBytes)> {
        self.filesystems.numbers().to_vec()
    }

    /// Tasks of units and containers as their cgroups count them, and how many each may have.
    #[must_use]
    pub fn tasks(&self) -> BTreeMap<String, (Option<u64>, Option<u64>)> {
        let of_unit = |name: &UnitName| Some((name.as_str().to_owned(), self.cgroups.last(name.as_str())?));
        let units = self.units.iter().flat_map(BTreeMap::keys).filter_map(of_unit);
        let of_container = |found: &Found| Some((found.label(), self.container_cgroups.last(&found.cgroup)?));
        let running = self.running();
        let all = units.chain(running.containers.iter().filter_map(of_container));
        all.map(|(name, cgroup)| (name, (cgroup.tasks, cgroup.tasks_max))).collect()
    }

    /// What containers are called, by the paths of their cgroups.
    #[must_use]
    pub fn container_labels(&self) -> BTreeMap<String, String> {
        self.running().containers.iter().map(|found| (found.cgroup.clone(), found.label())).collect()
    }

    /// Which containers run.
    #[must_use]
    pub fn running(&self) -> Arc<Running> {
        self.containers.as_ref().map(Containers::running).unwrap_or_default()
    }

    /// What the last sample held of units, probes, processes and the log, without reading anything.
    #[must_use]
    pub fn shown(&self) -> Sample {
        let unit = |(name, state): (&UnitName, &UnitState)| {
            (name.clone(), Unit { cgroup: self.cgroups.last(name.as_str()), ..state.unit.clone() })
        };
        Sample {
            processes: self.processes.last(),
            reboot_required: self.reboot.last(),
            disk_health: self.disk_healths.last(),
            units: self.units.as_ref().map(|units| units.iter().map(unit).collect()),
            containers: self.shown_containers(),
            probes: self.probes.clone(),
            log: self.journal.as_ref().and_then(Journal::last),
            ..Sample::default()
        }
    }

    fn read_containers(&mut self) -> Vec<Container> {
        let Some(containers) = &self.containers else { return Vec::new() };
        self.container_cgroups.next_round();
        let running = containers.running();
        let wanted = self.reading.of_container();
        let (cgroups, processes, buffer) = (&mut self.container_cgroups, &mut self.processes, &mut self.buffer);
        let read = |found: &Found| found.sampled(cgroups.read(&found.cgroup, &found.cgroup, wanted, processes, buffer));
        running.containers.iter().map(read).collect()
    }

    fn shown_containers(&self) -> Vec<Container> {
        let running = self.running();
        running.containers.iter().map(|found| found.sampled(self.container_cgroups.last(&found.cgroup))).collect()
    }

    /// Units as they are now, in the room of units as they once were: most are the same, and nothing is taken or given back.
    fn read_units(&mut self, mut room: BTreeMap<UnitName, Unit>) -> Option<BTreeMap<UnitName, Unit>> {
        self.cgroups.next_round();
        let units = self.units.as_ref()?;
        if !room.keys().eq(units.keys()) {
            room.retain(|name, _| units.contains_key(name));
            for name in units.keys().filter(|name| !room.contains_key(*name)).collect::<Vec<_>>() {
                room.insert(name.clone(), Unit::default());
            }
        }
        for ((name, state), unit) in units.iter().zip(room.values_mut()) {
            let wanted = self.reading.of_unit(name);
            let (path, processes) = (&state.control_group, &mut self.processes);
            unit.describe_as(&state.unit);
            unit.cgroup = self.cgroups.read(name.as_str(), path, wanted, processes, &mut self.buffer);
        }
        Some(room)
    }

    /// Takes news about units. Returns the unit that changed, if it is one, as it is now; `None`
    /// for its state when systemd has unloaded it.
    pub fn units_changed(&mut self, event: UnitsEvent) -> Option<(UnitName, Option<Unit>)> {
        match event {
            UnitsEvent::Loaded(units) => {
                self.units = Some(units);
                None
            }
            UnitsEvent::Lost(_) => {
                (self.units, self.units_left_out) = (None, 0);
                None
            }
            UnitsEvent::LeftOut(units) => {
                self.units_left_out = units;
                None
            }
            UnitsEvent::Removed(name) => {
                self.units.as_mut()?.remove(&name)?;
                Some((name, None))
            }
            UnitsEvent::Changed(name, state) => {
                self.cgroups.may_be_there(name.as_str());
                let unit = state.unit.clone();
                self.units.as_mut()?.insert(name.clone(), *state);
                Some((name, Some(unit)))
            }
        }
    }

    /// How many units are followed; `None` while the bus cannot be asked.
    #[must_use]
    pub fn units(&self) -> Option<usize> {
        self.units.as_ref().map(BTreeMap::len)
    }

    /// How many units are not followed because there are too many.
    #[must_use]
    pub fn units_left_out(&self) -> u64 {
        self.units_left_out
    }

    /// Takes the result of a probe.
    pub fn probed(&mut self, name: String, probe: Probe) {
        self.probes.insert(name, probe);
    }

    /// Forgets the results of probes that are no longer run.
    pub fn keep_probes(&mut self, keep: impl Fn(&str) -> bool) {
        self.probes.retain(|name, _| keep(name));
    }

    /// What could not be read in the last sample.
    #[must_use]
    pub fn errors(&self) -> &ReadErrors {
        &self.errors
    }

    /// How many mounts do not answer.
    #[must_use]
    pub fn stuck_mounts(&self) -> usize {
        self.filesystems.stuck()
    }

    /// How many filesystems were left out because of a bound.
    #[must_use]
    pub fn filesystems_dropped(&self) -> u64 {
        self.filesystems.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_unknown_until_they_are_loaded_and_again_when_the_bus_is_lost() {
        let mut host = Host::at(Path::new("/"), FilesystemSettings::default());
        let name: UnitName = "app.service".parse().unwrap();
        let early = UnitsEvent::Changed(name.clone(), Box::default());
        assert!(host.units_changed(early).is_none());
        assert!(host.sample(Now::default()).units.is_none());
        host.units_changed(UnitsEvent::Loaded(BTreeMap::new()));
        let changed = host.units_changed(UnitsEvent::Changed(name.clone(), Box::default())).unwrap();
        assert_eq!((&changed.0, changed.1.is_some()), (&name, true));
        assert!(host.sample(Now::default()).units.unwrap().contains_key(&name));
        host.units_changed(UnitsEvent::Lost("closed".to_owned()));
        assert!(host.sample(Now::default()).units.is_none());
    }

    #[test]
    fn nothing_is_left_of_a_sample_whose_room_is_used_again() {
        let root = tempfile::tempdir().unwrap();
        let mut host = Host::at(root.path(), FilesystemSettings::default());
        let state = |sub: &str| {
            let unit = Unit { sub: sub.to_owned(), n_restarts: 3, enabled: true, ..Unit::default() };
            UnitState { unit, control_group: "/app".to_owned() }
        };
        let name = |name: &str| -> UnitName { name.parse().unwrap() };
        let units = [("a.service", "running"), ("c.service", "dead")];
        let units = units.map(|(unit, sub)| (name(unit), state(sub))).into_iter().collect();
        host.units_changed(UnitsEvent::Loaded(units));
        let mut used = host.sample(Now::default());
        let memory = |sample: &mut Sample| {
            sample.units.iter_mut().flatten().for_each(|(_, unit)| unit.cgroup = Some(Default::default()));
            sample.tasks = Some(7);
            sample.disks.push(Default::default());
            sample.probes.insert(
                "old".to_owned(),
                Probe {
                    unit: name("a.service"),
                    at: Now::default(),
                    fails: 1,
                    fails_max: 2,
                    latency: std::time::Duration::ZERO,
                    text: String::new(),
                },
            );
        };
        memory(&mut used);
        assert_eq!(*host.sample_into(Box::new(used.clone()), Now::default()), host.sample(Now::default()));
        // Another unit came, one went, one is described anew.
        host.units_changed(UnitsEvent::Changed(name("b.service"), Box::new(state("failed"))));
        host.units_changed(UnitsEvent::Changed(name("a.service"), Box::new(state("exited"))));
        host.units_changed(UnitsEvent::Removed(name("c.service")));
        let again = host.sample_into(Box::new(used.clone()), Now::default());
        assert_eq!(*again, host.sample(Now::default()));
        let subs: Vec<_> =
            again.units.iter().flatten().map(|(name, unit)| (name.as_str(), unit.sub.as_str())).collect();
        assert_eq!(subs, [("a.service", "exited"), ("b.service", "failed")]);
        host.units_changed(UnitsEvent::Lost("closed".to_owned()));
        assert_eq!(host.sample_into(again, Now::default()).units, None);
    }

    #[test]
    fn what_is_read_beside_the_samples_stands_in_them_once_it_was_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/net")).unwrap();
        std::fs::write(root.path().join("proc/net/sockstat"), "sockets: used 30\n").unwrap();
        let mut host = Host::at(root.path(), FilesystemSettings::default());
        assert_eq!(host.sample(clock::now()).background, None, "nobody reads it yet");
        host.follow_background(Backgrounds::follow(root.path()).unwrap());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let read = loop {
            assert!(std::time::Instant::now() < until, "the thread has not read");
            if let Some(read) = host.sample(clock::now()).background {
                break read;
            }
            std::thread::yield_now();
        };
        let told: Vec<_> = read.told(clock::now()).map(|one| (one.key.to_string(), one.value)).collect();
        assert_eq!(told, [("node_sockstat_sockets_used".to_owned(), 30.0)]);
    }

    #[test]
    fn a_container_is_sampled_like_a_unit() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = root.path().join("sys/fs/cgroup/docker").join("3a".repeat(32));
        std::fs::create_dir_all(&cgroup).unwrap();
        for (file, text) in [("cpu.stat", "usage_usec 500\n"), ("pids.current", "3\n"), ("pids.max", "100\n")] {
            std::fs::write(cgroup.join(file), text).unwrap();
        }
        let mut host = Host::at(root.path(), FilesystemSettings::default());
        assert!(host.sample(Now::default()).containers.is_empty(), "nobody looks for them yet");
        host.follow_containers(Containers::follow(root.path()).unwrap());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while host.containers() != (1, 0) {
            assert!(std::time::Instant::now() < until, "the thread has not looked");
            std::thread::yield_now();
        }
        let sample = host.sample(Now::default());
        let container = &sample.containers[0];
        assert_eq!((container.runtime, container.name.as_str()), ("docker", "3a3a3a3a3a3a"));
        assert_eq!(container.cgroup.and_then(|cgroup| cgroup.cpu_usage_us), Some(500));
        assert_eq!(host.shown().containers, sample.containers);
        assert_eq!(host.tasks()["3a3a3a3a3a3a (docker)"], (Some(3), Some(100)));
    }
}
