//! The same samples, written to all over remote write, and the bytes that they take.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mainstay_collector::collector::Collector;
use mainstay_collector::config::Settings;
use mainstay_collector::remote::message::{Label, Sample, TimeSeries, WriteRequest};
use mainstay_collector::store::series::{hour_of, slot_of};
use mainstay_collector::store::{Batch, Store};
use mainstay_core::series::{Point, SeriesKey};
use mainstay_core::time::Now;
use prost::Message as _;

use super::super::peers::Peer;
use super::super::values::Values;
use super::{Plan, READY_MAX, Side, call, name};

/// A request holds so much of one host: prometheus takes what is up to an hour behind the newest.
const REQUEST_MS: i64 = 600_000;

/// Writes the same requests to all; says how many samples they held.
pub(super) fn write(plan: &Plan, sides: &mut [Side]) -> Result<u64> {
    let mut hosts: Vec<(u32, Values)> = (1..=plan.hosts).map(|n| (n, Values::of(&plan.series, n))).collect();
    let step_ms = i64::from(plan.step_ms);
    let (mut from, mut samples) = (plan.from_ms, 0);
    while from < plan.to_ms {
        let to = (from + REQUEST_MS).min(plan.to_ms);
        for (host, values) in &mut hosts {
            let keys = plan.series.keys();
            let mut timeseries: Vec<TimeSeries> = keys.iter().map(|key| named(*host, key)).collect();
            for at in (from + step_ms..=to).step_by(plan.step_ms as usize) {
                // Scrapes are a few milliseconds late, and never at the very moment that a question is of: what lies at the
                // beginning of a range counts for prometheus 2 and does not for us, as for prometheus 3.
                let timestamp = at - step_ms / 2 + 1 + at / step_ms % 7;
                let (summary, _) = values.next(Now { boot_ns: 0, wall_ms: timestamp }, plan.step_ms);
                for (series, (_, point)) in timeseries.iter_mut().zip(summary.points) {
                    let (Point::Counter(value) | Point::Gauge { last: value, .. }) = point;
                    series.samples.push(Sample { value, timestamp });
                    samples += 1;
                }
            }
            let body = snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec())?;
            for side in &mut *sides {
                let started = Instant::now();
                let (status, said) = call(side.at, "POST", "/api/v1/write", &body)?;
                ensure!(status / 100 == 2, "{}: {status} {}", side.name, String::from_utf8_lossy(&said));
                side.took += started.elapsed();
            }
        }
        eprintln!("{:.0} % written", (to - plan.from_ms) as f64 / (plan.to_ms - plan.from_ms) as f64 * 100.0);
        from = to;
    }
    Ok(samples)
}

fn named(host: u32, key: &SeriesKey) -> TimeSeries {
    let mut labels = vec![
        ("__name__", key.name.clone()),
        ("instance", format!("{}:9100", name(host))),
        ("job", "node".to_owned()),
        ("role", ["web", "db", "cache"][host as usize % 3].to_owned()),
    ];
    labels.extend(key.labels.iter().map(|(name, value)| (name.as_str(), value.clone())));
    labels.sort();
    let labels = labels.into_iter().map(|(name, value)| Label { name: name.to_owned(), value }).collect();
    TimeSeries { labels, ..TimeSeries::default() }
}

/// Joins the hours that are over, as the collector does in the quarter of an hour after each. The last slot stays open until a
/// later row comes.
pub(super) async fn join(collector: &Collector, plan: &Plan) -> Result<()> {
    for source in collector.hub.sources.all() {
        let _guard = source.lock.lock().await;
        if plan.is_past {
            let mut batch = Batch::default();
            collector.hub.store.seal_except(&mut batch, source.short, slot_of(plan.to_ms))?;
            collector.hub.store.commit(batch).await?;
        }
        for hour in hour_of(plan.from_ms)..hour_of(plan.to_ms) {
            let mut batch = Batch::default();
            collector.hub.store.join_hour(&mut batch, source.short, hour)?;
            collector.hub.store.commit(batch).await?;
        }
    }
    Ok(())
}

/// Bytes of the store's tables, with its log written into them. What is past is compacted, as peers' blocks are; what is young
/// lies as it does when all is written.
pub(super) fn live_bytes(settings: &Settings, plan: &Plan) -> Result<u64> {
    let store = Store::open(&settings.data.join("db"), settings.cache_bytes, 0)?;
    if plan.is_past {
        store.give_back();
    }
    Ok(store.live_bytes())
}

/// Bytes of a block of all that prometheus has.
pub(super) fn snapshot_bytes(peer: &Peer) -> Result<u64> {
    let (status, said) = call(peer.at, "POST", "/api/v1/admin/tsdb/snapshot", &[])?;
    ensure!(status == 200, "snapshot: {status} {}", String::from_utf8_lossy(&said));
    folder_bytes(&peer.data.path().join("data/snapshots"))
}

/// Bytes of what victoria-metrics has, written and merged.
pub(super) fn merged_bytes(peer: &Peer) -> Result<u64> {
    for path in ["/internal/force_flush", "/internal/force_merge"] {
        let (status, said) = call(peer.at, "GET", path, &[])?;
        ensure!(status == 200, "{path}: {status} {}", String::from_utf8_lossy(&said));
    }
    // A merge goes on by itself: it is over when nothing changes any more.
    let data = peer.data.path().join("data");
    let (mut before, started) = (0, Instant::now());
    loop {
        let now = folder_bytes(&data.join("data"))? + folder_bytes(&data.join("indexdb"))?;
        if now == before || started.elapsed() > READY_MAX {
            return Ok(now);
        }
        before = now;
        std::thread::sleep(Duration::from_secs(5));
    }
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        // What is merged away meanwhile has no size.
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() { folder_bytes(&entry.path()).unwrap_or(0) } else { about.len() };
    }
    Ok(bytes)
}
