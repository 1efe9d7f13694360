//! Rollups: what five minutes or an hour of rows come to, for ranges that are older than the rows are kept.
//!
//! In: the rows of a block. Out: one row for each stretch, in which every series has two cells: its **values** (a counter's
//! last; a gauge's last, and the least, greatest and mean of its seconds), and its **tally** (how many points there were, and
//! the least, the greatest and the sum of those that are its value at each moment: what a question about the rows themselves
//! would have found). The rows are stored as blocks of their own.

use mainstay_core::series::Point;

use crate::block::{Row, Split, Which};

/// The bits of a value that says that its series has ended there, as in Prometheus; what others have written may hold them.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value says that its series has ended.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE
}

/// How long a rolled up stretch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Five minutes.
    Minutes5,
    /// An hour.
    Hour,
}

impl Tier {
    /// All of them, the finest first.
    pub const ALL: [Self; 2] = [Self::Minutes5, Self::Hour];

    /// Its length in milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        match self {
            Self::Minutes5 => 300_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The number of the stretch that a moment is in. Stretches are open on the left, as ranges are in PromQL.
    #[must_use]
    pub fn stretch_of(self, at_ms: i64) -> i64 {
        at_ms.saturating_sub(1).div_euclid(self.ms())
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minutes5 => "5m",
            Self::Hour => "1h",
        }
    }
}

/// Series of one part of a block of rollups: there are so few rows that parts of more series are no larger.
const PART_SERIES: usize = 48;

/// How the cells of rolled up rows are split into parts when they are written.
#[must_use]
pub fn split(series: usize) -> Split {
    Split::with(2 * series, 2 * PART_SERIES)
}

/// Which cells of a rolled up row are gauges, by which series of the schema are.
#[must_use]
pub fn cells(gauge: &[bool]) -> Vec<bool> {
    gauge.iter().flat_map(|gauge| [*gauge, true]).collect()
}

/// Where in a rolled up row the values of a series are.
#[must_use]
pub fn values_at(series: usize) -> usize {
    2 * series
}

/// What a tally tells, and as which value of its cell it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tally {
    /// How many points there were.
    Count,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Their sum.
    Sum,
}

impl Tally {
    /// Where in a rolled up row it is, for a series.
    #[must_use]
    pub fn at(series: usize) -> usize {
        2 * series + 1
    }

    /// Which value of the cell it is.
    #[must_use]
    pub fn which(self) -> Which {
        match self {
            Self::Count => Which::Last,
            Self::Min => Which::Min,
            Self::Max => Which::Max,
            Self::Sum => Which::Mean,
        }
    }
}

/// Rolls up rows, which are in the order of their times. A stretch has the time of its last row.
#[must_use]
pub fn roll(rows: &[Row], tier: Tier) -> Vec<Row> {
    rows.chunk_by(|a, b| tier.stretch_of(a.at_ms) == tier.stretch_of(b.at_ms)).map(stretch).collect()
}

fn stretch(rows: &[Row]) -> Row {
    let total = |of: fn(&Row) -> u32| rows.iter().map(of).fold(0, u32::saturating_add);
    let series = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let mut points = Vec::with_capacity(rows.len());
    let mut cells = Vec::with_capacity(2 * series);
    for at in 0..series {
        points.clear();
        points.extend(rows.iter().filter_map(|row| Some((row.cells.get(at).copied().flatten()?, row.samples))));
        let end = points.last().map(|(point, _)| *point).filter(|point| is_stale(last_of(point)));
        points.retain(|(point, _)| !is_stale(last_of(point)));
        cells.extend(match end {
            // Nothing but the word that it has ended.
            Some(end) if points.is_empty() => [Some(end), Some(gauge_of(f64::from_bits(STALE)))],
            Some(_) => [values(&points).map(ended), tally(&points)],
            None => [values(&points), tally(&points)],
        });
    }
    Row {
        at_ms: rows.last().map_or(0, |row| row.at_ms),
        window_ms: total(|row| row.window_ms),
        samples: total(|row| row.samples),
        cells,
    }
}

fn last_of(point: &Point) -> f64 {
    match point {
        Point::Counter(value) | Point::Gauge { last: value, .. } => *value,
    }
}

fn gauge_of(value: f64) -> Point {
    Point::Gauge { last: value, min: value, max: value, mean: value }
}

