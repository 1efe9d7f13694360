//! Functions of the samples in a window.

use std::collections::BTreeMap;

use super::column::{ABSENT, Clash, Series, each};
use super::number::{Mean, Spread, Sum, count, quantile, seconds};
use super::rise::Rise;
use super::window::{Needs, Reach, Samples, Windows};
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::budget::Budget;
use crate::labels::Labels;
use crate::plan::{Matrix, RangeFn, Scalar};
use crate::source::{Fold, TakeMade};

/// Work that is counted together: threads that make columns at once count in one place.
const WORK_TOGETHER: usize = 4096;

/// What a function sees at one step; at least one sample.
struct Window<'w> {
    at: &'w [i64],
    values: &'w [f64],
    /// The moment of evaluation; not the window's end if it is shifted.
    step: i64,
    parameters: [f64; 2],
}

/// A function with what it is to be evaluated of.
struct Over<'o> {
    function: RangeFn,
    fold: Fold,
    of: &'o Matrix,
    reach: Reach,
    /// By step.
    parameters: &'o [Vec<f64>],
}

impl<'o> Over<'o> {
    /// The function of samples that the source has, which may stand for stretches.
    fn new(function: RangeFn, of: &'o Matrix, reach: Reach, parameters: &'o [Vec<f64>]) -> Self {
        let fold = match function {
            RangeFn::MinOverTime => Fold::Min,
            RangeFn::MaxOverTime => Fold::Max,
            RangeFn::SumOverTime => Fold::Sum,
            // How many there were is the sum of how many each stands for.
            RangeFn::CountOverTime => return Self::counting(of, reach, parameters),
            _ => Fold::Last,
        };
        Self { function, fold, of, reach, parameters }
    }

    fn counting(of: &'o Matrix, reach: Reach, parameters: &'o [Vec<f64>]) -> Self {
        let function = if reach.is_coarse() { RangeFn::SumOverTime } else { RangeFn::CountOverTime };
        Self { function, fold: Fold::Count, of, reach, parameters }
    }

    /// Of what grows with the range, the share that was asked for.
    fn share(&self) -> Option<f64> {
        let is_total = matches!(self.function, RangeFn::Increase | RangeFn::Delta | RangeFn::SumOverTime);
        (is_total && self.reach.range_ms != self.reach.asked_ms)
            .then(|| seconds(self.reach.asked_ms) / seconds(self.reach.range_ms))
    }
}

/// How many samples a function needs of a window.
fn needs(function: RangeFn) -> Needs {
    match function {
        RangeFn::Rate
        | RangeFn::Increase
        | RangeFn::Delta
        | RangeFn::Irate
        | RangeFn::Idelta
        | RangeFn::Deriv
        | RangeFn::PredictLinear
        | RangeFn::DoubleExponentialSmoothing
        | RangeFn::Resets
        | RangeFn::Changes
        | RangeFn::StdvarOverTime
        | RangeFn::StddevOverTime => Needs::Two,
        RangeFn::AvgOverTime
        | RangeFn::SumOverTime
        | RangeFn::CountOverTime
        | RangeFn::LastOverTime
        | RangeFn::FirstOverTime
        | RangeFn::PresentOverTime
        | RangeFn::MinOverTime
        | RangeFn::MaxOverTime
        | RangeFn::QuantileOverTime
        | RangeFn::MadOverTime => Needs::One,
    }
}

