//! `disk.filling`: a filesystem will be full before long.
//!
//! In: used bytes of every filesystem. Once a disk has been watched for [`LEARNED`], its
//! [`Forecaster`] says when it will be full; it knows rotation, retention and nightly jobs, and what
//! is merely high and flat. Before that, two windows have to agree on the time to full: ten minutes,
//! which sees what happens now, and an hour, which sees whether it lasts; and the level has to be a
//! new high. Full within minutes is said by the short window alone, at any time: a forecast in steps
//! of five minutes would come too late.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::forecast::{Forecast, Forecaster, Habits};
use super::held_files;
use super::learned::{Learned, LearnedModel, LearnedSubject, Learns, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::{Kept, Part};
use super::trend::{History, Slope, slope, span};
use super::words::{bytes, duration, measured, percent, said, seconds};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::{FilesystemSignals, Signals};
use crate::subject::PathBytes;

/// Most filesystems that are followed.
const MOUNTS_MAX: usize = 256;

/// From then on the forecaster is asked: it has seen some rounds of what comes by the hour.
const LEARNED: Millis = 4 * 3_600_000;

/// Ten minutes, an hour, four hours: step and number of points of each window.
const SHORT: (Millis, usize) = (20_000, 30);
const LONG: (Millis, usize) = (120_000, 30);
const PEAKS: (Millis, usize) = (15 * 60_000, 16);

/// A window says nothing before it spans this much.
const SHORT_SPAN_MIN: Millis = 2 * 60_000;
const LONG_SPAN_MIN: Millis = 10 * 60_000;

/// Full within this time by the short window alone is said without waiting for the long one: it
/// would come too late.
const IMMINENT: Duration = Duration::from_secs(10 * 60);

/// Writing at an hour within this share of the mean, or its inverse, is no habit worth a word.
const HOUR_USUAL: f64 = 0.8;

/// Full within this time is critical.
const CRITICAL: Duration = Duration::from_secs(30 * 60);

/// A fall by this share of the filesystem between two points is a rotation or a clean-up: the
/// growth before it says nothing about the growth after it.
const CUT_RATIO: f64 = 0.01;

/// The estimate must hold this long: a copy that takes a minute is no trend.
const RAISE_AFTER: Duration = Duration::from_secs(60);

/// What is remembered of a filesystem.
#[derive(Debug, Clone)]
struct Filling {
    usable_bytes: u64,
    /// When it was first seen.
    since: Option<Millis>,
    forecaster: Forecaster,
    short: History,
    long: History,
    /// Peaks of quarter hours.
    peaks: History,
    verdict: Verdict,
}

/// Histories by mount point.
#[derive(Debug, Default)]
pub(crate) struct DiskFilling {
    mounts: BTreeMap<PathBytes, Filling>,
}

impl DiskFilling {
    pub(crate) fn observe(
        &mut self,
        sample: &Sample,
        signals: &Signals<'_>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        if !sample.filesystems.is_empty() {
            self.mounts.retain(|mount, _| sample.filesystems.iter().any(|fs| fs.mount == *mount));
        }
        for fs in &signals.filesystems {
            if !self.mounts.contains_key(fs.mount) {
                if self.mounts.len() >= MOUNTS_MAX {
                    continue;
                }
                self.mounts.insert(fs.mount.clone(), Filling::new(fs.usable_bytes));
            }
            let Some(filling) = self.mounts.get_mut(fs.mount) else { continue };
            filling.note(fs, settings, round.t);
            let mut verdict = filling.verdict.clone();
            if let Verdict::Holds(case) = &mut verdict {
                case.evidence.extend(held_files::evidence(sample, fs));
            }
            round.judge(FindingKind::DiskFilling, SubjectRef::Mount(fs.mount), verdict);
        }
        for hung in sample.filesystems.iter().filter(|fs| fs.usage.is_none()) {
            round.judge(FindingKind::DiskFilling, SubjectRef::Mount(&hung.mount), Verdict::Unknown);
        }
        let rest = if sample.filesystems.is_empty() { Verdict::Unknown } else { Verdict::Over };
        round.judge_rest(FindingKind::DiskFilling, &rest);
    }
}

