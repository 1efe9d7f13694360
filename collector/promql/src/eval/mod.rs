//! Evaluation: a plan over a grid of steps, series by series.
//!
//! Every node hands its series on as columns: one value per step, [`ABSENT`] where there is none. A
//! node hands on each set of labels once.

mod aggregate;
mod binary;
mod column;
mod histogram;
mod map;
mod number;
mod range;
mod relabel;
mod rise;
mod select;
mod topk;
mod window;

use crate::EvalError;
use crate::budget::{Budget, Interrupt, Limits};
use crate::labels::Labels;
use crate::plan::{Aggregation, At, Plan, Query, Scalar, Shift, SortOrder, Vector};
use crate::source::Source;
use column::{ABSENT, Clash, Merge, Series, is_absent};
use window::Needs;

/// When a query is evaluated: once, or at every step from the start to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// At one moment.
    Instant {
        /// When, in milliseconds since 1970.
        at_ms: i64,
    },
    /// At `start_ms`, and every `step_ms` until `end_ms`.
    Range {
        /// The first moment.
        start_ms: i64,
        /// The last that may be.
        end_ms: i64,
        /// Between two; more than 0.
        step_ms: i64,
    },
}

/// A value and its time.
pub type Point = (i64, f64);

/// What a query comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string literal.
    Text(String),
    /// One number, at an instant.
    Scalar(f64),
    /// Series with one value each, at an instant.
    Vector(Vec<(Labels, f64)>),
    /// Series with all their values.
    Matrix(Vec<(Labels, Vec<Point>)>),
}

/// An answer with what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// Samples that were read.
    pub samples: u64,
    /// Series that were read; one that is asked for twice counts twice.
    pub series: u64,
}

/// The lookback of Prometheus: an older sample is no value any more.
const LOOKBACK_MS: i64 = 300_000;
/// Step of a subquery that names none: Prometheus' default evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;
/// Times beyond this (some 30 million years) are refused, so that sums of them stay far from overflow.
const TIME_MS_MAX: i64 = 1_000_000_000_000_000_000;

/// Evenly spaced moments.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grid {
    start: i64,
    step: i64,
    count: usize,
}

impl Grid {
    fn at(&self, n: usize) -> i64 {
        self.start + self.step * i64::try_from(n).unwrap_or(i64::MAX)
    }

    fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }
}

/// Evaluates a query. `interrupted` is asked every few milliseconds of work whether to stop.
///
/// # Errors
/// If a limit is hit, the query is stopped, the source fails, or what is asked for cannot be computed
/// of the series that are there.
pub fn evaluate(
    query: &Query,
    span: Span,
    source: &dyn Source,
    limits: Limits,
    interrupted: &Interrupt<'_>,
) -> Result<Answer, EvalError> {
    let (start, end, step) = match span {
        Span::Instant { at_ms } => (at_ms, at_ms, 1),
        Span::Range { start_ms, end_ms, step_ms } => (start_ms, end_ms, step_ms),
    };
    let is_sane = start.abs() <= TIME_MS_MAX && end.abs() <= TIME_MS_MAX;
    if step <= 0 || end < start || !is_sane {
        return Err(EvalError::Execution("the range ends before it begins, or has no step".to_owned()));
    }
    let steps = u64::try_from((end - start) / step).unwrap_or(u64::MAX).saturating_add(1);
    if steps > limits.steps_max {
        return Err(EvalError::TooManySteps { steps, max: limits.steps_max });
    }
    let grid = Grid { start, step, count: usize::try_from(steps).unwrap_or(usize::MAX) };
    let budget = Budget::new(limits, interrupted);
    let evaluation = Evaluation { source, budget, start, end };
    let value = match span {
        Span::Instant { .. } => evaluation.instant(&query.root, grid)?,
        Span::Range { .. } => evaluation.range_of(&query.root, grid)?,
    };
    Ok(Answer { value, samples: evaluation.budget.samples(), series: evaluation.budget.series() })
}

/// One evaluation of one query.
struct Evaluation<'q> {
    source: &'q dyn Source,
    budget: Budget<'q>,
    /// Of the whole query, for `@ start()` and `@ end()`.
    start: i64,
    end: i64,
}

/// Where a node hands its series on.
type Out<'o> = &'o mut dyn FnMut(Series) -> Result<(), EvalError>;
/// Sees where a series has values.
type See<'s> = dyn FnMut(&[f64]) + 's;

