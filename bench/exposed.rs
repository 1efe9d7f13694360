//! What an exporter shows over HTTP, read as Prometheus reads it: one series a line.
//!
//! In: the address of an exporter. Out: its series with their kinds and values. For recordings of hosts as others see them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mainstay_core::readings::SeriesKind;
use mainstay_core::series::SeriesKey;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What node_exporter has from files whose numbers it says nothing about, and which of them are no counters.
const UNTYPED_COUNTERS: [&str; 2] = ["node_vmstat_", "node_netstat_"];
const GAUGES_AMONG_THEM: [&str; 2] = ["node_vmstat_nr_", "node_netstat_Tcp_CurrEstab"];
/// What is only about the asking itself.
const LEFT_OUT: [&str; 5] = ["go_", "process_", "promhttp_", "node_scrape_", "node_time_seconds"];
/// Kernels count in millionths at the finest; an exporter that divides twice makes more digits of that.
const DIGITS: f64 = 1e6;
/// Larger numbers have no decimals.
const DECIMALS_MAX: f64 = 4e9;

/// All that an exporter shows now.
pub(crate) fn fetch(address: &str) -> Result<BTreeMap<SeriesKey, (SeriesKind, f64)>> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{address} does not answer"))?;
    let (_, text) = answer.split_once("\r\n\r\n").with_context(|| format!("{address} answers without a body"))?;
    Ok(read(text))
}

fn read(text: &str) -> BTreeMap<SeriesKey, (SeriesKind, f64)> {
    let mut kinds = BTreeMap::new();
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            kinds.extend(typed.split_once(' '));
        } else if !line.starts_with('#')
            && let Some((series, value)) = line.rsplit_once(' ')
            && let Ok(value) = value.parse::<f64>()
            && !LEFT_OUT.iter().any(|prefix| series.starts_with(prefix))
        {
            let key = key(series);
            let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| key.name.starts_with(prefix));
            let is_counter = kinds.get(key.name.as_str()) == Some(&"counter")
                || begins(&UNTYPED_COUNTERS) && !begins(&GAUGES_AMONG_THEM);
            let kind = if is_counter { SeriesKind::Counter } else { SeriesKind::Gauge };
            let value = if value.abs() < DECIMALS_MAX { (value * DIGITS).round() / DIGITS } else { value };
            values.insert(key, (kind, value));
        }
    }
    values
}

/// The key of a series such as `node_cpu_seconds_total{cpu="0",mode="idle"}`.
fn key(series: &str) -> SeriesKey {
    let Some((name, mut labels)) = series.split_once('{') else { return SeriesKey::new(series, &[]) };
    let mut pairs = Vec::new();
    while let Some((label, rest)) = labels.split_once("=\"") {
        let Some((value, rest)) = rest.split_once('"') else { break };
        pairs.push((label, value));
        labels = rest.trim_start_matches(',');
    }
    SeriesKey::new(name, &pairs)
}
