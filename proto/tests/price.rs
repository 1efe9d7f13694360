//! What a changing sample takes on the wire, so that it is seen when it takes more: a host that is made, as `bench/load.rs`
//! measures it over TLS; here the bytes that TLS, HTTP/2 and gRPC put around each message are counted as what they are. Both as
//! an agent samples it, ten times in a summary, and read once, as what a scrape has of it.

use mainstay_core::series::{Point, Summary};
use mainstay_core::time::Now;
use mainstay_proto::convert::{Form, SummaryReader, SummaryWriter};
use mainstay_proto::v1;
use prost::Message as _;

#[path = "../../bench/shapes.rs"]
mod shapes;

/// A record of TLS 1.3, a frame of HTTP/2 and the head of a message of gRPC: 5 + 1 + 16, 9 and 5.
const AROUND: usize = 22 + 9 + 5;
const SERIES: usize = 750;
/// An hour, of which the first pushes are learned from.
const SUMMARIES: u64 = 360;
const LEARNED: u64 = 10;
/// Of a summary.
const SECONDS: u32 = 10;

/// Bytes of pushes of a host that is sampled so often in each, and how many series and values changed in them.
fn measured(form: Form, samples: u32) -> (usize, usize, usize) {
    let described = shapes::describe(SERIES);
    let mut host = shapes::Shapes::of(1, SERIES);
    let (mut writer, mut reader) = (SummaryWriter::new(form), SummaryReader::default());
    let (mut bytes, mut series, mut values, mut before) = (0, 0, 0, Vec::new());
    for seq in 1..=SUMMARIES {
        let points = host.summary(SECONDS, &described.gauge);
        let jitter = seq * 7_919 % 400_000;
        let at = Now { boot_ns: seq * 10_000_000_000 + jitter, wall_ms: i64::try_from(seq * 10_000).unwrap() };
        let points = points.into_iter().map(|point| if samples == 1 { read_once(point) } else { point });
        let points = described.keys.iter().cloned().zip(points).collect();
        let summary = Summary { at, window_ms: 10_000, samples, points };
        let mut inner = v1::Push::default();
        writer.begin_message();
        let wire = writer.write(&summary, &mut inner.define);
        for def in inner.define.clone() {
            reader.definitions.define(def, std::sync::Arc::new).unwrap();
        }
        assert_eq!(reader.read(wire.clone()).unwrap(), summary);
        inner.items.push(v1::Item { seq, of: Some(v1::item::Of::Summary(wire)) });
        let push = writer.brief(inner, Some(seq - 1)).unwrap_or_else(|inner| v1::Push { epoch: 1, ..inner });
        if seq > LEARNED {
            bytes += v1::AgentMessage { of: Some(v1::agent_message::Of::Push(push)) }.encoded_len() + AROUND;
            let moved: Vec<usize> = summary.points.iter().zip(&before).map(|((_, a), b)| changed(a, b)).collect();
            series += moved.iter().filter(|values| **values > 0).count();
            values += moved.iter().sum::<usize>();
        }
        before = summary.points.into_iter().map(|(_, point)| point).collect();
    }
    (bytes, series, values)
}

/// The point of a series that is read once in its window.
fn read_once(point: Point) -> Point {
    match point {
        Point::Gauge { last, .. } => Point::Gauge { last, min: last, max: last, mean: last },
        counter @ Point::Counter(_) => counter,
    }
}

/// How many values of a point are others.
fn changed(now: &Point, before: &Point) -> usize {
    let of = |point: &Point| match *point {
        Point::Counter(last) => vec![last],
        Point::Gauge { last, min, max, mean } => vec![last, min, max, mean],
    };
    of(now).iter().zip(of(before)).filter(|(now, before)| **now != *before).count()
}

#[test]
fn a_changing_sample_takes_less_than_two_bytes() {
    let (bytes, series, values) = measured(Form::Coded, SECONDS);
    let (each, value) = (bytes as f64 / series as f64, bytes as f64 / values as f64);
    println!("{each:.3} bytes a series that changed, {value:.3} a value that changed");
    // 1.94 and 1.15 when it was written.
    assert!(each < 1.96 && value < 1.17, "{each:.3} bytes a series, {value:.3} a value");
}

#[test]
fn a_changing_sample_that_is_read_once_takes_a_byte_and_a_half() {
    let (bytes, series, _) = measured(Form::Coded, 1);
    let each = bytes as f64 / series as f64;
    println!("{each:.3} bytes a series that changed");
    // 1.50 when it was written.
    assert!(each < 1.52, "{each:.3} bytes a series");
}
