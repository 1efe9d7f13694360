//! `mainstay backup`: the collector's data copied while it runs, read back, and put onto an empty machine.
//!
//! What is made and read is on the collector's machine; the key that the CA is encrypted with is the operator's and goes
//! along with each order. Restoring is the collector's own program's work, since no collector runs then.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use mainstay_proto::v1::{BackupProgress, BackupView, CreateBackupRequest, ListBackupsRequest, VerifyBackupRequest};
use serde::Serialize;
use tonic::Streaming;

use super::operator::{make_folder, write_new};
use crate::connect;
use crate::context::{BACKUP_KEY, Context};
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{key, view, words};

/// The collector's program, which restores.
const COLLECTOR: &str = "mainstay-collector";

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make the key that backups are encrypted with; keep a copy of it away from the collector
    Keygen {
        /// File to write (default: backup.key in the configuration folder)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a backup, while everything runs; what the one before has is not copied again
    Create {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        key: KeyFile,
        /// Remove the oldest ones until so many are left, with this one
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
    },
    /// List backups, the newest first
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Read all of a backup: exit code 0 if nothing is wrong with it, 1 if something is
    Verify {
        /// Its name, as `backup list` shows it (default: the newest)
        name: Option<String>,
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Put a backup onto this machine, which has no collector's data yet (root, on the collector's machine)
    Restore {
        /// The backup, or the folder that holds several, of which the newest is taken
        backup: PathBuf,
        #[command(flatten)]
        key: KeyFile,
        /// The collector's settings
        #[arg(long, value_name = "FILE", default_value = "/etc/mainstay/collector.toml")]
        settings: PathBuf,
    },
}

/// Where backups are.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The folder that holds the backups, on the collector's machine (default: `backups` of its settings)
    #[arg(long = "in", value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> String {
        self.folder.as_ref().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What they are encrypted with.
#[derive(Debug, Args)]
pub(crate) struct KeyFile {
    /// File with the key (default: backup.key in the configuration folder)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl KeyFile {
    fn path(&self, context: &Context) -> PathBuf {
        self.key.clone().unwrap_or_else(|| context.folder.join(BACKUP_KEY))
    }

    fn read(&self, context: &Context) -> Result<Vec<u8>, Failure> {
        let path = self.path(context);
        if !path.exists() {
            let text = format!("no key for backups in {}: `mainstay backup keygen` makes one", path.display());
            return Err(Failure::usage(text));
        }
        Ok(key::read_backup_key(&path)?.to_vec())
    }
}

#[derive(Debug, Serialize)]
struct BackupRow {
    name: String,
    made: Option<String>,
    bytes: u64,
    own_bytes: u64,
    files: u32,
    version: String,
    problem: String,
    #[serde(skip)]
    age: String,
}

impl BackupRow {
    fn new(view: BackupView, now_ms: i64) -> Self {
        Self {
            age: if view.made_ms == 0 { "–".to_owned() } else { words::ago(view.made_ms, now_ms) },
            made: view::moment(view.made_ms),
            name: view.name,
            bytes: view.bytes,
            own_bytes: view.own_bytes,
            files: view.files,
            version: view.version,
            problem: view.problem,
        }
    }
}

impl Row for BackupRow {
    const HEADINGS: &'static [&'static str] = &["NAME", "AGE", "SIZE", "ITS OWN", "STATE", "FILES", "VERSION"];
    const WIDE_FROM: usize = 5;

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.age.clone(),
            words::bytes(self.bytes),
            words::bytes(self.own_bytes),
            if self.problem.is_empty() { "complete".to_owned() } else { output::paint("31", &self.problem) },
            self.files.to_string(),
            self.version.clone(),
        ]
    }
}

/// Carries the command out.
pub(crate) async fn run(command: &BackupCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Keygen { out } => keygen(out.as_deref(), context),
        BackupCommand::Create { folder, key, keep } => {
            let request = CreateBackupRequest { path: folder.path(), key: key.read(context)?, keep: keep.unwrap_or(0) };
            let progress = connect::commands(context).await?.create_backup(request).await?.into_inner();
            let made = watch(progress).await?.ok_or_else(|| {
                Failure::new(Exit::Failed, "the collector ended the backup before it was whole: make it again")
            })?;
            output::say(&format!("{} of {} are new", words::bytes(made.added_bytes), words::bytes(made.total_bytes)));
            output::line_out(&made.path)?;
            Ok(Exit::Success)
        }
        BackupCommand::List { folder } => list(folder, context).await,
        BackupCommand::Verify { name, folder, key } => {
            let name = name.clone().unwrap_or_default();
            let request = VerifyBackupRequest { path: folder.path(), name, key: key.read(context)? };
            let progress = connect::commands(context).await?.verify_backup(request).await?.into_inner();
            let read = watch(progress).await?.ok_or_else(|| {
                Failure::new(Exit::Failed, "the collector ended before the backup was read: verify it again")
            })?;
            for problem in &read.problems {
                output::line_out(problem)?;
            }
            output::say(&format!("{}: {}", read.path, read.text));
            Ok(if read.problems.is_empty() { Exit::Success } else { Exit::No })
        }
        BackupCommand::Restore { backup, key, settings } => Err(restore(backup, &key.path(context), settings)),
    }
}

fn keygen(out: Option<&Path>, context: &Context) -> Result<Exit, Failure> {
    let path = match out {
        Some(path) => path.to_owned(),
        None => {
            make_folder(&context.folder)?;
            context.folder.join(BACKUP_KEY)
        }
    };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(Exit::Failed, error))?;
    write_new(&path, format!("{}\n", mainstay_proto::backup_key::write(&bytes)).as_bytes(), 0o600)?;
    output::say(&format!(
        "{}: without it no backup can be restored. Keep a copy of its one line where the collector's machine cannot take it along",
        path.display()
    ));
    Ok(Exit::Success)
}

async fn list(folder: &Folder, context: &Context) -> Result<Exit, Failure> {
    let request = ListBackupsRequest { path: folder.path() };
    let answer = connect::commands(context).await?.list_backups(request).await?.into_inner();
    let rows: Vec<_> = answer.backups.into_iter().map(|view| BackupRow::new(view, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    if context.format.is_for_people() {
        output::say(&format!("{} in {}", words::count(rows.len(), "backup"), answer.path));
    }
    Ok(Exit::Success)
}

/// Shows how far it is until it is done; `None` if it ended before.
async fn watch(mut progress: Streaming<BackupProgress>) -> Result<Option<BackupProgress>, Failure> {
    let bar = ProgressBar::new(0);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg}")
            .map_err(|error| Failure::new(Exit::Failed, error))?,
    );
    while let Some(step) = progress.message().await? {
        if step.finished {
            bar.finish_and_clear();
            return Ok(Some(step));
        }
        bar.set_length(step.total_bytes);
        bar.set_position(step.done_bytes);
        bar.set_message(step.text);
    }
    Ok(None)
}

/// Becomes the collector's program. Comes back only if it cannot.
fn restore(backup: &Path, key: &Path, settings: &Path) -> Failure {
    let mut command = std::process::Command::new(COLLECTOR);
    command.arg("restore").arg(backup).arg("--key").arg(key).arg("--config").arg(settings);
    let error = command.exec();
    Failure::usage(format!(
        "cannot run {COLLECTOR}: {error} (restoring is done on the machine that is to be the collector's; install the package \
         mainstay-collector there, and stop the service if it was started)"
    ))
}
