//! `service.crash_loop`: a unit restarts again and again.
//!
//! In: units as systemd tells of them. A crash is one more automatic restart (`NRestarts`) or a
//! failure that nobody restarted; a restart that somebody asked for is none. They are counted over
//! a short window for what dies at once and a long one for what dies after minutes. State is the
//! times of the last few crashes of every unit that had one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::times::{Times, TooOften, Windows};
use super::words::{duration, measured};
use crate::finding::{FindingKind, Severity};
use crate::ordered::Ordered;
use crate::sample::{ActiveState, Unit};
use crate::subject::UnitName;

/// Most units that are followed.
const UNITS_MAX: usize = 4_096;

/// What is remembered of a unit.
#[derive(Debug, Clone, PartialEq, Default)]
struct Seen {
    n_restarts: u32,
    invocation: Option<[u8; 16]>,
    failed: bool,
    crashes: Times,
}

/// Counts crashes by unit.
#[derive(Debug, Default)]
pub(crate) struct CrashLoop {
    seen: Ordered<UnitName, Seen>,
}

impl CrashLoop {
    pub(crate) fn observe(
        &mut self,
        units: Option<&BTreeMap<UnitName, Unit>>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(units) = units else {
            round.judge_rest(FindingKind::ServiceCrashLoop, &Verdict::Unknown);
            return;
        };
        self.seen.retain_among(units.keys());
        for (name, unit) in units {
            self.observe_unit(name, Some(unit), settings, round);
        }
        round.judge_rest(FindingKind::ServiceCrashLoop, &Verdict::Over);
    }

    pub(crate) fn observe_unit(
        &mut self,
        name: &UnitName,
        unit: Option<&Unit>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(unit) = unit else {
            self.seen.remove(name);
            round.judge(FindingKind::ServiceCrashLoop, SubjectRef::Unit(name), Verdict::Over);
            return;
        };
        if !name.as_str().ends_with(".service") {
            return;
        }
        let verdict = match self.seen.get_mut(name) {
            Some(seen) => {
                seen.note(unit, round.t);
                seen.verdict(unit, settings, round.t)
            }
            None => {
                if self.seen.len() < UNITS_MAX {
                    self.seen.insert(name.clone(), Seen::first(unit));
                }
                Verdict::Over
            }
        };
        round.judge(FindingKind::ServiceCrashLoop, SubjectRef::Unit(name), verdict);
    }
}

impl Kept for CrashLoop {
    const PART: Part = Part { tag: 4, versions: (1, 1), name: "service.crash_loop" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.seen.len());
        for (name, seen) in self.seen.iter() {
            writer.str(name.as_str());
            writer.u32(seen.n_restarts);
            writer.option(seen.invocation, |w, invocation| w.bytes(&invocation));
            writer.u8(u8::from(seen.failed));
            seen.crashes.save(writer);
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let n_restarts = reader.u32()?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let failed = reader.u8()? != 0;
            let crashes = Times::load(reader)?;
            loaded.seen.insert(name, Seen { n_restarts, invocation, failed, crashes });
        }
        Some(loaded)
    }
}

fn is_failed(unit: &Unit) -> bool {
    unit.active == ActiveState::Failed && !unit.stopped_on_request
}

impl Seen {
    /// A unit that was not seen before: what it did until now is not known.
    fn first(unit: &Unit) -> Self {
        Self {
            n_restarts: unit.n_restarts,
            invocation: unit.invocation,
            failed: is_failed(unit),
            crashes: Times::default(),
        }
    }

    fn note(&mut self, unit: &Unit, t: Millis) {
        // systemd counts from zero again when somebody starts the unit.
        let restarts = unit.n_restarts.checked_sub(self.n_restarts).unwrap_or(unit.n_restarts);
        let failed_again = is_failed(unit) && (!self.failed || self.invocation != unit.invocation);
        let crashes = restarts as usize + usize::from(failed_again);
        self.n_restarts = unit.n_restarts;
        self.invocation = unit.invocation;
        self.failed = is_failed(unit);
        self.crashes.add(t, crashes);
    }

    fn verdict(&self, unit: &Unit, settings: &Settings, t: Millis) -> Verdict {
        let windows = Windows {
            short: settings.crash_loop_short,
            short_count: settings.crash_loop_short_count,
            long: settings.crash_loop_long,
            long_count: settings.crash_loop_long_count,
        };
        let TooOften { count, limit, window } = match self.crashes.judge(windows, t) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        let text = format!("crashed {count} times within {}; last result {}", duration(window), unit.result);
        Verdict::Holds(Case {
            severity: Severity::Critical,
            confidence: 0.97,
            evidence: vec![measured(text, "crashes", f64::from(count), Some(f64::from(limit)))],
            raise_after: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::time::Now;

    fn unit(active: ActiveState, n_restarts: u32, invocation: u8) -> Unit {
        Unit { active, n_restarts, invocation: Some([invocation; 16]), result: "exit-code".into(), ..Unit::default() }
    }

    /// Shows `units` at their seconds; gives when crash loops opened and cleared.
    fn run(units: &[(u64, Unit)]) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let name = "app.service".parse().unwrap();
        let mut seen = Vec::new();
        for (second, unit) in units {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let events = detectors.observe_unit(&name, Some(unit), now);
            let loops = events.into_iter().filter(|e| e.finding.kind == FindingKind::ServiceCrashLoop);
            seen.extend(loops.map(|event| (*second, event.change)));
        }
        seen
    }

    use ActiveState::{Activating, Active, Failed};

    #[test]
    fn a_service_that_fails_at_once_each_time_is_found_by_its_restarts() {
        let mut units = vec![(0, unit(Active, 0, 0))];
        units.extend((1u8..6).map(|n| (u64::from(n), unit(Activating, n.into(), n))));
        assert_eq!(run(&units), [(4, Change::Opened)]);
    }

    #[test]
    fn restarts_between_two_looks_are_not_lost() {
        assert_eq!(run(&[(0, unit(Active, 0, 0)), (1, unit(Failed, 5, 9))]), [(1, Change::Opened)]);
    }

    #[test]
    fn a_service_that_dies_every_six_minutes_is_found_by_the_long_window() {
        let units: Vec<_> = (0u8..10).map(|n| (u64::from(n) * 360, unit(Active, n.into(), n))).collect();
        assert_eq!(run(&units), [(8 * 360, Change::Opened)]);
    }

    #[test]
    fn failures_that_somebody_else_repairs_count_too() {
        let units: Vec<_> =
            (0u8..8).map(|n| (u64::from(n) * 10, unit(if n % 2 == 0 { Active } else { Failed }, 0, n / 2))).collect();
        assert_eq!(run(&units), [(70, Change::Opened)]);
    }

    #[test]
    fn restarts_that_were_asked_for_are_no_crashes() {
        let units: Vec<_> = (0u8..50).map(|n| (u64::from(n), unit(Active, 0, n))).collect();
        assert_eq!(run(&units), []);
    }

    #[test]
    fn one_crash_is_no_loop() {
        let mut units = vec![(0, unit(Active, 0, 0)), (1, unit(Failed, 0, 0))];
        units.extend((2..200).map(|s| (s, unit(Failed, 0, 0))));
        assert_eq!(run(&units), []);
    }

    #[test]
    fn clears_when_it_has_stayed_up() {
        let mut units = vec![(0, unit(Active, 0, 0)), (1, unit(Active, 4, 4))];
        units.extend((2..1_000).map(|s| (s, unit(Active, 4, 4))));
        assert_eq!(run(&units), [(1, Change::Opened), (361, Change::Cleared)]);
    }
}
