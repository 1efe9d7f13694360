//! Runs of numbers with the time that they span: what is there, and what is missing between.

use std::collections::BTreeMap;

/// Numbers without a hole, both ends included, and when the first and the last were put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) wall_from_ms: i64,
    pub(super) wall_to_ms: i64,
}

impl Run {
    pub(super) fn one(seq: u64, wall_ms: i64) -> Self {
        Self { first: seq, last: seq, wall_from_ms: wall_ms, wall_to_ms: wall_ms }
    }
}

/// Appends a number that is higher than all before.
pub(super) fn push(runs: &mut Vec<Run>, seq: u64, wall_ms: i64) {
    match runs.last_mut() {
        Some(run) if run.last + 1 == seq => {
            run.last = seq;
            run.wall_to_ms = wall_ms;
        }
        _ => runs.push(Run::one(seq, wall_ms)),
    }
}

/// Numbers that are accounted for, gathered in any order.
#[derive(Debug, Default)]
pub(super) struct Known {
    runs: BTreeMap<u64, Run>,
}

impl Known {
    /// Counts a run; it may overlap what is known.
    pub(super) fn add(&mut self, run: Run) {
        let mut run = run;
        while let Some((first, other)) = self.runs.range(..=run.last.saturating_add(1)).next_back() {
            if other.last.saturating_add(1) < run.first {
                break;
            }
            let (first, other) = (*first, *other);
            self.runs.remove(&first);
            if other.first < run.first {
                (run.first, run.wall_from_ms) = (other.first, other.wall_from_ms);
            }
            if other.last > run.last {
                (run.last, run.wall_to_ms) = (other.last, other.wall_to_ms);
            }
        }
        self.runs.insert(run.first, run);
    }

    /// What is missing between `after` and `before`, both left out.
    pub(super) fn holes(&self, after: u64, before: u64) -> Vec<Run> {
        let mut holes = Vec::new();
        let (mut next, mut wall) = (after + 1, None);
        for run in self.runs.values() {
            if run.first > next && next < before {
                let wall_from_ms = wall.unwrap_or(run.wall_from_ms);
                let last = (run.first - 1).min(before - 1);
                holes.push(Run { first: next, last, wall_from_ms, wall_to_ms: run.wall_from_ms });
            }
            if run.last >= next {
                next = run.last + 1;
            }
            wall = Some(run.wall_to_ms);
        }
        if next < before {
            let wall = wall.unwrap_or_default();
            holes.push(Run { first: next, last: before - 1, wall_from_ms: wall, wall_to_ms: wall });
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set of numbers, which is what the runs stand for.
        #[test]
        fn holes_are_what_a_plain_set_lacks(
            runs in prop::collection::vec((1u64..40, 0u64..5), 0..15), after in 0u64..20, before in 1u64..50,
        ) {
            let (mut known, mut set) = (Known::default(), BTreeSet::new());
            for (first, more) in runs {
                known.add(Run { first, last: first + more, wall_from_ms: 0, wall_to_ms: 0 });
                set.extend(first..=first + more);
            }
            let holes: Vec<_> = known.holes(after, before).iter().flat_map(|run| run.first..=run.last).collect();
            let lacking: Vec<_> = (after + 1..before).filter(|n| !set.contains(n)).collect();
            prop_assert_eq!(holes, lacking);
        }
    }
}
