//! `metric.anomalous`: the host is far from what was learned to be usual for it.
//!
//! In: signals of every sample, brought down to means of ten seconds. Out: one finding about the
//! host, with the metrics to blame as evidence, most surprising first. Its severity is `Info` and
//! its confidence low on purpose: that something is unusual says that somebody should look, never
//! that something should be done. Policies must not act on it alone.

mod room;

use std::time::Duration;

use super::clock::{Millis, millis};
use super::codec::{Reader, Writer};
use super::learned::{Learned, LearnedModel, LearnedSubject, Learns, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::model::{AlarmState, Blame, HostModel, HostScore};
use super::settings::{Learning, Settings};
use super::snapshot::{Kept, Part};
use super::words::{duration, said};
use crate::finding::{Evidence, FindingKind, Measure, Severity};
use crate::series::{SeriesKey, SeriesTable};
use crate::signal::Signals;

/// Most metrics that are learned, of some 1.3 KiB each. Those of the host come first, so that units
/// beyond the bound are what is left out.
pub(crate) const METRICS_MAX: usize = 512;

/// How long a step of the model is.
const STEP: Duration = Duration::from_secs(10);

/// Metrics named in the evidence.
const NAMED: usize = 3;

/// How sure it is that something is wrong, and not only unusual.
const CONFIDENCE: f64 = 0.5;

/// What is said beside a finding while nothing is learned.
const FROZEN: &str = "learning is frozen by policy: judged by what was usual when it was frozen";

/// A metric with its sum over the step in hand.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    sum: f64,
    count: u32,
    unseen_steps: u32,
    /// Since when it is learned, by the wall clock; 0 where an earlier version began and did not say.
    since_ms: i64,
}

/// The model of the host and what it is fed.
#[derive(Debug)]
pub(crate) struct MetricAnomalous {
    table: SeriesTable,
    cells: Vec<Cell>,
    model: HostModel,
    step_began: Option<Millis>,
    dropped: u64,
    /// Whether a reading was left out in the step in hand.
    is_crowded: bool,
    verdict: Verdict,
    /// Whether samples leave out what is learned.
    is_partial: bool,
}

impl Default for MetricAnomalous {
    fn default() -> Self {
        Self {
            table: SeriesTable::with_room(METRICS_MAX),
            cells: Vec::new(),
            model: HostModel::default(),
            step_began: None,
            dropped: 0,
            is_crowded: false,
            verdict: Verdict::Between,
            is_partial: false,
        }
    }
}

impl MetricAnomalous {
    pub(crate) fn observe(&mut self, signals: &Signals<'_>, settings: &Settings, round: &mut Round<'_>) {
        if self.is_partial {
            round.judge(FindingKind::MetricAnomalous, SubjectRef::Host, Verdict::Unknown);
            return;
        }
        self.model.set_learning(settings.learning);
        self.add(signals, round.now.wall_ms);
        let began = *self.step_began.get_or_insert(round.t);
        let passed = round.t.saturating_sub(began);
        if passed >= millis(STEP) {
            self.step_began = Some(round.t);
            // A gap is no longer step: what happened in it was not seen.
            if passed < 2 * millis(STEP) {
                self.step(round.now.wall_ms, settings);
            } else {
                self.cells.iter_mut().for_each(|cell| (cell.sum, cell.count) = (0.0, 0));
            }
        }
        round.judge(FindingKind::MetricAnomalous, SubjectRef::Host, self.verdict.clone());
    }

    /// While samples are partial nothing is learned or said; a new step begins when they are whole again.
    pub(crate) fn set_partial(&mut self, is_partial: bool) {
        if self.is_partial != is_partial {
            self.is_partial = is_partial;
            self.step_began = None;
            self.cells.iter_mut().for_each(|cell| (cell.sum, cell.count) = (0.0, 0));
        }
    }

