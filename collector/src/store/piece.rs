//! Pieces of a host's series, as a reader hands them over: sealed blocks, open rows, and what is kept of both.

use std::ops::Range;
use std::sync::Arc;

use mainstay_fleet::block::{self, BadBlock, Head, Loose, Part, Unpacker, Which};
use mainstay_fleet::rollup::Tier;

use super::StoreError;
use super::block1::Block;
use super::cursor::{Pieces, Where};
use super::kept::{Gathered, Kept, Rows};
use super::keys::{BlockKey, Key, OpenRowKey, PieceKey, RollupKey};
use super::packed::Packed;
use super::read::Read;
use super::schema::Schema;
use super::series::{HOUR_MS, SLOT_MS};
use super::view::View;

/// Damaged pieces that are named; the rest is counted.
const DAMAGED_MAX: usize = 100;

/// What has been read so far, and what of the host could not be.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) read: Read,
    damaged: Vec<String>,
    damaged_more: usize,
}

impl Seen {
    /// How much of it could not be.
    pub(super) fn count(&self) -> usize {
        self.damaged.len() + self.damaged_more
    }

    pub(super) fn damaged(&mut self, name: String) {
        if self.damaged.len() < DAMAGED_MAX { self.damaged.push(name) } else { self.damaged_more += 1 }
    }

    /// What could not be, since this was asked last, in words.
    pub(super) fn take_damaged(&mut self) -> Vec<String> {
        let more = std::mem::take(&mut self.damaged_more);
        let mut damaged = std::mem::take(&mut self.damaged);
        if more > 0 {
            damaged.push(format!("{more} pieces more"));
        }
        damaged
    }
}

/// Where something was read.
pub(super) enum Place<'p> {
    Old(&'p BlockKey),
    Sealed(&'p HeadKey),
    Row(&'p OpenRowKey),
    Rows,
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
            Self::Rows => f.write_str("open rows"),
        }
    }
}

/// The key of the head of a block.
pub(super) enum HeadKey {
    Piece(PieceKey),
    Rolled(Tier, RollupKey),
}

impl HeadKey {
    pub(super) fn decode(bytes: &[u8], tier: Option<Tier>) -> Result<Self, StoreError> {
        Ok(match tier {
            None => Self::Piece(PieceKey::decode(bytes)?),
            Some(tier) => Self::Rolled(tier, RollupKey::decode(bytes)?),
        })
    }

    /// Whether it may have moments of a span.
    pub(super) fn overlaps(&self, span: (i64, i64)) -> bool {
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

/// Whether a slot of an hour, or the whole hour, has moments of a span.
pub(super) fn overlaps(hour: u32, slot: u8, (from_ms, to_ms): (i64, i64)) -> bool {
    let hour_ms = i64::from(hour) * HOUR_MS;
    let (begin, length) =
        if slot == PieceKey::WHOLE { (hour_ms, HOUR_MS) } else { (hour_ms + i64::from(slot) * SLOT_MS, SLOT_MS) };
    begin <= to_ms && begin + length > from_ms
}

/// A block or an open row.
pub struct Piece<'p, 'v> {
    /// The names of its series.
    pub schema: &'p Arc<Schema>,
    /// Of what its rows are rolled up: then every series has two cells ([`mainstay_fleet::rollup`]).
    pub tier: Option<Tier>,
    /// Ends of the windows of its rows.
    pub times: &'p [i64],
    /// Their lengths, in milliseconds.
    pub windows: &'p [i64],
    pub(super) body: Body<'p, 'v>,
    pub(super) place: Place<'p>,
    pub(super) seen: &'p mut Seen,
    pub(super) is_damaged: bool,
}

impl std::fmt::Debug for Piece<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece").field("rows", &self.times.len()).finish_non_exhaustive()
    }
}

