//! Answers as the HTTP API shapes them, and how two of them differ.

use std::collections::BTreeMap;

use serde_json::Value;

/// The labels of a series, and its points by time.
pub(crate) type Named = BTreeMap<String, String>;
pub(crate) type Points = Vec<(i64, f64)>;

/// An answer in a shape that can be compared.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// By labels, points by time; what has one value has one point.
    Series {
        kind: String,
        series: BTreeMap<Named, Points>,
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

/// Reads what an API told.
pub(super) fn told(document: &Value) -> Answer {
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
                let points: Points = match one["values"].as_array() {
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

/// How many values were compared, or what differs, in words.
pub(super) fn difference(ours: &Answer, theirs: &Answer, in_order: bool) -> Result<usize, String> {
    match (ours, theirs) {
        (Answer::Text(a), Answer::Text(b)) if a == b => Ok(1),
        // Ours may say while it reads a query what Prometheus says while it evaluates it.
        (Answer::Error(a, _), Answer::Error(b, _)) if a == b || (a == "bad_data" && b == "execution") => Ok(1),
        (Answer::Series { kind: a, series: ours, order: x }, Answer::Series { kind: b, series: theirs, order: y }) => {
            if a != b {
                return Err(format!("a {a}, not a {b}"));
            }
            let mut compared = 0;
            for (labels, theirs) in theirs {
                let Some(ours) = ours.get(labels) else { return Err(format!("{labels:?} is missing")) };
                if ours.len() != theirs.len() {
                    return Err(format!("{labels:?}\n  is {ours:?}\n not {theirs:?}"));
                }
                for (ours, theirs) in ours.iter().zip(theirs) {
                    compared += 1;
                    if ours.0 != theirs.0 || !close(ours.1, theirs.1) {
                        return Err(format!("{labels:?}: is {ours:?}, not {theirs:?}"));
                    }
                }
            }
            if let Some(labels) = ours.keys().find(|labels| !theirs.contains_key(*labels)) {
                return Err(format!("{labels:?} is too much"));
            }
            let is_ordered = x.len() == y.len() && x.iter().zip(y).all(|(x, y)| close(*x, *y));
            if in_order && !is_ordered { Err(format!("in another order: {x:?}, not {y:?}")) } else { Ok(compared) }
        }
        _ => Err(format!("is {ours:?}\n  not {theirs:?}")),
    }
}
