//! The ledger on disk: the chain of [`mainstay_core::ledger`] in files that exist before they are
//! written.
//!
//! One folder per chain below the ledger's root: named after the host id, or `unenrolled`. In it,
//! shards of 1 MiB named by the number of their first record, and a spare one, so that a full disk
//! cannot stop the record of the cure for a full disk. [`Ledger::append`] returns when the records
//! are durable, and groups what it is given into one sync.
//!
//! Opening refuses nothing: a tail that a crash tore is cut off (a copy is kept as evidence), a
//! record that went bad is left where it is for `ledger verify` to name, and the chain goes on from
//! the last good one. Shards are dropped oldest first once the collector has countersigned them and
//! there is more than the settings allow; never before. What the header of the next shard says of
//! the chain is the anchor that stays.

mod reader;
mod recover;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mainstay_core::id::HostId;
use mainstay_core::ledger::frame;
use mainstay_core::ledger::shard::{self, Header, SHARD_BYTES};
use mainstay_core::ledger::{Entry, Head, RECORD_BYTES_MAX};

use tokio::sync::watch;

use crate::durable;

pub use reader::{Reader, StoredRecord, chains};

/// Most shards of a chain that the collector has not countersigned. Beyond this appending fails,
/// and so acting stops (`ledger_unavailable`): years of records, were a collector away for so long.
pub const SHARDS_MAX: usize = 1024;

/// Fewest shards that are kept, whatever the settings say.
const SHARDS_MIN: usize = 4;

/// Most chains that are kept: the current one and those of earlier enrolments.
const CHAINS_MAX: usize = 4;

/// The shard that is made ahead.
const SPARE: &str = "spare";

/// What the collector countersigned last.
const COUNTERSIGNED: &str = "countersigned";

/// Why something could not be recorded or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file or folder.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record that is longer than one may be.
    #[error("a record of {bytes} bytes is too long (at most {RECORD_BYTES_MAX})")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// More shards than there may be, and none that the collector has.
    #[error("the ledger is full ({shards} shards wait for the collector)")]
    Full {
        /// How many there are.
        shards: usize,
    },
}

impl LedgerError {
    fn file<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Self + 'p {
        move |source| Self::File { what, path: path.to_owned(), source }
    }
}

/// What the ledger is told when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The folder that holds the chains (`/var/lib/mainstay/ledger`).
    pub root: PathBuf,
    /// Whose ledger it is; zeros ([`HostId::default`]) while the host is not enrolled.
    pub host: HostId,
    /// Most bytes that are kept of what the collector has.
    pub bytes_max: u64,
}

/// The ledger, open for appending. There is one writer: the agent.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    host: HostId,
    shards_keep: usize,
    /// The numbers of the first records of the shards, oldest first.
    shards: Vec<u64>,
    file: File,
    /// Where the next frame goes.
    at: usize,
    head: Head,
    heads: watch::Sender<Head>,
    /// Up to where a write that failed may have left bytes behind `at`.
    dirty_to: usize,
    countersigned: Option<Head>,
    notes: Vec<String>,
}

impl Ledger {
    /// Opens the ledger of a host, or begins it.
    ///
    /// # Errors
    /// If the folder or its files cannot be read or made. What they say is never a reason.
    pub fn open(settings: &LedgerSettings) -> Result<Self, LedgerError> {
        let dir = settings.root.join(chain_name(settings.host));
        durable::make_dir(&dir).map_err(LedgerError::file("make the folder", &dir))?;
        forget_old_chains(&settings.root, &dir);
        let mut notes = Vec::new();
        let last = recover::last_shard(&dir, settings.host, &mut notes)?;
        let mut ledger = match last {
            Some(last) => Self {
                shards: list_shards(&dir)?,
                file: last.file,
                at: last.at,
                head: last.head,
                ..Self::begin(settings, dir)?
            },
            None => {
                let mut ledger = Self::begin(settings, dir)?;
                ledger.rotate()?;
                ledger
            }
        };
        ledger.notes = notes;
        ledger.heads.send_replace(ledger.head);
        ledger.countersigned = recover::countersigned(&ledger.dir.join(COUNTERSIGNED));
        ledger.make_spare();
        Ok(ledger)
    }

