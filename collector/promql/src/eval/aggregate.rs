//! Aggregations: series flow into their groups and are forgotten.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::column::{ABSENT, Merge, Series, is_absent};
use super::number::{Mean, Sum, quantile};
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::labels::{Grouping, Labels};
use crate::plan::{Aggregation, Vector};

/// What a group keeps of the values that it has seen, for each step.
enum Group {
    Sum(Sums),
    Avg(Vec<Option<Mean>>),
    Count(Vec<f64>),
    Least(Vec<f64>),
    Greatest(Vec<f64>),
    Any(Vec<f64>),
    Spread(Vec<Option<Welford>>),
    All(Vec<Vec<f64>>),
}

/// A sum at each step, in two columns: whole columns are added without a branch.
struct Sums {
    /// Absent where nothing was added.
    sums: Vec<f64>,
    lost: Vec<f64>,
}

impl Sums {
    fn add(&mut self, values: &[f64]) {
        for ((sum, lost), value) in self.sums.iter_mut().zip(&mut self.lost).zip(values) {
            let next = Sum { sum: *sum, lost: *lost }.add(*value);
            let (is_first, is_none) = (is_absent(*sum), is_absent(*value));
            *lost = if is_first | is_none { *lost } else { next.lost };
            *sum = if is_none {
                *sum
            } else if is_first {
                *value
            } else {
                next.sum
            };
        }
    }

    fn totals(self) -> Vec<f64> {
        let total = |(sum, lost)| if is_absent(sum) { ABSENT } else { Sum { sum, lost }.total() };
        self.sums.into_iter().zip(self.lost).map(total).collect()
    }
}

/// Count, mean and squared distances, not compensated: as Prometheus aggregates.
#[derive(Clone, Copy)]
struct Welford {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Welford {
    fn first(value: f64) -> Self {
        // What is infinite or NaN has no spread that could be told.
        Self { count: 1.0, mean: value, squares: if value.is_finite() { 0.0 } else { f64::NAN } }
    }

    fn add(mut self, value: f64) -> Self {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
        self
    }
}

impl Group {
    fn new(op: &Aggregation, steps: usize) -> Self {
        match op {
            Aggregation::Sum => Self::Sum(Sums { sums: vec![ABSENT; steps], lost: vec![0.0; steps] }),
            Aggregation::Avg => Self::Avg(vec![None; steps]),
            Aggregation::Count => Self::Count(vec![ABSENT; steps]),
            Aggregation::Min => Self::Least(vec![ABSENT; steps]),
            Aggregation::Max => Self::Greatest(vec![ABSENT; steps]),
            Aggregation::Stddev | Aggregation::Stdvar => Self::Spread(vec![None; steps]),
            Aggregation::Quantile(_) => Self::All(vec![Vec::new(); steps]),
            Aggregation::Group | Aggregation::TopK(_) | Aggregation::BottomK(_) | Aggregation::CountValues(_) => {
                Self::Any(vec![ABSENT; steps])
            }
        }
    }

    /// Values that one step of it keeps, about.
    fn width(&self) -> usize {
        match self {
            Self::Count(_) | Self::Least(_) | Self::Greatest(_) | Self::Any(_) => 1,
            Self::Sum(_) => 2,
            Self::All(_) => 3,
            Self::Spread(_) => 4,
            Self::Avg(_) => 5,
        }
    }

    fn add(&mut self, values: &[f64]) {
        let present = values.iter().copied().enumerate().filter(|(_, value)| !is_absent(*value));
        match self {
            Self::Sum(sums) => sums.add(values),
            Self::Avg(means) => {
                present.for_each(|(n, value)| means[n] = Some(means[n].unwrap_or_default().add(value)));
            }
            Self::Count(counts) => present.for_each(|(n, _)| {
                counts[n] = if is_absent(counts[n]) { 1.0 } else { counts[n] + 1.0 };
            }),
            // An absent value is NaN too, and NaN gives way to any number.
            Self::Least(least) => present.for_each(|(n, value)| {
                if least[n] > value || least[n].is_nan() {
                    least[n] = value;
                }
            }),
            Self::Greatest(most) => present.for_each(|(n, value)| {
                if most[n] < value || most[n].is_nan() {
                    most[n] = value;
                }
            }),
            Self::Any(any) => present.for_each(|(n, _)| any[n] = 1.0),
            Self::Spread(spreads) => present.for_each(|(n, value)| {
                spreads[n] = Some(spreads[n].map_or_else(|| Welford::first(value), |spread| spread.add(value)));
            }),
            Self::All(all) => present.for_each(|(n, value)| all[n].push(value)),
        }
    }

