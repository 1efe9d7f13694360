//! `check-config`: names every mistake in root's files, with its place.

use std::path::Path;
use std::process::ExitCode;

use mainstay_core::config::Problem;

use crate::dispatch::Paths;
use crate::load::{self, Ownership};
use crate::probe::Probe;

/// Checks everything and tells what is wrong on stderr. Exit status 1 if anything is.
#[must_use]
pub fn run(paths: &Paths) -> ExitCode {
    let problems = problems(paths, Ownership::Root);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("{}: ok", paths.config.display());
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Every mistake in `actuator.toml`, its drop-ins and `probes.d`.
#[must_use]
pub fn problems(paths: &Paths, ownership: Ownership) -> Vec<Problem> {
    let mut problems = load::load(&paths.config, ownership).err().unwrap_or_default();
    for name in probe_names(&paths.probes) {
        problems.extend(Probe::load(&paths.probes, &name, ownership).err().unwrap_or_default());
    }
    problems
}

fn probe_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned))
        .collect();
    names.sort();
    names
}
