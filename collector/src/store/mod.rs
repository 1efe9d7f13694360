//! The collector's store: RocksDB, with keys and values as code.
//!
//! Reads go to the database from any thread; every write goes through the one [`Writer`], and is
//! answered when it is on disk. Nothing else in the collector knows RocksDB.

pub mod again;
pub mod arrived;
mod block1;
pub mod checkpoint;
pub mod columns;
mod cursor;
pub mod damage;
pub mod forget;
mod gap;
pub mod intern;
mod kept;
pub mod keys;
pub mod lost;
pub mod names;
mod packed;
pub mod piece;
pub mod presence;
pub mod read;
pub mod rebuild;
pub mod restored;
pub mod retention;
pub mod rollup;
pub mod room;
mod scan;
pub mod schema;
pub mod scrub;
pub mod seal;
pub mod series;
mod tend;
pub mod thin;
mod thinned;
mod unite;
pub mod values;
pub mod view;
pub mod warm;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use prost::Message;
use rocksdb::{ColumnFamily, DB, ErrorKind};

pub use self::keys::{BadKey, Key};
pub use self::writer::{Batch, Writer, WriterCounts};
use columns::Column;
use damage::Damages;
use presence::Presence;
use room::Room;
use scan::{Scan, Way};
use warm::Warm;

/// The share of the cache that is for what questions read lately: the rest is RocksDB's.
const WARM_SHARE: usize = 4;

/// The share that is for who had which series when.
const PRESENCE_SHARE: usize = 32;

/// A group that is written for longer hangs: a slow disk takes seconds.
const WRITING_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// What must be free for opening the store again after its disk was full: it writes what its log holds into tables.
const REOPEN_BYTES: u64 = 64 * 1024 * 1024;

/// Why the store cannot do what it is asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// RocksDB says no.
    #[error("the store failed: {0}")]
    Database(String),
    /// What is on the disk is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// There is no room left on the disk.
    #[error("the disk of the store is full: {0}")]
    Full(String),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// A key that cannot be read.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// A value that cannot be read.
    #[error("the value under {key} cannot be read: {text}")]
    Value {
        /// The kind of key, and the key in hex.
        key: String,
        /// What is wrong with it.
        text: String,
    },
    /// A file of the store cannot be handled.
    #[error("cannot {what} {path}: {text}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        text: String,
    },
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let text = error.into_string();
        if kind == ErrorKind::Corruption || kind == ErrorKind::IOError && is_unreadable(&text) {
            return Self::Damaged(text);
        }
        // RocksDB has a sub-code for it, which the C interface does not give.
        if text.contains("No space left") { Self::Full(text) } else { Self::Database(text) }
    }
}

/// Whether the disk does not give back a part of a table, which is as lost as one that it gives back wrongly. RocksDB says
/// what it tried, with which file, and what the kernel said.
fn is_unreadable(said: &str) -> bool {
    said.contains("While pread ") && said.contains(".sst") && said.ends_with("Input/output error")
}

/// The store, open.
#[derive(Debug)]
pub struct Store {
    db: Arc<DB>,
    path: PathBuf,
    room: Room,
    writer: Writer,
    thread: Option<JoinHandle<()>>,
    /// Tables that cannot be read.
    damages: Arc<Damages>,
    /// The keys of series that sessions and schemas hold.
    keys: intern::Interner,
    /// Schemas that are known to be stored, with their names.
    pub(super) schemas: schema::SchemaCache,
    /// What has come of hosts' series, for those whom it is handed on to.
    pub arrived: arrived::Arrived,
    /// Hours whose slots are to be joined.
    pub unjoined: seal::Unjoined,
    /// When what is kept in hours begins.
    beginning: view::Beginning,
    /// What questions read lately.
    pub warm: Arc<Warm>,
    /// Who had which series when.
    pub presence: Arc<Presence>,
    /// How far hosts are thinned.
    thinned: thinned::Thinned,
}

