use crate::context::Context;
use crate::exit::{Exit, Failure};
use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {}
pub(crate) async fn run(_: &UndoArgs, _: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "not in this build yet"))
}
