//! The boundary of the pure crates holds: clippy, with the very clippy.toml that lies beside them,
//! refuses code that reads a clock, a file or a random order.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// What is planted, and a word of the reason that clippy must give.
const PLANTED: [(&str, &str); 5] = [
    ("pub fn planted() -> std::time::Instant { std::time::Instant::now() }", "time is an argument"),
    ("pub fn planted() -> std::time::SystemTime { std::time::SystemTime::now() }", "time is an argument"),
    ("pub fn planted() -> bool { std::fs::read(\"/etc/passwd\").is_ok() }", "the shell reads"),
    ("pub fn planted() -> std::process::Command { std::process::Command::new(\"true\") }", "emit an effect"),
    ("pub type Planted = std::collections::HashMap<u8, u8>;", "iteration order"),
];

/// What the pure crates do and may do.
const CLEAN: &str = "pub fn clean() -> std::collections::BTreeMap<u8, u8> { std::collections::BTreeMap::new() }";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs clippy over a crate of one file that has the clippy.toml of `pure`.
fn clippy(pure: &str, code: &str) -> Result<(bool, String)> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let manifest = "[package]\nname = \"planted\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::create_dir(folder.path().join("src"))?;
    std::fs::write(folder.path().join("Cargo.toml"), manifest)?;
    std::fs::write(folder.path().join("src/lib.rs"), code)?;
    let rules = root().join(pure).join("clippy.toml");
    std::fs::copy(&rules, folder.path().join("clippy.toml"))
        .with_context(|| format!("cannot copy {}", rules.display()))?;
    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--quiet", "--offline", "--", "-D", "warnings"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .context("cannot run cargo clippy")?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn clippy_refuses_what_would_read_the_world() -> Result<()> {
    for pure in ["agent/core", "collector/core", "collector/promql"] {
        let (passes, said) = clippy(pure, CLEAN)?;
        ensure!(passes, "{pure}: clippy refuses clean code, so this test says nothing:\n{said}");
        for (code, reason) in PLANTED {
            let (passes, said) = clippy(pure, code)?;
            ensure!(!passes, "{pure}: clippy lets `{code}` pass");
            ensure!(said.contains("disallowed") && said.contains(reason), "{pure}: `{code}` is refused for:\n{said}");
        }
    }
    Ok(())
}

/// The lints that clippy.toml configures are not switched off by the crates themselves.
#[test]
fn the_pure_crates_do_not_allow_what_is_disallowed() -> Result<()> {
    for pure in ["agent/core", "collector/core", "collector/promql"] {
        let mut folders = vec![root().join(pure).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path)?;
                    let allows = text.contains("clippy::disallowed") || text.contains("unsafe {");
                    ensure!(!allows, "{} allows what is disallowed", path.display());
                }
            }
        }
    }
    Ok(())
}
