//! What is tracked is what people wrote: no data sets, binaries or build products slip in with a commit.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Largest file that may be tracked, in bytes. `Cargo.lock` and the largest fixture are below a quarter of it.
const FILE_BYTES_MAX: u64 = 512 * 1024;

#[test]
fn no_large_file_is_tracked() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().context("cannot run git")?;
    if !listed.status.success() {
        eprintln!("skipped: not a git checkout");
        return Ok(());
    }
    let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    for name in names.split_terminator('\0') {
        let Ok(meta) = std::fs::symlink_metadata(root.join(name)) else { continue };
        ensure!(meta.len() <= FILE_BYTES_MAX, "{name} has {} bytes, at most {FILE_BYTES_MAX} are tracked", meta.len());
    }
    Ok(())
}
