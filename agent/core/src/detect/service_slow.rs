//! `service.slow`: a service answers its probe, and for minutes not once nearly as quickly as it used to.
//!
//! In: how long every answer to a probe took. Out: a verdict per unit that has a probe. What is usual is a histogram of two
//! weeks of answers. An answer is slow that takes over twice as long as 99 in 100 did, and longer than people notice. It takes
//! minutes of slow answers without a single quick one to open: then it is neither the network nor a moment of load. Answers that
//! did not come are the matter of `service.hung`, and say nothing here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::{Millis, millis};
use super::codec::{Reader, Writer};
use super::learned::{Learned, LearnedModel, LearnedSubject, Learns, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::service_hung::is_starved;
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::words::{duration, measured, seconds};
use crate::finding::{FindingKind, Severity};
use crate::sample::{ActiveState, Probe, Sample};
use crate::signal::PROBE_AGE_MAX;
use crate::subject::UnitName;

/// Most probes that are followed, of some 450 bytes each. The agent runs no more.
const PROBES_MAX: usize = 128;

/// So many times as long as 99 in 100 answers took, and so much longer than half of them, is slow. Twice is beyond what
/// load of a usual day does, since the hundredth answer was given under it; 50 ms is what nobody notices.
const SLOW_FACTOR: f64 = 2.0;
const SLOW_MORE: f64 = 0.05;
const SELDOM: f64 = 0.99;

/// So long, and so many answers, without one that is not slow.
const SLOW_FOR: Duration = Duration::from_secs(120);
const SLOW_ANSWERS: u32 = 5;

/// What is usual is known when answers of a day were seen, and so many.
const KNOWN_AFTER: f64 = 86_400.0;
const KNOWN_ANSWERS: u32 = 100;

/// Two weeks are remembered, as of all that has days and weeks.
const MEMORY: f64 = 14.0 * 86_400.0;

/// Slow answers are learned at half of their time: an hour in every night is usual after some nights, and what lasts is after
/// seven hours. Until then it is trouble.
const SLOW_WEIGHT: f64 = 0.5;

/// No answer stands for more time than this: probes that were not run were not answered either.
const STANDS_FOR: Duration = Duration::from_secs(600);

/// Buckets of latencies, each 15 % wide, from a tenth of a millisecond on: the last holds all above three minutes.
const BUCKETS: usize = 96;
const BUCKET: f64 = 0.15;
const LEAST: f64 = 1e-4;

/// A probe that is no more is forgotten after so long. After a start of the agent and after a change of the policies it takes
/// a while until each has been answered for the first time.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

/// How long answers to one probe took.
#[derive(Debug, Clone, PartialEq)]
struct Usual {
    /// Seconds for which answers of a bucket stood.
    buckets: [f32; BUCKETS],
    seconds: f64,
    answers: u32,
    /// When there was such a probe last.
    seen: Option<Millis>,
    /// When the last one came, by the detectors' clock and by its own.
    last: Option<Millis>,
    last_ns: u64,
    invocation: Option<[u8; 16]>,
    /// Since when answers have been slow without a break, and how many.
    slow_since: Option<Millis>,
    slow: u32,
    /// The quickest of them.
    quickest: f64,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            buckets: [0.0; BUCKETS],
            seconds: 0.0,
            answers: 0,
            seen: None,
            last: None,
            last_ns: 0,
            invocation: None,
            slow_since: None,
            slow: 0,
            quickest: 0.0,
        }
    }
}

/// What is usual, by probe.
#[derive(Debug, Default)]
pub(crate) struct ServiceSlow {
    usual: BTreeMap<String, Usual>,
}

