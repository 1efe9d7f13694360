//! Backups: the store and the CA in one folder, made while everything runs, read back before they are needed, and put
//! onto an empty machine.
//!
//! A backup is a folder of its own that needs no other: `db/` the store, `keys.sealed` the CA, encrypted, and `MANIFEST`,
//! which names every file with its hash. Tables that two backups have in common are one file with two names, so a
//! backup costs what has changed since the one before, and removing one takes nothing from another.
//!
//! Invariant: a folder under its final name is whole. Everything is made under a name that begins with a dot.

pub mod book;
pub mod check;
pub mod create;
mod files;
pub mod manifest;
pub mod name;
pub mod restore;
pub mod seal;
pub mod shelf;

use std::path::{Path, PathBuf};

/// The store's files in a backup.
pub const STORE: &str = "db";
/// The CA's files in a backup.
pub const KEYS: &str = "keys.sealed";

/// What is wrong with which file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {text}; {next}")]
pub struct Trouble {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub text: String,
    /// What to do next.
    pub next: String,
}

impl Trouble {
    fn new(path: &Path, text: impl ToString, next: impl Into<String>) -> Self {
        Self { path: path.to_owned(), text: text.to_string(), next: next.into() }
    }
}

/// Tells of bytes that are done, and of how many there are.
pub type Tell<'t> = dyn FnMut(u64, u64) + Send + 't;

/// Calls that tell of what is done bit by bit.
struct Progress<'p, 't> {
    done: u64,
    total: u64,
    tell: &'p mut Tell<'t>,
}

impl Progress<'_, '_> {
    fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes).min(self.total);
        (self.tell)(self.done, self.total);
    }
}
