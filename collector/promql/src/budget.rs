//! What one query may cost, and how it is stopped.

use std::cell::Cell;

use crate::{EvalError, Interrupted};

/// Bounds of one query.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most samples read from the source (default 50 million, as in Prometheus).
    pub samples_max: u64,
    /// Most values held at once, in groups, matches and the answer (default 20 million: 160 MB).
    pub values_max: u64,
    /// Most steps of a range (default 11 000, as in Prometheus).
    pub steps_max: u64,
    /// Most steps of a subquery (default 1 million).
    pub subquery_steps_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { samples_max: 50_000_000, values_max: 20_000_000, steps_max: 11_000, subquery_steps_max: 1_000_000 }
    }
}

/// Between two looks at whether the query should stop, so much work is done: some milliseconds.
const WORK_PER_LOOK: u64 = 1_000_000;

/// Counts what a query costs.
pub(crate) struct Budget<'q> {
    pub(crate) limits: Limits,
    interrupted: &'q dyn Fn() -> Option<Interrupted>,
    samples: Cell<u64>,
    values: Cell<u64>,
    work: Cell<u64>,
    series: Cell<u64>,
}

impl<'q> Budget<'q> {
    pub(crate) fn new(limits: Limits, interrupted: &'q dyn Fn() -> Option<Interrupted>) -> Self {
        let zero = || Cell::new(0);
        Self { limits, interrupted, samples: zero(), values: zero(), work: zero(), series: zero() }
    }

    /// Samples read so far.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.get()
    }

    /// Series read so far.
    pub(crate) fn series(&self) -> u64 {
        self.series.get()
    }

    /// A series with so many samples came from the source.
    pub(crate) fn read(&self, samples: usize) -> Result<(), EvalError> {
        self.series.set(self.series.get() + 1);
        self.samples.set(self.samples.get() + samples as u64);
        if self.samples.get() > self.limits.samples_max {
            return Err(EvalError::TooManySamples(self.limits.samples_max));
        }
        self.work(samples + 1000) // finding and merging a series costs about as much as that
    }

    /// So many values are kept until the query ends.
    pub(crate) fn hold(&self, values: usize) -> Result<(), EvalError> {
        self.values.set(self.values.get() + values as u64);
        if self.values.get() > self.limits.values_max {
            return Err(EvalError::TooManyValues(self.limits.values_max));
        }
        self.work(values)
    }

    /// So much was computed; looks now and then whether to stop.
    pub(crate) fn work(&self, amount: usize) -> Result<(), EvalError> {
        let work = self.work.get() + amount as u64;
        if work < WORK_PER_LOOK {
            self.work.set(work);
            return Ok(());
        }
        self.work.set(0);
        match (self.interrupted)() {
            Some(why) => Err(EvalError::Interrupted(why)),
            None => Ok(()),
        }
    }
}
