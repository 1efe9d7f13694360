//! Records: the exact bytes that ledger, spool, wire and collector keep.

use mainstay_core::id::{ActionId, BootId, DecisionId};
use mainstay_core::policy::Glob;
use mainstay_core::record::{Author, Body, Ended, LearningChange, Outcome, Record, Verification};
use prost::Message as _;

use super::{ConvertError, bytes, listed, required};
use crate::v1::record::learning::Change;
use crate::v1::{self, record};

const ENDED: [Ended; 4] = [Ended::Done, Ended::Failed, Ended::Refused, Ended::Unknown];

fn ended_word(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Failed => "failed",
        Ended::Refused => "refused",
        Ended::Unknown => "unknown",
    }
}

/// The bytes of a record, as the ledger keeps them and the chain is made over.
#[must_use]
pub fn encode_record(record: &Record) -> Vec<u8> {
    v1::Record::from(record).encode_to_vec()
}

/// The record that these bytes are.
///
/// # Errors
/// If they are no message, or one that does not say what a record has to say.
pub fn decode_record(bytes: &[u8]) -> Result<Record, ConvertError> {
    v1::Record::decode(bytes).map_err(|error| ConvertError::invalid("record", error))?.try_into()
}

impl From<&Outcome> for v1::Outcome {
    fn from(outcome: &Outcome) -> Self {
        Self {
            ended: ended_word(outcome.ended).to_owned(),
            text: outcome.text.clone(),
            elapsed_ms: outcome.elapsed_ms,
            freed_bytes: outcome.freed_bytes,
        }
    }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = ConvertError;

    fn try_from(outcome: v1::Outcome) -> Result<Self, ConvertError> {
        Ok(Self {
            ended: listed("ended", &outcome.ended, &ENDED, ended_word)?,
            text: outcome.text,
            elapsed_ms: outcome.elapsed_ms,
            freed_bytes: outcome.freed_bytes,
        })
    }
}

impl From<&Verification> for v1::Verification {
    fn from(verification: &Verification) -> Self {
        Self { recovered: verification.recovered, text: verification.text.clone(), down_ms: verification.down_ms }
    }
}

impl TryFrom<v1::Verification> for Verification {
    type Error = ConvertError;

    fn try_from(verification: v1::Verification) -> Result<Self, ConvertError> {
        let v1::Verification { recovered, text, down_ms } = verification;
        Ok(Self { recovered, text, down_ms })
    }
}

impl From<&Author> for v1::Author {
    fn from(author: &Author) -> Self {
        Self { name: author.name.clone(), reason: author.reason.clone() }
    }
}

impl TryFrom<v1::Author> for Author {
    type Error = ConvertError;

    fn try_from(author: v1::Author) -> Result<Self, ConvertError> {
        Ok(Self { name: author.name, reason: author.reason })
    }
}

impl From<&Record> for v1::Record {
    fn from(record: &Record) -> Self {
        Self { at: Some(record.at.into()), body: Some((&record.body).into()) }
    }
}

impl TryFrom<v1::Record> for Record {
    type Error = ConvertError;

    fn try_from(record: v1::Record) -> Result<Self, ConvertError> {
        let body = record.body.ok_or_else(|| ConvertError::missing("body"))?;
        Ok(Self { at: required("at", record.at)?, body: body.try_into()? })
    }
}

impl From<&Body> for record::Body {
    fn from(body: &Body) -> Self {
        match body {
            Body::Started { boot, version } => {
                Self::Started(record::Started { boot: boot.0.to_vec(), version: version.clone() })
            }
            Body::Decided(decision) => Self::Decided((&**decision).into()),
            Body::Intent { decision, action, step } => {
                Self::Intent(record::Intent { decision: decision.0, action: action.0, step: Some(step.into()) })
            }
            Body::Outcome { decision, action, outcome } => {
                let outcome = Some(outcome.into());
                Self::Outcome(record::StepOutcome { decision: decision.0, action: action.0, outcome })
            }
            Body::Verified { decision, verification } => {
                Self::Verified(record::Verified { decision: decision.0, verification: Some(verification.into()) })
            }
            Body::Policy { policy, refused } => {
                Self::Policy(record::PolicyChange { policy: Some(policy.into()), refused: refused.clone() })
            }
            Body::Answered { decision, approved, until_ms, by } => Self::Answered(record::Answered {
                decision: decision.0,
                approved: *approved,
                until_ms: *until_ms,
                by: Some(by.into()),
            }),
            Body::Hold { scope, until_ms, held, by } => Self::Hold(record::HoldChange {
                scope: scope.clone(),
                until_ms: *until_ms,
                held: *held,
                by: Some(by.into()),
            }),
            Body::Undone { action, outcome, by } => {
                Self::Undone(record::Undone { action: action.0, outcome: Some(outcome.into()), by: Some(by.into()) })
            }
            Body::Learning { change, order, not_after_ms, by } => Self::Learning(record::Learning {
                change: Some(match change {
                    LearningChange::Reset { metric } => {
                        Change::Reset(metric.as_ref().map_or_else(String::new, |glob| glob.as_str().to_owned()))
                    }
                    // A record always says which; the newest is what an order may ask for.
                    LearningChange::Rollback { to_ms } => Change::RollbackToMs(to_ms.unwrap_or_default()),
                }),
                order: order.to_vec(),
                not_after_ms: *not_after_ms,
                by: Some(by.into()),
            }),
        }
    }
}

