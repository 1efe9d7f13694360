//! A folder opened once and checked, from which everything below is reached.
//!
//! A root must belong to root and be writable by nobody else (a sticky folder like `/tmp` will do): otherwise somebody
//! could move our own hold folder away. What lies below may belong to anybody.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mainstay_core::verb::RefusalReason;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags, fstat, fstatvfs, openat2};
use rustix::io::Errno;

/// How everything below a root is opened.
pub const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIR_FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Why a folder cannot be a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootError {
    /// It is not there: nothing to reclaim.
    Absent,
    /// It must not be used, for this reason.
    Refused(RefusalReason, String),
}

/// An open root.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    fd: OwnedFd,
    dev: u64,
}

impl Root {
    /// Opens and checks a root.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn open(path: &Path, owner: u32) -> Result<Self, RootError> {
        let shown = path.display();
        let fd = open_absolute(path).map_err(|error| why_not_open(&error, path))?;
        let stat = fstat(&fd)
            .map_err(|error| refused(RefusalReason::Unsupported, format!("cannot look at {shown}: {error}")))?;
        if let Some(why) = why_untrusted(&stat, owner) {
            return Err(refused(RefusalReason::NotAllowed, format!("{shown} {why}")));
        }
        Ok(Self { path: path.to_owned(), fd, dev: device(&stat) })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The filesystem it lies on.
    #[must_use]
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// Whether nothing can be changed here: a read-only filesystem, or the unit's `ProtectSystem=`.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        fstatvfs(&self.fd).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Opens a folder below the root; the root itself for an empty path.
    ///
    /// # Errors
    /// What the kernel says: `ELOOP` for a symlink on the way, `EXDEV` for a mount or a way out.
    pub fn dir(&self, below: &Path) -> rustix::io::Result<OwnedFd> {
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        openat2(&self.fd, below, OFlags::RDONLY | DIR_FLAGS, Mode::empty(), BELOW)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a folder by its absolute path, without following any symlink on the way.
///
/// # Errors
/// What the kernel says.
pub fn open_absolute(path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(CWD, path, OFlags::RDONLY | DIR_FLAGS, Mode::empty(), resolve)?)
}

/// Opens a folder in another, which must be a folder itself and not a mount.
///
/// # Errors
/// What the kernel says.
pub fn open_dir_at(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat2(parent, name, OFlags::RDONLY | DIR_FLAGS, Mode::empty(), BELOW)
}

/// The device of a file, as one number.
#[must_use]
pub fn device(stat: &Stat) -> u64 {
    stat.st_dev
}

fn why_untrusted(stat: &Stat, owner: u32) -> Option<String> {
    let mode = stat.st_mode & 0o7777;
    let is_sticky = mode & 0o1000 != 0;
    if stat.st_uid != owner && stat.st_uid != 0 {
        return Some(format!("must belong to root (uid {})", stat.st_uid));
    }
    (mode & 0o022 != 0 && !is_sticky).then(|| format!("must be writable by root only (mode {mode:04o})"))
}

fn why_not_open(error: &io::Error, path: &Path) -> RootError {
    let shown = path.display();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => RootError::Absent,
        Some(Errno::LOOP | Errno::NOTDIR) => {
            let text = format!("{shown} is no folder, or is reached through a symlink; name the real folder");
            refused(RefusalReason::NotAllowed, text)
        }
        Some(Errno::NOSYS) => refused(RefusalReason::Unsupported, "the kernel has no openat2 (Linux 5.6)".to_owned()),
        _ => refused(RefusalReason::Unsupported, format!("cannot open {shown}: {error}")),
    }
}

fn refused(reason: RefusalReason, text: String) -> RootError {
    RootError::Refused(reason, text)
}
