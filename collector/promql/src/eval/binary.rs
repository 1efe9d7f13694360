//! Operators between vectors: matching of series by their labels, step by step.

use std::collections::BTreeMap;

use super::column::{ABSENT, Merge, Series, each, is_absent};
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::labels::{Grouping, Labels};
use crate::plan::{Binary, Cardinality, Op, SetOp, Vector};

/// The value of an operator at one step, absent where a comparison filters it away. `kept` is what a
/// comparison leaves.
fn value(op: Op, is_bool: bool, left: f64, right: f64, kept: f64) -> f64 {
    let result = op.apply(left, right);
    if !op.is_comparison() || is_bool {
        result
    } else if result == 0.0 {
        ABSENT
    } else {
        kept
    }
}

/// Applies an operator between a series and a number for each step.
pub(super) fn with_scalar(op: Op, is_bool: bool, values: &mut [f64], numbers: &[f64], scalar_is_left: bool) {
    if scalar_is_left {
        each(values, |n, v| value(op, is_bool, numbers[n], v, v));
    } else {
        each(values, |n, v| value(op, is_bool, v, numbers[n], v));
    }
}

/// The series of one side that share a signature, where there may be one at a step.
struct One {
    /// With their columns.
    series: Vec<Series>,
    /// Steps at which a series of the other side was matched already.
    matched: Vec<bool>,
}

impl Evaluation<'_> {
    pub(super) fn binary(&self, binary: &Binary, grid: Grid, out: Out<'_>) -> Result<(), EvalError> {
        let no_labels = Vec::new();
        let (many_is_left, include, is_one_to_one) = match &binary.cardinality {
            Cardinality::OneToOne => (true, &no_labels, true),
            Cardinality::ManyToOne(include) => (true, include, false),
            Cardinality::OneToMany(include) => (false, include, false),
        };
        let (many, one) = if many_is_left { (&binary.left, &binary.right) } else { (&binary.right, &binary.left) };
        let (mut ones, doubled) = self.ones(binary, one, grid)?;
        let keeps_name = binary.op.keeps_name(binary.is_bool);
        let mut any_many = vec![false; grid.count];
        let mut merged = Merge::default();
        self.vector(many, grid, &mut |series| {
            self.budget.work(grid.count)?;
            any_many.iter_mut().zip(&series.values).for_each(|(any, value)| *any |= !is_absent(*value));
            let Some(ones) = ones.get_mut(&binary.on.key(&series.labels)) else { return Ok(()) };
            let named = if keeps_name { series.labels.clone() } else { series.labels.without_name() };
            let matched_labels = if is_one_to_one { of_match(&binary.on, &named) } else { named };
            for one in &ones.series {
                let mut values = series.values.clone();
                let mut any = false;
                for (n, slot) in values.iter_mut().enumerate() {
                    let (v, other) = (*slot, one.values[n]);
                    if is_absent(v) || is_absent(other) {
                        *slot = ABSENT;
                        continue;
                    }
                    let (left, right) = if many_is_left { (v, other) } else { (other, v) };
                    *slot = value(binary.op, binary.is_bool, left, right, left);
                    if is_absent(*slot) {
                        continue;
                    }
                    any = true;
                    if is_one_to_one {
                        if let Some((_, text)) = doubled.as_ref().filter(|(steps, _)| steps[n]) {
                            return Err(EvalError::Execution(text.clone()));
                        }
                        if ones.matched[n] {
                            return Err(EvalError::Execution(format!(
                                "multiple matches for labels: many-to-one matching must be explicit \
                                 (group_left/group_right): {}",
                                binary.on.key(&series.labels)
                            )));
                        }
                        ones.matched[n] = true;
                    }
                }
                if any {
                    let labels = include
                        .iter()
                        .fold(matched_labels.clone(), |labels, name| labels.with(name, one.labels.get(name)));
                    merged.add(Series { labels, values }, &self.budget)?;
                }
            }
            Ok(())
        })?;
        if let Some((steps, text)) = doubled
            && steps.iter().zip(&any_many).any(|(doubled, any)| *doubled && *any)
        {
            return Err(EvalError::Execution(text));
        }
        merged.hand_on(out)
    }

    /// The side of which at each step one series may match, by signature; and where there were two.
    #[allow(clippy::type_complexity, reason = "used once")]
    fn ones(
        &self,
        binary: &Binary,
        one: &Vector,
        grid: Grid,
    ) -> Result<(BTreeMap<Labels, One>, Option<(Vec<bool>, String)>), EvalError> {
        let mut ones: BTreeMap<Labels, One> = BTreeMap::new();
        let mut doubled: Option<(Vec<bool>, String)> = None;
        self.vector(one, grid, &mut |series| {
            self.budget.hold(grid.count + grid.count / 8)?;
            let signature = binary.on.key(&series.labels);
            let known =
                ones.entry(signature).or_insert_with(|| One { series: Vec::new(), matched: vec![false; grid.count] });
            for other in &known.series {
                self.budget.work(grid.count)?;
                for n in 0..grid.count {
                    if is_absent(series.values[n]) || is_absent(other.values[n]) {
                        continue;
                    }
                    let (steps, _) = doubled.get_or_insert_with(|| {
                        let side =
                            if matches!(binary.cardinality, Cardinality::OneToMany(_)) { "left" } else { "right" };
                        let text = format!(
                            "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                             [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                            binary.on.key(&series.labels),
                            other.labels,
                            series.labels
                        );
                        (vec![false; grid.count], text)
                    });
                    steps[n] = true;
                }
            }
            known.series.push(series);
            Ok(())
        })?;
        Ok((ones, doubled))
    }

    pub(super) fn set(
        &self,
        op: SetOp,
        on: &Grouping,
        left: &Vector,
        right: &Vector,
        grid: Grid,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        // Of each signature, at which steps the side that decides has any value.
        let mut present: BTreeMap<Labels, Vec<bool>> = BTreeMap::new();
        let mut see = |series: &Series| -> Result<(), EvalError> {
            let key = on.key(&series.labels);
            if !present.contains_key(&key) {
                self.budget.hold(grid.count / 8 + 1)?;
            }
            let steps = present.entry(key).or_insert_with(|| vec![false; grid.count]);
            steps.iter_mut().zip(&series.values).for_each(|(any, value)| *any |= !is_absent(*value));
            Ok(())
        };
        if op == SetOp::Or {
            let mut merged = Merge::default();
            self.vector(left, grid, &mut |series| {
                see(&series)?;
                merged.add(series, &self.budget)
            })?;
            self.vector(right, grid, &mut |mut series| {
                let there = present.get(&on.key(&series.labels));
                keep_where(&mut series, there, false);
                merged.add(series, &self.budget)
            })?;
            return merged.hand_on(out);
        }
        self.vector(right, grid, &mut |series| see(&series))?;
        self.vector(left, grid, &mut |mut series| {
            let there = present.get(&on.key(&series.labels));
            keep_where(&mut series, there, op == SetOp::And);
            out(series)
        })
    }
}

/// Keeps the values at the steps where the other side has one, or where it has none.
fn keep_where(series: &mut Series, present: Option<&Vec<bool>>, wanted: bool) {
    each(&mut series.values, |n, value| {
        let there = present.is_some_and(|steps| steps[n]);
        if there == wanted { value } else { ABSENT }
    });
}

/// The labels of a match of one with one: those it was matched on.
fn of_match(on: &Grouping, labels: &Labels) -> Labels {
    match on {
        Grouping::By(_) => on.key(labels),
        Grouping::Without(names) => labels.filter(|name| !names.iter().any(|n| &**n == name)),
    }
}
