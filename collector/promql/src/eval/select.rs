//! Selectors: the last sample before each step, unless it is older than the lookback or stale.

use super::column::{ABSENT, Series, is_absent};
use super::{Evaluation, Grid, LOOKBACK_MS, Out};
use crate::EvalError;
use crate::plan::Selector;
use crate::source::{Fold, Wanted};

impl Evaluation<'_> {
    /// Series of a selector; `pick` makes the value of the sample's time and value.
    pub(super) fn select(
        &self,
        selector: &Selector,
        grid: Grid,
        pick: impl Fn(i64, f64) -> f64 + Sync,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        let moments = self.reference(selector.shift, grid);
        let resolution_ms = self.source.resolution_ms(&selector.matchers, moments.at(0) - LOOKBACK_MS + 1);
        let lookback_ms = LOOKBACK_MS.max(2 * resolution_ms);
        let wanted = Wanted {
            matchers: &selector.matchers,
            from_ms: moments.at(0) - lookback_ms + 1,
            to_ms: moments.last(),
            is_range: false,
            fold: Fold::Last,
            resolution_ms,
            only: selector.only.as_deref(),
        };
        let budget = &self.budget;
        let make = |at: &[i64], values: &[f64]| {
            budget.read(at.len())?;
            budget.work(grid.count)?;
            let mut column = vec![ABSENT; grid.count];
            let mut next = 0;
            let mut any = false;
            for (n, slot) in column.iter_mut().enumerate() {
                let moment = moments.at(n);
                while at.get(next).is_some_and(|at| *at <= moment) {
                    next += 1;
                }
                // A stale sample is absent by its bits.
                if next > 0 && at[next - 1] > moment - lookback_ms && !is_absent(values[next - 1]) {
                    *slot = pick(at[next - 1], values[next - 1]);
                    any = true;
                }
            }
            Ok(any.then_some(column))
        };
        self.source.made(&wanted, &make, &mut |labels, values| out(Series { labels, values }))
    }
}