    /// How long it learns before it says anything; `None` when it has learned enough.
    pub(crate) fn learning(&self) -> Option<Duration> {
        let seconds = self.model.learning_seconds(STEP.as_secs_f64());
        (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
    }

    /// Readings left out because of [`METRICS_MAX`].
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn add(&mut self, signals: &Signals<'_>, wall_ms: i64) {
        let Self { table, cells, model, dropped, is_crowded, .. } = self;
        table.rewind();
        metrics(signals, &mut |name, labels, subject, value| {
            let Some(slot) = table.slot(name, labels, subject) else {
                (*dropped, *is_crowded) = (*dropped + 1, true);
                return;
            };
            if slot >= cells.len() {
                cells.resize(slot + 1, Cell { since_ms: wall_ms, ..Cell::default() });
                model.set_floor(slot, least_change(name));
            }
            if value.is_finite() {
                cells[slot].sum += value;
                cells[slot].count += 1;
            }
        });
    }

    fn step(&mut self, wall_ms: i64, settings: &Settings) {
        let mean = |cell: &Cell| (cell.count > 0).then(|| cell.sum / f64::from(cell.count));
        let values: Vec<_> = self.cells.iter().map(mean).collect();
        let at = time_of_day(wall_ms);
        let knob = settings.anomaly_false_alarms_per_week;
        let score = self.model.observe(&values, at, STEP.as_secs_f64(), knob);
        if let Some(verdict) = self.judge(&score, settings) {
            self.verdict = verdict;
        }
        for cell in &mut self.cells {
            cell.unseen_steps = if cell.count > 0 { 0 } else { cell.unseen_steps.saturating_add(1) };
            (cell.sum, cell.count) = (0.0, 0);
        }
        self.make_room(settings);
    }

    /// Forgets metrics that are gone.
    fn make_room(&mut self, settings: &Settings) {
        let is_crowded = std::mem::take(&mut self.is_crowded);
        let table = room::Table { is_crowded, is_frozen: settings.learning == Learning::Frozen };
        let known = self.cells.iter().enumerate().map(|(slot, cell)| room::Known {
            unseen_steps: cell.unseen_steps,
            seen_seconds: self.model.seen_seconds(slot),
            is_warm: self.model.is_warm(slot),
        });
        if let Some(keep) = room::kept(known, table) {
            self.retain(&keep);
        }
    }

    /// Forgets the metrics that are not to be kept, by slot.
    fn retain(&mut self, keep: &[bool]) {
        let is_kept = |at: usize| keep.get(at).copied().unwrap_or(true);
        self.table.retain(is_kept);
        self.model.retain(is_kept);
        self.cells = (0..).zip(&self.cells).filter(|(at, _)| is_kept(*at)).map(|(_, cell)| *cell).collect();
    }

    /// What the step says; `None` where it says no more than the one before.
    fn judge(&self, score: &HostScore, settings: &Settings) -> Option<Verdict> {
        match score.alarm {
            AlarmState::Quiet if self.learning_is_over() => Some(Verdict::Over),
            AlarmState::Quiet => Some(Verdict::Between),
            // The alarm stands, but at this step no metric stands out: the last word is kept.
            _ if score.blame.is_empty() => None,
            AlarmState::Opened | AlarmState::Open => Some(Verdict::Holds(Case {
                severity: Severity::Info,
                confidence: CONFIDENCE,
                evidence: self.evidence(score, settings),
                raise_after: Duration::ZERO,
            })),
        }
    }

    fn learning_is_over(&self) -> bool {
        self.model.learning_seconds(STEP.as_secs_f64()) <= 0.0
    }

    fn evidence(&self, score: &HostScore, settings: &Settings) -> Vec<Evidence> {
        let mut evidence: Vec<_> = score.blame.iter().take(NAMED).map(|blame| self.blamed(blame)).collect();
        if settings.learning == Learning::Frozen {
            evidence.push(said(FROZEN.to_owned()));
        }
        evidence
    }

    fn blamed(&self, blame: &Blame) -> Evidence {
        let key = self.table.key(blame.metric);
        let span = |seconds| super::words::duration(super::words::seconds(seconds));
        let signed = |part: f64| format!("{}{}", if part < 0.0 { "−" } else { "+" }, number(part.abs()));
        let parts = blame.parts.map_or_else(String::new, |parts| {
            // Of what is usual, what comes from the time of day and what from the drift of days.
            format!(", {} of it by the time of day, {} by the drift of days", signed(parts.season), signed(parts.drift))
        });
        let text = format!(
            "{key} is {}, at this time of day about {} (±{}{parts}): {:.0} times as far off as usual, for {}; \
             seen so far off once in {}",
            number(blame.value),
            number(blame.expected),
            number(blame.scale),
            (blame.value - blame.expected).abs() / blame.scale,
            span(blame.seconds),
            // How rare, as one in so many steps of ten seconds.
            span(STEP.as_secs_f64() / blame.share),
        );
        let side = if blame.value < blame.expected { -blame.limit } else { blame.limit };
        let measure = Measure {
            name: key.to_string(),
            value: blame.value,
            limit: Some(blame.expected + side),
            expected: Some(blame.expected),
        };
        Evidence { text, measure: Some(measure) }
    }
}

impl Kept for MetricAnomalous {
    const PART: Part = Part { tag: 7, versions: (2, 4), name: "metric.anomalous" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.table.len());
        for slot in 0..self.table.len() {
            let SeriesKey { name, labels } = &**self.table.key(slot);
            writer.str(name);
            writer.len(labels.len());
            for (label, value) in labels {
                writer.str(label);
                writer.str(value);
            }
            writer.i64(self.cells.get(slot).map_or(0, |cell| cell.since_ms));
        }
        self.model.save(writer);
    }

