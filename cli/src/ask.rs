//! Asking a host something over its session, through the collector.

use mainstay_core::host_query::{HostQuery, HostReply};
use mainstay_proto::v1;

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// What a host answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its name.
    pub(crate) hostname: String,
    /// The answer.
    pub(crate) reply: HostReply,
    /// When, by the collector's clock.
    pub(crate) now_ms: i64,
}

/// Asks one question.
pub(crate) async fn host(context: &Context, host: &str, query: &HostQuery) -> Result<Answer, Failure> {
    let query = v1::HostQuery { id: 0, what: Some(query.into()) };
    let request = v1::AskHostRequest { host: host.to_owned(), query: Some(query) };
    let answer = connect::commands(context).await?.ask_host(request).await?.into_inner();
    let what = answer.reply.and_then(|reply| reply.what).ok_or_else(|| {
        Failure::new(Exit::Failed, "the host answered with something that this mainstay does not know; upgrade it")
    })?;
    let reply = HostReply::try_from(what).map_err(|error| {
        Failure::new(Exit::Failed, format!("the answer of {} cannot be read: {error}", answer.hostname))
    })?;
    Ok(Answer { hostname: answer.hostname, reply, now_ms: answer.now_ms })
}

/// An answer to something that was not asked.
pub(crate) fn of_another_kind(hostname: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{hostname} answered another question than was asked"))
}
