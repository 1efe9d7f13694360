//! How many bytes a stored value takes, in recordings of real hosts (`bench/record.rs`) and in made ones.
//!
//! In: recordings as arguments; without one, a made host. Out: for windows of 1 s and of 10 s, in blocks of ten minutes
//! and of an hour, the bytes of all pieces over the values of the series that change at all, and how long it took; and what
//! a day of a made host takes when it is rolled up.
//!
//! ```text
//! cargo run --release -p mainstay-fleet --example block_bytes -- RECORDING …
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program for people, not the crate")]

use std::hint::black_box;
use std::time::Instant;

use mainstay_core::series::Point;
use mainstay_fleet::block::{Head, LEVEL_SEALED, LEVEL_SLOT, Part, Row, Unpacker, Which, pack, pack_split};
use mainstay_fleet::rollup::{Tier, cells, roll, split};

#[path = "../../../bench/recording.rs"]
mod recording;
#[path = "../../../bench/shapes.rs"]
mod shapes;

use recording::Recording;

fn main() {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    println!(
        "| series | window | block | values | bytes a value | of the last values alone | goal | packing, ns a value | one series read, µs | with what unpacks made anew |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    if paths.is_empty() {
        for seconds in [1, 10] {
            let described = shapes::describe(750);
            let mut host = shapes::Shapes::of(1, 750);
            let rows = if seconds == 1 { 3_600 } else { 3_600 / 10 };
            let row = |n: u32| Row {
                at_ms: 1_800_000_000_000 + i64::from(n * seconds) * 1_000 + i64::from(n * 7 % 5),
                window_ms: seconds * 1_000,
                samples: seconds,
                cells: host.summary(seconds, &described.gauge).into_iter().map(Some).collect(),
            };
            let rows: Vec<Row> = (0..rows).map(row).collect();
            report("made, 750 series", seconds, &described.gauge, &rows);
        }
        rollups();
    }
    for path in &paths {
        match std::fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| Recording::read(&text)) {
            Ok(recording) => {
                for seconds in [1, 10] {
                    let rows = recording.windows(seconds);
                    report(path, seconds, &recording.gauge, &rows);
                }
            }
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
}

/// What a value in a block that stays is to take.
fn goal(seconds: u32, level: i32) -> &'static str {
    match seconds {
        _ if level != LEVEL_SEALED => "",
        1 => "0.65",
        _ => "1.1",
    }
}

/// The blocks of one length of a host's rows, in figures.
fn report(name: &str, seconds: u32, gauge: &[bool], rows: &[Row]) {
    let moves: Vec<bool> =
        (0..gauge.len()).map(|at| rows.iter().any(|row| row.cells[at] != rows[0].cells[at])).collect();
    let some = moves.iter().filter(|moves| **moves).count();
    for (block, ms, level) in [("10 min", 600_000, LEVEL_SLOT), ("1 h", 3_600_000, LEVEL_SEALED)] {
        let per_block = usize::try_from(ms / (seconds * 1_000)).unwrap_or(1);
        let blocks: Vec<&[Row]> = rows.chunks(per_block).filter(|rows| rows.len() * 2 > per_block).collect();
        let stored: usize = blocks.iter().map(|rows| rows.len()).sum();
        if stored == 0 {
            continue;
        }
        // A recording may not fill one.
        let minutes = stored * seconds as usize / (60 * blocks.len());
        let block = if minutes * 60_000 < ms as usize { format!("{minutes} min of {block}") } else { block.to_owned() };
        let (mut bytes, mut alone) = (0, 0);
        let mut first = None;
        let started = Instant::now();
        for rows in &blocks {
            let packed = pack([1; 16], gauge, rows, level).unwrap_or_else(|error| panic!("{error}"));
            bytes += packed.bytes();
            first.get_or_insert(packed);
        }
        let took = started.elapsed();
        for rows in &blocks {
            let last: Vec<Row> = rows.iter().map(|row| only_last(row, &moves)).collect();
            let gauge = vec![false; some];
            alone += pack([1; 16], &gauge, &last, level).unwrap_or_else(|error| panic!("{error}")).bytes();
        }
        // A gauge has four values where they differ.
        let four = gauge.iter().zip(&moves).filter(|(gauge, moves)| **gauge && **moves && seconds > 1).count();
        let values = (some + 3 * four) * stored;
        let all = gauge.len() * stored;
        let [kept, anew] = first.map_or([0.0; 2], |packed| {
            let mut unpacker = Unpacker::default();
            let at = gauge.len() / 2;
            [time_of_one(&packed, at, Some(&mut unpacker)), time_of_one(&packed, at, None)]
        });
        println!(
            "| {name} | {seconds} s | {block} | {values} of {some} series | {:.3} | {:.3} | {} | {:.0} | {kept:.1} | {anew:.1} |",
            bytes as f64 / values as f64,
            alone as f64 / (some * stored) as f64,
            goal(seconds, level),
            took.as_nanos() as f64 / all as f64,
        );
    }
}

