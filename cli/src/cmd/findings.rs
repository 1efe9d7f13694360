//! `mainstay findings`: what is wrong.

use clap::{Args, Subcommand};
use mainstay_core::id::{FindingId, IncidentId};
use mainstay_proto::v1::{FindingView, ListFindingsRequest};
use serde::Serialize;

use super::HostSelector;
use super::search::{Found, SearchArgs};
use crate::changed::{self, NearDoc};
use crate::connect;
use crate::context::Context;
use crate::draw;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::view::{self, MemberDoc};
use crate::words;

/// Arguments of `mainstay findings`.
#[derive(Debug, Args)]
pub(crate) struct FindingsArgs {
    #[command(subcommand)]
    command: Option<FindingsCommand>,
    #[command(flatten)]
    selector: HostSelector,
    /// Those that have cleared too, as with --since; else those that are open, however long ago they opened
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    search: SearchArgs,
    /// Most findings to list
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// What can be asked of one finding.
#[derive(Debug, Subcommand)]
enum FindingsCommand {
    /// Show one finding: all of its evidence, and the series that show it
    Show {
        /// Its id, or the beginning of it, as `mainstay findings -o wide` shows it
        id: String,
    },
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
    if let Some(FindingsCommand::Show { id }) = &args.command {
        return show(id, context).await;
    }
    let all = args.all || args.search.is_of_a_time();
    let request = ListFindingsRequest {
        selector: Some(args.selector.to_wire()),
        all,
        limit: args.limit,
        search: Some(if all { args.search.to_wire() } else { args.search.since_ever() }),
        id: String::new(),
    };
    let answer = connect::queries(context).await?.list_findings(request).await?.into_inner();
    let rows: Vec<_> = answer.findings.iter().map(|member| FindingRow::new(member, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    let (truncated, looked_back_to_ms) = (answer.truncated, answer.looked_back_to_ms);
    let found = Found { is_empty: rows.is_empty(), truncated, looked_back_to_ms };
    found.say(&args.search, context.format.is_for_people(), "nothing is wrong that Mainstay knows of");
    Ok(Exit::Success)
}

/// One more than is meant, to see that it is not the only one.
const LOOKED_AT: u32 = 2;

/// A finding with what was changed shortly before it.
#[derive(Debug, Serialize)]
struct FindingWhole {
    #[serde(flatten)]
    member: MemberDoc,
    changes: Vec<NearDoc>,
}

async fn show(asked: &str, context: &Context) -> Result<Exit, Failure> {
    let asked = &asked.to_lowercase();
    let request =
        ListFindingsRequest { all: true, limit: LOOKED_AT, id: asked.clone(), ..ListFindingsRequest::default() };
    let answer = connect::queries(context).await?.list_findings(request).await?.into_inner();
    let member = meant(&answer.findings, asked)?;
    let finding = member.finding.clone().unwrap_or_default();
    let opened_ms = finding.opened.as_ref().map_or(0, |now| now.wall_ms);
    let near = changed::before(context, &member.host_id, finding.subject.as_ref(), opened_ms).await;
    if !context.format.is_for_people() {
        let changes = near.iter().map(Into::into).collect();
        output::document(context, &FindingWhole { member: member.into(), changes })?;
        return Ok(Exit::Success);
    }
    output::line_out(&format!(
        "{} {} on {}: {} ({}), {} since {}, confidence {:.2}",
        FindingId(finding.id),
        finding.kind,
        member.hostname,
        view::subject(finding.subject.as_ref()),
        finding.severity,
        finding.state,
        words::date_time(opened_ms),
        finding.confidence
    ))?;
    for evidence in &finding.evidence {
        output::line_out(&format!("  {}", evidence.text))?;
    }
    for line in draw::finding(context, &member.hostname, &finding, answer.now_ms).await {
        output::line_out(&format!("  {line}"))?;
    }
    if !near.is_empty() {
        output::line_out("changed before this:")?;
    }
    for line in changed::lines(&near) {
        output::line_out(&format!("  {line}"))?;
    }
    Ok(Exit::Success)
}

/// The one finding whose id begins so.
fn meant<'a>(findings: &'a [FindingView], asked: &str) -> Result<&'a FindingView, Failure> {
    let id = |member: &FindingView| member.finding.as_ref().map_or(String::new(), |f| FindingId(f.id).to_string());
    let begins = |member: &&FindingView| {
        let id = id(member);
        id.starts_with(asked) || id.split_once('-').is_some_and(|(_, hex)| hex.starts_with(asked))
    };
    let mut found = findings.iter().filter(begins).filter(|_| !asked.is_empty());
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Failure::usage(format!("several findings begin with {asked}; give more of the id"))),
        _ => Err(Failure::new(
            Exit::NotFound,
            format!("no finding begins with {asked}; `mainstay findings --all -o wide` lists them"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::Finding;

    use super::*;

    #[test]
    fn a_finding_is_named_by_the_beginning_of_its_id() {
        let member = |id| FindingView { finding: Some(Finding { id, ..Finding::default() }), ..FindingView::default() };
        let all = [member(0x3f9a_0000_0000_0000), member(0x3f9b_0000_0000_0000)];
        let id = |asked: &str| meant(&all, asked).map(|member| member.finding.clone().unwrap_or_default().id);
        assert_eq!(id("f-3f9b").unwrap(), 0x3f9b_0000_0000_0000);
        assert_eq!(id("3f9a").unwrap(), 0x3f9a_0000_0000_0000);
        assert!(id("3f9").unwrap_err().to_string().contains("several findings begin with 3f9"));
        assert_eq!(id("77").unwrap_err().exit, Exit::NotFound);
        assert_eq!(id("").unwrap_err().exit, Exit::NotFound);
    }
}
