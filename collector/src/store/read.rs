//! Reading series: host after host, one part after the other, as the store was at one moment.
//!
//! In: hosts in the order of their numbers, and a range. Out: pieces (a sealed block, an open row) of which only the parts
//! of the asked series are read and unpacked. What lies behind one another in the store is read in one go: a cursor for
//! every hour and piece only ever moves on, so that a question about the whole fleet seeks next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_fleet::block::{BadBlock, Head, Loose, Part, Unpacker, Which};
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};

use super::block1::{self, Block};
use super::columns::Column;
use super::keys::{BlockKey, Key, OpenRowKey, PieceKey};
use super::schema::Schema;
use super::series::{HOUR_MS, SLOT_MS, hour_of, slot_of};
use super::{Store, StoreError, family};

/// Most cursors of a reader: each holds a block of RocksDB's. Beyond it all are closed and opened anew.
const CURSORS_MAX: usize = 512;
/// Keys that a cursor passes one by one before it seeks.
const STEPS_MAX: usize = 8;
/// Damaged pieces that are named; the rest is counted.
const DAMAGED_MAX: usize = 100;

/// The store as it is at one moment.
pub struct View<'s> {
    store: &'s Store,
    snapshot: SnapshotWithThreadMode<'s, DB>,
    /// Hours that have blocks at all.
    hours: (u32, u32),
    /// Whether there are blocks of version 1.
    has_old: bool,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("hours", &self.hours).field("has_old", &self.has_old).finish_non_exhaustive()
    }
}

impl Store {
    /// The store as it is now.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        let snapshot = self.db().snapshot();
        let (old, new) = (hours_of::<BlockKey>(self, &snapshot), hours_of::<PieceKey>(self, &snapshot));
        let hours = match (old, new) {
            (Some(old), Some(new)) => (old.0.min(new.0), old.1.max(new.1)),
            (one, other) => one.or(other).unwrap_or((1, 0)),
        };
        View { store: self, snapshot, hours, has_old: old.is_some() }
    }
}

/// The first and the last hour that keys of a kind, which begin with one, are of. Where the store is damaged, whoever
/// reads there is told.
fn hours_of<K: Key>(store: &Store, snapshot: &SnapshotWithThreadMode<'_, DB>) -> Option<(u32, u32)> {
    let mut ends = snapshot.raw_iterator_cf(family(store.db(), K::COLUMN));
    let hour = |key: &[u8]| Some(u32::from_be_bytes(*key.strip_prefix(&[K::ORDINAL])?.first_chunk()?));
    ends.seek([K::ORDINAL]);
    let first = ends.key().and_then(hour)?;
    ends.seek_for_prev([K::ORDINAL + 1]);
    Some((first, ends.key().and_then(hour)?))
}

impl View<'_> {
    /// Something that reads of it.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        let old = self.has_old.then(|| Cursor::new(self, Column::Series));
        Reader {
            view: self,
            old,
            pieces: Pieces::default(),
            rows: Cursor::new(self, Column::Head),
            unpacker: Unpacker::default(),
            seen: Seen::default(),
        }
    }

    fn hours(&self, from_ms: i64, to_ms: i64) -> std::ops::RangeInclusive<u32> {
        hour_of(from_ms).max(self.hours.0)..=hour_of(to_ms).min(self.hours.1)
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Blocks whose head was read.
    pub blocks: u64,
    /// Parts that were unpacked.
    pub parts: u64,
    /// Bytes that they were unpacked to.
    pub unpacked_bytes: u64,
    /// Open rows.
    pub rows: u64,
}

impl Read {
    /// What was read since then.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            blocks: self.blocks - before.blocks,
            parts: self.parts - before.parts,
            unpacked_bytes: self.unpacked_bytes - before.unpacked_bytes,
            rows: self.rows - before.rows,
        }
    }

    /// Adds what another has read.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.parts += other.parts;
        self.unpacked_bytes += other.unpacked_bytes;
        self.rows += other.rows;
    }
}

/// What has been read so far, and what of the host could not be.
#[derive(Default)]
struct Seen {
    read: Read,
    damaged: Vec<String>,
    damaged_more: usize,
}

impl Seen {
    fn damaged(&mut self, name: String) {
        if self.damaged.len() < DAMAGED_MAX { self.damaged.push(name) } else { self.damaged_more += 1 }
    }
}

