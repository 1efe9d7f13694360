//! Labels of a series: names and values in the order of their names, shared and never changed.
//!
//! A label that is empty is a label that is not there, so none is ever kept.

use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";

/// A name with its value.
pub type Label = (Arc<str>, Arc<str>);

/// The labels of one series, ordered by name; copies share them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// No labels.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Labels in whatever order they come; of one name the last counts, and empty ones are left out.
    #[must_use]
    pub fn of(labels: impl IntoIterator<Item = Label>) -> Self {
        let mut all: Vec<Label> = labels.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        all.retain(|(_, value)| !value.is_empty());
        Self(all.into())
    }

    /// Labels out of text.
    #[must_use]
    pub fn from_text(labels: &[(&str, &str)]) -> Self {
        Self::of(labels.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    /// The value of a label; empty if it is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| &**known == name).map_or("", |(_, value)| value)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Those whose name passes.
    #[must_use]
    pub fn filter(&self, keeps: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keeps(name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(name, _)| keeps(name)).cloned().collect())
    }

    /// All but the metric's name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        self.filter(|name| name != NAME)
    }

    /// With one label set to another value; an empty value takes it away.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let set = (!value.is_empty()).then(|| (Arc::from(name), Arc::from(value)));
        Self::of(self.0.iter().filter(|(known, _)| &**known != name).cloned().chain(set))
    }
}

impl fmt::Display for Labels {
    /// As it is written in a query: `up{host="a"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get(NAME))?;
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().filter(|(name, _)| *name != NAME).enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which labels make up a group: those named, or all but those named and the metric's name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Grouping {
    /// `by`, `on`
    By(Vec<Arc<str>>),
    /// `without`, `ignoring`
    Without(Vec<Arc<str>>),
}

impl Grouping {
    /// The labels that all of a group have in common.
    pub(crate) fn key(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) => labels.filter(|name| names.iter().any(|n| &**n == name)),
            Self::Without(names) => labels.filter(|name| name != NAME && !names.iter().any(|n| &**n == name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_ordered_and_empty_ones_are_not_there() {
        let labels = Labels::from_text(&[("z", "1"), (NAME, "up"), ("a", ""), ("b", "x"), ("b", "y")]);
        assert_eq!(labels.to_string(), r#"up{b="y", z="1"}"#);
        assert_eq!(labels.get("a"), "");
        assert_eq!(labels.with("z", "").with("a", "0").to_string(), r#"up{a="0", b="y"}"#);
        assert_eq!(labels.without_name().to_string(), r#"{b="y", z="1"}"#);
    }

    #[test]
    fn a_group_is_what_is_named_or_the_rest() {
        let labels = Labels::from_text(&[(NAME, "up"), ("a", "1"), ("b", "2")]);
        assert_eq!(Grouping::By(vec!["a".into(), "c".into()]).key(&labels).to_string(), r#"{a="1"}"#);
        assert_eq!(Grouping::Without(vec!["a".into()]).key(&labels).to_string(), r#"{b="2"}"#);
        assert_eq!(Grouping::By(vec![]).key(&labels), Labels::none());
    }
}
