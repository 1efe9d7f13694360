//! What a command needs to know besides its own arguments: where the collector is, who the operator
//! is, how to print.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::arguments::Global;
use crate::exit::Failure;
use crate::output::Format;

/// The operator's certificate.
pub(crate) const CERTIFICATE: &str = "operator.crt";
/// The key of that certificate.
pub(crate) const KEY: &str = "operator.key";
/// The collector's CA.
pub(crate) const CA: &str = "ca.crt";
/// The collector's address.
pub(crate) const COLLECTOR: &str = "collector";
/// The operator's name, as it was given to `mainstay operator create`.
pub(crate) const OPERATOR: &str = "operator";
/// The private key that policies and orders are signed with.
pub(crate) const SIGNING_KEY: &str = "policy.key";
/// What backups are encrypted with.
pub(crate) const BACKUP_KEY: &str = "backup.key";
/// The public key that policies and orders are signed with.
pub(crate) const POLICY_KEY: &str = "policy.pub";

/// Settings of one run.
#[derive(Debug)]
pub(crate) struct Context {
    /// The operator's folder.
    pub(crate) folder: PathBuf,
    /// Collector given on the command line.
    pub(crate) collector: Option<String>,
    /// How to print.
    pub(crate) format: Format,
    /// Whether headings are left out.
    pub(crate) no_headers: bool,
    /// Print anew this often.
    pub(crate) watch: Option<Duration>,
    /// Longest wait for an answer.
    pub(crate) timeout: Duration,
}

impl Context {
    /// Takes the options together with the environment. Reads no files: what a command does not
    /// need may be missing.
    pub(crate) fn load(global: &Global) -> Self {
        let folder = match &global.config {
            Some(folder) => folder.clone(),
            None => default_folder(),
        };
        Self {
            folder,
            collector: global.collector.clone(),
            format: global.output,
            no_headers: global.no_headers,
            watch: global.watch,
            timeout: global.timeout,
        }
    }

    /// Reads a file of the operator's folder.
    pub(crate) fn read(&self, name: &str) -> Result<String, Failure> {
        read_text(&self.folder.join(name)).map_err(|failure| {
            failure.and(
                " (an operator's folder is made on the collector's machine by \
                 `mainstay operator create NAME --role admin`, and copied from there)",
            )
        })
    }
}

/// Reads a text file; the failure names it.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

/// Where an operator without a home looks: a service, under systemd.
const FOLDER_OF_SERVICES: &str = "/etc/mainstay/operator";

fn default_folder() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    config.map_or_else(|| PathBuf::from(FOLDER_OF_SERVICES), |folder| folder.join("mainstay"))
}
