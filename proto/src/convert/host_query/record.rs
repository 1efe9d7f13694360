//! `record`: what the flight recorder has. Its columns travel as the core writes them.

use std::time::Duration;

use mainstay_core::host_query::{RecordQuery, RecordReply};
use mainstay_core::recording::Recording;

use super::super::ConvertError;
use super::{glob_from_wire, glob_to_wire, millis};
use crate::v1;

impl From<&RecordQuery> for v1::RecordQuery {
    fn from(query: &RecordQuery) -> Self {
        Self {
            last_ms: millis(query.last),
            series: glob_to_wire(query.series.as_ref()),
            from: query.from,
            limit: query.limit,
        }
    }
}

impl TryFrom<v1::RecordQuery> for RecordQuery {
    type Error = ConvertError;

    fn try_from(query: v1::RecordQuery) -> Result<Self, ConvertError> {
        Ok(Self {
            last: Duration::from_millis(query.last_ms),
            series: glob_from_wire("series", &query.series)?,
            from: query.from,
            limit: query.limit,
        })
    }
}

impl From<&RecordReply> for v1::RecordReply {
    fn from(reply: &RecordReply) -> Self {
        Self { columns: reply.recording.encode(), matching: reply.matching, next: reply.next }
    }
}

impl TryFrom<v1::RecordReply> for RecordReply {
    type Error = ConvertError;

    fn try_from(reply: v1::RecordReply) -> Result<Self, ConvertError> {
        let recording = Recording::decode(&reply.columns).map_err(|error| ConvertError::invalid("columns", error))?;
        Ok(Self { recording, matching: reply.matching, next: reply.next })
    }
}
