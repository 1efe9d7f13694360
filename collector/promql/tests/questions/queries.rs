//! What is asked: queries by hand, and queries made of a grammar.
//!
//! Subqueries within subqueries are shifted by some milliseconds, so that no step of the inner one
//! lies on the edge of a window: there Prometheus 2 and 3 differ.

use super::rng::Rng;

/// Queries written by hand, for what a grammar does not come upon.
const BY_HAND: &str = include_str!("by_hand.promql");

/// Series that most queries go to.
const GAUGES: &[&str] = &["load", "memory_bytes", "temperature", "flapping", "sparse", "seen_seconds"];
const MATCHERS: &[&str] = &[
    "",
    "",
    "",
    r#"{instance="a"}"#,
    r#"{job="api"}"#,
    r#"{instance!="a"}"#,
    r#"{instance=~"a|b"}"#,
    r#"{job!~"we.",instance=~".*"}"#,
    r#"{missing=""}"#,
    r#"{code="200"}"#,
];
const SHIFTS: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    " offset 5m",
    " offset -3m",
    " @ 1700003000.007",
    " @ start()",
    " @ end()",
    " @ 1700002000.007 offset 1m",
];
const RANGES: &[&str] = &["1m", "5m", "7m", "20m", "90s", "1h"];
const OF_COUNTERS: &[&str] = &["rate", "increase", "irate", "resets", "changes", "delta"];
const OF_GAUGES: &[&str] = &[
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "changes",
    "resets",
    "delta",
    "idelta",
    "deriv",
    "absent_over_time",
];
const OF_VALUES: &[&str] = &[
    "abs", "ceil", "floor", "sqrt", "exp", "ln", "log2", "log10", "sgn", "sin", "cos", "atan", "tanh", "deg", "rad",
    "round",
];
const OF_DATES: &[&str] =
    &["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];
const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const GROUPINGS: &[&str] = &[
    "",
    "",
    " by (instance)",
    " by (job)",
    " by (job, instance)",
    " without (instance)",
    " without (code, job)",
    " by ()",
    " by (missing)",
];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
const NUMBERS: &[&str] =
    &["0", "1", "-2.5", "10", "1e3", "NaN", "Inf", "-Inf", "0.3", "time()", "scalar(constant)", "pi()"];

/// What Prometheus of a major version calls what is asked.
pub(super) fn spelled(query: &str, major: u32) -> String {
    if major < 3 { query.to_owned() } else { query.replace("holt_winters", "double_exponential_smoothing") }
}

/// Those by hand, and so many of the grammar.
pub(super) fn all(generated_count: u64) -> Vec<String> {
    let by_hand = BY_HAND.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    by_hand.map(str::to_owned).chain((0..generated_count).map(generated)).collect()
}

/// Makes one query of a seed.
fn generated(seed: u64) -> String {
    let mut maker = Maker { rng: Rng::new(seed), subqueries: 0 };
    let depth = 1 + maker.rng.below(3);
    if maker.rng.chance(3) { maker.scalar(depth) } else { maker.vector(depth) }
}

struct Maker {
    rng: Rng,
    /// Around what is being made.
    subqueries: u32,
}

impl Maker {
    fn selector(&mut self) -> String {
        let name = if self.rng.chance(25) { "requests_total" } else { self.rng.pick(GAUGES) };
        format!("{name}{}{}", self.rng.pick(MATCHERS), self.rng.pick(SHIFTS))
    }

    /// A selector or subquery with its range; `name` if it is to be of one metric.
    fn range(&mut self, name: &str, depth: u64) -> String {
        let range = self.rng.pick(RANGES);
        if depth > 0 && self.subqueries < 2 && self.rng.chance(35) {
            let step = self.rng.pick(&["", "30s", "1m", "47s", "2m"]);
            self.subqueries += 1;
            let inner = self.vector(depth - 1);
            self.subqueries -= 1;
            let shift = if self.subqueries > 0 { " offset 13ms" } else { self.rng.pick(SHIFTS) };
            return format!("({inner})[{range}:{step}]{shift}");
        }
        format!("{name}{}[{range}]{}", self.rng.pick(MATCHERS), self.rng.pick(SHIFTS))
    }

    fn scalar(&mut self, depth: u64) -> String {
        match self.rng.below(if depth == 0 { 1 } else { 4 }) {
            0 => self.rng.pick(NUMBERS).to_owned(),
            1 => {
                // No powers: their last digit is another in Go, and a modulus makes it the first.
                let op = self.rng.pick(&["+", "-", "*", "/", "%", "atan2"]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            2 => format!("({} {} bool {})", self.scalar(depth - 1), self.rng.pick(COMPARISONS), self.scalar(depth - 1)),
            _ => format!("scalar({})", self.vector(depth - 1)),
        }
    }

    fn vector(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.selector();
        }
        let below = depth - 1;
        match self.rng.below(20) {
            0 | 1 => format!("{}({})", self.rng.pick(OF_COUNTERS), self.range("requests_total", below)),
            2..=4 => {
                let name = self.rng.pick(GAUGES);
                format!("{}({})", self.rng.pick(OF_GAUGES), self.range(name, below))
            }
            5 => self.with_parameters(below),
            6 => format!("{}({})", self.rng.pick(OF_VALUES), self.vector(below)),
            7 => match self.rng.below(3) {
                0 => format!("{}(seen_seconds{})", self.rng.pick(OF_DATES), self.rng.pick(SHIFTS)),
                1 => format!("{}(vector(time()))", self.rng.pick(OF_DATES)),
                // Small numbers: what is left of large ones that cancel out is noise.
                _ => format!("(timestamp({}) - 1.7e9)", self.vector(below)),
            },
            8..=11 => {
                let (op, by) = (self.rng.pick(AGGREGATIONS), self.rng.pick(GROUPINGS));
                format!("{op}{by} ({})", self.vector(below))
            }
            12 => {
                let by = self.rng.pick(GROUPINGS);
                match self.rng.below(4) {
                    0 => format!("topk{by} (2, memory_bytes{})", self.rng.pick(SHIFTS)),
                    1 => format!("bottomk{by} (3, load{})", self.rng.pick(SHIFTS)),
                    2 => format!("quantile{by} (0.{}, {})", self.rng.below(10), self.vector(below)),
                    _ => format!(r#"count_values{by} ("value", temperature{})"#, self.rng.pick(SHIFTS)),
                }
            }
            13 => format!("{} {} {}", self.vector(below), self.rng.pick(ARITHMETIC), self.scalar(1)),
            14 => match self.rng.below(3) {
                0 => format!("{} {} {}", self.vector(below), self.rng.pick(COMPARISONS), self.scalar(1)),
                1 => format!("{} {} bool {}", self.vector(below), self.rng.pick(COMPARISONS), self.scalar(1)),
                _ => format!("{} {} {}", self.scalar(1), self.rng.pick(COMPARISONS), self.vector(below)),
            },
            15 | 16 => self.matched(below),
            17 => {
                let op = self.rng.pick(&["and", "or", "unless"]);
                let on = self.rng.pick(&["", "", " on(instance)", " ignoring(code)", " on(job, instance)", " on()"]);
                format!("{} {op}{on} {}", self.vector(below), self.vector(below))
            }
            18 => match self.rng.below(3) {
                0 => format!("-({})", self.vector(below)),
                1 => format!("absent({})", self.vector(below)),
                _ => format!(
                    r#"label_replace({}, "{}", "$1-x", "instance", "({})")"#,
                    self.vector(below),
                    self.rng.pick(&["copy", "job", "instance"]),
                    self.rng.pick(&["a", ".*", "b|c"])
                ),
            },
            _ => {
                let by = self.rng.pick(&["", " by (le)", " by (job, le)", " by (instance, le)"]);
                let inner = format!("rate(latency_seconds_bucket[{}]{})", self.rng.pick(RANGES), self.rng.pick(SHIFTS));
                let inner = if by.is_empty() { inner } else { format!("sum{by} ({inner})") };
                format!("histogram_quantile(0.{}, {inner})", self.rng.below(100))
            }
        }
    }

    fn with_parameters(&mut self, below: u64) -> String {
        let name = self.rng.pick(GAUGES);
        match self.rng.below(5) {
            0 => format!("quantile_over_time(0.{}, {})", self.rng.below(10), self.range(name, below)),
            1 => format!("predict_linear({}, {})", self.range(name, below), self.rng.pick(&["600", "-60", "3600"])),
            2 => format!(
                "holt_winters({}, 0.{}, 0.{})",
                self.range(name, below),
                1 + self.rng.below(9),
                1 + self.rng.below(9)
            ),
            3 => format!("clamp({}, {}, {})", self.vector(below), self.scalar(0), self.scalar(0)),
            _ => format!(
                "{}({}, {})",
                self.rng.pick(&["clamp_min", "clamp_max", "round"]),
                self.vector(below),
                self.scalar(0)
            ),
        }
    }

    /// Two vectors matched on what they have in common.
    fn matched(&mut self, below: u64) -> String {
        let is_arithmetic = self.rng.chance(60);
        let op = if is_arithmetic { self.rng.pick(ARITHMETIC) } else { self.rng.pick(COMPARISONS) };
        let is_bool = if !is_arithmetic && self.rng.chance(40) { " bool" } else { "" };
        let by = self.rng.pick(&["instance", "job", "job, instance"]);
        match self.rng.below(6) {
            0 => format!("sum by ({by}) ({}) {op}{is_bool} max by ({by}) ({})", self.vector(below), self.vector(below)),
            1 => format!("{} {op}{is_bool} {}", self.vector(below), self.vector(below)),
            2 => format!("load {op}{is_bool} on(job, instance) group_left(version) info{}", self.rng.pick(SHIFTS)),
            3 => format!("info {op}{is_bool} on(job, instance) group_right() requests_total"),
            4 => format!("requests_total {op}{is_bool} ignoring(code) group_left sum without (code) (requests_total)"),
            _ => format!(
                r#"requests_total{{code="500"}} {op}{is_bool} ignoring(code) requests_total{{code="200"}}{}"#,
                self.rng.pick(SHIFTS)
            ),
        }
    }
}
