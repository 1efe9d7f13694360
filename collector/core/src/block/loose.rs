//! A loose row: one summary that has just come, of which one series is read without the others.
//!
//! ```text
//! row   = version u8 (2) | crc32c u32 over what follows | schema id [16] | at varint | window varint | samples varint
//!         | series varint | series of a part varint | length of each part but the last varint … | cells …
//! cell  = scale << 4 | kind, and   0: nothing, the row does not have the series
//!         1: a whole number (a counter; a gauge of four equal values)   2: bits [8] (the same)
//!         3: whole numbers: last | max - last | max - min, and the mean's bits [8]   4: bits of last, min, max, mean [32]
//!         5: whole numbers: last | max - last | max - min | sum - samples * min
//! ```
//!
//! Whole numbers are zigzag varints. Nothing is packed here: the store packs blocks of rows that are alike.

use mainstay_core::columns::{read_varint, unzigzag, whole, write_varint, zigzag};
use mainstay_core::series::Point;

use super::column::SCALES;
use super::head::{read_split, write_split};
use super::series::{NEAR_MAX, mean_of, sum_of, values};
use super::{BadBlock, Row, Split, VERSION, Which};

const ABSENT: u8 = 0;
const WHOLE: u8 = 1;
const BITS: u8 = 2;
const NEAR_MEAN: u8 = 3;
const FOUR_BITS: u8 = 4;
const NEAR: u8 = 5;

/// A loose row, read from bytes that it does not own.
#[derive(Debug, Clone)]
pub struct Loose<'b> {
    /// The names of its series.
    pub schema: [u8; 16],
    /// How they are split.
    pub split: Split,
    /// End of the window.
    pub at_ms: i64,
    /// Length of the window.
    pub window_ms: u32,
    /// Samples in it.
    pub samples: u32,
    /// Lengths of all parts but the last, then the cells.
    rest: &'b [u8],
}

/// Writes one row by itself.
#[must_use]
pub fn write(schema: [u8; 16], row: &Row) -> Vec<u8> {
    let split = Split::of(row.cells.len());
    let mut body = schema.to_vec();
    write_varint(&mut body, zigzag(row.at_ms));
    write_varint(&mut body, u64::from(row.window_ms));
    write_varint(&mut body, u64::from(row.samples));
    write_split(&mut body, split);
    let mut cells = Vec::with_capacity(row.cells.len() * 5);
    for part in 0..split.parts() {
        let from = cells.len();
        row.cells[split.range(part)].iter().for_each(|cell| write_cell(&mut cells, *cell, row.samples));
        if part + 1 < split.parts() {
            write_varint(&mut body, (cells.len() - from) as u64);
        }
    }
    body.extend(cells);
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(VERSION);
    out.extend(super::checksum(&[], &body).to_be_bytes());
    out.extend(body);
    out
}

fn write_cell(out: &mut Vec<u8>, cell: Option<Point>, samples: u32) {
    let Some(point) = cell else { return out.push(ABSENT) };
    let values @ [last, min, max, mean] = values(point);
    let scales = || (0u8..).zip(SCALES);
    if values.iter().all(|value| value.to_bits() == last.to_bits()) {
        match scales().find_map(|(scale, factor)| Some((scale, whole(last, factor)?))) {
            Some((scale, value)) => {
                out.push(scale << 4 | WHOLE);
                write_varint(out, zigzag(value));
            }
            None => {
                out.push(BITS);
                out.extend(last.to_le_bytes());
            }
        }
        return;
    }
    let near = scales().find_map(|(scale, factor)| {
        let of = |value: f64| whole(value, factor).filter(|whole| whole.abs() < NEAR_MAX);
        Some((scale, of(last)?, of(min)?, of(max)?))
    });
    let Some((scale, last, min, max)) = near else {
        out.push(FOUR_BITS);
        return values.iter().for_each(|value| out.extend(value.to_le_bytes()));
    };
    let sum = sum_of(mean, samples, SCALES[usize::from(scale)]);
    out.push(scale << 4 | if sum.is_some() { NEAR } else { NEAR_MEAN });
    [last, max - last, max - min].into_iter().for_each(|value| write_varint(out, zigzag(value)));
    match sum {
        Some(sum) => write_varint(out, zigzag(sum - i64::from(samples) * min)),
        None => out.extend(mean.to_le_bytes()),
    }
}

/// The schema of a row, without checking any of it; `None` if it is of another version.
#[must_use]
pub fn schema_of(row: &[u8]) -> Option<[u8; 16]> {
    row.strip_prefix(&[VERSION])?.get(4..)?.first_chunk().copied()
}

impl<'b> Loose<'b> {
    /// Checks a row and reads all of it but the cells.
    ///
    /// # Errors
    /// If it is damaged or none.
    pub fn open(bytes: &'b [u8]) -> Result<Self, BadBlock> {
        let (_, body) = super::checked(bytes, &[])?;
        Self::read(body).ok_or(BadBlock::Malformed("a row"))
    }

