//! What there is to ask: series, label names and values, and what kind each metric is of.
//!
//! Without a selector the answer comes from the schemas and the hosts alone, whatever the range: the
//! names of a fleet are a few schemas, however many hosts share them.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_promql::{EvalError, Fold, Labels, Matcher, NAME, Wanted};

use super::Stop;
use super::fleet::Fleet;
use crate::hub::Hub;

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
    let mut found = BTreeSet::new();
    each(hub, names, stop, |labels| {
        found.insert(labels);
    })?;
    Ok(found.into_iter().take(names.limit).collect())
}

/// The names of all labels.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn labels(hub: &Hub, names: &Names, stop: &Stop) -> Result<Vec<String>, EvalError> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    if names.selectors.is_empty() {
        let fleet = Fleet::of(hub, stop);
        found.extend(fleet.host_labels().map(|(name, _)| name.to_string()));
        for schema in schemas(hub)? {
            found.extend(schema.keys.iter().flat_map(|key| key.labels.iter().map(|(name, _)| name.clone())));
        }
        found.insert(NAME.to_owned());
    }
    each(hub, names, stop, |labels| found.extend(labels.iter().map(|(name, _)| name.to_owned())))?;
    Ok(found.into_iter().take(names.limit).collect())
}

/// The values of one label.
///
/// # Errors
/// If the store cannot be read, or the query is stopped.
pub fn values(hub: &Hub, label: &str, names: &Names, stop: &Stop) -> Result<Vec<String>, EvalError> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    if names.selectors.is_empty() {
        let fleet = Fleet::of(hub, stop);
        found.extend(fleet.host_labels().filter(|(name, _)| &**name == label).map(|(_, value)| value.to_string()));
        for schema in schemas(hub)? {
            let of_key = |key: &mainstay_core::series::SeriesKey| match label {
                NAME => Some(key.name.clone()),
                _ => key.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.clone()),
            };
            found.extend(schema.keys.iter().filter_map(|key| of_key(key)));
        }
    }
    each(hub, names, stop, |labels| {
        found.insert(labels.get(label).to_owned());
    })?;
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

fn schemas(hub: &Hub) -> Result<Vec<std::sync::Arc<crate::store::schema::Schema>>, EvalError> {
    hub.store.schemas().map_err(|error| EvalError::Source(error.to_string()))
}

fn each(hub: &Hub, names: &Names, stop: &Stop, mut see: impl FnMut(Labels)) -> Result<(), EvalError> {
    let fleet = Fleet::of(hub, stop);
    for matchers in &names.selectors {
        let (from_ms, to_ms) = names.span;
        let wanted = Wanted { matchers, from_ms, to_ms, is_range: true, fold: Fold::Last, resolution_ms: 0 };
        fleet.labels(&wanted, &mut |labels| {
            see(labels);
            Ok(())
        })?;
    }
    Ok(())
}
