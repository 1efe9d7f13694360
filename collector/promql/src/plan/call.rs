//! Function calls: which function, with which arguments of which type.

use promql_parser::parser::{Call, Expr};

use super::build::{matrix, refused, scalar, selector, text, vector};
use super::{MapFn, ParseError, Plan, RangeFn, Relabel, Scalar, SortOrder, Vector};
use crate::labels::{Labels, NAME};
use crate::matcher::{Test, whole};

/// Plans a call. The parser has counted the arguments.
pub(super) fn plan(call: &Call) -> Result<Plan, ParseError> {
    let name = call.func.name;
    if let Some(function) = range_function(name) {
        return ranged(function, call).map(Plan::Vector);
    }
    if let Some(function) = map_function(name) {
        return mapped(function, call).map(Plan::Vector);
    }
    let of = format!("call to function '{name}'");
    let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
    Ok(Plan::Vector(match (name, &arguments[..]) {
        ("time", []) => return Ok(Plan::Scalar(Scalar::Time)),
        ("pi", []) => return Ok(Plan::Scalar(Scalar::Number(std::f64::consts::PI))),
        ("scalar", [inner]) => return Ok(Plan::Scalar(Scalar::OfVector(Box::new(vector(inner, &of)?)))),
        ("vector", [inner]) => Vector::OfScalar(Box::new(scalar(inner, &of)?)),
        ("timestamp", [inner]) => match vector(inner, &of)? {
            Vector::Select(series) => Vector::SampleTimes(series),
            of => Vector::Map { function: MapFn::Timestamp, parameters: Vec::new(), of: Box::new(of) },
        },
        ("absent", [inner]) => Vector::Absent { labels: absent_labels(inner)?, of: Box::new(vector(inner, &of)?) },
        ("absent_over_time", [inner]) => {
            Vector::AbsentOverTime { labels: absent_labels(inner)?, of: matrix(inner, &of)? }
        }
        ("sort", [inner]) => Vector::Sort { order: SortOrder::Ascending, of: Box::new(vector(inner, &of)?) },
        ("sort_desc", [inner]) => Vector::Sort { order: SortOrder::Descending, of: Box::new(vector(inner, &of)?) },
        ("histogram_quantile", [quantile, inner]) => {
            Vector::HistogramQuantile { quantile: scalar(quantile, &of)?, of: Box::new(vector(inner, &of)?) }
        }
        ("label_replace", [inner, to, replacement, from, pattern]) => {
            let how = Relabel::Replace {
                to: label_name(text(to, &of)?, name)?,
                replacement: text(replacement, &of)?,
                from: text(from, &of)?,
                pattern: whole(&text(pattern, &of)?).map_err(ParseError)?,
            };
            Vector::Relabel { how, of: Box::new(vector(inner, &of)?) }
        }
        ("label_join", [inner, to, separator, from @ ..]) => {
            let how = Relabel::Join {
                to: label_name(text(to, &of)?, name)?,
                separator: text(separator, &of)?,
                from: from.iter().map(|label| text(label, &of)).collect::<Result<_, _>>()?,
            };
            Vector::Relabel { how, of: Box::new(vector(inner, &of)?) }
        }
        _ if name.starts_with("histogram_") => {
            return refused(format!("{name}: native histograms are not supported"));
        }
        _ => return refused(format!("the function {name} is not supported")),
    }))
}

fn label_name(label: String, function: &str) -> Result<String, ParseError> {
    if label.is_empty() { refused(format!("invalid destination label name in {function}(): \"\"")) } else { Ok(label) }
}

/// The labels that a selector asks for by equality, once each: what `absent` says is absent.
fn absent_labels(of: &Expr) -> Result<Labels, ParseError> {
    let series = match of {
        Expr::VectorSelector(series) => selector(series)?,
        Expr::MatrixSelector(series) => selector(&series.vs)?,
        _ => return Ok(Labels::none()),
    };
    let asked = |label: &str| series.matchers.iter().filter(|matcher| matcher.label == label).count();
    let equal = series.matchers.iter().filter_map(|matcher| match &matcher.test {
        Test::Is(value) if matcher.label != NAME && asked(&matcher.label) == 1 => {
            Some((matcher.label.as_str().into(), value.as_str().into()))
        }
        _ => None,
    });
    Ok(Labels::of(equal))
}