/// A day of a made host by tier, hours of rows beside it.
fn rollups() {
    let described = shapes::describe(750);
    let mut host = shapes::Shapes::of(1, 750);
    let row = |n: i64, host: &mut shapes::Shapes| Row {
        at_ms: 1_800_000_000_000 + n * 10_000 + n * 7 % 5,
        window_ms: 10_000,
        samples: 10,
        cells: host.summary(10, &described.gauge).into_iter().map(Some).collect(),
    };
    let (mut rows, mut five, mut day) = (0, 0, Vec::new());
    let mut took = std::time::Duration::ZERO;
    let tier = |rolled: &[Row]| {
        let split = split(described.gauge.len());
        pack_split([1; 16], &cells(&described.gauge), rolled, LEVEL_SEALED, split)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    for hour in 0..24 {
        let all: Vec<Row> = (1..=360).map(|n| row(hour * 360 + n, &mut host)).collect();
        rows += pack([1; 16], &described.gauge, &all, LEVEL_SEALED).map_or(0, |packed| packed.bytes());
        let started = Instant::now();
        five += tier(&roll(&all, Tier::Minutes5)).bytes();
        day.extend(roll(&all, Tier::Hour));
        took += started.elapsed();
    }
    let hours = tier(&day).bytes();
    println!("\n| made, 750 series, 10 s | bytes a host and hour | of the rows' |\n|---|---|---|");
    for (name, bytes) in [("every summary", rows), ("5 minutes", five), ("1 hour", hours)] {
        println!("| {name} | {} | {:.3} |", bytes / 24, bytes as f64 / rows as f64);
    }
    println!("Rolling an hour up takes {:.1} ms.", took.as_secs_f64() * 1e3 / 24.0);
}

/// The last values of the series that change.
fn only_last(row: &Row, moves: &[bool]) -> Row {
    let last =
        |cell: &Option<Point>| cell.map(|(Point::Counter(last) | Point::Gauge { last, .. })| Point::Counter(last));
    let cells = row.cells.iter().zip(moves).filter(|(_, moves)| **moves).map(|(cell, _)| last(cell)).collect();
    Row { cells, ..row.clone() }
}

/// Microseconds for reading one series out of the pieces of a block, with what unpacks kept or made anew each time.
fn time_of_one(packed: &mainstay_fleet::block::Packed, at: usize, mut kept: Option<&mut Unpacker>) -> f64 {
    const TIMES: u32 = 2_000;
    let started = Instant::now();
    for _ in 0..TIMES {
        let mut anew = Unpacker::default();
        let unpacker = kept.as_deref_mut().unwrap_or(&mut anew);
        let head = Head::open(&packed.head).unwrap_or_else(|error| panic!("{error}"));
        let no = head.split.part_of(at);
        let part =
            Part::open(&packed.parts[usize::from(no)], &head, no, unpacker).unwrap_or_else(|error| panic!("{error}"));
        let read = part.each_value(&head, at, Which::Last, &mut |_, value| {
            black_box(value);
        });
        read.unwrap_or_else(|error| panic!("{error}"));
    }
    started.elapsed().as_nanos() as f64 / f64::from(TIMES) / 1_000.0
}