/// The same stretch of a series that ended in it.
fn ended(point: Point) -> Point {
    let last = f64::from_bits(STALE);
    match point {
        Point::Counter(_) => Point::Counter(last),
        Point::Gauge { min, max, mean, .. } => Point::Gauge { last, min, max, mean },
    }
}

fn values(points: &[(Point, u32)]) -> Option<Point> {
    let mut gauges = points.iter().filter_map(|(point, samples)| match point {
        Point::Gauge { min, max, mean, .. } => Some((*min, *max, *mean, f64::from((*samples).max(1)))),
        Point::Counter(_) => None,
    });
    let (last, _) = points.last()?;
    let Point::Gauge { last, .. } = last else { return Some(*last) };
    let (mut min, mut max, mean, mut samples) = gauges.next()?;
    let mut sum = whole(mean * samples);
    for (least, greatest, mean, of) in gauges {
        (min, max) = (min.min(least), max.max(greatest));
        (sum, samples) = (sum + whole(mean * of), samples + of);
    }
    Some(Point::Gauge { last: *last, min, max, mean: sum / samples })
}

fn tally(points: &[(Point, u32)]) -> Option<Point> {
    let of = |(point, _): &(Point, u32)| last_of(point);
    let first = of(points.first()?);
    // NaN gives way to any number, and makes every sum.
    let (min, max) = points.iter().map(of).fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
    let sum = whole(points.iter().map(of).sum());
    Some(Point::Gauge { last: f64::from(u32::try_from(points.len()).unwrap_or(u32::MAX)), min, max, mean: sum })
}

