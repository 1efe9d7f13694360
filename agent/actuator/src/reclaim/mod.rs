//! `disk.reclaim`, `undo` and `purge`: frees space, keeps what cannot be made again, brings it back.
//!
//! A plan becomes targets ([`target`]), whose root folder is opened and checked once ([`root`]); below it files are found
//! ([`walk`]) and taken one by one ([`take`]) until the filesystem is under its target ([`engine`]). What can be undone is
//! kept under a manifest ([`hold`], [`manifest`]) and brought back or deleted for good ([`restore`], [`purge`]).
//!
//! Invariants: every file is reached from the root's descriptor with `openat2(RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS
//! | NO_XDEV)`; it is a regular file with one link that nobody has open, by a lease held through the unlink; the unlink is
//! of a name in a folder that only root can enter, so what is deleted is what was looked at; nothing that can be undone is
//! deleted before its copy and its manifest are durable.

pub mod engine;
pub mod hold;
pub mod manifest;
pub mod purge;
pub mod restore;
pub mod root;
pub mod space;
pub mod take;
pub mod target;
pub mod walk;
pub mod xattr;

use std::path::{Path, PathBuf};

/// Name of the folder in a reclaim root that keeps what was taken. Never walked into.
pub const HOLD_DIR: &str = ".mainstay-hold";

/// Where the places are whose contents can be made again, and what locks them.
#[derive(Debug, Clone)]
pub struct Places {
    /// Downloaded packages.
    pub apt_cache: PathBuf,
    /// Files that apt and dpkg lock while they work.
    pub apt_locks: Vec<PathBuf>,
    /// Core dumps of systemd-coredump.
    pub core_dumps: PathBuf,
    /// The persistent journal.
    pub journal: PathBuf,
    /// The socket over which journald is asked to begin new files.
    pub journald: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            apt_cache: "/var/cache/apt/archives".into(),
            apt_locks: vec!["/var/cache/apt/archives/lock".into(), "/var/lib/dpkg/lock-frontend".into()],
            core_dumps: "/var/lib/systemd/coredump".into(),
            journal: "/var/log/journal".into(),
            journald: "/run/systemd/journal/io.systemd.journal".into(),
        }
    }
}

/// What the work needs to know besides the plan and root's file.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// Where the fixed places are.
    pub places: &'c Places,
    /// The actuator's own folder, which remembers in which roots something is held.
    pub state_dir: &'c Path,
    /// When this is there, the work stops after the file in hand.
    pub hold_file: &'c Path,
    /// Who must own a root and everything of ours; root, but for tests.
    pub owner: u32,
    /// This moment.
    pub wall_ms: i64,
}
