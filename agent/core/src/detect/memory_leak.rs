//! `memory.leak`: the memory of a unit grows steadily towards its limit.
//!
//! In: memory of every unit that is no page cache, and what is left until the limit of the unit, or
//! else until the end of the machine's memory. Out: a verdict for every unit whose [`LeakModel`]
//! shows a leak that reaches the limit before long. A restart begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::leak::{Leak, LeakModel};
use super::learned::{Learned, LearnedModel, LearnedSubject, Since, Subjects, count, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::words::{bytes, duration, measured, seconds};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::{Signals, UnitSignals};
use crate::subject::UnitName;

/// Most units that are followed. Each takes some 1.6 KiB.
const UNITS_MAX: usize = 1_024;

/// Growth that matters: the agent's own and other small programs may do as they like.
const GROWTH_BYTES_MIN: f64 = 16.0 * 1_048_576.0;

/// Nothing is known of a unit before it was watched for this long.
const WATCHED_MIN: Millis = 3_600_000;
/// What grows within its first day may be warming up.
const WARM_AFTER: Millis = 24 * 3_600_000;

/// The limit within this time is critical.
const CRITICAL: Duration = Duration::from_secs(3_600);

/// What is remembered of a unit.
#[derive(Debug, Clone)]
struct Growth {
    invocation: Option<[u8; 16]>,
    model: LeakModel,
    /// Nothing is known after a start of the agent; after a restart of the unit it is over until
    /// shown otherwise.
    is_restarted: bool,
}

/// Histories by unit.
#[derive(Debug, Default)]
pub(crate) struct MemoryLeak {
    units: BTreeMap<UnitName, Growth>,
}

impl MemoryLeak {
    pub(crate) fn observe(
        &mut self,
        sample: &Sample,
        signals: &Signals<'_>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::MemoryLeak, &Verdict::Unknown);
            return;
        };
        self.units.retain(|name, _| units.contains_key(name));
        for unit in &signals.units {
            // Page cache grows without harm and cannot be told apart.
            let Some(used) = unit.memory_bytes.filter(|_| !unit.memory_with_cache) else {
                round.judge(FindingKind::MemoryLeak, SubjectRef::Unit(unit.unit), Verdict::Unknown);
                continue;
            };
            if !self.units.contains_key(unit.unit) {
                if self.units.len() >= UNITS_MAX {
                    continue;
                }
                self.units.insert(unit.unit.clone(), Growth::new());
            }
            let Some(growth) = self.units.get_mut(unit.unit) else { continue };
            let invocation = units.get(unit.unit).and_then(|unit| unit.invocation);
            if growth.invocation != invocation {
                *growth = Growth { invocation, is_restarted: true, ..Growth::new() };
            }
            let verdict = match limit(used, unit, sample) {
                None => Verdict::Unknown,
                Some((limit, left)) => growth.judge(round.t, used, left, &limit, settings),
            };
            round.judge(FindingKind::MemoryLeak, SubjectRef::Unit(unit.unit), verdict);
        }
        round.judge_rest(FindingKind::MemoryLeak, &Verdict::Over);
    }

    /// How many units these are.
    pub(crate) fn matching(&self, which: Subjects<'_>) -> usize {
        self.units.keys().filter(|name| which.matches(&name.to_string())).count()
    }

    /// Forgets these units.
    pub(crate) fn reset(&mut self, which: Subjects<'_>) {
        self.units.retain(|name, _| !which.matches(&name.to_string()));
    }

    /// Tells what was learned of every unit.
    pub(crate) fn learned(&self, version: u8, since: Since, settings: &Settings, to: &mut Learned) {
        let name = FindingKind::MemoryLeak.as_str();
        let subjects = self.units.iter().map(|(unit, growth)| growth.learned(unit, since));
        let begin = to.subjects.len();
        to.subjects.extend(subjects);
        let own = &to.subjects[begin..];
        to.models.push(LearnedModel {
            name: name.to_owned(),
            version: version.into(),
            subjects: count(own.len()),
            since_ms: own.iter().filter_map(|subject| subject.since_ms).min(),
            trained: own.iter().map(|subject| subject.trained).max().unwrap_or_default(),
            state_bytes: own.iter().map(|subject| subject.state_bytes).sum(),
            in_force: format!("said where the limit is reached within {}", duration(settings.memory_leak_within)),
            ..LearnedModel::default()
        });
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.units.len());
        for (name, growth) in &self.units {
            writer.str(name.as_str());
            writer.option(growth.invocation, |w, invocation| w.bytes(&invocation));
            growth.model.save(writer);
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut units = BTreeMap::new();
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let model = LeakModel::load(reader)?;
            units.insert(name, Growth { invocation, model, is_restarted: false });
        }
        Some(Self { units })
    }
}

