//! What hosts are known by, turned around: who has which value of a label.
//!
//! Made once of the hosts as they are, and again when one has other labels, comes or goes. A matcher is asked once for every
//! value that there is, however many hosts have it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_core::id::HostId;
use mainstay_fleet::presence::HostSet;
use mainstay_promql::{Label, Matcher};

use super::hosts::Host;

/// Values of a label, and the numbers of the hosts that have them.
type Values = BTreeMap<Arc<str>, Vec<u32>>;

/// Who has which labels.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Of whom, and with which labels.
    of: Vec<(u32, Arc<[Label]>)>,
    /// Ids of those that have the same labels and name as another: two machines may have one name, such as one that was
    /// installed anew.
    ids: HashMap<u32, Label>,
    labels: BTreeMap<Arc<str>, Values>,
    all: HostSet,
    /// Whose labels do not all have names of their own.
    odd: HostSet,
}

/// The one of the hosts as they were last.
#[derive(Debug, Default)]
pub(crate) struct Rosters {
    known: Mutex<Arc<Roster>>,
}

impl Rosters {
    /// The roster of these hosts, which are sorted by their numbers; a source has no id.
    pub(super) fn of(&self, hosts: &[(Option<HostId>, Host)]) -> Arc<Roster> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_of(hosts) {
            *known = Arc::new(Roster::new(hosts));
        }
        known.clone()
    }
}

impl Roster {
    fn new(hosts: &[(Option<HostId>, Host)]) -> Self {
        let mut alike: HashMap<&[Label], usize> = HashMap::with_capacity(hosts.len());
        for (_, host) in hosts.iter().filter(|(id, _)| id.is_some()) {
            *alike.entry(&host.labels[..]).or_default() += 1;
        }
        let mut roster = Self::default();
        for (id, host) in hosts {
            roster.of.push((host.short, host.labels.clone()));
            roster.all.insert(host.short);
            let is_alike = alike.get(&host.labels[..]).is_some_and(|count| *count > 1);
            let id = id.filter(|_| is_alike).map(|id| (Arc::from("host_id"), Arc::from(id.to_string())));
            let labels: Vec<&Label> = host.labels.iter().chain(&id).collect();
            for (at, (name, value)) in labels.iter().enumerate() {
                // Of one name the last counts.
                if labels[at + 1..].iter().any(|(later, _)| later == name) {
                    roster.odd.insert(host.short);
                    continue;
                }
                let values = roster.labels.entry(name.clone()).or_default();
                values.entry(value.clone()).or_default().push(host.short);
            }
            roster.ids.extend(id.map(|id| (host.short, id)));
        }
        roster
    }

    fn is_of(&self, hosts: &[(Option<HostId>, Host)]) -> bool {
        let is_same =
            |short: u32, labels: &Arc<[Label]>, host: &Host| short == host.short && Arc::ptr_eq(labels, &host.labels);
        let mut pairs = self.of.iter().zip(hosts);
        self.of.len() == hosts.len() && pairs.all(|((short, labels), (_, host))| is_same(*short, labels, host))
    }

    /// The label that tells a host from those of the same labels, if there are such.
    pub(super) fn id(&self, host: u32) -> Option<&Label> {
        self.ids.get(&host)
    }

    /// Hosts that this does not speak for.
    pub(super) fn odd(&self) -> &HostSet {
        &self.odd
    }

    /// Labels by name, each with its values and who has them.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &Values)> {
        self.labels.iter().map(|(name, values)| (&**name, values))
    }

    /// The values of a label, with who has them.
    pub(super) fn values(&self, label: &str) -> impl Iterator<Item = (&str, &[u32])> {
        self.labels.get(label).into_iter().flatten().map(|(value, hosts)| (&**value, &hosts[..]))
    }

    /// Of whom a matcher holds.
    pub(super) fn holding(&self, matcher: &Matcher) -> HostSet {
        let holds = matcher.holds("");
        // Who does not have the label is as who has none of its values.
        let mut holding = if holds { self.all.clone() } else { HostSet::default() };
        for (_, hosts) in self.values(&matcher.label).filter(|(value, _)| matcher.holds(value) != holds) {
            for host in hosts {
                if holds {
                    holding.remove(*host);
                } else {
                    holding.insert(*host);
                }
            }
        }
        holding
    }
}
