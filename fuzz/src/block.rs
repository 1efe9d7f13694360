//! Stored bytes: heads, parts and loose rows, as they would be if the disk lied with a right checksum.
//!
//! In: a head without version and checksum (its length in the first two bytes), then what a part unpacks to. Both get the
//! checksums that belong to them, for a fuzzer does not find those. Then the same bytes as a loose row, as they are as
//! a recording, and as cells that are packed and have to come back bit by bit.

use mainstay_core::recording::Recording;
use mainstay_core::series::Point;
use mainstay_fleet::block::{
    Head, LEVEL_SLOT, Loose, Part, ROWS_MAX, Row, Unpacker, VERSION, Which, pack, rows, write_loose,
};

/// Series of a head that are read one by one here: more is only slower.
const SERIES_READ: usize = 64;

/// What came of the bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Whether there was a head.
    pub is_block: bool,
    /// Series that were read.
    pub series: usize,
    /// Whether it was a loose row.
    pub is_row: bool,
    /// Whether it was a recording.
    pub is_recording: bool,
    /// Rows that were packed.
    pub packed: usize,
}

/// Reads bytes as everything that is stored.
pub fn run(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    if let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (head, frame) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        block(head, frame, &mut read);
    }
    loose(bytes, &mut read);
    if let Ok(recording) = Recording::decode(bytes) {
        read.is_recording = true;
        let again = Recording::decode(&recording.encode()).expect("a recording comes back");
        assert_eq!(format!("{again:?}"), format!("{recording:?}"));
    }
    there_and_back(bytes, &mut read);
    read
}

/// With the version and the checksum that belong there.
fn sealed(seed: &[u8], body: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c_append(crc32c::crc32c(seed), body).to_be_bytes();
    [&[VERSION][..], &sum, body].concat()
}

fn block(head: &[u8], frame: &[u8], read: &mut Read) {
    let head = sealed(&[], head);
    let stamp = &head[1..5];
    let Ok(opened) = Head::open(&head) else { return };
    read.is_block = true;
    assert!(opened.times.len() <= ROWS_MAX);
    let packed = zstd::bulk::compress(frame, 1).expect("zstd");
    let mut unpacker = Unpacker::default();
    let mut parts = Vec::new();
    for no in (0..=u8::MAX).take(opened.split.parts()) {
        let part = sealed(&[stamp, &[no]].concat(), &packed);
        let Ok(part) = Part::open(&part, &opened, no, &mut unpacker) else { break };
        for at in opened.split.range(usize::from(no)).take(SERIES_READ) {
            for which in [Which::Last, Which::Min, Which::Max, Which::Mean] {
                let mut last = None;
                let read_all = part.each_value(&opened, at, which, &mut |row, _| {
                    assert!(
                        row < opened.samples.len() && last.is_none_or(|last| last < row),
                        "rows come in their order"
                    );
                    last = Some(row);
                });
                read.series += usize::from(read_all.is_ok());
            }
            let _ = part.cells(&opened, at, no % 2 == 0);
        }
        parts.push(part);
    }
    let gauge: Vec<bool> = (0..opened.split.series()).map(|at| at % 2 == 0).collect();
    if opened.split.series() <= SERIES_READ {
        let _ = rows(&opened, &gauge, &parts);
    }
}

fn loose(bytes: &[u8], read: &mut Read) {
    let bytes = sealed(&[], bytes);
    let Ok(row) = Loose::open(&bytes) else { return };
    read.is_row = true;
    let series = row.split.series();
    for at in (0..series).take(SERIES_READ).chain([series.saturating_sub(1), series]) {
        let _ = row.value(at, Which::Mean);
    }
    let gauge: Vec<bool> = (0..series).map(|at| at % 2 == 0).collect();
    let _ = row.row(&gauge);
}

/// Two series, a counter and a gauge, of the eights of bytes there are; written and read, everything is the same.
fn there_and_back(bytes: &[u8], read: &mut Read) {
    let (words, _) = bytes.as_chunks::<8>();
    let number = |n: usize| words.get(n).map_or(0.0, |word| f64::from_le_bytes(*word));
    let rows_before: Vec<Row> = (0..words.len().min(400) / 5)
        .map(|n| {
            let at = n * 5;
            let bits = number(at).to_bits();
            let counter = (bits & 1 == 0).then(|| Point::Counter(number(at)));
            let gauge =
                Point::Gauge { last: number(at + 1), min: number(at + 2), max: number(at + 3), mean: number(at + 4) };
            Row {
                at_ms: number(at + 1).to_bits().cast_signed(),
                window_ms: (bits >> 32) as u32,
                samples: (bits >> 8) as u32 & 0x1fff,
                cells: vec![counter, (bits & 2 == 0).then_some(gauge)],
            }
        })
        .collect();
    if rows_before.is_empty() {
        return;
    }
    read.packed = rows_before.len();
    let gauge = [false, true];
    let packed = pack([7; 16], &gauge, &rows_before, LEVEL_SLOT).expect("rows are packed");
    let head = Head::open(&packed.head).expect("their head");
    let mut unpacker = Unpacker::default();
    let parts: Vec<Part> = (0u8..)
        .zip(&packed.parts)
        .map(|(no, part)| Part::open(part, &head, no, &mut unpacker).expect("their parts"))
        .collect();
    same(&rows(&head, &gauge, &parts).expect("rows come back"), &rows_before);
    for row in &rows_before {
        let bytes = write_loose([7; 16], row);
        let again = Loose::open(&bytes).and_then(|loose| loose.row(&gauge)).expect("a row comes back");
        same(&[again], std::slice::from_ref(row));
    }
}

fn same(found: &[Row], expected: &[Row]) {
    let bits = |point: &Option<Point>| {
        point.map(|point| match point {
            Point::Counter(value) => vec![value.to_bits()],
            Point::Gauge { last, min, max, mean } => [last, min, max, mean].map(f64::to_bits).to_vec(),
        })
    };
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            (found.at_ms, found.window_ms, found.samples),
            (expected.at_ms, expected.window_ms, expected.samples)
        );
        let cells = |row: &Row| row.cells.iter().map(bits).collect::<Vec<_>>();
        assert_eq!(cells(found), cells(expected));
    }
}