impl Store {
    /// Opens the store in a folder, or makes it. `cache_bytes` bounds what it keeps in memory, RocksDB, [`Warm`] and
    /// [`Presence`] together; see [`Room`] for `min_free`.
    ///
    /// # Errors
    /// If it cannot be opened: another process has it, or what it begins with is damaged. Damage within a table is found
    /// when it is read ([`damage`]).
    pub fn open(path: &Path, cache_bytes: usize, min_free: u64) -> Result<Self, StoreError> {
        Self::open_with(path, cache_bytes, min_free, Arc::new(Warm::new(cache_bytes / WARM_SHARE)))
    }

    fn open_with(path: &Path, cache_bytes: usize, min_free: u64, warm: Arc<Warm>) -> Result<Self, StoreError> {
        let presence = Arc::new(Presence::new(cache_bytes / PRESENCE_SHARE));
        let rest = cache_bytes - cache_bytes / WARM_SHARE - cache_bytes / PRESENCE_SHARE;
        let (options, cache) = columns::database_options(rest);
        let damages = Arc::new(Damages::of(path, warm.clone()));
        let db = DB::open_cf_descriptors(&options, path, columns::descriptors(&cache, &damages.columns()))?;
        let db = Arc::new(db);
        let started = Writer::start(db.clone(), damages.clone(), (warm.clone(), presence.clone()));
        let (writer, thread) = started.map_err(|error| StoreError::Database(error.to_string()))?;
        let store = Self {
            db,
            path: path.to_owned(),
            room: Room::new(path, min_free),
            writer,
            thread: Some(thread),
            damages,
            keys: intern::Interner::default(),
            schemas: schema::SchemaCache::default(),
            arrived: arrived::Arrived::default(),
            unjoined: seal::Unjoined::default(),
            beginning: view::Beginning::default(),
            warm,
            presence,
            thinned: thinned::Thinned::default(),
        };
        store.thinned.restore(&store)?;
        Ok(store)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys of series, each in memory once.
    #[must_use]
    pub fn keys(&self) -> &intern::Interner {
        &self.keys
    }

    /// The room on its disk.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Whether writes fail or hang that there is room for. RocksDB takes no write any more after its log could not be
    /// written, until it is opened anew, and after its tables could not be it may keep one waiting for ever.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let counts = &self.writer.counts;
        let is_failing = counts.is_failing.load(std::sync::atomic::Ordering::Relaxed);
        (is_failing || counts.writing_for() > WRITING_MAX)
            && self.room.free_bytes() >= REOPEN_BYTES
            && self.room.check().is_ok()
    }

