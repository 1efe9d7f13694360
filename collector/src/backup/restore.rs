//! Putting a backup onto an empty machine.
//!
//! The folder is marked while it is filled, and a collector does not start from a folder with that mark: a half restore is
//! never taken for a whole one, and the next restore begins anew. What the collector must know of having been set back is
//! written into the store before the mark goes (`store/restored.rs`).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::files;
use super::manifest::{Entry, Manifest, Whole};
use super::seal::{BackupKey, KeyFile};
use super::{Progress, STORE, Tell, Trouble, check, shelf};
use crate::store::Store;

/// In the folder while it is filled.
pub const MARK: &str = "restoring";
/// The CA's folder in the data.
const CA: &str = "ca";
/// What the folder may hold besides: backups that were brought along, and what a filesystem has by itself.
const ALLOWED: [&str; 2] = ["backups", "lost+found"];
/// What the store keeps in memory while it is opened for the first time.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Left free besides what is copied: the store writes when it is opened.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// Where from and where to.
#[derive(Debug)]
pub struct Order<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// The collector's data.
    pub data: &'a Path,
    /// A running collector listens here.
    pub socket: &'a Path,
    /// What the backup was made with.
    pub key: &'a BackupKey,
    /// The moment.
    pub now_ms: i64,
}

fn failed(path: &Path, error: &io::Error) -> Trouble {
    let next = match error.kind() {
        io::ErrorKind::StorageFull => "make room and restore again",
        io::ErrorKind::PermissionDenied => "restore as root",
        _ => "mend that and restore again; the collector does not start from what is there",
    };
    Trouble::new(path, error, next)
}

/// Restores a backup. What is left of one that fails is removed.
///
/// # Errors
/// What is in the way, with the file. Nothing is changed before the backup's manifest and CA were read.
pub fn restore(order: &Order<'_>, tell: &mut Tell<'_>) -> Result<Manifest, Trouble> {
    if UnixStream::connect(order.socket).is_ok() {
        let next = "stop it first (`systemctl stop mainstay-collector`)";
        return Err(Trouble::new(order.socket, "a collector runs on this machine", next));
    }
    let whole = shelf::read(order.backup)?;
    let ca = check::open_keys(order.backup, &whole, order.key)?;
    make_empty(order.data)?;
    has_room(order.data, whole.manifest.bytes())?;
    let mark = order.data.join(MARK);
    let marked = files::write(&mark, b"").and_then(|()| files::sync_dir(order.data));
    marked.map_err(|error| failed(&mark, &error))?;
    let mut made = Made(Vec::new());
    fill(order, &whole, &ca, &mut made, tell)?;
    made.0.clear();
    let unmarked = fs::remove_file(&mark).and_then(|()| files::sync_dir(order.data));
    unmarked.map_err(|error| failed(&mark, &error))?;
    Ok(whole.manifest)
}

/// Folders that are removed if restoring fails.
struct Made(Vec<PathBuf>);

impl Made {
    fn folder(&mut self, path: PathBuf) -> Result<PathBuf, Trouble> {
        files::make_dir(&path).map_err(|error| failed(&path, &error))?;
        self.0.push(path.clone());
        Ok(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let all_gone = self.0.iter().map(fs::remove_dir_all).filter(Result::is_err).count() == 0;
        // The mark goes last, and stays where a half does: nobody starts from there.
        if let Some(data) = self.0.first().and_then(|path| path.parent()).filter(|_| all_gone) {
            let _ = fs::remove_file(data.join(MARK));
        }
    }
}

fn fill(order: &Order<'_>, whole: &Whole, ca: &[KeyFile], made: &mut Made, tell: &mut Tell<'_>) -> Result<(), Trouble> {
    let store = made.folder(order.data.join(STORE))?;
    let keys = made.folder(order.data.join(CA))?;
    let mut progress = Progress { done: 0, total: whole.manifest.bytes(), tell };
    progress.add(0);
    for file in &whole.manifest.files {
        copy(order.backup, &store, file, &mut progress)?;
    }
    for file in ca {
        let path = keys.join(&file.name);
        files::write(&path, &file.bytes).map_err(|error| failed(&path, &error))?;
    }
    for folder in [&store, &keys] {
        files::sync_dir(folder).map_err(|error| failed(folder, &error))?;
    }
    let next = "this backup cannot be restored: take an older one (`mainstay backup list`)";
    let opened = Store::open(&store, CACHE_BYTES, 0).map_err(|error| Trouble::new(&store, error, next))?;
    let set_back = opened.set_back(&name_of(order.backup), whole.manifest.made_ms, order.now_ms);
    set_back.map_err(|error| Trouble::new(&store, error, "mend that and restore again"))?;
    drop(opened);
    give_away(order.data, &[store, keys])
}

fn copy(backup: &Path, store: &Path, file: &Entry, progress: &mut Progress<'_, '_>) -> Result<(), Trouble> {
    let (from, to) = (backup.join(STORE).join(&file.name), store.join(&file.name));
    if let Err(error) = fs::metadata(&from) {
        return Err(shelf::damaged(&from, error));
    }
    let hash = files::copy(&from, &to, &mut |bytes| progress.add(bytes)).map_err(|error| failed(&to, &error))?;
    if hash == file.hash {
        return Ok(());
    }
    Err(shelf::damaged(&from, "its content is not what was written: its hash is another"))
}

fn name_of(backup: &Path) -> String {
    backup.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Sees to it that the folder is there and has nothing of a collector. What a restore that was killed has left goes.
fn make_empty(data: &Path) -> Result<(), Trouble> {
    let at = |error: io::Error| failed(data, &error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(at)?;
    if data.join(MARK).exists() {
        for folder in [STORE, CA] {
            match fs::remove_dir_all(data.join(folder)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&data.join(folder), &error));
                }
                _ => {}
            }
        }
        fs::remove_file(data.join(MARK)).map_err(at)?;
    }
    for entry in fs::read_dir(data).map_err(at)? {
        let entry = entry.map_err(at)?;
        if entry.file_name().to_str().is_none_or(|name| !ALLOWED.contains(&name)) {
            let away = format!("{}.before", data.display());
            return Err(Trouble::new(
                &entry.path(),
                "the folder is not empty: only an empty one is restored into",
                format!("move what is there away (`mv {} {away}`) and restore again", data.display()),
            ));
        }
    }
    Ok(())
}

fn has_room(data: &Path, bytes: u64) -> Result<(), Trouble> {
    let disk = rustix::fs::statvfs(data).map_err(|error| failed(data, &error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = bytes.saturating_add(SPARE_BYTES);
    if free >= needed {
        return Ok(());
    }
    Err(Trouble::new(data, format!("{needed} bytes are needed, {free} are free"), "make room and restore again"))
}

/// Root restores, and the collector's user reads: all that was made belongs to whom the folder belongs to.
fn give_away(data: &Path, made: &[PathBuf]) -> Result<(), Trouble> {
    let owner = fs::metadata(data).map_err(|error| failed(data, &error))?;
    let mut all = made.to_vec();
    for folder in made {
        for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
            all.push(entry.map_err(|error| failed(folder, &error))?.path());
        }
    }
    for path in all {
        let meta = fs::symlink_metadata(&path).map_err(|error| failed(&path, &error))?;
        if (meta.uid(), meta.gid()) != (owner.uid(), owner.gid()) {
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))
                .map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}
