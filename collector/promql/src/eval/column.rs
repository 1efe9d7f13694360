//! Columns: a value or none at each step.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Out;
use crate::EvalError;
use crate::budget::Budget;
use crate::labels::Labels;
use crate::source::STALE;

/// No value. The bits are those of a stale marker: a signalling NaN, which no arithmetic makes.
pub(super) const ABSENT: f64 = f64::from_bits(STALE);

pub(super) fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE
}

/// One series over the grid.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) values: Vec<f64>,
}

impl Series {
    pub(super) fn without_name(self) -> Self {
        Self { labels: self.labels.without_name(), values: self.values }
    }
}

/// Sets every value that is there to another, by its step and itself.
pub(super) fn each(values: &mut [f64], of: impl Fn(usize, f64) -> f64) {
    for (n, value) in values.iter_mut().enumerate() {
        if !is_absent(*value) {
            *value = of(n, *value);
        }
    }
}

/// Series by their labels, where several may come to the same ones, at different steps.
#[derive(Default)]
pub(super) struct Merge {
    columns: BTreeMap<Labels, Vec<f64>>,
}

/// What becomes of series that differ in nothing but the name, when they lose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    /// There are none.
    None,
    /// They become one, if they have no values at the same step.
    PerStep,
    /// They are refused.
    Refused,
}

impl Clash {
    /// If there may be any.
    pub(super) fn or_none(self, may_be: bool) -> Self {
        if may_be { self } else { Self::None }
    }
}

fn same_labels<T>(labels: &Labels) -> Result<T, EvalError> {
    Err(EvalError::Execution(format!("vector cannot contain metrics with the same labelset: {labels}")))
}

impl Merge {
    /// Adds a series.
    pub(super) fn add(&mut self, series: Series, budget: &Budget<'_>) -> Result<(), EvalError> {
        match self.columns.entry(series.labels) {
            Entry::Vacant(free) => {
                budget.hold(series.values.len())?;
                free.insert(series.values);
            }
            Entry::Occupied(mut taken) => {
                let labels = taken.key().clone();
                for (value, new) in taken.get_mut().iter_mut().zip(series.values) {
                    if is_absent(new) {
                        continue;
                    }
                    if !is_absent(*value) {
                        return same_labels(&labels);
                    }
                    *value = new;
                }
            }
        }
        Ok(())
    }

    /// Adds a series whose labels no other may have.
    pub(super) fn add_only(&mut self, series: Series, budget: &Budget<'_>) -> Result<(), EvalError> {
        if series.values.iter().all(|value| is_absent(*value)) {
            return Ok(());
        }
        if self.columns.contains_key(&series.labels) {
            return same_labels(&series.labels);
        }
        self.add(series, budget)
    }

    /// Sets one value.
    pub(super) fn add_one(
        &mut self,
        labels: Labels,
        (step, steps): (usize, usize),
        value: f64,
        budget: &Budget<'_>,
    ) -> Result<(), EvalError> {
        let column = match self.columns.entry(labels) {
            Entry::Occupied(taken) => taken.into_mut(),
            Entry::Vacant(free) => {
                budget.hold(steps)?;
                free.insert(vec![ABSENT; steps])
            }
        };
        column[step] = value;
        Ok(())
    }

    /// Hands all on, in the order of their labels.
    pub(super) fn hand_on(self, out: Out<'_>) -> Result<(), EvalError> {
        self.columns.into_iter().try_for_each(|(labels, values)| out(Series { labels, values }))
    }
}
