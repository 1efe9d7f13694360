//! Plans and their steps.

use std::time::Duration;

use mainstay_core::id::ActionId;
use mainstay_core::plan::{
    AgedFiles, DiskReclaim, Plan, PlannedStep, ReclaimPlace, ResetFailed, Risk, Step, Undo, Verify,
};
use mainstay_core::subject::{PathBytes, UnitName};

use super::time::ms;
use super::{ConvertError, Problem, all, listed, required, share, word};
use crate::v1::{self, reclaim_place, step};

const RISKS: [Risk; 3] = [Risk::Low, Risk::Medium, Risk::High];

fn risk_word(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
    }
}

impl From<&ReclaimPlace> for v1::ReclaimPlace {
    fn from(place: &ReclaimPlace) -> Self {
        let of = match place {
            ReclaimPlace::AptCache => reclaim_place::Of::AptCache(true),
            ReclaimPlace::CoreDumps => reclaim_place::Of::CoreDumps(true),
            ReclaimPlace::Journal => reclaim_place::Of::Journal(true),
            ReclaimPlace::Aged(aged) => reclaim_place::Of::Aged(v1::AgedFiles {
                name: aged.name.clone(),
                under: aged.under.0.clone(),
                files: aged.files.clone(),
                older_than_ms: ms(aged.older_than),
            }),
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<v1::ReclaimPlace> for ReclaimPlace {
    type Error = ConvertError;

    fn try_from(place: v1::ReclaimPlace) -> Result<Self, ConvertError> {
        use reclaim_place::Of;
        match place.of {
            Some(Of::AptCache(true)) => Ok(Self::AptCache),
            Some(Of::CoreDumps(true)) => Ok(Self::CoreDumps),
            Some(Of::Journal(true)) => Ok(Self::Journal),
            Some(Of::AptCache(false) | Of::CoreDumps(false) | Of::Journal(false)) => {
                Err(ConvertError::invalid("of", "false"))
            }
            Some(Of::Aged(aged)) => Ok(Self::Aged(AgedFiles {
                name: aged.name,
                under: PathBytes(aged.under),
                files: not_empty("aged.files", aged.files)?,
                older_than: Duration::from_millis(aged.older_than_ms),
            })),
            None => Err(ConvertError::missing("of")),
        }
    }
}

impl From<&DiskReclaim> for v1::DiskReclaim {
    fn from(reclaim: &DiskReclaim) -> Self {
        Self {
            mount: reclaim.mount.0.clone(),
            from: reclaim.from.iter().map(Into::into).collect(),
            until_used_ratio: reclaim.until_used_ratio,
            undo_for_ms: match reclaim.undo {
                Undo::For(time) => Some(ms(time)),
                Undo::None => None,
            },
        }
    }
}

impl TryFrom<v1::DiskReclaim> for DiskReclaim {
    type Error = ConvertError;

    fn try_from(reclaim: v1::DiskReclaim) -> Result<Self, ConvertError> {
        Ok(Self {
            mount: PathBytes(reclaim.mount),
            from: all("from", not_empty("from", reclaim.from)?)?,
            until_used_ratio: share("until_used_ratio", reclaim.until_used_ratio)?,
            undo: reclaim.undo_for_ms.map_or(Undo::None, |time| Undo::For(Duration::from_millis(time))),
        })
    }
}

fn not_empty<T>(field: &'static str, list: Vec<T>) -> Result<Vec<T>, ConvertError> {
    let problem = || Problem::Length { expected: "at least 1".into(), found: 0 };
    if list.is_empty() { Err(ConvertError::new(field, problem())) } else { Ok(list) }
}

fn unit_step(unit: &UnitName, reset_failed: ResetFailed) -> v1::UnitStep {
    v1::UnitStep { unit: unit.as_str().to_owned(), reset_failed: reset_failed == ResetFailed::Clear }
}

fn unit_of(field: &'static str, step: &v1::UnitStep) -> Result<(UnitName, ResetFailed), ConvertError> {
    let unit = word("unit", &step.unit).map_err(|error| error.inside(field))?;
    Ok((unit, if step.reset_failed { ResetFailed::Clear } else { ResetFailed::Keep }))
}

impl From<&Step> for v1::Step {
    fn from(step: &Step) -> Self {
        use step::Of;
        let of = match step {
            Step::UnitRestart { unit, reset_failed } => Of::UnitRestart(unit_step(unit, *reset_failed)),
            Step::UnitStart { unit, reset_failed } => Of::UnitStart(unit_step(unit, *reset_failed)),
            Step::UnitStop { unit } => Of::UnitStop(unit_step(unit, ResetFailed::Keep)),
            Step::UnitReload { unit } => Of::UnitReload(unit_step(unit, ResetFailed::Keep)),
            Step::DiskReclaim(reclaim) => Of::DiskReclaim(reclaim.into()),
            Step::Notify { to } => Of::Notify(to.clone()),
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<v1::Step> for Step {
    type Error = ConvertError;

    fn try_from(step: v1::Step) -> Result<Self, ConvertError> {
        use step::Of;
        Ok(match step.of.ok_or_else(|| ConvertError::missing("of"))? {
            Of::UnitRestart(step) => {
                let (unit, reset_failed) = unit_of("unit_restart", &step)?;
                Self::UnitRestart { unit, reset_failed }
            }
            Of::UnitStart(step) => {
                let (unit, reset_failed) = unit_of("unit_start", &step)?;
                Self::UnitStart { unit, reset_failed }
            }
            Of::UnitStop(step) => Self::UnitStop { unit: unit_of("unit_stop", &step)?.0 },
            Of::UnitReload(step) => Self::UnitReload { unit: unit_of("unit_reload", &step)?.0 },
            Of::DiskReclaim(reclaim) => {
                Self::DiskReclaim(reclaim.try_into().map_err(|error: ConvertError| error.inside("disk_reclaim"))?)
            }
            Of::Notify(to) => Self::Notify { to },
        })
    }
}

impl From<&PlannedStep> for v1::PlannedStep {
    fn from(planned: &PlannedStep) -> Self {
        Self { action: planned.action.0, step: Some((&planned.step).into()) }
    }
}

impl TryFrom<v1::PlannedStep> for PlannedStep {
    type Error = ConvertError;

    fn try_from(planned: v1::PlannedStep) -> Result<Self, ConvertError> {
        Ok(Self { action: ActionId(planned.action), step: required("step", planned.step)? })
    }
}

impl From<&Plan> for v1::Plan {
    fn from(plan: &Plan) -> Self {
        Self {
            steps: plan.steps.iter().map(Into::into).collect(),
            risk: risk_word(plan.risk).to_owned(),
            stable_for_ms: ms(plan.verify.stable_for),
            within_ms: ms(plan.verify.within),
            rung: plan.rung,
        }
    }
}

impl TryFrom<v1::Plan> for Plan {
    type Error = ConvertError;

    fn try_from(plan: v1::Plan) -> Result<Self, ConvertError> {
        Ok(Self {
            steps: all("steps", plan.steps)?,
            risk: listed("risk", &plan.risk, &RISKS, risk_word)?,
            verify: Verify {
                stable_for: Duration::from_millis(plan.stable_for_ms),
                within: Duration::from_millis(plan.within_ms),
            },
            rung: plan.rung,
        })
    }
}
