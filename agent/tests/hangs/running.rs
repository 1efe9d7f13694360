//! The agent as it runs on a host, its loop and all its threads, over a root of the test's own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_agent::config::Settings;
use mainstay_agent::run::{Paths, run};

/// Longest wait for what must come, and how often it is looked for.
const WAIT_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// An agent that runs in a thread of this process until that ends.
pub(crate) struct Running {
    metrics: SocketAddr,
    paths: Paths,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts it over the root, with its state in a folder of the test's own unless the settings name one.
    pub(crate) fn start(root: &Path, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (etc, run_in) = (folder.path().join("etc"), folder.path().join("run"));
        for made in [&etc, &run_in] {
            std::fs::create_dir(made).unwrap();
        }
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut settings = Settings { metrics: Some(metrics), ..settings };
        if settings.state == Settings::default().state {
            settings.state.dir = folder.path().join("state");
        }
        let paths = Paths { root: root.to_owned(), etc, run: run_in };
        let of_loop = paths.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ended = runtime.block_on(run(of_loop, settings));
            panic!("the agent ended: {ended:?}");
        });
        Self { metrics, paths, _folder: folder }
    }

    /// Waits until as many more samples as wanted were taken, none of them late with all that a tick does besides. Gives the
    /// slowest of those that were seen.
    pub(crate) fn ticks(&self, more: f64) -> Duration {
        let mut slowest = 0.0f64;
        let first = self.until("is sampled", |seen| seen.get(SAMPLES).copied().unwrap_or(0.0) > 0.0);
        let last = self.until("goes on being sampled", |seen| {
            slowest = slowest.max(seen[SECONDS]);
            seen[SAMPLES] >= first[SAMPLES] + more
        });
        assert!(last[LATE] <= first[LATE], "{} ticks were late", last[LATE] - first[LATE]);
        Duration::from_secs_f64(slowest)
    }

    /// Waits until what the agent says of itself is as wanted.
    pub(crate) fn until(
        &self,
        what: &str,
        mut wanted: impl FnMut(&BTreeMap<String, f64>) -> bool,
    ) -> BTreeMap<String, f64> {
        let begun = Instant::now();
        let mut last = BTreeMap::new();
        while begun.elapsed() < WAIT_MAX {
            if let Some(seen) = self.own() {
                if wanted(&seen) {
                    return seen;
                }
                last = seen;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("the host never {what}; the page of the agent:\n{}\n{last:#?}", self.page());
    }

    /// What `mainstay-agent status` shows.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        let Ok(mut stream) = UnixStream::connect(self.paths.status_socket()) else { return page };
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_string(&mut page);
        page
    }

    /// The agent's series without labels; `None` while it does not answer. A scrape waits for the host, each part of it at
    /// most a second, and says at once what the loop knew when it was asked.
    fn own(&self) -> Option<BTreeMap<String, f64>> {
        let mut stream = TcpStream::connect(self.metrics).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let own = answer.lines().filter(|line| line.starts_with("mainstay_agent_"));
        let pairs = own.filter_map(|line| line.split_once(' '));
        Some(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect())
    }
}

const SAMPLES: &str = "mainstay_agent_samples_total";
const SECONDS: &str = "mainstay_agent_sample_duration_seconds";
const LATE: &str = "mainstay_agent_ticks_late_total";

/// A root whose files are those of this machine, but for the table of mounts, which is that of this process.
pub(crate) fn root_with_own_mounts(folder: &Path) -> PathBuf {
    let proc = folder.join("proc");
    std::fs::create_dir_all(proc.join("1")).unwrap();
    for file in ["stat", "loadavg", "meminfo", "vmstat", "pressure", "diskstats", "sys", "self"] {
        std::os::unix::fs::symlink(Path::new("/proc").join(file), proc.join(file)).unwrap();
    }
    std::os::unix::fs::symlink("/proc/self/net", proc.join("net")).unwrap();
    std::os::unix::fs::symlink("/proc/self/mountinfo", proc.join("1/mountinfo")).unwrap();
    std::os::unix::fs::symlink("/sys", folder.join("sys")).unwrap();
    folder.to_owned()
}
