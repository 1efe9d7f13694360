//! `mainstay event`: marks among the changes of hosts.

use std::time::Duration;

use clap::Subcommand;
use mainstay_proto::v1::{MarkEventRequest, Selector};

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{output, words};

/// What can be marked.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Say that something was deployed; it shows among the changes of these hosts, and in incidents that follow
    Deploy {
        /// What, such as "shop 1.42"
        name: String,
        /// Only on this host, by name, id or the beginning of an id
        #[arg(long)]
        host: Option<String>,
        /// Only on hosts with this label, as NAME=VALUE; may be given more than once, all must match
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = super::label)]
        labels: Vec<(String, String)>,
        /// More about it: a commit, a link
        #[arg(long, default_value = "")]
        text: String,
        /// How long ago it was done
        #[arg(long, value_parser = crate::arguments::duration)]
        ago: Option<Duration>,
    },
}

/// Leaves a mark.
pub(crate) async fn run(command: &EventCommand, context: &Context) -> Result<Exit, Failure> {
    let EventCommand::Deploy { name, host, labels, text, ago } = command;
    let request = MarkEventRequest {
        kind: "deploy".to_owned(),
        name: name.clone(),
        selector: Some(Selector { labels: super::labels(labels), host: host.clone().unwrap_or_default() }),
        text: text.clone(),
        at_ms: ago.map_or(0, super::since),
    };
    let answer = connect::commands(context).await?.mark_event(request).await?.into_inner();
    let hosts = words::count(usize::try_from(answer.hosts).unwrap_or(usize::MAX), "host");
    output::say(&format!("marked on {hosts} at {}", words::date_time(answer.at_ms)));
    Ok(Exit::Success)
}
