//! Making a backup, while everything runs.
//!
//! The store is copied as a checkpoint: hard links where the folder is on its filesystem. On another, tables that the
//! newest backup has are linked from there and only the others are copied. Nothing that was copied before is read again.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::files::{self, Found};
use super::manifest::{Entry, FILE, Manifest, Whole};
use super::seal::{self, BackupKey, KeyFile};
use super::{KEYS, Progress, STORE, Tell, Trouble, name, shelf};
use crate::store::Store;

/// Beside the store, while a backup is made on another filesystem.
pub const CHECKPOINT: &str = "checkpoint";

/// What is to be made.
#[derive(Debug)]
pub struct Order<'a> {
    /// The folder that holds the backups.
    pub root: &'a Path,
    /// The folder of the CA.
    pub ca: &'a Path,
    /// What the CA is encrypted with.
    pub key: &'a BackupKey,
    /// How many backups stay; none is removed at 0.
    pub keep: usize,
    /// Whose it is.
    pub fleet: [u8; 16],
    /// Its name is of this moment.
    pub now_ms: i64,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Of these, bytes that the one before has not.
    pub added_bytes: u64,
    /// The backups that went for it.
    pub removed: Vec<String>,
}

fn failed(path: &Path, error: &io::Error) -> Trouble {
    let next = match error.kind() {
        io::ErrorKind::StorageFull => "make room, or let fewer backups stay with --keep, and make the backup again",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "the collector's user writes below /var/lib/mainstay-collector only; for another folder give it to that user and \
             name it under ReadWritePaths= (`systemctl edit mainstay-collector`)"
        }
        _ => "nothing is left of this backup; mend that and make it again",
    };
    Trouble::new(path, error, next)
}

/// Makes a backup. What is left of one that fails is removed.
///
/// # Errors
/// What is in the way, with the file.
pub fn create(store: &Store, order: &Order<'_>, tell: &mut Tell<'_>) -> Result<Made, Trouble> {
    let root = order.root;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| failed(&path, &error)
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(at(root))?;
    shelf::tidy(root).map_err(at(root))?;
    let name = name::of(order.now_ms);
    let path = root.join(&name);
    if path.exists() {
        return Err(Trouble::new(&path, "a backup of this very moment is there", "make it again"));
    }
    let making = Passing(root.join(format!(".{name}.making")));
    files::make_dir(&making.0).map_err(at(&making.0))?;
    let (whole, added_bytes) = fill(store, order, &making.0, tell)?;
    fs::rename(&making.0, &path).and_then(|()| files::sync_dir(root)).map_err(at(&path))?;
    let removed = if order.keep == 0 { Vec::new() } else { shelf::prune(root, order.keep, &name)? };
    Ok(Made { path, bytes: whole.manifest.bytes() + whole.keys.bytes, added_bytes, removed })
}

/// A folder that is removed if it is still there in the end.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fill(store: &Store, order: &Order<'_>, making: &Path, tell: &mut Tell<'_>) -> Result<(Whole, u64), Trouble> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| failed(&path, &error)
    };
    let before = shelf::newest(order.root);
    let target = making.join(STORE);
    let is_near =
        files::device(making).map_err(at(making))? == files::device(store.path()).map_err(at(store.path()))?;
    let checkpoint = if is_near { target.clone() } else { store.path().with_file_name(CHECKPOINT) };
    let passing = (!is_near).then(|| Passing(checkpoint.clone()));
    if !is_near {
        // A collector that was killed may have left one.
        let _ = fs::remove_dir_all(&checkpoint);
        files::make_dir(&target).map_err(at(&target))?;
    }
    store.checkpoint(&checkpoint).map_err(|error| {
        Trouble::new(
            &checkpoint,
            error,
            "the store could not be copied; the journal says more (`journalctl -u mainstay-collector`)",
        )
    })?;
    let found = files::files(&checkpoint).map_err(at(&checkpoint))?;
    let mut progress = Progress { done: 0, total: found.iter().map(|file| file.bytes).sum(), tell };
    progress.add(0);
    let (mut entries, mut added) = (Vec::with_capacity(found.len()), 0);
    for file in found {
        let source = checkpoint.join(&file.name);
        let shared = before.as_ref().and_then(|(folder, whole)| Shared::find(folder, whole, &file));
        let taken = match shared {
            Some(shared) if is_near && shared.inode == file.inode => Some(shared),
            Some(shared) if !is_near && fs::hard_link(&shared.path, target.join(&file.name)).is_ok() => Some(shared),
            _ => None,
        };
        let hash = match taken {
            Some(shared) => {
                progress.add(file.bytes);
                shared.hash
            }
            None => {
                added += file.bytes;
                let mut read = |bytes| progress.add(bytes);
                let hashed = if is_near {
                    files::hash(&source, &mut read)
                } else {
                    files::copy(&source, &target.join(&file.name), &mut read)
                };
                hashed.map_err(at(&source))?
            }
        };
        entries.push(Entry { hash, bytes: file.bytes, changed_ns: file.changed_ns, name: file.name });
    }
    drop(passing);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { made_ms: order.now_ms, version, fleet: order.fleet, files: entries };
    let whole = seal_ca(order, making, manifest)?;
    let file = making.join(FILE);
    files::write(&file, whole.write().as_bytes()).map_err(at(&file))?;
    files::sync_dir(&target).and_then(|()| files::sync_dir(making)).map_err(at(making))?;
    added += whole.keys.bytes;
    Ok((whole, added))
}

/// Encrypts the CA and names it in the manifest.
fn seal_ca(order: &Order<'_>, making: &Path, manifest: Manifest) -> Result<Whole, Trouble> {
    let at = |error: io::Error| failed(order.ca, &error);
    let mut ca = Vec::new();
    for Found { name, bytes, .. } in files::files(order.ca).map_err(at)? {
        let path = order.ca.join(&name);
        if bytes > seal::BYTES_MAX / 2 {
            return Err(Trouble::new(&path, format!("{bytes} bytes are no file of a CA"), "move it elsewhere"));
        }
        ca.push(KeyFile { name, bytes: fs::read(&path).map_err(|error| failed(&path, &error))? });
    }
    let target = making.join(KEYS);
    let sealed = seal::seal(order.key, manifest.digest(), ca)
        .map_err(|text| Trouble::new(&target, text, "make the backup again"))?;
    files::write(&target, &sealed).map_err(|error| failed(&target, &error))?;
    let hash = files::hash(&target, &mut |_| {}).map_err(|error| failed(&target, &error))?;
    let keys = Entry { hash, bytes: sealed.len() as u64, changed_ns: 0, name: KEYS.to_owned() };
    Ok(Whole { manifest, keys })
}

/// A table that the backup before has too.
struct Shared {
    path: PathBuf,
    inode: u64,
    hash: [u8; 32],
}

impl Shared {
    /// RocksDB never writes to a table again, but after a restore another may come to have its name.
    fn find(folder: &Path, whole: &Whole, file: &Found) -> Option<Self> {
        if !file.name.ends_with(".sst") {
            return None;
        }
        let entry = whole.manifest.file(&file.name)?;
        let path = folder.join(STORE).join(&file.name);
        let meta = fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file())?;
        let is_same = entry.bytes == file.bytes && entry.changed_ns == file.changed_ns && meta.len() == file.bytes;
        is_same.then(|| Self { inode: meta.ino(), hash: entry.hash, path })
    }
}
