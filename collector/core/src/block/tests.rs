//! Blocks come back bit by bit; what is no block is refused.

use proptest::prelude::*;

use super::*;

const SCHEMA: [u8; 16] = [9; 16];

/// A row, comparable bit by bit.
type Bits = (i64, u32, u32, Vec<Option<[u64; 4]>>);

fn bits(rows: &[Row]) -> Vec<Bits> {
    let of = |cell: &Option<Point>| cell.map(|point| series::values(point).map(f64::to_bits));
    rows.iter().map(|r| (r.at_ms, r.window_ms, r.samples, r.cells.iter().map(of).collect())).collect()
}

fn unpack(packed: &Packed, gauge: &[bool]) -> Result<Vec<Row>, BadBlock> {
    let head = Head::open(&packed.head)?;
    let mut unpacker = Unpacker::default();
    let parts = (0..)
        .zip(&packed.parts)
        .map(|(no, bytes)| Part::open(bytes, &head, no, &mut unpacker))
        .collect::<Result<Vec<_>, _>>()?;
    rows(&head, gauge, &parts)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000_000i64..1_000_000).prop_map(|n| n as f64),
        (0i64..1_000_000).prop_map(|n| n as f64 / 100.0),
        Just(-0.0),
        Just(7.0),
    ]
}

/// A gauge as agents make it of whole or odd readings, or one that no agent would make.
fn gauge_point() -> impl Strategy<Value = (u32, Point)> {
    let honest = prop::collection::vec((0u32..1_000, 0u32..4), 1..12).prop_map(|readings| {
        let scale = [1.0, 4096.0, 0.01, 1e-6][readings[0].1 as usize];
        let values: Vec<f64> = readings.iter().map(|(n, _)| f64::from(*n) * scale).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        (u32::try_from(values.len()).unwrap(), Point::Gauge { last: values[values.len() - 1], min, max, mean })
    });
    let any = (any::<u32>(), value(), value(), value(), value())
        .prop_map(|(samples, last, min, max, mean)| (samples, Point::Gauge { last, min, max, mean }));
    prop_oneof![3 => honest, 1 => any]
}

fn any_rows(gauge: Vec<bool>) -> impl Strategy<Value = (Vec<bool>, Vec<Row>)> {
    let cells: Vec<_> = gauge
        .iter()
        .map(|gauge| {
            let point =
                if *gauge { gauge_point().boxed() } else { value().prop_map(|v| (10, Point::Counter(v))).boxed() };
            prop::option::weighted(0.8, point)
        })
        .collect();
    let row = (any::<i64>(), any::<u32>(), any::<u32>(), cells).prop_map(|(at_ms, window_ms, samples, cells)| Row {
        at_ms,
        window_ms,
        // Of the samples that a gauge was made of, where there is one: then its mean is a sum by them.
        samples: cells.iter().flatten().map(|(samples, _)| *samples).next_back().unwrap_or(samples),
        cells: cells.into_iter().map(|cell| cell.map(|(_, point)| point)).collect(),
    });
    (Just(gauge), prop::collection::vec(row, 0..70))
}

/// Up to three parts.
fn schemas() -> impl Strategy<Value = Vec<bool>> {
    prop_oneof![4 => prop::collection::vec(any::<bool>(), 0..6), 1 => prop::collection::vec(any::<bool>(), 20..60)]
}

