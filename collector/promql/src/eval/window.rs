//! Ranges: all samples of a series over a stretch of time, of a selector or of a subquery.

use std::ops::Range;

use super::column::{ABSENT, is_absent};
use super::{Evaluation, Grid, Point, SUBQUERY_STEP_MS};
use crate::EvalError;
use crate::labels::Labels;
use crate::plan::{Matrix, Selector, Vector};
use crate::source::{Fold, TakeMade, Wanted};

/// Samples of one series without its stale markers, in the order of their times.
#[derive(Clone, Copy)]
pub(super) struct Samples<'s> {
    pub(super) at: &'s [i64],
    pub(super) values: &'s [f64],
}

impl Samples<'_> {
    /// Those of the window that ends at a moment: open on the left.
    pub(super) fn within(&self, end: i64, range_ms: i64) -> Vec<Point> {
        let all = self.at.iter().copied().zip(self.values.iter().copied());
        all.filter(|(at, _)| *at > end - range_ms && *at <= end).collect()
    }
}

type TakeSamples<'t> = &'t mut dyn FnMut(Labels, Samples<'_>) -> Result<(), EvalError>;
/// Makes a column of the samples of a series, or nothing; of several at once.
pub(super) type MakeColumn<'m> = dyn Fn(Samples<'_>) -> Result<Option<Vec<f64>>, EvalError> + Sync + 'm;

/// How far back the windows of a range go, and what they find there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) asked_ms: i64,
    /// Widened where samples lie so far apart that what was asked for may hold too few.
    pub(super) range_ms: i64,
    pub(super) resolution_ms: i64,
}

impl Reach {
    /// Whether samples stand for stretches of time.
    pub(super) fn is_coarse(self) -> bool {
        self.resolution_ms > 0
    }
}

/// How many samples of a window something is made of, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    One,
    Two,
}

impl Evaluation<'_> {
    /// How far back the windows of a matrix go.
    pub(super) fn reach(&self, matrix: &Matrix, needs: Needs, grid: Grid) -> Reach {
        let asked_ms = matrix.range_ms();
        let Matrix::Select { selector, .. } = matrix else {
            return Reach { asked_ms, range_ms: asked_ms, resolution_ms: 0 };
        };
        let from = self.reference(selector.shift, grid).at(0) - asked_ms + 1;
        let resolution_ms = self.source.resolution_ms(&selector.matchers, from);
        let least_ms = match needs {
            Needs::One => resolution_ms,
            Needs::Two => resolution_ms * 5 / 2,
        };
        Reach { asked_ms, range_ms: asked_ms.max(least_ms), resolution_ms }
    }

    /// Every series with the samples that any step's window holds.
    pub(super) fn windows(
        &self,
        matrix: &Matrix,
        reach: Reach,
        grid: Grid,
        take: TakeSamples<'_>,
    ) -> Result<(), EvalError> {
        let selector = match matrix {
            Matrix::Select { selector, .. } => selector,
            Matrix::Subquery { of, range_ms, step_ms, shift } => {
                return self.subquery(of, (*range_ms, *step_ms), self.reference(*shift, grid), take);
            }
        };
        self.source.series(&self.wanted(selector, Fold::Last, reach, grid), &mut |labels, at, values| {
            self.budget.read(at.len())?;
            alive(at, values, |samples| take(labels, samples))
        })
    }

    /// Every series with what is made of the samples that any step's window holds, if anything is.
    pub(super) fn made(
        &self,
        matrix: &Matrix,
        fold: Fold,
        (reach, grid): (Reach, Grid),
        make: &MakeColumn<'_>,
        take: &mut TakeMade<'_>,
    ) -> Result<(), EvalError> {
        let selector = match matrix {
            Matrix::Select { selector, .. } => selector,
            Matrix::Subquery { of, range_ms, step_ms, shift } => {
                let mut take_made =
                    |labels, samples: Samples<'_>| make(samples)?.map_or(Ok(()), |made| take(labels, made));
                return self.subquery(of, (*range_ms, *step_ms), self.reference(*shift, grid), &mut take_made);
            }
        };
        let budget = &self.budget;
        let make = |at: &[i64], values: &[f64]| {
            budget.read(at.len())?;
            alive(at, values, make)
        };
        self.source.made(&self.wanted(selector, fold, reach, grid), &make, take)
    }

    fn wanted<'s>(&self, selector: &'s Selector, fold: Fold, reach: Reach, grid: Grid) -> Wanted<'s> {
        let moments = self.reference(selector.shift, grid);
        Wanted {
            matchers: &selector.matchers,
            from_ms: moments.at(0) - reach.range_ms + 1,
            to_ms: moments.last(),
            is_range: true,
            fold,
            resolution_ms: reach.resolution_ms,
            only: selector.only.as_deref(),
        }
    }

    /// The series of a subquery, a sample at each of its steps, for windows that end at some moments.
    fn subquery(
        &self,
        of: &Vector,
        (range_ms, step_ms): (i64, Option<i64>),
        moments: Grid,
        take: TakeSamples<'_>,
    ) -> Result<(), EvalError> {
        let inner = self.subquery_grid(moments, range_ms, step_ms.unwrap_or(SUBQUERY_STEP_MS))?;
        if inner.count == 0 {
            return Ok(());
        }
        let (mut at, mut values) = (Vec::new(), Vec::new());
        self.vector(of, inner, &mut |series| {
            at.clear();
            values.clear();
            for (n, value) in series.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                at.push(inner.at(n));
                values.push(*value);
            }
            take(series.labels, Samples { at: &at, values: &values })
        })
    }

    /// The steps of a subquery are multiples of its step, wherever the query begins.
    fn subquery_grid(&self, moments: Grid, range_ms: i64, step: i64) -> Result<Grid, EvalError> {
        let after = moments.at(0) - range_ms;
        let aligned = after / step * step;
        let start = if aligned <= after { aligned + step } else { aligned };
        let steps = if moments.last() < start { 0 } else { (moments.last() - start) / step + 1 };
        let (steps, max) = (u64::try_from(steps).unwrap_or(0), self.budget.limits.subquery_steps_max);
        if steps > max {
            return Err(EvalError::TooManySteps { steps, max });
        }
        Ok(Grid { start, step, count: usize::try_from(steps).unwrap_or(0) })
    }

    /// Of every series, at which steps its window holds any sample.
    pub(super) fn present(
        &self,
        matrix: &Matrix,
        grid: Grid,
        take: &mut dyn FnMut(&[f64]) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let (moments, reach) = (self.reference(matrix.shift(), grid), self.reach(matrix, Needs::One, grid));
        let budget = &self.budget;
        let make = |samples: Samples<'_>| {
            budget.work(grid.count)?;
            let mut column = vec![ABSENT; grid.count];
            let (mut windows, mut any) = (Windows::default(), false);
            for (n, value) in column.iter_mut().enumerate() {
                if !windows.next(samples.at, moments.at(n), reach.range_ms).is_empty() {
                    *value = 1.0;
                    any = true;
                }
            }
            Ok(any.then_some(column))
        };
        self.made(matrix, Fold::Last, (reach, grid), &make, &mut |_, column| take(&column))
    }
}

