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
mod disk_failing;
mod disk_filling;
mod disk_full;
mod disk_readonly;
mod exhausted;
mod fd_leak;
mod flapping;
pub mod forecast;
mod fork_storm;
mod held_files;
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
#[cfg(test)]
mod shed_tests;
mod snapshot;
mod task_leak;
mod times;
mod trend;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::finding::{Evidence, Finding};
use crate::id::{ActionId, FindingId};
use crate::sample::{Sample, Unit};
use crate::signal::Signals;
use crate::subject::{Subject, UnitName};
use crate::time::Now;

pub use lifecycle::{Case, Change, FindingEvent, Verdict};
pub use settings::{Learning, Settings};
pub use snapshot::BadSnapshot;

use burn::Burn;
use clock::Clock;
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
use learned::Marks;
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

/// All detectors of one host and the findings that stand.
#[derive(Debug)]
pub struct Detectors {
    settings: Settings,
    clock: Clock,
    lifecycle: Lifecycle,
    /// The sample before, for rates.
    previous: Option<Box<Sample>>,
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

    /// Judges a sample and keeps a copy of it: [`Self::judge`] and [`Self::keep`] for who has it only to look at.
    pub fn observe_sample(&mut self, sample: &Sample, now: Now) -> Vec<FindingEvent> {
        let events = self.judge(sample, now);
        self.keep(Box::new(sample.clone()));
        events
    }

    /// Takes a sample and says which findings opened, changed, cleared or became unknown. It has to be given to
    /// [`Self::keep`] afterwards.
    pub fn judge(&mut self, sample: &Sample, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        let settings = &self.settings;
        let signals = Signals::between(self.previous.as_deref(), sample);
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
        disk_failing::observe(sample, &mut round);
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
        self.net_retransmits.observe(self.previous.as_deref(), sample, &mut round);
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
        events
    }

    /// Keeps the sample that was judged, to compare the next one with. Gives back the one before it: whoever makes the next
    /// one has its room to use again.
    pub fn keep(&mut self, sample: Box<Sample>) -> Option<Box<Sample>> {
        self.changed.clear();
        self.previous.replace(sample)
    }

    /// The sample that was kept last.
    #[must_use]
    pub fn previous(&self) -> Option<&Sample> {
        self.previous.as_deref()
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
        let says = text.map(|text| words::said(format!("{part}: {text}")));
        self.degraded_says(part, says.into_iter().collect(), now)
    }

    /// The same in as many lines as it takes; none where the part works.
    pub(crate) fn degraded_says(&mut self, part: &'static str, says: Vec<Evidence>, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.degraded.set(part, says, &mut round);
        round.finish()
    }

    /// Says whether the samples from now on leave out what the host is judged by as a whole (`metric.anomalous`): while
    /// they do nothing is learned of it and nothing said.
    pub(crate) fn set_partial(&mut self, is_partial: bool) {
        self.metric_anomalous.set_partial(is_partial);
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
}
