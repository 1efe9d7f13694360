//! `undo`: brings back what an action took, with name, mode, owner, times and contents, over nothing that is there now.
//!
//! A file is built up in our own folder on the same filesystem, checked against its checksum, and given its name in one
//! step that fails if the name is taken. What cannot be brought back stays held and is reported.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mainstay_core::id::ActionId;
use mainstay_core::subject::PathBytes;
use mainstay_core::verb::{Conflict, Detail, RefusalReason, Reply, UndoDone};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, fchmod, fchown, fsync,
    futimens, mkdirat, openat2, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::hold::{action_of, create, own_folder, remembered_roots};
use super::manifest::{self, Entry, Header, MANIFEST, MANIFEST_BYTES_MAX, Stored};
use super::root::{BELOW, Root, RootError, open_absolute, open_dir_at};
use super::{Context, HOLD_DIR};
use crate::settings::Settings;

/// One folder of an action that holds files.
#[derive(Debug)]
pub struct Held {
    /// The folder that it lies in.
    pub parent: OwnedFd,
    /// Its name there.
    pub name: CString,
    /// The folder itself.
    pub dir: OwnedFd,
    /// Its action.
    pub action: ActionId,
}

impl Held {
    /// Reads the manifest; `None` if there is no valid one.
    #[must_use]
    pub fn manifest(&self) -> Option<(Header, Vec<Entry>)> {
        let fd =
            openat2(&self.dir, MANIFEST, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BELOW)
                .ok()?;
        let mut data = Vec::new();
        File::from(fd).take(MANIFEST_BYTES_MAX).read_to_end(&mut data).ok()?;
        manifest::read(&data)
    }
}

/// Every folder in which an action holds something: in the roots and in the declared undo folder.
#[must_use]
pub fn held_folders(settings: &Settings, context: &Context<'_>) -> Vec<Held> {
    let mut found = Vec::new();
    for root in remembered_roots(context.state_dir) {
        let Ok(root) = Root::open(&root, context.owner) else { continue };
        let Ok(name) = CString::new(HOLD_DIR) else { continue };
        if let Ok(dir) = open_dir_at(root.as_fd(), &name) {
            list_held(&dir, &mut found);
        }
    }
    if let Some(dir) = settings.undo_dir.as_deref().and_then(|path| open_absolute(path).ok()) {
        list_held(&dir, &mut found);
    }
    found
}

fn list_held(parent: &OwnedFd, found: &mut Vec<Held>) {
    let Ok(mut entries) = Dir::read_from(parent) else { return };
    while let Some(Ok(entry)) = entries.read() {
        let name = entry.file_name().to_owned();
        let Some(action) = action_of(name.to_bytes()) else { continue };
        let (Ok(dir), Ok(parent)) = (open_dir_at(parent.as_fd(), &name), rustix::io::dup(parent)) else { continue };
        found.push(Held { parent, name, dir, action });
    }
}

/// Undoes an action.
pub fn undo(action: ActionId, settings: &Settings, context: &Context<'_>) -> Reply {
    let held: Vec<Held> = held_folders(settings, context).into_iter().filter(|held| held.action == action).collect();
    let held: Vec<_> = held.into_iter().filter_map(|held| held.manifest().map(|manifest| (held, manifest))).collect();
    if held.is_empty() {
        return Reply::refused(RefusalReason::NothingToUndo, format!("nothing is held of {action}"));
    }
    if held.iter().all(|(_, (header, _))| header.expires_ms < context.wall_ms) {
        return Reply::refused(RefusalReason::UndoExpired, format!("the undo time of {action} is over"));
    }
    let mut done = UndoDone { restored_files: 0, restored_bytes: 0, conflicts: Vec::new(), conflicts_total: 0 };
    for (held, (header, entries)) in &held {
        match open_target(header, context) {
            Ok((root, staging)) => restore_all(held, &root, &staging, entries, context, &mut done),
            Err(why) => entries.iter().for_each(|entry| conflict(&mut done, header, entry, &why)),
        }
    }
    Reply::Done(Detail::Undo(done))
}

fn open_target(header: &Header, context: &Context<'_>) -> Result<(Root, OwnedFd), String> {
    let root = Root::open(&header.root, context.owner).map_err(|error| match error {
        RootError::Absent => format!("{} is gone", header.root.display()),
        RootError::Refused(_, text) => text,
    })?;
    let staging = own_folder(root.as_fd(), HOLD_DIR, context.owner).map_err(|error| error.to_string())?;
    Ok((root, staging))
}

fn restore_all(
    held: &Held,
    root: &Root,
    hold_dir: &OwnedFd,
    entries: &[Entry],
    context: &Context<'_>,
    done: &mut UndoDone,
) {
    // The folder in the root, where files are built up; the same as `held` unless that lies in the undo folder.
    let staging = match mkdirat(hold_dir, &held.name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_dir_at(hold_dir.as_fd(), &held.name),
        Err(error) => Err(error),
    };
    let header = Header { action: held.action, expires_ms: context.wall_ms, root: root.path().to_owned() };
    let before = done.conflicts_total;
    for entry in entries {
        let restored = match &staging {
            Ok(staging) => restore(held.dir.as_fd(), root, staging.as_fd(), entry),
            Err(error) => Err(error.to_string()),
        };
        match restored {
            Ok(Restored::Back) => {
                done.restored_files += 1;
                done.restored_bytes = done.restored_bytes.saturating_add(entry.len);
            }
            Ok(Restored::WasNotTaken) => {}
            Err(why) => conflict(done, &header, entry, &why),
        }
    }
    if done.conflicts_total == before {
        let _ = unlinkat(&held.dir, MANIFEST, AtFlags::empty());
        let _ = unlinkat(&held.parent, &held.name, AtFlags::REMOVEDIR);
    }
    let _ = unlinkat(hold_dir, &held.name, AtFlags::REMOVEDIR);
    // Empty now, as a rule; `rmdir` refuses it otherwise.
    let _ = unlinkat(root, HOLD_DIR, AtFlags::REMOVEDIR);
}

