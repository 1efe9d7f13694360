//! Whatever is asked, nothing panics: the parser's crate and ours together.

use mainstay_promql::{Labels, Limits, Memory, Span, evaluate, parse};
use proptest::prelude::*;

fn source() -> Memory {
    let mut source = Memory::default();
    for (name, value) in [("a", 1.0), ("b", f64::NAN), ("c", f64::INFINITY)] {
        let labels = Labels::from_text(&[("__name__", name), ("le", "+Inf"), ("host", "x")]);
        source.add(labels, (0..20).map(|n| (i64::from(n) * 10_000, value * f64::from(n))));
    }
    source
}

/// Pieces that make queries more often than random letters do.
const PIECES: &[&str] = &[
    "a",
    "b",
    "c",
    "{__name__=~\".*b\"}",
    "{host=\"x\"}",
    "[1m]",
    "[1m:10s]",
    "[1m:]",
    "[NaN]",
    "[-1]",
    "[1e300]",
    "(",
    ")",
    "(",
    ")",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " ^ ",
    " == bool ",
    " > ",
    " and ",
    " or ",
    " unless ",
    " on(host) ",
    " ignoring(le) ",
    " group_left() ",
    " offset 5s",
    " offset -5s",
    " offset NaN",
    " @ 100",
    " @ start()",
    " @ end()",
    "@ Inf",
    "rate",
    "sum",
    "topk",
    "quantile_over_time",
    "histogram_quantile",
    "label_replace",
    "absent",
    "by (host) ",
    "without () ",
    ", ",
    "1",
    "0.5",
    "NaN",
    "Inf",
    "-1",
    "0x1f",
    "1e999",
    "\"x\"",
    "'$1'",
    "\"(\"",
    "day_of_year",
    "vector",
    "scalar",
    "time()",
    "holt_winters",
    "count_values",
    "#",
    "{",
    "}",
    "\"",
    "\\",
    "é",
    "\u{0}",
    "1y",
    "999999999y",
    "5m",
    ":",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_queries_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..14)) {
        let text = pieces.concat();
        if let Ok(query) = parse(&text) {
            let span = Span::Range { start_ms: 50_000, end_ms: 150_000, step_ms: 7_000 };
            let _ = evaluate(&query, span, &source(), Limits::default(), &|| None);
            let instant = Span::Instant { at_ms: -5 };
            let _ = evaluate(&query, instant, &source(), Limits::default(), &|| None);
        }
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }
}
