//! Ctrl-C and SIGTERM: the hosts are ended and removed before the process goes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::sweep::remove_run;

/// Exit status of a shell's command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// From now on a signal removes the run in `dir` and ends the process.
///
/// # Errors
/// When no thread can be started.
pub fn clean_up_on_signal(dir: PathBuf) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot wait for signals")?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (mut interrupt, mut terminate) = (
                signal(SignalKind::interrupt()).expect("a handler"),
                signal(SignalKind::terminate()).expect("a handler"),
            );
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("\nending the hosts …");
        if let Err(error) = remove_run(&dir) {
            eprintln!("not fully removed, the next run tries again: {error:#}");
        }
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}
