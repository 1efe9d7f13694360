//! What is on its way into the ledger.
//!
//! Every record is offered to the ledger once; what it refuses is offered again later, except what
//! somebody waits for: an intent that is not durable never happened, an order was never taken.
//! Nothing here decides what a failure means; it is only kept who waits for which answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::agent::input::{OrderId, Token};
use crate::id::DecisionId;
use crate::record::{Body, Record};
use crate::time::Now;

/// Most records that wait for a ledger that refuses them. Beyond this the agent stops deciding,
/// so that only what is under way can add to them: records are never dropped.
pub(super) const REFUSED_MAX: usize = 256;

/// First wait before a refused record is offered again.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait before a refused record is offered again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The decision to act and the intent of its next step.
    Intent(DecisionId),
    /// An operator's order, which is answered when it is durable.
    Order(OrderId),
    /// Nobody; but it must become durable.
    Nobody,
}

/// One answer of the ledger, put together with what it is about.
#[derive(Debug)]
pub(super) struct Answered {
    /// The record.
    pub(super) record: Record,
    /// Who waited for it.
    pub(super) waiting: Waiting,
}

/// Records between `Persist` and its answer, and those to be offered again.
#[derive(Debug, Default)]
pub(super) struct Journal {
    next: u64,
    offered: BTreeMap<Token, Answered>,
    refused: VecDeque<Record>,
    retry_at: Option<Now>,
    failures: u32,
    error: Option<String>,
}

impl Journal {
    /// Notes a record that is offered now, and names it.
    pub(super) fn offer(&mut self, record: Record, waiting: Waiting) -> Token {
        self.next += 1;
        let token = Token(self.next);
        self.offered.insert(token, Answered { record, waiting });
        token
    }

    /// A record is durable. `None` for a token that nobody waits for.
    pub(super) fn persisted(&mut self, token: Token) -> Option<Answered> {
        let answered = self.offered.remove(&token)?;
        self.failures = 0;
        self.error = None;
        if !self.refused.is_empty() {
            self.retry_at = Some(Now::default()); // it works again: at once
        }
        Some(answered)
    }

    /// A record was refused. It is kept for later unless somebody waited for it.
    pub(super) fn failed(&mut self, token: Token, text: String, now: Now) -> Option<Answered> {
        let answered = self.offered.remove(&token)?;
        self.failures = self.failures.saturating_add(1);
        self.error = Some(text);
        if answered.waiting == Waiting::Nobody {
            self.refused.push_back(answered.record.clone());
        }
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(6).saturating_sub(1)).min(RETRY_MAX);
        self.retry_at = Some(now.plus(wait));
        Some(answered)
    }

    /// The records to be offered again now, oldest first: one as a probe while the ledger fails,
    /// all of them once it has taken one.
    pub(super) fn due(&mut self, now: Now) -> Vec<Record> {
        if self.retry_at.is_none_or(|at| at.boot_ns > now.boot_ns) {
            return Vec::new();
        }
        self.retry_at = None;
        let many = if self.error.is_some() { 1 } else { self.refused.len() };
        self.refused.drain(..many.min(self.refused.len())).collect()
    }

    /// Why the ledger cannot be written, as far as is known.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether anything may be decided: the book has, or will not get, all that matters for it.
    pub(super) fn is_clear(&self) -> bool {
        let matters = |record: &Record| match record.body {
            Body::Decided(_) | Body::Started { .. } | Body::Policy { .. } => false,
            Body::Undone { .. } | Body::Learning { .. } => false,
            Body::Intent { .. } | Body::Outcome { .. } | Body::Verified { .. } => true,
            Body::Answered { .. } | Body::Hold { .. } => true,
        };
        let waits = |answered: &Answered| answered.waiting != Waiting::Nobody || matters(&answered.record);
        !self.offered.values().any(waits) && self.refused.len() < REFUSED_MAX
    }

    /// Whether there is something left that is not durable.
    pub(super) fn is_settled(&self) -> bool {
        self.offered.is_empty() && self.refused.is_empty()
    }

    /// When something is to be offered again.
    pub(super) fn wakeup(&self) -> Option<u64> {
        self.retry_at.map(|at| at.boot_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BootId;

    fn at(seconds: u64) -> Now {
        Now::default().plus(Duration::from_secs(seconds))
    }

    fn started(second: u64) -> Record {
        Record { at: at(second), body: Body::Started { boot: BootId::default(), version: String::new() } }
    }

    fn failed(journal: &mut Journal, token: Token, now: Now) {
        assert!(journal.failed(token, "no space left".to_owned(), now).is_some());
    }

    #[test]
    fn what_is_refused_is_offered_again_until_it_is_taken_and_in_its_order() {
        let mut journal = Journal::default();
        for second in 1..=3 {
            let token = journal.offer(started(second), Waiting::Nobody);
            failed(&mut journal, token, at(10));
        }
        assert_eq!(journal.error(), Some("no space left"));
        assert_eq!(journal.due(at(11)), [], "three failures in a row wait longer than a second");
        assert_eq!(journal.due(at(14)), [started(1)], "one, to see whether it works again");
        let token = journal.offer(started(1), Waiting::Nobody);
        assert!(journal.persisted(token).is_some());
        assert_eq!(journal.error(), None);
        assert_eq!(journal.due(at(14)), [started(2), started(3)], "all of them, now that it does");
        assert!(journal.is_settled());
    }

    #[test]
    fn an_intent_that_is_refused_never_happened() {
        let mut journal = Journal::default();
        let token = journal.offer(started(1), Waiting::Intent(DecisionId(7)));
        assert!(!journal.is_clear(), "nothing else is decided meanwhile");
        failed(&mut journal, token, at(10));
        assert!(journal.is_clear());
        assert_eq!(journal.due(at(100)), []);
    }

    #[test]
    fn the_wait_grows_and_stays_bounded() {
        let mut journal = Journal::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            let token = journal.offer(started(1), Waiting::Intent(DecisionId(7)));
            failed(&mut journal, token, at(0));
            waits.push(journal.wakeup().map(|ns| ns / 1_000_000_000));
        }
        assert_eq!(waits, [1, 2, 4, 5, 5, 5].map(Some));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_changes_nothing() {
        let mut journal = Journal::default();
        assert!(journal.persisted(Token(9)).is_none());
        assert!(journal.failed(Token(9), "no".to_owned(), at(1)).is_none());
        assert_eq!((journal.error(), journal.wakeup()), (None, None));
    }
}