/// Where the values are.
pub(super) enum Body<'p, 'v> {
    Old(&'p Block),
    Sealed(Sealed<'p, 'v>),
    Row(&'p Loose<'p>, Option<&'p mut Gathered>),
    /// A kept block, and the rows of it that are meant.
    Kept(&'p Kept, Range<usize>),
    Rows(&'p Rows),
}

/// A sealed block whose parts are read as they are asked for.
pub(super) struct Sealed<'p, 'v> {
    pub(super) view: &'v View<'v>,
    pub(super) pieces: &'p mut Pieces<'v>,
    pub(super) key: &'p HeadKey,
    pub(super) head: &'p Head,
    pub(super) unpacker: &'p mut Unpacker,
    /// The part that was asked for last, if it could be read.
    pub(super) open: Option<(u8, Option<Part>)>,
    /// Where what is asked for is kept, if it is.
    pub(super) kept: Option<&'p mut Kept>,
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
            Body::Row(row, gathered) => row.value(at, which).map(|value| {
                if let Some(gathered) = gathered {
                    gathered.add((at, which), value);
                }
                value.into_iter().for_each(|value| of_row(0, value));
            }),
            Body::Kept(block, rows) => match block.columns.get((at, which)) {
                Some(column) => {
                    column.each(rows.clone(), &mut of_row);
                    Ok(())
                }
                None => Err(BadBlock::Malformed("a series that was not asked for")),
            },
            Body::Rows(rows) => {
                rows.each_value((at, which), &mut of_row);
                Ok(())
            }
            Body::Sealed(sealed) => {
                let head = sealed.head;
                let mut kept = sealed.kept.take();
                let read = match sealed.part(at, self.seen)? {
                    Ok(Some(part)) => part.bytes(at).and_then(|bytes| match &mut kept {
                        None => block::each_value(head, bytes, which, &mut of_row),
                        Some(kept) => {
                            let (values, absent) = block::values_of(head, bytes, which)?;
                            let column = Packed::of(&values, absent, times.len());
                            column.each(0..times.len(), &mut of_row);
                            kept.add((at, which), column);
                            Ok(())
                        }
                    }),
                    Ok(None) => Ok(()),
                    Err(bad) => Err(bad),
                };
                sealed.kept = kept;
                read
            }
        };
        if let Err(bad) = read {
            self.is_damaged = true;
            self.seen.damaged(format!("{}: {bad}", self.place));
        }
        Ok(())
    }

    /// Whether something of it that was asked for could not be read.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }
}

impl Piece<'_, '_> {
    /// Adds one value of each of some rows to others at once, if that is quick: of what is kept, where every row has the
    /// series. Says whether it is.
    ///
    /// # Panics
    /// If the piece has no such rows.
    #[must_use]
    pub fn add_whole(&self, at: usize, which: Which, rows: Range<usize>, out: &mut Vec<f64>) -> bool {
        match &self.body {
            Body::Kept(block, kept) => block
                .columns
                .get((at, which))
                .is_some_and(|column| column.add_whole(kept.start + rows.start..kept.start + rows.end, out)),
            Body::Rows(kept) => {
                let column = kept.whole_column((at, which));
                column.map(|values| out.extend_from_slice(&values[rows])).is_some()
            }
            _ => false,
        }
    }
}

impl Sealed<'_, '_> {
    /// The part that a series is in; `None` if it could not be read before.
    fn part(&mut self, at: usize, seen: &mut Seen) -> Result<Result<Option<&Part>, BadBlock>, StoreError> {
        let no = self.head.split.part_of(at);
        if self.open.as_ref().is_none_or(|(open, _)| *open != no) {
            self.open = Some((no, None));
            let (bytes, place) = self.key.part(no);
            let cursor = self.pieces.cursor(self.view, place);
            let Some((_, found)) = cursor.find(&bytes, &bytes)? else {
                let is_lost = cursor.is_lost(&bytes);
                let why = if is_lost { "a part, which a damaged table holds" } else { "a part, which is missing" };
                return Ok(Err(BadBlock::Malformed(why)));
            };
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