    /// Makes a batch durable. See [`Writer::commit`].
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.writer.commit(batch).await
    }

    /// Makes a batch durable, on a thread that may wait.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn commit_waiting(&self, batch: Batch) -> Result<(), StoreError> {
        self.writer.commit_waiting(batch)
    }

    /// What the writer has done.
    #[must_use]
    pub fn writer_counts(&self) -> &WriterCounts {
        &self.writer.counts
    }

    /// The message under a key.
    ///
    /// # Errors
    /// If the database fails or the value is not such a message.
    pub fn get<K: Key, V: Message + Default>(&self, key: &K) -> Result<Option<V>, StoreError> {
        let bytes = key.encode();
        let value = self.db.get_pinned_cf(family(&self.db, K::COLUMN), &bytes);
        let Some(value) = self.found::<K, _>(value)? else { return Ok(None) };
        decode(&bytes, &value).map(Some)
    }

    /// The bytes under a key.
    ///
    /// # Errors
    /// If the database fails.
    pub fn get_raw<K: Key>(&self, key: &K) -> Result<Option<Vec<u8>>, StoreError> {
        self.found::<K, _>(self.db.get_cf(family(&self.db, K::COLUMN), key.encode()))
    }

    /// Of a column that is served in part, what is damaged is as good as not there.
    fn found<K: Key, T>(&self, read: Result<Option<T>, rocksdb::Error>) -> Result<Option<T>, StoreError> {
        match read.map_err(|error| self.failed(error)) {
            Err(StoreError::Damaged(_)) if K::COLUMN.is_served_in_part() => Ok(None),
            read => read,
        }
    }

    /// Every key of one kind that begins with `prefix`, in order, from `from` on. What cannot be read is passed over where
    /// its column is served in part.
    pub fn scan<'s, K: Key + 's>(
        &'s self,
        prefix: &[u8],
        from: &[u8],
    ) -> impl Iterator<Item = Result<(K, Box<[u8]>), StoreError>> + use<'s, K> {
        self.walk(prefix, from, Way::Forwards)
    }

    /// Every key of one kind that begins with `prefix`, last first.
    pub fn scan_back<'s, K: Key + 's>(
        &'s self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(K, Box<[u8]>), StoreError>> + use<'s, K> {
        self.scan_back_from(prefix, prefix)
    }

    /// Every key of one kind that begins with `prefix` and is not behind all that begin with `from`, last first.
    pub fn scan_back_from<'s, K: Key + 's>(
        &'s self,
        prefix: &[u8],
        from: &[u8],
    ) -> impl Iterator<Item = Result<(K, Box<[u8]>), StoreError>> + use<'s, K> {
        let mut end = from.to_vec();
        // No field of ours begins with so many ones that this would not lie behind all of them.
        end.extend([0xff; 40]);
        self.walk(prefix, &end, Way::Backwards)
    }

    fn walk<'s, K: Key + 's>(
        &'s self,
        prefix: &[u8],
        from: &[u8],
        way: Way,
    ) -> impl Iterator<Item = Result<(K, Box<[u8]>), StoreError>> + use<'s, K> {
        Scan::new(self, K::COLUMN, prefix, from, way).map(|item| {
            let (key, value) = item?;
            Ok((K::decode(&key)?, value))
        })
    }

    /// Like [`Self::scan`] from the beginning of the prefix, with the values read.
    pub fn scan_values<'s, K: Key + 's, V: Message + Default>(
        &'s self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(K, V), StoreError>> + use<'s, K, V> {
        self.scan::<K>(prefix, prefix).map(|item| {
            let (key, value) = item?;
            let value = decode(&key.encode(), &value)?;
            Ok((key, value))
        })
    }

    /// Bytes of live data as RocksDB estimates it.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        Column::ALL.into_iter().map(|column| self.column_bytes(column)).sum()
    }

    /// The same of one column.
    fn column_bytes(&self, column: Column) -> u64 {
        let bytes = self.db.property_int_value_cf(family(&self.db, column), "rocksdb.total-sst-files-size");
        bytes.ok().flatten().unwrap_or(0)
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }
}

#[cfg(test)]
impl Store {
    /// Takes the writer away, so that nothing can be written, or puts it back.
    pub(crate) fn replace_writer(&mut self, writer: Option<Writer>) -> Writer {
        std::mem::replace(&mut self.writer, writer.unwrap_or_else(Writer::disconnected))
    }
}

impl Drop for Store {
    /// Waits for the writer and for RocksDB's own threads: closing under them crashes (rust-rocksdb #767).
    fn drop(&mut self) {
        self.writer = Writer::disconnected();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.db.cancel_all_background_work(true);
    }
}

/// Reads a value, and names its key if it cannot.
///
/// # Errors
/// If it is not such a message.
pub fn decode<V: Message + Default>(key: &[u8], value: &[u8]) -> Result<V, StoreError> {
    V::decode(value).map_err(|error| StoreError::Value { key: format!("{key:02x?}"), text: error.to_string() })
}

/// The handle of a column family.
///
/// # Panics
/// Never: all of them are named when the database is opened, and none is ever dropped.
fn family(db: &DB, column: Column) -> &ColumnFamily {
    db.cf_handle(column.name()).expect("every column family is opened")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
