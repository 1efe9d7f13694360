//! Summaries: ten seconds of samples brought down to one point per series.
//!
//! Every sample of the window goes in, one summary comes out. A gauge keeps its extremes, so that
//! a peak of one second is seen although only one point in ten seconds travels.

use std::sync::Arc;
use std::time::Duration;

use crate::readings::{Reading, SeriesKind, readings};
use crate::sample::{Background, BackgroundReading, Sample};
use crate::series::{Mark, Point, SeriesTable, Stretch, Summary};
use crate::subject::UnitName;
use crate::time::Now;

/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A window may end this much early. Samples come once a second, a few milliseconds early or late:
/// without it, every other window would wait for the sample after and be eleven seconds long.
const EARLY: Duration = Duration::from_millis(500);

/// The subject of the agent's own gauges, which no sample has so many of.
const OWN: u32 = u32::MAX - 1;

/// Collects samples until a window is full.
#[derive(Debug, Default)]
pub struct SummaryBuilder {
    table: SeriesTable,
    /// By slot of the table.
    windows: Vec<Window>,
    /// The series of units, by their places in a sample, and where those of the unit in hand begin.
    units: Vec<Option<UnitSeries>>,
    unit_begins: Option<Mark>,
    layout: u64,
    started: Option<Now>,
    samples: u32,
}

/// The series of a unit.
#[derive(Debug, Clone)]
struct UnitSeries {
    name: UnitName,
    stretch: Stretch,
    /// How often they were taken again and are not in their windows yet: those of a unit that does not change are not touched
    /// in every sample, but when it does or the summary is made.
    again: u32,
}

/// What is kept of one series over the window.
#[derive(Debug, Clone, Copy)]
struct Window {
    kind: SeriesKind,
    readings: u32,
    last: f64,
    min: f64,
    max: f64,
    sum: f64,
}

impl Window {
    const EMPTY: Self =
        Self { kind: SeriesKind::Gauge, readings: 0, last: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0 };

    /// Begins anew. The last value stays, for who has the same again.
    fn begin(&mut self) {
        *self = Self { kind: self.kind, last: self.last, ..Self::EMPTY };
    }

    fn add(&mut self, kind: SeriesKind, value: f64) {
        self.kind = kind;
        self.readings += 1;
        self.last = value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
    }

    fn point(&self) -> Point {
        match self.kind {
            SeriesKind::Counter => Point::Counter(self.last),
            SeriesKind::Gauge => Point::Gauge {
                last: self.last,
                min: self.min,
                max: self.max,
                mean: self.sum / f64::from(self.readings),
            },
        }
    }
}

impl UnitSeries {
    /// Puts into the windows what was taken again.
    fn catch_up(&mut self, windows: &mut [Window]) {
        for _ in 0..std::mem::take(&mut self.again) {
            for slot in self.stretch.slots() {
                let window = &mut windows[slot];
                window.add(window.kind, window.last);
            }
        }
    }
}

impl SummaryBuilder {
    /// Takes a sample.
    pub fn add(&mut self, sample: &Sample) {
        self.catch_up();
        self.begin(sample.at);
        readings(sample, &mut |reading| {
            self.reading(&reading);
        });
    }

    /// Begins a sample, whose readings follow.
    pub fn begin(&mut self, at: Now) {
        self.table.rewind();
        self.unit_begins = None;
        self.started.get_or_insert(at);
        self.samples += 1;
    }

    /// Takes a reading of the sample that was begun. One that is no number is left out. Says which series it is of, by a
    /// number that stands for it until [`Self::layout`] is another.
    pub fn reading(&mut self, reading: &Reading<'_>) -> Option<usize> {
        let slot = self.table.slot(reading.name, reading.labels, reading.subject)?;
        if slot >= self.windows.len() {
            self.windows.resize(slot + 1, Window::EMPTY);
        }
        if reading.value.is_finite() {
            self.windows[slot].add(reading.kind, reading.value);
        } else {
            // There is no value to take again.
            self.unit_begins = None;
        }
        Some(slot)
    }

