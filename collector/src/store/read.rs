//! Reading series: host after host, one part after the other, as the store was at one moment.
//!
//! In: hosts in the order of their numbers, and a range. Out: pieces (a sealed block, an open row) of which only the parts
//! of the asked series are read and unpacked. What lies behind one another in the store is read in one go: a cursor for
//! every hour and piece only ever moves on, so that a question about the whole fleet seeks next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_fleet::block::{BadBlock, Head, Loose, Part, Unpacker, Which};
use mainstay_fleet::rollup::Tier;

use super::block1::{self, Block};
use super::columns::Column;
use super::cursor::{Cursor, Pieces, Where};
use super::keys::{BlockKey, Key, OpenRowKey, PieceKey, RollupKey};
use super::rollup::{number, stretch_of};
use super::schema::Schema;
use super::series::{HOUR_MS, SLOT_MS, hour_of, slot_of};
use super::view::View;
use super::{Store, StoreError};

/// Damaged pieces that are named; the rest is counted.
const DAMAGED_MAX: usize = 100;

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
    Sealed(&'p HeadKey),
    Row(&'p OpenRowKey),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Old(key) => write!(f, "block of hour {}, slot {}", key.hour, key.slot),
            Self::Sealed(HeadKey::Piece(key)) if key.slot == PieceKey::WHOLE => write!(f, "block of hour {}", key.hour),
            Self::Sealed(HeadKey::Piece(key)) => write!(f, "block of hour {}, slot {}", key.hour, key.slot),
            Self::Sealed(HeadKey::Rolled(Tier::Minutes5, key)) => write!(f, "rollup of hour {}", key.stretch),
            Self::Sealed(HeadKey::Rolled(Tier::Hour, key)) => write!(f, "rollup of day {}", key.stretch),
            Self::Row(key) => write!(f, "open row at {}", key.at_ms),
        }
    }
}

/// The key of the head of a block.
enum HeadKey {
    Piece(PieceKey),
    Rolled(Tier, RollupKey),
}

impl HeadKey {
    fn decode(bytes: &[u8], tier: Option<Tier>) -> Result<Self, StoreError> {
        Ok(match tier {
            None => Self::Piece(PieceKey::decode(bytes)?),
            Some(tier) => Self::Rolled(tier, RollupKey::decode(bytes)?),
        })
    }

    /// Whether it may have moments of a span.
    fn overlaps(&self, span: (i64, i64)) -> bool {
        match self {
            Self::Piece(key) => overlaps(key.hour, key.slot, span),
            // Only stretches of the span are looked at.
            Self::Rolled(..) => true,
        }
    }

    /// The key of a part, and where it is found.
    fn part(&self, no: u8) -> (Vec<u8>, Where) {
        match self {
            Self::Piece(key) => {
                let key = key.part(no);
                (key.encode(), (None, key.hour, key.piece))
            }
            Self::Rolled(tier, key) => {
                let key = key.part(no);
                (key.encode(), (Some(*tier), key.stretch, key.piece))
            }
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
    /// Hosts are quickest in the order of their numbers. With a tier these are its pieces ([`Piece::tier`]), and for hours
    /// that are not rolled up those of the rows.
    ///
    /// # Errors
    /// If the store cannot be read. Damaged pieces are named by [`Self::damaged`], and the rest is served.
    pub fn host(
        &mut self,
        host: u32,
        tier: Option<Tier>,
        (from_ms, to_ms): (i64, i64),
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        let span = (from_ms.max(0), to_ms.max(0));
        let mut rolled = BTreeSet::new();
        if let Some(tier) = tier {
            self.rolled(host, tier, span, &mut |piece| {
                rolled.extend(piece.times.iter().map(|at| hour_of(*at)));
                take(piece)
            })?;
        }
        for hour in self.view.hours(span.0, span.1).filter(|hour| !rolled.contains(hour)) {
            self.old_blocks(hour, host, span, take)?;
            let prefix = PieceKey::of(hour, PieceKey::HEAD, host);
            self.blocks((None, hour, PieceKey::HEAD), &prefix, span, take)?;
        }
        self.open_rows(host, span, take)
    }

    /// What a tier has of a host.
    fn rolled(&mut self, host: u32, tier: Tier, span: (i64, i64), take: &mut Take<'_, 'v>) -> Result<(), StoreError> {
        let number = number(tier);
        let Some((first, last)) = self.view.rolled[usize::from(number - 1)] else { return Ok(()) };
        let stretch = |ms: i64| stretch_of(tier, hour_of(ms));
        for stretch in stretch(span.0).max(first)..=stretch(span.1).min(last) {
            let prefix = RollupKey::of(number, stretch, PieceKey::HEAD, host);
            self.blocks((Some(tier), stretch, PieceKey::HEAD), &prefix, span, take)?;
        }
        Ok(())
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

    fn blocks(
        &mut self,
        place: Where,
        prefix: &[u8],
        span: (i64, i64),
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        let mut from = prefix.to_vec();
        loop {
            let cursor = self.pieces.cursor(self.view, place);
            let Some((key, bytes)) = cursor.find(&from, prefix)? else { return Ok(()) };
            let key = HeadKey::decode(key, place.0)?;
            let head = key.overlaps(span).then(|| Head::open(bytes));
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
                tier: place.0,
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
            take(&mut Piece { schema, tier: None, times, windows, body: Body::Old(&block), place, seen })
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
            take(&mut Piece {
                schema,
                tier: None,
                times: &times,
                windows: &windows,
                body: Body::Row(&row),
                place,
                seen,
            })
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

/// A block or an open row.
pub struct Piece<'p, 'v> {
    /// The names of its series.
    pub schema: Arc<Schema>,
    /// Of what its rows are rolled up: then every series has two cells ([`mainstay_fleet::rollup`]).
    pub tier: Option<Tier>,
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
    key: &'p HeadKey,
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
            let (bytes, place) = self.key.part(no);
            let found = self.pieces.cursor(self.view, place).find(&bytes, &bytes)?;
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
