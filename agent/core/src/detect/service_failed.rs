//! `service.failed`: a unit is in the state `failed`, or a service that should run was killed.
//!
//! In: units as systemd tells of them. Out: a verdict for each. It opens at once: systemd has
//! already tried what `Restart=` told it to. A unit that somebody stopped is never failed,
//! whatever its exit code, and neither is a service that ended well.

use std::collections::BTreeMap;
use std::time::Duration;

use super::codec::{Reader, Writer};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::snapshot::{Kept, Part};
use crate::finding::{Evidence, FindingKind, Measure, Severity};
use crate::ordered::Ordered;
use crate::sample::{ActiveState, Unit};
use crate::subject::UnitName;

/// Most units that are followed; a host has a few hundred. Those beyond are judged without memory.
const UNITS_MAX: usize = 4_096;

/// `CLD_KILLED` and `CLD_DUMPED`: the main process was ended by a signal.
const KILLED: std::ops::RangeInclusive<i32> = 2..=3;

/// Exit codes by which a shell or a runtime such as Java's says "ended by SIGINT / SIGTERM": most
/// often an ordinary stop.
const STOPPED_BY_SIGNAL_EXITS: [i32; 2] = [130, 143];

/// The result of a unit that was started more often than `StartLimitBurst=` in `StartLimitIntervalSec=`: only a start that
/// first forgets its failure is taken.
const START_LIMIT: &str = "start-limit-hit";

/// A service without the state `failed` that lost its process opens only after this, so that a
/// stop whose job we hear of a moment later is no finding.
const KILLED_RAISE_AFTER: Duration = Duration::from_secs(3);

/// Remembers which invocation of a unit was seen running.
#[derive(Debug, Default)]
pub(crate) struct ServiceFailed {
    running: Ordered<UnitName, [u8; 16]>,
}

impl ServiceFailed {
    /// Judges all units.
    pub(crate) fn observe(&mut self, units: Option<&BTreeMap<UnitName, Unit>>, round: &mut Round<'_>) {
        let Some(units) = units else {
            round.judge_rest(FindingKind::ServiceFailed, &Verdict::Unknown);
            return;
        };
        self.running.retain_among(units.keys());
        for (name, unit) in units {
            self.observe_unit(name, Some(unit), round);
        }
        round.judge_rest(FindingKind::ServiceFailed, &Verdict::Over);
    }

    /// Judges one unit; `None` when it is no longer loaded.
    pub(crate) fn observe_unit(&mut self, name: &UnitName, unit: Option<&Unit>, round: &mut Round<'_>) {
        let verdict = match unit {
            Some(unit) => {
                self.remember(name, unit);
                self.verdict(name, unit)
            }
            None => Verdict::Over,
        };
        round.judge(FindingKind::ServiceFailed, SubjectRef::Unit(name), verdict);
    }

    fn remember(&mut self, name: &UnitName, unit: &Unit) {
        let Some(invocation) = unit.invocation.filter(|_| unit.active == ActiveState::Active) else { return };
        if let Some(known) = self.running.get_mut(name) {
            *known = invocation;
        } else if self.running.len() < UNITS_MAX {
            self.running.insert(name.clone(), invocation);
        }
    }

    /// Whether this very invocation was running before our eyes.
    fn saw_it_run(&self, name: &UnitName, unit: &Unit) -> bool {
        unit.invocation.is_some() && self.running.get(name).copied() == unit.invocation
    }

    fn verdict(&self, name: &UnitName, unit: &Unit) -> Verdict {
        match unit.active {
            _ if unit.stopped_on_request => Verdict::Over,
            ActiveState::Failed => {
                let confidence = if self.saw_it_run(name, unit) {
                    0.99
                } else if unit.exec_main_code == 1 && STOPPED_BY_SIGNAL_EXITS.contains(&unit.exec_main_status) {
                    // It may have been stopped by somebody before we looked.
                    0.5
                } else {
                    0.95
                };
                Verdict::Holds(case(unit, confidence, Duration::ZERO))
            }
            ActiveState::Inactive if self.lost_its_process(name, unit) => {
                Verdict::Holds(case(unit, 0.8, KILLED_RAISE_AFTER))
            }
            // On its way up or down: it is not known yet how that ends.
            ActiveState::Activating | ActiveState::Deactivating => Verdict::Between,
            ActiveState::Inactive | ActiveState::Active | ActiveState::Reloading => Verdict::Over,
        }
    }

    /// A service that is wanted (enabled), was running before our eyes, and whose process was
    /// ended by a signal that systemd takes for a clean end (SIGTERM, say), without being asked.
    fn lost_its_process(&self, name: &UnitName, unit: &Unit) -> bool {
        name.as_str().ends_with(".service")
            && unit.enabled
            && unit.service_type != "oneshot"
            && KILLED.contains(&unit.exec_main_code)
            && self.saw_it_run(name, unit)
    }
}

impl Kept for ServiceFailed {
    const PART: Part = Part { tag: 3, versions: (1, 1), name: "service.failed" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.running.len());
        for (name, invocation) in self.running.iter() {
            writer.str(name.as_str());
            writer.bytes(invocation);
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut running = Ordered::default();
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            running.insert(reader.unit()?, reader.bytes()?.try_into().ok()?);
        }
        Some(Self { running })
    }
}

fn case(unit: &Unit, confidence: f64, raise_after: Duration) -> Case {
    let severity = if unit.enabled || unit.service_type != "oneshot" { Severity::Critical } else { Severity::Warning };
    Case { severity, confidence, evidence: vec![evidence(unit)], raise_after }
}

