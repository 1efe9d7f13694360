//! How long series are kept: for all hosts, and for some of them otherwise (`[retention.override.NAME]` in collector.toml).
//!
//! In: settings, and what hosts are known by. Out: the ages of each host's series. Hosts are kept whole: an override is
//! about labels of hosts, not of single series.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::config::{Spanned, TableReader};
use mainstay_promql::{Label, Matcher, NAME, parse_selector};

use crate::config::Settings;
use crate::hub::Hub;
use crate::store::retention::Retention;
use crate::store::thin::Ages;

/// Most overrides.
pub const OVERRIDES_MAX: usize = 64;

/// Ages of the series of some hosts. Where one is not said it is that of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// What it is called.
    pub name: String,
    /// Whose: a selector of labels of hosts, and of their name as `host`.
    pub hosts: String,
    /// Every summary.
    pub series: Option<Duration>,
    /// Rolled up to five minutes.
    pub series_5m: Option<Duration>,
    /// Rolled up to an hour.
    pub series_1h: Option<Duration>,
}

impl Override {
    fn of(&self, default: &Retention) -> Retention {
        Retention {
            series: self.series.unwrap_or(default.series),
            series_5m: self.series_5m.unwrap_or(default.series_5m),
            series_1h: self.series_1h.unwrap_or(default.series_1h),
            ..*default
        }
    }
}

/// How long series are kept, to look hosts up in.
#[derive(Debug)]
pub struct Rules {
    default: Retention,
    overrides: Vec<(Vec<Matcher>, Retention)>,
}

impl Rules {
    /// What settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self::new(settings.retention, &settings.overrides)
    }

    fn new(default: Retention, overrides: &[Override]) -> Self {
        // They were read when the settings were.
        let read = |one: &Override| parse_selector(&one.hosts).map(|matchers| (matchers, one.of(&default))).ok();
        Self { default, overrides: overrides.iter().filter_map(read).collect() }
    }

    /// The ages of a host by its labels. Where several overrides are about a host the first by name counts.
    #[must_use]
    pub fn of_host(&self, labels: &[Label]) -> &Retention {
        self.overriding(labels).unwrap_or(&self.default)
    }

    fn overriding(&self, labels: &[Label]) -> Option<&Retention> {
        let value = |name: &str| labels.iter().find(|(known, _)| &**known == name).map_or("", |(_, value)| value);
        let is_about = |matchers: &[Matcher]| matchers.iter().all(|matcher| matcher.holds(value(&matcher.label)));
        self.overrides.iter().find(|(matchers, _)| is_about(matchers)).map(|(_, ages)| ages)
    }

    /// The shortest that any host may have.
    #[must_use]
    pub fn shortest(&self) -> Retention {
        self.overrides.iter().fold(self.default, |ages, (_, one)| ages.with(one, Ord::min))
    }

    /// Those of all hosts, if they are alike.
    #[must_use]
    pub fn of_all(&self) -> Option<&Retention> {
        self.overrides.is_empty().then_some(&self.default)
    }
}

/// The ages of the series of all hosts that are known, and of who brings series over remote write.
#[must_use]
pub fn of(hub: &Hub) -> Ages {
    let settings = hub.settings();
    if settings.overrides.is_empty() {
        return settings.retention.into();
    }
    let mut hosts: Vec<(u32, Arc<[Label]>)> =
        hub.state().hosts.values().map(|host| (host.row.short, host.query_labels())).collect();
    hosts.extend(hub.sources.all().into_iter().map(|source| (source.short, source.labels.clone())));
    of_hosts(&Rules::of(&settings), &hosts)
}

/// The ages of hosts by number and labels.
fn of_hosts(rules: &Rules, hosts: &[(u32, Arc<[Label]>)]) -> Ages {
    let of = hosts.iter().filter_map(|(host, labels)| Some((*host, *rules.overriding(labels)?)));
    Ages { default: rules.default, of: of.collect::<BTreeMap<_, _>>() }
}

/// Reads all overrides, in the order of their names; `age` reads one age.
pub fn read(
    table: &mut TableReader<'_>,
    age: &dyn Fn(&mut TableReader<'_>, &str) -> Option<Duration>,
) -> Vec<Override> {
    let tables = table.named_tables("override");
    if let Some(over) = tables.get(OVERRIDES_MAX) {
        table.problem(over.place(), format!("`override` has more than {OVERRIDES_MAX} tables"));
    }
    let mut overrides: Vec<Override> = tables.into_iter().filter_map(|table| one(table, age)).collect();
    overrides.sort_by(|a, b| a.name.cmp(&b.name));
    overrides
}

fn one(mut table: TableReader<'_>, age: &dyn Fn(&mut TableReader<'_>, &str) -> Option<Duration>) -> Option<Override> {
    let (name, place) = (table.name().to_owned(), table.place().clone());
    let hosts = table.str("hosts");
    if let Some(hosts) = &hosts {
        check(&table, hosts);
    }
    let [series, series_5m, series_1h] = ["series", "series_5m", "series_1h"].map(|key| age(&mut table, key));
    let is_empty = ["series", "series_5m", "series_1h"].into_iter().all(|key| !table.has(key));
    if is_empty {
        table.problem(&place, format!("`override.{name}` must say `series`, `series_5m` or `series_1h`"));
    }
    table.finish();
    Some(Override { name, hosts: hosts?.value, series, series_5m, series_1h })
}

fn check(table: &TableReader<'_>, hosts: &Spanned<String>) {
    let wanted = "`hosts` must be a selector of labels of hosts such as {role=\"db\"}";
    match parse_selector(&hosts.value) {
        Ok(matchers) if matchers.iter().any(|matcher| matcher.label == NAME) => {
            table.problem(&hosts.place, format!("{wanted}, without the name of a series: hosts are kept whole"));
        }
        Ok(_) => {}
        Err(error) => table.problem(&hosts.place, format!("{wanted}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_override_that_is_about_a_host_counts() {
        let labels = |text: &str| -> Arc<[Label]> {
            text.split(',').filter_map(|one| one.split_once('=')).map(|(k, v)| (Arc::from(k), Arc::from(v))).collect()
        };
        let day = Duration::from_secs(86_400);
        let one = |name: &str, hosts: &str, series, series_1h| Override {
            name: name.to_owned(),
            hosts: hosts.to_owned(),
            series,
            series_5m: None,
            series_1h,
        };
        let overrides = [
            one("a", "{role=\"db\",host!~\"test.*\"}", Some(90 * day), None),
            one("b", "{role=~\"db|cache\"}", Some(2 * day), Some(3 * day)),
        ];
        let hosts = [
            (1, labels("role=db,host=db-1")),
            (2, labels("role=db,host=test-1")),
            (3, labels("role=web,host=web-1")),
            (4, labels("host=bare")),
        ];
        let rules = Rules::new(Retention::default(), &overrides);
        let ages = of_hosts(&rules, &hosts);
        assert_eq!(ages.of.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((ages.of(1).series, ages.of(1).series_1h), (90 * day, Retention::default().series_1h));
        assert_eq!((ages.of(2).series, ages.of(2).series_1h), (2 * day, 3 * day));
        assert_eq!((ages.longest().series, ages.shortest().series), (90 * day, 2 * day));
        assert!(hosts.iter().all(|(host, labels)| rules.of_host(labels) == ages.of(*host)));
        assert_eq!((rules.shortest().series, rules.of_all()), (2 * day, None));
    }
}
