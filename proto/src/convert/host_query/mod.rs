//! Questions to a host and their answers, one noun a file. Ids stay with the shells.

mod models;
mod record;
mod top;

use mainstay_core::host_query::{HostQuery, HostReply};

use super::ConvertError;
use crate::v1;

impl From<&HostQuery> for v1::host_query::What {
    fn from(query: &HostQuery) -> Self {
        match query {
            HostQuery::Models(query) => Self::Models(query.into()),
            HostQuery::Record(query) => Self::Record(query.into()),
            HostQuery::Top(query) => Self::Top(query.into()),
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
        })
    }
}

impl From<&HostReply> for v1::host_reply::What {
    fn from(reply: &HostReply) -> Self {
        match reply {
            HostReply::Models(reply) => Self::Models(reply.into()),
            HostReply::Record(reply) => Self::Record(reply.into()),
            HostReply::Top(reply) => Self::Top(reply.into()),
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
        })
    }
}
