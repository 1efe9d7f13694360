//! How far a series rose within the window of each step: `rate`, `increase` and `delta`, of many steps together.
//!
//! In: the samples of a series, and the windows. Out: a column. Of a window its first and its last sample count, and where
//! the series fell between them, so it costs the same however many samples it holds. Some steps are looked up before any
//! is divided: divisions take longest, and go side by side where nothing stands between them.

use std::ops::Range;

use super::Grid;
use super::column::ABSENT;
use super::number::{SECOND, count, milliseconds, seconds};
use super::window::{Samples, Windows};
use crate::plan::RangeFn;

/// How much more than the mean distance of samples a gap at the window's edge may be, to be taken
/// for a sample that lies just outside: Prometheus' factor.
const EXTRAPOLATION_THRESHOLD: f64 = 1.1;
/// Steps that are looked up before they are divided.
const TOGETHER: usize = 32;

/// What of a rise is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rise {
    /// It is not extrapolated to below zero, and where it falls, it began anew.
    is_counter: bool,
    is_per_second: bool,
}

impl Rise {
    /// `None` of a function of anything else.
    pub(super) fn of(function: RangeFn) -> Option<Self> {
        let (is_counter, is_per_second) = match function {
            RangeFn::Rate => (true, true),
            RangeFn::Increase => (true, false),
            RangeFn::Delta => (false, false),
            _ => return None,
        };
        Some(Self { is_counter, is_per_second })
    }

    /// The rise of a series at each step; `None` if it has none at any.
    pub(super) fn column(self, samples: Samples<'_>, moments: Grid, range_ms: i64) -> Option<Vec<f64>> {
        let falls = if self.is_counter { falls_of(samples.values) } else { Vec::new() };
        let mut column = vec![ABSENT; moments.count];
        let (mut windows, mut ends, mut any) = (Windows::default(), Ends::default(), false);
        for (chunk, values) in column.chunks_mut(TOGETHER).enumerate() {
            for n in 0..values.len() {
                let end = moments.at(chunk * TOGETHER + n);
                let within = windows.next(samples.at, end, range_ms);
                any |= within.len() > 1;
                ends.look_up(n, samples, &falls, within, (end - range_ms, end));
            }
            ends.divide(self, seconds(range_ms), values);
        }
        any.then_some(column)
    }
}

/// The places of samples that are less than the one before them.
fn falls_of(values: &[f64]) -> Vec<usize> {
    let fell = |pair: &[f64]| pair[1] < pair[0];
    // Most never fall, which is seen soonest if nobody asks where.
    if !values.windows(2).fold(false, |any, pair| any | fell(pair)) {
        return Vec::new();
    }
    values.windows(2).zip(1..).filter(|(pair, _)| fell(pair)).map(|(_, at)| at).collect()
}

/// What was looked up of the windows of some steps.
#[derive(Default)]
struct Ends {
    /// Samples but one; 0 where there are too few.
    distances: [f64; TOGETHER],
    /// From the first sample to the last.
    covered: [f64; TOGETHER],
    /// From the window's begin to the first sample.
    before: [f64; TOGETHER],
    /// From the last sample to the window's end.
    after: [f64; TOGETHER],
    first: [f64; TOGETHER],
    difference: [f64; TOGETHER],
}

impl Ends {
    fn look_up(
        &mut self,
        n: usize,
        Samples { at, values }: Samples<'_>,
        falls: &[usize],
        within: Range<usize>,
        (start, end): (i64, i64),
    ) {
        if within.len() < 2 {
            self.distances[n] = 0.0;
            return;
        }
        let (first, last) = (within.start, within.end - 1);
        self.distances[n] = count(last - first);
        self.covered[n] = milliseconds(at[last] - at[first]);
        self.before[n] = milliseconds(at[first] - start);
        self.after[n] = milliseconds(end - at[last]);
        self.first[n] = values[first];
        self.difference[n] = values[last] - values[first];
        if !falls.is_empty() {
            let from = falls.partition_point(|at| *at <= first);
            let to = falls.partition_point(|at| *at <= last);
            self.difference[n] += falls[from..to].iter().map(|at| values[at - 1]).sum::<f64>();
        }
    }

    /// The difference over each window, as if samples lay on its edges: extrapolated to them if the next sample may lie
    /// just beyond, else by half of the samples' mean distance.
    fn divide(&self, rise: Rise, range: f64, values: &mut [f64]) {
        for (n, value) in values.iter_mut().take(TOGETHER).enumerate() {
            let (first, difference) = (self.first[n], self.difference[n]);
            let covered = self.covered[n] / SECOND;
            let distance = covered / self.distances[n];
            let reach = |gap: f64| if gap >= distance * EXTRAPOLATION_THRESHOLD { distance / 2.0 } else { gap };
            let before = reach(self.before[n] / SECOND);
            let after = reach(self.after[n] / SECOND);
            let since_zero = covered * (first / difference);
            let is_bounded = rise.is_counter & (difference > 0.0) & (first >= 0.0);
            let before = if is_bounded { before.min(since_zero) } else { before };
            let whole = difference * ((covered + before + after) / covered);
            let rise = if rise.is_per_second { whole / range } else { whole };
            *value = if self.distances[n] == 0.0 { ABSENT } else { rise };
        }
    }
}
