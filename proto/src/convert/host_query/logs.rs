//! `logs`: the last lines of the journal.

use std::time::Duration;

use mainstay_core::host_query::logs::{LogLine, PRIORITY_MAX};
use mainstay_core::host_query::{LogsQuery, LogsReply};
use mainstay_core::subject::UnitName;

use super::super::ConvertError;
use super::millis;
use crate::v1;

impl From<&LogsQuery> for v1::LogsQuery {
    fn from(query: &LogsQuery) -> Self {
        Self {
            unit: query.unit.as_ref().map_or_else(String::new, |unit| unit.as_str().to_owned()),
            since_ms: millis(query.since),
            priority: query.priority.into(),
            limit: query.limit,
        }
    }
}

impl TryFrom<v1::LogsQuery> for LogsQuery {
    type Error = ConvertError;

    fn try_from(query: v1::LogsQuery) -> Result<Self, ConvertError> {
        let unit = Some(query.unit).filter(|unit| !unit.is_empty()).map(|unit| unit.parse::<UnitName>());
        Ok(Self {
            unit: unit.transpose().map_err(|error| ConvertError::invalid("unit", error))?,
            since: Duration::from_millis(query.since_ms),
            priority: priority(query.priority),
            limit: query.limit,
        })
    }
}

/// There are no priorities beyond debug.
fn priority(number: u32) -> u8 {
    u8::try_from(number).map_or(PRIORITY_MAX, |priority| priority.min(PRIORITY_MAX))
}

impl From<&LogsReply> for v1::LogsReply {
    fn from(reply: &LogsReply) -> Self {
        Self { lines: reply.lines.iter().map(Into::into).collect(), has_more: reply.has_more }
    }
}

impl From<v1::LogsReply> for LogsReply {
    fn from(reply: v1::LogsReply) -> Self {
        Self { lines: reply.lines.into_iter().map(Into::into).collect(), has_more: reply.has_more }
    }
}

impl From<&LogLine> for v1::LogLine {
    fn from(line: &LogLine) -> Self {
        let LogLine { wall_ms, priority, unit, from, text } = line.clone();
        Self { wall_ms, priority: priority.into(), unit, from, text }
    }
}

impl From<v1::LogLine> for LogLine {
    fn from(line: v1::LogLine) -> Self {
        let v1::LogLine { wall_ms, unit, from, text, .. } = line;
        Self { wall_ms, priority: priority(line.priority), unit, from, text }
    }
}
