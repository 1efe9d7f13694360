//! The typed plan of a query: what has to be computed of which series, with nothing left to check.
//!
//! A plan knows no times but those written in the query; the same plan serves an instant and a range.

mod build;
mod call;
mod guard;

use std::sync::Arc;

use crate::labels::{Grouping, Labels};
use crate::matcher::Matcher;

pub use build::{parse, parse_selector};

/// Why a text is no query, or none that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) String);

/// A query that can be evaluated.
#[derive(Debug)]
pub struct Query {
    pub(crate) root: Plan,
}

/// An expression of any type.
#[derive(Debug)]
pub(crate) enum Plan {
    Scalar(Scalar),
    Vector(Vector),
    Matrix(Matrix),
    Text(String),
}

/// The moment of `@`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum At {
    Time(i64),
    Start,
    End,
}

/// Where a selector or subquery looks, from the moment it is evaluated at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shift {
    pub(crate) at: Option<At>,
    pub(crate) offset_ms: i64,
}

/// Series by their labels.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) shift: Shift,
    /// The labels that are looked at, if not all are.
    pub(crate) only: Option<Vec<Arc<str>>>,
}

impl Selector {
    /// Whether all its series have one name, so that they differ without it.
    pub(crate) fn has_one_name(&self) -> bool {
        self.matchers.iter().any(Matcher::names_one_metric)
    }
}

/// One number a step.
#[derive(Debug)]
pub(crate) enum Scalar {
    Number(f64),
    Time,
    OfVector(Box<Vector>),
    Negated(Box<Scalar>),
    Binary { op: Op, left: Box<Scalar>, right: Box<Scalar> },
}

/// Any number of series, each with a value or none at each step.
#[derive(Debug)]
pub(crate) enum Vector {
    Select(Selector),
    /// `timestamp` of a selector: the times of its samples.
    SampleTimes(Selector),
    OfScalar(Box<Scalar>),
    Range {
        function: RangeFn,
        parameters: Vec<Scalar>,
        of: Matrix,
    },
    Map {
        function: MapFn,
        parameters: Vec<Scalar>,
        of: Box<Vector>,
    },
    Negated(Box<Vector>),
    WithScalar {
        op: Op,
        is_bool: bool,
        vector: Box<Vector>,
        scalar: Scalar,
        scalar_is_left: bool,
    },
    Binary(Box<Binary>),
    Set {
        op: SetOp,
        on: Grouping,
        left: Box<Vector>,
        right: Box<Vector>,
    },
    Aggregate {
        op: Aggregation,
        by: Grouping,
        of: Box<Vector>,
    },
    Absent {
        labels: Labels,
        of: Box<Vector>,
    },
    AbsentOverTime {
        labels: Labels,
        of: Matrix,
    },
    Relabel {
        how: Relabel,
        of: Box<Vector>,
    },
    Sort {
        order: SortOrder,
        of: Box<Vector>,
    },
    HistogramQuantile {
        quantile: Scalar,
        of: Box<Vector>,
    },
}

impl Vector {
    /// Says that no other labels of its series are looked at, which spares making them, where it does not tell its series
    /// apart itself.
    pub(crate) fn look_only_at(&mut self, names: &[Arc<str>]) {
        match self {
            Self::Select(selector) => selector.only = Some(names.to_vec()),
            // A mean of coarse samples is put together of two series of the same labels.
            Self::Range { function, of: Matrix::Select { selector, .. }, .. }
                if *function != RangeFn::AvgOverTime && (function.keeps_name() || selector.has_one_name()) =>
            {
                selector.only = Some(names.to_vec());
            }
            Self::Map { of, .. } | Self::Negated(of) if !of.may_clash_without_name() => of.look_only_at(names),
            Self::WithScalar { op, is_bool, vector, .. }
                if op.keeps_name(*is_bool) || !vector.may_clash_without_name() =>
            {
                vector.look_only_at(names);
            }
            _ => {}
        }
    }

