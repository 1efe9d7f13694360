//! The one writer: group commit of what many sessions want durable.
//!
//! In: batches of changes. Out: an answer to each, after the write-ahead log is synced. While one
//! group is being synced the next one gathers, so that a slow disk makes larger groups and not a
//! longer queue of syncs. An answer of `Ok` means that it survives the power.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use rocksdb::{DB, WriteBatch, WriteOptions};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::columns::Column;
use super::damage::Damages;
use super::keys::Key;
use super::presence::{Notes, Presence};
use super::warm::{Change, Warm};

/// Most batches that wait; sessions wait beyond that, and so do their agents.
const QUEUE_MAX: usize = 4096;
/// A group is written when it has this many bytes, even if more wait.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One change.
#[derive(Debug, Clone)]
enum Op {
    Put(Column, Vec<u8>, Vec<u8>),
    Delete(Column, Vec<u8>),
    DeleteRange(Column, Vec<u8>, Vec<u8>),
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// Writes a message under a key.
    pub fn put<K: Key, V: Message>(&mut self, key: &K, value: &V) {
        self.put_raw(key, value.encode_to_vec());
    }

    /// Writes bytes under a key.
    pub fn put_raw<K: Key>(&mut self, key: &K, value: Vec<u8>) {
        self.ops.push(Op::Put(K::COLUMN, key.encode(), value));
    }

    /// Removes a key.
    pub fn delete<K: Key>(&mut self, key: &K) {
        self.ops.push(Op::Delete(K::COLUMN, key.encode()));
    }

    /// Removes everything from `from` up to but without `to`.
    pub fn delete_range(&mut self, column: Column, from: Vec<u8>, to: Vec<u8>) {
        self.ops.push(Op::DeleteRange(column, from, to));
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Takes all changes of another.
    pub fn append(&mut self, other: Self) {
        self.ops.extend(other.ops);
    }
}

struct Job {
    batch: Batch,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// What the writer has done.
#[derive(Debug, Default)]
pub struct WriterCounts {
    /// Groups that were synced.
    pub groups: AtomicU64,
    /// Batches in them.
    pub batches: AtomicU64,
    /// Bytes in them.
    pub bytes: AtomicU64,
    /// Groups that could not be written.
    pub failures: AtomicU64,
    /// Whether the last group could not be written.
    pub is_failing: AtomicBool,
    /// Since when the group is being written that is not done yet, on the writer's own clock; none is written at 0.
    writing_since_ms: AtomicU64,
    started: OnceLock<Instant>,
}

impl WriterCounts {
    /// For how long the group that is not done yet has been written.
    #[must_use]
    pub fn writing_for(&self) -> Duration {
        match self.writing_since_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.clock().saturating_sub(Duration::from_millis(since)),
        }
    }

    fn clock(&self) -> Duration {
        // Never 0, which says that nothing is written.
        self.started.get_or_init(Instant::now).elapsed() + Duration::from_millis(1)
    }
}

/// Hands batches to the writer thread.
#[derive(Debug, Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    /// For the metrics.
    pub counts: Arc<WriterCounts>,
}

impl Writer {
    /// Starts the writer thread. It ends when the last [`Writer`] is gone.
    pub(super) fn start(
        db: Arc<DB>,
        damages: Arc<Damages>,
        (warm, presence): (Arc<Warm>, Arc<Presence>),
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::new(WriterCounts::default());
        let mine = counts.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&db, queue, (&mine, &damages), (&warm, &presence)))?;
        Ok((Self { jobs, counts }, thread))
    }

    /// One that leads nowhere, to put in the place of the real one so that its thread ends.
    pub(super) fn disconnected() -> Self {
        Self { jobs: mpsc::channel(1).0, counts: Arc::default() }
    }

    /// Makes a batch durable.
    ///
    /// # Errors
    /// If it could not be written; nothing of it is then there.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (answer, done) = oneshot::channel();
        self.jobs.send(Job { batch, answer }).await.map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Makes a batch durable, on a thread that may wait: not one that runs tasks.
    ///
    /// # Errors
    /// If it could not be written; nothing of it is then there.
    pub fn commit_waiting(&self, batch: Batch) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.jobs.blocking_send(Job { batch, answer }).map_err(|_| StoreError::Closed)?;
        done.blocking_recv().map_err(|_| StoreError::Closed)?
    }
}

fn run(
    db: &DB,
    mut queue: mpsc::Receiver<Job>,
    (counts, damages): (&WriterCounts, &Damages),
    (warm, presence): (&Warm, &Presence),
) {
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    while let Some(first) = queue.blocking_recv() {
        let mut group = WriteBatch::default();
        let (mut answers, mut changes, mut notes) = (Vec::new(), Vec::new(), Notes::default());
        let mut next = Some(first);
        while let Some(job) = next {
            fill(db, &mut group, job.batch, (&mut changes, &mut notes));
            answers.push(job.answer);
            next = if group.size_in_bytes() < GROUP_BYTES_MAX { queue.try_recv().ok() } else { None };
        }
        counts.groups.fetch_add(1, Ordering::Relaxed);
        counts.batches.fetch_add(answers.len() as u64, Ordering::Relaxed);
        counts.bytes.fetch_add(group.size_in_bytes() as u64, Ordering::Relaxed);
        let now_ms = u64::try_from(counts.clock().as_millis()).unwrap_or(u64::MAX);
        counts.writing_since_ms.store(now_ms, Ordering::Relaxed);
        let rows = warm.before(changes);
        presence.before(&notes);
        let written = db.write_opt(group, &synced).map_err(StoreError::from);
        warm.after(rows, written.is_ok());
        if written.is_ok() {
            presence.after(notes);
        }
        counts.writing_since_ms.store(0, Ordering::Relaxed);
        counts.is_failing.store(written.is_err(), Ordering::Relaxed);
        if let Err(error) = &written {
            counts.failures.fetch_add(1, Ordering::Relaxed);
            if let StoreError::Damaged(said) = error {
                // A compaction has met it: RocksDB takes no writes until it is opened anew, and then compacts again.
                damages.note(db, said);
            }
            tracing::error!(%error, batches = answers.len(), "cannot write to the store");
        }
        for answer in answers {
            // A session that is gone no longer wants to know.
            let _ = answer.send(written.clone());
        }
    }
}

fn fill(db: &DB, group: &mut WriteBatch, batch: Batch, (changes, notes): (&mut Vec<Change>, &mut Notes)) {
    for op in batch.ops {
        let change = match op {
            Op::Put(column, key, value) => {
                group.put_cf(super::family(db, column), &key, &value);
                notes.put(column, &key, &value);
                Change::of(column, &key, Some(value))
            }
            Op::Delete(column, key) => {
                group.delete_cf(super::family(db, column), &key);
                notes.delete(column, &key);
                Change::of(column, &key, None)
            }
            Op::DeleteRange(column, from, to) => {
                notes.delete_range(column, &from, &to);
                let change = Change::of_range(column, &from, &to);
                group.delete_range_cf(super::family(db, column), from, to);
                change
            }
        };
        // The pieces of a block come one after the other, and so do rows that go.
        changes.extend(change.filter(|change| changes.last() != Some(change)));
    }
    notes.end_batch();
}