/// Hands on the samples that are no stale markers.
fn alive<T>(at: &[i64], values: &[f64], take: impl FnOnce(Samples<'_>) -> T) -> T {
    // Mostly none is: looked at without stopping, many go in one step.
    if !values.iter().fold(false, |any, value| any | is_absent(*value)) {
        return take(Samples { at, values });
    }
    let samples = at.iter().zip(values).filter(|(_, value)| !is_absent(**value));
    let (at, values): (Vec<i64>, Vec<f64>) = samples.unzip();
    take(Samples { at: &at, values: &values })
}

/// Walks over the windows of one series, whose ends never go back.
#[derive(Debug, Default)]
pub(super) struct Windows {
    from: usize,
    to: usize,
    /// How far both went with the last step.
    strides: (usize, usize),
}

impl Windows {
    /// Which samples lie in the window that ends at a moment.
    pub(super) fn next(&mut self, at: &[i64], end: i64, range_ms: i64) -> Range<usize> {
        let to = behind(at, end, self.to, self.strides.1);
        let from = behind(at, end - range_ms, self.from, self.strides.0).min(to);
        self.strides = (from - self.from, to - self.to);
        (self.from, self.to) = (from, to);
        from..to
    }
}

/// The first place from `place` on that lies behind a moment. Samples and steps are mostly even: as far on as it was last.
fn behind(at: &[i64], moment: i64, place: usize, stride: usize) -> usize {
    let guess = place + stride;
    let is_beyond = |place: usize| at.get(place).is_none_or(|at| *at > moment);
    if guess <= at.len() && (guess == place || !is_beyond(guess - 1)) && is_beyond(guess) {
        return guess;
    }
    place + at[place..].iter().take_while(|at| **at <= moment).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_found_however_samples_and_steps_lie() {
        // Even and late samples, a gap, a burst, none at all; steps that are shorter, longer and no steps.
        let even: Vec<i64> = (1..=60).map(|n| n * 10_000 + n % 7).collect();
        let gap: Vec<i64> = even.iter().copied().filter(|at| !(200_000..320_000).contains(at)).collect();
        let burst: Vec<i64> = (0..50).map(|n| 250_000 + n).collect();
        for at in [even, gap, burst, vec![300_000], Vec::new()] {
            for (start, step, range_ms) in [
                (0, 60_000, 300_000),
                (-5_000, 1_000, 15_000),
                (10_000, 170_000, 40_000),
                (300_000, 0, 60_000),
                (0, 10_000, 1),
            ] {
                let mut windows = Windows::default();
                for n in 0..90 {
                    let end = start + n * step;
                    let place = |moment: i64| at.iter().filter(|at| **at <= moment).count();
                    let expected = place(end - range_ms)..place(end);
                    assert_eq!(
                        windows.next(&at, end, range_ms),
                        expected,
                        "step {n} of {step} ms in {} samples",
                        at.len()
                    );
                }
            }
        }
    }
}