proptest! {
    #[test]
    fn every_bit_comes_back((gauge, rows) in schemas().prop_flat_map(any_rows)) {
        let packed = pack(SCHEMA, &gauge, &rows, LEVEL_SEALED).unwrap();
        prop_assert_eq!(Head::open(&packed.head).unwrap().schema, SCHEMA);
        prop_assert_eq!(bits(&unpack(&packed, &gauge).unwrap()), bits(&rows));
        for row in &rows {
            let bytes = write_loose(SCHEMA, row);
            let loose = Loose::open(&bytes).unwrap();
            prop_assert_eq!(loose.schema, SCHEMA);
            prop_assert_eq!(bits(&[loose.row(&gauge).unwrap()]), bits(std::slice::from_ref(row)));
        }
    }

    #[test]
    fn one_value_is_what_the_whole_row_has((gauge, rows) in schemas().prop_flat_map(any_rows), which in 0usize..4) {
        let packed = pack(SCHEMA, &gauge, &rows, LEVEL_SLOT).unwrap();
        let head = Head::open(&packed.head).unwrap();
        for at in 0..gauge.len() {
            let kind = [Which::Last, Which::Min, Which::Max, Which::Mean][which];
            let expected = |row: &Row| row.cells[at].map(|point| series::values(point)[which].to_bits());
            let no = head.split.part_of(at);
            let part = Part::open(&packed.parts[usize::from(no)], &head, no, &mut Unpacker::default()).unwrap();
            let mut found = vec![None; rows.len()];
            part.each_value(&head, at, kind, &mut |row, value| found[row] = Some(value.to_bits())).unwrap();
            prop_assert_eq!(found, rows.iter().map(expected).collect::<Vec<_>>());
            for row in &rows {
                let bytes = write_loose(SCHEMA, row);
                let value = Loose::open(&bytes).unwrap().value(at, kind).unwrap();
                prop_assert_eq!(value.map(f64::to_bits), expected(row));
            }
        }
    }

    #[test]
    fn what_is_no_block_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Head::open(&bytes).is_err());
        prop_assert!(Loose::open(&bytes).is_err());
        let head = Head::open(&pack(SCHEMA, &[true; 3], &[], LEVEL_SLOT).unwrap().head).unwrap();
        prop_assert!(Part::open(&bytes, &head, 0, &mut Unpacker::default()).is_err());
    }

    /// The checksum is right and the rest is not: what a faulty writer would leave.
    #[test]
    fn lies_behind_a_right_checksum_are_refused_or_read_and_never_panic(
        lie in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..400, which in 0usize..3,
    ) {
        let rows: Vec<Row> = (0..40).map(|n| wandering(n, 30)).collect();
        let gauge: Vec<bool> = (0..30).map(|n| n % 3 == 0).collect();
        let packed = pack(SCHEMA, &gauge, &rows, LEVEL_SLOT).unwrap();
        let head = Head::open(&packed.head).unwrap();
        let splice = |bytes: &[u8]| {
            let at = at % (bytes.len() + 1);
            let mut out = bytes[..at].to_vec();
            out.extend(&lie);
            out.extend(bytes.get(at + lie.len()..).unwrap_or_default());
            out
        };
        let sealed = |seed: &[u8], body: Vec<u8>| {
            let mut out = vec![VERSION];
            out.extend(checksum(seed, &body).to_be_bytes());
            out.extend(body);
            out
        };
        match which {
            0 => if let Ok(head) = Head::open(&sealed(&[], splice(&packed.head[5..]))) {
                prop_assert!(head.times.len() <= ROWS_MAX);
            },
            1 => {
                let frame = splice(&zstd::bulk::decompress(&packed.parts[0][5..], 1 << 20).unwrap());
                let mut seed = head.stamp.to_be_bytes().to_vec();
                seed.push(0);
                let bytes = sealed(&seed, zstd::bulk::compress(&frame, 1).unwrap());
                if let Ok(part) = Part::open(&bytes, &head, 0, &mut Unpacker::default()) {
                    for (at, is_gauge) in gauge.iter().enumerate().take(24) {
                        let _ = part.cells(&head, at, *is_gauge);
                        let _ = part.each_value(&head, at, Which::Mean, &mut |_, _| {});
                    }
                }
            }
            _ => if let Ok(loose) = Loose::open(&sealed(&[], splice(&write_loose(SCHEMA, &rows[0])[5..]))) {
                let _ = loose.row(&gauge);
                for at in 0..40 {
                    let _ = loose.value(at, Which::Mean);
                }
            },
        }
    }

    #[test]
    fn a_flipped_bit_is_found(piece in 0usize..3, at in 0usize..1000, bit in 0u8..8) {
        let rows: Vec<Row> = (0..60).map(|n| wandering(n, 4)).collect();
        let packed = pack(SCHEMA, &[false, true, false, true], &rows, LEVEL_SEALED).unwrap();
        let head = Head::open(&packed.head).unwrap();
        let mut bytes = [packed.head.clone(), packed.parts[0].clone(), write_loose(SCHEMA, &rows[3])][piece].clone();
        let at = 1 + at % (bytes.len() - 1);
        bytes[at] ^= 1 << bit;
        let found = match piece {
            0 => Head::open(&bytes).err(),
            1 => Part::open(&bytes, &head, 0, &mut Unpacker::default()).err(),
            _ => Loose::open(&bytes).err(),
        };
        let found = matches!(found, Some(BadBlock::Checksum { .. }));
        prop_assert!(found);
    }
}

