//! What a stored value takes: the made host of `bench/shapes.rs` is held to its figures, so that a change that makes blocks
//! larger is seen. What recorded hosts take, docs/storage.md tells.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test from outside, not the crate")]

use mainstay_fleet::block::{LEVEL_SEALED, Row, pack};

#[allow(dead_code)] // benchmarks use more
#[path = "../../../bench/shapes.rs"]
mod shapes;

const SERIES: usize = 750;
const HOUR_S: u32 = 3_600;

/// Bytes a value of an hour's block in windows of so many seconds, over the series that change; a gauge of a longer window
/// has four.
fn bytes_a_value(seconds: u32) -> f64 {
    let described = shapes::describe(SERIES);
    let mut host = shapes::Shapes::of(1, SERIES);
    let row = |n: u32| Row {
        at_ms: 1_800_000_000_000 + i64::from(n * seconds) * 1_000 + i64::from(n * 7 % 5),
        window_ms: seconds * 1_000,
        samples: seconds,
        cells: host.summary(seconds, &described.gauge).into_iter().map(Some).collect(),
    };
    let rows: Vec<Row> = (0..HOUR_S / seconds).map(row).collect();
    let packed = pack([1; 16], &described.gauge, &rows, LEVEL_SEALED).unwrap();
    let moves = |at: usize| rows.iter().any(|row| row.cells[at] != rows[0].cells[at]);
    let values = (0..SERIES).filter(|at| moves(*at)).map(|at| if seconds > 1 && described.gauge[at] { 4 } else { 1 });
    packed.bytes() as f64 / (values.sum::<usize>() * rows.len()) as f64
}

#[test]
fn an_hour_of_the_made_host_takes_no_more_than_it_did() {
    // 0.832 and 1.446 when they were written down.
    for (seconds, most) in [(1, 0.85), (10, 1.47)] {
        let bytes = bytes_a_value(seconds);
        assert!(bytes > 0.5 && bytes < most, "{bytes:.3} bytes a value in windows of {seconds} s, {most} at most");
    }
}