impl TryFrom<record::Body> for Body {
    type Error = ConvertError;

    fn try_from(body: record::Body) -> Result<Self, ConvertError> {
        use record::Body as Wire;
        let (name, body) = match body {
            Wire::Started(started) => ("started", Self::started(started)),
            Wire::Decided(decision) => ("decided", decision.try_into().map(Box::new).map(Self::Decided)),
            Wire::Intent(intent) => ("intent", Self::intent(intent)),
            Wire::Outcome(outcome) => ("outcome", Self::outcome(outcome)),
            Wire::Verified(verified) => ("verified", Self::verified(verified)),
            Wire::Policy(policy) => ("policy", Self::policy(policy)),
            Wire::Answered(answered) => ("answered", Self::answered(answered)),
            Wire::Hold(hold) => ("hold", Self::hold(hold)),
            Wire::Undone(undone) => ("undone", Self::undone(undone)),
            Wire::Learning(learning) => ("learning", Self::learning(learning)),
        };
        body.map_err(|error| error.inside(name))
    }
}

/// One reader per kind of record. A trait, because the type belongs to another crate.
trait FromBody: Sized {
    fn started(started: record::Started) -> Result<Self, ConvertError>;
    fn intent(intent: record::Intent) -> Result<Self, ConvertError>;
    fn outcome(outcome: record::StepOutcome) -> Result<Self, ConvertError>;
    fn verified(verified: record::Verified) -> Result<Self, ConvertError>;
    fn policy(policy: record::PolicyChange) -> Result<Self, ConvertError>;
    fn answered(answered: record::Answered) -> Result<Self, ConvertError>;
    fn hold(hold: record::HoldChange) -> Result<Self, ConvertError>;
    fn undone(undone: record::Undone) -> Result<Self, ConvertError>;
    fn learning(learning: record::Learning) -> Result<Self, ConvertError>;
}

impl FromBody for Body {
    fn started(started: record::Started) -> Result<Self, ConvertError> {
        Ok(Self::Started { boot: BootId(bytes("boot", &started.boot)?), version: started.version })
    }

    fn intent(intent: record::Intent) -> Result<Self, ConvertError> {
        let step = required("step", intent.step)?;
        Ok(Self::Intent { decision: DecisionId(intent.decision), action: ActionId(intent.action), step })
    }

    fn outcome(outcome: record::StepOutcome) -> Result<Self, ConvertError> {
        let (decision, action) = (DecisionId(outcome.decision), ActionId(outcome.action));
        Ok(Self::Outcome { decision, action, outcome: required("outcome", outcome.outcome)? })
    }

    fn verified(verified: record::Verified) -> Result<Self, ConvertError> {
        let verification = required("verification", verified.verification)?;
        Ok(Self::Verified { decision: DecisionId(verified.decision), verification })
    }

    fn policy(policy: record::PolicyChange) -> Result<Self, ConvertError> {
        Ok(Self::Policy { policy: required("policy", policy.policy)?, refused: policy.refused })
    }

    fn answered(answered: record::Answered) -> Result<Self, ConvertError> {
        let record::Answered { decision, approved, until_ms, by } = answered;
        Ok(Self::Answered { decision: DecisionId(decision), approved, until_ms, by: required("by", by)? })
    }

    fn hold(hold: record::HoldChange) -> Result<Self, ConvertError> {
        let by = required("by", hold.by)?;
        Ok(Self::Hold { scope: hold.scope, until_ms: hold.until_ms, held: hold.held, by })
    }

    fn undone(undone: record::Undone) -> Result<Self, ConvertError> {
        let outcome = required("outcome", undone.outcome)?;
        Ok(Self::Undone { action: ActionId(undone.action), outcome, by: required("by", undone.by)? })
    }

    fn learning(learning: record::Learning) -> Result<Self, ConvertError> {
        let change = match learning.change.ok_or_else(|| ConvertError::missing("change"))? {
            Change::Reset(metric) => LearningChange::Reset { metric: Glob::new(&metric) },
            Change::RollbackToMs(to_ms) => LearningChange::Rollback { to_ms: Some(to_ms) },
        };
        let (order, not_after_ms) = (bytes("order", &learning.order)?, learning.not_after_ms);
        Ok(Self::Learning { change, order, not_after_ms, by: required("by", learning.by)? })
    }
}
