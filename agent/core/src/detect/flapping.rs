//! `service.flapping`: a service goes down and comes up again and again, for whatever reason; and
//! `finding.flapping`: the same finding opens and clears again and again.
//!
//! In: starts of services that are meant to run, and findings that opened. Each is counted over a
//! short window for what flaps quickly and a long one for what does all day; a subject stops flapping
//! when the short window is empty and the long one half so full. Crashes are `service.crash_loop`'s
//! and not counted here; nor are one-shot services and those that only a timer starts, which come and
//! go by design. State is the times of the last few starts or openings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::{Millis, millis};
use super::codec::{Reader, Writer};
use super::lifecycle::{Case, Change, FindingEvent, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::times::{Times, TooOften, Windows};
use super::words::{duration, measured};
use crate::finding::{FindingKind, Severity};
use crate::ordered::Ordered;
use crate::sample::{ActiveState, Unit};
use crate::subject::{Subject, UnitName};

/// Most services, and most pairs of kind and subject, that are followed.
const FOLLOWED_MAX: usize = 1_024;

fn windows(settings: &Settings) -> Windows {
    Windows {
        short: settings.flapping_short,
        short_count: settings.flapping_short_count,
        long: settings.flapping_long,
        long_count: settings.flapping_long_count,
    }
}

/// What is remembered of a service.
#[derive(Debug, Clone, PartialEq, Default)]
struct Seen {
    n_restarts: u32,
    invocation: Option<[u8; 16]>,
    failed: bool,
    starts: Times,
}

/// Starts and openings.
#[derive(Debug, Default)]
pub(crate) struct Flapping {
    units: Ordered<UnitName, Seen>,
    findings: BTreeMap<(FindingKind, Subject), Times>,
}

impl Flapping {
    /// Takes the units of a sample.
    pub(crate) fn observe(
        &mut self,
        units: Option<&BTreeMap<UnitName, Unit>>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(units) = units else {
            round.judge_rest(FindingKind::ServiceFlapping, &Verdict::Unknown);
            return;
        };
        self.units.retain_among(units.keys());
        for (name, unit) in units {
            self.observe_unit(name, Some(unit), settings, round);
        }
        round.judge_rest(FindingKind::ServiceFlapping, &Verdict::Over);
    }

    /// Takes the change of one unit.
    pub(crate) fn observe_unit(
        &mut self,
        name: &UnitName,
        unit: Option<&Unit>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(unit) = unit.filter(|unit| is_meant_to_run(name, unit)) else {
            self.units.remove(name);
            round.judge(FindingKind::ServiceFlapping, SubjectRef::Unit(name), Verdict::Over);
            return;
        };
        let Some(seen) = self.units.get_mut(name) else {
            if self.units.len() < FOLLOWED_MAX {
                let first = Seen { n_restarts: unit.n_restarts, invocation: unit.invocation, ..Seen::default() };
                self.units.insert(name.clone(), first);
            }
            return;
        };
        seen.note(unit, round.t);
        let verdict = match seen.starts.judge(windows(settings), round.t) {
            Ok(TooOften { count, limit, window }) => {
                let text = format!("started {count} times within {}, and did not crash", duration(window));
                holds(text, "starts", count, limit)
            }
            Err(verdict) => verdict,
        };
        round.judge(FindingKind::ServiceFlapping, SubjectRef::Unit(name), verdict);
    }

    /// Takes what happened to findings in the round before.
    pub(crate) fn observe_findings(&mut self, events: &[FindingEvent], settings: &Settings, round: &mut Round<'_>) {
        let t = round.t;
        for event in events.iter().filter(|event| event.change == Change::Opened && may_flap(event.finding.kind)) {
            let key = (event.finding.kind, event.finding.subject.clone());
            if self.findings.len() < FOLLOWED_MAX || self.findings.contains_key(&key) {
                self.findings.entry(key).or_default().add(t, 1);
            }
        }
        let oldest = t.saturating_sub(millis(settings.flapping_long));
        self.findings.retain(|_, times| times.last().is_some_and(|last| last > oldest));
        let mut last: Option<&Subject> = None;
        for (_, subject) in self.findings.keys() {
            // Several kinds may flap on one subject: they are one finding.
            if last != Some(subject) {
                round.judge_subject(FindingKind::FindingFlapping, subject, self.of_subject(subject, settings, t));
            }
            last = Some(subject);
        }
        round.judge_rest(FindingKind::FindingFlapping, &Verdict::Over);
    }

    fn of_subject(&self, subject: &Subject, settings: &Settings, t: Millis) -> Verdict {
        let on_it = self.findings.iter().filter(|((_, of), _)| of == subject);
        let mut otherwise = Verdict::Over;
        let mut worst: Option<(FindingKind, TooOften)> = None;
        for ((kind, _), times) in on_it {
            match times.judge(windows(settings), t) {
                Ok(found) if worst.is_none_or(|(_, worst)| found.count > worst.count) => worst = Some((*kind, found)),
                Ok(_) | Err(Verdict::Over) => {}
                Err(verdict) => otherwise = verdict,
            }
        }
        let Some((kind, TooOften { count, limit, window })) = worst else { return otherwise };
        holds(format!("{kind} opened {count} times within {}", duration(window)), "openings", count, limit)
    }
}

impl Kept for Flapping {
    const PART: Part = Part { tag: 13, versions: (1, 1), name: "flapping" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.units.len());
        for (name, seen) in self.units.iter() {
            writer.str(name.as_str());
            writer.u32(seen.n_restarts);
            writer.option(seen.invocation, |w, invocation| w.bytes(&invocation));
            writer.u8(u8::from(seen.failed));
            seen.starts.save(writer);
        }
        writer.len(self.findings.len());
        for ((kind, subject), times) in &self.findings {
            writer.str(kind.as_str());
            writer.subject(subject);
            times.save(writer);
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        for _ in 0..reader.len()?.min(FOLLOWED_MAX) {
            let name = reader.unit()?;
            let n_restarts = reader.u32()?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let failed = reader.u8()? != 0;
            loaded.units.insert(name, Seen { n_restarts, invocation, failed, starts: Times::load(reader)? });
        }
        for _ in 0..reader.len()?.min(FOLLOWED_MAX) {
            let kind = reader.str()?.parse().ok()?;
            let subject = reader.subject()?;
            loaded.findings.insert((kind, subject), Times::load(reader)?);
        }
        Some(loaded)
    }
}

/// Whether a service is started at boot and stays, so that every further start follows a stop.
fn is_meant_to_run(name: &UnitName, unit: &Unit) -> bool {
    name.as_str().ends_with(".service") && unit.enabled && unit.service_type != "oneshot"
}

/// A finding about flapping does not flap.
fn may_flap(kind: FindingKind) -> bool {
    use FindingKind as K;
    // Nor does a service that fails again and again: that is a crash loop.
    !matches!(kind, K::FindingFlapping | K::ServiceFlapping | K::ServiceCrashLoop | K::ServiceFailed)
}

fn holds(text: String, measure: &str, count: u32, limit: u32) -> Verdict {
    Verdict::Holds(Case {
        severity: Severity::Warning,
        confidence: 0.95,
        evidence: vec![measured(text, measure, f64::from(count), Some(f64::from(limit)))],
        raise_after: Duration::ZERO,
    })
}

impl Seen {
    fn note(&mut self, unit: &Unit, t: Millis) {
        let is_failed = unit.active == ActiveState::Failed;
        if unit.invocation != self.invocation && unit.invocation.is_some() {
            let was_restarted = unit.n_restarts > self.n_restarts;
            // What follows a crash is counted where crashes are.
            if !was_restarted && !self.failed {
                self.starts.add(t, 1);
            }
            self.invocation = unit.invocation;
            self.failed = false;
        }
        self.n_restarts = unit.n_restarts;
        self.failed |= is_failed && !unit.stopped_on_request;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detectors;
    use crate::sample::{FileHandles, Sample};
    use crate::time::Now;

    fn at(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }
    }

    fn unit(invocation: u8) -> Unit {
        Unit {
            active: ActiveState::Active,
            invocation: Some([invocation; 16]),
            enabled: true,
            service_type: "simple".into(),
            result: "success".into(),
            ..Unit::default()
        }
    }

    /// Shows a unit at its seconds; gives when `service.flapping` changed.
    fn run(units: impl IntoIterator<Item = (u64, Unit)>) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let name = "app.service".parse().unwrap();
        let mut seen = Vec::new();
        for (second, unit) in units {
            let events = detectors.observe_unit(&name, Some(&unit), at(second));
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::ServiceFlapping);
            seen.extend(own.map(|event| (second, event.change)));
        }
        seen
    }

    #[test]
    fn a_service_that_somebody_restarts_every_two_minutes_flaps_and_clears_by_itself() {
        let restarts = (0u8..10).map(|n| (u64::from(n) * 120, unit(n)));
        let calm = (0..2_000).map(|n| (1_080 + n * 10, unit(9)));
        let seen = run(restarts.chain(calm));
        assert_eq!(seen[0], (720, Change::Opened), "the sixth restart within a quarter of an hour");
        assert!(seen.len() == 2 && seen[1].1 == Change::Cleared, "{seen:?}");
    }

    #[test]
    fn one_that_goes_down_every_half_hour_is_found_by_the_long_window() {
        assert_eq!(run((0u8..20).map(|n| (u64::from(n) * 1_200, unit(n)))), [(14_400, Change::Opened)]);
    }

    #[test]
    fn a_deployment_crashes_and_jobs_of_timers_are_none() {
        assert_eq!(run((0u8..5).map(|n| (u64::from(n) * 60, unit(n)))), [], "a deployment in four steps");
        let crashed = (0u8..30).map(|n| (u64::from(n) * 20, Unit { n_restarts: n.into(), ..unit(n) }));
        assert_eq!(run(crashed), [], "a crash loop is another finding");
        let timer = (0u8..60).map(|n| (u64::from(n) * 60, Unit { enabled: false, ..unit(n) }));
        assert_eq!(run(timer), []);
        let oneshot = (0u8..60).map(|n| (u64::from(n) * 60, Unit { service_type: "oneshot".into(), ..unit(n) }));
        assert_eq!(run(oneshot), []);
    }

    #[test]
    fn a_finding_that_comes_and_goes_is_one_that_flaps_also_over_a_restart_of_the_agent() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..15_500u64 {
            // Full for twenty seconds, empty for a hundred.
            let allocated = if second % 120 < 20 && second < 1_200 { 95 } else { 10 };
            let file_handles = Some(FileHandles { allocated, maximum: 100 });
            let sample = Sample { at: at(second), file_handles, ..Sample::default() };
            for event in detectors.observe_sample(&sample, at(second)) {
                if event.finding.kind == FindingKind::FindingFlapping {
                    seen.push((second, event.change, event.finding));
                }
            }
            if second == 500 {
                detectors = Detectors::restore(&detectors.snapshot(), Settings::default(), 2, at(second)).unwrap();
                assert_eq!(detectors.relearning(), [""; 0]);
            }
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!((seen[0].0, seen[0].1), (610, Change::Opened), "the sixth time");
        assert_eq!(seen[0].2.evidence[0].text, "fd.exhausted opened 6 times within 15 min");
        assert_eq!((&seen[0].2.subject, seen[1].1), (&Subject::Host, Change::Cleared));
    }
}