/// A count for arithmetic: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

impl Growth {
    fn new() -> Self {
        Self { invocation: None, model: LeakModel::new(), is_restarted: false }
    }

    fn learned(&self, unit: &UnitName, since: Since) -> LearnedSubject {
        let watched = self.model.watched();
        let trained = Duration::from_millis(u64::try_from(watched).unwrap_or(0));
        let learned_after = Duration::from_millis(WATCHED_MIN.unsigned_abs());
        let text = match self.model.leak() {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Some(leak) => format!(
                "grew by {} in {}, {} an hour",
                bytes(leak.grown as u64),
                duration(seconds(leak.seconds)),
                bytes((leak.slope * 3_600.0) as u64)
            ),
            None => "no leak".to_owned(),
        };
        LearnedSubject {
            model: FindingKind::MemoryLeak.as_str().to_owned(),
            name: unit.to_string(),
            since_ms: Some(since.wall_ms(since.t.saturating_sub(watched))),
            trained,
            learning: learned_after.checked_sub(trained).filter(|left| !left.is_zero()),
            state_bytes: size(size_of::<Self>() + self.model.state_bytes()),
            text,
            ..LearnedSubject::default()
        }
    }

    fn judge(&mut self, t: Millis, used: u64, left: f64, limit: &Limit, settings: &Settings) -> Verdict {
        let is_learned = self.model.watched() > WATCHED_MIN;
        let Some(leak) = self.model.observe(t, float(used), left).filter(|leak| leak.grown >= GROWTH_BYTES_MIN) else {
            return if is_learned || self.is_restarted { Verdict::Over } else { Verdict::Between };
        };
        let to_limit = left / leak.slope;
        let within = settings.memory_leak_within.as_secs_f64();
        if to_limit < within {
            self.holds(&leak, left, limit)
        } else if to_limit < within * 2.0 {
            Verdict::Between
        } else {
            Verdict::Over
        }
    }

    fn holds(&self, leak: &Leak, left: f64, limit: &Limit) -> Verdict {
        let to_limit = left / leak.slope;
        let by = |slope: f64| if slope > 0.0 { duration(seconds(left / slope)) } else { "never".into() };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let text = format!(
            "memory that is no cache grew by {} in {} ({} an hour): {limit} in about {} ({} to {})",
            bytes(leak.grown as u64),
            duration(seconds(leak.seconds)),
            bytes((leak.slope * 3_600.0) as u64),
            by(leak.slope),
            by(leak.slope_high),
            by(leak.slope_low),
        );
        Verdict::Holds(Case {
            severity: if to_limit < CRITICAL.as_secs_f64() { Severity::Critical } else { Severity::Warning },
            confidence: if self.model.watched() < WARM_AFTER { 0.7 } else { 0.9 },
            evidence: vec![measured(text, "time_to_limit_seconds", to_limit, None)],
            raise_after: Duration::ZERO,
        })
    }
}

/// What the memory runs into.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// The unit's own, in bytes.
    Unit(u64),
    /// The machine's memory, in bytes.
    Machine(u64),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(limit) => write!(f, "its limit of {}", bytes(*limit)),
            Self::Machine(total) => write!(f, "the end of the machine's memory of {}", bytes(*total)),
        }
    }
}

