//! What there is to ask: series, label names and values, and what kind each metric is of.
//!
//! Without a selector the answer comes from the schemas and the hosts alone, whatever the range: the
//! names of a fleet are a few schemas, however many hosts share them. With one, it is worked out for all hosts together who
//! has which series (`choice.rs`), and labels are told of groups of hosts that are alike.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use mainstay_core::series::SeriesKey;
use mainstay_fleet::presence::HostSet;
use mainstay_promql::{EvalError, Labels, Matcher, NAME, Wanted};

use super::Stop;
use super::choice::Group;
use super::fleet::Fleet;
use super::question::Question;
use crate::hub::Hub;
use crate::store::schema::Schema;

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

/// The labels of all series that a selector means.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn series(hub: &Hub, names: &Names, stop: &Stop) -> Result<Vec<Labels>, EvalError> {
    let fleet = Fleet::of(hub, stop);
    let mut found = BTreeSet::new();
    each(&fleet, names, |question, group| {
        for host in fleet.hosts().filter(|host| group.hosts.contains(host.short)) {
            found.extend(group.slots.iter().map(|slot| question.labels(*slot, host, None)));
        }
    })?;
    Ok(found.into_iter().take(names.limit).collect())
}

/// The names of all labels.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn labels(hub: &Hub, names: &Names, stop: &Stop) -> Result<Vec<String>, EvalError> {
    let fleet = Fleet::of(hub, stop);
    let mut found: BTreeSet<String> = BTreeSet::new();
    if names.selectors.is_empty() {
        found.extend(fleet.roster().labels().map(|(name, _)| name.to_owned()));
        each_key(hub, |key| {
            for (name, _) in key.labels.iter().filter(|(name, _)| !found.contains(name)).collect::<Vec<_>>() {
                found.insert(name.clone());
            }
        })?;
        found.insert(NAME.to_owned());
    }
    each(&fleet, names, |question, group| {
        let own = group.slots.iter().flat_map(|slot| question.own(*slot)).filter(|(_, value)| !value.is_empty());
        found.extend(own.map(|(name, _)| name.to_string()));
        for (name, values) in fleet.roster().labels() {
            let has = |slot: &usize| question.own_value(*slot, name).is_some();
            let is_had = |hosts: &[u32]| hosts.iter().any(|host| group.hosts.contains(*host));
            if !found.contains(name)
                && !group.slots.iter().all(has)
                && values.iter().any(|(value, hosts)| !value.is_empty() && is_had(hosts))
            {
                found.insert(name.to_owned());
            }
        }
    })?;
    Ok(found.into_iter().take(names.limit).collect())
}

/// The values of one label.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn values(hub: &Hub, label: &str, names: &Names, stop: &Stop) -> Result<Vec<String>, EvalError> {
    let fleet = Fleet::of(hub, stop);
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut see = |value: &str| {
        if !found.contains(value) {
            found.insert(value.to_owned());
        }
    };
    if names.selectors.is_empty() {
        fleet.roster().values(label).for_each(|(value, _)| see(value));
        each_key(hub, |key| match label {
            NAME => see(&key.name),
            _ => key.labels.iter().filter(|(name, _)| name == label).for_each(|(_, value)| see(value)),
        })?;
    }
    // Whose own value is that of a series which has none itself.
    let mut lacking = HostSet::default();
    each(&fleet, names, |question, group| {
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
    Ok(found.into_iter().filter(|value| !value.is_empty()).take(names.limit).collect())
}

/// Of each metric, whether it is a gauge; otherwise it is a counter.
///
/// # Errors
/// If the store cannot be read.
pub fn metrics(hub: &Hub) -> Result<BTreeMap<String, bool>, EvalError> {
    let mut found = BTreeMap::new();
    for schema in schemas(hub)? {
        found.extend(schema.keys.iter().zip(&schema.gauge).map(|(key, gauge)| (key.name.clone(), *gauge)));
    }
    Ok(found)
}

fn schemas(hub: &Hub) -> Result<Vec<Arc<Schema>>, EvalError> {
    hub.store.schemas().map_err(|error| EvalError::Source(error.to_string()))
}

/// Each series that any schema names: once where it is one key in memory, as it mostly is.
fn each_key(hub: &Hub, mut see: impl FnMut(&SeriesKey)) -> Result<(), EvalError> {
    let schemas = schemas(hub)?;
    let mut seen: HashSet<*const SeriesKey> = HashSet::new();
    let keys = schemas.iter().flat_map(|schema| &schema.keys);
    keys.filter(|key| seen.insert(Arc::as_ptr(key))).for_each(|key| see(key));
    Ok(())
}

fn each(fleet: &Fleet<'_>, names: &Names, mut see: impl FnMut(&Question<'_>, &Group)) -> Result<(), EvalError> {
    for matchers in &names.selectors {
        let wanted = Wanted::all_of(matchers, names.span);
        let mut question = Question::of(matchers);
        let groups = fleet.labels(&mut question, &wanted)?;
        groups.iter().for_each(|group| see(&question, group));
    }
    Ok(())
}
