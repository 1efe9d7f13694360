//! `models`: what the detectors have learned.

use std::time::Duration;

use mainstay_core::detect::learned::{LearnedModel, LearnedSubject, SnapshotInfo};
use mainstay_core::host_query::{ModelsQuery, ModelsReply};

use super::super::{ConvertError, all, optional_finite};
use super::{glob_from_wire, glob_to_wire, millis};
use crate::v1;

impl From<&ModelsQuery> for v1::ModelsQuery {
    fn from(query: &ModelsQuery) -> Self {
        let metric = glob_to_wire(query.metric.as_ref());
        Self { metric, from: query.from, limit: query.limit }
    }
}

impl TryFrom<v1::ModelsQuery> for ModelsQuery {
    type Error = ConvertError;

    fn try_from(query: v1::ModelsQuery) -> Result<Self, ConvertError> {
        Ok(Self { metric: glob_from_wire("metric", &query.metric)?, from: query.from, limit: query.limit })
    }
}

impl From<&ModelsReply> for v1::ModelsReply {
    fn from(reply: &ModelsReply) -> Self {
        Self {
            models: reply.models.iter().map(Into::into).collect(),
            subjects: reply.subjects.iter().map(Into::into).collect(),
            matching: reply.matching,
            next: reply.next,
            frozen: reply.is_frozen,
            snapshots: reply.snapshots.iter().map(Into::into).collect(),
            relearning: reply.relearning.clone(),
        }
    }
}

impl TryFrom<v1::ModelsReply> for ModelsReply {
    type Error = ConvertError;

    fn try_from(reply: v1::ModelsReply) -> Result<Self, ConvertError> {
        Ok(Self {
            models: reply.models.into_iter().map(Into::into).collect(),
            subjects: all("subjects", reply.subjects)?,
            matching: reply.matching,
            next: reply.next,
            is_frozen: reply.frozen,
            snapshots: reply.snapshots.into_iter().map(Into::into).collect(),
            relearning: reply.relearning,
        })
    }
}

impl From<&LearnedModel> for v1::LearnedModel {
    fn from(model: &LearnedModel) -> Self {
        Self {
            name: model.name.clone(),
            version: model.version,
            subjects: model.subjects,
            since_ms: model.since_ms,
            trained_ms: millis(model.trained),
            learning_ms: model.learning.map(millis),
            state_bytes: model.state_bytes,
            in_force: model.in_force.clone(),
            frozen: model.is_frozen,
            reset_ms: model.reset_ms,
            rolled_back_ms: model.rolled_back_ms,
        }
    }
}

impl From<v1::LearnedModel> for LearnedModel {
    fn from(model: v1::LearnedModel) -> Self {
        Self {
            name: model.name,
            version: model.version,
            subjects: model.subjects,
            since_ms: model.since_ms,
            trained: Duration::from_millis(model.trained_ms),
            learning: model.learning_ms.map(Duration::from_millis),
            state_bytes: model.state_bytes,
            in_force: model.in_force,
            is_frozen: model.frozen,
            reset_ms: model.reset_ms,
            rolled_back_ms: model.rolled_back_ms,
        }
    }
}

impl From<&LearnedSubject> for v1::LearnedSubject {
    fn from(subject: &LearnedSubject) -> Self {
        Self {
            model: subject.model.clone(),
            name: subject.name.clone(),
            since_ms: subject.since_ms,
            trained_ms: millis(subject.trained),
            learning_ms: subject.learning.map(millis),
            state_bytes: subject.state_bytes,
            expected: subject.expected,
            scale: subject.scale,
            limit: subject.limit,
            text: subject.text.clone(),
        }
    }
}

impl TryFrom<v1::LearnedSubject> for LearnedSubject {
    type Error = ConvertError;

    fn try_from(subject: v1::LearnedSubject) -> Result<Self, ConvertError> {
        Ok(Self {
            model: subject.model,
            name: subject.name,
            since_ms: subject.since_ms,
            trained: Duration::from_millis(subject.trained_ms),
            learning: subject.learning_ms.map(Duration::from_millis),
            state_bytes: subject.state_bytes,
            expected: optional_finite("expected", subject.expected)?,
            scale: optional_finite("scale", subject.scale)?,
            limit: optional_finite("limit", subject.limit)?,
            text: subject.text,
        })
    }
}

impl From<&SnapshotInfo> for v1::LearnedSnapshot {
    fn from(snapshot: &SnapshotInfo) -> Self {
        Self {
            at_ms: snapshot.at_ms,
            why: snapshot.why.clone(),
            bytes: snapshot.bytes,
            unreadable: snapshot.unreadable.clone(),
        }
    }
}

impl From<v1::LearnedSnapshot> for SnapshotInfo {
    fn from(snapshot: v1::LearnedSnapshot) -> Self {
        Self { at_ms: snapshot.at_ms, why: snapshot.why, bytes: snapshot.bytes, unreadable: snapshot.unreadable }
    }
}
