//! Conditions on what was measured: `time_to_full < 6h || used > 90%`.
//!
//! A condition is made of comparisons, `&&`, `||` and brackets. There is no negation, so a value that is not known can
//! only ever make a condition false: absence of data is never a reason to act. Every measure has a dimension and every
//! literal its unit, so that `used > 90` cannot be read as ninety times full.

use std::fmt;

use crate::config::parse_duration;
use crate::finding::Evidence;

/// Deepest nesting of brackets.
const DEPTH_MAX: usize = 16;

/// Longest condition, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

/// What kind of quantity a measure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// A share, written `90%`.
    Ratio,
    /// A time, written `6h`.
    Duration,
    /// A plain number.
    Count,
}

impl Dimension {
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Ratio => "a share such as 90%",
            Self::Duration => "a duration such as 6h",
            Self::Count => "a plain number such as 3",
        }
    }
}

/// A measure as conditions name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// In conditions.
    name: &'static str,
    /// In evidence.
    measure: &'static str,
    dimension: Dimension,
}

const fn known(name: &'static str, measure: &'static str, dimension: Dimension) -> Known {
    Known { name, measure, dimension }
}

/// The closed list. A detector that measures something new adds a line here.
const KNOWN: [Known; 15] = [
    known("used", "used_ratio", Dimension::Ratio),
    known("inodes_used", "inodes_used_ratio", Dimension::Ratio),
    known("time_to_full", "time_to_full_seconds", Dimension::Duration),
    known("time_to_limit", "time_to_limit_seconds", Dimension::Duration),
    known("crashes", "crashes", Dimension::Count),
    known("probe_fails", "probe_fails", Dimension::Count),
    known("memory_used", "memory_used_ratio", Dimension::Ratio),
    known("fds_used", "fds_used_ratio", Dimension::Ratio),
    known("tasks_used", "tasks_used_ratio", Dimension::Ratio),
    known("starts", "starts", Dimension::Count),
    known("memory_waiting", "memory_waiting_ratio", Dimension::Ratio),
    known("memory_stalled", "memory_stalled_ratio", Dimension::Ratio),
    known("cpu_busy", "cpu_busy_ratio", Dimension::Ratio),
    known("cpu_waiting", "cpu_waiting_ratio", Dimension::Ratio),
    known("cpu_steal", "cpu_steal_ratio", Dimension::Ratio),
];

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Comparison {
    const ALL: [(&'static str, Self); 4] =
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Less), (">", Self::More)];

    fn of(self, a: f64, b: f64) -> bool {
        match self {
            Self::Less => a < b,
            Self::AtMost => a <= b,
            Self::More => a > b,
            Self::AtLeast => a >= b,
        }
    }

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(text, _)| text)
    }
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    node: Node,
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Compare { known: Known, op: Comparison, to: f64 },
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// What is wrong with a condition, and how many characters into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadWhen {
    pub(super) at: usize,
    pub(super) message: String,
}

