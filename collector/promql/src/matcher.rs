//! Label matchers, with Prometheus' meaning: a pattern has to match the whole value, and a label
//! that is not there is empty.
//!
//! Patterns are RE2's, as Prometheus takes them; where Rust's crate reads the same text otherwise
//! (`\d` and the like know only ASCII in RE2, `.` stands for a line's end too since Prometheus 3)
//! they are rewritten.

use std::sync::{Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

use crate::labels::{Labels, NAME};

/// Most bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Most compiled patterns that are kept for who asks again: dashboards ask the same all day.
const KEPT_MAX: usize = 16;
/// What stands around a pattern that is compiled.
const BEGIN: &str = "^(?s:";
const END: &str = ")$";
/// The patterns that were asked for last, the newest last.
static KEPT: Mutex<Vec<(String, Regex)>> = Mutex::new(Vec::new());

/// What a label has to be.
#[derive(Debug, Clone)]
pub enum Test {
    /// `=`
    Is(String),
    /// `!=`
    IsNot(String),
    /// `=~`
    Matches(Regex),
    /// `!~`
    MatchesNot(Regex),
}

/// One label with its test.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Of which label.
    pub label: String,
    /// What it has to be.
    pub test: Test,
}

impl Matcher {
    /// A label that has to be equal to a value.
    #[must_use]
    pub fn is(label: &str, value: &str) -> Self {
        Self { label: label.to_owned(), test: Test::Is(value.to_owned()) }
    }

    /// Whether a value passes.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        match &self.test {
            Test::Is(wanted) => value == wanted,
            Test::IsNot(wanted) => value != wanted,
            Test::Matches(pattern) => pattern.is_match(value),
            Test::MatchesNot(pattern) => !pattern.is_match(value),
        }
    }

    /// The values that pass, where there are no others: of `=`, and of a pattern that is one or some of them (`a|b`).
    #[must_use]
    pub fn values(&self) -> Option<Vec<&str>> {
        match &self.test {
            Test::Is(wanted) => Some(vec![wanted]),
            Test::Matches(pattern) => {
                let text = pattern.as_str().strip_prefix(BEGIN)?.strip_suffix(END)?;
                let is_plain = |value: &str| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
                let values: Vec<&str> = text.split('|').collect();
                values.iter().all(|value| is_plain(value)).then_some(values)
            }
            Test::IsNot(_) | Test::MatchesNot(_) => None,
        }
    }

    /// Whether it asks for one name and no other.
    pub(crate) fn names_one_metric(&self) -> bool {
        self.label == NAME && matches!(self.test, Test::Is(_))
    }
}

/// Whether labels pass all matchers.
#[must_use]
pub fn all_hold(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.holds(labels.get(&matcher.label)))
}

/// Compiles a pattern that has to match the whole of a value.
///
/// # Errors
/// If it is none, or too large, with the reason.
pub fn whole(pattern: &str) -> Result<Regex, String> {
    let known = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let found = {
        let mut kept = known();
        kept.iter().position(|(text, _)| text == pattern).map(|place| kept.remove(place))
    };
    let entry = match found {
        Some(entry) => entry,
        None => (pattern.to_owned(), compiled(pattern)?),
    };
    let compiled = entry.1.clone();
    let mut kept = known();
    // Two may have compiled it at the same time.
    kept.retain(|(text, _)| *text != entry.0);
    if kept.len() >= KEPT_MAX {
        kept.remove(0);
    }
    kept.push(entry);
    Ok(compiled)
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    let compile = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    // The pattern has to stand by itself: in parentheses `a)|(b` would be one.
    compile(&as_re2(pattern))
        .and_then(|_| compile(&format!("{BEGIN}{}{END}", as_re2(pattern))))
        .map_err(|error| format!("invalid regular expression {pattern:?}: {error}"))
}

