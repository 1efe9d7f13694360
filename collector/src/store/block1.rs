//! Host blocks of version 1, which are no longer written: all series of one host over ten minutes in one frame.
//!
//! In: bytes that an earlier collector stored. Out: the rows that it put in, bit by bit. A row of an open block was a
//! block of one row. When their hour is over, they are sealed anew as mainstay-fleet's blocks.
//!
//! ```text
//! block  = version u8 (1) | schema id [16] | rows u16 | crc32c u32 over what follows | zstd frame
//! frame  = series varint | times column | windows column | samples column
//!          | length of each series varint … | bytes of each series …
//! series = 0 (present in every row) or 1 and a bitmap of rows | one column (counter) or four (gauge: last min max mean)
//! column = scale << 4 | mode | data
//!          mode 0: bits xor the bits before, bytes transposed   1: deltas   2: deltas of deltas   3: one value for all
//! ```
//!
//! Modes 1 to 3 hold whole numbers (zigzag varints): the value times ten to the power of `scale`,
//! taken only where every value comes back with the same bits.

use mainstay_core::columns::{read_column, read_ints, read_varint};
use mainstay_core::series::Point;
use mainstay_fleet::block::{BadBlock, Row, Which};

/// The first byte of such a block.
pub(super) const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 16 + 2 + 4;
/// Most bytes of a frame: 600 rows of 5,000 gauges would be 96 MB; nothing honest comes near this.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A block, unpacked but not yet read.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The names of its series.
    pub(super) schema: [u8; 16],
    rows: usize,
    frame: Vec<u8>,
    /// Where each series begins and ends in the frame.
    series: Vec<(usize, usize)>,
    times: Vec<i64>,
    windows: Vec<i64>,
    samples: Vec<i64>,
}

impl Block {
    /// Checks and unpacks a block.
    ///
    /// # Errors
    /// If it is damaged or not a block.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, BadBlock> {
        let header = bytes.get(..HEADER_BYTES).ok_or(BadBlock::Malformed("its header"))?;
        if header[0] != VERSION {
            return Err(BadBlock::Version(header[0]));
        }
        let mut schema = [0; 16];
        schema.copy_from_slice(&header[1..17]);
        let rows = usize::from(u16::from_be_bytes([header[17], header[18]]));
        let stored = u32::from_be_bytes([header[19], header[20], header[21], header[22]]);
        let packed = &bytes[HEADER_BYTES..];
        let found = crc32c::crc32c(packed);
        if found != stored {
            return Err(BadBlock::Checksum { found, stored });
        }
        let frame = unpack(packed).ok_or(BadBlock::Malformed("its frame"))?;
        Self::read(schema, rows, frame).ok_or(BadBlock::Malformed("its columns"))
    }

    fn read(schema: [u8; 16], rows: usize, frame: Vec<u8>) -> Option<Self> {
        let mut rest = &frame[..];
        let count = usize::try_from(read_varint(&mut rest)?).ok().filter(|n| *n <= frame.len())?;
        let times = read_ints(&mut rest, rows)?;
        let windows = read_ints(&mut rest, rows)?;
        let samples = read_ints(&mut rest, rows)?;
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push(usize::try_from(read_varint(&mut rest)?).ok()?);
        }
        let mut at = frame.len() - rest.len();
        let mut series = Vec::with_capacity(count);
        for length in lengths {
            let end = at.checked_add(length).filter(|end| *end <= frame.len())?;
            series.push((at, end));
            at = end;
        }
        Some(Self { schema, rows, frame, series, times, windows, samples })
    }

    /// Ends of the windows of its rows.
    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    /// Lengths of the windows of its rows, in milliseconds.
    pub(super) fn windows(&self) -> &[i64] {
        &self.windows
    }

    /// Hands one value of every row that has a series to `take`, with the number of the row; only its own bytes are read.
    ///
    /// # Errors
    /// If the series is not there or its bytes are wrong.
    pub(super) fn each_value(
        &self,
        at: usize,
        gauge: bool,
        which: Which,
        take: &mut dyn FnMut(usize, f64),
    ) -> Result<(), BadBlock> {
        for (row, cell) in self.series(at, gauge)?.into_iter().enumerate() {
            if let Some(point) = cell {
                take(row, value(point, which));
            }
        }
        Ok(())
    }

    fn series(&self, at: usize, gauge: bool) -> Result<Vec<Option<Point>>, BadBlock> {
        self.cells(at, gauge).ok_or(BadBlock::Malformed("a series"))
    }

    fn cells(&self, at: usize, gauge: bool) -> Option<Vec<Option<Point>>> {
        let (from, to) = *self.series.get(at)?;
        let mut rest = &self.frame[from..to];
        let (whole, after) = rest.split_first()?;
        rest = after;
        let mut present = vec![true; self.rows];
        if *whole != 0 {
            let bitmap = rest.get(..self.rows.div_ceil(8))?;
            for (n, here) in present.iter_mut().enumerate() {
                *here = bitmap[n / 8] >> (n % 8) & 1 == 1;
            }
            rest = &rest[bitmap.len()..];
        }
        let count = present.iter().filter(|here| **here).count();
        let mut columns = Vec::with_capacity(4);
        for _ in 0..if gauge { 4 } else { 1 } {
            columns.push(read_column(&mut rest, count)?);
        }
        let mut next = 0;
        let cells = present.into_iter().map(|here| {
            here.then(|| {
                next += 1;
                point(&columns, next - 1)
            })
        });
        Some(cells.collect())
    }

    /// All of it, for sealing.
    ///
    /// # Errors
    /// If any series is wrong.
    pub(super) fn rows(&self, gauge: &[bool]) -> Result<Vec<Row>, BadBlock> {
        if gauge.len() != self.series.len() {
            return Err(BadBlock::Malformed("its number of series"));
        }
        let mut rows: Vec<Row> = (0..self.rows)
            .map(|n| Row {
                at_ms: self.times[n],
                window_ms: u32::try_from(self.windows[n]).unwrap_or(0),
                samples: u32::try_from(self.samples[n]).unwrap_or(0),
                cells: Vec::with_capacity(gauge.len()),
            })
            .collect();
        for (at, gauge) in gauge.iter().enumerate() {
            for (row, cell) in rows.iter_mut().zip(self.series(at, *gauge)?) {
                row.cells.push(cell);
            }
        }
        Ok(rows)
    }
}

