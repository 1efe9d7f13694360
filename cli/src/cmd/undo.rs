//! `mainstay undo`: bring back what an action reclaimed, while it is kept.

use clap::Args;
use mainstay_core::id::ActionId;
use mainstay_core::policy::order::Order;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::order::{self, Signing};

/// Arguments of `mainstay undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// The action's id, as `mainstay explain` shows it
    action: ActionId,
    /// The host that carried it out, by name, id or the beginning of an id
    #[arg(long)]
    host: String,
    /// Why; it stands in the host's ledger
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    signing: Signing,
}

/// Orders the undo and prints what the host answered.
pub(crate) async fn run(args: &UndoArgs, context: &Context) -> Result<Exit, Failure> {
    let host = super::hold::find(&args.host, context).await?;
    let order = Order::Undo {
        host,
        action: args.action,
        not_after_ms: order::not_after_ms(),
        by: order::author(context, &args.reason)?,
    };
    order::submit(context, &args.signing, &order, &host.to_string()).await
}
