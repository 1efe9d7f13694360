//! Finds the files of a target, oldest first, without following a symlink or crossing a mount.
//!
//! What it finds are names and times as they were; [`super::take`] looks again at each file it opens. Bounded in depth and
//! in entries looked at.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mainstay_core::verb::{SkipCount, SkipReason};
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use super::HOLD_DIR;
use super::root::{Root, open_dir_at};
use super::target::Target;

/// Most entries that one walk looks at. A folder with more is a matter for a person.
const ENTRIES_MAX: u64 = 500_000;

/// A file that may be taken, as it was when it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Modification time, seconds since 1970. First, so that candidates sort oldest first.
    pub mtime_s: i64,
    /// Path below the root.
    pub path: PathBuf,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// Counts what was left, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skips(BTreeMap<SkipReason, u64>);

impl Skips {
    /// One more file left for this reason.
    pub fn add(&mut self, reason: SkipReason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// The counts, for the reply.
    #[must_use]
    pub fn counts(&self) -> Vec<SkipCount> {
        self.0.iter().map(|(reason, files)| SkipCount { reason: *reason, files: *files }).collect()
    }

    /// How many were left for one reason.
    #[must_use]
    pub fn of(&self, reason: SkipReason) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }
}

/// Finds the candidates of a target, oldest first.
#[must_use]
pub fn find(root: &Root, target: &Target, wall_ms: i64, skips: &mut Skips) -> Vec<Candidate> {
    let newest_s = newest_s(target, wall_ms);
    let mut walk = Walk { target, newest_s, skips, found: Vec::new(), entries: 0 };
    match root.dir(&target.below) {
        Ok(dir) => walk.folder(dir, &target.below, 0),
        Err(error) => walk.skips.add(reason_of(error)),
    }
    let mut found = walk.found;
    found.sort();
    found
}

/// A file of the target must not have been changed after this, in seconds since 1970. Where no age is asked for there is
/// no such moment: journald archives files while the action goes on.
#[must_use]
pub fn newest_s(target: &Target, wall_ms: i64) -> i64 {
    if target.older_than.is_zero() {
        return i64::MAX;
    }
    wall_ms / 1000 - i64::try_from(target.older_than.as_secs()).unwrap_or(i64::MAX)
}

/// Why a file or folder could not be opened.
#[must_use]
pub fn reason_of(error: Errno) -> SkipReason {
    match error {
        Errno::LOOP | Errno::NOTDIR => SkipReason::NotRegular,
        Errno::XDEV => SkipReason::OtherFilesystem,
        Errno::NOENT | Errno::AGAIN => SkipReason::Changed,
        _ => SkipReason::Error,
    }
}

struct Walk<'w> {
    target: &'w Target,
    newest_s: i64,
    skips: &'w mut Skips,
    found: Vec<Candidate>,
    entries: u64,
}

impl Walk<'_> {
    fn folder(&mut self, fd: OwnedFd, path: &Path, depth: u32) {
        let Ok(mut entries) = Dir::read_from(&fd) else { return self.skips.add(SkipReason::Error) };
        while let Some(entry) = entries.read() {
            let Ok(entry) = entry else { return self.skips.add(SkipReason::Error) };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes() == HOLD_DIR.as_bytes() {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return self.skips.add(SkipReason::Bound);
            }
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.entry(&fd, name, &below, &stat, depth),
                Err(error) => self.skips.add(reason_of(error)),
            }
        }
    }

    fn entry(&mut self, parent: &OwnedFd, name: &CStr, below: &Path, stat: &Stat, depth: u32) {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth >= self.target.depth_max => self.skips.add(SkipReason::Bound),
            FileType::Directory => match open_dir_at(parent.as_fd(), name) {
                Ok(dir) => self.folder(dir, below, depth + 1),
                Err(error) => self.skips.add(reason_of(error)),
            },
            FileType::RegularFile => match why_left(self.target, name.to_bytes(), stat, self.newest_s) {
                Some(reason) => self.skips.add(reason),
                None => self.found.push(Candidate {
                    mtime_s: stat.st_mtime,
                    path: below.to_owned(),
                    disk_bytes: disk_bytes(stat),
                }),
            },
            _ => self.skips.add(SkipReason::NotRegular),
        }
    }
}

/// Why a regular file is not taken, by what `stat` tells; `None` if it may be.
#[must_use]
pub fn why_left(target: &Target, name: &[u8], stat: &Stat, newest_s: i64) -> Option<SkipReason> {
    // A file that runs as somebody else is no log, dump or package.
    let is_special = stat.st_mode & 0o6000 != 0;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || is_special {
        Some(SkipReason::NotRegular)
    } else if !target.selects(name) {
        Some(SkipReason::Unlisted)
    } else if stat.st_nlink != 1 {
        Some(SkipReason::Linked)
    } else if stat.st_mtime > newest_s {
        Some(SkipReason::Recent)
    } else {
        None
    }
}

/// Bytes that a file takes on disk.
#[must_use]
pub fn disk_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}
