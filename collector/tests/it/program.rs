//! The program as systemd runs it, and what is asked of it from outside.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_proto::v1;
use mainstay_proto::v1::query_service_client::QueryServiceClient;
use tonic::transport::Channel;

use crate::agent::Book;
use crate::world::{Papers, SOON, channel, enrol_at, local, request};

/// Where a program has what.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Configuration and sockets.
    folder: PathBuf,
    /// Store and CA.
    data: PathBuf,
    /// More lines of its configuration.
    pub(crate) config: String,
    /// A library that is loaded before all others.
    pub(crate) preload: Option<&'static str>,
}

impl Site {
    /// Everything below one folder.
    pub(crate) fn below(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), data: folder.join("data"), config: String::new(), preload: None }
    }

    /// The same, with the data elsewhere.
    pub(crate) fn with_data(self, data: PathBuf) -> Self {
        Self { data, ..self }
    }
}

/// A process that is killed when this is dropped, also where a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that runs.
pub(crate) struct Program {
    child: Running,
    site: Site,
    pub(crate) address: String,
    /// How long it took from its start until it was ready.
    pub(crate) ready_after: Duration,
}

impl Program {
    pub(crate) async fn start(site: &Site) -> Self {
        let config = site.folder.join("collector.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\ncache = \"32MiB\"\ndata = \"{}\"\nadmin_socket = \"{}\"\n{}",
            site.data.display(),
            site.socket().display(),
            site.config,
        );
        std::fs::write(&config, text).unwrap();
        let ready = site.folder.join("notify.sock");
        let _ = std::fs::remove_file(&ready);
        let notified = UnixDatagram::bind(&ready).unwrap();
        notified.set_read_timeout(Some(SOON)).unwrap();
        let started = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay-collector"));
        if let Some(library) = site.preload {
            command.env("LD_PRELOAD", library);
        }
        let child = command
            .args(["run", "--config"])
            .arg(&config)
            .arg("--drop-ins")
            .arg(site.folder.join("none"))
            .env("NOTIFY_SOCKET", &ready)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = Running(child);
        let mut buffer = [0; 256];
        let length = notified.recv(&mut buffer).expect("the program says that it is ready");
        assert!(buffer[..length].starts_with(b"READY=1"));
        let ready_after = started.elapsed();
        if let Some(library) = site.preload {
            // The loader goes on without a library that it cannot find.
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.0.id())).unwrap();
            assert!(
                maps.contains(library),
                "{library} is not loaded: `tests/scripts/install-missing test` installs it"
            );
        }
        let token = v1::CreateTokenRequest { uses: 1, ttl_ms: 1_000, labels: Vec::new() };
        let address = local(&site.socket()).await.create_token(token).await.unwrap().into_inner().address;
        Self { child, site: site.clone(), address, ready_after }
    }

    /// SIGKILL, as dropping it does.
    pub(crate) fn kill(self) {}

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.0.try_wait().unwrap()
    }

    /// Enrols `web-1`.
    pub(crate) async fn enrol(&self) -> Papers {
        let token = v1::CreateTokenRequest { uses: 1, ttl_ms: 60_000, labels: Vec::new() };
        let token = local(&self.site.socket()).await.create_token(token).await.unwrap().into_inner();
        let ca = std::fs::read_to_string(self.site.data.join("ca/ca.pem")).unwrap();
        enrol_at(&self.address, &ca, &token.secret, "web-1").await.unwrap()
    }

    /// The stored points of the one series of this name.
    pub(crate) async fn points(&self, name: &str, (from_ms, to_ms): (i64, i64)) -> Vec<(i64, f64)> {
        let request = v1::QueryRangeRequest {
            name: name.to_owned(),
            from_ms,
            to_ms,
            points_max: 1_000_000,
            ..v1::QueryRangeRequest::default()
        };
        let answer = self.queries("points").await.query_range(request).await.unwrap().into_inner();
        assert_eq!((answer.series.len(), answer.damaged.len()), (1, 0), "{name}");
        let series = &answer.series[0];
        series.at_ms.iter().copied().zip(series.values.iter().copied()).collect()
    }

    /// Asks as a new operator of this name.
    async fn queries(&self, name: &str) -> QueryServiceClient<Channel> {
        let (key, csr) = request();
        let make = v1::CreateOperatorRequest { name: name.to_owned(), role: "viewer".to_owned(), csr };
        let made = local(&self.site.socket()).await.create_operator(make).await.unwrap().into_inner();
        let papers =
            Papers { certificate: made.certificate, key: key.serialize_pem(), ca: made.ca.clone(), host_id: [0; 16] };
        QueryServiceClient::new(channel(&self.address, &made.ca, Some(&papers)).await.unwrap())
    }

    /// Asserts that the ledger of `web-1` is the book, each record once.
    pub(crate) async fn expect_ledger(&self, book: &Book) {
        let request = v1::ReadLedgerRequest { host: "web-1".to_owned(), from_index: 1 };
        let mut chunks = self.queries("ledger").await.read_ledger(request).await.unwrap().into_inner();
        let (mut indices, mut head) = (Vec::new(), None);
        while let Some(chunk) = chunks.message().await.unwrap() {
            indices.extend(chunk.entries.iter().map(|entry| entry.index));
            assert_eq!(chunk.doubts, Vec::<String>::new());
            head = chunk.head.or(head);
        }
        assert_eq!(indices, (1..=book.head.index).collect::<Vec<_>>());
        assert_eq!(head.unwrap().hash, book.head.hash);
    }
}

impl Site {
    fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }
}