    fn values(self, is_stddev: bool, shares: &[f64]) -> Vec<f64> {
        match self {
            Self::Count(values) | Self::Least(values) | Self::Greatest(values) | Self::Any(values) => values,
            Self::Sum(sums) => sums.totals(),
            Self::Avg(means) => means.into_iter().map(|mean| mean.map_or(ABSENT, Mean::mean)).collect(),
            Self::Spread(spreads) => {
                let variance = |spread: Welford| spread.squares / spread.count;
                let of = |spread| if is_stddev { variance(spread).sqrt() } else { variance(spread) };
                spreads.into_iter().map(|spread| spread.map_or(ABSENT, of)).collect()
            }
            Self::All(all) => {
                let of = |(mut values, share): (Vec<f64>, &f64)| {
                    if values.is_empty() { ABSENT } else { quantile(*share, &mut values) }
                };
                all.into_iter().zip(shares).map(of).collect()
            }
        }
    }
}

impl Evaluation<'_> {
    pub(super) fn aggregate(
        &self,
        op: &Aggregation,
        by: &Grouping,
        of: &Vector,
        grid: Grid,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        let shares = match op {
            Aggregation::CountValues(label) => return self.count_values(label, by, of, grid, out),
            Aggregation::Quantile(share) => self.scalar(share, grid)?,
            _ => Vec::new(),
        };
        let mut groups: BTreeMap<Labels, Group> = BTreeMap::new();
        self.vector(of, grid, &mut |series| {
            self.budget.work(grid.count)?;
            let group = match groups.entry(by.key(&series.labels)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => {
                    let group = Group::new(op, grid.count);
                    self.budget.hold(group.width() * grid.count)?;
                    free.insert(group)
                }
            };
            if let Group::All(_) = group {
                self.budget.hold(grid.count)?;
            }
            group.add(&series.values);
            Ok(())
        })?;
        let is_stddev = matches!(op, Aggregation::Stddev);
        groups
            .into_iter()
            .try_for_each(|(labels, group)| out(Series { labels, values: group.values(is_stddev, &shares) }))
    }

    /// A series for each value that occurs in a group.
    fn count_values(&self, label: &str, by: &Grouping, of: &Vector, grid: Grid, out: Out<'_>) -> Result<(), EvalError> {
        let by = match by {
            Grouping::By(names) => Grouping::By(names.iter().cloned().chain([Arc::from(label)]).collect()),
            Grouping::Without(names) => Grouping::Without(names.clone()),
        };
        let mut counts: BTreeMap<Labels, BTreeMap<usize, f64>> = BTreeMap::new();
        self.vector(of, grid, &mut |series| {
            let mut last: Option<(u64, Labels)> = None;
            for (n, value) in series.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                let key = match last.take() {
                    Some((bits, key)) if bits == value.to_bits() => key,
                    _ => by.key(&series.labels.with(label, &as_text(*value))),
                };
                last = Some((value.to_bits(), key.clone()));
                let steps = counts.entry(key).or_default();
                if !steps.contains_key(&n) {
                    self.budget.hold(4)?;
                }
                *steps.entry(n).or_default() += 1.0;
            }
            Ok(())
        })?;
        let mut merged = Merge::default();
        for (labels, steps) in counts {
            for (n, value) in steps {
                merged.add_one(labels.clone(), (n, grid.count), value, &self.budget)?;
            }
        }
        merged.hand_on(out)
    }
}

/// A value as Go prints it without an exponent.
fn as_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_go_does() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e21, "1000000000000000000000"),
            (1e-7, "0.0000001"),
            (-0.0, "-0"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(as_text(value), text);
        }
    }
}
