//! Programs that others have made, out of Debian's packages, on free ports with folders of their own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program out of a Debian package, unpacked and not installed. `None` where it cannot be had.
pub(crate) fn program(package: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts/unpacked");
    let output = Command::new(script).arg(package).stderr(Stdio::inherit()).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| Path::new(folder.trim()).join("usr/bin").join(package))
}

/// The path of what a peer is to do, in its folder. Without it the peer ends at once, which is told when it does not become ready.
pub(crate) fn written(data: &Path, text: &str) -> String {
    let file = data.join("settings.yml");
    let _ = std::fs::write(&file, text);
    file.display().to_string()
}

/// A running peer; it ends with this.
pub(crate) struct Peer {
    child: Child,
    pub(crate) at: SocketAddr,
    pub(crate) data: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Peer {
    /// The number of its process.
    #[allow(dead_code)] // not everyone counts what it uses
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts one, which is not ready yet.
    pub(crate) fn spawn(
        program: &Path,
        arguments: impl FnOnce(&Path, SocketAddr) -> Vec<String>,
    ) -> std::io::Result<Self> {
        let data = tempfile::tempdir()?;
        let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program);
        command.args(arguments(data.path(), at)).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { child: command.spawn()?, at, data })
    }

    /// Prometheus, with what it is to do as the text of its settings.
    pub(crate) fn prometheus(program: &Path, settings: impl FnOnce(SocketAddr) -> String) -> std::io::Result<Self> {
        Self::spawn(program, |data, at| {
            vec![
                format!("--config.file={}", written(data, &settings(at))),
                format!("--storage.tsdb.path={}", data.join("data").display()),
                format!("--web.listen-address={at}"),
                "--storage.tsdb.retention.time=100y".to_owned(),
                "--web.enable-remote-write-receiver".to_owned(),
                "--web.enable-admin-api".to_owned(),
                "--log.level=error".to_owned(),
            ]
        })
    }

    /// VictoriaMetrics, a single node.
    pub(crate) fn victoria(program: &Path) -> std::io::Result<Self> {
        Self::spawn(program, |data, at| {
            vec![
                format!("-storageDataPath={}", data.join("data").display()),
                format!("-httpListenAddr={at}"),
                "-retentionPeriod=10y".to_owned(),
            ]
        })
    }
}
