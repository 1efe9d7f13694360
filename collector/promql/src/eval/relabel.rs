//! Labels written anew: `label_replace`, `label_join`.

use super::column::Merge;
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::labels::Labels;
use crate::plan::{Relabel, Vector};

impl Evaluation<'_> {
    pub(super) fn relabel(&self, how: &Relabel, of: &Vector, grid: Grid, out: Out<'_>) -> Result<(), EvalError> {
        let mut merged = Merge::default();
        self.vector(of, grid, &mut |mut series| {
            series.labels = relabelled(how, &series.labels);
            merged.add(series, &self.budget)
        })?;
        merged.hand_on(out)
    }
}

fn relabelled(how: &Relabel, labels: &Labels) -> Labels {
    match how {
        Relabel::Replace { to, replacement, from, pattern } => match pattern.captures(labels.get(from)) {
            None => labels.clone(),
            Some(found) => {
                let mut value = String::new();
                found.expand(replacement, &mut value);
                labels.with(to, &value)
            }
        },
        Relabel::Join { to, separator, from } => {
            let values: Vec<&str> = from.iter().map(|label| labels.get(label)).collect();
            labels.with(to, &values.join(separator))
        }
    }
}
