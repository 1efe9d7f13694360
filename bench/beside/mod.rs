//! Mainstay, Debian's prometheus and victoria-metrics with the same samples, and the same questions to each.

mod ask;
#[allow(clippy::duplicate_mod)] // the tests have both who ask with it
#[path = "../http.rs"]
mod http;
mod write;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mainstay_collector::collector::Collector;
use mainstay_collector::config::Settings;
use mainstay_collector::hook;

use super::peers::Peer;
use super::values::Series;
pub(crate) use ask::Row;

const HOUR_MS: i64 = 3_600_000;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const READY_MAX: Duration = Duration::from_secs(60);

/// What is written and asked.
pub(crate) struct Plan {
    pub(crate) hosts: u32,
    pub(crate) series: Arc<Series>,
    /// Between two samples of a series.
    pub(crate) step_ms: u32,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    /// Whether more has come since, so that nothing of it is open rows any more.
    pub(crate) is_past: bool,
}

/// One of the three.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    at: SocketAddr,
    /// What writing took.
    pub(crate) took: Duration,
    /// What the samples take, compacted.
    pub(crate) bytes: u64,
}

/// What was measured: mainstay first.
pub(crate) struct Report {
    pub(crate) samples: u64,
    pub(crate) sides: [Side; 3],
    pub(crate) rows: Vec<Row>,
}

/// Writes and asks: each question `rounds` times (0: nothing is asked), of those that hold `only`. `programs` are prometheus and victoria-metrics.
pub(crate) fn run(plan: &Plan, rounds: u32, only: &str, programs: &[PathBuf; 2]) -> Result<Report> {
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
    let samples = write::write(plan, &mut sides)?;
    runtime.block_on(write::join(&collector, plan))?;
    runtime.block_on(collector.stop());
    sides[0].bytes = write::live_bytes(&settings, plan)?;
    let collector = runtime.block_on(Collector::start(settings))?;
    sides[0].at = collector.http;
    sides[1].bytes = write::snapshot_bytes(&prometheus)?;
    sides[2].bytes = write::merged_bytes(&victoria)?;
    let rows = if rounds == 0 { Vec::new() } else { ask::questions(plan, rounds, only, &sides)? };
    runtime.block_on(collector.stop());
    Ok(Report { samples, sides, rows })
}

impl std::fmt::Display for Report {
    /// Two tables of Markdown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "| | version | written over one connection, samples a second | bytes a sample |\n|---|---|---|---|"
        )?;
        for side in &self.sides {
            let rate = self.samples as f64 / side.took.as_secs_f64();
            let bytes = side.bytes as f64 / self.samples as f64;
            writeln!(f, "| {} | {} | {rate:.0} | {bytes:.3} |", side.name, side.version)?;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        write!(f, "\n| question, first / p50 / p99 in ms |")?;
        self.sides.iter().try_for_each(|side| write!(f, " {} |", side.name))?;
        writeln!(f, " p50 over the better peer's | goal |\n|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let differ = if row.is_same == Some(false) { " (mainstay and prometheus differ)" } else { "" };
            write!(f, "| {}{differ} |", row.question)?;
            row.took.iter().try_for_each(|[first, p50, p99]| write!(f, " {first:.1} / {p50:.1} / {p99:.1} |"))?;
            writeln!(f, " {:.2} | {} |", row.ratio(), row.goal)?;
        }
        Ok(())
    }
}

fn name(host: u32) -> String {
    format!("host-{host:05}")
}

/// The version of a Debian package, by its changelog: not every program says its own.
fn version(package: &str, program: &Path) -> Option<String> {
    let folder = program.parent()?.parent()?.join("share/doc").join(package);
    let changelog = ["changelog.Debian.amd64.gz", "changelog.Debian.gz"].into_iter().map(|name| folder.join(name));
    let output = Command::new("zcat").arg(changelog.into_iter().find(|path| path.exists())?).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.split('(').nth(1)?.split(')').next()?.to_owned())
}

/// Waits until there is an answer.
fn wait(at: SocketAddr, path: &str) -> Result<()> {
    let started = Instant::now();
    while !matches!(call(at, "GET", path, &[]), Ok((200, _))) {
        ensure!(started.elapsed() < READY_MAX, "{at}{path} is not ready within {READY_MAX:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Asks a side for something, or sends it samples.
fn call(at: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let body_is = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";
    http::http(at, method, path, &format!("{body_is}Authorization: Bearer {TOKEN}\r\n"), body)
}
