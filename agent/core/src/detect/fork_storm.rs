//! `process.fork_storm`: a unit makes processes or threads without end.
//!
//! In: the tasks of every unit and how many the host makes. The kernel counts forks for the whole
//! host only, so the unit to blame is the one whose cgroup fills: it has [`Settings::fork_storm_tasks`]
//! more than half a minute ago, twice as many as ever in a week, goes on growing or stands at its
//! limit, and the host makes twice as many as in the worst minute of an ordinary day. A pool that is
//! filled stops growing; a build makes many tasks and keeps few.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::learned::{Learned, LearnedModel, LearnedSubject, Learns, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::words::{duration, measured};
use crate::finding::{FindingKind, Severity};
use crate::sample::{Cgroup, Sample};
use crate::subject::UnitName;

/// Most units that are followed, of some 200 bytes each.
const UNITS_MAX: usize = 1_024;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const DAY: Millis = 24 * 60 * MINUTE;

/// Growth counts over this time ...
const WINDOW: Millis = 30 * SECOND;
/// ... and has to go on in its last third, by a sixth of what it has to be: a pool that filled stops.
const LATELY: Millis = 10 * SECOND;
const LATELY_SHARE: f64 = 1.0 / 6.0;

/// Readings that are remembered: cgroups are read every five seconds, so the window and a few more.
const READINGS: usize = 9;

/// From this share of the limit on it stands at it.
const AT_LIMIT_RATIO: f64 = 0.9;

/// Days whose highest numbers are remembered besides today.
const DAYS: usize = 8;

/// What a unit had at most is known after ten minutes: pools fill at the start.
const WATCHED_MIN: Millis = 10 * MINUTE;

/// How many times as many as ever, and as the host makes in the worst minute of an ordinary day.
const MORE: f64 = 2.0;

/// The least number of forks a second that is a storm: half of what the growth alone takes.
const FORKS_SHARE: f64 = 0.5;

/// A crowd of workers comes in ten to fifteen seconds and then stays.
const RAISE_AFTER: Duration = Duration::from_secs(20);

/// The highest of every day, for a week.
#[derive(Debug, Clone, Default, PartialEq)]
struct Highs {
    day: Millis,
    days: [f32; DAYS],
}

impl Highs {
    #[allow(clippy::cast_possible_truncation)]
    fn add(&mut self, t: Millis, value: f64) {
        let day = t.div_euclid(DAY);
        for ahead in 1..=day.saturating_sub(self.day).clamp(0, DAYS as i64) {
            self.days[Self::place(self.day + ahead)] = 0.0;
        }
        self.day = self.day.max(day);
        let today = &mut self.days[Self::place(self.day)];
        *today = today.max(value as f32);
    }

    fn place(day: Millis) -> usize {
        usize::try_from(day.rem_euclid(DAYS as i64)).unwrap_or(0)
    }

    /// The highest of all.
    fn highest(&self) -> f64 {
        self.days.iter().copied().fold(0.0, f32::max).into()
    }

    /// The highest of an ordinary day: the median of the days before today. Zero while there are none.
    fn ordinary(&self) -> f64 {
        let today = Self::place(self.day);
        let before = self.days.iter().enumerate().filter(|(at, high)| *at != today && **high > 0.0);
        let mut known: Vec<f32> = before.map(|(_, high)| *high).collect();
        known.sort_by(f32::total_cmp);
        known.get(known.len() / 2).copied().unwrap_or(0.0).into()
    }

    fn save(&self, writer: &mut Writer) {
        writer.i64(self.day);
        self.days.iter().for_each(|high| writer.f32(*high));
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self { day: reader.i64()?, days: [0.0; DAYS] };
        for high in &mut loaded.days {
            *high = reader.f32()?;
        }
        Some(loaded)
    }
}

/// The last readings of a number, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
struct Recent {
    readings: [(Millis, f64); READINGS],
    len: usize,
}

impl Recent {
    /// Takes a reading, at most one every five seconds.
    fn add(&mut self, t: Millis, value: f64) {
        if let Some(last) = self.len.checked_sub(1)
            && t - self.readings[last].0 < 5 * SECOND
        {
            self.readings[last].1 = value;
            return;
        }
        if self.len == READINGS {
            self.readings.rotate_left(1);
            self.len -= 1;
        }
        self.readings[self.len] = (t, value);
        self.len += 1;
    }

    /// What it was so long ago, or a little longer; `None` where that was not seen, or a gap lies between.
    fn before(&self, t: Millis, ago: Millis) -> Option<(Millis, f64)> {
        let seen = &self.readings[..self.len];
        let found = seen.iter().rev().find(|(at, _)| *at <= t - ago)?;
        (found.0 > t - 2 * ago).then_some(*found)
    }
}

