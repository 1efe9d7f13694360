//! A part of a block: the columns of some of its series, in a zstd frame of their own.
//!
//! ```text
//! part  = version u8 (2) | crc32c u32 over the stamp, the part's number and what follows | zstd frame
//! frame = length of each series varint … | bytes of each series …
//! ```
//!
//! The stamp is the checksum of the head: a part that belongs to another head, or stands in another's place, is damaged.

use mainstay_core::columns::{read_varint, write_varint};
use mainstay_core::series::Point;
use zstd::bulk::{Compressor, Decompressor};

use super::{BadBlock, FRAME_BYTES_MAX, Head, Row, VERSION, Which, series};

/// A part, unpacked but not yet read.
#[derive(Debug, Clone)]
pub struct Part {
    /// The first of its series.
    from: usize,
    frame: Vec<u8>,
    /// Where each series begins and ends in the frame.
    places: Vec<(usize, usize)>,
}

/// Writes one part.
pub(super) fn write(head: &Head, no: u8, gauge: &[bool], rows: &[Row], packer: &mut Compressor<'_>) -> Vec<u8> {
    let samples: Vec<u32> = rows.iter().map(|row| row.samples).collect();
    let each: Vec<Vec<u8>> = head
        .split
        .range(usize::from(no))
        .map(|at| {
            let cells: Vec<Option<Point>> = rows.iter().map(|row| row.cells.get(at).copied().flatten()).collect();
            let mut bytes = Vec::new();
            series::write(&mut bytes, gauge[at], &cells, &samples);
            bytes
        })
        .collect();
    let mut frame = Vec::new();
    each.iter().for_each(|bytes| write_varint(&mut frame, bytes.len() as u64));
    each.iter().for_each(|bytes| frame.extend(bytes));
    // It fails for want of memory only, and then what is written is refused when it is read.
    let packed = packer.compress(&frame).unwrap_or_default();
    let mut out = Vec::with_capacity(5 + packed.len());
    out.push(VERSION);
    out.extend(super::checksum(&seed(head, no), &packed).to_be_bytes());
    out.extend(packed);
    out
}

fn seed(head: &Head, no: u8) -> [u8; 5] {
    let [a, b, c, d] = head.stamp.to_be_bytes();
    [a, b, c, d, no]
}

impl Part {
    /// Checks and unpacks part `no` of a block.
    ///
    /// # Errors
    /// If it is damaged, or no such part.
    pub fn open(bytes: &[u8], head: &Head, no: u8, unpacker: &mut Unpacker) -> Result<Self, BadBlock> {
        let (_, packed) = super::checked(bytes, &seed(head, no))?;
        let frame = unpacker.unpack(packed).ok_or(BadBlock::Malformed("a part's frame"))?;
        Self::read(head.split.range(usize::from(no)), frame).ok_or(BadBlock::Malformed("a part's lengths"))
    }

    fn read(range: std::ops::Range<usize>, frame: Vec<u8>) -> Option<Self> {
        let mut rest = &frame[..];
        let mut lengths = Vec::with_capacity(range.len());
        for _ in range.clone() {
            lengths.push(usize::try_from(read_varint(&mut rest)?).ok()?);
        }
        let mut at = frame.len() - rest.len();
        let mut places = Vec::with_capacity(lengths.len());
        for length in lengths {
            let end = at.checked_add(length).filter(|end| *end <= frame.len())?;
            places.push((at, end));
            at = end;
        }
        Some(Self { from: range.start, frame, places })
    }

    /// Bytes that it was unpacked to.
    #[must_use]
    pub fn unpacked_bytes(&self) -> usize {
        self.frame.len()
    }

    /// The bytes of a series, as [`each_value`](super::each_value) reads them.
    ///
    /// # Errors
    /// If the series is not in this part.
    pub fn bytes(&self, at: usize) -> Result<&[u8], BadBlock> {
        let place = at.checked_sub(self.from).and_then(|at| self.places.get(at));
        place.map(|(from, to)| &self.frame[*from..*to]).ok_or(BadBlock::Malformed("a series that is not there"))
    }

    /// Hands one value of every row that has a series to `take`, with the number of the row.
    ///
    /// # Errors
    /// If the series is not in this part or its bytes are wrong.
    pub fn each_value(
        &self,
        head: &Head,
        at: usize,
        which: Which,
        take: &mut dyn FnMut(usize, f64),
    ) -> Result<(), BadBlock> {
        super::each_value(head, self.bytes(at)?, which, take)
    }

    /// All cells of a series.
    ///
    /// # Errors
    /// If the series is not in this part or its bytes are wrong.
    pub fn cells(&self, head: &Head, at: usize, gauge: bool) -> Result<Vec<Option<Point>>, BadBlock> {
        series::cells(self.bytes(at)?, &head.samples, gauge).ok_or(BadBlock::Malformed("a series"))
    }
}

/// Unpacks parts, one after the other: what zstd needs for it is made once.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<Decompressor<'static>>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    fn unpack(&mut self, packed: &[u8]) -> Option<Vec<u8>> {
        let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten()?;
        let size = usize::try_from(size).ok().filter(|size| *size <= FRAME_BYTES_MAX)?;
        if self.zstd.is_none() {
            self.zstd = Decompressor::new().ok();
        }
        self.zstd.as_mut()?.decompress(packed, size).ok()
    }
}
