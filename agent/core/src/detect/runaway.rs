//! `process.runaway`: a unit burns CPU far beyond its usual, for minutes.
//!
//! In: the CPUs that every service uses. For each a ladder of levels, each half as much again as the
//! one below, remembers for how long without a break the service has ever stayed above it, day by
//! day for a week: a nightly job of twenty minutes at one CPU is usual, and so is a compile server
//! that works all day. A service runs away when it has been above a level for longer than
//! [`Settings::runaway_for`], and several times as long as it ever was above the level below. What is
//! far beyond in height or in length shows; what was so before does not.
//!
//! Nothing is said of a service before it was seen running for half a day, so that what runs now and
//! then is never judged; sessions and services of users are theirs to use. A stretch that a restart
//! ended after it was called is forgotten; one that ended by itself is usual from then on, and so is
//! one that has lasted for a day.

use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::learned::{Learned, LearnedModel, LearnedSubject, Learns, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::words::{duration, measured, said};
use crate::finding::{Evidence, FindingKind, Severity};
use crate::ordered::Ordered;
use crate::sample::Sample;
use crate::signal::Signals;
use crate::subject::UnitName;

/// Most services that are followed, of some 400 bytes each; the one unseen for longest goes first.
const UNITS_MAX: usize = 512;

/// A service that was not seen for so long is forgotten: longer than a monthly job's pause.
const FORGET_AFTER: Millis = 35 * DAY;

const MINUTE: Millis = 60_000;
const DAY: Millis = 24 * 60 * MINUTE;

/// The lowest level, in CPUs, and by how much each is above the one below. The highest is 100 CPUs.
const LEVEL_MIN: f64 = 0.1;
const LEVEL_FACTOR: f64 = 1.5;
const LEVELS: usize = 18;

/// Days whose longest stretches are remembered besides today, so that a weekly job is known.
const DAYS: usize = 8;

/// Minutes of running after which it is known what is usual.
const WATCHED_MIN: u32 = 12 * 60;

/// Minutes after which a stretch is what is usual.
const USUAL_AFTER: u16 = 24 * 60;

/// A stretch has to be this many times as long as any before. Twice is a job with more to do.
const LONGER: u16 = 3;

/// How sure it is that this is trouble and not only more work than ever; with tasks waiting for a
/// CPU meanwhile it does harm, whatever it is.
const CONFIDENCE: f64 = 0.7;
const CONFIDENCE_WAITING: f64 = 0.9;

/// What services use, minute by minute.
#[derive(Debug, Default)]
pub(crate) struct Runaway {
    units: Ordered<UnitName, Usage>,
    /// The minute in which those that are long gone were last forgotten.
    swept: Millis,
}

/// What is remembered of a service.
#[derive(Debug, Clone, PartialEq)]
struct Usage {
    invocation: Option<[u8; 16]>,
    /// The minute in hand, the CPU seconds in it and the seconds that were seen.
    minute: Millis,
    cpu_seconds: f64,
    seen_seconds: f64,
    /// Minutes of running that were seen.
    watched: u32,
    /// Minutes without a break above each level.
    above: [u16; LEVELS],
    /// Levels that the last minute was below: a break is two minutes.
    dipped: u32,
    /// Longest stretches above each level, by day.
    days: [[u16; LEVELS]; DAYS],
    day: Millis,
    /// The lowest level at which the stretch in hand was called.
    called: Option<u8>,
    /// The last minute's mean.
    cpus: f64,
}

impl Runaway {
    pub(crate) fn observe(
        &mut self,
        sample: &Sample,
        signals: &Signals<'_>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        if sample.units.is_none() {
            round.judge_rest(FindingKind::ProcessRunaway, &Verdict::Unknown);
            return;
        }
        let t = round.t;
        if self.swept != t.div_euclid(MINUTE) {
            self.swept = t.div_euclid(MINUTE);
            self.units.retain(|_, usage| t - usage.minute * MINUTE < FORGET_AFTER);
        }
        let elapsed = signals.elapsed.unwrap_or_default().as_secs_f64();
        let waiting = sample.pressure.cpu.map(|pressure| pressure.some.avg60_ratio);
        for unit in signals.units.iter().filter(|unit| is_judged(unit.unit)) {
            let Some(cpus) = unit.cpus else {
                // The first sample of a start: what was before is over.
                round.judge(FindingKind::ProcessRunaway, SubjectRef::Unit(unit.unit), Verdict::Unknown);
                continue;
            };
            let Some(usage) = self.usage(unit.unit, t) else { continue };
            usage.started(unit.invocation);
            usage.add(t, cpus, elapsed);
            let verdict = usage.verdict(settings, waiting);
            round.judge(FindingKind::ProcessRunaway, SubjectRef::Unit(unit.unit), verdict);
        }
        round.judge_rest(FindingKind::ProcessRunaway, &Verdict::Over);
    }

    /// What is remembered of a service; room is made by forgetting who was not seen for longest.
    fn usage(&mut self, name: &UnitName, t: Millis) -> Option<&mut Usage> {
        if !self.units.contains_key(name) {
            if self.units.len() >= UNITS_MAX {
                let oldest = self.units.iter().min_by_key(|(_, usage)| usage.minute);
                let oldest = oldest
                    .filter(|(_, usage)| usage.minute < t.div_euclid(MINUTE) - 1)
                    .map(|(name, _)| name.clone())?;
                self.units.remove(&oldest);
            }
            self.units.insert(name.clone(), Usage::new(t));
        }
        self.units.get_mut(name)
    }
}

