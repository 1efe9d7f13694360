//! `memory.pressure`: work stalls for lack of memory, on the host or within the limit of a unit.
//!
//! In: pressure stall information and memory levels. Pressure alone is not enough on the host:
//! tasks also stall on the limit of their own cgroup while plenty is free, which is that unit's
//! finding. Nor is little free memory alone, which is how a healthy host uses it. A second, long
//! window finds a quarter as much waiting over an hour ([`super::burn`]).

use super::burn::{Burn, Slow, either};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::words::{bytes, measured, percent, said};
use crate::finding::{Evidence, FindingKind, Severity};
use crate::sample::{Cgroup, Pressure, Sample};
use crate::signal::Signals;

/// Share of its own limit from which a unit's stalls are put down to it. Reclaim starts at the
/// limit, so a unit under pressure stays close to it.
const UNIT_NEAR_LIMIT_RATIO: f64 = 0.9;

/// An open finding clears when pressure and available memory are this much better than what opened
/// it.
const CLEAR_FACTOR: f64 = 0.5;

/// Over an hour, this share of what ten seconds take is trouble: a tenth of the time is lost.
const SLOW_FACTOR: f64 = 0.25;

/// Units named as the largest in the evidence.
const LARGEST_UNITS: usize = 3;

/// Judges the host and every unit with a limit.
pub(crate) fn observe(
    sample: &Sample,
    signals: &Signals<'_>,
    burn: &mut Burn,
    settings: &Settings,
    round: &mut Round<'_>,
) {
    if let (Some(pressure), Some(available)) = (sample.pressure.memory, signals.memory_available_ratio) {
        let is_low = available < settings.memory_available_ratio;
        burn.add(round.t, if is_low { pressure.some.avg60_ratio } else { 0.0 });
    }
    let limit = settings.memory_waiting_ratio * SLOW_FACTOR;
    let slow = burn.slow(limit).map(|slow| slow_case(slow, limit, signals));
    round.judge(FindingKind::MemoryPressure, SubjectRef::Host, either(host(sample, signals, settings), slow));
    if sample.units.is_none() {
        round.judge_rest(FindingKind::MemoryPressure, &Verdict::Unknown);
    }
    for (name, unit) in sample.units.iter().flatten() {
        if let Some(cgroup) = unit.cgroup.as_ref().filter(|cgroup| cgroup.memory_max_bytes.is_some()) {
            round.judge(FindingKind::MemoryPressure, SubjectRef::Unit(name), of_unit(cgroup, settings));
        }
    }
    round.judge_rest(FindingKind::MemoryPressure, &Verdict::Over);
}

fn slow_case(slow: Slow, limit: f64, signals: &Signals<'_>) -> Case {
    let text = format!(
        "with little memory left some task waited for it {} of the last hour, {} of the last five minutes",
        percent(slow.hour),
        percent(slow.lately)
    );
    let mut evidence = vec![measured(text, "memory_waiting_ratio", slow.hour, Some(limit))];
    evidence.extend(largest(signals));
    Case { severity: Severity::Warning, confidence: 0.9, evidence, raise_after: std::time::Duration::ZERO }
}

/// The shares of the last ten seconds in which some and all tasks waited.
fn stalls(pressure: Pressure) -> (f64, f64) {
    (pressure.some.avg10_ratio, pressure.full.map_or(0.0, |full| full.avg10_ratio))
}

fn host(sample: &Sample, signals: &Signals<'_>, settings: &Settings) -> Verdict {
    let (Some(pressure), Some(available)) = (sample.pressure.memory, signals.memory_available_ratio) else {
        return Verdict::Unknown;
    };
    let (some, full) = stalls(pressure);
    let is_low = available < settings.memory_available_ratio;
    if is_low && (some >= settings.memory_waiting_ratio || full >= settings.memory_stalled_ratio) {
        let mut evidence = evidence(some, full, settings);
        evidence.push(measured(
            format!(
                "{} of memory is available, limit {}",
                percent(available),
                percent(settings.memory_available_ratio)
            ),
            "memory_available_ratio",
            available,
            Some(settings.memory_available_ratio),
        ));
        evidence.extend(largest(signals));
        return Verdict::Holds(case(full, evidence, settings));
    }
    let is_over =
        some < settings.memory_waiting_ratio * CLEAR_FACTOR && full < settings.memory_stalled_ratio * CLEAR_FACTOR;
    if is_over || available > settings.memory_available_ratio / CLEAR_FACTOR { Verdict::Over } else { Verdict::Between }
}

