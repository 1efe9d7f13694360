//! Detectors: samples in, findings out.
//!
//! Use: make one [`Detectors`] (or [`Detectors::restore`] it from what was saved), give it every
//! sample ([`Detectors::observe_sample`]) and, between samples, every change of a unit as it comes
//! ([`Detectors::observe_unit`]), so that a killed service is found at once. What comes back are
//! the changes of findings; what stands is [`Detectors::open_findings`].
//!
//! The detectors are a closed list, called in order. Each looks at one kind of trouble and says,
//! subject by subject, whether it holds, is over, lies in between, or cannot be known; one shared
//! stage ([`lifecycle`]) turns that into findings with for-durations, hysteresis and quiet
//! periods. Detectors run at every sample, also while acting is on hold, so that their windows
//! stay true. A reading that is missing opens nothing and clears nothing.

mod burn;
mod clock;
mod clock_unsynced;
pub(crate) mod codec;
mod cpu_saturated;
mod crash_loop;
mod degraded;
mod disk_filling;
mod disk_full;
mod disk_readonly;
mod exhausted;
mod fd_leak;
mod flapping;
pub mod forecast;
mod fork_storm;
mod inode_leak;
mod io_stalled;
mod kernel_error;
pub mod leak;
mod leak_watch;
pub mod learned;
pub mod lifecycle;
mod log_burst;
mod log_pattern;
mod memory_leak;
mod memory_oom_kill;
mod memory_pressure;
mod metric_anomalous;
pub mod model;
mod net_retransmits;
mod process_zombies;
mod runaway;
mod service_failed;
mod service_hung;
mod service_slow;
mod settings;
mod task_leak;
mod trend;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::finding::Finding;
use crate::id::{ActionId, FindingId};
use crate::sample::{Sample, Unit};
use crate::signal::Signals;
use crate::subject::{Subject, UnitName};
use crate::time::Now;

pub use lifecycle::{Case, Change, FindingEvent, Verdict};
pub use settings::{Learning, Settings};

use burn::Burn;
use clock::Clock;
use codec::{Reader, Writer};
use crash_loop::CrashLoop;
use degraded::Degraded;
use disk_filling::DiskFilling;
use disk_readonly::DiskReadonly;
use exhausted::Exhausted;
use fd_leak::FdLeak;
use flapping::Flapping;
use fork_storm::ForkStorm;
use inode_leak::InodeLeak;
use kernel_error::KernelError;
use learned::{Learned, Marks, Since, Subjects};
use lifecycle::Lifecycle;
use log_burst::LogBurst;
use log_pattern::LogPattern;
use memory_leak::MemoryLeak;
use memory_oom_kill::MemoryOomKill;
use metric_anomalous::MetricAnomalous;
use net_retransmits::NetRetransmits;
use runaway::Runaway;
use service_failed::ServiceFailed;
use service_hung::ServiceHung;
use service_slow::ServiceSlow;
use task_leak::TaskLeak;

/// Tags of the sections of a snapshot: never given anew.
const CLOCK: u8 = 1;
const LIFECYCLE: u8 = 2;
const SERVICE_FAILED: u8 = 3;
const CRASH_LOOP: u8 = 4;
const DISK_FILLING: u8 = 5;
const MEMORY_LEAK: u8 = 6;
const METRIC_ANOMALOUS: u8 = 7;
const LOG_BURST: u8 = 16;
const SERVICE_SLOW: u8 = 24;
const FD_LEAK: u8 = 8;
const TASK_LEAK: u8 = 9;
const INODE_LEAK: u8 = 10;
const RUNAWAY: u8 = 11;
const FORK_STORM: u8 = 12;
const FLAPPING: u8 = 13;
const LEARNED_MARKS: u8 = 32;

/// Versions of the sections of the learning detectors, as they are written now.
const DISK_FILLING_VERSION: u8 = 2;
const MEMORY_LEAK_VERSION: u8 = 3;
const METRIC_ANOMALOUS_VERSION: u8 = 3;