    /// Begins the unit that is the `at`th of the sample, whose readings follow.
    pub fn unit_begins(&mut self, at: usize, unit: &UnitName) {
        match self.units.get_mut(at) {
            Some(Some(known)) if known.name == *unit => known.catch_up(&mut self.windows),
            // Whose place it has comes at another one, and is not to be told before what is left of it.
            _ => self.catch_up(),
        }
        self.unit_begins = Some(self.table.mark());
    }

    /// Ends it: where its readings are known they can be taken again.
    pub fn unit_ends(&mut self, at: usize, unit: &UnitName) {
        let stretch = self.unit_begins.take().and_then(|mark| self.table.since(mark));
        if at >= self.units.len() {
            self.units.resize(at + 1, None);
        }
        self.units[at] = stretch.map(|stretch| UnitSeries { name: unit.clone(), stretch, again: 0 });
    }

    /// Takes all readings of a unit as they were in the sample before, and gives the numbers of their series to `each`.
    /// Says whether it could.
    pub fn unit_again(&mut self, at: usize, unit: &UnitName, each: impl FnMut(usize)) -> bool {
        let known = self.units.get_mut(at).and_then(Option::as_mut).filter(|known| known.name == *unit);
        let Some(known) = known else { return false };
        if !self.table.again(&known.stretch) {
            return false;
        }
        known.stretch.slots().for_each(each);
        known.again += 1;
        true
    }

    /// Brings all windows up to the last sample.
    fn catch_up(&mut self) {
        for known in self.units.iter_mut().flatten() {
            known.catch_up(&mut self.windows);
        }
    }

    /// How often the numbers of series were given anew.
    #[must_use]
    pub fn layout(&self) -> u64 {
        self.layout
    }

    /// Takes a gauge of the agent's own, besides the samples'.
    pub fn add_own(&mut self, name: &'static str, value: f64) {
        let own = Reading { name, labels: &[], kind: SeriesKind::Gauge, value, subject: OWN };
        self.reading(&own);
    }

    /// Takes what was read beside the samples, as it stands at the end of a window.
    pub fn add_background(&mut self, background: &Background, now: Now) {
        for BackgroundReading { key, kind, value } in background.told(now) {
            let Some(slot) = self.table.add_key(key) else { continue };
            if slot >= self.windows.len() {
                self.windows.resize(slot + 1, Window::EMPTY);
            }
            self.windows[slot].add(*kind, *value);
        }
    }

