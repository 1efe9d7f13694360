//! The files of the journal, followed together and digested.
//!
//! In: the files below a root, looked at once in a round. Out: the state of a [`Digest`]. A round is bounded: after
//! [`LINES_READ_MAX`] lines only the fields of lines are looked at, after [`LINES_COUNTED_MAX`] they are only counted.
//! What was logged while no agent ran is not held against what is usual a minute: of those lines only the kernel's
//! count, and not those of longer ago than [`KERNEL_BACK_MS`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use mainstay_core::log::{Digest, Line, LogReading, Source};

use super::file::{JournalFile, Look, Scratch, Sink, Stand, Unreadable};
use super::files::{self, FileId, Found};

/// Lines of a round that are looked at as a whole.
pub const LINES_READ_MAX: u32 = 2_000;

/// Lines of a round whose fields are looked at; what is beyond is skipped.
const LINES_COUNTED_MAX: u32 = 10_000;

/// How far back the kernel's lines count that came while no agent ran.
const KERNEL_BACK_MS: i64 = 600_000;

/// Most files that are followed at once: users have one each.
const FILES_MAX: usize = 32;

/// Most files that end in one round and are followed by another one at once.
const ROTATIONS_MAX: u32 = 8;

/// Rounds between two looks at the folders. A file that ends is followed by a look at once.
const LIST_EVERY: u32 = 10;

/// One file.
#[derive(Debug)]
struct Followed {
    id: FileId,
    path: PathBuf,
    /// Whether it is written to, and is not a user's: without it, nothing is known.
    is_system: bool,
    is_active: bool,
    file: JournalFile,
}

/// Follows the journal below a root.
#[derive(Debug)]
pub struct Follower {
    root: PathBuf,
    /// As they were when files were last looked for.
    folders: BTreeSet<PathBuf>,
    digest: Digest,
    /// When it began; older lines are those of a time without an agent.
    begun_ms: i64,
    /// The kernel's lines count from here on.
    since_ms: i64,
    files: Vec<Followed>,
    /// Files that are there and that are no news.
    known: Option<BTreeSet<FileId>>,
    /// Files that cannot be read, and why.
    broken: BTreeMap<FileId, Broken>,
    /// Files that are written to and not followed, because there are too many.
    left_out: usize,
    /// Rounds until the folders are looked at.
    list_in: u32,
    scratch: Scratch,
    lines: u64,
    lines_read_max: u32,
}

#[derive(Debug)]
struct Broken {
    path: PathBuf,
    why: String,
    is_system: bool,
    /// Whether it can only be damaged for good: it is not tried again.
    is_damaged: bool,
}

impl Follower {
    /// Follows what is written from now on below `root`, `/` on a real host.
    #[must_use]
    pub fn new(root: &Path, digest: Digest, now_ms: i64) -> Self {
        let since_ms = digest.seen_ms().min(now_ms).max(now_ms.saturating_sub(KERNEL_BACK_MS));
        Self {
            root: root.to_owned(),
            folders: BTreeSet::new(),
            digest,
            begun_ms: now_ms,
            since_ms,
            files: Vec::new(),
            known: None,
            broken: BTreeMap::new(),
            left_out: 0,
            list_in: 0,
            scratch: Scratch::default(),
            lines: 0,
            lines_read_max: LINES_READ_MAX,
        }
    }

    /// Follows what is written from now on, with what was learned; what was written meanwhile counts as little as that of
    /// a time without an agent.
    pub fn begin_anew(&mut self, now_ms: i64) {
        let (root, digest) = (std::mem::take(&mut self.root), std::mem::take(&mut self.digest));
        *self = Self { lines: self.lines, ..Self::new(&root, digest, now_ms) }.with_lines(self.lines_read_max);
    }

    /// Looks at so many lines of a round as a whole, instead of [`LINES_READ_MAX`].
    #[must_use]
    pub fn with_lines(mut self, lines_read_max: u32) -> Self {
        self.lines_read_max = lines_read_max;
        self
    }

    /// What it all came to. What is new in it is not in the next.
    #[must_use]
    pub fn reading(&mut self, now_ms: i64) -> LogReading {
        self.digest.reading(now_ms)
    }

