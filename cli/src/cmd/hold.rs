use crate::context::Context;
use crate::exit::{Exit, Failure};
use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {}
pub(crate) async fn run(_: &HoldArgs, _: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "not in this build yet"))
}
pub(crate) async fn list(_: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "not in this build yet"))
}
