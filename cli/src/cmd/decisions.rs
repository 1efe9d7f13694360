//! `mainstay decisions`: what was decided, acted on or held.

use clap::Args;
use mainstay_core::id::DecisionId;
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::{DecisionView, ListDecisionsRequest};
use serde::Serialize;

use super::HostSelector;
use super::search::{Found, SearchArgs};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::view::{self, DecisionDoc};
use crate::words;

/// Arguments of `mainstay decisions`.
#[derive(Debug, Args)]
pub(crate) struct DecisionsArgs {
    #[command(flatten)]
    selector: HostSelector,
    /// Only those that were acted on
    #[arg(long)]
    acted: bool,
    #[command(flatten)]
    search: SearchArgs,
    /// Most decisions to list
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// One decision in a line.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionRow {
    #[serde(flatten)]
    doc: DecisionDoc,
    #[serde(skip)]
    cells: Vec<String>,
}

impl Row for DecisionRow {
    const HEADINGS: &'static [&'static str] =
        &["ID", "AT", "HOST", "FINDING", "SUBJECT", "DECISION", "PLAN", "RESULT", "RULE", "POLICY"];
    const WIDE_FROM: usize = 8;

    fn cells(&self) -> Vec<String> {
        self.cells.clone()
    }
}

impl DecisionRow {
    /// The row of one decision.
    pub(crate) fn new(decided: &DecisionView) -> Self {
        let decision = decided.decision.clone().unwrap_or_default();
        let (choice, plan) = match &decision.choice {
            Some(Choice::Act(plan)) => ("act".to_owned(), view::plan(Some(plan))),
            Some(Choice::Hold(hold)) => (format!("hold: {}", hold.reason), view::plan(hold.would.as_ref())),
            None => ("?".to_owned(), "–".to_owned()),
        };
        let cells = vec![
            DecisionId(decision.id).to_string(),
            words::date_time(decision.at.as_ref().map_or(0, |now| now.wall_ms)),
            decided.hostname.clone(),
            decision.kind.clone(),
            view::subject(decision.subject.as_ref()),
            choice,
            plan,
            result(decided),
            decision.rule.clone().unwrap_or_else(|| "–".to_owned()),
            format!("g{}", decision.policy.as_ref().map_or(0, |policy| policy.generation)),
        ];
        Self { doc: decided.into(), cells }
    }
}

/// What came of it, in a word.
fn result(decided: &DecisionView) -> String {
    let acted = matches!(decided.decision.as_ref().and_then(|d| d.choice.as_ref()), Some(Choice::Act(_)));
    match (&decided.verification, decided.steps.last()) {
        (Some(verification), _) if verification.recovered => output::paint("32", "helped"),
        (Some(_), _) => output::paint("31", "did not help"),
        (None, Some(step)) => step.outcome.as_ref().map_or_else(|| "under way".to_owned(), |o| o.ended.clone()),
        (None, None) if acted => "under way".to_owned(),
        (None, None) => "–".to_owned(),
    }
}

/// Lists decisions, newest first.
pub(crate) async fn run(args: &DecisionsArgs, context: &Context) -> Result<Exit, Failure> {
    let request = ListDecisionsRequest {
        selector: Some(args.selector.to_wire()),
        limit: args.limit,
        acted: args.acted,
        search: Some(args.search.to_wire()),
    };
    let answer = connect::queries(context).await?.list_decisions(request).await?.into_inner();
    let rows: Vec<_> = answer.decisions.iter().map(DecisionRow::new).collect();
    output::rows(context, &rows)?;
    let (truncated, looked_back_to_ms) = (answer.truncated, answer.looked_back_to_ms);
    let found = Found { is_empty: rows.is_empty(), truncated, looked_back_to_ms };
    found.say(&args.search, context.format.is_for_people(), "nothing was decided in that time");
    Ok(Exit::Success)
}