#[allow(clippy::cast_precision_loss)]
fn of_unit(cgroup: &Cgroup, settings: &Settings) -> Verdict {
    let (Some(pressure), Some(current), Some(limit @ 1..)) =
        (cgroup.pressure.memory, cgroup.memory_current_bytes, cgroup.memory_max_bytes)
    else {
        return Verdict::Unknown;
    };
    let used = current as f64 / limit as f64;
    let (some, full) = stalls(pressure);
    if used >= UNIT_NEAR_LIMIT_RATIO && (some >= settings.memory_waiting_ratio || full >= settings.memory_stalled_ratio)
    {
        let mut evidence = evidence(some, full, settings);
        let text = format!("uses {} of its limit of {}", percent(used), bytes(limit));
        evidence.push(measured(text, "memory_used_ratio", used, Some(UNIT_NEAR_LIMIT_RATIO)));
        return Verdict::Holds(case(full, evidence, settings));
    }
    let is_over =
        some < settings.memory_waiting_ratio * CLEAR_FACTOR && full < settings.memory_stalled_ratio * CLEAR_FACTOR;
    if is_over { Verdict::Over } else { Verdict::Between }
}

fn case(full: f64, evidence: Vec<Evidence>, settings: &Settings) -> Case {
    // When nothing at all ran for a good part of the time, users notice.
    let is_severe = full >= settings.memory_stalled_ratio * 3.0;
    Case {
        severity: if is_severe { Severity::Critical } else { Severity::Warning },
        confidence: if is_severe { 0.97 } else { 0.9 },
        evidence,
        raise_after: settings.memory_pressure_for,
    }
}

fn evidence(some: f64, full: f64, settings: &Settings) -> Vec<Evidence> {
    vec![
        measured(
            format!("all tasks waited for memory {} of 10 s", percent(full)),
            "memory_stalled_ratio",
            full,
            Some(settings.memory_stalled_ratio),
        ),
        measured(
            format!("some task waited for memory {} of 10 s", percent(some)),
            "memory_waiting_ratio",
            some,
            Some(settings.memory_waiting_ratio),
        ),
    ]
}

fn largest(signals: &Signals<'_>) -> Option<Evidence> {
    let mut units: Vec<_> = signals.units.iter().filter_map(|u| Some((u.memory_bytes?, u.unit))).collect();
    units.sort_unstable_by(|a, b| b.cmp(a));
    let named: Vec<_> =
        units.iter().take(LARGEST_UNITS).map(|(used, unit)| format!("{unit} {}", bytes(*used))).collect();
    (!named.is_empty()).then(|| said(format!("largest units: {}", named.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Memory, Stall, Unit};
    use crate::subject::Subject;
    use crate::time::Now;
    use std::collections::BTreeMap;

    fn pressure(some: f64, full: f64) -> Option<Pressure> {
        let stall = |avg10_ratio| Stall { avg10_ratio, ..Stall::default() };
        Some(Pressure { some: stall(some), full: Some(stall(full)) })
    }

    fn host_sample(some: f64, full: f64, available_bytes: u64) -> Sample {
        let memory = Memory { total_bytes: 100, available_bytes, ..Memory::default() };
        let mut sample = Sample { memory: Some(memory), ..Sample::default() };
        sample.pressure.memory = pressure(some, full);
        sample
    }

    /// Shows the sample for that many seconds, then the other.
    fn run(first: (u64, Sample), second: (u64, Sample)) -> Vec<(u64, Change, Subject)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for at in 0..first.0 + second.0 {
            let now = Now { boot_ns: at * 1_000_000_000, wall_ms: 0 };
            let sample = Sample { at: now, ..if at < first.0 { first.1.clone() } else { second.1.clone() } };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|event| event.finding.kind == FindingKind::MemoryPressure);
            for event in events {
                seen.push((at, event.change, event.finding.subject));
            }
        }
        seen
    }

    #[test]
    fn stalls_with_little_memory_left_are_pressure_until_they_end() {
        let seen = run((20, host_sample(0.7, 0.2, 5)), (60, host_sample(0.0, 0.0, 60)));
        assert_eq!(seen, [(10, Change::Opened, Subject::Host), (50, Change::Cleared, Subject::Host)]);
    }

    #[test]
    fn neither_stalls_with_plenty_left_nor_little_left_without_stalls_are_pressure() {
        assert_eq!(run((60, host_sample(0.7, 0.2, 50)), (60, host_sample(0.0, 0.0, 3))), []);
    }

    #[test]
    fn a_kernel_without_pressure_information_is_unknown() {
        let mut sample = host_sample(0.0, 0.0, 3);
        sample.pressure.memory = None;
        assert_eq!(run((60, sample.clone()), (0, sample)), []);
    }

    #[test]
    fn a_unit_stalling_on_its_own_limit_is_named() {
        let mut cgroup = Cgroup { memory_current_bytes: Some(95), memory_max_bytes: Some(100), ..Cgroup::default() };
        cgroup.pressure.memory = pressure(0.6, 0.4);
        let name: crate::subject::UnitName = "db.service".parse().unwrap();
        let unit = Unit { cgroup: Some(cgroup), ..Unit::default() };
        let sample = Sample { units: Some(BTreeMap::from([(name.clone(), unit)])), ..host_sample(0.6, 0.4, 60) };
        assert_eq!(run((20, sample.clone()), (0, sample)), [(10, Change::Opened, Subject::Unit(name))]);
    }
}
