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
            Body::Decided(_) | Body::Started { .. } | Body::Policy { .. } | Body::Undone { .. } => false,
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