impl ServiceSlow {
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::ServiceSlow, &Verdict::Unknown);
            return;
        };
        self.usual.retain(|name, usual| {
            if sample.probes.contains_key(name) {
                usual.seen = Some(round.t);
            }
            round.t.saturating_sub(*usual.seen.get_or_insert(round.t)) < millis(KEPT_FOR)
        });
        let starved = is_starved(sample);
        // The probes of one unit speak together: the first that is slow is named.
        let mut verdicts: BTreeMap<&UnitName, Verdict> = BTreeMap::new();
        for (name, probe) in &sample.probes {
            if !self.usual.contains_key(name) {
                if self.usual.len() >= PROBES_MAX {
                    let gone = self.usual.keys().find(|name| !sample.probes.contains_key(*name)).cloned();
                    let Some(gone) = gone else { continue };
                    self.usual.remove(&gone);
                }
                self.usual.insert(name.clone(), Usual::default());
            }
            let Some(usual) = self.usual.get_mut(name) else { continue };
            let verdict = match units.get(&probe.unit) {
                Some(unit) if matches!(unit.active, ActiveState::Active | ActiveState::Reloading) => {
                    usual.restarted(unit.invocation);
                    usual.answered(probe, round.t);
                    match usual.verdict(name, round.t) {
                        _ if round.now.since(probe.at) > PROBE_AGE_MAX => Verdict::Unknown,
                        // Everything is slow then.
                        Verdict::Holds(_) if starved => Verdict::Between,
                        verdict => verdict,
                    }
                }
                _ => Verdict::Over,
            };
            let said = verdicts.entry(&probe.unit).or_insert(Verdict::Over);
            if !matches!(said, Verdict::Holds(_)) && !matches!(verdict, Verdict::Over) {
                *said = verdict;
            }
        }
        for (unit, verdict) in verdicts {
            round.judge(FindingKind::ServiceSlow, SubjectRef::Unit(unit), verdict);
        }
        round.judge_rest(FindingKind::ServiceSlow, &Verdict::Over);
    }
}

impl Kept for ServiceSlow {
    const PART: Part = Part { tag: 24, versions: (1, 1), name: "service.slow" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.usual.len());
        for (name, usual) in &self.usual {
            writer.str(name);
            usual.buckets.iter().for_each(|seconds| writer.f32(*seconds));
            writer.f64(usual.seconds);
            writer.u32(usual.answers);
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        for _ in 0..reader.len()?.min(PROBES_MAX) {
            let name = reader.str()?.to_owned();
            let mut usual = Usual::default();
            let is_time = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
            for seconds in &mut usual.buckets {
                *seconds = reader.f32().filter(|seconds| is_time(f64::from(*seconds)))?;
            }
            usual.seconds = reader.f64().filter(|seconds| is_time(*seconds))?;
            usual.answers = reader.u32()?;
            loaded.usual.insert(name, usual);
        }
        Some(loaded)
    }
}

impl Learns for ServiceSlow {
    fn learned(&self, _: Since, _: &Settings, to: &mut Learned) {
        let in_force = format!(
            "said where no answer for {} takes less than {SLOW_FACTOR} times what 99 in 100 took",
            duration(SLOW_FOR)
        );
        let subjects = self.usual.iter().map(|(name, usual)| usual.learned(name));
        to.add(Self::PART, LearnedModel { in_force, ..LearnedModel::default() }, subjects);
    }

    fn matching(&self, which: Subjects<'_>) -> usize {
        self.usual.keys().filter(|name| which.matches(&name.to_string())).count()
    }

    fn reset(&mut self, which: Subjects<'_>) {
        self.usual.retain(|name, _| !which.matches(&name.to_string()));
    }
}

impl Usual {
    fn learned(&self, name: &str) -> LearnedSubject {
        let is_known = self.answers > 0;
        LearnedSubject {
            name: name.to_owned(),
            trained: seconds(self.seconds),
            learning: Some(seconds(KNOWN_AFTER - self.seconds)).filter(|left| !left.is_zero()),
            state_bytes: size(size_of::<Self>()),
            expected: is_known.then(|| self.quantile(0.5)),
            limit: self.limit(),
            text: if is_known {
                let (half, most) = (milliseconds(self.quantile(0.5)), milliseconds(self.quantile(SELDOM)));
                format!("half of the answers within {half}, 99 in 100 within {most}")
            } else {
                "no answer yet".to_owned()
            },
            ..LearnedSubject::default()
        }
    }

    /// What was slow before a restart of the unit says nothing of what runs now.
    fn restarted(&mut self, invocation: Option<[u8; 16]>) {
        if self.invocation != invocation {
            self.invocation = invocation;
            (self.slow_since, self.slow) = (None, 0);
        }
    }

