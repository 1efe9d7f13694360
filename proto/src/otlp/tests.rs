//! Requests as the protocol's own definitions read them, and answers as they write them.

use opentelemetry_proto::DESCRIPTORS;
use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, Value as Read};

use super::*;

const SERVICE: &str = "opentelemetry.proto.collector.metrics.v1";

fn empty(message: &str) -> DynamicMessage {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    DynamicMessage::new(pool.get_message_by_name(&format!("{SERVICE}.{message}")).unwrap())
}

fn read(bytes: &[u8]) -> DynamicMessage {
    let mut message = empty("ExportMetricsServiceRequest");
    message.merge(bytes).unwrap();
    all_known(&Read::Message(message.clone()));
    message
}

/// Nothing stands in it that the protocol has not defined, or has defined otherwise.
fn all_known(value: &Read) {
    match value {
        Read::Message(message) => {
            assert_eq!(message.unknown_fields().count(), 0, "{message:?}");
            message.fields().for_each(|(_, value)| all_known(value));
        }
        Read::List(list) => list.iter().for_each(all_known),
        _ => {}
    }
}

/// What stands below `resource_metrics.0` at a path of names and positions.
fn at(message: &DynamicMessage, path: &str) -> Read {
    let mut value = Read::Message(message.clone());
    for step in ["resource_metrics", "0"].into_iter().chain(path.split('.')) {
        value = match &value {
            Read::Message(message) => message.get_field_by_name(step).expect(step).into_owned(),
            Read::List(list) => list[step.parse::<usize>().unwrap()].clone(),
            other => panic!("{path}: {step} of {other:?}"),
        };
    }
    value
}

fn source() -> Source {
    Source { resource: vec![("host.name".into(), "web-1".into())], scope: "mainstay-agent", version: "1.2.3" }
}

const TIMES: Times = Times { boot_unix_ns: 5_000_000_000, at_unix_ns: 9_500_000_000 };

fn metrics() -> Vec<Metric<'static>> {
    let text = |text: &str| Value::Text(text.to_owned());
    let point = |attributes: Attributes<'static>, value| Point { attributes, value };
    vec![
        Metric {
            name: "system.cpu.time",
            unit: "s",
            kind: Kind::Counter,
            since: Since::Boot,
            points: vec![point(
                vec![("cpu.logical_number", Value::Int(0)), ("cpu.mode", text("user"))],
                Number::Double(1.5),
            )],
        },
        Metric {
            name: "container.memory.usage",
            unit: "By",
            kind: Kind::UpDownCounter,
            since: Since::Unknown,
            points: vec![point(Vec::new(), Number::Int(0)), point(vec![("a", text(""))], Number::Int(-7))],
        },
        Metric {
            name: "node_load1",
            unit: "",
            kind: Kind::Gauge,
            since: Since::Boot,
            points: vec![point(Vec::new(), Number::Double(0.0))],
        },
    ]
}