impl Evaluation<'_> {
    fn instant(&self, root: &Plan, grid: Grid) -> Result<Value, EvalError> {
        Ok(match root {
            Plan::Text(text) => Value::Text(text.clone()),
            Plan::Scalar(scalar) => Value::Scalar(self.scalar(scalar, grid)?[0]),
            Plan::Matrix(matrix) => {
                let mut all = Vec::new();
                let reach = self.reach(matrix, Needs::One, grid);
                self.windows(matrix, reach, grid, &mut |labels, samples| {
                    let window = samples.within(self.reference(matrix.shift(), grid).at(0), reach.range_ms);
                    self.budget.hold(2 * window.len())?;
                    if !window.is_empty() {
                        all.push((labels, window));
                    }
                    Ok(())
                })?;
                all.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Matrix(all)
            }
            Plan::Vector(vector) => {
                let mut all = Vec::new();
                self.vector(vector, grid, &mut |series| {
                    if let Some(value) = series.values.first().copied().filter(|value| !is_absent(*value)) {
                        self.budget.hold(1)?;
                        all.push((series.labels, value));
                    }
                    Ok(())
                })?;
                all.sort_by(|a, b| a.0.cmp(&b.0));
                order(vector, &mut all);
                Value::Vector(all)
            }
        })
    }

    fn range_of(&self, root: &Plan, grid: Grid) -> Result<Value, EvalError> {
        Ok(match root {
            Plan::Text(_) => return Err(EvalError::NotOverRange("string")),
            Plan::Matrix(_) => return Err(EvalError::NotOverRange("range vector")),
            Plan::Scalar(scalar) => {
                let values = self.scalar(scalar, grid)?;
                let points = values.into_iter().enumerate().map(|(n, value)| (grid.at(n), value)).collect();
                Value::Matrix(vec![(Labels::none(), points)])
            }
            Plan::Vector(vector) => {
                let mut all = Vec::new();
                self.vector(vector, grid, &mut |series| {
                    let present = series.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
                    let points: Vec<Point> = present.map(|(n, value)| (grid.at(n), *value)).collect();
                    self.budget.hold(2 * points.len())?;
                    if !points.is_empty() {
                        all.push((series.labels, points));
                    }
                    Ok(())
                })?;
                all.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Matrix(all)
            }
        })
    }

    /// The moments that a selector or subquery looks at, for those of a grid.
    fn reference(&self, shift: Shift, grid: Grid) -> Grid {
        let fixed = match shift.at {
            None => return Grid { start: grid.start - shift.offset_ms, ..grid },
            Some(At::Time(at)) => at,
            Some(At::Start) => self.start,
            Some(At::End) => self.end,
        };
        Grid { start: fixed - shift.offset_ms, step: 0, count: grid.count }
    }

    fn scalar(&self, scalar: &Scalar, grid: Grid) -> Result<Vec<f64>, EvalError> {
        Ok(match scalar {
            Scalar::Number(number) => vec![*number; grid.count],
            Scalar::Time => (0..grid.count).map(|n| number::seconds(grid.at(n))).collect(),
            Scalar::Negated(of) => self.scalar(of, grid)?.into_iter().map(|value| -value).collect(),
            Scalar::Binary { op, left, right } => {
                let (left, right) = (self.scalar(left, grid)?, self.scalar(right, grid)?);
                left.into_iter().zip(right).map(|(left, right)| op.apply(left, right)).collect()
            }
            Scalar::OfVector(of) => {
                let mut values = vec![ABSENT; grid.count];
                let mut several = vec![false; grid.count];
                self.vector(of, grid, &mut |series| {
                    for ((value, several), new) in values.iter_mut().zip(&mut several).zip(series.values) {
                        if !is_absent(new) {
                            *several |= !is_absent(*value);
                            *value = new;
                        }
                    }
                    Ok(())
                })?;
                let one = |(value, several)| if several || is_absent(value) { f64::NAN } else { value };
                values.into_iter().zip(several).map(one).collect()
            }
        })
    }

    fn vector(&self, vector: &Vector, grid: Grid, out: Out<'_>) -> Result<(), EvalError> {
        match vector {
            Vector::Select(selector) => self.select(selector, grid, |_, value| value, out),
            Vector::SampleTimes(selector) => {
                self.renamed(Clash::PerStep.or_none(!selector.has_one_name()), out, &mut |out| {
                    self.select(selector, grid, |at, _| number::seconds(at), &mut |series| out(series.without_name()))
                })
            }
            Vector::OfScalar(scalar) => out(Series { labels: Labels::none(), values: self.scalar(scalar, grid)? }),
            Vector::Range { function, parameters, of } => self.range_function(*function, parameters, of, grid, out),
            Vector::Map { function, parameters, of } => self.map(*function, parameters, of, grid, out),
            Vector::Negated(of) => self.renamed(Clash::Refused.or_none(of.may_clash_without_name()), out, &mut |out| {
                self.vector(of, grid, &mut |mut series| {
                    column::each(&mut series.values, |_, value| -value);
                    out(series.without_name())
                })
            }),
            Vector::WithScalar { op, is_bool, vector, scalar, scalar_is_left } => {
                let numbers = self.scalar(scalar, grid)?;
                let keeps_name = op.keeps_name(*is_bool);
                self.renamed(Clash::PerStep.or_none(!keeps_name && vector.may_clash_without_name()), out, &mut |out| {
                    self.vector(vector, grid, &mut |mut series| {
                        binary::with_scalar(*op, *is_bool, &mut series.values, &numbers, *scalar_is_left);
                        out(if keeps_name { series } else { series.without_name() })
                    })
                })
            }
            Vector::Binary(binary) => self.binary(binary, grid, out),
            Vector::Set { op, on, left, right } => self.set(*op, on, left, right, grid, out),
            Vector::Aggregate { op: Aggregation::TopK(k), by, of } => self.topk(true, k, by, of, grid, out),
            Vector::Aggregate { op: Aggregation::BottomK(k), by, of } => self.topk(false, k, by, of, grid, out),
            Vector::Aggregate { op, by, of } => self.aggregate(op, by, of, grid, out),
            Vector::Absent { labels, of } => self.absent(labels, grid, out, &mut |take| {
                self.vector(of, grid, &mut |series| {
                    take(&series.values);
                    Ok(())
                })
            }),
            Vector::AbsentOverTime { labels, of } => self.absent(labels, grid, out, &mut |take| {
                self.present(of, grid, &mut |values| {
                    take(values);
                    Ok(())
                })
            }),
            Vector::Relabel { how, of } => self.relabel(how, of, grid, out),
            Vector::Sort { of, .. } => self.vector(of, grid, out),
            Vector::HistogramQuantile { quantile, of } => self.histogram_quantile(quantile, of, grid, out),
        }
    }

    /// One series with 1 wherever none of another vector has a value.
    fn absent(
        &self,
        labels: &Labels,
        grid: Grid,
        out: Out<'_>,
        of: &mut dyn FnMut(&mut See<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut values = vec![1.0; grid.count];
        of(&mut |present| {
            for (value, there) in values.iter_mut().zip(present) {
                if !is_absent(*there) {
                    *value = ABSENT;
                }
            }
        })?;
        out(Series { labels: labels.clone(), values })
    }

    /// Series that lost their names.
    fn renamed(
        &self,
        clash: Clash,
        out: Out<'_>,
        of: &mut dyn FnMut(Out<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut merged = Merge::default();
        match clash {
            Clash::None => return of(out),
            Clash::PerStep => of(&mut |series| merged.add(series, &self.budget))?,
            Clash::Refused => of(&mut |series| merged.add_only(series, &self.budget))?,
        }
        merged.hand_on(out)
    }
}

/// The order of an instant's series, where the query says one.
fn order(vector: &Vector, all: &mut [(Labels, f64)]) {
    let by_value = |all: &mut [(Labels, f64)], descending: bool| {
        all.sort_by(|(_, a), (_, b)| match (a.is_nan(), b.is_nan()) {
            (false, false) if descending => b.total_cmp(a),
            (false, false) => a.total_cmp(b),
            (a, b) => a.cmp(&b), // NaN comes last in both orders
        });
    };
    match vector {
        Vector::Sort { order, .. } => by_value(all, *order == SortOrder::Descending),
        Vector::Aggregate { op: Aggregation::TopK(_), .. } => by_value(all, true),
        Vector::Aggregate { op: Aggregation::BottomK(_), .. } => by_value(all, false),
        _ => {}
    }
}
