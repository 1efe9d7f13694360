//! Takes one file: opens it, looks at it, makes sure that nobody has it open, keeps it if it is to be kept, deletes it.
//!
//! The order is what makes it safe. The lease comes before the copy, so that the copy is whole. The copy and its manifest
//! entry are durable before the file moves. The file moves into a folder that only root can enter, where it is compared
//! with what was opened, and only there is it deleted: no name that somebody else can change is ever unlinked.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use mainstay_core::verb::SkipReason;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat, fstat, openat2, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::hold::Hold;
use super::manifest::source_name;
use super::root::{BELOW, Root};
use super::target::Target;
use super::walk::{Candidate, disk_bytes, reason_of, why_left};
use crate::sys::WriteLease;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is gone for good; so many bytes of disk with it.
    Purged(u64),
    /// It is gone, and can be brought back.
    Held(u64),
    /// It stays.
    Left(SkipReason),
    /// The filesystem has no leases, so nobody can tell which files are open.
    NoLeases,
}

/// What bounds the taking of a file.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// It must not have been changed after this, seconds since 1970.
    pub newest_s: i64,
    /// When the whole action has to be over.
    pub deadline: Instant,
}

/// Takes one file, or says why it stays.
pub fn take(root: &Root, target: &Target, candidate: &Candidate, hold: &mut Hold, limits: Limits) -> Taken {
    match open(root, target, candidate, limits.newest_s) {
        Ok(found) => found.take(candidate, hold, target, limits),
        Err(reason) => Taken::Left(reason),
    }
}

/// A file that was opened, and the folder it lies in.
struct Found<'c> {
    parent: OwnedFd,
    name: &'c Path,
    file: File,
}

fn open<'c>(root: &Root, target: &Target, candidate: &'c Candidate, newest_s: i64) -> Result<Found<'c>, SkipReason> {
    let folder = candidate.path.parent().unwrap_or_else(|| Path::new(""));
    let name = candidate.path.file_name().map(Path::new).ok_or(SkipReason::Error)?;
    let parent = root.dir(folder).map_err(reason_of)?;
    // Looked at before it is opened, because opening a device can have effects.
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(reason_of)?;
    still_selected(target, name, &stat, newest_s)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat2(&parent, name, flags | OFlags::NOATIME, Mode::empty(), BELOW);
    let fd = match opened {
        // Not our file, and no CAP_FOWNER: then its access time changes.
        Err(Errno::PERM) => openat2(&parent, name, flags, Mode::empty(), BELOW),
        opened => opened,
    };
    // Somebody else holds a lease on it.
    let fd = fd.map_err(|error| if error == Errno::AGAIN { SkipReason::Open } else { reason_of(error) })?;
    Ok(Found { parent, name, file: File::from(fd) })
}

impl Found<'_> {
    fn take(&self, candidate: &Candidate, hold: &mut Hold, target: &Target, limits: Limits) -> Taken {
        let lease = match WriteLease::take(self.file.as_fd()) {
            Ok(lease) => lease,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Taken::Left(SkipReason::Open),
            Err(error) if has_no_leases(&error) => return Taken::NoLeases,
            Err(_) => return Taken::Left(SkipReason::Error),
        };
        // Only now can nobody write to it any more.
        let stat = match fstat(&self.file) {
            Ok(stat) => stat,
            Err(error) => return Taken::Left(reason_of(error)),
        };
        if let Err(reason) = still_selected(target, self.name, &stat, limits.newest_s) {
            return Taken::Left(reason);
        }
        let number = hold.next_number();
        let may_go_on = || match (lease.is_undisturbed(), Instant::now() < limits.deadline) {
            (true, true) => Ok(()),
            // Whoever waits to open it is let go at once.
            (false, _) => Err(SkipReason::Open),
            (true, false) => Err(SkipReason::Bound),
        };
        let kept = self.keep(candidate, hold, number, &stat, &may_go_on);
        let result = kept.and_then(|()| self.delete(hold, number, &stat, &lease));
        match result {
            Ok(()) if hold.keeps() => {
                hold.held_one();
                Taken::Held(disk_bytes(&stat))
            }
            Ok(()) => Taken::Purged(disk_bytes(&stat)),
            Err(reason) => {
                hold.drop_copy(number);
                Taken::Left(reason)
            }
        }
    }

    /// Makes copy and manifest entry durable, if files are kept at all.
    fn keep(
        &self,
        candidate: &Candidate,
        hold: &mut Hold,
        number: u64,
        stat: &Stat,
        may_go_on: &dyn Fn() -> Result<(), SkipReason>,
    ) -> Result<(), SkipReason> {
        if !hold.keeps() {
            return Ok(());
        }
        let entry = hold.copy(number, &self.file, &candidate.path, stat, may_go_on)?;
        hold.record(&entry).map_err(|_| SkipReason::NoRoomToHold)
    }

    /// Moves the file where only root can reach it, makes sure that it is this one, and deletes it.
    fn delete(&self, hold: &Hold, number: u64, stat: &Stat, lease: &WriteLease<'_>) -> Result<(), SkipReason> {
        if !lease.is_undisturbed() {
            return Err(SkipReason::Open);
        }
        let Some(staging) = hold.staging() else { return self.delete_in_place(stat) };
        let aside = source_name(number);
        renameat_with(&self.parent, self.name, staging, &aside, RenameFlags::NOREPLACE).map_err(reason_of)?;
        let is_same = statat(staging, &aside, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|moved| moved.st_ino == stat.st_ino && moved.st_dev == stat.st_dev && moved.st_nlink == 1);
        let reason = match (is_same, lease.is_undisturbed()) {
            (true, true) => return unlinkat(staging, &aside, AtFlags::empty()).map_err(reason_of),
            (false, _) => SkipReason::Changed,
            (true, false) => SkipReason::Open,
        };
        self.put_back(staging, &aside);
        Err(reason)
    }

    /// Deletes the file under its own name, because the disk has not one block for a folder to move it to. Between the
    /// look and the unlink somebody who may write the folder could put another of his files under that name; it is still
    /// a file in this folder, and only the first of a full disk goes this way.
    fn delete_in_place(&self, stat: &Stat) -> Result<(), SkipReason> {
        let now = statat(&self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(reason_of)?;
        if (now.st_ino, now.st_dev, now.st_nlink) != (stat.st_ino, stat.st_dev, 1) {
            return Err(SkipReason::Changed);
        }
        unlinkat(&self.parent, self.name, AtFlags::empty()).map_err(reason_of)
    }

    /// Gives a file back its name. If the name is taken by now, it gets one beside it: nothing is lost.
    fn put_back(&self, staging: BorrowedFd<'_>, aside: &str) {
        let back = |name: &Path| renameat_with(staging, aside, &self.parent, name, RenameFlags::NOREPLACE);
        if back(self.name).is_err() {
            let mut beside = self.name.as_os_str().to_owned();
            beside.push(format!(".mainstay-{aside}"));
            if let Err(error) = back(Path::new(&beside)) {
                crate::log::error(format_args!(
                    "cannot put {} back: {error}; it stays in the hold folder",
                    self.name.display()
                ));
            }
        }
    }
}

fn still_selected(target: &Target, name: &Path, stat: &Stat, newest_s: i64) -> Result<(), SkipReason> {
    why_left(target, name.as_os_str().as_encoded_bytes(), stat, newest_s).map_or(Ok(()), Err)
}

/// What filesystems without leases answer.
fn has_no_leases(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY))
}
