//! What operators and root order: approvals, holds and undo.

use super::{Agent, Effect, OrderId, Undoing};
use crate::id::{ActionId, DecisionId, HostId};
use crate::policy::order::Order;
use crate::policy::signed::Signed;
use crate::record::{Author, Body, Ended, Outcome};
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
        let host = self.settings.host.unwrap_or(HostId::default());
        match Order::take(signed, &self.settings.operator_keys, host, now.wall_ms) {
            Err(refusal) => self.answer(id, false, refusal.to_string()),
            Ok(Order::Approval { decision, plan_hash, until_ms, approved, by }) => {
                let done = self.approval(decision, plan_hash, until_ms, approved, by, now);
                let (done, text) = done.map_or_else(|text| (false, text), |text| (true, text));
                self.answer(id, done, text);
            }
            Ok(Order::Hold { scope, until_ms, held, by, .. }) => {
                let scope = scope.on_host();
                let text = format!("{scope} {}", if held { "held" } else { "no longer held" });
                self.record(Body::Hold { scope, until_ms, held, by }, now);
                self.answer(id, true, text);
            }
            Ok(Order::Undo { action, by, .. }) => self.undo(Some(id), action, by),
        }
    }

    fn answer(&mut self, id: OrderId, done: bool, text: String) {
        self.effects.push_back(Effect::OrderDone { id, done, text });
    }

    /// Takes an operator's word on a plan, if it is still the plan that was shown.
    fn approval(
        &mut self,
        decision: DecisionId,
        plan_hash: [u8; 32],
        until_ms: i64,
        approved: bool,
        by: Author,
        now: Now,
    ) -> Result<String, String> {
        let Some(asked) = self.book.asked(decision) else {
            return Err(format!("{decision} does not wait for an answer on this host"));
        };
        if asked.plan_hash != plan_hash {
            return Err(format!("{decision} would do something else than what was answered"));
        }
        self.record(Body::Answered { decision, approved, until_ms, by }, now);
        Ok(format!("{decision} {}", if approved { "approved" } else { "denied" }))
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