impl Kept for DiskFilling {
    const PART: Part = Part { tag: 5, versions: (2, 2), name: "disk.filling" };

    fn save(&self, writer: &mut Writer) {
        writer.len(self.mounts.len());
        for (mount, filling) in &self.mounts {
            writer.bytes(&mount.0);
            writer.u64(filling.usable_bytes);
            writer.option(filling.since, Writer::i64);
            filling.forecaster.save(writer);
            [&filling.short, &filling.long, &filling.peaks].into_iter().for_each(|history| history.save(writer));
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        for _ in 0..reader.len()?.min(MOUNTS_MAX) {
            let mount = PathBytes(reader.bytes()?.to_vec());
            let empty = Filling::new(reader.u64()?);
            let (since, forecaster) = (reader.option(Reader::i64)?, Forecaster::load(reader)?);
            let (short, long, peaks) = (empty.short.load(reader)?, empty.long.load(reader)?, empty.peaks.load(reader)?);
            let filling = Filling { since, forecaster, short, long, peaks, ..Filling::new(empty.usable_bytes) };
            loaded.mounts.insert(mount, filling);
        }
        Some(loaded)
    }
}

impl Learns for DiskFilling {
    fn learned(&self, since: Since, settings: &Settings, to: &mut Learned) {
        let in_force = format!("said where full within {}", duration(settings.disk_filling_within));
        let subjects = self.mounts.iter().map(|(mount, filling)| filling.learned(mount, since));
        to.add(Self::PART, LearnedModel { in_force, ..LearnedModel::default() }, subjects);
    }

    fn matching(&self, which: Subjects<'_>) -> usize {
        self.mounts.keys().filter(|name| which.matches(&name.to_string())).count()
    }

    fn reset(&mut self, which: Subjects<'_>) {
        self.mounts.retain(|name, _| !which.matches(&name.to_string()));
    }
}

/// A count for arithmetic: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

impl Filling {
    fn new(usable_bytes: u64) -> Self {
        Self {
            usable_bytes,
            since: None,
            forecaster: Forecaster::new(),
            short: History::new(SHORT.0, SHORT.1),
            long: History::new(LONG.0, LONG.1),
            peaks: History::new(PEAKS.0, PEAKS.1),
            verdict: Verdict::Between,
        }
    }

    fn note(&mut self, fs: &FilesystemSignals<'_>, settings: &Settings, t: Millis) {
        let resized = float(fs.usable_bytes.abs_diff(self.usable_bytes)) > CUT_RATIO * float(self.usable_bytes);
        self.usable_bytes = fs.usable_bytes;
        let since = *self.since.get_or_insert(t);
        let used = float(fs.used_bytes);
        let last = |_, now| now;
        let before = self.short.points().last().map(|point| point.1);
        if !self.short.push(t, used, last) {
            return;
        }
        self.forecaster.observe(t, used);
        let is_cut = before.is_some_and(|before| before - used > CUT_RATIO * float(fs.usable_bytes));
        let is_new = if is_cut || resized {
            self.short.clear();
            self.long.clear();
            self.verdict = Verdict::Over;
            false
        } else {
            self.long.push(t, used, last)
        };
        if t - since < LEARNED {
            if !is_cut {
                self.verdict = self.judge(fs, settings);
            }
        } else if let Some(imminent) = self.imminent(fs) {
            self.verdict = imminent;
        } else if is_new {
            self.verdict = self.foretell(fs, settings);
        }
        self.peaks.push(t, used, f64::max);
    }

