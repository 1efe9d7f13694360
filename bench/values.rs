//! What hosts measure: a recording that each begins elsewhere, or values in the shapes of real ones.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;

use super::recording::Recording;
use super::shapes::{Shapes, describe};

/// Samples of a summary of ten seconds.
pub(crate) const SAMPLES: u32 = 10;

/// How often gauges are read in a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gauges {
    /// As an agent does: their least, greatest and mean are others than the last.
    Sampled,
    /// Once, as a scrape does.
    ReadOnce,
}

/// The series that all hosts have.
pub(crate) struct Series {
    /// Sorted.
    keys: Vec<Arc<SeriesKey>>,
    gauge: Vec<bool>,
    gauges: Gauges,
    /// Samples of a summary.
    samples: u32,
    /// Summaries of the host that was recorded, if one was; in the order of the keys.
    recorded: Vec<Vec<Option<Point>>>,
}

impl Series {
    /// So many series, made.
    pub(crate) fn made(count: usize) -> Self {
        let described = describe(count);
        Self {
            keys: described.keys,
            gauge: described.gauge,
            gauges: Gauges::Sampled,
            samples: SAMPLES,
            recorded: Vec::new(),
        }
    }

    /// Those of a recording that are there throughout, from its text, in summaries of so many seconds.
    pub(crate) fn recorded(text: &str, seconds: u32) -> Result<Self> {
        let recording = Recording::read(text).map_err(|why| anyhow!("the recording cannot be read: {why}"))?;
        let columns = text.lines().next().unwrap_or_default().split('\t').skip(1);
        let mut keys: Vec<(SeriesKey, usize)> = columns.map(key).zip(0..).collect();
        keys.sort();
        let rows = recording.windows(seconds);
        keys.retain(|(_, at)| rows.iter().all(|row| row.cells[*at].is_some()));
        ensure!(!rows.is_empty(), "a recording of less than {seconds} seconds");
        Ok(Self {
            gauge: keys.iter().map(|(_, at)| recording.gauge[*at]).collect(),
            gauges: Gauges::Sampled,
            samples: seconds,
            recorded: rows.iter().map(|row| keys.iter().map(|(_, at)| row.cells[*at]).collect()).collect(),
            keys: keys.into_iter().map(|(key, _)| Arc::new(key)).collect(),
        })
    }

    /// The same, with gauges read so often.
    pub(crate) fn with(self, gauges: Gauges) -> Self {
        Self { gauges, ..self }
    }

    /// Those of a recording alone that are not always the same.
    pub(crate) fn moving(self) -> Self {
        let moves = |at: &usize| self.recorded.iter().any(|row| row[*at] != self.recorded[0][*at]);
        let kept: Vec<usize> = (0..self.len()).filter(moves).collect();
        self.only(&kept)
    }

    /// So many of a recording's at most, from all over it.
    pub(crate) fn some(self, most: usize) -> Self {
        let all = self.len();
        if all <= most {
            return self;
        }
        let kept: Vec<usize> = (0..most).map(|n| n * all / most).collect();
        self.only(&kept)
    }

    fn only(self, kept: &[usize]) -> Self {
        Self {
            keys: kept.iter().map(|at| self.keys[*at].clone()).collect(),
            gauge: kept.iter().map(|at| self.gauge[*at]).collect(),
            recorded: self.recorded.iter().map(|row| kept.iter().map(|at| row[*at]).collect()).collect(),
            ..self
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Of each series, sorted.
    pub(crate) fn keys(&self) -> &[Arc<SeriesKey>] {
        &self.keys
    }

    /// How many summaries of a host were recorded.
    pub(crate) fn recorded_len(&self) -> usize {
        self.recorded.len()
    }
}

/// The key of a column such as `c:node_cpu_seconds_total{cpu="0",mode="idle"}`.
fn key(column: &str) -> SeriesKey {
    let text = column.split_once(':').map_or(column, |(_, key)| key);
    let Some((name, labels)) = text.split_once('{') else { return SeriesKey::new(text, &[]) };
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    let labels: Vec<_> = labels.map(|(name, value)| (name, value.trim_matches('"'))).collect();
    SeriesKey::new(name, &labels)
}

/// How many series, and how many of their values, differ from the summary before. A gauge that is sampled has four.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changed {
    pub(crate) series: u64,
    pub(crate) values: u64,
}

fn read_once(point: Point) -> Point {
    match point {
        Point::Gauge { last, .. } => Point::Gauge { last, min: last, max: last, mean: last },
        counter @ Point::Counter(_) => counter,
    }
}

fn values(point: Point) -> [f64; 4] {
    match point {
        Point::Counter(last) => [last; 4],
        Point::Gauge { last, min, max, mean } => [last, min, max, mean],
    }
}

/// The values of one host, summary by summary.
#[derive(Clone)]
pub(crate) struct Values {
    series: Arc<Series>,
    shapes: Option<Shapes>,
    /// Where in the recording it is.
    at: usize,
    last: Vec<Option<Point>>,
}

impl Values {
    /// A host that is told apart by its number.
    pub(crate) fn of(series: &Arc<Series>, host: u32) -> Self {
        let is_made = series.recorded.is_empty();
        let shapes = is_made.then(|| Shapes::of(u64::from(host) + 1, series.keys.len()));
        let at = host as usize * 7;
        Self { series: series.clone(), shapes, at, last: Vec::new() }
    }

    /// The next summary, and how much of it differs from the one before.
    pub(crate) fn next(&mut self, at: Now, window_ms: u32) -> (Summary, Changed) {
        let series = &self.series;
        let mut cells: Vec<Option<Point>> = match &mut self.shapes {
            Some(shapes) => shapes.summary(series.samples, &series.gauge).into_iter().map(Some).collect(),
            None => series.recorded[self.at % series.recorded.len()].clone(),
        };
        let is_sampled = series.gauges == Gauges::Sampled;
        if !is_sampled {
            cells.iter_mut().flatten().for_each(|point| *point = read_once(*point));
        }
        self.at += 1;
        let mut changed = Changed::default();
        for (now, before) in cells.iter().zip(&self.last).filter(|(now, before)| now != before) {
            changed.series += 1;
            changed.values += match (now, before) {
                (Some(Point::Gauge { .. }), Some(Point::Gauge { .. })) if is_sampled => {
                    let (now, before) = (now.map(values), before.map(values));
                    now.iter().flatten().zip(before.iter().flatten()).filter(|(now, before)| now != before).count()
                        as u64
                }
                _ => 1,
            };
        }
        let points = series.keys.iter().zip(&cells).filter_map(|(key, cell)| Some((key.clone(), (*cell)?))).collect();
        self.last = cells;
        (Summary { at, window_ms, samples: if is_sampled { series.samples } else { 1 }, points }, changed)
    }
}
