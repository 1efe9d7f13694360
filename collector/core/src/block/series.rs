//! One series of a block: which rows have it, and its columns.
//!
//! ```text
//! series = form << 1 | has a bitmap | bitmap of the rows that have it | columns
//!          form 0: one column (a counter; a gauge whose four values are the same in every row)
//!          form 1: four columns: last, min, max, mean
//!          form 2: four columns of whole numbers of one scale: last | max - last | max - min | sum - samples * min
//! ```
//!
//! A gauge's values of one window lie close together, so that their distances are small, and the mean of whole numbers is
//! their sum by the row's samples. A mean that is none (a sample of the window had no such reading) is an exception.

use mainstay_core::columns::whole;
use mainstay_core::series::Point;

use super::column::{self, Ints, SCALES, Values, Wholes};

const ONE: u8 = 0;
const FOUR: u8 = 1;
const NEAR: u8 = 2;
/// Whole numbers up to here can be added up and multiplied by the samples of a row.
pub(super) const NEAR_MAX: i64 = 1 << 46;
/// More samples than this in a row are no window that a sum would be kept of.
const SAMPLES_MAX: u32 = 1 << 12;

/// Which of a point's values is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The last: the only one of a counter.
    Last,
    /// The least of a gauge.
    Min,
    /// The greatest of a gauge.
    Max,
    /// The mean of a gauge.
    Mean,
}

/// Writes the cells of one series; `samples` are the rows'.
pub(super) fn write(out: &mut Vec<u8>, gauge: bool, cells: &[Option<Point>], samples: &[u32]) {
    let at = out.len();
    out.push(0);
    let is_whole = cells.iter().all(Option::is_some);
    if !is_whole {
        for chunk in cells.chunks(8) {
            out.push(chunk.iter().enumerate().fold(0, |bits, (n, cell)| bits | u8::from(cell.is_some()) << n));
        }
    }
    let present: Vec<[f64; 4]> = cells.iter().flatten().map(|point| values(*point)).collect();
    let form = if gauge {
        let samples: Vec<u32> =
            cells.iter().zip(samples).filter(|(cell, _)| cell.is_some()).map(|(_, samples)| *samples).collect();
        write_gauge(out, &present, &samples)
    } else {
        column::write(out, &column_of(&present, 0));
        ONE
    };
    out[at] = form << 1 | u8::from(!is_whole);
}

fn write_gauge(out: &mut Vec<u8>, points: &[[f64; 4]], samples: &[u32]) -> u8 {
    let is_one = |point: &[f64; 4]| point.iter().all(|value| value.to_bits() == point[0].to_bits());
    if points.iter().all(is_one) {
        column::write(out, &column_of(points, 0));
        return ONE;
    }
    if let Some(columns) = near(points, samples) {
        columns.iter().for_each(|column| column::write_wholes(out, column));
        return NEAR;
    }
    (0..4).for_each(|n| column::write(out, &column_of(points, n)));
    FOUR
}

fn column_of(points: &[[f64; 4]], n: usize) -> Vec<f64> {
    points.iter().map(|point| point[n]).collect()
}

/// The columns of form 2, if the values are whole numbers of one scale.
fn near(points: &[[f64; 4]], samples: &[u32]) -> Option<[Wholes; 4]> {
    let (scale, [last, min, max]) = (0u8..).zip(SCALES).find_map(|(scale, factor)| {
        let of = |n: usize| points.iter().map(|point| whole(point[n], factor)).collect::<Option<Vec<i64>>>();
        Some((scale, [of(0)?, of(1)?, of(2)?]))
    })?;
    let fits = |values: &[i64]| values.iter().all(|value| value.abs() < NEAR_MAX);
    if !(fits(&last) && fits(&min) && fits(&max)) {
        return None;
    }
    let less = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<i64>>();
    let sums = points.iter().zip(samples).zip(&min).map(|((point, samples), min)| {
        let sum = sum_of(point[3], *samples, SCALES[usize::from(scale)]);
        (sum.map(|sum| sum - i64::from(*samples) * min), point[3].to_bits())
    });
    let of = |values| Wholes { scale, values, exceptions: Vec::new() };
    let sums = Wholes { scale, ..column::patched(sums)? };
    Some([of(last.clone()), of(less(&max, &last)), of(less(&max, &min)), sums])
}

/// The whole number that a mean is of, if the mean comes back with the same bits.
#[allow(clippy::cast_possible_truncation)] // within 2^60 by the comparison before it
pub(super) fn sum_of(mean: f64, samples: u32, factor: f64) -> Option<i64> {
    if samples == 0 || samples > SAMPLES_MAX {
        return None;
    }
    let sum = (mean * f64::from(samples) * factor).round();
    // NaN does not fit either.
    let fits = sum.abs() < (1i64 << 53) as f64;
    (fits && mean_of(sum as i64, samples, factor).to_bits() == mean.to_bits()).then_some(sum as i64)
}

pub(super) fn mean_of(sum: i64, samples: u32, factor: f64) -> f64 {
    sum as f64 / factor / f64::from(samples)
}

/// The values of a point; a counter's four times.
pub(super) fn values(point: Point) -> [f64; 4] {
    match point {
        Point::Counter(value) => [value; 4],
        Point::Gauge { last, min, max, mean } => [last, min, max, mean],
    }
}

