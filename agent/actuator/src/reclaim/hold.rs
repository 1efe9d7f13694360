//! Keeps what is taken: a folder per action that only root can enter, copies in it, and a manifest of them.
//!
//! Copies go to the declared undo folder if it lies on another filesystem, else compressed into the root itself. A copy and
//! its manifest entry are durable before the file is deleted; a copy that saves nothing is not kept, and then the file stays.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mainstay_core::id::ActionId;
use mainstay_core::verb::SkipReason;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat2, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::manifest::{self, Entry, Header, MANIFEST, Stored, copy_name};
use super::root::{BELOW, Root, device, open_absolute, open_dir_at};
use super::target::Keep;
use super::{Context, HOLD_DIR};
use crate::bytes::{FieldReader, Fields, split_record};

/// Compression level: some 300 MB/s and a factor of ten on logs.
const ZSTD_LEVEL: i32 = 3;

/// The file that remembers in which roots something was ever held.
const ROOTS_FILE: &str = "hold-roots";

/// A copy must save at least a tenth of its file: `.gz` files do not, and moving them about frees nothing.
const WORTHWHILE_PERMILLE: u64 = 900;

/// What is tried of a file before it is copied as a whole, from its middle: enough to tell a log from an archive, and
/// read in a millisecond where the copy would take minutes.
const SAMPLE_BYTES: usize = 128 << 10;

/// What one target of one action keeps, or deletes.
#[derive(Debug)]
pub struct Hold {
    staging: Option<Staging>,
    name: CString,
    store: Store,
    next: u64,
    held: u64,
}

/// A folder in the root, so that a file can be moved here by name without being copied.
#[derive(Debug)]
struct Staging {
    dir: OwnedFd,
    parent: OwnedFd,
}

/// Why nothing can be kept in a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldError {
    /// Not one block is left for a folder.
    NoSpace(String),
    /// Another reason, in words.
    Other(String),
}

impl HoldError {
    fn from_io(what: &str, error: &io::Error) -> Self {
        let text = format!("{what}: {error}");
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace(text),
            Some(Errno::ROFS) => {
                Self::Other(format!("{text}; add ReadWritePaths= in a drop-in of mainstay-actuator.service"))
            }
            _ => Self::Other(text),
        }
    }

    fn from_errno(what: &str, error: Errno) -> Self {
        Self::from_io(what, &error.into())
    }
}

impl std::fmt::Display for HoldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NoSpace(text) | Self::Other(text)) = self;
        f.write_str(text)
    }
}

#[derive(Debug)]
enum Store {
    /// Nothing is kept.
    Nowhere,
    /// Compressed, beside the files themselves.
    Staging { manifest: File },
    /// As they are, on another filesystem.
    Elsewhere { dir: OwnedFd, parent: OwnedFd, manifest: File },
}

impl Hold {
    /// Makes the folders of one target of an action.
    ///
    /// # Errors
    /// Why nothing can be kept there.
    pub fn open(
        root: &Root,
        action: ActionId,
        number: usize,
        keep: Keep,
        undo_dir: Option<&Path>,
        context: &Context<'_>,
    ) -> Result<Self, HoldError> {
        let name = folder_name(action, number);
        if let Err(error) = remember_root(context.state_dir, root.path()) {
            return Err(HoldError::from_io("cannot note the hold folder", &error));
        }
        let shown = format!("cannot keep anything in {}", root.path().join(HOLD_DIR).display());
        let failed = |error: Errno| HoldError::from_errno(&shown, error);
        let parent = own_folder(root.as_fd(), HOLD_DIR, context.owner)?;
        mkdirat(&parent, &name, Mode::RWXU).map_err(failed)?;
        let dir = open_dir_at(parent.as_fd(), &name).map_err(failed)?;
        let store = match keep {
            Keep::Purge => Ok(Store::Nowhere),
            Keep::Hold(time) => {
                let expires_ms = context.wall_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
                let header = Header { action, expires_ms, root: root.path().to_owned() };
                open_store(&dir, &name, root, undo_dir, &header, context.owner)
            }
        };
        let hold = Self { staging: Some(Staging { dir, parent }), name, store: Store::Nowhere, next: 1, held: 0 };
        match store {
            Ok(store) => Ok(Self { store, ..hold }),
            Err(error) => {
                hold.finish();
                Err(error)
            }
        }
    }

