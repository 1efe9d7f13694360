//! What operators and root order: approvals, holds and undo.

use super::{Agent, Effect, OrderId, Signed};
use crate::id::ActionId;
use crate::record::{Author, Body, Outcome};
use crate::time::Now;

impl Agent {
    /// Root's hold file came or went.
    pub(super) fn hold_file_seen(&mut self, present: bool, now: Now) {
        if self.hold_file != present {
            self.hold_file = present;
            let by = Author { name: "root".to_owned(), reason: super::HOLD_FILE.to_owned() };
            self.record(Body::Hold { scope: super::HOLD_FILE.to_owned(), until_ms: None, held: present, by }, now);
        }
    }

    pub(super) fn ordered(&mut self, id: OrderId, _signed: &Signed, _now: Now) {
        let text = "cannot be checked".to_owned();
        self.effects.push_back(Effect::OrderDone { id, done: false, text });
    }

    /// Undoes an action, under an id of its own.
    pub(super) fn undo(&mut self, order: Option<OrderId>, of: ActionId, by: Author) {
        let action = ActionId(self.ids.next_u64());
        self.undoing.insert(action, super::Undoing { of, order, by });
        self.effects.push_back(Effect::Undo { action, of });
    }

    /// An undo ended: it is recorded and told.
    pub(super) fn undo_done(&mut self, action: ActionId, outcome: Outcome, now: Now) {
        let Some(undoing) = self.undoing.remove(&action) else { return };
        if let Some(id) = undoing.order {
            let done = outcome.ended == crate::record::Ended::Done;
            self.effects.push_back(Effect::OrderDone { id, done, text: outcome.text.clone() });
        }
        self.record(Body::Undone { action: undoing.of, outcome, by: undoing.by }, now);
    }
}
