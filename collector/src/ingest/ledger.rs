//! Ledger records: stored in their exact bytes, and read into the view of decisions.
//!
//! A decision with its steps, outcomes and proof is one value, so that `explain` is one read. All of
//! it comes from records; it can be made anew from the ledger at any time.

use std::collections::BTreeMap;

use mainstay_core::id::{ActionId, DecisionId, HostId};
use mainstay_proto::v1::{self, record::Body};
use prost::Message;

use super::chain::{self, Link};
use crate::store::keys::{
    ActionKey, DecisionByHostKey, DecisionByTimeKey, DecisionKey, HoldKey, LedgerKey, RecordByTimeKey,
};
use crate::store::values::MarkRow;
use crate::store::{Batch, Store, StoreError};

/// Most steps of one decision that are kept.
const STEPS_MAX: usize = 64;

/// What one push changes in decisions and in the ledger.
#[derive(Debug)]
pub struct LedgerPass<'s> {
    store: &'s Store,
    host: HostId,
    hostname: String,
    now_ms: i64,
    views: BTreeMap<u64, v1::DecisionView>,
    actions: BTreeMap<u64, u64>,
    /// Decisions that now act (true) or are proved (false).
    pub healing: Vec<(u64, bool)>,
    /// New reasons to doubt the ledger.
    pub doubts: Vec<String>,
    /// Records that could not be read.
    pub unread: u64,
}

impl<'s> LedgerPass<'s> {
    /// Begins with nothing changed.
    #[must_use]
    pub fn new(store: &'s Store, host: HostId, hostname: String, now_ms: i64) -> Self {
        Self {
            store,
            host,
            hostname,
            now_ms,
            views: BTreeMap::new(),
            actions: BTreeMap::new(),
            healing: Vec::new(),
            doubts: Vec::new(),
            unread: 0,
        }
    }

