//! Queries: any text, at a moment and over a range, over a few awkward series.
//!
//! Nothing may panic, and nothing may read or hold more than its limits, whatever is asked.

use std::sync::atomic::{AtomicU32, Ordering};

use mainstay_promql::{
    Interrupted, Labels, Limits, Memory, Span, duration_ms, evaluate, moment_ms, parse, parse_selector,
};

/// How often a query is asked whether it goes on, before it is stopped.
const LOOKS_MAX: u32 = 20;

/// What came of the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Whether it was a query.
    pub is_query: bool,
    /// How often it was answered, of two.
    pub answers: usize,
}

/// The series that are asked about.
#[must_use]
pub fn source() -> Memory {
    let mut source = Memory::default();
    for (name, value) in [("a", 1.0), ("b", f64::NAN), ("c", f64::INFINITY), ("d_bucket", -0.5)] {
        for (host, le) in [("x", "+Inf"), ("y", "0.1"), ("z", "no number")] {
            let labels = Labels::from_text(&[("__name__", name), ("le", le), ("host", host)]);
            source.add(labels, (0..20).map(|n| (i64::from(n) * 10_000, value * f64::from(n % 7))));
        }
    }
    source
}

/// Asks.
pub fn run(source: &Memory, bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let Ok(text) = std::str::from_utf8(bytes) else { return read };
    let _ = (parse_selector(text), duration_ms(text), moment_ms(text));
    let Ok(query) = parse(text) else { return read };
    read.is_query = true;
    let limits = Limits { samples_max: 200_000, values_max: 50_000, steps_max: 100, subquery_steps_max: 500 };
    for span in [
        Span::Range { start_ms: 50_000, end_ms: 150_000, step_ms: 7_000 },
        Span::Instant { at_ms: i64::from(bytes[0]) * 1_000 },
    ] {
        let looks = AtomicU32::new(0);
        let stop = || (looks.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX).then_some(Interrupted::TimedOut);
        read.answers += usize::from(evaluate(&query, span, source, limits, &stop).is_ok());
    }
    read
}
