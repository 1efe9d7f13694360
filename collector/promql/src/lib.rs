//! PromQL: text in, answers out, over any [`Source`] of series.
//!
//! Pure: no I/O, no clock, no randomness; the caller brings series, the moment, and when to stop.
//! A query is parsed into a typed plan ([`parse`]) and evaluated ([`evaluate`]) series by series: each
//! becomes a column of one value per step as it arrives, flows through functions and into groups, and
//! is forgotten. Only what an operator has to see at once (one side of a match, groups, the answer)
//! is held, and counted against [`Limits`].
//!
//! The meaning is that of Prometheus 3: ranges and the lookback are open on the left.
#![forbid(unsafe_code)]

mod budget;
mod eval;
mod labels;
mod matcher;
mod moment;
mod plan;
mod source;

pub use budget::Limits;
pub use eval::{Answer, Point, Span, Value, evaluate};
pub use labels::{Label, Labels, NAME};
pub use matcher::{Matcher, Test, all_hold, whole};
pub use moment::{duration_ms, moment_ms};
pub use plan::{ParseError, Query, parse, parse_selector};
pub use source::{Fold, Make, Memory, STALE, Source, Take, TakeMade, Wanted};

/// Who stopped a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// Whoever asked has gone.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// What it asks for cannot be computed of these series.
    #[error("{0}")]
    Execution(String),
    /// It is of a kind that has no answer over a range: a text, or a range itself.
    #[error("invalid expression type \"{0}\" for range query, must be Scalar or instant Vector")]
    NotOverRange(&'static str),
    /// The range is finer than allowed.
    #[error(
        "exceeded maximum resolution of {max} points per timeseries (asked for {steps}): try a longer step or a shorter range"
    )]
    TooManySteps {
        /// Asked for.
        steps: u64,
        /// Allowed.
        max: u64,
    },
    /// It reads too much.
    #[error("query reads more than {0} samples: narrow it down by labels or time")]
    TooManySamples(u64),
    /// It holds too much.
    #[error("query holds more than {0} values at once: narrow it down, aggregate it, or use a longer step")]
    TooManyValues(u64),
    /// It was stopped.
    #[error("{}", match .0 { Interrupted::Cancelled => "query was canceled", Interrupted::TimedOut => "query timed out" })]
    Interrupted(Interrupted),
    /// The series could not be read.
    #[error("cannot read series: {0}")]
    Source(String),
}
