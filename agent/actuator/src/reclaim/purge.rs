//! `purge`: deletes for good what is past its undo time. Runs by timer, with the agent alive or dead, held or not.

use std::os::fd::{AsFd, BorrowedFd};

use mainstay_core::verb::{Detail, PurgeDone, Reply};
use rustix::fs::{AtFlags, Dir, fstat, statat, unlinkat};

use super::Context;
use super::manifest::MANIFEST;
use super::restore::{Held, held_folders};
use super::walk::disk_bytes;
use crate::settings::Settings;

/// A folder without a manifest is the rest of an action that died; it was to be deleted. Left alone for a day all the
/// same, for a person to look at.
const LEFTOVER_AGE_S: i64 = 86_400;

/// Deletes what has expired.
pub fn purge(settings: &Settings, context: &Context<'_>) -> Reply {
    let mut done = PurgeDone { actions: 0, files: 0, bytes: 0 };
    for held in held_folders(settings, context) {
        if has_expired(&held, context.wall_ms) {
            empty(held.dir.as_fd(), &mut done);
            if unlinkat(&held.parent, &held.name, AtFlags::REMOVEDIR).is_ok() {
                done.actions += 1;
            }
        }
    }
    Reply::Done(Detail::Purge(done))
}

fn has_expired(held: &Held, wall_ms: i64) -> bool {
    match held.manifest() {
        Some((header, _)) => header.expires_ms < wall_ms,
        None => fstat(&held.dir).is_ok_and(|stat| stat.st_mtime < wall_ms / 1000 - LEFTOVER_AGE_S),
    }
}

/// Deletes our own files in a folder of ours; the manifest last, so that a crash in between leaves a valid rest.
fn empty(dir: BorrowedFd<'_>, done: &mut PurgeDone) {
    let Ok(mut entries) = Dir::read_from(dir) else { return };
    let mut names = Vec::new();
    while let Some(Ok(entry)) = entries.read() {
        if is_ours(entry.file_name().to_bytes()) {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let bytes = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| disk_bytes(&stat));
        if unlinkat(dir, &name, AtFlags::empty()).is_ok() {
            done.files += 1;
            done.bytes = done.bytes.saturating_add(bytes);
        }
    }
    let _ = unlinkat(dir, MANIFEST, AtFlags::empty());
}

/// `7.copy`, `7.src`, `7.back`.
fn is_ours(name: &[u8]) -> bool {
    let Some((number, kind)) = std::str::from_utf8(name).ok().and_then(|name| name.split_once('.')) else {
        return false;
    };
    number.parse::<u64>().is_ok() && matches!(kind, "copy" | "src" | "back")
}
