//! Where the things under test lie: binaries and packages that `make build` and `make deb` left in the target folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::command::must;

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

/// A program of the tests' own package: it was built with whatever runs now, and lies beside it.
///
/// # Errors
/// When it is not there.
pub fn helper(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    // Tests lie one folder deeper than programs.
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    beside.into_iter().find(|path| path.is_file()).with_context(|| format!("no {name} beside {}", own.display()))
}

/// The newest deb of a package, such as `mainstay-agent`.
///
/// # Errors
/// When there is none; says how to make it.
pub fn deb(package: &str) -> Result<PathBuf> {
    newest(&target_dir().join("debian"), &format!("{package}_"), ".deb").context("make it with: make deb")
}

/// The same package under a higher version, as the next release would be; made in `folder`.
///
/// # Errors
/// When dpkg-deb cannot take it apart or put it together.
pub fn next_version(deb: &Path, folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("next");
    let newer = folder.join("mainstay-agent_next.deb");
    must("dpkg-deb", &["-R", &deb.to_string_lossy(), &tree.to_string_lossy()])?;
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let bumped = text.lines().map(|line| match line.strip_prefix("Version: ") {
        Some(version) => format!("Version: {version}+next\n"),
        None => format!("{line}\n"),
    });
    fs::write(&control, bumped.collect::<String>())?;
    // Quick to pack: it is thrown away again.
    must(
        "dpkg-deb",
        &["-Zgzip", "-z1", "--root-owner-group", "-b", &tree.to_string_lossy(), &newer.to_string_lossy()],
    )?;
    Ok(newer)
}

/// The newest rpm of a package.
///
/// # Errors
/// When there is none; says how to make it.
pub fn rpm(package: &str) -> Result<PathBuf> {
    newest(&target_dir().join("generate-rpm"), &format!("{package}-0"), ".rpm").context("make it with: make rpm")
}

fn newest(dir: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(suffix)
        })
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
        .with_context(|| format!("no {prefix}*{suffix} in {}", dir.display()))
}