    /// Reads what versions 2 to 4 wrote: 3 says since when each metric is learned, 4 at which times of the day it is in trouble.
    fn load(version: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut table = SeriesTable::with_room(METRICS_MAX);
        let mut cells = Vec::new();
        for expected in 0..reader.len()?.min(METRICS_MAX) {
            let name = reader.str()?;
            let labels =
                (0..reader.len()?).map(|_| Some((reader.str()?, reader.str()?))).collect::<Option<Vec<_>>>()?;
            if !labels.is_sorted() || table.add(name, &labels)? != expected {
                return None;
            }
            cells.push(Cell { since_ms: if version >= 3 { reader.i64()? } else { 0 }, ..Cell::default() });
        }
        Some(Self { table, cells, model: HostModel::load(reader, version >= 4)?, ..Self::default() })
    }
}

impl Learns for MetricAnomalous {
    fn learned(&self, since: Since, settings: &Settings, to: &mut Learned) {
        let at = time_of_day(since.wall_ms);
        let knob = settings.anomaly_false_alarms_per_week;
        let model = LearnedModel {
            learning: self.learning(),
            // What no metric has for itself.
            state_bytes: size(self.model.state_bytes() - self.table.len() * self.model.metric_bytes()),
            in_force: format!(
                "{knob} false alarms a week accepted: an alarm from {:.2} usual worst hours on",
                self.model.limit(knob)
            ),
            is_frozen: settings.learning == Learning::Frozen,
            ..LearnedModel::default()
        };
        let subjects = self.table.sorted().filter_map(|slot| {
            let usual = self.model.usual(slot, at)?;
            Some(LearnedSubject {
                name: self.table.key(slot).to_string(),
                since_ms: self.cells.get(slot).map(|cell| cell.since_ms).filter(|since_ms| *since_ms != 0),
                trained: super::words::seconds(usual.seen_seconds),
                learning: Some(super::words::seconds(usual.learning_seconds)).filter(|left| !left.is_zero()),
                state_bytes: size(self.model.metric_bytes() + size_of::<Cell>()),
                expected: Some(usual.expected),
                scale: Some(usual.scale),
                limit: Some(usual.limit),
                text: if usual.unusual_seconds > 0.0 {
                    format!("unusual for {}", duration(super::words::seconds(usual.unusual_seconds)))
                } else {
                    String::new()
                },
                ..LearnedSubject::default()
            })
        });
        to.add(Self::PART, model, subjects);
    }

    fn matching(&self, which: Subjects<'_>) -> usize {
        (0..self.table.len()).filter(|slot| which.matches(&self.table.key(*slot).to_string())).count()
    }

    fn reset(&mut self, which: Subjects<'_>) {
        if which == Subjects::All {
            // Who knows nothing has nothing to say.
            *self =
                Self { dropped: self.dropped, verdict: Verdict::Over, is_partial: self.is_partial, ..Self::default() };
            return;
        }
        let keep: Vec<_> =
            (0..self.table.len()).map(|slot| !which.matches(&self.table.key(slot).to_string())).collect();
        self.retain(&keep);
    }
}