    /// Takes one entry.
    ///
    /// # Errors
    /// If the store cannot be read; why it is no entry, inside.
    pub fn take(
        &mut self,
        batch: &mut Batch,
        mark: &mut MarkRow,
        entry: v1::LedgerEntry,
    ) -> Result<Result<(), &'static str>, StoreError> {
        let head = chain::head_of(self.host, mark.ledger.as_ref());
        let key = LedgerKey { host: self.host, index: entry.index };
        let stored: Option<v1::LedgerEntry> = match self.store.get(&key) {
            _ if entry.index > head.index => None,
            // What it was cannot be said any more; it is countersigned.
            Err(StoreError::Damaged(_)) => None,
            stored => stored?,
        };
        let after = match chain::link(head, &entry, stored.as_ref().map(|s| s.hash.as_slice())) {
            Link::Malformed(why) => return Ok(Err(why)),
            Link::Known => return Ok(Ok(())),
            Link::Follows(after) => after,
            Link::Doubtful(why, after) => {
                self.doubts.push(why);
                match after {
                    Some(after) => after,
                    None => return Ok(Ok(())), // what was countersigned stays
                }
            }
        };
        mark.ledger =
            Some(v1::LedgerHead { index: after.index, hash: after.hash.to_vec(), countersigned_ms: self.now_ms });
        batch.put(&key, &entry);
        match v1::Record::decode(&entry.record[..]) {
            Ok(record) => {
                batch.put_raw(&RecordByTimeKey::listing(&key, &record), Vec::new());
                self.apply(batch, entry.index, record)?;
            }
            Err(error) => {
                self.unread += 1;
                tracing::warn!(host = %self.host, index = entry.index, %error, "a ledger record cannot be read");
            }
        }
        Ok(Ok(()))
    }

    /// Writes the decisions that changed.
    pub fn finish(&mut self, batch: &mut Batch) {
        for (id, view) in std::mem::take(&mut self.views) {
            batch.put(&DecisionKey { decision: DecisionId(id), host: self.host }, &view);
        }
    }

    fn apply(&mut self, batch: &mut Batch, index: u64, record: v1::Record) -> Result<(), StoreError> {
        let at = record.at;
        match record.body {
            Some(Body::Decided(decision)) => self.decided(batch, index, decision),
            Some(Body::Intent(intent)) => {
                let host = self.host;
                batch.put_raw(
                    &ActionKey { action: ActionId(intent.action), host },
                    intent.decision.to_be_bytes().to_vec(),
                );
                self.actions.insert(intent.action, intent.decision);
                let step =
                    v1::StepView { action: intent.action, step: intent.step, intent_at: at, ..Default::default() };
                self.change(index, intent.decision, |view| {
                    if view.steps.len() < STEPS_MAX {
                        view.steps.push(step);
                    }
                })?;
            }
            Some(Body::Outcome(outcome)) => self.change(index, outcome.decision, |view| {
                if let Some(step) = view.steps.iter_mut().find(|s| s.action == outcome.action) {
                    step.outcome_at = at;
                    step.outcome = outcome.outcome;
                }
            })?,
            Some(Body::Verified(verified)) => {
                self.healing.push((verified.decision, false));
                self.change(index, verified.decision, |view| {
                    view.verification = verified.verification;
                    view.verified_at = at;
                })?;
            }
            Some(Body::Answered(answered)) => {
                self.change(index, answered.decision, |view| view.answered = Some(answered))?;
            }
            Some(Body::Undone(undone)) => {
                if let Some(decision) = self.decision_of(undone.action)? {
                    self.change(index, decision, |view| {
                        let done = undone.outcome.as_ref().is_some_and(|o| o.ended == "done");
                        if let Some(step) = view.steps.iter_mut().find(|s| s.action == undone.action) {
                            step.undone |= done;
                        }
                    })?;
                }
            }
            Some(Body::Hold(hold)) => self.held(batch, &hold),
            Some(Body::Started(_) | Body::Policy(_) | Body::Learning(_)) | None => {}
        }
        Ok(())
    }

    fn decided(&mut self, batch: &mut Batch, index: u64, decision: v1::Decision) {
        let (host, id) = (self.host, DecisionId(decision.id));
        let at_ms = decision.at.as_ref().map_or(self.now_ms, |at| at.wall_ms);
        batch.put_raw(&DecisionByTimeKey { at_ms, decision: id, host }, Vec::new());
        batch.put_raw(&DecisionByHostKey { host, at_ms, decision: id }, Vec::new());
        if matches!(decision.choice, Some(v1::decision::Choice::Act(_))) {
            self.healing.push((decision.id, true));
        }
        let view = v1::DecisionView {
            host_id: host.0.to_vec(),
            hostname: self.hostname.clone(),
            ledger_from: index,
            ledger_to: index,
            countersigned_ms: self.now_ms,
            decision: Some(decision),
            ..Default::default()
        };
        self.views.insert(id.0, view);
    }

    /// Changes a decision that this push or an earlier one brought. One that is older than what is
    /// kept is not made up.
    fn change(&mut self, index: u64, id: u64, change: impl FnOnce(&mut v1::DecisionView)) -> Result<(), StoreError> {
        if !self.views.contains_key(&id) {
            let stored = self.store.get(&DecisionKey { decision: DecisionId(id), host: self.host })?;
            let Some(view) = stored else { return Ok(()) };
            self.views.insert(id, view);
        }
        if let Some(view) = self.views.get_mut(&id) {
            change(view);
            view.ledger_to = view.ledger_to.max(index);
            view.countersigned_ms = self.now_ms;
        }
        Ok(())
    }

    fn decision_of(&self, action: u64) -> Result<Option<u64>, StoreError> {
        if let Some(decision) = self.actions.get(&action) {
            return Ok(Some(*decision));
        }
        let stored = self.store.get_raw(&ActionKey { action: ActionId(action), host: self.host })?;
        Ok(stored.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
    }

    /// A hold that is in force on the host. Holds of the fleet are known from who ordered them.
    fn held(&self, batch: &mut Batch, hold: &v1::record::HoldChange) {
        if hold.scope == "fleet" {
            return;
        }
        let unit = if hold.scope == "host" { String::new() } else { hold.scope.clone() };
        let key = HoldKey { scope: format!("host/{}/{unit}", self.host) };
        if !hold.held {
            batch.delete(&key);
            return;
        }
        let view = v1::HoldView {
            scope: if unit.is_empty() { "host".to_owned() } else { "unit".to_owned() },
            host_id: self.host.0.to_vec(),
            unit,
            until_ms: hold.until_ms.unwrap_or(0),
            by: hold.by.clone(),
            signed: Vec::new(),
        };
        batch.put(&key, &view);
    }
}
