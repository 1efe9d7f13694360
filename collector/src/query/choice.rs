//! Who has the series of a selector, worked out for all hosts together: by the names of each schema, by the labels of hosts,
//! and by who had rows of which schema when. None of them is read for it.

use std::collections::BTreeMap;

use mainstay_fleet::presence::HostSet;
use mainstay_promql::{EvalError, Wanted};

use super::fleet::Fleet;
use super::hosts::failed;
use super::question::{Candidate, Question};

/// Hosts that have series, each of them all of these.
pub(super) struct Group {
    pub(super) hosts: HostSet,
    /// Places among the series of the question.
    pub(super) slots: Vec<usize>,
}

/// Who has what.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) groups: Vec<Group>,
    /// Hosts that have to be read to know.
    pub(super) unread: HostSet,
}

impl Choice {
    /// Everybody who may have any.
    pub(super) fn hosts(&self) -> HostSet {
        let mut hosts = self.unread.clone();
        self.groups.iter().for_each(|group| hosts.add(&group.hosts));
        hosts
    }
}

/// Hosts by the slots that they have.
struct Groups<'h> {
    /// By matcher: of whom it holds.
    holding: &'h [HostSet],
    groups: BTreeMap<Vec<usize>, HostSet>,
}

impl Groups<'_> {
    /// Some hosts that have all of these, of whom what candidates leave open may hold or not.
    fn add(&mut self, candidates: &[Candidate], hosts: &HostSet) {
        let mut slots: BTreeMap<&[usize], Vec<usize>> = BTreeMap::new();
        for candidate in candidates {
            slots.entry(candidate.open()).or_default().push(candidate.slot);
        }
        for (open, slots) in slots {
            let mut hosts = hosts.clone();
            open.iter().for_each(|matcher| hosts.keep(&self.holding[*matcher]));
            if !hosts.is_empty() {
                self.groups.entry(slots).or_default().add(&hosts);
            }
        }
    }
}

impl Fleet<'_> {
    /// Who has series that are wanted, and had rows in the range; `None` where that is not known of all of it: then every
    /// host has to be read.
    pub(super) fn choose(&self, question: &mut Question<'_>, wanted: &Wanted<'_>) -> Result<Option<Choice>, EvalError> {
        // Of stretches that are rolled up others are kept than of rows.
        let is_of_rows = wanted.resolution_ms == 0 && self.finest(wanted.matchers, wanted.from_ms).is_none();
        let present = is_of_rows.then(|| self.hosts_within(wanted)).flatten();
        let Some(present) = present else { return Ok(None) };
        let meant: HostSet = self.hosts().filter(|host| host.may_be_meant(wanted)).map(|host| host.short).collect();
        let holding: Vec<HostSet> = question.rest().map(|matcher| self.roster().holding(matcher)).collect();
        let mut choice = Choice { groups: Vec::new(), unread: present.unknown };
        choice.unread.add(self.roster().odd());
        choice.unread.keep(&meant);
        let mut known = meant;
        known.without(&choice.unread);
        let mut groups = Groups { holding: &holding, groups: BTreeMap::new() };
        // By family, as few hosts may share a schema.
        let mut families: Vec<HostSet> = Vec::new();
        for (id, mut hosts) in present.sure {
            self.check()?;
            hosts.keep(&known);
            if hosts.is_empty() {
                continue;
            }
            // Of what has no names there are no series.
            let Some(schema) = self.schema(id).map_err(|error| failed(&error))? else { continue };
            let are_told = question.each_meant(&schema, |family| {
                if family >= families.len() {
                    families.resize_with(family + 1, HostSet::default);
                }
                families[family].add(&hosts);
            });
            if !are_told {
                groups.add(&question.candidates(&schema), &hosts);
            }
        }
        for (family, hosts) in families.iter().enumerate().filter(|(_, hosts)| !hosts.is_empty()) {
            groups.add(question.meant(family), hosts);
        }
        choice.groups = groups.groups.into_iter().map(|(slots, hosts)| Group { hosts, slots }).collect();
        Ok(Some(choice))
    }
}
