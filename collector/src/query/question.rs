//! A selector, asked of schemas: which of their series are meant, worked out once for all hosts that share them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mainstay_core::series::SeriesKey;
use mainstay_fleet::block::Which;
use mainstay_promql::{Label, Labels, Matcher, NAME, Test};

use super::hosts::Host;
use crate::store::schema::{Family, Named, Schema};
use crate::store::series::which;

/// By the id of a schema or a family.
type ById<T> = HashMap<[u8; 16], T, foldhash::fast::RandomState>;

/// A series of a schema that may be meant, if its host is.
#[derive(Clone)]
pub(super) struct Candidate {
    /// Its place in the schema, or in its family.
    pub(super) at: usize,
    /// What of it is asked for.
    pub(super) which: Which,
    /// Its place among all series of the question.
    pub(super) slot: usize,
    /// Matchers that its own labels do not decide.
    open: Arc<[usize]>,
}

impl Candidate {
    pub(super) fn open(&self) -> &[usize] {
        &self.open
    }

    pub(super) fn is_of(&self, holds: &[bool]) -> bool {
        self.open.iter().all(|matcher| holds[*matcher])
    }
}

/// Whether a schema has a series of its own under the name that a gauge's least, greatest or mean would be told by.
fn is_itself(schema: &Schema, key: &SeriesKey, suffix: &str) -> bool {
    !suffix.is_empty() && {
        let name = format!("{}:{suffix}", key.name);
        let labels = &key.labels;
        schema.keys.binary_search_by(|known| known.name.cmp(&name).then_with(|| known.labels.cmp(labels))).is_ok()
    }
}

