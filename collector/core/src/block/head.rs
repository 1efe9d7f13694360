//! The head of a block: whose series, when, and how they are split into parts.
//!
//! ```text
//! head = version u8 (2) | crc32c u32 over what follows | schema id [16] | rows u16
//!        | series varint | series of a part varint | times column | windows column | samples column
//! ```

use mainstay_core::columns::{read_ints, read_varint, write_ints, write_varint};

use super::{BadBlock, ROWS_MAX, Row, VERSION};

const PREFIX_BYTES: usize = 1 + 4;
/// Series of a part, if that makes no more than [`PARTS_MAX`].
const PART_SERIES: usize = 24;
/// Most parts of a block: their number is a byte of their key.
const PARTS_MAX: usize = 250;
/// Most series of a block that are believed: twice what a host may bring, for rollups have two cells of each.
const SERIES_MAX: usize = 40_000;

/// How the series of a schema are split into parts: neighbours stand together, so that a metric is in one part or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    series: usize,
    of_part: usize,
}

impl Split {
    /// The way in which so many series are split when they are written.
    #[must_use]
    pub fn of(series: usize) -> Self {
        Self::with(series, PART_SERIES)
    }

    /// Parts of so many series each, if that makes no more than a block may have.
    #[must_use]
    pub fn with(series: usize, of_part: usize) -> Self {
        Self { series, of_part: of_part.max(series.div_ceil(PARTS_MAX)).max(1) }
    }

    /// How many parts there are.
    #[must_use]
    pub fn parts(self) -> usize {
        self.series.div_ceil(self.of_part)
    }

    /// How many series there are.
    #[must_use]
    pub fn series(self) -> usize {
        self.series
    }

    /// The part that a series is in.
    #[must_use]
    pub fn part_of(self, series: usize) -> u8 {
        u8::try_from(series / self.of_part).unwrap_or(u8::MAX)
    }

    /// The series of a part.
    #[must_use]
    pub fn range(self, part: usize) -> std::ops::Range<usize> {
        let from = (part * self.of_part).min(self.series);
        from..(from + self.of_part).min(self.series)
    }
}

/// The head of a block, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The names of its series.
    pub schema: [u8; 16],
    /// How they are split.
    pub split: Split,
    /// Ends of the windows of its rows.
    pub times: Vec<i64>,
    /// Lengths of the windows, in milliseconds.
    pub windows: Vec<i64>,
    /// Samples in the windows.
    pub samples: Vec<i64>,
    /// Ties its parts to it.
    pub(super) stamp: u32,
}

/// Writes the head of rows, of which there are no more than [`ROWS_MAX`].
pub(super) fn write(schema: [u8; 16], split: Split, rows: &[Row]) -> Vec<u8> {
    let mut body = schema.to_vec();
    body.extend(u16::try_from(rows.len()).unwrap_or(u16::MAX).to_be_bytes());
    write_split(&mut body, split);
    write_ints(&mut body, &rows.iter().map(|r| r.at_ms).collect::<Vec<_>>(), 0);
    write_ints(&mut body, &rows.iter().map(|r| i64::from(r.window_ms)).collect::<Vec<_>>(), 0);
    write_ints(&mut body, &rows.iter().map(|r| i64::from(r.samples)).collect::<Vec<_>>(), 0);
    let mut out = Vec::with_capacity(PREFIX_BYTES + body.len());
    out.push(VERSION);
    out.extend(crc32c::crc32c(&body).to_be_bytes());
    out.extend(body);
    out
}

impl Head {
    /// Checks and reads a head.
    ///
    /// # Errors
    /// If it is damaged or none.
    pub fn open(bytes: &[u8]) -> Result<Self, BadBlock> {
        let (stamp, body) = super::checked(bytes, &[])?;
        Self::read(stamp, body).ok_or(BadBlock::Malformed("its head"))
    }

    fn read(stamp: u32, body: &[u8]) -> Option<Self> {
        let (schema, rest) = body.split_first_chunk::<16>()?;
        let (rows, mut rest) = rest.split_first_chunk::<2>()?;
        let rows = usize::from(u16::from_be_bytes(*rows));
        if rows > ROWS_MAX {
            return None;
        }
        let split = read_split(&mut rest)?;
        let mut column = || read_ints(&mut rest, rows);
        Some(Self { schema: *schema, split, times: column()?, windows: column()?, samples: column()?, stamp })
    }
}

/// Reads how series are split.
pub(super) fn read_split(bytes: &mut &[u8]) -> Option<Split> {
    let series = usize::try_from(read_varint(bytes)?).ok().filter(|series| *series <= SERIES_MAX)?;
    let of_part = usize::try_from(read_varint(bytes)?).ok().filter(|n| (1..=SERIES_MAX).contains(n))?;
    Some(Split { series, of_part }).filter(|split| split.parts() <= PARTS_MAX)
}

/// Writes how series are split.
pub(super) fn write_split(out: &mut Vec<u8>, split: Split) {
    write_varint(out, split.series as u64);
    write_varint(out, split.of_part as u64);
}