/// What is remembered of a unit.
#[derive(Debug, Clone, PartialEq)]
struct Tasks {
    since: Millis,
    invocation: Option<[u8; 16]>,
    recent: Recent,
    highs: Highs,
    storm: Option<Storm>,
}

/// A storm that stands. A crowd that went by itself and never stood at a limit was one, and is usual
/// from then on.
#[derive(Debug, Clone, PartialEq)]
struct Storm {
    since: Millis,
    peak: f64,
    at_limit: bool,
}

/// Tasks of units and forks of the host.
#[derive(Debug, Default)]
pub(crate) struct ForkStorm {
    units: BTreeMap<UnitName, Tasks>,
    forks: Recent,
    /// Forks a second in the worst half minute of every day.
    fork_highs: Highs,
}

impl ForkStorm {
    pub(crate) fn observe(&mut self, sample: &Sample, settings: &Settings, round: &mut Round<'_>) {
        let (Some(units), Some(kernel)) = (&sample.units, sample.kernel) else {
            round.judge_rest(FindingKind::ProcessForkStorm, &Verdict::Unknown);
            return;
        };
        let t = round.t;
        #[allow(clippy::cast_precision_loss)]
        self.forks.add(t, kernel.forks as f64);
        let forks = self.forks_per_second(t);
        self.units.retain(|name, _| units.contains_key(name));
        let usual = self.fork_highs.ordinary();
        let is_many = |forks: f64| forks >= (settings.fork_storm_tasks * FORKS_SHARE / 30.0).max(usual * MORE);
        let mut is_storm = false;
        for (name, unit) in units {
            // A slice holds the tasks of its units, whose finding it is.
            let Some(cgroup) = unit.cgroup.as_ref().filter(|_| !name.as_str().ends_with(".slice")) else { continue };
            let Some(tasks) = cgroup.tasks else {
                round.judge(FindingKind::ProcessForkStorm, SubjectRef::Unit(name), Verdict::Unknown);
                continue;
            };
            if !self.units.contains_key(name) {
                if self.units.len() >= UNITS_MAX {
                    continue;
                }
                self.units.insert(name.clone(), Tasks::new(t));
            }
            let Some(seen) = self.units.get_mut(name) else { continue };
            if seen.invocation != unit.invocation {
                (seen.invocation, seen.storm, seen.recent) = (unit.invocation, None, Recent::default());
            }
            let forks = forks.filter(|forks| is_many(*forks)).map(|forks| (forks, usual));
            #[allow(clippy::cast_precision_loss)]
            let verdict = seen.judge(t, tasks as f64, is_at_limit(cgroup, sample), forks, settings);
            is_storm |= seen.storm.is_some();
            round.judge(FindingKind::ProcessForkStorm, SubjectRef::Unit(name), verdict);
        }
        round.judge_rest(FindingKind::ProcessForkStorm, &Verdict::Over);
        if let Some(forks) = forks.filter(|_| !is_storm) {
            self.fork_highs.add(t, forks);
        }
    }

    /// Over the last half minute. A counter that went back is another boot's.
    #[allow(clippy::cast_precision_loss)]
    fn forks_per_second(&self, t: Millis) -> Option<f64> {
        let (at, before) = self.forks.before(t, WINDOW)?;
        let now = self.forks.readings[self.forks.len - 1].1;
        (now >= before).then(|| (now - before) * 1e3 / (t - at) as f64)
    }
}

impl Kept for ForkStorm {
    const PART: Part = Part { tag: 12, versions: (1, 1), name: "process.fork_storm" };

    fn save(&self, writer: &mut Writer) {
        self.fork_highs.save(writer);
        writer.len(self.units.len());
        for (name, tasks) in &self.units {
            writer.str(name.as_str());
            writer.i64(tasks.since);
            writer.option(tasks.invocation, |w, invocation| w.bytes(&invocation));
            tasks.highs.save(writer);
            writer.option(tasks.storm.as_ref(), |w, storm| {
                w.i64(storm.since);
                w.f64(storm.peak);
                w.u8(u8::from(storm.at_limit));
            });
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let fork_highs = Highs::load(reader)?;
        let mut units = BTreeMap::new();
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let since = reader.i64()?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let highs = Highs::load(reader)?;
            let storm = |r: &mut Reader<'_>| Some(Storm { since: r.i64()?, peak: r.f64()?, at_limit: r.u8()? != 0 });
            let storm = reader.option(storm)?;
            units.insert(name, Tasks { since, invocation, highs, storm, recent: Recent::default() });
        }
        Some(Self { units, fork_highs, forks: Recent::default() })
    }
}

