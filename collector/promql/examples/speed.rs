//! How long queries take over 1,000 series of 720 samples in memory (two hours at 10 s), the best of five.
//!
//! `cargo run --release -p mainstay-promql --example speed`
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures; the crate is pure")]
#![allow(clippy::print_stdout, reason = "what it is for")]

use std::time::Instant;

use mainstay_promql::{Labels, Limits, Memory, Span, evaluate, parse};

const HOSTS: i64 = 1000;
const SAMPLES: i64 = 720;
const EVERY_MS: i64 = 10_000;

fn main() {
    let mut source = Memory::default();
    for host in 0..HOSTS {
        let labels = Labels::from_text(&[
            ("__name__", "bytes_total"),
            ("host", &format!("host-{host:04}")),
            ("rack", &format!("rack-{}", host % 40)),
            ("device", "eth0"),
        ]);
        source.add(labels, (0..SAMPLES).map(|n| (n * EVERY_MS, ((host + 3) * n) as f64)));
    }
    let end_ms = (SAMPLES - 1) * EVERY_MS;
    let instant = Span::Instant { at_ms: end_ms };
    let range = Span::Range { start_ms: 0, end_ms, step_ms: 10_000 };
    println!("{:>10}  {:>12}  query", "ms", "samples/s");
    for (query, span) in [
        ("topk(10, avg_over_time(bytes_total[1h]))", instant),
        ("sum by (rack) (rate(bytes_total[5m]))", instant),
        ("bytes_total", range),
        ("sum by (rack) (bytes_total)", range),
        ("rate(bytes_total[5m])", range),
        ("sum by (rack) (rate(bytes_total[5m]))", range),
        ("topk(5, bytes_total)", range),
        ("bytes_total / on(host) bytes_total", range),
        ("quantile(0.9, bytes_total)", range),
        ("quantile_over_time(0.9, bytes_total[5m])", range),
        ("max_over_time(rate(bytes_total[5m])[10m:1m])", range),
    ] {
        let plan = parse(query).expect("a query");
        let mut best = f64::INFINITY;
        let mut samples = 0;
        for _ in 0..5 {
            let begun = Instant::now();
            samples = evaluate(&plan, span, &source, Limits::default(), &|| None).expect("an answer").samples;
            best = best.min(begun.elapsed().as_secs_f64());
        }
        let kind = if span == instant { "instant" } else { "range, 720 steps" };
        println!("{:>10.2}  {:>10.1} M  {query} ({kind})", best * 1e3, samples as f64 / best / 1e6);
    }
}
