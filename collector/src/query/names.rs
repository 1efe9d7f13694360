//! What there is to ask: series, label names and values, and what kind each metric is of.
//!
//! Without a selector the answer comes from the schemas and the hosts alone, whatever the range: the
//! names of a fleet are a few schemas, however many hosts share them. With one, it is worked out for all hosts together who
//! has which series (`choice.rs`), and labels are told of groups of hosts that are alike.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mainstay_fleet::presence::HostSet;
use mainstay_promql::{EvalError, Labels, Matcher, NAME, Wanted};

use super::Stop;
use super::choice::Group;
use super::fleet::{Fleet, Seen};
use super::question::Question;
use crate::hub::Hub;
use crate::store::names::AllNames;

/// What is asked of the series' labels.
#[derive(Debug)]
pub struct Names {
    /// Any of the selectors has to fit; none means everything.
    pub selectors: Vec<Vec<Matcher>>,
    /// Between these moments.
    pub span: (i64, i64),
    /// Most that are answered.
    pub limit: usize,
}

/// What there is, and of whom.
#[derive(Debug)]
pub struct Told<T> {
    /// Sorted, each once.
    pub all: Vec<T>,
    /// Whether there is more, beyond what is answered.
    pub is_cut: bool,
    /// Of how many hosts it is told: those that have any of the series, without a selector all that are not over.
    pub hosts: usize,
    /// How complete it is. Of what rows cover nothing is known, as none are read.
    pub seen: Seen,
}

impl<T> Told<T> {
    /// The first of these.
    fn first(all: impl Iterator<Item = T>, limit: usize, fleet: &Fleet<'_>, hosts: usize) -> Self {
        let mut all: Vec<T> = all.take(limit.saturating_add(1)).collect();
        let is_cut = all.len() > limit;
        all.truncate(limit);
        Self { all, is_cut, hosts, seen: fleet.seen() }
    }
}

/// The labels of all series that a selector means.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn series(hub: &Hub, names: &Names, stop: &Stop) -> Result<Told<Labels>, EvalError> {
    let fleet = Fleet::of(hub, stop);
    let mut found = BTreeSet::new();
    let hosts = each(&fleet, names, |question, group| {
        for host in group.hosts.iter().filter_map(|short| fleet.host(short)) {
            found.extend(group.slots.iter().map(|slot| question.labels(*slot, host, None)));
        }
    })?;
    Ok(Told::first(found.into_iter(), names.limit, &fleet, hosts))
}

/// The names of all labels.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn labels(hub: &Hub, names: &Names, stop: &Stop) -> Result<Told<String>, EvalError> {
    let fleet = Fleet::of(hub, stop);
    if names.selectors.is_empty() {
        let hosts = everybody(&fleet, names);
        return all(hub, |all| {
            let of_hosts = fleet.roster().labels().map(|(name, _)| name);
            first_of(of_hosts.chain(all.labels()).chain([NAME]), names.limit, &fleet, hosts)
        });
    }
    let mut found: BTreeSet<String> = BTreeSet::new();
    // Of each label that hosts may have: whose own value is that of a series which has none itself.
    let of_hosts: Vec<&str> = fleet.roster().labels().map(|(name, _)| name).collect();
    let mut lacking = vec![HostSet::default(); of_hosts.len()];
    let hosts = each(&fleet, names, |question, group| {
        let own = group.slots.iter().flat_map(|slot| question.own(*slot)).filter(|(_, value)| !value.is_empty());
        found.extend(own.map(|(name, _)| name.to_string()));
        for (name, lacking) in of_hosts.iter().zip(&mut lacking) {
            if group.slots.iter().any(|slot| question.own_value(*slot, name).is_none()) {
                lacking.add(&group.hosts);
            }
        }
    })?;
    for ((name, values), lacking) in fleet.roster().labels().zip(&lacking) {
        let is_had = |hosts: &[u32]| hosts.iter().any(|host| lacking.contains(*host));
        if values.iter().any(|(value, hosts)| !value.is_empty() && is_had(hosts)) {
            found.insert(name.to_owned());
        }
    }
    Ok(Told::first(found.into_iter(), names.limit, &fleet, hosts))
}

/// The values of one label.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn values(hub: &Hub, label: &str, names: &Names, stop: &Stop) -> Result<Told<String>, EvalError> {
    let fleet = Fleet::of(hub, stop);
    if names.selectors.is_empty() {
        let hosts = everybody(&fleet, names);
        return all(hub, |all| {
            let of_hosts = fleet.roster().values(label).map(|(value, _)| value);
            match label {
                NAME => first_of(of_hosts.chain(all.metrics().keys().map(String::as_str)), names.limit, &fleet, hosts),
                _ => first_of(of_hosts.chain(all.values(label)), names.limit, &fleet, hosts),
            }
        });
    }
    let mut found: HashSet<String> = HashSet::new();
    let mut see = |value: &str| {
        if !found.contains(value) {
            found.insert(value.to_owned());
        }
    };
    // Whose own value is that of a series which has none itself.
    let mut lacking = HostSet::default();
    let hosts = each(&fleet, names, |question, group| {
        let mut is_lacking = false;
        for slot in &group.slots {
            match question.own_value(*slot, label) {
                Some(value) => see(value),
                None => is_lacking = true,
            }
        }
        if is_lacking {
            lacking.add(&group.hosts);
        }
    })?;
    let of_hosts = fleet.roster().values(label);
    of_hosts.filter(|(_, hosts)| hosts.iter().any(|host| lacking.contains(*host))).for_each(|(value, _)| see(value));
    Ok(first_of(found.iter().map(String::as_str), names.limit, &fleet, hosts))
}

/// Of each metric, whether it is a gauge; otherwise it is a counter.
///
/// # Errors
/// If the store cannot be read.
pub fn metrics(hub: &Hub) -> Result<BTreeMap<String, bool>, EvalError> {
    all(hub, |all| all.metrics().clone())
}

fn all<T>(hub: &Hub, look: impl FnOnce(&AllNames) -> T) -> Result<T, EvalError> {
    hub.store.all_names(look).map_err(|error| EvalError::Source(error.to_string()))
}

/// The first of these, sorted, each once and none that is empty.
fn first_of<'t>(texts: impl Iterator<Item = &'t str>, limit: usize, fleet: &Fleet<'_>, hosts: usize) -> Told<String> {
    let mut texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    // Mostly runs that are sorted, which this is quick with.
    texts.sort();
    texts.dedup();
    Told::first(texts.into_iter().map(str::to_owned), limit, fleet, hosts)
}

/// How many hosts there are. Notes who of them is not there.
fn everybody(fleet: &Fleet<'_>, names: &Names) -> usize {
    let (from_ms, _) = names.span;
    fleet.note_standing(&[], from_ms);
    fleet.hosts().filter(|host| host.is_asked_for(&[], from_ms)).count()
}

/// Goes through who has which series that fit, and says how many have any. Notes who of those that are asked for is not there.
fn each(fleet: &Fleet<'_>, names: &Names, mut see: impl FnMut(&Question<'_>, &Group)) -> Result<usize, EvalError> {
    let mut having = HostSet::default();
    for matchers in &names.selectors {
        let wanted = Wanted::all_of(matchers, names.span);
        fleet.note_standing(matchers, wanted.from_ms);
        let mut question = Question::of(matchers);
        let groups = fleet.labels(&mut question, &wanted)?;
        for group in groups.iter().filter(|group| !group.slots.is_empty()) {
            having.add(&group.hosts);
            see(&question, group);
        }
    }
    Ok(having.len())
}