impl Learns for ForkStorm {
    fn learned(&self, since: Since, settings: &Settings, to: &mut Learned) {
        let in_force = format!(
            "said from {} more tasks in {} on and {MORE} times as many as ever, while the host makes {MORE} times its usual \
             {:.1} a second",
            settings.fork_storm_tasks,
            duration(Duration::from_millis(WINDOW.unsigned_abs())),
            self.fork_highs.ordinary()
        );
        let subjects = self.units.iter().map(|(name, tasks)| tasks.learned(name, since));
        to.add(Self::PART, LearnedModel { in_force, ..LearnedModel::default() }, subjects);
    }

    fn matching(&self, which: Subjects<'_>) -> usize {
        self.units.keys().filter(|name| which.matches(&name.to_string())).count()
    }

    fn reset(&mut self, which: Subjects<'_>) {
        self.units.retain(|name, _| !which.matches(&name.to_string()));
    }
}

/// Whether a unit stands at its own limit, or the machine at its.
#[allow(clippy::cast_precision_loss)]
fn is_at_limit(cgroup: &Cgroup, sample: &Sample) -> bool {
    let near = |used: u64, limit: u64| used as f64 >= limit as f64 * AT_LIMIT_RATIO;
    let unit = cgroup.tasks.zip(cgroup.tasks_max).is_some_and(|(used, limit)| near(used, limit));
    unit || sample.tasks().zip(sample.tasks_max).is_some_and(|(all, limit)| near(all, limit))
}

impl Tasks {
    fn new(t: Millis) -> Self {
        Self { since: t, invocation: None, recent: Recent::default(), highs: Highs::default(), storm: None }
    }

    fn learned(&self, name: &UnitName, since: Since) -> LearnedSubject {
        let trained = since.passed(self.since);
        let learned_after = Duration::from_millis(WATCHED_MIN.unsigned_abs());
        LearnedSubject {
            name: name.to_string(),
            since_ms: Some(since.wall_ms(self.since)),
            trained,
            learning: learned_after.checked_sub(trained).filter(|left| !left.is_zero()),
            state_bytes: size(size_of::<Self>()),
            text: format!("at most {} tasks in a week", self.highs.highest()),
            ..LearnedSubject::default()
        }
    }

    /// `forks` is how many the host makes a second, where that is unusually many, and how many in the
    /// worst half minute of an ordinary day.
    fn judge(
        &mut self,
        t: Millis,
        tasks: f64,
        is_at_limit: bool,
        forks: Option<(f64, f64)>,
        settings: &Settings,
    ) -> Verdict {
        self.recent.add(t, tasks);
        let before = self.recent.before(t, WINDOW);
        let lately = self.recent.before(t, LATELY);
        // What came within the window is not yet usual, and what a storm brought is not for a day.
        if let Some((_, then)) = before.filter(|_| self.storm.as_ref().is_none_or(|storm| t - storm.since > DAY)) {
            self.highs.add(t, then);
        }
        if t - self.since < WATCHED_MIN {
            return Verdict::Between;
        }
        let high = self.highs.highest();
        if let (Some((_, then)), Some((_, late)), Some((forks, usual_forks))) = (before, lately, forks) {
            let goes_on = is_at_limit || tasks - late >= settings.fork_storm_tasks * LATELY_SHARE;
            if tasks - then >= settings.fork_storm_tasks && tasks >= high * MORE && goes_on {
                self.storm.get_or_insert(Storm { since: t, peak: tasks, at_limit: false });
                self.note(tasks, is_at_limit);
                return holds(then, tasks, high, forks, usual_forks, settings);
            }
        }
        if self.storm.is_some() && tasks >= high * MORE {
            self.note(tasks, is_at_limit);
            return Verdict::Between;
        }
        if let Some(storm) = self.storm.take().filter(|storm| !storm.at_limit) {
            self.highs.add(t, storm.peak);
        }
        Verdict::Over
    }

    fn note(&mut self, tasks: f64, is_at_limit: bool) {
        if let Some(storm) = &mut self.storm {
            storm.peak = storm.peak.max(tasks);
            storm.at_limit |= is_at_limit;
        }
    }
}