impl Kept for Runaway {
    const PART: Part = Part { tag: 11, versions: (1, 1), name: "process.runaway" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.units.len());
        for (name, usage) in self.units.iter() {
            writer.str(name.as_str());
            writer.option(usage.invocation, |w, invocation| w.bytes(&invocation));
            writer.i64(usage.minute);
            writer.u32(usage.watched);
            writer.i64(usage.day);
            writer.option(usage.called, Writer::u8);
            writer.u32(usage.dipped);
            usage.above.iter().chain(usage.days.iter().flatten()).for_each(|minutes| writer.u16(*minutes));
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut units = Ordered::default();
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let mut usage = Usage::new(0);
            usage.invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            usage.minute = reader.i64()?;
            usage.watched = reader.u32()?;
            usage.day = reader.i64()?;
            usage.called = reader.option(Reader::u8)?.filter(|at| usize::from(*at) < LEVELS);
            usage.dipped = reader.u32()?;
            for minutes in usage.above.iter_mut().chain(usage.days.iter_mut().flatten()) {
                *minutes = reader.u16()?;
            }
            units.insert(name, usage);
        }
        Some(Self { units, swept: 0 })
    }
}

impl Learns for Runaway {
    fn learned(&self, _: Since, settings: &Settings, to: &mut Learned) {
        let in_force = format!(
            "said from {:.1} CPUs on, for {} and {LONGER} times as long as ever",
            settings.runaway_cpus,
            duration(settings.runaway_for)
        );
        let subjects = self.units.iter().map(|(name, usage)| usage.learned(name));
        to.add(Self::PART, LearnedModel { in_force, ..LearnedModel::default() }, subjects);
    }

    fn matching(&self, which: Subjects<'_>) -> usize {
        self.units.keys().filter(|name| which.matches(&name.to_string())).count()
    }

    fn reset(&mut self, which: Subjects<'_>) {
        self.units.retain(|name, _| !which.matches(&name.to_string()));
    }
}

/// Whether it is a service of the machine. Users' managers and sessions do what their users like.
fn is_judged(name: &UnitName) -> bool {
    name.as_str().ends_with(".service") && !name.as_str().starts_with("user@")
}

/// A level in CPUs.
fn level(at: usize) -> f64 {
    LEVEL_MIN * LEVEL_FACTOR.powi(i32::try_from(at).unwrap_or(0))
}

