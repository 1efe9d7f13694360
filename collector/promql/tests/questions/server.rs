//! Prometheus' HTTP API, fed over remote write and asked; and Debian's prometheus behind it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::series::{BEGIN_MS, EVERY_MS, SAMPLES, Series};

/// Longest that it may take to be ready.
const START_MAX: Duration = Duration::from_secs(30);
/// Longest that one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A remote-write request covers so much time: Prometheus takes samples in the order of their times.
const REQUEST_MS: i64 = 20 * EVERY_MS;

/// Where such an API is.
pub(crate) struct Api {
    pub(crate) at: SocketAddr,
    /// What writing takes.
    pub(crate) token: Option<String>,
}

/// A running prometheus; it ends with this.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) api: Api,
    /// Such as 2.42.0.
    pub(crate) version: String,
    _data: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where the program is: `MAINSTAY_PROMETHEUS`, or Debian's package, unpacked. `None` where it cannot be had.
pub(crate) fn program_or_skip() -> Result<Option<PathBuf>> {
    match program() {
        Ok(program) => Ok(Some(program)),
        Err(error) if std::env::var("CI").as_deref() != Ok("true") => {
            eprintln!("skipped: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAINSTAY_PROMETHEUS") {
        return Ok(path.into());
    }
    let mut above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests/scripts/unpacked"));
    let script = above.find(|script| script.exists()).context("there is no tests/scripts/unpacked")?;
    let output =
        Command::new(script).arg("prometheus").stderr(Stdio::inherit()).output().context("cannot run unpacked")?;
    ensure!(output.status.success(), "Debian's prometheus cannot be had");
    let folder = String::from_utf8(output.stdout)?;
    Ok(Path::new(folder.trim()).join("usr/bin/prometheus"))
}

impl Prometheus {
    /// Starts one on a free port.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        std::fs::write(data.path().join("prometheus.yml"), "global:\n  evaluation_interval: 1m\n")?;
        let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new(program)
            .arg(format!("--config.file={}", data.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address={at}"))
            .args(["--web.enable-remote-write-receiver", "--log.level=error"])
            .arg("--enable-feature=promql-experimental-functions")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, api: Api { at, token: None }, version: String::new(), _data: data };
        let begun = Instant::now();
        while !matches!(server.api.http("GET", "/-/ready", &[], &[]), Ok((200, _))) {
            ensure!(server.child.try_wait()?.is_none(), "prometheus ended as soon as it was started");
            ensure!(begun.elapsed() < START_MAX, "prometheus is not ready within {START_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let about = server.api.ask("/api/v1/status/buildinfo", &[])?;
        server.version = about["data"]["version"].as_str().unwrap_or("unknown").to_owned();
        Ok(server)
    }

    /// 2 or 3.
    pub(super) fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

impl Api {
    /// Asks; the answer is the whole document, with its errors.
    pub(super) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let form: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let head = ["Content-Type: application/x-www-form-urlencoded".to_owned()];
        let method = if parameters.is_empty() { "GET" } else { "POST" };
        let (_, body) = self.http(method, path, &head, form.join("&").as_bytes())?;
        serde_json::from_slice(&body).with_context(|| format!("{path}: {}", String::from_utf8_lossy(&body)))
    }

    /// Stores series over remote write.
    pub(crate) fn store(&self, all: &[Series]) -> Result<()> {
        let kind = ["Content-Type: application/x-protobuf", "Content-Encoding: snappy"].map(str::to_owned);
        let version = ["X-Prometheus-Remote-Write-Version: 0.1.0".to_owned()];
        let token = self.token.iter().map(|token| format!("Authorization: Bearer {token}"));
        let head: Vec<String> = kind.into_iter().chain(version).chain(token).collect();
        let mut from = BEGIN_MS;
        while from < BEGIN_MS + SAMPLES * EVERY_MS {
            let to = from + REQUEST_MS;
            let body = snappy(&write_request(all, from, to));
            let (status, answer) = self.http("POST", "/api/v1/write", &head, &body)?;
            ensure!(status / 100 == 2, "remote write: {status} {}", String::from_utf8_lossy(&answer));
            from = to;
        }
        Ok(())
    }

    /// HTTP/1.0, so that the answer ends where the connection ends.
    fn http(&self, method: &str, path: &str, head: &[String], body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.at)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        head.iter().for_each(|line| request.extend([line, "\r\n"]));
        request.push_str("\r\n");
        stream.write_all(&[request.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { bail!("{path}: no answer") };
        let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok((status.context("no status")?, answer.split_off(end + 4)))
    }
}

/// Percent-encoding.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Prometheus' WriteRequest, with the samples of a stretch of time.
fn write_request(all: &[Series], from: i64, to: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for series in all {
        let mut message = Vec::new();
        for (name, value) in &series.labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut message, 1, &label);
        }
        let samples: Vec<_> = series.samples.iter().filter(|(at, _)| (from..to).contains(at)).collect();
        for (at, value) in &samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend(value.to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, at.cast_unsigned());
            field(&mut message, 2, &sample);
        }
        if !samples.is_empty() {
            field(&mut request, 1, &message);
        }
    }
    request
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Snappy's block format, with nothing compressed: literals only.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, bytes.len() as u64);
    for chunk in bytes.chunks(1 << 16) {
        out.push(61 << 2); // a literal whose length less one follows in two bytes
        out.extend(((chunk.len() - 1) as u16).to_le_bytes());
        out.extend(chunk);
    }
    out
}