fn evidence(unit: &Unit) -> Evidence {
    let status = unit.exec_main_status;
    let how = match unit.exec_main_code {
        1 => format!("its main process exited with status {status}"),
        2 => format!("its main process was killed by signal {}", signal_name(status)),
        3 => format!("its main process dumped core on signal {}", signal_name(status)),
        _ => "it has no main process".to_owned(),
    };
    let state = if unit.active == ActiveState::Failed { "failed" } else { "inactive" };
    let restart = if unit.restart.is_empty() { "no" } else { &unit.restart };
    let result = if unit.result.is_empty() { "unknown" } else { &unit.result };
    let given_up = if result == START_LIMIT { "; systemd starts it no more, as it was started too often" } else { "" };
    Evidence {
        text: format!("{state} (result {result}): {how}; Restart={restart}{given_up}"),
        measure: (unit.exec_main_code != 0).then(|| Measure {
            name: "exec_main_status".to_owned(),
            value: f64::from(status),
            limit: None,
            expected: None,
        }),
    }
}

/// The name that people know a signal by, for the few that end services.
fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::finding::Finding;
    use crate::time::Now;

    fn now(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }
    }

    fn running() -> Unit {
        Unit {
            active: ActiveState::Active,
            sub: "running".to_owned(),
            result: "success".to_owned(),
            invocation: Some([1; 16]),
            main_pid: 100,
            restart: "no".to_owned(),
            service_type: "simple".to_owned(),
            enabled: true,
            ..Unit::default()
        }
    }

    fn killed() -> Unit {
        Unit {
            active: ActiveState::Failed,
            result: "signal".to_owned(),
            main_pid: 0,
            exec_main_code: 2,
            exec_main_status: 9,
            ..running()
        }
    }

    /// Shows `units` to fresh detectors, one a second; gives the findings that opened.
    fn opened(units: &[Unit]) -> Vec<Finding> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let name = "app.service".parse().unwrap();
        let mut opened = Vec::new();
        for (at, unit) in (1..).zip(units) {
            let events = detectors.observe_unit(&name, Some(unit), now(at));
            opened.extend(events.into_iter().filter(|e| e.change == Change::Opened).map(|e| e.finding));
        }
        opened
    }

    #[test]
    fn a_killed_service_is_found_with_the_very_event() {
        let found = opened(&[running(), killed()]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, FindingKind::ServiceFailed);
        assert_eq!(found[0].severity, Severity::Critical);
        assert_eq!(found[0].opened, now(2));
        assert_eq!(
            found[0].evidence[0].text,
            "failed (result signal): its main process was killed by signal 9 (SIGKILL); Restart=no"
        );
    }

    #[test]
    fn one_that_was_started_too_often_says_so() {
        let result = "start-limit-hit".to_owned();
        let given_up =
            Unit { result, exec_main_code: 1, exec_main_status: 3, restart: "always".to_owned(), ..killed() };
        let text = "failed (result start-limit-hit): its main process exited with status 3; Restart=always; systemd starts it no more, \
                    as it was started too often";
        assert_eq!(opened(&[running(), given_up])[0].evidence[0].text, text);
    }

    #[test]
    fn a_service_that_was_stopped_on_request_is_not_failed() {
        // Java's 143 after `systemctl stop` leaves the unit in the state failed.
        let stopped = Unit { exec_main_code: 1, exec_main_status: 143, stopped_on_request: true, ..killed() };
        assert_eq!(opened(&[running(), stopped]), []);
    }

    #[test]
    fn a_service_that_ended_well_is_not_failed() {
        let done = Unit { active: ActiveState::Inactive, exec_main_code: 1, main_pid: 0, ..running() };
        assert_eq!(opened(&[running(), done.clone(), done.clone(), done.clone(), done]), []);
    }

    #[test]
    fn an_enabled_service_ended_by_sigterm_without_a_job_is_found_after_a_moment() {
        let ended = Unit { active: ActiveState::Inactive, exec_main_code: 2, exec_main_status: 15, ..running() };
        let seen = [vec![running()], vec![ended.clone(); 4]].concat();
        assert_eq!(opened(&seen).len(), 1);
        assert_eq!(opened(&seen[..4]), [], "not before 3 s");
        assert_eq!(opened(&vec![ended; 9]), [], "never when it was not seen running");
    }

    #[test]
    fn an_old_failure_by_sigterm_is_less_sure() {
        let stopped = Unit { exec_main_code: 1, exec_main_status: 143, ..killed() };
        assert!(opened(&[stopped])[0].confidence < 0.6);
        assert!(opened(&[killed()])[0].confidence > 0.9);
    }

    #[test]
    fn a_unit_on_its_way_up_keeps_its_finding_and_an_active_one_clears_it() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let name = "app.service".parse().unwrap();
        let starting = Unit { active: ActiveState::Activating, ..running() };
        let mut changes = Vec::new();
        for (at, unit) in (1..).zip([killed(), starting, running(), killed()]) {
            changes.extend(detectors.observe_unit(&name, Some(&unit), now(at)).into_iter().map(|e| (at, e.change)));
        }
        assert_eq!(changes, [(1, Change::Opened), (3, Change::Cleared), (4, Change::Opened)]);
    }

    #[test]
    fn a_unit_that_is_gone_clears_and_silence_of_systemd_does_not() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let name: UnitName = "app.service".parse().unwrap();
        let with = |units| crate::sample::Sample { units, ..Default::default() };
        let some = Some(BTreeMap::from([(name, killed())]));
        let mut changes = Vec::new();
        for (at, units) in (1..).zip([some, None, None, Some(BTreeMap::new())]) {
            changes.extend(detectors.observe_sample(&with(units), now(at)).into_iter().map(|e| (at, e.change)));
        }
        assert_eq!(changes, [(1, Change::Opened), (4, Change::Cleared)]);
    }
}
