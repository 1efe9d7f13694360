//! The bytes of stored series: all series of one host over a stretch of time, in parts that are read one by one.
//!
//! In: rows (one per summary) of one schema. Out: a head and parts, each to be stored under a key of its own, so that a
//! question about one metric of the whole fleet reads and unpacks one part in a dozen. A row that has just come is a
//! [`Loose`] one until its stretch is sealed. Everything comes back bit by bit, and every piece has a checksum.
//! docs/storage.md shows the bytes.

mod column;
mod head;
mod loose;
mod part;
mod series;

use mainstay_core::series::Point;

pub use column::Values;
pub use head::{Head, Split};
pub use loose::{Loose, schema_of, write as write_loose};
pub use part::{Part, Unpacker};
pub use series::Which;

/// The version of heads and parts. Version 1 had everything in one frame, and is the collector's to read.
pub const VERSION: u8 = 2;
/// Most rows of a block: a summary a second for an hour.
pub const ROWS_MAX: usize = 3_600;
/// Most bytes of a part's frame: 3,600 rows of 160 gauges would be 18 MB.
const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// zstd's level for what stays for ten minutes to an hour.
pub const LEVEL_SLOT: i32 = 1;
/// zstd's level for what stays.
pub const LEVEL_SEALED: i32 = 6;

/// One summary, its cells in the order of the schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// End of the window, on the host's clock.
    pub at_ms: i64,
    /// Length of the window.
    pub window_ms: u32,
    /// Samples in it.
    pub samples: u32,
    /// One for each series of the schema.
    pub cells: Vec<Option<Point>>,
}

/// Why bytes are no piece of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// They end too early, or a number in them cannot be.
    #[error("a host block is cut short or malformed at {0}")]
    Malformed(&'static str),
    /// A newer collector wrote them.
    #[error("a host block has version {0}, this collector reads up to version {VERSION}")]
    Version(u8),
    /// They have changed on the disk.
    #[error("a host block is damaged (checksum {found:08x}, stored {stored:08x})")]
    Checksum {
        /// What they come to.
        found: u32,
        /// What was written.
        stored: u32,
    },
}

/// A block in its pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The head.
    pub head: Vec<u8>,
    /// The parts, by number.
    pub parts: Vec<Vec<u8>>,
}

impl Packed {
    /// Bytes of all pieces.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.len() + self.parts.iter().map(Vec::len).sum::<usize>()
    }
}

/// Writes rows as a block. `gauge` says of each series of the schema whether it is a gauge.
///
/// # Errors
/// If there are more rows than [`ROWS_MAX`], or more series than a block may have.
pub fn pack(schema: [u8; 16], gauge: &[bool], rows: &[Row], level: i32) -> Result<Packed, BadBlock> {
    pack_split(schema, gauge, rows, level, Split::of(gauge.len()))
}

/// The same, in parts as they are told.
///
/// # Errors
/// As [`pack`].
pub fn pack_split(
    schema: [u8; 16],
    gauge: &[bool],
    rows: &[Row],
    level: i32,
    split: Split,
) -> Result<Packed, BadBlock> {
    if rows.len() > ROWS_MAX {
        return Err(BadBlock::Malformed("its number of rows"));
    }
    let bytes = head::write(schema, split, rows);
    let head = Head::open(&bytes)?;
    let mut packer = zstd::bulk::Compressor::new(level).map_err(|_| BadBlock::Malformed("zstd, which cannot begin"))?;
    let numbers = (0..=u8::MAX).take(head.split.parts());
    Ok(Packed { parts: numbers.map(|no| part::write(&head, no, gauge, rows, &mut packer)).collect(), head: bytes })
}

/// All rows of a block, from its head and its parts in the order of their numbers.
///
/// # Errors
/// If any piece is wrong, or is missing.
pub fn rows(head: &Head, gauge: &[bool], parts: &[Part]) -> Result<Vec<Row>, BadBlock> {
    if gauge.len() != head.split.series() || parts.len() != head.split.parts() {
        return Err(BadBlock::Malformed("its number of series"));
    }
    let number = |values: &[i64], n: usize| u32::try_from(values[n]).map_err(|_| BadBlock::Malformed("its head"));
    let mut rows = Vec::with_capacity(head.times.len());
    for (n, at_ms) in head.times.iter().enumerate() {
        let (window_ms, samples) = (number(&head.windows, n)?, number(&head.samples, n)?);
        rows.push(Row { at_ms: *at_ms, window_ms, samples, cells: Vec::with_capacity(gauge.len()) });
    }
    for (at, gauge) in gauge.iter().enumerate() {
        let part = &parts[usize::from(head.split.part_of(at))];
        for (row, cell) in rows.iter_mut().zip(part.cells(head, at, *gauge)?) {
            row.cells.push(cell);
        }
    }
    Ok(rows)
}

/// Hands one value of every row that has a series to `take`, with the number of the row: of the series' own bytes, out of
/// a part of the block that the head is of.
///
/// # Errors
/// If the bytes are wrong.
pub fn each_value(head: &Head, bytes: &[u8], which: Which, take: &mut dyn FnMut(usize, f64)) -> Result<(), BadBlock> {
    series::each_value(bytes, &head.samples, which, take).ok_or(BadBlock::Malformed("a series"))
}

/// The same values in one piece, and the numbers of the rows that do not have the series.
///
/// # Errors
/// If the bytes are wrong.
pub fn values_of(head: &Head, bytes: &[u8], which: Which) -> Result<(Values, Vec<usize>), BadBlock> {
    series::values_of(bytes, &head.samples, which).ok_or(BadBlock::Malformed("a series"))
}

fn checksum(seed: &[u8], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(seed), bytes)
}

/// What follows the version and the checksum, with the checksum, if both are right.
fn checked<'b>(bytes: &'b [u8], seed: &[u8]) -> Result<(u32, &'b [u8]), BadBlock> {
    let (version, rest) = bytes.split_first().ok_or(BadBlock::Malformed("its version"))?;
    if *version != VERSION {
        return Err(BadBlock::Version(*version));
    }
    let (stored, body) = rest.split_first_chunk::<4>().ok_or(BadBlock::Malformed("its checksum"))?;
    let (stored, found) = (u32::from_be_bytes(*stored), checksum(seed, body));
    if found == stored { Ok((stored, body)) } else { Err(BadBlock::Checksum { found, stored }) }
}

#[cfg(test)]
mod tests;