/// The pattern as Rust's crate has to read it to mean what RE2 means.
fn as_re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let mut eaten = c.len_utf8();
        match c {
            '\\' => {
                let escaped = after.chars().next();
                eaten += escaped.map_or(0, char::len_utf8);
                match (escaped, in_class) {
                    (Some('d'), _) => out.push_str("[0-9]"),
                    (Some('D'), _) => out.push_str("[^0-9]"),
                    (Some('w'), _) => out.push_str("[0-9A-Za-z_]"),
                    (Some('W'), _) => out.push_str("[^0-9A-Za-z_]"),
                    (Some('s'), _) => out.push_str("[\\t\\n\\f\\r ]"),
                    (Some('S'), _) => out.push_str("[^\\t\\n\\f\\r ]"),
                    (Some(b @ ('b' | 'B')), false) => out.extend(["(?-u:\\", if b == 'b' { "b" } else { "B" }, ")"]),
                    _ => out.push_str(&rest[..eaten]),
                }
            }
            '[' if in_class => match after.strip_prefix(':').and_then(|inside| inside.find(":]")) {
                Some(length) => {
                    eaten = 1 + 1 + length + 2;
                    out.push_str(&rest[..eaten]);
                }
                None => out.push_str("\\["),
            },
            '[' => {
                in_class = true;
                out.push(c);
                // A bracket that closes at once is a character.
                let negated = after.starts_with('^');
                if negated {
                    out.push('^');
                    eaten += 1;
                }
                if after[usize::from(negated)..].starts_with(']') {
                    out.push_str("\\]");
                    eaten += 1;
                }
            }
            ']' => {
                in_class = false;
                out.push(c);
            }
            // Set operations of Rust's crate; characters in RE2.
            '&' | '~' if in_class => out.extend(['\\', c]),
            '{' if !in_class && !is_repetition(after) => out.push_str("\\{"),
            _ => out.push(c),
        }
        rest = &rest[eaten..];
    }
    out
}

/// Whether what stands after a brace makes it a repetition: `3}`, `3,}`, `3,5}`.
fn is_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let (from, to) = inside.split_once(',').unwrap_or((inside, "0"));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !from.is_empty() && digits(from) && digits(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_value_as_re2_does() {
        for (pattern, value, matches) in [
            ("web-.*", "web-1", true),
            ("web", "web-1", false),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            (".*", "two\nlines", true),
            ("\\d+", "12", true),
            ("\\d+", "١٢", false),
            ("\\w", "é", false),
            ("[\\d.]+", "1.2", true),
            ("a{b}c", "a{b}c", true),
            ("a{2}", "aa", true),
            ("[]a]+", "a]", true),
            ("[^]a]+", "b", true),
            ("[a&&b]+", "&a", true),
            ("[[:alpha:]]+", "abc", true),
            ("[[]", "[", true),
            ("[a:]b", ":b", true),
            ("(?i)ABC", "abc", true),
            ("\\bx\\b", "x", true),
            ("", "", true),
        ] {
            assert_eq!(whole(pattern).unwrap().is_match(value), matches, "{pattern} on {value:?}");
        }
    }

    #[test]
    fn a_pattern_of_plain_values_is_those_values() {
        let values = |test| Matcher { label: NAME.to_owned(), test }.values().map(|all| all.join(" "));
        let of = |pattern: &str| values(Test::Matches(whole(pattern).unwrap()));
        assert_eq!(of("node_load1|up:mean").as_deref(), Some("node_load1 up:mean"));
        assert_eq!((of("a|").as_deref(), of("").as_deref()), (Some("a "), Some("")));
        for other in ["a.b", "(a|b)", "a|b*", "\\d", "a-b"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(values(Test::Is("a-b".to_owned())).as_deref(), Some("a-b"));
        assert_eq!((values(Test::IsNot("a".to_owned())), values(Test::MatchesNot(whole("a").unwrap()))), (None, None));
    }

    #[test]
    fn patterns_that_are_kept_are_bounded_and_stay_what_they_were() {
        for round in 0..2 {
            for n in 0..2 * KEPT_MAX {
                let pattern = whole(&format!("kept-{n}|a{{{n}}}")).unwrap();
                assert!(pattern.is_match(&format!("kept-{n}")) && pattern.is_match(&"a".repeat(n)), "{round}: {n}");
                assert!(!pattern.is_match(&"a".repeat(n + 1)));
                assert!(KEPT.lock().unwrap().len() <= KEPT_MAX);
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["(", "a)|(b", "[", "*", "(?=a)", "((a{100}){100}){100}", "\\"] {
            assert!(whole(pattern).is_err(), "{pattern}");
        }
    }
}
