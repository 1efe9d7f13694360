//! `mainstay approvals`: decisions that wait for an operator's yes or no.
//!
//! What is signed is the hash of the plan that is shown, computed here: a collector that shows one
//! plan cannot have another approved.

use std::time::Duration;

use clap::{Args, Subcommand};
use mainstay_core::id::DecisionId;
use mainstay_core::plan::Plan;
use mainstay_core::policy::order::Order;
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::{ApprovalView, ListApprovalsRequest};
use serde::Serialize;

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::order::{self, Signing};
use crate::output::{self, Row};
use crate::view::{self, DecisionDoc};
use crate::words;

/// What can be done with approvals.
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List what waits
    List,
    /// Let a plan be carried out
    Approve(AnswerArgs),
    /// Forbid a plan
    Deny(AnswerArgs),
}

/// Arguments of an answer.
#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The decision's id, or the beginning of it
    id: String,
    /// Why; it stands in the host's ledger
    #[arg(long)]
    reason: String,
    /// How long the answer counts
    #[arg(long = "for", default_value = "1h", value_parser = crate::arguments::duration)]
    counts: Duration,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Serialize)]
struct ApprovalRow {
    #[serde(flatten)]
    doc: DecisionDoc,
    #[serde(skip)]
    cells: Vec<String>,
}

impl Row for ApprovalRow {
    const HEADINGS: &'static [&'static str] = &["ID", "WAITS", "HOST", "FINDING", "SUBJECT", "PLAN", "RISK", "RULE"];
    const WIDE_FROM: usize = 8;

    fn cells(&self) -> Vec<String> {
        self.cells.clone()
    }
}

impl ApprovalRow {
    fn new(waiting: &ApprovalView, now_ms: i64) -> Self {
        let decided = waiting.decision.clone().unwrap_or_default();
        let decision = decided.decision.clone().unwrap_or_default();
        let plan = wanted(waiting);
        let cells = vec![
            DecisionId(decision.id).to_string(),
            words::ago(decision.at.as_ref().map_or(0, |at| at.wall_ms), now_ms),
            decided.hostname.clone(),
            decision.kind.clone(),
            view::subject(decision.subject.as_ref()),
            view::plan(plan),
            plan.map_or_else(|| "?".to_owned(), |plan| plan.risk.clone()),
            decision.rule.clone().unwrap_or_else(|| "–".to_owned()),
        ];
        Self { doc: (&decided).into(), cells }
    }
}

/// The plan that would be carried out.
fn wanted(waiting: &ApprovalView) -> Option<&mainstay_proto::v1::Plan> {
    match waiting.decision.as_ref()?.decision.as_ref()?.choice.as_ref()? {
        Choice::Hold(hold) => hold.would.as_ref(),
        Choice::Act(_) => None,
    }
}

/// Carries the command out.
pub(crate) async fn run(command: &ApprovalsCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ApprovalsCommand::List => list(context).await,
        ApprovalsCommand::Approve(args) => answer(args, true, context).await,
        ApprovalsCommand::Deny(args) => answer(args, false, context).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let answer = connect::queries(context).await?.list_approvals(ListApprovalsRequest {}).await?.into_inner();
    let rows: Vec<_> = answer.approvals.iter().map(|waiting| ApprovalRow::new(waiting, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    if context.format.is_for_people() && rows.is_empty() {
        output::say("nothing waits for an answer");
    }
    Ok(Exit::Success)
}

async fn answer(args: &AnswerArgs, approved: bool, context: &Context) -> Result<Exit, Failure> {
    let waiting = connect::queries(context).await?.list_approvals(ListApprovalsRequest {}).await?.into_inner();
    let meant: Vec<_> = waiting
        .approvals
        .iter()
        .filter(|waiting| decision_id(waiting).is_some_and(|id| id.to_string().starts_with(&args.id)))
        .collect();
    let [waiting] = meant[..] else {
        return Err(Failure::new(
            Exit::NotFound,
            match meant.len() {
                0 => format!("no decision {} waits for an answer (mainstay approvals list)", args.id),
                many => format!("{many} decisions that wait begin with {}: give more of the id", args.id),
            },
        ));
    };
    let decided = waiting.decision.clone().unwrap_or_default();
    let plan = wanted(waiting)
        .cloned()
        .ok_or_else(|| Failure::new(Exit::Failed, "the decision shows no plan that could be approved"))?;
    output::say(&format!("{} on {}", view::plan(Some(&plan)), decided.hostname));
    let plan = Plan::try_from(plan).map_err(|error| {
        Failure::new(Exit::Failed, format!("this version cannot read the plan ({error}): upgrade mainstay"))
    })?;
    let order = Order::Approval {
        decision: decision_id(waiting).unwrap_or_default(),
        plan_hash: plan.hash(),
        until_ms: order::after(args.counts),
        approved,
        by: order::author(context, &args.reason)?,
    };
    order::submit(context, &args.signing, &order, &view::host_id(&decided.host_id)).await
}

fn decision_id(waiting: &ApprovalView) -> Option<DecisionId> {
    Some(DecisionId(waiting.decision.as_ref()?.decision.as_ref()?.id))
}
