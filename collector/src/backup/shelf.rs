//! The folder that holds the backups: what is there, and what of it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::manifest::{self, Whole};
use super::{KEYS, STORE, Trouble, files, name};

/// Most backups that are looked at; those beyond are the oldest.
pub const BACKUPS_MAX: usize = 10_000;

/// Something under the name of a backup.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it holds, or why it cannot be used.
    pub whole: Result<Whole, Trouble>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Of these, bytes of files that no other backup here has.
    pub own_bytes: u64,
}

/// Where a backup is: `named`, or the newest.
///
/// # Errors
/// If there is none.
pub fn find(root: &Path, named: &str) -> Result<PathBuf, Trouble> {
    let names = names(root)?;
    let found = if named.is_empty() { names.first() } else { names.iter().find(|name| *name == named) };
    found.map(|name| root.join(name)).ok_or_else(|| {
        let text =
            if named.is_empty() { "no backup is in it".to_owned() } else { format!("no backup {named} is in it") };
        Trouble::new(
            root,
            text,
            "`mainstay backup list` shows those that are there, `mainstay backup create` makes one",
        )
    })
}

/// Reads the manifest of a backup.
///
/// # Errors
/// What is wrong with it.
pub fn read(backup: &Path) -> Result<Whole, Trouble> {
    let file = backup.join(manifest::FILE);
    let damaged = |text: String| {
        Trouble::new(
            &file,
            text,
            "this backup cannot be used: take another (`mainstay backup list`), and remove its folder",
        )
    };
    let bytes = fs::metadata(&file).map_err(|error| damaged(error.to_string()))?.len();
    if bytes > manifest::BYTES_MAX {
        return Err(damaged(format!("it has {bytes} bytes, which no manifest has")));
    }
    let text = fs::read_to_string(&file).map_err(|error| damaged(error.to_string()))?;
    Whole::read(&text).map_err(damaged)
}

/// The backups of a folder, the newest first. Whether their files are there and as large as they should be is looked at,
/// their content is not.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<Listed>, Trouble> {
    let mut inodes: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    let mut found = Vec::new();
    for name in names(root)? {
        let path = root.join(&name);
        let there = inventory(&path);
        there.values().for_each(|file| *inodes.entry(file.identity).or_default() += 1);
        let whole = read(&path).and_then(|whole| complete(&path, whole, &there));
        found.push((Listed { name, path, whole, bytes: 0, own_bytes: 0 }, there));
    }
    let with_bytes = |(listed, there): (Listed, BTreeMap<PathBuf, There>)| {
        let own = |file: &&There| inodes.get(&file.identity) == Some(&1);
        let bytes = there.values().map(|file| file.bytes).sum();
        Listed { bytes, own_bytes: there.values().filter(own).map(|file| file.bytes).sum(), ..listed }
    };
    Ok(found.into_iter().map(with_bytes).collect())
}

/// The newest backup that can be used.
#[must_use]
pub fn newest(root: &Path) -> Option<(PathBuf, Whole)> {
    let names = names(root).ok()?;
    names.iter().map(|name| root.join(name)).find_map(|path| read(&path).ok().map(|whole| (path, whole)))
}

/// Removes the oldest usable backups until `keep` are left, `just_made` among them. One that cannot be used counts for
/// none and stays: it is for a person to look at. Gives the names of those that went.
///
/// # Errors
/// If one cannot be removed.
pub fn prune(root: &Path, keep: usize, just_made: &str) -> Result<Vec<String>, Trouble> {
    let others: Vec<String> = names(root)?.into_iter().filter(|name| name != just_made).collect();
    let usable = others.into_iter().filter(|name| read(&root.join(name)).is_ok());
    let mut gone = Vec::new();
    for name in usable.skip(keep.saturating_sub(1)) {
        let (path, leaving) = (root.join(&name), root.join(format!(".{name}.removing")));
        let removed = fs::rename(&path, &leaving).and_then(|()| files::sync_dir(root));
        removed.and_then(|()| fs::remove_dir_all(&leaving)).map_err(|error| {
            Trouble::new(&path, format!("cannot be removed: {error}"), "remove it by hand, or make a backup again")
        })?;
        gone.push(name);
    }
    Ok(gone)
}

/// Removes what a backup that broke off, or a removal, has left.
pub(super) fn tidy(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let left = file_name
            .to_str()
            .and_then(|name| name.strip_prefix('.'))
            .and_then(|name| name.strip_suffix(".making").or_else(|| name.strip_suffix(".removing")));
        if left.is_some_and(name::is_one) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The names of backups, the newest first.
fn names(root: &Path) -> Result<Vec<String>, Trouble> {
    let failed = |error: io::Error| {
        Trouble::new(root, error, "name the folder that holds the backups with --in, or `backups` in collector.toml")
    };
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        names.extend(entry.file_name().into_string().ok().filter(|name| name::is_one(name)));
        if names.len() > BACKUPS_MAX {
            names.pop_first();
        }
    }
    Ok(names.into_iter().rev().collect())
}

struct There {
    bytes: u64,
    identity: (u64, u64),
}

/// The files of a backup as the filesystem has them; what cannot be read is missing.
fn inventory(backup: &Path) -> BTreeMap<PathBuf, There> {
    let mut there = BTreeMap::new();
    for folder in [PathBuf::new(), PathBuf::from(STORE)] {
        for entry in fs::read_dir(backup.join(&folder)).into_iter().flatten().flatten() {
            let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
            if meta.is_file() {
                let file = There { bytes: meta.len(), identity: (meta.dev(), meta.ino()) };
                there.insert(folder.join(entry.file_name()), file);
            }
        }
    }
    there
}

fn complete(backup: &Path, whole: Whole, there: &BTreeMap<PathBuf, There>) -> Result<Whole, Trouble> {
    let store = whole.manifest.files.iter().map(|file| (Path::new(STORE).join(&file.name), file.bytes));
    for (path, bytes) in store.chain([(PathBuf::from(KEYS), whole.keys.bytes)]) {
        let text = match there.get(&path) {
            None => "it is missing".to_owned(),
            Some(file) if file.bytes != bytes => format!("it has {} bytes of {bytes}", file.bytes),
            Some(_) => continue,
        };
        return Err(damaged(&backup.join(path), text));
    }
    Ok(whole)
}

/// A file of a backup that is not what it was.
pub(super) fn damaged(path: &Path, text: impl ToString) -> Trouble {
    Trouble::new(
        path,
        text,
        "this backup cannot be restored: take an older one (`mainstay backup list`), and look after the disk",
    )
}
