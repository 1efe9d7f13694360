//! `mainstay changes`: what was changed on hosts, by whom.

use clap::Args;
use mainstay_proto::v1::{ChangeView, ListChangesRequest};
use serde::Serialize;

use super::search::{Found, SearchArgs};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{view, words};

/// Arguments of `mainstay changes`.
#[derive(Debug, Args)]
pub(crate) struct ChangesArgs {
    /// Only this host, by name, id or the beginning of an id
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// Only hosts with this label, as NAME=VALUE; may be given more than once, all must match
    #[arg(short, long = "selector", value_name = "NAME=VALUE", value_parser = super::label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    search: SearchArgs,
    /// Most changes to list
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// One change in a line.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeRow {
    at: Option<String>,
    seen: Option<String>,
    /// A host's name, or what a mark was made for.
    host: String,
    host_id: Option<String>,
    hosts: u32,
    kind: String,
    subject: String,
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    text: String,
    #[serde(skip)]
    shown_at: String,
}

impl Row for ChangeRow {
    const HEADINGS: &'static [&'static str] = &["AT", "HOST", "CHANGE", "SUBJECT", "FROM → TO", "BY", "TEXT"];
    const WIDE_FROM: usize = 6;

    fn cells(&self) -> Vec<String> {
        let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        let values = match (&self.from, &self.to) {
            (None, None) => "–".to_owned(),
            (None, Some(to)) => to.clone(),
            (from, to) => format!("{} → {}", or_dash(from), or_dash(to)),
        };
        let text = if self.text.is_empty() { "–".to_owned() } else { self.text.clone() };
        let (at, host) = (self.shown_at.clone(), self.host.clone());
        vec![at, host, self.kind.clone(), self.subject.clone(), values, or_dash(&self.by), text]
    }
}

impl From<&ChangeView> for ChangeRow {
    fn from(view: &ChangeView) -> Self {
        let change = view.change.clone().unwrap_or_default();
        Self {
            at: view::moment(change.at_ms),
            shown_at: words::date_time(change.at_ms),
            seen: view::moment(change.seen_ms),
            host: view.hostname.clone(),
            host_id: (!view.host_id.is_empty()).then(|| view::host_id(&view.host_id)),
            hosts: view.hosts,
            kind: change.kind,
            subject: change.subject,
            from: change.before,
            to: change.after,
            by: change.by,
            text: change.text,
        }
    }
}

/// Lists changes, newest first.
pub(crate) async fn run(args: &ChangesArgs, context: &Context) -> Result<Exit, Failure> {
    let host = args.host.clone().unwrap_or_default();
    let request = ListChangesRequest {
        selector: Some(mainstay_proto::v1::Selector { labels: super::labels(&args.labels), host }),
        limit: args.limit,
        search: Some(args.search.to_wire()),
    };
    let answer = connect::queries(context).await?.list_changes(request).await?.into_inner();
    let rows: Vec<ChangeRow> = answer.changes.iter().map(Into::into).collect();
    output::rows(context, &rows)?;
    let (truncated, looked_back_to_ms) = (answer.truncated, answer.looked_back_to_ms);
    let found = Found { is_empty: rows.is_empty(), truncated, looked_back_to_ms };
    found.say(
        &args.search,
        context.format.is_for_people(),
        "nothing was changed in that time, as far as hosts have told",
    );
    Ok(Exit::Success)
}