/// Takes a piece of a host.
pub type Take<'t, 'v> = dyn FnMut(&mut Piece<'_, 'v>) -> Result<(), StoreError> + 't;

/// Where something was read.
enum Place<'p> {
    Old(&'p BlockKey),
    Sealed(&'p PieceKey),
    Row(&'p OpenRowKey),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Old(key) => write!(f, "block of hour {}, slot {}", key.hour, key.slot),
            Self::Sealed(key) if key.slot == PieceKey::WHOLE => write!(f, "block of hour {}", key.hour),
            Self::Sealed(key) => write!(f, "block of hour {}, slot {}", key.hour, key.slot),
            Self::Row(key) => write!(f, "open row at {}", key.at_ms),
        }
    }
}

/// Reads hosts.
pub struct Reader<'v> {
    view: &'v View<'v>,
    old: Option<Cursor<'v>>,
    pieces: Pieces<'v>,
    rows: Cursor<'v>,
    unpacker: Unpacker,
    seen: Seen,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("read", &self.seen.read).finish_non_exhaustive()
    }
}

impl<'v> Reader<'v> {
    /// Hands what a host has from `from_ms` to `to_ms` to `take`, piece by piece, oldest first where they do not overlap.
    /// Hosts are quickest in the order of their numbers.
    ///
    /// # Errors
    /// If the store cannot be read. Damaged pieces are named by [`Self::damaged`], and the rest is served.
    pub fn host(&mut self, host: u32, (from_ms, to_ms): (i64, i64), take: &mut Take<'_, 'v>) -> Result<(), StoreError> {
        let (from_ms, to_ms) = (from_ms.max(0), to_ms.max(0));
        for hour in self.view.hours(from_ms, to_ms) {
            self.old_blocks(hour, host, (from_ms, to_ms), take)?;
            self.blocks(hour, host, (from_ms, to_ms), take)?;
        }
        self.open_rows(host, (from_ms, to_ms), take)
    }

    /// What has been read so far.
    #[must_use]
    pub fn read(&self) -> Read {
        self.seen.read
    }

    /// What could not be read since this was asked last, in words.
    pub fn damaged(&mut self) -> Vec<String> {
        let more = std::mem::take(&mut self.seen.damaged_more);
        let mut damaged = std::mem::take(&mut self.seen.damaged);
        if more > 0 {
            damaged.push(format!("{more} pieces more"));
        }
        damaged
    }

    fn old_blocks(
        &mut self,
        hour: u32,
        host: u32,
        span: (i64, i64),
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        let prefix = BlockKey::of(hour, host);
        let mut from = prefix.clone();
        while let Some(cursor) = &mut self.old
            && let Some((key, bytes)) = cursor.find(&from, &prefix)?
        {
            let key = BlockKey::decode(key)?;
            let block = overlaps(key.hour, key.slot, span).then(|| Block::open(bytes));
            cursor.pass(&mut from);
            let Some(block) = block else { continue };
            self.seen.read.blocks += 1;
            old(self.view.store, block, Place::Old(&key), &mut self.seen, take)?;
        }
        Ok(())
    }

    fn blocks(&mut self, hour: u32, host: u32, span: (i64, i64), take: &mut Take<'_, 'v>) -> Result<(), StoreError> {
        let prefix = PieceKey::of(hour, PieceKey::HEAD, host);
        let mut from = prefix.clone();
        loop {
            let cursor = self.pieces.cursor(self.view, hour, PieceKey::HEAD);
            let Some((key, bytes)) = cursor.find(&from, &prefix)? else { return Ok(()) };
            let key = PieceKey::decode(key)?;
            let head = overlaps(key.hour, key.slot, span).then(|| Head::open(bytes));
            cursor.pass(&mut from);
            let Some(head) = head else { continue };
            self.seen.read.blocks += 1;
            let (schema, head) = match named(self.view.store, head, |head| head.schema)? {
                Ok(named) => named,
                Err(why) => {
                    self.seen.damaged(format!("{}: {why}", Place::Sealed(&key)));
                    continue;
                }
            };
            let sealed = Sealed {
                view: self.view,
                pieces: &mut self.pieces,
                key: &key,
                head: &head,
                unpacker: &mut self.unpacker,
                open: None,
            };
            take(&mut Piece {
                schema,
                times: &head.times,
                windows: &head.windows,
                body: Body::Sealed(sealed),
                place: Place::Sealed(&key),
                seen: &mut self.seen,
            })?;
        }
    }