/// All detectors of one host and the findings that stand.
#[derive(Debug)]
pub struct Detectors {
    settings: Settings,
    clock: Clock,
    lifecycle: Lifecycle,
    /// The sample before, for rates.
    previous: Option<Sample>,
    /// The runs of units that changed since then.
    changed: BTreeMap<UnitName, Option<[u8; 16]>>,
    service_failed: ServiceFailed,
    crash_loop: CrashLoop,
    service_hung: ServiceHung,
    service_slow: ServiceSlow,
    disk_filling: DiskFilling,
    disk_readonly: DiskReadonly,
    memory_leak: MemoryLeak,
    fd_leak: FdLeak,
    task_leak: TaskLeak,
    inode_leak: InodeLeak,
    runaway: Runaway,
    fork_storm: ForkStorm,
    exhausted: Exhausted,
    flapping: Flapping,
    /// An hour of waiting for a CPU, for memory and for I/O.
    burns: [Burn; 3],
    memory_oom_kill: MemoryOomKill,
    net_retransmits: NetRetransmits,
    kernel_error: KernelError,
    log_burst: LogBurst,
    log_pattern: LogPattern,
    metric_anomalous: MetricAnomalous,
    degraded: Degraded,
    marks: Marks,
    relearning: Vec<String>,
}

/// What the detectors had to leave out because a bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Findings that were not opened: [`lifecycle::ENTRIES_MAX`].
    pub findings: u64,
    /// Readings that were not learned because a host has more metrics than the model takes.
    pub metrics: u64,
}