/// Seconds since midnight UTC: all that a model takes of the wall clock.
fn time_of_day(wall_ms: i64) -> f64 {
    f64::from(i32::try_from(wall_ms.rem_euclid(86_400_000)).unwrap_or(0)) / 1_000.0
}

/// A number with three digits that matter.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// The least change of a metric that matters to anybody, so that a metric that has never moved is
/// not surprising because it moved a little. Far below what any threshold would ask for.
fn least_change(name: &str) -> f64 {
    match name {
        // A core of fifty, a fiftieth of the time.
        "unit_cpus" => 0.02,
        "load_per_cpu" => 0.1,
        "procs_blocked" | "forks_per_second" => 1.0,
        "major_faults_per_second" | "swapped_pages_per_second" => 10.0,
        "context_switches_per_second" | "network_packets_per_second" => 100.0,
        "network_errors_per_second" => 0.1,
        "disk_await_seconds" => 0.005,
        // What people who wait for an answer do not notice, and what a busy scheduler adds.
        "probe_latency_seconds" => 0.01,
        "disk_read_bytes_per_second" | "disk_written_bytes_per_second" => 262_144.0,
        "network_receive_bytes_per_second" | "network_transmit_bytes_per_second" => 65_536.0,
        "unit_memory_bytes" => 16_777_216.0,
        // Shares of the machine.
        _ => 0.02,
    }
}

/// Takes a metric: its name, its labels sorted by name, the number of what it is about, its value.
type Take<'a> = dyn FnMut(&'static str, &[(&str, &str)], u32, f64) + 'a;

