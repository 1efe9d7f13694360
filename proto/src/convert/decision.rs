//! Decisions, with what every guard said.

use mainstay_core::decision::{Choice, Decision, Guard, HoldReason, Mode, PolicyRef, Verdict};
use mainstay_core::id::{DecisionId, FindingId};

use super::{ConvertError, all, bytes, listed, optional, required, share, word};
use crate::v1;

impl From<&PolicyRef> for v1::PolicyRef {
    fn from(policy: &PolicyRef) -> Self {
        Self { generation: policy.generation, hash: policy.hash.to_vec() }
    }
}

impl TryFrom<v1::PolicyRef> for PolicyRef {
    type Error = ConvertError;

    fn try_from(policy: v1::PolicyRef) -> Result<Self, ConvertError> {
        Ok(Self { generation: policy.generation, hash: bytes("hash", &policy.hash)? })
    }
}

impl From<&Verdict> for v1::Verdict {
    fn from(verdict: &Verdict) -> Self {
        Self { guard: verdict.guard.as_str().to_owned(), pass: verdict.pass, text: verdict.text.clone() }
    }
}

impl TryFrom<v1::Verdict> for Verdict {
    type Error = ConvertError;

    fn try_from(verdict: v1::Verdict) -> Result<Self, ConvertError> {
        let guard = listed("guard", &verdict.guard, Guard::ALL, Guard::as_str)?;
        Ok(Self { guard, pass: verdict.pass, text: verdict.text })
    }
}

impl From<&Choice> for v1::decision::Choice {
    fn from(choice: &Choice) -> Self {
        match choice {
            Choice::Act(plan) => Self::Act(plan.into()),
            Choice::Hold { reason, would } => {
                let would = would.as_ref().map(Into::into);
                Self::Hold(v1::Hold { reason: reason.as_str().to_owned(), would })
            }
        }
    }
}

impl TryFrom<v1::decision::Choice> for Choice {
    type Error = ConvertError;

    fn try_from(choice: v1::decision::Choice) -> Result<Self, ConvertError> {
        match choice {
            v1::decision::Choice::Act(plan) => required("act", Some(plan)).map(Self::Act),
            v1::decision::Choice::Hold(hold) => Ok(Self::Hold {
                reason: listed("hold.reason", &hold.reason, HoldReason::ALL, HoldReason::as_str)?,
                would: optional("hold.would", hold.would)?,
            }),
        }
    }
}

impl From<&Decision> for v1::Decision {
    fn from(decision: &Decision) -> Self {
        Self {
            id: decision.id.0,
            at: Some(decision.at.into()),
            finding: decision.finding.0,
            kind: decision.kind.as_str().to_owned(),
            subject: Some((&decision.subject).into()),
            confidence: decision.confidence,
            evidence: decision.evidence.iter().map(Into::into).collect(),
            rule: decision.rule.clone(),
            policy: Some((&decision.policy).into()),
            mode: decision.mode.as_str().to_owned(),
            verdicts: decision.verdicts.iter().map(Into::into).collect(),
            choice: Some((&decision.choice).into()),
            opened: Some(decision.opened.into()),
        }
    }
}

impl TryFrom<v1::Decision> for Decision {
    type Error = ConvertError;

    fn try_from(decision: v1::Decision) -> Result<Self, ConvertError> {
        Ok(Self {
            id: DecisionId(decision.id),
            at: required("at", decision.at)?,
            finding: FindingId(decision.finding),
            kind: word("kind", &decision.kind)?,
            subject: required("subject", decision.subject)?,
            opened: required("opened", decision.opened)?,
            confidence: share("confidence", decision.confidence)?,
            evidence: all("evidence", decision.evidence)?,
            rule: decision.rule,
            policy: required("policy", decision.policy)?,
            mode: listed("mode", &decision.mode, &Mode::ALL, Mode::as_str)?,
            verdicts: all("verdicts", decision.verdicts)?,
            choice: decision.choice.ok_or_else(|| ConvertError::missing("choice"))?.try_into()?,
        })
    }
}