impl Evaluation<'_> {
    pub(super) fn range_function(
        &self,
        function: RangeFn,
        parameters: &[Scalar],
        of: &Matrix,
        grid: Grid,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        let parameters: Vec<Vec<f64>> =
            parameters.iter().map(|parameter| self.scalar(parameter, grid)).collect::<Result<_, _>>()?;
        let keeps_name = function.keeps_name();
        let reach = self.reach(of, needs(function), grid);
        self.renamed(Clash::Refused.or_none(!keeps_name && of.may_clash_without_name()), out, &mut |out| {
            let mut hand_on = |labels, values| {
                let series = Series { labels, values };
                out(if keeps_name { series } else { series.without_name() })
            };
            if function == RangeFn::AvgOverTime && reach.is_coarse() {
                return self.mean_of_stretches(of, reach, grid, &mut hand_on);
            }
            self.columns(&Over::new(function, of, reach, &parameters), grid, &mut hand_on)
        })
    }

    /// What was in all stretches by how many there were: stretches do not weigh alike.
    fn mean_of_stretches(
        &self,
        of: &Matrix,
        reach: Reach,
        grid: Grid,
        take: &mut TakeMade<'_>,
    ) -> Result<(), EvalError> {
        let mut counts: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
        self.columns(&Over::counting(of, reach, &[]), grid, &mut |labels, column| {
            self.budget.hold(column.len())?;
            counts.insert(labels, column);
            Ok(())
        })?;
        self.columns(&Over::new(RangeFn::SumOverTime, of, reach, &[]), grid, &mut |labels, mut column| {
            let Some(counts) = counts.get(&labels) else { return Ok(()) };
            each(&mut column, |n, sum| sum / counts[n]);
            take(labels, column)
        })
    }

    /// Hands on every series that has a value at any step.
    fn columns(&self, over: &Over<'_>, grid: Grid, take: &mut TakeMade<'_>) -> Result<(), EvalError> {
        let (moments, range_ms, share) = (self.reference(over.of.shift(), grid), over.reach.range_ms, over.share());
        let (budget, rise) = (&self.budget, Rise::of(over.function));
        let make = |samples: Samples<'_>| {
            let column = match rise {
                Some(rise) => {
                    budget.work(grid.count)?;
                    rise.column(samples, moments, range_ms)
                }
                None => over.column(samples, (grid, moments), budget)?,
            };
            let Some(mut column) = column else { return Ok(None) };
            if let Some(share) = share {
                each(&mut column, |_, value| value * share);
            }
            Ok(Some(column))
        };
        self.made(over.of, over.fold, (over.reach, grid), &make, take)
    }
}

impl Over<'_> {
    /// The value of the function at each step; `None` if it has none at any.
    fn column(
        &self,
        samples: Samples<'_>,
        (grid, moments): (Grid, Grid),
        budget: &Budget<'_>,
    ) -> Result<Option<Vec<f64>>, EvalError> {
        let mut column = vec![ABSENT; grid.count];
        let (mut windows, mut any, mut scratch, mut work) = (Windows::default(), false, Vec::new(), 0);
        for (n, slot) in column.iter_mut().enumerate() {
            let within = windows.next(samples.at, moments.at(n), self.reach.range_ms);
            work += 1 + within.len();
            if work >= WORK_TOGETHER {
                budget.work(std::mem::take(&mut work))?;
            }
            if within.is_empty() {
                continue;
            }
            let window = Window {
                at: &samples.at[within.clone()],
                values: &samples.values[within],
                step: grid.at(n),
                parameters: [0, 1].map(|p| self.parameters.get(p).map_or(0.0, |values| values[n])),
            };
            if let Some(value) = apply(self.function, &window, &mut scratch)? {
                *slot = value;
                any = true;
            }
        }
        budget.work(work)?;
        Ok(any.then_some(column))
    }
}