impl Usage {
    fn new(t: Millis) -> Self {
        Self {
            invocation: None,
            minute: t.div_euclid(MINUTE),
            cpu_seconds: 0.0,
            seen_seconds: 0.0,
            watched: 0,
            above: [0; LEVELS],
            dipped: 0,
            days: [[0; LEVELS]; DAYS],
            day: t.div_euclid(DAY),
            called: None,
            cpus: 0.0,
        }
    }

    /// A new start ends every stretch.
    fn started(&mut self, invocation: Option<[u8; 16]>) {
        if self.invocation == invocation {
            return;
        }
        self.invocation = invocation;
        if self.called.is_none() {
            self.remember(|_| true);
        }
        (self.above, self.dipped, self.called) = ([0; LEVELS], 0, None);
    }

    fn add(&mut self, t: Millis, cpus: f64, elapsed: f64) {
        let minute = t.div_euclid(MINUTE);
        if minute > self.minute {
            // Where most of a minute was not seen, nothing is known of it.
            if self.seen_seconds >= 30.0 && minute - self.minute <= 2 {
                self.end_minute(self.cpu_seconds / self.seen_seconds);
            } else {
                self.remember(|_| true);
                (self.above, self.dipped, self.called) = ([0; LEVELS], 0, None);
            }
            (self.cpu_seconds, self.seen_seconds) = (0.0, 0.0);
            self.minute = minute;
            self.turn(t.div_euclid(DAY));
        }
        self.cpu_seconds += cpus * elapsed;
        self.seen_seconds += elapsed;
    }

    fn end_minute(&mut self, cpus: f64) {
        self.cpus = cpus;
        self.watched = self.watched.saturating_add(1);
        let mut over = 0u32;
        for at in 0..LEVELS {
            let bit = 1 << at;
            if cpus >= level(at) {
                self.above[at] = self.above[at].saturating_add(1);
                self.dipped &= !bit;
            } else if self.dipped & bit != 0 {
                over |= bit;
            } else {
                self.dipped |= bit;
            }
        }
        self.remember(|at| over & (1 << at) != 0);
        for at in (0..LEVELS).filter(|at| over & (1 << at) != 0) {
            self.above[at] = 0;
        }
        // What lasts for a day is usual.
        let above = self.above;
        self.remember(|at| above[at] >= USUAL_AFTER);
        self.called = self.called.filter(|at| (1..USUAL_AFTER).contains(&above[usize::from(*at)]));
    }

    /// Takes the stretches of the levels that end into what is usual.
    fn remember(&mut self, ends: impl Fn(usize) -> bool) {
        let today = usize::try_from(self.day.rem_euclid(DAYS as i64)).unwrap_or(0);
        for at in (0..LEVELS).filter(|at| ends(*at)) {
            self.days[today][at] = self.days[today][at].max(self.above[at]);
        }
    }

    /// Begins another day.
    fn turn(&mut self, day: Millis) {
        let passed = day.saturating_sub(self.day).clamp(0, DAYS as i64);
        for ahead in 1..=passed {
            let begun = usize::try_from((self.day + ahead).rem_euclid(DAYS as i64)).unwrap_or(0);
            self.days[begun] = [0; LEVELS];
        }
        self.day = self.day.max(day);
    }

    /// The longest stretch above a level that has ended.
    fn usual(&self, at: usize) -> u16 {
        self.days.iter().map(|day| day[at]).max().unwrap_or(0)
    }

    fn learned(&self, name: &UnitName) -> LearnedSubject {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let trained = minutes(self.watched.into());
        let highest = (0..LEVELS).rev().find(|at| self.usual(*at) > 0);
        LearnedSubject {
            name: name.to_string(),
            trained,
            learning: minutes(WATCHED_MIN.into()).checked_sub(trained).filter(|left| !left.is_zero()),
            state_bytes: size(size_of::<Self>()),
            text: match highest {
                Some(at) => format!(
                    "at most {:.1} CPUs in a week; above {:.1} for {} at a time",
                    level(at + 1),
                    level(at),
                    duration(minutes(self.usual(at).into()))
                ),
                None => format!("below {LEVEL_MIN} CPUs in a week"),
            },
            ..LearnedSubject::default()
        }
    }