    /// What was learned, to be restored after a restart.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.digest.snapshot()
    }

    /// Lines that were met.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Takes what was added. Says what is followed.
    ///
    /// # Errors
    /// Why it is not known what the log says: no journal, no right to read it, damage.
    pub fn round(&mut self, now_ms: i64) -> Result<String, String> {
        let mut budget = Budget { read: self.lines_read_max, fields: LINES_COUNTED_MAX.max(self.lines_read_max) };
        // In place of a file that has ended there is another one, which may have ended as well.
        for _ in 0..ROTATIONS_MAX {
            if self.list_in == 0 {
                self.list(now_ms)?;
                self.list_in = LIST_EVERY;
            }
            self.read(&mut budget);
            if self.list_in > 0 {
                break;
            }
        }
        self.list_in = self.list_in.saturating_sub(1);
        self.scratch.rest();
        self.state()
    }

    /// Reads on in every file.
    fn read(&mut self, budget: &mut Budget) {
        let Self { digest, files, broken, scratch, lines, list_in, .. } = self;
        let mut sink = Round { digest, begun_ms: self.begun_ms, since_ms: self.since_ms, budget, lines };
        files.retain_mut(|followed| match followed.file.read(scratch, &mut sink) {
            Ok(Stand::Behind) => true,
            // One that has lost its name, which journald does with damaged ones, gets no more lines.
            Ok(Stand::Drained) => followed.is_active,
            Ok(Stand::Ended) => {
                *list_in = 0;
                false
            }
            Err(error) => {
                broken.insert(followed.id, Broken::of(&followed.path, followed.is_system, &error));
                false
            }
        });
    }

    fn state(&self) -> Result<String, String> {
        if let Some(broken) = self.broken.values().find(|broken| broken.is_system) {
            return Err(broken.to_string());
        }
        if self.files.is_empty() {
            let why =
                self.broken.values().next().map_or_else(|| "no file of it is written to".to_owned(), Broken::to_string);
            return Err(why);
        }
        let mut text = match self.files.len() {
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        };
        if self.left_out > 0 {
            text += &format!(", {} more of users are not followed", self.left_out);
        }
        if let Some(broken) = self.broken.values().next() {
            text += &format!(", {} not: {broken}", self.broken.len());
        }
        Ok(text)
    }

    /// Looks which files there are in the next round: some came or went.
    pub(super) fn look_for_files(&mut self) {
        self.list_in = 0;
    }

    /// The folders that files are in.
    pub(super) fn folders(&self) -> &BTreeSet<PathBuf> {
        &self.folders
    }

    /// Looks which files there are.
    fn list(&mut self, now_ms: i64) -> Result<(), String> {
        self.folders.clear();
        let found = files::folders(&self.root).and_then(|folders| {
            self.folders = folders;
            files::list(&self.folders)
        });
        let found = found.inspect_err(|_| self.files.clear())?;
        let now_there: BTreeSet<FileId> = found.iter().map(|file| file.id).collect();
        let active: BTreeSet<FileId> = found.iter().filter(|file| file.is_active).map(|file| file.id).collect();
        self.broken.retain(|id, broken| active.contains(id) && broken.is_damaged);
        self.files.iter_mut().for_each(|followed| followed.is_active = active.contains(&followed.id));
        let known = self.known.replace(now_there);
        self.left_out = 0;
        for file in found {
            if self.files.iter().any(|followed| followed.id == file.id) || self.broken.contains_key(&file.id) {
                continue;
            }
            let since_ms = match &known {
                // What was there at the beginning, or could not be opened before: what is in it is not new.
                None => Some(self.since_ms),
                Some(known) if known.contains(&file.id) => Some(now_ms),
                Some(_) => None,
            };
            let is_read = since_ms.is_some() && !file.is_active;
            if is_read {
                continue;
            }
            if self.files.len() >= FILES_MAX {
                self.left_out += usize::from(file.is_active);
                continue;
            }
            match self.open(&file, since_ms) {
                Ok(followed) => self.files.push(followed),
                Err(error) => {
                    let is_system = file.is_system && file.is_active;
                    self.broken.insert(file.id, Broken::of(&file.path, is_system, &error));
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, found: &Found, since_ms: Option<i64>) -> Result<Followed, Unreadable> {
        let file = File::open(&found.path)?;
        // Another file may have got the name since it was listed.
        let id = files::id(&file.metadata()?);
        let mut file = JournalFile::new(file);
        if let Some(since_ms) = since_ms {
            let since_us = u64::try_from(since_ms).unwrap_or(0).saturating_mul(1_000);
            file.seek(since_us, &mut self.scratch)?;
        }
        let (is_active, is_system) = (found.is_active, found.is_system && found.is_active);
        Ok(Followed { id, path: found.path.clone(), is_system, is_active, file })
    }
}

impl Broken {
    fn of(path: &Path, is_system: bool, error: &Unreadable) -> Self {
        let is_damaged = matches!(error, Unreadable::Bad(_));
        Self { path: path.to_owned(), why: error.to_string(), is_system, is_damaged }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

/// One round over all files.
struct Round<'a> {
    digest: &'a mut Digest,
    begun_ms: i64,
    since_ms: i64,
    budget: &'a mut Budget,
    lines: &'a mut u64,
}

/// What is left of a round: lines that are read, and lines whose fields are.
struct Budget {
    read: u32,
    fields: u32,
}

impl Sink for Round<'_> {
    fn line(&mut self, line: Line<'_>) {
        *self.lines += 1;
        let from_ms = if line.source == Source::Kernel { self.since_ms } else { self.begun_ms };
        if line.wall_ms >= from_ms {
            self.digest.line(line);
        }
    }

    fn damaged(&mut self) {
        self.digest.damaged();
    }

    fn skip(&mut self, lines: u64) {
        *self.lines = self.lines.saturating_add(lines);
        self.digest.skip(lines);
    }

    fn look(&mut self) -> Option<Look> {
        self.budget.fields = self.budget.fields.checked_sub(1)?;
        if self.budget.read == 0 {
            return Some(Look::Fields);
        }
        self.budget.read -= 1;
        Some(Look::Whole)
    }
}

#[cfg(test)]
mod tests;
