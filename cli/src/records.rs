//! What stands in records of ledgers, in words: decisions, outcomes, proofs, orders.

use mainstay_core::id::{ActionId, DecisionId};
use mainstay_proto::v1;
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::record::Body;
use mainstay_proto::v1::record::learning::Change;

use crate::{view, words};

/// What a record says, but for when and about what. `None`: this version cannot read it.
pub(crate) fn text(body: Option<&Body>) -> Option<String> {
    Some(match body? {
        Body::Started(started) => format!("version {}", started.version),
        Body::Decided(decision) => decided(decision)?,
        Body::Intent(intent) => view::step(intent.step.as_ref()).0.to_owned(),
        Body::Outcome(done) => outcome(done.outcome.as_ref()?),
        Body::Verified(verified) => verification(verified.verification.as_ref()?),
        Body::Policy(policy) => {
            let generation = policy.policy.as_ref().map_or(0, |policy| policy.generation);
            let why = policy.refused.as_ref().map(|why| format!("refused: {why}"));
            format!("g{generation} {}", why.as_deref().unwrap_or("in force"))
        }
        Body::Answered(answered) => {
            let word = if answered.approved { "approved" } else { "denied" };
            format!("{word} {}", author(answered.by.as_ref()))
        }
        Body::Hold(hold) => {
            let until = hold.until_ms.map_or(String::new(), |until| format!(" until {}", words::date_time(until)));
            let stopped = format!("acting is stopped{until}");
            let word = if hold.held { &stopped } else { "acting is allowed again" };
            format!("{word} {}", author(hold.by.as_ref()))
        }
        Body::Undone(undone) => {
            let outcome = undone.outcome.as_ref().map_or("", |outcome| &outcome.text);
            format!("undone {}: {outcome}", author(undone.by.as_ref()))
        }
        Body::Learning(learning) => {
            let word = match learning.change.as_ref()? {
                Change::Reset(glob) if glob.is_empty() => "what was learned is forgotten".to_owned(),
                Change::Reset(glob) => format!("what was learned of {glob} is forgotten"),
                Change::RollbackToMs(_) => "what was learned goes back to a snapshot".to_owned(),
            };
            format!("{word} {}", author(learning.by.as_ref()))
        }
    })
}

/// What `mainstay explain` and `undo` take.
pub(crate) fn id(body: Option<&Body>) -> Option<String> {
    Some(match body? {
        Body::Decided(decision) => DecisionId(decision.id).to_string(),
        Body::Verified(verified) => DecisionId(verified.decision).to_string(),
        Body::Answered(answered) => DecisionId(answered.decision).to_string(),
        Body::Intent(intent) => ActionId(intent.action).to_string(),
        Body::Outcome(done) => ActionId(done.action).to_string(),
        Body::Undone(undone) => ActionId(undone.action).to_string(),
        Body::Started(_) | Body::Policy(_) | Body::Hold(_) | Body::Learning(_) => return None,
    })
}

/// What was decided. `None`: this version cannot read it.
pub(crate) fn decided(decision: &v1::Decision) -> Option<String> {
    let rule = decision.rule.as_ref().map_or(String::new(), |rule| format!(", rule {rule}"));
    let choice = match decision.choice.as_ref()? {
        Choice::Act(plan) => view::plan(Some(plan)),
        Choice::Hold(hold) => {
            let would = hold.would.as_ref().map_or(String::new(), |plan| format!("; else {}", view::plan(Some(plan))));
            format!("{}{would}", hold.reason.replace('_', " "))
        }
    };
    Some(format!("{}: {choice}{rule}", decision.kind))
}

/// How a step ended.
pub(crate) fn outcome(outcome: &v1::Outcome) -> String {
    let freed = outcome.freed_bytes.map_or(String::new(), |freed| format!(", {} freed", words::bytes(freed)));
    let why = if outcome.text.is_empty() { String::new() } else { format!(": {}", outcome.text) };
    format!("{} in {}{freed}{why}", outcome.ended, words::short(outcome.elapsed_ms))
}

/// Whether a plan helped.
pub(crate) fn verification(verification: &v1::Verification) -> String {
    let helped = if verification.recovered { "helped" } else { "did not help" };
    let down = verification.down_ms.map_or(String::new(), |ms| format!(", down for {}", words::short(ms)));
    format!("{helped}: {}{down}", verification.text)
}

fn author(by: Option<&v1::Author>) -> String {
    let Some(by) = by else { return "by somebody".to_owned() };
    let reason = if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) };
    format!("by {}{reason}", by.name)
}
