//! Prometheus and VictoriaMetrics of Debian, taking the same samples over remote write: what they use for them.
//!
//! Their packages are unpacked, not installed (`tests/scripts/unpacked`). They take plain HTTP, so that TLS costs them
//! nothing, and answer before what they took is synced to the disk.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use mainstay_collector::clock;
use mainstay_core::time::Now;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::process::{Usage, folder_bytes, usage_of};
use super::load::values::{Series, Values};
use super::remote_write::{WriteRequest, body};

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
    arguments: fn(data: &str, address: &str, config: &str) -> Vec<String>,
}

/// Both.
pub(crate) const PEERS: [Peer; 2] = [
    Peer {
        name: "prometheus",
        arguments: |data, address, config| {
            vec![
                format!("--config.file={config}"),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={address}"),
                "--web.enable-remote-write-receiver".to_owned(),
            ]
        },
    },
    Peer {
        name: "victoria-metrics",
        arguments: |data, address, _| {
            vec![
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr={address}"),
                "-retentionPeriod=1".to_owned(),
            ]
        },
    },
];

/// What the samples cost it.
pub(crate) struct Cost {
    pub(crate) samples: u64,
    pub(crate) took: Duration,
    pub(crate) usage: Usage,
    pub(crate) disk_bytes: u64,
}

struct Running {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(self) -> Result<Running> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts/unpacked");
        let unpacked = Command::new(script).arg(self.name).stderr(Stdio::inherit()).output()?;
        ensure!(unpacked.status.success(), "the package {} cannot be had", self.name);
        let program = Path::new(String::from_utf8(unpacked.stdout)?.trim()).join("usr/bin").join(self.name);
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.yml");
        std::fs::write(&config, "global: {}\n")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let data = folder.path().join("data");
        let arguments =
            (self.arguments)(&data.display().to_string(), &address.to_string(), &config.display().to_string());
        let child = Command::new(&program)
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Running { child, folder, address })
    }

    /// Feeds it so many summaries of so many hosts, in the order of time.
    ///
    /// # Errors
    /// If it does not take them.
    pub(crate) async fn feed(self, series: &Arc<Series>, hosts: u32, summaries: u64) -> Result<Cost> {
        let running = self.start()?;
        connect(running.address).await?;
        let before = usage_of(running.child.id())?;
        let started = Instant::now();
        let from_ms = clock::wall_ms() - i64::try_from(summaries)? * STEP_MS;
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let values: Vec<_> =
                (lane..hosts).step_by(LANES as usize).map(|host| (host, Values::of(series, host))).collect();
            lanes.spawn(send(running.address, values, from_ms, summaries));
        }
        let mut samples = 0;
        while let Some(lane) = lanes.join_next().await {
            samples += lane??;
        }
        let took = started.elapsed();
        let usage = usage_of(running.child.id())?;
        let usage = Usage { cpu_seconds: usage.cpu_seconds - before.cpu_seconds, ..usage };
        Ok(Cost { samples, took, usage, disk_bytes: folder_bytes(&running.folder.path().join("data")) })
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
                request.add(&summary, &format!("host-{host:05}"));
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
