//! What was taken by one action and how to bring it back: a header and an entry per file, each record synced before its
//! file is deleted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use mainstay_core::id::ActionId;
use rustix::fs::Stat;

use crate::bytes::{FieldReader, Fields, split_record};

/// The name of the manifest in the folder of its action.
pub const MANIFEST: &str = "manifest";

/// Largest manifest that is read: a million files with ordinary names.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;

const VERSION: u8 = 1;

/// What holds for all files of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The action.
    pub action: ActionId,
    /// Until when the files are kept, wall clock.
    pub expires_ms: i64,
    /// The root that they lay in.
    pub root: PathBuf,
}

/// How the contents of a file are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As they were.
    Raw,
    /// As one zstd frame.
    Zstd,
}

/// One file that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number within the action, which names its copy.
    pub number: u64,
    /// Path below the root.
    pub path: PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Access time, seconds and nanoseconds.
    pub atime: (i64, u32),
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// How it is kept.
    pub stored: Stored,
    /// SHA-256 of the contents.
    pub sha256: [u8; 32],
    /// Extended attributes, among them access lists and SELinux labels.
    pub xattrs: Vec<Xattr>,
}

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

impl Entry {
    /// Describes a file by its `stat`.
    #[must_use]
    pub fn of(number: u64, path: PathBuf, stat: &Stat, stored: Stored, sha256: [u8; 32], xattrs: Vec<Xattr>) -> Self {
        let nanos = |ns: u64| u32::try_from(ns).unwrap_or(0);
        Self {
            number,
            path,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            atime: (stat.st_atime, nanos(stat.st_atime_nsec)),
            mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            stored,
            sha256,
            xattrs,
        }
    }

    /// The name of its copy.
    #[must_use]
    pub fn copy_name(&self) -> String {
        copy_name(self.number)
    }

    /// The name that the file itself has between being taken and being deleted.
    #[must_use]
    pub fn source_name(&self) -> String {
        source_name(self.number)
    }
}

/// The name of the copy of a file.
#[must_use]
pub fn copy_name(number: u64) -> String {
    format!("{number}.copy")
}

/// The name that a file itself has between being taken and being deleted.
#[must_use]
pub fn source_name(number: u64) -> String {
    format!("{number}.src")
}

/// Writes the header. Not synced yet: the first entry is.
///
/// # Errors
/// What the kernel says.
pub fn write_header(file: &mut File, header: &Header) -> io::Result<()> {
    let fields = Fields::new().u8(VERSION).u64(header.action.0).i64(header.expires_ms);
    file.write_all(&fields.bytes(header.root.as_os_str().as_bytes()).into_record())
}

/// Writes an entry and syncs it.
///
/// # Errors
/// What the kernel says.
pub fn write_entry(file: &mut File, entry: &Entry) -> io::Result<()> {
    let stored = match entry.stored {
        Stored::Raw => 1,
        Stored::Zstd => 2,
    };
    let fields = Fields::new()
        .u64(entry.number)
        .bytes(entry.path.as_os_str().as_bytes())
        .u64(entry.len)
        .u32(entry.mode)
        .u32(entry.uid)
        .u32(entry.gid)
        .i64(entry.atime.0)
        .u32(entry.atime.1)
        .i64(entry.mtime.0)
        .u32(entry.mtime.1)
        .u8(stored)
        .bytes(&entry.sha256)
        .u32(u32::try_from(entry.xattrs.len()).unwrap_or(0));
    let fields = entry.xattrs.iter().fold(fields, |fields, (name, value)| fields.bytes(name).bytes(value));
    file.write_all(&fields.into_record())?;
    file.sync_data()
}

/// Reads a manifest. What follows a torn record was never relied on; `None` without a valid header.
#[must_use]
pub fn read(data: &[u8]) -> Option<(Header, Vec<Entry>)> {
    let (body, mut rest) = split_record(data)?;
    let header = read_header(body)?;
    let mut entries = Vec::new();
    while let Some((body, after)) = split_record(rest) {
        let Some(entry) = read_entry(body) else { break };
        entries.push(entry);
        rest = after;
    }
    Some((header, entries))
}

fn read_header(body: &[u8]) -> Option<Header> {
    let mut fields = FieldReader::new(body);
    if fields.u8()? != VERSION {
        return None;
    }
    let (action, expires_ms) = (ActionId(fields.u64()?), fields.i64()?);
    Some(Header { action, expires_ms, root: path(fields.bytes()?) })
}

fn read_entry(body: &[u8]) -> Option<Entry> {
    let mut fields = FieldReader::new(body);
    Some(Entry {
        number: fields.u64()?,
        path: path(fields.bytes()?),
        len: fields.u64()?,
        mode: fields.u32()?,
        uid: fields.u32()?,
        gid: fields.u32()?,
        atime: (fields.i64()?, fields.u32()?),
        mtime: (fields.i64()?, fields.u32()?),
        stored: match fields.u8()? {
            1 => Stored::Raw,
            2 => Stored::Zstd,
            _ => return None,
        },
        sha256: fields.bytes()?.try_into().ok()?,
        xattrs: {
            let count = fields.u32()?;
            (0..count).map(|_| Some((fields.bytes()?.to_vec(), fields.bytes()?.to_vec()))).collect::<Option<_>>()?
        },
    })
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64, path: &[u8], mtime: (i64, u32)) -> Entry {
        Entry {
            number,
            path: super::path(path),
            len: 7,
            mode: 0o640,
            uid: 3,
            gid: 4,
            atime: (1, 2),
            mtime,
            stored: Stored::Zstd,
            sha256: [9; 32],
            xattrs: vec![(b"user.note".to_vec(), path.to_vec()), (b"user.empty".to_vec(), Vec::new())],
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_was_written_and_stops_at_a_torn_end(
            paths in proptest::collection::vec(proptest::collection::vec(1u8..=255, 1..20), 1..6),
            mtime in any::<(i64, u32)>(), cut in 1usize..40,
        ) {
            let mut file = tempfile::tempfile().unwrap();
            let header = Header { action: ActionId(5), expires_ms: -3, root: "/srv/data".into() };
            write_header(&mut file, &header).unwrap();
            let entries: Vec<Entry> = paths.iter().enumerate().map(|(n, path)| entry(n as u64, path, mtime)).collect();
            for entry in &entries { write_entry(&mut file, entry).unwrap(); }
            let mut data = Vec::new();
            io::Seek::rewind(&mut file).unwrap();
            io::Read::read_to_end(&mut file, &mut data).unwrap();
            prop_assert_eq!(read(&data), Some((header.clone(), entries.clone())));
            data.truncate(data.len() - cut);
            prop_assert_eq!(read(&data), Some((header, entries[..entries.len() - 1].to_vec())));
        }

        #[test]
        fn no_bytes_make_it_panic(data in any::<Vec<u8>>()) { let _ = read(&data); }
    }
}
