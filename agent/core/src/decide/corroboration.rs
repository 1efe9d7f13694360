//! Corroboration: what a learned finding needs beside itself before a unit is restarted or stopped.
//!
//! A learned finding says that something is not as it was, which a good change is too. So it takes a
//! second sign, seen by another way: that a limit is near, that tasks are kept waiting, that the
//! kernel had to kill, or that a probe of the unit gets no answer. Messages need none, nor does what
//! only makes room on a disk and can be undone.

use crate::finding::{Finding, FindingKind};
use crate::policy::RungAction;
use crate::subject::Subject;

/// A finding that stands on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What is wrong.
    pub kind: FindingKind,
    /// With what.
    pub subject: Subject,
}

/// Used share of a limit from which it is near. A leak that has taken so much is past every usual
/// level, and takes the rest in a seventh of the time that it has had.
const NEAR_RATIO: f64 = 0.85;

/// A limit that is half used and full within this time is near too: the next look may be too late.
const NEAR_SECONDS: f64 = 2.0 * 3_600.0;
const NEAR_HALF_RATIO: f64 = 0.5;

/// Measures of how much of a limit is used.
const USED: [&str; 4] = ["memory_used_ratio", "fds_used_ratio", "tasks_used_ratio", "inodes_used_ratio"];

/// Measures of tasks that wait: held against the limit that stands beside them.
const WAITING: [&str; 2] = ["cpu_waiting_ratio", "memory_waiting_ratio"];

/// Whether findings of a kind rest on what was learned or extrapolated alone.
pub(super) fn is_learned(kind: FindingKind) -> bool {
    use FindingKind as K;
    matches!(
        kind,
        K::MemoryLeak
            | K::FdLeak
            | K::TaskLeak
            | K::InodeLeak
            | K::ProcessRunaway
            | K::ProcessForkStorm
            | K::MetricAnomalous
    )
}

/// Whether an action interrupts what runs.
pub(super) fn interrupts(action: &RungAction) -> bool {
    matches!(action, RungAction::UnitRestart(_) | RungAction::UnitStop)
}

/// Whether findings of this kind can bear out others: they are measured against a limit or asked of
/// the service itself.
#[must_use]
pub(crate) fn bears_out(kind: FindingKind) -> bool {
    use FindingKind as K;
    matches!(
        kind,
        K::ServiceHung
            | K::MemoryPressure
            | K::MemoryOomKill
            | K::CpuSaturated
            | K::IoStalled
            | K::FdExhausted
            | K::TaskExhausted
    )
}

/// What bears the finding out, or what it would take, in words.
pub(super) fn of(finding: &Finding, standing: &[Standing]) -> Result<String, String> {
    own(finding)
        .or_else(|| {
            standing
                .iter()
                .find(|other| concerns(other, finding))
                .map(|other| format!("{} stands on {}", other.kind, other.subject))
        })
        .ok_or_else(|| {
            format!("needs corroboration: no limit is near, nothing waits, no probe of {} fails", finding.subject)
        })
}

/// What the finding itself measured beside what was learned.
fn own(finding: &Finding) -> Option<String> {
    let measures = || finding.evidence.iter().filter_map(|seen| seen.measure.as_ref());
    let value = |name: &str| measures().find(|measure| measure.name == name).map(|measure| measure.value);
    let used = USED.iter().find_map(|name| value(name));
    let seconds = value("time_to_limit_seconds");
    if let Some(used) = used.filter(|used| *used >= NEAR_RATIO) {
        return Some(format!("{:.0} % of the limit is used", used * 100.0));
    }
    if let (Some(used), Some(seconds)) = (used, seconds)
        && used >= NEAR_HALF_RATIO
        && seconds <= NEAR_SECONDS
    {
        return Some(format!(
            "{:.0} % of the limit is used, and the rest lasts for {:.0} min",
            used * 100.0,
            seconds / 60.0
        ));
    }
    let waits = |name: &&str| {
        measures().find(|m| m.name == **name && m.limit.is_some_and(|limit| m.value >= limit)).map(|m| m.value)
    };
    WAITING.iter().find_map(waits).map(|share| format!("tasks wait {:.0} % of the time", share * 100.0))
}

/// Whether another finding is about the same trouble: on the same subject, or the host's want of what this one takes.
fn concerns(other: &Standing, finding: &Finding) -> bool {
    use FindingKind as K;
    if !bears_out(other.kind) {
        return false;
    }
    if other.subject == finding.subject {
        return true;
    }
    let of_host = match finding.kind {
        K::MemoryLeak => matches!(other.kind, K::MemoryPressure | K::MemoryOomKill),
        K::FdLeak => other.kind == K::FdExhausted,
        K::ProcessRunaway => other.kind == K::CpuSaturated,
        K::TaskLeak | K::ProcessForkStorm => {
            matches!(other.kind, K::TaskExhausted | K::CpuSaturated | K::MemoryPressure)
        }
        _ => false,
    };
    of_host && other.subject == Subject::Host
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::finding;
    use crate::finding::{Evidence, Measure};

    fn leak(measures: &[(&str, f64)]) -> Finding {
        let measured = |(name, value): &(&str, f64)| Evidence {
            text: String::new(),
            measure: Some(Measure { name: (*name).to_owned(), value: *value, limit: Some(0.6), expected: None }),
        };
        let evidence = measures.iter().map(measured).collect();
        Finding { kind: FindingKind::MemoryLeak, evidence, ..finding("app.service") }
    }

    #[test]
    fn a_limit_that_is_near_bears_a_leak_out() {
        for (used, hours, expected) in
            [(0.84, 20.0, false), (0.85, 20.0, true), (0.5, 2.0, true), (0.5, 2.1, false), (0.49, 0.5, false)]
        {
            let leak = leak(&[("time_to_limit_seconds", hours * 3_600.0), ("memory_used_ratio", used)]);
            assert_eq!(of(&leak, &[]).is_ok(), expected, "{used} {hours}");
        }
        assert!(of(&leak(&[("memory_used_ratio", f64::NAN)]), &[]).is_err());
    }

    #[test]
    fn tasks_that_wait_bear_out_what_takes_the_time() {
        let runaway = |waiting| Finding {
            kind: FindingKind::ProcessRunaway,
            ..leak(&[("cpus", 1.0), ("cpu_waiting_ratio", waiting)])
        };
        assert_eq!(of(&runaway(0.7), &[]), Ok("tasks wait 70 % of the time".to_owned()));
        assert!(of(&runaway(0.5), &[]).is_err());
    }

    #[test]
    fn other_findings_do_on_the_same_subject_or_where_the_host_lacks_what_is_taken() {
        let on = |kind, subject: &str| {
            let subject = if subject == "host" { Subject::Host } else { Subject::Unit(subject.parse().unwrap()) };
            of(&leak(&[]), &[Standing { kind, subject }]).is_ok()
        };
        assert!(on(FindingKind::ServiceHung, "app.service"));
        assert!(!on(FindingKind::ServiceHung, "other.service"));
        assert!(on(FindingKind::MemoryPressure, "host") && on(FindingKind::MemoryOomKill, "app.service"));
        assert!(!on(FindingKind::CpuSaturated, "host"), "memory is not what it lacks");
        assert!(!on(FindingKind::MetricAnomalous, "host"), "two learned findings are no better than one");
        assert!(!on(FindingKind::FdLeak, "app.service"));
    }
}