/// The arguments of a function of a range: the range itself, and numbers before or after it.
fn ranged(function: RangeFn, call: &Call) -> Result<Vector, ParseError> {
    let of = format!("call to function '{}'", call.func.name);
    let at = usize::from(function == RangeFn::QuantileOverTime);
    let mut parameters = Vec::new();
    for (n, argument) in call.args.args.iter().enumerate().filter(|(n, _)| *n != at) {
        debug_assert!(n <= 2, "{of} has {n} arguments");
        parameters.push(scalar(argument, &of)?);
    }
    match call.args.args.get(at) {
        Some(range) => Ok(Vector::Range { function, parameters, of: matrix(range, &of)? }),
        None => refused(format!("expected a range vector in {of}")),
    }
}

fn range_function(name: &str) -> Option<RangeFn> {
    Some(match name {
        "rate" => RangeFn::Rate,
        "increase" => RangeFn::Increase,
        "delta" => RangeFn::Delta,
        "irate" => RangeFn::Irate,
        "idelta" => RangeFn::Idelta,
        "resets" => RangeFn::Resets,
        "changes" => RangeFn::Changes,
        "deriv" => RangeFn::Deriv,
        "predict_linear" => RangeFn::PredictLinear,
        "holt_winters" | "double_exponential_smoothing" => RangeFn::DoubleExponentialSmoothing,
        "avg_over_time" => RangeFn::AvgOverTime,
        "min_over_time" => RangeFn::MinOverTime,
        "max_over_time" => RangeFn::MaxOverTime,
        "sum_over_time" => RangeFn::SumOverTime,
        "count_over_time" => RangeFn::CountOverTime,
        "last_over_time" => RangeFn::LastOverTime,
        "first_over_time" => RangeFn::FirstOverTime,
        "present_over_time" => RangeFn::PresentOverTime,
        "quantile_over_time" => RangeFn::QuantileOverTime,
        "stddev_over_time" => RangeFn::StddevOverTime,
        "stdvar_over_time" => RangeFn::StdvarOverTime,
        "mad_over_time" => RangeFn::MadOverTime,
        _ => return None,
    })
}

/// The arguments of a function of each value. Those of dates take the time when none is given.
fn mapped(function: MapFn, call: &Call) -> Result<Vector, ParseError> {
    let of = format!("call to function '{}'", call.func.name);
    let Some((inner, numbers)) = call.args.args.split_first() else {
        let now = Box::new(Vector::OfScalar(Box::new(Scalar::Time)));
        return Ok(Vector::Map { function, parameters: Vec::new(), of: now });
    };
    let mut parameters: Vec<Scalar> = numbers.iter().map(|number| scalar(number, &of)).collect::<Result<_, _>>()?;
    if function == MapFn::Round && parameters.is_empty() {
        parameters.push(Scalar::Number(1.0));
    }
    Ok(Vector::Map { function, parameters, of: Box::new(vector(inner, &of)?) })
}

fn map_function(name: &str) -> Option<MapFn> {
    Some(match name {
        "abs" => MapFn::Abs,
        "ceil" => MapFn::Ceil,
        "floor" => MapFn::Floor,
        "exp" => MapFn::Exp,
        "ln" => MapFn::Ln,
        "log2" => MapFn::Log2,
        "log10" => MapFn::Log10,
        "sqrt" => MapFn::Sqrt,
        "sgn" => MapFn::Sgn,
        "acos" => MapFn::Acos,
        "acosh" => MapFn::Acosh,
        "asin" => MapFn::Asin,
        "asinh" => MapFn::Asinh,
        "atan" => MapFn::Atan,
        "atanh" => MapFn::Atanh,
        "cos" => MapFn::Cos,
        "cosh" => MapFn::Cosh,
        "sin" => MapFn::Sin,
        "sinh" => MapFn::Sinh,
        "tan" => MapFn::Tan,
        "tanh" => MapFn::Tanh,
        "deg" => MapFn::Deg,
        "rad" => MapFn::Rad,
        "round" => MapFn::Round,
        "clamp" => MapFn::Clamp,
        "clamp_min" => MapFn::ClampMin,
        "clamp_max" => MapFn::ClampMax,
        "day_of_month" => MapFn::DayOfMonth,
        "day_of_week" => MapFn::DayOfWeek,
        "day_of_year" => MapFn::DayOfYear,
        "days_in_month" => MapFn::DaysInMonth,
        "hour" => MapFn::Hour,
        "minute" => MapFn::Minute,
        "month" => MapFn::Month,
        "year" => MapFn::Year,
        _ => return None,
    })
}
