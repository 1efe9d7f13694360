//! Where series come from: what the caller implements.

use std::sync::Arc;

use crate::EvalError;
use crate::labels::Labels;
use crate::matcher::{Matcher, all_hold};

/// What a query wants of the source.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'q> {
    /// All have to hold.
    pub matchers: &'q [Matcher],
    /// The first moment whose samples count.
    pub from_ms: i64,
    /// The last.
    pub to_ms: i64,
    /// Whether every sample of the span counts, as under `rate`; otherwise only the last before each step.
    pub is_range: bool,
    /// What becomes of the samples of a window.
    pub fold: Fold,
    /// What [`Source::resolution_ms`] said; 0 is samples as they came.
    pub resolution_ms: i64,
    /// The labels that are looked at, if not all are: others may be left out, so that series have labels alike.
    pub only: Option<&'q [Arc<str>]>,
}

impl<'q> Wanted<'q> {
    /// Every sample of a span, as it came, with all labels.
    #[must_use]
    pub fn all_of(matchers: &'q [Matcher], (from_ms, to_ms): (i64, i64)) -> Self {
        Self { matchers, from_ms, to_ms, is_range: true, fold: Fold::Last, resolution_ms: 0, only: None }
    }
}

/// What becomes of the samples of a window. A source whose samples stand for stretches of time hands over the least, the
/// greatest, the sum or the number of what was in each, if that is what will be made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// They are taken as they are.
    Last,
    /// Their least.
    Min,
    /// Their greatest.
    Max,
    /// Their sum.
    Sum,
    /// How many there are.
    Count,
}

/// Takes one series: its labels, and its samples in the order of their times, each time once.
/// A value with [`STALE`]'s bits says that the series ended there.
pub type Take<'t> = dyn FnMut(Labels, &[i64], &[f64]) -> Result<(), EvalError> + 't;

/// Makes a column of values of one series' samples, or nothing: in several threads at once, if the source likes.
pub type Make<'m> = dyn Fn(&[i64], &[f64]) -> Result<Option<Vec<f64>>, EvalError> + Sync + 'm;

/// Takes what was made of one series, with its labels.
pub type TakeMade<'t> = dyn FnMut(Labels, Vec<f64>) -> Result<(), EvalError> + 't;

/// The bits by which a sample says that its series has ended, as in Prometheus.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Series by matchers.
pub trait Source {
    /// Hands over every series that fits, one after the other and, with all its labels, each set once. Nothing
    /// of a series is kept here when `take` returns, so a source that goes host by host needs no
    /// more memory than one host's series take.
    ///
    /// # Errors
    /// What `take` returned, at once; or that the source cannot be read.
    fn series(&self, wanted: &Wanted<'_>, take: &mut Take<'_>) -> Result<(), EvalError>;

    /// Hands over what `make` makes of every series that fits, in the order of [`Self::series`]. Here one is made after the
    /// other; a source that makes several at once may be ahead of `take`.
    ///
    /// # Errors
    /// What `make` or `take` returned, whichever was first; or that the source cannot be read.
    fn made(&self, wanted: &Wanted<'_>, make: &Make<'_>, take: &mut TakeMade<'_>) -> Result<(), EvalError> {
        self.series(wanted, &mut |labels, at, values| make(at, values)?.map_or(Ok(()), |made| take(labels, made)))
    }

    /// The finest that is kept of the series that matchers mean from a moment on, as the distance of samples that stand for
    /// stretches of time; 0 where samples are kept as they came. What is asked for is widened so that coarse samples are
    /// found in it.
    fn resolution_ms(&self, _matchers: &[Matcher], _from_ms: i64) -> i64 {
        0
    }
}

/// Series held in memory, for tests and measurements.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    series: Vec<(Labels, Vec<i64>, Vec<f64>)>,
}

impl Memory {
    /// Adds a series: its samples in the order of their times.
    pub fn add(&mut self, labels: Labels, samples: impl IntoIterator<Item = (i64, f64)>) {
        let (at, values) = samples.into_iter().unzip();
        self.series.push((labels, at, values));
    }
}

impl Source for Memory {
    fn series(&self, wanted: &Wanted<'_>, take: &mut Take<'_>) -> Result<(), EvalError> {
        for (labels, at, values) in self.series.iter().filter(|(labels, ..)| all_hold(wanted.matchers, labels)) {
            let from = at.partition_point(|at| *at < wanted.from_ms);
            let to = at.partition_point(|at| *at <= wanted.to_ms);
            if from < to {
                let labels = wanted.only.map_or_else(|| labels.clone(), |only| labels.filter(|name| is_in(only, name)));
                take(labels, &at[from..to], &values[from..to])?;
            }
        }
        Ok(())
    }
}

fn is_in(only: &[Arc<str>], name: &str) -> bool {
    only.iter().any(|known| &**known == name)
}
