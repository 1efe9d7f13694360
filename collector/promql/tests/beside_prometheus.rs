//! The same series, the same queries: our answers beside those of Debian's prometheus.
//!
//! In: some hundred series with resets, gaps, stale markers, NaN and infinities; queries by hand and
//! some thousand of a grammar, each at an instant and over a range. Every value is compared.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that starts a program; the crate is pure"
)]

mod questions;

use mainstay_promql::{EvalError, Labels, Limits, Memory, Span, Value, evaluate, parse};
use questions::compare::{Answer, Named, Points};
use questions::earlier::excuse;
use questions::series::{self, Series};
use questions::server::{self, Prometheus};

/// Queries of the grammar: some 10 s of two cores.
const GENERATED: u64 = 4000;

fn memory(all: &[Series]) -> Memory {
    let mut memory = Memory::default();
    for series in all {
        memory.add(series.labels(), series.samples.iter().copied());
    }
    memory
}

/// Asks the evaluator, and shapes its answer as the HTTP API would.
fn ours(text: &str, span: Span, memory: &Memory) -> Answer {
    let query = match parse(text) {
        Ok(query) => query,
        Err(error) => return Answer::Error("bad_data".to_owned(), error.to_string()),
    };
    let at = match span {
        Span::Instant { at_ms } => at_ms,
        Span::Range { start_ms, .. } => start_ms,
    };
    let series = |kind: &str, all: Vec<(Labels, Vec<(i64, f64)>)>| {
        let order = all.iter().filter_map(|(_, points)| points.first()).map(|(_, value)| *value).collect();
        let named = |labels: Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let series = all.into_iter().map(|(labels, points)| (named(labels), points)).collect();
        Answer::Series { kind: kind.to_owned(), series, order }
    };
    match evaluate(&query, span, memory, Limits::default(), &|| None) {
        Ok(answer) => match answer.value {
            Value::Text(text) => Answer::Text(text),
            Value::Scalar(value) => series("scalar", vec![(Labels::none(), vec![(at, value)])]),
            Value::Vector(all) => {
                series("vector", all.into_iter().map(|(labels, value)| (labels, vec![(at, value)])).collect())
            }
            Value::Matrix(all) => series("matrix", all),
        },
        Err(error @ EvalError::NotOverRange(_)) => Answer::Error("bad_data".to_owned(), error.to_string()),
        Err(error) => Answer::Error("execution".to_owned(), error.to_string()),
    }
}

#[test]
fn answers_are_those_of_prometheus() -> anyhow::Result<()> {
    let Some(program) = server::program_or_skip()? else { return Ok(()) };
    let prometheus = Prometheus::start(&program)?;
    let all = series::all();
    prometheus.api.store(&all)?;
    let memory = memory(&all);
    let tally = questions::compare_all(GENERATED, true, &prometheus, |query, span| Ok(ours(query, span, &memory)))?;
    println!("{tally}");
    tally.check()
}

/// What is done to an answer of ours, so that it is another.
type Change = fn(&mut Named, &mut Points);

#[test]
fn only_what_2_answers_otherwise_is_excused() {
    let memory = memory(&series::all());
    let at_ms = series::BEGIN_MS + 3_000_004;
    let instant = Span::Instant { at_ms };
    let range = Span::Range { start_ms: at_ms, end_ms: at_ms + 600_000, step_ms: 60_000 };
    let changed = |answer: Answer, change: Change| {
        let Answer::Series { kind, series, order } = answer else { panic!("{answer:?} are no series") };
        let change = |(mut labels, mut points): (_, _)| {
            change(&mut labels, &mut points);
            (labels, points)
        };
        Answer::Series { kind, series: series.into_iter().map(change).collect(), order }
    };
    let named = |labels: &mut Named, _: &mut Points| {
        labels.insert("__name__".to_owned(), "load".to_owned());
    };
    let zero = |_: &mut Named, points: &mut Points| {
        points.iter_mut().for_each(|(_, value)| *value = if value.is_nan() { 0.0 } else { *value });
    };
    let more = |_: &mut Named, points: &mut Points| {
        points.iter_mut().for_each(|(_, value)| *value += 1.0);
    };
    let other = |labels: &mut Named, _: &mut Points| {
        labels.insert("other".to_owned(), "x".to_owned());
    };
    let later = |_: &mut Named, points: &mut Points| {
        points.iter_mut().skip(1).for_each(|(_, value)| *value += 1.0);
    };
    let of_one = "stddev by (kind) (odd)";
    let ahead = "predict_linear(load[5m] @ 1700002000.007, 60)";
    let ahead_of = "predict_linear((load)[5m:1m] @ 1700002000.007, 60)";
    for (query, span, change, is_excused) in [
        ("load atan2 2", instant, named as Change, Some(true)),
        ("load atan2 2", instant, more, None),
        ("load * 2", instant, named, None),
        (of_one, instant, zero, Some(true)),
        (of_one, instant, more, None),
        ("stddev_over_time(load[5m])", instant, more, None),
        (ahead, instant, more, None),
        (ahead, range, later, None),
        (ahead_of, range, later, Some(false)),
        (ahead_of, range, more, None),
        ("rate(requests_total[5m])", range, more, None),
        ("avg(load) > 0", range, more, None),
        ("resets((avg(load))[1h:1m])", range, more, Some(false)),
        ("resets((avg(load))[1h:1m])", range, other, None),
    ] {
        let mine = ours(query, span, &memory);
        let theirs = changed(mine.clone(), change);
        let found = excuse((query, span), &mine, &theirs, false, true, |query, span| Ok(ours(query, span, &memory)));
        assert_eq!(found.unwrap().map(|excuse| excuse.is_shown), is_excused, "{query}");
    }
}
