//! Reads the `ladder` of a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Rung, RungAction};
use super::{rule, unknown_word};
use crate::config::{Spanned, TableReader};
use crate::decide::may_justify_action;
use crate::finding::FindingKind;
use crate::plan::{ReclaimPlace, ResetFailed, Undo};

/// Most rungs of a ladder.
const RUNGS_MAX: usize = 16;

/// How long reclaimed files can be brought back where a rung does not say.
const UNDO_FOR_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// What the subjects of a rule's findings can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct About {
    pub(super) units: bool,
    pub(super) mounts: bool,
    /// Units are among them, beside the host: they may be named and need not.
    pub(super) units_too: bool,
    /// No kind could be read, so nothing can be said about what fits.
    pub(super) nothing: bool,
}

impl About {
    pub(super) fn of(kinds: &[FindingKind]) -> Self {
        Self {
            units: kinds.iter().any(|kind| is_about_units(*kind)),
            mounts: kinds.iter().any(|kind| is_about_mounts(*kind)),
            units_too: kinds.iter().any(|kind| is_about_units_too(*kind)),
            nothing: kinds.is_empty(),
        }
    }
}

fn is_about_units(kind: FindingKind) -> bool {
    use FindingKind as K;
    matches!(
        kind,
        K::ServiceFailed
            | K::ServiceCrashLoop
            | K::ServiceHung
            | K::ServiceSlow
            | K::MemoryLeak
            | K::FdLeak
            | K::TaskLeak
            | K::ProcessRunaway
            | K::ProcessForkStorm
            | K::ServiceFlapping
            | K::LogBurst
            | K::LogPattern
    )
}

/// Kinds of findings about the host or a unit.
fn is_about_units_too(kind: FindingKind) -> bool {
    use FindingKind as K;
    matches!(kind, K::MemoryPressure | K::MemoryOomKill | K::FdExhausted | K::TaskExhausted | K::FindingFlapping)
}

fn is_about_mounts(kind: FindingKind) -> bool {
    use FindingKind as K;
    matches!(kind, K::DiskFull | K::DiskInodes | K::DiskFilling | K::DiskReadonly | K::InodeLeak)
}

