//! Remote write over loopback: what is posted is what is answered, durable, bounded and once.

pub(crate) mod peers;
mod receive;
mod send;

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use mainstay_collector::remote::message::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message as _;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::world::World;

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn http(world: &World) -> SocketAddr {
    world.collector.as_ref().unwrap().http
}

/// One request; the status and the body.
async fn call(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", "peer");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

fn series(labels: &[(&str, &str)], samples: impl IntoIterator<Item = (i64, f64)>) -> TimeSeries {
    let label = |(name, value): &(&str, &str)| Label { name: (*name).to_owned(), value: (*value).to_owned() };
    TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: samples.into_iter().map(|(timestamp, value)| Sample { value, timestamp }).collect(),
        histograms: Vec::new(),
    }
}

/// Posts series as Prometheus does.
async fn write(at: SocketAddr, timeseries: Vec<TimeSeries>) -> (u16, String) {
    let plain = WriteRequest { timeseries }.encode_to_vec();
    let body = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
        ("authorization", bearer.as_str()),
    ];
    call(at, "POST", "/api/v1/write", &headers, body).await
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Seconds as they are told, in milliseconds.
#[allow(clippy::cast_possible_truncation, reason = "moments of this century")]
fn ms(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

/// The points of a query, by the labels of their series.
async fn points(
    at: SocketAddr,
    query: &str,
    (from_ms, to_ms): (i64, i64),
    step: &str,
) -> Vec<(String, Vec<(i64, f64)>)> {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let (from, to) = (seconds(from_ms), seconds(to_ms));
    let path = format!("/api/v1/query_range?query={}&start={from}&end={to}&step={step}", escaped(query));
    let (status, text) = call(at, "GET", &path, &[], Vec::new()).await;
    assert_eq!(status, 200, "{query}: {text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let series = document["data"]["result"].as_array().unwrap().iter().map(|series| {
        let values = series["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (ms(pair[0].as_f64().unwrap()), pair[1].as_str().unwrap().parse().unwrap()));
        (series["metric"].to_string(), values.collect())
    });
    let mut series: Vec<(String, Vec<(i64, f64)>)> = series.collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

pub(crate) async fn with_token(change: impl FnOnce(&mut mainstay_collector::config::Settings)) -> World {
    World::start_with(|settings| {
        settings.write_token = Some(mainstay_collector::hook::hash(TOKEN));
        change(settings);
    })
    .await
}
