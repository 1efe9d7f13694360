//! What was changed on the host, told to the collector: what the thread of [`crate::host::changes`] finds, units that
//! somebody restarts, another policy.

use std::collections::BTreeMap;

use mainstay_core::agent::Item;
use mainstay_core::change::{Change, ChangeKind, units::Units};
use mainstay_core::id::ActionId;
use mainstay_core::plan::Step;
use mainstay_core::subject::UnitName;
use tracing::info;

use super::Shell;
use crate::host::clock;
use crate::host::systemd::UnitsEvent;

/// What is known of units, and of what we do to them.
#[derive(Debug, Default)]
pub(super) struct Told {
    units: Units,
    /// Units that steps under way are about.
    acting: BTreeMap<ActionId, UnitName>,
    /// Generation of the policy in force.
    generation: u64,
}

impl Told {
    /// Begins under a policy of this generation.
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }
}

impl Shell {
    /// Tells what was changed.
    pub(super) fn changed(&mut self, changes: Vec<Change>) {
        for change in changes.into_iter().map(Change::owned) {
            let (from, to) = (change.from.as_deref(), change.to.as_deref());
            let (by, text) = (change.by.as_deref(), change.text.as_str());
            info!(kind = %change.kind, subject = change.subject, from, to, by, text, "changed");
            self.keeper.item(Item::Change(change));
        }
    }

    /// Units as systemd tells of them.
    pub(super) fn changed_units(&mut self, event: &UnitsEvent) {
        if !self.settings.changes.watch {
            return;
        }
        let (units, now_ms) = (&mut self.told.units, clock::now().wall_ms);
        let changes = match event {
            UnitsEvent::Loaded(all) => units.loaded(all.iter().map(|(name, state)| (name, &state.unit)), now_ms),
            UnitsEvent::Changed(name, state) => units.observe(name, Some(&state.unit), now_ms).into_iter().collect(),
            UnitsEvent::Removed(name) => units.observe(name, None, now_ms).into_iter().collect(),
            UnitsEvent::Lost(_) | UnitsEvent::LeftOut(_) => Vec::new(),
        };
        self.changed(changes);
    }

    /// Stops that have lasted. Once a second.
    pub(super) fn changed_by_now(&mut self) {
        let changes = self.told.units.stopped(clock::now().wall_ms);
        self.changed(changes);
    }

    /// A step of ours begins.
    pub(super) fn acting(&mut self, action: ActionId, step: &Step) {
        if let Some(unit) = step.unit() {
            self.told.units.ordered(unit, clock::now().wall_ms);
            self.told.acting.insert(action, unit.clone());
        }
    }

    /// A step of ours has ended.
    pub(super) fn acted(&mut self, action: ActionId) {
        if let Some(unit) = self.told.acting.remove(&action) {
            self.told.units.done(&unit, clock::now().wall_ms);
        }
    }

    /// The policy in force.
    pub(super) fn policy_in_force(&mut self, generation: u64) {
        let before = std::mem::replace(&mut self.told.generation, generation);
        if before != generation && self.settings.changes.watch {
            let now_ms = clock::now().wall_ms;
            let name = |generation: u64| if generation == 0 { "built-in".to_owned() } else { format!("g{generation}") };
            let change = Change::new(ChangeKind::PolicyChanged, "policy", now_ms, now_ms);
            self.changed(vec![change.between(Some(&name(before)), Some(&name(generation)))]);
        }
    }
}