    /// Takes an answer, once: judges it by those before, then learns it.
    fn answered(&mut self, probe: &Probe, t: Millis) {
        if probe.at.boot_ns == self.last_ns || probe.fails > 0 {
            return;
        }
        self.last_ns = probe.at.boot_ns;
        let latency = probe.latency.as_secs_f64();
        let is_slow = self.limit().is_some_and(|limit| latency > limit);
        if !is_slow {
            (self.slow_since, self.slow) = (None, 0);
        } else if self.slow_since.is_none() {
            (self.slow_since, self.slow, self.quickest) = (Some(t), 1, latency);
        } else {
            (self.slow, self.quickest) = (self.slow.saturating_add(1), self.quickest.min(latency));
        }
        let stands_for = self.last.replace(t).map_or(0, |last| t.saturating_sub(last).clamp(0, millis(STANDS_FOR)));
        self.learn(latency, stands_for, is_slow);
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn learn(&mut self, latency: f64, stands_for: Millis, is_slow: bool) {
        let seconds = stands_for as f64 / 1e3 * if is_slow { SLOW_WEIGHT } else { 1.0 };
        self.buckets[bucket(latency)] += seconds as f32;
        self.seconds += seconds;
        self.answers = self.answers.saturating_add(1);
        // Halving at 1.4 memories keeps their mean age at the memory.
        if self.seconds > 1.4 * MEMORY {
            self.buckets.iter_mut().for_each(|seconds| *seconds /= 2.0);
            self.seconds /= 2.0;
        }
    }

    /// What an answer may take; `None` until that is known.
    fn limit(&self) -> Option<f64> {
        let is_known = self.seconds >= KNOWN_AFTER && self.answers >= KNOWN_ANSWERS;
        is_known.then(|| (SLOW_FACTOR * self.quantile(SELDOM)).max(self.quantile(0.5) + SLOW_MORE))
    }

    fn verdict(&self, name: &str, t: Millis) -> Verdict {
        let Some(limit) = self.limit() else { return Verdict::Between };
        let Some(since) = self.slow_since else { return Verdict::Over };
        let for_ = t.saturating_sub(since);
        if for_ < millis(SLOW_FOR) || self.slow < SLOW_ANSWERS {
            return Verdict::Between;
        }
        let text = format!(
            "no answer to probe {name} took less than {} for {}; usual are {}, and 99 in 100 took at most {}",
            milliseconds(self.quickest),
            duration(Duration::from_millis(u64::try_from(for_).unwrap_or_default())),
            milliseconds(self.quantile(0.5)),
            milliseconds(self.quantile(SELDOM)),
        );
        Verdict::Holds(Case {
            severity: Severity::Warning,
            confidence: 0.9,
            evidence: vec![measured(text, "probe_latency_seconds", self.quickest, Some(limit))],
            raise_after: Duration::ZERO,
        })
    }

    /// The upper edge of the bucket that this share of the answers is not above.
    #[allow(clippy::cast_precision_loss)]
    fn quantile(&self, share: f64) -> f64 {
        let wanted = share * self.buckets.iter().map(|seconds| f64::from(*seconds)).sum::<f64>();
        let mut below = 0.0;
        for (at, seconds) in self.buckets.iter().enumerate() {
            below += f64::from(*seconds);
            if below >= wanted {
                return LEAST * ((at + 1) as f64 * BUCKET).exp();
            }
        }
        LEAST * (BUCKETS as f64 * BUCKET).exp()
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket(latency: f64) -> usize {
    (((latency / LEAST).max(1.0).ln() / BUCKET) as usize).min(BUCKETS - 1)
}

/// `480 ms`, `2.3 ms`
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::Unit;
    use crate::time::Now;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;

    /// Shows a unit that answers every ten seconds: `latency_ms` at a second, `None` where no answer comes. Gives when findings
    /// opened and cleared.
    fn run(
        detectors: &mut Detectors,
        seconds: std::ops::Range<u64>,
        latency_ms: impl Fn(u64) -> Option<u64>,
    ) -> Vec<(u64, Change)> {
        run_from(detectors, seconds, 0, latency_ms)
    }

    /// The same, with a probe that was not run before some second.
    fn run_from(
        detectors: &mut Detectors,
        seconds: std::ops::Range<u64>,
        first: u64,
        latency_ms: impl Fn(u64) -> Option<u64>,
    ) -> Vec<(u64, Change)> {
        let name: UnitName = "web.service".parse().unwrap();
        let unit = Unit { active: ActiveState::Active, invocation: Some([1; 16]), ..Unit::default() };
        let mut seen = Vec::new();
        for second in seconds.step_by(10) {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: i64::try_from(second).unwrap() * 1_000 };
            let probe = Probe {
                unit: name.clone(),
                at: now,
                fails: u32::from(latency_ms(second).is_none()),
                fails_max: 3,
                latency: Duration::from_millis(latency_ms(second).unwrap_or(2_000)),
                text: String::new(),
            };
            let sample = Sample {
                at: now,
                units: Some(BTreeMap::from([(name.clone(), unit.clone())])),
                probes: (second >= first).then(|| ("web".to_owned(), probe)).into_iter().collect(),
                ..Sample::default()
            };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|e| e.finding.kind == FindingKind::ServiceSlow && e.change != Change::Changed);
            seen.extend(events.into_iter().map(|event| (second, event.change)));
        }
        seen
    }

