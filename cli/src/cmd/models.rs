//! `mainstay host models`: what a host has learned to be usual, asked of the host itself.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use mainstay_core::detect::learned::{LearnedModel, LearnedSubject, SnapshotInfo};
use mainstay_core::host_query::{HostQuery, HostReply, ModelsQuery, ModelsReply};
use mainstay_core::policy::Glob;
use mainstay_core::policy::order::Order;
use mainstay_core::record::LearningChange;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::order::{self, Signing};
use crate::output::{self, Row};
use crate::{ask, view, words};

/// Subjects that are shown without `--limit`: a screen or two.
const SHOWN: u32 = 50;

/// Arguments of `mainstay host models`.
#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// Only metrics with their labels, mount points and units that this glob matches (`*cpu*`)
    #[arg(long, value_name = "GLOB")]
    metric: Option<String>,
    /// Most of them that are shown; 0 is all
    #[arg(long, default_value_t = SHOWN, value_name = "N")]
    limit: u32,
    #[command(subcommand)]
    change: Option<ModelsChange>,
}

impl ModelsArgs {
    /// Whether nothing is changed.
    pub(crate) fn only_looks(&self) -> bool {
        self.change.is_none()
    }
}

/// What can be done to what was learned. Each is signed, and stands in the host's ledger.
#[derive(Debug, Subcommand)]
enum ModelsChange {
    /// Forget it, so that it is learned anew
    Reset {
        /// Only metrics with their labels, mount points and units that this glob matches
        #[arg(long, value_name = "GLOB")]
        metric: Option<String>,
        /// Why; it stands in the host's ledger
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Go back to a snapshot of it
    Rollback {
        /// The snapshot's moment, as `mainstay host models HOST -o json` gives it (default: the newest)
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        to: Option<i64>,
        /// Why; it stands in the host's ledger
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
}

/// A moment as snapshots are named: RFC 3339, or milliseconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    let read = text.parse::<i64>().ok().or_else(|| text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond));
    read.ok_or_else(|| format!("`{text}` is not a moment such as 2026-11-20T03:14:07.210Z"))
}

/// Signs a change and has the host carry it out.
async fn order(
    host: &str,
    change: LearningChange,
    reason: &str,
    signing: &Signing,
    context: &Context,
) -> Result<Exit, Failure> {
    let host = super::hold::find(host, context).await?;
    let by = order::author(context, reason)?;
    let order = Order::Learning { host, change, not_after_ms: order::not_after_ms(), by };
    order::submit(context, signing, &order, &host.to_string()).await
}

#[derive(Debug, Serialize)]
struct ModelsDoc {
    host: String,
    frozen: bool,
    models: Vec<ModelRow>,
    matching: u32,
    subjects: Vec<SubjectRow>,
    snapshots: Vec<SnapshotRow>,
    relearning: Vec<String>,
}

/// Carries the command out.
pub(crate) async fn run(args: &ModelsArgs, context: &Context) -> Result<Exit, Failure> {
    match &args.change {
        None => show(args, context).await,
        Some(ModelsChange::Reset { metric, reason, signing }) => {
            let metric = metric.as_deref().or(args.metric.as_deref()).map(glob).transpose()?;
            order(&args.host, LearningChange::Reset { metric }, reason, signing, context).await
        }
        Some(ModelsChange::Rollback { to, reason, signing }) => {
            order(&args.host, LearningChange::Rollback { to_ms: *to }, reason, signing, context).await
        }
    }
}

async fn show(args: &ModelsArgs, context: &Context) -> Result<Exit, Failure> {
    let metric = args.metric.as_deref().map(glob).transpose()?;
    let wanted = if args.limit == 0 { u32::MAX } else { args.limit };
    let (mut whole, hostname, now_ms) = page(args, &ModelsQuery { metric, from: 0, limit: wanted }, context).await?;
    while let Some(from) = whole.next.filter(|from| *from < wanted) {
        let metric = args.metric.as_deref().map(glob).transpose()?;
        let (more, ..) = page(args, &ModelsQuery { metric, from, limit: wanted - from }, context).await?;
        whole.subjects.extend(more.subjects);
        // A host that forgets meanwhile must not make this go round for ever.
        whole.next = more.next.filter(|next| *next > from);
    }
    let doc = document(whole, hostname, now_ms);
    if context.format.is_for_people() {
        print(&doc, context)?
    } else {
        output::document(context, &doc)?
    }
    Ok(Exit::Success)
}

/// A glob of the command line.
fn glob(text: &str) -> Result<Glob, Failure> {
    Glob::new(text).ok_or_else(|| Failure::usage("--metric is empty and would match nothing; leave it out for all"))
}

async fn page(
    args: &ModelsArgs,
    query: &ModelsQuery,
    context: &Context,
) -> Result<(ModelsReply, String, i64), Failure> {
    let answer = ask::host(context, &args.host, &HostQuery::Models(query.clone())).await?;
    match answer.reply {
        HostReply::Models(reply) => Ok((reply, answer.hostname, answer.now_ms)),
        _ => Err(ask::of_another_kind(&answer.hostname)),
    }
}

fn document(reply: ModelsReply, host: String, now_ms: i64) -> ModelsDoc {
    ModelsDoc {
        host,
        frozen: reply.is_frozen,
        models: reply.models.iter().map(|model| ModelRow::new(model, now_ms)).collect(),
        matching: reply.matching,
        subjects: reply.subjects.iter().map(|subject| SubjectRow::new(subject, now_ms)).collect(),
        snapshots: reply.snapshots.iter().map(SnapshotRow::new).collect(),
        relearning: reply.relearning,
    }
}

fn print(doc: &ModelsDoc, context: &Context) -> Result<(), Failure> {
    if doc.frozen {
        output::line_out("learning is frozen by policy: models judge and do not learn")?;
    }
    for text in &doc.relearning {
        output::line_out(&format!("learned anew since the last start: {text}"))?;
    }
    output::rows(context, &doc.models)?;
    if !doc.subjects.is_empty() {
        output::line_out("")?;
        output::rows(context, &doc.subjects)?;
    }
    let shown = u32::try_from(doc.subjects.len()).unwrap_or(u32::MAX);
    if doc.matching > shown {
        output::say(&format!("{shown} of {} shown; --limit and --metric choose", doc.matching));
    }
    if !doc.snapshots.is_empty() {
        output::line_out("")?;
        output::rows(context, &doc.snapshots)?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct ModelRow {
    model: String,
    version: u32,
    subjects: u32,
    since: Option<String>,
    trained_ms: u64,
    learning_ms: Option<u64>,
    state_bytes: u64,
    in_force: String,
    frozen: bool,
    reset: Option<String>,
    rolled_back: Option<String>,
    #[serde(skip)]
    since_words: String,
}

impl ModelRow {
    fn new(model: &LearnedModel, now_ms: i64) -> Self {
        Self {
            model: model.name.clone(),
            version: model.version,
            subjects: model.subjects,
            since: model.since_ms.and_then(view::moment),
            trained_ms: millis(model.trained),
            learning_ms: model.learning.map(millis),
            state_bytes: model.state_bytes,
            in_force: model.in_force.clone(),
            frozen: model.is_frozen,
            reset: model.reset_ms.and_then(view::moment),
            rolled_back: model.rolled_back_ms.and_then(view::moment),
            since_words: since(model.since_ms, now_ms),
        }
    }

    fn state(&self) -> String {
        let mut words = match self.learning_ms {
            Some(left) => format!("learning, {} left", words::short(left)),
            None => "learned".to_owned(),
        };
        if self.frozen {
            words.push_str(", frozen");
        }
        for (what, at) in [("reset", &self.reset), ("rolled back", &self.rolled_back)] {
            if let Some(at) = at {
                words.push_str(&format!(", {what} {at}"));
            }
        }
        words
    }
}

impl Row for ModelRow {
    const HEADINGS: &'static [&'static str] =
        &["MODEL", "VERSION", "SUBJECTS", "SINCE", "TRAINED", "STATE", "SIZE", "IN FORCE"];
    const WIDE_FROM: usize = 8;

    fn cells(&self) -> Vec<String> {
        vec![
            self.model.clone(),
            self.version.to_string(),
            self.subjects.to_string(),
            self.since_words.clone(),
            words::short(self.trained_ms),
            self.state(),
            words::bytes(self.state_bytes),
            self.in_force.clone(),
        ]
    }
}

#[derive(Debug, Serialize)]
struct SubjectRow {
    model: String,
    subject: String,
    expected: Option<f64>,
    scale: Option<f64>,
    limit: Option<f64>,
    says: String,
    trained_ms: u64,
    learning_ms: Option<u64>,
    since: Option<String>,
    state_bytes: u64,
    #[serde(skip)]
    since_words: String,
}

impl SubjectRow {
    fn new(subject: &LearnedSubject, now_ms: i64) -> Self {
        Self {
            model: subject.model.clone(),
            subject: subject.name.clone(),
            expected: subject.expected,
            scale: subject.scale,
            limit: subject.limit,
            says: subject.text.clone(),
            trained_ms: millis(subject.trained),
            learning_ms: subject.learning.map(millis),
            since: subject.since_ms.and_then(view::moment),
            state_bytes: subject.state_bytes,
            since_words: since(subject.since_ms, now_ms),
        }
    }
}

impl Row for SubjectRow {
    const HEADINGS: &'static [&'static str] =
        &["MODEL", "SUBJECT", "USUAL NOW", "SCALE", "UNUSUAL FROM", "SAYS", "TRAINED", "SINCE", "SIZE"];
    const WIDE_FROM: usize = 7;

    fn cells(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), words::number);
        let says = match self.learning_ms {
            Some(left) if self.says.is_empty() => format!("learning, {} left", words::short(left)),
            Some(left) => format!("{}; learning, {} left", self.says, words::short(left)),
            None => self.says.clone(),
        };
        vec![
            self.model.clone(),
            self.subject.clone(),
            number(self.expected),
            number(self.scale),
            self.limit.map_or_else(|| "–".to_owned(), |limit| format!("±{}", words::number(limit))),
            says,
            words::short(self.trained_ms),
            self.since_words.clone(),
            words::bytes(self.state_bytes),
        ]
    }
}

#[derive(Debug, Serialize)]
struct SnapshotRow {
    snapshot: Option<String>,
    why: String,
    bytes: u64,
    unreadable: Option<String>,
    #[serde(skip)]
    at_ms: i64,
}

impl SnapshotRow {
    fn new(snapshot: &SnapshotInfo) -> Self {
        Self {
            snapshot: view::moment(snapshot.at_ms),
            why: snapshot.why.clone(),
            bytes: snapshot.bytes,
            unreadable: snapshot.unreadable.clone(),
            at_ms: snapshot.at_ms,
        }
    }
}

impl Row for SnapshotRow {
    const HEADINGS: &'static [&'static str] = &["SNAPSHOT", "TAKEN", "SIZE", "USABLE"];
    const WIDE_FROM: usize = 4;

    fn cells(&self) -> Vec<String> {
        let taken = match self.why.as_str() {
            "daily" => "daily".to_owned(),
            why => format!("before the {why}"),
        };
        vec![
            words::date_time(self.at_ms),
            taken,
            words::bytes(self.bytes),
            self.unreadable.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        ]
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since(since_ms: Option<i64>, now_ms: i64) -> String {
    since_ms.map_or_else(|| "–".to_owned(), |at| words::ago(at, now_ms))
}
