//! Mainstay, Debian's prometheus and victoria-metrics side by side: the same requests of remote write to each, then the
//! same questions to each over HTTP, and the bytes that the same samples take, as docs/performance.md shows.
//!
//! FLEET_HOSTS, FLEET_SERIES and FLEET_MINUTES set the fleet (default 1,000 hosts, 300 series, 120 minutes at 10 s),
//! FLEET_ROUNDS how often each question is asked (default 30), FLEET_ONLY which (those that hold this text). Questions are
//! asked of one after the other in turn, so that what else the machine does falls on all three.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mainstay_collector::collector::Collector;
use mainstay_collector::config::Settings;
use mainstay_collector::remote::message::{Label, Sample, TimeSeries, WriteRequest};
use mainstay_collector::store::series::hour_of;
use mainstay_collector::store::{Batch, Store};
use mainstay_collector::{clock, hook};
use mainstay_core::series::{Point, SeriesKey};
use prost::Message as _;
use serde_json::Value;

#[path = "peers.rs"]
mod peers;
#[path = "shapes.rs"]
mod shapes;

use peers::Peer;
use shapes::{Described, Shapes, describe};

const STEP: usize = 10_000;
const STEP_MS: i64 = 10_000;
/// A request holds so much of one host: prometheus takes what is up to an hour behind the newest.
const REQUEST_MS: i64 = 600_000;
const HOUR_MS: i64 = 3_600_000;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const READY_MAX: Duration = Duration::from_secs(60);

fn number(name: &str, default: u32) -> Result<u32> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}: `{text}` is no number")))
}