    fn open_rows(
        &mut self,
        host: u32,
        (from_ms, to_ms): (i64, i64),
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        let prefix = OpenRowKey::of(host);
        let mut from = OpenRowKey { host, slot: slot_of(from_ms), at_ms: from_ms }.encode();
        while let Some((key, bytes)) = self.rows.find(&from, &prefix)? {
            let key = OpenRowKey::decode(key)?;
            if key.at_ms > to_ms {
                break;
            }
            self.seen.read.rows += 1;
            if bytes.first() == Some(&block1::VERSION) {
                old(self.view.store, Block::open(bytes), Place::Row(&key), &mut self.seen, take)?;
            } else {
                row(self.view.store, bytes, &key, &mut self.seen, take)?;
            }
            self.rows.pass(&mut from);
        }
        Ok(())
    }
}

/// What was read, with the names of its series; or why it cannot be used.
fn named<T>(
    store: &Store,
    read: Result<T, BadBlock>,
    schema: impl FnOnce(&T) -> [u8; 16],
) -> Result<Result<(Arc<Schema>, T), String>, StoreError> {
    let read = match read {
        Ok(read) => read,
        Err(bad) => return Ok(Err(bad.to_string())),
    };
    let named = store.schema(schema(&read))?;
    Ok(named.map(|schema| (schema, read)).ok_or_else(|| "its series names are missing".to_owned()))
}

fn old<'v>(
    store: &Store,
    block: Result<Block, BadBlock>,
    place: Place<'_>,
    seen: &mut Seen,
    take: &mut Take<'_, 'v>,
) -> Result<(), StoreError> {
    match named(store, block, |block| block.schema)? {
        Ok((schema, block)) => {
            let (times, windows) = (block.times(), block.windows());
            take(&mut Piece { schema, times, windows, body: Body::Old(&block), place, seen })
        }
        Err(why) => {
            seen.damaged(format!("{place}: {why}"));
            Ok(())
        }
    }
}

fn row<'v>(
    store: &Store,
    bytes: &[u8],
    key: &OpenRowKey,
    seen: &mut Seen,
    take: &mut Take<'_, 'v>,
) -> Result<(), StoreError> {
    let place = Place::Row(key);
    match named(store, Loose::open(bytes), |row| row.schema)? {
        Ok((schema, row)) => {
            let (times, windows) = ([row.at_ms], [i64::from(row.window_ms)]);
            take(&mut Piece { schema, times: &times, windows: &windows, body: Body::Row(&row), place, seen })
        }
        Err(why) => {
            seen.damaged(format!("{place}: {why}"));
            Ok(())
        }
    }
}

/// Whether a slot of an hour, or the whole hour, has moments of a span.
fn overlaps(hour: u32, slot: u8, (from_ms, to_ms): (i64, i64)) -> bool {
    let hour_ms = i64::from(hour) * HOUR_MS;
    let (begin, length) =
        if slot == PieceKey::WHOLE { (hour_ms, HOUR_MS) } else { (hour_ms + i64::from(slot) * SLOT_MS, SLOT_MS) };
    begin <= to_ms && begin + length > from_ms
}

/// A sealed block or an open row.
pub struct Piece<'p, 'v> {
    /// The names of its series.
    pub schema: Arc<Schema>,
    /// Ends of the windows of its rows.
    pub times: &'p [i64],
    /// Their lengths, in milliseconds.
    pub windows: &'p [i64],
    body: Body<'p, 'v>,
    place: Place<'p>,
    seen: &'p mut Seen,
}

impl std::fmt::Debug for Piece<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece").field("rows", &self.times.len()).finish_non_exhaustive()
    }
}