/// Whether an action can be taken about a kind of finding.
pub(super) fn fits(action: &RungAction, kind: FindingKind) -> bool {
    match action {
        RungAction::Notify { .. } => true,
        // Nothing can be reclaimed where nothing can be written.
        RungAction::DiskReclaim { .. } => {
            is_about_mounts(kind) && kind != FindingKind::DiskReadonly && may_justify_action(kind)
        }
        RungAction::UnitRestart(_) | RungAction::UnitStart(_) | RungAction::UnitStop | RungAction::UnitReload => {
            (is_about_units(kind) || matches!(kind, FindingKind::FdExhausted | FindingKind::TaskExhausted))
                && may_justify_action(kind)
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Do {
    Restart,
    Start,
    Stop,
    Reload,
    Reclaim,
    Notify,
}

const ACTIONS: [(&str, Do); 6] = [
    ("unit.restart", Do::Restart),
    ("unit.start", Do::Start),
    ("unit.stop", Do::Stop),
    ("unit.reload", Do::Reload),
    ("disk.reclaim", Do::Reclaim),
    ("notify", Do::Notify),
];

/// The rungs of a rule, each with its place.
pub(super) fn ladder(table: &mut TableReader<'_>, places: &BTreeMap<String, ReclaimPlace>) -> Vec<Spanned<Rung>> {
    let rungs = table.tables("ladder");
    if rungs.len() > RUNGS_MAX {
        let message = format!("`ladder` has too many rungs (got {}, at most {RUNGS_MAX})", rungs.len());
        table.problem(table.place_of("ladder"), message);
    }
    rungs.into_iter().filter_map(|table| rung(table, places)).collect()
}

fn rung(mut table: TableReader<'_>, places: &BTreeMap<String, ReclaimPlace>) -> Option<Spanned<Rung>> {
    let which = table.choice("do", &ACTIONS);
    let after = table.opt_duration("after").map_or(Duration::ZERO, Spanned::into_inner);
    let Some(which) = which else {
        // Which keys are known depends on `do`; those of all actions are let pass.
        for key in ["reset_failed", "to", "from", "until", "undo_for", "undo"] {
            table.allow(key);
        }
        return super::finished(table);
    };
    let action = match which.value {
        Do::Restart => Some(RungAction::UnitRestart(reset_failed(&mut table))),
        Do::Start => Some(RungAction::UnitStart(reset_failed(&mut table))),
        Do::Stop => Some(RungAction::UnitStop),
        Do::Reload => Some(RungAction::UnitReload),
        Do::Reclaim => reclaim(&mut table, places),
        Do::Notify => notify(&mut table),
    };
    table.finish();
    Some(Spanned::new(Rung { action: action?, after }, which.place))
}

fn reset_failed(table: &mut TableReader<'_>) -> ResetFailed {
    match table.opt_bool("reset_failed") {
        Some(flag) if flag.value => ResetFailed::Clear,
        _ => ResetFailed::Keep,
    }
}

fn notify(table: &mut TableReader<'_>) -> Option<RungAction> {
    let to = table.str("to")?;
    if to.value.is_empty() {
        table.problem(&to.place, "`to` is empty: name who is told, as agent.toml calls them");
        return None;
    }
    Some(RungAction::Notify { to: to.value })
}

fn reclaim(table: &mut TableReader<'_>, places: &BTreeMap<String, ReclaimPlace>) -> Option<RungAction> {
    let from = reclaim_from(table, places);
    let until = reclaim_until(table);
    let undo_for = table.opt_duration("undo_for");
    let undo = table.opt_choice("undo", &[("none", ())]);
    if let Some(zero) = undo_for.as_ref().filter(|time| time.value.is_zero()) {
        table.problem(
            &zero.place,
            "`undo_for` of 0s leaves nothing to bring back; write undo = \"none\" if that is meant",
        );
    }
    if let (Some(_), Some(undo)) = (&undo_for, &undo) {
        table.problem(&undo.place, "`undo = \"none\"` and `undo_for` exclude each other");
    }
    let undo = match (undo, undo_for) {
        (Some(_), _) => Undo::None,
        (None, time) => Undo::For(time.map_or(UNDO_FOR_DEFAULT, Spanned::into_inner)),
    };
    Some(RungAction::DiskReclaim { from: from?, until_used_ratio: until?, undo })
}

fn reclaim_from(table: &mut TableReader<'_>, places: &BTreeMap<String, ReclaimPlace>) -> Option<Vec<ReclaimPlace>> {
    let words = table.strs("from")?;
    if words.value.is_empty() {
        table.problem(&words.place, "`from` is empty: name the places that may be emptied");
        return None;
    }
    let mut from = Vec::with_capacity(words.value.len());
    for word in words.value {
        match places.get(&word.value) {
            Some(place) if from.contains(place) => {
                table.problem(&word.place, format!("`{}` stands in `from` twice", word.value));
            }
            Some(place) => from.push(place.clone()),
            None => {
                let known = places.keys().map(String::as_str);
                table.problem(&word.place, unknown_word("reclaim place", &word.value, known));
            }
        }
    }
    Some(from)
}

/// `used < 80%`: the level at which reclaiming stops.
fn reclaim_until(table: &mut TableReader<'_>) -> Option<f64> {
    let place = table.place_of("until").clone();
    if !table.has("until") {
        table.str("until");
        return None;
    }
    let until = rule::when(table, "until")?;
    let bound = until.upper_bound_on("used").filter(|bound| (0.01..=0.99).contains(bound));
    if bound.is_none() {
        table.problem(&place, format!("`until` must be such as \"used < 80%\" (1% to 99%), not \"{until}\""));
    }
    bound
}