    /// A ledger without a shard.
    fn begin(settings: &LedgerSettings, dir: PathBuf) -> Result<Self, LedgerError> {
        let file = File::open(&dir).map_err(LedgerError::file("open", &dir))?;
        let shards_keep = usize::try_from(settings.bytes_max / SHARD_BYTES as u64).unwrap_or(SHARDS_MAX);
        Ok(Self {
            dir,
            host: settings.host,
            shards_keep: shards_keep.clamp(SHARDS_MIN, SHARDS_MAX),
            shards: Vec::new(),
            file,
            at: SHARD_BYTES,
            head: Head::genesis(settings.host),
            heads: watch::Sender::new(Head::genesis(settings.host)),
            dirty_to: 0,
            countersigned: None,
            notes: Vec::new(),
        })
    }

    /// Appends records and returns the new end when they are durable.
    ///
    /// # Errors
    /// If they could not all be made durable. [`Ledger::head`] says how far it came: the records
    /// beyond it are not in the ledger.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<Head, LedgerError> {
        if let Some(bytes) = records.iter().map(|r| r.as_ref().len()).find(|bytes| *bytes > RECORD_BYTES_MAX) {
            return Err(LedgerError::TooLong { bytes });
        }
        let mut head = self.head;
        let mut frames = Vec::new();
        for record in records {
            let record = record.as_ref();
            if self.at + frames.len() + shard::entry_bytes(record) > SHARD_BYTES {
                self.write(&frames, head)?;
                frames.clear();
                self.rotate()?;
            }
            head = head.after(record);
            shard::push_entry(&mut frames, &Entry { index: head.index, hash: head.hash, record });
        }
        self.write(&frames, head)?;
        Ok(self.head)
    }

    /// The end of the chain.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The end of the chain, for who has to follow it.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.heads.subscribe()
    }

    /// Whose ledger this is.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The last end that the collector is known to have.
    #[must_use]
    pub fn countersigned(&self) -> Option<Head> {
        self.countersigned
    }

    /// What was found wrong when it was opened, or since, in words for the operator.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads records while this appends.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.dir.clone())
    }

    /// The collector has everything up to `head`. Written down, so that `ledger verify` can hold
    /// the files against it; older shards than the settings keep are dropped.
    pub fn countersign(&mut self, head: Head) {
        if self.countersigned.is_some_and(|seen| seen.index >= head.index) {
            return;
        }
        self.countersigned = Some(head);
        let path = self.dir.join(COUNTERSIGNED);
        if let Err(error) = durable::write_atomic(&path, &recover::encode_countersigned(head), 0o600) {
            self.note(format!("cannot write {}: {error}", path.display()));
        }
        self.retain();
    }

    /// Writes frames behind the last one and waits for the disk.
    fn write(&mut self, frames: &[u8], head: Head) -> Result<(), LedgerError> {
        if frames.is_empty() {
            return Ok(());
        }
        self.clean()?;
        self.dirty_to = self.at + frames.len();
        let path = self.shard_path();
        self.file.write_all_at(frames, self.at as u64).map_err(LedgerError::file("write", &path))?;
        self.file.sync_data().map_err(LedgerError::file("sync", &path))?;
        self.at = self.dirty_to;
        self.dirty_to = 0;
        self.head = head;
        self.heads.send_replace(head);
        Ok(())
    }

    /// Takes back what a write that failed has left, so that it cannot be read as a record later.
    /// After a failed sync the kernel counts pages as clean that never reached the disk; writing
    /// them again is what makes the next sync mean something.
    fn clean(&mut self) -> Result<(), LedgerError> {
        if self.dirty_to <= self.at {
            return Ok(());
        }
        let path = self.shard_path();
        let zeros = vec![0; self.dirty_to - self.at];
        self.file.write_all_at(&zeros, self.at as u64).map_err(LedgerError::file("write", &path))?;
        self.file.sync_data().map_err(LedgerError::file("sync", &path))?;
        self.dirty_to = 0;
        Ok(())
    }

    /// Begins the next shard.
    fn rotate(&mut self) -> Result<(), LedgerError> {
        self.retain();
        if self.shards.len() >= SHARDS_MAX {
            return Err(LedgerError::Full { shards: self.shards.len() });
        }
        let spare = self.dir.join(SPARE);
        let file = match open_spare(&spare) {
            Some(file) => file,
            None => durable::preallocate(&spare, SHARD_BYTES).map_err(LedgerError::file("make", &spare))?,
        };
        let header = Header { host: self.host, after: self.head }.encode();
        file.write_all_at(&header, 0).map_err(LedgerError::file("write", &spare))?;
        file.sync_data().map_err(LedgerError::file("sync", &spare))?;
        let first = self.head.index + 1;
        let path = self.dir.join(shard_name(first));
        fs::rename(&spare, &path).map_err(LedgerError::file("make", &path))?;
        durable::sync_dir(&self.dir).map_err(LedgerError::file("sync", &self.dir))?;
        self.shards.push(first);
        self.file = file;
        self.at = header.len();
        self.dirty_to = 0;
        self.make_spare();
        Ok(())
    }

    /// Makes the next shard ahead. Without one the ledger still has what is left of the current.
    fn make_spare(&mut self) {
        let spare = self.dir.join(SPARE);
        if open_spare(&spare).is_some() {
            return;
        }
        if let Err(error) = durable::preallocate(&spare, SHARD_BYTES) {
            self.note(format!("cannot set space aside for the next shard of the ledger: {error}"));
        }
    }

    /// Drops the oldest shards beyond those that are kept, if the collector has them, or if there
    /// is no collector that waits for them.
    fn retain(&mut self) {
        let countersigned = match self.countersigned {
            _ if self.host == HostId::default() => u64::MAX,
            Some(head) => head.index,
            None => return,
        };
        while self.shards.len() > self.shards_keep && self.shards[1] <= countersigned.saturating_add(1) {
            let path = self.dir.join(shard_name(self.shards[0]));
            if let Err(error) = fs::remove_file(&path) {
                self.note(format!("cannot drop {}: {error}", path.display()));
                return;
            }
            self.shards.remove(0);
        }
    }

    fn note(&mut self, note: String) {
        tracing::warn!(%note, "ledger");
        if self.notes.len() < 16 && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn shard_path(&self) -> PathBuf {
        self.dir.join(shard_name(self.shards.last().copied().unwrap_or_default()))
    }
}

