//! Reading a backup back: every byte of every file, every checksum in every table, and the CA with its key.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::manifest::{FILE, Manifest, Whole};
use super::seal::{self, BackupKey, KeyFile};
use super::shelf::{self, damaged};
use super::{KEYS, Progress, STORE, Tell, Trouble, files};
use crate::enrol::authority;
use crate::store::checkpoint::read_all;

/// Most that is told of one backup; that more is wrong is told in one more line.
pub const TROUBLES_MAX: usize = 100;

/// Reads a backup whole. What is wrong with it is given, file by file.
///
/// # Errors
/// If its manifest cannot be read, so that nothing can be held against it.
pub fn verify(backup: &Path, key: &BackupKey, tell: &mut Tell<'_>) -> Result<(Manifest, Vec<Trouble>), Trouble> {
    let whole = shelf::read(backup)?;
    let mut troubles = Vec::new();
    // Once for the hashes, once for the tables' own checksums.
    let mut progress = Progress { done: 0, total: 2 * whole.manifest.bytes(), tell };
    progress.add(0);
    store_files(backup, &whole.manifest, &mut progress, &mut troubles);
    strangers(backup, &whole.manifest, &mut troubles);
    if let Err(trouble) = open_keys(backup, &whole, key) {
        troubles.push(trouble);
    }
    // Of a file that is known to be damaged RocksDB has nothing to add.
    if troubles.is_empty() {
        let store = backup.join(STORE);
        let read = tempdir().and_then(|log| {
            let read = read_all(&store, &log, &mut |bytes| progress.add(bytes)).map_err(|error| error.to_string());
            let _ = fs::remove_dir_all(&log);
            read
        });
        if let Err(text) = read {
            troubles.push(Trouble::new(
                &store,
                text,
                "the store itself was damaged before this backup was made: look after its disk, and restore an older backup \
                 if what is lost matters",
            ));
        }
    }
    if troubles.len() > TROUBLES_MAX {
        let more = troubles.len() - TROUBLES_MAX;
        troubles.truncate(TROUBLES_MAX);
        troubles.push(damaged(backup, format!("{more} more files are not what they were")));
    }
    progress.add(u64::MAX);
    Ok((whole.manifest, troubles))
}

fn store_files(backup: &Path, manifest: &Manifest, progress: &mut Progress<'_, '_>, troubles: &mut Vec<Trouble>) {
    for file in &manifest.files {
        let path = backup.join(STORE).join(&file.name);
        let text = match files::hash(&path, &mut |bytes| progress.add(bytes)) {
            Ok(hash) if hash == file.hash => continue,
            Ok(_) => "its content is not what was written: its hash is another".to_owned(),
            Err(error) => error.to_string(),
        };
        troubles.push(damaged(&path, text));
    }
}

/// Files that RocksDB would read although nobody wrote them here.
fn strangers(backup: &Path, manifest: &Manifest, troubles: &mut Vec<Trouble>) {
    let known: BTreeSet<&str> = [FILE, KEYS, STORE].into();
    let mut there = Vec::new();
    for entry in fs::read_dir(backup).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !known.contains(name)) {
            there.push(entry.path());
        }
    }
    for entry in fs::read_dir(backup.join(STORE)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| manifest.file(name).is_none()) {
            there.push(entry.path());
        }
    }
    let strange = |path: &std::path::PathBuf| {
        Trouble::new(path, "it does not belong to this backup", "find out who put it there, and remove it")
    };
    troubles.extend(there.iter().map(strange));
}

/// Decrypts the CA and sees whether its key belongs to its certificate.
///
/// # Errors
/// What is wrong with it.
pub(super) fn open_keys(backup: &Path, whole: &Whole, key: &BackupKey) -> Result<Vec<KeyFile>, Trouble> {
    let path = backup.join(KEYS);
    let bytes = fs::metadata(&path).map_err(|error| damaged(&path, error))?.len();
    if bytes > seal::BYTES_MAX {
        return Err(damaged(&path, format!("{bytes} bytes are no encrypted CA")));
    }
    let sealed = fs::read(&path).map_err(|error| damaged(&path, error))?;
    let hash = files::hash(&path, &mut |_| {}).map_err(|error| damaged(&path, error))?;
    if hash != whole.keys.hash {
        return Err(damaged(&path, "its content is not what was written: its hash is another"));
    }
    let ca = seal::open(key, whole.manifest.digest(), &sealed)
        .map_err(|text| Trouble::new(&path, text, "give the key that this backup was made with (--key FILE)"))?;
    let text = |name: &str| {
        let file = ca.iter().find(|file| file.name == name);
        file.and_then(|file| String::from_utf8(file.bytes.clone()).ok()).unwrap_or_default()
    };
    authority::check_pair(&text("ca.pem"), &text("ca.key"))
        .map_err(|text| damaged(&path, format!("the CA in it: {text}")))?;
    Ok(ca)
}

/// A folder that nobody else has, for what RocksDB logs.
fn tempdir() -> Result<std::path::PathBuf, String> {
    let path = std::env::temp_dir().join(format!("mainstay-verify-{:016x}", crate::random::number()));
    files::make_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    Ok(path)
}