    fn verdict(&mut self, settings: &Settings, waiting: Option<f64>) -> Verdict {
        if self.watched < WATCHED_MIN {
            return Verdict::Between;
        }
        let least = u16::try_from(settings.runaway_for.as_secs().div_ceil(60)).unwrap_or(u16::MAX);
        let is_far = |at: &usize| {
            let above = self.above[*at];
            // What was above the level below for long before it rose is usual there, though it has not ended.
            let usual = self.usual(at - 1).max(self.above[at - 1] - above.min(self.above[at - 1]));
            // What began before the service was known may have been so for ever.
            let is_known = self.watched >= WATCHED_MIN + u32::from(above);
            level(*at) >= settings.runaway_cpus && is_known && above >= usual.saturating_mul(LONGER).max(least)
        };
        match (1..LEVELS).rev().find(is_far) {
            Some(at) => {
                let lowest = u8::try_from(at).unwrap_or(u8::MAX);
                self.called = Some(self.called.map_or(lowest, |called| called.min(lowest)));
                self.holds(at, settings, waiting)
            }
            // It stands until the stretch above the level that it was called at is broken.
            None if self.called.is_some() => Verdict::Between,
            None => Verdict::Over,
        }
    }

    fn holds(&self, at: usize, settings: &Settings, waiting: Option<f64>) -> Verdict {
        let minutes = |minutes: u16| duration(Duration::from_secs(u64::from(minutes) * 60));
        let usual = match self.usual(at - 1) {
            0 => "never in a week".to_owned(),
            longest => format!("never longer than {} in a week", minutes(longest)),
        };
        let text = format!(
            "used more than {:.1} CPUs for {}, {:.1} at last; more than {:.1} {usual}",
            level(at),
            minutes(self.above[at]),
            self.cpus,
            level(at - 1),
        );
        let harms = waiting.filter(|waiting| *waiting >= settings.cpu_waiting_ratio);
        let mut evidence: Vec<Evidence> = vec![measured(text, "cpus", self.cpus, Some(level(at - 1)))];
        evidence.extend(harms.map(|waiting| {
            let text = format!("some task waited for a CPU {} of a minute", super::words::percent(waiting));
            measured(text, "cpu_waiting_ratio", waiting, Some(settings.cpu_waiting_ratio))
        }));
        if harms.is_none() {
            evidence.push(said("nothing on the host waits for it".to_owned()));
        }
        Verdict::Holds(Case {
            severity: Severity::Warning,
            confidence: if harms.is_some() { CONFIDENCE_WAITING } else { CONFIDENCE },
            evidence,
            raise_after: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Cgroup, Pressure, Stall, Unit};
    use crate::time::Now;

    struct Host {
        detectors: Detectors,
        second: u64,
        used_us: u64,
        waiting: f64,
    }

    impl Host {
        fn new() -> Self {
            Self { detectors: Detectors::new(Settings::default(), 1), second: 0, used_us: 0, waiting: 0.0 }
        }

        /// Shows a service every ten seconds for so many minutes; gives the minutes at which it changed.
        fn run(&mut self, minutes: u64, invocation: u8, cpus: impl Fn(u64) -> f64) -> Vec<(u64, Change)> {
            let mut seen = Vec::new();
            let from = self.second;
            while self.second < from + minutes * 60 {
                let minute = (self.second - from) / 60;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let used = (cpus(minute) * 1e7) as u64;
                self.used_us += used;
                let cgroup = Cgroup { cpu_usage_us: Some(self.used_us), ..Cgroup::default() };
                let unit = Unit { invocation: Some([invocation; 16]), cgroup: Some(cgroup), ..Unit::default() };
                let now = Now { boot_ns: self.second * 1_000_000_000, wall_ms: 0 };
                let units = BTreeMap::from([("app.service".parse().unwrap(), unit)]);
                let mut sample = Sample { at: now, units: Some(units), ..Sample::default() };
                let some = Stall { avg60_ratio: self.waiting, ..Stall::default() };
                sample.pressure.cpu = Some(Pressure { some, full: None });
                let mut events = self.detectors.observe_sample(&sample, now);
                events.retain(|event| event.finding.kind == FindingKind::ProcessRunaway);
                seen.extend(events.into_iter().map(|event| (minute, event.change)));
                self.second += 10;
            }
            seen
        }
    }

    /// Little by day, with a job of twenty minutes at one CPU every night.
    fn usual(minute: u64) -> f64 {
        if minute % 1_440 < 20 { 1.0 } else { 0.05 }
    }

    const TWO_DAYS: u64 = 2 * 1_440;

    #[test]
    fn a_stuck_thread_in_an_idle_service_is_found_in_minutes_and_clears_with_a_restart() {
        let mut host = Host::new();
        assert_eq!(host.run(TWO_DAYS, 0, |_| 0.05), []);
        assert_eq!(host.run(30, 0, |_| 0.98), [(5, Change::Opened)]);
        assert_eq!(host.run(30, 1, |_| 0.05), [(1, Change::Cleared)]);
        assert_eq!(host.run(10, 1, |_| 0.98), [(5, Change::Opened)], "it was trouble, and is not usual now");
    }

    #[test]
    fn a_job_as_every_night_is_usual_and_one_three_times_as_long_is_not() {
        let mut host = Host::new();
        assert_eq!(host.run(4 * 1_440, 0, usual), []);
        assert_eq!(host.run(50, 0, |_| 1.0), [], "a long night");
        assert_eq!(host.run(1_440, 0, |_| 0.05), []);
        let seen = host.run(300, 0, |_| 1.0);
        assert_eq!(seen, [(150, Change::Opened)], "three times the fifty minutes of the day before");
    }

    #[test]
    fn far_more_than_the_daily_peak_is_found_though_the_service_is_busy() {
        let mut host = Host::new();
        let day = |minute: u64| 0.4 + 0.3 * f64::from(u32::try_from(minute % 1_440).unwrap()) / 1_440.0;
        assert_eq!(host.run(TWO_DAYS, 0, day), []);
        host.waiting = 0.9;
        let seen = host.run(20, 0, |minute| day(minute) + 2.0);
        assert_eq!(seen, [(5, Change::Opened)]);
        let finding = host.detectors.open_findings().find(|f| f.kind == FindingKind::ProcessRunaway).unwrap();
        assert!(finding.confidence >= 0.9 && finding.evidence.len() == 2, "{finding:?}");
    }

    #[test]
    fn daily_load_bursts_and_a_new_service_are_none() {
        let mut host = Host::new();
        assert_eq!(host.run(10, 0, |_| 1.5), [], "nothing is known yet");
        let load = |minute: u64| {
            0.3 + 0.2 * (f64::from(u32::try_from(minute).unwrap()) / 1_440.0 * std::f64::consts::TAU).sin()
        };
        let bursts = |minute: u64| load(minute) + if minute % 97 < 3 { 1.5 } else { 0.0 };
        assert_eq!(host.run(7 * 1_440, 0, bursts), []);
    }

    #[test]
    fn what_lasts_for_a_day_is_usual() {
        let mut host = Host::new();
        host.run(TWO_DAYS, 0, |_| 0.05);
        let seen = host.run(2 * 1_440, 0, |_| 1.0);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[1].1 == Change::Cleared && (1_438..1_445).contains(&seen[1].0), "{seen:?}");
    }

    #[test]
    fn what_was_learned_survives_a_restart_of_the_agent() {
        let mut host = Host::new();
        host.run(TWO_DAYS, 0, usual);
        let now = Now { boot_ns: host.second * 1_000_000_000, wall_ms: 0 };
        let before = host.detectors.snapshot();
        host.detectors = Detectors::restore(&before, Settings::default(), 2, now).unwrap();
        assert_eq!(host.detectors.relearning(), [""; 0]);
        assert_eq!(host.run(30, 0, |_| 1.0), [], "twenty minutes are usual");
        assert_eq!(host.run(40, 0, |_| 1.0), [(30, Change::Opened)]);
    }
}
