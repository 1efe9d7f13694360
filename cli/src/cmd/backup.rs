//! `mainstay backup create`: the collector's data, copied while it runs.

use std::path::PathBuf;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use mainstay_proto::v1::CreateBackupRequest;

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Copy everything into a new folder on the collector's machine
    Create {
        /// The folder; it must not exist yet, and the collector's user must be able to make it
        path: PathBuf,
    },
}

/// Carries the command out.
pub(crate) async fn run(command: &BackupCommand, context: &Context) -> Result<Exit, Failure> {
    let BackupCommand::Create { path } = command;
    let request = CreateBackupRequest { path: path.to_string_lossy().into_owned() };
    let mut progress = connect::commands(context).await?.create_backup(request).await?.into_inner();
    let bar = ProgressBar::new(0);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg}")
            .map_err(|error| Failure::new(Exit::Failed, error))?,
    );
    let mut finished = false;
    while let Some(step) = progress.message().await? {
        bar.set_length(step.total_bytes);
        bar.set_position(step.done_bytes);
        bar.set_message(step.text.clone());
        if step.finished {
            finished = true;
            bar.finish_and_clear();
            output::say(&step.text);
        }
    }
    if !finished {
        return Err(Failure::new(Exit::Failed, "the collector ended the backup before it was whole: do not use it"));
    }
    output::line_out(&path.display().to_string())?;
    Ok(Exit::Success)
}