    /// Whether two of its series may differ in nothing but the name.
    pub(crate) fn may_clash_without_name(&self) -> bool {
        match self {
            Self::Select(selector) => !selector.has_one_name(),
            Self::Range { function, of, .. } => {
                function.keeps_name() && !matches!(of, Matrix::Select { selector, .. } if selector.has_one_name())
            }
            Self::Sort { of, .. } => of.may_clash_without_name(),
            Self::SampleTimes(_)
            | Self::OfScalar(_)
            | Self::Map { .. }
            | Self::Negated(_)
            | Self::Absent { .. }
            | Self::AbsentOverTime { .. }
            | Self::HistogramQuantile { .. } => false,
            Self::WithScalar { op, is_bool, vector, .. } => op.keeps_name(*is_bool) && vector.may_clash_without_name(),
            Self::Binary(_) | Self::Set { .. } | Self::Aggregate { .. } | Self::Relabel { .. } => true,
        }
    }
}

/// Series with all their samples over a range.
#[derive(Debug)]
pub(crate) enum Matrix {
    Select {
        selector: Selector,
        range_ms: i64,
    },
    /// Without a step it is evaluated every minute, Prometheus' default.
    Subquery {
        of: Box<Vector>,
        range_ms: i64,
        step_ms: Option<i64>,
        shift: Shift,
    },
}

impl Matrix {
    pub(crate) fn range_ms(&self) -> i64 {
        match self {
            Self::Select { range_ms, .. } | Self::Subquery { range_ms, .. } => *range_ms,
        }
    }

    pub(crate) fn shift(&self) -> Shift {
        match self {
            Self::Select { selector, .. } => selector.shift,
            Self::Subquery { shift, .. } => *shift,
        }
    }

    /// Whether two of its series may differ in nothing but the name.
    pub(crate) fn may_clash_without_name(&self) -> bool {
        match self {
            Self::Select { selector, .. } => !selector.has_one_name(),
            Self::Subquery { of, .. } => of.may_clash_without_name(),
        }
    }
}

/// An operator between two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Op {
    pub(crate) fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::NotEqual | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual
        )
    }

    /// A comparison that filters leaves the series what they are.
    pub(crate) fn keeps_name(self, is_bool: bool) -> bool {
        self.is_comparison() && !is_bool
    }

    /// The value of arithmetic; of a comparison 1 or 0.
    pub(crate) fn apply(self, left: f64, right: f64) -> f64 {
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Atan2 => left.atan2(right),
            #[allow(clippy::float_cmp, reason = "this is the comparison that was asked for")]
            Self::Equal => truth(left == right),
            #[allow(clippy::float_cmp, reason = "this is the comparison that was asked for")]
            Self::NotEqual => truth(left != right),
            Self::Less => truth(left < right),
            Self::LessOrEqual => truth(left <= right),
            Self::Greater => truth(left > right),
            Self::GreaterOrEqual => truth(left >= right),
        }
    }
}

/// An operator between two sets of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOp {
    And,
    Or,
    Unless,
}

/// How many series of each side may match.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cardinality {
    OneToOne,
    /// `group_left`: many on the left; these labels are taken from the right.
    ManyToOne(Vec<Arc<str>>),
    /// `group_right`: many on the right; these labels are taken from the left.
    OneToMany(Vec<Arc<str>>),
}

/// An operator between two vectors.
#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) op: Op,
    pub(crate) is_bool: bool,
    pub(crate) on: Grouping,
    pub(crate) cardinality: Cardinality,
    pub(crate) left: Vector,
    pub(crate) right: Vector,
}

/// How series become one per group.
#[derive(Debug)]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK(Scalar),
    BottomK(Scalar),
    Quantile(Scalar),
    CountValues(String),
}

/// A function of the samples in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    SumOverTime,
    CountOverTime,
    LastOverTime,
    FirstOverTime,
    PresentOverTime,
    QuantileOverTime,
    StddevOverTime,
    StdvarOverTime,
    MadOverTime,
}

impl RangeFn {
    /// The first and the last of a series' own samples are still that series.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::LastOverTime | Self::FirstOverTime)
    }
}

/// A function of each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapFn {
    Abs,
    Ceil,
    Floor,
    Exp,
    Ln,
    Log2,
    Log10,
    Sqrt,
    Sgn,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Cos,
    Cosh,
    Sin,
    Sinh,
    Tan,
    Tanh,
    Deg,
    Rad,
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    Timestamp,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
    Month,
    Year,
}

/// How labels are written anew.
#[derive(Debug)]
pub(crate) enum Relabel {
    Replace { to: String, replacement: String, from: String, pattern: regex::Regex },
    Join { to: String, separator: String, from: Vec<String> },
}

/// How an instant's series are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortOrder {
    Ascending,
    Descending,
}
