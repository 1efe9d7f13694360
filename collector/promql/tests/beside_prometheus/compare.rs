//! Our answer as the HTTP API shapes it, and how two answers differ.

use std::collections::BTreeMap;

use mainstay_promql::{EvalError, Labels, Limits, Memory, Span, Value as Ours, evaluate, parse};
use serde_json::Value;

/// An answer in a shape that can be compared.
#[derive(Debug)]
pub(crate) enum Answer {
    /// By labels, points by time; what has one value has one point.
    Series {
        kind: String,
        series: BTreeMap<BTreeMap<String, String>, Vec<(i64, f64)>>,
        order: Vec<f64>,
    },
    Text(String),
    /// Prometheus' `errorType`, and the reason.
    Error(String, #[allow(dead_code, reason = "printed")] String),
}

/// Relative difference up to which values are the same: sums are made in another order.
const CLOSE: f64 = 1e-9;
/// Difference up to which values near zero are: what is left where numbers around 1 cancel out.
const CLOSE_TO_ZERO: f64 = 1e-15;

/// Asks ours.
pub(crate) fn ours(text: &str, span: Span, memory: &Memory) -> Answer {
    let query = match parse(text) {
        Ok(query) => query,
        Err(error) => return Answer::Error("bad_data".to_owned(), error.to_string()),
    };
    let at = match span {
        Span::Instant { at_ms } => at_ms,
        Span::Range { start_ms, .. } => start_ms,
    };
    let series = |kind: &str, all: Vec<(Labels, Vec<(i64, f64)>)>| {
        let order = all.iter().filter_map(|(_, points)| points.first()).map(|(_, value)| *value).collect();
        let named = |labels: Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let series = all.into_iter().map(|(labels, points)| (named(labels), points)).collect();
        Answer::Series { kind: kind.to_owned(), series, order }
    };
    match evaluate(&query, span, memory, Limits::default(), &|| None) {
        Ok(answer) => match answer.value {
            Ours::Text(text) => Answer::Text(text),
            Ours::Scalar(value) => series("scalar", vec![(Labels::none(), vec![(at, value)])]),
            Ours::Vector(all) => {
                series("vector", all.into_iter().map(|(labels, value)| (labels, vec![(at, value)])).collect())
            }
            Ours::Matrix(all) => series("matrix", all),
        },
        Err(error @ EvalError::NotOverRange(_)) => Answer::Error("bad_data".to_owned(), error.to_string()),
        Err(error) => Answer::Error("execution".to_owned(), error.to_string()),
    }
}

/// Reads theirs.
pub(crate) fn theirs(document: &Value) -> Answer {
    if document["status"] != "success" {
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        return Answer::Error(text("errorType"), text("error"));
    }
    let kind = document["data"]["resultType"].as_str().unwrap_or_default().to_owned();
    let result = &document["data"]["result"];
    match kind.as_str() {
        "string" => Answer::Text(result[1].as_str().unwrap_or_default().to_owned()),
        "scalar" => {
            let (at, value) = point(result);
            let series = BTreeMap::from([(BTreeMap::new(), vec![(at, value)])]);
            Answer::Series { kind, series, order: vec![value] }
        }
        _ => {
            let mut series = BTreeMap::new();
            let mut order = Vec::new();
            for one in result.as_array().into_iter().flatten() {
                let labels = one["metric"].as_object().into_iter().flatten();
                let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
                let points: Vec<_> = match one["values"].as_array() {
                    Some(values) => values.iter().map(point).collect(),
                    None => vec![point(&one["value"])],
                };
                order.extend(points.first().map(|(_, value)| *value));
                series.insert(labels.collect(), points);
            }
            Answer::Series { kind, series, order }
        }
    }
}

fn point(pair: &Value) -> (i64, f64) {
    let value = pair[1].as_str().unwrap_or_default();
    ((pair[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64, value.parse().unwrap_or(f64::NAN))
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= (CLOSE * a.abs().max(b.abs())).max(CLOSE_TO_ZERO)
}

/// What differs, in words; and how many values were compared.
pub(crate) fn difference(ours: &Answer, theirs: &Answer, in_order: bool) -> (Option<String>, usize) {
    match (ours, theirs) {
        (Answer::Text(a), Answer::Text(b)) if a == b => (None, 1),
        // Ours may say while it reads a query what Prometheus says while it evaluates it.
        (Answer::Error(a, _), Answer::Error(b, _)) if a == b || (a == "bad_data" && b == "execution") => (None, 1),
        (Answer::Series { kind: a, series: ours, order: x }, Answer::Series { kind: b, series: theirs, order: y }) => {
            if a != b {
                return (Some(format!("a {a}, not a {b}")), 0);
            }
            let mut compared = 0;
            for (labels, theirs) in theirs {
                let Some(ours) = ours.get(labels) else { return (Some(format!("{labels:?} is missing")), compared) };
                if ours.len() != theirs.len() {
                    return (Some(format!("{labels:?}\n  is {ours:?}\n not {theirs:?}")), compared);
                }
                for (ours, theirs) in ours.iter().zip(theirs) {
                    compared += 1;
                    if ours.0 != theirs.0 || !close(ours.1, theirs.1) {
                        return (Some(format!("{labels:?}: is {ours:?}, not {theirs:?}")), compared);
                    }
                }
            }
            if let Some(labels) = ours.keys().find(|labels| !theirs.contains_key(*labels)) {
                return (Some(format!("{labels:?} is too much")), compared);
            }
            let ordered = x.len() == y.len() && x.iter().zip(y).all(|(x, y)| close(*x, *y));
            let difference = (in_order && !ordered).then(|| format!("in another order: {x:?}, not {y:?}"));
            (difference, compared)
        }
        _ => (Some(format!("is {ours:?}\n  not {theirs:?}")), 0),
    }
}
