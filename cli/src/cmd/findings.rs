//! `mainstay findings`: what is wrong.

use std::time::Duration;

use clap::Args;
use mainstay_core::id::{FindingId, IncidentId};
use mainstay_proto::v1::{FindingView, ListFindingsRequest};
use serde::Serialize;

use super::HostSelector;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::view::{self, MemberDoc};
use crate::words;

/// Arguments of `mainstay findings`.
#[derive(Debug, Args)]
pub(crate) struct FindingsArgs {
    #[command(flatten)]
    selector: HostSelector,
    /// Cleared ones too
    #[arg(long)]
    all: bool,
    /// With --all: how far back
    #[arg(long, default_value = "24h", value_parser = crate::arguments::duration)]
    since: Duration,
    /// Only this kind, such as disk.full
    #[arg(long)]
    kind: Option<String>,
    /// Most findings to list
    #[arg(long, default_value_t = 200)]
    limit: u32,
}

/// One finding in a line.
#[derive(Debug, Serialize)]
pub(crate) struct FindingRow {
    #[serde(flatten)]
    doc: MemberDoc,
    #[serde(skip)]
    cells: Vec<String>,
}

impl Row for FindingRow {
    const HEADINGS: &'static [&'static str] =
        &["SINCE", "HOST", "FINDING", "SUBJECT", "STATE", "CONF", "EVIDENCE", "SEVERITY", "INCIDENT", "ID"];
    const WIDE_FROM: usize = 7;

    fn cells(&self) -> Vec<String> {
        self.cells.clone()
    }
}

impl FindingRow {
    /// The row of one finding, as seen at `now_ms`.
    pub(crate) fn new(member: &FindingView, now_ms: i64) -> Self {
        let finding = member.finding.clone().unwrap_or_default();
        let opened_ms = finding.opened.as_ref().map_or(0, |now| now.wall_ms);
        let colour = match finding.severity.as_str() {
            "critical" => "31",
            "warning" => "33",
            _ => "0",
        };
        let cells = vec![
            words::ago(opened_ms, now_ms),
            member.hostname.clone(),
            output::paint(colour, &finding.kind),
            view::subject(finding.subject.as_ref()),
            finding.state.clone(),
            format!("{:.2}", finding.confidence),
            finding.evidence.first().map_or_else(|| "–".to_owned(), |evidence| evidence.text.clone()),
            finding.severity.clone(),
            member.incident.map_or_else(|| "–".to_owned(), |id| IncidentId(id).to_string()),
            FindingId(finding.id).to_string(),
        ];
        Self { doc: member.into(), cells }
    }
}

/// Lists findings.
pub(crate) async fn run(args: &FindingsArgs, context: &Context) -> Result<Exit, Failure> {
    let request = ListFindingsRequest {
        selector: Some(args.selector.to_wire()),
        all: args.all,
        since_ms: if args.all { super::since(args.since) } else { 0 },
        kind: args.kind.clone().unwrap_or_default(),
        limit: args.limit,
    };
    let answer = connect::queries(context).await?.list_findings(request).await?.into_inner();
    let rows: Vec<_> = answer.findings.iter().map(|member| FindingRow::new(member, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    if context.format.is_for_people() && rows.is_empty() {
        output::say("nothing is wrong that Mainstay knows of");
    }
    Ok(Exit::Success)
}