fn value(point: Point, which: Which) -> f64 {
    match (point, which) {
        (Point::Counter(value), _) => value,
        (Point::Gauge { last, .. }, Which::Last) => last,
        (Point::Gauge { min, .. }, Which::Min) => min,
        (Point::Gauge { max, .. }, Which::Max) => max,
        (Point::Gauge { mean, .. }, Which::Mean) => mean,
    }
}

fn point(columns: &[Vec<f64>], at: usize) -> Point {
    match columns {
        [last, min, max, mean] => Point::Gauge { last: last[at], min: min[at], max: max[at], mean: mean[at] },
        _ => Point::Counter(columns[0][at]),
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten()?;
    let size = usize::try_from(size).ok().filter(|size| *size <= FRAME_BYTES_MAX)?;
    zstd::bulk::decompress(packed, size).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use mainstay_core::columns::{write_column, write_ints, write_varint};
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: [u8; 16] = [9; 16];

    /// Writes rows as version 1 did. `gauge` says of each series of the schema whether it is a gauge.
    pub(crate) fn encode(schema: [u8; 16], gauge: &[bool], rows: &[Row]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_varint(&mut frame, gauge.len() as u64);
        write_ints(&mut frame, &rows.iter().map(|r| r.at_ms).collect::<Vec<_>>(), 0);
        write_ints(&mut frame, &rows.iter().map(|r| i64::from(r.window_ms)).collect::<Vec<_>>(), 0);
        write_ints(&mut frame, &rows.iter().map(|r| i64::from(r.samples)).collect::<Vec<_>>(), 0);
        let series: Vec<Vec<u8>> = (0..gauge.len()).map(|at| encode_series(gauge[at], rows, at)).collect();
        for bytes in &series {
            write_varint(&mut frame, bytes.len() as u64);
        }
        for bytes in &series {
            frame.extend(bytes);
        }
        let packed = zstd::bulk::compress(&frame, 3).unwrap_or_default();
        let mut out = Vec::with_capacity(HEADER_BYTES + packed.len());
        out.push(VERSION);
        out.extend(schema);
        out.extend(u16::try_from(rows.len()).unwrap().to_be_bytes());
        out.extend(crc32c::crc32c(&packed).to_be_bytes());
        out.extend(packed);
        out
    }

    fn encode_series(gauge: bool, rows: &[Row], at: usize) -> Vec<u8> {
        let cells: Vec<Option<Point>> = rows.iter().map(|row| row.cells.get(at).copied().flatten()).collect();
        let present: Vec<Point> = cells.iter().filter_map(|cell| *cell).collect();
        let mut out = Vec::new();
        if present.len() == rows.len() {
            out.push(0);
        } else {
            out.push(1);
            for chunk in cells.chunks(8) {
                out.push(chunk.iter().enumerate().fold(0, |bits, (n, cell)| bits | u8::from(cell.is_some()) << n));
            }
        }
        for column in 0..if gauge { 4 } else { 1 } {
            let values: Vec<f64> = present.iter().map(|point| part(*point, column)).collect();
            write_column(&mut out, &values);
        }
        out
    }

    /// The columns of a point; a counter has only the first.
    fn part(point: Point, column: usize) -> f64 {
        match point {
            Point::Counter(value) => value,
            Point::Gauge { last, min, max, mean } => [last, min, max, mean][column],
        }
    }

    /// A row, comparable bit by bit.
    type Bits = (i64, u32, u32, Vec<Option<[u64; 4]>>);

    fn bits(rows: &[Row]) -> Vec<Bits> {
        let of = |cell: &Option<Point>| {
            cell.map(|p| match p {
                Point::Counter(_) => [part(p, 0).to_bits(); 4],
                Point::Gauge { .. } => [0, 1, 2, 3].map(|c| part(p, c).to_bits()),
            })
        };
        rows.iter().map(|r| (r.at_ms, r.window_ms, r.samples, r.cells.iter().map(of).collect())).collect()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1_000_000i64..1_000_000).prop_map(|n| n as f64),
            (0i64..1_000_000).prop_map(|n| n as f64 / 100.0),
            Just(-0.0),
        ]
    }

    fn rows(gauge: Vec<bool>) -> impl Strategy<Value = (Vec<bool>, Vec<Row>)> {
        let cells: Vec<_> = gauge
            .iter()
            .map(|gauge| {
                let gauge = *gauge;
                prop::option::weighted(0.8, (value(), value(), value(), value())).prop_map(move |v| {
                    v.map(
                        |(last, min, max, mean)| {
                            if gauge { Point::Gauge { last, min, max, mean } } else { Point::Counter(last) }
                        },
                    )
                })
            })
            .collect();
        let row = (any::<i64>(), any::<u32>(), any::<u32>(), cells)
            .prop_map(|(at_ms, window_ms, samples, cells)| Row { at_ms, window_ms, samples, cells });
        (Just(gauge), prop::collection::vec(row, 0..70))
    }

    proptest! {
        #[test]
        fn every_bit_comes_back((gauge, rows) in prop::collection::vec(any::<bool>(), 0..6).prop_flat_map(rows)) {
            let bytes = encode(SCHEMA, &gauge, &rows);
            let block = Block::open(&bytes).unwrap();
            prop_assert_eq!(block.schema, SCHEMA);
            prop_assert_eq!(bits(&block.rows(&gauge).unwrap()), bits(&rows));
        }

        #[test]
        fn what_is_no_block_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Block::open(&bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_is_found(at in 0usize..1000, bit in 0u8..8) {
            let rows: Vec<Row> = (0..60)
                .map(|n| Row { at_ms: n * 10_000, window_ms: 10_000, samples: 10, cells: vec![Some(Point::Counter(n as f64 * 1.7))] })
                .collect();
            let mut bytes = encode(SCHEMA, &[false], &rows);
            let at = 19 + at % (bytes.len() - 19);
            bytes[at] ^= 1 << bit;
            let found = matches!(Block::open(&bytes), Err(BadBlock::Checksum { .. }));
            prop_assert!(found);
        }
    }
}
