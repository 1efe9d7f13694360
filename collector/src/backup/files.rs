//! Files hashed, copied and made durable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// How much is read at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What hashes are.
pub(super) type Hash = [u8; 32];

/// A file of a folder, as the filesystem has it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) changed_ns: i64,
    pub(super) inode: u64,
}

/// The files of a folder by their names. What is no file is an error: none of our folders has it.
pub(super) fn files(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = fs::symlink_metadata(entry.path())?;
        let name = entry.file_name().into_string().map_err(|name| other(format!("{} is no text", name.display())))?;
        if !meta.is_file() {
            return Err(other(format!("{name} in it is no plain file")));
        }
        let changed_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        found.push(Found { name, bytes: meta.len(), changed_ns, inode: meta.ino() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn other(text: String) -> io::Error {
    io::Error::other(text)
}

/// The hash of a file.
pub(super) fn hash(path: &Path, read: &mut dyn FnMut(u64)) -> io::Result<Hash> {
    pour(&mut File::open(path)?, &mut io::sink(), read)
}

/// Copies a file to one that is not there yet, and gives the hash of what was read. It is on disk when this returns.
pub(super) fn copy(from: &Path, to: &Path, read: &mut dyn FnMut(u64)) -> io::Result<Hash> {
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let hash = pour(&mut File::open(from)?, &mut target, read)?;
    target.sync_all()?;
    Ok(hash)
}

fn pour(from: &mut impl Read, to: &mut impl Write, read: &mut dyn FnMut(u64)) -> io::Result<Hash> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk)?;
        let Some(part) = chunk.get(..length).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
        to.write_all(part)?;
        read(length as u64);
    }
    Ok(hasher.finalize().into())
}

/// Writes a file that is not there yet. It is on disk when this returns.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a folder that only its owner reads.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The filesystem that something is on.
pub(super) fn device(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.dev())
}