fn holds(then: f64, tasks: f64, high: f64, forks: f64, usual_forks: f64, settings: &Settings) -> Verdict {
    let text = format!("{tasks:.0} threads and processes, {then:.0} half a minute ago; at most {high:.0} in a week");
    let host =
        format!("the host makes {forks:.0} a second, {usual_forks:.0} in the worst half minute of an ordinary day");
    Verdict::Holds(Case {
        severity: Severity::Critical,
        confidence: 0.9,
        evidence: vec![
            measured(text, "tasks_grown", tasks - then, Some(settings.fork_storm_tasks)),
            measured(host, "forks_per_second", forks, Some(usual_forks * MORE)),
        ],
        raise_after: RAISE_AFTER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{KernelCounters, Unit};
    use crate::subject::Subject;
    use crate::time::Now;

    struct Host {
        detectors: Detectors,
        second: u64,
        forks: u64,
    }

    impl Host {
        /// A host on which little happened for twenty minutes.
        fn quiet() -> Self {
            let mut host = Self { detectors: Detectors::new(Settings::default(), 1), second: 0, forks: 0 };
            assert_eq!(host.run(1_200, 2, |_| 30), []);
            host
        }

        /// Shows a unit, and another one that never changes, every second; the host makes so many
        /// tasks a second. Gives when findings changed.
        fn run(&mut self, seconds: u64, forks: u64, tasks: impl Fn(u64) -> u64) -> Vec<(u64, Change, Subject)> {
            let mut seen = Vec::new();
            for second in 0..seconds {
                self.forks += forks;
                let unit = |tasks, max| {
                    let cgroup = Cgroup { tasks: Some(tasks), tasks_max: max, ..Cgroup::default() };
                    Unit { cgroup: Some(cgroup), ..Unit::default() }
                };
                let units = BTreeMap::from([
                    ("app.service".parse().unwrap(), unit(tasks(second), Some(4_915))),
                    ("db.service".parse().unwrap(), unit(100, None)),
                    ("system.slice".parse().unwrap(), unit(tasks(second) + 100, None)),
                ]);
                let now = Now { boot_ns: (self.second + second) * 1_000_000_000, wall_ms: 0 };
                let kernel = KernelCounters { forks: self.forks, ..KernelCounters::default() };
                let sample = Sample { at: now, kernel: Some(kernel), units: Some(units), ..Sample::default() };
                let mut events = self.detectors.observe_sample(&sample, now);
                events.retain(|event| event.finding.kind == FindingKind::ProcessForkStorm);
                seen.extend(events.into_iter().map(|event| (second, event.change, event.finding.subject)));
            }
            self.second += seconds;
            seen
        }
    }

    fn app() -> Subject {
        Subject::Unit("app.service".parse().unwrap())
    }

    #[test]
    fn a_bomb_that_fills_its_cgroup_is_blamed_on_its_unit_and_clears_when_it_is_gone() {
        let mut host = Host::quiet();
        let seen = host.run(60, 400, |second| (30 + second * 400).min(4_915));
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!((20..30).contains(&seen[0].0) && seen[0].1 == Change::Opened && seen[0].2 == app(), "{seen:?}");
        assert_eq!(host.run(300, 2, |_| 4_915), [], "it stands while they are there");
        assert_eq!(host.run(60, 2, |_| 30), [(30, Change::Cleared, app())]);
    }

    #[test]
    fn a_slow_one_is_found_too() {
        let seen = Host::quiet().run(120, 20, |second| 30 + second * 20);
        assert!(seen.len() == 1 && seen[0].0 < 60, "{seen:?}");
    }

    #[test]
    fn a_pool_that_fills_and_a_build_are_none() {
        assert_eq!(Host::quiet().run(300, 40, |second| 30 + (second * 40).min(400)), [], "filled in ten seconds");
        assert_eq!(Host::quiet().run(600, 400, |second| 30 + second % 20), [], "many made, few kept");
    }

    #[test]
    fn as_many_as_yesterday_are_none() {
        let mut host = Host::quiet();
        let crowd = |second: u64| 30 + (second * 10).min(1_000);
        host.run(400, 30, crowd);
        host.run(400, 2, |_| 30);
        assert_eq!(host.run(200, 30, |second| 30 + (second * 10).min(1_000)), []);
    }

    #[test]
    fn what_was_usual_survives_a_restart_of_the_agent() {
        let mut host = Host::quiet();
        host.run(600, 2, |_| 600);
        let now = Now { boot_ns: host.second * 1_000_000_000, wall_ms: 0 };
        host.detectors = Detectors::restore(&host.detectors.snapshot(), Settings::default(), 2, now).unwrap();
        assert_eq!(host.detectors.relearning(), [""; 0]);
        assert_eq!(host.run(100, 30, |second| 30 + (second * 10).min(1_000)), [], "600 were there before");
    }
}
