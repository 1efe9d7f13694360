//! Where the things under test lie: binaries and packages that `make build` and `make deb` left in the target folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The target folder of this build.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| super::cache_dir().join("target"), PathBuf::from)
}

/// A binary of the release profile: the very file that went into the packages.
///
/// # Errors
/// When it is not built; says how to.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = target_dir().join("release").join(name);
    if !path.exists() {
        bail!("{} is not built (make build)", path.display());
    }
    Ok(path)
}

/// The newest deb of a package, such as `mainstay-agent`.
///
/// # Errors
/// When there is none; says how to make it.
pub fn deb(package: &str) -> Result<PathBuf> {
    newest(&target_dir().join("debian"), &format!("{package}_"), ".deb").context("make it with: make deb")
}

/// The newest rpm of a package.
///
/// # Errors
/// When there is none; says how to make it.
pub fn rpm(package: &str) -> Result<PathBuf> {
    newest(&target_dir().join("generate-rpm"), &format!("{package}-0"), ".rpm").context("make it with: make rpm")
}

fn newest(dir: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(suffix)
        })
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
        .with_context(|| format!("no {prefix}*{suffix} in {}", dir.display()))
}