impl When {
    /// Reads a condition.
    pub(super) fn parse(text: &str) -> Result<Self, BadWhen> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("is too long (got {} bytes, at most {TEXT_BYTES_MAX})", text.len());
            return Err(BadWhen { at: 0, message });
        }
        let mut parser = Parser { text, at: 0 };
        let node = parser.any(0)?;
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.wrong(parser.at, format!("expected `&&`, `||` or the end, not `{}`", parser.word())));
        }
        Ok(Self { node, text: text.to_owned() })
    }

    /// Whether the condition holds for what was measured. A measure that is not among the evidence, or is not a number,
    /// makes its comparison false.
    #[must_use]
    pub fn holds(&self, evidence: &[Evidence]) -> bool {
        self.node.holds(evidence)
    }

    /// The bound, if the condition is one comparison `measure < bound` or `measure <= bound`.
    pub(super) fn upper_bound_on(&self, name: &str) -> Option<f64> {
        match &self.node {
            Node::Compare { known, op: Comparison::Less | Comparison::AtMost, to } if known.name == name => Some(*to),
            _ => None,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Node {
    fn holds(&self, evidence: &[Evidence]) -> bool {
        match self {
            Self::Compare { known, op, to } => evidence
                .iter()
                .filter_map(|seen| seen.measure.as_ref())
                .find(|measure| measure.name == known.measure)
                .is_some_and(|measure| op.of(measure.value, *to)),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(evidence)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(evidence)),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn any(&mut self, depth: usize) -> Result<Node, BadWhen> {
        let mut nodes = vec![self.all(depth)?];
        while self.take("||") {
            nodes.push(self.all(depth)?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, BadWhen> {
        let mut nodes = vec![self.term(depth)?];
        while self.take("&&") {
            nodes.push(self.term(depth)?);
        }
        Ok(one_or(nodes, Node::All))
    }

    fn term(&mut self, depth: usize) -> Result<Node, BadWhen> {
        self.skip_space();
        let start = self.at;
        if !self.take("(") {
            return self.comparison();
        }
        if depth >= DEPTH_MAX {
            return Err(self.wrong(start, format!("brackets are nested deeper than {DEPTH_MAX}")));
        }
        let node = self.any(depth + 1)?;
        if self.take(")") {
            return Ok(node);
        }
        Err(self.wrong(self.at, format!("expected `)`, not `{}`", self.word())))
    }

    fn comparison(&mut self) -> Result<Node, BadWhen> {
        self.skip_space();
        let name_at = self.at;
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
        let Some(known) = KNOWN.iter().copied().find(|known| known.name == name) else {
            return Err(self.wrong(name_at, unknown_measure(name, self.word_at(name_at))));
        };
        self.skip_space();
        let Some(op) = Comparison::ALL.into_iter().find(|(text, _)| self.take(text)).map(|(_, op)| op) else {
            return Err(self.wrong(self.at, format!("expected `<`, `<=`, `>` or `>=`, not `{}`", self.word())));
        };
        self.skip_space();
        let value_at = self.at;
        let value = self.run(|c| c.is_ascii_alphanumeric() || c == '.' || c == '%' || c == '_' || c == '-');
        let to = literal(value, known.dimension).ok_or_else(|| {
            let shown = if value.is_empty() { self.word() } else { value };
            self.wrong(
                value_at,
                format!("`{}` is compared with {}, not `{shown}`", known.name, known.dimension.example()),
            )
        })?;
        Ok(Node::Compare { known, op, to })
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn skip_space(&mut self) {
        self.run(char::is_whitespace);
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// What stands here, to be named in a message.
    fn word(&self) -> &'t str {
        self.word_at(self.at)
    }

    fn word_at(&self, at: usize) -> &'t str {
        self.text[at..].split_whitespace().next().unwrap_or("the end")
    }

    fn wrong(&self, at: usize, message: String) -> BadWhen {
        BadWhen { at: self.text[..at].chars().count(), message }
    }
}

fn one_or(mut nodes: Vec<Node>, join: impl Fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1 { nodes.remove(0) } else { join(nodes) }
}

fn unknown_measure(name: &str, shown: &str) -> String {
    if name.is_empty() {
        return format!("expected a measure such as `used`, not `{shown}`");
    }
    match crate::config::nearest(name, KNOWN.iter().map(|known| known.name)) {
        Some(near) => format!("unknown measure `{name}`; did you mean `{near}`?"),
        None => {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            format!("unknown measure `{name}`; known are {}", names.join(", "))
        }
    }
}

pub(super) fn literal(text: &str, dimension: Dimension) -> Option<f64> {
    match dimension {
        Dimension::Ratio => number(text.strip_suffix('%')?).map(|percent| percent / 100.0),
        Dimension::Duration => parse_duration(text).ok().map(|duration| duration.as_secs_f64()),
        Dimension::Count => number(text),
    }
}

/// Digits with at most one point: `f64::from_str` would take `inf`, `nan` and `1e9`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.len() <= 18;
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Measure;
    use proptest::prelude::*;

    fn evidence(pairs: &[(&str, f64)]) -> Vec<Evidence> {
        let one = |(name, value): &(&str, f64)| Evidence {
            text: String::new(),
            measure: Some(Measure { name: (*name).to_owned(), value: *value, limit: None, expected: None }),
        };
        pairs.iter().map(one).collect()
    }

    fn holds(text: &str, pairs: &[(&str, f64)]) -> bool {
        When::parse(text).unwrap().holds(&evidence(pairs))
    }

    #[test]
    fn compares_measures_in_their_units() {
        let disk = [("used_ratio", 0.93), ("time_to_full_seconds", 7200.0)];
        assert!(holds("time_to_full < 6h || used > 95%", &disk));
        assert!(!holds("time_to_full < 1h || used > 95%", &disk));
        assert!(holds("time_to_full<6h&&used>=93%", &disk));
        assert!(holds("used > 99% || time_to_full < 6h && used > 90%", &disk), "&& binds tighter");
        assert!(!holds("(used > 99% || time_to_full < 6h) && used > 95%", &disk));
        assert!(holds("crashes >= 3", &[("crashes", 3.0)]));
    }

    #[test]
    fn every_measure_is_one_that_a_detector_gives() {
        let detectors = [
            include_str!("../detect/disk_full.rs"),
            include_str!("../detect/disk_filling.rs"),
            include_str!("../detect/crash_loop.rs"),
            include_str!("../detect/service_hung.rs"),
            include_str!("../detect/memory_leak.rs"),
            include_str!("../detect/leak_watch.rs"),
            include_str!("../detect/fd_leak.rs"),
            include_str!("../detect/flapping.rs"),
            include_str!("../detect/task_leak.rs"),
            include_str!("../detect/memory_pressure.rs"),
            include_str!("../detect/cpu_saturated.rs"),
        ];
        for known in KNOWN {
            let quoted = format!("\"{}\"", known.measure);
            assert!(detectors.iter().any(|text| text.contains(&quoted)), "no detector gives {}", known.measure);
        }
    }

    #[test]
    fn what_is_not_known_makes_no_condition_true() {
        assert!(!holds("time_to_full < 6h", &[("used_ratio", 0.93)]));
        assert!(!holds("time_to_full >= 0s", &[]));
        assert!(!holds("used > 1%", &[("used_ratio", f64::NAN)]));
        assert!(!holds("used <= 99%", &[("used_ratio", f64::NAN)]));
    }

    #[test]
    fn names_the_place_and_what_was_expected() {
        let cases = [
            ("", 0, "expected a measure such as `used`, not `the end`"),
            ("usd > 90%", 0, "unknown measure `usd`; did you mean `used`?"),
            ("used > 90", 7, "`used` is compared with a share such as 90%, not `90`"),
            ("used > 90% || time_to_full < 6", 29, "`time_to_full` is compared with a duration such as 6h, not `6`"),
            ("used = 90%", 5, "expected `<`, `<=`, `>` or `>=`, not `=`"),
            ("used > 90% and crashes < 5", 11, "expected `&&`, `||` or the end, not `and`"),
            ("(used > 90%", 11, "expected `)`, not `the end`"),
            ("used > -5%", 7, "`used` is compared with a share such as 90%, not `-5%`"),
            ("crashes > inf", 10, "`crashes` is compared with a plain number such as 3, not `inf`"),
        ];
        for (text, at, message) in cases {
            assert_eq!(When::parse(text), Err(BadWhen { at, message: message.to_owned() }), "{text}");
        }
        assert!(When::parse(&"(".repeat(900)).unwrap_err().message.contains("nested deeper"));
        assert!(When::parse(&" ".repeat(2000)).unwrap_err().message.contains("too long"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(used|time_to_full|[<>=&|() %.é]|[0-9]|h|GiB){0,40}") {
            if let Ok(when) = When::parse(&text) {
                prop_assert!(!when.holds(&[]), "true without any evidence: {text}");
            }
        }
    }
}