    fn read(body: &'b [u8]) -> Option<Self> {
        let (schema, mut rest) = body.split_first_chunk::<16>()?;
        let at_ms = unzigzag(read_varint(&mut rest)?);
        let window_ms = u32::try_from(read_varint(&mut rest)?).ok()?;
        let samples = u32::try_from(read_varint(&mut rest)?).ok()?;
        Some(Self { schema: *schema, split: read_split(&mut rest)?, at_ms, window_ms, samples, rest })
    }

    /// One value of a series; `None` if the row does not have it.
    ///
    /// # Errors
    /// If the series is not there or the bytes are wrong.
    pub fn value(&self, at: usize, which: Which) -> Result<Option<f64>, BadBlock> {
        Ok(self.cell(at).ok_or(BadBlock::Malformed("a cell of a row"))?.map(|values| match which {
            Which::Last => values[0],
            Which::Min => values[1],
            Which::Max => values[2],
            Which::Mean => values[3],
        }))
    }

    fn cell(&self, at: usize) -> Option<Option<[f64; 4]>> {
        if at >= self.split.series() {
            return None;
        }
        let part = usize::from(self.split.part_of(at));
        let mut cells = self.cells_of(part)?;
        for _ in self.split.range(part).start..at {
            skip_cell(&mut cells)?;
        }
        self.read_cell(&mut cells)
    }

    /// The bytes of a part's cells, and of those behind it.
    fn cells_of(&self, part: usize) -> Option<&'b [u8]> {
        let mut rest = self.rest;
        let mut skip = 0usize;
        for n in 1..self.split.parts() {
            let length = usize::try_from(read_length(&mut rest)?).ok()?;
            skip = skip.checked_add(if n <= part { length } else { 0 })?;
        }
        rest.get(skip..)
    }

    #[allow(clippy::cast_precision_loss)] // whole numbers are within 2^53 where they were written
    fn read_cell(&self, bytes: &mut &[u8]) -> Option<Option<[f64; 4]>> {
        let (head, rest) = bytes.split_first()?;
        *bytes = rest;
        let factor = *SCALES.get(usize::from(head >> 4))?;
        Some(Some(match head & 0x0f {
            ABSENT => return Some(None),
            WHOLE => [read_int(bytes)? as f64 / factor; 4],
            BITS => [read_bits(bytes)?; 4],
            FOUR_BITS => [read_bits(bytes)?, read_bits(bytes)?, read_bits(bytes)?, read_bits(bytes)?],
            kind @ (NEAR | NEAR_MEAN) => {
                let last = read_int(bytes)?;
                let max = last.wrapping_add(read_int(bytes)?);
                let min = max.wrapping_sub(read_int(bytes)?);
                let of = |value: i64| value as f64 / factor;
                let mean = if kind == NEAR {
                    let sum = read_int(bytes)?.wrapping_add(i64::from(self.samples).wrapping_mul(min));
                    mean_of(sum, self.samples, factor)
                } else {
                    read_bits(bytes)?
                };
                [of(last), of(min), of(max), mean]
            }
            _ => return None,
        }))
    }

    /// All of it, for sealing.
    ///
    /// # Errors
    /// If it has another number of series than `gauge`, or the bytes are wrong.
    pub fn row(&self, gauge: &[bool]) -> Result<Row, BadBlock> {
        if gauge.len() != self.split.series() {
            return Err(BadBlock::Malformed("its number of series"));
        }
        let mut bytes = self.cells_of(0).ok_or(BadBlock::Malformed("the parts of a row"))?;
        let mut cells = Vec::with_capacity(gauge.len());
        for gauge in gauge {
            let cell = self.read_cell(&mut bytes).ok_or(BadBlock::Malformed("a cell of a row"))?;
            cells.push(cell.map(|[last, min, max, mean]| match gauge {
                true => Point::Gauge { last, min, max, mean },
                false => Point::Counter(last),
            }));
        }
        Ok(Row { at_ms: self.at_ms, window_ms: self.window_ms, samples: self.samples, cells })
    }
}

/// Moves behind a cell.
fn skip_cell(bytes: &mut &[u8]) -> Option<()> {
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    let (ints, width) = match head & 0x0f {
        ABSENT => (0, 0),
        WHOLE => (1, 0),
        BITS => (0, 8),
        NEAR_MEAN => (3, 8),
        FOUR_BITS => (0, 32),
        NEAR => (4, 0),
        _ => return None,
    };
    if ints > 0 {
        // What they are does not matter: each ends with the first byte that says so.
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte < 0x80);
        let (last, _) = ends.take(ints).nth(ints - 1)?;
        *bytes = &bytes[last + 1..];
    }
    *bytes = bytes.get(width..)?;
    Some(())
}

/// The length of a part: most take two bytes.
fn read_length(bytes: &mut &[u8]) -> Option<u64> {
    if let [low @ 0x80..=u8::MAX, high @ 0..0x80, rest @ ..] = bytes {
        *bytes = rest;
        return Some(u64::from(low & 0x7f) | u64::from(*high) << 7);
    }
    read_varint(bytes)
}

fn read_int(bytes: &mut &[u8]) -> Option<i64> {
    read_varint(bytes).map(unzigzag)
}

fn read_bits(bytes: &mut &[u8]) -> Option<f64> {
    let (bits, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(f64::from_le_bytes(*bits))
}