#[test]
fn a_request_is_read_by_the_definitions_of_the_protocol() {
    let message = read(&request(&source(), TIMES, metrics()));
    let text = |text: &str| Read::String(text.to_owned());
    let metrics = "scope_metrics.0.metrics";
    for (path, want) in [
        ("resource.attributes.0.key", text("host.name")),
        ("resource.attributes.0.value.string_value", text("web-1")),
        ("schema_url", text(SCHEMA_URL)),
        ("scope_metrics.0.scope.name", text("mainstay-agent")),
        ("scope_metrics.0.scope.version", text("1.2.3")),
        ("scope_metrics.0.schema_url", text(SCHEMA_URL)),
        ("M.0.name", text("system.cpu.time")),
        ("M.0.unit", text("s")),
        ("M.0.sum.is_monotonic", Read::Bool(true)),
        // AGGREGATION_TEMPORALITY_CUMULATIVE
        ("M.0.sum.aggregation_temporality", Read::EnumNumber(2)),
        ("M.0.sum.data_points.0.attributes.0.key", text("cpu.logical_number")),
        ("M.0.sum.data_points.0.attributes.0.value.int_value", Read::I64(0)),
        ("M.0.sum.data_points.0.attributes.1.value.string_value", text("user")),
        ("M.0.sum.data_points.0.start_time_unix_nano", Read::U64(5_000_000_000)),
        ("M.0.sum.data_points.0.time_unix_nano", Read::U64(9_500_000_000)),
        ("M.0.sum.data_points.0.as_double", Read::F64(1.5)),
        ("M.1.sum.is_monotonic", Read::Bool(false)),
        ("M.1.sum.aggregation_temporality", Read::EnumNumber(2)),
        ("M.1.sum.data_points.0.start_time_unix_nano", Read::U64(0)),
        ("M.1.sum.data_points.1.as_int", Read::I64(-7)),
        ("M.2.gauge.data_points.0.time_unix_nano", Read::U64(9_500_000_000)),
    ] {
        assert_eq!(at(&message, &path.replace('M', metrics)), want, "{path}");
    }
    let Read::Message(zero) = at(&message, &format!("{metrics}.1.sum.data_points.0")) else { panic!() };
    assert!(zero.has_field_by_name("as_int"), "a zero is a value");
    let Read::Message(zero) = at(&message, &format!("{metrics}.2.gauge.data_points.0")) else { panic!() };
    assert!(zero.has_field_by_name("as_double"), "a zero is a value");
}

#[test]
fn a_request_has_the_bytes_that_the_protocol_gives_it() {
    let bytes = request(&source(), TIMES, metrics());
    assert_eq!(read(&bytes).encode_to_vec(), bytes);
}

#[test]
fn an_answer_says_what_was_not_taken() {
    let answer = |points: i64, why: &str| {
        let mut partial = empty("ExportMetricsPartialSuccess");
        partial.set_field_by_name("rejected_data_points", Read::I64(points));
        partial.set_field_by_name("error_message", Read::String(why.to_owned()));
        let mut answer = empty("ExportMetricsServiceResponse");
        answer.set_field_by_name("partial_success", Read::Message(partial));
        rejected(&answer.encode_to_vec())
    };
    assert_eq!(answer(3, "too old"), Some(Rejected { points: 3, why: "too old".to_owned() }));
    assert_eq!(answer(0, "soon gone"), Some(Rejected { points: 0, why: "soon gone".to_owned() }));
    assert_eq!(answer(0, ""), None);
    assert_eq!(answer(-1, ""), None);
    assert_eq!(rejected(b""), None);
    assert_eq!(rejected(b"<html>"), None);
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(answer in any::<Vec<u8>>()) {
        let _ = rejected(&answer);
    }

    #[test]
    fn whatever_is_measured_is_read_again(value in any::<i64>(), double in any::<f64>(), name in ".{0,40}", at_ns in any::<u64>()) {
        let attributes = vec![("name", Value::Text(name.clone()))];
        let points = [Number::Int(value), Number::Double(double)].map(|value| Point { attributes: attributes.clone(), value });
        let metric = Metric { name: "x", unit: "", kind: Kind::Counter, since: Since::Boot, points: points.into() };
        let bytes = request(&source(), Times { at_unix_ns: at_ns, ..TIMES }, vec![metric]);
        let message = read(&bytes);
        let points = "scope_metrics.0.metrics.0.sum.data_points";
        prop_assert_eq!(at(&message, &format!("{points}.0.as_int")), Read::I64(value));
        let Read::F64(read_double) = at(&message, &format!("{points}.1.as_double")) else { panic!() };
        prop_assert_eq!(read_double.to_bits(), double.to_bits());
        prop_assert_eq!(at(&message, &format!("{points}.1.attributes.0.value.string_value")), Read::String(name));
        prop_assert_eq!(at(&message, &format!("{points}.0.time_unix_nano")), Read::U64(at_ns));
    }
}
