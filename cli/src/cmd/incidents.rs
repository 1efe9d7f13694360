//! `mainstay incidents`: findings brought back to one cause.

use clap::{Args, Subcommand};
use mainstay_core::id::IncidentId;
use mainstay_core::recording::FindingRecording;
use mainstay_proto::v1::{FindingView, GetIncidentRequest, IncidentView, ListIncidentsRequest};
use serde::Serialize;

use super::changes::ChangeRow;
use super::decisions::DecisionRow;
use super::findings::FindingRow;
use super::search::{Found, SearchArgs};
use crate::connect;
use crate::context::Context;
use crate::draw;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::recorded::{self, RecordingDoc};
use crate::view::{self, DecisionDoc, IncidentDoc};
use crate::words;

/// Arguments of `mainstay incidents`.
#[derive(Debug, Args)]
pub(crate) struct IncidentsArgs {
    #[command(subcommand)]
    command: Option<IncidentsCommand>,
    /// Those that have cleared too, as with --since; else those that are open, however long ago they opened
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    search: SearchArgs,
    /// Most incidents to list
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// What can be asked of one incident.
#[derive(Debug, Subcommand)]
enum IncidentsCommand {
    /// Show one incident: members, cause and why, what was done and what was held back
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
}

#[derive(Debug, Serialize)]
struct IncidentRow {
    #[serde(flatten)]
    doc: IncidentDoc,
    #[serde(skip)]
    cells: Vec<String>,
}

impl Row for IncidentRow {
    const HEADINGS: &'static [&'static str] =
        &["ID", "STATE", "SINCE", "HOSTS", "FINDINGS", "LIKELY CAUSE", "CONF", "WHY"];
    const WIDE_FROM: usize = 7;

    fn cells(&self) -> Vec<String> {
        self.cells.clone()
    }
}

impl IncidentRow {
    fn new(incident: &IncidentView, now_ms: i64) -> Self {
        let cells = vec![
            IncidentId(incident.id).to_string(),
            incident.state.clone(),
            words::ago(incident.opened_ms, now_ms),
            incident.hosts.to_string(),
            incident.members.len().to_string(),
            view::cause_line(incident),
            format!("{:.2}", incident.cause_confidence),
            incident.evidence.join("; "),
        ];
        Self { doc: incident.into(), cells }
    }
}

/// Lists incidents or shows one.
pub(crate) async fn run(args: &IncidentsArgs, context: &Context) -> Result<Exit, Failure> {
    if let Some(IncidentsCommand::Show { id }) = &args.command {
        return show(id, context).await;
    }
    let all = args.all || args.search.is_of_a_time();
    let request = ListIncidentsRequest {
        all,
        limit: args.limit,
        search: Some(if all { args.search.to_wire() } else { args.search.since_ever() }),
    };
    let answer = connect::queries(context).await?.list_incidents(request).await?.into_inner();
    let rows: Vec<_> = answer.incidents.iter().map(|incident| IncidentRow::new(incident, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    let (truncated, looked_back_to_ms) = (answer.truncated, answer.looked_back_to_ms);
    let found = Found { is_empty: rows.is_empty(), truncated, looked_back_to_ms };
    found.say(&args.search, context.format.is_for_people(), "no incident is open");
    Ok(Exit::Success)
}

#[derive(Debug, Serialize)]
struct IncidentWhole {
    incident: IncidentDoc,
    decisions: Vec<DecisionDoc>,
    recordings: Vec<FindingSeconds>,
    changes: Vec<ChangeRow>,
}

/// The seconds around one of its findings, for programs.
#[derive(Debug, Serialize)]
struct FindingSeconds {
    finding: String,
    #[serde(flatten)]
    recording: RecordingDoc,
}

/// Findings whose seconds are drawn, and series of each: the cause's first.
const SECONDS_DRAWN: [usize; 3] = [6, 2, 2];

async fn show(id: &str, context: &Context) -> Result<Exit, Failure> {
    let request = GetIncidentRequest { id: id.to_owned() };
    let answer = connect::queries(context).await?.get_incident(request).await?.into_inner();
    let incident = answer.incident.unwrap_or_default();
    if !context.format.is_for_people() {
        let decisions = answer.decisions.iter().map(Into::into).collect();
        let recordings = answer.recordings.iter().filter_map(|one| recorded::read(Some(one)));
        let recordings = recordings
            .map(|kept| FindingSeconds { finding: kept.finding.to_string(), recording: (&kept.recording).into() });
        let recordings = recordings.collect();
        let changes = answer.changes.iter().map(Into::into).collect();
        output::document(context, &IncidentWhole { incident: (&incident).into(), decisions, recordings, changes })?;
        return Ok(Exit::Success);
    }
    output::line_out(&format!(
        "{} is {} since {}: {} on {}, likely cause {} (confidence {:.2})",
        IncidentId(incident.id),
        incident.state,
        words::date_time(incident.opened_ms),
        words::count(incident.members.len(), "finding"),
        words::count(usize::try_from(incident.hosts).unwrap_or(usize::MAX), "host"),
        view::cause_line(&incident),
        incident.cause_confidence,
    ))?;
    for why in &incident.evidence {
        output::line_out(&format!("  {why}"))?;
    }
    output::line_out("")?;
    let members: Vec<_> = incident.members.iter().map(|member| FindingRow::new(member, answer.now_ms)).collect();
    output::rows(context, &members)?;
    // The cause is what is looked at first.
    let cause = incident.members.iter().find(|m| m.finding.as_ref().is_some_and(|f| f.id == incident.cause));
    if let Some((member, finding)) = cause.and_then(|member| Some((member, member.finding.as_ref()?))) {
        let lines = draw::finding(context, &member.hostname, finding, answer.now_ms).await;
        if !lines.is_empty() {
            output::line_out("")?;
        }
        for line in lines {
            output::line_out(&line)?;
        }
    }
    if !answer.changes.is_empty() {
        output::line_out("\nchanged before this:")?;
        output::rows(context, &answer.changes.iter().map(ChangeRow::from).collect::<Vec<_>>())?;
    }
    for (wire, series) in answer.recordings.iter().zip(SECONDS_DRAWN) {
        let Some(kept) = recorded::read(Some(wire)) else { continue };
        output::line_out("")?;
        output::line_out(&seconds_of(&incident, &kept))?;
        for line in recorded::drawn(&kept.recording, Some(kept.opened_ms), series) {
            output::line_out(&line)?;
        }
    }
    if !answer.decisions.is_empty() {
        output::line_out("")?;
        output::rows(context, &answer.decisions.iter().map(DecisionRow::new).collect::<Vec<_>>())?;
    }
    Ok(Exit::Success)
}

/// Whose seconds these are.
fn seconds_of(incident: &IncidentView, kept: &FindingRecording) -> String {
    let is_meant = |member: &&FindingView| member.finding.as_ref().is_some_and(|f| f.id == kept.finding.0);
    let Some((member, finding)) =
        incident.members.iter().find(is_meant).and_then(|member| Some((member, member.finding.as_ref()?)))
    else {
        return format!("the seconds around {}", kept.finding);
    };
    let subject = view::subject(finding.subject.as_ref());
    format!("the seconds around {} {subject} on {}", finding.kind, member.hostname)
}