    /// Whether the window is full, so that a summary is due.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.started.is_some_and(|started| now.since(started) + EARLY >= WINDOW)
    }

    /// Ends the window at `now` and begins the next one. Series without a reading in the window
    /// are forgotten.
    pub fn take(&mut self, now: Now) -> Summary {
        self.catch_up();
        let seen = |slot: usize| self.windows.get(slot).is_some_and(|window| window.readings > 0);
        let points: Vec<_> = self
            .table
            .sorted()
            .filter(|slot| seen(*slot))
            .map(|slot| (Arc::clone(self.table.key(slot)), self.windows[slot].point()))
            .collect();
        let passed = self.started.map_or(Duration::ZERO, |started| now.since(started));
        let summary = Summary {
            at: now,
            window_ms: u32::try_from(passed.as_millis()).unwrap_or(u32::MAX),
            samples: self.samples,
            points,
        };
        if summary.points.len() < self.table.len() {
            self.table.retain(seen);
            self.layout += 1;
            self.windows.clear();
        }
        self.windows.iter_mut().for_each(Window::begin);
        self.windows.resize(self.table.len(), Window::EMPTY);
        self.started = Some(now);
        self.samples = 0;
        summary
    }

    /// How often a series was left out because there are too many
    /// ([`crate::series::SERIES_MAX`]), since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.table.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{FileHandles, KernelCounters, LoadAverage};
    use crate::series::SeriesKey;

    fn at(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }
    }

    fn sample(second: u64, load: f64) -> Sample {
        Sample {
            at: at(second),
            load: Some(LoadAverage { one: load, ..LoadAverage::default() }),
            kernel: Some(KernelCounters { forks: second, ..KernelCounters::default() }),
            ..Sample::default()
        }
    }

    fn point(summary: &Summary, name: &str) -> Option<Point> {
        summary.points.iter().find(|(key, _)| key.name == name).map(|(_, point)| *point)
    }

    #[test]
    fn gauges_keep_their_extremes_and_counters_their_last() {
        let mut builder = SummaryBuilder::default();
        for (second, load) in [(0, 1.0), (1, 5.0), (2, 0.0)] {
            builder.add(&sample(second, load));
        }
        let summary = builder.take(at(10));
        let load = Point::Gauge { last: 0.0, min: 0.0, max: 5.0, mean: 2.0 };
        assert_eq!(point(&summary, "node_load1"), Some(load));
        assert_eq!(point(&summary, "node_forks_total"), Some(Point::Counter(2.0)));
        assert_eq!((summary.samples, summary.window_ms), (3, 10_000));
        assert!(summary.points.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn is_due_once_per_window() {
        let mut builder = SummaryBuilder::default();
        assert!(!builder.is_due(at(100)), "nothing is due without a sample");
        builder.add(&sample(0, 0.0));
        assert!(!builder.is_due(at(9)));
        assert!(builder.is_due(at(10)));
        builder.take(at(10));
        assert!(!builder.is_due(at(19)));
        assert!(builder.is_due(at(20)));
    }

    #[test]
    fn a_sample_that_is_a_little_early_still_ends_the_window() {
        let mut builder = SummaryBuilder::default();
        builder.add(&sample(0, 0.0));
        builder.take(at(10).plus(Duration::from_millis(44)));
        assert!(builder.is_due(at(20).plus(Duration::from_millis(38))));
    }

    #[test]
    fn a_series_that_is_gone_is_absent_and_comes_back() {
        let mut builder = SummaryBuilder::default();
        let files = Some(FileHandles { allocated: 1, maximum: 2 });
        let mut present = Vec::new();
        for (window, file_handles) in (0..).zip([files, None, files]) {
            builder.add(&Sample { file_handles, ..sample(window * 10, 0.0) });
            let summary = builder.take(at(window * 10 + 10));
            present.push(point(&summary, "node_filefd_allocated").is_some());
            assert!(point(&summary, "node_load1").is_some());
        }
        assert_eq!(present, [true, false, true]);
    }

    #[test]
    fn what_is_read_beside_the_samples_is_told_until_it_is_old() {
        let reading = |name: &str, kind, value| BackgroundReading { key: SeriesKey::new(name, &[]), kind, value };
        let background = Background {
            at: at(5),
            readings: vec![
                reading("node_sockstat_TCP_inuse", SeriesKind::Gauge, 7.0),
                reading("node_netstat_Udp_InErrors", SeriesKind::Counter, 3.0),
                reading("node_hwmon_temp_celsius", SeriesKind::Gauge, f64::NAN),
            ],
        };
        let mut builder = SummaryBuilder::default();
        for (second, is_told) in [(0, true), (100, true), (185, true), (186, false)] {
            builder.add(&sample(second, 0.0));
            builder.add_background(&background, at(second));
            let summary = builder.take(at(second));
            let [inuse, errors, heat] =
                ["node_sockstat_TCP_inuse", "node_netstat_Udp_InErrors", "node_hwmon_temp_celsius"]
                    .map(|name| point(&summary, name));
            let expected = Point::Gauge { last: 7.0, min: 7.0, max: 7.0, mean: 7.0 };
            assert_eq!(
                (inuse, errors),
                (is_told.then_some(expected), is_told.then_some(Point::Counter(3.0))),
                "{second}"
            );
            assert_eq!(heat, None, "what is no number");
            assert!(point(&summary, "node_load1").is_some() && summary.points.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn the_steady_state_makes_no_keys() {
        let mut builder = SummaryBuilder::default();
        builder.add(&sample(0, 0.0));
        let first = builder.take(at(10));
        builder.add(&sample(11, 0.0));
        let second = builder.take(at(20));
        assert!(first.points.iter().zip(&second.points).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0)));
    }
}
