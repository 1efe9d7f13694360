//! The collector's own program as a process, and what the kernel counts of it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper_util::rt::TokioIo;
use mainstay_proto::v1;
use mainstay_proto::v1::command_service_client::CommandServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Longest that it may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(120);

/// A collector that runs.
pub(crate) struct Process {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    config: String,
    /// Where agents and operators connect.
    pub(crate) address: SocketAddr,
    /// Where it is asked over HTTP.
    pub(crate) http: SocketAddr,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Of user and system time.
    pub(crate) cpu_seconds: f64,
    /// What is resident now, and the most that ever was.
    pub(crate) rss_bytes: u64,
    pub(crate) peak_bytes: u64,
}

impl Process {
    /// Starts a program below a folder, with more lines of configuration.
    pub(crate) async fn start(program: &Path, folder: &Path, config: &str) -> Result<Self> {
        let http = free_port()?;
        let config = format!("http = \"{http}\"\n{config}");
        let child = spawn(program, folder, "127.0.0.1:0", &config)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, program: program.to_owned(), folder: folder.to_owned(), config, address, http };
        process.address = process.token(1).await?.address.parse().context("the address that a token names")?;
        Ok(process)
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again where it was; says how long it took until it was ready.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.child = spawn(&self.program, &self.folder, &self.address.to_string(), &self.config)?;
        Ok(started.elapsed())
    }

    /// A token for so many hosts.
    pub(crate) async fn token(&self, uses: u32) -> Result<v1::CreateTokenResponse> {
        let request = v1::CreateTokenRequest { uses, ttl_ms: 3_600_000, labels: Vec::new() };
        Ok(self.admin().await?.create_token(request).await?.into_inner())
    }

    /// The root-only socket.
    pub(crate) async fn admin(&self) -> Result<CommandServiceClient<Channel>> {
        Ok(CommandServiceClient::new(self.local().await?))
    }

    pub(crate) async fn local(&self) -> Result<Channel> {
        let path = self.folder.join("admin.sock");
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Ok(Endpoint::from_static("http://local.invalid").connect_with_connector(connector).await?)
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("data/ca/ca.pem"))?)
    }

    /// What it has used since it was started.
    pub(crate) fn usage(&self) -> Result<Usage> {
        usage_of(self.child.id())
    }

    /// Bytes of the store's files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        folder_bytes(&self.folder.join("data/db"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// What the collector is started by where it is installed, and with which environment.
const UNIT: &str = include_str!("../../systemd/mainstay-collector.service");

/// One that nobody listens to now: the collector does not say which it was given.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn spawn(program: &Path, folder: &Path, listen: &str, config: &str) -> Result<Child> {
    let file = folder.join("collector.toml");
    let text = format!(
        "listen = \"{listen}\"\ndata = \"{}\"\nadmin_socket = \"{}\"\n{config}",
        folder.join("data").display(),
        folder.join("admin.sock").display(),
    );
    fs::write(&file, text)?;
    let ready = folder.join("notify.sock");
    let _ = fs::remove_file(&ready);
    let notified = UnixDatagram::bind(&ready)?;
    notified.set_read_timeout(Some(READY_MAX))?;
    let log = File::options().create(true).append(true).open(folder.join("collector.log"))?;
    let child = Command::new(program)
        .args(["run", "--config"])
        .arg(&file)
        .arg("--drop-ins")
        .arg(folder.join("none"))
        .env("NOTIFY_SOCKET", &ready)
        .envs(UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('=')))
        .stderr(Stdio::from(log))
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut buffer = [0; 256];
    let length = notified.recv(&mut buffer).context("the collector did not say that it is ready")?;
    ensure!(buffer[..length].starts_with(b"READY=1"), "the collector says something else than READY=1");
    Ok(child)
}

/// What a process has used since it was started.
pub(crate) fn usage_of(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // What comes after the name, which may hold anything.
    let rest = stat.rsplit_once(')').context("a name in /proc/PID/stat")?.1;
    let ticks: u64 = rest.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name: &str| {
        let kib =
            status.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok());
        kib.map_or(0, |kib: u64| kib * 1024)
    };
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Usage { cpu_seconds: ticks as f64 / per_second as f64, rss_bytes: bytes("VmRSS:"), peak_bytes: bytes("VmHWM:") })
}

/// Bytes of all files below a folder.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => folder_bytes(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Raises how many files this process, and those that it starts, may have open; says how many that are.
pub(crate) fn raise_file_limit() -> Result<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
