//! Reads root's files from disk, and believes them only if nobody but root could have written them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mainstay_core::config::{Document, Problem, TEXT_BYTES_MAX};

use crate::settings::Settings;

/// Root's main file.
pub const CONFIG_PATH: &str = "/etc/mainstay/actuator.toml";

/// Most drop-ins read.
const DROP_INS_MAX: usize = 64;

/// Who must own a file of root's for it to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Root, and neither group nor others may write it. Always so in the program.
    Root,
    /// Whoever runs this; for tests without root.
    AnyOwner,
}

/// Loads `path` and the `*.toml` of the folder beside it (`actuator.d`), in order of name.
///
/// # Errors
/// Every mistake, with its place; a file that cannot be read or that somebody else could have written is one.
pub fn load(path: &Path, ownership: Ownership) -> Result<Settings, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut documents = Vec::new();
    for file in files(path, &mut problems) {
        match read_text(&file, ownership) {
            Ok(text) => match Document::parse(&file.to_string_lossy(), &text) {
                Ok(document) => documents.push(document),
                Err(found) => problems.extend(found),
            },
            Err(message) => problems.push(Problem::of_file(&file.to_string_lossy(), message)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let merged = Document::merged(documents).unwrap_or_else(|| Document::empty(&path.to_string_lossy()));
    Settings::read(&merged)
}

/// The main file, then its drop-ins.
fn files(path: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut drop_ins = Vec::new();
    let dir = path.with_extension("d");
    match fs::read_dir(&dir) {
        Ok(entries) => {
            let paths = entries.flatten().map(|entry| entry.path());
            drop_ins.extend(paths.filter(|path| path.extension().is_some_and(|ext| ext == "toml")));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => problems.push(Problem::of_file(&dir.to_string_lossy(), format!("cannot read: {error}"))),
    }
    drop_ins.sort();
    if drop_ins.len() > DROP_INS_MAX {
        let message = format!("too many drop-ins (got {}, at most {DROP_INS_MAX})", drop_ins.len());
        problems.push(Problem::of_file(&dir.to_string_lossy(), message));
        drop_ins.clear();
    }
    let mut files = vec![path.to_owned()];
    files.append(&mut drop_ins);
    files
}

/// Reads one of root's files.
///
/// # Errors
/// Why it cannot be read, or not be believed, in words.
pub fn read_text(path: &Path, ownership: Ownership) -> Result<String, String> {
    let mut file = fs::File::open(path).map_err(|error| format!("cannot read: {error}"))?;
    let meta = file.metadata().map_err(|error| format!("cannot read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if ownership == Ownership::Root && (meta.uid() != 0 || meta.mode() & 0o022 != 0) {
        let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
        return Err(format!("must belong to root and be writable by nobody else (uid {uid}, mode {mode:04o})"));
    }
    let mut bytes = Vec::new();
    let bound = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    file.by_ref().take(bound).read_to_end(&mut bytes).map_err(|error| format!("cannot read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn planted(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("actuator.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn drop_ins_override_in_order_of_name() {
        let dir = planted(&[
            ("actuator.toml", "agent_user = \"a\"\n[units]\nallow = [\"x.service\"]\n"),
            ("actuator.d/20.toml", "agent_user = \"c\"\n"),
            ("actuator.d/10.toml", "agent_user = \"b\"\n"),
            ("actuator.d/ignored.bak", "nonsense"),
        ]);
        let settings = load(&dir.path().join("actuator.toml"), Ownership::AnyOwner).unwrap();
        assert_eq!(settings.agent_user, "c");
        assert_eq!(settings.units_allow.len(), 1);
    }

    #[test]
    fn a_file_that_others_may_write_is_not_believed() {
        let dir = planted(&[("actuator.toml", "")]);
        let path = dir.path().join("actuator.toml");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let problems = load(&path, Ownership::Root).unwrap_err();
        assert!(problems[0].message.contains("writable by nobody else"), "{problems:?}");
    }

    #[test]
    fn a_missing_file_and_mistakes_in_several_are_all_named() {
        let dir = planted(&[("actuator.d/10.toml", "a = = 1"), ("actuator.d/20.toml", "b = = 1")]);
        let problems = load(&dir.path().join("actuator.toml"), Ownership::AnyOwner).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
