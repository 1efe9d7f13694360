//! Answers in the shapes of Prometheus' API.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mainstay_fleet::rollup::Tier;
use mainstay_promql::{Labels, Value};
use serde_json::{Map, Value as Json, json};

use crate::query::Outcome;
use crate::query::fleet::Seen;
use crate::query::names::Told;
use crate::query::standing::{NAMED_MAX, Standing};

/// The version of Prometheus whose API this is: dashboards ask it to know what they may use.
const API_VERSION: &str = "3.5.0";
/// What a series and a point of it take, about: room for a large answer is made once.
const SERIES_BYTES: usize = 200;
const POINT_BYTES: usize = 32;

/// Something that could not be answered.
pub(super) fn error(kind: &str, text: &str) -> String {
    json!({ "status": "error", "errorType": kind, "error": text }).to_string()
}

/// An answer of a query that was asked at a moment.
pub(super) fn outcome(outcome: &Outcome, at_ms: i64) -> String {
    let mut out = String::from(r#"{"status":"success","data":{"resultType":"#);
    match &outcome.answer.value {
        Value::Text(text) => {
            out.push_str(r#""string","result":["#);
            moment(&mut out, at_ms);
            let _ = write!(out, ",{}]", json!(text));
        }
        Value::Scalar(value) => {
            out.push_str(r#""scalar","result":"#);
            point(&mut out, at_ms, *value);
        }
        Value::Vector(all) => {
            out.push_str(r#""vector","result":["#);
            separated(&mut out, all, |out, (labels, value)| {
                out.push_str(r#"{"metric":"#);
                metric(out, labels);
                out.push_str(r#","value":"#);
                point(out, at_ms, *value);
                out.push('}');
            });
            out.push(']');
        }
        Value::Matrix(all) => {
            out.push_str(r#""matrix","result":["#);
            out.reserve(all.iter().map(|(_, points)| SERIES_BYTES + points.len() * POINT_BYTES).sum());
            separated(&mut out, all, |out, (labels, points)| {
                out.push_str(r#"{"metric":"#);
                metric(out, labels);
                out.push_str(r#","values":["#);
                separated(out, points, |out, (at_ms, value)| point(out, *at_ms, *value));
                out.push_str("]}");
            });
            out.push(']');
        }
    }
    let (answer, seen) = (&outcome.answer, &outcome.seen);
    let mut about = standing(seen);
    about.extend([
        ("completeness".to_owned(), json!(seen.completeness())),
        ("hosts".to_owned(), json!(seen.hosts())),
        ("hosts_incomplete".to_owned(), json!(seen.incomplete())),
        ("samples".to_owned(), json!(answer.samples)),
        ("series".to_owned(), json!(answer.series)),
    ]);
    out.push('}');
    end(&mut out, &about, damaged(seen));
    out
}

/// What every answer has: of what resolution it is, and who of whom it is about is not there.
fn standing(seen: &Seen) -> Map<String, Json> {
    let not_there = || seen.standing().filter(|host| !host.is_there());
    let clocks_off = || seen.standing().filter(|host| host.is_clock_off());
    let last_seen =
        |host: &Standing| json!({ "host": host.host, "state": host.state, "last_seen_ms": host.last_seen_ms });
    let clock = |host: &Standing| json!({ "host": host.host, "offset_ms": host.clock_offset_ms });
    Map::from_iter([
        ("resolution".to_owned(), json!(seen.tier.map_or("raw", Tier::name))),
        ("hosts_not_there".to_owned(), json!(not_there().count())),
        ("not_there".to_owned(), not_there().take(NAMED_MAX).map(last_seen).collect()),
        ("hosts_clock_off".to_owned(), json!(clocks_off().count())),
        ("clocks_off".to_owned(), clocks_off().take(NAMED_MAX).map(clock).collect()),
    ])
}

/// What could not be read.
fn damaged(seen: &Seen) -> Vec<String> {
    let mut warnings: Vec<String> = seen.damaged.iter().map(|text| format!("cannot be read: {text}")).collect();
    if seen.damaged_more > 0 {
        warnings.push(format!("{} more blocks cannot be read", seen.damaged_more));
    }
    warnings
}

/// Ends an answer whose `data` is written.
fn end(out: &mut String, about: &Map<String, Json>, warnings: Vec<String>) {
    let _ = write!(out, r#","mainstay":{}"#, json!(about));
    if !warnings.is_empty() {
        let _ = write!(out, r#","warnings":{}"#, json!(warnings));
    }
    out.push('}');
}

fn separated<T>(out: &mut String, all: &[T], write: impl Fn(&mut String, &T)) {
    for (n, one) in all.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write(out, one);
    }
}

fn metric(out: &mut String, labels: &Labels) {
    out.push('{');
    for (n, (name, value)) in labels.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}:{}", json!(name), json!(value));
    }
    out.push('}');
}

fn point(out: &mut String, at_ms: i64, value: f64) {
    out.push('[');
    moment(out, at_ms);
    out.push_str(",\"");
    number(out, value);
    out.push_str("\"]");
}

/// Seconds, with milliseconds only where there are any.
fn moment(out: &mut String, at_ms: i64) {
    let (seconds, ms) = (at_ms.abs() / 1000, at_ms.abs() % 1000);
    if at_ms < 0 {
        out.push('-');
    }
    out.push_str(itoa::Buffer::new().format(seconds));
    if ms > 0 {
        let _ = write!(out, ".{ms:03}");
    }
}

/// A value as Go prints it, with an exponent where it would be long.
fn number(out: &mut String, value: f64) {
    /// Whole numbers up to here are exact, and quickest as such.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let is_whole = value.abs() < WHOLE_MAX && value.trunc().to_bits() == value.to_bits();
    if is_whole && value.to_bits() != (-0.0_f64).to_bits() {
        #[allow(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        out.push_str(itoa::Buffer::new().format(value as i64));
        return;
    }
    let _ = if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

/// A list of names.
pub(super) fn strings(told: &Told<String>) -> String {
    listed(told, |out, name| {
        let _ = write!(out, "{}", json!(name));
    })
}

/// A list of series.
pub(super) fn series(told: &Told<Labels>) -> String {
    listed(told, metric)
}

fn listed<T>(told: &Told<T>, write: impl Fn(&mut String, &T)) -> String {
    let mut out = String::from(r#"{"status":"success","data":["#);
    separated(&mut out, &told.all, write);
    out.push(']');
    let mut about = standing(&told.seen);
    about.insert("hosts".to_owned(), json!(told.hosts));
    let mut warnings = damaged(&told.seen);
    if told.is_cut {
        // In Prometheus' words.
        warnings.push("results truncated due to limit".to_owned());
    }
    end(&mut out, &about, warnings);
    out
}

/// A list that has nothing.
pub(super) fn nothing() -> String {
    json!({ "status": "success", "data": [] }).to_string()
}

/// Of each metric, or of one, what kind it is of.
pub(super) fn metadata(all: &BTreeMap<String, bool>, metric: Option<&str>) -> String {
    let wanted = all.iter().filter(|(name, _)| metric.is_none_or(|metric| metric == name.as_str()));
    let of = |is_gauge: bool| json!([{ "type": if is_gauge { "gauge" } else { "counter" }, "help": "", "unit": "" }]);
    let data: Map<_, _> = wanted.map(|(name, is_gauge)| (name.clone(), of(*is_gauge))).collect();
    json!({ "status": "success", "data": data }).to_string()
}

/// What this is.
pub(super) fn build_info() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let data = json!({
        "version": API_VERSION, "revision": version, "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
        "application": "mainstay-collector",
    });
    json!({ "status": "success", "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_moments_are_written_as_prometheus_does() {
        for (value, text) in [
            (1.0, "1"),
            (-25.0, "-25"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (2e16, "20000000000000000"),
            (1e21, "1e21"),
            (1e-7, "1e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, text);
        }
        for (ms, text) in [(0, "0"), (1_500, "1.500"), (1_700_000_000_000, "1700000000"), (-1, "-0.001")] {
            let mut out = String::new();
            moment(&mut out, ms);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn one_metric_or_all_are_told() {
        let all = BTreeMap::from([("up".to_owned(), true), ("x_total".to_owned(), false)]);
        assert!(metadata(&all, None).contains("x_total"));
        let one = metadata(&all, Some("up"));
        assert!(one.contains("gauge") && !one.contains("x_total"), "{one}");
    }
}