    /// Keeps nothing and has no folder: for a disk without a block left for one. Files are then deleted where they lie.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { staging: None, name: CString::default(), store: Store::Nowhere, next: 1, held: 0 }
    }

    /// The folder that files are moved into before they are deleted, if there is one.
    #[must_use]
    pub fn staging(&self) -> Option<BorrowedFd<'_>> {
        self.staging.as_ref().map(|staging| staging.dir.as_fd())
    }

    /// A number for the next file.
    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Whether files are kept at all.
    #[must_use]
    pub fn keeps(&self) -> bool {
        !matches!(self.store, Store::Nowhere)
    }

    /// Copies an open file, durably. The file may be deleted once [`Self::record`] has returned too.
    ///
    /// # Errors
    /// Why the file stays; the rest of the copy is then [`Self::drop_copy`]'s.
    pub fn copy(
        &self,
        number: u64,
        source: &File,
        path: &Path,
        stat: &Stat,
        may_go_on: &dyn Fn() -> Result<(), SkipReason>,
    ) -> Result<Entry, SkipReason> {
        let (dir, stored) = match &self.store {
            Store::Nowhere => return Err(SkipReason::Error),
            Store::Staging { .. } => (self.staging().ok_or(SkipReason::Error)?, Stored::Zstd),
            Store::Elsewhere { dir, .. } => (dir.as_fd(), Stored::Raw),
        };
        if stored == Stored::Zstd && !would_shrink(source, stat)? {
            return Err(SkipReason::WouldNotShrink);
        }
        let copy = create(dir, &copy_name(number)).map_err(|error| reason_of(&error.into()))?;
        let sha256 = copy_contents(source, &copy, stored, may_go_on)?;
        copy.sync_all().map_err(|error| reason_of(&error))?;
        let copy_bytes = fstat(&copy).map(|copy| super::walk::disk_bytes(&copy)).map_err(|_| SkipReason::Error)?;
        let most = super::walk::disk_bytes(stat) / 1000 * WORTHWHILE_PERMILLE;
        if stored == Stored::Zstd && copy_bytes > most {
            return Err(SkipReason::WouldNotShrink);
        }
        fsync(dir).map_err(|_| SkipReason::Error)?;
        let xattrs = super::xattr::read(source);
        Ok(Entry::of(number, path.to_owned(), stat, stored, sha256, xattrs))
    }

    /// Writes a file's entry into the manifest, durably.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn record(&mut self, entry: &Entry) -> io::Result<()> {
        let (Store::Staging { manifest } | Store::Elsewhere { manifest, .. }) = &mut self.store else {
            return Ok(());
        };
        manifest::write_entry(manifest, entry)
    }

    /// Counts a file as held: it is deleted now.
    pub fn held_one(&mut self) {
        self.held += 1;
    }

    /// Deletes a copy whose file stays after all. Its manifest entry, if it has one, then stands for nothing.
    pub fn drop_copy(&self, number: u64) {
        let dir = match &self.store {
            Store::Elsewhere { dir, .. } => Some(dir.as_fd()),
            _ => self.staging(),
        };
        if let Some(dir) = dir {
            let _ = unlinkat(dir, copy_name(number), AtFlags::empty());
        }
    }

    /// Ends the target: folders in which nothing is kept go. Gives the number of files held.
    pub fn finish(self) -> u64 {
        let remove = |parent: &OwnedFd, dir: &OwnedFd| {
            let _ = unlinkat(dir, MANIFEST, AtFlags::empty());
            // A folder that still holds something stays, as `rmdir` refuses it.
            let _ = unlinkat(parent, &self.name, AtFlags::REMOVEDIR);
        };
        if let (Store::Elsewhere { dir, parent, .. }, 0) = (&self.store, self.held) {
            remove(parent, dir);
        }
        let is_held_here = matches!(self.store, Store::Staging { .. }) && self.held > 0;
        if let (Some(staging), false) = (&self.staging, is_held_here) {
            remove(&staging.parent, &staging.dir);
        }
        self.held
    }
}

fn open_store(
    staging: &OwnedFd,
    name: &CString,
    root: &Root,
    undo_dir: Option<&Path>,
    header: &Header,
    owner: u32,
) -> Result<Store, HoldError> {
    let failed = |error: io::Error| HoldError::from_io("cannot write the undo manifest", &error);
    if let Some(parent) = undo_dir.map(|dir| open_undo_dir(dir, root.dev(), owner)).transpose()?.flatten() {
        mkdirat(&parent, name, Mode::RWXU).map_err(|error| failed(error.into()))?;
        let dir = open_dir_at(parent.as_fd(), name).map_err(|error| failed(error.into()))?;
        let manifest = new_manifest(dir.as_fd(), header).map_err(failed)?;
        fsync(&parent).map_err(|error| failed(error.into()))?;
        return Ok(Store::Elsewhere { dir, parent, manifest });
    }
    Ok(Store::Staging { manifest: new_manifest(staging.as_fd(), header).map_err(failed)? })
}

fn new_manifest(dir: BorrowedFd<'_>, header: &Header) -> io::Result<File> {
    let mut manifest = create(dir, MANIFEST)?;
    manifest::write_header(&mut manifest, header)?;
    manifest.sync_all()?;
    fsync(dir)?;
    Ok(manifest)
}

/// Opens the declared undo folder; `None` if it lies on the filesystem that is to be freed, where a copy frees nothing.
fn open_undo_dir(path: &Path, dev: u64, owner: u32) -> Result<Option<OwnedFd>, HoldError> {
    let failed = |error: &dyn std::fmt::Display| {
        HoldError::Other(format!("cannot use the undo folder {}: {error}", path.display()))
    };
    let dir = open_absolute(path).map_err(|error| failed(&error))?;
    let stat = fstat(&dir).map_err(|error| failed(&error))?;
    check_own(&stat, owner).map_err(|why| failed(&why))?;
    Ok((device(&stat) != dev).then_some(dir))
}