/// One series, opened: what is in it and where its columns begin.
struct Opened<'b> {
    form: u8,
    bitmap: Option<&'b [u8]>,
    count: usize,
    rest: &'b [u8],
}

fn open(bytes: &[u8], rows: usize) -> Option<Opened<'_>> {
    let (head, rest) = bytes.split_first()?;
    let form = head >> 1;
    if head & 1 == 0 {
        return Some(Opened { form, bitmap: None, count: rows, rest });
    }
    let bitmap = rest.get(..rows.div_ceil(8))?;
    let count = (0..rows).filter(|row| has(bitmap, *row)).count();
    Some(Opened { form, bitmap: Some(bitmap), count, rest: &rest[bitmap.len()..] })
}

fn has(bitmap: &[u8], row: usize) -> bool {
    bitmap[row / 8] >> (row % 8) & 1 == 1
}

/// Hands one value of every row that has the series to `take`, with the number of the row. Only the columns that it takes
/// are read.
pub(super) fn each_value(bytes: &[u8], samples: &[i64], which: Which, take: &mut dyn FnMut(usize, f64)) -> Option<()> {
    let (values, bitmap) = read_values(bytes, samples, which)?;
    rows_of(samples.len(), bitmap).zip(values.floats()).for_each(|(row, value)| take(row, value));
    Some(())
}

/// The values of the rows that have the series, and the rows that do not.
pub(super) fn values_of(bytes: &[u8], samples: &[i64], which: Which) -> Option<(Values, Vec<usize>)> {
    let (values, bitmap) = read_values(bytes, samples, which)?;
    let absent = bitmap.map(|bitmap| (0..samples.len()).filter(|row| !has(bitmap, *row)).collect());
    Some((values, absent.unwrap_or_default()))
}

fn rows_of(rows: usize, bitmap: Option<&[u8]>) -> impl Iterator<Item = usize> {
    (0..rows).filter(move |row| bitmap.is_none_or(|bitmap| has(bitmap, *row)))
}

/// A value of each row that has the series, and the rows that have it if not all do.
fn read_values<'b>(bytes: &'b [u8], samples: &[i64], which: Which) -> Option<(Values, Option<&'b [u8]>)> {
    let mut series = open(bytes, samples.len())?;
    let values = match (series.form, which) {
        (ONE, _) | (FOUR, Which::Last) => column::read(&mut series.rest, series.count)?,
        (FOUR, _) => {
            let before = if which == Which::Min {
                1
            } else if which == Which::Max {
                2
            } else {
                3
            };
            for _ in 0..before {
                column::read(&mut series.rest, series.count)?;
            }
            column::read(&mut series.rest, series.count)?
        }
        (NEAR, _) => {
            let of_rows: Vec<i64> = rows_of(samples.len(), series.bitmap).map(|row| samples[row]).collect();
            read_near(&mut series.rest, series.count, &of_rows, which)?
        }
        _ => return None,
    };
    Some((values, series.bitmap))
}

fn read_near(bytes: &mut &[u8], count: usize, samples: &[i64], which: Which) -> Option<Values> {
    let mut last = column::read_wholes(bytes, count)?;
    let factor = last.factor;
    if which == Which::Last {
        return Some(Values::Whole(last.values, factor));
    }
    add(&mut last.values, &column::read_wholes(bytes, count)?, 1);
    if which == Which::Max {
        return Some(Values::Whole(last.values, factor));
    }
    add(&mut last.values, &column::read_wholes(bytes, count)?, -1);
    if which == Which::Min {
        return Some(Values::Whole(last.values, factor));
    }
    let sums = column::read_wholes(bytes, count)?;
    let sum = |at: usize| sums.values[at].wrapping_add(samples[at].wrapping_mul(last.values[at]));
    let mut means: Vec<f64> =
        (0..count).map(|at| mean_of(sum(at), u32::try_from(samples[at]).unwrap_or(0), factor)).collect();
    sums.exceptions.iter().for_each(|(at, bits)| means[*at] = f64::from_bits(*bits));
    Some(Values::Any(means))
}

fn add(values: &mut [i64], more: &Ints, sign: i64) {
    values.iter_mut().zip(&more.values).for_each(|(value, more)| *value = value.wrapping_add(sign.wrapping_mul(*more)));
}

/// All cells of a series, for sealing.
pub(super) fn cells(bytes: &[u8], samples: &[i64], gauge: bool) -> Option<Vec<Option<Point>>> {
    let mut columns = [const { Vec::new() }; 4];
    let all = [Which::Last, Which::Min, Which::Max, Which::Mean];
    for (which, column) in all.into_iter().zip(&mut columns).take(if gauge { 4 } else { 1 }) {
        each_value(bytes, samples, which, &mut |row, value| column.push((row, value)))?;
    }
    let mut cells = vec![None; samples.len()];
    for (n, (row, last)) in columns[0].iter().enumerate() {
        let of = |column: usize| columns[column].get(n).map(|(_, value)| *value);
        cells[*row] = Some(match gauge {
            true => Point::Gauge { last: *last, min: of(1)?, max: of(2)?, mean: of(3)? },
            false => Point::Counter(*last),
        });
    }
    Some(cells)
}
