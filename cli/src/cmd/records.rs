//! `mainstay ledger list`: what hosts wrote down, record by record.

use clap::Args;
use mainstay_proto::v1::{ListRecordsRequest, RecordView};
use serde::Serialize;

use super::HostSelector;
use super::search::{Found, SearchArgs};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{records, view, words};

/// Arguments of `mainstay ledger list`.
#[derive(Debug, Args)]
pub(crate) struct RecordsArgs {
    #[command(flatten)]
    selector: HostSelector,
    #[command(flatten)]
    search: SearchArgs,
    /// Most records to list
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// One record in a line.
#[derive(Debug, Serialize)]
struct RecordRow {
    at: Option<String>,
    host: String,
    host_id: String,
    index: u64,
    kind: String,
    subject: String,
    text: String,
    id: Option<String>,
    #[serde(skip)]
    shown_at: String,
}

impl Row for RecordRow {
    const HEADINGS: &'static [&'static str] = &["AT", "HOST", "NO", "RECORD", "SUBJECT", "TEXT", "ID"];
    const WIDE_FROM: usize = 6;

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &str| if text.is_empty() { "–".to_owned() } else { words::one_line(text) };
        vec![
            self.shown_at.clone(),
            self.host.clone(),
            format!("#{}", self.index),
            self.kind.clone(),
            or_dash(&self.subject),
            or_dash(&self.text),
            self.id.clone().unwrap_or_else(|| "–".to_owned()),
        ]
    }
}

impl From<RecordView> for RecordRow {
    fn from(view: RecordView) -> Self {
        let record = view.record.unwrap_or_default();
        let (at_ms, body) = (record.at.as_ref().map(|at| at.wall_ms), record.body.as_ref());
        let unread = || {
            let who = if view.kind == "unreadable" { "the collector" } else { "this mainstay" };
            format!("{who} cannot read it; a newer one may, and `mainstay ledger verify` says whether it is damaged")
        };
        let (text, id) = (records::text(body).unwrap_or_else(unread), records::id(body));
        Self {
            at: at_ms.and_then(view::moment),
            shown_at: at_ms.map_or_else(|| "–".to_owned(), words::date_time),
            host: view.hostname,
            host_id: view::host_id(&view.host_id),
            index: view.index,
            kind: view.kind,
            subject: view.subject,
            text,
            id,
        }
    }
}

/// Lists records, newest first.
pub(crate) async fn run(args: &RecordsArgs, context: &Context) -> Result<Exit, Failure> {
    let request = ListRecordsRequest {
        selector: Some(args.selector.to_wire()),
        limit: args.limit,
        search: Some(args.search.to_wire()),
    };
    let answer = connect::queries(context).await?.list_records(request).await?.into_inner();
    let (truncated, looked_back_to_ms) = (answer.truncated, answer.looked_back_to_ms);
    let rows: Vec<RecordRow> = answer.records.into_iter().map(Into::into).collect();
    output::rows(context, &rows)?;
    let found = Found { is_empty: rows.is_empty(), truncated, looked_back_to_ms };
    found.say(&args.search, context.format.is_for_people(), "no host wrote anything down in that time");
    Ok(Exit::Success)
}
