//! Units that somebody restarts, starts or stops.
//!
//! In: units as systemd tells of them, and what Mainstay itself orders. Out: what neither Mainstay nor systemd's own
//! `Restart=` nor a trigger (a socket, a timer) has done. Only services that stay are looked at; one that runs to its
//! end is started again and again by nobody's hand.

use std::collections::BTreeMap;

use super::{Change, ChangeKind};
use crate::sample::{ActiveState, Unit};
use crate::subject::UnitName;

/// A stop that has lasted this long is one, and not half of a restart.
const STOPPED_AFTER_MS: i64 = 5_000;

/// For so long what happens to a unit may be of our doing: an order that nobody says the end of.
const ORDERED_MS: i64 = 600_000;

/// The same after its end: systemd's signals come late.
const DONE_MS: i64 = 5_000;

/// A unit that was stopped and that systemd has forgotten since is remembered for a day: it may be started again.
const GONE_MS: i64 = 86_400_000;

/// Most units that are remembered.
const UNITS_MAX: usize = 4_096;

/// What is known of units.
#[derive(Debug, Default)]
pub struct Units {
    known: BTreeMap<UnitName, Known>,
    /// Up to when what happens to a unit is our own doing.
    ours: BTreeMap<UnitName, i64>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    invocation: Option<[u8; 16]>,
    n_restarts: u32,
    stand: Stand,
    /// Whether systemd has forgotten it: it does so with what was stopped and nothing else needs.
    is_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Runs,
    /// It ended by itself, or was not yet started.
    Ended,
    Failed,
    /// Somebody has stopped it, then; and whether that was said.
    Stopped {
        at_ms: i64,
        told: bool,
    },
}

impl Units {
    /// Mainstay itself does something to a unit.
    pub fn ordered(&mut self, unit: &UnitName, now_ms: i64) {
        self.ours.insert(unit.clone(), now_ms.saturating_add(ORDERED_MS));
    }

    /// It has done so.
    pub fn done(&mut self, unit: &UnitName, now_ms: i64) {
        self.ours.insert(unit.clone(), now_ms.saturating_add(DONE_MS));
    }

    /// All units as they are, when systemd was asked for the first time or again.
    pub fn loaded<'u>(&mut self, units: impl Iterator<Item = (&'u UnitName, &'u Unit)>, now_ms: i64) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.known);
        let mut changes = Vec::new();
        for (name, unit) in units {
            if let Some(known) = before.remove(name) {
                self.known.insert(name.clone(), known);
            }
            changes.extend(self.observe(name, Some(unit), now_ms));
        }
        for (name, known) in before.into_iter().filter(|(_, known)| matches!(known.stand, Stand::Stopped { .. })) {
            self.known.insert(name, Known { is_gone: true, ..known });
        }
        changes
    }

    /// A unit as it is now; `None` when systemd has forgotten it.
    pub fn observe(&mut self, name: &UnitName, unit: Option<&Unit>, now_ms: i64) -> Option<Change> {
        let Some(unit) = unit.filter(|unit| stays(name, unit)) else {
            match self.known.get_mut(name) {
                Some(known) if unit.is_none() && matches!(known.stand, Stand::Stopped { .. }) => known.is_gone = true,
                _ => _ = self.known.remove(name),
            }
            return None;
        };
        let is_ours = self.ours.get(name).is_some_and(|until| now_ms < *until);
        let Some(known) = self.known.get_mut(name) else {
            if self.known.len() < UNITS_MAX {
                let stand = stand(unit, false, now_ms).unwrap_or(Stand::Ended);
                let (invocation, n_restarts) = (unit.invocation, unit.n_restarts);
                let known = Known { invocation, n_restarts, stand, is_gone: false };
                self.known.insert(name.clone(), known);
            }
            return None;
        };
        known.is_gone = false;
        let now = stand(unit, !is_ours, now_ms)?;
        let before = *known;
        let is_same = before.invocation == unit.invocation || unit.invocation.is_none();
        // One that runs has its invocation and its count; what is over keeps those that it had.
        if now == Stand::Runs {
            *known = Known { invocation: unit.invocation, n_restarts: unit.n_restarts, stand: now, is_gone: false };
        } else if before.stand == Stand::Runs || before.stand == Stand::Failed {
            known.stand = now;
        }
        let by_systemd = unit.n_restarts > before.n_restarts;
        if now != Stand::Runs || is_ours || by_systemd || (is_same && before.stand == Stand::Runs) {
            return None;
        }
        let kind = match before.stand {
            Stand::Runs | Stand::Stopped { told: false, .. } => ChangeKind::UnitRestarted,
            Stand::Stopped { told: true, .. } | Stand::Failed => ChangeKind::UnitStarted,
            Stand::Ended => return None,
        };
        Some(Change::new(kind, name.as_str(), now_ms, now_ms))
    }

    /// Stops that have lasted, and that were not said yet. To be asked once a second.
    pub fn stopped(&mut self, now_ms: i64) -> Vec<Change> {
        self.ours.retain(|_, until| now_ms < *until);
        self.known.retain(|_, known| match known.stand {
            Stand::Stopped { at_ms, .. } => !known.is_gone || now_ms.saturating_sub(at_ms) < GONE_MS,
            _ => true,
        });
        let mut changes = Vec::new();
        for (name, known) in &mut self.known {
            if let Stand::Stopped { at_ms, told } = &mut known.stand
                && !*told
                && now_ms.saturating_sub(*at_ms) >= STOPPED_AFTER_MS
            {
                *told = true;
                changes.push(Change::new(ChangeKind::UnitStopped, name.as_str(), *at_ms, now_ms));
            }
        }
        changes
    }
}

