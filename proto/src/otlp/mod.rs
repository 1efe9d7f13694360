//! Metrics as OTLP has them: the few messages of the protocol that an export needs, and their making.
//!
//! In: metrics of a sample and where they come from. Out: the bytes of an `ExportMetricsServiceRequest`; and what an
//! answer says was not taken. The numbers of the fields are those of the protocol, held against its own definitions by
//! the tests. Sums are cumulative.

mod message;
#[cfg(test)]
mod tests;

use mainstay_core::otlp::{Attributes, Kind, Metric, Number, Point, SCHEMA_URL, Since, Value};
use prost::Message as _;

/// Whose metrics they are, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Attributes of the resource: host, operating system, service.
    pub resource: Vec<(String, String)>,
    /// Who measured.
    pub scope: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The moment of an export and that of the boot, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the host was booted.
    pub boot_unix_ns: u64,
    /// When it was sampled.
    pub at_unix_ns: u64,
}

/// What a receiver did not take of an export that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Points that it left out; 0 for a mere warning.
    pub points: u64,
    /// Why, in its words. May hold anything.
    pub why: String,
}

/// The body of a request.
#[must_use]
pub fn request(source: &Source, times: Times, metrics: Vec<Metric<'_>>) -> Vec<u8> {
    let resource = source.resource.iter().map(|(key, value)| key_value(key, message::OfValue::Text(value.clone())));
    let scope = message::Scope { name: source.scope.to_owned(), version: source.version.to_owned() };
    let of_scope = message::OfScope {
        scope: Some(scope),
        metrics: metrics.into_iter().map(|metric| of_metric(metric, times)).collect(),
        schema_url: SCHEMA_URL.to_owned(),
    };
    let of_resource = message::OfResource {
        resource: Some(message::Resource { attributes: resource.collect() }),
        scopes: vec![of_scope],
        schema_url: SCHEMA_URL.to_owned(),
    };
    message::Request { resources: vec![of_resource] }.encode_to_vec()
}

/// What an answer in the 200s says was not taken; `None` where all was, and where it says nothing that can be read.
#[must_use]
pub fn rejected(answer: &[u8]) -> Option<Rejected> {
    let partial = message::Answer::decode(answer).ok()?.partial_success?;
    let points = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    (points > 0 || !partial.error_message.is_empty()).then_some(Rejected { points, why: partial.error_message })
}

fn of_metric(metric: Metric<'_>, times: Times) -> message::Metric {
    let start = match metric.since {
        Since::Boot => times.boot_unix_ns,
        // Zero is "unknown" to the protocol.
        Since::Unknown => 0,
    };
    let points = metric.points.into_iter().map(|point| of_point(point, start, times.at_unix_ns)).collect();
    let sum = |points, is_monotonic| message::Sum { points, temporality: message::CUMULATIVE, is_monotonic };
    let data = match metric.kind {
        Kind::Counter => message::Data::Sum(sum(points, true)),
        Kind::UpDownCounter => message::Data::Sum(sum(points, false)),
        Kind::Gauge => message::Data::Gauge(message::Gauge { points }),
    };
    message::Metric { name: metric.name.to_owned(), unit: metric.unit.to_owned(), data: Some(data) }
}

fn of_point(point: Point<'_>, start_unix_ns: u64, at_unix_ns: u64) -> message::Point {
    let value = match point.value {
        Number::Int(value) => message::OfPoint::Int(value),
        Number::Double(value) => message::OfPoint::Double(value),
    };
    message::Point { attributes: of_attributes(point.attributes), start_unix_ns, at_unix_ns, value: Some(value) }
}

fn of_attributes(attributes: Attributes<'_>) -> Vec<message::KeyValue> {
    let of = |(key, value): (&str, Value)| match value {
        Value::Text(text) => key_value(key, message::OfValue::Text(text)),
        Value::Int(number) => key_value(key, message::OfValue::Int(number)),
    };
    attributes.into_iter().map(of).collect()
}

fn key_value(key: &str, value: message::OfValue) -> message::KeyValue {
    message::KeyValue { key: key.to_owned(), value: Some(message::AnyValue { value: Some(value) }) }
}
