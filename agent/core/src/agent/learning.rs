//! Orders about what was learned: forgetting it, and going back to a snapshot.
//!
//! An order counts once: what was taken is known by the hash of its bytes, from the ledger on, until
//! it could not be taken any more anyway. So whoever carries orders cannot have the host forget again
//! and again. What is changed is first recorded, then the state from before is kept, then it is done.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::journal::Waiting;
use super::{Agent, Effect, OrderId};
use crate::detect::Detectors;
use crate::detect::learned::{SnapshotWhy, Subjects};
use crate::policy::Glob;
use crate::policy::signed::Signed;
use crate::record::{Author, Body, LearningChange, Record};
use crate::time::Now;

/// Most orders that are remembered so that they are not taken twice: each lives for an hour or so.
const TAKEN_MAX: usize = 64;

/// Orders about what was learned, on their way and taken.
#[derive(Debug, Default)]
pub(super) struct Learning {
    /// Until when each that was taken could have been taken (wall clock), by the hash of its bytes.
    taken: BTreeMap<[u8; 32], i64>,
    /// The one that is on its way.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    id: OrderId,
    order: [u8; 32],
    not_after_ms: i64,
    by: Author,
    /// The snapshot to go back to, once it was read.
    snapshot: Option<Vec<u8>>,
}

impl Learning {
    /// Takes up what the ledger says was taken.
    pub(super) fn restored(records: &[Record], now: Now) -> Self {
        let mut learning = Self::default();
        for record in records {
            if let Body::Learning { order, not_after_ms, .. } = &record.body {
                learning.taken.insert(*order, *not_after_ms);
            }
        }
        learning.forget(now);
        learning
    }

    /// Forgets what could not be taken again anyway.
    fn forget(&mut self, now: Now) {
        self.taken.retain(|_, not_after_ms| *not_after_ms >= now.wall_ms);
    }
}

impl Agent {
    /// An operator ordered a change of what was learned, and the signature is good.
    pub(super) fn learning_ordered(
        &mut self,
        id: OrderId,
        signed: &Signed,
        change: &LearningChange,
        not_after_ms: i64,
        by: Author,
        now: Now,
    ) {
        self.learning.forget(now);
        let order: [u8; 32] = Sha256::digest(&signed.bytes).into();
        let refusal = if self.learning.taken.contains_key(&order) {
            Some("this order was taken already, and an order counts once: sign another".to_owned())
        } else if self.learning.under_way.is_some() {
            Some("another change of what was learned is under way; order it again in a moment".to_owned())
        } else if self.learning.taken.len() >= TAKEN_MAX {
            Some(format!("{TAKEN_MAX} orders about what was learned were taken lately; order it again in an hour"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.answer(id, false, refusal);
        }
        let under_way = UnderWay { id, order, not_after_ms, by, snapshot: None };
        match change {
            LearningChange::Reset { metric } => {
                if self.detectors.matching(subjects(metric.as_ref())) == 0 {
                    let text = match metric {
                        Some(glob) => format!("nothing that was learned matches `{glob}`"),
                        None => "nothing was learned yet".to_owned(),
                    };
                    return self.answer(id, false, text);
                }
                self.learning.under_way = Some(under_way);
                self.record_learning(change.clone(), now);
            }
            LearningChange::Rollback { to_ms } => {
                self.learning.under_way = Some(under_way);
                self.effects.push_back(Effect::ReadSnapshot { id, at_ms: *to_ms });
            }
        }
    }

    /// The shell read a snapshot to go back to, or says why it could not.
    pub(super) fn snapshot_read(&mut self, id: OrderId, read: Result<(i64, Vec<u8>), String>, now: Now) {
        let Some(under_way) = self.learning.under_way.as_mut().filter(|under_way| under_way.id == id) else { return };
        let checked = read.and_then(|(at_ms, bytes)| match Detectors::check(&bytes) {
            Ok(()) => Ok((at_ms, bytes)),
            Err(error) => Err(format!("the snapshot cannot be used: {error}")),
        });
        match checked {
            Err(text) => {
                self.learning.under_way = None;
                self.answer(id, false, text);
            }
            Ok((at_ms, bytes)) => {
                under_way.snapshot = Some(bytes);
                self.record_learning(LearningChange::Rollback { to_ms: Some(at_ms) }, now);
            }
        }
    }

    fn record_learning(&mut self, change: LearningChange, now: Now) {
        let Some(UnderWay { id, order, not_after_ms, by, .. }) = &self.learning.under_way else { return };
        let body = Body::Learning { change, order: *order, not_after_ms: *not_after_ms, by: by.clone() };
        let id = *id;
        self.offer(Record { at: now, body }, Waiting::Order(id));
    }

    /// The order is durable: the state from before is kept, then it is done. Gives what to answer.
    pub(super) fn learning_recorded(&mut self, change: &LearningChange, now: Now) -> (bool, String) {
        let Some(under_way) = self.learning.under_way.take() else {
            return (false, "the order was given up".to_owned());
        };
        self.learning.taken.insert(under_way.order, under_way.not_after_ms);
        let before = self.detectors.snapshot();
        let (why, done, text) = match change {
            LearningChange::Reset { metric } => {
                let which = subjects(metric.as_ref());
                let count = self.detectors.matching(which);
                self.detectors.reset(which, now);
                let s = if count == 1 { "" } else { "s" };
                let text = format!("{count} learned subject{s} forgotten; a snapshot from before is kept");
                (SnapshotWhy::Reset, true, text)
            }
            LearningChange::Rollback { .. } => {
                let bytes = under_way.snapshot.unwrap_or_default();
                match self.detectors.roll_back(&bytes, now) {
                    Ok(kept) if kept.is_empty() => {
                        (SnapshotWhy::Rollback, true, "went back to the snapshot".to_owned())
                    }
                    Ok(kept) => {
                        let text = format!("went back to the snapshot, which has nothing for {}", kept.join(", "));
                        (SnapshotWhy::Rollback, true, text)
                    }
                    Err(error) => return (false, format!("the snapshot cannot be used: {error}")),
                }
            }
        };
        self.effects.push_back(Effect::KeepSnapshot { why, bytes: before });
        self.effects.push_back(Effect::StoreLearned(self.detectors.snapshot()));
        (done, text)
    }

    /// The order could not be made durable, so it was never taken.
    pub(super) fn learning_not_recorded(&mut self, id: OrderId) {
        if self.learning.under_way.as_ref().is_some_and(|under_way| under_way.id == id) {
            self.learning.under_way = None;
        }
    }
}

fn subjects(metric: Option<&Glob>) -> Subjects<'_> {
    metric.map_or(Subjects::All, Subjects::Like)
}
