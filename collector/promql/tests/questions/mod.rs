//! What Debian's prometheus and we are asked, of which series, and how the answers are compared.
//!
//! Of two tests: one asks the evaluator over series in memory, the other a collector over its HTTP API.
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

pub(crate) mod compare;
pub(crate) mod earlier;
pub(crate) mod queries;
mod rng;
pub(crate) mod series;
pub(crate) mod server;
mod tally;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use compare::Answer;
use mainstay_promql::Span;
use rng::Rng;
use server::{Api, Prometheus};
use tally::Tally;

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

/// Asks over Prometheus' HTTP API.
pub(crate) fn ask(api: &Api, query: &str, span: Span) -> anyhow::Result<Answer> {
    let document = match span {
        Span::Instant { at_ms } => api.ask("/api/v1/query", &[("query", query), ("time", &seconds(at_ms))]),
        Span::Range { start_ms, end_ms, step_ms } => {
            let (start, end, step) = (seconds(start_ms), seconds(end_ms), seconds(step_ms));
            api.ask("/api/v1/query_range", &[("query", query), ("start", &start), ("end", &end), ("step", &step)])
        }
    };
    Ok(compare::told(&document.with_context(|| query.to_owned())?))
}

/// Asks both the queries by hand and so many of the grammar, each at an instant and over a range. `PROMQL_QUERIES` asks
/// another number. `added_alike` says whether series come to both in the same order.
pub(crate) fn compare_all(
    generated: u64,
    added_alike: bool,
    prometheus: &Prometheus,
    ours: impl Fn(&str, Span) -> anyhow::Result<Answer> + Sync,
) -> anyhow::Result<Tally> {
    let generated = std::env::var("PROMQL_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(generated);
    let asked = queries::all(generated);
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::new(&prometheus.version, asked.len())));
    let compare_next = || -> anyhow::Result<bool> {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some(query) = asked.get(n) else { return Ok(false) };
        for span in spans(n as u64) {
            let theirs = ask(&prometheus.api, &queries::spelled(query, prometheus.major()), span)?;
            let mine = ours(query, span)?;
            let is_instant = matches!(span, Span::Instant { .. });
            let in_order = is_instant && ["sort", "topk(", "bottomk("].iter().any(|op| query.starts_with(op));
            let difference = compare::difference(&mine, &theirs, in_order);
            let excuse = match &difference {
                Err(_) if prometheus.major() < 3 => {
                    earlier::excuse((query, span), &mine, &theirs, in_order, added_alike, &ours)?
                }
                _ => None,
            };
            let told = || format!("{query}\n  {span:?}");
            tally.lock().expect("unpoisoned").count(&theirs, difference, excuse, told);
        }
        Ok(true)
    };
    std::thread::scope(|scope| {
        let lane = || {
            while compare_next()? {}
            anyhow::Ok(())
        };
        let lanes = [scope.spawn(lane), scope.spawn(lane)];
        lanes.into_iter().try_for_each(|lane| lane.join().expect("no panic"))
    })?;
    Ok(tally.into_inner().expect("unpoisoned"))
}