    fn learned(&self, mount: &PathBytes, since: Since) -> LearnedSubject {
        let began = self.since.unwrap_or(since.t);
        let trained = since.passed(began);
        let windows = [&self.short, &self.long, &self.peaks].map(|history| size_of_val(history.points()));
        let forecast = self.forecaster.forecast(float(self.usable_bytes));
        let learned_after = Duration::from_millis(LEARNED.unsigned_abs());
        LearnedSubject {
            name: mount.to_string(),
            since_ms: Some(since.wall_ms(began)),
            trained,
            learning: learned_after.checked_sub(trained).filter(|left| !left.is_zero()),
            state_bytes: size(size_of::<Self>() + self.forecaster.state_bytes() + windows.iter().sum::<usize>()),
            text: [format!(
                "full in {} ({} to {}), {} usable",
                time_words(forecast.expected),
                time_words(forecast.low),
                time_words(forecast.high),
                bytes(self.usable_bytes)
            )]
            .into_iter()
            .chain(self.forecaster.habits().iter().flat_map(habit_words))
            .collect::<Vec<_>>()
            .join("; "),
            ..LearnedSubject::default()
        }
    }

    /// What the forecaster says.
    fn foretell(&self, fs: &FilesystemSignals<'_>, settings: &Settings) -> Verdict {
        let forecast = self.forecaster.forecast(float(fs.usable_bytes));
        let within = settings.disk_filling_within.as_secs_f64();
        if forecast.expected > within * 2.0 {
            return Verdict::Over;
        }
        if forecast.expected > within {
            return Verdict::Between;
        }
        // Sure where even the slowest of ten would be full soon.
        let confidence = if forecast.high <= within * 2.0 { 0.9 } else { 0.75 };
        let left = float(fs.usable_bytes.saturating_sub(fs.used_bytes));
        let per_second = if forecast.expected > 0.0 { left / forecast.expected } else { 0.0 };
        let mut verdict = holds(fs, &forecast, per_second, confidence);
        if let (Verdict::Holds(case), Some(habits)) = (&mut verdict, self.forecaster.habits()) {
            case.evidence.extend(habit_words(&habits).map(said));
        }
        verdict
    }

    /// Full within minutes, by the short window.
    fn imminent(&self, fs: &FilesystemSignals<'_>) -> Option<Verdict> {
        if span(self.short.points()) < SHORT_SPAN_MIN {
            return None;
        }
        let short = slope(self.short.points())?;
        let left = float(fs.usable_bytes.saturating_sub(fs.used_bytes));
        let is_imminent = short.low > 0.0 && left / short.mid < IMMINENT.as_secs_f64();
        is_imminent.then(|| holds(fs, &by_slope(short, left), short.mid, 0.8))
    }