enum Body<'p, 'v> {
    Old(&'p Block),
    Sealed(Sealed<'p, 'v>),
    Row(&'p Loose<'p>),
}

/// A sealed block whose parts are read as they are asked for.
struct Sealed<'p, 'v> {
    view: &'v View<'v>,
    pieces: &'p mut Pieces<'v>,
    key: &'p PieceKey,
    head: &'p Head,
    unpacker: &'p mut Unpacker,
    /// The part that was asked for last, if it could be read.
    open: Option<(u8, Option<Part>)>,
}

impl Piece<'_, '_> {
    /// Hands one value of every row that has the series in place `at` of the schema to `take`, with the row's time. Series
    /// are quickest in their order. A part that cannot be read is named in what the reader has seen, and has no rows.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn each_value(&mut self, at: usize, which: Which, take: &mut dyn FnMut(i64, f64)) -> Result<(), StoreError> {
        let times = self.times;
        let mut of_row = |row: usize, value: f64| take(times[row], value);
        let read = match &mut self.body {
            Body::Old(block) => block.each_value(at, self.schema.gauge[at], which, &mut of_row),
            Body::Row(row) => row.value(at, which).map(|value| value.into_iter().for_each(|value| of_row(0, value))),
            Body::Sealed(sealed) => {
                let head = sealed.head;
                match sealed.part(at, self.seen)? {
                    Ok(Some(part)) => part.each_value(head, at, which, &mut of_row),
                    Ok(None) => Ok(()),
                    Err(bad) => Err(bad),
                }
            }
        };
        if let Err(bad) = read {
            self.seen.damaged(format!("{}: {bad}", self.place));
        }
        Ok(())
    }
}

impl Sealed<'_, '_> {
    /// The part that a series is in; `None` if it could not be read before.
    fn part(&mut self, at: usize, seen: &mut Seen) -> Result<Result<Option<&Part>, BadBlock>, StoreError> {
        let no = self.head.split.part_of(at);
        if self.open.as_ref().is_none_or(|(open, _)| *open != no) {
            self.open = Some((no, None));
            let key = self.key.part(no);
            let bytes = key.encode();
            let found = self.pieces.cursor(self.view, key.hour, key.piece).find(&bytes, &bytes)?;
            let Some((_, found)) = found else { return Ok(Err(BadBlock::Malformed("a part, which is missing"))) };
            match Part::open(found, self.head, no, self.unpacker) {
                Ok(part) => {
                    seen.read.parts += 1;
                    seen.read.unpacked_bytes += part.unpacked_bytes() as u64;
                    self.open = Some((no, Some(part)));
                }
                Err(bad) => return Ok(Err(bad)),
            }
        }
        Ok(Ok(self.open.as_ref().and_then(|(_, part)| part.as_ref())))
    }
}

/// Cursors by hour and piece.
#[derive(Default)]
struct Pieces<'v> {
    cursors: BTreeMap<(u32, u8), Cursor<'v>>,
}

impl<'v> Pieces<'v> {
    fn cursor(&mut self, view: &'v View<'v>, hour: u32, piece: u8) -> &mut Cursor<'v> {
        if self.cursors.len() >= CURSORS_MAX && !self.cursors.contains_key(&(hour, piece)) {
            self.cursors.clear();
        }
        self.cursors.entry((hour, piece)).or_insert_with(|| Cursor::new(view, Column::Series))
    }
}

/// Moves through the keys of a column family.
struct Cursor<'v> {
    iter: DBRawIteratorWithThreadMode<'v, DB>,
    /// There is no key from here to where it stands.
    from: Vec<u8>,
    is_placed: bool,
}

/// A key with its value.
type Entry<'a> = (&'a [u8], &'a [u8]);

impl<'v> Cursor<'v> {
    fn new(view: &'v View<'_>, column: Column) -> Self {
        let iter = view.snapshot.raw_iterator_cf_opt(family(view.store.db(), column), ReadOptions::default());
        Self { iter, from: Vec::new(), is_placed: false }
    }

    /// The first key from `from` on, if it begins with `prefix`, with its value.
    fn find(&mut self, from: &[u8], prefix: &[u8]) -> Result<Option<Entry<'_>>, StoreError> {
        let is_ahead = self.is_placed && self.from.as_slice() <= from;
        let mut steps = 0;
        while is_ahead && steps < STEPS_MAX && self.iter.key().is_some_and(|key| key < from) {
            self.iter.next();
            steps += 1;
        }
        if !is_ahead || self.iter.key().is_some_and(|key| key < from) {
            self.iter.seek(from);
        }
        self.is_placed = true;
        self.from.clear();
        self.from.extend(from);
        self.iter.status()?;
        Ok(self.iter.item().filter(|(key, _)| key.starts_with(prefix)))
    }

    /// Moves behind the key that was found; `from` is where it goes on.
    fn pass(&mut self, from: &mut Vec<u8>) {
        if let Some(key) = self.iter.key() {
            self.from.clear();
            self.from.extend(key);
            self.from.push(0);
            self.iter.next();
        }
        from.clone_from(&self.from);
    }
}
