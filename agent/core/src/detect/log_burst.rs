//! `log.burst`: a unit writes far more errors than it usually does.
//!
//! In: errors by unit ([`crate::log::LogCounts::errors`]). Held against what is usual for the unit: the mean and the
//! spread of its errors a minute, learned with a memory of [`MEMORY_MINUTES`], each minute cut to what could still be
//! usual, so that a burst does not teach that bursts are usual. The last minute is compared on the scale on which
//! Poisson counts have the same spread whatever their mean (Anscombe: `2·√(x + ⅜)`), widened by the unit's own
//! overdispersion. What anybody can write to a log is no proof: this kind never justifies an action by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::learned::{Learned, LearnedModel, LearnedSubject, Learns, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::words::{measured, said, seconds};
use crate::finding::{FindingKind, Severity};
use crate::log::{LogCounts, UNITS_MAX};
use crate::sample::Sample;
use crate::subject::UnitName;

/// Standard deviations from what is usual that are a burst. A Poisson count passes it once in 10^9 minutes.
const BURST: f64 = 6.0;
/// Those under which it is over.
const OVER: f64 = 3.0;

/// Fewer errors than this in a minute are no burst, however unusual.
const ERRORS_MIN: u32 = 10;

/// How long a minute is remembered: an afternoon.
const MEMORY_MINUTES: f64 = 360.0;

/// Overdispersion that is assumed of a unit of which nothing is known; it fades within ten minutes.
const SPREAD_UNKNOWN: f64 = 4.0;

const BIN_MS: Millis = 10_000;
const BINS: usize = 6;
const BINS_IN_MINUTE: Millis = 6;

/// What is usual for each unit that ever wrote an error.
#[derive(Debug, Default)]
pub(crate) struct LogBurst {
    units: BTreeMap<UnitName, Usual>,
    /// Minutes that were watched: as long a unit without an entry has written none.
    minutes: f64,
    minute: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Usual {
    /// Errors as the log counted them when last seen; begins anew with the agent.
    errors: u64,
    /// Errors by stretch of ten seconds, the one that is running last.
    bins: [u32; BINS],
    bin: Millis,
    /// Errors a minute: mean and variance, over so many minutes.
    mean: f64,
    variance: f64,
    minutes: f64,
}

impl LogBurst {
    /// Judges every unit that writes errors.
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let Some(log) = &sample.log else {
            round.judge_rest(FindingKind::LogBurst, &Verdict::Unknown);
            return;
        };
        let t = round.t;
        self.turn(t);
        for (name, counts) in log.units.iter().filter(|(_, counts)| counts.errors > 0) {
            if !self.units.contains_key(name) {
                self.make_room();
                let usual = Usual { minutes: self.minutes, bin: t / BIN_MS, ..Usual::default() };
                self.units.insert(name.clone(), usual);
            }
            let Some(usual) = self.units.get_mut(name) else { continue };
            usual.count(counts.errors, t);
            if usual.now() > 0 {
                round.judge(FindingKind::LogBurst, SubjectRef::Unit(name), usual.verdict(counts));
            }
        }
        round.judge_rest(FindingKind::LogBurst, &Verdict::Over);
    }

    /// Learns from the minute that has ended.
    fn turn(&mut self, t: Millis) {
        let minute = t / (BIN_MS * BINS_IN_MINUTE);
        let ended = self.minute.is_some_and(|last| minute > last);
        self.minute = Some(minute);
        if ended {
            self.minutes = (self.minutes + 1.0).min(MEMORY_MINUTES);
            for usual in self.units.values_mut() {
                usual.shift(t);
                usual.learn();
            }
        }
    }

    /// The unit with the fewest errors makes room.
    fn make_room(&mut self) {
        if self.units.len() < UNITS_MAX {
            return;
        }
        let least = self
            .units
            .iter()
            .min_by(|a, b| (a.1.mean + f64::from(a.1.now())).total_cmp(&(b.1.mean + f64::from(b.1.now()))));
        if let Some(name) = least.map(|(name, _)| name.clone()) {
            self.units.remove(&name);
        }
    }
}

impl Kept for LogBurst {
    const PART: Part = Part { tag: 16, versions: (1, 1), name: "log.burst" };

    fn save(&self, writer: &mut Writer) {
        writer.f64(self.minutes);
        writer.len(self.units.len());
        for (name, usual) in &self.units {
            writer.str(name.as_str());
            writer.f64(usual.mean);
            writer.f64(usual.variance);
            writer.f64(usual.minutes);
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let sane = |value: f64| (value.is_finite() && value >= 0.0).then_some(value);
        let mut loaded = Self { minutes: sane(reader.f64()?)?, ..Self::default() };
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let usual = Usual {
                mean: sane(reader.f64()?)?,
                variance: sane(reader.f64()?)?,
                minutes: sane(reader.f64()?)?,
                ..Usual::default()
            };
            loaded.units.insert(name, usual);
        }
        Some(loaded)
    }
}

impl Learns for LogBurst {
    fn learned(&self, _: Since, _: &Settings, to: &mut Learned) {
        let in_force =
            format!("said from {ERRORS_MIN} errors a minute on that are {BURST} standard deviations too many");
        let subjects = self.units.iter().map(|(name, usual)| usual.learned(name));
        to.add(Self::PART, LearnedModel { in_force, ..LearnedModel::default() }, subjects);
    }

    fn matching(&self, which: Subjects<'_>) -> usize {
        self.units.keys().filter(|name| which.matches(&name.to_string())).count()
    }

    fn reset(&mut self, which: Subjects<'_>) {
        self.units.retain(|name, _| !which.matches(&name.to_string()));
    }
}