fn conflict(done: &mut UndoDone, header: &Header, entry: &Entry, why: &str) {
    done.conflicts_total += 1;
    if done.conflicts.len() < UndoDone::CONFLICTS_MAX {
        let path = header.root.join(&entry.path);
        done.conflicts.push(Conflict { path: PathBytes(path.as_os_str().as_bytes().to_vec()), why: why.to_owned() });
    }
}

enum Restored {
    Back,
    /// Its entry was written, but then it stayed: there is neither copy nor file.
    WasNotTaken,
}

fn restore(store: BorrowedFd<'_>, root: &Root, staging: BorrowedFd<'_>, entry: &Entry) -> Result<Restored, String> {
    let folder = entry.path.parent().unwrap_or_else(|| Path::new(""));
    let name = entry.path.file_name().map(Path::new).ok_or("its name is gone")?;
    let parent = root.dir(folder).map_err(|error| format!("cannot open its folder: {error}"))?;
    // The actuator died between moving the file aside and deleting it: here it is, untouched.
    match give_name(staging, &entry.source_name(), parent.as_fd(), name) {
        Ok(()) => {
            let _ = unlinkat(store, entry.copy_name(), AtFlags::empty());
            return Ok(Restored::Back);
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(in_words(error)),
    }
    if is_still_there(parent.as_fd(), name, entry) {
        let _ = unlinkat(store, entry.copy_name(), AtFlags::empty());
        return Ok(Restored::WasNotTaken);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = match openat2(store, entry.copy_name(), flags, Mode::empty(), BELOW) {
        Ok(copy) => File::from(copy),
        Err(Errno::NOENT) => return Ok(Restored::WasNotTaken),
        Err(error) => return Err(format!("cannot open its copy: {error}")),
    };
    let back = format!("{}.back", entry.number);
    let _ = unlinkat(staging, &back, AtFlags::empty());
    let built = build(copy, staging, &back, entry)
        .map_err(|error| format!("cannot build it up: {error}"))
        .and_then(|()| give_name(staging, &back, parent.as_fd(), name).map_err(in_words));
    if let Err(why) = built {
        let _ = unlinkat(staging, &back, AtFlags::empty());
        return Err(why);
    }
    // Its copy goes only when the file is durably back.
    fsync(&parent).map_err(|error| format!("cannot sync its folder: {error}"))?;
    let _ = unlinkat(store, entry.copy_name(), AtFlags::empty());
    Ok(Restored::Back)
}

/// Whether what stands under the name now is the very file, because the actuator died before moving it.
fn is_still_there(parent: BorrowedFd<'_>, name: &Path, entry: &Entry) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let is_like = |stat: &Stat| {
        let times = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && times == entry.mtime
            && u64::try_from(stat.st_size).is_ok_and(|len| len == entry.len)
    };
    if !statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_like(&stat)) {
        return false;
    }
    let Ok(file) = openat2(parent, name, flags, Mode::empty(), BELOW).map(File::from) else { return false };
    digest_of(file, entry.len).is_ok_and(|digest| digest == (entry.len, entry.sha256))
}

fn digest_of(source: impl Read, expected: u64) -> io::Result<(u64, [u8; 32])> {
    write_out(source, io::sink(), expected)
}

fn give_name(from: BorrowedFd<'_>, name: &str, parent: BorrowedFd<'_>, to: &Path) -> rustix::io::Result<()> {
    renameat_with(from, name, parent, to, RenameFlags::NOREPLACE)
}

fn in_words(error: Errno) -> String {
    match error {
        Errno::EXIST => "something of that name is there now".to_owned(),
        error => format!("cannot give it its name: {error}"),
    }
}

/// Writes a file as it was: contents, owner, mode, times.
fn build(copy: File, staging: BorrowedFd<'_>, name: &str, entry: &Entry) -> io::Result<()> {
    let file = create(staging, name)?;
    let (len, sha256) = match entry.stored {
        Stored::Raw => write_out(copy, &file, entry.len)?,
        Stored::Zstd => write_out(zstd::stream::read::Decoder::new(copy)?, &file, entry.len)?,
    };
    if len != entry.len || sha256 != entry.sha256 {
        return Err(io::Error::other("its copy is damaged"));
    }
    fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    fchmod(&file, Mode::from_raw_mode(entry.mode))?;
    // After the mode, which an access list refines; before the times, which it changes.
    super::xattr::write(&file, &entry.xattrs)?;
    let time = |(s, ns): (i64, u32)| Timespec { tv_sec: s, tv_nsec: ns.into() };
    futimens(&file, &Timestamps { last_access: time(entry.atime), last_modification: time(entry.mtime) })?;
    file.sync_all()
}

/// Copies at most one byte more than expected, so that a damaged copy cannot fill the disk.
fn write_out(source: impl Read, mut out: impl Write, expected: u64) -> io::Result<(u64, [u8; 32])> {
    let mut source = source.take(expected.saturating_add(1));
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut len = 0;
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok((len, digest.finalize().into()));
        }
        digest.update(&buffer[..read]);
        out.write_all(&buffer[..read])?;
        len += read as u64;
    }
}
