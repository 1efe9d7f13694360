//! A selector, asked of schemas: which of their series are meant, worked out once for all hosts that share them.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::series::SeriesKey;
use mainstay_promql::{Label, Labels, Matcher, NAME, Test};

use super::hosts::Host;
use crate::store::schema::Schema;

/// A series of a schema that may be meant, if its host is.
pub(super) struct Candidate {
    /// Its place in the schema.
    pub(super) at: usize,
    pub(super) gauge: bool,
    /// Its place among all series of the question.
    pub(super) slot: usize,
    /// Matchers that its own labels do not decide.
    open: Vec<usize>,
}

impl Candidate {
    pub(super) fn is_of(&self, holds: &[bool]) -> bool {
        self.open.iter().all(|matcher| holds[*matcher])
    }
}

/// The matchers of a selector, and which series of which schema they mean.
pub(super) struct Question<'q> {
    names: Vec<Matcher>,
    rest: Vec<&'q Matcher>,
    /// What of a gauge is asked for.
    pub(super) suffix: &'q str,
    schemas: BTreeMap<[u8; 16], Arc<Vec<Candidate>>>,
    slots: BTreeMap<Arc<SeriesKey>, usize>,
    /// By slot: the labels that a series has by itself.
    keys: Vec<Vec<Label>>,
}

impl<'q> Question<'q> {
    pub(super) fn of(matchers: &'q [Matcher]) -> Self {
        let (names, rest): (Vec<_>, Vec<_>) = matchers.iter().partition(|matcher| matcher.label == NAME);
        let mut suffix = "";
        let names = names.into_iter().map(|matcher| match &matcher.test {
            Test::Is(name) => match name.rsplit_once(':') {
                Some((base, of @ ("min" | "max" | "mean"))) => {
                    suffix = of;
                    Matcher::is(NAME, base)
                }
                _ => matcher.clone(),
            },
            _ => matcher.clone(),
        });
        let names = names.collect();
        Self { names, rest, suffix, schemas: BTreeMap::new(), slots: BTreeMap::new(), keys: Vec::new() }
    }

    /// Which matchers hold by a host's labels.
    pub(super) fn holds(&self, host: &Host) -> Vec<bool> {
        self.rest.iter().map(|matcher| matcher.holds(host.label(&matcher.label))).collect()
    }

    /// The series of a schema that may be meant; worked out once for all hosts that share it.
    pub(super) fn candidates(&mut self, schema: &Schema) -> Arc<Vec<Candidate>> {
        if let Some(known) = self.schemas.get(&schema.id) {
            return known.clone();
        }
        let mut candidates = Vec::new();
        for (at, (key, gauge)) in schema.keys.iter().zip(&schema.gauge).enumerate() {
            let own = |label: &str| key.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str());
            let mut open = Vec::new();
            let refused = self.rest.iter().enumerate().any(|(n, matcher)| match own(&matcher.label) {
                Some(value) => !matcher.holds(value),
                None => {
                    open.push(n);
                    false
                }
            });
            let wanted = !refused && self.names.iter().all(|matcher| matcher.holds(&key.name));
            if !wanted || (!gauge && !self.suffix.is_empty()) {
                continue;
            }
            let slot = *self.slots.entry(key.clone()).or_insert_with(|| {
                let name =
                    if self.suffix.is_empty() { key.name.clone() } else { format!("{}:{}", key.name, self.suffix) };
                let labels =
                    key.labels.iter().map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())));
                self.keys.push(labels.chain([(Arc::from(NAME), Arc::from(name))]).collect());
                self.keys.len() - 1
            });
            candidates.push(Candidate { at, gauge: *gauge, slot, open });
        }
        let candidates = Arc::new(candidates);
        self.schemas.insert(schema.id, candidates.clone());
        candidates
    }

    /// How many series there are in all schemas that were asked.
    pub(super) fn slots(&self) -> usize {
        self.keys.len()
    }

    /// The labels of a series on a host: the host's, and its own, which win.
    pub(super) fn labels(&self, slot: usize, host: &Host) -> Labels {
        Labels::of(host.labels().chain(&self.keys[slot]).cloned())
    }
}
