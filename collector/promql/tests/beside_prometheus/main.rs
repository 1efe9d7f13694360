//! The same series, the same queries: our answers beside those of Debian's prometheus.
//!
//! In: some hundred series with resets, gaps, stale markers, NaN and infinities; queries by hand and
//! some thousand of a grammar, each at an instant and over a range. Every value is compared.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that starts a program; the crate is pure"
)]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

mod compare;
mod queries;
mod rng;
mod series;
mod server;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mainstay_promql::Span;
use rng::Rng;
use server::Prometheus;

/// Queries of the grammar: some 10 s of two cores. `PROMQL_QUERIES` asks another number.
const GENERATED: u64 = 4000;
/// Differences that are printed in full.
const SHOWN_MAX: usize = 20;

/// When a query is asked: moments that end in 7, see `series`.
fn spans(seed: u64) -> [Span; 2] {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let hundredths = series::SAMPLES * series::EVERY_MS / 10;
    let mut moment = || series::BEGIN_MS + 4 + 10 * i64::try_from(rng.below(hundredths.cast_unsigned())).unwrap_or(0);
    let (at_ms, start_ms) = (moment(), moment());
    let step_ms = [15_000, 30_000, 60_000, 157_010, 10_030][usize::try_from(rng.below(5)).unwrap_or(0)];
    let steps = i64::try_from(rng.below(40)).unwrap_or(0);
    [Span::Instant { at_ms }, Span::Range { start_ms, end_ms: start_ms + steps * step_ms, step_ms }]
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Asks prometheus.
fn ask(server: &Prometheus, query: &str, span: Span) -> anyhow::Result<serde_json::Value> {
    match span {
        Span::Instant { at_ms } => server.ask("/api/v1/query", &[("query", query), ("time", &seconds(at_ms))]),
        Span::Range { start_ms, end_ms, step_ms } => {
            let (start, end, step) = (seconds(start_ms), seconds(end_ms), seconds(step_ms));
            server.ask("/api/v1/query_range", &[("query", query), ("start", &start), ("end", &end), ("step", &step)])
        }
    }
}

#[test]
fn answers_are_those_of_prometheus() -> anyhow::Result<()> {
    let program = match server::program() {
        Ok(program) => program,
        Err(error) if std::env::var("CI").as_deref() != Ok("true") => {
            eprintln!("skipped: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let server = Prometheus::start(&program)?;
    let all = series::all();
    server.store(&all)?;
    let memory = series::memory(&all);
    let generated = std::env::var("PROMQL_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(GENERATED);
    let by_hand = queries::BY_HAND.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let asked: Vec<String> = by_hand.map(str::to_owned).chain((0..generated).map(queries::generated)).collect();

    let (next, answers, values, errors, empty) =
        (AtomicU64::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let major = server.version.split('.').next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let by_version: Mutex<BTreeMap<&str, usize>> = Mutex::default();
    let differing: Mutex<Vec<String>> = Mutex::default();
    let broken: Mutex<Option<anyhow::Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(query) = asked.get(n as usize) else { return };
                    for span in spans(n) {
                        let document = match ask(&server, &queries::spelled(query, major), span) {
                            Ok(document) => document,
                            Err(error) => {
                                *broken.lock().expect("unpoisoned") = Some(error.context(query.clone()));
                                return;
                            }
                        };
                        let (ours, theirs) = (compare::ours(query, span, &memory), compare::theirs(&document));
                        let is_instant = matches!(span, Span::Instant { .. });
                        let in_order =
                            is_instant && ["sort", "topk(", "bottomk("].iter().any(|op| query.starts_with(op));
                        let (difference, compared) = compare::difference(&ours, &theirs, in_order);
                        answers.fetch_add(1, Ordering::Relaxed);
                        values.fetch_add(compared, Ordering::Relaxed);
                        let is_error = matches!(theirs, compare::Answer::Error(..));
                        let is_empty = matches!(&theirs, compare::Answer::Series { series, .. } if series.is_empty());
                        errors.fetch_add(usize::from(is_error), Ordering::Relaxed);
                        empty.fetch_add(usize::from(is_empty), Ordering::Relaxed);
                        let Some(difference) = difference else { continue };
                        if let Some(why) = queries::differs_by_version(query, major) {
                            *by_version.lock().expect("unpoisoned").entry(why).or_default() += 1;
                        } else {
                            differing.lock().expect("unpoisoned").push(format!("{query}\n  {span:?}\n  {difference}"));
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = broken.into_inner().expect("unpoisoned") {
        return Err(error);
    }
    let differing = differing.into_inner().expect("unpoisoned");
    let (answers, values) = (answers.into_inner(), values.into_inner());
    println!(
        "prometheus {}: {} queries, {answers} answers ({} errors, {} empty), {values} values: {} differ, agreement {:.3} %",
        server.version,
        asked.len(),
        errors.into_inner(),
        empty.into_inner(),
        differing.len(),
        100.0 * (answers - differing.len()) as f64 / answers as f64
    );
    for (why, count) in by_version.into_inner().expect("unpoisoned") {
        println!("beside that, where Prometheus {major} is not 3: {why}: {count} answers");
    }
    for difference in differing.iter().take(SHOWN_MAX) {
        println!("{difference}");
    }
    anyhow::ensure!(differing.is_empty(), "{} of {answers} answers differ", differing.len());
    Ok(())
}
