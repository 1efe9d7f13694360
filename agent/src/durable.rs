//! Writing so that it is still there after a power cut: the few ways in which the agent does it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// Makes a folder that only the agent may look into, with those above it.
///
/// # Errors
/// If it cannot be made.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes what happened to the names in a folder durable.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a whole file: after a crash there is the old one or the new one, never a part.
///
/// # Errors
/// If it cannot be written; the old one is still there then.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = dir.join(name);
    let _ = fs::remove_file(&temporary);
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_dir(dir))
}

/// Writes a file that must not exist yet, and syncs it; the folder is for the caller to sync.
///
/// # Errors
/// If it exists or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a file of zeros whose space is really there, so that writing into it needs none. A file
/// of that name is replaced.
///
/// # Errors
/// If there is no room; nothing is left behind then.
pub fn preallocate(path: &Path, bytes: usize) -> io::Result<File> {
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let filled = fill(&file, bytes);
    if let Err(error) = filled {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Zeros are written even where the filesystem knows how to set space aside: an extent that was
/// only set aside needs a change of metadata at the first write, and that may need space.
fn fill(mut file: &File, bytes: usize) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = [0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(zeros.len());
        file.write_all(&zeros[..now])?;
        left -= now;
    }
    file.sync_all()
}
