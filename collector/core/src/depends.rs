//! Declared dependencies: which host or unit needs which other (`[[depends]]` in policy).
//!
//! In: what policy declares. Out: whether one finding lies on what another needs.

use std::collections::BTreeSet;

use mainstay_core::policy::{Depends as Declared, Target};
use mainstay_core::subject::Subject;

use crate::correlate::{DEPENDS_WINDOW_MS, Symptom};

/// All that is declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depends {
    /// In the order of the policy.
    pub list: Vec<Declared>,
}

/// Whether a finding is on this part of the fleet. One about a whole host or its disks is on every
/// unit of that host.
fn is_on(target: &Target, symptom: &Symptom) -> bool {
    let unit = match (&target.unit, &symptom.subject) {
        (Some(glob), Subject::Unit(unit)) => glob.matches(unit.as_str().as_bytes()),
        _ => true,
    };
    unit && target.has_host(&symptom.hostname, &symptom.labels)
}

impl Depends {
    /// Whether `above` needs what `below` is about.
    #[must_use]
    pub fn needs(&self, above: &Symptom, below: &Symptom) -> bool {
        let declares = |d: &Declared| is_on(&d.from, above) && is_on(&d.on, below) && !is_on(&d.on, above);
        above.id != below.id && self.list.iter().any(declares)
    }

    /// By how many of the others each finding is needed: each dependency is held against each finding once, not against each pair.
    #[must_use]
    pub fn needed(&self, symptoms: &[&Symptom]) -> Vec<usize> {
        let mut by = vec![BTreeSet::new(); symptoms.len()];
        for declared in &self.list {
            let (mut below, mut above) = (Vec::new(), Vec::new());
            for (at, symptom) in symptoms.iter().enumerate() {
                if is_on(&declared.on, symptom) {
                    below.push(at);
                } else if is_on(&declared.from, symptom) {
                    above.push(at);
                }
            }
            below.into_iter().for_each(|at| by[at].extend(above.iter().copied()));
        }
        by.into_iter().map(|above| above.len()).collect()
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
