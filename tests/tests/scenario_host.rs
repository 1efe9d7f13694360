//! Golden scenarios: scripts for one host under tests/scenarios, each with what it is to say.
//!
//! `UPDATE_EXPECT=1` writes what is said now; read the difference before you commit it. The
//! commands are those of `mainstay_tests::sim::scenario`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mainstay_tests::sim::scenario;

/// Runs one file and compares.
fn check(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sentence = text.lines().next().unwrap_or_default();
    ensure!(sentence.ends_with('.'), "{}: the first line is not a sentence", path.display());
    let said = scenario::run(&text).with_context(|| path.display().to_string())?;
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &said).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(());
    }
    ensure!(said == text, "{}: {sentence}\n--- expected\n{text}\n--- said\n{said}", path.display());
    Ok(())
}

#[test]
fn every_scenario_says_what_it_is_to_say() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let failures: Vec<String> =
        paths.iter().filter_map(|path| check(path).err()).map(|error| format!("{error:#}")).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    ensure!(paths.len() >= 10, "only {} scenarios were found", paths.len());
    Ok(())
}
