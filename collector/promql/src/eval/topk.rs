//! The greatest or least few of each group, at each step; only they are kept.

use std::collections::BTreeMap;

use super::column::{Merge, is_absent};
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::labels::{Grouping, Labels};
use crate::plan::{Scalar, Vector};

/// A candidate at one step.
struct Candidate {
    value: f64,
    labels: Labels,
}

impl Candidate {
    /// Whether it goes before another: by value, NaN last, and where those are equal by labels, so
    /// that the answer does not depend on the order in which series come.
    fn beats(&self, other: &Self, greatest: bool) -> bool {
        match (self.value.is_nan(), other.value.is_nan()) {
            (false, true) => return true,
            (true, false) => return false,
            (false, false) if self.value > other.value => return greatest,
            (false, false) if self.value < other.value => return !greatest,
            _ => {}
        }
        self.labels < other.labels
    }
}

impl Evaluation<'_> {
    pub(super) fn topk(
        &self,
        greatest: bool,
        k: &Scalar,
        by: &Grouping,
        of: &Vector,
        grid: Grid,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        let k: Vec<usize> = self.scalar(k, grid)?.into_iter().map(how_many).collect::<Result<_, _>>()?;
        if k.iter().all(|k| *k == 0) {
            return Ok(());
        }
        // Of each group and step, the best so far, best first.
        let mut groups: BTreeMap<Labels, Vec<Vec<Candidate>>> = BTreeMap::new();
        self.vector(of, grid, &mut |series| {
            self.budget.work(grid.count)?;
            let steps =
                groups.entry(by.key(&series.labels)).or_insert_with(|| (0..grid.count).map(|_| Vec::new()).collect());
            for (n, value) in series.values.iter().copied().enumerate().filter(|(_, value)| !is_absent(*value)) {
                let (best, k) = (&mut steps[n], k[n]);
                let candidate = Candidate { value, labels: series.labels.clone() };
                if best.len() >= k {
                    match best.last() {
                        Some(worst) if candidate.beats(worst, greatest) => drop(best.pop()),
                        _ => continue,
                    }
                } else {
                    self.budget.hold(3)?;
                }
                let place = best.partition_point(|other| other.beats(&candidate, greatest));
                best.insert(place, candidate);
            }
            Ok(())
        })?;
        let mut merged = Merge::default();
        for steps in groups.into_values() {
            for (n, best) in steps.into_iter().enumerate() {
                for candidate in best {
                    merged.add_one(candidate.labels, (n, grid.count), candidate.value, &self.budget)?;
                }
            }
        }
        merged.hand_on(out)
    }
}

/// How many are asked for: nothing below one.
fn how_many(k: f64) -> Result<usize, EvalError> {
    /// Beyond it a number is no count of anything, as in Prometheus.
    const K_MAX: f64 = 9_223_372_036_854_774_784.0;
    if k.is_nan() || k.abs() > K_MAX {
        return Err(EvalError::Execution(format!("Scalar value {k} overflows int64")));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the whole part of a positive number")]
    let k = if k < 1.0 { 0 } else { k as usize };
    Ok(k)
}