/// Whether it is a service that stays until somebody ends it.
fn stays(name: &UnitName, unit: &Unit) -> bool {
    let is_transient = name.as_str().starts_with("run-");
    name.as_str().ends_with(".service") && unit.service_type != "oneshot" && !is_transient
}

/// Where it stands; `None` on its way from one to the other.
fn stand(unit: &Unit, by_somebody: bool, now_ms: i64) -> Option<Stand> {
    match unit.active {
        ActiveState::Active | ActiveState::Reloading => Some(Stand::Runs),
        ActiveState::Activating | ActiveState::Deactivating => None,
        ActiveState::Inactive | ActiveState::Failed if unit.stopped_on_request && by_somebody => {
            Some(Stand::Stopped { at_ms: now_ms, told: false })
        }
        ActiveState::Failed => Some(Stand::Failed),
        ActiveState::Inactive => Some(Stand::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        units: Units,
        name: UnitName,
        told: Vec<(i64, &'static str)>,
    }

    fn story() -> Story {
        Story { units: Units::default(), name: "app.service".parse().unwrap(), told: Vec::new() }
    }

    impl Story {
        fn is(&mut self, second: i64, active: ActiveState, run: u8, requested: bool, n_restarts: u32) -> &mut Self {
            let unit = Unit {
                active,
                invocation: Some([run; 16]),
                stopped_on_request: requested,
                n_restarts,
                service_type: "simple".into(),
                ..Unit::default()
            };
            let change = self.units.observe(&self.name, Some(&unit), second * 1_000);
            self.told.extend(change.map(|change| (second, change.kind.as_str())));
            let stopped = self.units.stopped(second * 1_000);
            self.told.extend(stopped.into_iter().map(|change| (second, change.kind.as_str())));
            self
        }
    }

    use ActiveState::{Activating, Active, Deactivating, Failed, Inactive};

    #[test]
    fn a_restart_by_hand_is_told_and_the_whole_of_it_as_one() {
        let mut story = story();
        story.is(0, Active, 1, false, 0).is(10, Deactivating, 1, true, 0).is(11, Inactive, 1, true, 0);
        story.is(11, Activating, 2, false, 0).is(12, Active, 2, false, 0).is(13, Active, 2, false, 0);
        assert_eq!(story.told, [(12, "unit.restarted")]);
        // The signals between may have been left out.
        story.is(20, Active, 3, false, 0);
        assert_eq!(story.told[1..], [(20, "unit.restarted")]);
    }

    #[test]
    fn a_stop_is_one_when_it_has_lasted() {
        let mut story = story();
        story.is(0, Active, 1, false, 0).is(10, Inactive, 1, true, 0).is(12, Inactive, 1, true, 0);
        assert_eq!(story.told, []);
        story.is(16, Inactive, 1, true, 0).is(30, Inactive, 1, true, 0).is(60, Active, 2, false, 0);
        assert_eq!(story.told, [(16, "unit.stopped"), (60, "unit.started")]);
    }

    #[test]
    fn a_unit_that_systemd_forgets_when_it_is_stopped_is_remembered_for_a_day() {
        let mut story = story();
        story.is(0, Active, 1, false, 0).is(10, Inactive, 1, true, 0);
        let name = story.name.clone();
        assert_eq!(story.units.observe(&name, None, 10_500), None);
        let told = story.units.stopped(16_000);
        assert_eq!((told.len(), told[0].kind, told[0].at_ms), (1, ChangeKind::UnitStopped, 10_000));
        story.is(60, Active, 2, false, 0);
        assert_eq!(story.told, [(60, "unit.started")]);
        story.is(70, Inactive, 2, true, 0);
        story.units.observe(&name, None, 70_500);
        assert_eq!(story.units.stopped(76_000).len(), 1);
        assert_eq!(story.units.stopped(70_000 + GONE_MS), []);
        assert!(story.units.known.is_empty());
        story.is(200_000, Active, 3, false, 0);
        assert_eq!(story.told.len(), 1, "a day later it is a new one");
    }

    #[test]
    fn what_systemd_and_mainstay_do_is_not_told() {
        let mut story = story();
        story.is(0, Active, 1, false, 0).is(10, Failed, 1, false, 0).is(11, Activating, 2, false, 1);
        story.is(12, Active, 2, false, 1);
        assert_eq!(story.told, [], "Restart=always");
        story.is(20, Failed, 2, false, 1);
        let name = story.name.clone();
        story.units.ordered(&name, 20_000);
        story.is(21, Active, 3, false, 0);
        story.units.done(&name, 21_000);
        story.is(22, Active, 3, false, 0);
        assert_eq!(story.told, [], "our own restart");
        story.units.ordered(&name, 40_000);
        story.is(41, Inactive, 3, true, 0).is(60, Inactive, 3, true, 0);
        assert_eq!(story.told, [], "our own stop");
    }

    #[test]
    fn a_failed_unit_that_somebody_starts_is_told_and_one_that_a_socket_starts_is_not() {
        let mut story = story();
        story.is(0, Inactive, 0, false, 0).is(5, Active, 1, false, 0).is(10, Inactive, 1, false, 0);
        story.is(20, Active, 2, false, 0);
        assert_eq!(story.told, [], "started and ended by itself");
        story.is(30, Failed, 2, false, 0).is(90, Active, 3, false, 0);
        assert_eq!(story.told, [(90, "unit.started")]);
    }

    #[test]
    fn what_happened_while_the_bus_was_away_is_told_when_it_is_back() {
        let mut units = Units::default();
        let name: UnitName = "app.service".parse().unwrap();
        let run = |run: u8| Unit { active: Active, invocation: Some([run; 16]), ..Unit::default() };
        let (first, second) = (run(1), run(2));
        assert_eq!(units.loaded([(&name, &first)].into_iter(), 0), []);
        let told = units.loaded([(&name, &second)].into_iter(), 9_000);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].kind, told[0].at_ms), (ChangeKind::UnitRestarted, 9_000));
        assert_eq!(units.loaded(std::iter::empty(), 10_000), []);
        assert_eq!(units.loaded([(&name, &first)].into_iter(), 11_000), [], "it was forgotten meanwhile");
    }

    #[test]
    fn what_runs_to_its_end_is_nobodys_restart() {
        let mut units = Units::default();
        let name: UnitName = "backup.service".parse().unwrap();
        for run in 1..5 {
            let unit =
                Unit { active: Active, invocation: Some([run; 16]), service_type: "oneshot".into(), ..Unit::default() };
            assert_eq!(units.observe(&name, Some(&unit), i64::from(run)), None);
        }
    }
}