/// The limit, and what is left until it.
fn limit(used: u64, unit: &UnitSignals<'_>, sample: &Sample) -> Option<(Limit, f64)> {
    let memory = sample.memory?;
    Some(match unit.memory_max_bytes {
        Some(limit) if limit < memory.total_bytes => (Limit::Unit(limit), float(limit.saturating_sub(used))),
        _ => (Limit::Machine(memory.total_bytes), float(memory.available_bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Cgroup, Memory, Unit};
    use crate::time::Now;

    const MIB: f64 = 1_048_576.0;

    /// Shows a unit every ten seconds; `used_mib` tells its memory after so many minutes, `restarts`
    /// its invocation. Gives when, in hours, findings opened and cleared.
    fn run(
        hours: u64,
        limit_mib: Option<u64>,
        used_mib: impl Fn(f64) -> f64,
        invocation: impl Fn(u64) -> u8,
    ) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for tick in 0..hours * 360 {
            let minute = tick / 6;
            let now = Now { boot_ns: tick * 10_000_000_000, wall_ms: 0 };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let used = (used_mib(minute as f64) * MIB) as u64;
            let cgroup = Cgroup {
                memory_anon_bytes: Some(used),
                memory_current_bytes: Some(used * 2),
                memory_max_bytes: limit_mib.map(|mib| mib << 20),
                ..Cgroup::default()
            };
            let unit = Unit { invocation: Some([invocation(minute); 16]), cgroup: Some(cgroup), ..Unit::default() };
            let memory = Memory { total_bytes: 16 << 30, available_bytes: 8 << 30, ..Memory::default() };
            let sample = Sample {
                at: now,
                memory: Some(memory),
                units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
                ..Sample::default()
            };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|e| e.finding.kind == FindingKind::MemoryLeak && e.change != Change::Changed);
            seen.extend(events.into_iter().map(|event| (minute / 60, event.change)));
        }
        seen
    }

    /// A garbage collector's sawtooth: up to half as much again, every 20 minutes.
    fn sawtooth(minute: f64) -> f64 {
        1.0 + 0.5 * (minute % 20.0) / 20.0
    }

    #[test]
    fn a_steady_leak_is_found_in_hours_by_its_own_limit() {
        // 60 MiB an hour on 200, limit 1 GiB: full after 13 h.
        let seen = run(6, Some(1_024), |m| 200.0 + m, |_| 0);
        assert_eq!(seen, [(2, Change::Opened)]);
    }

    #[test]
    fn a_leak_below_a_sawtooth_heap_is_found() {
        let seen = run(8, Some(2_048), |m| (200.0 + m) * sawtooth(m), |_| 0);
        assert_eq!(seen.len(), 1, "{seen:?}");
    }

    #[test]
    fn a_sawtooth_heap_is_no_leak() {
        assert_eq!(run(48, Some(1_024), |m| 400.0 * sawtooth(m), |_| 0), []);
    }

    #[test]
    fn a_cache_that_fills_and_stays_full_is_no_leak() {
        assert_eq!(run(48, Some(1_024), |m| 200.0 + 500.0 * (1.0 - (-m / 90.0).exp()), |_| 0), []);
    }

    #[test]
    fn daily_load_is_no_leak() {
        let day = |m: f64| 1.0 + 0.3 * (m / 1_440.0 * std::f64::consts::TAU).sin();
        assert_eq!(run(72, Some(4_096), |m| 800.0 * day(m), |_| 0), []);
    }

    #[test]
    fn a_unit_restarted_every_two_hours_shows_no_trend() {
        assert_eq!(run(24, Some(1_024), |m| 200.0 + m % 120.0, |m| u8::try_from(m / 120).unwrap()), []);
    }

    #[test]
    fn a_restart_clears_it() {
        let seen = run(8, Some(1_024), |m| 200.0 + m % 300.0, |m| u8::try_from(m / 300).unwrap());
        assert_eq!(seen, [(2, Change::Opened), (5, Change::Cleared), (7, Change::Opened)], "and it leaks again");
    }

    #[test]
    fn growth_that_reaches_no_limit_for_weeks_is_none() {
        assert_eq!(run(12, None, |m| 500.0 + m * 0.2, |_| 0), []);
    }
}
