//! What operators and root order: approvals, holds and undo; `learning` has the orders about what was learned.

use super::journal::Waiting;
use super::{Agent, Effect, OrderId, Undoing};
use crate::id::{ActionId, DecisionId};
use crate::policy::order::Order;
use crate::policy::signed::Signed;
use crate::record::{Author, Body, Ended, Outcome, Record};
use crate::time::Now;

/// Most undos on their way at once.
const UNDOING_MAX: usize = 16;

impl Agent {
    /// Root's hold file came or went.
    pub(super) fn hold_file_seen(&mut self, present: bool, now: Now) {
        if self.hold_file != present {
            self.hold_file = present;
            let by = Author { name: "root".to_owned(), reason: super::HOLD_FILE.to_owned() };
            self.record(Body::Hold { scope: super::HOLD_FILE.to_owned(), until_ms: None, held: present, by }, now);
        }
    }

    /// An operator's order came: it is checked, recorded and carried out, or refused with the
    /// reason.
    pub(super) fn ordered(&mut self, id: OrderId, signed: &Signed, now: Now) {
        let host = self.settings.host.unwrap_or_default();
        match Order::take(signed, &self.settings.operator_keys, host, now.wall_ms) {
            Err(refusal) => self.answer(id, false, refusal.to_string()),
            Ok(Order::Approval { decision, plan_hash, until_ms, approved, by }) => {
                match self.approval(decision, plan_hash) {
                    Err(text) => self.answer(id, false, text),
                    Ok(()) => self.record_order(id, Body::Answered { decision, approved, until_ms, by }, now),
                }
            }
            Ok(Order::Hold { scope, until_ms, held, by, .. }) => {
                self.record_order(id, Body::Hold { scope: scope.on_host(), until_ms, held, by }, now);
            }
            Ok(Order::Undo { action, by, .. }) => self.undo(Some(id), action, by),
            Ok(Order::Learning { change, not_after_ms, by, .. }) => {
                self.learning_ordered(id, signed, &change, not_after_ms, by, now);
            }
        }
    }

    pub(super) fn answer(&mut self, id: OrderId, done: bool, text: String) {
        self.effects.push_back(Effect::OrderDone { id, done, text });
    }

    /// Whether an operator's word is about a plan that waits, and about the one that was shown.
    fn approval(&self, decision: DecisionId, plan_hash: [u8; 32]) -> Result<(), String> {
        let Some(asked) = self.book.asked(decision) else {
            return Err(format!("{decision} does not wait for an answer on this host"));
        };
        if asked.plan_hash != plan_hash {
            return Err(format!("{decision} would do something else than what was answered"));
        }
        Ok(())
    }

    /// An order counts from when it is durable, and is answered then.
    fn record_order(&mut self, id: OrderId, body: Body, now: Now) {
        self.offer(Record { at: now, body }, Waiting::Order(id));
    }

    /// The ledger answered for an order.
    pub(super) fn order_recorded(&mut self, id: OrderId, answer: Result<&Record, String>) {
        let text = match answer {
            Err(error) => {
                self.learning_not_recorded(id);
                return self.answer(id, false, format!("the ledger cannot be written: {error}"));
            }
            Ok(Record { body: Body::Learning { change, .. }, at }) => {
                let (done, text) = self.learning_recorded(change, *at);
                return self.answer(id, done, text);
            }
            Ok(Record { body: Body::Answered { decision, approved, .. }, .. }) => {
                format!("{decision} {}", if *approved { "approved" } else { "denied" })
            }
            Ok(Record { body: Body::Hold { scope, held, .. }, .. }) => {
                format!("{scope} {}", if *held { "held" } else { "no longer held" })
            }
            Ok(_) => "recorded".to_owned(),
        };
        self.answer(id, true, text);
    }

    /// Undoes an action, under an id of its own.
    pub(super) fn undo(&mut self, order: Option<OrderId>, of: ActionId, by: Author) {
        if self.undoing.len() >= UNDOING_MAX {
            if let Some(id) = order {
                self.answer(id, false, format!("{UNDOING_MAX} undos are on their way already"));
            }
            return;
        }
        let action = ActionId(self.ids.next_u64());
        self.undoing.insert(action, Undoing { of, order, by });
        self.effects.push_back(Effect::Undo { action, of });
    }

    /// An undo ended: it is recorded and told.
    pub(super) fn undo_done(&mut self, action: ActionId, outcome: Outcome, now: Now) {
        let Some(undoing) = self.undoing.remove(&action) else { return };
        if let Some(id) = undoing.order {
            self.answer(id, outcome.ended == Ended::Done, outcome.text.clone());
        }
        self.record(Body::Undone { action: undoing.of, outcome, by: undoing.by }, now);
    }
}
