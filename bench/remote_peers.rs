//! Prometheus and VictoriaMetrics of Debian, taking the same samples over remote write: what they use for them.
//!
//! `bench/peers.rs` starts them. They take plain HTTP, so that TLS costs them
//! nothing, and answer before what they took is synced to the disk.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use mainstay_collector::clock;
use mainstay_collector::remote::message::WriteRequest;
use mainstay_core::time::Now;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::play::process::{Usage, folder_bytes, usage_of};
use super::programs;
use super::remote_write::{add, body};
use super::values::{Series, Values};

/// Longest until it takes samples.
const READY_MAX: Duration = Duration::from_secs(60);
/// Connections that samples come on.
const LANES: u32 = 8;
/// Summaries of a request: some 2,000 samples of 300 series, which is what Prometheus itself sends at most.
const BATCH: u64 = 7;
/// Between two summaries.
const STEP_MS: i64 = 10_000;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Of Debian's package, and of the program in it.
    pub(crate) name: &'static str,
    start: fn(&Path) -> std::io::Result<programs::Peer>,
}

/// Both.
pub(crate) const PEERS: [Peer; 2] = [
    Peer { name: "prometheus", start: |program| programs::Peer::prometheus(program, |_| "global: {}\n".to_owned()) },
    Peer { name: "victoria-metrics", start: programs::Peer::victoria },
];

/// What the samples cost it.
pub(crate) struct Cost {
    pub(crate) samples: u64,
    pub(crate) took: Duration,
    pub(crate) usage: Usage,
    pub(crate) disk_bytes: u64,
}

impl Peer {
    /// Feeds it so many summaries of so many hosts, in the order of time.
    ///
    /// # Errors
    /// If it does not take them.
    pub(crate) async fn feed(self, series: &Arc<Series>, hosts: u32, summaries: u64) -> Result<Cost> {
        let program = programs::program(self.name).with_context(|| format!("Debian's {} cannot be had", self.name))?;
        let running = (self.start)(&program)?;
        connect(running.at).await?;
        let before = usage_of(running.pid())?;
        let started = Instant::now();
        let from_ms = clock::wall_ms() - i64::try_from(summaries)? * STEP_MS;
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let values: Vec<_> =
                (lane..hosts).step_by(LANES as usize).map(|host| (host, Values::of(series, host))).collect();
            lanes.spawn(send(running.at, values, from_ms, summaries));
        }
        let mut samples = 0;
        while let Some(lane) = lanes.join_next().await {
            samples += lane??;
        }
        let took = started.elapsed();
        let usage = usage_of(running.pid())?;
        let usage = Usage { cpu_seconds: usage.cpu_seconds - before.cpu_seconds, ..usage };
        Ok(Cost { samples, took, usage, disk_bytes: folder_bytes(&running.data.path().join("data")) })
    }
}

/// Connects as soon as it listens.
async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                return Ok(sender);
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn send(address: SocketAddr, mut hosts: Vec<(u32, Values)>, from_ms: i64, summaries: u64) -> Result<u64> {
    let mut sender = connect(address).await?;
    let (mut samples, mut sent) = (0, 0);
    while sent < summaries {
        let some = BATCH.min(summaries - sent);
        for (host, values) in &mut hosts {
            let mut request = WriteRequest::default();
            for n in sent..sent + some {
                let wall_ms = from_ms + (n.cast_signed() + 1) * STEP_MS;
                let (summary, _) = values.next(Now { boot_ns: 0, wall_ms }, 10_000);
                samples += summary.points.len() as u64;
                add(&mut request, &summary, &format!("host-{host:05}"));
            }
            post(&mut sender, body(&request)).await?;
        }
        sent += some;
    }
    Ok(samples)
}

async fn post(sender: &mut SendRequest<Full<Bytes>>, body: Vec<u8>) -> Result<()> {
    let deadline = Instant::now() + READY_MAX;
    let body = Bytes::from(body);
    loop {
        let request = hyper::Request::post("/api/v1/write")
            .header("host", "peer")
            .header("content-encoding", "snappy")
            .header("content-type", "application/x-protobuf")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .body(Full::new(body.clone()))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        match status.as_u16() {
            200..300 => return Ok(()),
            // It still reads what it has.
            503 if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => bail!("samples are not taken: {status} {}", String::from_utf8_lossy(&text)),
        }
    }
}
