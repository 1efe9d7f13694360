//! Selecting hosts by their labels, and parts of the fleet by label, host name and unit.

use std::collections::BTreeMap;
use std::fmt;

use super::Glob;

/// Labels of a host: `role = "web"`.
pub type Labels = BTreeMap<String, String>;

/// Labels that must all be there with these values; a value may be a glob. Empty: every host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(pub BTreeMap<String, Glob>);

impl Selector {
    /// Whether a host with these labels is selected. A label that is not there is never matched, not even by `*`.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, glob)| labels.get(key).is_some_and(|value| glob.matches(value.as_bytes())))
    }

    /// Whether every host is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("every host");
        }
        for (at, (key, glob)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={glob}")?;
        }
        Ok(())
    }
}

/// A part of the fleet: hosts by label and name, and a unit on them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Hosts by label.
    pub labels: Selector,
    /// Hosts by name.
    pub host: Option<Glob>,
    /// Units by name; `None` is the host as a whole.
    pub unit: Option<Glob>,
}

impl Target {
    /// Whether a host is in this part of the fleet.
    #[must_use]
    pub fn has_host(&self, hostname: &str, labels: &Labels) -> bool {
        self.labels.matches(labels) && self.host.as_ref().is_none_or(|glob| glob.matches(hostname.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(pairs: &[(&str, &str)]) -> Selector {
        Selector(pairs.iter().map(|(key, glob)| ((*key).to_owned(), Glob::new(glob).unwrap())).collect())
    }

    #[test]
    fn selects_by_all_labels() {
        let web = labels(&[("role", "web"), ("zone", "eu-1a")]);
        assert!(Selector::default().matches(&web));
        assert!(selector(&[("role", "web")]).matches(&web));
        assert!(selector(&[("role", "web"), ("zone", "eu-*")]).matches(&web));
        assert!(!selector(&[("role", "web"), ("zone", "us-*")]).matches(&web));
        assert!(!selector(&[("rack", "*")]).matches(&web));
        assert_eq!(selector(&[("role", "web"), ("zone", "eu-*")]).to_string(), "role=web,zone=eu-*");
    }

    #[test]
    fn a_target_needs_both_name_and_labels() {
        let target = Target { labels: selector(&[("role", "db")]), host: Glob::new("db-?"), unit: None };
        assert!(target.has_host("db-1", &labels(&[("role", "db")])));
        assert!(!target.has_host("db-10", &labels(&[("role", "db")])));
        assert!(!target.has_host("db-1", &labels(&[("role", "web")])));
    }
}