    fn judge(&self, fs: &FilesystemSignals<'_>, settings: &Settings) -> Verdict {
        if span(self.short.points()) < SHORT_SPAN_MIN {
            // Nothing is known yet; after a clean-up it is over until shown otherwise.
            return if self.verdict == Verdict::Over { Verdict::Over } else { Verdict::Between };
        }
        let Some(short) = slope(self.short.points()) else { return Verdict::Between };
        let long = slope(self.long.points()).filter(|_| span(self.long.points()) >= LONG_SPAN_MIN);
        let left = float(fs.usable_bytes.saturating_sub(fs.used_bytes));
        let within = settings.disk_filling_within.as_secs_f64();
        let to_full = |slope: f64| if slope > 0.0 { left / slope } else { f64::INFINITY };
        let now = to_full(short.mid);
        let lasting = long.map(|long| to_full(long.mid));
        if now > within * 2.0 || lasting.is_some_and(|lasting| lasting > within * 2.0) {
            return Verdict::Over;
        }
        let peak = self.peaks.settled().iter().map(|point| point.1).fold(0.0, f64::max);
        if float(fs.used_bytes) < peak {
            return Verdict::Between;
        }
        match (long, lasting) {
            (Some(long), Some(lasting)) if now < within && lasting < within && long.low > 0.0 => {
                let agree = now < lasting * 2.0 && lasting < now * 2.0;
                holds(
                    fs,
                    &Forecast { expected: lasting.min(now), ..by_slope(long, left) },
                    long.mid,
                    if agree { 0.9 } else { 0.75 },
                )
            }
            (None, _) => self.imminent(fs).unwrap_or(Verdict::Between),
            _ => Verdict::Between,
        }
    }
}

/// What the forecast reckons with, in words.
fn habit_words(habits: &Habits) -> impl Iterator<Item = String> + use<> {
    let span = |ms: i64| duration(Duration::from_millis(ms.unsigned_abs()));
    let of = if habits.is_weekly { "week" } else { "day" };
    let is_peculiar = !(HOUR_USUAL..=1.0 / HOUR_USUAL).contains(&habits.hour);
    let hour = is_peculiar
        .then(|| format!("at this hour of the {of} {:.1} times as much is written as on average", habits.hour));
    let cut = habits.cut.map(|(every, next)| match next {
        0 => format!("what is cut every {} is due now", span(every)),
        next => format!("something is cut every {}, next in {}; reckoned with", span(every), span(next)),
    });
    hour.into_iter().chain(cut)
}

/// When so much that is left is used up at a slope.
fn by_slope(slope: Slope, left: f64) -> Forecast {
    let by = |slope: f64| if slope > 0.0 { left / slope } else { f64::INFINITY };
    Forecast { low: by(slope.high), expected: by(slope.mid), high: by(slope.low) }
}

/// Seconds until something, in words.
fn time_words(time: f64) -> String {
    if time.is_finite() { duration(seconds(time)) } else { "never".into() }
}

fn holds(fs: &FilesystemSignals<'_>, forecast: &Forecast, per_second: f64, confidence: f64) -> Verdict {
    let to_full = forecast.expected;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let per_minute = bytes((per_second * 60.0) as u64);
    let text = format!(
        "full in about {} ({} to {}): grows by {per_minute} a minute, used {} of {}",
        time_words(to_full),
        time_words(forecast.low),
        time_words(forecast.high),
        percent(fs.used_ratio),
        bytes(fs.usable_bytes),
    );
    let severity = if to_full < CRITICAL.as_secs_f64() { Severity::Critical } else { Severity::Warning };
    Verdict::Holds(Case {
        severity,
        confidence,
        evidence: vec![measured(text, "time_to_full_seconds", to_full, None)],
        raise_after: RAISE_AFTER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Filesystem, FilesystemUsage};
    use crate::time::Now;

    const GIB: f64 = (1u64 << 30) as f64;
    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;

    /// Shows a disk of 100 GiB every ten seconds for so many minutes; `used_gib` tells how full it
    /// is after so many minutes. Gives when, in minutes, findings opened and cleared.
    fn run(minutes: u64, used_gib: impl Fn(f64) -> f64) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for tick in 0..minutes * 6 {
            let now = Now { boot_ns: tick * 10_000_000_000, wall_ms: 0 };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let used = (used_gib(tick as f64 / 6.0) * GIB) as u64;
            let size_bytes = 100 << 30;
            let avail_bytes = size_bytes - used;
            let usage = FilesystemUsage { size_bytes, free_bytes: avail_bytes, avail_bytes, ..Default::default() };
            let fs = Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() };
            let sample = Sample { at: now, filesystems: vec![fs], ..Sample::default() };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|event| event.finding.kind == FindingKind::DiskFilling);
            seen.extend(events.into_iter().map(|event| (tick / 6, event.change)));
        }
        seen
    }

    #[test]
    fn steady_growth_towards_full_is_found_in_a_quarter_of_an_hour() {
        // 10 GiB an hour, full in 4 h at first.
        let seen = run(30, |m| 65.0 + m / 6.0);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen[0].0 <= 15 && seen[0].1 == Change::Opened, "{seen:?}");
    }

    #[test]
    fn a_disk_that_is_full_in_minutes_is_not_waited_for() {
        let seen = run(10, |m| 20.0 + 8.0 * m);
        assert_eq!(seen[0], (3, Change::Opened));
    }

    #[test]
    fn clears_when_the_growth_ends() {
        let seen = run(180, |m| 70.0 + m.min(40.0) / 6.0);
        assert_eq!(seen.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [Change::Opened, Change::Cleared]);
    }

    #[test]
    fn clears_at_once_when_the_disk_was_cleaned_up() {
        let seen = run(60, |m| if m < 30.0 { 70.0 + m / 6.0 } else { 40.0 });
        assert_eq!(seen[1], (31, Change::Cleared));
    }

    #[test]
    fn a_level_that_is_high_and_flat_is_not_filling() {
        assert_eq!(run(300, |m| 91.0 + 0.001 * (m * 1.7).sin()), []);
    }

    #[test]
    fn one_large_file_is_no_trend() {
        assert_eq!(run(300, |m| if m < 100.0 { 50.0 } else { 50.0 + (m - 100.0).min(2.0) * 5.0 }), []);
    }

    #[test]
    fn logs_that_are_rotated_every_half_hour_are_known_after_the_first_time() {
        // Up by 20 GiB in 30 min, and down again.
        let seen = run(600, |m| 60.0 + (m % 30.0) * 20.0 / 30.0);
        let later: Vec<_> = seen.iter().filter(|(minute, change)| *minute > 60 && *change == Change::Opened).collect();
        assert_eq!(later, Vec::<&(u64, Change)>::new(), "{seen:?}");
    }

    #[test]
    fn habits_of_the_day_and_what_is_cut_are_said() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        // Half a GiB an hour, three times that from 8 to 16 h, and at 2 h what a day brings is cut; on the last day five times that.
        let (mut used, mut second, mut said) = (40.0 * GIB, 0, Vec::new());
        while second < 11 * DAY + 16 * HOUR {
            let (is_last, hour) = (second >= 11 * DAY, second % DAY / HOUR);
            let step = if is_last { 10 } else { 60 };
            let per_hour = if (8..16).contains(&hour) { 1.5 } else { 0.5 } * if is_last { 5.0 } else { 1.0 };
            #[allow(clippy::cast_precision_loss)]
            let written = per_hour * GIB * step as f64 / HOUR as f64;
            used = (used + written).min(99.0 * GIB) - if second % DAY == 2 * HOUR { 20.0 * GIB } else { 0.0 };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let avail_bytes = (100 << 30) - used as u64;
            let usage =
                FilesystemUsage { size_bytes: 100 << 30, free_bytes: avail_bytes, avail_bytes, ..Default::default() };
            let fs = Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() };
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let sample = Sample { at: now, filesystems: vec![fs], ..Sample::default() };
            said.extend(detectors.observe_sample(&sample, now).into_iter().map(|event| (second / DAY, event)));
            second += step;
        }
        let (day, event) = said.iter().find(|(_, event)| event.finding.kind == FindingKind::DiskFilling).unwrap();
        let words: Vec<_> = event.finding.evidence.iter().map(|evidence| &*evidence.text).collect();
        assert_eq!((*day, event.change), (11, Change::Opened));
        assert!(words[1].starts_with("at this hour of the day ") && words[1].contains("times as much"), "{words:?}");
        assert!(words[2].starts_with("something is cut every 1 d, next in "), "{words:?}");
        let learned = detectors.learned().subjects;
        assert!(learned[0].text.contains("; something is cut every 1 d"), "{:?}", learned[0]);
    }

    #[test]
    fn slow_growth_is_not_urgent() {
        // 2 GiB a day.
        assert_eq!(run(600, |m| 70.0 + m * 2.0 / 1_440.0), []);
    }
}