/// Row `n` of series that wander; every third is a gauge.
fn wandering(n: u32, series: u32) -> Row {
    let cell = |s: u32| {
        let value = f64::from(n * (s + 1) * 37 + n * n % 13);
        if s.is_multiple_of(3) {
            Point::Gauge { last: value, min: value - 3.0, max: value + 4.0, mean: value + 0.5 }
        } else {
            Point::Counter(value / 100.0)
        }
    };
    Row {
        at_ms: 1_700_000_000_000 + i64::from(n) * 10_000,
        window_ms: 10_000,
        samples: 10,
        cells: (0..series).map(|s| Some(cell(s))).collect(),
    }
}

#[test]
fn a_part_of_another_block_or_place_is_refused() {
    let rows: Vec<Row> = (0..10).map(|n| wandering(n, 60)).collect();
    let gauge: Vec<bool> = (0..60).map(|n| n % 3 == 0).collect();
    let (ten, nine) = (pack(SCHEMA, &gauge, &rows, 1).unwrap(), pack(SCHEMA, &gauge, &rows[..9], 1).unwrap());
    let head = Head::open(&ten.head).unwrap();
    let mut unpacker = Unpacker::default();
    let mut open = |bytes: &[u8], no| Part::open(bytes, &head, no, &mut unpacker);
    assert!(open(&ten.parts[1], 1).is_ok());
    assert!(matches!(open(&ten.parts[1], 2), Err(BadBlock::Checksum { .. })));
    assert!(matches!(open(&nine.parts[1], 1), Err(BadBlock::Checksum { .. })));
    let mut torn = ten.parts[1].clone();
    torn[12] ^= 1;
    assert!(open(&torn, 1).is_err());
    assert!(open(&ten.parts[1], 1).is_ok(), "what unpacks is none the worse for what it could not unpack");
}

#[test]
fn a_newer_version_is_named() {
    let mut packed = pack(SCHEMA, &[], &[], 1).unwrap();
    packed.head[0] = 3;
    assert_eq!(Head::open(&packed.head), Err(BadBlock::Version(3)));
}

#[test]
fn more_rows_than_an_hour_has_are_refused() {
    let rows = vec![wandering(1, 1); ROWS_MAX + 1];
    assert!(pack(SCHEMA, &[true], &rows[..ROWS_MAX], 1).is_ok());
    assert!(pack(SCHEMA, &[true], &rows, 1).is_err());
}

#[test]
fn one_window_of_eleven_samples_does_not_cost_the_means_of_an_hour() {
    let hour = |odd: Option<u32>| {
        let rows: Vec<Row> = (0..360)
            .map(|n| {
                let readings: Vec<f64> =
                    (0..if odd == Some(n) { 11 } else { 10 }).map(|s| f64::from((n * 7 + s * 13) % 97)).collect();
                let mean = readings.iter().sum::<f64>() / readings.len() as f64;
                let point = Point::Gauge { last: readings[9], min: 0.0, max: 96.0, mean };
                Row { at_ms: i64::from(n), window_ms: 10_000, samples: 10, cells: vec![Some(point)] }
            })
            .collect();
        pack(SCHEMA, &[true], &rows, LEVEL_SEALED).unwrap().bytes()
    };
    assert!(hour(Some(77)) < hour(None) + 32, "{} after {}", hour(Some(77)), hour(None));
}

#[test]
fn every_series_is_in_one_part_and_parts_are_few() {
    for series in [0, 1, 24, 25, 300, 751, 10_000, 40_000] {
        let split = Split::of(series);
        assert!(split.parts() <= 250, "{series}");
        let all: Vec<usize> = (0..split.parts()).flat_map(|part| split.range(part)).collect();
        assert_eq!(all, (0..series).collect::<Vec<_>>());
        assert!(all.iter().all(|at| split.range(usize::from(split.part_of(*at))).contains(at)), "{series}");
    }
}