/// A sum of samples without the dust that dividing and multiplying left on it: readings have six decimals at most.
fn whole(sum: f64) -> f64 {
    let rounded = (sum * 1e6).round() / 1e6;
    if (rounded - sum).abs() <= sum.abs() * 1e-12 { rounded } else { sum }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gauge(last: f64, min: f64, max: f64, mean: f64) -> Option<Point> {
        Some(Point::Gauge { last, min, max, mean })
    }

    fn row(at_ms: i64, samples: u32, cells: Vec<Option<Point>>) -> Row {
        Row { at_ms, window_ms: samples * 1_000, samples, cells }
    }

    /// How many, least, greatest, sum.
    fn tallied(count: f64, min: f64, max: f64, sum: f64) -> Option<Point> {
        gauge(count, min, max, sum)
    }

    #[test]
    fn a_series_that_ended_has_ended_in_its_stretch_and_its_points_are_tallied() {
        let stale = f64::from_bits(STALE);
        let rows = [
            row(
                1_000,
                1,
                vec![Some(Point::Counter(4.0)), gauge(2.0, 2.0, 2.0, 2.0), gauge(stale, stale, stale, stale)],
            ),
            row(2_000, 1, vec![Some(Point::Counter(stale)), gauge(stale, stale, stale, stale), None]),
            row(3_000, 1, vec![None, gauge(6.0, 6.0, 6.0, 6.0), None]),
        ];
        let cells = &roll(&rows, Tier::Minutes5)[0].cells;
        let is_ended = |cell: &Option<Point>| cell.is_some_and(|point| is_stale(last_of(&point)));
        assert!(is_ended(&cells[0]) && is_ended(&cells[4]) && is_ended(&cells[5]), "{cells:?}");
        assert_eq!(cells[1], tallied(1.0, 4.0, 4.0, 4.0));
        assert_eq!((cells[2], cells[3]), (gauge(6.0, 2.0, 6.0, 4.0), tallied(2.0, 2.0, 6.0, 8.0)));
    }

    #[test]
    fn a_stretch_has_its_values_and_a_tally_of_its_points() {
        let rows = [
            row(600_001, 10, vec![gauge(4.0, 1.0, 5.0, 3.0), Some(Point::Counter(7.0)), None]),
            row(610_000, 5, vec![gauge(2.0, 2.0, 9.0, 6.0), Some(Point::Counter(3.0)), gauge(1.0, 1.0, 1.0, 1.0)]),
            row(900_000, 10, vec![None, Some(Point::Counter(8.0)), None]),
            row(900_001, 10, vec![gauge(0.0, 0.0, 0.0, 0.0), None, None]),
        ];
        let first = Row {
            at_ms: 900_000,
            window_ms: 25_000,
            samples: 25,
            cells: vec![
                gauge(2.0, 1.0, 9.0, 4.0),
                tallied(2.0, 2.0, 4.0, 6.0),
                Some(Point::Counter(8.0)),
                tallied(3.0, 3.0, 8.0, 18.0),
                gauge(1.0, 1.0, 1.0, 1.0),
                tallied(1.0, 1.0, 1.0, 1.0),
            ],
        };
        let cells_of_second = vec![gauge(0.0, 0.0, 0.0, 0.0), tallied(1.0, 0.0, 0.0, 0.0), None, None, None, None];
        let second = row(900_001, 10, cells_of_second);
        assert_eq!(roll(&rows, Tier::Minutes5), [first, second]);
        assert_eq!(roll(&rows, Tier::Hour).len(), 1);
        assert_eq!(roll(&[], Tier::Hour), []);
        assert_eq!(cells(&[true, false]), [true, true, false, true]);
        assert_eq!((split(48).parts(), split(49).parts(), split(10_000).series()), (1, 2, 20_000));
    }

    #[test]
    fn sums_of_decimals_are_what_they_should_be() {
        let mean = |n: u32| f64::from(n) / 10.0;
        let value = |n: u32| gauge(mean(n), 0.0, 9.0, mean(7 + n));
        let rows: Vec<Row> = (0..30).map(|n| row(i64::from(n) * 10_000 + 1, 10, vec![value(n)])).collect();
        let rolled = roll(&rows, Tier::Minutes5);
        let [Some(Point::Gauge { mean, .. }), Some(Point::Gauge { mean: sum, .. })] = rolled[0].cells[..] else {
            panic!("{rolled:?}")
        };
        let total: u32 = (0..30).map(|n| 7 + n).sum();
        assert_eq!(mean.to_bits(), (f64::from(total) / 300.0).to_bits());
        assert_eq!(sum.to_bits(), 43.5f64.to_bits());
    }

    #[test]
    fn a_stretch_of_numbers_and_none_has_the_extremes_of_the_numbers() {
        let value = |n: f64| row(1, 10, vec![gauge(n, n, n, n)]);
        let rolled = roll(&[value(f64::NAN), value(2.0), value(-3.0)], Tier::Hour);
        let Some(Point::Gauge { last, min, max, mean }) = rolled[0].cells[1] else { panic!("{rolled:?}") };
        assert_eq!((last, min, max, mean.is_nan()), (3.0, -3.0, 2.0, true));
    }

    proptest! {
        #[test]
        fn an_hour_is_what_its_stretches_of_five_minutes_come_to(
            values in prop::collection::vec((0i64..4_000, 0u32..100, 0u32..10), 1..60)
        ) {
            let mut at = 0;
            let rows: Vec<Row> = values
                .iter()
                .map(|(after, value, spread)| {
                    at += after * 100 + 1;
                    let (value, spread) = (f64::from(*value), f64::from(*spread));
                    row(at, 10, vec![gauge(value, value - spread, value + spread, value)])
                })
                .collect();
            let fine = roll(&rows, Tier::Minutes5);
            for hour in roll(&rows, Tier::Hour) {
                let is_of = |row: &&Row| Tier::Hour.stretch_of(row.at_ms) == Tier::Hour.stretch_of(hour.at_ms);
                let of: Vec<&Row> = fine.iter().filter(is_of).collect();
                let fold = |cell: usize, which: fn(Point) -> f64, fold: fn(f64, f64) -> f64| {
                    of.iter().map(|row| which(row.cells[cell].unwrap())).reduce(fold).unwrap()
                };
                let last = |point| match point { Point::Gauge { last, .. } | Point::Counter(last) => last };
                let min = |point| match point { Point::Gauge { min, .. } | Point::Counter(min) => min };
                let max = |point| match point { Point::Gauge { max, .. } | Point::Counter(max) => max };
                let mean = |point| match point { Point::Gauge { mean, .. } | Point::Counter(mean) => mean };
                for (cell, which, how) in [
                    (0, last as fn(Point) -> f64, (|_, b| b) as fn(f64, f64) -> f64),
                    (0, min, f64::min),
                    (0, max, f64::max),
                    (1, last, |a, b| a + b),
                    (1, min, f64::min),
                    (1, max, f64::max),
                    (1, mean, |a, b| a + b),
                ] {
                    prop_assert_eq!(which(hour.cells[cell].unwrap()), fold(cell, which, how));
                }
                prop_assert_eq!(hour.samples, of.iter().map(|row| row.samples).sum::<u32>());
            }
        }
    }
}