impl Detectors {
    /// Starts with nothing learned. `seed` is for the ids of findings: drawn anew at every start.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            clock: Clock::default(),
            lifecycle: Lifecycle::new(seed),
            previous: None,
            changed: BTreeMap::new(),
            service_failed: ServiceFailed::default(),
            crash_loop: CrashLoop::default(),
            service_hung: ServiceHung::default(),
            service_slow: ServiceSlow::default(),
            disk_filling: DiskFilling::default(),
            disk_readonly: DiskReadonly::default(),
            memory_leak: MemoryLeak::default(),
            fd_leak: FdLeak::default(),
            task_leak: TaskLeak::default(),
            inode_leak: InodeLeak::default(),
            runaway: Runaway::default(),
            fork_storm: ForkStorm::default(),
            exhausted: Exhausted::default(),
            flapping: Flapping::default(),
            burns: Default::default(),
            memory_oom_kill: MemoryOomKill::default(),
            net_retransmits: NetRetransmits::default(),
            kernel_error: KernelError::default(),
            log_burst: LogBurst::default(),
            log_pattern: LogPattern::default(),
            metric_anomalous: MetricAnomalous::default(),
            degraded: Degraded::default(),
            marks: Marks::default(),
            relearning: Vec::new(),
        }
    }

    /// Holds everything against other thresholds from now on. Nothing learned is lost by it.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes a sample and says which findings opened, changed, cleared or became unknown.
    pub fn observe_sample(&mut self, sample: &Sample, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        let settings = &self.settings;
        let signals = Signals::between(self.previous.as_ref(), sample);
        let mut round = self.lifecycle.round(t, now, settings.unknown_after);
        let units = sample.units.as_ref();
        self.service_failed.observe(units, &mut round);
        self.crash_loop.observe(units, settings, &mut round);
        self.flapping.observe(units, settings, &mut round);
        self.service_hung.observe(sample, &mut round);
        self.service_slow.observe(sample, &mut round);
        disk_full::observe(sample, &signals, settings, &mut round);
        self.disk_filling.observe(sample, &signals, settings, &mut round);
        self.disk_readonly.observe(sample, &mut round);
        let [cpu, memory, io] = &mut self.burns;
        memory_pressure::observe(sample, &signals, memory, settings, &mut round);
        self.memory_leak.observe(sample, &signals, settings, &mut round);
        self.fd_leak.observe(sample, settings, &mut round);
        self.task_leak.observe(sample, settings, &mut round);
        self.inode_leak.observe(sample, settings, &mut round);
        self.runaway.observe(sample, &signals, settings, &mut round);
        self.fork_storm.observe(sample, settings, &mut round);
        self.memory_oom_kill.observe(sample, &signals, &mut round);
        cpu_saturated::observe(sample, &signals, cpu, settings, &mut round);
        io_stalled::observe(sample, &signals, io, &mut round);
        process_zombies::observe(sample, &mut round);
        self.exhausted.observe(sample, &mut round);
        self.net_retransmits.observe(self.previous.as_ref(), sample, &mut round);
        clock_unsynced::observe(sample, &mut round);
        self.kernel_error.observe(sample, &mut round);
        self.log_burst.observe(sample, &mut round);
        self.log_pattern.observe(sample, &mut round);
        self.metric_anomalous.observe(&signals, settings, &mut round);
        self.degraded.observe(sample, &mut round);
        let mut events = round.finish();
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.flapping.observe_findings(&events, &self.settings, &mut round);
        events.extend(round.finish());
        self.previous = Some(sample.clone());
        self.changed.clear();
        events
    }

    /// Takes the change of one unit between two samples; `None` when systemd has unloaded it.
    pub fn observe_unit(&mut self, name: &UnitName, unit: Option<&Unit>, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        self.changed.insert(name.clone(), unit.and_then(|unit| unit.invocation));
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.service_failed.observe_unit(name, unit, &mut round);
        self.crash_loop.observe_unit(name, unit, &self.settings, &mut round);
        self.flapping.observe_unit(name, unit, &self.settings, &mut round);
        let mut events = round.finish();
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.flapping.observe_findings(&events, &self.settings, &mut round);
        events.extend(round.finish());
        events
    }

    /// The run (`InvocationID`) that a unit is in, or was in last, as far as is known.
    #[must_use]
    pub fn invocation(&self, name: &UnitName) -> Option<[u8; 16]> {
        let sampled = || self.previous.as_ref()?.units.as_ref()?.get(name)?.invocation;
        self.changed.get(name).copied().unwrap_or_else(sampled)
    }

    /// Says that a part of the agent itself does not work (`text` says why), or works again
    /// (`None`). `part` is a short name such as `ledger`. Opens or clears `agent.degraded`.
    pub fn set_degraded(&mut self, part: &'static str, text: Option<String>, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.degraded.set(part, text, &mut round);
        round.finish()
    }

    /// Says that `action` is about to change `subject`: what opens on it before `for_` has passed
    /// carries [`Finding::effect_of`].
    pub fn mark_effect(&mut self, subject: &Subject, action: ActionId, for_: Duration, now: Now) {
        let t = self.clock.advance(now);
        self.lifecycle.mark_effect(subject, action, t.saturating_add(clock::millis(for_)));
    }

    /// Says that `action` has ended: what opens from now on is no effect of its being carried out.
    pub fn effect_over(&mut self, action: ActionId) {
        self.lifecycle.effect_over(action);
    }

    /// The findings that are open or unknown, by kind and subject.
    pub fn open_findings(&self) -> impl Iterator<Item = &Finding> {
        self.lifecycle.findings()
    }

    /// A finding that is open or unknown.
    #[must_use]
    pub fn finding(&self, id: FindingId) -> Option<&Finding> {
        self.open_findings().find(|finding| finding.id == id)
    }

    /// What was left out because a bound was reached, since the start.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        Dropped { findings: self.lifecycle.dropped(), metrics: self.metric_anomalous.dropped() }
    }

    /// For how long the learned model (`metric.anomalous`) still learns before it says anything;
    /// `None` when it has learned enough.
    #[must_use]
    pub fn learning(&self) -> Option<Duration> {
        self.metric_anomalous.learning()
    }

    /// What was learned, for people: models by name, each with its subjects by name.
    #[must_use]
    pub fn learned(&self) -> Learned {
        let (t, now) = self.clock.stands();
        let since = Since { t, wall_ms: now.wall_ms };
        let mut learned = Learned { is_frozen: self.settings.learning == Learning::Frozen, ..Learned::default() };
        self.disk_filling.learned(DISK_FILLING_VERSION, since, &self.settings, &mut learned);
        self.memory_leak.learned(MEMORY_LEAK_VERSION, since, &self.settings, &mut learned);
        self.metric_anomalous.learned(METRIC_ANOMALOUS_VERSION, since, &self.settings, &mut learned);
        for model in &mut learned.models {
            (model.reset_ms, model.rolled_back_ms) = (self.marks.reset_ms, self.marks.rolled_back_ms);
        }
        learned
    }

    /// How many subjects of the learned models these are.
    #[must_use]
    pub fn matching(&self, which: Subjects<'_>) -> usize {
        self.disk_filling.matching(which) + self.memory_leak.matching(which) + self.metric_anomalous.matching(which)
    }

    /// Forgets what was learned of these subjects: it is learned anew from the next sample on.
    pub fn reset(&mut self, which: Subjects<'_>, now: Now) {
        self.disk_filling.reset(which);
        self.memory_leak.reset(which);
        self.metric_anomalous.reset(which);
        self.marks.reset_ms = Some(now.wall_ms);
    }

    /// Goes back to what was learned when `bytes` was saved. Findings, and what is no learned model,
    /// stay as they are; the time since then counts as a gap. Gives the models that the snapshot does
    /// not hold, or not so that this version can read them: those stay as they are.
    ///
    /// # Errors
    /// Where the bytes are damaged or no snapshot; then nothing has changed.
    pub fn roll_back(&mut self, bytes: &[u8], now: Now) -> Result<Vec<&'static str>, BadSnapshot> {
        let saved = Self::restore(bytes, self.settings.clone(), 0, now)?;
        let mut kept = Vec::new();
        let mut reader = Reader::open(bytes)?;
        let mut held = Vec::new();
        while let Some(section) = reader.section() {
            held.push(section.tag);
        }
        let is_there = |tag: u8| held.contains(&tag) && !saved.relearning.iter().any(|part| part == part_of(tag));
        // Detector time must not go back behind what is restored.
        let (own, (theirs, _)) = (self.clock.stands().0, saved.clock.stands());
        if theirs > own {
            self.clock = saved.clock;
        }
        for tag in [DISK_FILLING, MEMORY_LEAK, METRIC_ANOMALOUS] {
            if !is_there(tag) {
                kept.push(part_of(tag));
            }
        }
        if is_there(DISK_FILLING) {
            self.disk_filling = saved.disk_filling;
        }
        if is_there(MEMORY_LEAK) {
            self.memory_leak = saved.memory_leak;
        }
        if is_there(METRIC_ANOMALOUS) {
            self.metric_anomalous = saved.metric_anomalous;
        }
        self.marks.rolled_back_ms = Some(now.wall_ms);
        Ok(kept)
    }

    /// Whether a snapshot is whole, so that it can be rolled back to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(bytes: &[u8]) -> Result<(), BadSnapshot> {
        Self::restore(bytes, Settings::default(), 0, Now::default()).map(|_| ())
    }

    /// What of the saved state could not be used, so that it is learned anew, in words. The caller
    /// says so and sets the saved state aside.
    #[must_use]
    pub fn relearning(&self) -> &[String] {
        &self.relearning
    }

    /// What was learned and the findings that stand, to be restored after a restart: versioned,
    /// bounded, with a checksum. The same state gives the same bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let (t, now) = self.clock.stands();
        writer.section(CLOCK, 1, |w| {
            w.i64(t);
            w.u64(now.boot_ns);
            w.i64(now.wall_ms);
        });
        writer.section(LIFECYCLE, 1, |w| self.lifecycle.save(w));
        writer.section(SERVICE_FAILED, 1, |w| self.service_failed.save(w));
        writer.section(CRASH_LOOP, 1, |w| self.crash_loop.save(w));
        writer.section(DISK_FILLING, DISK_FILLING_VERSION, |w| self.disk_filling.save(w));
        writer.section(MEMORY_LEAK, MEMORY_LEAK_VERSION, |w| self.memory_leak.save(w));
        writer.section(FD_LEAK, 1, |w| self.fd_leak.save(w));
        writer.section(TASK_LEAK, 1, |w| self.task_leak.save(w));
        writer.section(INODE_LEAK, 1, |w| self.inode_leak.save(w));
        writer.section(RUNAWAY, 1, |w| self.runaway.save(w));
        writer.section(FORK_STORM, 1, |w| self.fork_storm.save(w));
        writer.section(FLAPPING, 1, |w| self.flapping.save(w));
        writer.section(METRIC_ANOMALOUS, METRIC_ANOMALOUS_VERSION, |w| self.metric_anomalous.save(w));
        writer.section(LOG_BURST, 1, |w| self.log_burst.save(w));
        writer.section(SERVICE_SLOW, 1, |w| self.service_slow.save(w));
        writer.section(LEARNED_MARKS, 1, |w| self.marks.save(w));
        writer.finish()
    }

    /// Goes on from a snapshot where there is one that can be used, and starts with nothing learned
    /// otherwise; [`Detectors::relearning`] says why.
    #[must_use]
    pub fn restore_or_new(bytes: Option<&[u8]>, settings: Settings, seed: u64, now: Now) -> Self {
        let Some(bytes) = bytes else { return Self::new(settings, seed) };
        Self::restore(bytes, settings.clone(), seed, now).unwrap_or_else(|error| {
            let relearning = vec![format!("everything: {error}")];
            Self { relearning, ..Self::new(settings, seed) }
        })
    }

    /// Goes on from a [`Detectors::snapshot`]. Time that has passed since then counts as a gap:
    /// nothing is concluded from it. A part that another version has written is learned anew
    /// ([`Detectors::relearning`]).
    ///
    /// # Errors
    /// Where the bytes are damaged or no snapshot. The caller sets them aside, says so and starts
    /// with [`Detectors::new`].
    pub fn restore(bytes: &[u8], settings: Settings, seed: u64, now: Now) -> Result<Self, BadSnapshot> {
        let mut restored = Self::new(settings, seed);
        let mut reader = Reader::open(bytes)?;
        while !reader.is_at_end() {
            let mut section = reader.section().ok_or(BadSnapshot::Malformed { part: "sections" })?;
            let body = &mut section.body;
            match (section.tag, section.version) {
                (CLOCK, 1) => restored.clock = malformed("clock", load_clock(body, now))?,
                (LIFECYCLE, 1) => restored.lifecycle = malformed("findings", Lifecycle::load(body, seed))?,
                (SERVICE_FAILED, 1) => {
                    restored.service_failed = malformed("service.failed", ServiceFailed::load(body))?;
                }
                (CRASH_LOOP, 1) => restored.crash_loop = malformed("service.crash_loop", CrashLoop::load(body))?,
                (DISK_FILLING, 2) => restored.disk_filling = malformed("disk.filling", DiskFilling::load(body))?,
                (MEMORY_LEAK, version @ 2..=MEMORY_LEAK_VERSION) => {
                    restored.memory_leak = malformed("memory.leak", MemoryLeak::load(body, version == 2))?;
                }
                (FD_LEAK, 1) => restored.fd_leak = malformed("fd.leak", FdLeak::load(body))?,
                (TASK_LEAK, 1) => restored.task_leak = malformed("task.leak", TaskLeak::load(body))?,
                (INODE_LEAK, 1) => restored.inode_leak = malformed("inode.leak", InodeLeak::load(body))?,
                (RUNAWAY, 1) => restored.runaway = malformed("process.runaway", Runaway::load(body))?,
                (FORK_STORM, 1) => restored.fork_storm = malformed("process.fork_storm", ForkStorm::load(body))?,
                (FLAPPING, 1) => restored.flapping = malformed("flapping", Flapping::load(body))?,
                (METRIC_ANOMALOUS, version @ 2..=METRIC_ANOMALOUS_VERSION) => {
                    restored.metric_anomalous = malformed("metric.anomalous", MetricAnomalous::load(body, version))?;
                }
                (LOG_BURST, 1) => restored.log_burst = malformed("log.burst", LogBurst::load(body))?,
                (SERVICE_SLOW, 1) => restored.service_slow = malformed("service.slow", ServiceSlow::load(body))?,
                (LEARNED_MARKS, 1) => restored.marks = malformed("marks of operators", Marks::load(body))?,
                (CLOCK | LIFECYCLE, got) => {
                    return Err(BadSnapshot::Version { got: u16::from(got), have: 1 });
                }
                (tag, _) => restored.relearning.push(part_of(tag).to_owned()),
            }
        }
        Ok(restored)
    }
}