fn apply(function: RangeFn, w: &Window<'_>, scratch: &mut Vec<f64>) -> Result<Option<f64>, EvalError> {
    let values = w.values;
    let (first, last) = (values[0], values[values.len() - 1]);
    Ok(Some(match function {
        // Of many steps together: `Rise`.
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => return Ok(None),
        RangeFn::Irate => return Ok(of_last_two(w, true)),
        RangeFn::Idelta => return Ok(of_last_two(w, false)),
        RangeFn::Deriv => return Ok(regression(w, w.at[0]).map(|(slope, _)| slope)),
        RangeFn::PredictLinear => {
            return Ok(regression(w, w.step).map(|(slope, value)| slope * w.parameters[0] + value));
        }
        RangeFn::DoubleExponentialSmoothing => return smoothed(values, w.parameters),
        RangeFn::Resets => count(values.windows(2).filter(|pair| pair[1] < pair[0]).count()),
        RangeFn::Changes => {
            #[allow(clippy::float_cmp, reason = "a change is any difference")]
            let differ = |a: f64, b: f64| a != b && !(a.is_nan() && b.is_nan());
            count(values.windows(2).filter(|pair| differ(pair[0], pair[1])).count())
        }
        RangeFn::AvgOverTime => values.iter().fold(Mean::default(), |mean, value| mean.add(*value)).mean(),
        RangeFn::SumOverTime => values.iter().fold(Sum::default(), |sum, value| sum.add(*value)).total(),
        RangeFn::CountOverTime => count(values.len()),
        RangeFn::LastOverTime => last,
        RangeFn::FirstOverTime => first,
        RangeFn::PresentOverTime => 1.0,
        // NaN gives way to any number.
        RangeFn::MinOverTime => values.iter().copied().fold(first, |m, v| if v < m || m.is_nan() { v } else { m }),
        RangeFn::MaxOverTime => values.iter().copied().fold(first, |m, v| if v > m || m.is_nan() { v } else { m }),
        RangeFn::QuantileOverTime => {
            scratch.clear();
            scratch.extend(values);
            quantile(w.parameters[0], scratch)
        }
        // As a deviation is. The quantile takes NaN for the least value, which left it out of the middle.
        RangeFn::MadOverTime if values.iter().any(|value| value.is_nan()) => f64::NAN,
        RangeFn::MadOverTime => {
            scratch.clear();
            scratch.extend(values);
            let median = quantile(0.5, scratch);
            scratch.iter_mut().for_each(|value| *value = (*value - median).abs());
            quantile(0.5, scratch)
        }
        RangeFn::StdvarOverTime => values.iter().fold(Spread::default(), |s, v| s.add(*v)).variance(),
        RangeFn::StddevOverTime => values.iter().fold(Spread::default(), |s, v| s.add(*v)).variance().sqrt(),
    }))
}

fn of_last_two(w: &Window<'_>, is_rate: bool) -> Option<f64> {
    let n = w.values.len();
    if n < 2 {
        return None;
    }
    let (before, last) = (w.values[n - 2], w.values[n - 1]);
    let difference = if is_rate && last < before { last } else { last - before };
    Some(if is_rate { difference / seconds(w.at[n - 1] - w.at[n - 2]) } else { difference })
}

/// Slope per second and value at a moment of the line through the samples by least squares.
fn regression(w: &Window<'_>, moment: i64) -> Option<(f64, f64)> {
    if w.values.len() < 2 {
        return None;
    }
    let first = w.values[0];
    #[allow(clippy::float_cmp, reason = "a constant is not fitted: its slope is exactly 0")]
    let is_constant = w.values.iter().all(|value| *value == first);
    if is_constant {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let [mut x, mut y, mut xy, mut xx] = [Sum::default(); 4];
    for (at, value) in w.at.iter().zip(w.values) {
        let t = seconds(at - moment);
        x = x.add(t);
        y = y.add(*value);
        xy = xy.add(t * value);
        xx = xx.add(t * t);
    }
    let [x, y, xy, xx] = [x, y, xy, xx].map(|sum| sum.sum + sum.lost);
    let n = count(w.values.len());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Some((slope, y / n - slope * x / n))
}

/// Holt's double exponential smoothing.
fn smoothed(values: &[f64], [smoothing, trend_factor]: [f64; 2]) -> Result<Option<f64>, EvalError> {
    for (name, factor) in [("smoothing", smoothing), ("trend", trend_factor)] {
        if factor <= 0.0 || factor >= 1.0 {
            let text = format!("invalid {name} factor. Expected: 0 < {name} factor < 1, got: {factor}");
            return Err(EvalError::Execution(text));
        }
    }
    let [first, second, ..] = values else { return Ok(None) };
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (n, value) in values.iter().enumerate().skip(1) {
        if n > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + trend);
    }
    Ok(Some(level))
}
