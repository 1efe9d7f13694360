//! Which journal files there are.
//!
//! journald writes to `system.journal` and `user-UID.journal` below `/var/log/journal/MACHINE`, or below `/run` while
//! nothing is kept on disk, and to `MACHINE.NAME` for units with a `LogNamespace=`. What is rotated away gets a longer
//! name (`system@….journal`), what was not closed in order one that ends in `~`. Journals of other machines are theirs.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Most files that are looked at in all folders together.
const LISTED_MAX: usize = 4_096;

/// Most namespaces of the journal.
const FOLDERS_MAX: usize = 32;

/// What makes a file the same whatever it is called: its device, its inode, and when it was made, for inodes are used
/// again.
pub(super) type FileId = (u64, u64, u128);

/// A file that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    /// Whether journald writes to it.
    pub(super) is_active: bool,
    /// Whether it is the one of all that is no user's.
    pub(super) is_system: bool,
    /// When it was last written to, seconds since 1970.
    pub(super) changed_s: i64,
}

/// Lists the files in these folders, those of the system first, then what was written to last.
///
/// # Errors
/// Where a folder cannot be listed: why.
pub(super) fn list(folders: &BTreeSet<PathBuf>) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for folder in folders {
        in_folder(folder, &mut found).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    }
    found.sort_by_key(|file| (!file.is_system, std::cmp::Reverse(file.changed_s)));
    Ok(found)
}

/// The folders of this machine's journal.
///
/// # Errors
/// Where there is none, or it cannot be told: why.
pub(super) fn folders(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let of = root.join("etc/machine-id");
    let machine = fs::read_to_string(&of).map_err(|error| format!("cannot read {}: {error}", of.display()))?;
    let machine = machine.trim();
    if machine.len() != 32 || !machine.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("{} holds no machine id", of.display()));
    }
    let mut folders = BTreeSet::new();
    for place in ["var/log/journal", "run/log/journal"].map(|place| root.join(place)) {
        folders.extend(of_machine(&place, machine)?);
    }
    if folders.is_empty() {
        let place = root.join("var/log/journal").join(machine);
        return Err(format!("there is no journal ({} and the same below /run)", place.display()));
    }
    Ok(folders)
}

/// The folders of this machine and its namespaces.
fn of_machine(place: &Path, machine: &str) -> Result<BTreeSet<PathBuf>, String> {
    let is_ours = |entry: &DirEntry| {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(machine));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    match fs::read_dir(place) {
        Ok(entries) => Ok(entries.flatten().filter(is_ours).take(FOLDERS_MAX).map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(format!("cannot list {}: {error}", place.display())),
    }
}

fn in_folder(folder: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_journal = name.ends_with(".journal") || name.ends_with(".journal~");
        if !is_journal || found.len() >= LISTED_MAX {
            continue;
        }
        // One that is gone again was rotated or vacuumed away.
        let Ok(metadata) = entry.metadata() else { continue };
        found.push(Found {
            path: entry.path(),
            id: id(&metadata),
            is_active: !name.contains('@') && !name.ends_with('~'),
            is_system: name.starts_with("system"),
            changed_s: metadata.mtime(),
        });
    }
    Ok(())
}

/// The identity of a file.
pub(super) fn id(metadata: &Metadata) -> FileId {
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    (metadata.dev(), metadata.ino(), made.map_or(0, |made| made.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_this_machine_are_found_and_those_of_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let machine = "0123456789abcdef0123456789abcdef";
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{machine}\n")).unwrap();
        };
        assert!(folders(root.path()).unwrap_err().contains("machine-id"));
        make("etc/machine-id");
        assert!(folders(root.path()).unwrap_err().contains("there is no journal"));
        let other = "f".repeat(32);
        for path in ["user-1000.journal", "system.journal", "system@1-2-3.journal", "system.journal~", "fss"] {
            make(&format!("var/log/journal/{machine}/{path}"));
            make(&format!("var/log/journal/{other}/{path}"));
        }
        make(&format!("run/log/journal/{machine}.app/system.journal"));
        make("var/log/journal/remote/remote-web-2.journal");
        let found = list(&folders(root.path()).unwrap()).unwrap();
        let names: BTreeSet<(String, bool)> = found
            .iter()
            .map(|file| (file.path.strip_prefix(root.path()).unwrap().to_string_lossy().into_owned(), file.is_active))
            .collect();
        let var = |name: &str| format!("var/log/journal/{machine}/{name}");
        let want = BTreeSet::from([
            (var("user-1000.journal"), true),
            (var("system.journal"), true),
            (var("system@1-2-3.journal"), false),
            (var("system.journal~"), false),
            (format!("run/log/journal/{machine}.app/system.journal"), true),
        ]);
        assert_eq!(names, want);
        assert!(found.last().unwrap().path.ends_with("user-1000.journal"), "{found:?}");
    }
}
