//! Finds and reads the files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_core::config::{Document, Problem, Problems};

use super::settings::{Settings, read};

/// Where settings stand.
#[derive(Debug, Clone)]
pub struct Files {
    /// The file that the package installs. It may be missing: everything has a default.
    pub main: PathBuf,
    /// The folder of drop-ins, read in the order of their names.
    pub drop_ins: PathBuf,
}

impl Files {
    /// The files below a configuration folder, `/etc/mainstay` on a real host.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self { main: folder.join("agent.toml"), drop_ins: folder.join("agent.d") }
    }
}

/// Reads the settings.
///
/// # Errors
/// Every mistake in every file, in order of file and place.
pub fn load(files: &Files) -> Result<Settings, Vec<Problem>> {
    let mut documents = vec![Document::empty(&files.main.to_string_lossy())];
    let mut wrong = Vec::new();
    for path in std::iter::once(files.main.clone()).chain(drop_ins(&files.drop_ins, &mut wrong)) {
        match parse(&path) {
            Ok(document) => documents.extend(document),
            Err(problems) => wrong.extend(problems),
        }
    }
    let Some(merged) = Document::merged(documents) else { return Ok(Settings::default()) };
    let problems = Problems::new();
    let settings = read(merged.reader(&problems));
    wrong.extend(problems.into_vec());
    match settings {
        Some(settings) if wrong.is_empty() => Ok(settings),
        _ => {
            wrong.sort();
            wrong.dedup();
            Err(wrong)
        }
    }
}

/// A file that is not there is no mistake.
fn parse(path: &Path) -> Result<Option<Document>, Vec<Problem>> {
    let name = path.to_string_lossy();
    match fs::read_to_string(path) {
        Ok(text) => Document::parse(&name, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(vec![Problem::of_file(&name, format!("cannot read it: {error}"))]),
    }
}

fn drop_ins(folder: &Path, wrong: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            wrong.push(Problem::of_file(&folder.to_string_lossy(), format!("cannot list it: {error}")));
            return Vec::new();
        }
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("agent.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn without_any_file_the_defaults_hold() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(&Files::below(folder.path())).unwrap(), Settings::default());
    }

    #[test]
    fn a_later_drop_in_wins() {
        let folder = folder(&[
            ("agent.toml", "[labels]\nrole = \"web\"\nzone = \"a\"\n"),
            ("agent.d/20-b.toml", "[labels]\nzone = \"c\"\n"),
            ("agent.d/10-a.toml", "[labels]\nzone = \"b\"\n"),
            ("agent.d/30-off.toml.bak", "nonsense ="),
        ]);
        let settings = load(&Files::below(folder.path())).unwrap();
        assert_eq!(settings.labels["zone"], "c");
        assert_eq!(settings.labels["role"], "web");
    }

    #[test]
    fn every_mistake_in_every_file_is_named_with_its_place() {
        let folder = folder(&[
            ("agent.toml", "[sampling]\nevry = \"1s\"\n[metrics]\nlisten = 7445\n"),
            ("agent.d/10-a.toml", "[labels\n"),
        ]);
        let problems = load(&Files::below(folder.path())).unwrap_err();
        let told: Vec<String> = problems
            .iter()
            .map(|problem| problem.to_string().replace(&format!("{}/", folder.path().display()), ""))
            .collect();
        assert_eq!(told.len(), 3, "{told:#?}");
        assert!(told[0].starts_with("agent.d/10-a.toml:1:"), "{told:#?}");
        assert_eq!(told[1], "agent.toml:2:1: unknown key `evry`; did you mean `every`?");
        assert!(told[2].starts_with("agent.toml:4:10: `listen` must be"), "{told:#?}");
    }
}
