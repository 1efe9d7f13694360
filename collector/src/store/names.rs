//! Names and values of labels of all stored schemas, for questions that ask for everything.
//!
//! In: schemas as they are stored, each family of them once. Out: every metric with its kind, and every label with its values,
//! sorted. Kept in memory, a value of a label once whoever has it, and made anew when schemas go, which is once a day at most.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use foldhash::fast::RandomState;

use super::schema::Schema;

/// All there is.
#[derive(Debug, Default)]
pub struct AllNames {
    seen: HashSet<[u8; 16], RandomState>,
    labels: BTreeMap<String, BTreeSet<String>>,
    metrics: BTreeMap<String, bool>,
}

impl AllNames {
    pub(super) fn add(&mut self, schema: &Schema) {
        for family in schema.families() {
            if !self.seen.insert(family.id) {
                continue;
            }
            let places = family.places();
            let name = &schema.keys[places.start].name;
            self.metrics.insert(name.clone(), schema.gauge[places.start]);
            let keys = schema.keys[places].iter();
            keys.flat_map(|key| &key.labels).for_each(|(label, value)| see(&mut self.labels, label, value));
        }
    }

    /// Every metric, and whether it is a gauge; otherwise it is a counter.
    #[must_use]
    pub fn metrics(&self) -> &BTreeMap<String, bool> {
        &self.metrics
    }

    /// Every label.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.keys().map(String::as_str)
    }

    /// The values of a label, sorted.
    pub fn values(&self, label: &str) -> impl Iterator<Item = &str> {
        self.labels.get(label).into_iter().flatten().map(String::as_str)
    }
}

fn see(labels: &mut BTreeMap<String, BTreeSet<String>>, label: &str, value: &str) {
    // Mostly both are known.
    match labels.get_mut(label) {
        Some(values) if values.contains(value) => {}
        Some(values) => {
            values.insert(value.to_owned());
        }
        None => {
            labels.insert(label.to_owned(), BTreeSet::from([value.to_owned()]));
        }
    }
}
