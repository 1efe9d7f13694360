//! Reading series: host after host, one part after the other, as the store was at one moment.
//!
//! In: hosts in the order of their numbers, and a range. Out: pieces (a sealed block, an open row) of which only the parts
//! of the asked series are read and unpacked. What lies behind one another in the store is read in one go: a cursor for
//! every hour and piece only ever moves on, so that a question about the whole fleet seeks next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_fleet::block::{BadBlock, Head, Loose, Unpacker};
use mainstay_fleet::rollup::Tier;

use super::block1::{self, Block};
use super::columns::Column;
use super::cursor::{Cursor, Pieces, Where};
use super::kept::{Asked, Blocks, Gathered, Kept};
use super::keys::{BlockKey, Key, OpenRowKey, PieceKey, RollupKey};
use super::piece::{Body, HeadKey, Piece, Place, Sealed, Seen, overlaps};
use super::rollup::{number, stretch_of};
use super::schema::Schema;
use super::series::{hour_of, slot_of};
use super::view::View;
use super::{Store, StoreError};

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
            schema: None,
            asked: Vec::new(),
            room: <(Vec<i64>, Vec<i64>)>::default(),
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
    /// Blocks, and open rows of a host together, that were still there from a question before.
    pub kept: u64,
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
            kept: self.kept - before.kept,
        }
    }

    /// Adds what another has read.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.parts += other.parts;
        self.unpacked_bytes += other.unpacked_bytes;
        self.rows += other.rows;
        self.kept += other.kept;
    }
}

/// Takes a piece of a host.
pub type Take<'t, 'v> = dyn FnMut(&mut Piece<'_, 'v>) -> Result<(), StoreError> + 't;

/// Reads hosts.
pub struct Reader<'v> {
    pub(super) view: &'v View<'v>,
    old: Option<Cursor<'v>>,
    pieces: Pieces<'v>,
    rows: Cursor<'v>,
    unpacker: Unpacker,
    /// The schema that was met last: most are of it.
    schema: Option<Arc<Schema>>,
    pub(super) asked: Vec<Asked>,
    /// Room for times and windows of what is kept.
    pub(super) room: (Vec<i64>, Vec<i64>),
    pub(super) seen: Seen,
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
            self.hour(host, hour, span, None, take)?;
        }
        self.open_rows(host, span, None, take)
    }

    /// The blocks of an hour of a host, which are added to `kept` if there is one.
    pub(super) fn hour(
        &mut self,
        host: u32,
        hour: u32,
        span: (i64, i64),
        kept: Option<&mut Blocks>,
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        self.old_blocks(hour, host, span, take)?;
        let prefix = PieceKey::of(hour, PieceKey::HEAD, host);
        self.blocks((None, hour, PieceKey::HEAD), &prefix, span, kept, take)
    }

    /// What a tier has of a host.
    fn rolled(&mut self, host: u32, tier: Tier, span: (i64, i64), take: &mut Take<'_, 'v>) -> Result<(), StoreError> {
        let number = number(tier);
        let Some((first, last)) = self.view.rolled[usize::from(number - 1)] else { return Ok(()) };
        let stretch = |ms: i64| stretch_of(tier, hour_of(ms));
        for stretch in stretch(span.0).max(first)..=stretch(span.1).min(last) {
            let prefix = RollupKey::of(number, stretch, PieceKey::HEAD, host);
            self.blocks((Some(tier), stretch, PieceKey::HEAD), &prefix, span, None, take)?;
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
        self.seen.take_damaged()
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
        if self.old.as_ref().is_some_and(|cursor| cursor.is_lost(&from)) {
            self.seen.damaged(lost((None, hour, PieceKey::HEAD)));
        }
        Ok(())
    }

    fn blocks(
        &mut self,
        place: Where,
        prefix: &[u8],
        span: (i64, i64),
        mut kept: Option<&mut Blocks>,
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        let mut from = prefix.to_vec();
        loop {
            let cursor = self.pieces.cursor(self.view, place);
            let Some((key, bytes)) = cursor.find(&from, prefix)? else {
                if cursor.is_lost(&from) {
                    self.seen.damaged(lost(place));
                }
                return Ok(());
            };
            let key = HeadKey::decode(key, place.0)?;
            // Of what is kept all blocks have to be known.
            let is_meant = key.overlaps(span);
            let head = (is_meant || kept.is_some()).then(|| Head::open(bytes));
            if cursor.is_lost(&from) {
                self.seen.damaged(lost(place));
            }
            cursor.pass(&mut from);
            let Some(head) = head else { continue };
            self.seen.read.blocks += u64::from(is_meant);
            let (schema, head) = match named(self.view.store, &mut self.schema, head, |head| head.schema)? {
                Ok(named) => named,
                Err(why) if is_meant => {
                    self.seen.damaged(format!("{}: {why}", Place::Sealed(&key)));
                    continue;
                }
                // Whoever asks for it is told.
                Err(_) => {
                    if let Some(kept) = &mut kept {
                        kept.is_spoiled = true;
                    }
                    continue;
                }
            };
            if let (Some(kept), HeadKey::Piece(key)) = (&mut kept, &key) {
                kept.blocks.push(Kept::new((key.slot, key.sibling), schema.clone(), &head));
            }
            if !is_meant {
                continue;
            }
            let sealed = Sealed {
                view: self.view,
                pieces: &mut self.pieces,
                key: &key,
                head: &head,
                unpacker: &mut self.unpacker,
                open: None,
                kept: kept.as_mut().and_then(|kept| kept.blocks.last_mut()),
            };
            take(&mut Piece {
                schema: &schema,
                tier: place.0,
                times: &head.times,
                windows: &head.windows,
                body: Body::Sealed(sealed),
                place: Place::Sealed(&key),
                seen: &mut self.seen,
                is_damaged: false,
            })?;
        }
    }

    pub(super) fn open_rows(
        &mut self,
        host: u32,
        (from_ms, to_ms): (i64, i64),
        mut gathered: Option<&mut Gathered>,
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        let prefix = OpenRowKey::of(host);
        let mut from = match gathered {
            // All of them, or what is kept would not be the whole of it.
            Some(_) => prefix.clone(),
            None => OpenRowKey { host, slot: slot_of(from_ms), at_ms: from_ms }.encode(),
        };
        let mut is_lost = false;
        while let Some((key, bytes)) = self.rows.find(&from, &prefix)? {
            let key = OpenRowKey::decode(key)?;
            if key.at_ms > to_ms && gathered.is_none() {
                break;
            }
            self.seen.read.rows += 1;
            let (store, known, seen) = (self.view.store, &mut self.schema, &mut self.seen);
            if bytes.first() == Some(&block1::VERSION) {
                if let Some(gathered) = &mut gathered {
                    gathered.spoil();
                }
                old(store, Block::open(bytes), Place::Row(&key), seen, take)?;
            } else {
                row((store, known), bytes, &key, (seen, gathered.as_deref_mut()), take)?;
            }
            is_lost |= self.rows.is_lost(&from);
            self.rows.pass(&mut from);
        }
        if is_lost || self.rows.is_lost(&from) {
            self.seen.damaged("open rows, which a damaged table holds".to_owned());
        }
        Ok(())
    }
}