/// The matchers of a selector, and which series of which schema they mean.
pub(super) struct Question<'q> {
    names: Vec<&'q Matcher>,
    /// A name that ends with what of a gauge is asked for, without that, and that.
    of_gauge: Option<(&'q str, &'q str)>,
    rest: Vec<&'q Matcher>,
    /// By matcher of the rest: what its pattern said of values.
    held: Vec<HashMap<String, bool>>,
    /// The names that a series may have, if they are given outright, and among them what one is without what of a gauge is asked
    /// for.
    exact: Option<Arc<[Named<'q>]>>,
    schemas: ById<Arc<Vec<Candidate>>>,
    /// By family: its place among those that have any that may be meant.
    families: ById<Option<usize>>,
    meant: Vec<Vec<Candidate>>,
    /// What candidates leave open, each once.
    open: HashSet<Arc<[usize]>>,
    slots: BTreeMap<(Arc<SeriesKey>, &'q str), usize>,
    /// By slot: the labels that a series has by itself, and what of a gauge is asked for.
    keys: Vec<(Vec<Label>, &'q str)>,
}

impl<'q> Question<'q> {
    pub(super) fn of(matchers: &'q [Matcher]) -> Self {
        let (names, rest): (Vec<_>, Vec<_>) = matchers.iter().partition(|matcher| matcher.label == NAME);
        let of_gauge = names.iter().find_map(|matcher| match &matcher.test {
            Test::Is(name) => name.rsplit_once(':').filter(|(_, of)| matches!(*of, "min" | "max" | "mean")),
            _ => None,
        });
        let held = vec![HashMap::new(); rest.len()];
        let exact = names.iter().find_map(|matcher| matcher.values());
        let base = of_gauge.map(|(base, _)| base);
        let exact = exact.map(|names| base.into_iter().chain(names).map(Named::new).collect());
        Self {
            names,
            of_gauge,
            rest,
            held,
            exact,
            schemas: ById::default(),
            families: ById::default(),
            meant: Vec::new(),
            open: HashSet::new(),
            slots: BTreeMap::new(),
            keys: Vec::new(),
        }
    }

    /// What of a series of a schema is asked for, by its name alone: what the name means, or, where it ends so, the least,
    /// greatest or mean of a gauge. What others have written may have such a name itself.
    fn suffix(&self, name: &str, gauge: bool) -> Option<&'q str> {
        let holds = |name: &str| self.names.iter().all(|matcher| matcher.holds(name));
        if holds(name) {
            return Some("");
        }
        let (base, of) = self.of_gauge.filter(|(base, _)| gauge && *base == name)?;
        holds(&format!("{base}:{of}")).then_some(of)
    }

    /// The matchers that are not of the name.
    pub(super) fn rest(&self) -> impl Iterator<Item = &'q Matcher> {
        self.rest.iter().copied()
    }

    /// Whether a matcher of the rest holds for a value; a pattern is asked once for each.
    fn holds_for(&mut self, n: usize, value: &str) -> bool {
        let matcher = self.rest[n];
        if let Test::Is(_) | Test::IsNot(_) = matcher.test {
            return matcher.holds(value);
        }
        if let Some(known) = self.held[n].get(value) {
            return *known;
        }
        let holds = matcher.holds(value);
        self.held[n].insert(value.to_owned(), holds);
        holds
    }

    /// The families of a schema that may have the name, in their order.
    fn families_of<'s>(&self, schema: &'s Schema) -> impl Iterator<Item = &'s Family> + use<'s, 'q>
    where
        'q: 's,
    {
        let exact = self.exact.clone();
        let may_be = move |family: &&Family| {
            exact.as_deref().is_none_or(|names| names.iter().any(|name| schema.is_named(family, name)))
        };
        schema.families().iter().filter(may_be)
    }

    /// Which matchers hold by a host's labels.
    pub(super) fn holds(&self, host: &Host) -> Vec<bool> {
        self.rest.iter().map(|matcher| matcher.holds(host.label(&matcher.label))).collect()
    }

    /// The series of a schema that may be meant; worked out once for all hosts that share it, and of a family once for all
    /// schemas.
    pub(super) fn candidates(&mut self, schema: &Schema) -> Arc<Vec<Candidate>> {
        if let Some(known) = self.schemas.get(&schema.id) {
            return known.clone();
        }
        let mut candidates = Vec::new();
        for family in self.families_of(schema) {
            let Some(meant) = self.of_family(schema, family) else { continue };
            for candidate in &self.meant[meant] {
                let at = family.places().start + candidate.at;
                if !is_itself(schema, &schema.keys[at], self.suffix_of(candidate.slot)) {
                    candidates.push(Candidate { at, ..candidate.clone() });
                }
            }
        }
        let candidates = Arc::new(candidates);
        self.schemas.insert(schema.id, candidates.clone());
        candidates
    }

    /// Sees each family of a schema of which any may be meant, by its place among those of the question; `false` where families
    /// do not decide it: what of a gauge is asked for may be a series by itself there.
    pub(super) fn each_meant(&mut self, schema: &Schema, see: impl FnMut(usize)) -> bool {
        if self.of_gauge.is_some() {
            return false;
        }
        self.families_of(schema).filter_map(|family| self.of_family(schema, family)).for_each(see);
        true
    }

    /// The series of a family that may be meant, by their places in it.
    pub(super) fn meant(&self, family: usize) -> &[Candidate] {
        &self.meant[family]
    }

    fn of_family(&mut self, schema: &Schema, family: &Family) -> Option<usize> {
        if let Some(known) = self.families.get(&family.id) {
            return *known;
        }
        let candidates = self.ask(schema, family);
        let place = (!candidates.is_empty()).then(|| {
            self.meant.push(candidates);
            self.meant.len() - 1
        });
        self.families.insert(family.id, place);
        place
    }

    fn ask(&mut self, schema: &Schema, family: &Family) -> Vec<Candidate> {
        let places = family.places();
        let gauge = schema.gauge[places.start];
        let asked = self.suffix(&schema.keys[places.start].name, gauge);
        let asked = asked.and_then(|suffix| Some((suffix, which(suffix, gauge)?)));
        let Some((suffix, which)) = asked else { return Vec::new() };
        let mut candidates = Vec::new();
        for (at, key) in schema.keys[places].iter().enumerate() {
            let own = |label: &str| key.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str());
            let mut open = Vec::new();
            let is_refused = (0..self.rest.len()).any(|n| match own(&self.rest[n].label) {
                Some(value) => !self.holds_for(n, value),
                None => {
                    open.push(n);
                    false
                }
            });
            if is_refused {
                continue;
            }
            let slot = *self.slots.entry((key.clone(), suffix)).or_insert_with(|| {
                let name = if suffix.is_empty() { key.name.clone() } else { format!("{}:{suffix}", key.name) };
                let labels =
                    key.labels.iter().map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())));
                self.keys.push((labels.chain([(Arc::from(NAME), Arc::from(name))]).collect(), suffix));
                self.keys.len() - 1
            });
            let open = match self.open.get(&open[..]) {
                Some(known) => known.clone(),
                None => {
                    let open: Arc<[usize]> = open.into();
                    self.open.insert(open.clone());
                    open
                }
            };
            candidates.push(Candidate { at, which, slot, open });
        }
        candidates
    }

    /// The labels of a series on a host, or only some of them: the host's, and its own, which win.
    pub(super) fn labels(&self, slot: usize, host: &Host, only: Option<&[Arc<str>]>) -> Labels {
        let is_wanted = |name: &Arc<str>| only.is_none_or(|only| only.contains(name));
        Labels::of(host.labels().chain(&self.keys[slot].0).filter(|(name, _)| is_wanted(name)).cloned())
    }

    /// The labels that a series has by itself.
    pub(super) fn own(&self, slot: usize) -> &[Label] {
        &self.keys[slot].0
    }

    /// What a series has under a label by itself.
    pub(super) fn own_value(&self, slot: usize, label: &str) -> Option<&str> {
        self.own(slot).iter().rev().find(|(name, _)| &**name == label).map(|(_, value)| &**value)
    }

    /// What of the gauge in a slot is asked for.
    pub(super) fn suffix_of(&self, slot: usize) -> &'q str {
        self.keys[slot].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_many_schemas_have_is_asked_once() {
        let key = |name: &str, unit: &str| (Arc::new(SeriesKey::new(name, &[("unit", unit)])), true);
        let of_host = |host: u32| {
            Schema::of(&[key("other", "nginx"), key("shared", "nginx"), key("tasks", &host.to_string())].into())
        };
        let matchers = mainstay_promql::parse_selector("{__name__=~\"shared|tasks\",unit!=\"7\",rack=\"r1\"}").unwrap();
        let mut question = Question::of(&matchers);
        let slots = |meant: &[Candidate]| meant.iter().map(|of| (of.at, of.slot, of.open.to_vec())).collect::<Vec<_>>();
        assert_eq!(slots(&question.candidates(&of_host(5))), [(1, 0, vec![1]), (2, 1, vec![1])]);
        assert_eq!(slots(&question.candidates(&of_host(6))), [(1, 0, vec![1]), (2, 2, vec![1])]);
        assert_eq!(slots(&question.candidates(&of_host(7))), [(1, 0, vec![1])]);
        assert_eq!(
            (question.families.len(), question.meant.len()),
            (4, 3),
            "one that is shared, and one of each host; names that are given out are not asked for"
        );
    }
}
