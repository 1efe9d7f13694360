//! The same samples in Mainstay, Debian's prometheus and victoria-metrics: what `bench/beside_peers.rs` measures of a large
//! fleet is right of a small one.

use std::sync::Arc;

use mainstay_collector::clock::wall_ms;

use crate::load::values;
use crate::remote::peers::{program, programs as peers};

#[path = "../../../bench/beside/mod.rs"]
mod measured;

const HOUR_MS: i64 = 3_600_000;

#[test]
fn all_three_take_the_same_samples_and_answer_the_same() {
    let (Some(prometheus), Some(victoria)) = (program("prometheus"), program("victoria-metrics")) else { return };
    let hour = wall_ms() / HOUR_MS * HOUR_MS;
    let series = Arc::new(values::Series::made(300));
    let plan = measured::Plan { hosts: 6, series, step_ms: 10_000, from_ms: hour - 70 * 60_000, to_ms: hour };
    let report = measured::run(&plan, 3, "", &[prometheus, victoria]).unwrap();
    assert_eq!(report.samples, 6 * 300 * 70 * 6);
    for side in &report.sides {
        let bytes = side.bytes as f64 / report.samples as f64;
        assert!(!side.took.is_zero() && (0.1..8.0).contains(&bytes), "{}: {bytes} bytes a sample", side.name);
        assert!(side.version.starts_with(|c: char| c.is_ascii_digit()), "{}: {}", side.name, side.version);
    }
    assert_eq!(report.rows.len(), 11, "nine questions and two labels\n{report}");
    let compared = report.rows.iter().filter_map(|row| row.is_same);
    assert_eq!(compared.collect::<Vec<_>>(), [true; 9], "{report}");
    // A table in the documentation is made of this: a program that had nothing would be quick too.
    assert!(report.rows.iter().all(|row| row.ratio() > 0.0 && row.ratio().is_finite()), "{report}");
}