impl Usual {
    fn learned(&self, name: &UnitName) -> LearnedSubject {
        LearnedSubject {
            name: name.to_string(),
            trained: seconds(self.minutes * 60.0),
            state_bytes: size(size_of::<Self>()),
            expected: Some(self.mean),
            scale: Some(self.variance.sqrt()),
            text: format!("{:.1} errors a minute", self.mean),
            ..LearnedSubject::default()
        }
    }

    fn count(&mut self, errors: u64, t: Millis) {
        self.shift(t);
        // The log counts anew when the agent starts.
        let more = errors.checked_sub(self.errors).unwrap_or(errors);
        self.errors = errors;
        let bin = &mut self.bins[BINS - 1];
        *bin = bin.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    }

    fn shift(&mut self, t: Millis) {
        let bin = t / BIN_MS;
        let passed = usize::try_from(bin.saturating_sub(self.bin)).unwrap_or(0).min(BINS);
        self.bin = bin;
        self.bins.rotate_left(passed);
        self.bins[BINS - passed..].fill(0);
    }

    /// Errors in the last minute.
    fn now(&self) -> u32 {
        self.bins.iter().fold(0, |sum, bin| sum.saturating_add(*bin))
    }

    fn learn(&mut self) {
        let most = self.mean + 4.0 * self.variance.sqrt() + f64::from(ERRORS_MIN);
        let x = f64::from(self.now()).min(most);
        let weight = 1.0 / (self.minutes + 1.0);
        let off = x - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
        self.minutes = (self.minutes + 1.0).min(MEMORY_MINUTES);
    }

    /// How many standard deviations the last minute is above what is usual, and what that is.
    fn score(&self) -> (f64, f64) {
        // One error in a minute of its own: what is known of a unit that was watched for no time.
        let usual = (self.minutes * self.mean + 1.0) / (self.minutes + 1.0);
        let unknown = 1.0 + (SPREAD_UNKNOWN - 1.0) / (1.0 + self.minutes / 2.0);
        let spread = (self.variance / self.mean.max(0.1)).max(unknown);
        let scaled = |x: f64| 2.0 * (x + 0.375).sqrt();
        ((scaled(f64::from(self.now())) - scaled(usual)) / spread.sqrt(), usual)
    }

    fn verdict(&self, counts: &LogCounts) -> Verdict {
        let now = self.now();
        let (score, usual) = self.score();
        if score < OVER {
            return Verdict::Over;
        }
        if score < BURST || now < ERRORS_MIN {
            return Verdict::Between;
        }
        let text = format!("{now} errors in the last minute, usually {usual:.1}");
        let mut evidence = vec![measured(text, "errors_per_minute", f64::from(now), Some(usual))];
        evidence.extend(
            counts.top.iter().map(|top| said(format!("{} × {} (e.g. {})", top.recent, top.template, top.example))),
        );
        Verdict::Holds(Case { severity: Severity::Warning, confidence: 0.9, evidence, raise_after: Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::log::{LogReading, Pattern};
    use crate::time::Now;

    /// Errors of one unit, second by second; gives what happened when.
    fn run(seconds: u64, errors: impl Fn(u64) -> u64) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let (mut total, mut seen) = (0, Vec::new());
        for second in 0..seconds {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            total += errors(second);
            let top = vec![Pattern { template: "cannot <*>".into(), recent: 1, example: "cannot x".into() }];
            let counts = LogCounts { errors: total, top, ..LogCounts::default() };
            let units = BTreeMap::from([("app.service".parse().unwrap(), counts)]);
            let log = Some(Arc::new(LogReading { units, ..LogReading::default() }));
            let events = detectors.observe_sample(&Sample { at: now, log, ..Sample::default() }, now);
            for event in events.into_iter().filter(|event| event.finding.kind == FindingKind::LogBurst) {
                assert!(event.finding.evidence[1].text.contains("cannot <*>"), "{event:?}");
                seen.push((second, event.change));
            }
        }
        seen
    }

    /// Anything but regular, the same at every run.
    fn noise(second: u64) -> u64 {
        (second.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 10
    }

    #[test]
    fn a_quiet_unit_that_begins_to_fail_is_found_within_seconds_and_cleared_when_it_is_over() {
        let seen = run(1_200, |second| if (600..630).contains(&second) { 5 } else { 0 });
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].1 == Change::Opened && (602..606).contains(&seen[0].0), "{seen:?}");
        assert!(seen[1].1 == Change::Cleared && seen[1].0 < 760, "{seen:?}");
    }

    #[test]
    fn what_a_unit_always_writes_is_no_burst_and_ten_times_that_is() {
        let usual = |second| u64::from(noise(second) == 0) * 3;
        assert_eq!(run(7_200, usual), []);
        let seen = run(7_300, |second| if second >= 7_200 { 10 * usual(second).max(1) } else { usual(second) });
        assert!(matches!(seen[..], [(at, Change::Opened)] if at < 7_230), "{seen:?}");
    }

    #[test]
    fn a_few_errors_at_the_start_are_none() {
        assert_eq!(run(120, |second| u64::from(second < 9)), []);
        assert_eq!(run(120, |second| u64::from(second < 60) * 5).len(), 1, "but hundreds are");
    }

    #[test]
    fn what_is_usual_survives_a_restart() {
        let mut burst = LogBurst::default();
        let usual = Usual { mean: 20.0, variance: 80.0, minutes: 300.0, ..Usual::default() };
        burst.units.insert("app.service".parse().unwrap(), usual);
        burst.minutes = 300.0;
        let mut writer = Writer::default();
        writer.section(1, 1, |w| burst.save(w));
        let bytes = writer.finish();
        let mut section = Reader::open(&bytes).unwrap().section().unwrap();
        assert_eq!(LogBurst::load(1, &mut section.body).unwrap().units, burst.units);
    }
}