/// Opens a folder of ours in `parent`, making it if it is not there.
///
/// # Errors
/// Why it cannot be used, in words.
pub fn own_folder(parent: BorrowedFd<'_>, name: &str, owner: u32) -> Result<OwnedFd, HoldError> {
    let shown = format!("cannot make {name}");
    let failed = |error: Errno| HoldError::from_errno(&shown, error);
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => fsync(parent).map_err(failed)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let c_name = CString::new(name).map_err(|error| HoldError::Other(error.to_string()))?;
    let dir = open_dir_at(parent, &c_name).map_err(failed)?;
    let stat = fstat(&dir).map_err(failed)?;
    check_own(&stat, owner).map_err(|why| HoldError::Other(format!("{name} {why}")))?;
    Ok(dir)
}

/// What is ours belongs to root, and nobody else may enter it.
fn check_own(stat: &Stat, owner: u32) -> Result<(), String> {
    let mode = stat.st_mode & 0o7777;
    if stat.st_uid == owner && mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("must belong to root and be closed to others (uid {}, mode {mode:04o})", stat.st_uid))
}

/// Creates a file of ours that was not there.
///
/// # Errors
/// What the kernel says; `EEXIST` is an error too.
pub fn create(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(dir, name, flags, Mode::RUSR | Mode::WUSR, BELOW).map(File::from)
}

/// Whether a piece of the file shrinks enough. The whole is measured again when it is copied.
fn would_shrink(source: &File, stat: &Stat) -> Result<bool, SkipReason> {
    let failed = |error: io::Error| reason_of(&error);
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    let at = bytes.saturating_sub(SAMPLE_BYTES as u64) / 2;
    let mut sample = vec![0; SAMPLE_BYTES];
    let mut read = 0;
    while read < sample.len() {
        match source.read_at(&mut sample[read..], at + read as u64).map_err(failed)? {
            0 => break,
            more => read += more,
        }
    }
    let shrunk = zstd::bulk::compress(&sample[..read], ZSTD_LEVEL).map_err(failed)?;
    Ok(shrunk.len() as u64 * 1000 <= read as u64 * WORTHWHILE_PERMILLE)
}

/// Copies piece by piece; before each it is asked whether to go on, since a large file takes long and somebody may be
/// waiting to open it.
fn copy_contents(
    source: &File,
    copy: &File,
    stored: Stored,
    may_go_on: &dyn Fn() -> Result<(), SkipReason>,
) -> Result<[u8; 32], SkipReason> {
    let failed = |error: io::Error| reason_of(&error);
    match stored {
        Stored::Raw => copy_pieces(source, copy, may_go_on),
        Stored::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(copy, ZSTD_LEVEL).map_err(failed)?;
            let digest = copy_pieces(source, &mut encoder, may_go_on)?;
            encoder.finish().map_err(failed)?;
            Ok(digest)
        }
    }
}

fn copy_pieces(
    mut source: &File,
    mut out: impl Write,
    may_go_on: &dyn Fn() -> Result<(), SkipReason>,
) -> Result<[u8; 32], SkipReason> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        may_go_on()?;
        let read = source.read(&mut buffer).map_err(|error| reason_of(&error))?;
        if read == 0 {
            return Ok(digest.finalize().into());
        }
        digest.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(|error| reason_of(&error))?;
    }
}

fn reason_of(error: &io::Error) -> SkipReason {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => SkipReason::NoRoomToHold,
        _ => SkipReason::Error,
    }
}

/// The folder of one target of an action.
fn folder_name(action: ActionId, number: usize) -> CString {
    CString::new(format!("{action}.{number}")).unwrap_or_default()
}

/// The action that a folder belongs to; `None` if it is no folder of ours.
#[must_use]
pub fn action_of(folder: &[u8]) -> Option<ActionId> {
    let text = std::str::from_utf8(folder).ok()?;
    let (action, number) = text.split_once('.')?;
    number.parse::<usize>().ok()?;
    action.parse().ok()
}

/// Notes that something is held in a root, so that it is found there after root's file has changed.
fn remember_root(state_dir: &Path, root: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    if remembered_roots(state_dir).iter().any(|known| known == root) {
        return Ok(());
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(state_dir.join(ROOTS_FILE))?;
    file.write_all(&Fields::new().bytes(root.as_os_str().as_bytes()).into_record())?;
    file.sync_all()
}

/// The roots in which something was ever held.
#[must_use]
pub fn remembered_roots(state_dir: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let data = std::fs::read(state_dir.join(ROOTS_FILE)).unwrap_or_default();
    let mut rest = &data[..];
    let mut roots = Vec::new();
    while let Some((body, after)) = split_record(rest) {
        if let Some(path) = FieldReader::new(body).bytes() {
            roots.push(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
        }
        rest = after;
    }
    roots
}