/// What all three are asked over.
struct Side {
    name: &'static str,
    version: String,
    at: SocketAddr,
    took: Duration,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Plan {
    hosts: u32,
    series: usize,
    from_ms: i64,
    to_ms: i64,
}

fn main() -> Result<()> {
    let hour = clock::wall_ms() / HOUR_MS * HOUR_MS;
    let minutes = i64::from(number("FLEET_MINUTES", 120)?);
    let plan = Plan {
        hosts: number("FLEET_HOSTS", 1_000)?,
        series: number("FLEET_SERIES", 300)? as usize,
        from_ms: hour - minutes * 60_000,
        to_ms: hour,
    };
    let rounds = number("FLEET_ROUNDS", 30)?;
    let program = |package| peers::program(package).with_context(|| format!("Debian's {package} cannot be had"));
    let programs = [program("prometheus")?, program("victoria-metrics")?];
    let prometheus = Peer::prometheus(&programs[0], |_| "global: {}\n".to_owned())?;
    let victoria = Peer::victoria(&programs[1])?;
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut settings = Settings::for_tests(folder.path());
    settings.cache_bytes = 512 << 20;
    settings.write_token = Some(hook::hash(TOKEN));
    let collector = runtime.block_on(Collector::start(settings.clone()))?;
    let side = |name, version: Option<String>, at| {
        let version = version.unwrap_or_else(|| "unknown".to_owned());
        Side { name, version, at, took: Duration::ZERO, bytes: 0 }
    };
    let mut sides = [
        side("mainstay", Some(env!("CARGO_PKG_VERSION").to_owned()), collector.http),
        side("prometheus", version("prometheus", &programs[0]), prometheus.at),
        side("victoria-metrics", version("victoria-metrics", &programs[1]), victoria.at),
    ];
    for (side, ready) in sides.iter().zip(["/-/ready", "/-/ready", "/health"]) {
        wait(side.at, ready)?;
    }
    let samples = write(plan, &mut sides)?;
    runtime.block_on(join(&collector, plan))?;
    runtime.block_on(collector.stop());
    sides[0].bytes = live_bytes(&settings)?;
    let collector = runtime.block_on(Collector::start(settings))?;
    sides[0].at = collector.http;
    sides[1].bytes = snapshot_bytes(&prometheus)?;
    sides[2].bytes = merged_bytes(&victoria)?;
    println!(
        "{} hosts, {} series each, {} minutes at 10 s: {:.1} million samples\n",
        plan.hosts,
        plan.series,
        minutes,
        samples as f64 / 1e6
    );
    println!("| | version | written over one connection, samples a second | bytes a sample |\n|---|---|---|---|");
    for side in &sides {
        let rate = samples as f64 / side.took.as_secs_f64();
        println!("| {} | {} | {rate:.0} | {:.3} |", side.name, side.version, side.bytes as f64 / samples as f64);
    }
    questions(plan, rounds, &sides)?;
    runtime.block_on(collector.stop());
    Ok(())
}

fn name(host: u32) -> String {
    format!("host-{host:05}")
}

/// Writes the same requests to all; says how many samples they held.
fn write(plan: Plan, sides: &mut [Side]) -> Result<u64> {
    let Described { keys, gauge } = describe(plan.series);
    let mut hosts: Vec<(u32, Shapes)> = (1..=plan.hosts).map(|n| (n, Shapes::of(u64::from(n), plan.series))).collect();
    let (mut from, mut samples) = (plan.from_ms, 0);
    while from < plan.to_ms {
        let to = (from + REQUEST_MS).min(plan.to_ms);
        for (host, shapes) in &mut hosts {
            let mut timeseries: Vec<TimeSeries> = keys.iter().map(|key| named(*host, key)).collect();
            for at in (from + STEP_MS..=to).step_by(STEP) {
                // Scrapes are a few milliseconds late, and never at the very moment that a question is of: what lies at the
                // beginning of a range counts for prometheus 2 and does not for us, as for prometheus 3.
                let timestamp = at - STEP_MS / 2 + 1 + at / STEP_MS % 7;
                for (series, point) in timeseries.iter_mut().zip(shapes.summary(10, &gauge)) {
                    let (Point::Counter(value) | Point::Gauge { last: value, .. }) = point;
                    series.samples.push(Sample { value, timestamp });
                    samples += 1;
                }
            }
            let body = snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec())?;
            for side in &mut *sides {
                let started = Instant::now();
                let (status, said) = http(side.at, "POST", "/api/v1/write", &body)?;
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

/// Joins the hours that are over, as the collector does in the quarter of an hour after each. The last slot stays open, as it
/// is until a later row comes.
async fn join(collector: &Collector, plan: Plan) -> Result<()> {
    for source in collector.hub.sources.all() {
        let _guard = source.lock.lock().await;
        for hour in hour_of(plan.from_ms)..hour_of(plan.to_ms) {
            let mut batch = Batch::default();
            collector.hub.store.join_hour(&mut batch, source.short, hour)?;
            collector.hub.store.commit(batch).await?;
        }
    }
    Ok(())
}

/// Bytes of the store's tables, with its log written into them.
fn live_bytes(settings: &Settings) -> Result<u64> {
    Ok(Store::open(&settings.data.join("db"), settings.cache_bytes, 0)?.live_bytes())
}

/// Bytes of a block of all that prometheus has.
fn snapshot_bytes(peer: &Peer) -> Result<u64> {
    let (status, said) = http(peer.at, "POST", "/api/v1/admin/tsdb/snapshot", &[])?;
    ensure!(status == 200, "snapshot: {status} {}", String::from_utf8_lossy(&said));
    folder_bytes(&peer.data.path().join("data/snapshots"))
}

/// Bytes of what victoria-metrics has, written and merged.
fn merged_bytes(peer: &Peer) -> Result<u64> {
    for path in ["/internal/force_flush", "/internal/force_merge"] {
        let (status, said) = http(peer.at, "GET", path, &[])?;
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

fn questions(plan: Plan, rounds: u32, sides: &[Side]) -> Result<()> {
    print!("\n| question, first / p50 / p99 in ms |");
    sides.iter().for_each(|side| print!(" {} |", side.name));
    println!(" p50 over the better peer's |\n|---|---|---|---|---|");
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    // Answers that were kept from before are no answers to these questions.
    let at = format!("&time={}&nocache=1", seconds(plan.to_ms));
    let span = format!("&start={}&end={}", seconds(plan.to_ms - HOUR_MS), seconds(plan.to_ms));
    let range = |step: u32| format!("{span}&step={step}&nocache=1");
    let only = std::env::var("FLEET_ONLY").unwrap_or_default();
    let all = [
        ("topk(10, avg_over_time(node_load1[1h]))", at.clone()),
        ("sum by (role) (rate(node_network_receive_bytes_total{device=\"00\"}[5m]))", at.clone()),
        ("count(node_load1 > 0.5)", at.clone()),
        ("quantile by (role) (0.99, max_over_time(mainstay_unit_memory_current_bytes[1h]))", at.clone()),
        ("topk(5, sum by (instance) (rate(node_cpu_seconds_total[5m])))", at.clone()),
        ("sum by (role) (rate(node_context_switches_total[5m]))", range(60)),
        ("avg_over_time(node_load1{instance=\"HOST:9100\"}[1h])", at),
        ("sum by (cpu) (rate(node_cpu_seconds_total{instance=\"HOST:9100\"}[5m]))", range(15)),
        ("{instance=\"HOST:9100\",__name__=~\"node_memory.*\"}", range(15)),
    ];
    for (query, how) in all.into_iter().filter(|(query, _)| query.contains(&only)) {
        let path = if how.contains("step") { "/api/v1/query_range" } else { "/api/v1/query" };
        let url = |round: u32| {
            let host = name(1 + round * 7_919 % plan.hosts);
            format!("{path}?query={}{how}", escaped(&query.replace("HOST", &host)))
        };
        let (took, ratio) = row(rounds, sides, url)?;
        let words = if same(sides, &url(0))? { "" } else { " (mainstay and prometheus differ)" };
        println!("| `{query}`{}{words} |{took} {ratio:.2} |", if how.contains("step") { " over 1 h" } else { "" });
    }
    for label in ["__name__", "instance"] {
        let url = |_| format!("/api/v1/label/{label}/values?{}", &span[1..]);
        let (took, ratio) = row(rounds, sides, url)?;
        println!("| values of `{label}` |{took} {ratio:.2} |");
    }
    Ok(())
}

/// What a question took on each side as columns of a table, and the median of the first over that of the better other one.
fn row(rounds: u32, sides: &[Side], url: impl Fn(u32) -> String) -> Result<(String, f64)> {
    let mut took = vec![Vec::new(); sides.len()];
    for round in 0..rounds {
        for (side, took) in sides.iter().zip(&mut took) {
            let started = Instant::now();
            let (status, said) = http(side.at, "GET", &url(round), &[])?;
            ensure!(status == 200, "{}: {}: {status} {}", side.name, url(round), String::from_utf8_lossy(&said));
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    let first: Vec<f64> = took.iter().map(|took| took[0]).collect();
    took.iter_mut().for_each(|took| took.sort_by(f64::total_cmp));
    let at = |took: &[f64], percent: usize| took[((took.len() - 1) * percent).div_ceil(100)];
    let column = |(took, first): (&Vec<f64>, f64)| format!(" {first:.1} / {:.1} / {:.1} |", at(took, 50), at(took, 99));
    let columns = took.iter().zip(first).map(column).collect();
    let peers = took[1..].iter().map(|took| at(took, 50)).fold(f64::INFINITY, f64::min);
    Ok((columns, at(&took[0], 50) / peers))
}

/// Whether mainstay and prometheus answer the same, up to the order in which decimals are added.
fn same(sides: &[Side], url: &str) -> Result<bool> {
    let answer = |side: &Side| -> Result<Vec<(String, Vec<f64>)>> {
        let document: Value = serde_json::from_slice(&http(side.at, "GET", url, &[])?.1)?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        let series =
            document["data"]["result"].as_array().context("an answer without a result")?.iter().map(|series| {
                let one = std::slice::from_ref(&series["value"]);
                let pairs = series["values"].as_array().map_or(one, Vec::as_slice);
                (series["metric"].to_string(), pairs.iter().map(|pair| number(&pair[1])).collect())
            });
        let mut series: Vec<(String, Vec<f64>)> = series.collect();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(series)
    };
    let (ours, theirs) = (answer(&sides[0])?, answer(&sides[1])?);
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    Ok(!ours.is_empty()
        && ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|(a, b)| a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(near)))
}

/// The version of a Debian package, by its changelog: not every program says its own.
fn version(package: &str, program: &Path) -> Option<String> {
    let folder = program.parent()?.parent()?.join("share/doc").join(package);
    let changelog = ["changelog.Debian.amd64.gz", "changelog.Debian.gz"].into_iter().map(|name| folder.join(name));
    let output = Command::new("zcat").arg(changelog.into_iter().find(|path| path.exists())?).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.split('(').nth(1)?.split(')').next()?.to_owned())
}

fn wait(at: SocketAddr, path: &str) -> Result<()> {
    let started = Instant::now();
    while !matches!(http(at, "GET", path, &[]), Ok((200, _))) {
        ensure!(started.elapsed() < READY_MAX, "{at}{path} is not ready within {READY_MAX:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// HTTP/1.0, so that the answer ends where the connection ends.
fn http(at: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {at}\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { bail!("{path}: no answer") };
    let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.context("no status")?, answer.split_off(end + 4)))
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