/// The folder of a chain.
#[must_use]
pub fn chain_name(host: HostId) -> String {
    if host == HostId::default() { "unenrolled".to_owned() } else { host.to_string() }
}

fn shard_name(first: u64) -> String {
    format!("{first:020}.shard")
}

/// The spare, if it is whole and empty (but for a header that a crash kept from its name).
fn open_spare(path: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    let bytes = fs::read(path).ok()?;
    let is_empty = bytes.len() == SHARD_BYTES && frame::is_zero(&bytes[shard::HEADER_BYTES..]);
    is_empty.then_some(file)
}

/// The numbers of the first records of the shards in a folder, in order.
fn list_shards(dir: &Path) -> Result<Vec<u64>, LedgerError> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(dir).map_err(LedgerError::file("read the folder", dir))? {
        let name = entry.map_err(LedgerError::file("read the folder", dir))?.file_name();
        let first: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".shard")).and_then(|name| name.parse().ok());
        shards.extend(first);
    }
    shards.sort_unstable();
    Ok(shards)
}

/// Drops the chains of enrolments that are long past, oldest first.
fn forget_old_chains(root: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let mut chains: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path() != current && entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((last_change(&entry.path())?, entry.path())))
        .collect();
    chains.sort();
    for (_, path) in chains.iter().rev().skip(CHAINS_MAX - 1) {
        tracing::info!(path = %path.display(), "dropping the ledger of an enrolment long past");
        let _ = fs::remove_dir_all(path);
    }
}

/// When a chain was last written to.
fn last_change(dir: &Path) -> Option<std::time::SystemTime> {
    let last = list_shards(dir).ok()?.last().copied()?;
    fs::metadata(dir.join(shard_name(last))).ok()?.modified().ok()
}
