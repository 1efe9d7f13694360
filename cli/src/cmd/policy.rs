use crate::context::Context;
use crate::exit::{Exit, Failure};
use clap::Subcommand;
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    Status,
}
pub(crate) async fn run(_: &PolicyCommand, _: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "not in this build yet"))
}
