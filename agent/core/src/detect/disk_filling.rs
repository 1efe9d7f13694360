//! `disk.filling`: a filesystem will be full before long.
//!
//! In: used bytes of every filesystem. Two windows have to agree on the time to full: ten minutes,
//! which sees what happens now, and an hour, which sees whether it lasts. And the level has to be
//! a new high of the last day: what was as full before and came down again (rotated logs, nightly
//! jobs) will do so again. A level that is high and flat is not filling.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::trend::{History, Slope, slope, span};
use super::words::{bytes, duration, measured, percent, seconds};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::{FilesystemSignals, Signals};
use crate::subject::PathBytes;

/// Most filesystems that are followed.
const MOUNTS_MAX: usize = 256;

/// Ten minutes, an hour, a day: step and number of points of each window.
const SHORT: (Millis, usize) = (10_000, 60);
const LONG: (Millis, usize) = (60_000, 60);
const DAY: (Millis, usize) = (15 * 60_000, 96);

/// A window says nothing before it spans this much.
const SHORT_SPAN_MIN: Millis = 2 * 60_000;
const LONG_SPAN_MIN: Millis = 10 * 60_000;

/// Full within this time by the short window alone is said without waiting for the long one: it
/// would come too late.
const IMMINENT: Duration = Duration::from_secs(10 * 60);

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
    short: History,
    long: History,
    /// Peaks of quarter hours.
    day: History,
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
            round.judge(FindingKind::DiskFilling, SubjectRef::Mount(fs.mount), filling.verdict.clone());
        }
        for hung in sample.filesystems.iter().filter(|fs| fs.usage.is_none()) {
            round.judge(FindingKind::DiskFilling, SubjectRef::Mount(&hung.mount), Verdict::Unknown);
        }
        let rest = if sample.filesystems.is_empty() { Verdict::Unknown } else { Verdict::Over };
        round.judge_rest(FindingKind::DiskFilling, &rest);
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.mounts.len());
        for (mount, filling) in &self.mounts {
            writer.bytes(&mount.0);
            writer.u64(filling.usable_bytes);
            [&filling.short, &filling.long, &filling.day].into_iter().for_each(|history| history.save(writer));
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        for _ in 0..reader.len()?.min(MOUNTS_MAX) {
            let mount = PathBytes(reader.bytes()?.to_vec());
            let empty = Filling::new(reader.u64()?);
            let (short, long, day) = (empty.short.load(reader)?, empty.long.load(reader)?, empty.day.load(reader)?);
            loaded.mounts.insert(mount, Filling { short, long, day, ..Filling::new(empty.usable_bytes) });
        }
        Some(loaded)
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
            short: History::new(SHORT.0, SHORT.1),
            long: History::new(LONG.0, LONG.1),
            day: History::new(DAY.0, DAY.1),
            verdict: Verdict::Between,
        }
    }

    fn note(&mut self, fs: &FilesystemSignals<'_>, settings: &Settings, t: Millis) {
        let resized = float(fs.usable_bytes.abs_diff(self.usable_bytes)) > CUT_RATIO * float(self.usable_bytes);
        if resized {
            *self = Self::new(fs.usable_bytes);
        }
        let used = float(fs.used_bytes);
        let last = |_, now| now;
        let before = self.short.points().last().map(|point| point.1);
        if !self.short.push(t, used, last) {
            return;
        }
        let is_cut = before.is_some_and(|before| before - used > CUT_RATIO * float(fs.usable_bytes));
        if is_cut {
            self.short.clear();
            self.long.clear();
            self.verdict = Verdict::Over;
        } else {
            self.long.push(t, used, last);
            self.verdict = self.judge(fs, settings);
        }
        self.day.push(t, used, f64::max);
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
        let peak = self.day.settled().iter().map(|point| point.1).fold(0.0, f64::max);
        if float(fs.used_bytes) < peak {
            return Verdict::Between;
        }
        match (long, lasting) {
            (Some(long), Some(lasting)) if now < within && lasting < within && long.low > 0.0 => {
                let agree = now < lasting * 2.0 && lasting < now * 2.0;
                holds(fs, lasting.min(now), long, left, if agree { 0.9 } else { 0.75 })
            }
            (None, _) if now < IMMINENT.as_secs_f64() && short.low > 0.0 => holds(fs, now, short, left, 0.8),
            _ => Verdict::Between,
        }
    }
}

fn holds(fs: &FilesystemSignals<'_>, to_full: f64, slope: Slope, left: f64, confidence: f64) -> Verdict {
    let by = |slope: f64| duration(seconds(left / slope));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let per_minute = bytes((slope.mid * 60.0) as u64);
    let text = format!(
        "full in about {} ({} to {}): grows by {per_minute} a minute, used {} of {}",
        duration(seconds(to_full)),
        by(slope.high),
        by(slope.low),
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
    fn slow_growth_is_not_urgent() {
        // 2 GiB a day.
        assert_eq!(run(600, |m| 70.0 + m * 2.0 / 1_440.0), []);
    }
}
