use crate::context::Context;
use crate::exit::{Exit, Failure};
use clap::Subcommand;
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    List,
}
pub(crate) async fn run(_: &ApprovalsCommand, _: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "not in this build yet"))
}
