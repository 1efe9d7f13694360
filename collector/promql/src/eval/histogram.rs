//! Quantiles of classic histograms: series of cumulative counts by upper bound (`le`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::column::{ABSENT, Series, is_absent};
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::labels::{Grouping, Labels};
use crate::plan::{Scalar, Vector};

/// The label of a bucket's upper bound.
const BOUND: &str = "le";
/// Counts that differ by less than this share are the same, as in Prometheus: sums of rates are not exact.
const SMALL_DELTA: f64 = 1e-12;

#[derive(Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

impl Evaluation<'_> {
    pub(super) fn histogram_quantile(
        &self,
        share: &Scalar,
        of: &Vector,
        grid: Grid,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        let shares = self.scalar(share, grid)?;
        let rest = Grouping::Without(vec![Arc::from(BOUND)]);
        let mut histograms: BTreeMap<Labels, Vec<(f64, Vec<f64>)>> = BTreeMap::new();
        self.vector(of, grid, &mut |series| {
            let Some(bound) = bound(series.labels.get(BOUND)) else { return Ok(()) };
            self.budget.hold(grid.count)?;
            histograms.entry(rest.key(&series.labels)).or_default().push((bound, series.values));
            Ok(())
        })?;
        for (labels, columns) in histograms {
            self.budget.work(columns.len() * grid.count)?;
            let mut buckets = Vec::with_capacity(columns.len());
            let values = shares.iter().enumerate().map(|(n, share)| {
                buckets.clear();
                let present = columns.iter().filter(|(_, values)| !is_absent(values[n]));
                buckets.extend(present.map(|(bound, values)| Bucket { bound: *bound, count: values[n] }));
                if buckets.is_empty() { ABSENT } else { quantile(*share, &mut buckets) }
            });
            let values = values.collect();
            out(Series { labels, values })?;
        }
        Ok(())
    }
}

/// A bound as Go reads it.
fn bound(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn quantile(share: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if share > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    // Of several with one bound the counts add up.
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if buckets.len() < 2 || observations == 0.0 {
        return f64::NAN;
    }
    let mut rank = share * observations;
    let found = buckets[..last].partition_point(|bucket| bucket.count.partial_cmp(&rank).is_none_or(|o| o.is_lt()));
    if found == last {
        return buckets[last - 1].bound;
    }
    if found == 0 && buckets[0].bound <= 0.0 {
        return buckets[0].bound;
    }
    let (mut start, mut count) = (0.0, buckets[found].count);
    if found > 0 {
        start = buckets[found - 1].bound;
        count -= buckets[found - 1].count;
        rank -= buckets[found - 1].count;
    }
    start + (buckets[found].bound - start) * (rank / count)
}

/// Counts may not fall from bound to bound; where they do, or differ by next to nothing, the one before counts.
fn make_monotonic(buckets: &mut [Bucket]) {
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let (greater, lesser) = (bucket.count.abs(), before.abs());
        let is_close = (bucket.count - before).abs() < SMALL_DELTA * (greater + lesser);
        if bucket.count < before || is_close {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
}
