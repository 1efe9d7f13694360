//! `mainstay audit`: what operators ordered.

use clap::Args;
use mainstay_proto::v1::ListCommandsRequest;
use serde::Serialize;

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{view, words};

/// Arguments of `mainstay audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Most commands to list
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct AuditRow {
    at: Option<String>,
    operator: String,
    role: String,
    command: String,
    result: String,
    #[serde(skip)]
    shown_at: String,
}

impl Row for AuditRow {
    const HEADINGS: &'static [&'static str] = &["AT", "OPERATOR", "ROLE", "COMMAND", "RESULT"];
    const WIDE_FROM: usize = 5;

    fn cells(&self) -> Vec<String> {
        vec![self.shown_at.clone(), self.operator.clone(), self.role.clone(), self.command.clone(), self.result.clone()]
    }
}

/// Lists commands, newest first.
pub(crate) async fn run(args: &AuditArgs, context: &Context) -> Result<Exit, Failure> {
    let request = ListCommandsRequest { limit: args.limit };
    let answer = connect::queries(context).await?.list_commands(request).await?.into_inner();
    let rows: Vec<_> = answer
        .commands
        .into_iter()
        .map(|command| AuditRow {
            at: view::moment(command.at_ms),
            shown_at: words::date_time(command.at_ms),
            operator: command.operator,
            role: command.role,
            command: command.command,
            result: command.result,
        })
        .collect();
    output::rows(context, &rows)?;
    Ok(Exit::Success)
}
