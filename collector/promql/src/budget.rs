//! What one query may cost, and how it is stopped.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// Is asked now and then whether to stop.
pub(crate) type Interrupt<'q> = dyn Fn() -> Option<Interrupted> + Sync + 'q;

/// Between two looks at whether the query should stop, so much work is done: some milliseconds.
const WORK_PER_LOOK: u64 = 1_000_000;

/// Counts what a query costs, in all threads that work on it. What one of them counts while another looks may go lost: then
/// the next look is some milliseconds later.
pub(crate) struct Budget<'q> {
    pub(crate) limits: Limits,
    interrupted: &'q Interrupt<'q>,
    samples: AtomicU64,
    values: AtomicU64,
    work: AtomicU64,
    series: AtomicU64,
}

impl<'q> Budget<'q> {
    pub(crate) fn new(limits: Limits, interrupted: &'q Interrupt<'q>) -> Self {
        let zero = || AtomicU64::new(0);
        Self { limits, interrupted, samples: zero(), values: zero(), work: zero(), series: zero() }
    }

    /// Samples read so far.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Series read so far.
    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    /// A series with so many samples came from the source.
    pub(crate) fn read(&self, samples: usize) -> Result<(), EvalError> {
        add(&self.series, 1);
        if add(&self.samples, samples) > self.limits.samples_max {
            return Err(EvalError::TooManySamples(self.limits.samples_max));
        }
        self.work(samples + 1000) // finding and merging a series costs about as much as that
    }

    /// So many values are kept until the query ends.
    pub(crate) fn hold(&self, values: usize) -> Result<(), EvalError> {
        if add(&self.values, values) > self.limits.values_max {
            return Err(EvalError::TooManyValues(self.limits.values_max));
        }
        self.work(values)
    }

    /// So much was computed; looks now and then whether to stop.
    pub(crate) fn work(&self, amount: usize) -> Result<(), EvalError> {
        if add(&self.work, amount) < WORK_PER_LOOK {
            return Ok(());
        }
        self.work.store(0, Ordering::Relaxed);
        match (self.interrupted)() {
            Some(why) => Err(EvalError::Interrupted(why)),
            None => Ok(()),
        }
    }
}

/// Adds, and says what it comes to.
fn add(count: &AtomicU64, more: usize) -> u64 {
    count.fetch_add(more as u64, Ordering::Relaxed) + more as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: u64 = 4;

    /// What each of some threads comes to at once.
    fn together<T: Send>(of: impl Fn() -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(&of)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn threads_share_what_may_be_read() {
        let limits = Limits { samples_max: 10_000, ..Limits::default() };
        let budget = Budget::new(limits, &|| None);
        let read: usize = together(|| (0..3_000).filter(|_| budget.read(1).is_ok()).count()).into_iter().sum();
        assert_eq!((read, budget.samples(), budget.series()), (10_000, 12_000, 12_000));
    }

    #[test]
    fn each_thread_stops_soon() {
        let budget = Budget::new(Limits::default(), &|| Some(Interrupted::Cancelled));
        // Each look of another may put off its own once.
        let said = together(|| (0..THREADS * WORK_PER_LOOK / 1_000).find_map(|_| budget.work(1_000).err()));
        let stopped = Some(EvalError::Interrupted(Interrupted::Cancelled));
        assert!(said.iter().all(|of_thread| *of_thread == stopped), "{said:?}");
    }
}
