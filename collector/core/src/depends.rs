//! Declared dependencies: which host or unit needs which other (`[[depends]]` in policy).
//!
//! In: pairs of patterns. Out: whether one finding lies on what another needs. Patterns never
//! match nothing by accident: an empty pattern is refused where it is read, not here.

use std::collections::BTreeMap;

use mainstay_core::subject::Subject;

use crate::correlate::{DEPENDS_WINDOW_MS, Symptom};

/// One end of a dependency. What is `None` or empty matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Glob on the host name (`db-*`).
    pub host: Option<String>,
    /// Glob on the unit (`postgresql*.service`).
    pub unit: Option<String>,
    /// Labels that the host has to have.
    pub labels: BTreeMap<String, String>,
}

impl Endpoint {
    /// Whether a finding is on this end. A finding about a whole host or its disks is on every unit
    /// of that host.
    #[must_use]
    pub fn holds(&self, symptom: &Symptom) -> bool {
        let host = self.host.as_deref().is_none_or(|glob| matches(glob, &symptom.hostname));
        let labels = self.labels.iter().all(|(name, value)| symptom.labels.get(name) == Some(value));
        let unit = match (&self.unit, &symptom.subject) {
            (Some(glob), Subject::Unit(unit)) => matches(glob, unit.as_str()),
            _ => true,
        };
        host && labels && unit
    }
}

/// One `[[depends]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dependency {
    /// What needs.
    pub of: Endpoint,
    /// What is needed.
    pub on: Endpoint,
}

/// All that is declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depends {
    /// In the order of the policy.
    pub list: Vec<Dependency>,
}

impl Depends {
    /// Whether `above` needs what `below` is about.
    #[must_use]
    pub fn needs(&self, above: &Symptom, below: &Symptom) -> bool {
        above.id != below.id && self.list.iter().any(|d| d.of.holds(above) && d.on.holds(below) && !d.on.holds(above))
    }

    /// Why two findings hang together, if a dependency says so and they are near in time.
    #[must_use]
    pub fn between(&self, a: &Symptom, b: &Symptom) -> Option<String> {
        if a.opened_ms.abs_diff(b.opened_ms).cast_signed() > DEPENDS_WINDOW_MS {
            return None;
        }
        let said = |above: &Symptom, below: &Symptom| format!("{} depends on {}", place(above), place(below));
        if self.needs(a, b) {
            return Some(said(a, b));
        }
        self.needs(b, a).then(|| said(b, a))
    }
}

fn place(symptom: &Symptom) -> String {
    match &symptom.subject {
        Subject::Unit(unit) => format!("{unit} on {}", symptom.hostname),
        _ => symptom.hostname.clone(),
    }
}

/// A glob with `*` and `?`, over the whole text. Linear in both: it goes back to the last star only.
#[must_use]
pub fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    g = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_the_whole_text() {
        for (glob, text, expected) in [
            ("db-*", "db-1", true),
            ("db-*", "web-db-1", false),
            ("*.service", "nginx.service", true),
            ("app@?.service", "app@7.service", true),
            ("app@?.service", "app@77.service", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }
}