/// What cannot even be seen.
fn lost((tier, stretch, _): Where) -> String {
    match tier {
        None => format!("blocks of hour {stretch}, which a damaged table holds"),
        Some(Tier::Minutes5) => format!("rollups of hour {stretch}, which a damaged table holds"),
        Some(Tier::Hour) => format!("rollups of day {stretch}, which a damaged table holds"),
    }
}

/// What was read, with the names of its series; or why it cannot be used.
fn named<T>(
    store: &Store,
    known: &mut Option<Arc<Schema>>,
    read: Result<T, BadBlock>,
    schema: impl FnOnce(&T) -> [u8; 16],
) -> Result<Result<(Arc<Schema>, T), String>, StoreError> {
    let read = match read {
        Ok(read) => read,
        Err(bad) => return Ok(Err(bad.to_string())),
    };
    let id = schema(&read);
    if known.as_ref().is_none_or(|known| known.id != id) {
        *known = store.schema(id)?;
    }
    Ok(known.clone().map(|schema| (schema, read)).ok_or_else(|| "its series names are missing".to_owned()))
}

fn old<'v>(
    store: &Store,
    block: Result<Block, BadBlock>,
    place: Place<'_>,
    seen: &mut Seen,
    take: &mut Take<'_, 'v>,
) -> Result<(), StoreError> {
    match named(store, &mut None, block, |block| block.schema)? {
        Ok((schema, block)) => {
            let (times, windows) = (block.times(), block.windows());
            take(&mut Piece {
                schema: &schema,
                tier: None,
                times,
                windows,
                body: Body::Old(&block),
                place,
                seen,
                is_damaged: false,
            })
        }
        Err(why) => {
            seen.damaged(format!("{place}: {why}"));
            Ok(())
        }
    }
}

fn row<'v>(
    (store, known): (&Store, &mut Option<Arc<Schema>>),
    bytes: &[u8],
    key: &OpenRowKey,
    (seen, mut gathered): (&mut Seen, Option<&mut Gathered>),
    take: &mut Take<'_, 'v>,
) -> Result<(), StoreError> {
    let place = Place::Row(key);
    match named(store, known, Loose::open(bytes), |row| row.schema)? {
        Ok((schema, row)) => {
            let (times, windows) = ([row.at_ms], [i64::from(row.window_ms)]);
            if let Some(gathered) = &mut gathered {
                gathered.begin(&schema, &row);
            }
            take(&mut Piece {
                schema: &schema,
                tier: None,
                times: &times,
                windows: &windows,
                body: Body::Row(&row, gathered),
                place,
                seen,
                is_damaged: false,
            })
        }
        Err(why) => {
            seen.damaged(format!("{place}: {why}"));
            Ok(())
        }
    }
}