    /// Two to four milliseconds, and thirty once in two hundred.
    fn usual(second: u64) -> u64 {
        if second.is_multiple_of(2_000) { 30 } else { 2 + second / 10 % 3 }
    }

    fn learned() -> Detectors {
        let mut detectors = Detectors::new(Settings::default(), 1);
        assert_eq!(run(&mut detectors, 0..2 * DAY, |s| Some(usual(s))), []);
        detectors
    }

    #[test]
    fn answers_that_get_slower_and_slower_are_found_in_minutes_and_clear() {
        let from = 2 * DAY;
        // A millisecond more every ten seconds, for an hour: slow from 53 ms on.
        let slower = |s: u64| Some(usual(s) + if s < from + HOUR { (s - from) / 10 } else { 0 });
        let seen = run(&mut learned(), from..from + 2 * HOUR, slower);
        assert_eq!(seen.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [Change::Opened, Change::Cleared]);
        assert!((500..900).contains(&(seen[0].0 - from)), "{seen:?}");
        assert!((HOUR..HOUR + 300).contains(&(seen[1].0 - from)), "{seen:?}");
    }

    #[test]
    fn what_was_learned_survives_a_restart() {
        let at = Now { boot_ns: 2 * DAY * 1_000_000_000, wall_ms: 2 * 86_400_000 };
        let mut again = Detectors::restore(&learned().snapshot(), Settings::default(), 2, at).unwrap();
        assert_eq!(run(&mut again, 2 * DAY..2 * DAY + 600, |_| Some(400)), [(2 * DAY + 120, Change::Opened)]);
    }

    #[test]
    fn it_survives_until_the_probe_is_run_for_the_first_time_but_not_for_ever() {
        let at = Now { boot_ns: 2 * DAY * 1_000_000_000, wall_ms: 2 * 86_400_000 };
        let snapshot = learned().snapshot();
        let after = |silence: u64| {
            let mut again = Detectors::restore(&snapshot, Settings::default(), 2, at).unwrap();
            let first = 2 * DAY + silence;
            (first, run_from(&mut again, 2 * DAY..first + 600, first, |_| Some(400)))
        };
        let (first, seen) = after(120);
        assert_eq!(seen, [(first + 120, Change::Opened)]);
        assert_eq!(after(DAY + 60).1, [], "learned anew");
    }

    #[test]
    fn quick_answers_in_between_slow_ones_are_no_slow_service() {
        let flaky = |s: u64| Some(if s.is_multiple_of(100) { 3 } else { 900 });
        assert_eq!(run(&mut learned(), 2 * DAY..2 * DAY + HOUR, flaky), []);
    }

    #[test]
    fn a_slow_hour_every_night_is_usual_after_some_nights() {
        let nightly = |s: u64| Some(usual(s) + if s >= 3 * DAY && s % DAY < HOUR { 200 } else { 0 });
        let mut detectors = Detectors::new(Settings::default(), 1);
        let seen = run(&mut detectors, 0..14 * DAY, nightly);
        assert!(!seen.is_empty() && seen.iter().all(|(second, _)| *second < 8 * DAY), "{seen:?}");
    }

    #[test]
    fn a_service_that_does_not_answer_is_not_slow_and_a_new_one_is_being_learned() {
        assert_eq!(run(&mut learned(), 2 * DAY..2 * DAY + HOUR, |_| None), []);
        assert_eq!(run(&mut Detectors::new(Settings::default(), 1), 0..HOUR, |s| Some(s / 10)), []);
    }

    #[test]
    fn what_lasts_is_the_new_usual_within_a_day() {
        let seen = run(&mut learned(), 2 * DAY..3 * DAY, |s| Some(usual(s) + 100));
        assert_eq!(seen.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [Change::Opened, Change::Cleared]);
    }
}
