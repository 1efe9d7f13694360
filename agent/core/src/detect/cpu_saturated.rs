//! `cpu.saturated`: work waits for a CPU most of the time.
//!
//! In: CPU time and pressure. A host whose CPUs are all busy may do just what it should; only
//! together with tasks that wait for a CPU, for minutes, it is trouble. Waiting alone is none
//! either: a unit throttled by its own quota waits on an idle host. A second, long window finds
//! half as much waiting over an hour ([`super::burn`]).

use super::burn::{Burn, Slow, either};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::words::{measured, percent, said};
use crate::finding::{Evidence, FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::Signals;

/// An open finding clears below this share of what opened it.
const CLEAR_FACTOR: f64 = 0.9;

/// Share taken by the hypervisor that is worth saying: then the neighbours are to blame.
const STEAL_RATIO: f64 = 0.1;

/// Units named as the busiest in the evidence, and from how many CPUs on.
const BUSIEST_UNITS: usize = 3;
const BUSIEST_CPUS_MIN: f64 = 0.05;

/// Over an hour, this share of what a minute takes is trouble.
const SLOW_FACTOR: f64 = 0.5;

/// Judges the host.
pub(crate) fn observe(
    sample: &Sample,
    signals: &Signals<'_>,
    burn: &mut Burn,
    settings: &Settings,
    round: &mut Round<'_>,
) {
    if let (Some(cpu), Some(pressure)) = (signals.cpu, sample.pressure.cpu) {
        // Waiting on CPUs that are not busy is somebody's own quota.
        let is_busy = cpu.busy_ratio >= settings.cpu_busy_ratio * CLEAR_FACTOR;
        burn.add(round.t, if is_busy { pressure.some.avg60_ratio } else { 0.0 });
    }
    let limit = settings.cpu_waiting_ratio * SLOW_FACTOR;
    let slow = burn.slow(limit).map(|slow| slow_case(slow, limit, signals));
    round.judge(FindingKind::CpuSaturated, SubjectRef::Host, either(verdict(sample, signals, settings), slow));
}

fn slow_case(slow: Slow, limit: f64, signals: &Signals<'_>) -> Case {
    let text = format!(
        "some task waited for busy CPUs {} of the last hour, {} of the last five minutes",
        percent(slow.hour),
        percent(slow.lately)
    );
    let mut evidence = vec![measured(text, "cpu_waiting_ratio", slow.hour, Some(limit))];
    evidence.extend(busiest(signals));
    Case { severity: Severity::Warning, confidence: 0.9, evidence, raise_after: std::time::Duration::ZERO }
}

fn verdict(sample: &Sample, signals: &Signals<'_>, settings: &Settings) -> Verdict {
    // The share over a minute: a second without a waiting task does not end it.
    let (Some(cpu), Some(pressure)) = (signals.cpu, sample.pressure.cpu) else { return Verdict::Unknown };
    let waiting = pressure.some.avg60_ratio;
    if waiting < settings.cpu_waiting_ratio * CLEAR_FACTOR {
        return Verdict::Over;
    }
    if waiting < settings.cpu_waiting_ratio || cpu.busy_ratio < settings.cpu_busy_ratio {
        // One calm second is no end, and one busy second no beginning.
        return if cpu.busy_ratio < settings.cpu_busy_ratio * CLEAR_FACTOR { Verdict::Over } else { Verdict::Between };
    }
    let mut evidence = vec![
        measured(
            format!("some task waited for a CPU {} of a minute", percent(waiting)),
            "cpu_waiting_ratio",
            waiting,
            Some(settings.cpu_waiting_ratio),
        ),
        measured(
            format!("CPUs were busy {} of the time", percent(cpu.busy_ratio)),
            "cpu_busy_ratio",
            cpu.busy_ratio,
            Some(settings.cpu_busy_ratio),
        ),
    ];
    evidence.extend(busiest(signals));
    if cpu.steal_ratio >= STEAL_RATIO {
        let text = format!("the hypervisor took {} of the CPU time", percent(cpu.steal_ratio));
        evidence.push(measured(text, "cpu_steal_ratio", cpu.steal_ratio, Some(STEAL_RATIO)));
    }
    Verdict::Holds(Case {
        severity: Severity::Warning,
        confidence: 0.9,
        evidence,
        raise_after: settings.cpu_saturated_for,
    })
}

fn busiest(signals: &Signals<'_>) -> Option<Evidence> {
    let mut units: Vec<_> =
        signals.units.iter().filter_map(|u| Some((u.cpus.filter(|cpus| *cpus >= BUSIEST_CPUS_MIN)?, u.unit))).collect();
    units.sort_by(|a, b| b.0.total_cmp(&a.0));
    let named: Vec<_> = units.iter().take(BUSIEST_UNITS).map(|(cpus, unit)| format!("{unit} {cpus:.1} CPUs")).collect();
    (!named.is_empty()).then(|| said(format!("busiest units: {}", named.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{CpuTimes, Pressure, Stall};
    use crate::time::Now;

    /// Shows `(seconds, busy share, waiting share)` one after the other.
    fn run(stretches: &[(u64, f64, f64)]) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        let (mut at, mut cpu) = (0, CpuTimes::default());
        for (seconds, busy, waiting) in stretches {
            for _ in 0..*seconds {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let ticks = (busy * 200.0) as u64;
                cpu.user += ticks;
                cpu.idle += 200 - ticks;
                let now = Now { boot_ns: at * 1_000_000_000, wall_ms: 0 };
                let mut sample = Sample { at: now, cpu: Some(cpu), ..Sample::default() };
                let some = Stall { avg60_ratio: *waiting, ..Stall::default() };
                sample.pressure.cpu = Some(Pressure { some, full: None });
                let events = detectors.observe_sample(&sample, now).into_iter();
                let own = events.filter(|event| event.finding.kind == FindingKind::CpuSaturated);
                seen.extend(own.map(|event| (at, event.change)));
                at += 1;
            }
        }
        seen
    }

    #[test]
    fn busy_cpus_with_waiting_tasks_for_minutes_are_saturated() {
        let seen = run(&[(200, 1.0, 0.9), (100, 0.2, 0.1)]);
        assert_eq!(seen, [(121, Change::Opened), (230, Change::Cleared)]);
    }

    #[test]
    fn neither_busy_cpus_nor_waiting_tasks_alone_are() {
        assert_eq!(run(&[(600, 1.0, 0.2), (600, 0.4, 0.9)]), []);
    }

    #[test]
    fn an_hour_of_half_as_much_waiting_is_saturation_and_half_an_hour_is_not() {
        assert_eq!(run(&[(1_800, 0.97, 0.4), (1_800, 0.3, 0.0)]), []);
        let seen = run(&[(4_000, 0.97, 0.4), (600, 0.3, 0.0)]);
        assert!(seen.len() == 2 && (2_800..3_700).contains(&seen[0].0), "{seen:?}");
        assert!(seen[1].1 == Change::Cleared && seen[1].0 < 4_200, "{seen:?}");
    }

    #[test]
    fn a_build_of_a_minute_is_not() {
        assert_eq!(run(&[(60, 1.0, 0.9), (60, 0.1, 0.4), (60, 1.0, 0.9), (60, 0.1, 0.4)]), []);
    }
}
