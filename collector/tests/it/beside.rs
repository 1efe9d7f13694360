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
    let plan =
        measured::Plan { hosts: 6, series, step_ms: 10_000, from_ms: hour - 70 * 60_000, to_ms: hour, is_past: false };
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

#[test]
fn what_was_recorded_of_a_host_is_stored_in_all_three() {
    let (Some(prometheus), Some(victoria)) = (program("prometheus"), program("victoria-metrics")) else { return };
    let mut text = "at_ms\tc:requests_total{code=\"200\"}\tg:memory_bytes\tg:memory_total_bytes\n".to_owned();
    for second in 0..600_u32 {
        text += &format!("{}\t{}\t{}\t4096\n", second * 1_000, second * 7, 4_096 * (second % 13));
    }
    let hour = wall_ms() / HOUR_MS * HOUR_MS;
    for (seconds, summaries) in [(1, 600), (10, 60)] {
        let series = Arc::new(values::Series::recorded(&text, seconds).unwrap().moving());
        assert_eq!((series.len(), series.recorded_len()), (2, summaries), "what never changes is left out");
        let step_ms = seconds * 1_000;
        let plan = measured::Plan { hosts: 3, series, step_ms, from_ms: hour - 600_000, to_ms: hour, is_past: true };
        let report = measured::run(&plan, 0, "", &[prometheus.clone(), victoria.clone()]).unwrap();
        assert_eq!((report.samples, report.rows.len()), (3 * 2 * summaries as u64, 0));
        for side in &report.sides {
            assert!(side.bytes > 0, "{}", side.name);
        }
    }
}
