//! What was changed on a host.

use mainstay_core::change::{Change, ChangeKind};

use super::{ConvertError, listed};
use crate::v1;

impl From<&Change> for v1::Change {
    fn from(change: &Change) -> Self {
        Self {
            at_ms: change.at_ms,
            seen_ms: change.seen_ms,
            kind: change.kind.as_str().to_owned(),
            subject: change.subject.clone(),
            before: change.from.clone(),
            after: change.to.clone(),
            by: change.by.clone(),
            text: change.text.clone(),
        }
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = ConvertError;

    fn try_from(change: v1::Change) -> Result<Self, ConvertError> {
        Ok(Self {
            at_ms: change.at_ms,
            seen_ms: change.seen_ms,
            kind: listed("kind", &change.kind, &ChangeKind::ALL, ChangeKind::as_str)?,
            subject: change.subject,
            from: change.before,
            to: change.after,
            by: change.by,
            text: change.text,
        })
    }
}
