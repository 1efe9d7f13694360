//! Globs on unit and file names: `*` is any run of bytes, `?` is any one byte, all else is itself.
//!
//! There is no escape and no character class: unit names contain backslashes (`home-a\x2db.mount`) and nobody has missed
//! the rest. Matching takes time in proportion to pattern and text, whatever the pattern.

use std::fmt;

/// A glob. Never empty: an empty selection is an error where it is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

impl Glob {
    /// Takes a pattern; `None` if it is empty.
    #[must_use]
    pub fn new(pattern: &str) -> Option<Self> {
        (!pattern.is_empty()).then(|| Self(pattern.to_owned()))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches whatever it is held against.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether it matches this text as a whole.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut p, mut t) = (0, 0);
        // Where the last star stood, and up to where it has swallowed the text.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((at, swallowed)) = star else { return false };
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    t = swallowed + 1;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn matches_whole_names() {
        let cases = [
            ("nginx.service", "nginx.service", true),
            ("nginx.service", "nginx.service2", false),
            ("app@*.service", "app@7.service", true),
            ("app@*.service", "app@.service", true),
            ("app@*.service", "app.service", false),
            ("*", "anything at all", true),
            ("*", "", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            (r"home-a\x2db.mount", r"home-a\x2db.mount", true),
            ("/var*", "/var/log", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
        }
        assert_eq!(Glob::new(""), None);
        assert!(Glob::new("**").unwrap().matches_everything());
        assert!(!Glob::new("*.service").unwrap().matches_everything());
    }

    /// The plain definition, exponential but obviously right.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => defined(&pattern[1..], text) || (!text.is_empty() && defined(pattern, &text[1..])),
            (Some(b'?'), Some(_)) => defined(&pattern[1..], &text[1..]),
            (Some(p), Some(t)) if p == t => defined(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_its_definition(pattern in "[ab*?]{1,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), defined(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