fn part_of(tag: u8) -> &'static str {
    match tag {
        SERVICE_FAILED => "service.failed",
        CRASH_LOOP => "service.crash_loop",
        DISK_FILLING => "disk.filling",
        MEMORY_LEAK => "memory.leak",
        FD_LEAK => "fd.leak",
        TASK_LEAK => "task.leak",
        INODE_LEAK => "inode.leak",
        RUNAWAY => "process.runaway",
        FORK_STORM => "process.fork_storm",
        FLAPPING => "flapping",
        METRIC_ANOMALOUS => "metric.anomalous",
        LOG_BURST => "log.burst",
        SERVICE_SLOW => "service.slow",
        LEARNED_MARKS => "marks of operators",
        _ => "a detector that this version does not know",
    }
}

fn load_clock(reader: &mut Reader<'_>, now: Now) -> Option<Clock> {
    let t = reader.i64()?;
    let saved = Now { boot_ns: reader.u64()?, wall_ms: reader.i64()? };
    Some(Clock::resume(t, saved, now))
}

fn malformed<T>(part: &'static str, loaded: Option<T>) -> Result<T, BadSnapshot> {
    loaded.ok_or(BadSnapshot::Malformed { part })
}

/// A snapshot that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// There are no bytes.
    #[error("detector state is empty")]
    Empty,
    /// The checksum is not that of the bytes.
    #[error("detector state is damaged (checksum {got:08x}, expected {expected:08x})")]
    Checksum {
        /// Of the bytes that were read.
        got: u32,
        /// What the snapshot says.
        expected: u32,
    },
    /// It was written by another version.
    #[error("detector state is of version {got}, this agent reads {have}")]
    Version {
        /// What it says.
        got: u16,
        /// What this code writes and reads.
        have: u16,
    },
    /// It ends early, or holds what cannot be.
    #[error("detector state is malformed in {part}")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingKind;
    use crate::sample::{ActiveState, Filesystem, FilesystemUsage};
    use std::collections::BTreeMap;

    const SECOND: u64 = 1_000_000_000;

    fn now(second: u64) -> Now {
        Now { boot_ns: second * SECOND, wall_ms: i64::try_from(second).unwrap() * 1_000 }
    }

    /// A host with a failed unit and a full disk.
    fn trouble(second: u64) -> Sample {
        let usage = FilesystemUsage { size_bytes: 100, free_bytes: 2, avail_bytes: 2, ..Default::default() };
        let unit = Unit { active: ActiveState::Failed, invocation: Some([1; 16]), ..Unit::default() };
        Sample {
            at: now(second),
            filesystems: vec![Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() }],
            units: Some(BTreeMap::from([("a.service".parse().unwrap(), unit)])),
            memory: Some(crate::sample::Memory::default()),
            cpu: Some(crate::sample::CpuTimes::default()),
            ..Sample::default()
        }
    }

    fn watched(seconds: std::ops::Range<u64>) -> Detectors {
        let mut detectors = Detectors::new(Settings::default(), 1);
        for second in seconds {
            detectors.observe_sample(&trouble(second), now(second));
        }
        detectors
    }

    #[test]
    fn findings_go_on_under_their_ids_after_a_restart() {
        let before = watched(0..10);
        let mut after = Detectors::restore(&before.snapshot(), Settings::default(), 2, now(60)).unwrap();
        let open = |detectors: &Detectors| detectors.open_findings().cloned().collect::<Vec<_>>();
        assert_eq!(open(&before).len(), 2);
        assert_eq!(open(&after), open(&before));
        assert_eq!(after.observe_sample(&trouble(60), now(60)), []);
        assert_eq!(after.relearning(), [""; 0]);
    }

    #[test]
    fn the_time_that_the_agent_was_down_does_not_count_as_seen() {
        let before = watched(0..3);
        // The disk has been full for 3 s when the agent stops, and is when it starts again.
        let mut after = Detectors::restore(&before.snapshot(), Settings::default(), 2, now(60)).unwrap();
        let opened: Vec<_> = (60..70)
            .flat_map(|s| after.observe_sample(&trouble(s), now(s)).into_iter().map(move |e| (s, e.finding.kind)))
            .collect();
        assert_eq!(opened, [(65, FindingKind::DiskFull)]);
    }

    #[test]
    fn the_same_state_gives_the_same_bytes_and_survives_a_round_trip() {
        let detectors = watched(0..10);
        let bytes = detectors.snapshot();
        let again = Detectors::restore(&bytes, Settings::default(), 2, now(9)).unwrap().snapshot();
        assert_eq!(bytes, again);
    }

    #[test]
    fn damaged_state_is_refused_wherever_the_damage_is() {
        let bytes = watched(0..10).snapshot();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Detectors::restore(&damaged, Settings::default(), 2, now(9)).is_err(), "byte {at}");
            assert!(Detectors::restore(&bytes[..at], Settings::default(), 2, now(9)).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn state_that_cannot_be_used_is_learned_anew_and_said() {
        let detectors = Detectors::restore_or_new(Some(b"MDET"), Settings::default(), 2, now(9));
        assert_eq!(detectors.relearning(), ["everything: detector state is malformed in header"]);
        assert_eq!(Detectors::restore_or_new(None, Settings::default(), 2, now(9)).relearning(), [""; 0]);
    }

    #[test]
    fn a_section_of_another_version_is_learned_anew() {
        let mut writer = Writer::default();
        writer.section(CRASH_LOOP, 200, |w| w.u64(0));
        let restored = Detectors::restore(&writer.finish(), Settings::default(), 2, now(9)).unwrap();
        assert_eq!(restored.relearning(), ["service.crash_loop"]);
    }

    #[test]
    fn the_same_samples_give_the_same_findings() {
        let open = || watched(0..10).open_findings().cloned().collect::<Vec<_>>();
        assert_eq!(open(), open());
    }
}
