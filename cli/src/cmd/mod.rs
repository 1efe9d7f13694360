//! One file per noun. Each has its arguments and a function that carries it out.

use std::time::Duration;

use crate::arguments::Command;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod capacity;
pub(crate) mod changes;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod connections;
pub(crate) mod decisions;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod findings;
pub(crate) mod fleet_top;
pub(crate) mod generate;
pub(crate) mod hold;
pub(crate) mod host;
pub(crate) mod host_logs;
pub(crate) mod host_top;
pub(crate) mod hosts;
pub(crate) mod incidents;
pub(crate) mod ledger;
pub(crate) mod models;
pub(crate) mod operator;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod timeline;
pub(crate) mod token;
pub(crate) mod undo;

/// Carries one command out, again and again with `--watch`.
pub(crate) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    let Some(every) = context.watch else { return once(&command, context).await };
    if !may_be_watched(&command) {
        return Err(Failure::usage(
            "--watch goes with what only looks: hosts, host show, host models, host top, host connections, host logs, \
             host timeline, query, top, compare, findings, incidents, decisions, changes, explain, approvals list, holds, policy status, \
             ledger list, audit, status",
        ));
    }
    loop {
        if output::is_colourful() {
            // Cursor home and clear below: the screen does not flicker as it would when cleared whole.
            output::line_out("\x1b[H\x1b[J")?;
        }
        once(&command, context).await?;
        tokio::time::sleep(every.max(Duration::from_millis(200))).await;
    }
}

fn may_be_watched(command: &Command) -> bool {
    if let Command::Host(command) = command {
        return command.only_looks();
    }
    matches!(
        command,
        Command::Hosts(_)
            | Command::Query(_)
            | Command::Top(_)
            | Command::Compare(_)
            | Command::Findings(_)
            | Command::Incidents(_)
            | Command::Decisions(_)
            | Command::Changes(_)
            | Command::Explain(_)
            | Command::Approvals(approvals::ApprovalsCommand::List)
            | Command::Holds
            | Command::Policy(policy::PolicyCommand::Status)
            | Command::Ledger(ledger::LedgerCommand::List(_))
            | Command::Audit(_)
            | Command::Status
    )
}

async fn once(command: &Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Hosts(args) => hosts::run(args, context).await,
        Command::Host(command) => host::run(command, context).await,
        Command::Query(args) => query::run(args, context).await,
        Command::Top(args) => fleet_top::run(args, context).await,
        Command::Compare(args) => compare::run(args, context).await,
        Command::Capacity(args) => capacity::run(args, context).await,
        Command::Findings(args) => findings::run(args, context).await,
        Command::Incidents(args) => incidents::run(args, context).await,
        Command::Decisions(args) => decisions::run(args, context).await,
        Command::Changes(args) => changes::run(args, context).await,
        Command::Event(command) => event::run(command, context).await,
        Command::Explain(args) => explain::run(args, context).await,
        Command::Approvals(command) => approvals::run(command, context).await,
        Command::Hold(args) => hold::run(args, context).await,
        Command::Holds => hold::list(context).await,
        Command::Undo(args) => undo::run(args, context).await,
        Command::Policy(command) => policy::run(command, context).await,
        Command::Ledger(command) => ledger::run(command, context).await,
        Command::Token(command) => token::run(command, context).await,
        Command::Operator(command) => operator::run(command, context).await,
        Command::Backup(command) => backup::run(command, context).await,
        Command::Check(command) => check::run(command, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Status => status::run(context).await,
        Command::Gen(command) => generate::run(command),
    }
}

/// Options that narrow an answer to some hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct HostSelector {
    /// Only hosts with this label, as NAME=VALUE; may be given more than once, all must match
    #[arg(short, long = "selector", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only this host, by name, id or the beginning of an id
    #[arg(long)]
    host: Option<String>,
}

impl HostSelector {
    pub(crate) fn to_wire(&self) -> mainstay_proto::v1::Selector {
        mainstay_proto::v1::Selector { labels: labels(&self.labels), host: self.host.clone().unwrap_or_default() }
    }
}

/// Labels for the wire.
pub(crate) fn labels(labels: &[(String, String)]) -> Vec<mainstay_proto::v1::Label> {
    labels.iter().map(|(name, value)| mainstay_proto::v1::Label { name: name.clone(), value: value.clone() }).collect()
}

/// Reads `NAME=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE, such as role=web")),
    }
}

/// Wall time now, in milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The moment `back` ago, for questions about the past.
pub(crate) fn since(back: Duration) -> i64 {
    wall_ms().saturating_sub(i64::try_from(back.as_millis()).unwrap_or(i64::MAX))
}
