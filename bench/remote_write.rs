//! Prometheus remote write 1.0 of a host's last values: what it would take on the wire.

use std::io::Write as _;

use mainstay_collector::remote::message::{Label, Sample, TimeSeries, WriteRequest};
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;
use prost::Message as _;

use super::values::Values;

/// Bytes in both directions.
pub(crate) struct Sizes {
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Samples whose value is another one than before.
    pub(crate) changed: u64,
}

/// Adds the last values of a summary of a host. All summaries of one request have the same series.
pub(crate) fn add(request: &mut WriteRequest, summary: &Summary, host: &str) {
    if request.timeseries.is_empty() {
        request.timeseries = summary.points.iter().map(|(key, _)| named(key, host)).collect();
    }
    for (series, (_, point)) in request.timeseries.iter_mut().zip(&summary.points) {
        let (Point::Counter(value) | Point::Gauge { last: value, .. }) = *point;
        series.samples.push(Sample { value, timestamp: summary.at.wall_ms });
    }
}

fn named(key: &SeriesKey, host: &str) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let mut labels = vec![label("__name__", &key.name), label("instance", host)];
    labels.extend(key.labels.iter().map(|(name, value)| label(name, value)));
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    TimeSeries { labels, ..TimeSeries::default() }
}

/// The body of a request: snappy over protobuf.
pub(crate) fn body(request: &WriteRequest) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap_or_default()
}

/// What so many summaries of one host take over HTTP/1.1 and TLS, a request each, on a connection that stands.
pub(crate) fn sizes(values: &mut Values, summaries: u64) -> Sizes {
    let mut sizes = Sizes { up: 0, down: 0, changed: 0 };
    for n in 0..=summaries {
        let at = Now { boot_ns: n * 10_000_000_000, wall_ms: 1_800_000_000_000 + n.cast_signed() * 10_000 };
        let (summary, changed) = values.next(at, 10_000);
        // The first has nothing before it.
        if n > 0 {
            let mut request = WriteRequest::default();
            add(&mut request, &summary, "host-00000");
            let body = body(&request);
            let mut head = Vec::new();
            let _ = write!(
                head,
                "POST /api/v1/write HTTP/1.1\r\nHost: collector:9090\r\nUser-Agent: Prometheus/2.42.0\r\nContent-Length: {}\r\n\
                 Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n\r\n",
                body.len()
            );
            sizes.up += sealed(head.len() + body.len());
            sizes.down += sealed("HTTP/1.1 204 No Content\r\nDate: Sat, 28 Nov 2026 13:00:00 GMT\r\n\r\n".len());
            sizes.changed += changed.series;
        }
    }
    sizes
}

/// With what TLS 1.3 adds: 22 bytes to each record of at most 16 KiB.
fn sealed(bytes: usize) -> u64 {
    (bytes + bytes.div_ceil(16 * 1024) * 22) as u64
}