/// Calls `take` with every metric that is learned, always in the same order. What cannot grow or
/// fall beyond its meaning (a level with a detector of its own) is not learned.
#[allow(clippy::cast_precision_loss)]
fn metrics(signals: &Signals<'_>, take: &mut Take<'_>) {
    let mut host = |name, value: Option<f64>| {
        if let Some(value) = value {
            take(name, &[], 0, value);
        }
    };
    host("cpu_busy_ratio", signals.cpu.map(|cpu| cpu.busy_ratio));
    host("cpu_iowait_ratio", signals.cpu.map(|cpu| cpu.iowait_ratio));
    host("cpu_steal_ratio", signals.cpu.map(|cpu| cpu.steal_ratio));
    host("cpu_waiting_ratio", signals.cpu_waiting_ratio);
    host("load_per_cpu", signals.load_per_cpu);
    host("procs_blocked", signals.procs_blocked);
    host("context_switches_per_second", signals.context_switches);
    host("forks_per_second", signals.forks);
    host("major_faults_per_second", signals.major_faults);
    host("swapped_pages_per_second", signals.swapped_pages);
    host("memory_available_ratio", signals.memory_available_ratio);
    host("memory_waiting_ratio", signals.memory_waiting_ratio);
    host("io_waiting_ratio", signals.io_waiting_ratio);
    host("swap_used_ratio", signals.swap_used_ratio);
    host("file_handles_ratio", signals.file_handles_ratio);
    let mut subject = 0;
    for disk in &signals.disks {
        subject += 1;
        let labels = [("device", disk.name)];
        take("disk_busy_ratio", &labels, subject, disk.busy_ratio);
        take("disk_read_bytes_per_second", &labels, subject, disk.read_bytes);
        take("disk_written_bytes_per_second", &labels, subject, disk.written_bytes);
        if let Some(seconds) = disk.await_seconds {
            take("disk_await_seconds", &labels, subject, seconds);
        }
    }
    for interface in &signals.interfaces {
        subject += 1;
        let labels = [("device", interface.name)];
        take("network_receive_bytes_per_second", &labels, subject, interface.receive_bytes);
        take("network_transmit_bytes_per_second", &labels, subject, interface.transmit_bytes);
        take("network_packets_per_second", &labels, subject, interface.packets);
        take("network_errors_per_second", &labels, subject, interface.errors);
    }
    for probe in &signals.probes {
        // By its unit, so that who is slow is named and not who asked.
        let labels = [("probe", probe.name), ("unit", probe.unit.as_str())];
        subject += 1;
        take("probe_latency_seconds", &labels, subject, probe.latency_seconds);
    }
    for unit in &signals.units {
        subject += 1;
        let labels = [("unit", unit.unit.as_str())];
        if let Some(cpus) = unit.cpus {
            take("unit_cpus", &labels, subject, cpus);
        }
        if let Some(bytes) = unit.memory_bytes {
            take("unit_memory_bytes", &labels, subject, bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, FindingEvent};
    use crate::id::IdSource;
    use crate::sample::{Cgroup, CpuTimes, Disk, Sample, Unit};
    use crate::subject::UnitName;
    use crate::time::Now;

    /// A host with a noisy CPU and disk, shown every five seconds; `disturb` changes the busy
    /// share of CPU and disk at a second.
    fn feed(
        detectors: &mut Detectors,
        seconds: std::ops::Range<u64>,
        disturb: impl Fn(u64, &mut f64, &mut f64),
    ) -> Vec<(u64, FindingEvent)> {
        let mut source = IdSource::new(seconds.start);
        #[allow(clippy::cast_precision_loss)]
        let mut uniform = move || (source.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let (mut cpu, mut disk) = (CpuTimes::default(), Disk { name: "vda".into(), ..Disk::default() });
        let mut seen = Vec::new();
        for second in seconds.step_by(5) {
            let (mut busy, mut io) = (0.2 + 0.1 * uniform(), 0.05 + 0.05 * uniform());
            disturb(second, &mut busy, &mut io);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            {
                cpu.user += (busy * 1_000.0) as u64;
                cpu.idle += ((1.0 - busy) * 1_000.0) as u64;
                disk.io_ms += (io * 5_000.0) as u64;
                disk.written_bytes += (io * 1e8) as u64;
            }
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: i64::try_from(second).unwrap() * 1_000 };
            let sample = Sample { at: now, cpu: Some(cpu), disks: vec![disk.clone()], ..Sample::default() };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|event| event.finding.kind == FindingKind::MetricAnomalous);
            seen.extend(events.into_iter().map(|event| (second, event)));
        }
        seen
    }

    const DAY: u64 = 86_400;

    #[test]
    fn unusual_load_opens_one_finding_that_names_the_metrics() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let from = 2 * DAY + 1_000;
        let seen = feed(&mut detectors, 0..2 * DAY + 4_400, |second, busy, io| {
            if (from..from + 600).contains(&second) {
                (*busy, *io) = (0.9, 0.9);
            }
        });
        let opened: Vec<_> = seen.iter().filter(|(_, event)| event.change == Change::Opened).collect();
        assert_eq!(opened.len(), 1, "{opened:?}");
        let (at, event) = opened[0];
        assert!((from..from + 180).contains(at), "{at}");
        assert_eq!(event.finding.severity, Severity::Info);
        let text = &event.finding.evidence[0].text;
        assert!(text.contains("disk_") || text.contains("cpu_"), "{text}");
        assert!(seen.iter().any(|(_, event)| event.change == Change::Cleared));
    }

    #[test]
    fn a_quiet_host_raises_nothing_for_days() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        assert_eq!(feed(&mut detectors, 0..5 * DAY, |_, _, _| {}), []);
    }

    /// What is usual for a metric, and how much of it was learned.
    fn usual(detectors: &Detectors, name: &str) -> (f64, Duration) {
        let learned = detectors.learned();
        let subject = learned.subjects.iter().find(|subject| subject.name == name).unwrap();
        (subject.expected.unwrap(), subject.trained)
    }

    #[test]
    fn what_is_frozen_judges_and_does_not_learn_until_it_is_let_go() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        feed(&mut detectors, 0..2 * DAY, |_, _, _| {});
        let before = usual(&detectors, "cpu_busy_ratio");
        let frozen = Settings { learning: Learning::Frozen, ..Settings::default() };
        detectors.set_settings(frozen);
        // A day of trouble, which a model that learns would take for usual in the end.
        let from = 2 * DAY + 600;
        let seen = feed(&mut detectors, 2 * DAY..from + DAY + 7_200, |second, busy, io| {
            if second >= from {
                (*busy, *io) = (0.9, 0.9);
            }
        });
        let opened: Vec<_> = seen.iter().filter(|(_, event)| event.change == Change::Opened).collect();
        assert_eq!(opened.len(), 1, "{opened:?}");
        assert!((from..from + 180).contains(&opened[0].0), "{}", opened[0].0);
        let evidence = &opened[0].1.finding.evidence;
        assert!(evidence.iter().any(|evidence| evidence.text == FROZEN), "{evidence:?}");
        assert!(seen.iter().all(|(_, event)| event.change != Change::Cleared), "it is as unusual as it was");
        let (learned, after) = (detectors.learned(), usual(&detectors, "cpu_busy_ratio"));
        assert!((after.0 - before.0).abs() < 1e-3 && after.1 == before.1, "{before:?} {after:?}");
        let model = learned.models.iter().find(|model| model.name == "metric.anomalous").unwrap();
        assert!(learned.is_frozen && model.is_frozen);

        detectors.set_settings(Settings::default());
        feed(&mut detectors, from + DAY + 7_200..from + 2 * DAY + 10_800, |_, busy, io| (*busy, *io) = (0.9, 0.9));
        assert!(usual(&detectors, "cpu_busy_ratio").0 > 0.5, "and it learns again");
    }

    #[test]
    fn a_metric_that_is_forgotten_is_learned_anew_and_the_others_stay() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        feed(&mut detectors, 0..2 * DAY, |_, _, _| {});
        let disk = usual(&detectors, r#"disk_busy_ratio{device="vda"}"#);
        let glob = crate::policy::Glob::new("cpu_*").unwrap();
        let now = Now { boot_ns: 2 * DAY * 1_000_000_000, wall_ms: 172_800_000 };
        assert_eq!(detectors.matching(Subjects::Like(&glob)), 3);
        detectors.reset(Subjects::Like(&glob), now);
        assert_eq!(detectors.matching(Subjects::Like(&glob)), 0);
        assert_eq!(usual(&detectors, r#"disk_busy_ratio{device="vda"}"#), disk);
        feed(&mut detectors, 2 * DAY..2 * DAY + 600, |_, _, _| {});
        let learned = detectors.learned();
        let cpu = learned.subjects.iter().find(|subject| subject.name == "cpu_busy_ratio").unwrap();
        assert!(cpu.trained < Duration::from_secs(660) && cpu.learning.is_some(), "{cpu:?}");
        assert!(cpu.since_ms.is_some_and(|since_ms| since_ms >= 172_800_000), "{cpu:?}");
        detectors.reset(Subjects::All, now);
        assert!(detectors.learning().is_some());
        assert_eq!(detectors.matching(Subjects::All), 0);
    }

    #[test]
    fn an_alarm_says_what_was_seen_expected_how_rare_since_when_and_what_of_it_is_season() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let from = 2 * DAY + 43_200;
        // Busier by day than by night, as a sine.
        #[allow(clippy::cast_precision_loss)]
        let daily = |second: u64| 0.1 * (second as f64 / DAY as f64 * std::f64::consts::TAU).cos();
        let seen = feed(&mut detectors, 0..from + 300, |second, busy, io| {
            *busy += daily(second);
            if second >= from {
                (*busy, *io) = (*busy + 0.6, 0.9);
            }
        });
        let (_, event) = seen.iter().find(|(_, event)| event.change == Change::Opened).unwrap();
        let of_cpu = |evidence: &&Evidence| evidence.text.starts_with("cpu_busy_ratio is 0.");
        let evidence = event.finding.evidence.iter().find(of_cpu).unwrap();
        for words in [
            "at this time of day about 0.1",
            // The night is below the mean of the day.
            ", −0.",
            "of it by the time of day",
            "by the drift of days",
            "times as far off as usual, for ",
            "seen so far off once in ",
        ] {
            assert!(evidence.text.contains(words), "{words}: {}", evidence.text);
        }
        let measure = evidence.measure.as_ref().unwrap();
        let (expected, limit) = (measure.expected.unwrap(), measure.limit.unwrap());
        assert!(expected < limit && limit < measure.value, "{measure:?}");
    }

    #[test]
    fn while_samples_are_partial_it_is_unknown_and_nothing_is_learned() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        feed(&mut detectors, 0..2 * DAY, |_, _, _| {});
        let from = 2 * DAY + 600;
        let trouble = |second, busy: &mut f64, io: &mut f64| {
            if second >= from {
                (*busy, *io) = (0.9, 0.9);
            }
        };
        let seen = feed(&mut detectors, 2 * DAY..from + 300, trouble);
        assert!(seen.iter().any(|(_, event)| event.change == Change::Opened), "{seen:?}");
        let before = usual(&detectors, "cpu_busy_ratio");
        detectors.set_partial(true);
        // Calm, as far as can be seen; but what stands is not known to be over.
        let seen = feed(&mut detectors, from + 300..from + 7_200, |_, busy, io| (*busy, *io) = (0.0, 0.0));
        let changes: Vec<_> = seen.iter().map(|(_, event)| event.change).collect();
        assert_eq!(changes, [Change::Unknown]);
        let after = usual(&detectors, "cpu_busy_ratio");
        assert!(after.1 == before.1 && (after.0 - before.0).abs() < 0.01, "{before:?} {after:?}");
        detectors.set_partial(false);
        let seen = feed(&mut detectors, from + 7_200..from + 14_400, |_, _, _| {});
        let changes: Vec<_> = seen.iter().map(|(_, event)| event.change).collect();
        assert!(changes.ends_with(&[Change::Cleared]) && !changes.contains(&Change::Opened), "{changes:?}");
    }

    /// A host with twenty units that stay, and from `from` until `until` with three more every five seconds that nobody sees
    /// again; `late.service` comes a quarter of an hour later and stays.
    fn churn(detectors: &mut Detectors, seconds: std::ops::Range<u64>, from: u64, until: u64) {
        for second in seconds.step_by(5) {
            let named = |name: String| -> UnitName { name.parse().unwrap() };
            let mut names: Vec<_> = (0..20).map(|n| named(format!("stays-{n}.service"))).collect();
            if (from..until).contains(&second) {
                let once = [0, 5]
                    .into_iter()
                    .flat_map(|ago| (0..3).map(move |n| format!("once-{}-{n}.service", second - ago)));
                names.extend(once.map(named));
            }
            if second >= from + 900 {
                names.push(named("late.service".to_owned()));
            }
            let unit = |name: UnitName| {
                let cgroup = Cgroup {
                    cpu_usage_us: Some(second * 1_000),
                    memory_current_bytes: Some(1 << 26),
                    ..Cgroup::default()
                };
                (name, Unit { cgroup: Some(cgroup), ..Unit::default() })
            };
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: i64::try_from(second).unwrap() * 1_000 };
            let units = Some(names.into_iter().map(unit).collect());
            detectors.observe_sample(&Sample { at: now, units, ..Sample::default() }, now);
        }
    }

    #[test]
    fn units_that_come_once_do_not_keep_those_that_stay_out() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let (from, until) = (DAY + 3_600, DAY + 3 * 3_600);
        churn(&mut detectors, 0..until, from, until);
        let is_learned = |detectors: &Detectors, unit: &str| {
            let name = format!("unit_memory_bytes{{unit=\"{unit}\"}}");
            detectors.learned().subjects.iter().find(|subject| subject.name == name).map(|subject| subject.trained)
        };
        let late = is_learned(&detectors, "late.service").unwrap();
        assert!(late > Duration::from_secs(6_000), "{late:?} of 6,300 s");
        assert!(is_learned(&detectors, "stays-19.service").is_some_and(|trained| trained >= Duration::from_secs(DAY)));
        let units = |detectors: &Detectors| {
            detectors.learned().subjects.iter().filter(|subject| subject.name.starts_with("unit_")).count()
        };
        assert!((300..=METRICS_MAX).contains(&units(&detectors)), "those of the last minutes are still known");
        churn(&mut detectors, until..until + 900, from, until);
        assert_eq!(units(&detectors), 2 * 21);
    }

    #[test]
    fn what_was_learned_survives_a_restart() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        assert!(detectors.learning().is_some());
        feed(&mut detectors, 0..2 * DAY, |_, _, _| {});
        assert_eq!(detectors.learning(), None);
        let at = Now { boot_ns: 2 * DAY * 1_000_000_000, wall_ms: 0 };
        let mut again = Detectors::restore(&detectors.snapshot(), Settings::default(), 2, at).unwrap();
        assert_eq!(again.learning(), None);
        let seen = feed(&mut again, 2 * DAY..2 * DAY + 4_400, |second, busy, io| {
            if second > 2 * DAY + 2_400 {
                (*busy, *io) = (0.9, 0.9);
            }
        });
        assert_eq!(seen.iter().filter(|(_, event)| event.change == Change::Opened).count(), 1);
    }
}
