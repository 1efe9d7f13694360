//! Questions to a host and their answers, one noun a file. Ids stay with the shells.

mod connections;
mod logs;
mod models;
mod record;
mod top;

use std::time::Duration;

use mainstay_core::host_query::models::GLOB_BYTES_MAX;
use mainstay_core::host_query::{HostQuery, HostReply};
use mainstay_core::policy::Glob;

use super::{ConvertError, Problem};
use crate::v1;

/// A glob as it travels: empty is none.
fn glob_to_wire(glob: Option<&Glob>) -> String {
    glob.map_or_else(String::new, |glob| glob.as_str().to_owned())
}

fn glob_from_wire(field: &'static str, text: &str) -> Result<Option<Glob>, ConvertError> {
    let found = text.len();
    if found > GLOB_BYTES_MAX {
        let expected = format!("at most {GLOB_BYTES_MAX}").into();
        return Err(ConvertError::new(field, Problem::Length { expected, found }));
    }
    Ok(Glob::new(text))
}

/// A length of time in whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&HostQuery> for v1::host_query::What {
    fn from(query: &HostQuery) -> Self {
        match query {
            HostQuery::Models(query) => Self::Models(query.into()),
            HostQuery::Record(query) => Self::Record(query.into()),
            HostQuery::Top(query) => Self::Top(query.into()),
            HostQuery::Connections(query) => Self::Connections(query.into()),
            HostQuery::Logs(query) => Self::Logs(query.into()),
        }
    }
}

impl TryFrom<v1::host_query::What> for HostQuery {
    type Error = ConvertError;

    fn try_from(what: v1::host_query::What) -> Result<Self, ConvertError> {
        Ok(match what {
            v1::host_query::What::Models(query) => {
                Self::Models(query.try_into().map_err(|error: ConvertError| error.inside("models"))?)
            }
            v1::host_query::What::Record(query) => {
                Self::Record(query.try_into().map_err(|error: ConvertError| error.inside("record"))?)
            }
            v1::host_query::What::Top(query) => {
                Self::Top(query.try_into().map_err(|error: ConvertError| error.inside("top"))?)
            }
            v1::host_query::What::Connections(query) => {
                Self::Connections(query.try_into().map_err(|error: ConvertError| error.inside("connections"))?)
            }
            v1::host_query::What::Logs(query) => {
                Self::Logs(query.try_into().map_err(|error: ConvertError| error.inside("logs"))?)
            }
        })
    }
}

impl From<&HostReply> for v1::host_reply::What {
    fn from(reply: &HostReply) -> Self {
        match reply {
            HostReply::Models(reply) => Self::Models(reply.into()),
            HostReply::Record(reply) => Self::Record(reply.into()),
            HostReply::Top(reply) => Self::Top(reply.into()),
            HostReply::Connections(reply) => Self::Connections(reply.into()),
            HostReply::Logs(reply) => Self::Logs(reply.into()),
        }
    }
}

/// The answer, or why there is none, as the host says it.
impl TryFrom<v1::host_reply::What> for HostReply {
    type Error = ConvertError;

    fn try_from(what: v1::host_reply::What) -> Result<Self, ConvertError> {
        Ok(match what {
            v1::host_reply::What::Error(text) => return Err(ConvertError::invalid("error", text)),
            v1::host_reply::What::Models(reply) => {
                Self::Models(reply.try_into().map_err(|error: ConvertError| error.inside("models"))?)
            }
            v1::host_reply::What::Record(reply) => {
                Self::Record(reply.try_into().map_err(|error: ConvertError| error.inside("record"))?)
            }
            v1::host_reply::What::Top(reply) => {
                Self::Top(reply.try_into().map_err(|error: ConvertError| error.inside("top"))?)
            }
            v1::host_reply::What::Connections(reply) => {
                Self::Connections(reply.try_into().map_err(|error: ConvertError| error.inside("connections"))?)
            }
            v1::host_reply::What::Logs(reply) => Self::Logs(reply.into()),
        })
    }
}
